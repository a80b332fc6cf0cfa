"""A row that is wrong is found out; what no rule covers is refused."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import aino_ir as aino
from aino_ir.errors.base import AinoError
from aino_ir.errors.torch import ExportFailed, SymbolUnsupported, TorchLoweringFault
from aino_ir.errors.usage import BadExtension
from aino_ir.frontends.torch.ops import TABLE, register_row


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (lambda c, x: c.emit("cast", x, to="f64"), r"f64\[2, 3\], PyTorch says f32\[2, 3\]"),
        (lambda c, x: c.reshape(x, (3, 2)), r"f32\[3, 2\], PyTorch says f32\[2, 3\]"),
        (lambda c, x: [][1], "IndexError"),
    ],
)
def test_wrong_rows_are_faults(monkeypatch: pytest.MonkeyPatch, row, reason: str) -> None:
    monkeypatch.setitem(TABLE, "aten.relu", row)
    with pytest.raises(TorchLoweringFault, match=reason) as caught:
        aino.load(nn.ReLU(), (torch.zeros(2, 3),))
    assert "aten.relu.default" in str(caught.value)


class Scaled(nn.Module):
    """A dynamic integer in arithmetic, as an extent and as a position."""

    def forward(self, x, n):
        return x * n, torch.ones(n, 2), x[:, : n - 1] + n / 2


@pytest.mark.parametrize("target", ["reference", "c"])
def test_dynamic_integers_are_inputs(target: str) -> None:
    dynamic = ({0: torch.export.Dim("rows")}, torch.export.Dim.DYNAMIC)
    torch.manual_seed(0)
    example = (torch.randn(5, 9), 3)
    executable = aino.compile(
        Scaled(), target, example_inputs=example, dynamic_shapes=dynamic, threads=1, verify="off"
    )
    assert [name for name, _ in executable.inputs] == ["x", "n"]
    for rows, n in ((5, 3), (2, 9), (4, 6)):
        x = torch.randn(rows, 9)
        for got, want in zip(executable.run(x, torch.tensor(n)), Scaled()(x, n), strict=True):
            torch.testing.assert_close(got, want)


def test_integers_that_are_extents_too_are_refused() -> None:
    class Sliced(nn.Module):
        def forward(self, x, n):
            return x * n + torch.ones(n)

    n = torch.export.Dim("n", min=2, max=64)
    with pytest.raises((SymbolUnsupported, ExportFailed)):
        aino.load(Sliced(), (torch.zeros(3), 3), dynamic_shapes=({0: n}, n))


def test_constraints_of_dims_are_bounds() -> None:
    rows = torch.export.Dim("rows", min=2, max=40)
    module = aino.load(nn.ReLU(), (torch.zeros(6, 3),), dynamic_shapes=({0: rows},))
    executable = aino.compile(
        nn.ReLU(), "reference", example_inputs=(torch.zeros(6, 3),), dynamic_shapes=({0: rows},)
    )
    assert executable.symbols["rows"][1] == 40
    info = module.main.symbols.info("rows")
    assert info.hi == 40
    assert executable.run(torch.ones(40, 3))[0].shape == (40, 3)
    with pytest.raises(AinoError):
        executable.run(torch.ones(41, 3))


def test_rows_are_not_replaced() -> None:
    with pytest.raises(BadExtension, match=r"aten\.relu"):
        register_row("aten.relu", "relu")


def test_numbers_over_extents_are_computed() -> None:
    class Mean(nn.Module):
        def forward(self, x):
            return x.sum() / (x.shape[0] * 2) + x.shape[0] / 4

    module = aino.load(Mean(), (torch.zeros(6),), dynamic_shapes=({0: torch.export.Dim("n")},))
    executable = aino.compile(module, "reference")
    for n in (3, 8):
        x = torch.arange(n, dtype=torch.float32)
        assert executable.run(x)[0] == Mean()(x)
