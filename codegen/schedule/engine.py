"""From a computation and its schedule to loops, in one go at the end.

Loops over results that stand outside the outermost reduction are loops; those inside it (and unrolled
or vectorized ones anywhere) are the *tile*: each of its positions has a register of its own, so that a
reduction step is one statement a position.  Tiles that reach over an edge are done position by
position, lanes past the end masked.  Bounds, padding and broadcasts are the business of `Placement`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from itertools import product as combinations

from aino_ir.codegen.kernels.access import Placement, Point
from aino_ir.codegen.kernels.canonical import slope
from aino_ir.codegen.kernels.emit import emit_checks, name_index
from aino_ir.codegen.kernels.naming import kernel_name
from aino_ir.codegen.schedule.staging import Staging
from aino_ir.codegen.schedule.trace import Bound, LoopAxis, Mark, Schedule
from aino_ir.dims import Dim, DimLike, dmin, product
from aino_ir.dtypes import boolean
from aino_ir.errors.codegen import ScheduleInvalid
from aino_ir.kernels import KernelSpec
from aino_ir.loops.builder import LoopBuilder
from aino_ir.loops.conditions import Condition
from aino_ir.loops.expr import (
    Binary,
    Expr,
    PrefixMask,
    VecType,
    binary,
    const,
    fma,
    identity,
    reduce_lanes,
    select,
    splat,
)
from aino_ir.loops.registers import Reg
from aino_ir.loops.stmt import LoopFn

At = Mapping[str, DimLike]
"""Loop axis -> its value."""


def lower(spec: KernelSpec, schedule: Schedule, header: Sequence[str] = ()) -> LoopFn:
    """The kernel of a spec, by a schedule of its program.

    Args:
        spec: its program is the schedule's.
        schedule: the trace; loops that no step names stay as they are.
        header: comment lines.

    Raises:
        ScheduleInvalid: the loops cannot be nested so.
    """
    assert spec.program == schedule.program, "the schedule is of another computation"
    b = LoopBuilder(kernel_name(spec))
    place = Placement(b, spec)
    emit_checks(place)
    Engine(b, place, schedule).emit()
    return b.finish(header)


class Engine:
    """Emits one scheduled computation."""

    def __init__(self, b: LoopBuilder, place: Placement, schedule: Schedule) -> None:
        self.b = b
        self.place = place
        self.schedule = schedule
        self.program = schedule.program
        self._sort_loops()
        self.lanes = int(self.vector.extent) if self.vector is not None else 1  # type: ignore[arg-type]
        self.lane_axis = self._lane_axis()
        self.staging = Staging(b, place, schedule, self.vector)

    def _sort_loops(self) -> None:
        """Which loops are units, plain loops over results, the tile, and the reduction's."""
        axes = self.schedule.axes
        self._refuse_order(axes)
        first = next((i for i, a in enumerate(axes) if a.reduces), len(axes))
        spatial = [(i, a) for i, a in enumerate(axes) if not a.reduces]
        tile = [a for i, a in spatial if a.mark in (Mark.VECTOR, Mark.UNROLL) or i > first]
        self.vector = next((a for a in axes if a.mark is Mark.VECTOR), None)
        self.parallel = [a for a in axes if a.mark is Mark.PARALLEL]
        self.outer = [a for _, a in spatial if a not in tile and a not in self.parallel]
        self.tile = [a for a in tile if a is not self.vector]
        self.reduce = [a for a in axes if a.reduces]

    def _refuse_order(self, axes: Sequence[LoopAxis]) -> None:
        first = next((i for i, a in enumerate(axes) if a.reduces), len(axes))
        outside = True
        for i, a in enumerate(axes):
            if a.thread:
                raise ScheduleInvalid(step=f"loop {a.name[:-1]}", reason=f"{a.thread} is of a GPU")
            if a.mark is Mark.PARALLEL and not outside:
                raise ScheduleInvalid(
                    step=f"parallel({a.name[:-1]})", reason="parallel loops must be outermost"
                )
            outside = outside and a.mark is Mark.PARALLEL
            if i > first and not a.reduces and not isinstance(a.extent, int):
                reason = f"it is inside the reduction and has {a.extent} turns: registers need a number"
                raise ScheduleInvalid(step=f"loop {a.name[:-1]}", reason=reason)

    def _lane_axis(self) -> str:
        """The axis of the computation that the lanes run along, one element a lane."""
        if self.vector is None:
            return ""
        moving = {
            axis: slope(c, self.vector.name)
            for axis, c in self.schedule.coordinates.items()
            if isinstance(c, Dim) and self.vector.name in c.free_symbols()
        }
        if list(moving.values()) != [1]:
            reason = "its turns are not neighbours along one axis of the computation"
            raise ScheduleInvalid(step=f"vectorize({self.vector.name[:-1]})", reason=reason)
        return next(iter(moving))

    # -- loops over results -----------------------------------------------------------------------------

    def emit(self) -> None:
        """Units, then the loops inside."""
        units = product(a.extent for a in self.parallel)
        if any(a.extent == 0 for a in self.program.axes):
            units = 0
        with self.b.units(units) as unit:
            if units == 0:
                return
            at: dict[str, DimLike] = {}
            rest = unit
            for loop in reversed(self.parallel[1:]):
                at |= self._values(loop, self._named(rest % loop.extent, loop.name))
                rest = rest // loop.extent
            for loop in self.parallel[:1]:
                at |= self._values(loop, self._named(rest, loop.name))
            for loop in self.parallel:
                self.staging.enter(loop, at)
            self._loops(self.outer, at)

    def _named(self, value: DimLike, wish: str) -> DimLike:
        return name_index(self.b, value, wish.removesuffix("."))

    def _values(self, loop: LoopAxis, turn: DimLike) -> dict[str, DimLike]:
        """What a turn of a loop says about the schedule's loops."""
        return self.schedule.values(loop.name, turn, self._named)

    def _loops(self, loops: Sequence[LoopAxis], at: At) -> None:
        if not loops:
            self._tiles(at)
            return
        with self._loop(loops[0], at) as inside:
            self._loops(loops[1:], inside)

    @contextmanager
    def _loop(self, loop: LoopAxis, at: At) -> Iterator[dict[str, DimLike]]:
        """One plain loop; it ends where a bound that it alone can still reach says so."""
        stop: DimLike = loop.extent
        for bound in self.schedule.bounds:
            value = _at(bound.value, at)
            if isinstance(value, Dim) and self._open(value) == {loop.name} and slope(value, loop.name) == 1:
                stop = dmin(stop, bound.extent - value.substitute({loop.name: 0}))
        with self.b.loop(loop.name, 0, stop) as turn:
            inside = {**at, **self._values(loop, turn)}
            self.staging.enter(loop, inside)
            yield inside

    def _open(self, value: Dim) -> set[str]:
        """Loops that a value still depends on."""
        parts = {part for first, second, _ in self.schedule.fused.values() for part in (first, second)}
        return set(value.free_symbols()) & ({a.name for a in self.schedule.axes} | parts)

    # -- tiles ------------------------------------------------------------------------------------------

    def _tiles(self, at: At) -> None:
        """One tile: as a whole where it is inside, else position by position."""
        held = [*self.tile, *([self.vector] if self.vector is not None and not self.vector.reduces else [])]
        last: dict[str, DimLike] = {}
        for loop in held:
            last |= self.schedule.values(loop.name, loop.extent - 1)
        beyond = [c for bound in self._spatial() for c in self._unproved(_at(bound.value, at), last, bound)]
        if not beyond:
            self._positions(at, self._all_positions(), None)
            return
        whole = beyond[0].expr()
        for condition in beyond[1:]:
            whole = binary("and", whole, condition.expr())
        if not held:
            with self.b.when(whole):
                self._positions(at, [{}], None)
            return
        with self.b.when(whole):
            self._positions(at, self._all_positions(), None)
        with self.b.otherwise():
            self._edge(self.tile, at)

    def _spatial(self) -> list[Bound]:
        return [bound for bound in self.schedule.bounds if not bound.reduces]

    def _unproved(self, value: DimLike, last: At, bound: Bound) -> list[Condition]:
        """The condition that all of a tile is inside, unless it is proved."""
        top = value.substitute(last) if isinstance(value, Dim) else value
        condition = Condition(top, "<", bound.extent)
        return [] if condition.prove(self.b.symbols) else [condition]

    def _all_positions(self) -> list[dict[str, DimLike]]:
        ranges = [range(int(a.extent)) for a in self.tile]  # type: ignore[arg-type]
        names = [a.name for a in self.tile]
        places = [zip(names, place, strict=True) for place in combinations(*ranges)]
        return [
            {k: v for name, turn in p for k, v in self.schedule.values(name, turn).items()} for p in places
        ]

    def _edge(self, loops: Sequence[LoopAxis], at: At) -> None:
        """The positions of a tile one after the other, each only where it is inside."""
        if loops:
            with self._loop(loops[0], at) as inside:
                self._edge(loops[1:], inside)
            return
        count: DimLike | None = None
        with ExitStack() as stack:
            for bound in self._spatial():
                value = _at(bound.value, at)
                if self.vector is not None and slope(value, self.vector.name) == 1:
                    first = _at(value, {self.vector.name: 0})
                    left = bound.extent - first
                    count = left if count is None else dmin(count, left)
                    stack.enter_context(self.b.when(Condition(first, "<", bound.extent)))
                else:
                    stack.enter_context(self.b.when(Condition(value, "<", bound.extent)))
            self._positions(at, [{}], count)

    # -- one tile's positions -----------------------------------------------------------------------------

    def _point(self, at: At, count: DimLike | None) -> Point:
        here = {**at, self.vector.name: 0} if self.vector is not None else at
        coordinates = {axis: _at(c, here) for axis, c in self.schedule.coordinates.items()}
        if self.vector is None:
            return Point(coordinates)
        return Point(coordinates, self.lane_axis, self.lanes, count)

    def _positions(self, at: At, positions: Sequence[At], count: DimLike | None) -> None:
        """Compute and write results at positions of a tile."""
        if self.program.combiner is None:
            for position in positions:
                self._write(self._point({**at, **position}, count), None)
            return
        dtype = self.program.body.dtype
        neutral = const(identity(self.program.combiner, dtype), dtype)
        sums = [
            self.b.reg(f"acc{i}", VecType(dtype, self.lanes), splat(neutral, self.lanes))
            for i in range(len(positions))
        ]
        self._reduce(self.reduce, at, positions, count, sums)
        for position, total in zip(positions, sums, strict=True):
            value = self.b.let(total.read())
            here = {**at, **position, **{a.name: 0 for a in self.reduce}}
            point = self._point(here, count)
            if self.vector is not None and self.vector.reduces:
                value = self.b.let(reduce_lanes(self.program.combiner, value))
                point = Point(point.at)
            self._write(point, value)

    def _write(self, point: Point, total: Expr | None) -> None:
        accumulators = {} if total is None else {0: total}
        made = []
        for number, result in enumerate(self.place.spec.results):
            e = result.expr if result.expr is not None else self.program.result_expr
            made.append((number, self.place.expr(e, point, accumulators, read=self.staging.read(point))))
        for number, value in made:
            self.place.store(number, point, value)

    # -- the reduction ------------------------------------------------------------------------------------

    def _reduce(
        self,
        loops: Sequence[LoopAxis],
        at: At,
        positions: Sequence[At],
        count: DimLike | None,
        sums: Sequence[Reg],
    ) -> None:
        if not loops:
            self._step(at, positions, count, sums)
            return
        loop, rest = loops[0], loops[1:]
        if loop is self.vector:
            self._reduce(rest, {**at, loop.name: 0}, positions, count, sums)
        elif loop.mark is Mark.UNROLL:
            for turn in range(int(loop.extent)):  # type: ignore[arg-type]
                inside = {**at, **self.schedule.values(loop.name, turn)}
                self._reduce(rest, inside, positions, count, sums)
        else:
            with self._loop(loop, at) as inside:
                self._reduce(rest, inside, positions, count, sums)

    def _step(self, at: At, positions: Sequence[At], count: DimLike | None, sums: Sequence[Reg]) -> None:
        """One step of every position's sum, where the reduction is inside its bounds."""
        with ExitStack() as stack:
            across: DimLike | None = None
            for bound in self.schedule.bounds:
                if not bound.reduces:
                    continue
                value = _at(bound.value, at)
                stack.enter_context(self.b.when(Condition(value, "<", bound.extent)))
                if self.vector is not None and self.vector.reduces:
                    left = bound.extent - value
                    if self.b.symbols.prove_ge(left, self.lanes) is not True and self._lanes_move(bound):
                        across = left if across is None else dmin(across, left)
            for position, total in zip(positions, sums, strict=True):
                point = self._point({**at, **position}, count if across is None else across)
                self.b.set(total, self._combined(point, total, across))

    def _lanes_move(self, bound: Bound) -> bool:
        return self.vector is not None and slope(bound.value, self.vector.name) == 1

    def _combined(self, point: Point, total: Reg, across: DimLike | None) -> Expr:
        """The sum with one more term; terms that do not count are the neutral element."""
        program, read = self.program, self.staging.read(point)
        assert program.combiner is not None
        body, lanes = program.body, self.lanes
        if program.combiner == "add" and isinstance(body, Binary) and body.op == "mul":
            if program.where is None and across is None:
                x, y = (splat(self.place.expr(f, point, read=read), lanes) for f in (body.a, body.b))
                return fma(x, y, total.read())
        value = splat(self.place.expr(body, point, read=read), lanes)
        neutral = const(identity(program.combiner, body.dtype), body.dtype, lanes)
        if program.where is not None:
            where = splat(self.place.expr(program.where, point, read=read), lanes)
            value = self.b.let(select(where, value, neutral))
        if across is not None:
            value = select(PrefixMask(across, VecType(boolean, lanes)), value, neutral)
        return binary(program.combiner, total.read(), value)


def _at(value: DimLike, at: At) -> DimLike:
    return value.substitute(dict(at)) if isinstance(value, Dim) else value
