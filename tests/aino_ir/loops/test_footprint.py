"""Footprints: what a range of units touches, and that it covers what a run really touches."""

from __future__ import annotations

import numpy as np
import pytest

from aino_ir.dims import symbol
from aino_ir.dtypes import f32, i64
from aino_ir.errors.loops import LoopRunError
from aino_ir.loops.builder import LoopBuilder
from aino_ir.loops.expr import const
from aino_ir.loops.footprint import boxes_overlap, footprint
from aino_ir.loops.interp import run_kernel
from aino_ir.loops.stmt import Access, LoopFn
from aino_ir.symbols import Symbols
from tests.aino_ir.loops import kernels


def test_gemm_touches_its_rows() -> None:
    fn = kernels.gemm(13, 32, 24)
    assert footprint(fn, 1, 2) == {
        ("a", False): ((96, 192),),
        ("b", False): ((0, 768),),
        ("c", True): ((128, 256),),
    }
    assert footprint(fn, 3, 4)["c", True] == ((384, 416),)
    assert footprint(fn)["c", True] == ((0, 416),)


def test_symbols_make_footprints_tighter() -> None:
    fn = kernels.gemm(symbol("m"), 32, 24)
    assert footprint(fn)["c", True] == ((0, 64 * 32),)
    assert footprint(fn, symbols={"m": 5})["c", True] == ((0, 5 * 32),)
    assert footprint(fn, 1, 2, symbols={"m": 6})["c", True] == ((128, 192),)


def test_boxes_by_shape_tell_columns_apart() -> None:
    b = LoopBuilder("columns")
    y = b.param("y", f32, 6 * 32, Access.WRITE)
    with b.units(4) as unit:
        with b.loop("row", 0, 6) as row:
            b.store(y, row * 32 + unit * 8, const(1.0, f32, 8))
    fn = b.finish()
    flat = [footprint(fn, u, u + 1)["y", True] for u in (0, 1)]
    boxes = [footprint(fn, u, u + 1, shapes={"y": (6, 32)})["y", True] for u in (0, 1)]
    assert boxes == [((0, 6), (0, 8)), ((0, 6), (8, 16))]
    assert boxes_overlap(*flat) and not boxes_overlap(*boxes)


def test_tiles_keep_their_columns() -> None:
    b = LoopBuilder("tile")
    y = b.param("y", f32, 6 * 32, Access.WRITE)
    with b.units(12) as unit:
        row, column = b.split(unit, {"row": 3, "column": 4})
        for i in range(2):
            b.store(y, (row * 2 + i) * 32 + column * 8, const(1.0, f32, 8))
    fn = b.finish()
    assert footprint(fn, 5, 6, shapes={"y": (6, 32)})["y", True] == ((2, 4), (8, 16))
    assert footprint(fn, 4, 8, shapes={"y": (6, 32)})["y", True] == ((2, 4), (0, 32))
    assert footprint(fn, 4, 8)["y", True] == ((64, 128),)


def test_masks_cut_the_last_access() -> None:
    fn = kernels.softmax(3, 13)
    assert footprint(fn, 1, 2) == {("x", False): ((13, 26),), ("y", True): ((13, 26),)}


def test_what_nothing_bounds_may_be_anywhere() -> None:
    b = LoopBuilder("anywhere")
    at, y = b.param("at", i64, 8), b.param("y", f32, 24, Access.WRITE)
    with b.units(1):
        b.store(y, 0, const(1.0, f32, 8), scatter=b.load(at, 0, 8))
    fn = b.finish()
    assert footprint(fn)["y", True] == ((0, 24),)
    assert footprint(fn, shapes={"y": (2, 3, 4)})["y", True] == ((0, 2), (0, 3), (0, 4))


def test_an_unbounded_buffer_is_refused() -> None:
    table = Symbols()
    n = table.new("n", 0, None)
    b = LoopBuilder("endless", symbols=table)
    y = b.param("y", f32, n, Access.WRITE)
    with b.units(n) as unit:
        b.store(y, unit, 1.0)
    fn = b.finish()
    with pytest.raises(LoopRunError, match="no bound"):
        footprint(fn)
    assert footprint(fn, symbols={"n": 7})["y", True] == ((0, 7),)


CASES = [
    (kernels.gemm(13, 32, 24), {}, {"c": (13, 32), "a": (13, 24)}),
    (kernels.gemm(symbol("m"), 32, 24), {"m": 11}, {"c": (11, 32), "a": (11, 24)}),
    (kernels.tail_copy(f32), {"n": 21}, {}),
    (kernels.row_blocks(13, 4), {}, {}),
    (kernels.conv(6, 8, 4, 4), {}, {"x": (6, 6, 8), "y": (6, 6, 8)}),
]


@pytest.mark.parametrize(
    ("fn", "symbols", "shapes"), CASES, ids=[fn.name.split("_")[0] for fn, _, _ in CASES]
)
def test_footprints_cover_what_a_run_writes_and_reads(
    fn: LoopFn, symbols: dict[str, int], shapes: dict[str, tuple[int, ...]]
) -> None:
    sizes = [p.size if isinstance(p.size, int) else p.size.evaluate(symbols) for p in fn.params]
    units = fn.units if isinstance(fn.units, int) else fn.units.evaluate(symbols)
    rng = np.random.default_rng(0)
    for lo in range(units):
        boxes = footprint(fn, lo, lo + 1, shapes=shapes, symbols=symbols)
        data = [rng.integers(1, 9, n).astype(p.dtype.numpy) for p, n in zip(fn.params, sizes, strict=True)]
        out = {p.name: i for i, p in enumerate(fn.params) if p.access is Access.WRITE}
        for name, place in out.items():
            data[place] = np.full(sizes[place], np.nan, np.float32)
            run_kernel(fn, data, symbols, lo, lo + 1)
            shape = shapes.get(name, (sizes[place],))
            written = np.argwhere(~np.isnan(data[place].reshape(shape)))
            assert written.size
            for coordinate in written:
                assert all(a <= c < b for c, (a, b) in zip(coordinate, boxes[name, True], strict=True))
        for place, param in enumerate(fn.params):
            if param.access is Access.READ:
                assert_unread_outside(fn, data, symbols, lo, place, boxes, shapes)


def assert_unread_outside(
    fn: LoopFn,
    data: list[np.ndarray],
    symbols: dict[str, int],
    lo: int,
    place: int,
    boxes: dict[tuple[str, bool], tuple[tuple[int, int], ...]],
    shapes: dict[str, tuple[int, ...]],
) -> None:
    """Changing what lies outside a footprint changes no result."""
    name = fn.params[place].name
    changed = [x.copy() for x in data]
    outside = np.ones(shapes.get(name, changed[place].shape), bool)
    outside[tuple(slice(a, b) for a, b in boxes[name, False])] = False
    changed[place][outside.ravel()] = 77
    run_kernel(fn, changed, symbols, lo, lo + 1)
    for before, after, param in zip(data, changed, fn.params, strict=True):
        if param.access is Access.WRITE:
            np.testing.assert_array_equal(before, after)
