"""The loop nest of a contraction: units, row tiles with their borders, reduction, epilogue."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

from aino_ir.codegen.kernels.access import Placement, Point
from aino_ir.codegen.kernels.blocking import Blocking, walks_outer_points
from aino_ir.codegen.kernels.emit import is_heavy, name_index
from aino_ir.codegen.kernels.map_points import at_row
from aino_ir.codegen.kernels.roles import Roles, coordinate_range
from aino_ir.codegen.kernels.staging import Staging
from aino_ir.codegen.kernels.tiles import Tile
from aino_ir.compute import Axis, Compute
from aino_ir.dims import Dim, DimLike, ceildiv, dmin, is_static, product
from aino_ir.loops.builder import LoopBuilder
from aino_ir.loops.conditions import Condition
from aino_ir.loops.expr import Const, Expr, VecType, fma, splat
from aino_ir.loops.registers import RegTile

UNROLL_STEPS = 4
"""Reduction steps a loop body holds; loops no longer than this are unrolled whole."""


@dataclass(frozen=True)
class Shape:
    """The numbers that a candidate fixes."""

    tile: Tile
    lanes: int
    blocking: Blocking

    @property
    def width(self) -> int:
        """Lanes of a panel."""
        return self.tile.vectors * self.lanes


@dataclass(frozen=True)
class Panel:
    """Where a register tile stands along the lanes.

    Attributes:
        start: first lane coordinate.
        vectors: how many vectors it has.
        counts: valid lanes of each vector; None = all.
    """

    start: DimLike
    vectors: int
    counts: tuple[DimLike | None, ...]


@dataclass(frozen=True)
class PartialSums:
    """Where the sums of a cut reduction wait between its blocks.

    Attributes:
        buffer: scratch, [panel of the group][row of the chunk][lane].
        first, stop: reduction steps of this block.
        extent: all steps.
        panel: number of the panel in its group.
        start, rows: first row of the chunk, and how many it may hold.
    """

    buffer: str
    first: DimLike
    stop: DimLike
    extent: DimLike
    panel: DimLike
    start: DimLike
    rows: int

    def offset(self, row: DimLike, width: int) -> DimLike:
        """Where the lanes of a row begin."""
        return (self.panel * self.rows + row - self.start) * width


class ContractLoops:
    """Emits one contraction."""

    def __init__(self, b: LoopBuilder, place: Placement, roles: Roles, shape: Shape) -> None:
        self.b = b
        self.place = place
        self.roles = roles
        self.shape = shape
        self.dtype = roles.factors[0].dtype
        self.heavy = is_heavy_epilogue(place)
        row = roles.row.name if roles.row is not None else ""
        self._varies = [(row in names, roles.lane.name in names) for names in roles.factor_axes]
        self._factors: dict[tuple[int, int, int], Expr | None] = {}
        self.result = roles.spec.results[0]
        self.parked = ""
        if self.heavy:
            self.parked = b.alloc("tile", self.dtype, shape.tile.rows * shape.width)
        self.sums: PartialSums | None = None
        self.sums_buffer = ""
        if shape.blocking.depth:
            size = shape.blocking.group * shape.blocking.chunk * shape.tile.rows * shape.width
            self.sums_buffer = b.alloc("sums", self.dtype, size)
        self.staging: Staging | None = None
        if roles.staged is not None:
            self.staging = Staging(b, place, roles, shape.width, shape.lanes, shape.blocking.depth)

    # -- units --------------------------------------------------------------------------------------

    def emit(self) -> None:
        """Units: chunks of rows, then panels of lanes (panels innermost, so a chunk stays in L2)."""
        roles, b = self.roles, self.b
        panels = ceildiv(roles.lane.extent, self.shape.width)
        points = product(a.extent for a in roles.outer)
        chunk_size = self.shape.blocking.chunk
        if walks_outer_points(roles, self.shape.tile.rows):
            chunks = ceildiv(points, chunk_size)
            with b.units(chunks * panels) as unit:
                chunk, panel = name_index(b, unit // panels, "chunk"), name_index(b, unit % panels, "panel")
                first, last = chunk * chunk_size, dmin((chunk + 1) * chunk_size, points)
                if self.staging is not None:
                    self._panels(panel, panels, lambda where: self._points_of_panel(where, first, last))
                    return
                with b.loop("point", first, last) as p, at_row(b, roles.outer, p) as at:
                    self._panels(panel, panels, lambda where: self._row_tiles(at, where))
            return
        rows: DimLike = roles.row.extent if roles.row is not None else 1
        step = chunk_size * self.shape.tile.rows
        chunks = ceildiv(rows, step)
        groups = ceildiv(panels, self.shape.blocking.group)
        with b.units(points * chunks * groups) as unit:
            group = name_index(b, unit % groups, "panel" if groups is panels else "group")
            rest = name_index(b, unit // groups, "block")
            chunk = name_index(b, rest % chunks, "chunk")
            with at_row(b, roles.outer, rest // chunks) as at:
                if self.shape.blocking.depth:
                    self._blocks(at, group, panels, chunk * step, step)
                else:
                    self._panels(group, panels, lambda where: self._unit_rows(at, where, chunk * step, step))

    def _points_of_panel(self, panel: Panel, first: DimLike, last: DimLike) -> None:
        """Outer points of a unit, with a staged panel: written once, or for each point where it moves."""
        assert self.staging is not None
        if not self.staging.moves:
            self._stage({}, panel)
        with self.b.loop("point", first, last) as p, at_row(self.b, self.roles.outer, p) as at:
            if self.staging.moves:
                self._stage(at, panel)
            self._row_tiles(at, panel)

    def _unit_rows(self, at: dict[str, DimLike], panel: Panel, start: DimLike, step: int) -> None:
        """A unit's rows against one panel, which is staged first where it has to be."""
        self._stage(at, panel)
        self._row_block(at, panel, start, step)

    def _stage(self, at: dict[str, DimLike], panel: Panel) -> None:
        if self.staging is not None:
            first = self.sums.first if self.sums is not None else 0
            self.staging.fill(at, panel.start, panel.counts, first)

    def _blocks(
        self, at: dict[str, DimLike], group: DimLike, panels: DimLike, start: DimLike, step: int
    ) -> None:
        """A group of panels in blocks of the reduction, so that a slab of a panel stays in L1."""
        b, (axis,), blocking = self.b, self.roles.loops, self.shape.blocking
        first = group * blocking.group
        with b.loop("depth", 0, axis.extent, step=blocking.depth) as k:
            stop = dmin(k + blocking.depth, axis.extent)
            with b.loop("panel", first, dmin(first + blocking.group, panels)) as panel:
                self.sums = PartialSums(self.sums_buffer, k, stop, axis.extent, panel - first, start, step)
                self._panels(panel, panels, lambda where: self._unit_rows(at, where, start, step))
        self.sums = None

    def _panels(self, panel: DimLike, panels: DimLike, body: Callable[[Panel], None]) -> None:
        """Run `body(panel)` for a full panel, or for the narrower last one."""
        lane, width, lanes = self.roles.lane, self.shape.width, self.shape.lanes
        full = Panel(panel * width, self.shape.tile.vectors, (None,) * self.shape.tile.vectors)
        if is_static(lane.extent):
            rest = int(lane.extent) % width  # type: ignore[arg-type]
            if rest == 0:
                body(full)
                return
            vectors = -(-rest // lanes)
            counts: tuple[DimLike | None, ...] = tuple(
                None if (j + 1) * lanes <= rest else rest - j * lanes for j in range(vectors)
            )
            start = int(lane.extent) - rest  # type: ignore[arg-type]
            with self.b.when(Condition(panel, "<", panels - 1)):
                body(full)
            with self.b.otherwise():
                body(Panel(start, vectors, counts))
            return
        with self.b.when(Condition((panel + 1) * width, "<=", lane.extent)):
            body(full)
        with self.b.otherwise():
            start_dim = panel * width
            counts = tuple(lane.extent - start_dim - j * lanes for j in range(self.shape.tile.vectors))
            body(replace(full, counts=counts))

    # -- rows ---------------------------------------------------------------------------------------

    def _row_block(self, at: dict[str, DimLike], panel: Panel, start: DimLike, step: int) -> None:
        """Rows start..start+step-1 (or to the end) of an unguarded row axis."""
        row, mr = self.roles.row, self.shape.tile.rows
        if row is None:
            self._tile(at, panel, [], None)
            return
        extent = row.extent
        if not is_static(extent):
            stop = dmin(start + step, extent)
            whole = name_index(self.b, start + (stop - start) // mr * mr, "whole")
            with self.b.loop(row.name, start, whole, step=mr) as r:
                self._tile(at, panel, [r + i for i in range(mr)], None)
            with self.b.when(Condition(stop, ">", whole)):
                self._tile(at, panel, [dmin(whole + i, extent - 1) for i in range(mr)], stop - whole, whole)
            return
        total, rest = int(extent), int(extent) % mr  # type: ignore[arg-type]
        whole_rows = total - rest
        with self.b.loop(row.name, start, dmin(start + step, whole_rows), step=mr) as r:
            self._tile(at, panel, [r + i for i in range(mr)], None)
        if rest:
            with self.b.when(Condition(start + step, ">=", total)):
                self._tile(at, panel, [whole_rows + i for i in range(rest)], None)

    def _row_tiles(self, at: dict[str, DimLike], panel: Panel) -> None:
        """All rows of one outer point; border tiles are static code, inner ones a loop."""
        row, mr = self.roles.row, self.shape.tile.rows
        if row is None or not is_static(row.extent) or not self.roles.row_guards:
            extent = row.extent if row is not None else 1
            blocks = ceildiv(extent, mr) * mr
            self._row_block(at, panel, 0, blocks if is_static(blocks) else 1 << 30)  # type: ignore[arg-type]
            return
        for first, last, rows, interior in self._segments(int(row.extent), mr):  # type: ignore[arg-type]
            if interior and last - first > rows:
                with self.b.loop(row.name, first, last, step=rows) as r:
                    self._tile(at, panel, [r + i for i in range(rows)], None)
            else:
                for start in range(first, last, rows):
                    self._tile(at, panel, [start + i for i in range(rows)], None)

    def _segments(self, total: int, mr: int) -> Iterator[tuple[int, int, int, bool]]:
        """(first, end, rows, whether all taps are inside) of runs of equal tiles."""
        starts = list(range(0, total - total % mr, mr))
        run: list[int] = []
        for start in starts:
            if self._inside(start, mr):
                run.append(start)
                continue
            if run:
                yield run[0], run[-1] + mr, mr, True
                run = []
            yield start, start + mr, mr, False
        if run:
            yield run[0], run[-1] + mr, mr, True
        if total % mr:
            yield total - total % mr, total, total % mr, False

    def _inside(self, start: int, rows: int) -> bool:
        assert self.roles.row is not None
        taps = {a.name: int(a.extent) for a in self.roles.unrolled}  # type: ignore[arg-type]
        for guard in self.roles.row_guards:
            found = coordinate_range(guard, self.roles.row.name, start, rows, taps[guard.tap])
            if found is None or not is_static(guard.extent) or found[0] < 0 or found[1] >= int(guard.extent):  # type: ignore[arg-type]
                return False
        return True

    # -- one register tile ----------------------------------------------------------------------------

    def _tile(
        self,
        at: dict[str, DimLike],
        panel: Panel,
        rows: list[DimLike],
        valid: DimLike | None,
        first: DimLike | None = None,
    ) -> None:
        """Reduce and write one tile; `valid` rows of it exist when given (the rest repeat the last)."""
        b, lanes = self.b, self.shape.lanes
        points = self._points(at, panel, rows)
        acc = b.reg_tile("acc", (len(points), panel.vectors), VecType(self.dtype, lanes), 0)
        base: DimLike = (rows[0] if first is None else first) if rows else 0
        sums = self.sums
        if sums is not None:
            with b.when(Condition(sums.first, ">", 0)):
                self._move_sums(sums, base, acc, load=True)
        with ExitStack() as stack:
            reduction = dict(at)
            for axis in self.roles.clamped:
                reduction[axis.name] = stack.enter_context(self._clamped(axis, at))
            self._taps(list(self.roles.unrolled), reduction, points, acc)
        if sums is None:
            self._epilogue(at, panel, points, valid, base, acc)
            return
        with b.when(Condition(sums.stop, ">=", sums.extent)):
            self._epilogue(at, panel, points, valid, base, acc)
        with b.otherwise():
            self._move_sums(sums, base, acc, load=False)

    def _move_sums(self, sums: PartialSums, row: DimLike, acc: RegTile, load: bool) -> None:
        """Take the sums of earlier blocks up, or put them down for the next."""
        b, lanes, width = self.b, self.shape.lanes, self.shape.width
        for i in range(acc.shape[0]):
            for j in range(acc.shape[1]):
                offset = sums.offset(row + i, width) + j * lanes
                if load:
                    b.set(acc[i, j], b.load(sums.buffer, offset, lanes))
                else:
                    b.store(sums.buffer, offset, acc[i, j].read())

    def _epilogue(
        self,
        at: dict[str, DimLike],
        panel: Panel,
        points: list[list[Point]],
        valid: DimLike | None,
        base: DimLike,
        acc: RegTile,
    ) -> None:
        """Write a finished tile whose first row is `base`."""
        b = self.b
        if self.heavy:
            self._parked_epilogue(at, panel, len(points), valid, base, acc)
            return
        for i, row in enumerate(points):
            with ExitStack() as stack:
                if valid is not None:
                    stack.enter_context(b.when(Condition(valid, ">", i)))
                for j, point in enumerate(row):
                    self._write(point, b.let(acc[i, j].read()))

    def _points(self, at: dict[str, DimLike], panel: Panel, rows: list[DimLike]) -> list[list[Point]]:
        lane, lanes = self.roles.lane.name, self.shape.lanes
        row = self.roles.row.name if self.roles.row is not None else ""
        placed = [{**at, row: r} for r in rows] if row else [dict(at)]
        return [
            [
                Point({**p, lane: panel.start + j * lanes}, lane, lanes, panel.counts[j])
                for j in range(panel.vectors)
            ]
            for p in placed
        ]

    @contextmanager
    def _clamped(self, axis: Axis, at: dict[str, DimLike]) -> Iterator[DimLike]:
        guard = self.roles.guards[axis.name]
        first, stop = guard.bounds(at, axis.extent)
        assert isinstance(guard.coordinate, Dim)
        here = dict(at)

        def facts(tap: DimLike) -> list[tuple[DimLike, str, DimLike]]:
            assert isinstance(guard.coordinate, Dim)
            c = guard.coordinate.substitute({**here, axis.name: tap})
            return [(c, ">=", 0), (guard.extent - 1, ">=", c)]

        with self.b.loop(axis.name, first, stop, where=facts) as tap:
            yield tap

    def _taps(
        self, taps: list[Axis], at: dict[str, DimLike], points: list[list[Point]], acc: RegTile
    ) -> None:
        """Unroll the guarded taps (outermost), then the reduction loops."""
        if taps:
            for value in range(int(taps[0].extent)):  # type: ignore[arg-type]
                self._taps(taps[1:], {**at, taps[0].name: value}, points, acc)
            return
        self._loops(list(self.roles.loops), at, points, acc)

    def _loops(
        self, loops: list[Axis], at: dict[str, DimLike], points: list[list[Point]], acc: RegTile
    ) -> None:
        if not loops:
            self._step(at, points, acc)
            return
        axis = loops[0]
        if is_static(axis.extent) and int(axis.extent) <= UNROLL_STEPS:  # type: ignore[arg-type]
            for value in range(int(axis.extent)):  # type: ignore[arg-type]
                self._loops(loops[1:], {**at, axis.name: value}, points, acc)
            return
        unroll = UNROLL_STEPS if len(loops) == 1 else 0
        if len(loops) == 1 and self.place.nibbles:
            self._steps_of_two(axis, at, points, acc)
            return
        first, stop = (self.sums.first, self.sums.stop) if self.sums is not None else (0, axis.extent)
        with self.b.loop(axis.name, first, stop, unroll=unroll) as k:
            self._loops(loops[1:], {**at, axis.name: k}, points, acc)

    def _steps_of_two(
        self, axis: Axis, at: dict[str, DimLike], points: list[list[Point]], acc: RegTile
    ) -> None:
        """The innermost reduction, two steps a turn: then it is known which half of a byte each one reads."""
        extent = int(axis.extent)  # type: ignore[arg-type]
        with self.b.loop(axis.name, 0, extent - extent % 2, step=2, unroll=UNROLL_STEPS // 2) as k:
            self._step({**at, axis.name: k}, points, acc)
            self._step({**at, axis.name: k + 1}, points, acc)
        if extent % 2:
            self._step({**at, axis.name: extent - 1}, points, acc)

    def _step(self, at: dict[str, DimLike], points: list[list[Point]], acc: RegTile) -> None:
        """One reduction step: acc += f0 * f1 at every point of the tile."""
        for i, row in enumerate(points):
            for j, point in enumerate(row):
                here = replace(point, at={**at, **point.at})
                x, y = (self._factor(n, i, j, here) for n in range(2))
                if x is not None and y is not None:
                    self.b.set(acc[i, j], fma(x, y, acc[i, j].read()))
        self._factors.clear()

    def _factor(self, number: int, i: int, j: int, here: Point) -> Expr | None:
        """A factor at tile position (i, j), read once where rows or lanes do not matter; None for zero."""
        in_row, in_lane = self._varies[number]
        key = (number, i if in_row else -1, j if in_lane else -1)
        if key not in self._factors and self.staging is not None and number == self.roles.staged:
            self._factors[key] = self.b.let(self.staging.load(here.at, j), "w")
        if key not in self._factors:
            value = self.place.expr(self.roles.factors[number], here)
            name = "x" if number == 0 else "w"
            self._factors[key] = None if _is_zero(value) else self.b.let(splat(value, self.shape.lanes), name)
        return self._factors[key]

    # -- epilogue -----------------------------------------------------------------------------------

    def _write(self, point: Point, value: Expr) -> None:
        assert self.result.expr is not None
        made = self.place.expr(self.result.expr, point, accumulators={0: value})
        self.place.store(0, point, made)

    def _parked_epilogue(
        self,
        at: dict[str, DimLike],
        panel: Panel,
        count: int,
        valid: DimLike | None,
        start: DimLike,
        acc: RegTile,
    ) -> None:
        """Park the tile in scratch and run the epilogue as a loop over rows: less code, fewer spills."""
        b, lanes, width = self.b, self.shape.lanes, self.shape.width
        for i in range(count):
            for j in range(panel.vectors):
                b.store(self.parked, i * width + j * lanes, acc[i, j].read())
        row = self.roles.row
        with b.loop("row", 0, valid if valid is not None else count) as r:
            here = {**at, row.name: start + r} if row is not None else dict(at)
            for j in range(panel.vectors):
                point = Point(
                    {**here, self.roles.lane.name: panel.start + j * lanes},
                    self.roles.lane.name,
                    lanes,
                    panel.counts[j],
                )
                self._write(point, b.load(self.parked, r * width + j * lanes, lanes))


def is_heavy_epilogue(place: Placement) -> bool:
    """Whether the result expression calls math functions."""
    return is_heavy(replace(place.spec, program=_without_body(place)))


def _without_body(place: Placement) -> Compute:
    program = place.spec.program
    expr = place.spec.results[0].expr
    assert isinstance(program, Compute) and expr is not None
    return replace(program, body=expr, reduce=())


def _is_zero(e: Expr) -> bool:
    return isinstance(e, Const) and e.value == 0
