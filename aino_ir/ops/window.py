"""Windows that the plain pools and convolutions leave out: maxima with positions, Lp pooling, transposed
convolution.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from aino_ir.compute import Axis, Compute, RowProgram, RowStage, axes, coordinates, read
from aino_ir.dims import DimLike, is_static, product
from aino_ir.dtypes import f32, i64
from aino_ir.infer import InferContext
from aino_ir.loops.expr import (
    Accumulator,
    Expr,
    Var,
    VecType,
    binary,
    call,
    compare,
    const,
    identity,
    index,
    unary,
)
from aino_ir.op import Op, Sample, bool_attr, int_attr, ints_attr, operand, optional_operand
from aino_ir.ops.math import Array
from aino_ir.ops.nn import Pool
from aino_ir.sampling import random_values, seeded
from aino_ir.types import TensorType, Type


def _pool_samples(name: str, *extra: dict[str, Any]) -> Iterator[Sample]:
    """Windows with and without pads, strides, dilations and a cut last window."""
    rng = seeded(name)
    plain = {"strides": (1, 1), "dilations": (1, 1), "pads_before": (0, 0), "pads_after": (0, 0)}
    cases: tuple[dict[str, Any], ...] = (
        {"kernel": (2, 2)},
        {"kernel": (3, 2), "strides": (2, 1), "pads_before": (1, 0), "pads_after": (1, 1)},
        {"kernel": (2, 2), "dilations": (2, 1)},
        {"kernel": (2, 3), "strides": (2, 2), "ceil_mode": True},
    )
    for case in cases:
        for attrs in extra or ({},):
            yield Sample((random_values(f32, (2, 3, 5, 6), rng),), {**plain, **case, **attrs}, str(case))


class MaxPoolIndices(Pool):
    """values, i64 positions = the maximum of each window and where it stands in the flattened x.

    Ties go to the first element of the window, NaN counts as the largest.  With `column_major` the
    positions of a plane count along its first axis first.
    """

    name = "nn.max_pool_indices"
    column_major = bool_attr(False)

    def infer(self, ic: InferContext) -> list[Type]:
        (values,) = super().infer(ic)
        return [values, TensorType(i64, values.shape)]  # type: ignore[union-attr]

    def evaluate(self, ev: Any, x: Array) -> tuple[Array, Array]:
        lowest = -np.inf if x.dtype.kind == "f" else identity("max", self.x.dtype.compute)
        windows = self.gathered(ev, x, lowest)
        where = np.arange(x.size).reshape(x.shape)
        if self.column_major:
            planes = np.arange(int(np.prod(x.shape[2:], dtype=np.int64))).reshape(x.shape[2:], order="F")
            where = planes + where.reshape(*x.shape[:2], -1).min(-1).reshape(
                *x.shape[:2], *[1] * (x.ndim - 2)
            )
        positions = self.gathered(ev, where, -1)
        windows = np.where(positions < 0, np.asarray(lowest, x.dtype), windows)
        best = np.argmax(windows, axis=0)[None]
        return np.take_along_axis(windows, best, 0)[0], np.take_along_axis(positions, best, 0)[0]

    def define(self) -> RowProgram:
        space = axes("i", self.result_shape())
        n, c, *at = coordinates(space)
        taps = axes("t", self.kernel)
        dtype = self.x.dtype.compute
        outside = const(identity("max", dtype), dtype)
        x = read(self.x, 0, (n, c, *self.windows(tuple(at), taps)), outside)
        stages = (
            RowStage("reduce", "maximum", x, "max"),
            RowStage("reduce", "tap", x, "argmax"),
        )
        tap: Expr = Var("tap", VecType(i64))
        places: list[Expr] = []
        for axis in range(len(taps) - 1, -1, -1):
            size = self.kernel[axis]
            start = index(at[axis] * self.strides[axis] - self.pads_before[axis])
            places.append(start + binary("rem", tap, const(size, i64)) * self.dilations[axis])
            tap = tap / size
        position = self._flattened(n, c, places[::-1])
        where = coordinates(space)
        out = Var("maximum", x.type)
        return RowProgram(space, taps, stages, out, where, True, ((position, where, True),))

    def result_shape(self) -> tuple[DimLike, ...]:
        """Extents of both results."""
        return self.results[0].shape

    def _flattened(self, n: DimLike, c: DimLike, places: list[Expr]) -> Expr:
        shape = self.x.shape
        plane = list(zip(shape[2:], places, strict=True))
        offset: Expr = const(0, i64)
        for extent, place in plane[::-1] if self.column_major else plane:
            offset = offset * index(extent) + place
        return index((n * shape[1] + c) * product(shape[2:])) + offset

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield from _pool_samples(cls.name, {}, {"column_major": True})


class LpPool(Pool):
    """out = (sum of |x|^p over each window)^(1/p); what lies outside counts as zero."""

    name = "nn.lp_pool"
    p = int_attr(2)

    def infer(self, ic: InferContext) -> list[Type]:
        if self.p < 1:
            ic.bad_attribute("p", "at least 1", self.p)
        if not self.x.dtype.is_float:
            ic.bad_dtype("dtype of x", "float", self.x.dtype)
        return super().infer(ic)

    def evaluate(self, ev: Any, x: Array) -> Array:
        powers = np.power(np.abs(self.gathered(ev, x, 0).astype(np.float64)), self.p)
        norms: Array = np.power(powers.sum(axis=0), 1.0 / self.p)
        return norms.astype(x.dtype)

    def define(self) -> Compute:
        space = axes("i", self.result.shape)
        n, c, *at = coordinates(space)
        taps = axes("t", self.kernel)
        dtype = self.x.dtype.compute
        x = read(self.x, 0, (n, c, *self.windows(tuple(at), taps)), const(0, dtype))
        total = Accumulator(VecType(dtype))
        return Compute(space, power(x, self.p), taps, "add", root(total, self.p))

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield from _pool_samples(cls.name, {}, {"p": 1}, {"p": 3})


def power(x: Expr, p: int) -> Expr:
    """|x| ** p for a positive whole p."""
    if p == 1:
        return unary("abs", x)
    return x * x if p == 2 else call("pow", unary("abs", x), const(float(p), x.dtype))


def root(x: Expr, p: int) -> Expr:
    """x ** (1 / p) of a non-negative x."""
    if p == 1:
        return x
    return unary("sqrt", x) if p == 2 else call("pow", x, const(1.0 / p, x.dtype))


class ConvTranspose(Op):
    """The transpose of `nn.conv` in its operand: x [n, c, *spatial], w [c, oc/groups, *kernel].

    out[n, oc, o] = bias[oc] + sum over c, t of x[n, c, i] * w[c, oc, t] where i * stride + t * dilation
    - pad = o; out has (i - 1) * stride + (k - 1) * dilation + 1 - pads + output_padding positions an
    axis.  Whether a weight that is not finite also reaches results whose i lies outside of x is not
    defined.
    """

    name = "nn.conv_transpose"
    x = operand()
    w = operand()
    bias = optional_operand()
    strides = ints_attr()
    dilations = ints_attr()
    pads_before = ints_attr()
    pads_after = ints_attr()
    output_padding = ints_attr()
    groups = int_attr(1)

    def infer(self, ic: InferContext) -> list[Type]:
        dtype = ic.same_dtype(*[v for v in (self.x, self.w, self.bias) if v is not None])
        rank = self.x.rank
        if rank < 3:
            ic.bad_operand("rank of x", "at least 3", rank)
        ic.rank(self.w, rank, "w")
        for what in ("strides", "dilations", "pads_before", "pads_after", "output_padding"):
            if len(getattr(self, what)) != rank - 2:
                ic.bad_attribute(what, f"{rank - 2} numbers", getattr(self, what))
        if min(self.strides) < 1 or min(self.dilations) < 1 or self.groups < 1:
            ic.bad_attribute("strides", "positive strides, dilations and groups", self.strides)
        channels = self.x.shape[1]
        ic.same(channels, self.w.shape[0], "input channels")
        if is_static(channels) and channels % self.groups:
            ic.bad_attribute("groups", f"a divisor of {channels} channels", self.groups)
        oc = self.w.shape[1] * self.groups
        if self.bias is not None:
            ic.same_shape((oc,), self.bias.shape, "bias")
        return [TensorType(dtype, ic.result_shape((self.x.shape[0], oc, *self._spatial())))]

    def _spatial(self) -> tuple[DimLike, ...]:
        return tuple(
            (d - 1) * s + (k - 1) * t + 1 - b - a + o
            for d, k, s, t, b, a, o in zip(
                self.x.shape[2:],
                self.w.shape[2:],
                self.strides,
                self.dilations,
                self.pads_before,
                self.pads_after,
                self.output_padding,
                strict=True,
            )
        )

    def evaluate(self, ev: Any, x: Array, w: Array, bias: Array | None = None) -> Array:
        dtype, shape, groups = x.dtype, ev.result_shape(), self.groups
        if dtype.kind == "f":
            x, w = x.astype(np.float64), w.astype(np.float64)
        n, c, *spatial = x.shape
        every = (slice(None),)
        full = [
            max((d - 1) * s + (k - 1) * t + 1, o + b)
            for d, k, s, t, o, b in zip(
                spatial, w.shape[2:], self.strides, self.dilations, shape[2:], self.pads_before, strict=True
            )
        ]
        out = np.zeros((n, groups, w.shape[1], *full), x.dtype)
        xs = x.reshape(n, groups, c // groups, int(np.prod(spatial, dtype=np.int64)))
        ws = w.reshape(groups, c // groups, *w.shape[1:])
        for tap in np.ndindex(*w.shape[2:]):
            weights = np.swapaxes(ws[every * 3 + tap], 1, 2)
            part = np.matmul(weights[None], xs).reshape(n, groups, w.shape[1], *spatial)
            place = tuple(
                slice(t * d, t * d + (i - 1) * s + 1 if i else t * d, s)
                for t, d, i, s in zip(tap, self.dilations, spatial, self.strides, strict=True)
            )
            out[every * 3 + place] += part
        cut = tuple(slice(b, b + o) for b, o in zip(self.pads_before, shape[2:], strict=True))
        out = out.reshape(n, groups * w.shape[1], *full)[every * 2 + cut]
        return np.asarray(out if bias is None else out + bias.reshape(1, -1, *[1] * len(spatial))).astype(
            dtype
        )

    def define(self) -> Compute:
        space = axes("i", self.result.shape)
        n, oc, *at = coordinates(space)
        each_in = self.x.shape[1] // self.groups
        channels, taps = Axis("c", each_in), axes("t", self.w.shape[2:])
        each_out = self.w.shape[1]
        channel = channels.dim if self.groups == 1 else oc // each_out * each_in + channels.dim
        weight = oc if self.groups == 1 else oc % each_out
        where: Expr | None = None
        place, tap = [], []
        for o, s, t, d, b in zip(at, self.strides, taps, self.dilations, self.pads_before, strict=True):
            if s == 1:  # a convolution whose taps are taken from the last to the first
                last = t.extent - 1
                place.append(o + b - last * d + t.dim * d)
                tap.append(last - t.dim)
                continue
            position = o + b - t.dim * d
            place.append(position // s)
            tap.append(t.dim)
            hit = compare("eq", index(position % s), 0)
            where = hit if where is None else where & hit
        dtype = self.x.dtype.compute
        body = read(self.x, 0, (n, channel, *place), const(0, dtype)) * read(
            self.w, 1, (channel, weight, *tap)
        )
        finish = None
        if self.bias is not None:
            finish = Accumulator(VecType(dtype)) + read(self.bias, 2, (oc,))
        return Compute(space, body, (channels, *taps), "add", finish, where)

    def cost(self) -> DimLike:
        return 2 * product(self.x.shape) * product(self.w.shape[1:])

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        rng = seeded(cls.name)
        plain = {"dilations": (1, 1), "pads_before": (0, 0), "pads_after": (0, 0), "output_padding": (0, 0)}
        cases: tuple[tuple[tuple[int, ...], tuple[int, ...], bool, dict[str, Any]], ...] = (
            ((1, 2, 3, 4), (2, 3, 3, 3), True, {"strides": (1, 1)}),
            ((2, 4, 3, 3), (4, 2, 3, 2), False, {"strides": (2, 3), "groups": 2, "pads_before": (1, 0)}),
            (
                (1, 1, 3, 3),
                (1, 2, 2, 2),
                True,
                {"strides": (3, 2), "output_padding": (1, 1), "dilations": (2, 1)},
            ),
            (
                (1, 2, 4, 4),
                (2, 1, 3, 3),
                False,
                {"strides": (2, 2), "pads_before": (1, 1), "pads_after": (1, 1)},
            ),
        )
        for shape, kernel, has_bias, attrs in cases:
            groups = attrs.get("groups", 1)
            bias = random_values(f32, (kernel[1] * groups,), rng) if has_bias else None
            operands = (random_values(f32, shape, rng), random_values(f32, kernel, rng), bias)
            yield Sample(operands, {**plain, **attrs}, f"{list(shape)} {list(kernel)}")
