"""Normalisations that ONNX Runtime keeps in ONNX's own domain."""

from __future__ import annotations

from aino_ir.frontends.onnx.context import NodeContext, Row
from aino_ir.frontends.onnx.contrib import contrib
from aino_ir.frontends.onnx.nodes import OnnxNode
from aino_ir.graph import Value


def simplified_layer_normalization(c: NodeContext, node: OnnxNode) -> list[Value | None]:
    """Division by the root of the mean square; its inverse is the second output."""
    x, axis = c.x, node.int("axis", -1)
    axis = c.axis(axis, x.rank)
    epsilon = node.float("epsilon", 1e-5)
    y = c.emit("rms_norm", x, c.tensor(1), axis=axis, epsilon=epsilon)
    if not c.wants(1):
        return [y]
    axes = tuple(range(axis, x.rank))
    mean = c.emit("reduce.mean", c.emit("mul", x, x), axes=axes, keepdims=True)
    return [y, c.emit("rsqrt", c.emit("add", mean, c.scalar(epsilon, x.dtype)))]


TABLE: dict[str, Row] = {
    "SimplifiedLayerNormalization": contrib(simplified_layer_normalization, "axis", "epsilon", "stash_type"),
}
