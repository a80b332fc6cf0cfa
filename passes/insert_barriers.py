"""Plan pass: a barrier wherever a step touches memory that a step since the last barrier wrote or reads.

Threads walk the same steps, each doing its share of the units; without a barrier a thread may be
steps ahead.  Two steps conflict when one writes bytes that the other reads or writes.  Runs after
memory planning, since buffers that share arena bytes conflict too.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from aino_ir.dims import is_static
from aino_ir.errors.plan import PlanUnsafe
from aino_ir.loops.stmt import Access
from aino_ir.plan import BufferKind, Plan, Run, Step, Sync, View


@dataclass(frozen=True)
class Touch:
    """Bytes that a step reads or writes: lo..hi-1 of a space; a space without end is touched whole."""

    space: tuple[str, int]
    lo: int
    hi: int
    writes: bool

    def conflicts(self, other: Touch) -> bool:
        """Whether the order of the two accesses matters."""
        if not (self.writes or other.writes) or self.space != other.space:
            return False
        return self.lo < other.hi and other.lo < self.hi


WHOLE = 1 << 62


@dataclass(frozen=True)
class InsertBarriers:
    """Puts a Sync before each step that conflicts with one since the last Sync."""

    def run(self, plan: Plan) -> None:
        """Rebuild `plan.steps` with barriers."""
        steps: list[Step] = []
        open_touches: list[Touch] = []
        for step in plan.steps:
            if isinstance(step, Sync):
                continue
            assert isinstance(step, Run)
            mine = list(touches(plan, step))
            if any(a.conflicts(b) for a in mine for b in open_touches):
                steps.append(Sync())
                open_touches = []
            steps.append(step)
            open_touches += mine
        plan.steps = steps


def touches(plan: Plan, step: Run) -> Iterable[Touch]:
    """What a step reads and writes (constants and inputs are never written, so never conflict)."""
    params = plan.kernels[step.kernel].function.params
    for param, view in zip(params, step.views, strict=False):
        buffer = plan.buffers[view.buffer]
        if buffer.kind in (BufferKind.CONST, BufferKind.INPUT):
            continue
        writes = param.access is not Access.READ
        lo, hi = _byte_range(view)
        offset = buffer.offset if buffer.offset is not None else 0
        if buffer.kind is BufferKind.ARENA and is_static(offset) and is_static(buffer.bytes):
            base = int(offset)  # type: ignore[arg-type]
            yield Touch(("arena", 0), base + lo, base + min(hi, int(buffer.bytes)), writes)  # type: ignore[arg-type]
        elif buffer.kind is BufferKind.ARENA:  # a slot that buffers of one symbolic size share
            yield Touch((f"slot {offset}", 0), lo, hi, writes)
        else:
            yield Touch((buffer.kind.value, buffer.id if buffer.slot < 0 else buffer.slot), lo, hi, writes)


def _byte_range(view: View) -> tuple[int, int]:
    """First and one-past-last byte of a view inside its buffer; the whole buffer when symbolic."""
    if not is_static(view.offset) or not all(is_static(d) for d in view.shape):
        return 0, WHOLE
    if view.allocated is not None:
        if not all(is_static(d) for d in view.allocated):
            return 0, WHOLE
        if any(d == 0 for d in view.shape):
            return 0, 0
        last = view.layout.addr(view.allocated, tuple(d - 1 for d in view.shape))
        return int(view.offset), int(view.offset) + (int(last) + 1) * view.dtype.bytes  # type: ignore[arg-type]
    size = view.layout.bound(view.shape)
    return int(view.offset), int(view.offset) + int(size) * view.dtype.bytes  # type: ignore[arg-type]


def check_barriers(plan: Plan) -> None:
    """The checker of this pass: no two conflicting steps without a barrier between them.

    Raises:
        PlanUnsafe: two steps conflict.
    """
    since: list[tuple[Run, list[Touch]]] = []
    for step in plan.steps:
        if isinstance(step, Sync):
            since = []
            continue
        assert isinstance(step, Run)
        mine = list(touches(plan, step))
        for other, theirs in since:
            if any(a.conflicts(b) for a in mine for b in theirs):
                raise PlanUnsafe(
                    problem=f"{other.kernel} and {step.kernel} touch the same bytes without a barrier"
                )
        since.append((step, mine))
