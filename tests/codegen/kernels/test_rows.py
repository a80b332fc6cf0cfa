"""Row programs: softmax, norms and extremes' positions, with lanes along the row and across rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aino_ir.dims import symbol
from aino_ir.loops.stmt import Status
from aino_ir.types import ROW_MAJOR, Layout, permuted
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

Make = Callable[[Any, Any], Any]

PROGRAMS: dict[str, Callable[[int], Make]] = {
    "softmax": lambda axis: lambda b, x: b.softmax(x, axis=axis),
    "log_softmax": lambda axis: lambda b, x: b.log_softmax(x, axis=axis),
    "argmax": lambda axis: lambda b, x: b.argmax(x, axis=axis),
    "argmin last": lambda axis: lambda b, x: b.argmin(x, axis=axis, select_last_index=True, keepdims=True),
    "log_sum_exp": lambda axis: lambda b, x: b.reduce_log_sum_exp(x, axes=(axis,)),
    "lp_norm": lambda axis: lambda b, x: b.lp_norm(x, axis=axis),
    "mean_variance_norm": lambda axis: lambda b, x: b.mean_variance_norm(x, axes=(axis,)),
}


def rows(name: str, x: Any, axis: int, layout: Layout = ROW_MAJOR) -> Problem:
    make = PROGRAMS[name](axis)
    return problem(lambda b, v: [make(b, v)], Given(x, layout), terms=4 * x.shape[axis])


@settings(max_examples=30)
@given(
    st.sampled_from(sorted(PROGRAMS)),
    st.lists(st.integers(1, 20), min_size=1, max_size=3).map(tuple),
    st.integers(0, 2),
)
def test_any_axis(name: str, shape: tuple[int, ...], axis: int) -> None:
    check(rows(name, normal(*shape), axis % len(shape)), proved=False)


@pytest.mark.parametrize("length", [1, 7, 8, 9, 31, 32, 33])
@pytest.mark.parametrize("name", sorted(PROGRAMS))
def test_tails_along_and_across(name: str, length: int) -> None:
    check(rows(name, normal(2, length), 1))
    check(rows(name, normal(3, length), 0))
    check(rows(name, normal(length, 3), 0))


@pytest.mark.parametrize("name", sorted(PROGRAMS))
def test_special_values(name: str) -> None:
    """A NaN, infinities, equal elements and a row of -inf stay in their rows."""
    x = normal(7, 19)
    x[1, 4], x[2, 18], x[3, 0], x[4, 7:] = np.nan, np.inf, -np.inf, 1.0
    x[5] = -np.inf
    for axis in (0, 1):
        check(rows(name, x, axis))


@pytest.mark.parametrize("dtype", [np.float64, np.float16])
def test_other_dtypes(dtype: Any) -> None:
    for name in PROGRAMS:
        for axis in (0, 1):
            check(rows(name, normal(5, 21, dtype=dtype), axis))


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint8])
def test_positions_of_integers(dtype: Any) -> None:
    for axis in (0, 1):
        check(rows("argmax", normal(5, 21, dtype=dtype), axis))
        check(rows("argmin last", normal(5, 21, dtype=dtype), axis))


def test_layouts() -> None:
    for layout in (permuted(1, 0, 2), permuted(0, 2, 1), permuted(2, 1, 0)):
        for axis in (0, 1, 2):
            check(rows("softmax", normal(3, 5, 17), axis, layout), proved=False)


def for_every_size(make: Callable[[int], Problem], sizes: Sequence[int]) -> None:
    first = make(sizes[0])
    for kernel in check(first, proved=False):
        for size in sizes[1:]:
            p = make(size)
            assert p.spec.key == first.spec.key
            why = replace(kernel, problem=p).interpret()
            assert why is None, f"{kernel.candidate.name} at {size}: {why}"


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("name", ["softmax", "log_sum_exp", "argmax", "mean_variance_norm"])
def test_symbolic_rows_and_row_length(name: str, axis: int) -> None:
    def make(size: int) -> Problem:
        shape = (size, size // 2 + 1)
        program = PROGRAMS[name](axis)
        return problem(
            lambda b, v: [program(b, v)],
            Given(normal(*shape), shape=(symbol("n"), symbol("m"))),
            symbols={"n": (1, 512), "m": (1, 512)},
            values={"n": shape[0], "m": shape[1]},
            terms=4 * size,
        )

    for_every_size(make, (1, 2, 8, 21, 40))


def test_norms_with_parameters_and_neighbours() -> None:
    def layer(b: Any, x: Any, r: Any, s: Any, t: Any) -> list[Any]:
        return [b.gelu(b.layer_norm(b.add(x, r), s, t))]

    operands = [normal(6, 37), normal(6, 37, seed=1), normal(37, seed=2), normal(37, seed=3)]
    check(problem(layer, *map(Given, operands), terms=200))

    def group(b: Any, x: Any, s: Any, t: Any) -> list[Any]:
        return [b.relu(b.group_norm(x, s, t, groups=3))]

    operands = [normal(2, 6, 5, 3), normal(6, seed=2), normal(6, seed=3)]
    check(problem(group, *map(Given, operands), terms=200), proved=False)


def test_a_mask_before_a_softmax() -> None:
    def body(b: Any, x: Any, m: Any, low: Any) -> list[Any]:
        return [b.softmax(b.select(m, x, low))]

    x, mask = normal(5, 21), normal(5, 21, seed=4) > 0
    check(problem(body, Given(x), Given(mask), Given(np.float32([-1e9])), terms=90), proved=False)


def test_checks_stand_before_the_rows() -> None:
    """A lookup that became part of the rows reports an index outside the table."""
    from aino_ir.loops.interp import run_kernel

    table, indices = normal(5, 9), np.array([0, 4, -5])
    p = problem(lambda b, t, i: [b.softmax(b.gather(t, i, axis=0))], Given(table), Given(indices), terms=40)
    (kernel,) = check(p, proved=False)
    views = p.memory(kernel.candidate)
    position = next(i for i, o in enumerate(p.spec.operands) if o.dtype.is_integer)
    for poison in (5, -6, 1 << 40):
        views[position][1] = poison
        outcome = run_kernel(kernel.fn, views)
        assert (outcome.status, outcome.value) == (Status.INDEX_OUT_OF_RANGE, poison)


def examples() -> list[Problem]:
    x = normal(7, 37)
    x[1, 4], x[2, 36], x[5] = np.nan, np.inf, -np.inf
    return [
        *(rows(name, x, axis) for name in PROGRAMS for axis in (0, 1)),
        rows("softmax", normal(5, 21, dtype=np.float64), 1),
        rows("argmax", normal(5, 21, dtype=np.uint8), 0),
        rows("softmax", normal(5, 21, dtype=np.float16), 1),
    ]


@pytest.mark.parametrize("isa", ["avx2", "portable"])
def test_compiled_kernels(isa: str, tmp_path: Path) -> None:
    check_compiled([k for p in examples() for k in kernels(p, f"c:{isa}", bounds=False)], isa, tmp_path)


def test_avx512_compiles(tmp_path: Path) -> None:
    check_compiles([k for p in examples() for k in kernels(p, "c:avx512", bounds=False)], "avx512", tmp_path)
