"""Turns contractions of dequantised operands into exact integer ones that are scaled once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from aino_ir.builder import Builder
from aino_ir.constants import Const
from aino_ir.dtypes import f32, i8, i32, u8
from aino_ir.graph import Value
from aino_ir.op import Op
from aino_ir.ops.nn import Conv, MatMul, MaxPool
from aino_ir.ops.quant import Dequantize, QuantConv, QuantMatMul
from aino_ir.ops.tensor import Reshape, Slice, Transpose
from aino_ir.passes.rules import Rule, RulePass
from aino_ir.pattern import Match, P, constant_of

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
        channel_axis: of the integers, along which the scale runs.
        handle: the constant, where the integers are what it holds.
    """

    integers: Array
    scale: Array
    channel_axis: int
    handle: Const | None


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
    if integers.size and (integers.min() < -128 or integers.max() > 127):
        return "the weights less their zero point do not fit 8 bits"
    return Weight(integers.astype(np.int8), scale.array().reshape(-1), channel_axis, None)


class Contraction(Rule):
    """What the rules for convolutions and products share."""

    error_class = "reordered"

    @staticmethod
    def parts(op: Op) -> tuple[Activation, Weight] | str:
        """The operands, or why the op stays."""
        raise TypeError("abstract")

    def check(self, m: Match) -> str | None:
        parts = self.parts(m.root)
        if isinstance(parts, str):
            return parts
        activation, weight = parts
        sums = per_channel_sums(weight.integers, weight.channel_axis)
        worst = float(np.abs(sums).max(initial=0)) * abs(activation.zero)
        return "its zero point moves sums out of 32 bits" if worst >= OFFSET_LIMIT else None

    def looked_at(self, m: Match) -> Iterator[Op]:
        for value in m.root.present_operands():
            decode = value.op
            if isinstance(decode, Dequantize) and constant_of(decode.scale) is not None:
                yield decode
                yield from (v.op for v in decode.present_operands() if v.op is not None)


def per_channel_sums(integers: Array, channel_axis: int) -> Array:
    """Sums over everything but the output channels."""
    axes = tuple(a for a in range(integers.ndim) if a != channel_axis)
    return np.asarray(integers.sum(axis=axes, dtype=np.int64))


class IntegerConv(Contraction):
    """conv((x - zx) sx, w sw) + bias ==> (conv(x, w) - zx sum(w) + bias / (sx sw)) sx sw

    the sum in integers; a bias that is no integer multiple of sx sw is added as it is.
    """

    pattern = P(Conv)

    @staticmethod
    def parts(op: Op) -> tuple[Activation, Weight] | str:
        assert isinstance(op, Conv)
        activation, weight = activation_of(op.x), weight_of(op.w, 0)
        if isinstance(activation, str):
            return activation
        return weight if isinstance(weight, str) else (activation, weight)

    def rewrite(self, m: Match, b: Builder) -> Value | None:
        op = m.root
        assert isinstance(op, Conv)
        parts = self.parts(op)
        assert not isinstance(parts, str)
        activation, weight = parts
        scale = (np.float32(activation.scale) * weight.scale).astype(np.float32)
        offset = -activation.zero * per_channel_sums(weight.integers, weight.channel_axis)
        bias = integer_bias(op.bias, scale)
        if bias is not None:
            offset = offset + bias
        column = scale.reshape(-1, *[1] * (op.x.rank - 2)) if scale.size > 1 else scale.reshape(())
        x, geometry = padded(b, op, activation)
        y = b.op(
            QuantConv,
            x,
            weight_constant(b, weight, op.w),
            b.constant(column),
            offset_constant(b, offset),
            **geometry,
            zero=activation.zero,
        ).result
        if op.bias is None or bias is not None:
            return y
        return b.add(y, b.reshape(op.bias, shape=(op.bias.shape[0], *[1] * (op.x.rank - 2))))  # type: ignore[no-any-return]


class IntegerMatMul(Contraction):
    """matmul((x - zx) sx, w sw) ==> (matmul(x, w) - zx sum(w)) sx sw   when w is constant

    the sum in integers.
    """

    pattern = P(MatMul)

    @staticmethod
    def parts(op: Op) -> tuple[Activation, Weight] | str:
        assert isinstance(op, MatMul)
        activation = activation_of(op.lhs)
        if isinstance(activation, str):
            return activation
        if op.transpose_lhs:
            return "the activation is transposed"
        if op.rhs.rank != 2:
            return "the weights are a stack of matrices"
        weight = weight_of(op.rhs, 0 if op.transpose_rhs else 1)
        return weight if isinstance(weight, str) else (activation, weight)

    def rewrite(self, m: Match, b: Builder) -> Value | None:
        op = m.root
        assert isinstance(op, MatMul)
        parts = self.parts(op)
        assert not isinstance(parts, str)
        activation, weight = parts
        scale = (np.float32(activation.scale) * weight.scale).astype(np.float32)
        return integer_product(b, op, activation.x, weight, scale, activation.zero)


