"""Random numbers: eager's stream, and graphs that they do not cut."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.driver.dynamo.tools import by_aino, close

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")


def same_stream(f: Callable[..., Any], *args: Any, calls: int = 2, **arguments: Any) -> None:
    """Results of several calls in a row, and the generator afterwards, are those of eager."""
    found = []
    for g in (by_aino(f, **arguments), f):
        torch.manual_seed(3)
        results = [g(*args) for _ in range(calls)]
        found.append((results, torch.random.get_rng_state()))
    for got, want in zip(found[0][0], found[1][0], strict=True):
        close(got, want)
    assert torch.equal(found[0][1], found[1][1])


def test_draws_come_before_one_native_part(compiled: list[Any]) -> None:
    def f(x: torch.Tensor) -> torch.Tensor:
        y = F.dropout(torch.relu(x), 0.3)
        y = F.dropout(torch.tanh(y) * torch.rand_like(y), 0.5)
        return y + torch.randn(4, 6) * torch.randint(0, 9, (6,))

    same_stream(f, torch.randn(4, 6))
    assert len(compiled) == 1


def test_draws_from_computed_probabilities_keep_their_place(compiled: list[Any]) -> None:
    """bernoulli(p) needs p; the draw behind it may not overtake it, the one before it goes first."""

    def f(x: torch.Tensor) -> torch.Tensor:
        y = F.dropout(torch.relu(x), 0.3)
        y = torch.bernoulli(torch.sigmoid(y)) * y
        return F.dropout(y + 1, 0.5) * torch.rand_like(y)

    same_stream(f, torch.randn(5, 7))
    assert len(compiled) == 2, "one part before the draw, one behind it"


@pytest.mark.parametrize(
    "draw",
    [
        lambda x: x.clone().uniform_(-1, 2),
        lambda x: x.clone().normal_(1, 0.1),
        lambda x: x.clone().exponential_(2.0),
        lambda x: x.clone().bernoulli_(0.25),
        lambda x: torch.randint_like(x, 3, 9),
        lambda x: F.alpha_dropout(x, 0.4, True),
        lambda x: F.dropout2d(x, 0.4),
        lambda x: F.rrelu(x, training=True),
        lambda x: F.scaled_dot_product_attention(x, x, x, dropout_p=0.3, is_causal=True),
        lambda x: torch.multinomial(torch.softmax(x.flatten(), 0), 5).float(),
    ],
    ids="uniform normal exponential bernoulli randint alpha_dropout dropout2d rrelu attention multinomial".split(),
)
def test_each_kind_of_draw(draw: Callable[[torch.Tensor], torch.Tensor]) -> None:
    same_stream(lambda x: draw(torch.tanh(x)) * 2 + torch.rand(3).sum(), torch.randn(2, 3, 4, 5))


def test_masks_lie_in_memory_as_eagers_do() -> None:
    """Numbers are drawn in the order of memory, so a mask for channels last is filled in that order."""
    x = torch.randn(2, 4, 5, 3).to(memory_format=torch.channels_last)
    same_stream(lambda x: F.dropout(x * 2, 0.5), x)


def test_lengths_do_not_recompile(compiled: list[Any]) -> None:
    def f(x: torch.Tensor) -> torch.Tensor:
        y = torch.cat([x, x], 0)
        return F.dropout(y * 2, 0.5) + torch.rand(y.shape[0], 1)

    g = by_aino(f, dynamic=True)
    for rows in (3, 5, 8):
        x = torch.randn(rows, 4)
        torch.manual_seed(rows)
        got = g(x)
        torch.manual_seed(rows)
        close(got, f(x))
    assert len(compiled) == 1


def test_strict_leaves_draws_to_torch() -> None:
    same_stream(lambda x: F.dropout(x * 2, 0.5), torch.randn(3, 4), options={"strict": True})


def test_no_dropout_and_nothing_but_dropout() -> None:
    x = torch.randn(3, 4)
    for p in (0.0, 1.0):
        same_stream(lambda x, p=p: F.dropout(x * 2, p), x)
    same_stream(lambda x: F.dropout(x, 0.5), torch.randn(0, 4))


def test_training_with_dropout_is_two_graphs(compiled: list[Any]) -> None:
    def network() -> nn.Sequential:
        torch.manual_seed(1)
        layers = [
            nn.Linear(8, 16),
            nn.GELU(),
            nn.Dropout(0.1),
            nn.Linear(16, 16),
            nn.Dropout(0.3),
            nn.Linear(16, 3),
        ]
        return nn.Sequential(*layers)

    found = []
    for wrap in (by_aino, lambda m: m):
        model = network()
        f = wrap(model)
        torch.manual_seed(5)
        for _ in range(3):
            f(torch.ones(4, 8)).square().sum().backward()
        found.append([p.grad for p in model.parameters()])
    for got, want in zip(*found, strict=True):
        close(got, want)
    assert len(compiled) == 2
