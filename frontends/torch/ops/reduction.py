"""Reductions over axes: sums, extremes, moments, norms, running sums."""

from __future__ import annotations

from collections.abc import Sequence

from aino_ir.dims import is_static
from aino_ir.dtypes import DType, boolean, i64
from aino_ir.frontends.torch.context import Lowering, NodeContext, Operand, Row
from aino_ir.frontends.torch.ops.elementwise import to_dtype
from aino_ir.graph import Value

Axes = Sequence[int] | int | None


def total(op: str) -> Lowering:
    """A row for a sum or product in the dtype of the result."""

    def lower(
        c: NodeContext, x: Value, dim: Axes = None, keepdim: bool = False, dtype: DType | None = None
    ) -> Value:
        of = "reduce.all" if c.dtype.is_bool and op == "reduce.prod" else op
        return c.emit(of, to_dtype(c, x, c.dtype), axes=c.axes(dim, x.rank), keepdims=keepdim)

    return lower


def extreme(of_numbers: str, of_bools: str) -> Lowering:
    """A row for the largest or smallest element over axes."""

    def lower(c: NodeContext, x: Value, dim: Axes = None, keepdim: bool = False) -> Value:
        op = of_bools if x.dtype.is_bool else of_numbers
        return c.emit(op, x, axes=c.axes(dim, x.rank), keepdims=keepdim)

    return lower


def with_position(of_numbers: str, of_bools: str, position: str) -> Lowering:
    """A row for max and min: of all elements, or along an axis with the position."""

    def lower(
        c: NodeContext, x: Value, dim: int | None = None, keepdim: bool = False
    ) -> Value | list[Value | None]:
        op = of_bools if x.dtype.is_bool else of_numbers
        if dim is None:
            return c.emit(op, x, axes=tuple(range(x.rank)))
        if x.rank == 0:
            return [x, c.scalar(0, i64)]
        axis = c.axis(dim, x.rank)
        best = c.emit(op, x, axes=(axis,), keepdims=keepdim) if c.wants(0) else None
        where = c.emit(position, _numbers(c, x), axis=axis, keepdims=keepdim) if c.wants(1) else None
        return [best, where]

    return lower


def _numbers(c: NodeContext, x: Value) -> Value:
    """x, truth values as numbers."""
    return c.cast(x, i64) if x.dtype.is_bool else x


def position(op: str) -> Lowering:
    """A row for the position of an extreme: along an axis, or in the flattened tensor."""

    def lower(c: NodeContext, x: Value, dim: int | None = None, keepdim: bool = False) -> Value:
        if x.rank == 0:
            return c.scalar(0, i64)
        x = _numbers(c, x)
        if dim is not None:
            return c.emit(op, x, axis=c.axis(dim, x.rank), keepdims=keepdim)
        count = c.emit("reshape", x, shape=(_product(x.shape),))
        return c.reshape(c.emit(op, count, axis=0), [1] * x.rank if keepdim else [])

    return lower


def _product(extents: Sequence[object]) -> object:
    out: object = 1
    for extent in extents:
        out = out * extent  # type: ignore[operator]
    return out


def truth_over(op: str) -> Lowering:
    """A row for any and all."""

    def lower(c: NodeContext, x: Value, dim: Axes = None, keepdim: bool = False) -> Value:
        found = c.emit(op, c.cast(x, boolean), axes=c.axes(dim, x.rank), keepdims=keepdim)
        return c.cast(found, c.dtype)

    return lower


def mean(
    c: NodeContext, x: Value, dim: Axes = None, keepdim: bool = False, dtype: DType | None = None
) -> Value:
    """The mean over axes."""
    return c.emit("reduce.mean", to_dtype(c, x, c.dtype), axes=c.axes(dim, x.rank), keepdims=keepdim)


def moments(
    c: NodeContext, x: Value, axes: tuple[int, ...], correction: float, keepdim: bool
) -> tuple[Value, Value]:
    """Variance and mean over axes in the compute dtype, the divisor being n - correction (at least 0)."""
    dtype = x.dtype.compute
    wide = c.cast(x, dtype)
    centre = c.emit("reduce.mean", wide, axes=axes, keepdims=True)
    apart = c.emit("sub", wide, centre)
    squares = c.emit("reduce.sum_square", apart, axes=axes, keepdims=keepdim)
    extents = [x.shape[a] for a in axes]
    count = c.count(extents, dtype)
    divisor = c.emit("max", c.emit("sub", count, c.scalar(correction, dtype)), c.scalar(0, dtype))
    shape = squares.shape
    return c.emit("div", squares, divisor), c.reshape(centre, shape)


