"""What counts elements by their values or places: distinct elements, histograms, reductions of segments."""

from __future__ import annotations

import math
from collections.abc import Sequence

from aino_ir.dims import DimLike, is_static
from aino_ir.dtypes import boolean, f64, i64, u64
from aino_ir.frontends.torch.context import NodeContext, Operand, Row
from aino_ir.frontends.torch.ops.indexing import neutral
from aino_ir.graph import Value


def flat(c: NodeContext, x: Value) -> Value:
    """All elements in row-major order."""
    return c.reshape(x, (size_of(x.shape),))


def size_of(extents: Sequence[DimLike]) -> DimLike:
    """The product of extents."""
    out: DimLike = 1
    for extent in extents:
        out = out * extent
    return out


# -- as many results as the data says -----------------------------------------------------------------


def _count(c: NodeContext, total: Value, extent: object, what: str) -> DimLike:
    """A number of results that is read off data, within the bounds that torch has for it."""
    low, high = c.graph.scope.bounds(extent)
    bound = c.emit("core.bind", c.reshape(total, ()), lower=(max(low, 0),), upper=(high,), what=what)
    known = c.b.known(bound)
    assert known is not None
    return known[0]


def repeated_numbers(c: NodeContext, repeats: Value, output_size: DimLike | None = None) -> Value:
    """0, 1, 2 ... each as often as `repeats` says: how many have begun at a place, less one."""
    wide = c.cast(repeats, i64)
    if output_size is None:
        total = c.emit("reduce.sum", wide, axes=(0,))
        output_size = _count(c, total, c.meta().shape[0], "the sum of repeats")
    starts = c.emit("sub", c.emit("scan.cumsum", wide, axis=0), wide)
    begun = c.emit(  # what is repeated no times at the end begins behind the last place
        "scatter_nd",
        c.filled((output_size + 1,), 0, i64),
        c.reshape(starts, (*wide.shape, 1)),
        c.filled(wide.shape, 1, i64),
        reduction="add",
    )
    run = c.emit("scan.cumsum", c.cut(begun, 0, 0, output_size), axis=0)
    return c.cast(c.emit("sub", run, c.scalar(1, i64)), c.dtype)


def bincount(c: NodeContext, x: Value, weights: Value | None = None, minlength: int = 0) -> Value:
    """How often each number from 0 to the largest occurs, or the weights of those places added up."""
    numbers = c.cast(x, i64)
    size = c.meta().shape[0]
    if isinstance(size, int):
        count: DimLike = size
    else:
        above = c.emit("add", c.emit("reduce.max", numbers, axes=(0,)), c.scalar(1, i64))
        count = _count(c, c.emit("max", above, c.scalar(minlength, i64)), size, "the largest number")
    ones = c.filled(x.shape, 1, c.dtype) if weights is None else c.cast(weights, c.dtype)
    places = c.reshape(numbers, (*x.shape, 1))
    return c.emit("scatter_nd", c.filled((count,), 0, c.dtype), places, ones, reduction="add")


# -- distinct elements --------------------------------------------------------------------------------


def unique(
    c: NodeContext, x: Value, sorted: bool = True, return_inverse: bool = False, return_counts: bool = False
) -> list[Value | None]:
    """The distinct elements in ascending order, which of them each element is, and how often they occur."""
    values, _, inverse, counts = c.emit_all("index.unique", flat(c, x), axis=0, sorted=True)
    places = c.reshape(inverse, x.shape) if return_inverse else None
    return _asked(c, [values, places, counts if return_counts else None])


def unique_rows(
    c: NodeContext,
    x: Value,
    dim: int,
    sorted: bool = True,
    return_inverse: bool = False,
    return_counts: bool = False,
) -> list[Value | None]:
    """The distinct slices along an axis in lexicographic order."""
    values, _, inverse, counts = c.emit_all("index.unique", x, axis=c.axis(dim, x.rank), sorted=True)
    return _asked(c, [values, inverse if return_inverse else None, counts if return_counts else None])


def _asked(c: NodeContext, results: Sequence[Value | None]) -> list[Value | None]:
    """Results that somebody reads; those that were not asked for are empty."""
    return [
        (c.filled((0,), 0, c.dtype_of(i)) if v is None else v) if c.wants(i) else None
        for i, v in enumerate(results)
    ]


