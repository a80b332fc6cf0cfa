"""Barriers between steps that touch the same bytes: of buffers that share a place, cells and segments."""

from __future__ import annotations

from itertools import pairwise

import pytest

from aino_ir.dims import DimLike, symbol
from aino_ir.dtypes import f32, i64
from aino_ir.errors.plan import PlanUnsafe
from aino_ir.kernels import Candidate, Kernel
from aino_ir.loops.builder import LoopBuilder
from aino_ir.loops.stmt import Access, LoopFn
from aino_ir.passes.insert_barriers import InsertBarriers, check_barriers
from aino_ir.passes.plan_memory import PlanMemory, check_memory
from aino_ir.passes.reserve_segments import ReserveSegments
from aino_ir.plan import Bind, Buffer, BufferKind, Plan, Reserve, Run, Step, Sync, View

N, D = symbol("n"), symbol("d")


def copying(n: DimLike, name: str) -> LoopFn:
    b = LoopBuilder(name)
    if not isinstance(n, int):
        for symbol_name in sorted(n.free_symbols()):
            b.symbol(symbol_name, 0, 99)
    x, y = b.param("x", f32, n), b.param("y", f32, n, Access.WRITE)
    with b.units(n) as u:
        b.store(y, u, b.load(x, u))
    return b.finish()


def plan_of(chain: list[Buffer], plan: Plan) -> Plan:
    """Each buffer copied to the next; the bytes of the smaller one count."""
    for i, (source, target) in enumerate(pairwise(chain)):
        n = target.bytes // 4
        fn = copying(n, f"copy{i}")
        plan.kernels[fn.name] = Kernel(None, Candidate("test", "test"), fn)  # type: ignore[arg-type]
        plan.steps.append(Run(fn.name, tuple(View(b.id, 0, f32, (n,)) for b in (source, target))))
    return plan


def syncs_before(plan: Plan) -> list[int]:
    """For each step that is no barrier, how many barriers stand before it."""
    out, count = [], 0
    for step in plan.steps:
        count += isinstance(step, Sync)
        if not isinstance(step, Sync):
            out.append(count)
    return out


def test_symbolic_buffers_that_overlap_partly_need_a_barrier() -> None:
    plan = Plan("p", symbols=["n"], symbol_bounds={"n": (1, 99)})
    x = plan.new_buffer(BufferKind.INPUT, N * 4096, slot=0)
    large = plan.new_buffer(BufferKind.ARENA, N * 2048)
    y = plan.new_buffer(BufferKind.OUTPUT, N * 1024, slot=0)
    first, second = (plan.new_buffer(BufferKind.ARENA, N * 1024) for _ in range(2))
    z = plan.new_buffer(BufferKind.OUTPUT, N * 1024, slot=1)
    plan_of([x, large, y], plan)
    plan_of([x, first, second, z], plan)  # both lie where `large` was, one of them not at its start
    PlanMemory().run(plan)
    check_memory(plan)
    assert {b.offset == large.offset for b in (first, second)} == {True, False}
    InsertBarriers().run(plan)
    check_barriers(plan)
    assert syncs_before(plan) == [0, 1, 2, 3, 4]
    without = [s for i, s in enumerate(plan.steps) if i != 3]
    assert isinstance(plan.steps[3], Sync)
    plan.steps = without
    with pytest.raises(PlanUnsafe, match="copy1.* and copy.* touch the same bytes without a barrier"):
        check_barriers(plan)


def deciding() -> Plan:
    """x -> cell; the cell binds d; x -> dense [d] -> output [d]."""
    plan = Plan("p", symbols=["d"], decided=["d"], symbol_bounds={"d": (0, 99)})
    x = plan.new_buffer(BufferKind.INPUT, 400, slot=0)
    cell = plan.new_buffer(BufferKind.ARENA, 8)
    dense = plan.new_buffer(BufferKind.ARENA, D * 4)
    y = plan.new_buffer(BufferKind.OUTPUT, D * 4, slot=0)
    plan_of([x, cell], plan)
    plan.steps.append(Bind("d", View(cell.id, 0, i64, ()), 0, 99))
    return plan_of([x, dense, y], plan)


def kinds(plan: Plan) -> list[type[Step]]:
    return [type(step) for step in plan.steps]


def test_what_a_step_decides_is_read_and_reserved_behind_barriers() -> None:
    plan = deciding()
    ReserveSegments().run(plan)
    PlanMemory().run(plan)
    check_memory(plan)
    InsertBarriers().run(plan)
    check_barriers(plan)
    assert kinds(plan) == [Run, Sync, Bind, Reserve, Reserve, Sync, Run, Sync, Run]
    assert [(s.output, str(s.bytes)) for s in plan.segments] == [(-1, "64*((d + 15)//16)"), (0, "4*d")]
    assert plan.arena_bytes == 64
    complete = list(plan.steps)
    for missing in (1, 5, 7):
        plan.steps = [s for i, s in enumerate(complete) if i != missing]
        with pytest.raises(PlanUnsafe, match="without a barrier"):
            check_barriers(plan)
