"""torch.cond, while_loop, scan and numbers read off data, from Python to both targets."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch._higher_order_ops import associative_scan, scan, while_loop
from torch._higher_order_ops.map import map as torch_map

import aino_ir as aino
from aino_ir.errors.base import AinoError

TARGETS = ["reference", "c"]


def agrees(model: nn.Module, inputs, others, target: str, **shapes) -> None:
    """The compiled module gives what eager gives, for the example and for other inputs."""
    executable = aino.compile(aino.load(model, inputs, **shapes), target)
    for given in (inputs, *others):
        wanted = model(*given)
        wanted = wanted if isinstance(wanted, (tuple, list)) else [wanted]
        for got, want in zip(executable.run(*given), wanted, strict=True):
            assert got.dtype == want.dtype and got.shape == want.shape
            assert torch.allclose(got, want, rtol=1e-5, atol=1e-6)


class Branches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 3)

    def forward(self, x, wanted):
        def then(x):
            return (self.linear(x).relu(),)

        def otherwise(x):
            return (x * 2,)

        return torch.cond(wanted.any(), then, otherwise, (x,))[0]


@pytest.mark.parametrize("target", TARGETS)
def test_cond_runs_the_branch_that_data_says(target: str) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 3)
    yes, no = torch.tensor([True, False]), torch.tensor([False, False])
    agrees(Branches(), (x, yes), [(x, no)], target)


class Doubling(nn.Module):
    def forward(self, x, limit):
        def condition(x, turns):
            return x.sum() < limit

        def body(x, turns):
            return x * 2, turns + 1

        return while_loop(condition, body, (x, torch.zeros((), dtype=torch.int64)))


@pytest.mark.parametrize("target", TARGETS)
def test_while_loop_turns_as_often_as_data_says(target: str) -> None:
    x = torch.tensor([0.5, 1.0])
    agrees(Doubling(), (x, torch.tensor(10.0)), [(x, torch.tensor(1.0)), (x, torch.tensor(500.0))], target)


class Running(nn.Module):
    def forward(self, start, xs, factor):
        def combine(state, x):
            new = state * factor + x
            return new, new.sin()

        return scan(combine, start, xs)


@pytest.mark.parametrize("target", TARGETS)
def test_scan_carries_states(target: str) -> None:
    torch.manual_seed(0)
    inputs = (torch.randn(3), torch.randn(7, 3), torch.tensor(0.5))
    agrees(Running(), inputs, [], target)


class Sums(nn.Module):
    def forward(self, xs, ys):
        total = associative_scan(lambda a, b: a + b, xs, dim=0, combine_mode="generic")
        return total, torch_map(lambda x, y: x * y.sum(), xs, ys)


@pytest.mark.parametrize("target", TARGETS)
def test_associative_scan_and_map(target: str) -> None:
    torch.manual_seed(0)
    agrees(Sums(), (torch.randn(5, 3), torch.randn(4)), [], target)


class Picked(nn.Module):
    def forward(self, x, number):
        n = number.item()
        torch._check(n >= 0)
        torch._check(n < x.shape[0])
        return x[n] * n


@pytest.mark.parametrize("target", TARGETS)
def test_numbers_come_out_of_data(target: str) -> None:
    x = torch.arange(12.0).reshape(4, 3)
    others = [(x, torch.tensor(3)), (x, torch.tensor(0))]
    agrees(Picked(), (x, torch.tensor(2)), others, target)


def test_numbers_out_of_bounds_are_errors() -> None:
    x = torch.arange(12.0).reshape(4, 3)
    executable = aino.compile(aino.load(Picked(), (x, torch.tensor(2))), "reference")
    with pytest.raises(AinoError):
        executable.run(x, torch.tensor(7))


class Chosen(nn.Module):
    def forward(self, x):
        found = x.nonzero()
        return found, x[x > 0].sum() + found.shape[0]


@pytest.mark.parametrize("target", TARGETS)
def test_extents_come_out_of_data(target: str) -> None:
    x = torch.tensor([[1.0, 0.0, -2.0], [0.0, 0.0, 3.0]])
    agrees(Chosen(), (x,), [(torch.zeros(2, 3),), (torch.ones(2, 3),)], target)


class Rescaled(nn.Module):
    def forward(self, x, number):
        factor = number.item()
        return x * factor + math.sqrt(2) * factor, x - factor * 2 + x.shape[0]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_floats_come_out_of_data(target: str, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    x = torch.randn(4, 3)
    others = [(x, torch.tensor(-0.125, dtype=dtype)), (x, torch.tensor(7.0, dtype=dtype))]
    agrees(Rescaled(), (x, torch.tensor(2.5, dtype=dtype)), others, target)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("steps", [4, 20])
def test_recurrent_layers_agree_with_eager(target: str, steps: int) -> None:
    torch.manual_seed(0)

    class Stack(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(3, 4, 2, bidirectional=True, batch_first=True)
            self.gru = nn.GRU(8, 5, batch_first=True)
            self.narrow = nn.LSTM(5, 6, proj_size=2)
            self.rnn = nn.RNN(2, 3, nonlinearity="relu", bias=False)

        def forward(self, x):
            y, (h, c) = self.lstm(x)
            y, g = self.gru(y)
            y, _ = self.narrow(y.transpose(0, 1))
            return self.rnn(y)[0], h, c, g

    agrees(Stack().eval(), (torch.randn(2, steps, 3),), [], target)
