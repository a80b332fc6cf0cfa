"""Operators of quantized_decomposed, of which PT2E quantisation makes its programs.

A number q stands for ``(q - zero point) * scale``.  PyTorch quantises by the product with 1 / scale, AINO by
the quotient (docs/ir.md): codes may differ by one where that decides on which side of a half a number lies.
"""

from __future__ import annotations

from collections.abc import Sequence

from aino_ir.dims import DimLike
from aino_ir.dtypes import DTYPES, DType, f32, float_info, integer_range
from aino_ir.frontends.torch.context import Lowering, NodeContext, Operand, Row
from aino_ir.graph import Value
from aino_ir.ops.quant import DEQUANTIZED, QUANTIZED


def quantized(c: NodeContext, x: Value, scale: Operand, zero: Operand | None, low: int, high: int) -> Value:
    """x in steps of scales from zero points, within a range of the result's dtype."""
    dtype = c.dtype
    if dtype.name not in QUANTIZED:
        c.unsupported(f"quantisation to {dtype}")
    y = c.emit("quant.quantize", c.cast(x, f32), *_steps(c, scale, zero, dtype), to=dtype)
    if (low, high) == integer_range(dtype):
        return y
    return c.emit("clip", y, min=low, max=high)


def dequantized(c: NodeContext, x: Value, scale: Operand, zero: Operand | None) -> Value:
    """The numbers that codes stand for."""
    if x.dtype.name not in DEQUANTIZED:
        c.unsupported(f"dequantisation of {x.dtype}")
    return c.cast(c.emit("quant.dequantize", x, *_steps(c, scale, zero, x.dtype)), c.dtype)


def _steps(c: NodeContext, scale: Operand, zero: Operand | None, dtype: DType) -> list[Value | None]:
    """Scales in f32 and zero points in the dtype of the codes; none where they are known to be 0."""
    plain = zero is None or (isinstance(zero, (int, float)) and zero == 0)
    return [c.operand(scale, f32), None if plain else c.operand(zero, dtype)]  # type: ignore[arg-type]


def bounds(c: NodeContext, low: Operand, high: Operand) -> tuple[int, int]:
    """A range of codes, which must be known."""
    return int(c.number(low, "a bound of codes")), int(c.number(high, "a bound of codes"))


def single(c: NodeContext, x: Operand) -> Operand:
    """The only element of a tensor, or a number."""
    return c.reshape(x, ()) if isinstance(x, Value) else x


def per_tensor(
    c: NodeContext,
    x: Value,
    scale: Operand,
    zero_point: Operand,
    quant_min: Operand,
    quant_max: Operand,
    dtype: DType,
) -> Value:
    """One scale for all."""
    return quantized(c, x, single(c, scale), single(c, zero_point), *bounds(c, quant_min, quant_max))


def from_per_tensor(
    c: NodeContext,
    x: Value,
    scale: Operand,
    zero_point: Operand,
    quant_min: Operand,
    quant_max: Operand,
    dtype: DType,
    out_dtype: DType | None = None,
) -> Value:
    """The numbers of codes with one scale."""
    return dequantized(c, x, single(c, scale), single(c, zero_point))


def along(c: NodeContext, x: Value, axis: int, values: Value | None) -> Value | None:
    """One number for each position of an axis of x."""
    if values is None:
        return None
    axis = c.axis(axis, x.rank)
    return c.reshape(values, [x.shape[a] if a == axis else 1 for a in range(x.rank)])


def per_channel(
    c: NodeContext,
    x: Value,
    scales: Value,
    zero_points: Value | None,
    axis: int,
    quant_min: int,
    quant_max: int,
    dtype: DType,
) -> Value:
    """A scale for each position of an axis."""
    given = along(c, x, axis, scales), along(c, x, axis, zero_points)
    assert given[0] is not None
    return quantized(c, x, given[0], given[1], quant_min, quant_max)


def from_per_channel(
    c: NodeContext,
    x: Value,
    scales: Value,
    zero_points: Value | None,
    axis: int,
    quant_min: int,
    quant_max: int,
    dtype: DType,
    out_dtype: DType | None = None,
) -> Value:
    """The numbers of codes with a scale for each position of an axis."""
    given = along(c, x, axis, scales), along(c, x, axis, zero_points)
    assert given[0] is not None
    return dequantized(c, x, given[0], given[1])


def per_token(
    c: NodeContext,
    x: Value,
    scales: Value,
    zero_points: Value,
    quant_min: int,
    quant_max: int,
    dtype: DType,
) -> Value:
    """A scale for each row of the last axis."""
    return quantized(c, x, scales, zero_points, quant_min, quant_max)


def from_per_token(
    c: NodeContext,
    x: Value,
    scales: Value,
    zero_points: Value,
    quant_min: int,
    quant_max: int,
    dtype: DType,
    output_dtype: DType | None = None,
) -> Value:
    """The numbers of codes with a scale for each row of the last axis."""
    return dequantized(c, x, scales, zero_points)


