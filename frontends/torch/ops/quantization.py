"""Quantised numbers as PT2E exports them: the operators of ``quantized_decomposed``.

PyTorch multiplies by the rounded 1 / scale where AINO divides by the scale: a value within a rounding of a
half may land on the neighbouring number.
"""

from __future__ import annotations

from typing import Any

from aino_ir.dtypes import DType, f32, integer_range
from aino_ir.frontends.torch.context import NodeContext, Row
from aino_ir.frontends.torch.dtypes import DTYPE_OF
from aino_ir.graph import Value


def numbers(c: NodeContext, x: Any, dtype: DType, rank: int, axis: int | None = None) -> Value:
    """Scales or zero points: one number, or one for each index of an axis, so that they broadcast."""
    if not isinstance(x, Value):
        return c.operand(x, dtype)
    value = c.cast(x, dtype)
    return c.reshape(value, () if axis is None else [x.shape[0] if a == axis else 1 for a in range(rank)])


def quantized(
    c: NodeContext, x: Value, scale: Any, zero: Any, low: int, high: int, to: DType, axis: int | None
) -> Value:
    """round(x / scale) + zero within low..high, as `to`."""
    x = c.cast(x, f32)
    parameters = numbers(c, scale, f32, x.rank, axis), numbers(c, zero, to, x.rank, axis)
    q = c.emit("quantize", x, *parameters, to=to)
    return q if (low, high) == integer_range(to) else c.emit("clip", q, min=low, max=high)


def dequantized(c: NodeContext, x: Value, scale: Any, zero: Any, axis: int | None) -> Value:
    """(x - zero) * scale in the dtype that the call gives."""
    point = None if zero is None else numbers(c, zero, x.dtype, x.rank, axis)
    return c.cast(c.emit("dequantize", x, numbers(c, scale, f32, x.rank, axis), point), c.dtype)


def quantize_per_tensor(
    c: NodeContext, x: Value, scale: Any, zero_point: Any, quant_min: int, quant_max: int, dtype: Any
) -> Value:
    """One scale and zero point."""
    return quantized(c, x, scale, zero_point, quant_min, quant_max, DTYPE_OF[dtype], None)


def dequantize_per_tensor(
    c: NodeContext,
    x: Value,
    scale: Any,
    zero_point: Any,
    quant_min: int,
    quant_max: int,
    dtype: Any,
    out_dtype: Any = None,
) -> Value:
    """One scale and zero point."""
    return dequantized(c, x, scale, zero_point, None)


def quantize_per_channel(
    c: NodeContext,
    x: Value,
    scales: Any,
    zero_points: Any,
    axis: int,
    quant_min: int,
    quant_max: int,
    dtype: Any,
) -> Value:
    """A scale and zero point for each index of an axis."""
    axis = c.axis(axis, x.rank)
    return quantized(c, x, scales, zero_points, quant_min, quant_max, DTYPE_OF[dtype], axis)


def dequantize_per_channel(
    c: NodeContext,
    x: Value,
    scales: Any,
    zero_points: Any,
    axis: int,
    quant_min: int,
    quant_max: int,
    dtype: Any,
    out_dtype: Any = None,
) -> Value:
    """A scale and zero point for each index of an axis."""
    return dequantized(c, x, scales, zero_points, c.axis(axis, x.rank))


TABLE: dict[str, Row] = {
    "quantized_decomposed.dequantize_per_channel": dequantize_per_channel,
    "quantized_decomposed.dequantize_per_tensor": dequantize_per_tensor,
    "quantized_decomposed.quantize_per_channel": quantize_per_channel,
    "quantized_decomposed.quantize_per_tensor": quantize_per_tensor,
}
"""Operators of ``quantized_decomposed``."""
