"""Under `torch.autocast` to bfloat16: natively, in eager's dtypes, and no further from exact results than eager."""

from __future__ import annotations

import copy
import logging
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.driver.dynamo.tools import by_aino

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")

STEPS = 2**-7
"""Two roundings to bfloat16, relative to the largest value."""


class Network(nn.Module):
    """What autocast treats differently: products in bfloat16, norms and losses in float32."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.attend = nn.MultiheadAttention(8, 2, batch_first=True)
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, 4)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        seen = F.gelu(self.conv(image)).flatten(2).transpose(1, 2)
        heard = self.norm(seen + self.attend(seen, seen, seen, need_weights=False)[0])
        return self.head(heard.mean(1))


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a.double() - b.double()).abs().max() / b.double().abs().max().clamp_min(1e-30))


def test_inference(compiled: list[Any], caplog: pytest.LogCaptureFixture) -> None:
    model, image = Network().eval(), torch.randn(2, 3, 4, 6)
    exact = copy.deepcopy(model).double()
    f = by_aino(model, fullgraph=True)
    with torch.no_grad(), caplog.at_level(logging.WARNING, "aino"):
        with torch.autocast("cpu", torch.bfloat16):
            got, want = f(image), model(image)
        true = exact(image.double())
        assert got.dtype is want.dtype is torch.bfloat16
        assert distance(got, true) <= distance(want, true) + STEPS
        assert f(image).dtype is torch.float32, "outside of autocast it is another graph"
    assert len(compiled) == 2 and not caplog.records
    words = [op.name for op in compiled[0].main.block if op.results and op.results[0].dtype.name == "bf16"]
    assert words, "products round to bfloat16"
