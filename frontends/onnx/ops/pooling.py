"""Pooling: windows and whole planes."""

from __future__ import annotations

from typing import Any

from aino_ir.dims import is_static
from aino_ir.frontends.onnx.context import NodeContext, Row
from aino_ir.frontends.onnx.nodes import OnnxNode
from aino_ir.frontends.onnx.ops.contraction import Window
from aino_ir.graph import Value


def pool(c: NodeContext, op: str, whole: str = "", **attrs: Any) -> tuple[Value, ...]:
    """Results of a pooling op by the node's attributes; `whole` reduces planes that one window covers."""
    x = c.x
    if x.rank < 3:
        c.invalid("rank of X", "at least 3", x.rank)
    window = Window(c, x.shape[2:], c.node.ints("kernel_shape"))
    if not window.is_static:
        c.unsupported("SAME padding of symbolic extents")
    results = c.emit_all(
        op,
        x,
        kernel=window.kernel,
        strides=window.strides,
        dilations=window.dilations,
        pads_before=window.before,
        pads_after=window.after,
        ceil_mode=bool(c.node.int("ceil_mode", 0)),
        **attrs,
    )
    if whole and covers_plane(x, window, results[0]):
        return (over_plane(c, whole),)
    return results


def covers_plane(x: Value, window: Window, result: Value) -> bool:
    """Whether there is one window, unpadded and not dilated, and it covers the whole plane."""
    return (
        all(is_static(d) and d == 1 for d in result.shape[2:])
        and not any((*window.before, *window.after))
        and all(d == 1 for d in window.dilations)
        and all(is_static(d) and d <= k for d, k in zip(x.shape[2:], window.kernel, strict=False))  # type: ignore[operator]
    )


def average_pool(c: NodeContext, node: OnnxNode) -> Value:
    """The mean of each window."""
    return pool(c, "avg_pool", "reduce.mean", count_include_pad=bool(node.int("count_include_pad", 0)))[0]


def max_pool(c: NodeContext, node: OnnxNode) -> tuple[Value, ...]:
    """The largest of each window, and where it stands."""
    if not c.wants(1):
        return pool(c, "max_pool", "reduce.max")
    return pool(c, "max_pool_indices", column_major=bool(node.int("storage_order", 0)))


def over_plane(c: NodeContext, op: str, **attrs: Any) -> Value:
    """A reduction over all axes behind the channels, which stay with extent 1."""
    if c.x.rank < 2:
        c.invalid("rank of X", "at least 2", c.x.rank)
    return c.emit(op, c.x, axes=tuple(range(2, c.x.rank)), keepdims=True, **attrs)


def global_average_pool(c: NodeContext, node: OnnxNode) -> Value:
    """The mean of each plane."""
    return over_plane(c, "reduce.mean")


def global_max_pool(c: NodeContext, node: OnnxNode) -> Value:
    """The largest of each plane."""
    return over_plane(c, "reduce.max")


TABLE: dict[str, Row] = {
    "AveragePool": average_pool,
    "GlobalAveragePool": global_average_pool,
    "GlobalMaxPool": global_max_pool,
    "MaxPool": max_pool,
}
