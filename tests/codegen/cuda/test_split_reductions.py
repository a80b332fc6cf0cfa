"""Reductions of many terms to few results: by many blocks, in two kernels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import aino_ir as aino
from aino_ir.codegen.cuda import split_reductions
from aino_ir.graph import Value
from tests.codegen.cuda.test_kernels import EMULATED, module, normal
from tests.codegen.kernels.support import Given, problem

PARTS = 2


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stretches of a few hundred terms, which are emulated in no time."""
    monkeypatch.setattr(split_reductions, "LONG", 1 << 10)
    monkeypatch.setattr(split_reductions, "STRETCH", 1 << 8)


def launches(build: Any, types: list[str], *inputs: Any, tolerance: float = 1e-4) -> int:
    """Run emulated and on the interpreter; how many kernels there are.

    They are checked by what comes out alone: not one by one, or chain by chain, before that.
    """
    made = module(build, *types)
    executable = aino.compile(made, EMULATED, threads=1, cache=False, verify="off")
    for got, want in zip(executable.run(*inputs), aino.compile(made, "reference").run(*inputs), strict=True):
        assert (got.dtype, got.shape) == (want.dtype, want.shape)
        np.testing.assert_allclose(np.float64(got), np.float64(want), rtol=tolerance, atol=tolerance)
    return len(executable.report.kernels)


def test_sums_and_extremes() -> None:
    def build(b: Any, x: Value, y: Value, z: Value) -> tuple[Value, ...]:
        return b.reduce_max(x, axes=(0, 1)), b.reduce_mean(y, axes=(0,)), b.reduce_min(z, axes=(0, 2))

    x = normal(30, 41)  # 1,230: no stretch of a multiple of 16 divides it
    x[7, 5], x[29, 40] = np.nan, np.inf
    given = normal(2049).astype(np.float16), (9 * normal(8, 3, 500)).astype(np.int64)
    assert launches(build, ["f32 30 41", "f16 2049", "i64 8 3 500"], x, *given, tolerance=2e-3) == 3 * PARTS


def test_what_stands_around_a_sum_goes_along() -> None:
    def build(b: Any, x: Value, y: Value) -> Value:
        total = b.reduce_sum(b.mul(x, x), axes=(0,))
        return b.sqrt(b.add(total, y))  # type: ignore[no-any-return]

    assert launches(build, ["f32 1601", "f32"], normal(1601), np.asarray(np.float32(2))) == PARTS


def test_lengths_that_a_run_decides() -> None:
    made = module(lambda b, x: b.reduce_sum(x, axes=(0, 1)), "f32 n 10")
    executable = aino.compile(made, EMULATED, threads=1, cache=False)
    assert len(executable.report.kernels) == PARTS
    for rows in (1, 700):
        x = normal(rows, 10)
        np.testing.assert_allclose(executable.run(x)[0], x.sum(dtype=np.float64), rtol=1e-4, atol=1e-3)


def test_sums_that_lie_across() -> None:
    def build(b: Any, x: Value, y: Value, w: Value) -> tuple[Value, ...]:
        return b.reduce_sum(x, axes=(0,)), b.matmul(y, w)

    p = problem(lambda b, x: [b.reduce_sum(x, axes=(0,))], Given(normal(301, 33)))
    division = split_reductions.split_reduction(p.spec)
    assert division is not None and division.temporaries[0][1].shape == (4, 33)  # neighbours lie side by side
    given = normal(301, 33), normal(1, 514), normal(514, 40)
    assert launches(build, ["f32 301 33", "f32 1 514", "f32 514 40"], *given) == 2 * PARTS


@pytest.mark.parametrize(("shape", "axis"), [((65, 1100), 1), ((250, 65), 0), ((1000,), 0)])
def test_what_one_kernel_does_as_well(shape: tuple[int, ...], axis: int) -> None:
    p = problem(lambda b, x: [b.reduce_sum(x, axes=(axis,))], Given(normal(*shape)))
    assert split_reductions.split_reduction(p.spec) is None
