"""What contractions of dequantised numbers multiply: integers, their scales and zero points."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from aino_ir.builder import Builder
from aino_ir.constants import Const
from aino_ir.dims import is_static
from aino_ir.dtypes import i8, i32, u8
from aino_ir.graph import Value
from aino_ir.op import Op
from aino_ir.ops.cast import Cast
from aino_ir.ops.core import Constant
from aino_ir.ops.math import Sub
from aino_ir.ops.nn import MatMul
from aino_ir.ops.quant import Dequantize
from aino_ir.ops.quant_products import QuantMatMul
from aino_ir.ops.tensor import Reshape
from aino_ir.pattern import constant_of

Array = np.ndarray[Any, Any]

OFFSET_LIMIT = 1 << 30
"""Offsets that leave the other half of i32 to the sum of products."""


def number_of(value: Value | None) -> float | None:
    """The single number that a constant holds, or None; 0 where there is no value."""
    if value is None:
        return 0.0
    handle = constant_of(value)
    return float(handle.array().reshape(())) if handle is not None and handle.size == 1 else None


def common_number(value: Value | None) -> float | None:
    """The number that all elements of a constant are, or None; 0 where there is no value."""
    handle = None if value is None else constant_of(value)
    if handle is None or handle.size == 0:
        return number_of(value)
    array = handle.array().reshape(-1)
    return float(array[0]) if (array == array[0]).all() else None


@dataclass(frozen=True)
class Activation:
    """A dequantised operand with one scale: (x - zero) * scale."""

    x: Value
    scale: float
    zero: int


@dataclass(frozen=True)
class Weight:
    """Constant integers less their zero point, and their scale: one number or one for each channel.

    Attributes:
        integers: i8.
        channel_axis: of the integers, along which scale and centre run.
        handle: the constant, where the integers are what it holds.
        centre: of each channel, what has to be added to the integers: they fit 8 bits without it; None: 0.
    """

    integers: Array
    scale: Array
    channel_axis: int
    handle: Const | None
    centre: Array | None = None

    @property
    def terms(self) -> int:
        """Products in a sum."""
        terms: int = self.integers.size // max(1, self.integers.shape[self.channel_axis])
        return terms

    def sums(self) -> Array:
        """Sums of the weights of each channel, i64."""
        sums = per_channel_sums(self.integers, self.channel_axis)
        return sums if self.centre is None else sums + self.terms * self.centre

    def transposed(self) -> Weight:
        """Those of a matrix [n, k] as [k, n]."""
        return Weight(np.ascontiguousarray(self.integers.T), self.scale, 1, None, self.centre)


def activation_of(value: Value) -> Activation | str:
    """A dequantised activation, or why it is none that can be multiplied as integers."""
    op = value.op
    if not isinstance(op, Dequantize):
        return ""
    if op.x.dtype not in (i8, u8):
        return f"the activation has {op.x.dtype.bits} bits"
    scale, zero = number_of(op.scale), number_of(op.zero)
    if scale is None or zero is None:
        return "the activation's scale or zero point is no single constant"
    return Activation(op.x, scale, int(zero))


def weight_of(value: Value, channel_axis: int) -> Weight | str:
    """A dequantised constant, or why it is none that can be multiplied as integers."""
    op = value.op
    if not isinstance(op, Dequantize):
        return ""
    handle, scale = constant_of(op.x), constant_of(op.scale)
    zeros = None if op.zero is None else constant_of(op.zero)
    if handle is None or scale is None or (op.zero is not None and zeros is None):
        return "the weights, their scale or their zero point are no constants"
    if op.x.dtype.bits > 8:
        return f"the weights have {op.x.dtype.bits} bits"
    rank = value.rank
    wide = (1,) * (rank - len(scale.shape)) + scale.shape
    if any(d != 1 and a != channel_axis for a, d in enumerate(wide)):
        return "the weights' scale runs along another axis than the output channels"
    if zeros is None and op.x.dtype is i8:
        return Weight(handle.array(), scale.array().reshape(-1), channel_axis, handle)
    integers = handle.array().astype(np.int32)
    if zeros is not None:
        integers = integers - zeros.array().astype(np.int32)
    return whole_weight(integers, scale.array().reshape(-1), channel_axis)


def whole_weight(integers: Array, scale: Array, channel_axis: int) -> Weight | str:
    """Weights of whole numbers in 8 bits, about a centre of each channel where they do not fit otherwise."""
    if not integers.size or (integers.min() >= -128 and integers.max() <= 127):
        return Weight(integers.astype(np.int8), scale, channel_axis, None)
    others = tuple(a for a in range(integers.ndim) if a != channel_axis)
    low, high = integers.min(axis=others, keepdims=True), integers.max(axis=others, keepdims=True)
    centre = (low + high + 1) // 2
    if (high - low).max() > 255:
        return "the weights less their zero point do not fit 8 bits"
    return Weight((integers - centre).astype(np.int8), scale, channel_axis, None, centre.reshape(-1))


def per_channel_sums(integers: Array, channel_axis: int) -> Array:
    """Sums over everything but the output channels."""
    axes = tuple(a for a in range(integers.ndim) if a != channel_axis)
    return np.asarray(integers.sum(axis=axes, dtype=np.int64))


def product(b: Builder, op: MatMul, x: Value, weight: Weight, scale: Array, zero: int | Value) -> Value:
    """((x - zero) @ w) * scale, the sum in integers; a zero that the run finds is one number or one a row."""
    if op.transpose_rhs:
        weight = weight.transposed()
    known = isinstance(zero, int) and weight.centre is None
    return b.op(
        QuantMatMul,
        x,
        weight_constant(b, weight, op.rhs),
        b.constant(scale if scale.size > 1 else scale.reshape(())),
        product_offset(b, x, weight, zero),
        zero=zero if known else 0,
    ).result


def product_offset(b: Builder, x: Value, weight: Weight, zero: int | Value) -> Value | None:
    """What makes x @ integers the product of (x - zero) and the weights.

    With weights = integers + centre this is centre * (sum of x over a row) - zero * (sum of the weights).
    """
    sums = weight.sums()
    if isinstance(zero, Value):
        whole = zero if zero.dtype is i32 else b.cast(zero, to="i32")
        offset: Value | None = b.mul(whole, b.constant((-sums).astype(np.int32)))
    else:
        offset = offset_constant(b, -zero * sums)
    if weight.centre is None:
        return offset
    rows = b.reduce_sum(b.cast(x, to="i32"), axes=(x.rank - 1,), keepdims=True)
    centred = b.mul(rows, b.constant(weight.centre.astype(np.int32)))
    return centred if offset is None else b.add(centred, offset)  # type: ignore[no-any-return]


def largest_offset(weight: Weight, zero: int) -> int:
    """A bound of what `product_offset` comes to with zero points up to `zero`."""
    worst = int(np.abs(weight.sums()).max(initial=0)) * abs(zero)
    if weight.centre is not None:
        worst += int(np.abs(weight.centre).max(initial=0)) * 255 * weight.terms
    return worst


# -- integers that were widened ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Widened:
    """Bytes in i32, less a zero point: a constant number, or what the run finds for all or each row."""

    x: Value
    zero: int | Value
    ops: tuple[Op, ...]


def widened(value: Value) -> Widened | str:
    """Bytes that were widened before they are summed along their last axis, or why they are none."""
    op, zero = value.op, None
    ops: list[Op] = []
    if isinstance(op, Sub):
        ops.append(op)
        zero, op = op.rhs, op.lhs.op
    if not isinstance(op, Cast) or op.x.dtype not in (i8, u8) or op.to is not i32:
        return "the activation is no widened byte"
    ops.append(op)
    if zero is None:
        return Widened(op.x, 0, tuple(ops))
    known = whole_constant(zero)
    if known is not None and known[0].size and (known[0] == known[0].reshape(-1)[0]).all():
        return Widened(op.x, int(known[0].reshape(-1)[0]), (*ops, *known[1]))
    source = zero.op
    while isinstance(source, Reshape):
        source = source.x.op
    if not isinstance(source, Cast) or source.x.dtype not in (i8, u8):
        return "the activation's zero point is no byte"
    if not same_along_sum(zero):
        return "the activation's zero point varies along the sum"
    return Widened(op.x, zero, tuple(ops))


def same_along_sum(value: Value) -> bool:
    """Whether a parameter of a product's left operand is one number, or one for each row."""
    last = value.shape[-1] if value.rank else 1
    return is_static(last) and last == 1


