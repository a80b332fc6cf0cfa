"""Quantised operators, in exact integer arithmetic between conversions."""

from __future__ import annotations

from collections.abc import Sequence

from aino_ir.dims import DimLike, is_static
from aino_ir.dtypes import DType, f32, i32, integer_range, u8
from aino_ir.frontends.folding import constant_array
from aino_ir.frontends.onnx.context import NodeContext, Row, element_dtype
from aino_ir.frontends.onnx.nodes import OnnxNode
from aino_ir.frontends.onnx.ops.contraction import convolution, less_zero_point, product_of
from aino_ir.graph import Value
from aino_ir.ops.core import Constant


def along(c: NodeContext, parameter: Value, x: Value, axis: int, block: int) -> Value:
    """A scale or zero point so that it broadcasts to x: one number, one per index of `axis`, or blocks."""
    if parameter.rank == 0 or (
        parameter.rank == 1 and is_static(parameter.shape[0]) and parameter.shape[0] == 1
    ):
        return shaped(c, parameter, ())
    axis = c.axis(axis, x.rank)
    if not block:
        if parameter.rank == 1:
            return shaped(c, parameter, [parameter.shape[0] if a == axis else 1 for a in range(x.rank)])
        return parameter
    return repeated(c, parameter, axis, block, x.shape[axis])


def shaped(c: NodeContext, parameter: Value, shape: Sequence[DimLike]) -> Value:
    """A parameter in another shape; a constant stays one, so that its numbers are known."""
    known = constant_array(parameter)
    if known is None or (isinstance(parameter.op, Constant) and tuple(shape) == parameter.shape):
        return c.reshape(parameter, shape)
    return c.b.constant(known.reshape([int(d) for d in shape]), parameter.name)  # type: ignore[arg-type]


def repeated(c: NodeContext, x: Value, axis: int, times: int, extent: DimLike) -> Value:
    """Each element of an axis repeated, cut to an extent."""
    from aino_ir.frontends.onnx.ops.movement import cut

    apart = [*x.shape[: axis + 1], 1, *x.shape[axis + 1 :]]
    wide = [*x.shape[: axis + 1], times, *x.shape[axis + 1 :]]
    merged = [*x.shape[:axis], x.shape[axis] * times, *x.shape[axis + 1 :]]
    return cut(c, c.reshape(c.emit("expand", c.reshape(x, apart), shape=wide), merged), axis, 0, extent)


def rounded(c: NodeContext, x: Value, zero: Value | None, to: DType, saturate: bool = True) -> Value:
    """A float rounded to a quantised dtype, its zero point added."""
    if to.is_float:
        return c.emit("cast", x, to=to, saturate=saturate)
    x = c.emit("round", x)
    if zero is not None:
        x = c.emit("add", x, c.cast(c.cast(zero, i32), x.dtype))
    low, high = integer_range(to)
    return c.cast(c.emit("clip", x, min=low, max=high), to)


def quantize_linear(c: NodeContext, node: OnnxNode) -> Value:
    """round(x / scale) + zero point, saturated."""
    x, scale, zero = c.x, c.tensor(1), c.input(2)
    axis, block = node.int("axis", 1), node.int("block_size", 0)
    code = node.int("output_dtype", 0)
    to = (
        zero.dtype if zero is not None else element_dtype(code, "output_dtype", node.location) if code else u8
    )
    if to.is_float:
        precision = node.int("precision", 0)
        compute = element_dtype(precision, "precision", node.location) if precision else scale.dtype
        compute = compute if compute.is_float and compute.compute is compute else f32
        scale = c.cast(along(c, scale, x, axis, block), compute)
        return rounded(c, c.emit("div", c.cast(x, compute), scale), None, to, bool(node.int("saturate", 1)))
    x = x if x.dtype.is_float else c.cast(x, f32)
    if in_blocks(scale, x, block):
        group = {"axis": c.axis(axis, x.rank), "group": block}
        return c.emit("quantize_groups", x, scale, zero, to=to, **group)
    zero = None if zero is None else along(c, zero, x, axis, 0)
    return c.emit("quantize", x, along(c, scale, x, axis, 0), zero, to=to)


