"""Order statistics and running extremes: median, mode, cummax, searchsorted."""

from __future__ import annotations

from typing import Any

from aino_ir.dims import DimLike
from aino_ir.dtypes import i64
from aino_ir.frontends.torch.context import Lowering, NodeContext, Operand, Row
from aino_ir.frontends.torch.ops.indexing import ordered
from aino_ir.graph import Value
from aino_ir.types import TensorType


def _dropped(c: NodeContext, x: Value, axis: int, keepdim: bool) -> Value:
    return x if keepdim else c.reshape(x, [d for a, d in enumerate(x.shape) if a != axis])


def _flat(c: NodeContext, x: Value) -> Value:
    total: DimLike = 1
    for extent in x.shape:
        total = total * extent
    return c.reshape(x, (total,))


def median(ignores_nan: bool) -> Lowering:
    """A row for the lower median of an axis (of all elements), a NaN being the median or left out."""

    def lower(c: NodeContext, x: Value, dim: int | None = None, keepdim: bool = False) -> Value | list[Value]:
        if x.rank == 0:
            return x if dim is None else [x, c.scalar(0, i64)]
        line = _flat(c, x) if dim is None else x
        axis = 0 if dim is None else c.axis(dim, x.rank)
        found = _middle(c, line, axis, ignores_nan)
        if dim is None:
            return c.reshape(found[0], ())
        return [_dropped(c, v, axis, keepdim) for v in found]

    return lower


