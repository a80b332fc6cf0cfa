"""Operations of warps, asynchronous copies and vectors: loop interpreter, emulation and numpy agree."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from aino_ir.codegen.c.unit import print_unit
from aino_ir.dtypes import DTYPES, f32, i32, u32
from aino_ir.errors.loops import LoopInvariantError
from aino_ir.errors.printing import NoSpelling
from aino_ir.loops.builder import LoopBuilder
from aino_ir.loops.conditions import Condition
from aino_ir.loops.expr import VecType, cast, const, reduce_lanes
from aino_ir.loops.interp import run_kernel
from aino_ir.loops.stmt import Access, LoopFn
from aino_ir.loops.verify import verify_loops
from tests.codegen.c.support import build, compilers, run
from tests.codegen.cuda.test_emulation import outcome, write_headers
from tests.codegen.native import target

EMULATED = "c:cuda-emu"
Array = np.ndarray[Any, Any]


def everywhere(fn: LoopFn, arrays: list[Array], folder: Path) -> list[Array]:
    """The arrays after a run in the loop interpreter, which must be what the emulation leaves."""
    verify_loops(fn)
    interpreted, emulated = [a.copy() for a in arrays], [a.copy() for a in arrays]
    run_kernel(fn, interpreted)
    write_headers(folder)
    library = build(print_unit([fn], target(EMULATED)), next(iter(compilers())), "cuda-emu", folder)
    run(library, fn, emulated)
    for a, b in zip(interpreted, emulated, strict=True):
        np.testing.assert_allclose(np.float64(a), np.float64(b), rtol=1e-6, atol=1e-6)
    return interpreted


def normal(*shape: int) -> Array:
    return np.random.default_rng(shape).standard_normal(shape).astype(np.float32)


def exchanges(dtype: str) -> LoopFn:
    b = LoopBuilder("exchanges")
    x, out = b.param("x", DTYPES[dtype], 128), b.param("out", DTYPES[dtype], 128, Access.WRITE)
    with b.units(2, 64) as unit:
        (y,) = b.warp(f"exchange_{dtype}", b.load(x, unit * 64 + b.thread), parameter=5)
        (z,) = b.warp(f"exchange_{dtype}", y, parameter=16)
        b.store(out, unit * 64 + b.thread, z)
    return b.finish()


@pytest.mark.parametrize("dtype", ["f32", "f64", "i32", "u32", "i64", "u64"])
def test_exchanges(dtype: str, tmp_path: Path) -> None:
    given = np.arange(128).astype(DTYPES[dtype].numpy)
    _, got = everywhere(exchanges(dtype), [given, np.zeros_like(given)], tmp_path)
    assert got.tolist() == given[np.arange(128) ^ 21].tolist()


def halves(dtype: str, turned: bool) -> LoopFn:
    """A [16, 16] by B, both through shared memory; B lies as [n, k] or, turned, as [k, n]."""
    half = DTYPES[dtype]
    b = LoopBuilder("halves")
    x, w = b.param("x", half, 256), b.param("w", half, 256)
    out = b.param("out", f32, 16 * 16, Access.WRITE)
    panels = b.share("x_panel", half, 256), b.share("w_panel", half, 256)
    with b.units(1, 32):
        for panel, source in zip(panels, (x, w), strict=True):
            b.copy(panel, b.thread * 8, source, b.thread * 8, 8)
        b.close_copies()
        b.await_copies(0)
        b.barrier()
        block, line = b.split(b.thread, {"block": 4, "line": 8})
        fragments = b.load_matrix(panels[0], (block % 2 * 8 + line) * 16 + block // 2 * 8)
        if turned:  # blocks: k, k + 8 of columns 0..7, then of columns 8..15
            factors = b.load_matrix(panels[1], (block % 2 * 8 + line) * 16 + block // 2 * 8, turned=True)
        else:
            factors = b.load_matrix(panels[1], (block // 2 * 8 + line) * 16 + block % 2 * 8)
        row, quad = b.split(b.thread, {"row": 8, "quad": 4})
        for side in (0, 1):
            zeros = [b.let(cast(b.load(x, 0), "f32") * 0.0)] * 4
            d = b.warp(f"mma_{dtype}", *fragments, *factors[2 * side : 2 * side + 2], *zeros)
            for i, value in enumerate(d):
                b.store(out, (row + i // 2 * 8) * 16 + side * 8 + quad * 2 + i % 2, value)
    return b.finish()


@pytest.mark.parametrize("dtype", ["bf16", "f16"])
@pytest.mark.parametrize("turned", [False, True])
def test_products_of_halves(dtype: str, turned: bool, tmp_path: Path) -> None:
    half = DTYPES[dtype]
    a, v = normal(16, 16).astype(half.numpy), normal(16, 16, 1)[..., 0].astype(half.numpy)
    arrays = [a.reshape(-1), v.reshape(-1), np.zeros(256, np.float32)]
    *_, got = everywhere(halves(dtype, turned), arrays, tmp_path)
    right = np.float64(v) if turned else np.float64(v).T
    np.testing.assert_allclose(got.reshape(16, 16), np.float64(a) @ right, rtol=1e-5, atol=1e-5)


def small_integers(kinds: str) -> LoopFn:
    b = LoopBuilder("bytes")
    x, w = b.param("x", u32, 128), b.param("w", u32, 64)  # four bytes each
    out = b.param("out", i32, 128, Access.READ_WRITE)
    with b.units(1, 32):
        row, quad = b.split(b.thread, {"row": 8, "quad": 4})
        a = [b.load(x, (row + i % 2 * 8) * 8 + i // 2 * 4 + quad) for i in range(4)]
        v = [b.load(w, row * 8 + i * 4 + quad) for i in range(2)]
        places = [(row + i // 2 * 8) * 8 + quad * 2 + i % 2 for i in range(4)]
        d = b.warp(f"mma_{kinds}", *a, *v, *[b.load(out, p) for p in places])
        for p, value in zip(places, d, strict=True):
            b.store(out, p, value)
    return b.finish()


BYTES = ("s8_s8", "s8_u8", "u8_s8", "u8_u8")


@pytest.mark.parametrize("kinds", BYTES)
def test_products_of_bytes(kinds: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(7)
    first = rng.integers(-128, 128, (16, 32)).astype(np.int8)
    second, start = rng.integers(-128, 128, (8, 32)).astype(np.int8), np.arange(128, dtype=np.int32)
    arrays = [first.reshape(-1).view(np.uint32), second.reshape(-1).view(np.uint32), start]
    *_, got = everywhere(small_integers(kinds), arrays, tmp_path)
    left, right = (
        x if kind == "s8" else x.view(np.uint8)
        for x, kind in zip((first, second), kinds.split("_"), strict=True)
    )
    expected = np.int64(left) @ np.int64(right).T + start.reshape(16, 8)
    assert got.reshape(16, 8).tolist() == expected.tolist()


def short_floats() -> LoopFn:
    b = LoopBuilder("short")
    x, w = b.param("x", u32, 128), b.param("w", u32, 64)  # the bits of f32
    out = b.param("out", f32, 128, Access.WRITE)
    with b.units(1, 32):
        row, quad = b.split(b.thread, {"row": 8, "quad": 4})
        a = [b.load(x, (row + i % 2 * 8) * 8 + i // 2 * 4 + quad) for i in range(4)]
        v = [b.load(w, row * 8 + i * 4 + quad) for i in range(2)]
        a, v = ([b.warp("round_tf32", f)[0] for f in fragments] for fragments in (a, v))
        d = b.warp("mma_tf32", *a, *v, *[const(0, f32)] * 4)
        for i, value in enumerate(d):
            b.store(out, (row + i // 2 * 8) * 8 + quad * 2 + i % 2, value)
    return b.finish()


def test_products_of_short_floats(tmp_path: Path) -> None:
    a, v = normal(16, 8), normal(8, 8)
    arrays = [a.reshape(-1).view(np.uint32), v.reshape(-1).view(np.uint32), np.zeros(128, np.float32)]
    *_, got = everywhere(short_floats(), arrays, tmp_path)
    np.testing.assert_allclose(got.reshape(16, 8), a @ v.T, rtol=4e-3, atol=4e-3)
    assert not np.allclose(got.reshape(16, 8), a @ v.T, rtol=1e-6, atol=1e-6)  # it is no f32


def roundings() -> LoopFn:
    b = LoopBuilder("roundings")
    x, out = b.param("x", u32, 32), b.param("out", u32, 32, Access.WRITE)
    with b.units(1, 32):
        b.store(out, b.thread, b.warp("round_tf32", b.load(x, b.thread))[0])
    return b.finish()


def test_rounding_to_tf32(tmp_path: Path) -> None:
    one, ulp = np.float32(1), np.float32(2.0**-10)
    ties = [one + ulp / 2, -(one + ulp / 2), one + ulp / 4, one + 3 * ulp / 4, 2 - ulp / 4, 3.402e38, 1e-40]
    x = np.array([*ties, np.inf, -np.inf, 0.0, -0.0, *normal(21)], np.float32)
    bits = np.append(x[:-1].view(np.uint32), np.uint32(0x7FFFFFFF))  # the NaN that GPUs make
    _, got = everywhere(roundings(), [bits, np.zeros(32, np.uint32)], tmp_path)
    near = got.view(np.float32)
    assert near[:5].tolist() == [1 + ulp, -(1 + ulp), 1, 1 + ulp, 2]
    assert near[5] == np.inf and near[7:11].tolist() == [np.inf, -np.inf, 0, 0] and np.isnan(near[31])
    assert not np.any(got[:31] & np.uint32(0x1FFF))
    assert np.all(np.abs(near[11:31] - x[11:31]) <= np.abs(x[11:31]) * 2.0**-11)


def rows_of_bytes(dtype: str) -> LoopFn:
    """Four blocks of eight rows of 16 bytes, as each thread gets them."""
    b = LoopBuilder("rows")
    width = 16 // DTYPES[dtype].bytes
    x, out = b.param("x", DTYPES[dtype], 32 * width), b.param("out", u32, 128, Access.WRITE)
    panel = b.share("panel", DTYPES[dtype], 32 * width)
    with b.units(1, 32):
        b.copy(panel, b.thread * width, x, b.thread * width, width)
        b.close_copies()
        b.await_copies(0)
        b.barrier()
        for n, fragment in enumerate(b.load_matrix(panel, b.thread * width)):
            b.store(out, n * 32 + b.thread, fragment)
    return b.finish()


@pytest.mark.parametrize("dtype", ["i8", "u8", "f32"])
def test_rows_of_matrices(dtype: str, tmp_path: Path) -> None:
    x = np.random.default_rng(3).integers(0, 256, 512).astype(np.uint8)
    if dtype == "f32":
        x = normal(128).view(np.uint8)
    _, got = everywhere(
        rows_of_bytes(dtype), [x.view(DTYPES[dtype].numpy), np.zeros(128, np.uint32)], tmp_path
    )
    assert got.tolist() == x.view(np.uint32).tolist()


def packing(dtype: str) -> LoopFn:
    b = LoopBuilder("packing")
    x, out = b.param("x", f32, 64), b.param("out", u32, 32, Access.WRITE)
    with b.units(1, 32):
        (w,) = b.warp(f"pack_{dtype}", b.load(x, b.thread * 2), b.load(x, b.thread * 2 + 1))
        b.store(out, b.thread, w)
    return b.finish()


@pytest.mark.parametrize("dtype", ["bf16", "f16"])
def test_packing(dtype: str, tmp_path: Path) -> None:
    numpy = ml_dtypes.bfloat16 if dtype == "bf16" else np.float16
    x = normal(64) * np.float32(10) ** np.arange(-8, 8, 0.25, dtype=np.float32)
    x[:6] = 0, -0.0, np.inf, -np.inf, 1e30, 65519
    _, got = everywhere(packing(dtype), [x, np.zeros(32, np.uint32)], tmp_path)
    with np.errstate(over="ignore"):
        expected = x.astype(numpy).view(np.uint16)
    assert got.view(np.uint16).tolist() == expected.tolist()


def elementary() -> LoopFn:
    """What threads do alone: powers of two, the larger of neighbours, halves and back."""
    b = LoopBuilder("elementary")
    x, out = b.param("x", f32, 64), b.param("out", f32, 4 * 64, Access.WRITE)
    with b.units(1, 32):
        pair = [b.load(x, b.thread * 2), b.load(x, b.thread * 2 + 1)]
        (larger,) = b.warp("larger_f32", *pair)
        halves = [b.warp(f"unpack_{t}", *b.warp(f"pack_{t}", *pair)) for t in ("bf16", "f16")]
        results = [[b.warp("exp2_f32", v)[0] for v in pair], [larger, larger], *halves]
        for row, (left, right) in enumerate(results):
            b.store(out, row * 64 + b.thread * 2, left)
            b.store(out, row * 64 + b.thread * 2 + 1, right)
    return b.finish()


def test_what_threads_do_alone(tmp_path: Path) -> None:
    x = normal(64) * np.float32(30)
    x[:8] = 0, np.nan, np.inf, -np.inf, -126, -126.5, 128, 1e4
    _, got = everywhere(elementary(), [x, np.zeros(256, np.float32)], tmp_path)
    power, larger, short, shorter = got.reshape(4, 64)
    assert np.isnan(power[1]) and power[[0, 2, 3, 5, 6, 7]].tolist() == [1, np.inf, 0, 0, np.inf, np.inf]
    np.testing.assert_allclose(power[8:], np.exp2(x[8:]), rtol=3e-7, atol=2.0**-126)
    assert larger[0] == 0 and larger[::2].tolist() == np.fmax(x[::2], x[1::2]).tolist()
    np.testing.assert_array_equal(short, x.astype(ml_dtypes.bfloat16).astype(np.float32))
    np.testing.assert_array_equal(shorter, x.astype(np.float16).astype(np.float32))


def vectors() -> LoopFn:
    """Loads and stores of four lanes, with and without masks, shuffled and reduced."""
    b = LoopBuilder("vectors")
    half = DTYPES["bf16"]
    x, h = b.param("x", f32, 40), b.param("h", half, 40)
    out, low = b.param("out", f32, 80, Access.WRITE), b.param("low", half, 40, Access.WRITE)
    with b.units(10) as unit:
        v, w = b.load(x, unit * 4, 4), b.load(h, unit * 4, 4)
        total = b.reg("total", VecType(f32, 4), 0)
        with b.loop("i", 0, 3):
            b.set(total, total.read() + v * w)
        b.store(out, unit * 4, total.read())
        b.store(out, unit * 4 + 40, b.let(v - reduce_lanes("max", v)))
        b.store(low, unit * 4, v + w)
    return b.finish()


def test_vectors(tmp_path: Path) -> None:
    x, h = normal(40), normal(40, 1)[:, 0].astype(ml_dtypes.bfloat16)
    arrays = [x, h, np.zeros(80, np.float32), np.zeros(40, ml_dtypes.bfloat16)]
    _, _, out, low = everywhere(vectors(), arrays, tmp_path)
    np.testing.assert_allclose(out[:40], 3 * x * np.float32(h), rtol=1e-5)
    np.testing.assert_allclose(out[40:], x - x.reshape(10, 4).max(1).repeat(4), rtol=1e-5)
    assert low.tolist() == (x + np.float32(h)).astype(ml_dtypes.bfloat16).tolist()


def test_the_text_of_vectors(golden: Any) -> None:
    golden.check("vectors.cu", print_unit([vectors()], target(EMULATED)))


def late_copy(awaited: bool) -> LoopFn:
    b = LoopBuilder("late")
    x, out = b.param("x", f32, 64), b.param("out", f32, 64, Access.WRITE)
    panel = b.share("panel", f32, 128)
    with b.units(1, 32):
        b.copy(panel, b.thread * 4, x, b.thread * 4, 4, Condition(b.thread, "<", 16).expr())
        b.close_copies()
        b.await_copies(0 if awaited else 1)
        b.barrier()
        for i in (0, 32):
            b.store(out, b.thread + i, b.load(panel, (b.thread + i) * 2))
    return b.finish()


def test_copies_arrive_when_awaited(tmp_path: Path) -> None:
    x = normal(64)
    _, got = everywhere(late_copy(True), [x, np.ones(64, np.float32)], tmp_path)
    assert got.tolist() == [*x[::2], *[0.0] * 32]
    interpreted = np.ones(64, np.float32)
    run_kernel(late_copy(False), [x, interpreted])
    assert np.isnan(interpreted).all()  # what was there before
    done = outcome(late_copy(False), tmp_path)
    assert "reads panel[62], to which a copy is on its way" in done.stderr


def test_warps_meet_whole() -> None:
    for threads, guard in ((16, 16), (32, 16)):
        b = LoopBuilder("apart")
        x, out = b.param("x", f32, 32), b.param("out", f32, 32, Access.WRITE)
        with b.units(1, threads), b.when(Condition(b.thread, "<", guard)):
            (y,) = b.warp("exchange_f32", b.load(x, b.thread), parameter=1)
            b.store(out, b.thread, y)
        with pytest.raises(LoopInvariantError, match="L14"):
            verify_loops(b.finish())


def test_barriers_in_loops_of_a_threads_own() -> None:
    b = LoopBuilder("own")
    out = b.param("out", f32, 64, Access.WRITE)
    with b.units(1, 32):
        half = b.split(b.thread, {"half": 2, "rest": 16})[0]
        with b.loop("i", half, 2):
            b.barrier()
        b.store(out, b.thread, 1.0)
    with pytest.raises(LoopInvariantError, match="L14"):
        verify_loops(b.finish())


def test_c_has_no_warps() -> None:
    with pytest.raises(NoSpelling):
        print_unit([late_copy(True)], target("c:avx2"))


def every_kernel() -> list[LoopFn]:
    """One for each operation, for whoever compiles them for devices."""
    return [
        *map(exchanges, ("f32", "f64", "i32", "u32", "i64", "u64")),
        *(halves(dtype, turned) for dtype in ("bf16", "f16") for turned in (False, True)),
        *map(small_integers, BYTES),
        *map(rows_of_bytes, ("i8", "u8", "f32")),
        *map(packing, ("bf16", "f16")),
        short_floats(),
        roundings(),
        elementary(),
        vectors(),
        late_copy(True),
    ]