class IntegerRows(Rule):
    """matmul((x - zx) s, w sw) ==> ((matmul(x, w) - zx sum(w)) sw) s   when s does not vary along the sum

    zx is a constant number, s what the run finds: a number, or one for each row (dynamic quantisation).
    """

    pattern = P(MatMul, P(Dequantize, op="decode"))
    error_class = "reordered"

    @staticmethod
    def weight(m: Match) -> Weight | str:
        """The weights, or why they cannot be multiplied as integers."""
        op = m.root
        assert isinstance(op, MatMul)
        if op.rhs.rank != 2:
            return "the weights are a stack of matrices"
        return weight_of(op.rhs, 0 if op.transpose_rhs else 1)

    def check(self, m: Match) -> str | None:
        op, decode = m.root, m.op("decode")
        assert isinstance(op, MatMul)
        if number_of(decode.scale) is not None or decode.x.dtype not in (i8, u8):
            return ""
        if op.transpose_lhs:
            return "the activation is transposed"
        if decode.scale.dtype is not f32 or (decode.scale.rank and decode.scale.shape[-1] != 1):
            return "the activation's scale varies along the sum"
        zero, weight = common_number(decode.zero), self.weight(m)
        if isinstance(weight, str):
            return weight
        if zero is None:
            return "the activation's zero point is no single constant"
        worst = np.abs(per_channel_sums(weight.integers, weight.channel_axis)).max(initial=0) * abs(zero)
        return "its zero point moves sums out of 32 bits" if worst >= OFFSET_LIMIT else None

    def looked_at(self, m: Match) -> Iterator[Op]:
        assert isinstance(m.root, MatMul)
        for decode in (m.op("decode"), m.root.rhs.op):
            assert decode is not None
            yield decode
            yield from (v.op for v in decode.present_operands() if constant_of(v) is not None and v.op)

    def rewrite(self, m: Match, b: Builder) -> Value:
        op, decode = m.root, m.op("decode")
        weight, zero = self.weight(m), common_number(decode.zero)
        assert isinstance(op, MatMul) and isinstance(weight, Weight) and zero is not None
        y = integer_product(b, op, decode.x, weight, weight.scale, int(zero))
        return b.mul(y, decode.scale)  # type: ignore[no-any-return]


def integer_product(b: Builder, op: MatMul, x: Value, weight: Weight, scale: Array, zero: int) -> Value:
    """(x @ w - zero * sum(w)) * scale, the sum in integers."""
    if op.transpose_rhs:
        weight = Weight(np.ascontiguousarray(weight.integers.T), weight.scale, 1, None)
    offset = -zero * per_channel_sums(weight.integers, weight.channel_axis)
    return b.op(
        QuantMatMul,
        x,
        weight_constant(b, weight, op.rhs),
        b.constant(scale if scale.size > 1 else scale.reshape(())),
        offset_constant(b, offset),
        zero=zero,
    ).result


def padded(b: Builder, op: Conv, activation: Activation) -> tuple[Value, dict[str, Any]]:
    """x and the geometry: a zero point that is not 0 is put around x, since kernels skip taps outside."""
    geometry = op.attrs()
    if not activation.zero or not (any(op.pads_before) or any(op.pads_after)):
        return activation.x, geometry
    none = (0,) * len(op.pads_before)
    before, after = (0, 0, *op.pads_before), (0, 0, *op.pads_after)
    x = b.pad(activation.x, before=before, after=after, value=float(activation.zero))
    return x, {**geometry, "pads_before": none, "pads_after": none}


def integer_bias(bias: Value | None, scale: Array) -> Array | None:
    """A bias as whole multiples of the scale of the sum, where it is stored so."""
    op = bias.op if bias is not None else None
    if not isinstance(op, Dequantize) or op.x.dtype is not i32 or op.zero is not None:
        return None
    whole, by = constant_of(op.x), constant_of(op.scale)
    if whole is None or by is None:
        return None
    if not np.allclose(by.array().reshape(-1), scale, rtol=1e-5, atol=0):
        return None
    found = whole.array().astype(np.int64)
    return found if np.abs(found).max(initial=0) < OFFSET_LIMIT else None


def weight_constant(b: Builder, weight: Weight, stood: Value) -> Value:
    """The integers as a constant under the name of what they stand for."""
    name = next(stood.op.present_operands()).name if stood.op is not None else stood.name
    handle = weight.handle if weight.handle is not None else Const.of(weight.integers, name)
    return b.constant(handle, name)


def offset_constant(b: Builder, offset: Array) -> Value | None:
    """The offset, left out where it is zero."""
    return b.constant(offset.astype(np.int32)) if offset.any() else None


class MoveBeforeDequantize(Rule):
    """move(dequantize(x)) ==> dequantize(move(x))   when scale and zero point are single numbers

    and nobody else reads the numbers: 8 bits are moved instead of 32.  Maxima of windows are a
    movement too, when the scale is positive.
    """

    pattern = tuple(
        P(kind, P(Dequantize, op="decode", once=True)) for kind in (Reshape, Transpose, Slice, MaxPool)
    )

    def check(self, m: Match) -> str | None:
        decode = m.op("decode")
        scale, zero = number_of(decode.scale), number_of(decode.zero)
        if scale is None or zero is None or constant_of(decode.x) is not None:
            return ""
        if isinstance(m.root, MaxPool) and not scale > 0:
            return "the scale is not positive"
        return None

    def looked_at(self, m: Match) -> list[Op]:
        decode = m.op("decode")
        return [v.op for v in (decode.scale, decode.zero) if v is not None and v.op is not None]

    def rewrite(self, m: Match, b: Builder) -> Value:
        decode = m.op("decode")
        moved = b.op(type(m.root), decode.x, **m.root.attrs()).result
        parameters = [
            None if v is None else b.constant(constant_of(v).array().reshape(()))  # type: ignore[union-attr]
            for v in (decode.scale, decode.zero)
        ]
        return b.op(Dequantize, moved, *parameters).result


@dataclass(frozen=True)
class IntegerContractions(RulePass):
    """Convolutions and products of dequantised activations with dequantised weights become integer ones.

    The integer sum is exact, and scaled once; what follows (bias, residual, activation, quantisation) stays
    elementwise arithmetic that kernels do before they store.
    """

    name = "integer-contractions"
    error_class = "reordered"
    rules = (MoveBeforeDequantize(), IntegerConv(), IntegerMatMul(), IntegerRows())
