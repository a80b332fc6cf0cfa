"""Access by index: Gather, Scatter and their kin."""

from __future__ import annotations

from aino_ir.frontends.onnx.context import NodeContext, Row
from aino_ir.frontends.onnx.nodes import OnnxNode
from aino_ir.graph import Value


def gather(c: NodeContext, node: OnnxNode) -> Value:
    """Slices of x along an axis."""
    return c.emit("gather", c.x, c.tensor(1), axis=c.axis(node.int("axis", 0), c.x.rank))


def gather_nd(c: NodeContext, node: OnnxNode) -> Value:
    """Elements or slices at coordinates that the last axis of the indices holds."""
    return c.emit("gather_nd", c.x, c.tensor(1), batch_dims=node.int("batch_dims", 0))


TABLE: dict[str, Row] = {
    "Gather": gather,
    "GatherND": gather_nd,
}
