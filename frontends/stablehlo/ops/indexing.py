"""Access by index: gathers, scatters and windows at positions that data decide.

A gather clamps its positions and never fails; a scatter leaves updates out that reach outside.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from aino_ir.dtypes import boolean, i64, u8
from aino_ir.frontends.stablehlo.context import OpContext, Row
from aino_ir.frontends.stablehlo.ops.reductions import combiner_of
from aino_ir.graph import Value

REDUCTION = {"second": "none", "add": "add", "mul": "mul", "min": "min", "max": "max"}
ON_TRUTH = {
    "second": "none",
    "add": "max",
    "or": "max",
    "max": "max",
    "mul": "min",
    "and": "min",
    "min": "min",
}
"""Of truth values as 0 and 1."""


def _numbers(c: OpContext, attribute: str, kind: str) -> Any:
    from jaxlib.mlir.dialects import stablehlo

    return getattr(stablehlo, kind)(c.attribute(attribute))


def gather(c: OpContext, x: Value, indices: Value) -> Value:
    """Windows of x at positions; windows of whole axes, or of one element, are gathered as they lie.

    Windows of other sizes are gathered element by element.
    """
    numbers = _numbers(c, "dimension_numbers", "GatherDimensionNumbers")
    sizes, batches = c.integers("slice_sizes"), list(numbers.operand_batching_dims)
    axes = [*numbers.start_index_map, *batches]
    collapsed = [*numbers.collapsed_slice_dims, *batches]
    positions = _vectors(c, indices, numbers.index_vector_dim, list(numbers.start_indices_batching_dims))
    places = _clamped(c, positions, [int(x.shape[a]) - sizes[a] for a in axes])
    whole = all(sizes[a] == x.shape[a] for a in range(x.rank) if a not in axes)
    if whole and all(sizes[a] == 1 for a in axes):
        found = _rows(c, x, places, axes)
    else:
        found = _windows(c, x, places, axes, sizes)
    lead = places.rank - 1
    present = [a for a in range(x.rank) if a not in collapsed]
    found = c.reshape(found, (*found.shape[:lead], *(sizes[a] for a in present)))
    return _with_offsets(c, found, lead, list(numbers.offset_dims))


def _vectors(c: OpContext, indices: Value, axis: int, batches: list[int]) -> Value:
    """Positions with their coordinates along the last axis, as i64.

    Along each axis of `batches` a position is itself a coordinate, behind the others.
    """
    if axis == indices.rank:
        indices = c.reshape(indices, (*indices.shape, 1))
    elif axis != indices.rank - 1:
        order = [a for a in range(indices.rank) if a != axis]
        indices = c.emit("transpose", indices, perm=[*order, axis])
    indices = c.cast(indices, i64)
    lead = indices.shape[:-1]
    columns = [indices]
    for batch in batches:
        number = batch if batch < axis else batch - 1
        line = c.emit("range", size=lead[number], dtype=i64)
        shaped = c.reshape(line, [*(d if a == number else 1 for a, d in enumerate(lead)), 1])
        columns.append(c.emit("expand", shaped, shape=(*lead, 1)))
    return indices if len(columns) == 1 else c.emit("concat", *columns, axis=len(lead))


def _clamped(c: OpContext, positions: Value, most: Sequence[int]) -> Value:
    high = c.b.constant(np.asarray(most, np.int64))
    low = c.scalar(0, i64)
    return c.emit("math.min", c.emit("math.max", positions, low), high)


def _rows(c: OpContext, x: Value, places: Value, axes: list[int]) -> Value:
    rest = [a for a in range(x.rank) if a not in axes]
    order = [*axes, *rest]
    moved = x if order == list(range(x.rank)) else c.emit("transpose", x, perm=order)
    return c.emit("gather_nd", moved, places)


def _windows(c: OpContext, x: Value, places: Value, axes: list[int], sizes: list[int]) -> Value:
    """Every element of every window by its coordinates."""
    lead = tuple(int(d) for d in places.shape[:-1])
    full = (*lead, *sizes)
    columns = []
    for axis in range(x.rank):
        shape = [1] * len(full)
        shape[len(lead) + axis] = sizes[axis]
        at = c.reshape(c.emit("range", size=sizes[axis], dtype=i64), shape)
        if axis in axes:
            start = c.cut(places, places.rank - 1, axes.index(axis), 1)
            at = c.emit("add", at, c.reshape(start, (*lead, *[1] * x.rank)))
        spread = at if at.shape == full else c.emit("expand", at, shape=full)
        columns.append(c.reshape(spread, (*full, 1)))
    coordinates = columns[0] if len(columns) == 1 else c.emit("concat", *columns, axis=len(full))
    return c.emit("gather_nd", x, coordinates)


def _with_offsets(c: OpContext, found: Value, lead: int, offsets: list[int]) -> Value:
    """[positions..., window...] with the window's axes where the result has them."""
    positions = iter(range(lead))
    window = iter(range(lead, found.rank))
    order = [next(window) if a in offsets else next(positions) for a in range(found.rank)]
    return found if order == list(range(found.rank)) else c.emit("transpose", found, perm=order)


def dynamic_slice(c: OpContext, x: Value, *starts: Value) -> Value:
    """A window of x; starts are clamped so that it lies inside."""
    sizes = c.integers("slice_sizes")
    for axis, (start, size) in enumerate(zip(starts, sizes, strict=True)):
        extent = int(x.shape[axis])
        if size == extent:
            continue
        first = _clamped(c, c.reshape(c.cast(start, i64), (1,)), [extent - size])
        steps = c.emit("range", size=size, dtype=i64)
        x = c.emit("gather", x, c.emit("add", steps, first), axis=axis)
    return x


