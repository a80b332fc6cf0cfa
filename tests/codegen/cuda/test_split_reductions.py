"""Reductions of many terms to few results: by many blocks, in two kernels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import aino_ir as aino
from aino_ir.graph import Value
from tests.codegen.cuda.test_kernels import emulated, module, normal

PARTS = 2


def kinds(names: list[str]) -> list[str]:
    return [name.partition(":")[0] for name in names]


def test_sums_and_extremes_of_a_whole_tensor() -> None:
    def build(b: Any, x: Value) -> tuple[Value, ...]:
        return b.reduce_sum(x, axes=(0, 1)), b.reduce_max(x, axes=(0, 1)), b.reduce_mean(x, axes=(0, 1))

    x = normal(300, 241)  # 72,300: no stretch of a multiple of 16 divides it
    names = emulated(module(build, "f32 300 241"), x)
    assert len(names) == 3 * PARTS
    x[7, 5] = np.nan
    x[299, 240] = np.inf
    emulated(module(build, "f32 300 241"), x)


@pytest.mark.parametrize(
    ("dtype", "shape", "axes"),
    [
        ("i32", (2, 65536), (1,)),
        ("f16", (65537,), (0,)),
        ("f32", (80, 3, 1000), (0, 2)),
        ("i64", (70001, 3), (0,)),
    ],
)
def test_axes_and_types(dtype: str, shape: tuple[int, ...], axes: tuple[int, ...]) -> None:
    def build(b: Any, x: Value) -> tuple[Value, ...]:
        return b.reduce_min(x, axes=axes), b.reduce_sum(x, axes=axes)

    x = (normal(*shape) * 3).astype(dtype.replace("f", "float").replace("i", "int"))
    text = f"{dtype} {' '.join(map(str, shape))}"
    names = emulated(module(build, text), x, tolerance=2e-3)
    assert len(names) == 2 * PARTS


def test_what_stands_around_a_sum_goes_along() -> None:
    def build(b: Any, x: Value, y: Value) -> Value:
        total = b.reduce_sum(b.mul(x, x), axes=(0,))
        return b.sqrt(b.add(total, y))  # type: ignore[no-any-return]

    executable = aino.compile(module(build, "f32 66001", "f32"), "c:cuda-emu", threads=1)
    assert len(executable.report.kernels) == PARTS
    x, y = normal(66001), np.float32(2)
    (got,) = executable.run(x, np.asarray(y))
    np.testing.assert_allclose(got, np.sqrt((x.astype(np.float64) ** 2).sum() + 2), rtol=1e-5)


def test_lengths_that_a_run_decides() -> None:
    made = module(lambda b, x: b.reduce_sum(x, axes=(0, 1)), "f32 n 100")
    for rows in (1, 7, 656, 700):
        assert len(emulated(made, normal(rows, 100))) == PARTS


def test_few_terms_are_left_to_one_kernel() -> None:
    made = module(lambda b, x: b.reduce_sum(x, axes=(1,)), "f32 65 300")
    assert len(emulated(made, normal(65, 300))) == 1
