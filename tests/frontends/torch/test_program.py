"""Modules and exported programs become graphs with the interface that their users know."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import aino_ir as aino
from aino_ir.errors.dims import CheckFailed, SymbolOutOfRange
from aino_ir.errors.onnx import DimensionInvalid
from aino_ir.errors.torch import (
    AtenUnsupported,
    AtenVariant,
    DataDependentExport,
    ExampleInputsMissing,
    ExportFailed,
    TorchDimUnknown,
    TorchMissing,
)
from aino_ir.frontends.torch import load_torch, require_torch
from aino_ir.ops.core import Constant


class Classifier(nn.Module):
    """Convolution, norm, embedding, linear layer: a nested dict comes out."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.table = nn.Embedding(5, 8)
        self.head = nn.Linear(8, 4)

    def forward(self, x, ids):
        y = nn.functional.gelu(self.norm(self.conv(x))).mean((2, 3)) + self.table(ids)
        return {"logits": self.head(y).softmax(-1), "hidden": (y[:, :2], None, x.shape[0])}


def example() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return torch.randn(2, 3, 6, 5), torch.tensor([1, 4])


def close(got, wanted) -> None:
    got, wanted = got.detach().double(), wanted.detach().double()
    assert got.shape == wanted.shape
    assert (got - wanted).abs().max() <= 1e-5 * wanted.abs().max()


@pytest.mark.parametrize("target", ["reference", "c"])
def test_module_runs_with_names_and_symbols(target: str) -> None:
    model, (x, ids) = Classifier().eval(), example()
    batch = torch.export.Dim("batch", min=1, max=64)
    module = aino.load(model, (x, ids), dynamic_shapes={"x": {0: batch}, "ids": {0: batch}})
    assert module.name == "Classifier"
    assert module.main.input_names == ["x", "ids"]
    assert module.main.output_names == ["logits", "hidden_0", "hidden_2"]
    assert str(module.main.inputs[0].type) == "f32[batch, 3, 6, 5]"
    executable = aino.compile(module, target)
    for count in (1, 2, 7):
        torch.manual_seed(count)
        x, ids = torch.randn(count, 3, 6, 5), torch.randint(0, 5, (count,))
        wanted = model(x, ids)
        logits, hidden, rows = executable.run(x, ids)
        close(logits, wanted["logits"])
        close(hidden, wanted["hidden"][0])
        assert int(rows) == count
    with pytest.raises(SymbolOutOfRange):
        executable.run(torch.randn(65, 3, 6, 5), torch.zeros(65, dtype=torch.int64))


def test_exported_program_loads() -> None:
    model, inputs = Classifier().eval(), example()
    executable = aino.compile(torch.export.export(model, inputs), "reference")
    close(executable.run(*inputs)[0], model(*inputs)["logits"])


def test_every_op_knows_its_python_line() -> None:
    module = aino.load(Classifier().eval(), example())
    places = [op.loc for op in module.main.block if op.loc]
    assert len(places) > 5
    assert all(str(p).startswith("torch/test_program.py:") for p in places)


class Tied(nn.Module):
    """An output layer that shares the embedding's weights."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(11, 6)
        self.head = nn.Linear(6, 11, bias=False)
        self.head.weight = self.table.weight

    def forward(self, ids):
        return self.head(self.table(ids))


def test_tied_weights_are_one_handle_on_torchs_memory() -> None:
    model = Tied()
    module = aino.load(model, (torch.tensor([[1, 2]]),))
    handles = {id(op.value): op.value for op in module.main.block if isinstance(op, Constant)}
    assert len(handles) == 1
    (handle,) = handles.values()
    assert handle.array().ctypes.data == model.table.weight.data_ptr()


class Counter(nn.Module):
    """A buffer that each call changes."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("total", torch.zeros(3))

    def forward(self, x):
        self.total.add_(x)
        return self.total * 2


@pytest.mark.parametrize("target", ["reference", "c"])
def test_mutated_buffer_is_a_state(target: str) -> None:
    module = aino.load(Counter(), (torch.zeros(3),))
    assert [s.name for s in module.main.states] == ["total"]
    executable = aino.compile(module, target)
    one = np.ones(3, np.float32)
    assert [executable.run(one)[0].tolist() for _ in range(3)] == [[2.0] * 3, [4.0] * 3, [6.0] * 3]


class Writer(nn.Module):
    """An input that the call changes."""

    def forward(self, x):
        x.mul_(2)
        return x + 1


