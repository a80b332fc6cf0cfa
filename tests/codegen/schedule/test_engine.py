"""The engine: any legal schedule of a computation gives the interpreter's results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aino_ir.codegen.kernels.canonical import drop_unit_axes, merge_axes, slope
from aino_ir.codegen.schedule import Schedule, default_schedule, lower
from aino_ir.codegen.schedule.trace import Mark
from aino_ir.compute import Compute
from aino_ir.dims import is_static, symbol
from aino_ir.errors.codegen import ScheduleInvalid
from aino_ir.kernels import Candidate
from aino_ir.loops.printer import print_loops
from aino_ir.loops.stmt import Store, walk_statements
from aino_ir.loops.verify import verify_loops
from tests.codegen.kernels.support import Built, Given, Problem, check_compiled, normal, problem
from tests.codegen.native import target

LANES = 8


def matmul(m: int, n: int, k: int, **options: Any) -> Problem:
    return problem(
        lambda b, x, y, z: [b.relu(b.add(b.matmul(x, y), z))],
        Given(normal(m, k)),
        Given(normal(k, n, seed=1), constant=True),
        Given(normal(m, n, seed=2)),
        terms=k,
        **options,
    )


def conv(size: int, channels: int, stride: int) -> Problem:
    attrs = {
        "strides": (stride, stride),
        "dilations": (1, 1),
        "pads_before": (1, 1),
        "pads_after": (1, 1),
        "groups": 1,
    }
    return problem(
        lambda b, x, w: [b.conv(x, w, **attrs)],
        Given(normal(1, 3, size, size)),
        Given(normal(channels, 3, 3, 3, seed=1), constant=True),
        terms=27,
    )


def pool(size: int) -> Problem:
    attrs = {
        "kernel": (3, 3),
        "strides": (2, 2),
        "dilations": (1, 1),
        "pads_before": (1, 1),
        "pads_after": (1, 1),
    }
    return problem(
        lambda b, x: [b.max_pool(x, **attrs)], Given(normal(2, 5, size, size)), error_class="exact"
    )


def sums(m: int, n: int) -> Problem:
    return problem(lambda b, x: [b.reduce_sum(x, axes=(1,))], Given(normal(m, n)), terms=n)


def maps(m: int, n: int) -> Problem:
    return problem(
        lambda b, x, y: [b.mul(b.transpose(x, perm=(1, 0)), y)],
        Given(normal(n, m)),
        Given(normal(n)),
        error_class="exact",
    )


def program_of(p: Problem) -> Compute:
    assert isinstance(p.spec.program, Compute)
    return p.spec.program


def built(p: Problem, s: Schedule) -> Built:
    fn = lower(p.spec, s)
    return Built(p, Candidate("scheduled", "test"), fn, verify_loops(fn, bounds=False).unproved)


def run(p: Problem, s: Schedule) -> Built:
    """Lower, verify and interpret."""
    kernel = built(p, s)
    why = kernel.interpret()
    assert why is None, f"{why}\n{s}\n{print_loops(kernel.fn)}"
    return kernel


def draw_schedule(p: Problem, data: Any) -> Schedule:
    """A random legal trace: splits, fusions, an order, marks, copies."""
    s = Schedule(program_of(p))
    for _ in range(data.draw(st.integers(0, 3), label="splits")):
        loop = data.draw(st.sampled_from(s.axes), label="loop")
        s.split(loop.name, data.draw(st.integers(1, 7), label="factor"))
    lanes = data.draw(st.sampled_from(["", *(a.name for a in s.axes)]), label="lanes")
    if lanes:
        _, lanes = s.split(lanes, LANES)
    order = data.draw(st.permutations([a.name for a in s.axes]), label="order")
    s.reorder(*order)
    pairs = [(a, b) for a, b in zip(s.axes, s.axes[1:], strict=False) if a.reduces is b.reduces]
    if pairs and data.draw(st.booleans(), label="fuse"):
        first, second = data.draw(st.sampled_from(pairs), label="pair")
        s.fuse(first.name, second.name)
    if lanes in {a.name for a in s.axes} and _moves_one_axis(s, lanes):
        s.vectorize(lanes)
    for loop in [a for a in s.axes if a.mark is Mark.SERIAL]:
        if is_static(loop.extent) and int(loop.extent) <= 4 and data.draw(st.booleans(), label="unroll"):  # type: ignore[arg-type]
            s.unroll(loop.name)
    if s.axes and not s.axes[0].reduces and s.axes[0].mark is Mark.SERIAL and data.draw(st.booleans()):
        s.parallel(s.axes[0].name)
    return s


def _moves_one_axis(s: Schedule, lanes: str) -> bool:
    slopes = [slope(c, lanes) for c in s.coordinates.values()]
    return [x for x in slopes if x != 0] == [1]


def outside(s: Schedule) -> int:
    """Registers of the tile that a schedule asks for."""
    first = next((i for i, a in enumerate(s.axes) if a.reduces), len(s.axes))
    total = 1
    for i, a in enumerate(s.axes):
        if not a.reduces and (a.mark is Mark.UNROLL or i > first):
            total *= int(a.extent) if is_static(a.extent) else 1 << 20  # type: ignore[arg-type]
    return total


@settings(max_examples=80)
@given(
    st.sampled_from(["matmul", "conv", "pool", "sum", "map"]),
    st.integers(1, 9),
    st.integers(1, 11),
    st.data(),
)
def test_any_schedule_means_the_same(kind: str, m: int, n: int, data: Any) -> None:
    makers = {
        "matmul": lambda: matmul(m, n, 5),
        "conv": lambda: conv(m + 1, 2, 1 + n % 2),
        "pool": lambda: pool(m + 2),
        "sum": lambda: sums(m, n),
        "map": lambda: maps(m, n),
    }
    p = makers[kind]()
    s = draw_schedule(p, data)
    if outside(s) <= 64:
        run(p, s)


def tiled(p: Problem, rows: int, lanes: int = LANES) -> Schedule:
    s = Schedule(program_of(p))
    m, n = (a.name for a in program_of(p).axes)
    (k,) = (a.name for a in program_of(p).reduce)
    row_block, row = s.split(m, rows)
    panel, lane = s.split(n, lanes)
    s.reorder(row_block, panel, k, row, lane)
    s.parallel(row_block)
    s.unroll(row)
    s.vectorize(lane)
    return s


@pytest.mark.parametrize("shape", [(6, 16, 4), (7, 17, 5), (1, 3, 1), (13, 40, 9)])
@pytest.mark.parametrize("cached", [(), (0,), (1,), (0, 1)])
def test_tiles_with_and_without_copies(shape: tuple[int, int, int], cached: tuple[int, ...]) -> None:
    p = matmul(*shape)
    s = tiled(p, 3)
    for operand in cached:
        s.cache(operand, s.axes[1].name)  # inside the panel loop, whose turns the copy serves
    fn = run(p, s).fn
    copies = {x.buffer for x in walk_statements(fn.body) if isinstance(x, Store)} - {fn.params[-1].name}
    assert len(copies) == len(cached)


def test_a_whole_tile_keeps_its_sums_in_registers() -> None:
    """One register a position, and one fused multiply-add a position in the innermost loop."""
    p = matmul(6, 16, 12)
    text = print_loops(run(p, tiled(p, 6)).fn)
    assert text.count("fma(") == 6
    assert "when" not in text and "prefix(" not in text


@pytest.mark.parametrize("rows", [1, 5, 12])
def test_symbolic_rows(rows: int) -> None:
    batch = symbol("batch")
    p = problem(
        lambda b, x, y: [b.matmul(x, y)],
        Given(normal(rows, 6), shape=(batch, 6)),
        Given(normal(6, 19, seed=1), constant=True),
        symbols={"batch": (1, 32)},
        values={"batch": rows},
        terms=6,
    )
    run(p, tiled(p, 4))


def test_lanes_along_the_reduction_are_folded_at_the_end() -> None:
    for length in (5, 8, 37):
        p = sums(3, length)
        s = Schedule(program_of(p))
        _, lane = s.split(program_of(p).reduce[0], LANES)
        s.vectorize(lane)
        run(p, s)


def test_orders_that_no_loops_can_have_are_refused() -> None:
    p = matmul(6, 16, 4)
    m, n = (a.name for a in program_of(p).axes)
    s = Schedule(program_of(p))
    s.parallel(n)
    with pytest.raises(ScheduleInvalid, match="parallel loops must be outermost"):
        lower(p.spec, s)
    s = Schedule(program_of(p))
    s.bind(m, "blockIdx.x")
    with pytest.raises(ScheduleInvalid, match=r"blockIdx\.x is of a GPU"):
        lower(p.spec, s)
    s = Schedule(program_of(p))
    outer, _ = s.split(n, 8)
    s.vectorize(outer)
    with pytest.raises(ScheduleInvalid, match="not neighbours along one axis"):
        lower(p.spec, s)


def test_copies_of_padded_reads_are_refused() -> None:
    p = conv(5, 2, 1)
    s = Schedule(program_of(p))
    s.cache(0, s.axes[0].name)
    with pytest.raises(ScheduleInvalid, match="without padding"):
        lower(p.spec, s)


def test_default_schedules_tile_products() -> None:
    p = matmul(24, 64, 32)
    spec = merge_axes(drop_unit_axes(p.spec))
    s = default_schedule(spec, target("c:avx2"), LANES)
    marks = [a.mark for a in s.axes]
    assert marks.count(Mark.PARALLEL) == 1 and marks.count(Mark.VECTOR) == 1 and marks.count(Mark.UNROLL) == 2
    assert s.axes[-1].mark is Mark.VECTOR


def test_compiled_schedules(tmp_path: Path) -> None:
    made = []
    for p in (matmul(13, 40, 9), sums(3, 37), maps(6, 21), pool(9)):
        spec = merge_axes(drop_unit_axes(p.spec))
        fn = lower(spec, default_schedule(spec, target("c:portable"), 4))
        made.append(Built(p, Candidate("scheduled", "test"), fn, []))
    check_compiled(made, "portable", tmp_path)
    assert len({k.fn.name for k in made}) == 4
    assert np.isfinite(made[0].problem.expected[0]).all()
