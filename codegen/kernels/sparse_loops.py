"""The loop nests of products with a compressed weight.

Before any sum, a block of the other operand is multiplied by zero and added up.  The total is zero
when everything is finite; then what the streams skip adds nothing.  Otherwise the block takes the
careful way: it counts what is not finite, per row and among what the streams touch, and where these
differ, something not finite met a zero weight, so that the sum is NaN.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aino_ir.codegen.kernels.access import Placement, Point
from aino_ir.codegen.kernels.emit import name_index
from aino_ir.codegen.kernels.map_points import at_row
from aino_ir.codegen.kernels.streams import Stream
from aino_ir.dims import DimLike, product
from aino_ir.dtypes import i64
from aino_ir.loops.builder import LoopBuilder
from aino_ir.loops.expr import (
    Expr,
    VecType,
    cast,
    compare,
    const,
    select,
    splat,
)

if TYPE_CHECKING:
    from aino_ir.codegen.kernels.sparse_roles import SparseProduct, SparseRoles


@dataclass(frozen=True)
class SparseShape:
    """The numbers that a candidate fixes.

    Attributes:
        stream: how the weight is stored.
        lanes: of a vector.
        rows, vectors: of a register tile.
        parts: into how many parts the outputs are cut.
    """

    stream: Stream
    lanes: int
    rows: int
    vectors: int
    parts: int


class SparseLoops(ABC):
    """What all ways share."""

    def __init__(
        self, b: LoopBuilder, place: Placement, roles: SparseProduct, shape: SparseShape, positions: str
    ) -> None:
        self.b = b
        self.place = place
        self.roles: SparseProduct = roles
        self.shape = shape
        self.stream = shape.stream
        self.positions = positions
        self.values = place.buffers[roles.weight]
        self.dtype = roles.spec.operands[roles.weight].dtype.compute
        self.vector = VecType(self.dtype, shape.lanes)

    @abstractmethod
    def emit(self) -> None:
        """Emit the kernel's units."""

    def units(
        self, blocks: DimLike, groups: int, body: Callable[[dict[str, DimLike], DimLike, DimLike], None]
    ) -> None:
        """Units: outer points, then blocks of rows, then groups of outputs (innermost)."""
        b = self.b
        points = product(a.extent for a in self.roles.outer)
        with b.units(points * blocks * groups) as unit:
            group = name_index(b, unit % groups, "group")
            rest = name_index(b, unit // groups, "rest")
            block = name_index(b, rest % blocks, "block")
            with at_row(b, self.roles.outer, rest // blocks) as at:
                body(at, block, group)

    def span(self, panel: DimLike) -> tuple[DimLike, DimLike]:
        """Where a panel of a chunk starts and ends in the stream."""
        b, count = self.b, self.stream.count
        start = b.index(cast(b.load(self.positions, panel), i64), 0, count, "start")
        return start, b.index(cast(b.load(self.positions, panel + 1), i64), start, count, "stop")

    def input_of(self, step: DimLike, first: DimLike = 0, last: DimLike | None = None) -> DimLike:
        """The input of a block of the stream, which lies between two (all of them)."""
        b = self.b
        value = b.load(self.positions, self.stream.starts + step)
        return b.index(cast(value, i64), first, self.stream.inputs - 1 if last is None else last, "input")

    def x(self, point: Point) -> Expr:
        """The other factor at a point, in as many lanes as the point has."""
        return splat(self.place.expr(self.roles.x, point), point.lanes)

    def not_finite(self, x: Expr) -> Expr:
        """1 where x is infinite or NaN, else 0."""
        zero = self.b.let(x * 0.0, "zero")
        one = const(1.0, self.dtype, x.lanes)
        return select(compare("eq", zero, zero), const(0.0, self.dtype, x.lanes), one)

    def corrected(self, value: Expr, touched: Expr, found: Expr) -> Expr:
        """A sum, or NaN where something that is not finite was skipped."""
        nan = const(math.nan, self.dtype, value.lanes)
        return self.b.let(select(compare("eq", touched, found), value, nan))

    def write(self, point: Point, value: Expr) -> None:
        """The finished sum at a point through the epilogue."""
        result = self.roles.spec.results[0]
        assert result.expr is not None
        self.place.store(0, point, self.place.expr(result.expr, point, accumulators={0: value}))

    def either_way(self, poison: Expr, body: Callable[[bool], None]) -> None:
        """`body(careful)`, careful when the total of everything times zero is not zero."""
        with self.b.when(compare("eq", poison, 0.0)):
            body(False)
        with self.b.otherwise():
            body(True)


class MatrixLoops(SparseLoops):
    """What ways over rows of a matrix share."""

    roles: SparseRoles

    @property
    def total(self) -> DimLike:
        """Rows."""
        return self.roles.row.extent if self.roles.row is not None else 1

    def along_inputs(self, at: dict[str, DimLike], row: DimLike, body: Callable[[Expr], None]) -> None:
        """`body` on vectors of a row's inputs, zeros behind the last."""
        lanes, inputs, inner = self.shape.lanes, self.stream.inputs, self.roles.inner.name
        rest = inputs % lanes
        with self.b.loop("k", 0, inputs - rest, step=lanes) as k:
            body(self.x(Point(self.at(at, row=row, inner=k), inner, lanes)))
        if rest:
            body(self.x(Point(self.at(at, row=row, inner=inputs - rest), inner, lanes, rest)))

    def at(self, at: dict[str, DimLike], **coordinates: DimLike) -> dict[str, DimLike]:
        """A point of the iteration space, by roles."""
        roles, out = self.roles, dict(at)
        for role, axis in (("row", roles.row), ("output", roles.output), ("inner", roles.inner)):
            if role in coordinates and axis is not None:
                out[axis.name] = coordinates[role]
        return out
