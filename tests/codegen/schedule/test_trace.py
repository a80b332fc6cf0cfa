"""Traces: what each primitive does to the list of loops, what it refuses, replaying and reading."""

from __future__ import annotations

import pytest

from aino_ir.codegen.schedule import Schedule
from aino_ir.codegen.schedule.trace import Mark
from aino_ir.compute import Axis, Compute
from aino_ir.dims import symbol
from aino_ir.dtypes import f32
from aino_ir.errors.codegen import ScheduleInvalid
from aino_ir.loops.expr import Read, VecType


def product_of(m: object = 12, n: object = 40, k: object = 7) -> Compute:
    """A matrix product's program."""
    row, column, depth = Axis("m", m), Axis("n", n), Axis("k", k)  # type: ignore[arg-type]
    x = Read(0, (row.dim, depth.dim), VecType(f32))
    w = Read(1, (depth.dim, column.dim), VecType(f32))
    return Compute((row, column), x * w, (depth,), "add")


def names(s: Schedule) -> list[str]:
    return [a.name for a in s.axes]


def test_a_split_that_divides_leaves_nothing_outside() -> None:
    s = Schedule(product_of())
    outer, inner = s.split("m", 6)
    assert [s.find(outer).extent, s.find(inner).extent] == [2, 6]
    assert names(s) == [outer, inner, "n.", "k."]
    assert s.coordinates["m."] is symbol(outer) * 6 + symbol(inner)
    assert not s.bounds


def test_a_split_that_does_not_divide_bounds_its_iterations() -> None:
    s = Schedule(product_of())
    outer, inner = s.split("n", 16)
    (bound,) = s.bounds
    assert (s.find(outer).extent, bound.extent, bound.reduces) == (3, 40, False)
    assert bound.value is symbol(outer) * 16 + symbol(inner)
    again, _ = s.split(outer, 2)  # the bound follows the loops that come for others
    assert again in {str(n) for n in s.bounds[0].value.free_symbols()}  # type: ignore[union-attr]


def test_a_symbolic_extent_is_always_bounded() -> None:
    s = Schedule(product_of(m=symbol("batch") * 4))
    s.split("m", 4)
    assert len(s.bounds) == 1


def test_reorder_permutes_the_named_loops_in_their_places() -> None:
    s = Schedule(product_of())
    s.reorder("k", "m")
    assert names(s) == ["k.", "n.", "m."]


def test_fused_loops_say_where_their_parts_are() -> None:
    s = Schedule(product_of())
    both = s.fuse("m", "n")
    assert s.find(both).extent == 480
    assert s.values(both, 83) == {both: 83, "m.": 2, "n.": 3}


def test_replayed_traces_are_the_same() -> None:
    s = Schedule(product_of())
    row, inner = s.split("m", 6)
    _, lane = s.split("n", 8)
    s.reorder(row, "k", inner, lane)
    s.cache(1, row)
    s.vectorize(lane)
    s.unroll(inner)
    s.parallel(row)
    again = Schedule.replay(product_of(), s.steps)
    assert (again.axes, again.coordinates, again.bounds) == (s.axes, s.coordinates, s.bounds)
    assert str(s).splitlines() == [
        "m_o, m_i = split(m, 6)",
        "n_o, n_i = split(n, 8)",
        "reorder(m_o, k, m_i, n_i)",
        "cache(operand 1, at m_o)",
        "vectorize(n_i)",
        "unroll(m_i)",
        "parallel(m_o)",
    ]
    assert s.find(lane).mark is Mark.VECTOR


REFUSED = {
    "an unknown loop": (lambda s: s.unroll("z"), "the loops are m, n, k"),
    "a factor of nothing": (lambda s: s.split("m", 0), "at least 1"),
    "threads in one sum": (lambda s: s.parallel("k"), "the threads would meet in one sum"),
    "loops that are no neighbours": (lambda s: s.fuse("m", "k"), "right inside it"),
    "loops of two kinds": (lambda s: s.fuse("n", "k"), "one of them reduces"),
    "a loop twice": (lambda s: s.reorder("m", "m"), "named twice"),
    "two marks": (lambda s: (s.unroll("m"), s.vectorize("m")), "marked already: unroll"),
    "two vectors": (lambda s: (s.vectorize("m"), s.vectorize("n")), "another loop is vectorized"),
    "an unknown thread": (lambda s: s.bind("m", "warp"), "threads are blockIdx.x"),
    "one thread twice": (
        lambda s: (s.bind("m", "blockIdx.x"), s.bind("n", "blockIdx.x")),
        "another loop is bound",
    ),
    "a split of a fused loop": (lambda s: s.split(s.fuse("m", "n"), 4), "split before you fuse"),
    "two copies": (lambda s: (s.cache(0, "m"), s.cache(0, "n")), "copied already"),
    "a place that goes": (lambda s: (s.cache(0, "m"), s.split("m", 2)), "it must stay"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_steps_that_do_not_fit_are_refused(case: str) -> None:
    action, reason = REFUSED[case]
    with pytest.raises(ScheduleInvalid, match=reason):
        action(Schedule(product_of()))


def test_vectors_and_registers_need_numbers() -> None:
    s = Schedule(product_of(n=symbol("batch")))
    with pytest.raises(ScheduleInvalid, match="its extent batch must be a number: split it"):
        s.vectorize("n")
