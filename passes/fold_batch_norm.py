"""Folds per-channel scales and shifts, batch normalisation above all, into convolution weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from aino_ir.builder import Builder
from aino_ir.dtypes import DType, f32
from aino_ir.graph import Value
from aino_ir.ops.math import Add, Mul, Sub
from aino_ir.ops.nn import Conv
from aino_ir.ops.normalize import BatchNorm
from aino_ir.passes.rules import Rule, RulePass
from aino_ir.pattern import Match, P, constant, constant_of


def _convolution_problem(conv: Conv) -> str | None:
    """Why a convolution's weights cannot be changed, or None."""
    if not is_fixed(conv.w):
        return "the weights are no constant"
    if conv.bias is not None and not is_fixed(conv.bias):
        return "the bias is no constant"
    return None if conv.result.use_count == 1 else "the convolution has other readers"


def is_fixed(value: Value, depth: int = 32) -> bool:
    """Whether a value depends on constants alone."""
    if constant_of(value) is not None:
        return True
    op = value.op
    if op is None or depth == 0 or not op.operands:
        return False
    return all(is_fixed(v, depth - 1) for v in op.present_operands())


def per_channel(value: Value, result: Value) -> bool:
    """Whether a value has one element, or one per position of axis 1 of a result that it broadcasts to."""
    shape = (1,) * (result.rank - value.rank) + tuple(value.shape)
    return len(shape) == result.rank and all(
        d == 1 or (axis == 1 and d == result.shape[1]) for axis, d in enumerate(shape)
    )


def _vector(b: Builder, value: Value, channels: int) -> Value:
    """A per-channel value as a vector of `channels` elements."""
    size = 1
    for d in value.shape:
        size *= d
    return b.expand(b.reshape(value, shape=(size,)), shape=(channels,))  # type: ignore[no-any-return]


def _rescaled(b: Builder, conv: Conv, factor: Value | None, shift: Value | None) -> Value:
    """A convolution whose result is `conv * factor + shift`; the ops on constants are folded later."""
    channels = conv.w.shape[0]
    w, bias = conv.w, conv.bias
    if factor is not None:
        column = b.reshape(factor, shape=(channels, *[1] * (conv.w.rank - 1)))
        w = _combined(b.mul, b, w, column)
        bias = None if bias is None else _combined(b.mul, b, bias, factor)
    if shift is not None:
        bias = _cast(b, shift, w.dtype) if bias is None else _combined(b.add, b, bias, shift)
    return b.op(Conv, conv.x, w, bias, **conv.attrs()).result


def _combined(op: Callable[[Value, Value], Value], b: Builder, value: Value, other: Value) -> Value:
    """Of a value and another one, perhaps of a wider type, rounded once to the type of the first."""
    return _cast(b, op(_cast(b, value, other.dtype), other), value.dtype)


def _cast(b: Builder, value: Value, dtype: DType) -> Value:
    return value if value.dtype == dtype else b.cast(value, to=dtype.name)


def _affine(b: Builder, norm: BatchNorm) -> tuple[Value, Value]:
    """(factor, shift) with batch_norm(x) = x * factor + shift.

    In f32 where parameters have 16 bits: an error of a factor is one of its whole channel, and what either is
    combined with is rounded after that.
    """
    wide = f32 if norm.variance.dtype.bits < f32.bits else norm.variance.dtype
    scale, bias, mean, variance = (
        _cast(b, v, wide) for v in (norm.scale, norm.bias, norm.mean, norm.variance)
    )
    epsilon = b.constant(constant_like(variance, norm.epsilon))
    factor = b.div(scale, b.sqrt(b.add(variance, epsilon)))
    return factor, b.sub(bias, b.mul(mean, factor))


def constant_like(value: Value, number: float) -> object:
    """A 0-d array of a value's dtype."""
    return np.asarray(number, value.dtype.numpy)


_PARAMETERS = (constant("scale"), constant("bias"), constant("mean"), constant("variance"))


class BatchNormIntoConv(Rule):
    """batch_norm(conv(x, w, b)) ==> conv(x, w * f, (b - mean) * f + bias)

    with f = scale / sqrt(variance + epsilon)
    """

    pattern = P(BatchNorm, P(Conv, op="conv"), *_PARAMETERS, op="norm")
    error_class = "reordered"

    def check(self, m: Match) -> str | None:
        norm = m.op("norm")
        if norm.axis % norm.x.rank != 1:
            return f"the norm is per position of axis {norm.axis}"
        return _convolution_problem(m.op("conv"))

    def rewrite(self, m: Match, b: Builder) -> Value:
        return _rescaled(b, m.op("conv"), *_affine(b, m.op("norm")))


class BatchNormIsAffine(Rule):
    """batch_norm(x) ==> x * f + (bias - mean * f)   when all parameters are constants"""

    pattern = P(BatchNorm, "x", *_PARAMETERS, op="norm")
    error_class = "reordered"

    def check(self, m: Match) -> str | None:
        return "" if isinstance(m["x"].op, Conv) and _convolution_problem(m["x"].op) is None else None

    def rewrite(self, m: Match, b: Builder) -> Value:
        norm = m.op("norm")
        axis = norm.axis % norm.x.rank
        column = (norm.x.shape[axis], *[1] * (norm.x.rank - 1 - axis))
        factor, shift = (b.reshape(v, shape=column) for v in _affine(b, norm))
        x = _cast(b, m["x"], factor.dtype)
        return _cast(b, b.add(b.mul(x, factor), shift), m["x"].dtype)


class ScaleIntoConv(Rule):
    """conv(x, w, b) * s ==> conv(x, w * s, b * s)   when s is a constant per channel"""

    pattern = P(Mul, P(Conv, op="conv"), constant("s"))
    error_class = "reordered"

    def check(self, m: Match) -> str | None:
        if not per_channel(m["s"], m.root.result):
            return "the factor is not per channel"
        return _convolution_problem(m.op("conv"))

    def rewrite(self, m: Match, b: Builder) -> Value:
        conv = m.op("conv")
        return _rescaled(b, conv, _vector(b, m["s"], conv.w.shape[0]), None)


class ShiftIntoConv(Rule):
    """conv(x, w, b) + s ==> conv(x, w, b + s), likewise - s   when s is a constant per channel"""

    pattern = (P(Add, P(Conv, op="conv"), constant("s")), P(Sub, P(Conv, op="conv"), constant("s")))
    error_class = "reordered"

    def check(self, m: Match) -> str | None:
        if not per_channel(m["s"], m.root.result):
            return "the summand is not per channel"
        return _convolution_problem(m.op("conv"))

    def rewrite(self, m: Match, b: Builder) -> Value:
        conv = m.op("conv")
        shift = _vector(b, m["s"], conv.w.shape[0])
        return _rescaled(b, conv, None, b.neg(shift) if isinstance(m.root, Sub) else shift)


@dataclass(frozen=True)
class FoldBatchNorm(RulePass):
    """Batch normalisation and per-channel scales and shifts after a convolution become its weights.

    What is left of batch normalisation becomes a multiplication and an addition.
    """

    name = "fold-batch-norm"
    error_class = "reordered"
    rules = (BatchNormIntoConv(), ScaleIntoConv(), ShiftIntoConv(), BatchNormIsAffine())
