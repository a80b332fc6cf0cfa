"""Sampling grids: AffineGrid."""

from __future__ import annotations

from aino_ir.dims import DimLike, product
from aino_ir.frontends.floats import Number, extent_number, positions_number
from aino_ir.frontends.onnx.context import NodeContext, Row
from aino_ir.frontends.onnx.integers import extents
from aino_ir.frontends.onnx.nodes import OnnxNode
from aino_ir.graph import Value


def coordinates(c: NodeContext, size: DimLike, like: Value, aligned: bool) -> Number:
    """Places from -1 to 1 of an axis: centres of its cells, or with `aligned` its first to its last end."""
    at, count = positions_number(c, size, like.dtype), extent_number(c, size, like.dtype)
    if not aligned:
        return (at * 2.0 + 1.0) / count - 1.0
    gaps = Number(c, c.emit("max", (count - 1.0).value, c.scalar(1.0, like.dtype)))  # one place is at -1
    return at * (Number(c, c.scalar(2.0, like.dtype)) / gaps) - 1.0


def affine_grid(c: NodeContext, node: OnnxNode) -> Value:
    """Places [n, *space, rank] of a grid that affine maps [n, rank, rank + 1] have moved, last axis first."""
    theta, size = c.x, extents(c, 1)
    space, rank = size[2:], len(size) - 2
    if rank not in (2, 3) or theta.rank != 3:
        c.invalid("number of sizes and rank of theta", "4 or 5, and 3", (len(size), theta.rank))
    c.symbols.assume_eq(theta.shape[0], size[0], f"{node.operator}: the number of maps")
    columns = []
    for axis in reversed(range(rank)):
        line = coordinates(c, space[axis], theta, bool(node.int("align_corners", 0)))
        shape = [space[axis] if a == axis else 1 for a in range(rank)]
        wide = c.emit("expand", c.reshape(line.value, shape), shape=space)
        columns.append(c.reshape(wide, (1, product(space))))
    columns.append(c.filled((1, product(space)), 1, theta.dtype))
    moved = c.emit("matmul", theta, c.emit("concat", *columns, axis=0))
    return c.reshape(c.emit("transpose", moved, perm=(0, 2, 1)), (theta.shape[0], *space, rank))


TABLE: dict[str, Row] = {"AffineGrid": affine_grid}
