"""Which launches of a plan must wait for which: what becomes the edges of a CUDA graph."""

from __future__ import annotations

from collections import Counter

from aino_ir.plan import Plan, Run, Sync
from aino_ir.plan.order import levels_of, order_of
from aino_ir.plan.touches import has_scratch, launch_touches, touches

MOST_LAUNCHES = 4096
"""Plans with more are one chain: the sets of what precedes a launch grow with the square of their number."""

MOST_STRETCHES = 4
"""Stretches of scratch memory at most; launches that would need more at a time wait for each other."""


def scratch_stretches(plan: Plan) -> list[int]:
    """For each launch of a plan, which stretch of scratch memory is its own; empty: all have the first.

    Launches of one level, which nothing else orders, have different ones as far as there are any.
    """
    launches = _ordered(plan)
    if launches is None or sum(has_scratch(plan, step) for step in launches) < 2:
        return []
    taken: Counter[int] = Counter()
    found = []
    for step, level in zip(
        launches, levels_of(order_of([list(touches(plan, step)) for step in launches])), strict=True
    ):
        found.append(taken[level] % MOST_STRETCHES)
        taken[level] += has_scratch(plan, step)
    return found


def launch_order(plan: Plan) -> list[list[int]] | None:
    """For each launch, the launches it follows, by their places among all; None: they are to be one chain."""
    launches = _ordered(plan)
    if launches is None:
        return None
    stretches = scratch_stretches(plan) or [0] * len(launches)
    pairs = zip(launches, stretches, strict=True)
    return order_of([launch_touches(plan, step, stretch) for step, stretch in pairs])


def _ordered(plan: Plan) -> list[Run] | None:
    """The launches of a plan whose order can be told: it is straight, and not too long."""
    launches = [step for step in plan.steps if isinstance(step, Run)]
    straight = all(isinstance(step, (Run, Sync)) for step in plan.steps)
    return launches if straight and len(launches) <= MOST_LAUNCHES else None
