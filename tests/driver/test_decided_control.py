"""Control flow whose results have extents that the run decides: grown stacks, choices, carried values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
import pytest

import aino_ir as aino
from aino_ir.builder import Builder, op_class
from aino_ir.errors.run import NativeShapeError
from aino_ir.graph import Module, Value
from aino_ir.interp import run_module
from aino_ir.symbols import LOCAL
from aino_ir.types import StringType, TensorType, tensor

Array = np.ndarray[Any, Any]
FLAG, COUNT, F = tensor("bool"), tensor("i64"), tensor("f32", 4)


def loop(
    b: Builder,
    trips: Any,
    start: Any,
    carried: Sequence[Value],
    types: Sequence[Any],
    captures: Any,
    body: Any,
) -> Any:
    """A `control.loop` whose carried arguments have given types."""
    region = b.region([COUNT, FLAG, *types, *(v.type for v in captures)], body)
    cls = op_class("control.loop")
    return b.op(cls, trips, start, *carried, *captures, carried=len(carried), regions=[region]).results


def choice(b: Builder, condition: Value, captures: Sequence[Value], then: Any, otherwise: Any) -> Any:
    types = [v.type for v in captures]
    return b.op(
        op_class("control.if"),
        condition,
        *captures,
        regions=[b.region(types, then), b.region(types, otherwise)],
    ).results


def changing(b: Builder, name: str, dtype: str = "f32", rest: tuple[int, ...] = ()) -> TensorType:
    """The type of a carried value whose first extent changes."""
    extent = b.function.symbols.new(name, 0, None, origin=LOCAL)
    return tensor(dtype, extent, *rest)


def finish(b: Builder, values: Sequence[Value]) -> Module:
    for i, value in enumerate(values):
        b.output(f"y{i}", value)
    return b.module


def count(n: int) -> Array:
    return np.array(n, np.int64)


def ramp(n: int) -> Array:
    return np.arange(1, n + 1, dtype=np.float32)


CASES: dict[str, Callable[[], tuple[Module, list[list[Array]]]]] = {}


def case(build: Any) -> Any:
    CASES[build.__name__] = build
    return build


@case
def a_stack_that_grows() -> Any:
    """Doubled until the largest is big; what comes on the way is stacked, of any number of turns."""
    b = Builder()
    trips, x = b.input("trips", COUNT), b.input("x", F)

    def body(b: Any, t: Any, go: Any, x: Any) -> Any:
        new = b.add(x, x)
        return [b.lt(b.reduce_max(new), b.constant(np.float32(100))), new, new, t]

    last, stack, turns = loop(b, trips, None, [x], [F], [], body)
    total = b.reduce_sum(stack, axes=(0,))
    return finish(b, [last, stack, b.neg(stack), total, turns]), [[count(n), ramp(4)] for n in (9, 3, 0, 1)]


@case
def a_stack_of_nothing() -> Any:
    """A stack whose elements have no elements needs no memory, whatever the turns."""
    b = Builder()
    trips, x, empty = b.input("trips", COUNT), b.input("x", F), b.input("empty", tensor("f32", 0, 3))

    def body(b: Any, t: Any, go: Any, x: Any, empty: Any) -> Any:
        return [go, b.add(x, x), b.neg(x), b.add(empty, empty)]

    last, stack, nothing = loop(b, trips, None, [x], [F], [empty], body)
    arrays = [[count(n), ramp(4), np.zeros((0, 3), np.float32)] for n in (5, 0)]
    return finish(b, [last, stack, nothing]), arrays


@case
def a_stack_without_any_bound() -> Any:
    b = Builder()
    x, limit = b.input("x", F), b.input("limit", tensor("f32"))

    def body(b: Any, t: Any, go: Any, x: Any, limit: Any) -> Any:
        new = b.add(x, b.constant(np.float32(1)))
        return [b.lt(b.reduce_max(new), limit), new, b.reshape(new, shape=(2, 2))]

    _, stack = loop(b, None, None, [x], [F], [limit], body)
    return finish(b, [stack]), [[ramp(4), np.array(n, np.float32)] for n in (0, 5, 300)]


@case
def a_loop_that_never_starts() -> Any:
    b = Builder()
    start, x = b.input("start", FLAG), b.input("x", F)

    def body(b: Any, t: Any, go: Any, x: Any) -> Any:
        return [b.lt(t, b.constant(np.int64(2))), b.exp(x), x]

    return finish(b, loop(b, None, start, [x], [F], [], body)), [
        [np.array(s), ramp(4)] for s in (True, False)
    ]


@case
def a_choice_of_extents() -> Any:
    b = Builder()
    c, x = b.input("c", FLAG), b.input("x", tensor("f32", b.symbol("n"), 3))

    def then(b: Any, x: Any) -> Any:
        return [b.concat(b.exp(x), x, axis=0), x, b.reduce_sum(x)]

    def otherwise(b: Any, x: Any) -> Any:
        return [x, b.concat(x, x, x, axis=0), b.reduce_max(x, axes=(0, 1))]

    long, other, sum_ = choice(b, c, [x], then, otherwise)
    behind = b.neg(b.concat(long, other, axis=0))
    values = [[np.array(c), ramp(3 * n).reshape(n, 3)] for c in (True, False) for n in (1, 4)]
    return finish(b, [long, behind, sum_, b.add(long, b.reduce_sum(long, axes=(0,)))]), values


@case
def a_value_that_grows() -> Any:
    """What a decoder does with its cache."""
    b = Builder()
    n, x = b.input("n", COUNT), b.input("x", tensor("f32", 2, 3))

    def body(b: Any, t: Any, go: Any, cache: Any, sum_: Any, x: Any) -> Any:
        longer = b.concat(cache, b.mul(x, b.cast(t, to="f32")), axis=0)
        return [go, longer, b.add(sum_, b.reduce_sum(longer, axes=(0,)))]

    zero = b.constant(np.zeros(3, np.float32))
    out = loop(b, n, None, [x, zero], [changing(b, "c", rest=(3,)), tensor("f32", 3)], [x], body)
    return finish(b, [*out, b.exp(b.neg(out[0]))]), [[count(n), ramp(6).reshape(2, 3)] for n in (0, 1, 2, 40)]


@case
def values_that_change_places_and_extents() -> Any:
    b = Builder()
    n, x, y = b.input("n", COUNT), b.input("x", tensor("f32", 5)), b.input("y", tensor("f32", 2))

    def body(b: Any, t: Any, go: Any, x: Any, y: Any) -> Any:
        return [go, y, b.concat(x, y, axis=0)]

    out = loop(b, n, None, [x, y], [changing(b, "c"), changing(b, "d")], [], body)
    return finish(b, out), [[count(n), ramp(5), ramp(2)] for n in (0, 1, 2, 7)]


@case
def a_value_that_shrinks() -> Any:
    """Each turn keeps what is larger than its number: an op in the body decides how much."""
    b = Builder()
    n, x = b.input("n", COUNT), b.input("x", tensor("i64", 8))

    def body(b: Any, t: Any, go: Any, x: Any) -> Any:
        return [go, b.compress(x, b.gt(x, t), axis=0)]

    out = loop(b, n, None, [x], [changing(b, "c", "i64")], [], body)
    values = np.array([3, 0, 5, 1, 4, 1, 2, 6], np.int64)
    return finish(b, out), [[count(n), values] for n in (0, 1, 3, 9)]


@case
def a_turn_that_decides_extents_for_itself() -> Any:
    b = Builder()
    n, x = b.input("n", COUNT), b.input("x", tensor("i64", 6))

    def body(b: Any, t: Any, go: Any, total: Any, x: Any) -> Any:
        found = b.compress(x, b.gt(x, t), axis=0)
        twice = b.concat(found, found, axis=0)
        return [go, b.add(total, b.reduce_sum(twice)), total]

    total, stack = loop(b, n, None, [b.constant(np.int64(0))], [COUNT], [x], body)
    return finish(b, [total, stack]), [[count(n), np.array([1, 2, 3, 0, 4, 4])] for n in (0, 1, 3, 6)]


@case
def grown_stacks_in_a_loop() -> Any:
    b = Builder()
    n, x = b.input("n", COUNT), b.input("x", F)

    def outer(b: Any, t: Any, go: Any, total: Any, x: Any) -> Any:
        def inner(b: Any, u: Any, go: Any, now: Any) -> Any:
            return [b.lt(b.reduce_max(now), b.constant(np.float32(30))), b.add(now, now), now]

        _, stack = loop(b, t, None, [b.add(x, total)], [F], [], inner)
        return [go, b.add(total, b.reduce_sum(stack, axes=(0,)))]

    out = loop(b, n, None, [b.mul(x, b.constant(np.float32(0)))], [F], [x], outer)
    return finish(b, out), [[count(n), ramp(4)] for n in (0, 1, 2, 4)]


@case
def a_scan_of_what_was_found() -> Any:
    """As many turns as elements are positive; the state is stacked and so kept as a history."""
    b = Builder()
    s, xs = b.input("s", tensor("f32")), b.input("xs", tensor("f32", 9))
    found = b.compress(xs, b.gt(xs, b.constant(np.float32(0))), axis=0)

    def body(b: Any, s: Any, x: Any) -> Any:
        new = b.add(s, x)
        return [new, new]

    region = b.region([s.type, tensor("f32")], body)
    last, sums = b.op(op_class("control.scan"), s, found, states=1, regions=[region]).results
    inputs = [
        [np.float32(1).reshape(()), x.astype(np.float32)] for x in (np.arange(-4, 5), np.zeros(9), np.ones(9))
    ]
    return finish(b, [last, sums, b.neg(sums)]), inputs


@case
def a_choice_that_decides() -> Any:
    """A region counts; what it returns is as long as it says."""
    b = Builder()
    c, x = b.input("c", FLAG), b.input("x", tensor("i64", 6))

    def then(b: Any, x: Any) -> Any:
        return [b.compress(x, b.gt(x, b.constant(np.int64(2))), axis=0), x]

    def otherwise(b: Any, x: Any) -> Any:
        return [b.concat(x, x, axis=0), b.compress(b.neg(x), b.gt(x, b.constant(np.int64(3))), axis=0)]

    first, second = choice(b, c, [x], then, otherwise)
    values = np.array([1, 5, 2, 3, 9, 0], np.int64)
    inputs = [[np.array(c), v] for c in (True, False) for v in (values, values * 0)]
    return finish(b, [first, second, b.add(b.reduce_sum(first), b.reduce_sum(second))]), inputs


@case
def elements_whose_extents_the_turns_decide() -> Any:
    b = Builder()
    n, x = b.input("n", COUNT), b.input("x", tensor("i64", 6))

    def body(b: Any, t: Any, go: Any, total: Any, x: Any) -> Any:
        found = b.compress(x, b.gt(x, b.constant(np.int64(2))), axis=0)
        return [go, b.add(total, b.reduce_sum(found)), b.add(found, t)]

    out = loop(b, n, None, [b.constant(np.int64(0))], [COUNT], [x], body)
    values = np.array([1, 5, 2, 3, 9, 0], np.int64)
    return finish(b, out), [[count(n), v] for n in (0, 1, 5) for v in (values, values * 0)]


@pytest.mark.parametrize(
    ("name", "level"), [*((n, 2) for n in CASES), ("values_that_change_places_and_extents", 0)]
)
def test_it_gives_what_the_interpreter_gives(name: str, level: int) -> None:
    module, inputs = CASES[name]()
    executables = [aino.compile(module, level=level, threads=threads) for threads in (1, 2)]
    for given in inputs:
        wanted = run_module(module, list(given))
        for exe in executables:
            for got, want in zip(exe.run(*given), wanted, strict=True):
                assert got.shape == np.shape(want)
                np.testing.assert_allclose(got, want, rtol=1e-5)


GROWING = """
grow (int64 n, bool go, float[1] y) => (float[1] last, float[k, 1] all) {
    last, all = Loop (n, go, y) <body = body (int64 i, bool c, float[1] s) => (bool d, float[1] t, float[1] u) {
        d = Identity (c)
        one = Constant <value_floats = [1.0]>()
        t = Add (s, one)
        u = Identity (t)
    }>
}
"""


def test_an_onnx_loop_of_any_number_of_turns() -> None:
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]>\n{GROWING}')
    exe = aino.compile(model, threads=2)
    for n in (5, 0, 1):
        last, all_ = exe.run(count(n), np.array(True), np.zeros(1, np.float32))
        assert all_.tolist() == [[float(i + 1)] for i in range(n)] and last.tolist() == [float(n)]
    assert exe.run(count(3), np.array(False), np.zeros(1, np.float32))[1].shape == (0, 1)


def test_elements_of_several_extents_cannot_be_stacked() -> None:
    b = Builder()
    n, x = b.input("n", COUNT), b.input("x", tensor("i64", 6))

    def body(b: Any, t: Any, go: Any, x: Any) -> Any:
        return [go, b.compress(x, b.gt(x, t), axis=0)]

    module = finish(b, loop(b, n, None, [], [], [x], body))
    values = np.array([5, 5, 1, 5, 5, 5], np.int64)
    for threads in (1, 2):
        exe = aino.compile(module, threads=threads)
        assert exe.run(count(1), values)[0].shape == (1, 6)
        with pytest.raises(NativeShapeError):
            exe.run(count(2), values)


def test_a_loop_beside_what_runs_in_python() -> None:
    """A grown value leaves its native function, is read in Python's neighbourhood, and enters another."""
    b = Builder()
    n, x, word = b.input("n", COUNT), b.input("x", tensor("f32", 2)), b.input("word", StringType((1,)))

    def body(b: Any, t: Any, go: Any, now: Any) -> Any:
        return [go, b.concat(now, b.exp(b.neg(now)), axis=0)]

    (grown,) = loop(b, n, None, [x], [changing(b, "c")], [], body)
    loud = b.op(op_class("text.concat"), word, word).result
    module = finish(b, [b.neg(grown), loud, b.reduce_sum(grown)])
    exe = aino.compile(module, threads=2)
    for turns in (0, 3):
        given = [count(turns), ramp(2), np.array(["ab"], object)]
        wanted = run_module(module, given)
        got = exe.run(*given)
        np.testing.assert_allclose(got[0], wanted[0], rtol=1e-5)
        assert got[0].shape == (2 * 2**turns,) and got[1].tolist() == ["abab"]
        np.testing.assert_allclose(got[2], wanted[2], rtol=1e-5)
    assert exe.host_steps > 0