def dequantize_linear(c: NodeContext, node: OnnxNode) -> Value:
    """(x - zero point) * scale in the dtype of the scale."""
    x, scale, zero = c.x, c.tensor(1), c.input(2)
    axis, block = node.int("axis", 1), node.int("block_size", 0)
    code = node.int("output_dtype", 0)
    to = element_dtype(code, "output_dtype", node.location) if code else scale.dtype
    if to is not scale.dtype:
        scale = c.cast(scale, f32)
    if x.dtype.is_float:
        y = c.cast(x, f32)
        if zero is not None:
            y = c.emit("sub", y, c.cast(along(c, zero, x, axis, block), f32))
        return c.cast(c.emit("mul", y, c.cast(along(c, scale, x, axis, block), f32)), to)
    if in_blocks(scale, x, block):
        y = c.emit("dequantize_groups", x, scale, zero, axis=c.axis(axis, x.rank), group=block)
    else:
        zero = None if zero is None else along(c, zero, x, axis, 0)
        y = c.emit("dequantize", x, along(c, scale, x, axis, 0), zero)
    return c.cast(y, to)


def in_blocks(scale: Value, x: Value, block: int) -> bool:
    """Whether a scale has one element for each block along an axis."""
    return bool(block) and scale.rank == x.rank and scale.rank > 0


def requantized(
    c: NodeContext, total: Value, scales: Sequence[Value], zero: Value | None, to: DType
) -> Value:
    """i32 * (a * b / y) rounded to the result's dtype."""
    a, b, y = (c.cast(s, f32) for s in scales)
    factor = c.emit("div", c.emit("mul", a, b), y)
    return rounded(c, c.emit("mul", c.cast(total, f32), factor), zero, to)


def qlinear_matmul(c: NodeContext, node: OnnxNode) -> Value:
    """Product of quantised matrices; scales may run along rows of a and columns of b."""
    a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero = (c.tensor(i) for i in range(8))
    if a.dtype.is_float:
        total = product_of(c, c.cast(a, f32), c.cast(b, f32))
    else:
        total = product_of(
            c, less_zero_point(c, a, a_zero, a.rank, axis=-2), less_zero_point(c, b, b_zero, b.rank, axis=-1)
        )
    scales = [
        rows(c, a_scale, total.rank, -2),
        rows(c, b_scale, total.rank, -1),
        rows(c, y_scale, total.rank, -2),
    ]
    return requantized(c, total, scales, rows(c, y_zero, total.rank, -2), y_zero.dtype)


def rows(c: NodeContext, parameter: Value, rank: int, axis: int) -> Value:
    """A vector of parameters along an axis of a result; a single one as a scalar."""
    if parameter.rank == 1 and is_static(parameter.shape[0]) and parameter.shape[0] == 1:
        return c.reshape(parameter, ())
    if parameter.rank != 1:
        return parameter
    return c.reshape(parameter, [parameter.shape[0] if a == axis % rank else 1 for a in range(rank)])


def qlinear_conv(c: NodeContext, node: OnnxNode) -> Value:
    """Quantised convolution; the weights' scale and zero point may be one a channel."""
    x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero = (c.tensor(i) for i in range(8))
    total = convolution(
        c, less_zero_point(c, x, x_zero, x.rank), less_zero_point(c, w, w_zero, w.rank), c.input(8)
    )
    scales = [rows(c, s, total.rank, 1) for s in (x_scale, w_scale, y_scale)]
    return requantized(c, total, scales, rows(c, y_zero, total.rank, 1), y_zero.dtype)


TABLE: dict[str, Row] = {
    "DequantizeLinear": dequantize_linear,
    "QLinearConv": qlinear_conv,
    "QLinearMatMul": qlinear_matmul,
    "QuantizeLinear": quantize_linear,
}
