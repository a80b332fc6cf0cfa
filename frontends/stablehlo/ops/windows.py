"""Reductions over windows, and the choice of an element of each window: pools and their gradients."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from aino_ir.dims import DimLike, is_static, product
from aino_ir.dtypes import i64
from aino_ir.frontends.stablehlo.context import OpContext, Row
from aino_ir.frontends.stablehlo.ops.movement import padded
from aino_ir.frontends.stablehlo.ops.reductions import combiner_of, is_neutral
from aino_ir.frontends.stablehlo.regions import Combine, Values, combiner, pointwise, running
from aino_ir.graph import Value


@dataclass(frozen=True)
class Windows:
    """Where windows lie: one number, or one pair of paddings, for each axis."""

    sizes: list[int]
    strides: list[int]
    dilations: list[int]
    spread: list[int]
    pads: list[list[int]]

    @property
    def is_dense(self) -> bool:
        """Whether neither windows nor operand have gaps, and each place has a window."""
        return all(n == 1 for n in (*self.strides, *self.dilations, *self.spread))

    def line(self, axis: int) -> tuple[int, int, int, int, tuple[int, int]]:
        """What there is along one axis."""
        before, after = self.pads[axis]
        numbers = (self.sizes[axis], self.strides[axis], self.dilations[axis], self.spread[axis])
        return (*numbers, (before, after))


def windows_of(c: OpContext, rank: int) -> Windows:
    """The windows of an operation."""
    ones = [1] * rank
    return Windows(
        c.integers("window_dimensions", ones),
        c.integers("window_strides", ones),
        c.integers("window_dilations", ones),
        c.integers("base_dilations", ones),
        c.matrix("padding", rank),
    )


def reduce_window(c: OpContext, *operands: Value) -> Value | Sequence[Value]:
    """A reduction over windows: pools, running sums, and whatever a region combines."""
    xs, starts = operands[: len(operands) // 2], operands[len(operands) // 2 :]
    windows, region = windows_of(c, xs[0].rank), c.op.regions[0]
    along = _running(xs[0], windows.sizes, windows.pads) if windows.is_dense else None
    if along is not None:
        return _run_along(c, xs, starts, along, region)
    kind, combine = combiner_of(region), combiner(c, region)
    neutral = _is_neutral(c, kind, starts)
    if neutral and kind is not None and _is_pool(xs[0], kind, windows):
        return _pooled(c, xs[0], kind, windows)
    return _begun(combined(c, xs, starts, windows, combine), starts, combine, neutral)


def dynamic_reduce_window(c: OpContext, x: Value, start: Value, *geometry: Value) -> Value | Sequence[Value]:
    """Windows as long as an axis of symbolic extent: what JAX makes of running sums there."""
    sizes, strides, spread, dilations, pads = (c.dims(v) for v in geometry)
    pairs = [[b, a] for b, a in zip(pads[::2], pads[1::2], strict=True)]
    dense = all(is_static(d) and d == 1 for d in (*strides, *spread, *dilations))
    along = _running(x, sizes, pairs) if dense else None
    if along is None:
        c.unsupported("a window of symbolic extent that is no running reduction")
    called = c.attribute("called_computations")[0].value
    return _run_along(c, [x], [start], along, c.function.functions[called].regions[0])


def _run_along(
    c: OpContext, xs: Values, starts: Values, along: tuple[int, bool], region: Any
) -> Value | Sequence[Value]:
    """A running reduction along an axis, perhaps from its end."""
    axis, reverse = along
    kind, combine = combiner_of(region), combiner(c, region)
    neutral = _is_neutral(c, kind, starts)
    if neutral and kind in ("add", "mul"):
        return c.emit("cumsum" if kind == "add" else "cumprod", xs[0], axis=axis, reverse=reverse)
    return _begun(running(c, xs, axis, reverse, combine), starts, combine, neutral)


def _is_neutral(c: OpContext, kind: str | None, starts: Values) -> bool:
    return len(starts) == 1 and kind is not None and kind != "second" and is_neutral(c, kind, starts[0])


def _begun(results: Values, starts: Values, combine: Combine, neutral: bool) -> Values:
    """The first value combined with results, unless it changes nothing."""
    return results if neutral else combine(starts, results)


def combined(c: OpContext, xs: Values, fill: Values, windows: Windows, combine: Combine) -> Values:
    """The elements of every window combined: one axis after the other, the last one first."""
    for axis in reversed(range(xs[0].rank)):
        size, stride, dilation, spread, (before, after) = windows.line(axis)
        if (size, stride, spread, before, after) == (1, 1, 1, 0, 0):
            continue
        low, high, gaps = (
            [n if a == axis else 0 for a in range(xs[0].rank)] for n in (before, after, spread - 1)
        )
        xs = [padded(c, x, value, low, high, gaps) for x, value in zip(xs, fill, strict=True)]
        count = max(0, (c.extent(xs[0], axis) - (size - 1) * dilation - 1) // stride + 1)
        columns = [
            [
                c.emit(
                    "slice",
                    x,
                    starts=[k * dilation if a == axis else 0 for a in range(x.rank)],
                    sizes=[count if a == axis else d for a, d in enumerate(x.shape)],
                    steps=[stride if a == axis else 1 for a in range(x.rank)],
                )
                for x in xs
            ]
            for k in range(size)
        ]
        xs = _tree(columns, combine)
    return xs


def _tree(columns: list[list[Value]], combine: Combine) -> Values:
    """Neighbours combined until one is left."""
    rows: list[Values] = list(columns)
    while len(rows) > 1:
        pairs = [combine(rows[n], rows[n + 1]) for n in range(0, len(rows) - 1, 2)]
        rows = pairs + rows[len(rows) - len(rows) % 2 :]
    return rows[0]


def _running(
    x: Value, sizes: Sequence[DimLike], pads: Sequence[Sequence[DimLike]]
) -> tuple[int, bool] | None:
    """(axis, from the end) when dense windows reach from each element to the start or end of one axis."""
    long = [a for a, k in enumerate(sizes) if k != 1]
    if len(long) != 1:
        return None
    (axis,) = long
    extent, side = x.shape[axis], list(pads[axis])
    if sizes[axis] != extent or any(list(p) != [0, 0] for a, p in enumerate(pads) if a != axis):
        return None
    sides = [[extent - 1, 0], [0, extent - 1]]
    return (axis, side == sides[1]) if side in sides else None


# -- pools --------------------------------------------------------------------------------------------


def _is_pool(x: Value, kind: str, w: Windows) -> bool:
    """Whether a pool does it: of floats, without gaps and negative paddings."""
    plain = all(n == 1 for n in w.spread) and all(p >= 0 for pair in w.pads for p in pair)
    return plain and x.dtype.is_float and kind in ("add", "max", "min") and 0 not in x.shape


def _pooled(c: OpContext, x: Value, kind: str, w: Windows) -> Value:
    """A pool over the axes that have windows, which come last for it."""
    moving = [a for a in range(x.rank) if w.line(a) != (1, 1, 1, 1, (0, 0))]
    if not moving:
        return x
    still = [a for a in range(x.rank) if a not in moving]
    order = [*still, *moving]
    moved = c.permuted(x, order)
    kept = moved.shape[: len(still)]
    data = c.reshape(moved, (1, product(kept), *moved.shape[len(still) :]))
    geometry = {
        "kernel": [w.sizes[a] for a in moving],
        "strides": [w.strides[a] for a in moving],
        "dilations": [w.dilations[a] for a in moving],
        "pads_before": [w.pads[a][0] for a in moving],
        "pads_after": [w.pads[a][1] for a in moving],
    }
    out = _pool(c, data, kind, geometry)
    out = c.reshape(out, (*kept, *out.shape[2:]))
    back = [order.index(a) for a in range(x.rank)]
    return c.permuted(out, back)


def _pool(c: OpContext, x: Value, kind: str, geometry: dict[str, list[int]]) -> Value:
    if kind == "max":
        return c.emit("max_pool", x, **geometry)
    if kind == "min":
        return c.emit("neg", c.emit("max_pool", c.emit("neg", x), **geometry))
    mean = c.emit("avg_pool", x, count_include_pad=True, **geometry)
    return c.emit("mul", mean, c.scalar(float(np.prod(geometry["kernel"])), x.dtype))


# -- one element of each window -----------------------------------------------------------------------


def select_and_scatter(c: OpContext, x: Value, source: Value, start: Value) -> Value:
    """Each source element added where its window's chosen element of x stands: the gradient of a pool.

    What stands outside of x has position -1 and is never chosen.
    """
    select, scatter = c.op.regions
    if combiner_of(scatter) != "add" or x.dtype.is_bool:
        c.unsupported("a region that is no sum of numbers")
    size = math.prod(c.extents(x))
    positions = c.reshape(c.emit("range", size=size, dtype=i64), x.shape)
    outside = c.scalar(-1, i64)

    def better(a: Values, b: Values) -> Values:
        (first, at), (second, other) = a, b
        (keeps,) = pointwise(c, select, [first, second])
        present = c.emit("ge", at, c.scalar(0, i64))
        missing = c.emit("lt", other, c.scalar(0, i64))
        keeps = c.emit("logical_or", missing, c.emit("logical_and", present, keeps))
        return [c.emit("select", keeps, first, second), c.emit("select", keeps, at, other)]

    windows = replace(windows_of(c, x.rank), dilations=[1] * x.rank, spread=[1] * x.rank)
    _, chosen = combined(c, [x, positions], [c.scalar(0, x.dtype), outside], windows, better)
    place = c.emit("select", c.emit("lt", chosen, c.scalar(0, i64)), c.scalar(size, i64), chosen)
    count = math.prod(c.extents(source))
    blank = c.emit("expand", c.reshape(start, (1,)), shape=(size + 1,))
    places, values = c.reshape(place, (count, 1)), c.reshape(source, (count,))
    written = c.emit("scatter_nd", blank, places, values, reduction="add")
    return c.reshape(c.cut(written, 0, 0, size), x.shape)


ROWS: dict[str, Row] = {
    "call stablehlo.dynamic_reduce_window": dynamic_reduce_window,
    "stablehlo.reduce_window": reduce_window,
    "stablehlo.select_and_scatter": select_and_scatter,
}
