"""Kernels written by hand with the builder, as a generator would write them."""

from __future__ import annotations

from aino_ir.dims import DimLike, ceildiv, dmin, floordiv
from aino_ir.dtypes import DType, boolean, f32, i64
from aino_ir.loops.builder import Condition, LoopBuilder
from aino_ir.loops.expr import (
    PrefixMask,
    VecType,
    binary,
    call,
    cast,
    compare,
    const,
    fma,
    maximum,
    reduce_lanes,
    select,
)
from aino_ir.loops.stmt import Access, LoopFn, Status

LANES = 8


def prefix(count: DimLike, lanes: int = LANES) -> PrefixMask:
    """The mask of the first `count` lanes."""
    return PrefixMask(count, VecType(boolean, lanes))


def gemm(m: DimLike, n: int, k: int, rows: int = 4, vectors: int = 2) -> LoopFn:
    """c[m, n] = relu(a[m, k] @ b) with b packed in panels [n / width][k][width], and a tile of registers.

    `n` must be a multiple of the panel's width; a symbolic or odd `m` gets a tail of single rows.
    """
    width = vectors * LANES
    b = LoopBuilder("gemm")
    if not isinstance(m, int):
        b.symbol("m", 1, 64)
    a = b.param("a", f32, m * k)
    w = b.param("b", f32, k * n)
    c = b.param("c", f32, m * n, Access.WRITE)

    def tile(row: DimLike, count: int, panel: DimLike) -> None:
        acc = b.reg_tile("acc", (count, vectors), VecType(f32, LANES), 0.0)
        with b.loop("k", 0, k) as kk:
            columns = [b.load(w, (panel * k + kk) * width + j * LANES, LANES) for j in range(vectors)]
            for i in range(count):
                x = b.load(a, (row + i) * k + kk, LANES, stride=0)
                for j in range(vectors):
                    b.set(acc[i, j], fma(x, columns[j], acc[i, j].read()))
        for i in range(count):
            for j in range(vectors):
                at = (row + i) * n + panel * width + j * LANES
                b.store(c, at, maximum(acc[i, j].read(), 0.0))

    with b.units(ceildiv(m, rows)) as unit, b.loop("panel", 0, n // width) as panel:
        with b.when(Condition(unit * rows + rows, "<=", m)):
            tile(unit * rows, rows, panel)
        with b.otherwise(), b.loop("row", unit * rows, m) as row:
            tile(row, 1, panel)
    return b.finish(header=["matmul, relu"])


def softmax(rows: int, columns: int) -> LoopFn:
    """Softmax over the last axis, one row a unit, with a masked tail and a scratch row."""
    b = LoopBuilder("softmax")
    x = b.param("x", f32, rows * columns)
    y = b.param("y", f32, rows * columns, Access.WRITE)
    row = b.alloc("row", f32, ceildiv(columns, LANES) * LANES)
    vector = VecType(f32, LANES)
    with b.units(rows) as unit:
        largest = b.reg("largest", vector, float("-inf"))
        with b.loop("i", 0, columns, step=LANES) as i:
            lowest = const(float("-inf"), f32, LANES)
            value = b.load(x, unit * columns + i, LANES, mask=prefix(columns - i), other=lowest)
            b.set(largest, maximum(largest.read(), value))
        top = b.let(reduce_lanes("max", largest.read()))
        total = b.reg("total", vector, 0.0)
        with b.loop("i", 0, columns, step=LANES) as i:
            mask = prefix(columns - i)
            value = b.load(x, unit * columns + i, LANES, mask=mask)
            e = b.let(select(mask, call("exp", value - top), 0.0))
            b.store(row, i, e)
            b.set(total, total.read() + e)
        scale = b.let(const(1.0, f32) / reduce_lanes("add", total.read()))
        with b.loop("i", 0, columns, step=LANES) as i:
            value = b.load(row, i, LANES) * scale
            b.store(y, unit * columns + i, value, mask=prefix(columns - i))
    return b.finish()


def tail_copy(dtype: DType) -> LoopFn:
    """y = x for a symbolic length, eight elements a unit, the last unit under a mask."""
    b = LoopBuilder("copy")
    n = b.symbol("n", 1, 1000)
    x = b.param("x", dtype, n)
    y = b.param("y", dtype, n, Access.WRITE)
    with b.units(ceildiv(n, LANES)) as unit:
        mask = prefix(n - unit * LANES)
        b.store(y, unit * LANES, b.load(x, unit * LANES, LANES, mask=mask), mask=mask)
    return b.finish()


def gather_rows(table_rows: int, columns: int, count: int) -> LoopFn:
    """y[i, :] = table[index[i], :]; an index outside the table is a failure."""
    b = LoopBuilder("gather")
    table = b.param("table", f32, table_rows * columns)
    index = b.param("index", i64, count)
    y = b.param("y", f32, count * columns, Access.WRITE)
    with b.units(count) as unit:
        wanted = b.load(index, unit)
        negative = compare("lt", wanted, 0)
        place = b.let(select(negative, wanted + table_rows, wanted))
        with b.when(compare("lt", place, 0) | compare("ge", place, table_rows)):
            b.fail(Status.INDEX_OUT_OF_RANGE, wanted)
        row = b.index(place, 0, table_rows - 1, "row")
        with b.loop("j", 0, columns, step=LANES) as j:
            mask = prefix(columns - j)
            b.store(y, unit * columns + j, b.load(table, row * columns + j, LANES, mask=mask), mask=mask)
    return b.finish()


def vector_gather(size: int, count: int) -> LoopFn:
    """y[i] = x[index[i]] by lanes, indices clamped to the array."""
    b = LoopBuilder("vgather")
    x = b.param("x", f32, size)
    index = b.param("index", i64, count)
    y = b.param("y", f32, count, Access.WRITE)
    with b.units(ceildiv(count, LANES)) as unit:
        mask = prefix(count - unit * LANES)
        at = b.load(index, unit * LANES, LANES, mask=mask)
        at = binary("min", binary("max", at, 0), size - 1)
        b.store(y, unit * LANES, b.load(x, 0, LANES, gather=at, mask=mask), mask=mask)
    return b.finish()


def row_blocks(n: int, block: int) -> LoopFn:
    """y[i] = f32(i64 block sum): a reduction in blocks whose last one is shorter (min in the bound)."""
    b = LoopBuilder("blocks")
    x = b.param("x", i64, n)
    y = b.param("y", f32, ceildiv(n, block), Access.WRITE)
    with b.units(ceildiv(n, block)) as unit:
        total = b.reg("total", VecType(i64), 0)
        with b.loop("i", unit * block, dmin(unit * block + block, n)) as i:
            b.set(total, total.read() + b.load(x, i))
        b.store(y, unit, cast(total.read(), f32))
    return b.finish()


def last_of(m: DimLike, block: int) -> DimLike:
    """The start of the last block of `m` elements."""
    return floordiv(m - 1, block) * block


def conv(size: int, channels: int, rows: int, lanes: int) -> LoopFn:
    """3x3 convolution of [size, size, channels] with padding 1 and packed weights, `rows` pixels a tile."""
    b = LoopBuilder("conv")
    x = b.param("x", f32, size * size * channels)
    w = b.param("w", f32, 9 * channels * channels)
    y = b.param("y", f32, size * size * channels, Access.WRITE)
    blocks, vectors = ceildiv(size, rows), channels // lanes
    with b.units(size * blocks * vectors) as unit:
        h, tile, n = b.split(unit, {"h": size, "tile": blocks, "n": vectors})
        acc = b.reg_tile("acc", (rows,), VecType(f32, lanes), 0.0)
        with b.loop("kh", 0, 3) as kh:
            line = h + kh - 1
            with b.when(Condition(line, ">=", 0)), b.when(Condition(line, "<", size)):
                with b.loop("c", 0, channels) as c:
                    for kw in range(3):
                        weights = b.load(w, ((kh * 3 + kw) * channels + c) * channels + n * lanes, lanes)
                        for i in range(rows):
                            column = tile * rows + i + kw - 1
                            with b.when(Condition(column, ">=", 0)), b.when(Condition(column, "<", size)):
                                pixel = b.load(x, (line * size + column) * channels + c, lanes, stride=0)
                                b.set(acc[i], fma(pixel, weights, acc[i].read()))
        for i in range(rows):
            column = tile * rows + i
            with b.when(Condition(column, "<", size)):
                b.store(y, (h * size + column) * channels + n * lanes, acc[i].read())
    return b.finish()