def unique_consecutive(
    c: NodeContext,
    x: Value,
    return_inverse: bool = False,
    return_counts: bool = False,
    dim: int | None = None,
) -> list[Value | None]:
    """Runs of equal elements (slices of an axis) as one: values, the run of each element, lengths of runs."""
    line = flat(c, x) if dim is None else x
    axis = 0 if dim is None else c.axis(dim, x.rank)
    extent = line.shape[axis]
    if is_static(extent) and extent == 0:
        begins = c.filled((0,), True, boolean)
    else:
        before, behind = (c.cut(line, axis, at, c.symbols.simplify(extent - 1)) for at in (0, 1))
        others = tuple(a for a in range(line.rank) if a != axis)
        differs = c.emit("reduce.any", c.emit("ne", behind, before), axes=others)
        begins = c.emit("concat", c.filled((1,), True, boolean), differs, axis=0)
    values = c.emit("compress", line, begins, axis=axis)
    run = c.emit("sub", c.emit("scan.cumsum", c.cast(begins, i64), axis=0), c.scalar(1, i64))
    counts = None
    if return_counts:
        zeros = c.emit("expand", c.scalar(0, i64), shape=(values.shape[axis],))
        places = c.reshape(run, (*run.shape, 1))
        counts = c.emit("scatter_nd", zeros, places, c.filled(run.shape, 1, i64), reduction="add")
    inverse = None
    if return_inverse:
        inverse = c.reshape(run, x.shape) if dim is None else run
    return _asked(c, [values, inverse, counts])


def unique_consecutive_rows(
    c: NodeContext, x: Value, dim: int, return_inverse: bool = False, return_counts: bool = False
) -> list[Value | None]:
    """Runs of equal slices of an axis as one."""
    return unique_consecutive(c, x, return_inverse, return_counts, dim)


def nonzero_static(c: NodeContext, x: Value, size: DimLike, fill_value: int = -1) -> Value:
    """Coordinates of the first `size` elements that are not zero, one a row; rows left over hold a number."""
    if x.rank == 0:
        return c.filled((size, 0), 0, i64)
    found = c.emit("nonzero", c.truth(x))
    count = found.shape[1]
    filler = c.filled((x.rank, 1), fill_value, i64)
    known = c.emit("concat", found, filler, axis=1)
    at = c.emit("min", c.positions(size, 1, 0), c.operand(count, i64))
    return c.transposed(c.emit("gather", known, at, axis=1), (1, 0))


# -- histograms ---------------------------------------------------------------------------------------


def histogram(
    c: NodeContext,
    x: Value,
    bins: int | Value = 100,
    range: Sequence[float] | None = None,
    weight: Value | None = None,
    density: bool = False,
) -> list[Value]:
    """How many elements (or weights of elements) fall between neighbouring edges, and the edges."""
    points = c.reshape(x, (size_of(x.shape), 1))
    if isinstance(bins, Value):
        edges = [bins]
    else:
        edges = even_edges(c, points, [bins], range)
    return [counted(c, points, edges, weight, density), edges[0]]


