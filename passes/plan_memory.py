"""Plan pass: offsets of constants in the weights section and of buffers in the arena."""

from __future__ import annotations

from dataclasses import dataclass

from aino_ir.dims import DimLike, align, is_static
from aino_ir.plan import Buffer, BufferKind, Plan, Run

ALIGNMENT = 64
"""Bytes; every buffer starts on a cache line."""


@dataclass(frozen=True)
class PlanMemory:
    """Places arena buffers by liveness: largest first, at the lowest gap that no live neighbour uses.

    Buffers whose size has symbols come after the static part, one behind the other.
    """

    def run(self, plan: Plan) -> None:
        """Set `offset` of every used arena and constant buffer, and `plan.arena_bytes`."""
        live = live_ranges(plan)
        arena = [b for b in plan.buffers if b.kind is BufferKind.ARENA and b.id in live]
        static = [b for b in arena if is_static(b.bytes)]
        placed: list[tuple[int, int, tuple[int, int]]] = []
        end = 0
        for buffer in sorted(static, key=lambda b: (-int(b.bytes), live[b.id])):  # type: ignore[arg-type]
            size = align(int(buffer.bytes), ALIGNMENT)  # type: ignore[arg-type]
            offset = _lowest_gap(placed, live[buffer.id], int(size))  # type: ignore[arg-type]
            buffer.offset = offset
            placed.append((offset, offset + int(size), live[buffer.id]))  # type: ignore[arg-type]
            end = max(end, offset + int(size))  # type: ignore[arg-type]
        total: DimLike = end
        for buffer in arena:
            if not is_static(buffer.bytes):
                buffer.offset = total
                total = total + align(buffer.bytes, ALIGNMENT)
        plan.arena_bytes = total


@dataclass(frozen=True)
class PlaceConstants:
    """Gives constants that kernels use their offset in the weights section, in order of first use."""

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


def live_ranges(plan: Plan) -> dict[int, tuple[int, int]]:
    """Buffer id -> (first step, last step) that touches it."""
    out: dict[int, tuple[int, int]] = {}
    for number, step in enumerate(plan.steps):
        if isinstance(step, Run):
            for view in step.views:
                first, _ = out.get(view.buffer, (number, number))
                out[view.buffer] = (first, number)
    return out


def _lowest_gap(placed: list[tuple[int, int, tuple[int, int]]], live: tuple[int, int], size: int) -> int:
    taken = sorted((lo, hi) for lo, hi, other in placed if other[0] <= live[1] and live[0] <= other[1])
    offset = 0
    for lo, hi in taken:
        if lo - offset >= size:
            break
        offset = max(offset, hi)
    return offset


def used_constants(plan: Plan) -> list[Buffer]:
    """Constant buffers with an offset, in order of offset."""
    found = [b for b in plan.buffers if b.kind is BufferKind.CONST and b.offset is not None]
    return sorted(found, key=lambda b: int(b.offset))  # type: ignore[arg-type]