def dynamic_update_slice(c: OpContext, x: Value, update: Value, *starts: Value) -> Value:
    """x with a window replaced; starts are clamped so that it lies inside."""
    if update.shape == x.shape:
        return update
    if 0 in update.shape:
        return x
    firsts = [c.reshape(c.cast(s, i64), (1,)) for s in starts]
    joined = firsts[0] if len(firsts) == 1 else c.emit("concat", *firsts, axis=0)
    most = [int(d) - int(u) for d, u in zip(x.shape, update.shape, strict=True)]
    first = _clamped(c, joined, most)
    partial = [a for a in range(x.rank) if x.shape[a] != update.shape[a]]
    count = max(partial) + 1  # axes behind the last partial one are whole: rows of the scatter
    shape = tuple(int(d) for d in update.shape[:count])
    grid = np.stack(np.meshgrid(*[np.arange(d) for d in shape], indexing="ij"), -1).astype(np.int64)
    places = c.emit("add", c.b.constant(grid), c.cut(first, 0, 0, count))
    return c.emit("scatter_nd", x, places, update, reduction="none")


def scatter(c: OpContext, *operands: Value) -> Value:
    """Updates of whole rows, combined with what stands there."""
    if len(operands) != 3:
        c.unsupported("several operands")
    x, indices, updates = operands
    if x.dtype.is_bool:
        return c.cast(_scatter(c, c.cast(x, u8), indices, c.cast(updates, u8), ON_TRUTH), boolean)
    return _scatter(c, x, indices, updates, REDUCTION)


def _scatter(c: OpContext, x: Value, indices: Value, updates: Value, table: dict[str, str]) -> Value:
    reduction = table.get(combiner_of(c.op.regions[0]) or "")
    if reduction is None:
        c.unsupported("a region that is no assignment, sum, product or extreme")
    numbers = _numbers(c, "scatter_dimension_numbers", "ScatterDimensionNumbers")
    batches = list(numbers.input_batching_dims)
    axes = [*numbers.scattered_dims_to_operand_dims, *batches]
    inserted, windows = [*numbers.inserted_window_dims, *batches], list(numbers.update_window_dims)
    present = [a for a in range(x.rank) if a not in inserted]
    sizes = dict.fromkeys(range(x.rank), 1)
    for axis, dim in zip(present, windows, strict=True):
        sizes[axis] = int(updates.shape[dim])
    positions = _vectors(c, indices, numbers.index_vector_dim, list(numbers.scatter_indices_batching_dims))
    lead = [d for d in range(updates.rank) if d not in windows]
    order = [*lead, *windows]
    moved = updates if order == list(range(updates.rank)) else c.emit("transpose", updates, perm=order)
    return _scattered(c, x, positions, moved, axes, sizes, reduction)


def _scattered(
    c: OpContext,
    x: Value,
    positions: Value,
    updates: Value,
    axes: list[int],
    sizes: dict[int, int],
    reduction: str,
) -> Value:
    """Updates [positions..., window] at positions.

    Those outside go to a row behind the last, which is cut off; windows that are partial along an axis
    become more positions.
    """
    partial = [a for a in range(x.rank) if a in axes or sizes[a] != x.shape[a]]
    whole = [a for a in range(x.rank) if a not in partial]
    extents = [int(x.shape[a]) for a in partial]
    lead = [int(d) for d in positions.shape[:-1]]
    window = [sizes[a] for a in partial]
    full = (*lead, *window)
    row: Value | None = None
    inside: Value | None = None
    for number, axis in enumerate(partial):
        shape = [1] * len(full)
        shape[len(lead) + number] = window[number]
        at = c.reshape(c.emit("range", size=window[number], dtype=i64), shape)
        if axis in axes:
            start = c.reshape(
                c.cut(positions, positions.rank - 1, axes.index(axis), 1), (*lead, *[1] * len(window))
            )
            at = c.emit("add", at, start)
            last = c.emit("add", start, c.scalar(window[number] - 1, i64))
            fits = c.emit(
                "logical_and",
                c.emit("ge", start, c.scalar(0, i64)),
                c.emit("lt", last, c.scalar(extents[number], i64)),
            )
            inside = fits if inside is None else c.emit("logical_and", inside, fits)
        step = c.emit("mul", at, c.scalar(math.prod(extents[number + 1 :]), i64))
        row = step if row is None else c.emit("add", row, step)
    rows = math.prod(extents)
    assert row is not None and inside is not None
    place = c.emit("select", inside, row, c.scalar(rows, i64))
    place = place if place.shape == full else c.emit("expand", place, shape=full)
    order = [*partial, *whole]
    moved = x if order == list(range(x.rank)) else c.emit("transpose", x, perm=order)
    tail = [int(x.shape[a]) for a in whole]
    flat = c.reshape(moved, (rows, *tail))
    longer = c.emit("pad", flat, before=[0] * flat.rank, after=[1, *[0] * len(tail)])
    present = c.reshape(updates, (*lead, *(sizes[a] for a in range(x.rank))))
    inner = [len(lead) + a for a in order]
    arranged = c.emit("transpose", present, perm=[*range(len(lead)), *inner])
    count = math.prod(full)
    written = c.emit(
        "scatter_nd",
        longer,
        c.reshape(place, (count, 1)),
        c.reshape(arranged, (count, *tail)),
        reduction=reduction,
    )
    out = c.reshape(c.cut(written, 0, 0, rows), (*extents, *tail))
    back = [order.index(a) for a in range(x.rank)]
    return out if back == list(range(x.rank)) else c.emit("transpose", out, perm=back)


ROWS: dict[str, Row] = {
    "stablehlo.dynamic_slice": dynamic_slice,
    "stablehlo.dynamic_update_slice": dynamic_update_slice,
    "stablehlo.gather": gather,
    "stablehlo.scatter": scatter,
}