def grouped(c: NodeContext, x: Value, size: int) -> tuple[DimLike, ...]:
    """The shape of a matrix with its last axis cut into groups."""
    return (*x.shape[:-1], c.symbols.simplify(x.shape[-1] // size), size)


def per_group(
    c: NodeContext,
    x: Value,
    scales: Value,
    zero_points: Value,
    quant_min: int,
    quant_max: int,
    dtype: DType,
    group_size: int = 128,
) -> Value:
    """A scale for each group of neighbours on the last axis."""
    given = [c.reshape(v, (*v.shape, 1)) for v in (scales, zero_points)]
    wide = c.reshape(x, grouped(c, x, group_size))
    return c.reshape(quantized(c, wide, given[0], given[1], quant_min, quant_max), x.shape)


def from_per_group(
    c: NodeContext,
    x: Value,
    scales: Value,
    zero_points: Value | None,
    quant_min: int,
    quant_max: int,
    dtype: DType,
    group_size: int = 128,
    output_dtype: DType | None = None,
) -> Value:
    """The numbers of codes with a scale for each group of neighbours on the last axis."""
    scale, zero = (None if v is None else c.reshape(v, (*v.shape, 1)) for v in (scales, zero_points))
    assert scale is not None
    return c.reshape(dequantized(c, c.reshape(x, grouped(c, x, group_size)), scale, zero), x.shape)


# -- scales from data ---------------------------------------------------------------------------------


def extremes(c: NodeContext, x: Value, axes: Sequence[int]) -> tuple[Value, Value]:
    """The smallest and the largest element over axes, zero among them."""
    zero, keep = c.scalar(0, x.dtype), len(axes) < x.rank
    low, high = (c.emit(f"reduce.{op}", x, axes=tuple(axes), keepdims=keep) for op in ("min", "max"))
    return c.emit("min", low, zero), c.emit("max", high, zero)


def choose(symmetric: bool) -> Lowering:
    """A row for one scale and zero point that cover all elements."""

    def lower(
        c: NodeContext, x: Value, quant_min: int, quant_max: int, eps: float, dtype: DType
    ) -> list[Value]:
        wide = c.cast(x, f32)
        low, high = extremes(c, wide, range(x.rank))
        span = float(quant_max - quant_min)
        if symmetric:
            reach = c.emit("max", c.emit("neg", low), high)
            scale = c.emit("div", reach, c.scalar(span / 2, f32))
        else:
            scale = c.emit("div", c.emit("sub", high, low), c.scalar(span, f32))
        scale = c.emit("max", scale, c.scalar(eps, f32))
        if symmetric:
            middle = 128 if dtype.name == "u8" else 0
            zero = c.filled(scale.shape, middle, f32)
        else:
            steps = c.emit("round", c.emit("div", low, scale))
            zero = c.emit(
                "clip", c.emit("sub", c.scalar(quant_min, f32), steps), min=quant_min, max=quant_max
            )
        found = (scale, zero)
        return [c.reshape(c.cast(v, c.dtype_of(i)), c.shape_of(i)) for i, v in enumerate(found)]

    return lower


def choose_per_token(c: NodeContext, x: Value, dtype: DType) -> list[Value]:
    """A scale for each row that covers its largest magnitude in 8 bits."""
    wide = c.cast(x, f32)
    reach = c.emit("reduce.max", c.emit("abs", wide), axes=(x.rank - 1,), keepdims=True)
    scale = c.emit("div", c.emit("max", reach, c.scalar(1e-5, f32)), c.scalar(127, f32))
    return [c.cast(scale, c.dtype_of(0)), c.filled(scale.shape, 0, c.dtype_of(1))]


def choose_per_token_asymmetric(c: NodeContext, x: Value, dtype: DType) -> list[Value]:
    """A scale and a zero point for each row that cover its elements in signed 8 bits."""
    low, high = integer_range(DTYPES["i8"])
    least, most = extremes(c, c.cast(x, f32), (x.rank - 1,))
    scale = c.emit("div", c.emit("sub", most, least), c.scalar(high - low, f32))
    scale = c.emit("max", scale, c.scalar(float(float_info(f32).eps), f32))
    down, up = c.emit("div", least, scale), c.emit("div", most, scale)
    balance = c.emit("add", c.emit("add", c.scalar(low, f32), down), c.emit("add", c.scalar(high, f32), up))
    from_low, from_high = c.emit("sub", c.scalar(low, f32), down), c.emit("sub", c.scalar(high, f32), up)
    zero = c.emit("select", c.emit("gt", balance, c.scalar(0, f32)), from_low, from_high)
    zero = c.emit("round", c.emit("clip", zero, min=low, max=high))
    return [c.cast(scale, c.dtype_of(0)), c.cast(zero, c.dtype_of(1))]


TABLE: dict[str, Row] = {
    "quantized_decomposed.choose_qparams": choose(symmetric=False),
    "quantized_decomposed.choose_qparams_per_token": choose_per_token,
    "quantized_decomposed.choose_qparams_per_token_asymmetric": choose_per_token_asymmetric,
    "quantized_decomposed.choose_qparams_symmetric": choose(symmetric=True),
    "quantized_decomposed.dequantize_per_channel": from_per_channel,
    "quantized_decomposed.dequantize_per_channel_group": from_per_group,
    "quantized_decomposed.dequantize_per_tensor": from_per_tensor,
    "quantized_decomposed.dequantize_per_token": from_per_token,
    "quantized_decomposed.quantize_per_channel": per_channel,
    "quantized_decomposed.quantize_per_channel_group": per_group,
    "quantized_decomposed.quantize_per_tensor": per_tensor,
    "quantized_decomposed.quantize_per_token": per_token,
}
