"""Maps: every way to read and write, merged axes, tails, padding, lookups, other dtypes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aino_ir.codegen.kernels.canonical import merge_axes
from aino_ir.compute import Compute
from aino_ir.dims import symbol
from aino_ir.dtypes import f32
from aino_ir.loops.builder import LoopBuilder
from aino_ir.loops.interp import run_kernel
from aino_ir.loops.printer import print_loops
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

BLOCKED = Layout(((0, None), (1, "o"), (2, None), (1, "i")), ((1, 4),))


def same(body: Any, *operands: Given, **options: Any) -> Problem:
    return problem(body, *operands, error_class="exact", **options)


def axes_after_merge(p: Problem) -> int:
    merged = merge_axes(p.spec).program
    assert isinstance(merged, Compute)
    return len(merged.axes)


def test_equal_shapes_become_one_long_row() -> None:
    x, y = normal(3, 5, 7), normal(3, 5, 7, seed=1)
    p = same(lambda b, x, y: [b.add(x, y)], Given(x), Given(y))
    assert axes_after_merge(p) == 1
    check(p)


def test_a_broadcast_row_keeps_two_axes() -> None:
    p = same(lambda b, x, y: [b.mul(x, y)], Given(normal(3, 5, 7)), Given(normal(7, seed=1)))
    assert axes_after_merge(p) == 2
    check(p)


shapes = st.lists(st.integers(1, 6), min_size=1, max_size=4).map(tuple)


@settings(max_examples=25)
@given(shapes, st.data())
def test_broadcasts(shape: tuple[int, ...], data: Any) -> None:
    """Any axes of either operand are one, and leading ones missing."""
    ones = [tuple(1 if data.draw(st.booleans()) else d for d in shape) for _ in range(2)]
    missing = data.draw(st.integers(0, len(shape)))
    x, y = normal(*ones[0]), normal(*ones[1][missing:], seed=1)
    check(same(lambda b, x, y: [b.sub(x, y)], Given(x), Given(y)))


@settings(max_examples=25)
@given(
    st.permutations(range(4)), st.sampled_from([(2, 3, 4, 5), (1, 9, 2, 17), (3, 1, 33, 1)]), st.booleans()
)
def test_transposes(perm: list[int], shape: tuple[int, ...], layout: bool) -> None:
    given_layout = permuted(0, 2, 3, 1) if layout else ROW_MAJOR
    p = same(lambda b, x: [b.transpose(x, perm=tuple(perm))], Given(normal(*shape), given_layout))
    check(p)


@settings(max_examples=25)
@given(st.integers(1, 40), st.sampled_from([-3, -2, -1, 1, 2, 3]), st.data())
def test_slices(size: int, step: int, data: Any) -> None:
    count = data.draw(st.integers(1, -(-size // abs(step))))
    start = (count - 1) * -step if step < 0 else size - 1 - (count - 1) * step
    start = min(max(start, 0), size - 1)
    attrs = {"starts": (1, start), "sizes": (2, count), "steps": (1, step)}
    check(same(lambda b, x: [b.slice(x, **attrs)], Given(normal(3, size))))


@settings(max_examples=20)
@given(
    st.integers(1, 21),
    st.tuples(st.integers(-3, 9), st.integers(-3, 9)),
    st.sampled_from(["constant", "reflect", "symmetric", "edge", "wrap"]),
)
def test_pads(size: int, pads: tuple[int, int], mode: str) -> None:
    before, after = pads
    if (mode == "reflect" and size == 1) or size + before + after < 1:
        return
    attrs = {"before": (0, before), "after": (1, after), "mode": mode, "value": 2.5}
    check(same(lambda b, x: [b.pad(x, **attrs)], Given(normal(2, size))))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_lookups(axis: int) -> None:
    """Gathered lanes, gathered rows, and arithmetic on top."""
    x = normal(4, 5, 19)
    indices = np.random.default_rng(axis).integers(-x.shape[axis], x.shape[axis], (3, 11))
    p = same(lambda b, x, i: [b.relu(b.gather(x, i, axis=axis))], Given(x), Given(indices))
    check(p, proved=False)


def test_lookups_of_lookups() -> None:
    x, i, j = normal(9, 5), np.array([3, -1, 8, 0]), np.array([[0, 3], [-2, 1]])
    p = same(lambda b, x, i, j: [b.gather(x, b.gather(i, j, axis=0), axis=0)], Given(x), Given(i), Given(j))
    check(p, proved=False)


@pytest.mark.parametrize("layout", [permuted(0, 2, 1), permuted(2, 1, 0), BLOCKED])
def test_layouts(layout: Layout) -> None:
    """Reads and writes in other physical orders; blocks are padded, and the padding stays unread."""
    x, y, bias = normal(2, 6, 9), normal(2, 6, 9, seed=1), normal(6, 1, seed=2)
    for first, out in ((layout, ROW_MAJOR), (ROW_MAJOR, layout), (layout, layout)):
        p = same(
            lambda b, x, y, bias: [b.add(b.mul(x, y), bias)],
            Given(x, first),
            Given(y),
            Given(bias),
            layouts=[out],
        )
        check(p, proved=False)


def test_several_results() -> None:
    def body(b: Any, x: Any, y: Any) -> list[Any]:
        total = b.add(x, y)
        return [total, b.relu(total), b.lt(x, total)]

    check(same(body, Given(normal(3, 21)), Given(normal(3, 21, seed=1))))


MIXED = {
    "wide to narrow": lambda b, x, n, w, m: [b.add(b.cast(w, to="f32"), x)],
    "bytes": lambda b, x, n, w, m: [b.select(m, n, b.bitwise_not(n))],
    "mask of doubles": lambda b, x, n, w, m: [b.select(b.logical_and(m, b.lt(w, b.abs(w))), x, b.neg(x))],
    "bool to float": lambda b, x, n, w, m: [b.mul(b.cast(m, to="f32"), x)],
    "float to byte": lambda b, x, n, w, m: [b.cast(b.mul(x, x), to="u8")],
    "halves": lambda b, x, n, w, m: [b.cast(b.add(b.cast(x, to="f16"), b.cast(w, to="f16")), to="f64")],
    "brain floats": lambda b, x, n, w, m: [
        b.cast(b.mul(b.cast(x, to="bf16"), b.cast(x, to="bf16")), to="f32")
    ],
    "eighths": lambda b, x, n, w, m: [b.cast(b.cast(x, to="f8e4m3fn"), to="f32"), b.cast(x, to="f8e5m2")],
    "indices": lambda b, x, n, w, m: [b.cast(n, to="i64"), b.cast(b.cast(n, to="i64"), to="i16")],
}


@pytest.mark.parametrize("size", [5, 37])
@pytest.mark.parametrize("name", MIXED)
def test_mixed_widths(name: str, size: int) -> None:
    """Lanes of one kernel hold elements of one, two, four and eight bytes."""
    x, w = normal(2, size), normal(2, size, seed=1, dtype=np.float64)
    n, m = normal(2, size, seed=2, dtype=np.uint8), normal(2, size, seed=3) > 0
    check(same(MIXED[name], Given(x), Given(n), Given(w), Given(m)))


@pytest.mark.parametrize("size", [1, 7, 8, 40, 4096, 5000])
def test_symbolic_length(size: int) -> None:
    p = same(
        lambda b, x, y: [b.relu(b.add(x, y))],
        Given(normal(size), shape=(symbol("n"),)),
        Given(normal(size, seed=1), shape=(symbol("n"),)),
        symbols={"n": (0, 1 << 20)},
        values={"n": size},
    )
    check(p)


def test_nothing_to_do() -> None:
    p = same(
        lambda b, x: [b.relu(x)],
        Given(normal(0, 3), shape=(symbol("n"), 3)),
        symbols={"n": (0, 9)},
        values={"n": 0},
    )
    check(p)
    for shape in ((0,), (0, 3), (3, 0)):
        check(
            same(
                lambda b, x: [b.transpose(b.relu(x), perm=tuple(range(x.rank))[::-1])], Given(normal(*shape))
            )
        )


def test_a_kernel_without_units_has_no_body() -> None:
    b = LoopBuilder("nothing")
    y = b.param("y", f32, 4)
    with b.units(0) as unit:
        b.load(y, unit)
    fn = b.finish()
    assert fn.units == 0 and not fn.body
    run_kernel(fn, [np.zeros(4, np.float32)])


def test_a_scalar() -> None:
    check(same(lambda b, x, y: [b.add(x, y)], Given(np.float32(2.5).reshape(())), Given(normal(1))))
    check(same(lambda b, x: [b.neg(x)], Given(np.float32(2.5).reshape(()))))


def examples() -> list[Problem]:
    x, w = normal(2, 37), normal(2, 37, seed=1, dtype=np.float64)
    n, m = normal(2, 37, seed=2, dtype=np.uint8), normal(2, 37, seed=3) > 0
    wide = normal(3, 5, 19)
    return [
        *(same(MIXED[name], Given(x), Given(n), Given(w), Given(m)) for name in MIXED),
        same(lambda b, x: [b.transpose(x, perm=(2, 0, 1))], Given(wide)),
        same(lambda b, x: [b.slice(x, starts=(2, 4, 18), sizes=(3, 2, 9), steps=(-1, -2, -2))], Given(wide)),
        same(lambda b, x: [b.pad(x, before=(1, 0, 3), after=(0, 2, 5), value=7.0)], Given(wide)),
        same(lambda b, x: [b.pad(x, before=(0, 1, 3), after=(0, 2, 5), mode="reflect")], Given(wide)),
        same(lambda b, x, i: [b.gather(x, i, axis=2)], Given(wide), Given(np.array([18, -19, 0, 5] * 5))),
        same(lambda b, x: [b.relu(x)], Given(normal(2, 6, 9), BLOCKED), layouts=[permuted(0, 2, 1)]),
    ]


@pytest.mark.parametrize("isa", ["avx2", "portable"])
def test_compiled_kernels(isa: str, tmp_path: Path) -> None:
    made = [k for p in examples() for k in kernels(p, f"c:{isa}", bounds=False)]
    check_compiled(made, isa, tmp_path)


def test_avx512_compiles(tmp_path: Path) -> None:
    check_compiles([k for p in examples() for k in kernels(p, "c:avx512", bounds=False)], "avx512", tmp_path)


# -- operands that lie the other way round ------------------------------------------------------------------


@settings(max_examples=20)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 3))
def test_turned_blocks_of_any_size(rows: int, columns: int, batch: int) -> None:
    check(same(lambda b, x: [b.transpose(x, perm=(0, 2, 1))], Given(normal(batch, rows, columns))))


def turned(p: Problem, lanes: str = "c:avx2") -> list[Any]:
    """The kernels of a problem, which turn blocks over in registers."""
    made = kernels(p, lanes)
    assert any("shuffle" in print_loops(k.fn) for k in made)
    return made


def test_blocks_are_turned_beside_other_operands(tmp_path: Path) -> None:
    """One operand lies as the result, one the other way round, one is a row, and there is arithmetic."""
    x, y, z = Given(normal(20, 33)), Given(normal(33, 20, seed=1)), Given(normal(33, seed=2))

    def body(b: Any, x: Any, y: Any, z: Any) -> list[Any]:
        return [b.mul(b.add(x, b.transpose(y, perm=(1, 0))), z)]

    channels_last = Given(normal(2, 19, 5, 7), permuted(0, 2, 3, 1))
    made = [
        *turned(same(body, x, y, z)),
        *turned(same(lambda b, x: [b.relu(x)], channels_last, layouts=[ROW_MAJOR])),
        *turned(same(lambda b, x: [b.relu(x)], Given(normal(2, 19, 5, 7)), layouts=[permuted(0, 2, 3, 1)])),
    ]
    check_compiled(made, "avx2", tmp_path)


def test_narrow_and_heavy_maps_are_not_turned() -> None:
    for p in (
        same(lambda b, x: [b.transpose(x, perm=(1, 0))], Given(normal(40, 3))),
        problem(lambda b, x: [b.exp(b.transpose(x, perm=(1, 0)))], Given(normal(40, 30))),
    ):
        assert not any("shuffle" in print_loops(k.fn) for k in kernels(p, "c:avx2"))
