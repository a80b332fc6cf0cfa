"""States are updated where they lie when nothing reads the old contents any more, else copied once.

Each case runs three times on what the run before has left, beside the interpreter.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from aino_ir.builder import Builder
from aino_ir.errors.run import IndexOutOfRange
from aino_ir.graph import Module, Value
from aino_ir.interp import run_function
from aino_ir.plan import Plan, Run, walk
from aino_ir.runtime.store import Store
from aino_ir.types import tensor
from tests.codegen.native import compile_module, interpret_plan, planned

Array = np.ndarray[Any, Any]
TARGETS = ["c:vec128", "c:cuda-emu"]
CACHE, KEYS, PLACES = tensor("f32", 2, 5, 3), tensor("f32", 2, 1, 3), tensor("i64", 2, 1, 3)

Body = Callable[[Builder, list[Value], list[Value]], tuple[list[Value], list[Value]]]
"""(builder, inputs, states) to (outputs, new states)."""

CASES: dict[str, tuple[Sequence[Any], Sequence[Any], int, Body]] = {}


def case(inputs: Sequence[Any], states: Sequence[Any], copies: int) -> Callable[[Body], Body]:
    """Enter a function that builds a module: types of inputs and states, and how many copies its plan has."""

    def enter(body: Body) -> Body:
        CASES[body.__name__] = (inputs, states, copies, body)
        return body

    return enter


def written(b: Builder, x: Value, places: Value, updates: Value, **a: Any) -> Value:
    return b.scatter_elements(x, places, updates, **{"axis": 1, **a})  # type: ignore[no-any-return]


@case([PLACES, KEYS], [CACHE], 0)
def a_cache(b: Builder, x: list[Value], s: list[Value]) -> Any:
    new = written(b, s[0], *x)
    return [b.reduce_sum(new, axes=(1,))], [new]


@case([PLACES, KEYS], [CACHE], 0)
def a_cache_that_is_summed_up(b: Builder, x: list[Value], s: list[Value]) -> Any:
    return [b.neg(x[1])], [written(b, s[0], *x, reduction="add")]


@case([tensor("i64", 2, 1), tensor("f32", 2, 15)], [tensor("f32", 4, 3, 5)], 0)
def a_cache_seen_in_another_shape(b: Builder, x: list[Value], s: list[Value]) -> Any:
    new = b.scatter_nd(b.reshape(s[0], shape=(4, 15)), *x)
    return [b.exp(new)], [b.reshape(new, shape=(4, 3, 5))]


@case([PLACES, KEYS], [CACHE], 0)
def read_before(b: Builder, x: list[Value], s: list[Value]) -> Any:
    before = b.reduce_sum(b.slice(s[0], starts=(0, 1, 0), sizes=(2, 2, 3), steps=(1, 1, 1)), axes=(1,))
    return [before], [written(b, s[0], *x)]


@case([PLACES, KEYS], [CACHE], 1)
def read_behind(b: Builder, x: list[Value], s: list[Value]) -> Any:
    new = written(b, s[0], *x)
    return [b.mul(new, s[0])], [new]


@case([PLACES, KEYS], [CACHE], 2)
def given_back(b: Builder, x: list[Value], s: list[Value]) -> Any:
    return [s[0]], [written(b, s[0], *x)]


@case([PLACES, KEYS], [CACHE], 1)
def an_output_too(b: Builder, x: list[Value], s: list[Value]) -> Any:
    new = written(b, s[0], *x)
    return [new], [new]


@case([tensor("i64", 2, 5, 3)], [CACHE], 1)
def updated_by_itself(b: Builder, x: list[Value], s: list[Value]) -> Any:
    return [], [written(b, s[0], x[0], s[0])]


@case([tensor("i64", 2, 1, 3)], [CACHE], 1)
def updated_by_a_part_of_itself(b: Builder, x: list[Value], s: list[Value]) -> Any:
    part = b.slice(s[0], starts=(0, 2, 0), sizes=(2, 1, 3), steps=(1, 1, 1))
    return [], [written(b, s[0], x[0], part)]


@case([tensor("f32", 4, 3)], [tensor("f32", 4, 3)], 0)
def a_total(b: Builder, x: list[Value], s: list[Value]) -> Any:
    return [], [b.add(s[0], x[0])]


@case([tensor("f32", 4, 3)], [tensor("f32", 4, 3)], 1)
def its_first_row_added_to_all(b: Builder, x: list[Value], s: list[Value]) -> Any:
    row = b.slice(s[0], starts=(0, 0), sizes=(1, 3), steps=(1, 1))
    return [b.neg(x[0])], [b.add(s[0], row)]


@case([tensor("f32", 3)], [tensor("f32", 3)] * 3, 3 + 2)
def a_shift_register(b: Builder, x: list[Value], s: list[Value]) -> Any:
    return [b.neg(s[2])], [x[0], s[0], s[1]]


@case([], [tensor("f32", 3)] * 2, 2 + 2)
def exchanged(b: Builder, x: list[Value], s: list[Value]) -> Any:
    return [], [s[1], s[0]]


@case([tensor("f32", 3)], [tensor("f32", 3)] * 2, 0)
def unchanged(b: Builder, x: list[Value], s: list[Value]) -> Any:
    return [b.add(x[0], s[1])], [s[0], b.neg(s[1])]


@case([tensor("f32", 3)], [tensor("f32", 3)] * 2, 1)
def kept_twice(b: Builder, x: list[Value], s: list[Value]) -> Any:
    total = b.add(s[0], s[1])
    new = b.exp(x[0])
    return [total], [new, new]


@case([PLACES, KEYS, PLACES, KEYS], [CACHE], 0)
def two_updates_in_a_row(b: Builder, x: list[Value], s: list[Value]) -> Any:
    return [], [written(b, written(b, s[0], *x[:2]), *x[2:])]


@case([CACHE, PLACES, KEYS], [], 0)
def what_dies_is_updated_where_it_lies(b: Builder, x: list[Value], s: list[Value]) -> Any:
    return [b.neg(written(b, b.exp(x[0]), *x[1:]))], []


def built(name: str) -> Module:
    inputs, states, _, body = CASES[name]
    b = Builder()
    x = [b.input(f"x{i}", t) for i, t in enumerate(inputs)]
    outputs, new = body(b, x, [b.state(f"s{i}", t, None) for i, t in enumerate(states)])
    for i, value in enumerate(outputs):
        b.output(f"y{i}", value)
    b.finish(new)
    return b.module


def some(type: Any, rng: np.random.Generator) -> Array:
    if type.dtype.is_integer:
        return rng.integers(-2, 2, type.shape).astype(np.int64)
    return rng.standard_normal(type.shape).astype(np.float32)


def copies(plan: Plan) -> int:
    """Kernels that a plan has only to copy; an update that is not in place copies its operand itself."""
    return sum(plan.kernels[s.kernel].spec.anchor == "copy" for s in walk(plan.steps) if isinstance(s, Run))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", list(CASES))
def test_runs_leave_what_the_interpreter_leaves(name: str, target: str) -> None:
    inputs, states, wanted, _ = CASES[name]
    module, rng = built(name), np.random.default_rng(5)
    plan = planned(module, target)
    found = [some(t, rng) for t in states]
    expected: Sequence[Any] = [s.copy() for s in found]
    for _ in range(3):
        given = [some(t, rng) for t in inputs]
        results = run_function(module.main, given, states=expected)
        count = len(module.main.output_names)
        outputs, expected = results[:count], results[count:]
        got = interpret_plan(plan, given, states=found)
        for a, b in zip([*got, *found], [*outputs, *expected], strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    assert copies(plan) == wanted


def test_what_is_updated_in_place_copies_no_element() -> None:
    """The kernel's only loops are those over the updates."""
    for name, kernels in (("a_cache", 1), ("what_dies_is_updated_where_it_lies", 1), ("read_behind", 0)):
        plan = planned(built(name))
        specs = [k.spec for k in plan.kernels.values() if k.spec.anchor == "scatter_elements"]
        assert sum(s.results[0].aliases == 0 for s in specs) == kernels, name


def test_a_run_that_fails_names_the_node_and_later_ones_go_on(tmp_path: Any) -> None:
    native = compile_module(built("a_cache"), Store(tmp_path))
    keys = np.ones((2, 1, 3), np.float32)
    with pytest.raises(IndexOutOfRange):
        native.run([np.full((2, 1, 3), 5), keys])
    (total,) = native.run([np.full((2, 1, 3), 4), keys])
    np.testing.assert_array_equal(total, np.ones((2, 3), np.float32))
