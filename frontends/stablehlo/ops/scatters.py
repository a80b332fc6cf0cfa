"""Scatters: updates at positions, combined with what stands there; those that reach outside are left out.

A sum, product, extreme or assignment is one op.  Any other function is run by a loop over the positions, so
that a position that is named twice is updated twice, unless the module says that none is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aino_ir.builder import Builder
from aino_ir.dims import DimLike, product
from aino_ir.dtypes import boolean, i64, u8
from aino_ir.frontends.stablehlo.context import OpContext, Row
from aino_ir.frontends.stablehlo.ops.indexing import numbers_of, vectors
from aino_ir.frontends.stablehlo.ops.reductions import combiner_of
from aino_ir.frontends.stablehlo.regions import pointwise
from aino_ir.graph import Value
from aino_ir.types import TensorType, Type

REDUCTION = {"second": "none", "add": "add", "mul": "mul", "min": "min", "max": "max"}
ON_TRUTH = {
    "second": "none",
    "add": "max",
    "or": "max",
    "max": "max",
    "mul": "min",
    "and": "min",
    "min": "min",
}
"""Of truth values as 0 and 1."""


@dataclass(frozen=True)
class Places:
    """Where windows of updates lie in operands of one shape.

    The operand becomes rows: its axes along which windows are partial, then a row behind the last, which
    takes what reaches outside; axes that windows cover stay as they are.

    Attributes:
        shape: of the operand.
        axes: the operand's axis of each coordinate of a position.
        window: extents of a window, one for each axis of the operand.
    """

    shape: tuple[DimLike, ...]
    axes: list[int]
    window: list[DimLike]

    @property
    def partial(self) -> list[int]:
        """Axes that rows count."""
        return [a for a, d in enumerate(self.shape) if a in self.axes or self.window[a] != d]

    @property
    def order(self) -> list[int]:
        """The axes of rows, then those inside a row."""
        return [*self.partial, *(a for a in range(len(self.shape)) if a not in self.partial)]

    @property
    def extents(self) -> list[DimLike]:
        """Extents that rows count."""
        return [self.shape[a] for a in self.partial]

    @property
    def row(self) -> list[DimLike]:
        """The shape of a row."""
        return [self.shape[a] for a in self.order[len(self.partial) :]]

    def rows(self, c: OpContext, x: Value) -> Value:
        """An operand as [rows + 1, *row]."""
        flat = c.reshape(c.permuted(x, self.order), (product(self.extents), *self.row))
        return c.emit("pad", flat, before=[0] * flat.rank, after=[1, *[0] * (flat.rank - 1)])

    def operand(self, c: OpContext, rows: Value) -> Value:
        """The operand of its rows."""
        inside = c.cut(rows, 0, 0, product(self.extents))
        back = [self.order.index(a) for a in range(len(self.shape))]
        return c.permuted(c.reshape(inside, (*self.extents, *self.row)), back)

    def numbers(self, c: OpContext, positions: Value) -> Value:
        """The rows of every window as [count, 1], of positions [..., coordinate]."""
        lead = positions.shape[:-1]
        full = (*lead, *(self.window[a] for a in self.partial))
        row, inside = c.scalar(0, i64), c.scalar(True, boolean)
        for number, axis in enumerate(self.partial):
            shape: list[DimLike] = [1] * len(full)
            shape[len(lead) + number] = self.window[axis]
            at = c.reshape(c.emit("range", size=self.window[axis], dtype=i64), shape)
            if axis in self.axes:
                start = c.cut(positions, positions.rank - 1, self.axes.index(axis), 1)
                start = c.reshape(start, (*lead, *[1] * len(self.partial)))
                at = c.emit("add", at, start)
                inside = c.emit("logical_and", inside, self._fits(c, start, axis))
            step = c.emit("mul", at, c.number(product(self.extents[number + 1 :])))
            row = c.emit("add", row, step)
        place = c.emit("select", inside, row, c.number(product(self.extents)))
        place = place if place.shape == full else c.emit("expand", place, shape=full)
        return c.reshape(place, (product(full), 1))

    def _fits(self, c: OpContext, start: Value, axis: int) -> Value:
        """Whether windows from `start` on lie inside along an axis."""
        room = c.number(self.shape[axis] - self.window[axis])
        return c.emit("logical_and", c.emit("ge", start, c.scalar(0, i64)), c.emit("le", start, room))

    def updates(self, c: OpContext, updates: Value, lead: Sequence[DimLike]) -> Value:
        """Updates [*lead, *window] as [count, *row]."""
        apart = c.reshape(updates, (*lead, *self.window))
        moved = c.permuted(apart, [*range(len(lead)), *(len(lead) + a for a in self.order)])
        count = product([*lead, *(self.window[a] for a in self.partial)])
        return c.reshape(moved, (count, *self.row))


def scatter(c: OpContext, *operands: Value) -> Sequence[Value]:
    """Updates at positions, of one or several operands."""
    count = len(operands) // 2
    xs, indices, given = operands[:count], operands[count], operands[count + 1 :]
    numbers = numbers_of(c, "scatter_dimension_numbers", "ScatterDimensionNumbers")
    batches = list(numbers.input_batching_dims)
    inserted, windows = [*numbers.inserted_window_dims, *batches], list(numbers.update_window_dims)
    present = [a for a in range(xs[0].rank) if a not in inserted]
    window: list[DimLike] = [1] * xs[0].rank
    for axis, dim in zip(present, windows, strict=True):
        window[axis] = given[0].shape[dim]
    places = Places(xs[0].shape, [*numbers.scattered_dims_to_operand_dims, *batches], window)
    positions = vectors(c, indices, numbers.index_vector_dim, list(numbers.scatter_indices_batching_dims))
    order = [*(d for d in range(given[0].rank) if d not in windows), *windows]
    updates = [c.permuted(u, order) for u in given]
    if count == 1:
        made = _reduced(c, xs[0], places, positions, updates[0])
        if made is not None:
            return [made]
    if c.flag("unique_indices"):
        return _applied(c, xs, places, positions, updates)
    return _one_by_one(c, xs, places, positions, updates)


def _reduced(c: OpContext, x: Value, places: Places, positions: Value, updates: Value) -> Value | None:
    """Updates combined by a function that a scatter of the IR knows; None for others."""
    table: Mapping[str, str] = ON_TRUTH if x.dtype.is_bool else REDUCTION
    reduction = table.get(combiner_of(c.op.regions[0]) or "")
    if reduction is None:
        return None
    kind = x.dtype
    if kind.is_bool:
        x, updates = c.cast(x, u8), c.cast(updates, u8)
    rows, numbers = places.rows(c, x), places.numbers(c, positions)
    given = places.updates(c, updates, positions.shape[:-1])
    written = c.emit("scatter_nd", rows, numbers, given, reduction=reduction)
    return c.cast(places.operand(c, written), kind)


def _applied(
    c: OpContext, xs: Sequence[Value], places: Places, positions: Value, updates: Sequence[Value]
) -> list[Value]:
    """Operands with what the region makes of them and the updates; no position is named twice."""
    rows, numbers = [places.rows(c, x) for x in xs], places.numbers(c, positions)
    found = [c.emit("gather_nd", r, numbers) for r in rows]
    given = [places.updates(c, u, positions.shape[:-1]) for u in updates]
    new = pointwise(c, c.op.regions[0], [*found, *given])
    written = [c.emit("scatter_nd", r, numbers, n, reduction="none") for r, n in zip(rows, new, strict=True)]
    return [places.operand(c, r) for r in written]


def _one_by_one(
    c: OpContext, xs: Sequence[Value], places: Places, positions: Value, updates: Sequence[Value]
) -> Sequence[Value]:
    """The same, one position after the other."""
    lead = positions.shape[:-1]
    count, width = product(lead), positions.shape[-1]
    table = c.reshape(positions, (count, width))
    lines = [c.reshape(u, (count, *u.shape[len(lead) :])) for u in updates]
    outer = c.function
    captured = outer.captures(list(c.op.regions))
    values = outer.captured(captured)
    inputs = [table, *lines, *values]

    def turn(b: Builder, number: Value, go: Value, *arguments: Value) -> list[Value]:
        now, rest = arguments[: len(xs)], arguments[len(xs) :]
        function = outer.inside(b, captured, rest[1 + len(lines) :])
        inner = OpContext(b, function, c.op)
        at = inner.reshape(number, (1,))
        position, *given = (inner.emit("gather", v, at, axis=0) for v in rest[: 1 + len(lines)])
        return [go, *_applied(inner, now, places, position, given)]

    types: list[Type] = [TensorType(i64, ()), TensorType(boolean, ()), *(v.type for v in (*xs, *inputs))]
    block = c.b.region(types, turn)
    trips: Any = c.number(count)
    return c.emit_all("control.loop", trips, None, *xs, *inputs, carried=len(xs), regions=[block])


ROWS: dict[str, Row] = {"stablehlo.scatter": scatter}
