"""The user's Python line goes with each op: into the IR, the generated C, errors and the profile."""

from __future__ import annotations

import inspect
import re
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import aino_ir as aino
from aino_ir.errors.base import AinoError
from aino_ir.errors.torch import AtenUnsupported, AtenVariant, DataDependentExport, TorchTypeUnsupported


class Three(nn.Module):
    def forward(self, x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        y = x @ w
        z = torch.softmax(y, -1)
        return torch.cumsum(z, 0)


def line_of(text: str) -> str:
    """Where the line of this file that holds a text stands, as locations are written."""
    source = Path(__file__).read_text(encoding="utf-8").splitlines()
    (number,) = [i for i, line in enumerate(source, 1) if text in line and "line_of" not in line]
    return f"driver/test_torch_lines.py:{number}"


LINES = [line_of(text) for text in ("y = x @ w", "z = torch.softmax(y, -1)", "return torch.cumsum(z, 0)")]


def test_lines_reach_the_ir_the_c_and_the_profile(tmp_path: Path) -> None:
    x, w = torch.randn(4, 6), torch.randn(6, 8)
    module = aino.load(Three(), example_inputs=(x, w))
    found = {str(op.loc) for op in module.main.block if op.loc}
    assert found == set(LINES)
    exe = aino.compile(module, "c")
    places = " ".join(str(row.loc) for row in exe.profile(x, w, runs=1).rows)
    assert all(line in places for line in LINES)
    comments = comments_of(exe, tmp_path)
    assert all(line in comments for line in LINES)


def comments_of(exe: Any, folder: Path) -> str:
    """The comments of the C that was generated."""
    exe.save(folder / "m.aino")
    with zipfile.ZipFile(folder / "m.aino") as archive:
        sources = [archive.read(n).decode() for n in archive.namelist() if n.endswith(".c")]
    return " ".join(re.findall(r"/\*.*?\*/|//[^\n]*", "\n".join(sources), re.DOTALL))


class Guarded(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x if x.sum() > 0 else -x


class Counted(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.zeros(int(x.max()) + 1)


class Unknown(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.linalg.eig(x)[0]


class Form(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.linalg.lu_factor_ex(x, pivot=False)[0]


class Halved(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.to(torch.complex32).real


@pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental")
@pytest.mark.parametrize(
    ("model", "error", "says"),
    [
        (Guarded, DataDependentExport, ["aten.item.default(bool[])", "torch.cond", "torch.compile"]),
        (Counted, DataDependentExport, ["aten.item.default(f32[])", "torch._check"]),
        (Unknown, AtenUnsupported, ["aten.linalg_eig.default(f32[3, 3])", "register_row"]),
        (Halved, TorchTypeUnsupported, ["aten._to_copy.default", "complex32[3, 3]", "plain dtypes"]),
    ],
)
def test_messages_name_the_line_the_operator_and_a_way_out(
    model: type[nn.Module], error: type[Exception], says: list[str]
) -> None:
    with pytest.raises(error) as caught:
        aino.load(model(), example_inputs=(torch.ones(3, 3),))
    message = str(caught.value)
    lines, first = inspect.getsourcelines(model)
    wanted = f"driver/test_torch_lines.py:{first + len(lines) - 1}"
    assert wanted in message, message
    for text in says:
        assert text in message
    assert "TORCHDYNAMO" not in message and "TORCH_LOGS" not in message


def test_messages_name_other_layouts() -> None:
    with pytest.raises(TorchTypeUnsupported, match=r"sparse_coo f32\[3, 3\](.|\n)*to_dense"):
        aino.load(Unchanged(), example_inputs=(torch.ones(3, 3).to_sparse(),))


class Unchanged(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.mm(x, x)


def test_a_form_without_a_lowering_names_the_line_and_the_types() -> None:
    with pytest.raises(
        AtenVariant, match=r"linalg_lu_factor_ex.default\(f32\[3, 3\]\).*without exchanges"
    ) as caught:
        aino.load(Form(), example_inputs=(torch.ones(3, 3),))
    assert line_of("pivot=False)[0]") in str(caught.value)


class Words(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(7, 4)

    def forward(self, words: torch.Tensor) -> torch.Tensor:
        found = self.embed(words)  # the line of a run that fails
        return found * 2


@pytest.mark.parametrize("target", ["c", "reference"])
def test_a_run_that_fails_names_the_line(target: str) -> None:
    words = torch.tensor([1, 2])
    exe = aino.compile(Words(), target, example_inputs=(words,), threads=1)
    with pytest.raises(AinoError, match="out of range") as caught:
        exe.run(torch.tensor([1, 7]))
    assert line_of("the line of a run that fails") in str(caught.value)


@pytest.mark.slow
def test_every_operator_of_a_real_model_has_its_line(tmp_path: Path) -> None:
    """In the graph, in the generated C, and in the profile: lines of the library that the model is from."""
    from benchmarks.torch_zoo_models import build

    model, inputs = build("bert")
    module = aino.load(model, inputs)
    ops = [op for op in module.main.block if op.results and op.name != "core.constant"]
    assert len(ops) > 50
    places = [str(op.loc) for op in ops]
    assert all(re.fullmatch(r"\w+/\w+\.py:\d+", p) for p in places), places
    assert sum("bert/modeling_bert.py" in p for p in places) > len(ops) / 2
    exe = aino.compile(module, "c", threads=1)
    rows = exe.profile(dict(inputs), runs=1).rows
    assert rows and all(".py:" in str(row.loc) for row in rows)
    assert {p for row in rows for p in str(row.loc).split(", ")} <= set(places)
    comments = comments_of(exe, tmp_path)
    assert all(place in comments for row in rows for place in str(row.loc).split(", "))
