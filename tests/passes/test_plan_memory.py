"""Places of buffers in the arena, static and symbolic, and the checker."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from aino_ir.dims import Dim, DimLike, symbol
from aino_ir.dtypes import f32
from aino_ir.errors.plan import PlanUnsafe
from aino_ir.passes import plan_memory
from aino_ir.passes.plan_memory import Placed, check_memory, place, place_in_order, unit_of
from aino_ir.plan import BufferKind, Plan, Run, View

B, S = symbol("b"), symbol("s")


def planned(sizes: list[DimLike], spans: list[tuple[int, int]]) -> Plan:
    """A plan whose step i touches the buffers that live then."""
    plan = Plan("p", symbols=["b", "s"], symbol_bounds={"b": (1, 64), "s": (0, None)})
    for size in sizes:
        plan.new_buffer(BufferKind.ARENA, size)
    for step in range(max(last for _, last in spans) + 1):
        views = [View(i, 0, f32, (1,)) for i, (a, z) in enumerate(spans) if a <= step <= z]
        plan.steps.append(Run("k", tuple(views)))
    return plan


def place_all(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> Plan:
    monkeypatch.setattr(plan_memory, "largest_scratch", lambda plan: 0)
    plan_memory.PlanMemory().run(plan)
    return plan


@pytest.mark.parametrize(
    ("size", "unit", "count"),
    [
        (640, 1, 640),
        (-(-B // 8) * 64, -(-B // 8), 64),
        (B * 128, B, 128),
        (B * S * 64, B * S, 64),
        (B * 64 + S * 64, B * 64 + S * 64, 1),
    ],
)
def test_sizes_are_multiples_of_a_unit(size: DimLike, unit: DimLike, count: int) -> None:
    assert unit_of(size) == (unit, count)


def test_different_multiples_of_one_unit_share_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = place_all(
        planned([B * 640, B * 128, B * 256, B * 640], [(0, 1), (1, 2), (2, 3), (3, 3)]), monkeypatch
    )
    check_memory(plan)
    assert plan.arena_bytes == B * 1024  # of 1664: both of 640 take the same place
    assert plan.buffers[0].offset == plan.buffers[3].offset == 0


def test_sizes_that_are_rounded_up_take_room(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[DimLike] = [B * (S - B + 1) * 8, B * 4]
    plan = place_all(planned(sizes, [(0, 1), (0, 1)]), monkeypatch)
    check_memory(plan)
    assert isinstance(plan.arena_bytes, Dim)
    assert plan.arena_bytes.evaluate({"b": 3, "s": 5}) == 128 + 64
    plan.buffers[1].offset = plan.buffers[0].offset
    with pytest.raises(PlanUnsafe, match="live together"):
        check_memory(plan)


def test_families_lie_behind_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[DimLike] = [100, B * 64, B * S * 4, B * 64 + S * 64, 10]
    plan = place_all(planned(sizes, [(0, 1)] * 5), monkeypatch)
    check_memory(plan)
    assert isinstance(plan.arena_bytes, Dim)
    total = plan.arena_bytes.evaluate({"b": 3, "s": 5})
    assert total == 128 + 64 + 192 + 64 + (192 + 320)


def test_random_buffers_never_share(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(5)
    units: list[DimLike] = [1, B, S, B * S]
    sizes = [units[rng.integers(4)] * int(rng.integers(1, 900)) for _ in range(120)]
    starts = rng.integers(0, 50, 120)
    spans = [(int(a), int(a + rng.integers(0, 9))) for a in starts]
    plan = place_all(planned(sizes, spans), monkeypatch)
    check_memory(plan)
    for values in ({"b": 1, "s": 0}, {"b": 64, "s": 333}, {"b": 5, "s": 6}):
        at = lambda d, v=values: d.evaluate(v) if isinstance(d, Dim) else int(d)  # noqa: E731
        boxes = [(at(b.offset), at(b.offset) + at(b.bytes)) for b in plan.buffers]
        for i, j in itertools.combinations(range(len(boxes)), 2):
            together = spans[i][0] <= spans[j][1] and spans[j][0] <= spans[i][1]
            assert not together or boxes[i][1] <= boxes[j][0] or boxes[j][1] <= boxes[i][0]
        assert max(end for _, end in boxes) <= at(plan.arena_bytes)


@pytest.mark.parametrize("offset", [0, 64, B * 32, None])
def test_the_checker_finds_shared_bytes(offset: DimLike | None) -> None:
    plan = planned([B * 128, B * 128], [(0, 1), (1, 1)])
    plan.buffers[0].offset, plan.buffers[1].offset = 0, offset
    with pytest.raises(PlanUnsafe, match="buffers 1 and 0"):
        check_memory(plan)


def test_many_buffers_are_placed_in_one_walk() -> None:
    plan = planned([64, 128, 64, 64], [(0, 0), (0, 1), (1, 2), (2, 2)])
    live = plan_memory.live_ranges(plan)
    for placer in (place, place_in_order):
        buffers = [Placed(b, int(b.bytes)) for b in plan.buffers]
        assert placer(buffers, live) == 192
