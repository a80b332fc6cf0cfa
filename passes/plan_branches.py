"""Plan pass: memory that lets independent launches run side by side, where a device can.

Memory planning gives a buffer the bytes of another as soon as nothing needs them any more *in the order of
the steps*; a launch that depends on nothing near it then waits for whoever held its bytes before.  Here
launches are sorted by level, the longest path of data that leads to each, and a buffer lives from the first
level that touches it to the last, so that launches of one level share no bytes.  Where that takes too much
more memory, everything stays as it was.

Runs after `PlanMemory`, before `InsertBarriers`.
"""

from __future__ import annotations

from dataclasses import dataclass

from aino_ir.dims import DimLike, value_of
from aino_ir.passes.plan_memory import live_ranges, place_arena, sample_bindings
from aino_ir.plan import Plan, Run
from aino_ir.plan.order import levels_of, order_of
from aino_ir.plan.touches import data_touches

MOST_LAUNCHES = 4096
"""Longer plans are left alone: the order of launches takes memory for the square of their number."""


@dataclass(frozen=True)
class PlanBranches:
    """Sorts independent launches side by side, in memory of their own.

    Attributes:
        growth: how many times the memory of one launch after the other that may take.
        spare: or how many bytes more, at the largest extents.
    """

    growth: float = 1.25
    spare: int = 32 << 20

    def run(self, plan: Plan) -> None:
        """Rebuild `plan.steps` and the places of buffers, or leave both."""
        launches = [step for step in plan.steps if isinstance(step, Run)]
        if len(launches) != len(plan.steps) or not 1 < len(launches) <= MOST_LAUNCHES:
            return
        levels = levels_of(order_of([data_touches(plan, step) for step in launches]))
        if len(set(levels)) == len(levels):
            return
        steps, arena = plan.steps, plan.arena_bytes
        places = [(b.offset, b.family, b.first, b.end) for b in plan.buffers]
        order = sorted(range(len(launches)), key=lambda n: (levels[n], n))
        plan.steps = [launches[n] for n in order]
        ranks = [levels[n] for n in order]
        live = {id: (ranks[first], ranks[last]) for id, (first, last) in live_ranges(plan).items()}
        plan.arena_bytes = place_arena(plan, live)
        if not self._affordable(plan, arena):
            plan.steps, plan.arena_bytes = steps, arena
            for buffer, place in zip(plan.buffers, places, strict=True):
                buffer.offset, buffer.family, buffer.first, buffer.end = place

    def _affordable(self, plan: Plan, before: DimLike) -> bool:
        """Whether the arena is not much larger than it was."""
        largest = {name: hi for name, (_, hi) in plan.symbol_bounds.items() if hi is not None}
        if largest.keys() >= set(plan.symbols):
            more = value_of(plan.arena_bytes, largest) - value_of(before, largest)
            if more <= self.spare:
                return True
        samples = sample_bindings(plan)
        return all(value_of(plan.arena_bytes, b) <= self.growth * value_of(before, b) for b in samples)
