"""Memory for launches side by side: levels, and what they may cost."""

from __future__ import annotations

import pytest

from aino_ir.builder import Builder
from aino_ir.driver.api import compile_options
from aino_ir.driver.pipeline import Compilation
from aino_ir.passes.plan_branches import PlanBranches
from aino_ir.passes.plan_memory import PlanMemory, check_memory
from aino_ir.plan import BufferKind, Plan, Run, Sync
from aino_ir.plan.order import levels_of, order_of
from aino_ir.plan.touches import touches
from aino_ir.types import tensor


def branches(rows: int | str = 8, columns: int = 64) -> Plan:
    """Four branches of three kernels each, planned for one launch after the other."""
    b = Builder()
    x = b.input("x", tensor("f32", b.symbol("n", 1, 64) if rows == "n" else rows, columns))
    total = None
    for _ in range(4):
        y = b.softmax(b.cumsum(b.softmax(x), axis=1))
        total = y if total is None else b.cumsum(b.add(total, y), axis=1)
    assert total is not None
    b.output("y", total)
    b.finish()
    (plan,) = Compilation(compile_options("c:portable", level=0)).plans(b.module).values()
    plan.steps = [s for s in plan.steps if not isinstance(s, Sync)]
    PlanMemory().run(plan)
    return plan


def widest(plan: Plan) -> int:
    """The launches of the fullest level, by the bytes that they touch."""
    steps = [s for s in plan.steps if isinstance(s, Run)]
    levels = levels_of(order_of([list(touches(plan, s)) for s in steps]))
    return max(levels.count(level) for level in levels)


@pytest.mark.parametrize("rows", [8, "n"])
def test_branches_get_memory_of_their_own(rows: int | str) -> None:
    plan = branches(rows)
    assert widest(plan) < 4
    before, steps = plan.arena_bytes, list(plan.steps)
    PlanBranches().run(plan)
    check_memory(plan)
    assert widest(plan) == 4 and sorted(map(id, plan.steps)) == sorted(map(id, steps))
    assert plan.arena_bytes != before


def test_what_takes_too_much_memory_stays_as_it_was() -> None:
    plan = branches()
    PlanMemory().run(plan)
    before = [(b.offset, b.first, b.end) for b in plan.buffers], list(plan.steps), plan.arena_bytes
    PlanBranches(spare=0, growth=1.0).run(plan)
    assert ([(b.offset, b.first, b.end) for b in plan.buffers], plan.steps, plan.arena_bytes) == before


def test_a_growth_that_is_allowed_is_taken() -> None:
    plan = branches()
    PlanBranches(spare=0, growth=4.0).run(plan)
    assert widest(plan) == 4


def test_plans_that_decide_are_left_alone() -> None:
    b = Builder()
    x = b.input("x", tensor("f32", 4))
    b.output("k", b.nonzero(x))
    b.finish()
    (plan,) = Compilation(compile_options("c:portable")).plans(b.module).values()
    steps = list(plan.steps)
    PlanBranches().run(plan)
    assert plan.steps == steps and any(b.kind is BufferKind.ARENA for b in plan.buffers)
