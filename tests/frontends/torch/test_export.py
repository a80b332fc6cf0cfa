"""`to_torch`: what is written gives the interpreter's results, trains, and can be loaded again."""

from __future__ import annotations

import inspect
import re
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import aino_ir as aino
from aino_ir.builder import Builder
from aino_ir.dtypes import DTYPES
from aino_ir.errors.export import ExtentNotExportable, OpNotExportable
from aino_ir.frontends.torch.dtypes import STORED
from aino_ir.frontends.torch.export.functions import OPERANDS, TABLE
from aino_ir.frontends.torch.export.program import FACTS, keywords
from aino_ir.frontends.torch.export.structure import STRUCTURE
from aino_ir.frontends.torch.export.tensors import tensor_of
from aino_ir.interp import run_function
from aino_ir.op import OPS, Trait
from aino_ir.tolerance import disagreement
from aino_ir.types import tensor
from tests.conformance.batch import in_child
from tests.conformance.cases import Case, all_cases, share

UNWRITTEN = {"index.non_max_suppression", "index.unique", "svm.pairwise_coupling", "trees.leaves"}
"""Native ops that no function of PyTorch does (docs/status.md)."""

REFUSED = re.compile(r"no tensors of f4e2m1|no tensors of f8e8m0|no such arithmetic on u64")
"""Refusals that docs/status.md names."""

TOLD_BY_SHAPE = {"keepdims", "ceil_mode", "pads_after"}
"""Attributes that functions may leave out, since the result's shape says the same."""


def as_tensor(array: Any) -> torch.Tensor:
    """An array as a tensor of the same values."""
    array = np.asarray(array)
    dtype = next(d for d in DTYPES.values() if d.numpy == array.dtype)
    return tensor_of(array, dtype)


def as_array(made: torch.Tensor, like: np.ndarray) -> np.ndarray:
    """A tensor as an array of a known dtype."""
    made = made.detach().contiguous()
    dtype = next(d for d in DTYPES.values() if d.numpy == like.dtype)
    assert made.dtype == STORED[dtype.name], (made.dtype, dtype)
    if dtype.is_integer and dtype.bits < 8:
        return made.numpy().astype(dtype.numpy)
    if dtype.name in ("bf16",) or dtype.name.startswith("f8"):
        bits = made.reshape(-1).view(torch.int16 if dtype.bits == 16 else torch.uint8)
        return bits.numpy().view(dtype.numpy).reshape(tuple(made.shape))
    return made.numpy()


def wrong(case: Case) -> str | None:
    """How a sample's results differ from the interpreter's, or None."""
    try:
        expected = case.expected()
    except aino.AinoError:
        return None
    try:
        module = aino.to_torch(case.module())
        with torch.no_grad():
            made = module(*map(as_tensor, case.operands))
    except (OpNotExportable, ExtentNotExportable) as error:
        return f"refused: {error}"
    except Exception as error:
        return f"crashed: {type(error).__name__}: {str(error)[:300]}"
    results = made if isinstance(made, tuple) else (made,)
    for number, (got, want) in enumerate(zip(results, expected, strict=True)):
        reason = disagreement(as_array(got, want), want, "approximate")
        if reason:
            return f"result {number}: {reason}"
    return None


def trouble(cases: list[Case]) -> list[str]:
    """What is wrong with samples, run in a process of their own; where it dies, each is run alone."""
    answer = in_child(lambda: [f"{c.name}: {why}" for c in cases if (why := wrong(c)) is not None])
    if isinstance(answer, list):
        return answer
    if len(cases) == 1:
        return [f"{cases[0].name}: died {answer}"]
    return [line for case in cases for line in trouble([case])]


def own_ops() -> set[str]:
    return {
        name
        for name, cls in OPS.items()
        if cls.__module__.startswith("aino_ir.ops") and not cls.has(Trait.HOST) and name != "core.return"
    }


def test_every_native_op_has_a_row() -> None:
    assert own_ops() - TABLE.keys() - STRUCTURE.keys() == UNWRITTEN
    assert not TABLE.keys() & STRUCTURE.keys()
    assert OPERANDS.keys() == TABLE.keys()


def test_functions_know_every_attribute() -> None:
    for name, function in TABLE.items():
        declared = {key for key, _ in OPS[name].declaration.attrs}
        known = set(keywords(function))
        assert declared - known <= TOLD_BY_SHAPE, name
        operands = [key for key, _ in OPS[name].declaration.operands]
        if known:
            extra = known - declared - FACTS.keys()
            assert len(extra) == len(operands), (name, extra, operands)


