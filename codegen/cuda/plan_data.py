"""A finished plan as JSON: what the host walks through when a model runs on a GPU.

`aino_ir.runtime.cuda.plan` reads it.  Steps are lists that begin with their kind and their number; numbers
that depend on symbols are texts.  Barriers are left out, for a stream runs its kernels in order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from aino_ir.codegen.c.limits import entry_extents, entry_sizes, late_extents
from aino_ir.codegen.cuda.launch import launch_facts
from aino_ir.dims import DimLike
from aino_ir.plan import (
    Bind,
    Branch,
    BufferKind,
    Extend,
    Plan,
    Repeat,
    Require,
    Reserve,
    Run,
    Step,
    Sync,
    View,
    runs,
    size,
)


def plan_data(plan: Plan) -> dict[str, Any]:
    """All of a plan that a run on a GPU needs."""
    constants = [b for b in plan.buffers if b.kind is BufferKind.CONST and b.offset is not None]
    states = [b for b in plan.buffers if b.kind is BufferKind.STATE]
    first = {b.slot: [_whole(b.bytes), None if b.const is None else _whole(b.offset)] for b in states}
    ends = [
        _whole(b.offset) + _whole(b.bytes) for b in (*constants, *(s for s in states if s.const is not None))
    ]
    return {
        "symbols": plan.symbols,
        "entry": len(plan.entry_symbols),
        "turns": plan.turns,
        "kernels": {
            name: launch_facts(plan.kernels[name].function) for name in sorted({r.kernel for r in runs(plan)})
        },
        "buffers": [
            [b.kind.value, shown(b.bytes), b.slot, shown(b.offset if b.offset is not None else 0), b.segment]
            for b in plan.buffers
        ],
        "segments": [[shown(s.bytes), s.per_thread, s.output] for s in plan.segments],
        "steps": _Steps(plan).block(plan.steps),
        "states": [first.get(slot, [0, None]) for slot in range(len(plan.states))],
        "arena": shown(plan.arena_bytes),
        "weights": max(ends, default=0),
        "extents": [[shown(d), step] for d, step in entry_extents(plan)],
        "sizes": [shown(d) for d in entry_sizes(plan)],
        "count": size(plan.steps),
    }


def shown(dim: DimLike) -> int | str:
    """A dimension as JSON holds it."""
    return dim if isinstance(dim, int) else str(dim)


def _whole(dim: DimLike | None) -> int:
    assert isinstance(dim, int), f"{dim} has symbols"
    return dim


class _Steps:
    """Turns steps to rows, numbered as `aino_ir.plan.walk` counts them."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._number = 0
        self._bound = set(plan.entry_symbols)

    def block(self, steps: Sequence[Step]) -> list[Any]:
        """The rows of steps."""
        return list(self._rows(steps))

    def _rows(self, steps: Sequence[Step]) -> Iterator[list[Any]]:
        for step in steps:
            number = self._number
            self._number += 1
            if not isinstance(step, Sync):
                write: Callable[[int, Any], list[Any]] = _WRITERS[type(step)]
                yield write(self, number, step)  # type: ignore[call-arg,arg-type]

    def run(self, number: int, step: Run) -> list[Any]:
        """A launch."""
        return ["run", number, step.kernel, [_place(v) for v in step.views]]

    def bind(self, number: int, step: Bind) -> list[Any]:
        """A symbol's value, and the extents that are known with it."""
        self._bound.add(step.symbol)
        bounds = [None if bound is None else shown(bound) for bound in (step.lo, step.hi)]
        extents = [shown(d) for d in late_extents(self.plan, step.symbol, self._bound)]
        source = [_place(step.source), step.source.dtype.name]
        return ["bind", number, step.symbol, *source, *bounds, step.step, extents]

    def require(self, number: int, step: Require) -> list[Any]:
        """A condition."""
        check = step.check
        return ["require", number, check.kind, shown(check.lhs), shown(check.rhs), check.what]

    def reserve(self, number: int, step: Reserve) -> list[Any]:
        """Room."""
        return ["reserve", number, step.segment]

    def extend(self, number: int, step: Extend) -> list[Any]:
        """More room."""
        return ["extend", number, step.buffer, shown(step.bytes), step.keep]

    def branch(self, number: int, step: Branch) -> list[Any]:
        """Two step lists."""
        return ["branch", number, _place(step.condition), self.block(step.then), self.block(step.otherwise)]

    def repeat(self, number: int, step: Repeat) -> list[Any]:
        """A loop."""
        count: Any = step.count
        if isinstance(count, View):
            count = [*_place(count), count.dtype.name]
        elif count is not None:
            count = shown(count)
        flags = [None if v is None else _place(v) for v in (step.start, step.again, step.turns)]
        return ["repeat", number, step.turn, self.block(step.body), count, *flags]


def _place(view: View) -> list[Any]:
    return [view.buffer, shown(view.offset)]


_WRITERS: dict[type, Any] = {
    Run: _Steps.run,
    Bind: _Steps.bind,
    Require: _Steps.require,
    Reserve: _Steps.reserve,
    Extend: _Steps.extend,
    Branch: _Steps.branch,
    Repeat: _Steps.repeat,
}
"""How each kind of step is written."""