def _middle(c: NodeContext, x: Value, axis: int, ignores_nan: bool) -> list[Value]:
    """The lower median of an axis and where it stands, extent 1."""
    values, places = ordered(c, x, x.shape[axis], axis, False)
    if not x.dtype.is_float:
        middle = c.symbols.simplify((x.shape[axis] - 1) // 2)
        return [c.cut(v, axis, middle, 1) for v in (values, places)]
    missing = c.cast(c.emit("is_nan", x), i64)
    absent = c.emit("reduce.sum", missing, axes=(axis,), keepdims=True)
    present = c.emit("sub", c.operand(x.shape[axis], i64), absent)
    one, two = c.scalar(1, i64), c.scalar(2, i64)
    half = c.emit("floordiv", c.emit("sub", present, one), two)
    half = c.emit("max", half, c.scalar(0, i64))
    if not ignores_nan:  # NaN stands behind all numbers: the first of them is the median
        half = c.emit("select", c.emit("gt", absent, c.scalar(0, i64)), present, half)
    return [c.emit("gather_elements", v, half, axis=axis) for v in (values, places)]


def mode(c: NodeContext, x: Value, dim: int = -1, keepdim: bool = False) -> list[Value]:
    """The most frequent element of an axis (the smallest of several), and where it stands last."""
    if x.rank == 0:
        return [x, c.scalar(0, i64)]
    axis = c.axis(dim, x.rank)
    values, places = ordered(c, x, x.shape[axis], axis, False)
    rows = c.reshape(values, (*x.shape[: axis + 1], 1, *x.shape[axis + 1 :]))
    columns = c.reshape(values, (*x.shape[:axis], 1, *x.shape[axis:]))
    counts = c.emit("reduce.sum", c.cast(c.emit("eq", rows, columns), i64), axes=(axis + 1,))
    first = c.emit("reduce.argmax", counts, axis=axis, keepdims=True)
    most = c.emit("gather_elements", counts, first, axis=axis)
    last = c.emit("sub", c.emit("add", first, most), c.scalar(1, i64))
    found = [c.emit("gather_elements", v, last, axis=axis) for v in (values, places)]
    return [_dropped(c, v, axis, keepdim) for v in found]


def running_extreme(better: str) -> Lowering:
    """A row for the largest or smallest element so far and where it stands (the last of equal ones)."""

    def lower(c: NodeContext, x: Value, dim: int) -> list[Value]:
        if x.rank == 0:
            return [x, c.scalar(0, i64)]
        axis = c.axis(dim, x.rank)
        perm = [axis, *[a for a in range(x.rank) if a != axis]]
        steps = c.transposed(c.cast(x, i64) if x.dtype.is_bool else x, perm)

        def body(b: Any, best: Value, place: Value, number: Value, element: Value) -> list[Value]:
            wins = getattr(b, better)(element, best)
            if element.dtype.is_float:
                wins = b.logical_or(wins, b.is_nan(element))
                held = b.logical_and(b.is_nan(best), b.logical_not(b.is_nan(element)))
                wins = b.logical_and(wins, b.logical_not(held))
            best = b.select(wins, element, best)
            place = b.select(wins, b.expand(number, shape=place.shape), place)
            return [best, place, best, place]

        rest = steps.shape[1:]
        first = c.reshape(c.cut(steps, 0, 0, 1), rest)
        start = c.emit("expand", c.scalar(0, i64), shape=rest)
        line = c.emit("index.range", start=0, size=steps.shape[0], step=1, dtype=i64)
        types = [first.type, start.type, TensorType(i64, ()), TensorType(steps.dtype, rest)]
        region = c.b.region(types, body)
        found = c.emit_all(
            "control.scan", first, start, line, steps, states=2, sequences=2, regions=[region]
        )[2:]
        values, places = (c.transposed(v, c.inverse(perm)) for v in found)
        return [c.cast(values, x.dtype), places]

    return lower


def log_cumulative_sum(c: NodeContext, x: Value, dim: int) -> Value:
    """log of the running sum of e^x: each step adds to the larger of the two."""
    if x.rank == 0:
        return x
    axis = c.axis(dim, x.rank)
    perm = [axis, *[a for a in range(x.rank) if a != axis]]
    wide = c.transposed(c.cast(x, x.dtype.compute), perm)
    rest = wide.shape[1:]

    def body(b: Any, total: Value, element: Value) -> list[Value]:
        top, low = b.max(total, element), b.min(total, element)
        grown = b.add(top, b.log1p(b.exp(b.sub(low, top))))
        same = b.logical_and(b.eq(total, element), b.is_inf(top))
        total = b.select(same, top, grown)
        return [total, total]

    start = c.emit("expand", c.scalar(float("-inf"), wide.dtype), shape=rest)
    region = c.b.region([start.type, TensorType(wide.dtype, rest)], body)
    found = c.emit_all("control.scan", start, wide, states=1, sequences=1, regions=[region])[1]
    return c.cast(c.transposed(found, c.inverse(perm)), x.dtype)


def search_sorted(
    c: NodeContext,
    sorted_sequence: Value,
    x: Operand,
    out_int32: bool = False,
    right: bool = False,
    side: str | None = None,
    sorter: Value | None = None,
) -> Value:
    """How many elements of a sorted row lie below each value (with `right`, or are equal to it)."""
    row = sorted_sequence
    if sorter is not None:
        row = c.emit("gather_elements", row, sorter, axis=row.rank - 1)
    values = x if isinstance(x, Value) else c.operand(x, row.dtype)
    if row.rank == 1:
        wide = c.reshape(row, [*[1] * values.rank, row.shape[0]])
    else:
        wide = c.reshape(row, (*row.shape[:-1], 1, row.shape[-1]))
    columns = c.reshape(values, (*values.shape, 1))
    dtype = c.computed_in()
    below = c.emit("le" if right or side == "right" else "lt", c.cast(wide, dtype), c.cast(columns, dtype))
    return c.cast(c.emit("reduce.sum", c.cast(below, i64), axes=(below.rank - 1,)), c.dtype)


def bucketize(
    c: NodeContext, x: Operand, boundaries: Value, out_int32: bool = False, right: bool = False
) -> Value:
    """In which bucket between sorted boundaries each value falls."""
    return search_sorted(c, boundaries, x, out_int32, right)


def histogram(c: NodeContext, x: Value, bins: int = 100, min: Operand = 0, max: Operand = 0) -> Value:
    """How many elements fall in each of a number of equal buckets; those outside count nowhere."""
    dtype = x.dtype.compute
    flat = c.cast(_flat(c, x), dtype)
    low, high = (c.operand(bound, dtype) for bound in (min, max))
    if min == max:
        low, high = (c.emit(f"reduce.{op}", flat, axes=(0,)) for op in ("min", "max"))
        same, half = c.emit("eq", low, high), c.scalar(1, dtype)
        low = c.emit("select", same, c.emit("sub", low, half), low)
        high = c.emit("select", same, c.emit("add", high, half), high)
    inside = c.emit("logical_and", c.emit("ge", flat, low), c.emit("le", flat, high))
    share = c.emit("div", c.emit("sub", flat, low), c.emit("sub", high, low))
    place = c.cast(c.emit("mul", share, c.scalar(bins, dtype)), i64)
    place = c.emit("max", c.emit("min", place, c.scalar(bins - 1, i64)), c.scalar(0, i64))
    start = c.filled((bins,), 0, i64)
    places = c.reshape(place, (*place.shape, 1))
    counts = c.emit("scatter_nd", start, places, c.cast(inside, i64), reduction="add")
    return c.cast(counts, c.dtype)


TABLE: dict[str, Row] = {
    "aten.bucketize": bucketize,
    "aten.cummax": running_extreme("ge"),
    "aten.cummin": running_extreme("le"),
    "aten.histc": histogram,
    "aten.logcumsumexp": log_cumulative_sum,
    "aten.median": median(ignores_nan=False),
    "aten.mode": mode,
    "aten.nanmedian": median(ignores_nan=True),
    "aten.searchsorted": search_sorted,
}
