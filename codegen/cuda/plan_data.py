"""A finished plan as JSON: what the host walks through when a model runs on a GPU.

`aino_ir.runtime.cuda.plan` reads it.  Steps are lists that begin with their kind; numbers that depend on
symbols are texts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from aino_ir.codegen.c.limits import entry_extents, entry_sizes, late_extents
from aino_ir.codegen.cuda.launch import kernel_facts
from aino_ir.codegen.cuda.order import launch_order, scratch_stretches
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
    walk,
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
            name: kernel_facts(plan.kernels[name]) for name in sorted({r.kernel for r in runs(plan)})
        },
        "buffers": [
            [b.kind.value, shown(b.bytes), b.slot, shown(b.offset if b.offset is not None else 0), b.segment]
            for b in plan.buffers
        ],
        "segments": [[shown(s.bytes), s.per_thread, s.output] for s in plan.segments],
        "steps": _block(plan.steps),
        "order": launch_order(plan),
        "scratch": scratch_stretches(plan),
        "late": _late(plan),
        "states": [first.get(slot, [0, None]) for slot in range(len(plan.states))],
        "arena": shown(plan.arena_bytes),
        "weights": max(ends, default=0),
        "extents": [[shown(d), step] for d, step in entry_extents(plan)],
        "sizes": [shown(d) for d in entry_sizes(plan)],
    }


def shown(dim: DimLike) -> int | str:
    """A dimension as JSON holds it."""
    return dim if isinstance(dim, int) else str(dim)


def _whole(dim: DimLike | None) -> int:
    assert isinstance(dim, int), f"{dim} has symbols"
    return dim


def _late(plan: Plan) -> dict[str, list[int | str]]:
    """Symbol -> extents that are known with it."""
    known, found = set(plan.entry_symbols), {}
    for step in walk(plan.steps):
        if isinstance(step, Bind):
            known.add(step.symbol)
            found[step.symbol] = [shown(d) for d in late_extents(plan, step.symbol, known)]
    return found


def _block(steps: Sequence[Step]) -> list[list[Any]]:
    """The rows of steps."""
    return [_WRITERS[type(step)](step) for step in steps]


def _place(view: View) -> list[Any]:
    return [view.buffer, shown(view.offset), view.dtype.name]


def _maybe_place(view: View | None) -> list[Any] | None:
    return None if view is None else _place(view)


def _maybe_shown(dim: DimLike | None) -> int | str | None:
    return None if dim is None else shown(dim)


def _bind(step: Bind) -> list[Any]:
    return ["bind", step.symbol, _place(step.source), _maybe_shown(step.lo), _maybe_shown(step.hi), step.step]


def _require(step: Require) -> list[Any]:
    check = step.check
    return ["require", check.kind, shown(check.lhs), shown(check.rhs), check.what]


def _repeat(step: Repeat) -> list[Any]:
    count = _place(step.count) if isinstance(step.count, View) else _maybe_shown(step.count)
    flags = map(_maybe_place, (step.start, step.again, step.turns))
    return ["repeat", step.turn, _block(step.body), count, *flags]


_WRITERS: dict[type, Callable[[Any], list[Any]]] = {
    Run: lambda s: ["run", s.kernel, [_place(v) for v in s.views]],
    Sync: lambda s: ["sync"],
    Bind: _bind,
    Require: _require,
    Reserve: lambda s: ["reserve", s.segment],
    Extend: lambda s: ["extend", s.buffer, shown(s.bytes), s.keep],
    Branch: lambda s: ["branch", _place(s.condition), _block(s.then), _block(s.otherwise)],
    Repeat: _repeat,
}
"""How each kind of step is written."""
