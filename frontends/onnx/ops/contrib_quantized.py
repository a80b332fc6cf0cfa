"""Quantised operators of ONNX Runtime, and weights of few bits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aino_ir.dims import ceildiv, is_static, product
from aino_ir.dtypes import DTYPES, DType, f32, u8
from aino_ir.frontends.onnx.context import NodeContext, Row
from aino_ir.frontends.onnx.contrib import contrib
from aino_ir.frontends.onnx.nodes import OnnxNode
from aino_ir.frontends.onnx.ops.contraction import Window, less_zero_point, product_of
from aino_ir.frontends.onnx.ops.quantization import (
    dequantize_linear,
    quantize_linear,
    rounded,
    rows,
)
from aino_ir.graph import Value

DOMAIN = "com.microsoft"


def real(c: NodeContext, x: Value, scale: Value, zero: Value | None) -> Value:
    """A quantised tensor as f32."""
    return c.emit("mul", c.cast(less_zero_point(c, x, zero, x.rank), f32), sole(c, scale))


def sole(c: NodeContext, parameter: Value) -> Value:
    """A parameter that is one number, as a scalar."""
    return c.reshape(parameter, ()) if parameter.rank else parameter


def quantized(c: NodeContext, y: Value, scale: Value, zero: Value | None, to: DType) -> Value:
    """An f32 tensor quantised."""
    zero = None if zero is None else sole(c, zero)
    return rounded(c, c.emit("div", y, sole(c, scale)), zero, to)


def binary(op: str) -> Callable[[NodeContext, OnnxNode], Value]:
    """A row for an operator on two quantised tensors."""

    def lower(c: NodeContext, node: OnnxNode) -> Value:
        a, b = c.x, c.tensor(3)
        y = c.emit(op, real(c, a, c.tensor(1), c.input(2)), real(c, b, c.tensor(4), c.input(5)))
        return quantized(c, y, c.tensor(6), c.input(7), a.dtype)

    return lower


def unary(
    build: Callable[[NodeContext, Value], Value], zeros: tuple[int, int] = (2, 4)
) -> Callable[[NodeContext, OnnxNode], Value]:
    """A row for a function of one quantised tensor."""

    def lower(c: NodeContext, node: OnnxNode) -> Value:
        y = build(c, real(c, c.x, c.tensor(1), c.input(zeros[0])))
        return quantized(c, y, c.tensor(3), c.input(zeros[1]), c.x.dtype)

    return lower


def concat(c: NodeContext, node: OnnxNode) -> Value:
    """Tensors with their own scales, one behind the other with another one."""
    scale, zero = c.tensor(0), c.tensor(1)
    parts = [real(c, c.tensor(i), c.tensor(i + 1), c.input(i + 2)) for i in range(2, len(c.inputs) - 1, 3)]
    axis = c.axis(node.int("axis"), parts[0].rank)
    return quantized(c, c.emit("concat", *parts, axis=axis), scale, zero, zero.dtype)


def softmax(c: NodeContext, x: Value) -> Value:
    """Along an axis; before operator set 13 all axes from it on are one row."""
    since = c.node.int("opset")
    axis = c.axis(c.node.int("axis", 1 if since < 13 else -1), x.rank)
    if since >= 13 or axis == x.rank - 1:
        return c.emit("softmax", x, axis=axis)
    flat = c.reshape(x, (product(x.shape[:axis]), product(x.shape[axis:])))
    return c.reshape(c.emit("softmax", flat, axis=1), x.shape)


def first_channels(c: NodeContext, x: Value) -> Value:
    """x with its channels behind the batch."""
    return c.emit("transpose", x, perm=(0, x.rank - 1, *range(1, x.rank - 1)))


def last_channels(c: NodeContext, x: Value) -> Value:
    """x with its channels at the end."""
    return c.emit("transpose", x, perm=(0, *range(2, x.rank), 1))


def by_channels(
    build: Callable[[NodeContext, Value], Value],
) -> Callable[[NodeContext, Value], Value]:
    """A pooling that `channels_last` turns around."""

    def turned(c: NodeContext, x: Value) -> Value:
        if not c.node.int("channels_last", 0):
            return build(c, x)
        return last_channels(c, build(c, first_channels(c, x)))

    return turned


def plane_mean(c: NodeContext, x: Value) -> Value:
    """The mean of each plane."""
    return c.emit("reduce.mean", x, axes=tuple(range(2, x.rank)), keepdims=True)


def window_mean(c: NodeContext, x: Value) -> Value:
    """The mean of each window."""
    include = bool(c.node.int("count_include_pad", 0))
    return c.emit("avg_pool", x, **geometry(c, x), count_include_pad=include)


def geometry(c: NodeContext, x: Value) -> dict[str, Any]:
    """The window of a pooling node."""
    window = Window(c, x.shape[2:], c.node.ints("kernel_shape"))
    if not window.is_static:
        c.unsupported("SAME padding of symbolic extents")
    return {
        "kernel": window.kernel,
        "strides": window.strides,
        "dilations": window.dilations,
        "pads_before": window.before,
        "pads_after": window.after,
        "ceil_mode": bool(c.node.int("ceil_mode", 0)),
    }


def nhwc_max_pool(c: NodeContext, node: OnnxNode) -> Value:
    """Maxima of windows, the channels at the end."""
    x = first_channels(c, c.x)
    return last_channels(c, c.emit("max_pool", x, **geometry(c, x)))


def leaky_relu(c: NodeContext, x: Value) -> Value:
    """x, scaled below 0."""
    return c.emit("leaky_relu", x, alpha=c.node.float("alpha", 0.01))


def sigmoid(c: NodeContext, x: Value) -> Value:
    """1 / (1 + e^-x)"""
    return c.emit("sigmoid", x)


def qgemm(c: NodeContext, node: OnnxNode) -> Value:
    """alpha a b (A - za)(B - zb) + C, quantised where a scale of the result is given; C counts in i32."""
    a, b = c.x, c.tensor(3)
    turned = bool(node.int("transA", 0)), bool(node.int("transB", 0))
    left = less_zero_point(c, a, c.input(2), 2)
    right = less_zero_point(c, b, c.input(5), 2, axis=0 if turned[1] else 1)
    total = c.emit("matmul", left, right, transpose_lhs=turned[0], transpose_rhs=turned[1])
    addend = c.input(6)
    if addend is not None:
        total = c.emit("add", total, addend)
    factor = c.emit("mul", sole(c, c.tensor(1)), rows(c, c.tensor(4), 2, -1))
    alpha = node.float("alpha", 1.0)
    factor = factor if alpha == 1.0 else c.emit("mul", factor, c.scalar(alpha, f32))
    y = c.emit("mul", c.cast(total, f32), factor)
    if c.input(7) is None:
        return y
    zero = c.input(8)
    return quantized(c, y, c.tensor(7), zero, u8 if zero is None else zero.dtype)


def matmul_integer_to_float(c: NodeContext, node: OnnxNode) -> Value:
    """(A - za)(B - zb) a b + bias"""
    a_scale, b_scale = c.tensor(2), c.tensor(3)
    return scaled_product(c, c.x, c.tensor(1), a_scale, b_scale, (c.input(4), c.input(5)), c.input(6))


def scaled_product(
    c: NodeContext,
    a: Value,
    b: Value,
    a_scale: Value,
    b_scale: Value,
    zeros: tuple[Value | None, Value | None],
    bias: Value | None,
) -> Value:
    """The product of quantised matrices in f32; scales and zero points run along rows of a, columns of b."""
    total = product_of(
        c,
        less_zero_point(c, a, zeros[0], a.rank, axis=-2),
        less_zero_point(c, b, zeros[1], b.rank, axis=-1),
    )
    factor = c.emit("mul", rows(c, a_scale, total.rank, -2), rows(c, b_scale, total.rank, -1))
    y = c.emit("mul", c.cast(total, f32), factor)
    return y if bias is None else c.emit("add", y, bias)


def dynamic_quantize_matmul(c: NodeContext, node: OnnxNode) -> Value:
    """A quantised to u8 by its own range, times B."""
    x = c.x
    low = c.emit("min", c.emit("reduce.min", x), c.scalar(0, f32))
    high = c.emit("max", c.emit("reduce.max", x), c.scalar(0, f32))
    scale = c.emit("div", c.emit("sub", high, low), c.scalar(255, f32))
    flat = c.emit("eq", scale, c.scalar(0, f32))
    scale = c.emit("select", flat, c.scalar(1, f32), scale)
    zero = c.emit("round", c.emit("clip", c.emit("div", c.emit("neg", low), scale), min=0.0, max=255.0))
    shifted = c.emit("add", c.emit("round", c.emit("div", x, scale)), zero)
    a = c.cast(c.emit("clip", shifted, min=0.0, max=255.0), u8)
    zeros = c.cast(zero, u8), c.input(3)
    return scaled_product(c, a, c.tensor(1), scale, c.tensor(2), zeros, c.input(4))


_STORED = {4: DTYPES["u4"], 8: u8}
"""Bits -> the dtype in which weights stay, decoded by the kernels that read them."""


def matmul_nbits(c: NodeContext, node: OnnxNode) -> Value:
    """A times the transpose of B [N, K], whose values of 2, 4 or 8 bits stand in blocks along K."""
    a, packed, zeros, group = c.x, c.tensor(1), c.input(3), c.input(4)
    width, count, block = node.int("K"), node.int("N"), node.int("block_size")
    bits = node.int("bits", 4)
    if bits not in (2, 4, 8):
        c.unsupported(f"{bits} bits")
    blocks = ceildiv(width, block)
    assert is_static(blocks)
    whole = unpacked(c, c.reshape(packed, (count, packed_width(blocks, block, bits))), bits)
    if bits in _STORED and group is None and (zeros is None or not zeros.dtype.is_float):
        scales = c.reshape(c.cast(c.tensor(2), a.dtype), (count, blocks))
        points = _whole_zeros(c, zeros, count, blocks, bits)
        weights, points = (c.cast(v, _STORED[bits]) for v in (c.cut(whole, 1, 0, width), points))
        b = c.emit("dequantize_groups", weights, scales, points, axis=1, group=block)
    else:
        b = _decoded(c, whole, zeros, group, (width, count, block, bits))
    y = c.emit("matmul", a, b, transpose_rhs=True)
    bias = c.input(5)
    return y if bias is None else c.emit("add", y, bias)


def _whole_zeros(c: NodeContext, zeros: Value | None, count: int, blocks: Any, bits: int) -> Value:
    """Zero points [N, blocks] as u8: the middle of the range where none are given."""
    if zeros is None:
        return c.filled((count, blocks), 1 << (bits - 1), u8)
    apart = unpacked(c, c.reshape(zeros, (count, ceildiv(blocks * bits, 8))), bits)
    return c.cut(apart, 1, 0, blocks)


def _decoded(
    c: NodeContext, whole: Value, zeros: Value | None, group: Value | None, sizes: tuple[int, int, int, int]
) -> Value:
    """Weights [N, K] as floats, by any zero points, and groups that each column names."""
    width, count, block, bits = sizes
    dtype, blocks = c.x.dtype, ceildiv(width, block)
    values = c.cast(c.reshape(whole, (count, blocks, block)), dtype)
    if zeros is not None and zeros.dtype.is_float:
        middle = c.reshape(zeros, (count, blocks, 1))
    elif zeros is None:
        middle = c.scalar(1 << (bits - 1), dtype)
    else:
        middle = c.reshape(c.cast(_whole_zeros(c, zeros, count, blocks, bits), dtype), (count, blocks, 1))
    scale = c.reshape(c.cast(c.tensor(2), dtype), (count, blocks, 1))
    if group is not None:
        values = c.reshape(values, (count, blocks * block))
        middle, scale = (_of_groups(c, v, group, (count, blocks, 1)) for v in (middle, scale))
    weights = c.emit("mul", c.emit("sub", values, middle), scale)
    return c.cut(c.reshape(weights, (count, blocks * block)), 1, 0, width)


def _of_groups(c: NodeContext, numbers: Value, group: Value, shape: tuple[Any, ...]) -> Value:
    """Numbers of groups [N, groups, 1] by column, [N, K]; one number for all as it is."""
    if numbers.rank == 0:
        return numbers
    return c.emit("gather", c.reshape(numbers, shape[:2]), group, axis=1)


def packed_width(blocks: Any, block: int, bits: int) -> Any:
    """Bytes of one row of packed weights."""
    return blocks * (block * bits // 8)


def unpacked(c: NodeContext, packed: Value, bits: int) -> Value:
    """Values of few bits in rows of bytes, the lowest bits first, as u8."""
    if bits == 8:
        return packed
    parts = []
    mask = c.scalar((1 << bits) - 1, u8)
    for shift in range(0, 8, bits):
        moved = c.emit("shift_right", packed, c.scalar(shift, u8)) if shift else packed
        parts.append(c.reshape(c.emit("bitwise_and", moved, mask), (*packed.shape, 1)))
    together = c.emit("concat", *parts, axis=packed.rank)
    return c.reshape(together, (*packed.shape[:-1], packed.shape[-1] * len(parts)))


_POOL = ("auto_pad", "ceil_mode", "dilations", "kernel_shape", "pads", "strides")

TABLE: dict[str, Row] = {
    "DequantizeLinear": contrib(dequantize_linear, "axis", "block_size"),
    "DynamicQuantizeMatMul": contrib(dynamic_quantize_matmul),
    "MatMulIntegerToFloat": contrib(matmul_integer_to_float),
    "MatMulNBits": contrib(matmul_nbits, "K", "N", "accuracy_level", "bits", "block_size"),
    "NhwcMaxPool": contrib(nhwc_max_pool, *_POOL),
    "QGemm": contrib(qgemm, "alpha", "transA", "transB"),
    "QLinearAdd": contrib(binary("add")),
    "QLinearAveragePool": contrib(
        unary(by_channels(window_mean)), *_POOL, "channels_last", "count_include_pad"
    ),
    "QLinearConcat": contrib(concat, "axis"),
    "QLinearGlobalAveragePool": contrib(unary(by_channels(plane_mean)), "channels_last"),
    "QLinearLeakyRelu": contrib(unary(leaky_relu), "alpha"),
    "QLinearMul": contrib(binary("mul")),
    "QLinearSigmoid": contrib(unary(sigmoid)),
    "QLinearSoftmax": contrib(unary(softmax), "axis", "opset"),
    "QuantizeLinear": contrib(quantize_linear, "axis", "block_size"),
}
