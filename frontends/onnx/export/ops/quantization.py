"""Quantised numbers: QuantizeLinear, DequantizeLinear, and integer contractions as ONNX writes them."""

from __future__ import annotations

from typing import Any

import numpy as np

from aino_ir.dims import is_static
from aino_ir.dtypes import DType, f32, i32
from aino_ir.frontends.onnx.export.ops.contraction import geometry
from aino_ir.frontends.onnx.export.types import element_code
from aino_ir.frontends.onnx.export.writer import GraphWriter, Ref, Row
from aino_ir.graph import Value
from aino_ir.pattern import constant_of


def parameter_axis(g: GraphWriter, x: Value, *parameters: Value | None) -> int | None:
    """The axis of x that parameters run along; None when each is a single number."""
    found: set[int] = set()
    for v in parameters:
        if v is None:
            continue
        for axis, d in enumerate(v.shape, x.rank - v.rank):
            if not (is_static(d) and d == 1):
                found.add(axis)
    if len(found) > 1:
        g.refuse("its scale runs along several axes")
    return next(iter(found), None)


def parameter(g: GraphWriter, value: Value | None, axis: int | None) -> Ref | None:
    """A scale or zero point as ONNX wants it: one number, or a vector."""
    if value is None:
        return None
    ref = g.refs[value]
    if value.rank == 0 and axis is None:
        return ref
    if axis is None:
        return g.reshape(ref, ())
    if value.type.size == 1:  # type: ignore[union-attr]
        g.refuse("one of its parameters is a number, the other one a vector")
    return ref if value.rank == 1 else g.reshape(ref, (value.type.size,))  # type: ignore[union-attr]


def quantize(g: GraphWriter, op: Any) -> Ref:
    """QuantizeLinear; the dtype is that of the zero point, which is 0 where there is none."""
    axis = parameter_axis(g, op.x, op.scale, op.zero)
    _same_shape(g, op)
    x, scale = g.refs[op.x], parameter(g, op.scale, axis)
    zero = parameter(g, op.zero, axis)
    if zero is None:
        zero = zeros_like(g, op.scale, axis, op.to)
    return g.node("QuantizeLinear", x, scale, zero, dtype=op.to, axis=axis)


def dequantize(g: GraphWriter, op: Any) -> Ref:
    """DequantizeLinear."""
    axis = parameter_axis(g, op.x, op.scale, op.zero)
    _same_shape(g, op)
    scale, zero = parameter(g, op.scale, axis), parameter(g, op.zero, axis)
    return g.node("DequantizeLinear", g.refs[op.x], scale, zero, dtype=op.scale.dtype, axis=axis)


def _same_shape(g: GraphWriter, op: Any) -> None:
    if op.x.shape != op.result.shape:
        g.refuse("its scale has more elements than its operand")


def zeros_like(g: GraphWriter, scale: Value, axis: int | None, dtype: DType) -> Ref:
    """A zero point of 0 for a scale."""
    if axis is None:
        return g.scalar(0, dtype)
    size = scale.type.size  # type: ignore[union-attr]
    if not is_static(size):
        g.refuse("it has no zero point and a scale of symbolic extent")
    return g.constant(np.zeros(int(size)), dtype)  # type: ignore[arg-type]


def widen(g: GraphWriter, op: Any) -> Ref:
    """A conversion to f32."""
    return g.node("Cast", g.refs[op.x], dtype=f32, to=element_code(f32))


def quantize_groups(g: GraphWriter, op: Any) -> Ref:
    """QuantizeLinear in blocks."""
    zero = None if op.zero is None else g.refs[op.zero]
    code = element_code(op.to) if zero is None else None
    refs = g.refs[op.x], g.refs[op.scale], zero
    return g.node("QuantizeLinear", *refs, dtype=op.to, axis=op.axis, block_size=op.group, output_dtype=code)


def dequantize_groups(g: GraphWriter, op: Any) -> Ref:
    """DequantizeLinear in blocks."""
    zero = None if op.zero is None else g.refs[op.zero]
    refs = g.refs[op.x], g.refs[op.scale], zero
    return g.node("DequantizeLinear", *refs, dtype=op.scale.dtype, axis=op.axis, block_size=op.group)