def spread(results: tuple[str, ...]) -> Lowering:
    """A row for the variance or the standard deviation, alone or with the mean."""

    def lower(
        c: NodeContext,
        x: Value,
        dim: Axes = None,
        unbiased: bool = True,
        correction: Operand | None = None,
        keepdim: bool = False,
    ) -> Value | list[Value]:
        less = float(unbiased) if correction is None else c.number(correction, "a correction")
        variance, centre = moments(c, x, c.axes(dim, x.rank), less, keepdim)
        found = {"var": variance, "std": c.emit("sqrt", variance) if "std" in results else variance}
        found["mean"] = centre
        out = [c.cast(found[name], x.dtype) for name in results]
        return out[0] if len(out) == 1 else out

    return lower


def log_sum_exp(c: NodeContext, x: Value, dim: Axes = None, keepdim: bool = False) -> Value:
    """log of the sum of e^x"""
    return c.emit("reduce.log_sum_exp", to_dtype(c, x, c.dtype), axes=c.axes(dim, x.rank), keepdims=keepdim)


def running(op: str) -> Lowering:
    """A row for cumulative sums and products."""

    def lower(c: NodeContext, x: Value, dim: int, dtype: DType | None = None) -> Value:
        wide = to_dtype(c, x, c.dtype)
        return wide if x.rank == 0 else c.emit(op, wide, axis=c.axis(dim, x.rank))

    return lower


def vector_norm(
    c: NodeContext,
    x: Value,
    ord: Operand = 2,
    dim: Axes = None,
    keepdim: bool = False,
    dtype: DType | None = None,
) -> Value:
    """The p-norm over axes: sums of powers, extremes for infinities, a count for 0."""
    p = c.number(ord, "an order")
    axes = c.axes(dim, x.rank)
    wide = to_dtype(c, x, c.dtype)
    if p in (1, 2):
        return c.emit("reduce.l1" if p == 1 else "reduce.l2", wide, axes=axes, keepdims=keepdim)
    size = c.emit("abs", wide)
    if p in (float("inf"), float("-inf")):
        return c.emit("reduce.max" if p > 0 else "reduce.min", size, axes=axes, keepdims=keepdim)
    if p == 0:
        present = c.cast(c.emit("ne", wide, c.scalar(0, wide.dtype)), wide.dtype)
        return c.emit("reduce.sum", present, axes=axes, keepdims=keepdim)
    dtype = c.dtype.compute
    powers = c.emit("pow", c.cast(size, dtype), c.scalar(p, dtype))
    summed = c.emit("reduce.sum", powers, axes=axes, keepdims=keepdim)
    return c.cast(c.emit("pow", summed, c.scalar(1 / p, dtype)), c.dtype)


def count_nonzero(c: NodeContext, x: Value, dim: Axes = None) -> Value:
    """How many elements are not zero."""
    return c.emit("reduce.sum", c.cast(c.cast(x, boolean), i64), axes=c.axes(dim, x.rank))


def is_empty(x: Value) -> bool:
    """Whether a value is known to have no elements."""
    return any(is_static(d) and d == 0 for d in x.shape)


TABLE: dict[str, Row] = {
    "aten.all": truth_over("reduce.all"),
    "aten.amax": extreme("reduce.max", "reduce.any"),
    "aten.amin": extreme("reduce.min", "reduce.all"),
    "aten.any": truth_over("reduce.any"),
    "aten.argmax": position("reduce.argmax"),
    "aten.argmin": position("reduce.argmin"),
    "aten.count_nonzero": count_nonzero,
    "aten.cumprod": running("scan.cumprod"),
    "aten.cumsum": running("scan.cumsum"),
    "aten.linalg_vector_norm": vector_norm,
    "aten.logsumexp": log_sum_exp,
    "aten.max.default": with_position("reduce.max", "reduce.any", "reduce.argmax"),
    "aten.max.dim": with_position("reduce.max", "reduce.any", "reduce.argmax"),
    "aten.mean": mean,
    "aten.min.default": with_position("reduce.min", "reduce.all", "reduce.argmin"),
    "aten.min.dim": with_position("reduce.min", "reduce.all", "reduce.argmin"),
    "aten.prod": total("reduce.prod"),
    "aten.std": spread(("std",)),
    "aten.std_mean": spread(("std", "mean")),
    "aten.sum": total("reduce.sum"),
    "aten.var": spread(("var",)),
    "aten.var_mean": spread(("var", "mean")),
}
