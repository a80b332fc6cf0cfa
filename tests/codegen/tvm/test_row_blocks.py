"""Row programs as blocks: schedules with threads and vectors, the same results, and what stays loops."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from aino_ir.builder import Builder
from aino_ir.codegen.tvm.row_blocks import RowShape, counted
from aino_ir.codegen.tvm.scheduled import NAME
from aino_ir.graph import Module
from aino_ir.types import tensor
from tests.codegen.tvm.support import agrees, emitted, joined, random_inputs, weights
from tests.codegen.tvm.test_scheduled import steps_of


def softmax(*shape: int, dtype: str = "f32", axis: int = -1) -> Module:
    """Softmax along an axis."""
    b = Builder()
    b.output("out", b.softmax(b.input("x", tensor(dtype, *shape)), axis=axis))
    return b.module


def norm_of_sum(rows: int, columns: int) -> Module:
    """The sum of two tensors, normalised, scaled and shifted, then rectified."""
    b = Builder()
    x, y = (b.input(name, tensor("f32", 2, rows, columns)) for name in "xy")
    scale, bias = (b.constant(weights(columns, seed=n)) for n in (3, 4))
    b.output("out", b.relu(b.layer_norm(b.add(x, y), scale, bias, axis=-1)))
    return b.module


def sums(rows: int, columns: int) -> Module:
    """A sum, an extreme and the logarithm of a sum of exponentials, along the contiguous axis."""
    b = Builder()
    x = b.input("x", tensor("f32", rows, columns))
    b.output("sum", b.reduce_sum(x, axes=(1,), keepdims=False))
    b.output("max", b.relu(b.reduce_max(x, axes=(1,), keepdims=False)))
    b.output("log", b.reduce_log_sum_exp(x, axes=(1,), keepdims=True))
    return b.module


def total(*shape: int) -> Module:
    """The sum of all elements."""
    b = Builder()
    x = b.input("x", tensor("f32", *shape))
    b.output("out", b.reduce_sum(x, axes=tuple(range(len(shape))), keepdims=False))
    return b.module


CASES: dict[str, Callable[[], Module]] = {
    "softmax": lambda: softmax(3, 11, 128),
    "one turn": lambda: softmax(5, 16),
    "norm of a sum": lambda: norm_of_sum(7, 192),
    "f16": lambda: softmax(5, 64, dtype="f16"),
    "lanes that divide the row": lambda: softmax(9, 42),
    "sums": lambda: sums(7, 101),
    "a single row": lambda: softmax(1, 1000),
    "a vector": lambda: softmax(70),
    "a single number": lambda: total(9, 70),
}


@pytest.mark.parametrize("name", list(CASES))
def test_rows_are_scheduled_blocks(name: str) -> None:
    plan, emission = emitted(CASES[name]())
    for kernel in plan.kernels.values():
        assert kernel.candidate.generator == NAME
        steps = steps_of(emission.script, kernel.function.name)
        assert steps.count("s.parallel(") == (not name.startswith("a ")) and steps.count("s.compute_at(") >= 4
        assert steps.count("s.vectorize(") >= 2 and steps.count("s.decompose_reduction(") >= 2


def test_rows_agree() -> None:
    """NaN and infinities mean the same, too."""
    module = joined({name: build() for name, build in CASES.items()} | {"special": softmax(6, 64)})
    *given, x = random_inputs(module)
    x[0, 3], x[1, 60], x[2] = np.nan, np.inf, -np.inf
    x[3, 5], x[4] = -np.inf, 500.0
    agrees(module, *given, x, terms=192)


@pytest.mark.parametrize(
    "module",
    [lambda: softmax(9, 131), lambda: softmax(64, 5, axis=0), lambda: softmax(0, 64)],
    ids=["a prime number of elements", "across rows", "nothing"],
)
def test_other_rows_are_loops(module: Callable[[], Module]) -> None:
    plan, _ = emitted(module())
    assert all(kernel.candidate.generator != NAME for kernel in plan.kernels.values())


def test_reductions_fold_to_one_vector() -> None:
    assert RowShape(32, 8).folds == [16, 8] and RowShape(8, 8).folds == []


@pytest.mark.parametrize(
    ("extent", "per_row", "shape"),
    [
        (96, False, RowShape(32, 8)),
        (1000, False, RowShape(8, 8)),
        (100, False, RowShape(20, 8)),
        (5, False, RowShape(5, 8)),
        (131, False, None),
        (49, True, RowShape(16, 8, 1)),
        (131, True, RowShape(32, 8, 3)),
        (11, True, RowShape(8, 8, 3)),
        (7, True, RowShape(7, 8)),
        (2, True, RowShape(2, 8)),
    ],
)
def test_how_rows_are_counted(extent: int, per_row: bool, shape: RowShape | None) -> None:
    assert counted(extent, 8, per_row) == shape
