"""Which launches of a plan must wait for which: what becomes the edges of a CUDA graph."""

from __future__ import annotations

from aino_ir.plan import Plan, Run, Sync
from aino_ir.plan.order import order_of
from aino_ir.plan.touches import launch_touches

MOST_LAUNCHES = 4096
"""Plans with more are one chain: the sets of what precedes a launch grow with the square of their number."""


def launch_order(plan: Plan) -> list[list[int]] | None:
    """For each launch, the launches it follows, by their places among all; None: they are to be one chain."""
    launches = [step for step in plan.steps if isinstance(step, Run)]
    straight = all(isinstance(step, (Run, Sync)) for step in plan.steps)
    if not straight or len(launches) > MOST_LAUNCHES:
        return None
    return order_of([launch_touches(plan, step) for step in launches])