def even_edges(
    c: NodeContext, points: Value, bins: Sequence[int], given: Sequence[float] | None
) -> list[Value]:
    """Edges of equal bins for each coordinate of points [n, d], across given ranges or those of the data."""
    out = []
    for axis, count in enumerate(bins):
        low, high = _range(c, points, axis, given)
        dtype = points.dtype.compute
        step = c.emit("div", c.emit("sub", high, low), c.scalar(count, dtype))
        line = c.cast(c.positions(count + 1, 1, 0), dtype)
        back = c.emit("sub", c.scalar(count, dtype), line)
        rising = c.emit("add", low, c.emit("mul", step, line))
        falling = c.emit("sub", high, c.emit("mul", step, back))
        first = c.emit("lt", c.positions(count + 1, 1, 0), c.scalar((count + 1) // 2, i64))
        out.append(c.cast(c.emit("select", first, rising, falling), points.dtype))
    return out


def _range(c: NodeContext, points: Value, axis: int, given: Sequence[float] | None) -> tuple[Value, Value]:
    """The outer edges of one coordinate, a half on either side of a single number."""
    dtype = points.dtype.compute
    if given is not None:
        low, high = given[2 * axis : 2 * axis + 2]
        apart = 0.5 if low == high else 0.0
        return c.scalar(low - apart, dtype), c.scalar(high + apart, dtype)
    if is_static(points.shape[0]) and points.shape[0] == 0:
        return c.scalar(0, dtype), c.scalar(1, dtype)
    line = c.cast(c.cut(points, 1, axis, 1), dtype)
    first, last = (c.emit(f"reduce.{op}", line, axes=(0, 1)) for op in ("min", "max"))
    same, half = c.emit("eq", first, last), c.scalar(0.5, dtype)
    wider = c.emit("sub", first, half), c.emit("add", last, half)
    return c.emit("select", same, wider[0], first), c.emit("select", same, wider[1], last)


def counted(
    c: NodeContext, points: Value, edges: Sequence[Value], weight: Value | None, density: bool
) -> Value:
    """Weights of points [n, d] added up in the cells of a grid; the last edges belong to it."""
    count = points.shape[0]
    place: Value | None = None
    inside: Value | None = None
    for axis, edge in enumerate(edges):
        bins = edge.shape[0] - 1
        at = c.cut(points, 1, axis, 1)
        line = c.reshape(edge, (1, edge.shape[0]))
        below = c.emit("reduce.sum", c.cast(c.emit("le", line, at), i64), axes=(1,))
        last = c.emit("eq", c.reshape(at, (count,)), c.cut(edge, 0, bins, 1))
        cell = c.emit("sub", below, c.cast(c.emit("add", c.scalar(1, i64), c.cast(last, i64)), i64))
        top = c.operand(bins - 1, i64)
        here = c.emit("logical_and", c.emit("ge", cell, c.scalar(0, i64)), c.emit("le", cell, top))
        cell = c.emit("max", c.emit("min", cell, top), c.scalar(0, i64))
        inside = here if inside is None else c.emit("logical_and", inside, here)
        place = cell if place is None else c.emit("add", c.emit("mul", place, c.operand(bins, i64)), cell)
    assert place is not None and inside is not None
    shape = [c.symbols.simplify(edge.shape[0] - 1) for edge in edges]
    dtype = points.dtype
    given = c.filled((count,), 1, dtype) if weight is None else c.reshape(weight, (count,))
    given = c.emit("select", inside, given, c.scalar(0, dtype))
    start = c.filled((size_of(shape),), 0, dtype)
    sums = c.emit("scatter_nd", start, c.reshape(place, (count, 1)), given, reduction="add")
    sums = c.reshape(sums, shape)
    return _per_volume(c, sums, edges) if density else sums


def _per_volume(c: NodeContext, sums: Value, edges: Sequence[Value]) -> Value:
    """Shares of the total, over the size of each cell."""
    total = c.emit("reduce.sum", sums, axes=tuple(range(sums.rank)))
    shares = c.emit("div", sums, total)
    for axis, edge in enumerate(edges):
        bins = c.symbols.simplify(edge.shape[0] - 1)
        width = c.emit("sub", c.cut(edge, 0, 1, bins), c.cut(edge, 0, 0, bins))
        shares = c.emit("div", shares, c.reshape(width, [bins if a == axis else 1 for a in range(sums.rank)]))
    return shares


def _points(c: NodeContext, x: Value) -> Value:
    return c.reshape(x, (size_of(x.shape[:-1]), x.shape[-1]))


def grid_edges(
    c: NodeContext,
    x: Value,
    bins: Sequence[int],
    range: Sequence[float] | None = None,
    weight: Value | None = None,
    density: bool = False,
) -> list[Value]:
    """Edges of a histogram of points."""
    return even_edges(c, _points(c, x), bins, range)


def grid_histogram(
    c: NodeContext,
    x: Value,
    bins: Sequence[int],
    range: Sequence[float] | None = None,
    weight: Value | None = None,
    density: bool = False,
) -> Value:
    """A histogram of points with equal bins."""
    points = _points(c, x)
    return counted(c, points, even_edges(c, points, bins, range), weight, density)


def grid_histogram_between(
    c: NodeContext, x: Value, bins: Sequence[Value], weight: Value | None = None, density: bool = False
) -> Value:
    """A histogram of points between given edges."""
    return counted(c, _points(c, x), bins, weight, density)


# -- hashes -------------------------------------------------------------------------------------------


def hash_tensor(
    c: NodeContext, x: Value, dim: Sequence[int] = (), keepdim: bool = False, mode: int = 0
) -> Value:
    """The exclusive or of all elements' bits: of floats as doubles, of integers as 64-bit ones.

    Each bit is the parity of how often it is set.
    """
    wide = c.emit("bitcast", c.cast(x, f64 if x.dtype.is_float else i64), to=u64)
    rank = wide.rank
    places = c.cast(c.positions(64, rank + 1, rank), u64)
    one = c.scalar(1, u64)
    bits = c.emit("bitwise_and", c.emit("shift_right", c.reshape(wide, (*wide.shape, 1)), places), one)
    axes = c.axes(dim, rank)
    count = c.emit("reduce.sum", bits, axes=axes, keepdims=keepdim) if axes else bits
    odd = c.emit("bitwise_and", count, one)
    moved = c.emit("shift_left", odd, c.reshape(places, (*[1] * (odd.rank - 1), 64)))
    return c.emit("reduce.sum", moved, axes=(odd.rank - 1,))


# -- segments -----------------------------------------------------------------------------------------

HOW = {"sum": "add", "mean": "add", "prod": "mul", "max": "max", "min": "min"}


def segment_reduce(
    c: NodeContext,
    data: Value,
    reduce: str,
    lengths: Value | None = None,
    indices: Value | None = None,
    offsets: Value | None = None,
    axis: int = 0,
    unsafe: bool = False,
    initial: Operand | None = None,
) -> Value:
    """Neighbouring elements of an axis reduced segment by segment; outer axes have segments of their own."""
    axis = c.axis(axis, data.rank)
    starts, ends = _segments(c, lengths, offsets, axis)
    extent, count = data.shape[axis], ends.shape[axis]
    lead, rest = data.shape[:axis], data.shape[axis + 1 :]
    place = c.positions(extent, axis + 2, axis)
    passed = c.emit("le", c.reshape(ends, (*lead, 1, count)), place)
    segment = c.emit("reduce.sum", c.cast(passed, i64), axes=(axis + 1,))
    begun = c.emit("ge", c.positions(extent, axis + 1, axis), c.cut(starts, axis, 0, 1))
    inside = c.emit("logical_and", begun, c.emit("lt", segment, c.operand(count, i64)))
    segment = c.emit("min", segment, c.operand(count - 1, i64))
    parts = [c.emit("expand", c.positions(d, axis + 1, a), shape=(*lead, extent)) for a, d in enumerate(lead)]
    columns = [c.reshape(v, (*lead, extent, 1)) for v in (*parts, segment)]
    places = columns[0] if len(columns) == 1 else c.emit("concat", *columns, axis=axis + 1)
    how, dtype = HOW[reduce], data.dtype
    idle = neutral(c, data, how)
    wide = c.reshape(inside, (*inside.shape, *[1] * len(rest)))
    taken = c.emit("select", wide, data, c.scalar(idle, dtype))
    start = c.operand(idle if initial is None else initial, dtype)
    result = (*lead, count, *rest)
    y = c.emit("scatter_nd", c.emit("expand", start, shape=result), places, taken, reduction=how)
    if reduce != "mean":
        return y
    number = c.reshape(c.emit("sub", ends, starts), (*lead, count, *[1] * len(rest)))
    some = c.emit("gt", number, c.scalar(0, i64))
    divisor = c.cast(c.emit("max", number, c.scalar(1, i64)), dtype)
    nothing = c.scalar(math.nan, dtype) if initial is None else y
    return c.emit("select", some, c.emit("div", y, divisor), nothing)


def _segments(c: NodeContext, lengths: Value | None, offsets: Value | None, axis: int) -> tuple[Value, Value]:
    """Where segments start and end."""
    if offsets is not None:
        bounds = c.cast(offsets, i64)
        count = c.symbols.simplify(bounds.shape[axis] - 1)
        return c.cut(bounds, axis, 0, count), c.cut(bounds, axis, 1, count)
    if lengths is None:
        c.unsupported("segments given by indices")
    each = c.cast(lengths, i64)
    ends = c.emit("scan.cumsum", each, axis=axis)
    return c.emit("sub", ends, each), ends


TABLE: dict[str, Row] = {
    "aten._histogramdd_bin_edges": grid_edges,
    "aten._histogramdd_from_bin_cts": grid_histogram,
    "aten._histogramdd_from_bin_tensors": grid_histogram_between,
    "aten._unique2": unique,
    "aten.bincount": bincount,
    "aten.hash_tensor": hash_tensor,
    "aten.histogram.bin_ct": histogram,
    "aten.histogram.bins_tensor": histogram,
    "aten.nonzero_static": nonzero_static,
    "aten.repeat_interleave.Tensor": repeated_numbers,
    "aten.segment_reduce": segment_reduce,
    "aten.unique_consecutive": unique_consecutive,
    "aten.unique_dim": unique_rows,
    "aten.unique_dim_consecutive": unique_consecutive_rows,
}