def whole_constant(value: Value) -> tuple[Array, list[Op]] | None:
    """A constant of whole numbers, also where it is not folded yet, in i64; and the ops that make it."""
    handle, op = constant_of(value), value.op
    if handle is not None and op is not None:
        return (handle.array().astype(np.int64), [op]) if handle.dtype.is_integer else None
    if isinstance(op, Cast) and op.to.is_integer and op.to.bits >= op.x.dtype.bits:
        inner = whole_constant(op.x)
        return None if inner is None else (inner[0], [op, *inner[1]])
    if isinstance(op, Reshape):
        inner = whole_constant(op.x)
        shape = value.shape
        if inner is None or not all(map(is_static, shape)):
            return None
        return inner[0].reshape([int(d) for d in shape]), [op, *inner[1]]
    if isinstance(op, Sub):
        left, right = whole_constant(op.lhs), whole_constant(op.rhs)
        if left is None or right is None:
            return None
        return left[0] - right[0], [op, *left[1], *right[1]]
    return None


# -- products ----------------------------------------------------------------------------------------------


def surrounded(b: Builder, x: Value, geometry: dict[str, Any], zero: int) -> tuple[Value, dict[str, Any]]:
    """x and its geometry: a zero point that is not 0 is put around x, since kernels skip taps outside."""
    before, after = geometry["pads_before"], geometry["pads_after"]
    if not zero or not (any(before) or any(after)):
        return x, geometry
    none = (0,) * len(before)
    wide = b.pad(x, before=(0, 0, *before), after=(0, 0, *after), value=float(zero))
    return wide, {**geometry, "pads_before": none, "pads_after": none}


def weight_constant(b: Builder, weight: Weight, stood: Value) -> Value:
    """The integers as a constant under the name of what they stand for."""
    named = stood
    while named.op is not None and not isinstance(named.op, Constant):
        named = next(named.op.present_operands())
    name = named.name
    handle = weight.handle if weight.handle is not None else Const.of(weight.integers, name)
    return b.constant(handle, name)


def offset_constant(b: Builder, offset: Array) -> Value | None:
    """The offset, left out where it is zero."""
    return b.constant(offset.astype(np.int32)) if offset.any() else None
