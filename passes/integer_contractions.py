"""Turns contractions of dequantised operands into exact integer ones that are scaled once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from aino_ir.builder import Builder
from aino_ir.dtypes import f32, i8, i32, u8
from aino_ir.graph import Value
from aino_ir.op import Op
from aino_ir.ops.cast import Cast
from aino_ir.ops.nn import Conv, MatMul, MaxPool
from aino_ir.ops.quant import Dequantize
from aino_ir.ops.quant_products import QuantConv
from aino_ir.ops.tensor import Reshape, Slice, Transpose
from aino_ir.passes.integer_averages import AverageOfAxes, AverageOfWindows
from aino_ir.passes.integer_operands import (
    OFFSET_LIMIT,
    Activation,
    Array,
    Weight,
    Widened,
    activation_of,
    common_number,
    largest_offset,
    number_of,
    offset_constant,
    product,
    same_along_sum,
    surrounded,
    weight_constant,
    weight_of,
    whole_constant,
    whole_weight,
    widened,
)
from aino_ir.passes.rules import Rule, RulePass
from aino_ir.pattern import Match, P, constant_of


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
        return too_large(weight, activation.zero)

    def looked_at(self, m: Match) -> Iterator[Op]:
        for value in m.root.present_operands():
            decode = value.op
            if isinstance(decode, Dequantize) and constant_of(decode.scale) is not None:
                yield decode
                yield from (v.op for v in decode.present_operands() if v.op is not None)


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
        if isinstance(weight, Weight) and weight.centre is not None:
            return "the weights less their zero point do not fit 8 bits"
        return weight if isinstance(weight, str) else (activation, weight)

    def rewrite(self, m: Match, b: Builder) -> Value | None:
        op = m.root
        assert isinstance(op, Conv)
        parts = self.parts(op)
        assert not isinstance(parts, str)
        activation, weight = parts
        scale = (np.float32(activation.scale) * weight.scale).astype(np.float32)
        offset = -activation.zero * weight.sums()
        bias = integer_bias(op.bias, scale)
        if bias is not None:
            offset = offset + bias
        column = scale.reshape(-1, *[1] * (op.x.rank - 2)) if scale.size > 1 else scale.reshape(())
        x, geometry = surrounded(b, activation.x, op.attrs(), activation.zero)
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
        return product(b, op, activation.x, weight, scale, activation.zero)


class IntegerRows(Rule):
    """matmul((x - zx) s, w sw) ==> ((matmul(x, w) - zx sum(w)) sw) s   when zx, s do not vary along the sum

    Of them, the run finds one at least: a number, or one for each row (dynamic quantisation).
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

    @staticmethod
    def zero(m: Match) -> int | Value:
        """The zero point of the activation."""
        value = m.op("decode").zero
        known = common_number(value)
        return int(known) if known is not None else value

    def check(self, m: Match) -> str | None:
        op, decode = m.root, m.op("decode")
        assert isinstance(op, MatMul)
        if decode.x.dtype not in (i8, u8):
            return ""
        if number_of(decode.scale) is not None and number_of(decode.zero) is not None:
            return ""
        if op.transpose_lhs:
            return "the activation is transposed"
        if decode.scale.dtype is not f32 or not same_along_sum(decode.scale):
            return "the activation's scale varies along the sum"
        zero, weight = self.zero(m), self.weight(m)
        if isinstance(weight, str):
            return weight
        if isinstance(zero, Value) and not same_along_sum(zero):
            return "the activation's zero point varies along the sum"
        return too_large(weight, 255 if isinstance(zero, Value) else zero)

    def looked_at(self, m: Match) -> Iterator[Op]:
        assert isinstance(m.root, MatMul)
        for decode in (m.op("decode"), m.root.rhs.op):
            assert decode is not None
            yield decode
            yield from (v.op for v in decode.present_operands() if constant_of(v) is not None and v.op)

    def rewrite(self, m: Match, b: Builder) -> Value:
        op, decode = m.root, m.op("decode")
        weight = self.weight(m)
        assert isinstance(op, MatMul) and isinstance(weight, Weight)
        y = product(b, op, decode.x, weight, weight.scale, self.zero(m))
        return b.mul(y, decode.scale)  # type: ignore[no-any-return]


class WidenedProduct(Rule):
    """cast(matmul(x - zx, w - zw), f32) ==> matmul(x, w - zw) - zx sum(w - zw)   when w - zw fits 8 bits

    x are bytes, w is constant, and no sum can wrap; zx is a number or one for each row, constant or not.
    Where w - zw only fits about a centre c, that times the sums of x - zx is added.
    """

    pattern = P(Cast, P(MatMul, op="product", once=True))

    @staticmethod
    def parts(op: Op) -> tuple[Widened, Weight, list[Op]] | str:
        """The operands of a product and what was looked at, or why it stays."""
        assert isinstance(op, MatMul)
        if op.result.dtype is not i32:
            return ""
        left, right = widened(op.lhs), whole_constant(op.rhs)
        if isinstance(left, str) or right is None:
            return left if isinstance(left, str) else "the weights are no constants"
        if op.transpose_lhs or op.rhs.rank != 2:
            return "the activation is transposed, or the weights are a stack of matrices"
        terms = right[0].shape[1 if op.transpose_rhs else 0]
        if np.abs(right[0]).max(initial=0) > 255 or terms * 255 * 255 >= 1 << 31:
            return "sums may leave 32 bits"
        weight = whole_weight(right[0], np.ones(1, np.float32), 0 if op.transpose_rhs else 1)
        return weight if isinstance(weight, str) else (left, weight, right[1])

    def check(self, m: Match) -> str | None:
        if m.root.to is not f32:  # type: ignore[attr-defined]
            return ""
        parts = self.parts(m.op("product"))
        if isinstance(parts, str):
            return parts
        left, weight, _ = parts
        return too_large(weight, 255 if isinstance(left.zero, Value) else left.zero)

    def looked_at(self, m: Match) -> Iterator[Op]:
        parts = self.parts(m.op("product"))
        if not isinstance(parts, str):
            yield from parts[0].ops
            yield from parts[2]

    def rewrite(self, m: Match, b: Builder) -> Value:
        op = m.op("product")
        parts = self.parts(op)
        assert isinstance(op, MatMul) and not isinstance(parts, str)
        left, weight, _ = parts
        return product(b, op, left.x, weight, weight.scale, left.zero)


def too_large(weight: Weight, zero: int) -> str | None:
    """A reason where zero points up to `zero` move sums out of 32 bits."""
    worst = largest_offset(weight, zero)
    return "its zero point moves sums out of 32 bits" if worst >= OFFSET_LIMIT else None


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

    So do products of widened bytes (`MatMulInteger` of ONNX) whose sums are converted to floats, and means of
    dequantised numbers.

    The integer sum is exact, and scaled once; what follows (bias, residual, activation, quantisation) stays
    elementwise arithmetic that kernels do before they store.
    """

    name = "integer-contractions"
    error_class = "reordered"
    rules = (
        MoveBeforeDequantize(),
        AverageOfWindows(),
        AverageOfAxes(),
        IntegerConv(),
        IntegerMatMul(),
        IntegerRows(),
        WidenedProduct(),
    )
