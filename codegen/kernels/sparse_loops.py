"""The loop nests of products with a compressed weight.

Before any sum, a block of the other operand is multiplied by zero and added up.  The total is zero
when everything is finite; then what the streams skip adds nothing.  Otherwise the block takes the
careful way: it counts what is not finite, per row and among what the streams touch, and where these
differ, something not finite met a zero weight, so that the sum is NaN.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from aino_ir.codegen.kernels.access import Placement, Point
from aino_ir.codegen.kernels.canonical import slope
from aino_ir.codegen.kernels.emit import name_index
from aino_ir.codegen.kernels.map_points import at_row
from aino_ir.codegen.kernels.streams import Stream
from aino_ir.codegen.kernels.transpose import transposed
from aino_ir.dims import DimLike, ceildiv, dmin, is_static, product
from aino_ir.dtypes import i64
from aino_ir.loops.builder import LoopBuilder
from aino_ir.loops.conditions import Condition
from aino_ir.loops.expr import (
    Expr,
    VecType,
    cast,
    compare,
    const,
    fma,
    reduce_lanes,
    select,
    splat,
)
from aino_ir.loops.registers import RegTile

if TYPE_CHECKING:
    from aino_ir.codegen.kernels.sparse import SparseRoles


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
        self, b: LoopBuilder, place: Placement, roles: SparseRoles, shape: SparseShape, positions: str
    ) -> None:
        self.b = b
        self.place = place
        self.roles = roles
        self.shape = shape
        self.stream = shape.stream
        self.positions = positions
        self.values = place.buffers[roles.weight]
        self.dtype = roles.spec.operands[roles.weight].dtype.compute
        self.vector = VecType(self.dtype, shape.lanes)
        self.total: DimLike = roles.row.extent if roles.row is not None else 1

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
        """Where a panel starts and ends in the stream."""
        b, count = self.b, self.stream.count
        start = b.index(cast(b.load(self.positions, panel), i64), 0, count, "start")
        return start, b.index(cast(b.load(self.positions, panel + 1), i64), start, count, "stop")

    def input_of(self, step: DimLike) -> DimLike:
        """The input of a block of the stream."""
        b = self.b
        value = b.load(self.positions, self.stream.panels + 1 + step)
        return b.index(cast(value, i64), 0, self.stream.inputs - 1, "input")

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


class RowLoops(SparseLoops):
    """Lanes along rows, one output at a time."""

    def emit(self) -> None:
        """Per unit: a block of rows in order, then every output of a group from its stream."""
        shape, b = self.shape, self.b
        assert self.roles.row is not None
        self.row = self.roles.row
        self.width = shape.vectors * shape.lanes
        self.whole = is_static(self.total) and int(self.total) % self.width == 0  # type: ignore[arg-type]
        self.direct = self.roles.rows_contiguous and self.whole
        result = self.roles.spec.results[0]
        self.in_order = slope(result.addr(result.index), self.row.name) == 1
        self.staged = "" if self.direct else b.alloc("block", self.dtype, self.stream.inputs * self.width)
        self.sums = "" if self.in_order else b.alloc("sums", self.dtype, shape.lanes * self.width)
        self.found = b.alloc("found", self.dtype, self.width)
        tiles = -(-self.stream.outputs // shape.lanes)
        step = -(-tiles // shape.parts) * shape.lanes
        groups = -(-self.stream.outputs // step)
        self.units(
            ceildiv(self.total, self.width),
            groups,
            lambda at, block, group: self._unit(at, block, group, step),
        )

    def _unit(self, at: dict[str, DimLike], block: DimLike, group: DimLike, step: int) -> None:
        b = self.b
        start = name_index(b, block * self.width, "first")
        self.poison = b.reg_tile("poison", (self.shape.vectors,), self.vector, 0)
        if self.direct:
            self._look(at, start)
        else:
            (self._copy if self.roles.rows_contiguous else self._turn)(at, start)
        total: Expr = self.poison[0].read()
        for v in range(1, self.shape.vectors):
            total = total + self.poison[v].read()
        poison = b.let(reduce_lanes("add", b.let(total)), "poison")
        first = group * step
        last = dmin(first + step, self.stream.outputs)
        self.either_way(poison, lambda careful: self._outputs(at, start, first, last, careful))

    # -- the block of rows ----------------------------------------------------------------------------

    def _copy(self, at: dict[str, DimLike], start: DimLike) -> None:
        """Rows lie in order: a vector of rows of each input is copied, what is past the end is zero."""
        lanes = self.shape.lanes
        with self.b.loop("k", 0, self.stream.inputs) as k:
            for v in range(self.shape.vectors):
                point = self._rows_point(self.at(at, row=start + v * lanes, inner=k), start, v)
                x = self.b.let(self.x(point))
                self.b.store(self.staged, k * self.width + v * lanes, x)
                self._note(x, v)

    def _rows_point(self, at: dict[str, DimLike], start: DimLike, v: int) -> Point:
        lanes = self.shape.lanes
        count = None if self.whole else self.total - start - v * lanes
        return Point(at, self.row.name, lanes, count)

    def _turn(self, at: dict[str, DimLike], start: DimLike) -> None:
        """Inputs lie in order: square blocks are turned over; past the end the last row stands again."""
        b, lanes, inputs = self.b, self.shape.lanes, self.stream.inputs
        rest = inputs % lanes
        with b.loop("turn", 0, self.width, step=lanes) as g:
            rows = [self._row(start + g + i) for i in range(lanes)]
            with b.loop("k", 0, inputs - rest, step=lanes) as k:
                self._turn_block(at, rows, g, k, lanes)
            if rest:
                self._turn_block(at, rows, g, inputs - rest, rest)

    def _row(self, row: DimLike) -> DimLike:
        return row if self.whole else name_index(self.b, dmin(row, self.total - 1), "row")

    def _turn_block(
        self, at: dict[str, DimLike], rows: Sequence[DimLike], g: DimLike, k: DimLike, count: int
    ) -> None:
        lanes, inner = self.shape.lanes, self.roles.inner.name
        valid = None if count == lanes else count
        vectors = [self.x(Point(self.at(at, row=r, inner=k), inner, lanes, valid)) for r in rows]
        for i, vector in enumerate(transposed(self.b, vectors)[:count]):
            self.b.store(self.staged, (k + i) * self.width + g, vector)
            self._note(vector, i % self.shape.vectors)

    def _x(self, at: dict[str, DimLike], start: DimLike, k: DimLike, v: int) -> Expr:
        lanes = self.shape.lanes
        if self.direct:
            return self.x(Point(self.at(at, row=start + v * lanes, inner=k), self.row.name, lanes))
        return self.b.load(self.staged, k * self.width + v * lanes, lanes)

    def _look(self, at: dict[str, DimLike], start: DimLike) -> None:
        """Rows that are read where they lie: once over all of them, to see whether they are finite."""
        with self.b.loop("k", 0, self.stream.inputs) as k:
            for v in range(self.shape.vectors):
                self._note(self._x(at, start, k, v), v)

    def _note(self, x: Expr, number: int) -> None:
        """Zero times x into one of the sums that tell whether everything is finite."""
        poison = self.poison[number]
        self.b.set(poison, fma(x, 0.0, poison.read()))

    # -- outputs --------------------------------------------------------------------------------------

    def _outputs(
        self, at: dict[str, DimLike], start: DimLike, first: DimLike, last: DimLike, careful: bool
    ) -> None:
        b, lanes = self.b, self.shape.lanes
        if careful:
            self._count(at, start)
        if self.in_order:
            with b.loop("output", first, last) as n:
                for v, value in enumerate(self._sums(at, start, n, careful)):
                    point = self._rows_point(self.at(at, row=start + v * lanes, output=n), start, v)
                    self.write(point, value)
            return
        with b.loop("tile", first, last, step=lanes) as tile:
            with b.loop("output", tile, dmin(tile + lanes, last)) as n:
                for v, value in enumerate(self._sums(at, start, n, careful)):
                    b.store(self.sums, (n - tile) * self.width + v * lanes, value)
            self._write_turned(at, start, tile)

    def _sums(self, at: dict[str, DimLike], start: DimLike, n: DimLike, careful: bool) -> list[Expr]:
        """One output for every vector of rows."""
        b, vectors, lanes = self.b, self.shape.vectors, self.shape.lanes
        begin, end = self.span(n)
        acc = b.reg_tile("acc", (vectors,), self.vector, 0)
        touched = b.reg_tile("touched", (vectors,), self.vector, 0) if careful else None
        with b.loop("step", begin, end, unroll=0 if careful else 2) as j:
            k = self.input_of(j)
            w = b.let(splat(b.load(self.values, j), lanes), "w")
            for v in range(vectors):
                x = self._x(at, start, k, v)
                b.set(acc[v], fma(x, w, acc[v].read()))
                if touched is not None:
                    b.set(touched[v], touched[v].read() + self.not_finite(x))
        values = [b.let(acc[v].read()) for v in range(vectors)]
        if touched is None:
            return values
        return [
            self.corrected(value, b.let(touched[v].read()), b.load(self.found, v * lanes, lanes))
            for v, value in enumerate(values)
        ]

    def _count(self, at: dict[str, DimLike], start: DimLike) -> None:
        """How many inputs of each row are not finite."""
        b, vectors = self.b, self.shape.vectors
        counts = b.reg_tile("counts", (vectors,), self.vector, 0)
        with b.loop("k", 0, self.stream.inputs) as k:
            for v in range(vectors):
                b.set(counts[v], counts[v].read() + self.not_finite(self._x(at, start, k, v)))
        for v in range(vectors):
            b.store(self.found, v * self.shape.lanes, counts[v].read())

    def _write_turned(self, at: dict[str, DimLike], start: DimLike, tile: DimLike) -> None:
        """Sums [output][row] of a tile become rows of outputs."""
        b, lanes, outputs = self.b, self.shape.lanes, self.stream.outputs
        count = None if outputs % lanes == 0 else outputs - tile
        with b.loop("turn", 0, self.width, step=lanes) as g:
            loads = [b.load(self.sums, j * self.width + g, lanes) for j in range(lanes)]
            for i, value in enumerate(transposed(b, loads)):
                row = start + g + i
                with ExitStack() as stack:
                    if not self.whole:
                        stack.enter_context(b.when(Condition(self.total, ">", row)))
                    here = self.at(at, row=row, output=tile)
                    self.write(Point(here, self.roles.output.name, lanes, count), value)


class PanelLoops(SparseLoops):
    """Lanes along outputs, a register tile of rows by a panel."""

    TILES: ClassVar[int] = 6
    """Row tiles of a unit."""

    def emit(self) -> None:
        """Per unit: a chunk of rows, and of each panel of a group the stream for each tile of rows."""
        panels = self.stream.panels
        step = -(-panels // self.shape.parts)
        chunk = self.shape.rows * self.TILES
        self.units(
            ceildiv(self.total, chunk),
            -(-panels // step),
            lambda at, block, group: self._unit(at, block * chunk, chunk, group * step, step),
        )

    def _unit(self, at: dict[str, DimLike], start: DimLike, chunk: int, first: DimLike, step: int) -> None:
        b = self.b
        start = name_index(b, start, "first")
        stop = name_index(b, dmin(start + chunk, self.total), "stop")
        last = dmin(first + step, self.stream.panels)

        def panels(careful: bool) -> None:
            with b.loop("panel", first, last) as panel:
                self._rows(at, panel, start, stop, careful)

        self.either_way(self._poison(at, start, stop), panels)

    def _poison(self, at: dict[str, DimLike], start: DimLike, stop: DimLike) -> Expr:
        """The chunk times zero, added up."""
        b = self.b
        total = b.reg("poison", self.vector, 0)
        with b.loop("row", start, stop) as row:
            self.along_inputs(at, row, lambda x: b.set(total, fma(x, 0.0, total.read())))
        return b.let(reduce_lanes("add", b.let(total.read())), "poison")

    def _rows(
        self, at: dict[str, DimLike], panel: DimLike, start: DimLike, stop: DimLike, careful: bool
    ) -> None:
        """Full tiles of rows, then a narrower one."""
        b, height = self.b, self.shape.rows
        whole = name_index(b, start + (stop - start) // height * height, "whole")
        with b.loop("tile", start, whole, step=height) as r:
            self._tile(at, panel, [r + i for i in range(height)], careful)
        with b.loop("tile", whole, stop) as r:
            self._tile(at, panel, [r], careful)

    def _tile(self, at: dict[str, DimLike], panel: DimLike, rows: Sequence[DimLike], careful: bool) -> None:
        b, vectors, lanes = self.b, self.shape.vectors, self.shape.lanes
        begin, end = self.span(panel)
        acc = b.reg_tile("acc", (len(rows), vectors), self.vector, 0)
        touched = b.reg_tile("touched", (len(rows),), VecType(self.dtype), 0) if careful else None
        with b.loop("step", begin, end) as j:
            k = self.input_of(j)
            w = [b.load(self.values, (j * vectors + v) * lanes, lanes) for v in range(vectors)]
            for i, row in enumerate(rows):
                x = self.x(Point(self.at(at, row=row, inner=k)))
                wide = b.let(splat(x, lanes), "x")
                for v in range(vectors):
                    b.set(acc[i, v], fma(wide, w[v], acc[i, v].read()))
                if touched is not None:
                    b.set(touched[i], touched[i].read() + self.not_finite(x))
        for i, row in enumerate(rows):
            self._write_row(at, panel, row, i, acc, touched)

    def _write_row(
        self,
        at: dict[str, DimLike],
        panel: DimLike,
        row: DimLike,
        i: int,
        acc: RegTile,
        touched: RegTile | None,
    ) -> None:
        b, vectors, lanes, outputs = self.b, self.shape.vectors, self.shape.lanes, self.stream.outputs
        found: Expr | None = None
        if touched is not None:
            count = b.reg("found", self.vector, 0)
            self.along_inputs(at, row, lambda x: b.set(count, count.read() + self.not_finite(x)))
            found = b.let(reduce_lanes("add", b.let(count.read())))
        for v in range(vectors):
            first = panel * (vectors * lanes) + v * lanes
            valid = None if outputs % (vectors * lanes) == 0 else outputs - first
            value = b.let(acc[i, v].read())
            if touched is not None and found is not None:
                same = b.let(touched[i].read())
                value = self.corrected(value, splat(same, lanes), splat(found, lanes))
            self.write(Point(self.at(at, row=row, output=first), self.roles.output.name, lanes, valid), value)
