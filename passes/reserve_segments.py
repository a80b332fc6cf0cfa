"""Plan pass: segments for the buffers whose size only steps decide, reserved where it becomes known.

All buffers whose size is known behind the same `Bind` steps share a segment, in which memory planning
places them.  An output of such a size has one of its own, since the caller gets it, and so has what
`Extend` steps enlarge.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from aino_ir.dims import DimLike, align, free_symbols, symbol
from aino_ir.errors.plan import PlanUnsafe
from aino_ir.location import UNKNOWN
from aino_ir.passes.plan_memory import ALIGNMENT
from aino_ir.plan import (
    Bind,
    Branch,
    Buffer,
    BufferKind,
    Extend,
    Plan,
    Repeat,
    Require,
    Reserve,
    Run,
    Segment,
    Step,
    View,
    blocks_of,
    runs,
    views_of,
    walk,
)

Groups = dict[str, int]
"""Decided symbol -> the number of the run of `Bind` steps that binds it."""


@dataclass(frozen=True)
class ReserveSegments:
    """Gives late buffers their segments, and puts a `Reserve` behind the last `Bind` that each one needs."""

    def run(self, plan: Plan) -> None:
        """Set `plan.segments`, the buffers' segments, and `plan.scratch_segments`; rebuild the steps."""
        if not plan.decided:
            return
        groups = bind_groups(plan.steps)
        reserved: dict[int, list[int]] = {group: [] for group in groups.values()}
        shared: dict[int, int] = {}
        growing = {step.buffer for step in walk(plan.steps) if isinstance(step, Extend)}
        for buffer in late_buffers(plan):
            if buffer.id in growing:
                plan.segments.append(Segment(buffer.bytes))
                buffer.segment = len(plan.segments)
                continue
            group = last_group(groups, buffer.bytes)
            output = buffer.slot if buffer.kind is BufferKind.OUTPUT else -1
            if output >= 0 or group not in shared:
                plan.segments.append(Segment(buffer.bytes, output=output))
                reserved[group].append(len(plan.segments))
            if output < 0:
                shared.setdefault(group, len(plan.segments))
            buffer.segment = shared[group] if output < 0 else len(plan.segments)
        for kernel, need in late_scratch(plan).items():
            plan.segments.append(Segment(align(need, ALIGNMENT), per_thread=True))
            reserved[last_group(groups, need)].append(len(plan.segments))
            plan.scratch_segments[kernel] = len(plan.segments)
        plan.steps = with_reserves(plan.steps, groups, reserved)


def bind_groups(steps: Sequence[Step], groups: Groups | None = None) -> Groups:
    """The numbers of the runs of `Bind` steps, in the order of `walk`."""
    out: Groups = {} if groups is None else groups
    inside = False
    for step in steps:
        if isinstance(step, Bind):
            out[step.symbol] = max(out.values(), default=-1) + (not inside)
            inside = True
        elif not isinstance(step, Require):
            inside = False
        for block in blocks_of(step):
            bind_groups(block, out)
    return out


def last_group(groups: Groups, size: DimLike) -> int:
    """Where a size is known."""
    return max(groups[name] for name in free_symbols(size) if name in groups)


def late_buffers(plan: Plan) -> list[Buffer]:
    """Used buffers of a size that steps decide."""
    used = {view.buffer for step in walk(plan.steps) for view in views_of(step)}
    kinds = (BufferKind.ARENA, BufferKind.OUTPUT)
    late = [b for b in plan.buffers if b.kind in kinds and plan.is_decided(b.bytes)]
    return [b for b in late if b.id in used or b.kind is BufferKind.OUTPUT]


def late_scratch(plan: Plan) -> dict[str, DimLike]:
    """Kernels whose scratch has a size that steps decide, and that size."""
    names = dict.fromkeys(step.kernel for step in runs(plan))
    needs = {name: plan.kernels[name].function.scratch_bytes for name in names}
    return {name: need for name, need in needs.items() if plan.is_decided(need)}


def with_reserves(steps: Sequence[Step], groups: Groups, reserved: dict[int, list[int]]) -> list[Step]:
    """The steps, with the segments of each run of `Bind` steps reserved at its end."""
    out: list[Step] = []
    group, loc = -1, UNKNOWN
    for step in [*steps, None]:
        if group >= 0 and not isinstance(step, (Bind, Require)):
            out += [Reserve(segment, loc) for segment in reserved[group]]
            group = -1
        if isinstance(step, Bind):
            group, loc = groups[step.symbol], step.loc
        if isinstance(step, Branch):
            then, otherwise = (tuple(with_reserves(b, groups, reserved)) for b in blocks_of(step))
            step = replace(step, then=then, otherwise=otherwise)
        if isinstance(step, Repeat):
            step = replace(step, body=tuple(with_reserves(step.body, groups, reserved)))
        if step is not None:
            out.append(step)
    return out


def check_segments(plan: Plan) -> None:
    """The checker: no step touches a segment, or needs the value of a symbol, before it is there.

    Raises:
        PlanUnsafe: one does.
    """
    if plan.decided:
        _check_block(plan, plan.steps, set(plan.entry_symbols), {0})


def _check_block(plan: Plan, steps: Iterable[Step], bound: set[str], there: set[int]) -> None:
    chosen: dict[View, list[tuple[set[str], set[int]]]] = {}
    for step in steps:
        for view in views_of(step):
            buffer = plan.buffers[view.buffer]
            if buffer.segment not in there:
                raise PlanUnsafe(problem=f"buffer {buffer.id} is touched before its segment is reserved")
            _check_bound(bound, f"a view of buffer {buffer.id}", view.offset, *view.shape)
        if isinstance(step, Bind):
            bound.add(step.symbol)
        if isinstance(step, Extend):
            if not plan.buffers[step.buffer].segment:
                raise PlanUnsafe(problem=f"buffer {step.buffer} is extended, but has no segment")
            there.add(plan.buffers[step.buffer].segment)
            _check_bound(bound, f"the size of buffer {step.buffer}", step.bytes)
        if isinstance(step, Reserve):
            there.add(step.segment)
            _check_bound(bound, f"segment {step.segment}", plan.segments[step.segment - 1].bytes)
        if isinstance(step, Run):
            function = plan.kernels[step.kernel].function
            _check_bound(bound, step.kernel, function.units, *map(symbol, function.symbols))
            if plan.scratch_segments.get(step.kernel, 0) not in there:
                raise PlanUnsafe(problem=f"{step.kernel} runs before its scratch is reserved")
        if isinstance(step, Repeat):
            _check_block(plan, step.body, bound | {step.turn}, set(there))
        if isinstance(step, Branch):  # what a region has made is there for a later choice by the same element
            paths = chosen.setdefault(step.condition, [(set(), set()), (set(), set())])
            for block, (more, segments) in zip(blocks_of(step), paths, strict=True):
                more |= bound
                segments |= there
                _check_block(plan, block, more, segments)


def _check_bound(bound: set[str], what: str, *dims: DimLike) -> None:
    for name in (n for d in dims for n in sorted(free_symbols(d))):
        if name not in bound:
            raise PlanUnsafe(problem=f"{what} needs {name} before it is bound")
