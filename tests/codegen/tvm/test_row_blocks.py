"""Row programs as blocks: schedules with threads and vectors, the same results, and what stays loops."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from aino_ir.builder import Builder
from aino_ir.codegen.tvm.row_blocks import RowShape
from aino_ir.codegen.tvm.scheduled import NAME
from aino_ir.graph import Module
from aino_ir.types import tensor
from tests.codegen.tvm.support import agrees, emitted, weights
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


CASES: dict[str, Callable[[], Module]] = {
    "softmax": lambda: softmax(3, 11, 128),
    "one turn": lambda: softmax(5, 16),
    "norm of a sum": lambda: norm_of_sum(7, 192),
    "f16": lambda: softmax(5, 64, dtype="f16"),
}


@pytest.mark.parametrize("name", list(CASES))
def test_rows_are_scheduled_blocks_that_agree(name: str) -> None:
    module = CASES[name]()
    plan, emission = emitted(module)
    for kernel in plan.kernels.values():
        assert kernel.candidate.generator == NAME
        steps = steps_of(emission.script, kernel.function.name)
        assert steps.count("s.parallel(") == 1 and steps.count("s.compute_at(") >= 4
        assert steps.count("s.vectorize(") >= 3 and steps.count("s.decompose_reduction(") >= 2
    given = []
    for seed, value in enumerate(module.main.inputs):
        x = weights(*value.type.shape, seed=seed + 5)
        given.append(x.astype(np.float16) if value.type.dtype.name == "f16" else x)
    agrees(module, *given, terms=192)


def test_rows_with_nan_and_infinities_mean_the_same() -> None:
    x = weights(6, 64, seed=9)
    x[0, 3], x[1, 60], x[2] = np.nan, np.inf, -np.inf
    x[3, 5], x[4] = -np.inf, 500.0
    agrees(softmax(6, 64), x, terms=64)


@pytest.mark.parametrize(
    "module",
    [lambda: softmax(9, 37), lambda: softmax(64, 5, axis=0), lambda: softmax(1, 64), lambda: softmax(0, 64)],
    ids=["no whole vectors", "across rows", "a single row", "nothing"],
)
def test_other_rows_are_loops(module: Callable[[], Module]) -> None:
    plan, _ = emitted(module())
    assert all(kernel.candidate.generator != NAME for kernel in plan.kernels.values())


def test_reductions_fold_to_one_vector() -> None:
    assert RowShape(32, 8).folds == [16, 8] and RowShape(8, 8).folds == []
