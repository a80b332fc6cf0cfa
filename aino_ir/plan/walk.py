"""Walking the steps of a plan, those inside branches and loops included.

A step's number is its place in this walk: a status, a profile and a report name steps by it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from aino_ir.plan.nodes import Bind, Branch, Plan, Repeat, Run, Step, View


def blocks_of(step: Step) -> tuple[tuple[Step, ...], ...]:
    """The step lists that a step holds."""
    if isinstance(step, Branch):
        return step.then, step.otherwise
    return (step.body,) if isinstance(step, Repeat) else ()


def walk(steps: Iterable[Step]) -> Iterator[Step]:
    """Every step in order, a branch or loop before the steps in it."""
    for step in steps:
        yield step
        for block in blocks_of(step):
            yield from walk(block)


def size(steps: Iterable[Step]) -> int:
    """How many steps there are, nested ones included."""
    return sum(1 for _ in walk(steps))


def runs(plan: Plan) -> Iterator[Run]:
    """Every kernel call of a plan, in order."""
    return (step for step in walk(plan.steps) if isinstance(step, Run))


def decided_by(step: Step) -> tuple[View, ...]:
    """Elements that every thread reads to know how to go on, before it goes on."""
    if isinstance(step, Branch):
        return (step.condition,)
    if isinstance(step, Repeat):
        return tuple(v for v in (step.count, step.start) if isinstance(v, View))
    if isinstance(step, Bind):
        return (step.source,)
    return ()


def views_of(step: Step) -> tuple[View, ...]:
    """Every view that a step itself touches, but not those of steps in it."""
    if isinstance(step, Run):
        return step.views
    found = (step.again, step.turns) if isinstance(step, Repeat) else ()
    return (*decided_by(step), *(v for v in found if v is not None))
