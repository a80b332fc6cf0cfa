"""Which bytes the steps of a plan read and write, and whether the order of two accesses matters.

For plans whose memory has been placed: buffers that share arena bytes conflict too.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from aino_ir.dims import is_static
from aino_ir.loops.stmt import Access
from aino_ir.plan.nodes import BufferKind, Plan, Repeat, Reserve, Run, Step, View
from aino_ir.plan.walk import decided_by


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
        return max(self.lo, other.lo) < min(self.hi, other.hi)


WHOLE = 1 << 62


def conflicting(mine: Iterable[Touch], others: Iterable[Touch]) -> bool:
    """Whether any two of them conflict."""
    others = list(others)
    return any(a.conflicts(b) for a in mine for b in others)


def touches(plan: Plan, step: Step) -> Iterable[Touch]:
    """What a step itself reads and writes: a kernel, or the threads that decide how to go on."""
    if isinstance(step, Run):
        params = plan.kernels[step.kernel].function.params
        for param, view in zip(params, step.views, strict=False):
            yield from touches_of(plan, view, param.access is not Access.READ)
        if step.kernel in plan.scratch_segments:
            yield _reserved(plan.scratch_segments[step.kernel])
    if isinstance(step, Reserve):
        yield replace(_reserved(step.segment), writes=True)
    if isinstance(step, Repeat) and step.turns is not None:
        yield from touches_of(plan, step.turns, writes=True)
    for view in decided_by(step):
        yield from touches_of(plan, view, writes=False)


def launch_touches(plan: Plan, step: Run, scratch: int = 0) -> list[Touch]:
    """What a launch on a device touches; kernels with scratch share the stretch of that number."""
    found = list(touches(plan, step))
    if has_scratch(plan, step):
        found.append(Touch(("scratch", scratch), 0, WHOLE, True))
    return found


def has_scratch(plan: Plan, step: Run) -> bool:
    """Whether the threads of a kernel, or the library that stands for it, have memory of their own."""
    kernel = plan.kernels[step.kernel]
    return kernel.function.scratch_bytes != 0 or kernel.candidate.library is not None


def data_touches(plan: Plan, step: Run) -> list[Touch]:
    """What a launch reads and writes, as if every buffer had bytes of its own."""
    found = []
    for param, view in zip(plan.kernels[step.kernel].function.params, step.views, strict=False):
        if plan.buffers[view.buffer].kind not in (BufferKind.CONST, BufferKind.INPUT):
            lo, hi = _byte_range(view)
            found.append(Touch(("buffer", view.buffer), lo, hi, param.access is not Access.READ))
    return found


def _reserved(segment: int) -> Touch:
    """What lies in a segment needs it to be reserved before, and not again meanwhile."""
    return Touch((f"segment {segment}", 0), 0, WHOLE, False)


def touches_of(plan: Plan, view: View, writes: bool) -> Iterable[Touch]:
    """A view as bytes; constants and inputs are never written, and turns no other thread sees."""
    buffer = plan.buffers[view.buffer]
    if buffer.kind in (BufferKind.CONST, BufferKind.INPUT, BufferKind.TURN):
        return
    if buffer.segment:
        yield _reserved(buffer.segment)
    lo, hi = _byte_range(view)
    offset = buffer.offset if buffer.offset is not None else 0
    if buffer.kind is BufferKind.ARENA and is_static(offset) and is_static(buffer.bytes):
        base = int(offset)  # type: ignore[arg-type]
        yield Touch(("arena", buffer.segment), base + lo, base + min(hi, int(buffer.bytes)), writes)  # type: ignore[arg-type]
    elif buffer.kind is BufferKind.ARENA:  # some of what buffers of one symbolic size share
        space = (f"family {buffer.family}", buffer.segment)
        yield Touch(space, buffer.first, buffer.end or WHOLE, writes)
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
