"""Quantization: numbers of few bits with a scale and a zero point.

A quantised number stands for ``(q - zero) * scale``.  Scales and zero points are operands: a single
number, or an array that broadcasts (one per channel).  Rounding is half to even, and results saturate.
Groups with parameters of their own are in `quant_groups`, exact products of integers in `quant_products`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from aino_ir.dtypes import DTYPES, DType, f32, i8, i32, integer_range, u8
from aino_ir.elementwise import Elementwise
from aino_ir.infer import InferContext
from aino_ir.loops.expr import Expr, cast, maximum, minimum, round_to, unary
from aino_ir.op import Sample, Trait, dtype_attr, operand, optional_operand
from aino_ir.ops.math import Array
from aino_ir.sampling import edge_values, random_values, seeded

QUANTIZED = ("i8", "u8", "i4", "u4", "i2", "u2", "i16", "u16")
"""What `quantize` can give."""

DEQUANTIZED = (*QUANTIZED, "i32")
"""What `dequantize` takes."""

WIDENED = ("bf16", "f16", "i8", "u8", "i4", "u4")
"""What `widen` takes."""


def check_numbers(ic: InferContext, quantized: DType, zero: Any) -> None:
    """The zero point has the dtype of the quantised numbers."""
    if zero is not None and zero.dtype is not quantized:
        ic.bad_dtype("dtype of zero", str(quantized), zero.dtype)


def check_scale(ic: InferContext, scale: Any) -> None:
    """Scales are computed with in f32."""
    if not scale.dtype.is_float or scale.dtype.compute is not f32:
        ic.bad_dtype("dtype of scale", "f32 or a float stored in fewer bits", scale.dtype)


def quantized_expr(x: Expr, scale: Expr, zero: Expr | None, to: DType) -> Expr:
    """round(x / scale) + zero, saturated; NaN gives 0.

    Without a zero point it is cut off before it is rounded: the ends are whole, so that changes nothing.
    """
    y = x / scale
    low, high = integer_range(to)
    if zero is None:
        y = unary("round", minimum(maximum(y, low), high))
    else:
        y = minimum(maximum(unary("round", y) + cast(zero, f32), low), high)
    return round_to(cast(cast(y, i32), to.compute), to)


def quantized_array(ev: Any, x: Array, scale: Array, zero: Array | None, to: DType) -> Array:
    """round(x / scale) + zero, saturated; NaN gives 0."""
    y = np.rint(x / scale)
    if zero is not None:
        y = y + zero.astype(y.dtype)
    low, high = integer_range(to)
    return ev.cast(np.where(np.isnan(y), 0, np.clip(y, low, high)).astype(np.int64), to)  # type: ignore[no-any-return]


def dequantized_expr(x: Expr, scale: Expr, zero: Expr | None) -> Expr:
    """(x - zero) * scale"""
    whole = cast(x, i32)
    if zero is not None:
        whole = whole - cast(zero, i32)
    return cast(whole, f32) * scale


def dequantized_array(x: Array, scale: Array, zero: Array | None) -> Array:
    """(x - zero) * scale"""
    whole = x.astype(np.int32)
    if zero is not None:
        whole = whole - zero.astype(np.int32)
    return np.asarray(whole.astype(scale.dtype) * scale)


class Quantize(Elementwise):
    """out = saturate(round(x / scale) + zero) as `to`, halves to the even one; NaN gives 0.

    The three operands broadcast; the division is one of f32.
    """

    name = "quant.quantize"
    derive_samples = False
    x = operand()
    scale = operand()
    zero = optional_operand()
    to = dtype_attr()

    def result_dtype(self, ic: InferContext) -> DType:
        if not self.x.dtype.is_float or self.x.dtype.compute is not f32:
            ic.bad_dtype("dtype of x", "f32 or a float stored in fewer bits", self.x.dtype)
        check_scale(ic, self.scale)
        if self.to.name not in QUANTIZED:
            ic.bad_attribute("to", f"one of {', '.join(QUANTIZED)}", self.to)
        check_numbers(ic, self.to, self.zero)
        return self.to

    def expr(self, x: Expr, scale: Expr, zero: Expr | None = None) -> Expr:
        return quantized_expr(x, scale, zero, self.to)

    def evaluate(self, ev: Any, x: Array, scale: Array, zero: Array | None = None) -> Array:
        return quantized_array(ev, x, scale, zero, self.to)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        x = edge_values(f32)
        for name in QUANTIZED:
            to = DTYPES[name]
            for scale in (1.0, 0.37, 1e-20):
                yield Sample((x, np.float32(scale), None), {"to": name}, f"{name} edges by {scale}")
            zero = np.asarray(integer_range(to)[1] // 2).astype(to.numpy)
            yield Sample((x, np.float32(0.5), zero), {"to": name}, f"{name} edges with a zero point")
        rng = seeded(cls.name)
        for shapes in (((2, 3, 5), (3, 1)), ((0, 4), (4,)), ((), ())):
            wide, small = (np.abs(random_values(f32, s, rng)) + np.float32(0.1) for s in shapes)
            yield Sample((wide, small, random_values(u8, shapes[1], rng)), {"to": "u8"}, f"{shapes}")
        halves = np.arange(-6, 7, dtype=np.float32) / 2
        yield Sample((halves, np.float32(1), None), {"to": "i8"}, "halves")


class Dequantize(Elementwise):
    """out = (x - zero) * scale in the dtype of the scale; the three operands broadcast."""

    name = "quant.dequantize"
    traits = frozenset({Trait.ELEMENTWISE, Trait.DECODES})
    derive_samples = False
    x = operand()
    scale = operand()
    zero = optional_operand()

    def result_dtype(self, ic: InferContext) -> DType:
        if self.x.dtype.name not in DEQUANTIZED:
            ic.bad_dtype("dtype of x", f"one of {', '.join(DEQUANTIZED)}", self.x.dtype)
        check_scale(ic, self.scale)
        check_numbers(ic, self.x.dtype, self.zero)
        return DTYPES[self.scale.dtype.name]

    def expr(self, x: Expr, scale: Expr, zero: Expr | None = None) -> Expr:
        return dequantized_expr(x, scale, zero)

    def evaluate(self, ev: Any, x: Array, scale: Array, zero: Array | None = None) -> Array:
        return dequantized_array(x, scale, zero)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        rng = seeded(cls.name)
        for name in DEQUANTIZED:
            dtype = DTYPES[name]
            x = edge_values(dtype)
            yield Sample((x, np.float32(0.37), None), {}, name)
            yield Sample((x, np.float32(0.37), x[1]), {}, f"{name} with a zero point")
        for shapes in (((2, 3, 5), (3, 1)), ((0, 4), (4,)), ((), ())):
            operands = (random_values(i8, shapes[0], rng), np.abs(random_values(f32, shapes[1], rng)), None)
            yield Sample(operands, {}, f"{shapes}")


class Widen(Elementwise):
    """out = x as f32, which holds every value of few bits exactly.

    With a constant it stays in the graph: the kernel that reads it keeps the few bits, and widens them on
    the way.
    """

    name = "quant.widen"
    traits = frozenset({Trait.ELEMENTWISE, Trait.DECODES})
    derive_samples = False
    x = operand()

    def result_dtype(self, ic: InferContext) -> DType:
        if self.x.dtype.name not in WIDENED:
            ic.bad_dtype("dtype of x", f"one of {', '.join(WIDENED)}", self.x.dtype)
        return f32

    def expr(self, x: Expr) -> Expr:
        return cast(x, f32)

    def evaluate(self, ev: Any, x: Array) -> Array:
        return x.astype(ev.float_dtype(f32))

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for name in WIDENED:
            yield Sample((edge_values(DTYPES[name]),), {}, name)
        yield Sample((random_values(i8, (0, 4), seeded(cls.name)),), {}, "nothing")
