"""Sums of products of 8-bit integers: exact, scaled once, so that every target gives the same bits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from aino_ir.compute import Axis, Compute, axes, broadcast_index, coordinates, read, read_broadcast
from aino_ir.dims import DimLike, is_static, product
from aino_ir.dtypes import DType, f32, i8, i32, i64, integer_range, u8
from aino_ir.infer import InferContext
from aino_ir.loops.expr import Accumulator, Expr, VecType, cast
from aino_ir.op import Op, Sample, int_attr, operand, optional_operand
from aino_ir.ops.math import Array
from aino_ir.ops.nn import Convolution
from aino_ir.sampling import random_values, seeded
from aino_ir.types import TensorType, Type


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

    lhs [..., m, k] and rhs [..., k, n] are i8 or u8, their leading axes broadcast; offset, i32, and scale,
    f32, have shapes that broadcast to the result (often one element for each column, [n]; an offset that
    varies with the rows takes off zero points that the run finds).  Sums are kept in i32, or in i64 where
    they could overflow.  `zero` changes no result: it tells exporters that lhs has this zero point and that
    -zero * (sum of rhs over a column) is part of the offset, which is then constant and [n].
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
            ic.same_shape(shape, ic.broadcast(shape, self.offset.shape), "offset")
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
            total = total + cast(read_broadcast(self.offset, 3, at), wide)
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
        lhs, rhs = _extremes(u8, (7, 33), rng), _extremes(i8, (33, 19), rng)
        rows = rng.integers(-1000, 1000, (7, 1)).astype(np.int32)
        yield Sample((lhs, rhs, np.float32(0.25), rows), {}, "u8[7, 33], an offset a row")


def _extremes(dtype: DType, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    """Integers over the whole range of a dtype, its ends often among them."""
    low, high = integer_range(dtype)
    drawn = rng.integers(low, high, shape, endpoint=True)
    ends = rng.random(shape)
    return np.where(ends < 0.2, low, np.where(ends > 0.8, high, drawn)).astype(dtype.numpy)
