"""Quantization: numbers of few bits with a scale and a zero point, and exact integer contractions.

A quantised number stands for ``(q - zero) * scale``.  Scales and zero points are operands: a single
number, or an array that broadcasts (one per channel); `quantize_groups` and `dequantize_groups` have
one for each group of neighbours along an axis.  Rounding is half to even, and results saturate.

`quant.conv` and `quant.matmul` sum products of 8-bit integers exactly and scale the sum once, so that
every target gives the same bits.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from aino_ir.compute import Axis, Compute, axes, broadcast_index, coordinates, read, read_broadcast
from aino_ir.dims import DimLike, ceildiv, is_static, product
from aino_ir.dtypes import DTYPES, DType, f32, i8, i32, i64, integer_range, u8
from aino_ir.elementwise import Elementwise
from aino_ir.infer import InferContext
from aino_ir.loops.expr import (
    Accumulator,
    Expr,
    VecType,
    cast,
    maximum,
    minimum,
    round_to,
    unary,
)
from aino_ir.op import Op, Sample, Trait, dtype_attr, int_attr, operand, optional_operand
from aino_ir.ops.math import Array
from aino_ir.ops.nn import Convolution
from aino_ir.sampling import edge_values, random_values, seeded
from aino_ir.types import TensorType, Type

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


class Grouped(Op):
    """What the ops on groups share: scale and zero have one element for each `group` along `axis`."""

    x = operand()
    scale = operand()
    zero = optional_operand()
    axis = int_attr()
    group = int_attr()

    def check_groups(self, ic: InferContext) -> None:
        """The shapes of scale and zero: x's, but for an extent of ceil(extent / group) along the axis."""
        rank = self.x.rank
        if not 0 <= self.axis < rank:
            ic.bad_attribute("axis", f"within 0..{rank - 1}", self.axis)
        if self.group < 1:
            ic.bad_attribute("group", "at least 1", self.group)
        check_scale(ic, self.scale)
        wanted = tuple(
            ceildiv(d, self.group) if a == self.axis else d
            for a, d in enumerate(ic.tensor(self.x, "x").shape)
        )
        for value, what in ((self.scale, "scale"), (self.zero, "zero")):
            if value is not None:
                ic.same_shape(wanted, value.shape, what)

    def spread(self, x: Array, parameter: Array | None) -> Array | None:
        """A parameter with one element for each of x."""
        if parameter is None:
            return None
        return np.take(parameter, np.arange(x.shape[self.axis]) // self.group, axis=self.axis)

    def group_reads(self, at: tuple[DimLike, ...]) -> list[Expr]:
        """x, scale and zero (where it is there) at an element."""
        there = tuple(c // self.group if a == self.axis else c for a, c in enumerate(at))
        parameters = [self.scale] if self.zero is None else [self.scale, self.zero]
        return [read(self.x, 0, at), *(read(v, i + 1, there) for i, v in enumerate(parameters))]

    def forward(self, source: Any, at: tuple[DimLike, ...]) -> tuple[DimLike, ...]:
        """The same element."""
        if source is not self.x:
            raise TypeError(f"{self.name}: the anchor's value is a parameter here")
        return at

    def cost(self) -> DimLike:
        return product(self.x.shape)

    @classmethod
    def group_samples(cls, dtypes: tuple[str, ...], given: DType | None) -> Iterator[Sample]:
        """Samples with groups that divide the axis and that do not; x is of `given` or of each dtype."""
        rng = seeded(cls.name)
        for name in dtypes:
            dtype = DTYPES[name]
            attrs: dict[str, Any] = {} if given is None else {"to": name}
            for shape, axis, group in (
                ((8, 5), 0, 4),
                ((7, 3), 0, 4),
                ((3, 9), 1, 2),
                ((3, 0), 0, 2),
                ((5,), 0, 8),
            ):
                x = random_values(given or dtype, shape, rng)
                small = tuple(-(-d // group) if a == axis else d for a, d in enumerate(shape))
                scale = np.abs(random_values(f32, small, rng)) + np.float32(0.1)
                zero = random_values(dtype, small, rng) if axis == 0 else None
                note = f"{name}{list(shape)} in groups of {group} along {axis}"
                yield Sample((x, scale, zero), {"axis": axis, "group": group, **attrs}, note)


class QuantizeGroups(Grouped):
    """out = saturate(round(x / scale) + zero) as `to`, with a scale for each group along an axis.

    scale and zero have the shape of x, but for ceil(extent / group) along `axis`.
    """

    name = "quant.quantize_groups"
    to = dtype_attr()

    def infer(self, ic: InferContext) -> list[Type]:
        if not self.x.dtype.is_float or self.x.dtype.compute is not f32:
            ic.bad_dtype("dtype of x", "f32 or a float stored in fewer bits", self.x.dtype)
        if self.to.name not in QUANTIZED:
            ic.bad_attribute("to", f"one of {', '.join(QUANTIZED)}", self.to)
        check_numbers(ic, self.to, self.zero)
        self.check_groups(ic)
        return [TensorType(self.to, self.x.shape)]

    def evaluate(self, ev: Any, x: Array, scale: Array, zero: Array | None = None) -> Array:
        wide = self.spread(x, scale)
        assert wide is not None
        return quantized_array(ev, x, wide, self.spread(x, zero), self.to)

    def define(self) -> Compute:
        space = axes("i", self.result.shape)
        x, scale, *zero = self.group_reads(coordinates(space))
        return Compute(space, quantized_expr(x, scale, zero[0] if zero else None, self.to))

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield from cls.group_samples(("i8", "u8", "i4", "u4"), f32)


class DequantizeGroups(Grouped):
    """out = (x - zero) * scale in the dtype of the scale, with a scale for each group along an axis.

    scale and zero have the shape of x, but for ceil(extent / group) along `axis`.
    """

    name = "quant.dequantize_groups"
    traits = frozenset({Trait.DECODES})

    def infer(self, ic: InferContext) -> list[Type]:
        if self.x.dtype.name not in DEQUANTIZED:
            ic.bad_dtype("dtype of x", f"one of {', '.join(DEQUANTIZED)}", self.x.dtype)
        check_numbers(ic, self.x.dtype, self.zero)
        self.check_groups(ic)
        return [TensorType(self.scale.dtype, self.x.shape)]

    def evaluate(self, ev: Any, x: Array, scale: Array, zero: Array | None = None) -> Array:
        wide = self.spread(x, scale)
        assert wide is not None
        return dequantized_array(x, wide, self.spread(x, zero))

    def define(self) -> Compute:
        space = axes("i", self.result.shape)
        x, scale, *zero = self.group_reads(coordinates(space))
        return Compute(space, dequantized_expr(x, scale, zero[0] if zero else None))

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield from cls.group_samples(("i8", "u8", "i4", "u4"), None)


def accumulator(x: DType, w: DType, terms: DimLike) -> DType:
    """The narrowest of i32 and i64 in which no sum of `terms` products of x and w can overflow.

    The offset of the sum may take half of the range.
    """
    most = max(map(abs, integer_range(x))) * max(map(abs, integer_range(w)))
    return i32 if is_static(terms) and int(terms) * most < 1 << 30 else i64  # type: ignore[arg-type]


def check_integers(ic: InferContext, op: Any, x: Any, w: Any) -> None:
    """8-bit factors, an f32 scale, an i32 offset."""
    for value, what in ((x, "x"), (w, "w")):
        if value.dtype not in (i8, u8):
            ic.bad_dtype(f"dtype of {what}", "i8 or u8", value.dtype)
    if op.scale.dtype is not f32:
        ic.bad_dtype("dtype of scale", "f32", op.scale.dtype)
    if op.offset is not None and op.offset.dtype is not i32:
        ic.bad_dtype("dtype of offset", "i32", op.offset.dtype)


def exact_sum(x: Array, w: Array) -> tuple[Array, Array]:
    """Factors in f64, in which sums of fewer than 2^37 products of 8-bit integers are exact."""
    return x.astype(np.float64), w.astype(np.float64)


def scaled_sum(op: Any, total: Array, scale: Array, offset: Array | None, dtype: Any) -> Array:
    """(total + offset) * scale, the sum exact."""
    whole = total if offset is None else total + offset
    return np.asarray(np.rint(whole).astype(np.int64).astype(dtype) * scale)


class QuantConv(Convolution):
    """out = (sum of x * w + offset) * scale: a convolution of 8-bit integers, exact until it is scaled.

    x [n, c, *spatial] and w [oc, c/groups, *kernel] are i8 or u8; offset [oc] is i32; scale, f32, has a
    shape that broadcasts to the result.  `zero`, the zero point of x, stands around x: with an offset of
    -zero * (sum of w over a channel) it counts as nothing.  Sums are kept in i32, or in i64 where they
    could overflow.
    """

    name = "quant.conv"
    scale = operand()
    offset = optional_operand()
    zero = int_attr(0)

    def infer(self, ic: InferContext) -> list[Type]:
        check_integers(ic, self, self.x, self.w)
        shape = self.result_shape(ic)
        low, high = integer_range(self.x.dtype)
        if not low <= self.zero <= high:
            ic.bad_attribute("zero", f"within {low}..{high}", self.zero)
        if self.offset is not None:
            ic.same_shape((self.w.shape[0],), self.offset.shape, "offset")
        ic.same_shape(shape, ic.broadcast(shape, self.scale.shape), "scale")
        return [TensorType(f32, shape)]

    def evaluate(self, ev: Any, x: Array, w: Array, scale: Array, offset: Array | None = None) -> Array:
        total = self.convolved(ev, *exact_sum(x, w), pad=self.zero)
        if offset is not None:
            offset = offset.reshape(-1, *[1] * (x.ndim - 2))
        return scaled_sum(self, total, scale, offset, ev.float_dtype(f32))

    def define(self) -> Compute:
        space, reduced, x, w, at = self.reads(self.zero)
        wide = accumulator(self.x.dtype, self.w.dtype, product(self.w.shape[1:]))
        total: Expr = Accumulator(VecType(wide))
        if self.offset is not None:
            total = total + cast(read(self.offset, 3, (at[1],)), wide)
        finish = cast(total, f32) * read_broadcast(self.scale, 2, at)
        return Compute(space, cast(x, wide) * cast(w, wide), reduced, "add", finish)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        rng = seeded(cls.name)
        for x_dtype, shape, w_shape, extra in (
            (u8, (1, 3, 6, 5), (4, 3, 3, 3), {"pads": 1, "zero": 7}),
            (i8, (2, 4, 7, 7), (6, 2, 3, 3), {"groups": 2, "strides": 2}),
            (u8, (1, 8, 5, 6), (8, 1, 3, 3), {"groups": 8, "pads": 1, "zero": 128}),
            (u8, (1, 8, 4, 4), (5, 8, 1, 1), {}),
            (u8, (0, 3, 4, 4), (2, 3, 1, 1), {}),
            (i8, (1, 2, 9), (3, 2, 3), {"pads": 2, "zero": -3, "dilations": 2}),
        ):
            spatial = len(shape) - 2
            attrs = {
                "strides": [extra.get("strides", 1)] * spatial,
                "dilations": [extra.get("dilations", 1)] * spatial,
                "pads_before": [extra.get("pads", 0)] * spatial,
                "pads_after": [extra.get("pads", 0)] * spatial,
                "groups": extra.get("groups", 1),
                "zero": extra.get("zero", 0),
            }
            scale = np.abs(random_values(f32, (w_shape[0], *[1] * spatial), rng))
            offset = rng.integers(-1000, 1000, w_shape[0]).astype(np.int32)
            x = _extremes(x_dtype, shape, rng)
            w = _extremes(i8, w_shape, rng)
            yield Sample((x, w, scale, offset), attrs, f"{x_dtype}{list(shape)} by {list(w_shape)}")
            yield Sample((x, w, np.float32(0.25), None), attrs, f"{x_dtype}{list(shape)}, one scale")


class QuantMatMul(Op):
    """out = (lhs @ rhs + offset) * scale: a product of 8-bit integer matrices, exact until it is scaled.

    lhs [..., m, k] and rhs [..., k, n] are i8 or u8, their leading axes broadcast; offset, i32, has one
    element for each column [n], scale, f32, a shape that broadcasts to the result.  Sums are kept in i32,
    or in i64 where they could overflow.  `zero` changes no result: it tells exporters that lhs has this zero
    point and that -zero * (sum of rhs over a column) is part of the offset.
    """

    name = "quant.matmul"
    lhs = operand()
    rhs = operand()
    scale = operand()
    offset = optional_operand()
    zero = int_attr(0)

    def infer(self, ic: InferContext) -> list[Type]:
        check_integers(ic, self, self.lhs, self.rhs)
        for v, what in ((self.lhs, "lhs"), (self.rhs, "rhs")):
            if v.rank < 2:
                ic.bad_operand(f"rank of {what}", "at least 2", v.rank)
        ic.same(self.lhs.shape[-1], self.rhs.shape[-2], "inner extents")
        batch = ic.broadcast(self.lhs.shape[:-2], self.rhs.shape[:-2])
        shape = ic.result_shape((*batch, self.lhs.shape[-2], self.rhs.shape[-1]))
        if self.offset is not None:
            ic.same_shape((shape[-1],), self.offset.shape, "offset")
        ic.same_shape(shape, ic.broadcast(shape, self.scale.shape), "scale")
        return [TensorType(f32, shape)]

    def evaluate(self, ev: Any, lhs: Array, rhs: Array, scale: Array, offset: Array | None = None) -> Array:
        a, b = exact_sum(lhs, rhs)
        return scaled_sum(self, np.matmul(a, b), scale, offset, ev.float_dtype(f32))

    def define(self) -> Compute:
        space = axes("i", self.result.shape)
        at = coordinates(space)
        *batch, m, n = at
        k = Axis("k", self.lhs.shape[-1])
        wide = accumulator(self.lhs.dtype, self.rhs.dtype, self.lhs.shape[-1])
        x = read(self.lhs, 0, (*broadcast_index(self.lhs.shape[:-2], tuple(batch)), m, k.dim))
        w = read(self.rhs, 1, (*broadcast_index(self.rhs.shape[:-2], tuple(batch)), k.dim, n))
        total: Expr = Accumulator(VecType(wide))
        if self.offset is not None:
            total = total + cast(read(self.offset, 3, (n,)), wide)
        finish = cast(total, f32) * read_broadcast(self.scale, 2, at)
        return Compute(space, cast(x, wide) * cast(w, wide), (k,), "add", finish)

    def cost(self) -> DimLike:
        return product((2, *self.result.shape, self.lhs.shape[-1]))

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        rng = seeded(cls.name)
        for x_dtype, a, b in (
            (u8, (3, 8), (8, 5)),
            (i8, (7, 33), (33, 19)),
            (u8, (2, 1, 4, 6), (3, 6, 2)),
            (u8, (1, 64), (64, 40)),
            (i8, (0, 4), (4, 3)),
            (u8, (3, 0), (0, 4)),
        ):
            lhs, rhs = _extremes(x_dtype, a, rng), _extremes(i8, b, rng)
            scale = np.abs(random_values(f32, b[-1:], rng))
            offset = rng.integers(-1000, 1000, b[-1]).astype(np.int32)
            yield Sample((lhs, rhs, scale, offset), {}, f"{x_dtype}{list(a)} by {list(b)}")
            yield Sample((lhs, rhs, np.float32(0.25), None), {}, f"{x_dtype}{list(a)}, one scale")


def _extremes(dtype: DType, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    """Integers over the whole range of a dtype, its ends often among them."""
    low, high = integer_range(dtype)
    drawn = rng.integers(low, high, shape, endpoint=True)
    ends = rng.random(shape)
    return np.where(ends < 0.2, low, np.where(ends > 0.8, high, drawn)).astype(dtype.numpy)
