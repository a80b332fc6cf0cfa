"""Access by index: gathers, and windows at positions that data decide; positions are clamped, none fails."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from aino_ir.dims import DimLike, is_static
from aino_ir.dtypes import i64
from aino_ir.frontends.stablehlo.context import OpContext, Row
from aino_ir.graph import Value


def numbers_of(c: OpContext, attribute: str, kind: str) -> Any:
    """An attribute of dimension numbers, by the name of its class in `jaxlib.mlir.dialects.stablehlo`."""
    from jaxlib.mlir.dialects import stablehlo

    return getattr(stablehlo, kind)(c.attribute(attribute))


def gather(c: OpContext, x: Value, indices: Value) -> Value:
    """Windows of x at positions; windows of whole axes, or of one element, are gathered as they lie.

    Windows of other sizes are gathered element by element.
    """
    return _gathered(c, x, indices, c.integers("slice_sizes"))


def dynamic_gather(c: OpContext, x: Value, indices: Value, sizes: Value) -> Value:
    """The same with windows as large as extents say."""
    return _gathered(c, x, indices, c.dims(sizes))


def _gathered(c: OpContext, x: Value, indices: Value, sizes: Sequence[DimLike]) -> Value:
    numbers = numbers_of(c, "dimension_numbers", "GatherDimensionNumbers")
    batches = list(numbers.operand_batching_dims)
    axes = [*numbers.start_index_map, *batches]
    collapsed = [*numbers.collapsed_slice_dims, *batches]
    positions = vectors(c, indices, numbers.index_vector_dim, list(numbers.start_indices_batching_dims))
    places = _clamped(c, positions, [x.shape[a] - sizes[a] for a in axes])
    whole = all(sizes[a] == x.shape[a] for a in range(x.rank) if a not in axes)
    if whole and all(sizes[a] == 1 for a in axes):
        found = _rows(c, x, places, axes)
    else:
        found = _windows(c, x, places, axes, sizes)
    lead = places.rank - 1
    present = [a for a in range(x.rank) if a not in collapsed]
    found = c.reshape(found, (*found.shape[:lead], *(sizes[a] for a in present)))
    return _with_offsets(c, found, lead, list(numbers.offset_dims))


def vectors(c: OpContext, indices: Value, axis: int, batches: list[int]) -> Value:
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


def _clamped(c: OpContext, positions: Value, most: Sequence[DimLike]) -> Value:
    high = c.vector(most)
    low = c.scalar(0, i64)
    return c.emit("math.min", c.emit("math.max", positions, low), high)


def _rows(c: OpContext, x: Value, places: Value, axes: list[int]) -> Value:
    rest = [a for a in range(x.rank) if a not in axes]
    order = [*axes, *rest]
    return c.emit("gather_nd", c.permuted(x, order), places)


def _windows(c: OpContext, x: Value, places: Value, axes: list[int], sizes: Sequence[DimLike]) -> Value:
    """Every element of every window by its coordinates."""
    lead = places.shape[:-1]
    full = (*lead, *sizes)
    columns = []
    for axis in range(x.rank):
        shape: list[DimLike] = [1] * len(full)
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
    return c.permuted(found, order)


def dynamic_slice(c: OpContext, x: Value, *starts: Value) -> Value:
    """A window of x; starts are clamped so that it lies inside."""
    sizes = c.integers("slice_sizes")
    for axis, (start, size) in enumerate(zip(starts, sizes, strict=True)):
        extent = x.shape[axis]
        if is_static(extent) and size == extent:
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
    most = [d - u for d, u in zip(x.shape, update.shape, strict=True)]
    first = _clamped(c, joined, most)
    partial = [a for a in range(x.rank) if x.shape[a] != update.shape[a]]
    count = max(partial) + 1  # axes behind the last partial one are whole: rows of the scatter
    shape = tuple(c.extent(update, a) for a in range(count))
    grid = np.stack(np.meshgrid(*[np.arange(d) for d in shape], indexing="ij"), -1).astype(np.int64)
    places = c.emit("add", c.b.constant(grid), c.cut(first, 0, 0, count))
    return c.emit("scatter_nd", x, places, update, reduction="none")


ROWS: dict[str, Row] = {
    "stablehlo.dynamic_gather": dynamic_gather,
    "stablehlo.dynamic_slice": dynamic_slice,
    "stablehlo.dynamic_update_slice": dynamic_update_slice,
    "stablehlo.gather": gather,
}
