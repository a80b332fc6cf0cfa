"""Quantised layers in the graph: the ops that stand for them, in a module or alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from aino_ir.builder import Builder
from aino_ir.dtypes import DTYPES, i32
from aino_ir.graph import Module, Value, comes_before
from aino_ir.op import Op
from aino_ir.ops.math import Add
from aino_ir.ops.nn import AvgPool, Conv, MatMul, MaxPool
from aino_ir.ops.quant_products import QuantMatMul
from aino_ir.ops.reduce import ReduceMean
from aino_ir.ops.tensor import Reshape, Transpose
from aino_ir.passes.compression.layers import Layer
from aino_ir.passes.compression.numbers import Grid, Weights
from aino_ir.passes.integer_contractions import IntegerContractions
from aino_ir.passes.manager import PassManager
from aino_ir.passes.pipelines import TIDY
from aino_ir.pattern import constant_of
from aino_ir.rewriter import Rewriter
from aino_ir.types import TensorType

Array = np.ndarray[Any, Any]

RULE = "QuantizeLayer"


@dataclass
class Prepared:
    """A layer ready to be rewritten.

    Attributes:
        weights: its integers; of a product always [k, n].
        grid: of its static activation.
        correction: what is added to each output channel; None for nothing.
    """

    layer: Layer
    weights: Weights
    grid: Grid | None = None
    correction: Array | None = None


def decoded_activation(b: Builder, x: Value, grid: Grid, before_pools: bool = False) -> Value:
    """x on its grid, as floats again; `before_pools`: so is what maxima of windows and movements read.

    Rounding keeps the order, so that the largest of a window is the same; bytes are written and read then.
    """
    if before_pools and isinstance(x.op, (MaxPool, Reshape, Transpose)) and x.op.x.use_count == 1:
        inner = decoded_activation(b, x.op.x, grid, before_pools=True)
        return b.op(type(x.op), inner, **x.op.attrs()).result
    scale, zero = b.constant(grid.scale), b.constant(np.uint8(grid.zero))
    return b.dequantize(b.quantize(x, scale, zero, to="u8"), scale, zero)  # type: ignore[no-any-return]


def decoded_weights(b: Builder, prepared: Prepared) -> Value:
    """The integers as a constant, and what decodes them."""
    weights = prepared.weights
    q = b.constant(weights.integers, prepared.layer.weight.name)
    if weights.recipe.dtype.is_float:
        return b.widen(q)  # type: ignore[no-any-return]
    scale = b.constant(weights.scale)
    zero = None if weights.zero is None else b.constant(weights.zero)
    if weights.recipe.per == "group":
        return b.dequantize_groups(q, scale, zero, axis=0, group=weights.recipe.group)  # type: ignore[no-any-return]
    return b.dequantize(q, scale, zero)  # type: ignore[no-any-return]


def copied_bias(b: Builder, op: Op) -> Value | None:
    """The constant bias of a convolution, in another function."""
    bias = constant_of(op.bias) if isinstance(op, Conv) and op.bias is not None else None
    return None if bias is None else b.constant(bias)


def quantized_layer(b: Builder, op: Op, x: Value, prepared: Prepared, bias: Value | None = None) -> Value:
    """A layer on x with decoded weights; the correction goes into a constant bias where there is one."""
    w = decoded_weights(b, prepared)
    if isinstance(op, MatMul):
        y = b.op(MatMul, x, w, transpose_lhs=op.transpose_lhs).result
        return corrected(b, y, prepared.correction)
    assert isinstance(op, Conv)
    bias = bias if bias is not None else op.bias
    known = None if bias is None else constant_of(bias)
    if bias is not None and known is None:
        y = b.op(Conv, x, w, bias, **op.attrs()).result
        return corrected(b, y, prepared.correction, rank=op.x.rank)
    total = np.zeros(prepared.weights.integers.shape[0], np.float32) if known is None else known.array()
    if prepared.correction is not None:
        total = total + prepared.correction
    made = integer_bias(b, total, prepared) if total.any() else None
    return b.op(Conv, x, w, made, **op.attrs()).result


def rounded_activation(b: Builder, x: Value) -> Value:
    """x rounded to bf16, as floats again."""
    return b.cast(b.cast(x, to="bf16"), to="f32")  # type: ignore[no-any-return]


def half_layer(b: Builder, op: Op, x: Value, prepared: Prepared, bias: Value | None = None) -> Value:
    """A layer on x in bf16 with weights in bf16, its result in f32; bias and correction are added there."""
    w = b.constant(prepared.weights.integers, prepared.layer.weight.name)
    if isinstance(op, MatMul):
        y = b.op(MatMul, x, w, transpose_lhs=op.transpose_lhs).result
        return corrected(b, b.cast(y, to="f32"), prepared.correction)
    assert isinstance(op, Conv)
    bias = bias if bias is not None else op.bias
    y = b.cast(b.op(Conv, x, w, **op.attrs()).result, to="f32")
    if bias is not None:
        y = b.add(y, b.reshape(bias, shape=(bias.shape[0], *[1] * (x.rank - 2))))
    return corrected(b, y, prepared.correction, rank=x.rank)


def integer_bias(b: Builder, bias: Array, prepared: Prepared) -> Value:
    """A bias in whole multiples of what the integer sum counts; floats where the activation has no grid."""
    if prepared.grid is None or prepared.weights.zero is not None:
        return b.constant(bias.astype(np.float32))
    scale = (prepared.grid.scale * prepared.weights.scale.reshape(-1)).astype(np.float32)
    whole = np.rint(bias / scale)
    if np.abs(whole).max(initial=0) >= 1 << 29:
        return b.constant(bias.astype(np.float32))
    by = scale if scale.size > 1 else scale.reshape(())
    return b.dequantize(b.constant(whole.astype(i32.numpy)), b.constant(by))  # type: ignore[no-any-return]


def corrected(b: Builder, y: Value, correction: Array | None, rank: int = 0) -> Value:
    """y with a number added to each output channel (axis 1 of `rank` axes, or the last one)."""
    if correction is None or not correction.any():
        return y
    column = correction.reshape(-1, *[1] * (rank - 2)) if rank else correction
    return b.add(y, b.constant(column.astype(np.float32)))  # type: ignore[no-any-return]


def dynamic_product(b: Builder, x: Value, prepared: Prepared) -> Value:
    """A product whose left rows are each on a grid of their own, found when it runs.

    scale = max|row| / 127 and zero point 128; a row of zeros has the least scale that there is.
    """
    weights = prepared.weights
    size = b.reduce_max(b.abs(x), axes=(x.rank - 1,), keepdims=True)
    least = b.constant(np.float32(np.finfo(np.float32).tiny))
    scale = b.max(b.mul(size, b.constant(np.float32(1 / 127))), least)
    middle = b.constant(np.uint8(128))
    q = b.quantize(x, scale, middle, to="u8")
    sums = weights.integers.astype(np.int64).sum(axis=0)
    by = weights.scale.reshape(-1)
    y = b.op(
        QuantMatMul,
        q,
        b.constant(weights.integers, prepared.layer.weight.name),
        b.constant(by if by.size > 1 else by.reshape(())),
        b.constant((-128 * sums).astype(np.int32)),
        zero=128,
    ).result
    return b.mul(y, scale)  # type: ignore[no-any-return]


def rows_rounded(x: Array) -> Array:
    """What `dynamic_product` makes of its left operand, as floats."""
    size = np.abs(x).max(axis=-1, keepdims=True, initial=0.0)
    scale = np.maximum(size * np.float32(1 / 127), np.finfo(np.float32).tiny).astype(np.float32)
    return np.asarray((np.clip(np.rint(x / scale) + 128, 0, 255) - 128) * scale, np.float32)


def share_with_sums(rewriter: Rewriter, x: Value, decoded: Value) -> None:
    """Sums and means of pictures read the 8-bit version of an operand that exists anyway.

    32 bits need not be kept then, and means are sums of codes.
    """
    assert decoded.op is not None
    if x.rank < 3:
        return
    for user in list(x.users):
        if user.block is not decoded.op.block or not isinstance(user, (Add, AvgPool, ReduceMean)):
            continue
        if isinstance(user, Add) and user.result.shape != x.shape:
            continue
        if any(constant_of(v) is not None for v in user.present_operands()):
            continue
        if not comes_before(decoded.op, user):
            continue
        b = rewriter.builder(user)
        operands = [decoded if v is x else v for v in user.present_operands()]
        rewriter.replace(user, b.op(type(user), *operands, **user.attrs()).result, RULE)


def isolated(module: Module, op: Op, dtype: str | None = None) -> tuple[Builder, Value]:
    """A builder of an empty module, and its activation, possibly in another dtype.

    The input of a convolution lies with channels last, as its neighbours in a network would leave it.
    """
    x = op.operands[0]
    assert x is not None and isinstance(x.type, TensorType)
    b = Builder()
    b.function.symbols = module.main.symbols.clone()
    dtype = str(x.dtype) if dtype is None else dtype
    if not isinstance(op, Conv):
        return b, b.input("x", TensorType(DTYPES[dtype], x.shape))
    last = channels_last(x.rank)
    given = b.input("x", TensorType(DTYPES[dtype], tuple(x.shape[a] for a in last)))
    return b, b.transpose(given, perm=tuple(last.index(a) for a in range(x.rank)))


def finished(b: Builder, op: Op, y: Value) -> Module:
    """The module of a layer alone: its result lies as its readers in a network would want it."""
    b.output("y", b.transpose(y, perm=channels_last(y.rank)) if isinstance(op, Conv) else y)
    b.finish()
    return b.module


def channels_last(rank: int) -> tuple[int, ...]:
    """The order of axes with axis 1 innermost."""
    return (0, *range(2, rank), 1)


def float_alone(module: Module, op: Op, writes_bytes: bool = False) -> Module:
    """A layer on floats, as a module of its own; its readers may want its result in bytes either way."""
    b, x = isolated(module, op)
    weights = op.operands[1]
    handle = constant_of(weights) if weights is not None else None
    assert handle is not None
    bias = (copied_bias(b, op),) if isinstance(op, Conv) else ()
    y = b.op(type(op), x, b.constant(handle), *bias, **op.attrs()).result
    return finished(b, op, b.quantize(y, b.constant(np.float32(1)), to="u8") if writes_bytes else y)


def quantized_alone(module: Module, op: Op, prepared: Prepared, activations: str) -> Module:
    """A layer as it runs when its neighbours are quantised too: activations come and go as stored."""
    stored = "bf16" if activations == "half" else "u8" if prepared.grid is not None else None
    b, x = isolated(module, op, stored)
    if activations == "dynamic":
        y = dynamic_product(b, x, prepared)
    elif activations == "half":
        y = b.cast(half_layer(b, op, x, prepared, copied_bias(b, op)), to="bf16")
    elif prepared.grid is None:
        y = quantized_layer(b, op, x, prepared, copied_bias(b, op))
    else:
        numbers = b.constant(prepared.grid.scale), b.constant(np.uint8(prepared.grid.zero))
        y = quantized_layer(b, op, b.dequantize(x, *numbers), prepared, copied_bias(b, op))
        y = b.quantize(y, b.constant(np.float32(1)), to="u8")
    alone = finished(b, op, y)
    PassManager((IntegerContractions(), *TIDY)).run(alone)
    return alone
