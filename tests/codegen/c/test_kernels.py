"""Whole kernels as C against the loop interpreter: every statement and every way to reach memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from aino_ir.codegen.c.unit import print_unit
from aino_ir.dims import ceildiv, symbol
from aino_ir.dtypes import DTYPES, DType, boolean, f32, i32, i64
from aino_ir.loops.builder import LoopBuilder
from aino_ir.loops.expr import Ramp, VecType, cast, compare, const, index, maximum, reduce_lanes, select
from aino_ir.loops.interp import run_kernel
from aino_ir.loops.stmt import Access, LoopFn, Status
from tests.aino_ir.loops import kernels
from tests.codegen.c.support import build, compilers, run, runnable_isas, same_bits, target

RNG = np.random.default_rng(3)
L = 8


@dataclass(frozen=True)
class Run:
    """A kernel with its arguments."""

    fn: LoopFn
    arrays: tuple[np.ndarray, ...]
    symbols: tuple[int, ...] = ()


def normal(size: int) -> np.ndarray:
    return RNG.standard_normal(size).astype(np.float32)


def filled(size: int, dtype: DType = f32) -> np.ndarray:
    return np.frombuffer(b"\x11" * (size * dtype.bytes), dtype.numpy).copy()


def strided() -> Run:
    """Every third element in, every second out, also under masks and backwards."""
    b = LoopBuilder("strided")
    x = b.param("x", f32, 64)
    y = b.param("y", f32, 96, Access.WRITE)
    with b.units(2) as u:
        value = b.load(x, u * 4, L, stride=3)
        back = b.load(x, u + 32, L, stride=-4, mask=kernels.prefix(5 - u))
        b.store(y, u * 16, value + back, stride=2)
        b.store(y, 48 + u * 16, value, stride=2, mask=kernels.prefix(3 + u))
    return Run(b.finish(), (normal(64), filled(96)))


def shuffled() -> Run:
    """Every second element and elements backwards: up to the last element of the buffer and no further."""
    b = LoopBuilder("shuffled")
    x = b.param("x", f32, 15)
    z = b.param("z", DTYPES["i8"], 15)
    y = b.param("y", f32, 3 * L, Access.WRITE)
    with b.units(1) as u:
        b.store(y, u, b.load(x, u, L, stride=2))
        b.store(y, u + L, b.load(x, u + L - 1, L, stride=-1))
        b.store(y, u + 2 * L, cast(b.load(z, u, L, stride=2), f32))
    return Run(b.finish(), (normal(15), np.arange(15, dtype=np.int8), filled(3 * L)))


def scattered() -> Run:
    """Gather and scatter through an index vector, with and without masks, of a storage type."""
    b = LoopBuilder("scattered")
    x = b.param("x", DTYPES["bf16"], 32)
    at = b.param("at", i64, 16)
    y = b.param("y", DTYPES["f16"], 32, Access.WRITE)
    with b.units(2) as u:
        where = b.load(at, u * L, L)
        got = b.load(x, 0, L, gather=where)
        some = b.load(x, 4, L, gather=where, mask=where < 20, other=const(2.5, f32, L))
        b.store(y, 0, got * 2.0 + some, scatter=where)
        b.store(y, 1, some, scatter=where, mask=compare("ge", where, 12))
    places = RNG.permutation(28)[:16].astype(np.int64)
    return Run(b.finish(), (normal(32).astype(DTYPES["bf16"].numpy), places, filled(32, DTYPES["f16"])))


def branches() -> Run:
    """if, else if, else on loaded values, while, and registers."""
    b = LoopBuilder("branches")
    x = b.param("x", i32, 16)
    y = b.param("y", i32, 16, Access.WRITE)
    with b.units(16) as u:
        value = b.load(x, u)
        steps = b.reg("steps", VecType(i32), 0)
        left = b.reg("left", VecType(i32), value)
        with b.while_(lambda: compare("gt", left.read(), 1)):
            b.set(left, left.read() / 3)
            b.set(steps, steps.read() + 1)
        with b.when(compare("lt", value, 0)):
            b.store(y, u, -value)
        with b.otherwise():
            with b.when(compare("lt", value, 50)):
                b.store(y, u, steps.read())
            with b.otherwise():
                b.store(y, u, const(7, i32))
    return Run(b.finish(), (RNG.integers(-100, 100, 16).astype(np.int32), filled(16, i32)))


def indices() -> Run:
    """Floor division and remainder of indices, also negative ones, minimum, maximum and ramps."""
    b = LoopBuilder("indices")
    n = b.symbol("n")
    y = b.param("y", i64, 16 * 6, Access.WRITE)
    z = b.param("z", i64, 16 * L, Access.WRITE)
    with b.units(16) as u:
        from aino_ir.dims import dmax, dmin

        dims = [u // 4, u % 4, (u - n) // 3, (u - n) % 3, dmin(u, n) - dmax(u, n, 2), (u * 7 + 3) // 4 % 5]
        for i, dim in enumerate(dims):
            b.store(y, u * 6 + i, index(dim))
        b.store(z, u * L, Ramp(u * 2 - n, 3, VecType(i64, L)))
    return Run(b.finish(), (filled(96, i64), filled(16 * L, i64)), (5,))


def masks() -> Run:
    """Bool vectors loaded, stored, combined with comparisons of other widths and kept in registers."""
    b = LoopBuilder("masks")
    m = b.param("m", boolean, 64)
    x = b.param("x", f32, 64)
    d = b.param("d", DTYPES["f64"], 64)
    y = b.param("y", boolean, 64, Access.WRITE)
    z = b.param("z", f32, 64, Access.WRITE)
    w = b.param("w", boolean, 8, Access.WRITE)
    with b.units(8) as u:
        mask, value, wide = b.load(m, u * L, L), b.load(x, u * L, L), b.load(d, u * L, L)
        seen = b.reg("seen", VecType(boolean, L), const(False, boolean, L))
        b.set(seen, seen.read() | (value < 0.25))
        both = b.let(mask & (wide > 0.0) & kernels.prefix(u))
        b.store(y, u * L, both ^ seen.read())
        b.store(z, u * L, select(seen.read(), value, cast(both, f32) * 3.0), mask=mask)
        b.store(w, u, reduce_lanes("or", both))
    arrays = (RNG.integers(0, 2, 64).astype(bool), normal(64), normal(64).astype(np.float64))
    return Run(b.finish(), (*arrays, filled(64, boolean), filled(64), filled(8, boolean)))


def scratch() -> Run:
    """Two scratch buffers, a prologue that fills one, a nested tile with an unrolled loop, prefetches."""
    b = LoopBuilder("scratch")
    x = b.param("x", f32, 4 * 32)
    y = b.param("y", f32, 4 * 32, Access.READ_WRITE)
    with b.prologue():
        table = b.alloc("table", f32, 32)
        with b.loop("i", 0, 32, step=L, unroll=4) as i:
            b.store(table, i, cast(Ramp(i, 1, VecType(i64, L)), f32) * 0.5)
    with b.units(4) as u:
        row = b.alloc("row", DTYPES["bf16"], 32)
        b.prefetch(x, u * 32, 2)
        b.comment("ends with */ and a backslash \\")
        with b.loop("i", 0, 32, step=L) as i:
            b.store(row, i, b.load(x, u * 32 + i, L) + b.load(table, i, L))
        with b.loop("i", 0, 32, step=L) as i:
            b.store(y, u * 32 + i, maximum(b.load(row, i, L), b.load(y, u * 32 + i, L)))
    return Run(b.finish(header=["scratch */ test", "two"]), (normal(128), normal(128)))


def failing() -> Run:
    """A failure records its code and value once and leaves."""
    fn = kernels.gather_rows(5, 11, 4)
    return Run(fn, (normal(55), np.array([1, 9, -7, 2]), filled(44), np.zeros(2, np.int64)))


def clean_gather() -> Run:
    fn = kernels.gather_rows(5, 11, 3)
    return Run(fn, (normal(55), np.array([4, -1, 0]), filled(33), np.zeros(2, np.int64)))


def gemm(m: int, symbolic: bool) -> Callable[[], Run]:
    def make() -> Run:
        fn = kernels.gemm(symbol("m") if symbolic else m, 32, 24)
        return Run(fn, (normal(m * 24), normal(24 * 32), filled(m * 32)), (m,) if symbolic else ())

    return make


def softmax() -> Run:
    return Run(kernels.softmax(3, 13), (normal(39) * 4, filled(39)))


def copies(name: str) -> Callable[[], Run]:
    def make() -> Run:
        dtype = DTYPES[name]
        x = RNG.integers(0, 2 if dtype.is_bool else 7, 21).astype(dtype.numpy)
        return Run(kernels.tail_copy(dtype), (x, filled(24, dtype)), (21,))

    return make


def vector_gather() -> Run:
    return Run(kernels.vector_gather(9, 13), (normal(9), RNG.integers(-3, 12, 13), filled(13)))


def row_blocks() -> Run:
    return Run(kernels.row_blocks(21, 8), (RNG.integers(-50, 50, 21), filled(ceildiv(21, 8))))


COPIED = ("f32", "f64", "bf16", "f16", "f8e4m3fn", "f8e8m0", "i64", "i32", "u8", "i16", "i4", "bool")
RUNS: dict[str, Callable[[], Run]] = {
    **{
        f.__name__: f
        for f in (strided, shuffled, scattered, branches, indices, masks, scratch, failing, clean_gather)
    },
    **{f.__name__: f for f in (softmax, vector_gather, row_blocks)},
    "gemm_13": gemm(13, False),
    "gemm_m": gemm(13, True),
    **{f"copy_{name}": copies(name) for name in COPIED},
}


@pytest.mark.parametrize("isa", ["vec128", "avx2", "avx512"])
@pytest.mark.parametrize("compiler", ["gcc", "zig"])
def test_kernels_agree_with_the_interpreter(compiler: str, isa: str, tmp_path: Path) -> None:
    if compiler not in compilers() or isa not in runnable_isas():
        pytest.skip("not on this machine")
    runs = {name: make() for name, make in RUNS.items()}
    unique = {r.fn.name: r.fn for r in runs.values()}
    library = build(print_unit(list(unique.values()), target(isa)), compiler, isa, tmp_path)
    for name, r in runs.items():
        expected, got = ([a.copy() for a in r.arrays] for _ in range(2))
        run_kernel(r.fn, expected, dict(zip(r.fn.symbols, r.symbols, strict=True)))
        failed = len(r.arrays) > len(r.fn.params)
        run(library, r.fn, got[:-1] if failed else got, r.symbols, status=got[-1] if failed else None)
        for number, (a, e) in enumerate(zip(got, expected, strict=True)):
            wrong = np.flatnonzero(~same_bits(a, e))
            assert not len(wrong), (
                f"{name} argument {number} at {wrong[:4]}: {a[wrong[:4]]}, not {e[wrong[:4]]}"
            )
    assert runs["failing"].arrays[-1][0] == 0
    assert Status.INDEX_OUT_OF_RANGE.value == 1


@pytest.mark.parametrize("compiler", ["gcc", "zig"])
def test_avx512_kernels_compile(compiler: str, tmp_path: Path) -> None:
    from tests.codegen.c.support import compile_text

    if compiler not in compilers():
        pytest.skip("not on this machine")
    unique = {make().fn.name: make().fn for make in RUNS.values()}
    compile_text(print_unit(list(unique.values()), target("avx512")), compiler, "avx512", tmp_path)
