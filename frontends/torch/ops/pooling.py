"""Pools: windows of fixed size, and adaptive ones that cut an axis in a number of parts."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from aino_ir.dims import DimLike, is_static
from aino_ir.dtypes import f32, f64, i64
from aino_ir.frontends.torch.context import Lowering, NodeContext, Row
from aino_ir.frontends.torch.ops.contraction import numbers
from aino_ir.graph import Value

Array = np.ndarray[Any, Any]


def windows(
    c: NodeContext,
    rank: int,
    kernel: Sequence[DimLike],
    stride: Sequence[DimLike],
    padding: Sequence[DimLike],
    dilation: Sequence[DimLike],
    ceil_mode: bool,
) -> dict[str, Any]:
    """Attributes of a pool; without strides the windows stand side by side."""
    size = numbers(c, kernel, rank, "kernel")
    pads = numbers(c, padding, rank, "padding")
    return {
        "kernel": size,
        "strides": numbers(c, stride, rank, "stride") if stride else size,
        "dilations": numbers(c, dilation, rank, "dilation"),
        "pads_before": pads,
        "pads_after": pads,
        "ceil_mode": ceil_mode,
    }


def batched(c: NodeContext, x: Value, rank: int) -> Value:
    """x as [items, channels, plane...]; an absent batch axis is one."""
    return c.reshape(x, (1, *x.shape)) if x.rank == rank + 1 else x


def max_pool(rank: int, indices: bool) -> Lowering:
    """A row for the maximum of windows, with positions within the plane."""

    def lower(
        c: NodeContext,
        x: Value,
        kernel_size: Sequence[DimLike],
        stride: Sequence[DimLike] = (),
        padding: Sequence[DimLike] = (0,),
        dilation: Sequence[DimLike] = (1,),
        ceil_mode: bool = False,
    ) -> Value | list[Value | None]:
        wide = batched(c, x, rank)
        attributes = windows(c, rank, kernel_size, stride, padding, dilation, ceil_mode)
        if not indices or not c.wants(1):
            y = c.emit("max_pool", wide, **attributes)
            y = c.reshape(y, y.shape[1:]) if x.rank == rank + 1 else y
            return [y, None] if indices else y
        values, places = c.emit_all("max_pool_indices", wide, **attributes)
        plane: DimLike = 1
        for extent in wide.shape[2:]:
            plane = plane * extent
        places = c.emit("mod", places, c.operand(plane, i64))
        out = [values, places]
        return [c.reshape(v, v.shape[1:]) if x.rank == rank + 1 else v for v in out]

    return lower


def avg_pool(rank: int) -> Lowering:
    """A row for the mean of windows."""

    def lower(
        c: NodeContext,
        x: Value,
        kernel_size: Sequence[DimLike],
        stride: Sequence[DimLike] = (),
        padding: Sequence[DimLike] = (0,),
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> Value:
        wide = batched(c, x, rank)
        attributes = windows(c, rank, kernel_size, stride, padding, (1,), ceil_mode)
        if divisor_override is None:
            y = c.emit("avg_pool", wide, **attributes, count_include_pad=count_include_pad)
        else:
            y = window_sums(c, wide, rank, attributes, divisor_override)
        return c.reshape(y, y.shape[1:]) if x.rank == rank + 1 else y

    return lower


def window_sums(c: NodeContext, x: Value, rank: int, attributes: dict[str, Any], divisor: int) -> Value:
    """Sums of windows over a divisor: means of the padded operand, times the elements of a window."""
    kernel, steps, pads = attributes["kernel"], attributes["strides"], attributes["pads_before"]
    count = int(np.prod(kernel))
    dtype = x.dtype if x.dtype.is_float else f64
    before, after = [0] * x.rank, [0] * x.rank
    for axis, (size, step, pad) in enumerate(zip(kernel, steps, pads, strict=True)):
        place = x.rank - rank + axis
        extent, results = x.shape[place], c.shape[axis - rank]
        if not (is_static(extent) and is_static(results)):
            c.unsupported("divisor_override over a symbolic extent")
        reach = (int(results) - 1) * step + size  # type: ignore[arg-type]
        before[place], after[place] = pad, max(reach - int(extent) - pad, 0)
    wide = c.cast(x, dtype)
    if any(before) or any(after):
        wide = c.emit("pad", wide, before=before, after=after)
    none = (0,) * rank
    plain = {**attributes, "pads_before": none, "pads_after": none, "ceil_mode": False}
    mean = c.emit("avg_pool", wide, **plain, count_include_pad=True)
    if x.dtype.is_float:
        return c.emit("mul", mean, c.scalar(count / divisor, dtype))
    sums = c.emit("round", c.emit("mul", mean, c.scalar(count, dtype)))
    return c.cast(c.emit("trunc", c.emit("div", sums, c.scalar(divisor, dtype))), x.dtype)


def parts(extent: int, count: int) -> list[tuple[int, int]]:
    """Start and end of each part of an axis that is cut adaptively."""
    return [(i * extent // count, -(-((i + 1) * extent) // count)) for i in range(count)]


def adaptive(rank: int, reduce: Callable[[NodeContext, Value, int, int, int], Value]) -> Lowering:
    """A row for a pool that gives a number of results along each axis."""

    def lower(c: NodeContext, x: Value, output_size: Sequence[DimLike]) -> Value:
        sizes = numbers(c, output_size, rank, "output size")
        for axis, size in zip(range(x.rank - rank, x.rank), sizes, strict=True):
            extent = x.shape[axis]
            if size == 1 and not is_static(extent):
                x = reduce(c, x, axis, -1, 1)
                continue
            if not is_static(extent):
                c.unsupported("an adaptive pool over a symbolic extent")
            if int(extent) != size:
                x = reduce(c, x, axis, int(extent), size)
        return x

    return lower


def mean_of_parts(c: NodeContext, x: Value, axis: int, extent: int, size: int) -> Value:
    """Means of the parts of one axis."""
    if size == 1:
        return c.emit("reduce.mean", x, axes=(axis,), keepdims=True)
    if extent % size == 0:
        each = extent // size
        apart = c.reshape(x, (*x.shape[:axis], size, each, *x.shape[axis + 1 :]))
        return c.emit("reduce.mean", apart, axes=(axis + 1,))
    places = tap_table(extent, size)
    weights = np.zeros(places.shape, np.float32)
    for i, (start, end) in enumerate(parts(extent, size)):
        weights[i, : end - start] = 1.0 / (end - start)
    dtype = x.dtype if x.dtype.name == "f64" else f32
    return c.emit("resample", x, c.b.constant(places), c.b.constant(weights.astype(dtype.numpy)), axis=axis)


def largest_of_parts(c: NodeContext, x: Value, axis: int, extent: int, size: int) -> Value:
    """The largest elements of the parts of one axis."""
    if size == 1:
        return c.emit("reduce.max", x, axes=(axis,), keepdims=True)
    places = tap_table(extent, size)
    taken = c.emit("gather", x, c.b.constant(places), axis=axis)
    return c.emit("reduce.max", taken, axes=(axis + 1,))


def tap_table(extent: int, size: int) -> Array:
    """Positions [size, taps] of the elements of each part, the last one repeated."""
    ranges = parts(extent, size)
    taps = max(end - start for start, end in ranges)
    table = [[min(start + t, end - 1) for t in range(taps)] for start, end in ranges]
    return np.asarray(table, np.int64)


def adaptive_max(rank: int) -> Lowering:
    """A row for the largest elements of parts; positions within the plane when somebody reads them."""

    def lower(c: NodeContext, x: Value, output_size: Sequence[DimLike]) -> list[Value | None]:
        values = adaptive(rank, largest_of_parts)(c, x, output_size=output_size)
        assert isinstance(values, Value)
        if not c.wants(1):
            return [values, None]
        return [values, _adaptive_positions(c, x, numbers(c, output_size, rank, "output size"))]

    return lower


def _adaptive_positions(c: NodeContext, x: Value, sizes: Sequence[int]) -> Value:
    """Where the largest element of each part stands in the flattened plane."""
    rank = len(sizes)
    lead = x.rank - rank
    extents = x.shape[lead:]
    if not all(is_static(d) for d in extents):
        c.unsupported("positions in an adaptive pool over a symbolic extent")
    tables = [tap_table(int(e), s) for e, s in zip(extents, sizes, strict=True)]
    flat = np.zeros((1,) * (2 * rank), np.int64)
    for axis, table in enumerate(tables):
        shape = [1] * (2 * rank)
        shape[axis], shape[rank + axis] = table.shape
        flat = flat * int(extents[axis]) + table.reshape(shape)
    size = int(np.prod(sizes))
    plane = 1
    for extent in extents:
        plane *= int(extent)
    rows = c.reshape(x, (*x.shape[:lead], plane))
    table = flat.reshape(size, -1)
    taken = c.emit("gather", rows, c.b.constant(table), axis=lead)
    best = c.emit("reduce.argmax", taken, axis=lead + 1)
    one = c.emit(
        "add", best, c.emit("mul", c.positions(size, best.rank, lead), c.scalar(table.shape[1], i64))
    )
    found = c.emit("gather", c.b.constant(table.reshape(-1)), one, axis=0)
    return c.reshape(found, (*x.shape[:lead], *sizes))


def averaging(extent: int, size: int) -> Array:
    """The matrix [size, extent] that gives means of the parts of an axis."""
    matrix = np.zeros((size, extent))
    for i, (start, end) in enumerate(parts(extent, size)):
        matrix[i, start:end] = 1.0 / (end - start)
    return matrix


def adaptive_mean_backward(c: NodeContext, grad_output: Value, x: Value) -> Value:
    """Each gradient shared out over its part of both axes: a product with the averaging matrices."""
    if not all(is_static(d) for v in (grad_output, x) for d in v.shape[-2:]):
        c.unsupported("an adaptive pool over a symbolic extent")
    dtype = grad_output.dtype.compute
    rows, columns = (
        c.b.constant(averaging(int(x.shape[a]), int(grad_output.shape[a])).astype(dtype.numpy))
        for a in (-2, -1)
    )
    lead = grad_output.shape[:-2]
    wide = c.emit("matmul", c.cast(grad_output, dtype), columns)
    flat = c.reshape(rows, (*[1] * len(lead), *rows.shape))
    return c.cast(c.emit("matmul", flat, wide, transpose_lhs=True), grad_output.dtype)


def fractional_max(rank: int) -> Lowering:
    """A row for the maximum of windows that random numbers place, and where in the plane it was."""

    def lower(
        c: NodeContext,
        x: Value,
        kernel_size: Sequence[DimLike],
        output_size: Sequence[DimLike],
        random_samples: Value,
    ) -> list[Value]:
        kernel = numbers(c, kernel_size, rank, "kernel")
        sizes = numbers(c, output_size, rank, "output size")
        plane = x.shape[-rank:]
        if not all(is_static(d) for d in plane):
            c.unsupported("a fractional pool over a symbolic extent")
        lead = tuple(x.shape[:-rank])
        samples = c.reshape(random_samples, (*lead, rank))
        flat: Value | None = None
        for axis in range(
            rank
        ):  # torch's first number is that of the last axis, in three dimensions of the first
            place = axis if rank == 3 else rank - 1 - axis
            number = c.reshape(c.cut(samples, len(lead), place, 1), lead)
            at = _taps(c, number, int(plane[axis]), sizes[axis], kernel[axis])
            shape = [1] * (2 * rank)
            shape[axis], shape[rank + axis] = sizes[axis], kernel[axis]
            at = c.reshape(at, (*lead, *shape))
            if flat is None:
                flat = at
            else:
                flat = c.emit("add", c.emit("mul", flat, c.scalar(int(plane[axis]), i64)), at)
        assert flat is not None
        count, taps = math.prod(sizes), math.prod(kernel)
        places = c.reshape(flat, (*lead, count * taps))
        line = c.reshape(x, (*lead, math.prod(int(d) for d in plane)))
        taken = c.emit("gather_elements", line, places, axis=len(lead))
        taken = c.reshape(taken, (*lead, count, taps))
        best = c.emit("reduce.argmax", taken, axis=len(lead) + 1, keepdims=True)
        places = c.reshape(places, (*lead, count, taps))
        found = c.emit("gather_elements", places, best, axis=len(lead) + 1)
        value = c.emit("reduce.max", taken, axes=(len(lead) + 1,))
        return [c.reshape(v, (*lead, *sizes)) for v in (value, found)]

    return lower


def _taps(c: NodeContext, number: Value, extent: int, size: int, kernel: int) -> Value:
    """What windows of one axis read, [..., size, kernel]: windows begin at even steps from a random start."""
    dtype = number.dtype.compute
    rank = number.rank
    step = np.float64(extent - kernel) / (size - 1) if size > 1 else np.float64(0)
    alpha = c.scalar(float(step.astype(dtype.numpy)), dtype)
    start = c.reshape(c.cast(number, dtype), (*number.shape, 1))
    each = c.emit("add", c.cast(c.positions(size, rank + 1, rank), dtype), start)
    begin, first = (c.cast(c.emit("mul", v, alpha), i64) for v in (each, start))
    last = c.emit("eq", c.positions(size, rank + 1, rank), c.scalar(size - 1, i64))
    begin = c.emit("select", last, c.scalar(extent - kernel, i64), c.emit("sub", begin, first))
    begin = c.reshape(begin, (*number.shape, size, 1))
    return c.emit("add", begin, c.positions(kernel, rank + 2, rank + 1))


TABLE: dict[str, Row] = {
    "aten._adaptive_avg_pool2d": adaptive(2, mean_of_parts),
    "aten._adaptive_avg_pool2d_backward": adaptive_mean_backward,
    "aten._adaptive_avg_pool3d": adaptive(3, mean_of_parts),
    "aten.adaptive_avg_pool1d": adaptive(1, mean_of_parts),
    "aten.adaptive_avg_pool2d": adaptive(2, mean_of_parts),
    "aten.adaptive_avg_pool3d": adaptive(3, mean_of_parts),
    "aten.adaptive_max_pool1d": adaptive_max(1),
    "aten.adaptive_max_pool2d": adaptive_max(2),
    "aten.adaptive_max_pool3d": adaptive_max(3),
    "aten.avg_pool1d": avg_pool(1),
    "aten.avg_pool2d": avg_pool(2),
    "aten.avg_pool3d": avg_pool(3),
    "aten.fractional_max_pool2d": fractional_max(2),
    "aten.fractional_max_pool3d": fractional_max(3),
    "aten.max_pool1d": max_pool(1, indices=False),
    "aten.max_pool1d_with_indices": max_pool(1, indices=True),
    "aten.max_pool2d": max_pool(2, indices=False),
    "aten.max_pool2d_with_indices": max_pool(2, indices=True),
    "aten.max_pool3d": max_pool(3, indices=False),
    "aten.max_pool3d_with_indices": max_pool(3, indices=True),
}
