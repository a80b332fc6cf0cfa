"""A row that is wrong is found out; what no rule covers is refused."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import aino_ir as aino
from aino_ir.errors.torch import SymbolUnsupported, TorchLoweringFault
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


def test_dynamic_integers_are_refused() -> None:
    class Scaled(nn.Module):
        def forward(self, x, n):
            return x * n

    dynamic = (None, torch.export.Dim.DYNAMIC)
    with pytest.raises(SymbolUnsupported, match="dynamic integer"):
        aino.load(Scaled(), (torch.zeros(2), 3), dynamic_shapes=dynamic)


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
