"""Segments of what steps decide: reserved behind the last symbol that each needs, inside loops too."""

from __future__ import annotations

import pytest

from aino_ir.dims import symbol
from aino_ir.dtypes import i64
from aino_ir.errors.plan import PlanUnsafe
from aino_ir.passes.reserve_segments import ReserveSegments, check_segments
from aino_ir.plan import Bind, BufferKind, Extend, Plan, Repeat, Reserve, Segment, View
from tests.passes.test_insert_barriers import deciding, kinds, plan_of


def test_what_is_not_reserved_or_bound_yet_is_not_touched() -> None:
    plan = deciding()
    ReserveSegments().run(plan)
    check_segments(plan)
    complete = list(plan.steps)
    plan.steps = [s for s in complete if s != Reserve(1)]
    with pytest.raises(PlanUnsafe, match="touched before its segment is reserved"):
        check_segments(plan)
    plan.steps = [s for s in complete if not isinstance(s, Bind)]
    with pytest.raises(PlanUnsafe, match="needs d before it is bound"):
        check_segments(plan)


def test_only_what_has_a_segment_is_extended() -> None:
    plan = deciding()
    ReserveSegments().run(plan)
    fixed = plan.new_buffer(BufferKind.ARENA, 8)
    plan.steps.append(Extend(fixed.id, 16, False))
    with pytest.raises(PlanUnsafe, match="is extended, but has no segment"):
        check_segments(plan)


def test_a_segment_waits_for_the_last_of_its_symbols_in_whatever_block() -> None:
    plan = Plan("p", symbols=["d", "e"], decided=["d", "e"], symbol_bounds={"d": (0, 9), "e": (0, 9)})
    d, e = symbol("d"), symbol("e")
    cell = plan.new_buffer(BufferKind.INPUT, 8, slot=0)
    view = View(cell.id, 0, i64, ())
    outer = [plan.new_buffer(BufferKind.ARENA, size) for size in (d * 4, d * 8)]
    inner = [plan.new_buffer(BufferKind.ARENA, size) for size in (d * e * 4, e * 4)]
    before = plan_of(outer, plan).steps
    plan.steps = []
    body = [Bind("e", view), *plan_of(inner, plan).steps]
    plan.steps = [Bind("d", view), *before, Repeat("turn.", tuple(body), 3)]
    ReserveSegments().run(plan)
    check_segments(plan)
    assert [b.segment for b in (*outer, *inner)] == [1, 1, 2, 2]
    assert [type(s) for s in plan.steps] == [Bind, Reserve, type(before[0]), Repeat]
    (loop,) = (s for s in plan.steps if isinstance(s, Repeat))
    assert kinds(Plan("body", steps=list(loop.body)))[:2] == [Bind, Reserve]
    assert all(isinstance(s, Segment) and not s.per_thread for s in plan.segments)
