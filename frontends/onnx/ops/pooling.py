"""Pooling: windows and whole planes."""

from __future__ import annotations

from typing import Any

from aino_ir.dims import is_static, product
from aino_ir.frontends.onnx.context import NodeContext, Row
from aino_ir.frontends.onnx.integers import extents
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
        and all(is_static(d) and d <= k for d, k in zip(x.shape[2:], window.kernel, strict=False))
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


def lp_pool(c: NodeContext, node: OnnxNode) -> Value:
    """The p-norm of each window."""
    return pool(c, "lp_pool", p=node.int("p", 2))[0]


def global_lp_pool(c: NodeContext, node: OnnxNode) -> Value:
    """The p-norm of each plane."""
    x, p = c.x, node.int("p", 2)
    if p in (1, 2):
        return over_plane(c, "reduce.l1" if p == 1 else "reduce.l2")
    powers = c.emit("pow", c.emit("abs", x), c.scalar(p, x.dtype))
    total = c.emit("reduce.sum", powers, axes=tuple(range(2, x.rank)), keepdims=True)
    return c.emit("pow", total, c.scalar(1.0 / p, x.dtype))


def max_unpool(c: NodeContext, node: OnnxNode) -> Value:
    """Zeros with the values put back where their maxima stood."""
    x, indices = c.x, c.tensor(1)
    rank = x.rank - 2
    kernel, strides = node.ints("kernel_shape"), node.ints("strides", (1,) * rank)
    pads = node.ints("pads", (0,) * (2 * rank))
    plain = [
        (d - 1) * s + k - b - a
        for d, s, k, b, a in zip(x.shape[2:], strides, kernel, pads[:rank], pads[rank:], strict=True)
    ]
    shape = (*x.shape[:2], *plain)
    wanted = extents(c, 2) if c.input(2) is not None else shape
    flat = c.filled([product(shape)], 0, x.dtype)
    count = product(x.shape)
    filled = c.emit("scatter_elements", flat, c.reshape(indices, [count]), c.reshape(x, [count]), axis=0)
    y = c.reshape(filled, shape)
    if tuple(wanted) == tuple(shape):
        return y
    after = [w - d for w, d in zip(wanted, shape, strict=True)]
    return c.emit("pad", y, before=[0] * x.rank, after=after)


TABLE: dict[str, Row] = {
    "AveragePool": average_pool,
    "GlobalAveragePool": global_average_pool,
    "GlobalLpPool": global_lp_pool,
    "GlobalMaxPool": global_max_pool,
    "LpPool": lp_pool,
    "MaxPool": max_pool,
    "MaxUnpool": max_unpool,
}
