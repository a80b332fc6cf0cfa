"""A network meets lengths that it has not seen: no compilation for each, in inference and in training."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.driver.dynamo.tools import by_aino, close

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")

LENGTHS = (5, 9, 14, 3, 31)


class Encoder(nn.Module):
    """Words of any number, with a mask of those that are there, to one vector."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(13, 8)
        self.places = nn.Embedding(64, 8)
        self.project = nn.Linear(8, 24)
        self.norm = nn.LayerNorm(8)
        self.wide, self.narrow = nn.Linear(8, 16), nn.Linear(16, 8)

    def forward(self, words: torch.Tensor) -> torch.Tensor:
        x = self.embed(words) + self.places(torch.arange(words.shape[1]))
        there = (words != 0)[:, None, None]
        q, k, v = self.project(x).unflatten(-1, (3, 2, 4)).transpose(1, 3).unbind(2)
        heard = F.scaled_dot_product_attention(q, k, v, attn_mask=there)
        x = self.norm(x + heard.transpose(1, 2).flatten(2))
        return (x + self.narrow(F.gelu(self.wide(x)))).mean(1)


def words(length: int) -> torch.Tensor:
    found = torch.randint(1, 13, (2, length))
    found[0, -1] = 0
    return found


@pytest.mark.slow
def test_inference(compiled: list[Any]) -> None:
    """The first length is fixed, the second makes it a symbol, then nothing is compiled."""
    model = Encoder().eval()
    f = by_aino(model, fullgraph=True)
    with torch.no_grad():
        for length in LENGTHS:
            x = words(length)
            close(f(x), model(x))
    assert len(compiled) == 2


@pytest.mark.slow
def test_training(compiled: list[Any]) -> None:
    model = Encoder()
    twin = copy.deepcopy(model)
    f = by_aino(model, fullgraph=True, dynamic=True)
    for length in LENGTHS:
        x = words(length)
        for call, module in ((f, model), (twin, twin)):
            module.zero_grad()
            call(x).square().sum().backward()
        for (name, a), b in zip(model.named_parameters(), twin.parameters(), strict=True):
            assert a.grad is not None and b.grad is not None, name
            torch.testing.assert_close(a.grad, b.grad, rtol=1e-3, atol=1e-4)
    assert len(compiled) == 2, "one graph forward, one backward"
