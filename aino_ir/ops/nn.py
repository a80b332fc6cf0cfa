"""Contractions and pooling: matmul, convolution, pools."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from aino_ir.compute import Axis, Compute, axes, broadcast_index, coordinates, read
from aino_ir.dims import DimLike, dmax, dmin, is_static, product
from aino_ir.infer import InferContext
from aino_ir.loops.expr import Accumulator, Expr, VecType, cast, const, identity, index
from aino_ir.op import Op, bool_attr, int_attr, ints_attr, operand, optional_operand
from aino_ir.types import TensorType, Type


class MatMul(Op):
    """out[..., m, n] = sum_k lhs[..., m, k] * rhs[..., k, n]; leading axes broadcast (numpy.matmul).

    Rank-1 operands are not taken: frontends reshape them.  Floats accumulate in the compute dtype,
    integers wrap in theirs.
    """

    name = "nn.matmul"
    lhs = operand()
    rhs = operand()
    transpose_lhs = bool_attr(False)
    transpose_rhs = bool_attr(False)

    def infer(self, ic: InferContext) -> list[Type]:
        dtype = ic.same_dtype(self.lhs, self.rhs)
        for v, what in ((self.lhs, "lhs"), (self.rhs, "rhs")):
            if v.rank < 2:
                ic.bad_operand(f"rank of {what}", "at least 2", v.rank)
        m, k = self._matrix(self.lhs.shape, self.transpose_lhs)
        k2, n = self._matrix(self.rhs.shape, self.transpose_rhs)
        ic.same(k, k2, "inner extents")
        batch = ic.broadcast(self.lhs.shape[:-2], self.rhs.shape[:-2])
        return [TensorType(dtype, ic.result_shape((*batch, m, n)))]

    @staticmethod
    def _matrix(shape: tuple[DimLike, ...], transposed: bool) -> tuple[DimLike, DimLike]:
        return (shape[-1], shape[-2]) if transposed else (shape[-2], shape[-1])

    def evaluate(self, ev: Any, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        a = np.swapaxes(a, -1, -2) if self.transpose_lhs else a
        b = np.swapaxes(b, -1, -2) if self.transpose_rhs else b
        return np.asarray(np.matmul(a, b))

    def define(self) -> Compute:
        space = axes("i", self.result.shape)
        *batch, m, n = coordinates(space)
        k = Axis("k", self._matrix(self.lhs.shape, self.transpose_lhs)[1])
        lhs_batch = broadcast_index(self.lhs.shape[:-2], tuple(batch))
        rhs_batch = broadcast_index(self.rhs.shape[:-2], tuple(batch))
        lhs = (k.dim, m) if self.transpose_lhs else (m, k.dim)
        rhs = (n, k.dim) if self.transpose_rhs else (k.dim, n)
        body = read(self.lhs, 0, (*lhs_batch, *lhs)) * read(self.rhs, 1, (*rhs_batch, *rhs))
        return Compute(space, body, (k,), "add")

    def cost(self) -> DimLike:
        return 2 * product(self.result.shape) * self._matrix(self.lhs.shape, self.transpose_lhs)[1]


class Convolution(Op):
    """The shared geometry of convolutions: x [n, c, *spatial], w [oc, c/groups, *kernel]."""

    x = operand()
    w = operand()
    strides = ints_attr()
    dilations = ints_attr()
    pads_before = ints_attr()
    pads_after = ints_attr()
    groups = int_attr(1)

    def result_shape(self, ic: InferContext) -> tuple[DimLike, ...]:
        """The checked shape of the result [n, oc, *out spatial]."""
        rank = self.x.rank
        if rank < 3:
            ic.bad_operand("rank of x", "at least 3", rank)
        ic.rank(self.w, rank, "w")
        spatial = rank - 2
        for what in ("strides", "dilations", "pads_before", "pads_after"):
            if len(getattr(self, what)) != spatial:
                ic.bad_attribute(what, f"{spatial} numbers", getattr(self, what))
        if min(self.strides) < 1 or min(self.dilations) < 1 or self.groups < 1:
            ic.bad_attribute("strides", "positive strides, dilations and groups", self.strides)
        oc = self.w.shape[0]
        ic.same(self.x.shape[1], self.w.shape[1] * self.groups, "input channels")
        if is_static(oc) and oc % self.groups:
            ic.bad_attribute("groups", f"a divisor of {oc} output channels", self.groups)
        return ic.result_shape((self.x.shape[0], oc, *self._spatial()))

    def _spatial(self) -> tuple[DimLike, ...]:
        return tuple(
            (d + b + a - (k - 1) * t - 1) // s + 1
            for d, k, s, t, b, a in zip(
                self.x.shape[2:],
                self.w.shape[2:],
                self.strides,
                self.dilations,
                self.pads_before,
                self.pads_after,
                strict=False,
            )
        )

    def convolved(self, ev: Any, x: np.ndarray, w: np.ndarray, pad: float = 0) -> np.ndarray:
        """The sums of products in the arrays' own dtype; `pad` is what stands around x."""
        pads = [(0, 0), (0, 0), *zip(self.pads_before, self.pads_after, strict=False)]
        padded = np.pad(x, pads, constant_values=pad)
        shape = ev.result_shape()
        n, oc = shape[:2]
        groups = self.groups
        out = np.zeros((n, groups, oc // groups, *shape[2:]), x.dtype)
        xs = padded.reshape(n, groups, x.shape[1] // groups, *padded.shape[2:])
        ws = w.reshape(groups, oc // groups, *w.shape[1:])
        for tap in np.ndindex(*w.shape[2:]):
            window = tuple(
                slice(t * d, t * d + (o - 1) * s + 1 if o else t * d, s)
                for t, d, o, s in zip(tap, self.dilations, shape[2:], self.strides, strict=False)
            )
            here = (slice(None), slice(None), slice(None), *window)
            there = (slice(None), slice(None), slice(None), *tap)
            part, weights = xs[here], ws[there]
            flat = part.reshape(n, groups, part.shape[2], math.prod(part.shape[3:]))
            out += np.matmul(weights[None], flat).reshape(out.shape)
        return np.asarray(out.reshape(shape))

    def reads(
        self, pad: float = 0
    ) -> tuple[tuple[Axis, ...], tuple[Axis, ...], Expr, Expr, tuple[DimLike, ...]]:
        """(axes, reduction axes, x at a tap, w at a tap, the result's coordinates)."""
        space = axes("i", self.result.shape)
        at = coordinates(space)
        n, oc, *spatial = at
        channels = Axis("c", self.w.shape[1])
        taps = axes("t", self.w.shape[2:])
        if self.groups == 1:
            channel: DimLike = channels.dim
        else:
            channel = oc // (self.w.shape[0] // self.groups) * self.w.shape[1] + channels.dim
        inside = tuple(
            o * s + t.dim * d - p
            for o, s, t, d, p in zip(
                spatial, self.strides, taps, self.dilations, self.pads_before, strict=False
            )
        )
        padded = any(self.pads_before) or any(self.pads_after)
        outside = const(pad, self.x.dtype.compute) if padded else None
        x = read(self.x, 0, (n, channel, *inside), outside)
        w = read(self.w, 1, (oc, channels.dim, *(t.dim for t in taps)))
        return space, (channels, *taps), x, w, at

    def cost(self) -> DimLike:
        return 2 * product(self.result.shape) * product(self.w.shape[1:])


class Conv(Convolution):
    """Convolution over any number of spatial axes (cross-correlation, as ONNX Conv).

    x [n, c, *spatial], w [oc, c/groups, *kernel], bias [oc] or absent; out [n, oc, *out spatial].
    `pads_before` and `pads_after` count zeros around each spatial axis.
    """

    name = "nn.conv"
    bias = optional_operand()

    def infer(self, ic: InferContext) -> list[Type]:
        dtype = ic.same_dtype(*[v for v in (self.x, self.w, self.bias) if v is not None])
        shape = self.result_shape(ic)
        if self.bias is not None:
            ic.same_shape((self.w.shape[0],), self.bias.shape, "bias")
        return [TensorType(dtype, shape)]

    def evaluate(self, ev: Any, x: np.ndarray, w: np.ndarray, bias: np.ndarray | None = None) -> np.ndarray:
        dtype = x.dtype
        if dtype.kind == "f":  # equal channels must give equal sums, whatever the order
            x, w = x.astype(np.float64), w.astype(np.float64)
        out = self.convolved(ev, x, w)
        return np.asarray(out if bias is None else out + bias.reshape(1, -1, *[1] * (x.ndim - 2)), dtype)

    def define(self) -> Compute:
        space, reduced, x, w, at = self.reads()
        finish = None
        if self.bias is not None:
            finish = Accumulator(VecType(self.x.dtype.compute)) + read(self.bias, 2, (at[1],))
        return Compute(space, x * w, reduced, "add", finish)


def used_taps(steps: int, stride: int, dilation: int, pad: int, limit: int, taps: int) -> tuple[int, int]:
    """The first tap that meets an element, and how many there are up to the last that does; (0, 0) = none.

    Tap t meets one when i * stride + t * dilation - pad lies in 0..limit-1 for some i in 0..steps-1.
    """
    used = []
    for t in range(min(taps, (limit - 1 + pad) // dilation + 1)):  # later ones lie beyond in every window
        start = t * dilation - pad
        first, last = max(0, -(start // stride)), min(steps - 1, (limit - 1 - start) // stride)
        if first <= last:
            used.append(t)
    return (used[0], used[-1] - used[0] + 1) if used else (0, 0)


@dataclass(frozen=True)
class Window:
    """The windows of a pool along one axis."""

    kernel: int
    stride: int
    dilation: int
    before: int
    after: int
    ceil_mode: bool

    def count(self, extent: DimLike) -> DimLike:
        """How many windows an axis of `extent` elements has."""
        span = extent + self.before + self.after - (self.kernel - 1) * self.dilation - 1
        if not self.ceil_mode:
            return span // self.stride + 1
        # the last window must start inside the data or the leading pad
        starts = (extent + self.before - 1) // self.stride + 1
        return dmin((span + self.stride - 1) // self.stride + 1, starts)


class Pool(Op):
    """The shared geometry of pooling over the trailing spatial axes of x [n, c, *spatial]."""

    x = operand()
    kernel = ints_attr()
    strides = ints_attr()
    dilations = ints_attr()
    pads_before = ints_attr()
    pads_after = ints_attr()
    ceil_mode = bool_attr(False)

    def infer(self, ic: InferContext) -> list[Type]:
        x = ic.tensor(self.x, "x")
        spatial = x.rank - 2
        for what in ("kernel", "strides", "dilations", "pads_before", "pads_after"):
            if len(getattr(self, what)) != spatial:
                ic.bad_attribute(what, f"{spatial} numbers", getattr(self, what))
        if min(self.strides) < 1 or min(self.dilations) < 1 or min(self.kernel) < 1:
            ic.bad_attribute("strides", "positive kernel, strides and dilations", self.strides)
        return [TensorType(x.dtype, ic.result_shape((*x.shape[:2], *self._spatial())))]

    def windows_by_axis(self) -> tuple[Window, ...]:
        """The windows along each spatial axis."""
        axes_of = zip(
            self.kernel, self.strides, self.dilations, self.pads_before, self.pads_after, strict=True
        )
        return tuple(Window(*numbers, self.ceil_mode) for numbers in axes_of)

    def _spatial(self) -> tuple[DimLike, ...]:
        return tuple(w.count(d) for w, d in zip(self.windows_by_axis(), self.x.shape[2:], strict=True))

    def windows(self, at: tuple[DimLike, ...], taps: tuple[Axis, ...]) -> tuple[DimLike, ...]:
        """Operand coordinates of a tap of the window at an output coordinate."""
        return tuple(
            o * s + t.dim * d - p
            for o, s, t, d, p in zip(at, self.strides, taps, self.dilations, self.pads_before, strict=False)
        )

    def gathered(self, ev: Any, x: np.ndarray, fill: Any) -> np.ndarray:
        """The windows as [taps, n, c, *out]: `fill` stands outside, taps never inside are left out."""
        shape = ev.result_shape()
        pads, spans = [(0, 0), (0, 0)], []
        for d, k, s, t, b, o in zip(
            x.shape[2:], self.kernel, self.strides, self.dilations, self.pads_before, shape[2:], strict=False
        ):
            first, count = used_taps(o, s, t, b, d, k)
            spans.append(range(first, first + max(count, 1)))
            need = (o - 1) * s + spans[-1][-1] * t + 1 if o else 0
            pads.append((b, max(0, need - d - b)))
        padded = np.pad(x, pads, constant_values=fill)
        out = []
        for tap in itertools.product(*spans):
            window = tuple(
                slice(t * d, t * d + (o - 1) * s + 1 if o else t * d, s)
                for t, d, o, s in zip(tap, self.dilations, shape[2:], self.strides, strict=False)
            )
            here = (slice(None), slice(None), *window)
            out.append(padded[here])
        return np.stack(out)

    def cost(self) -> DimLike:
        return product(self.results[0].shape) * math.prod(self.kernel)


class MaxPool(Pool):
    """out = maximum over each window; padding never wins, NaN always does."""

    name = "nn.max_pool"

    def evaluate(self, ev: Any, x: np.ndarray) -> np.ndarray:
        lowest = identity("max", self.x.dtype.compute)
        if x.dtype.kind == "f":
            lowest = -np.inf
        return np.asarray(np.maximum.reduce(self.gathered(ev, x, lowest), axis=0))

    def define(self) -> Compute:
        space = axes("i", self.result.shape)
        n, c, *at = coordinates(space)
        taps = axes("t", self.kernel)
        dtype = self.x.dtype.compute
        outside = const(identity("max", dtype), dtype)
        body = read(self.x, 0, (n, c, *self.windows(tuple(at), taps)), outside)
        return Compute(space, body, taps, "max")


class AvgPool(Pool):
    """out = mean over each window; pads count in the divisor if `count_include_pad`.

    What a ceil-mode window has beyond the padding never counts.
    """

    name = "nn.avg_pool"
    count_include_pad = bool_attr(False)

    def evaluate(self, ev: Any, x: np.ndarray) -> np.ndarray:
        total = self.gathered(ev, x, 0).sum(axis=0, dtype=x.dtype)
        return np.asarray(total / self._counts(ev, x).astype(x.dtype), x.dtype)

    def _counts(self, ev: Any, x: np.ndarray) -> np.ndarray:
        shape = ev.result_shape()
        counts = np.ones((1,) * x.ndim, np.int64)
        for axis, (d, k, s, t, b, a) in enumerate(
            zip(
                x.shape[2:],
                self.kernel,
                self.strides,
                self.dilations,
                self.pads_before,
                self.pads_after,
                strict=False,
            )
        ):
            lo, hi = (-b, d + a) if self.count_include_pad else (0, d)
            start = np.arange(shape[2 + axis]) * s - b
            inside = sum(((start + j * t >= lo) & (start + j * t < hi)).astype(np.int64) for j in range(k))
            view = [1] * x.ndim
            view[2 + axis] = -1
            counts = counts * np.asarray(inside).reshape(view)
        return counts

    def define(self) -> Compute:
        space = axes("i", self.result.shape)
        n, c, *at = coordinates(space)
        taps = axes("t", self.kernel)
        dtype = self.x.dtype.compute
        body = read(self.x, 0, (n, c, *self.windows(tuple(at), taps)), const(0, dtype))
        count: DimLike = 1
        for o, k, s, t, b, a, d in zip(
            at,
            self.kernel,
            self.strides,
            self.dilations,
            self.pads_before,
            self.pads_after,
            self.x.shape[2:],
            strict=False,
        ):
            lo, hi = (-b, d + a) if self.count_include_pad else (0, d)
            start = o * s - b
            first = dmax(0, (lo - start + t - 1) // t) if not self.count_include_pad else 0
            stop = dmin(k, (hi - start + t - 1) // t)
            count = count * (stop - first)
        total = Accumulator(VecType(dtype))
        return Compute(space, body, taps, "add", total / cast(index(count), dtype))