def test_mutated_input_is_a_further_output() -> None:
    module = aino.load(Writer(), (torch.ones(2),))
    assert module.main.output_names == ["output", "x_changed"]
    y, changed = aino.compile(module, "reference").run(np.asarray([1, 5], np.float32))
    assert y.tolist() == [3, 11] and changed.tolist() == [2, 10]


def test_training_mode_moves_running_statistics() -> None:
    model = nn.BatchNorm1d(3)
    x = torch.randn(8, 3, generator=torch.Generator().manual_seed(1))
    executable = aino.compile(aino.load(model, (x,)), "reference")
    wanted = [model(x) for _ in range(2)]
    for y in wanted:
        close(executable.run(x)[0], y)


def test_derived_extents_are_checked() -> None:
    class Halves(nn.Module):
        def forward(self, x, y):
            return x[: y.shape[0]] + y

    half = torch.export.Dim("half", min=1, max=50)
    shapes = ({0: 2 * half}, {0: half})
    module = aino.load(Halves(), (torch.zeros(6), torch.zeros(3)), dynamic_shapes=shapes)
    executable = aino.compile(module, "reference")
    y = executable.run(np.arange(4, dtype=np.float32), np.ones(2, np.float32))[0]
    assert y.tolist() == [1, 2]
    with pytest.raises(aino.errors.AinoError):
        executable.run(np.zeros(5, np.float32), np.ones(2, np.float32))


def test_root_of_a_derived_extent_may_be_no_extent_itself() -> None:
    class Even(nn.Module):
        def forward(self, x):
            return x.reshape(-1, 2).sum(1)

    half = torch.export.Dim("half", min=1, max=50)
    module = aino.load(Even(), (torch.zeros(6),), dynamic_shapes=({0: 2 * half},))
    executable = aino.compile(module, "reference")
    assert executable.run(np.arange(4, dtype=np.float32))[0].tolist() == [1, 5]
    with pytest.raises(CheckFailed):
        executable.run(np.zeros(5, np.float32))


def test_dims_bound_and_fix_dimensions() -> None:
    batch = torch.export.Dim("batch", max=64)

    def load(**dims):
        return load_torch(nn.ReLU(), (torch.zeros(4, 2),), ({0: batch},), dims)

    assert str(load(batch=3).main.inputs[0].type) == "f32[3, 2]"
    bounds = load(batch=(2, 1000)).main.symbols.info("batch")
    assert (bounds.lo, bounds.hi) == (2, 64)
    with pytest.raises(TorchDimUnknown, match="batch"):
        load(sequence=3)
    with pytest.raises(DimensionInvalid):
        load(batch=(3, 1))


# -- refusals -----------------------------------------------------------------------------------------


class Strange(nn.Module):
    """Two operators that have no lowering."""

    def forward(self, x):
        y = torch.linalg.eigvals(x).real
        return y + torch.multinomial(x, 3)


def test_unsupported_operators_are_reported_at_once() -> None:
    with pytest.raises(AtenUnsupported) as caught:
        aino.load(Strange(), (torch.eye(3),))
    message = str(caught.value)
    assert "aten.linalg_eig.default(f32[3, 3]) at torch/test_program.py:" in message
    assert "aten.multinomial.default" in message
    assert "torch.compile" in message


def test_unsupported_form_names_types_and_line() -> None:
    class Random(nn.Module):
        def forward(self, x):
            return nn.functional.scaled_dot_product_attention(x, x, x, dropout_p=0.5)

    with pytest.raises(AtenVariant, match=r"f32\[1, 2, 3, 4\]") as caught:
        aino.load(Random(), (torch.zeros(1, 2, 3, 4),))
    assert "test_program.py:" in str(caught.value.loc)


def test_modules_that_cannot_be_exported() -> None:
    class Branch(nn.Module):
        def forward(self, x):
            return x if x.sum() > 0 else -x

    class Leaves(nn.Module):
        def forward(self, x):
            return torch.from_numpy(x.numpy() + 1)

    with pytest.raises(DataDependentExport, match=r"Branch.*aten\.item\.default\(bool\[\]\)"):
        aino.load(Branch(), (torch.zeros(3),))
    with pytest.raises(ExportFailed, match="Leaves"):
        aino.load(Leaves(), (torch.zeros(3),))
    with pytest.raises(ExampleInputsMissing, match="None"):
        aino.load(nn.ReLU())
    with pytest.raises(ExampleInputsMissing, match="Tensor"):
        aino.load(nn.ReLU(), torch.zeros(3))


def test_old_or_missing_torch_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "__version__", "2.1.0")
    with pytest.raises(TorchMissing, match=r"2\.1\.0"):
        require_torch("'m.pt2'")
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    with pytest.raises(TorchMissing, match="not installed"):
        require_torch("'m.pt2'")
