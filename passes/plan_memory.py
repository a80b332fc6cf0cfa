"""Plan passes: offsets of constants in the weights section, and of buffers in the arena."""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from aino_ir.dims import Dim, DimLike, align, floordiv, is_static, value_of
from aino_ir.errors.plan import PlanUnsafe
from aino_ir.loops.stmt import Access
from aino_ir.plan import (
    Buffer,
    BufferKind,
    Extend,
    Plan,
    Repeat,
    Run,
    Step,
    blocks_of,
    decided_by,
    runs,
    views_of,
    walk,
)

ALIGNMENT = 64
"""Bytes; every buffer starts on a cache line."""

SEARCH_LIMIT = 4000
"""More buffers than this are placed in one walk over the steps (linear) instead of by size."""

Live = tuple[int, int]


@dataclass(frozen=True)
class PlanMemory:
    """Places arena buffers by liveness: largest first, at the lowest gap that no live neighbour uses.

    Buffers whose size has symbols are placed by family: sizes that are multiples of one symbolic unit,
    such as 4096*batch and 1024*batch, are placed like static ones, counted in that unit.  Families lie
    one behind the other, after the static part.  Each segment is placed like the arena.
    """

    def run(self, plan: Plan) -> None:
        """Set the place of every used arena buffer, and the bytes of arena, segments and scratch."""
        live = live_ranges(plan)
        plan.arena_bytes = place_arena(plan, live)
        for number, buffers in _by_segment(plan, live).items():
            if number:
                plan.segments[number - 1].bytes = place_families(buffers, live)
        plan.scratch_bytes = largest_scratch(plan)


def place_arena(plan: Plan, live: dict[int, Live]) -> DimLike:
    """Place the buffers of the arena by when they live; returns its size."""
    return place_families(_by_segment(plan, live).get(0, []), live)


def _by_segment(plan: Plan, live: dict[int, Live]) -> dict[int, list[Buffer]]:
    segments: dict[int, list[Buffer]] = {}
    for buffer in plan.buffers:
        if buffer.kind is BufferKind.ARENA and buffer.id in live:
            segments.setdefault(buffer.segment, []).append(buffer)
    return segments


def place_families(buffers: list[Buffer], live: dict[int, Live]) -> DimLike:
    """Place the buffers of one segment; returns its size."""
    families: dict[DimLike, list[Placed]] = {}
    for buffer in buffers:
        unit, count = unit_of(align(buffer.bytes, ALIGNMENT))
        families.setdefault(unit, []).append(Placed(buffer, count))
    end: DimLike = 0
    for unit in sorted(families, key=lambda u: (not is_static(u), str(u))):
        used = place(families[unit], live)
        for placed in families[unit]:
            buffer = placed.buffer
            buffer.offset = end + placed.offset * unit
            buffer.family, buffer.first = str(unit), placed.offset
            buffer.end = placed.offset + placed.size
        end = end + used * unit
    return end


@dataclass
class Placed:
    """A buffer of a family: its aligned size, and then its offset, in units of the family."""

    buffer: Buffer
    size: int
    offset: int = 0


def unit_of(size: DimLike) -> tuple[DimLike, int]:
    """(unit, count) with ``size == unit * count``: 1 for numbers, the product of atoms for one term.

    The count is never negative: ``-64 * (-n // 8)``, n/8 rounded up, counts 64 units of ``-(-n // 8)``.
    """
    if not isinstance(size, Dim):
        return 1, int(size)
    terms = size.terms()
    if size.constant or len(terms) != 1:
        return size, 1
    count = terms[0][0]
    unit = floordiv(size, count)
    return (unit, count) if count > 0 else (-unit, -count)


def place(buffers: list[Placed], live: dict[int, Live]) -> int:
    """Place the buffers of one family; returns the end."""
    if len(buffers) > SEARCH_LIMIT:
        return place_in_order(buffers, live)
    order = sorted(buffers, key=lambda p: (-p.size, live[p.buffer.id]))
    index = _LiveIndex(max((live[p.buffer.id][1] for p in buffers), default=0) + 1)
    end = 0
    for placed in order:
        when = live[placed.buffer.id]
        placed.offset = _lowest_gap(index.overlapping(when), placed.size)
        index.add(when, (placed.offset, placed.offset + placed.size))
        end = max(end, placed.offset + placed.size)
    return end


