"""Pooling of regions: MaxRoiPool."""

from __future__ import annotations

from aino_ir.dims import DimLike
from aino_ir.dtypes import i64
from aino_ir.frontends.floats import Number, extent_number, positions_number
from aino_ir.frontends.onnx.context import NodeContext, Row
from aino_ir.frontends.onnx.nodes import OnnxNode
from aino_ir.graph import Value


def column(c: NodeContext, rois: Value, number: int) -> Number:
    """One number of every region, [regions, 1, 1]."""
    part = c.emit("slice", rois, starts=(0, number), sizes=(rois.shape[0], 1), steps=(1, 1))
    return Number(c, c.reshape(part, (rois.shape[0], 1, 1)))


def covered(c: NodeContext, rois: Value, axis: int, cells: int, scale: float, extent: DimLike) -> Value:
    """Which pixels along an axis each cell of each region covers, bool [regions, cells, extent]."""
    dtype = rois.dtype
    first, last = ((column(c, rois, n) * scale + 0.5).map("floor") for n in (2 - axis, 4 - axis))
    length = Number(c, c.emit("max", (last - first + 1.0).value, c.scalar(1.0, dtype)))
    each = length / float(cells)
    cell = positions_number(c, cells, dtype).reshaped(1, cells, 1)
    low, high = (cell * each).map("floor") + first, ((cell + 1.0) * each).map("ceil") + first
    end = extent_number(c, extent, dtype)
    low, high = low.clamp(0.0, end), high.clamp(0.0, end)
    at = positions_number(c, extent, dtype).reshaped(1, 1, extent)
    return c.emit("logical_and", (at >= low).value, (at < high).value)


def max_roi_pool(c: NodeContext, node: OnnxNode) -> Value:
    """The largest element of each cell of each region (item, x1, y1, x2, y2); 0 of a cell outside."""
    x, rois = c.x, c.tensor(1)
    if x.rank != 4 or rois.rank != 2:
        c.invalid("ranks of X and rois", "4 and 2", (x.rank, rois.rank))
    shape, scale = node.ints("pooled_shape"), node.float("spatial_scale", 1.0)
    if len(shape) != 2 or min(shape) < 1:
        c.invalid("pooled_shape", "two positive numbers", shape)
    count, (_, channels, height, width) = rois.shape[0], x.shape
    items = c.cast(c.reshape(column(c, rois, 0).value, (count,)), i64)
    y = c.emit("gather", x, items, axis=0)
    least = c.scalar(float("-inf"), x.dtype)
    rows = covered(c, rois, 0, shape[0], scale, height)
    mask = c.reshape(rows, (count, 1, shape[0], height, 1))
    y = c.emit("select", mask, c.reshape(y, (count, channels, 1, height, width)), least)
    y = c.emit("reduce.max", y, axes=(3,), keepdims=False)
    columns = covered(c, rois, 1, shape[1], scale, width)
    mask = c.reshape(columns, (count, 1, 1, shape[1], width))
    y = c.emit("select", mask, c.reshape(y, (count, channels, shape[0], 1, width)), least)
    y = c.emit("reduce.max", y, axes=(4,), keepdims=False)
    some = [c.emit("reduce.any", m, axes=(2,), keepdims=False) for m in (rows, columns)]
    full = c.emit(
        "logical_and",
        c.reshape(some[0], (count, 1, shape[0], 1)),
        c.reshape(some[1], (count, 1, 1, shape[1])),
    )
    return c.emit("select", full, y, c.scalar(0.0, x.dtype))


TABLE: dict[str, Row] = {"MaxRoiPool": max_roi_pool}
