"""Reductions over axes.

Low-precision floats accumulate in f32, integers in their own dtype (sums and products wrap).  The
order of a floating-point sum is not defined.  `axes` may be negative; None means all axes, () none
(then each element is a reduction of itself).  An empty reduction gives the combiner's identity.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import numpy as np

from aino_ir.compute import Axis, Compute, RowProgram, RowStage, coordinates, read
from aino_ir.dims import DimLike, dmax, dmin, is_static, product
from aino_ir.dtypes import DType, boolean, i64
from aino_ir.elementwise import ACCEPTS
from aino_ir.infer import InferContext
from aino_ir.loops.expr import (
    Accumulator,
    Expr,
    Var,
    VecType,
    call,
    cast,
    const,
    identity,
    index,
    select,
    unary,
)
from aino_ir.op import Op, Sample, Trait, bool_attr, int_attr, ints_attr, operand
from aino_ir.ops.division import truncating_division
from aino_ir.ops.math import Array
from aino_ir.sampling import accepted_dtypes, edge_values, random_values, seeded
from aino_ir.symbolic import is_symbolic
from aino_ir.types import TensorType, Type

SYMBOLIC = frozenset({Trait.SYMBOLIC})


class Reduction(Op):
    """out = the combination of x over `axes`; with `keepdims` those axes stay with extent 1."""

    x = operand()
    axes = ints_attr(None)
    keepdims = bool_attr(False)
    accepts: ClassVar[str] = "number"

    def infer(self, ic: InferContext) -> list[Type]:
        x = ic.tensor(self.x, "x")
        if not ACCEPTS[self.accepts](x.dtype):
            ic.bad_dtype("dtype of x", self.accepts, x.dtype)
        axes = [ic.axis(a, x.rank, "axes") for a in self.axes] if self.axes is not None else []
        if len(set(axes)) != len(axes):
            ic.bad_attribute("axes", "distinct", self.axes)
        shape = reduced_shape(x.shape, self.reduced_axes(), self.keepdims)
        return [TensorType(x.dtype, ic.result_shape(shape))]

    def reduced_axes(self) -> tuple[int, ...]:
        """The axes that are reduced over: non-negative, ascending."""
        rank = self.x.rank
        return tuple(range(rank)) if self.axes is None else tuple(sorted(a % rank for a in self.axes))

    def count(self) -> DimLike:
        """Elements that go into each result."""
        return product(self.x.shape[a] for a in self.reduced_axes())

    def evaluate(self, ev: Any, x: Array) -> Array:
        axes = self.reduced_axes()
        y = self.reference_of_dims(ev, x, axes) if is_symbolic(ev) else self.reference(x, axes)
        return np.asarray(y if self.keepdims else np.squeeze(y, axes))

    def reference(self, x: Array, axes: tuple[int, ...]) -> Array:
        """The reduction in numpy, reduced axes kept with extent 1."""
        raise TypeError(f"{self.name} declares no reference")

    def reference_of_dims(self, ev: Any, x: Array, axes: tuple[int, ...]) -> Array:
        """The reduction on object arrays of ints and Dims."""
        raise TypeError(f"{self.name} has no meaning on extents")

    def cost(self) -> DimLike:
        """One operation per element of x."""
        return self.x.type.size  # type: ignore[union-attr]

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        rng = seeded(cls.name)
        for dtype in accepted_dtypes(cls.accepts):
            yield Sample((random_values(dtype, (3, 5, 4), rng),), {"axes": (1,)}, f"{dtype}")
            if not dtype.is_float:
                yield Sample((edge_values(dtype),), {}, f"{dtype} edges")
        first = accepted_dtypes(cls.accepts)[0]
        for shape, attrs in REDUCED_SHAPES:
            yield Sample((random_values(first, shape, rng),), attrs, f"{list(shape)}")
        if first.is_float:
            for special in (np.nan, np.inf, -np.inf):
                x = random_values(first, (4, 6), rng)
                x[1, 3] = x[2] = special
                yield Sample((x,), {"axes": (1,)}, f"{special}")


REDUCED_SHAPES: tuple[tuple[tuple[int, ...], dict[str, Any]], ...] = (
    ((3, 7), {"axes": (0,)}),
    ((2, 3, 4), {"axes": (-1, 0), "keepdims": True}),
    ((2, 3, 4), {"axes": None, "keepdims": True}),
    ((2, 3, 4), {}),
    ((6,), {"axes": ()}),
    ((), {}),
    ((2, 0, 3), {"axes": (2,)}),
    ((2, 0, 3), {"axes": (1,)}),
    ((0, 3), {"axes": (0, 1)}),
    ((1, 1000), {"axes": (1,)}),
)
"""Shapes and axes that every reduction is sampled with."""


class CombinedReduction(Reduction):
    """A reduction that is finish(combine(element(x)))."""

    combiner: ClassVar[str]

    def element(self, x: Expr) -> Expr:
        """What is combined."""
        return x

    def finish(self, total: Expr) -> Expr | None:
        """What becomes of the combined value; None = nothing."""
        return None

    def define(self) -> Compute:
        space = row_space(self.x.shape, self.reduced_axes())
        outer = result_axes(space, self.keepdims)
        body = self.element(read(self.x, 0, space.index))
        if not space.row:
            finished = self.finish(body)
            return Compute(outer, body if finished is None else finished)
        return Compute(outer, body, space.row, self.combiner, self.finish(Accumulator(body.type)))


class ReduceSum(CombinedReduction):
    """out = sum of x; 0 when empty, integers wrap."""

    name = "reduce.sum"
    traits = SYMBOLIC
    combiner = "add"

    def reference(self, x: Array, axes: tuple[int, ...]) -> Array:
        return _accumulated(np.sum, x, axes)

    def reference_of_dims(self, ev: Any, x: Array, axes: tuple[int, ...]) -> Array:
        return np.asarray(np.sum(x, axis=axes, keepdims=True))


class ReduceMean(CombinedReduction):
    """out = sum of x / n; NaN when empty.  On integers the (wrapped) sum is divided with truncation."""

    name = "reduce.mean"
    combiner = "add"

    def infer(self, ic: InferContext) -> list[Type]:
        types = super().infer(ic)
        if self.x.dtype.is_integer:
            ic.at_least(self.count(), 1, "number of averaged integers")
        return types

    def finish(self, total: Expr) -> Expr:
        return total / extent_value(self.count(), total.dtype)

    def reference(self, x: Array, axes: tuple[int, ...]) -> Array:
        count = int(np.prod([x.shape[a] for a in axes], dtype=np.int64))
        if x.dtype.kind == "f":
            return (np.sum(x, axis=axes, dtype=np.float64, keepdims=True) / count).astype(x.dtype)
        total = np.sum(x, axis=axes, dtype=x.dtype, keepdims=True)
        return truncating_division(total, np.asarray(count).astype(x.dtype))


class ReduceProd(CombinedReduction):
    """out = product of x; 1 when empty, integers wrap."""

    name = "reduce.prod"
    traits = SYMBOLIC
    combiner = "mul"

    def reference(self, x: Array, axes: tuple[int, ...]) -> Array:
        return _accumulated(np.prod, x, axes)

    def reference_of_dims(self, ev: Any, x: Array, axes: tuple[int, ...]) -> Array:
        return np.asarray(np.prod(x, axis=axes, keepdims=True))


class ReduceMax(CombinedReduction):
    """out = largest element; NaN if any is NaN; -inf (the least integer) when empty."""

    name = "reduce.max"
    traits = SYMBOLIC
    combiner = "max"

    def reference(self, x: Array, axes: tuple[int, ...]) -> Array:
        return np.asarray(np.max(x, axis=axes, keepdims=True, initial=_identity("max", x)))

    def reference_of_dims(self, ev: Any, x: Array, axes: tuple[int, ...]) -> Array:
        return _fold_dims(dmax, x, axes, int(identity("max", self.x.dtype.compute)))


class ReduceMin(CombinedReduction):
    """out = smallest element; NaN if any is NaN; inf (the largest integer) when empty."""

    name = "reduce.min"
    traits = SYMBOLIC
    combiner = "min"

    def reference(self, x: Array, axes: tuple[int, ...]) -> Array:
        return np.asarray(np.min(x, axis=axes, keepdims=True, initial=_identity("min", x)))

    def reference_of_dims(self, ev: Any, x: Array, axes: tuple[int, ...]) -> Array:
        return _fold_dims(dmin, x, axes, int(identity("min", self.x.dtype.compute)))


class ReduceL1(CombinedReduction):
    """out = sum of |x|; integers wrap."""

    name = "reduce.l1"
    combiner = "add"

    def element(self, x: Expr) -> Expr:
        return unary("abs", x)

    def reference(self, x: Array, axes: tuple[int, ...]) -> Array:
        return _accumulated(np.sum, np.abs(x), axes)


class ReduceSumSquare(CombinedReduction):
    """out = sum of x^2; integers wrap."""

    name = "reduce.sum_square"
    combiner = "add"

    def element(self, x: Expr) -> Expr:
        return x * x

    def reference(self, x: Array, axes: tuple[int, ...]) -> Array:
        if x.dtype.kind != "f":
            return _accumulated(np.sum, x * x, axes)
        return np.asarray(np.sum(np.square(x, dtype=np.float64), axis=axes, keepdims=True)).astype(x.dtype)


class ReduceL2(CombinedReduction):
    """out = sqrt(sum of x^2)"""

    name = "reduce.l2"
    accepts = "float"
    combiner = "add"

    def element(self, x: Expr) -> Expr:
        return x * x

    def finish(self, total: Expr) -> Expr:
        return unary("sqrt", total)

    def reference(self, x: Array, axes: tuple[int, ...]) -> Array:
        squares = np.sum(np.square(x, dtype=np.float64), axis=axes, keepdims=True)
        return np.asarray(np.sqrt(squares)).astype(x.dtype)


class ReduceLogSum(CombinedReduction):
    """out = log(sum of x); -inf when empty."""

    name = "reduce.log_sum"
    accepts = "float"
    combiner = "add"

    def finish(self, total: Expr) -> Expr:
        return call("log", total)

    def reference(self, x: Array, axes: tuple[int, ...]) -> Array:
        return np.log(np.sum(x, axis=axes, dtype=np.float64, keepdims=True)).astype(x.dtype)


class ReduceLogSumExp(Reduction):
    """out = log(sum of e^x), computed as m + log(sum of e^(x - m)) with m = max of x; -inf when empty."""

    name = "reduce.log_sum_exp"
    accepts = "float"

    def define(self) -> RowProgram:
        space = row_space(self.x.shape, self.reduced_axes())
        x = read(self.x, 0, space.index)
        maximum, shift, total = (Var(n, x.type) for n in ("maximum", "shift", "total"))
        stages = (
            RowStage("reduce", "maximum", x, "max"),
            RowStage("scalar", "shift", select(unary("isinf", maximum), const(0.0, x.dtype), maximum)),
            RowStage("reduce", "total", call("exp", x - shift), "add"),
        )
        out = shift + call("log", total)
        at = kept_coordinates(space, self.keepdims)
        return RowProgram(space.outer, space.row, stages, out, at, per_row=True)

    def reference(self, x: Array, axes: tuple[int, ...]) -> Array:
        wide = x.astype(np.float64)
        shift = np.max(wide, axis=axes, keepdims=True, initial=-np.inf)
        shift = np.where(np.isinf(shift), 0.0, shift)
        total = np.sum(np.exp(wide - shift), axis=axes, keepdims=True)
        return np.asarray(shift + np.log(total)).astype(x.dtype)


class ReduceAny(CombinedReduction):
    """out = whether any element is true; false when empty."""

    name = "reduce.any"
    accepts = "bool"
    combiner = "or"

    def reference(self, x: Array, axes: tuple[int, ...]) -> Array:
        return np.asarray(np.any(x, axis=axes, keepdims=True))


class ReduceAll(CombinedReduction):
    """out = whether all elements are true; true when empty."""

    name = "reduce.all"
    accepts = "bool"
    combiner = "and"

    def reference(self, x: Array, axes: tuple[int, ...]) -> Array:
        return np.asarray(np.all(x, axis=axes, keepdims=True))


class ArgReduction(Op):
    """out = the i64 position of an extreme element along `axis`.

    Ties go to the first position, with `select_last_index` to the last; NaN counts as the extreme.
    The axis must not be empty.
    """

    x = operand()
    axis = int_attr(0)
    keepdims = bool_attr(False)
    select_last_index = bool_attr(False)
    combiner: ClassVar[str]
    reference: ClassVar[Callable[..., Any]]

    def infer(self, ic: InferContext) -> list[Type]:
        x = ic.tensor(self.x, "x")
        if not ACCEPTS["number"](x.dtype):
            ic.bad_dtype("dtype of x", "number", x.dtype)
        if x.rank == 0:
            ic.bad_operand("rank of x", "at least 1", 0)
        axis = ic.axis(self.axis, x.rank)
        ic.at_least(x.shape[axis], 1, f"extent of axis {axis}")
        return [TensorType(i64, ic.result_shape(reduced_shape(x.shape, (axis,), self.keepdims)))]

    def evaluate(self, ev: Any, x: Array) -> Array:
        axis = self.axis % x.ndim
        if not self.select_last_index:
            return np.asarray(type(self).reference(x, axis=axis, keepdims=self.keepdims))
        last = x.shape[axis] - 1
        return np.asarray(last - type(self).reference(np.flip(x, axis), axis=axis, keepdims=self.keepdims))

    def define(self) -> RowProgram:
        axis = self.axis % self.x.rank
        space = row_space(self.x.shape, (axis,))
        at, last = list(space.index), self.x.shape[axis] - 1
        position: Expr = Var("position", VecType(i64))
        if self.select_last_index:
            at[axis] = last - at[axis]
        stage = RowStage("reduce", "position", read(self.x, 0, at), self.combiner)
        out = index(last) - position if self.select_last_index else position
        where = kept_coordinates(space, self.keepdims)
        return RowProgram(space.outer, space.row, (stage,), out, where, per_row=True)

    def cost(self) -> DimLike:
        """One comparison per element of x."""
        return self.x.type.size  # type: ignore[union-attr]

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        rng = seeded(cls.name)
        for dtype in accepted_dtypes("number"):
            for last in (False, True):
                attrs = {"axis": 1, "select_last_index": last}
                yield Sample((random_values(dtype, (3, 9, 4), rng),), attrs, f"{dtype} with ties")
                yield Sample((edge_values(dtype),), {"select_last_index": last}, f"{dtype} edges")
        for shape, axis in (((3, 7), -1), ((5,), 0), ((2, 1, 3), 1), ((0, 4), 1)):
            x = random_values(accepted_dtypes("float")[0], shape, rng)
            yield Sample((x,), {"axis": axis, "keepdims": True}, f"{list(shape)}")
        x = np.array([[1, np.nan, 5, np.nan], [-np.inf] * 4, [np.inf, 1, np.inf, 0]], np.float32)
        for last in (False, True):
            yield Sample((x,), {"axis": 1, "select_last_index": last}, "NaN and infinities")


class ArgMax(ArgReduction):
    """out = the i64 position of the largest element along `axis`.

    Ties go to the first position, with `select_last_index` to the last; NaN counts as the largest.
    The axis must not be empty.
    """

    name = "reduce.argmax"
    combiner = "argmax"
    reference = staticmethod(np.argmax)


class ArgMin(ArgReduction):
    """out = the i64 position of the smallest element along `axis`.

    Ties go to the first position, with `select_last_index` to the last; NaN counts as the smallest.
    The axis must not be empty.
    """

    name = "reduce.argmin"
    combiner = "argmin"
    reference = staticmethod(np.argmin)


# ---------------------------------------------------------------------------------- shared pieces


class RowSpace:
    """A tensor's axes split in outer ones and those of a row.

    Attributes:
        outer: axes outside the row, named ``i`` and the tensor axis.
        row: axes of the row, named ``r`` and the tensor axis.
        index: coordinates in the tensor.
        reduced: the tensor axes of the row.
    """

    def __init__(self, shape: tuple[DimLike, ...], reduced: tuple[int, ...]) -> None:
        every = [Axis(f"{'r' if a in reduced else 'i'}{a}", e) for a, e in enumerate(shape)]
        self.reduced = reduced
        self.outer = tuple(axis for a, axis in enumerate(every) if a not in reduced)
        self.row = tuple(axis for a, axis in enumerate(every) if a in reduced)
        self.index = coordinates(every)


def row_space(shape: tuple[DimLike, ...], reduced: tuple[int, ...]) -> RowSpace:
    """The axes of a tensor of `shape` whose rows run over `reduced`."""
    return RowSpace(shape, reduced)


def result_axes(space: RowSpace, keepdims: bool) -> tuple[Axis, ...]:
    """One axis per result axis; kept ones have extent 1."""
    if not keepdims:
        return space.outer
    outer = iter(space.outer)
    rank = len(space.index)
    return tuple(Axis(f"k{a}", 1) if a in space.reduced else next(outer) for a in range(rank))


def kept_coordinates(space: RowSpace, keepdims: bool) -> tuple[DimLike, ...]:
    """Result coordinates of a reduction: reduced axes are gone, or 0."""
    if not keepdims:
        return coordinates(space.outer)
    return tuple(0 if a in space.reduced else at for a, at in enumerate(space.index))


def reduced_shape(
    shape: tuple[DimLike, ...], reduced: tuple[int, ...], keepdims: bool
) -> tuple[DimLike, ...]:
    """The shape after a reduction."""
    if keepdims:
        return tuple(1 if a in reduced else e for a, e in enumerate(shape))
    return tuple(e for a, e in enumerate(shape) if a not in reduced)


def extent_value(extent: DimLike, dtype: DType) -> Expr:
    """An extent as a number of `dtype`."""
    return const(extent, dtype) if is_static(extent) else cast(index(extent), dtype)  # type: ignore[arg-type]


def _accumulated(function: Callable[..., Any], x: Array, axes: tuple[int, ...]) -> Array:
    """A sum or product: floats in double precision, rounded once; integers wrap in their dtype."""
    dtype = np.dtype(np.float64) if x.dtype.kind == "f" else x.dtype
    return np.asarray(function(x, axis=axes, dtype=dtype, keepdims=True)).astype(x.dtype, copy=False)


def _identity(combiner: str, x: Array) -> Any:
    from aino_ir.dtypes import dtype_of

    dtype = dtype_of(x.dtype)
    assert dtype is not None and dtype is not boolean
    return x.dtype.type(identity(combiner, dtype))


def _fold_dims(function: Callable[..., DimLike], x: Array, axes: tuple[int, ...], empty: int) -> Array:
    if x.size == 0:
        shape = [1 if a in axes else d for a, d in enumerate(x.shape)]
        return np.full(shape, empty, dtype=object)
    folded = np.frompyfunc(function, 2, 1)
    for axis in axes:
        x = np.asarray(folded.reduce(x, axis=axis, keepdims=True), dtype=object)
    return x
