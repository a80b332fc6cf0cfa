"""If, loop and scan: what they compute, what types they have, what they refuse."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from aino_ir.builder import Builder, op_class
from aino_ir.dims import Dim
from aino_ir.errors.ir import BadAttribute, BadOperand, DTypeMismatch, ShapeMismatch
from aino_ir.graph import Module
from aino_ir.interp import run_module
from aino_ir.types import tensor

F = tensor("f32", 2)
FLAG, COUNT = tensor("bool"), tensor("i64")


def finish(b: Builder, values: Any) -> Module:
    for i, value in enumerate(values):
        b.output(f"y{i}", value)
    return b.module


def choice(then: Any, otherwise: Any) -> Module:
    b = Builder()
    c, x = b.input("c", FLAG), b.input("x", F)
    regions = [b.region([F], then), b.region([F], otherwise)]

    return finish(b, b.op(op_class("control.if"), c, x, regions=regions).results)


def test_a_choice_runs_one_region() -> None:
    module = choice(lambda b, x: [b.add(x, x)], lambda b, x: [b.mul(x, x)])
    x = np.array([3, 4], np.float32)
    assert run_module(module, [np.True_, x])[0].tolist() == [6, 8]
    assert run_module(module, [np.False_, x])[0].tolist() == [9, 16]


def test_extents_that_differ_depend_on_data() -> None:
    module = choice(lambda b, x: [b.concat(x, x, axis=0)], lambda b, x: [x])
    (out,) = module.main.outputs
    assert isinstance(out.shape[0], Dim)
    x = np.array([3, 4], np.float32)
    assert [run_module(module, [np.bool_(c), x])[0].shape for c in (True, False)] == [(4,), (2,)]


@pytest.mark.parametrize(
    ("then", "otherwise", "error"),
    [
        (lambda b, x: [x, x], lambda b, x: [x], BadOperand),
        (lambda b, x: [b.cast(x, to="f64")], lambda b, x: [x], BadOperand),
        (lambda b, x: [b.reshape(x, shape=(1, 2))], lambda b, x: [x], BadOperand),
    ],
)
def test_regions_of_a_choice_must_agree(then: Any, otherwise: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        choice(then, otherwise)


def test_arguments_of_regions_are_checked() -> None:

    for arguments, error in (
        ([], BadOperand),
        ([tensor("f64", 2)], DTypeMismatch),
        ([tensor("f32", 3)], ShapeMismatch),
    ):
        b = Builder()
        c, x = b.input("c", FLAG), b.input("x", F)
        regions = [b.region(arguments, lambda b, *a: [b.constant(np.float32(1))]) for _ in range(2)]
        with pytest.raises(error):
            b.op(op_class("control.if"), c, x, regions=regions)
    b = Builder()
    with pytest.raises(DTypeMismatch):
        b.op(op_class("control.if"), b.input("x", F), regions=[b.region([], lambda b: []) for _ in range(2)])


def doubling(limit: float) -> Module:
    """x doubled while its first element is below a limit; the values on the way are stacked."""
    b = Builder()
    trips, x = b.input("trips", COUNT), b.input("x", F)

    def body(b: Builder, turn: Any, go: Any, now: Any) -> Any:
        new = b.add(now, now)
        first = b.reshape(b.slice(new, starts=(0,), sizes=(1,), steps=(1,)), shape=())
        return [b.lt(first, b.constant(np.float32(limit))), new, new]

    region = b.region([COUNT, FLAG, F], body)
    return finish(b, b.op(op_class("control.loop"), trips, None, x, carried=1, regions=[region]).results)


def test_a_loop_ends_by_count_or_condition() -> None:
    x = np.array([1, 3], np.float32)
    last, stack = run_module(doubling(100), [np.int64(3), x])
    assert last.tolist() == [8, 24]
    assert stack.tolist() == [[2, 6], [4, 12], [8, 24]]
    last, stack = run_module(doubling(4), [np.int64(9), x])
    assert stack.tolist() == [[2, 6], [4, 12]]
    last, stack = run_module(doubling(4), [np.int64(0), x])
    assert last.tolist() == [1, 3]
    assert stack.shape == (0, 2)


def test_extents_of_a_turn_are_forgotten() -> None:
    """Each turn selects another number of elements; only their sum leaves the region."""
    b = Builder()
    x = b.input("x", tensor("i64", 4))

    def body(b: Builder, turn: Any, go: Any, total: Any, x: Any) -> Any:
        found = b.compress(x, b.gt(x, turn), axis=0)
        return [go, b.add(total, b.sum(found))]

    region = b.region([COUNT, FLAG, COUNT, tensor("i64", 4)], body)
    zero, three = b.constant(np.int64(0)), b.constant(np.int64(3))
    results = b.op(op_class("control.loop"), three, None, zero, x, carried=1, regions=[region]).results
    (total,) = run_module(finish(b, results), [np.array([1, 2, 3, 0])])
    assert int(total) == 6 + 5 + 3


def running_sum() -> Module:

    b = Builder()
    start, xs = b.input("start", F), b.input("xs", tensor("f32", b.symbol("steps"), 2))
    region = b.region([F, F], lambda b, s, x: [b.add(s, x), b.add(s, x)])
    return finish(b, b.op(op_class("control.scan"), start, xs, states=1, regions=[region]).results)


@pytest.mark.parametrize("steps", [0, 1, 5])
def test_a_scan_carries_states(steps: int) -> None:
    xs = np.arange(2 * steps, dtype=np.float32).reshape(steps, 2)
    last, stack = run_module(running_sum(), [np.ones(2, np.float32), xs])
    assert stack.tolist() == (1 + np.cumsum(xs, 0)).tolist()
    assert last.tolist() == (1 + xs.sum(0)).tolist()


def test_illegal_loops_and_scans_are_refused() -> None:

    b = Builder()
    x, xs = b.input("x", F), b.input("xs", tensor("f32", 3, 2))
    twice = b.region([COUNT, FLAG, F], lambda b, i, c, x: [c, x])
    with pytest.raises(BadAttribute):
        b.op(op_class("control.loop"), None, None, x, carried=2, regions=[twice])
    with pytest.raises(BadOperand):
        b.op(op_class("control.loop"), None, None, x, xs, carried=1, regions=[twice])
    with pytest.raises(BadAttribute):
        b.op(op_class("control.scan"), x, states=1, sequences=0, regions=[b.region([F], lambda b, s: [s])])
    with pytest.raises(BadOperand):
        b.op(op_class("control.scan"), x, xs, states=1, regions=[b.region([F, F], lambda b, s, x: [])])
    wider = b.region([F, F], lambda b, s, x: [b.concat(s, x, axis=0)])
    with pytest.raises(ShapeMismatch):
        b.op(op_class("control.scan"), x, xs, states=1, regions=[wider])


def test_counts_and_conditions_have_their_dtypes() -> None:
    def loop(types: list[Any], trips: Any, condition: Any, body: Any, **attributes: Any) -> None:
        b = Builder()
        x = b.input("x", F)
        given = [None if t is None else b.input(n, t) for n, t in (("trips", trips), ("start", condition))]
        regions = [b.region(types, body)]
        b.op(op_class("control.loop"), *given, x, carried=1, regions=regions, **attributes)

    fine = [COUNT, FLAG, F]
    loop(fine, tensor("i32"), FLAG, lambda b, i, c, x: [c, x])
    with pytest.raises(DTypeMismatch, match="trips"):
        loop(fine, tensor("f32"), None, lambda b, i, c, x: [c, x])
    for types, condition, what in (
        ([tensor("i32"), FLAG, F], None, "iteration"),
        ([COUNT, COUNT, F], None, "body's condition"),
        (fine, COUNT, "condition"),
    ):
        with pytest.raises(BadOperand, match=what):
            loop(types, None, condition, lambda b, i, c, x: [c, x])
    with pytest.raises(BadOperand, match="next condition"):
        loop(fine, None, None, lambda b, i, c, x: [i, x])
    with pytest.raises(BadOperand, match="counted"):
        loop(fine, None, None, lambda b, i, c, x: [c, x], counted=True)


def test_a_counted_loop_has_all_its_turns() -> None:
    b = Builder()
    x = b.input("x", F)
    region = b.region([COUNT, FLAG, F], lambda b, i, c, x: [b.constant(np.array(True)), b.add(x, x), x])
    trips = b.constant(np.int64(3))
    results = b.op(
        op_class("control.loop"), trips, None, x, carried=1, counted=True, regions=[region]
    ).results
    assert results[1].shape == (3, 2)
    last, stack = run_module(finish(b, results), [np.array([1, 2], np.float32)])
    assert last.tolist() == [8, 16] and stack[:, 0].tolist() == [1, 2, 4]
