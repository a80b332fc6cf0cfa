"""Reductions of every kind over any axes, in any layout, with what stands around them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aino_ir.dims import symbol
from aino_ir.types import ROW_MAJOR, permuted
from tests.codegen.kernels.support import (
    Given,
    Problem,
    check,
    check_compiled,
    check_compiles,
    kernels,
    normal,
    problem,
)

OPS = (
    "reduce_sum",
    "reduce_max",
    "reduce_min",
    "reduce_prod",
    "reduce_l2",
    "reduce_mean",
    "reduce_sum_square",
)


def reduced(
    op: str, x: Any, axes: tuple[int, ...], keepdims: bool = False, layout: Any = ROW_MAJOR
) -> Problem:
    return problem(
        lambda b, x: [getattr(b, op)(x, axes=axes, keepdims=keepdims)],
        Given(x, layout),
        terms=int(np.prod(x.shape)),
    )


@settings(max_examples=30)
@given(
    st.sampled_from(OPS),
    st.lists(st.integers(1, 9), min_size=1, max_size=4).map(tuple),
    st.sets(st.integers(0, 3), min_size=1),
    st.booleans(),
)
def test_any_axes(op: str, shape: tuple[int, ...], axes: set[int], keepdims: bool) -> None:
    chosen = tuple(sorted(a for a in axes if a < len(shape))) or (0,)
    check(reduced(op, normal(*shape), chosen, keepdims))


@pytest.mark.parametrize("length", [1, 7, 8, 9, 31, 32, 33, 70])
@pytest.mark.parametrize("op", ["reduce_sum", "reduce_max"])
def test_tails_along_and_across(op: str, length: int) -> None:
    check(reduced(op, normal(3, length), (1,)))
    check(reduced(op, normal(length, 5), (0,)))
    check(reduced(op, normal(5, length), (0,)))


@pytest.mark.parametrize("dtype", [np.float64, np.int32, np.int64, np.int8, np.uint8, np.float16])
def test_other_dtypes(dtype: Any) -> None:
    for op in ("reduce_sum", "reduce_max", "reduce_prod", "reduce_min"):
        for axes in ((0,), (1,)):
            check(reduced(op, normal(7, 19, dtype=dtype), axes))


def test_bools() -> None:
    x = normal(5, 21) > 1.0
    for op in ("reduce_any", "reduce_all"):
        for axes in ((0,), (1,), (0, 1)):
            check(reduced(op, x, axes))
            check(reduced(op, ~x, axes))


def test_nan_wins() -> None:
    x = normal(4, 20)
    x[1, 3], x[2, 19], x[3, 0] = np.nan, np.nan, -np.inf
    for op in ("reduce_max", "reduce_min", "reduce_sum"):
        for axes in ((0,), (1,)):
            check(reduced(op, x, axes))


def test_layouts() -> None:
    x = normal(2, 17, 3, 4)
    for layout in (permuted(0, 2, 3, 1), permuted(3, 2, 1, 0)):
        for axes in ((1,), (2, 3), (0, 1)):
            check(reduced("reduce_sum", x, axes, layout=layout))


def test_nothing_is_the_identity() -> None:
    for op in ("reduce_sum", "reduce_prod", "reduce_max", "reduce_min"):
        check(reduced(op, normal(3, 0), (1,)))
        check(reduced(op, normal(0, 17), (0,)))


@pytest.mark.parametrize("n", [0, 1, 8, 37])
def test_symbolic_length(n: int) -> None:
    for axes, shape, dims in (((1,), (3, n), (3, symbol("n"))), ((0,), (n, 19), (symbol("n"), 19))):
        p = problem(
            lambda b, x, axes=axes: [b.reduce_sum(x, axes=axes)],
            Given(normal(*shape), shape=dims),
            symbols={"n": (0, 1 << 20)},
            values={"n": n},
            terms=max(n, 1),
        )
        check(p)


def test_prologue_and_epilogue() -> None:
    def body(b: Any, x: Any, y: Any, z: Any) -> list[Any]:
        return [b.relu(b.add(b.reduce_sum(b.mul(b.exp(x), y), axes=(1,)), z))]

    for shape in ((5, 21), (21, 5)):
        operands = (normal(*shape), normal(shape[1], seed=1), normal(shape[0], seed=2))
        check(problem(body, *map(Given, operands), terms=60), only="reduce")


POOL = {"kernel": (3, 2), "strides": (2, 1), "dilations": (1, 2), "pads_before": (1, 0), "pads_after": (1, 2)}


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("op", ["max_pool", "avg_pool"])
def test_pools(op: str, last: bool) -> None:
    layout = permuted(0, 2, 3, 1) if last else ROW_MAJOR
    for shape in ((1, 9, 7, 19), (2, 3, 5, 5)):
        for ceil in (False, True):
            attrs = {**POOL, "ceil_mode": ceil}
            body = lambda b, x, attrs=attrs: [getattr(b, op)(x, **attrs)]  # noqa: E731
            check(problem(body, Given(normal(*shape), layout), layouts=[layout], terms=6), proved=False)


def examples() -> list[Problem]:
    return [
        reduced("reduce_sum", normal(3, 70), (1,)),
        reduced("reduce_sum", normal(9, 37), (0,)),
        reduced("reduce_max", normal(3, 5, 7), (0, 2)),
        reduced("reduce_prod", normal(3, 21, dtype=np.int64), (1,)),
        reduced("reduce_max", normal(3, 21, dtype=np.uint8), (1,)),
        reduced("reduce_sum", normal(21, 19, dtype=np.int8), (0,)),
        reduced("reduce_min", normal(5, 21, dtype=np.float64), (1,)),
        reduced("reduce_any", normal(5, 21) > 1.0, (1,)),
        problem(lambda b, x: [b.max_pool(x, **POOL)], Given(normal(1, 3, 7, 19))),
        problem(lambda b, x: [b.avg_pool(x, **POOL)], Given(normal(1, 3, 7, 19)), terms=6),
    ]


@pytest.mark.parametrize("isa", ["avx2", "portable"])
def test_compiled_kernels(isa: str, tmp_path: Path) -> None:
    check_compiled([k for p in examples() for k in kernels(p, f"c:{isa}", bounds=False)], isa, tmp_path)


def test_avx512_compiles(tmp_path: Path) -> None:
    check_compiles([k for p in examples() for k in kernels(p, "c:avx512", bounds=False)], "avx512", tmp_path)