def place_in_order(buffers: list[Placed], live: dict[int, Live]) -> int:
    """Place buffers in order of their first step, each in the lowest free gap; returns the end."""
    active: list[tuple[int, int, int]] = []  # (last step, offset, end), by last step
    taken: list[tuple[int, int]] = []  # by offset
    end = 0
    for placed in sorted(buffers, key=lambda p: live[p.buffer.id]):
        first, last = live[placed.buffer.id]
        while active and active[0][0] < first:
            _, lo, hi = active.pop(0)
            taken.remove((lo, hi))
        offset = placed.offset = _lowest_gap(taken, placed.size)
        if placed.size:
            bisect.insort(taken, (offset, offset + placed.size))
            bisect.insort(active, (last, offset, offset + placed.size))
        end = max(end, offset + placed.size)
    return end


class _LiveIndex:
    """Placed ranges by step buckets, so that a query looks at neighbours in time only."""

    BUCKET = 32

    def __init__(self, steps: int) -> None:
        self._buckets: list[list[tuple[Live, tuple[int, int]]]] = [
            [] for _ in range(steps // self.BUCKET + 1)
        ]

    def add(self, live: Live, place: tuple[int, int]) -> None:
        """Enter a placed buffer."""
        for bucket in range(live[0] // self.BUCKET, live[1] // self.BUCKET + 1):
            self._buckets[bucket].append((live, place))

    def overlapping(self, live: Live) -> list[tuple[int, int]]:
        """Places of buffers that live at the same time, by offset."""
        found: set[tuple[int, int]] = set()
        for bucket in range(live[0] // self.BUCKET, live[1] // self.BUCKET + 1):
            for other, place in self._buckets[bucket]:
                if other[0] <= live[1] and live[0] <= other[1]:
                    found.add(place)
        return sorted(found)


def _lowest_gap(taken: list[tuple[int, int]], size: int) -> int:
    offset = 0
    for lo, hi in taken:
        if lo - offset >= size:
            break
        offset = max(offset, hi)
    return offset


def largest_scratch(plan: Plan) -> DimLike:
    """Scratch bytes that one thread needs for any kernel; symbolic needs are added up."""
    fixed, symbolic = 0, 0
    seen: set[str] = set()
    for step in runs(plan):
        if step.kernel not in seen:
            seen.add(step.kernel)
            need = plan.kernels[step.kernel].function.scratch_bytes
            if plan.is_decided(need):
                continue
            if is_static(need):
                fixed = max(fixed, int(need))  # type: ignore[arg-type]
            else:
                symbolic = symbolic + need  # type: ignore[assignment]
    return fixed + symbolic


@dataclass(frozen=True)
class PlaceConstants:
    """Gives constants their offset in the weights section: by first use, then what states hold at first."""

    def run(self, plan: Plan) -> None:
        """Set `offset` of used constant buffers."""
        offset: DimLike = 0
        seen: set[int] = set()
        for step in walk(plan.steps):
            for view in views_of(step):
                buffer = plan.buffers[view.buffer]
                if buffer.kind is BufferKind.CONST and buffer.id not in seen:
                    seen.add(buffer.id)
                    buffer.offset = offset
                    offset = align(offset + buffer.bytes, ALIGNMENT)
        for buffer in plan.buffers:
            if buffer.kind is BufferKind.STATE and buffer.const is not None:
                buffer.offset = offset
                offset = align(offset + buffer.bytes, ALIGNMENT)


def live_ranges(plan: Plan) -> dict[int, Live]:
    """Buffer id -> (first step, last step) between which its contents matter; steps are numbered by `walk`.

    What a loop finds, or leaves to its next turn or to what follows, lives during all of the loop; what
    each turn makes anew lives within the turn.
    """
    out: dict[int, Live] = {}
    loops: list[_Loop] = []
    _note_touches(plan, plan.steps, 0, out, loops, [])
    for loop in loops:  # inner ones come first
        for id in loop.touched:
            first, last = out[id]
            if id in loop.kept or first < loop.first or last > loop.last:
                out[id] = min(first, loop.first), max(last, loop.last)
    return out


@dataclass
class _Loop:
    """A loop's steps, the buffers that they touch, and those whose contents a turn finds."""

    first: int
    last: int = 0
    touched: set[int] = field(default_factory=set)
    kept: set[int] = field(default_factory=set)


def _note_touches(
    plan: Plan,
    steps: Sequence[Step],
    number: int,
    out: dict[int, Live],
    loops: list[_Loop],
    around: list[_Loop],
) -> int:
    """Enter touches of steps numbered from `number`; returns the number after the last."""
    for step in steps:
        inside = [_Loop(number)] if isinstance(step, Repeat) else []
        for view, finds in _touched(plan, step):
            for loop in around:
                if finds and view not in loop.touched:
                    loop.kept.add(view)
                loop.touched.add(view)
            first, _ = out.get(view, (number, number))
            out[view] = first, number
        here, number = number, number + 1
        for block in blocks_of(step):
            number = _note_touches(plan, block, number, out, loops, [*around, *inside])
        for loop in inside:
            loop.first, loop.last = here, number - 1
            _note_end(step, loop, out, around)
            loops.append(loop)
    return number


def _note_end(step: Step, loop: _Loop, out: dict[int, Live], around: list[_Loop]) -> None:
    """The element that decides about another turn is read when the turn has ended."""
    if isinstance(step, Repeat) and step.again is not None:
        id = step.again.buffer
        first, _ = out.get(id, (loop.first, loop.last))
        out[id] = first, loop.last
        for other in (loop, *around):
            other.touched.add(id)


def _touched(plan: Plan, step: Step) -> Iterator[tuple[int, bool]]:
    """(buffer, whether the step needs what it finds there) of a step alone."""
    if isinstance(step, Run) and step.kernel in plan.kernels:
        params = plan.kernels[step.kernel].function.params
        for view, param in zip(step.views, params, strict=False):
            yield view.buffer, param.access is not Access.WRITE
        return
    if isinstance(step, Extend):
        yield step.buffer, step.keep
    if isinstance(step, Repeat) and step.turns is not None:
        yield step.turns.buffer, False
    for view in step.views if isinstance(step, Run) else decided_by(step):
        yield view.buffer, True


SAMPLES = (1, 2, 7, 61)
"""Each symbol takes such values, next to others, when the places of buffers are checked."""


def check_memory(plan: Plan) -> None:
    """The checker: no two arena buffers that live together share bytes, at some sizes of the symbols.

    Raises:
        PlanUnsafe: two do.
    """
    live = live_ranges(plan)
    arena = [b for b in plan.buffers if b.kind is BufferKind.ARENA and b.id in live]
    for segment in sorted({b.segment for b in arena}):
        _check_segment(plan, [b for b in arena if b.segment == segment], live)


def _check_segment(plan: Plan, buffers: list[Buffer], live: dict[int, Live]) -> None:
    events = sorted((live[b.id][0], live[b.id][1], b.id) for b in buffers)
    symbolic = any(not is_static(b.bytes) for b in buffers)
    for bindings in sample_bindings(plan) if symbolic else ({},):
        places = {b.id: _placed_bytes(b, bindings) for b in buffers}
        active: list[tuple[int, int]] = []
        for first, last, id in events:
            active = [(end, other) for end, other in active if end >= first]
            for _, other in active:
                (a, a_end), (b, b_end) = places[id], places[other]
                if a < b_end and b < a_end:
                    raise PlanUnsafe(problem=f"buffers {id} and {other} live together on the same bytes")
            bisect.insort(active, (last, id))


def sample_bindings(plan: Plan) -> list[dict[str, int]]:
    """Values of the plan's symbols, inside their bounds: neighbouring symbols differ, or all are alike."""
    count = len(SAMPLES)
    different = [
        [SAMPLES[(i + number) % count] + i * number for number in range(len(plan.symbols))]
        for i in range(count)
    ]
    alike = [[sample] * len(plan.symbols) for sample in SAMPLES]
    return [
        {
            name: _within(plan.symbol_bounds[name], value)
            for name, value in zip(plan.symbols, values, strict=True)
        }
        for values in (*different, *alike)
    ]


def _within(bounds: tuple[int, int | None], value: int) -> int:
    lo, hi = bounds
    return max(lo, value) if hi is None else min(max(lo, value), hi)


def _placed_bytes(buffer: Buffer, bindings: dict[str, int]) -> tuple[int, int]:
    """(start, end) in the arena; one without a place takes all of it."""
    if buffer.offset is None:
        return 0, 1 << 62
    start, size = value_of(buffer.offset, bindings), value_of(buffer.bytes, bindings)
    return start, start + size


def used_constants(plan: Plan) -> list[Buffer]:
    """Buffers whose contents stand in the weights section, in order of offset."""
    kinds = (BufferKind.CONST, BufferKind.STATE)
    found = [b for b in plan.buffers if b.kind in kinds and b.offset is not None]
    return sorted(found, key=lambda b: int(b.offset))  # type: ignore[arg-type]