@pytest.mark.slow
def test_samples_agree_with_the_interpreter() -> None:
    chosen = [c for c in all_cases() if c.op in own_ops() - UNWRITTEN and share(c.name, 40, 1)]
    assert len(chosen) > 80
    found = [line.splitlines()[0] for line in trouble(chosen)]
    assert [line for line in found if not REFUSED.search(line)] == []
    assert len(found) < 0.1 * len(chosen)


class Network(nn.Module):
    """Convolution, norm with running statistics, a tied table, a buffer, a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.table = nn.Embedding(5, 8)
        self.head = nn.Linear(8, 4)
        self.register_buffer("scale", torch.linspace(0.5, 1.5, 8))

    def forward(self, x, ids):
        y = self.layers(x).mean((2, 3)) * self.scale + self.table(ids)
        return self.head(y), y @ self.table.weight.T


def example() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return torch.randn(2, 3, 6, 5), torch.tensor([1, 4])


def same(got: Any, wanted: Any, bound: float = 1e-5) -> None:
    got, wanted = (v if isinstance(v, (tuple, list)) else (v,) for v in (got, wanted))
    assert len(got) == len(wanted)
    for a, b in zip(got, wanted, strict=True):
        assert a.shape == b.shape and a.dtype == b.dtype
        a, b = a.detach(), b.detach()
        assert float((a.double() - b.double()).abs().max()) <= bound * float(b.double().abs().max())


def network() -> tuple[nn.Module, torch.fx.GraphModule]:
    torch.manual_seed(1)
    model = Network().eval()
    return model, aino.to_torch(aino.load(model, example()))


def test_parameters_and_buffers_keep_their_names() -> None:
    model, written = network()
    names = {n for n, _ in model.named_parameters()}
    assert {n for n, _ in written.named_parameters()} == names
    wanted = {n for n, _ in model.named_buffers()} - {"layers.1.num_batches_tracked"}
    assert {n for n, _ in written.named_buffers()} - {"anchor"} >= wanted
    assert wanted | names <= written.state_dict().keys()
    for name, value in written.state_dict().items():
        if name in names | wanted:
            assert torch.equal(value, model.state_dict()[name])
    same(written(*example()), model(*example()))
    assert torch.equal(written(x=example()[0], ids=example()[1])[0], written(*example())[0])


def test_training_agrees_and_leaves_the_module_alone() -> None:
    model, written = network()
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    gradients = []
    for made in (model, written):
        logits, scores = made(*example())
        (logits.square().mean() + scores.sigmoid().mean()).backward()
        gradients.append({n: p.grad for n, p in made.named_parameters()})
        torch.optim.SGD(made.parameters(), 0.1).step()
    assert gradients[0].keys() == gradients[1].keys()
    for name, wanted in gradients[0].items():
        same(gradients[1][name], wanted, 1e-4)
    same(written(*example()), model(*example()), 1e-4)
    assert all(not torch.equal(before[n], p) for n, p in written.named_parameters() if n != "layers.0.bias")


@pytest.mark.slow
def test_trained_module_loads_again() -> None:
    _, written = network()
    with torch.no_grad():
        written.head.weight.mul_(2.0)
    again = aino.load(written, example())
    assert aino.to_torch(again).state_dict().keys() - {"anchor"} <= written.state_dict().keys()
    results = aino.compile(again, "reference").run(*example())
    same(results, written(*example()))


def test_optimised_modules_are_written() -> None:
    from aino_ir.driver.api import compile_options
    from aino_ir.driver.pipeline import Compilation

    model, _ = network()
    module = Compilation(compile_options("c", level=2)).optimize(aino.load(model, example()))
    assert any(op.name == "core.fused" for op in module.walk())
    written = aino.to_torch(module)
    same(written(*example()), model(*example()))
    assert sum(p.numel() for p in written.parameters()) > 200


def test_who_is_trained_may_be_said() -> None:
    model, _ = network()
    module = aino.load(model, example())
    written = aino.to_torch(module, trainable=lambda name: name.startswith("head."))
    assert {n for n, _ in written.named_parameters()} == {"head.weight", "head.bias"}


def test_states_are_buffers_that_calls_change() -> None:
    class Counter(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("total", torch.zeros(3))
            self.weight = nn.Parameter(torch.ones(3))

        def forward(self, x):
            self.total.add_(x * self.weight)
            return self.total * self.weight

    model, x = Counter(), torch.tensor([1.0, 2.0, 3.0])
    written = aino.to_torch(aino.load(Counter(), (x,)))
    for _ in range(3):
        got, wanted = written(x), model(x)
        same(got, wanted)
    same(written.total, model.total)
    model.total.detach_()
    written(x).sum().backward()
    assert written.weight.grad is not None and not written.total.requires_grad


def test_symbols_are_read_off_shapes() -> None:
    class Model(nn.Module):
        def forward(self, x):
            rows = x.shape[0]
            y = torch.cat([x, x.flip(0)]).reshape(rows, -1) + torch.arange(rows).unsqueeze(1)
            return y / rows, x.new_ones(2 * rows + 1, 2)

    rows = torch.export.Dim("rows", min=2, max=64)
    module = aino.load(Model(), (torch.randn(6, 3),), dynamic_shapes={"x": {0: rows}})
    written = aino.to_torch(module)
    for count in (2, 5, 9):
        x = torch.randn(count, 3)
        same(written(x), Model()(x))


@pytest.mark.slow
def test_control_flow_runs_and_is_traced_again() -> None:
    class Choice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.tensor([2.0, 3.0]))

        def forward(self, x):
            return torch.cond(x.sum() > 0, lambda x: x * self.weight, lambda x: x - self.weight, (x,))

    x = torch.tensor([1.0, 2.0])
    written = aino.to_torch(aino.load(Choice(), (x,)))
    same(written(x), x * 1.0 * torch.tensor([2.0, 3.0]))
    same(written(-x), -x - torch.tensor([2.0, 3.0]))
    written(x).sum().backward()
    assert written.weight.grad is not None
    again = aino.compile(aino.load(written, (x,)), "reference")
    same(again.run(-x)[0], -x - torch.tensor([2.0, 3.0]))


def test_loops_and_scans_of_onnx_run() -> None:
    from tests.conformance.onnx_cases import cases

    wanted = {"test_loop11", "test_scan9_sum", "test_if", "test_range_float_type_positive_delta_expanded"}
    found = 0
    for case in cases(wanted=lambda name: name in wanted):
        module = aino.load(case.model)
        written = aino.to_torch(module)
        for inputs, expected in case.data():
            made = written(*map(as_tensor, inputs))
            for got, want in zip(made if isinstance(made, tuple) else (made,), expected, strict=True):
                assert disagreement(as_array(got, want), want, "approximate") is None
            found += 1
    assert found >= 3


def test_what_has_no_counterpart_is_refused_by_name() -> None:
    b = Builder()
    boxes, scores = b.input("boxes", tensor("f32", 1, 4, 4)), b.input("scores", tensor("f32", 1, 1, 4))
    b.output("y", b.non_max_suppression(boxes, scores, None, None, limit=3))
    with pytest.raises(OpNotExportable, match=r"index\.non_max_suppression.*PyTorch"):
        aino.to_torch(b.module)
    b = Builder()
    b.output("y", b.sqrt(b.input("x", tensor("f4e2m1", 2))))
    with pytest.raises(OpNotExportable, match="f4e2m1"):
        aino.to_torch(b.module)
    b = Builder()
    x, y = b.input("x", tensor("u64", 2)), b.input("y", tensor("u64", 2))
    b.output("y", b.div(x, y))
    with pytest.raises(OpNotExportable, match="u64"):
        aino.to_torch(b.module)


def test_names_never_become_code() -> None:
    b = Builder()
    b.function.module.name = "x'); import os; ('"
    x = b.input("a b'\"", tensor("f32", 2))
    value = b.constant(np.array([1, 2], np.float32), "code.training.'];evil\n.weight")
    b.output("forward", b.add(x, value))
    written = aino.to_torch(b.module)
    assert "import os" not in written.code and "evil" not in written.code.replace("_evil", "")
    same(written(torch.zeros(2)), torch.tensor([1.0, 2.0]))
    assert all(
        part.replace("_", "a").isalnum() for n, _ in written.named_parameters() for part in n.split(".")
    )


def test_defaults_may_be_left_out() -> None:
    b = Builder()
    x, y = b.input("x", tensor("f32", 2)), b.input("y", tensor("f32", 2))
    from aino_ir.constants import Const

    b.function.defaults["x"] = Const.of(np.array([3, 4], np.float32))
    b.output("z", b.sub(x, y))
    written = aino.to_torch(b.module)
    one = torch.ones(2)
    same(written(one), torch.tensor([2.0, 3.0]))
    same(written(one, one), torch.zeros(2) + 0.0)


def test_run_function_is_the_authority() -> None:
    model, written = network()
    module = aino.load(model, example())
    expected = run_function(module.main, [as_array(v, np.zeros(0, str(v.dtype)[6:])) for v in example()])
    for got, want in zip(written(*example()), expected, strict=True):
        assert disagreement(as_array(got, want), want, "approximate") is None
    assert inspect.signature(written.forward).parameters.keys() == {"x", "ids"}