def conv(g: GraphWriter, op: Any) -> Ref:
    """DequantizeLinear of both operands and the bias, then Conv: what engines fuse to an integer kernel."""
    scale = channel_scale(g, op.scale, op.result.rank, 1)
    x, w = real(g, op.x, op.zero), real(g, op.w, 0, scale, 0)
    bias = integer_bias(g, op, op.w, scale, tuple(range(1, op.w.rank)))
    return g.node("Conv", x, w, bias, group=op.groups, **geometry(op), dtype=f32)


def matmul(g: GraphWriter, op: Any) -> Ref:
    """DequantizeLinear of both operands and the bias, then MatMul and Add.

    Where the offset is computed, or varies with the rows, MatMulInteger has the sum.
    """
    if op.offset is not None and (constant_of(op.offset) is None or op.offset.rank != 1):
        return offset_product(g, op)
    scale = channel_scale(g, op.scale, op.result.rank, op.result.rank - 1)
    x, w = real(g, op.lhs, op.zero), real(g, op.rhs, 0, scale, op.rhs.rank - 1)
    if op.rhs.rank > 2 and op.offset is not None:
        g.refuse("it multiplies stacks of matrices and has an offset")
    y = g.node("MatMul", x, w, dtype=f32)
    bias = integer_bias(g, op, op.rhs, scale, (0,))
    return y if bias is None else g.node("Add", y, bias)


def offset_product(g: GraphWriter, op: Any) -> Ref:
    """(MatMulInteger + offset) * scale."""
    whole = g.node("MatMulInteger", g.refs[op.lhs], g.refs[op.rhs], dtype=i32)
    y = g.node("Cast", g.node("Add", whole, g.refs[op.offset]), dtype=f32, to=element_code(f32))
    return g.node("Mul", y, g.refs[op.scale])


class Scale:
    """A scale of a contraction: one number, or one for each output channel."""

    def __init__(self, ref: Ref, vector: bool) -> None:
        self.ref = ref
        self.vector = vector


def channel_scale(g: GraphWriter, scale: Value, rank: int, axis: int) -> Scale:
    """The scale of a result, which must be one number or run along the output channels."""
    moving = [a for a, d in enumerate(scale.shape, rank - scale.rank) if not (is_static(d) and d == 1)]
    known = constant_of(scale)
    if known is not None and moving in ([], [axis]):
        return Scale(g.constant(known.array().reshape(-1 if moving else ())), bool(moving))
    if not moving:
        return Scale(g.reshape(g.refs[scale], ()), False)
    if moving != [axis]:
        g.refuse("its scale runs along other axes than the output channels")
    return Scale(g.reshape(g.refs[scale], (scale.type.size,)), True)  # type: ignore[union-attr]


def real(g: GraphWriter, x: Value, zero: int, scale: Scale | None = None, axis: int = 0) -> Ref:
    """An 8-bit operand as floats; whole numbers where there is no scale."""
    by = g.scalar(1.0, f32) if scale is None else scale.ref
    point = g.scalar(zero, x.dtype) if zero else None
    along = axis if scale is not None and scale.vector else None
    return g.node("DequantizeLinear", g.refs[x], by, point, dtype=f32, axis=along)


def integer_bias(g: GraphWriter, op: Any, w: Value, scale: Scale, reduced: tuple[int, ...]) -> Ref | None:
    """The bias that is left of an offset when x's zero point is taken off by DequantizeLinear."""
    handle = constant_of(w)
    if op.zero and handle is None:
        g.refuse("its weights are computed, so that what the zero point adds is not known")
    given = None if op.offset is None else constant_of(op.offset)
    if op.offset is not None and given is None:
        g.refuse("its offset is computed")
    whole = np.zeros((), np.int64) if given is None else given.array().astype(np.int64)
    if op.zero and handle is not None:
        whole = whole + op.zero * handle.array().astype(np.int64).sum(axis=reduced)
    if not whole.any():
        return None
    if np.abs(whole).max() > np.iinfo(np.int32).max:
        g.refuse("its bias does not fit 32 bits")
    along = 0 if scale.vector else None
    return g.node("DequantizeLinear", g.constant(whole, i32), scale.ref, dtype=f32, axis=along)


TABLE: dict[str, Row] = {
    "quant.quantize": quantize,
    "quant.dequantize": dequantize,
    "quant.widen": widen,
    "quant.quantize_groups": quantize_groups,
    "quant.dequantize_groups": dequantize_groups,
    "quant.conv": conv,
    "quant.matmul": matmul,
}
"""How each op of the family is written."""
