"""Copies of operands' parts in a thread's scratch: what the step `cache` of a schedule asks for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass

from aino_ir.codegen.kernels.access import Placement, Point, lane_stride
from aino_ir.codegen.kernels.canonical import slope
from aino_ir.codegen.kernels.emit import expressions
from aino_ir.codegen.schedule.trace import Cache, LoopAxis, Schedule
from aino_ir.dims import Dim, DimLike, dmin
from aino_ir.dtypes import boolean
from aino_ir.errors.codegen import ScheduleInvalid
from aino_ir.kernels import Operand
from aino_ir.loops.builder import LoopBuilder
from aino_ir.loops.expr import Expr, PrefixMask, Read, VecType
from aino_ir.loops.expr_tree import walk


@dataclass
class Part:
    """The part of an operand that the loops inside a place read.

    Attributes:
        cache: the step of the schedule.
        index: the operand's coordinates over the schedule's loops.
        extents: of the part, along the operand's axes.
        order: the operand's axes, slowest first; along the last one lanes are neighbours.
        buffer: scratch.
        base: where the part begins, known when the place is entered.
    """

    cache: Cache
    node: Read
    index: tuple[DimLike, ...]
    extents: tuple[int, ...]
    order: tuple[int, ...]
    buffer: str
    base: tuple[DimLike, ...] | None = None

    def offset(self, coordinates: tuple[DimLike, ...]) -> DimLike:
        """Where an element of the operand stands in the buffer."""
        assert self.base is not None
        total: DimLike = 0
        for axis in self.order:
            total = total * self.extents[axis] + (coordinates[axis] - self.base[axis])
        return total


class Staging:
    """The copies of one kernel.

    Raises:
        ScheduleInvalid: an operand is read in a way that has no rectangular part of known size.
    """

    def __init__(self, b: LoopBuilder, place: Placement, schedule: Schedule, vector: LoopAxis | None) -> None:
        self.b = b
        self.place = place
        self.schedule = schedule
        self.vector = vector
        self.parts = {c.operand: self._part(c) for c in schedule.caches()}

    def _part(self, cache: Cache) -> Part:
        node = self._read_of(cache)
        index = tuple(self._over_loops(c) for c in node.index)
        names = [a.name for a in self.schedule.axes]
        inside = self.schedule.axes[names.index(cache.at) + 1 :]
        extents = tuple(self._extent(c, inside, cache) for c in index)
        lane = self.vector.name if self.vector is not None else ""
        order = sorted(range(len(index)), key=lambda a: slope(index[a], lane) == 1)
        size = 1
        for extent in extents:
            size *= extent
        buffer = self.b.alloc(f"part{cache.operand}", self._operand(cache).dtype.compute, size)
        return Part(cache, node, index, extents, tuple(order), buffer)

    def _operand(self, cache: Cache) -> Operand:
        return self.place.operands[cache.operand]

    def _read_of(self, cache: Cache) -> Read:
        """The one way in which the operand is read."""
        exprs = expressions(self.place.spec)
        found = {n for e in exprs for n in walk(e) if isinstance(n, Read) and n.operand == cache.operand}
        plain = [n for n in found if n.default is None and not any(isinstance(c, Expr) for c in n.index)]
        if len(found) != 1 or not plain:
            reason = "the operand must be read at one place, without padding and computed indices"
            raise ScheduleInvalid(step=cache, reason=reason)
        return plain[0]

    def _over_loops(self, c: DimLike | Expr) -> DimLike:
        assert not isinstance(c, Expr)
        return c.substitute(self.schedule.coordinates) if isinstance(c, Dim) else c

    def _extent(self, c: DimLike, inside: list[LoopAxis], cache: Cache) -> int:
        """How many coordinates the loops inside go over."""
        total = 1
        for loop in inside:
            step = slope(c, loop.name)
            if step == 0:
                continue
            if not isinstance(step, int) or step < 0 or not isinstance(loop.extent, int):
                reason = f"loop {loop.name[:-1]} does not read a part of known size"
                raise ScheduleInvalid(step=cache, reason=reason)
            total += step * (loop.extent - 1)
        return total

    # -- filling ------------------------------------------------------------------------------------------

    def enter(self, loop: LoopAxis, at: Mapping[str, DimLike]) -> None:
        """Fill the parts that are copied at a loop, whose body has just begun."""
        for part in self.parts.values():
            if part.cache.at == loop.name:
                zero = {name: 0 for a in self.schedule.axes for name in self.schedule.values(a.name, 0)}
                here = {**zero, **at}
                part.base = tuple(c.substitute(here) if isinstance(c, Dim) else c for c in part.index)
                self._fill(part)

    def _fill(self, part: Part) -> None:
        assert part.base is not None
        shape = self._operand(part.cache).shape
        with ExitStack() as stack:
            at: dict[int, DimLike] = {}
            for axis in part.order:
                stop = dmin(part.extents[axis], shape[axis] - part.base[axis])
                at[axis] = stack.enter_context(self.b.loop(f"part{axis}", 0, stop))
            coordinates = tuple(part.base[a] + at[a] for a in range(len(shape)))
            value = self.place.load(Read(part.node.operand, coordinates, part.node.type), Point({}))
            self.b.store(part.buffer, part.offset(coordinates), value)

    # -- reading ------------------------------------------------------------------------------------------

    def read(self, point: Point) -> Callable[[Read], Expr | None]:
        """What answers a Read at a point: from a copy, or not at all."""

        def answer(node: Read) -> Expr | None:
            part = self.parts.get(node.operand)
            if part is None or part.base is None:
                return None
            coordinates = tuple(point.shifted(c) for c in node.index)  # type: ignore[arg-type]
            return self._load(part, part.offset(coordinates), point)

        return answer

    def _load(self, part: Part, offset: DimLike, point: Point) -> Expr:
        first, stride = lane_stride(offset, self.b, point.lanes)
        if stride == 0:
            return self.b.load(part.buffer, first, 1)
        if stride is None:
            raise ScheduleInvalid(step=part.cache, reason="lanes read its copy at no constant distance")
        mask = None
        if point.count is not None and point.lanes > 1:
            mask = PrefixMask(point.count, VecType(boolean, point.lanes))
        return self.b.load(part.buffer, first, point.lanes, stride=stride, mask=mask)
