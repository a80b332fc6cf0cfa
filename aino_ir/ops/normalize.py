"""Normalisations: layer, RMS, group, instance, batch (inference), mean-variance, Lp, local response.

Means and variances are taken in the compute dtype over two passes (the variance of x - mean, divided
by n).  Scale and bias may have another dtype than x when both have the same compute dtype.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import numpy as np

from aino_ir.compute import Axis, Compute, RowProgram, RowStage, axes, coordinates, read, read_broadcast
from aino_ir.dims import DimLike, product
from aino_ir.elementwise import ACCEPTS
from aino_ir.graph import Value
from aino_ir.infer import InferContext
from aino_ir.loops.expr import Accumulator, Expr, Var, call, compare, const, maximum, select, unary
from aino_ir.op import Op, Sample, bool_attr, float_attr, int_attr, ints_attr, operand, optional_operand
from aino_ir.ops.math import Array
from aino_ir.ops.reduce import extent_value, reduced_shape, row_space
from aino_ir.sampling import accepted_dtypes, random_values, seeded
from aino_ir.special import in_double
from aino_ir.types import TensorType, Type


class Normalization(Op):
    """What all share: a float x whose type the result has."""

    x = operand()

    def infer(self, ic: InferContext) -> list[Type]:
        x = ic.tensor(self.x, "x")
        if not ACCEPTS["float"](x.dtype):
            ic.bad_dtype("dtype of x", "float", x.dtype)
        self.check(ic, x)
        return [TensorType(x.dtype, x.shape)]

    def check(self, ic: InferContext, x: TensorType) -> None:
        """Refuse illegal attributes and parameters."""

    def cost(self) -> DimLike:
        """About eight operations per element."""
        return self.x.type.size * 8  # type: ignore[union-attr]

    cases: ClassVar[tuple[tuple[Sequence[tuple[int, ...] | None], dict[str, Any]], ...]] = ()
    """Shapes of sampled operands (None = absent) with attributes; the first serves every dtype."""

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        rng = seeded(cls.name)
        for dtype in accepted_dtypes("float"):
            for shapes, attrs in cls.cases[: 1 if dtype.is_storage else None]:
                operands = [None if s is None else random_values(dtype, s, rng) for s in shapes]
                for i in (j for j in cls.non_negative if j < len(operands)):
                    operands[i] = np.abs(operands[i])  # type: ignore[arg-type]
                yield Sample(tuple(operands), attrs, f"{dtype} {list(shapes)}")

    non_negative: ClassVar[tuple[int, ...]] = ()
    """Operands that are sampled without a sign (variances)."""


class LayerNorm(Normalization):
    """out = (x - mean) / sqrt(variance + epsilon) * scale + bias over the axes from `axis` to the last.

    Scale and bias broadcast to x numpy-wise.  With `statistics` two more results follow: the mean and
    1 / sqrt(variance + epsilon) of each row, in the compute dtype, reduced axes kept with extent 1.
    """

    name = "normalize.layer_norm"
    scale = optional_operand()
    bias = optional_operand()
    axis = int_attr(-1)
    epsilon = float_attr(1e-5)
    statistics = bool_attr(False)
    cases = (
        (((3, 5, 8), (8,), (8,)), {}),
        (((2, 3, 7), (3, 7), (3, 7)), {"axis": 1, "epsilon": 1e-3}),
        (((2, 3, 7), (3, 7), None), {"axis": 1, "statistics": True}),
        (((4, 33), None, (33,)), {}),
        (((4, 9),), {"axis": 0, "statistics": True}),
        (((0, 9), (9,)), {}),
        (((2, 3, 5), (2, 1, 5), (1,)), {}),
    )

    def infer(self, ic: InferContext) -> list[Type]:
        types = super().infer(ic)
        if not self.statistics:
            return types
        shape = reduced_shape(self.x.shape, self._axes(), keepdims=True)
        return [*types, *[TensorType(self.x.dtype.compute, shape)] * 2]

    def check(self, ic: InferContext, x: TensorType) -> None:
        ic.axis(self.axis, x.rank)
        for what, v in (("scale", self.scale), ("bias", self.bias)):
            check_broadcast(ic, what, v, x)

    def _axes(self) -> tuple[int, ...]:
        return tuple(range(self.axis % self.x.rank, self.x.rank))

    def define(self) -> RowProgram:
        space = row_space(self.x.shape, self._axes())
        x = read(self.x, 0, space.index)
        stages, centred, inverse = standardise(x, space.row, self.epsilon)
        out = scaled(centred * inverse, self.scale, self.bias, space.index)
        extra: tuple[tuple[Expr, tuple[DimLike, ...], bool], ...] = ()
        if self.statistics:
            at = tuple(0 if a in space.reduced else c for a, c in enumerate(space.index))
            extra = ((Var("mean", x.type), at, True), (inverse, at, True))
        return RowProgram(space.outer, space.row, stages, out, space.index, extra=extra)

    def evaluate(self, ev: Any, x: Array, scale: Array | None = None, bias: Array | None = None) -> Any:
        wide = x.astype(np.float64)
        mean = _mean(wide, self._axes())
        variance = _mean(np.square(wide - mean), self._axes())
        inverse = 1.0 / np.sqrt(variance + self.epsilon)
        y = affine((wide - mean) * inverse, scale, bias).astype(x.dtype)
        return (y, mean.astype(x.dtype), inverse.astype(x.dtype)) if self.statistics else y


class RmsNorm(Normalization):
    """out = x / sqrt(mean of x^2 + epsilon) * scale over the axes from `axis` to the last.

    The scale broadcasts to x numpy-wise.
    """

    name = "normalize.rms_norm"
    scale = optional_operand()
    axis = int_attr(-1)
    epsilon = float_attr(1e-5)
    cases = (
        (((3, 5, 8), (8,)), {}),
        (((2, 3, 7), (3, 7)), {"axis": 1, "epsilon": 1e-3}),
        (((4, 33),), {}),
        (((0, 9), (9,)), {}),
    )

    def check(self, ic: InferContext, x: TensorType) -> None:
        ic.axis(self.axis, x.rank)
        check_broadcast(ic, "scale", self.scale, x)

    def _axes(self) -> tuple[int, ...]:
        return tuple(range(self.axis % self.x.rank, self.x.rank))

    def define(self) -> RowProgram:
        space = row_space(self.x.shape, self._axes())
        x = read(self.x, 0, space.index)
        squares = Var("squares", x.type)
        mean = squares / extent_value(row_length(space.row), x.dtype)
        stages = (
            RowStage("reduce", "squares", x * x, "add"),
            RowStage("scalar", "inverse", 1.0 / unary("sqrt", mean + self.epsilon)),
        )
        out = scaled(x * Var("inverse", x.type), self.scale, None, space.index)
        return RowProgram(space.outer, space.row, stages, out, space.index)

    def evaluate(self, ev: Any, x: Array, scale: Array | None = None) -> Array:
        wide = x.astype(np.float64)
        mean = _mean(np.square(wide), self._axes())
        return affine(wide / np.sqrt(mean + self.epsilon), scale, None).astype(x.dtype)


class GroupNorm(Normalization):
    """out = (x - mean) / sqrt(variance + epsilon) * scale[c] + bias[c] over each group of channels.

    x is [N, C, ...]; the channels fall in `groups` equal runs, and a group's statistics run over its
    channels and all axes after the second.
    """

    name = "normalize.group_norm"
    scale = optional_operand()
    bias = optional_operand()
    groups = int_attr()
    epsilon = float_attr(1e-5)
    cases = (
        (((2, 6, 5), (6,), (6,)), {"groups": 3}),
        (((2, 4, 3, 3), (4,)), {"groups": 1}),
        (((2, 4, 3), None, (4,)), {"groups": 4, "epsilon": 1e-2}),
        (((3, 4),), {"groups": 2}),
        (((0, 4, 2), (4,), (4,)), {"groups": 2}),
    )

    def check(self, ic: InferContext, x: TensorType) -> None:
        check_channels(ic, self.scale, self.bias, x)
        if self.groups < 1:
            ic.bad_attribute("groups", "at least 1", self.groups)
        channels = x.shape[1]
        ic.same(channels // self.groups * self.groups, channels, f"channels and a multiple of {self.groups}")

    def define(self) -> RowProgram:
        each = self.x.shape[1] // self.groups
        outer = (Axis("n", self.x.shape[0]), Axis("g", self.groups))
        row = (Axis("c", each), *axes("r", self.x.shape[2:]))
        channel = outer[1].dim * each + row[0].dim
        at = (outer[0].dim, channel, *coordinates(row[1:]))
        return channel_norm(self.x, self.scale, self.bias, outer, row, at, self.epsilon)

    def evaluate(self, ev: Any, x: Array, scale: Array | None = None, bias: Array | None = None) -> Array:
        return standardised_channels(x, scale, bias, self.groups, self.epsilon)


class InstanceNorm(Normalization):
    """out = (x - mean) / sqrt(variance + epsilon) * scale[c] + bias[c] over each channel of each item.

    x is [N, C, ...]; statistics run over all axes after the second.
    """

    name = "normalize.instance_norm"
    scale = optional_operand()
    bias = optional_operand()
    epsilon = float_attr(1e-5)
    cases = (
        (((2, 3, 5), (3,), (3,)), {}),
        (((2, 3, 4, 4), None, (3,)), {"epsilon": 1e-2}),
        (((1, 2, 3, 2, 2),), {}),
    )

    def check(self, ic: InferContext, x: TensorType) -> None:
        check_channels(ic, self.scale, self.bias, x)

    def define(self) -> RowProgram:
        space = row_space(self.x.shape, tuple(range(2, self.x.rank)))
        return channel_norm(self.x, self.scale, self.bias, space.outer, space.row, space.index, self.epsilon)

    def evaluate(self, ev: Any, x: Array, scale: Array | None = None, bias: Array | None = None) -> Array:
        return standardised_channels(x, scale, bias, x.shape[1], self.epsilon)


class BatchNorm(Normalization):
    """out = (x - mean[c]) / sqrt(variance[c] + epsilon) * scale[c] + bias[c], c running along `axis`.

    The statistics are operands: this is inference.
    """

    name = "normalize.batch_norm"
    scale = operand()
    bias = operand()
    mean = operand()
    variance = operand()
    epsilon = float_attr(1e-5)
    axis = int_attr(1)
    non_negative = (4,)
    cases = (
        (((2, 3, 5), (3,), (3,), (3,), (3,)), {}),
        (((4, 3), (3,), (3,), (3,), (3,)), {"epsilon": 1e-2}),
        (((2, 5, 3), (3,), (3,), (3,), (3,)), {"axis": -1}),
        (((0, 3, 2), (3,), (3,), (3,), (3,)), {}),
    )

    def check(self, ic: InferContext, x: TensorType) -> None:
        axis = ic.axis(self.axis, x.rank)
        for what in ("scale", "bias", "mean", "variance"):
            check_vector(ic, what, getattr(self, what), x, axis)

    def define(self) -> Compute:
        space = axes("i", self.x.shape)
        at = coordinates(space)
        channel = (at[self.axis % self.x.rank],)
        x = read(self.x, 0, at)
        operands = (self.scale, self.bias, self.mean, self.variance)
        scale, bias, mean, variance = (read(v, i, channel) for i, v in enumerate(operands, 1))
        factor = scale / unary("sqrt", variance + self.epsilon)
        return Compute(space, (x - mean) * factor + bias)

    def evaluate(self, ev: Any, x: Array, scale: Array, bias: Array, mean: Array, variance: Array) -> Array:
        shape = [1] * x.ndim
        shape[self.axis] = -1

        def reference(x: Array, *parameters: Array) -> Array:
            s, b, m, v = (p.reshape(shape) for p in parameters)
            return np.asarray((x - m) / np.sqrt(v + self.epsilon) * s + b)

        return in_double(reference, x, scale, bias, mean, variance)


class MeanVarianceNorm(Normalization):
    """out = (x - mean) / (sqrt(variance) + epsilon) over `axes`"""

    name = "normalize.mean_variance_norm"
    axes = ints_attr()
    epsilon = float_attr(1e-9)
    cases = (
        (((2, 3, 4, 5),), {"axes": (0, 2, 3)}),
        (((3, 7),), {"axes": (-1,), "epsilon": 1e-2}),
    )

    def check(self, ic: InferContext, x: TensorType) -> None:
        found = [ic.axis(a, x.rank, "axes") for a in self.axes]
        if len(set(found)) != len(found) or not found:
            ic.bad_attribute("axes", "distinct, at least one", self.axes)

    def _axes(self) -> tuple[int, ...]:
        return tuple(sorted(a % self.x.rank for a in self.axes))

    def define(self) -> RowProgram:
        space = row_space(self.x.shape, self._axes())
        x = read(self.x, 0, space.index)
        stages, centred, _ = standardise(x, space.row, 0.0)
        deviation = unary("sqrt", Var("variance", x.type)) + self.epsilon
        stages = (*stages[:-1], RowStage("scalar", "deviation", deviation))
        return RowProgram(space.outer, space.row, stages, centred / Var("deviation", x.type), space.index)

    def evaluate(self, ev: Any, x: Array) -> Array:
        def reference(v: Array) -> Array:
            v = v - _mean(v, self._axes())
            deviation = np.sqrt(_mean(np.square(v), self._axes()))
            return np.asarray(v / (deviation + self.epsilon))

        return in_double(reference, x)


class LpNorm(Normalization):
    """out = x / max(norm, epsilon) along `axis`, and 0 where the norm is 0.

    The norm is the sum of |x| for p = 1, sqrt(sum of x^2) for p = 2.
    """

    name = "normalize.lp_norm"
    axis = int_attr(-1)
    p = int_attr(2)
    epsilon = float_attr(0.0)
    cases = (
        (((3, 5, 4),), {"axis": 1}),
        (((3, 7),), {"p": 1}),
        (((0, 3),), {}),
        (((6,),), {"epsilon": 100.0}),
    )

    def check(self, ic: InferContext, x: TensorType) -> None:
        if self.p not in (1, 2):
            ic.bad_attribute("p", "1 or 2", self.p)
        if x.rank == 0:
            ic.bad_operand("rank of x", "at least 1", 0)
        ic.axis(self.axis, x.rank)

    def define(self) -> RowProgram:
        space = row_space(self.x.shape, (self.axis % self.x.rank,))
        x = read(self.x, 0, space.index)
        total, norm = Var("total", x.type), Var("norm", x.type)
        stages = (
            RowStage("reduce", "total", unary("abs", x) if self.p == 1 else x * x, "add"),
            RowStage("scalar", "norm", total if self.p == 1 else unary("sqrt", total)),
        )
        out = select(compare("eq", norm, 0.0), const(0.0, x.dtype), x / maximum(norm, self.epsilon))
        return RowProgram(space.outer, space.row, stages, out, space.index)

    def evaluate(self, ev: Any, x: Array) -> Array:
        def reference(v: Array) -> Array:
            norm = np.linalg.norm(v, self.p, axis=self.axis, keepdims=True)
            return np.where(norm == 0, 0.0, v / np.maximum(norm, self.epsilon))

        return in_double(reference, x)


class LocalResponseNorm(Normalization):
    """out = x / (bias + alpha / size * sum of x[c']^2) ^ beta over the window of channels around c.

    x is [N, C, ...]; the window is c - floor((size - 1) / 2) .. c + ceil((size - 1) / 2), cut at the
    ends.
    """

    name = "normalize.local_response_norm"
    size = int_attr()
    alpha = float_attr(1e-4)
    beta = float_attr(0.75)
    bias = float_attr(1.0)
    cases = (
        (((2, 7, 3),), {"size": 3, "alpha": 0.3}),
        (((2, 5, 2, 2),), {"size": 4, "alpha": 0.3, "beta": 0.5, "bias": 2.0}),
        (((1, 3),), {"size": 9}),
    )

    def check(self, ic: InferContext, x: TensorType) -> None:
        if x.rank < 2:
            ic.bad_operand("rank of x", "at least 2", x.rank)
        if self.size < 1:
            ic.bad_attribute("size", "at least 1", self.size)

    def define(self) -> Compute:
        space = axes("i", self.x.shape)
        at = list(coordinates(space))
        window = Axis("w", self.size)
        x = read(self.x, 0, at)
        neighbour = [*at]
        neighbour[1] = at[1] + window.dim - (self.size - 1) // 2
        value = read(self.x, 0, neighbour, default=const(0.0, x.dtype))
        total = Accumulator(x.type) * (self.alpha / self.size) + self.bias
        return Compute(space, value * value, (window,), "add", finish=x / call("pow", total, self.beta))

    def evaluate(self, ev: Any, x: Array) -> Array:
        before = (self.size - 1) // 2

        def reference(v: Array) -> Array:
            squares = np.square(v)
            total = np.zeros_like(v)
            for c in range(v.shape[1]):
                window = squares[:, max(0, c - before) : c - before + self.size]
                total[:, c] = np.sum(window, axis=1)
            return np.asarray(v / np.power(self.bias + self.alpha / self.size * total, self.beta))

        return in_double(reference, x)


# ---------------------------------------------------------------------------------- shared pieces


def row_length(row: tuple[Axis, ...]) -> DimLike:
    """Elements of a row."""
    return product(axis.extent for axis in row)


def standardise(x: Expr, row: tuple[Axis, ...], epsilon: float) -> tuple[tuple[RowStage, ...], Expr, Expr]:
    """Stages for mean, variance and 1 / sqrt(variance + epsilon); x - mean; that inverse."""
    count = extent_value(row_length(row), x.dtype)
    centred = x - Var("mean", x.type)
    stages = (
        RowStage("reduce", "total", x, "add"),
        RowStage("scalar", "mean", Var("total", x.type) / count),
        RowStage("reduce", "squares", centred * centred, "add"),
        RowStage("scalar", "variance", Var("squares", x.type) / count),
        RowStage("scalar", "inverse", 1.0 / unary("sqrt", Var("variance", x.type) + epsilon)),
    )
    return stages, centred, Var("inverse", x.type)


def scaled(y: Expr, scale: Value | None, bias: Value | None, at: tuple[DimLike, ...]) -> Expr:
    """y * scale + bias, both broadcast to the point `at`; they are the operands after x."""
    if scale is not None:
        y = y * read_broadcast(scale, 1, at)
    return y if bias is None else y + read_broadcast(bias, 1 if scale is None else 2, at)


def channel_norm(
    x: Value,
    scale: Value | None,
    bias: Value | None,
    outer: tuple[Axis, ...],
    row: tuple[Axis, ...],
    at: tuple[DimLike, ...],
    epsilon: float,
) -> RowProgram:
    """Rows standardised, then scale[c] and bias[c] with c = at[1]."""
    stages, centred, inverse = standardise(read(x, 0, at), row, epsilon)
    out = scaled(centred * inverse, scale, bias, (at[1],))
    return RowProgram(outer, row, stages, out, at)


def standardised_channels(
    x: Array, scale: Array | None, bias: Array | None, groups: int, epsilon: float
) -> Array:
    """Group normalisation in numpy."""
    wide = x.astype(np.float64).reshape(x.shape[0], groups, x.shape[1] // max(groups, 1), *x.shape[2:])
    inner = tuple(range(2, wide.ndim))
    centred = wide - _mean(wide, inner)
    variance = _mean(np.square(centred), inner)
    y = (centred / np.sqrt(variance + epsilon)).reshape(x.shape)
    column = (-1, *[1] * (x.ndim - 2))
    s, b = (None if p is None else p.reshape(column) for p in (scale, bias))
    return affine(y, s, b).astype(x.dtype)


def affine(y: Array, scale: Array | None, bias: Array | None) -> Array:
    """y * scale + bias in f64, absent ones left out."""
    if scale is not None:
        y = y * scale.astype(np.float64)
    return y if bias is None else y + bias.astype(np.float64)


def check_compute(ic: InferContext, what: str, value: Value, x: TensorType) -> TensorType:
    """A parameter must compute in the dtype that x computes in."""
    type = ic.tensor(value, what)
    if type.dtype.compute is not x.dtype.compute:
        ic.bad_dtype(f"dtype of {what}", f"one that computes in {x.dtype.compute}", type.dtype)
    return type


def check_broadcast(ic: InferContext, what: str, value: Value | None, x: TensorType) -> None:
    """A parameter must broadcast to x."""
    if value is None:
        return
    type = check_compute(ic, what, value, x)
    if type.rank > x.rank:
        ic.bad_operand(f"rank of {what}", f"at most {x.rank}", type.rank)
    ic.same_shape(ic.broadcast(x.shape, type.shape), x.shape, f"x and x with {what}")


def check_vector(ic: InferContext, what: str, value: Value | None, x: TensorType, axis: int) -> None:
    """A parameter must have one element per position of an axis of x."""
    if value is None:
        return
    check_compute(ic, what, value, x)
    ic.rank(value, 1, what)
    ic.same(value.shape[0], x.shape[axis], f"extents of {what} and of axis {axis}")


def check_channels(ic: InferContext, scale: Value | None, bias: Value | None, x: TensorType) -> None:
    """x must be [N, C, ...], scale and bias [C]."""
    if x.rank < 2:
        ic.bad_operand("rank of x", "at least 2", x.rank)
    check_vector(ic, "scale", scale, x, 1)
    check_vector(ic, "bias", bias, x, 1)


def _mean(x: Array, axes: Any) -> Array:
    """The mean over axes, which stay; NaN of nothing at all, without numpy's warning."""
    if x.size:
        return np.asarray(np.mean(x, axis=axes, keepdims=True))
    with np.errstate(invalid="ignore"):
        return np.asarray(np.sum(x, axis=axes, keepdims=True) / x.dtype.type(0))
