"""Plan pass: a barrier wherever a step touches memory that a step since the last barrier wrote or reads.

Threads walk the same steps, each doing its share of the units; without a barrier a thread may be
steps ahead.  Two steps conflict when one writes bytes that the other reads or writes.  Runs after
memory planning, since buffers that share arena bytes conflict too.

What decides about a branch or another turn of a loop is read by every thread.  A loop's body follows what
stands before the loop, and its own end.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from aino_ir.errors.plan import PlanUnsafe
from aino_ir.plan import (
    Branch,
    Plan,
    Repeat,
    Run,
    Step,
    Sync,
    blocks_of,
)
from aino_ir.plan.touches import Touch, conflicting, touches, touches_of

Touches = dict[Touch, None]
"""What steps since the last barrier have touched, each once, in order."""


@dataclass(frozen=True)
class InsertBarriers:
    """Puts a Sync before each step that conflicts with one since the last Sync."""

    def run(self, plan: Plan) -> None:
        """Rebuild `plan.steps` with barriers."""
        plan.steps, _ = _Inserter(plan).block(plan.steps, {})


class _Inserter:
    """Rebuilds step lists; an open touch is one that no barrier follows yet."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan

    def block(self, given: Sequence[Step], before: Touches) -> tuple[list[Step], Touches]:
        """The steps with barriers, and what is open after them; `before` is open when they begin."""
        steps: list[Step] = []
        open_touches = dict(before)
        for step in given:
            if isinstance(step, Sync):
                continue
            mine = list(touches(self.plan, step))
            if conflicting(mine, open_touches):
                steps.append(Sync())
                open_touches = {}
            open_touches.update(dict.fromkeys(mine))
            if isinstance(step, Branch):
                then, first = self.block(step.then, open_touches)
                otherwise, second = self.block(step.otherwise, open_touches)
                step, open_touches = (
                    replace(step, then=tuple(then), otherwise=tuple(otherwise)),
                    first | second,
                )
            elif isinstance(step, Repeat):
                step, open_touches = self.loop(step, open_touches)
            steps.append(step)
        return steps, open_touches

    def loop(self, step: Repeat, before: Touches) -> tuple[Repeat, Touches]:
        """A loop with barriers: its body is rebuilt until what is open at its end was open at its start."""
        start = dict(before)
        decision = () if step.again is None else tuple(touches_of(self.plan, step.again, writes=False))
        while True:
            body, end = self.block(step.body, start)
            if conflicting(decision, end):
                body.append(Sync())
                end = {}
            end.update(dict.fromkeys(decision))
            if end.keys() <= start.keys():
                return replace(step, body=tuple(body)), before | end
            start |= end


def check_barriers(plan: Plan) -> None:
    """The checker of this pass: no two conflicting steps without a barrier between them on any path.

    Raises:
        PlanUnsafe: two steps conflict.
    """
    _check_block(plan, plan.steps, {})


Since = dict[tuple[str, Touch], None]
"""(who, what) touched since the last barrier."""


def _check_block(plan: Plan, steps: Iterable[Step], before: Since) -> Since:
    since = dict(before)
    for step in steps:
        if isinstance(step, Sync):
            since = {}
            continue
        _check_step(since, _name(step), touches(plan, step))
        if isinstance(step, Branch):
            paths = [_check_block(plan, block, since) for block in blocks_of(step)]
            since = {key: None for path in paths for key in path}
        elif isinstance(step, Repeat):
            for _ in range(2):  # the second turn follows the first
                end = _check_block(plan, step.body, since)
                if step.again is not None:
                    _check_step(end, _name(step), touches_of(plan, step.again, writes=False))
                since |= end
    return since


def _check_step(since: Since, name: str, mine: Iterable[Touch]) -> None:
    """Enter what a step touches, if none of it conflicts."""
    mine = list(mine)
    for other, theirs in since:
        if any(a.conflicts(theirs) for a in mine):
            raise PlanUnsafe(problem=f"{other} and {name} touch the same bytes without a barrier")
    since.update({(name, touch): None for touch in mine})


def _name(step: Step) -> str:
    if isinstance(step, Run):
        return step.kernel
    what = "the choice" if isinstance(step, (Branch, Repeat)) else type(step).__name__.lower()
    return f"{what} at '{getattr(step, 'loc', '')}'"
