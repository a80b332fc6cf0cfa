"""Choices, loops and scans as native code: the interpreter's results, on one thread and on two."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from aino_ir.builder import Builder, op_class
from aino_ir.codegen.c import steps
from aino_ir.codegen.c.interface import work_of
from aino_ir.codegen.lower.legality import obstacles
from aino_ir.errors.plan import PlanUnsafe
from aino_ir.errors.run import NativeDivisionByZero
from aino_ir.graph import Module
from aino_ir.interp import run_module
from aino_ir.location import Loc
from aino_ir.passes.insert_barriers import check_barriers
from aino_ir.passes.plan_memory import check_memory, live_ranges
from aino_ir.plan import Branch, BufferKind, Plan, Repeat, Run, Step, Sync, runs, size, walk
from aino_ir.runtime.store import Store
from aino_ir.types import TensorType, tensor
from tests.codegen.native import Native, compile_module, compile_plan, interpret_plan, planned
from tests.codegen.region_cases import (
    CASES,
    COUNT,
    TARGET,
    Array,
    count,
    finish,
    loop,
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("store"))


def interpreted(module: Module, inputs: Sequence[Array]) -> list[Array]:
    return [np.asarray(y) for y in run_module(module, list(inputs))]


def same(got: Sequence[Array], wanted: Sequence[Array]) -> None:
    for a, b in zip(got, wanted, strict=True):
        assert a.shape == b.shape and a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("name", CASES)
def test_regions_give_what_the_interpreter_gives(name: str, store: Store) -> None:
    case = CASES[name]()
    assert not list(obstacles(case.module.main))
    plan = planned(case.module, TARGET)
    models = [compile_plan(plan, store, TARGET, threads) for threads in (1, 2)]
    for inputs, symbols in zip(case.inputs, case.symbols, strict=True):
        wanted = interpreted(case.module, inputs)
        same(interpret_plan(plan, inputs, symbols), wanted)
        for model in models:
            same(run(model, inputs, symbols), wanted)


def run(model: Native, inputs: Sequence[Array], symbols: dict[str, int]) -> list[Array]:
    return model.run([np.asarray(a) for a in inputs], symbols)


@pytest.mark.parametrize(
    "name", ["loops_in_loops", "a_choice_in_a_loop", "a_loop_that_ends_early", "choices_in_choices"]
)
@pytest.mark.parametrize("limit", [1, 4])
def test_long_plans_are_cut_into_functions(name: str, limit: int, store: Store, monkeypatch: Any) -> None:
    monkeypatch.setattr(steps, "STRAIGHT_LINE_STEPS", limit)
    case = CASES[name]()
    model = compile_module(case.module, store, TARGET, 2)
    for inputs, symbols in zip(case.inputs, case.symbols, strict=True):
        same(run(model, inputs, symbols), interpreted(case.module, inputs))


# ---------------------------------------------------------------------------------- plans


def without(given: Sequence[Step], place: int) -> list[Step]:
    """The steps without the one that has a number (barriers hold no others)."""
    left = place
    out: list[Step] = []
    for step in given:
        inner = size([step])
        if left == 0:
            left = -1
            continue
        if 0 < left < inner:
            if isinstance(step, Repeat):
                step = replace(step, body=tuple(without(step.body, left - 1)))
            elif isinstance(step, Branch):
                behind = left - 1 - size(step.then)
                if behind < 0:
                    step = replace(step, then=tuple(without(step.then, left - 1)))
                else:
                    step = replace(step, otherwise=tuple(without(step.otherwise, behind)))
        left -= inner
        out.append(step)
    return out


@pytest.mark.parametrize("name", CASES)
def test_every_barrier_is_needed(name: str) -> None:
    plan = planned(CASES[name]().module, TARGET)
    places = [i for i, s in enumerate(walk(plan.steps)) if isinstance(s, Sync)]
    for place in places:
        broken = replace(plan, steps=without(plan.steps, place))
        assert size(broken.steps) == size(plan.steps) - 1
        with pytest.raises(PlanUnsafe):
            check_barriers(broken)


def test_a_missing_barrier_at_the_back_edge_is_found() -> None:
    """A turn's last kernel and the next turn's first conflict, though no two kernels of one turn do."""
    b = Builder()
    x = b.input("x", tensor("f32", 2, 1000))

    def body(b: Any, t: Any, go: Any, x: Any) -> Any:
        return [go, b.exp(b.neg(b.reshape(b.transpose(x, perm=(1, 0)), shape=(2, 1000))))]

    plan = planned(finish(b, loop(b, b.constant(np.int64(3)), None, [x], [], body, counted=True)), TARGET)
    (repeat,) = (s for s in plan.steps if isinstance(s, Repeat))
    first = next(i for i, s in enumerate(repeat.body) if isinstance(s, Sync))
    assert first == 0
    check_barriers(plan)
    moved = [*plan.steps[: plan.steps.index(repeat)], Sync(), replace(repeat, body=repeat.body[1:])]
    with pytest.raises(PlanUnsafe):
        check_barriers(replace(plan, steps=moved))


def anchors(plan: Plan, given: Sequence[Step]) -> list[str]:
    return [plan.kernels[s.kernel].spec.anchor for s in walk(given) if isinstance(s, Run)]


def test_new_states_are_made_over_the_old_ones() -> None:
    plan = planned(CASES["a_recurrent_cell"]().module, TARGET)
    (repeat,) = (s for s in plan.steps if isinstance(s, Repeat))
    assert "copy" not in anchors(plan, repeat.body)  # the state that is stacked is its own history
    cell = next(
        s for s in repeat.body if isinstance(s, Run) and plan.kernels[s.kernel].spec.label == "math.add"
    )
    assert cell is not None


def test_first_values_are_made_in_place() -> None:
    b = Builder()
    n, x = b.input("n", COUNT), b.input("x", tensor("f32", 8))
    out = loop(b, n, None, [b.neg(x)], [], lambda b, t, go, now: [go, b.exp(b.neg(now))])
    plan = planned(finish(b, out), TARGET)
    assert anchors(plan, plan.steps[:2])[0] == "neg"
    assert "copy" not in anchors(plan, [s for s in plan.steps if not isinstance(s, Repeat)])


def test_a_turn_in_a_branch_reuses_memory_but_captures_live_on() -> None:
    b = Builder()
    n, x = b.input("n", COUNT), b.input("x", tensor("f32", 100))
    capture = b.exp(x)

    def body(b: Any, t: Any, go: Any, now: Any, capture: Any) -> Any:
        for _ in range(3):
            now = b.transpose(b.reshape(b.cumsum(b.mul(now, capture)), shape=(10, 10)), perm=(1, 0))
            now = b.reshape(now, shape=(100,))
        return [go, now]

    plan = planned(finish(b, loop(b, n, None, [x], [capture], body)), TARGET)
    live = live_ranges(plan)
    place = plan.steps.index(next(s for s in plan.steps if isinstance(s, Repeat)))
    kept = runs_of(plan)[0].views[-1].buffer
    assert live[kept][0] < place and live[kept][1] == size(plan.steps) - 1
    made = {v.buffer for r in runs(plan) for v in r.views if plan.buffers[v.buffer].kind is BufferKind.ARENA}
    assert int(plan.arena_bytes) < 448 * len(made)  # type: ignore[arg-type]
    for other in sorted(made - {kept}):  # planted: something of a turn over the capture
        broken = replace(plan, buffers=[replace(x) for x in plan.buffers])
        broken.buffers[other].offset = broken.buffers[kept].offset
        with pytest.raises(PlanUnsafe):
            check_memory(broken)


def runs_of(plan: Plan) -> list[Run]:
    return list(runs(plan))


def test_threads_are_worth_their_waiting() -> None:
    """A loop's work counts turn by turn, and so do its barriers."""

    def cell(steps: int, width: int) -> Module:
        b = Builder()
        s, xs = b.input("s", tensor("f32", 1, width)), b.input("xs", tensor("f32", steps, 1, width))
        w = b.constant(np.ones((width, width), np.float32))
        body = [s.type, TensorType(s.dtype, (1, width))]
        region = b.region(body, lambda b, s, x: [b.tanh(b.add(x, b.matmul(s, b.constant(w.op.value))))])
        return finish(b, b.op(op_class("control.scan"), s, xs, states=1, regions=[region]).results)

    once, often = (int(work_of(planned(cell(n, 512), TARGET))) for n in (1, 100))  # type: ignore[arg-type]
    assert 50 * once < often < 150 * once
    assert int(work_of(planned(cell(1000, 16), TARGET))) < 0  # type: ignore[arg-type]


def test_a_failure_inside_a_loop_names_the_node(store: Store) -> None:
    b = Builder()
    n, x = b.input("n", COUNT), b.input("x", tensor("i32", 4))

    def body(b: Any, t: Any, go: Any, now: Any) -> Any:
        b.loc = Loc(("onnx:'quotient' (Div)",))
        return [go, b.div(now, b.sub(b.constant(np.int32(2)), b.cast(t, to="i32")))]

    module = finish(b, loop(b, n, None, [x], [], body))
    for threads in (1, 2):
        model = compile_module(module, store, TARGET, threads)
        assert model.run([count(2), np.full(4, 8, np.int32)])[0].tolist() == [8 // 2 // 1] * 4
        with pytest.raises(NativeDivisionByZero, match="quotient"):
            model.run([count(3), np.full(4, 8, np.int32)])
