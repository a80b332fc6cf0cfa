"""Under `torch.autocast` to bfloat16: natively, in eager's dtypes, and no further from exact results than eager."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
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


def gradients(
    model: nn.Module, call: Callable[..., torch.Tensor], image: torch.Tensor, reduced: bool
) -> tuple[float, dict[str, torch.Tensor]]:
    """The loss of one step, and the gradient of each parameter."""
    model.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=reduced):
        loss = F.cross_entropy(call(image), torch.arange(2))
    loss.backward()  # type: ignore[no-untyped-call]
    return loss.item(), {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def test_training(compiled: list[Any], caplog: pytest.LogCaptureFixture) -> None:
    model, image = Network(), torch.randn(2, 3, 4, 6)
    exact = copy.deepcopy(model).double()
    with caplog.at_level(logging.WARNING, "aino"):
        loss, got = gradients(model, by_aino(model, fullgraph=True), image, True)
    eager, want = gradients(model, model, image, True)
    _, true = gradients(exact, exact, image.double(), False)
    assert loss == pytest.approx(eager, rel=STEPS)
    assert got.keys() == want.keys() == true.keys()
    for name, gradient in got.items():
        assert gradient.dtype is want[name].dtype is torch.float32
        if float(true[name].abs().max()) > 1e-6:  # softmax does not feel the bias of the keys
            assert distance(gradient, true[name]) <= 2 * distance(want[name], true[name]) + STEPS, name
    assert len(compiled) == 2 and not caplog.records, "one graph forward, one backward, all of both native"
