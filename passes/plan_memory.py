"""Plan passes: offsets of constants in the weights section, and of buffers in the arena."""

from __future__ import annotations

import bisect
from dataclasses import dataclass

from aino_ir.dims import DimLike, align, is_static
from aino_ir.errors.plan import PlanUnsafe
from aino_ir.plan import Buffer, BufferKind, Plan, Run

ALIGNMENT = 64
"""Bytes; every buffer starts on a cache line."""

SEARCH_LIMIT = 4000
"""More buffers than this are placed in one walk over the steps (linear) instead of by size."""

Live = tuple[int, int]


@dataclass(frozen=True)
class PlanMemory:
    """Places arena buffers by liveness: largest first, at the lowest gap that no live neighbour uses.

    Buffers whose size has symbols share slots of their own: buffers of one symbolic size that are
    not live together take the same bytes, behind the static part.
    """

    def run(self, plan: Plan) -> None:
        """Set `offset` of every used arena buffer, and `plan.arena_bytes`, `plan.scratch_bytes`."""
        live = live_ranges(plan)
        arena = [b for b in plan.buffers if b.kind is BufferKind.ARENA and b.id in live]
        end = self._place_static([b for b in arena if is_static(b.bytes)], live)
        plan.arena_bytes = self._place_symbolic([b for b in arena if not is_static(b.bytes)], live, end)
        plan.scratch_bytes = largest_scratch(plan)

    def _place_static(self, buffers: list[Buffer], live: dict[int, Live]) -> int:
        if len(buffers) > SEARCH_LIMIT:
            return place_in_order(buffers, live)
        order = sorted(buffers, key=lambda b: (-int(b.bytes), live[b.id]))  # type: ignore[arg-type]
        index = _LiveIndex(max((live[b.id][1] for b in buffers), default=0) + 1)
        end = 0
        for buffer in order:
            size = int(align(int(buffer.bytes), ALIGNMENT))  # type: ignore[arg-type]
            taken = index.overlapping(live[buffer.id])
            offset = _lowest_gap(taken, size)
            buffer.offset = offset
            index.add(live[buffer.id], (offset, offset + size))
            end = max(end, offset + size)
        return end

    def _place_symbolic(self, buffers: list[Buffer], live: dict[int, Live], start: int) -> DimLike:
        slots: list[tuple[DimLike, DimLike, list[Live]]] = []
        total: DimLike = start
        for buffer in sorted(buffers, key=lambda b: live[b.id]):
            size = align(buffer.bytes, ALIGNMENT)
            first, last = live[buffer.id]
            for offset, slot_size, users in slots:
                if slot_size == size and all(last < f or l < first for f, l in users):
                    buffer.offset = offset
                    users.append((first, last))
                    break
            else:
                buffer.offset = total
                slots.append((total, size, [(first, last)]))
                total = total + size
        return total


def place_in_order(buffers: list[Buffer], live: dict[int, Live]) -> int:
    """Place buffers in order of their first step, each in the lowest free gap; returns the end."""
    active: list[tuple[int, int, int]] = []  # (last step, offset, end), by last step
    taken: list[tuple[int, int]] = []  # by offset
    end = 0
    for buffer in sorted(buffers, key=lambda b: live[b.id]):
        first, last = live[buffer.id]
        while active and active[0][0] < first:
            _, lo, hi = active.pop(0)
            taken.remove((lo, hi))
        size = int(align(int(buffer.bytes), ALIGNMENT))  # type: ignore[arg-type]
        offset = _lowest_gap(taken, size)
        buffer.offset = offset
        if size:
            bisect.insort(taken, (offset, offset + size))
            bisect.insort(active, (last, offset, offset + size))
        end = max(end, offset + size)
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
    for step in plan.steps:
        if isinstance(step, Run) and step.kernel not in seen:
            seen.add(step.kernel)
            need = plan.kernels[step.kernel].function.scratch_bytes
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
        for step in plan.steps:
            if not isinstance(step, Run):
                continue
            for view in step.views:
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
    """Buffer id -> (first step, last step) that touches it."""
    out: dict[int, Live] = {}
    for number, step in enumerate(plan.steps):
        if isinstance(step, Run):
            for view in step.views:
                first, _ = out.get(view.buffer, (number, number))
                out[view.buffer] = (first, number)
    return out


def check_memory(plan: Plan) -> None:
    """The checker: no two arena buffers that live together share bytes.

    Raises:
        PlanUnsafe: two do.
    """
    live = live_ranges(plan)
    events = sorted(
        (live[b.id][0], live[b.id][1], b.id)
        for b in plan.buffers
        if b.kind is BufferKind.ARENA and b.id in live
    )
    active: list[tuple[int, int]] = []
    for first, last, id in events:
        active = [(end, other) for end, other in active if end >= first]
        for _, other in active:
            if _share_bytes(plan.buffers[id], plan.buffers[other]):
                raise PlanUnsafe(problem=f"buffers {id} and {other} live together on the same bytes")
        bisect.insort(active, (last, id))


def _share_bytes(a: Buffer, b: Buffer) -> bool:
    if a.offset is None or b.offset is None:
        return True
    if all(is_static(d) for d in (a.offset, b.offset, a.bytes, b.bytes)):
        return int(a.offset) < int(b.offset) + int(b.bytes) and int(b.offset) < int(a.offset) + int(a.bytes)  # type: ignore[arg-type]
    return a.offset is b.offset or a.offset == b.offset


def used_constants(plan: Plan) -> list[Buffer]:
    """Buffers whose contents stand in the weights section, in order of offset."""
    kinds = (BufferKind.CONST, BufferKind.STATE)
    found = [b for b in plan.buffers if b.kind in kinds and b.offset is not None]
    return sorted(found, key=lambda b: int(b.offset))  # type: ignore[arg-type]
