"""Random graphs of ops that decide extents and of ops behind them, compiled, against the interpreter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from aino_ir.builder import Builder
from aino_ir.dims import product
from aino_ir.graph import Value
from aino_ir.op import OPS
from aino_ir.types import tensor
from tests.driver.test_decided_extents import agree, op

Draw = np.random.Generator
Step = Callable[[Builder, Draw, Value, int], Value]
"""(builder, random numbers, a value of rank 1 or more, one of its axes) -> a new value."""


def kept_slices(b: Builder, draw: Draw, x: Value, axis: int) -> Value:
    """Every slice whose position is below some number in a shuffled order."""
    positions = op(b, "index.range", start=0, size=x.shape[axis], step=1)
    scrambled = op(b, "math.mod", b.mul(positions, constant(b, draw.integers(1, 5))), constant(b, 5))
    return op(
        b, "index.compress", x, op(b, "logic.lt", scrambled, constant(b, draw.integers(0, 6))), axis=axis
    )


def coordinates(b: Builder, draw: Draw, x: Value, axis: int) -> Value:
    above = op(b, "logic.gt", x, b.constant(np.float32(draw.normal())))
    return op(b, "math.cast", op(b, "index.nonzero", above), to="f32")


def distinct(b: Builder, draw: Draw, x: Value, axis: int) -> Value:
    return b.op(OPS["index.unique"], x, axis=axis, sorted=bool(draw.integers(2))).results[0]


def transposed(b: Builder, draw: Draw, x: Value, axis: int) -> Value:
    return op(b, "tensor.transpose", x, perm=tuple(int(a) for a in draw.permutation(x.rank)))


def squared(b: Builder, draw: Draw, x: Value, axis: int) -> Value:
    """x times its transpose, of what is seen as a matrix."""
    rows = op(b, "tensor.reshape", x, shape=(product(x.shape[:axis]), product(x.shape[axis:])))
    return b.matmul(rows, op(b, "tensor.transpose", rows, perm=(1, 0)))


def constant(b: Builder, number: Any) -> Value:
    return b.constant(np.int64(number))


STEPS: tuple[Step, ...] = (
    kept_slices,
    kept_slices,
    coordinates,
    distinct,
    transposed,
    squared,
    lambda b, draw, x, axis: b.relu(x),
    lambda b, draw, x, axis: b.add(x, x),
    lambda b, draw, x, axis: op(b, "reduce.sum", x, axes=(axis,)),
    lambda b, draw, x, axis: op(b, "tensor.concat", x, x, axis=axis),
    lambda b, draw, x, axis: op(b, "normalize.softmax", x, axis=axis),
    lambda b, draw, x, axis: op(b, "tensor.reshape", x, shape=(product(x.shape),)),
)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_random_graphs_agree(seed: int) -> None:
    draw = np.random.default_rng(seed)
    b = Builder()
    shape = tuple(int(e) for e in draw.integers(1, 6, draw.integers(1, 4)))
    pool = [b.input("x", tensor("f32", *shape))]
    for number in range(8):
        x = pool[draw.integers(len(pool))]
        made = STEPS[draw.integers(len(STEPS))](b, draw, x, int(draw.integers(x.rank)))
        b.output(f"y{number}", made)
        pool += [made] if made.rank else []
    halves = (draw.normal(size=shape) * 4).round().astype(np.float32) / 2
    agree(b.module, [(halves,), (np.zeros_like(halves),), (np.full_like(halves, 2),)], terms=10_000)
