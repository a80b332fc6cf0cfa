"""Modules with choices, loops and scans, and inputs for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from aino_ir.builder import Builder, op_class
from aino_ir.graph import Module, Value
from aino_ir.types import TensorType, tensor

Array = np.ndarray[Any, Any]
RNG = np.random.default_rng(11)
FLAG, COUNT = tensor("bool"), tensor("i64")
TARGET = "c:vec128"


def normal(*shape: int) -> Array:
    return RNG.standard_normal(shape).astype(np.float32)


def count(number: int) -> Array:
    return np.array(number, np.int64)


def flag(value: bool) -> Array:
    return np.array(value)


def loop(
    b: Builder,
    trips: Any,
    condition: Any,
    carried: Sequence[Value],
    captures: Sequence[Value],
    body: Any,
    **a: Any,
) -> Any:
    """The results of a `control.loop`; `body(b, turn, condition, carried..., captures...)`."""
    types = [COUNT, FLAG, *(v.type for v in (*carried, *captures))]
    region = b.region(types, body)
    cls = op_class("control.loop")
    return b.op(
        cls, trips, condition, *carried, *captures, carried=len(carried), regions=[region], **a
    ).results


def choice(b: Builder, condition: Value, captures: Sequence[Value], then: Any, otherwise: Any) -> Any:
    """The results of a `control.if`."""
    types = [v.type for v in captures]
    regions = [b.region(types, then), b.region(types, otherwise)]
    return b.op(op_class("control.if"), condition, *captures, regions=regions).results


def scan(
    b: Builder, states: Sequence[Value], sequences: Sequence[Value], captures: Sequence[Value], body: Any
) -> Any:
    """The results of a `control.scan`."""
    types: list[Any] = [v.type for v in states]
    types += [TensorType(v.dtype, v.shape[1:]) for v in sequences]
    region = b.region([*types, *(v.type for v in captures)], body)
    values = (*states, *sequences, *captures)
    cls = op_class("control.scan")
    return b.op(cls, *values, states=len(states), sequences=len(sequences), regions=[region]).results


def finish(b: Builder, values: Sequence[Value]) -> Module:
    for i, value in enumerate(values):
        b.output(f"y{i}", value)
    return b.module


class Case:
    """A module with several lists of inputs."""

    def __init__(
        self, module: Module, *inputs: Sequence[Array], symbols: Sequence[dict[str, int]] = ()
    ) -> None:
        self.module = module
        self.inputs = inputs
        self.symbols = symbols or [{}] * len(inputs)


CASES: dict[str, Callable[[], Case]] = {}


def case(build: Callable[[], Case]) -> Callable[[], Case]:
    CASES[build.__name__] = build
    return build


@case
def a_choice() -> Case:
    b = Builder()
    c, x = b.input("c", FLAG), b.input("x", tensor("f32", 3, 70))
    out = choice(b, c, [x], lambda b, x: [b.exp(b.neg(x)), x], lambda b, x: [b.relu(x), b.exp(x)])
    return Case(finish(b, [b.neg(out[0]), *out]), [flag(True), normal(3, 70)], [flag(False), normal(3, 70)])


@case
def a_choice_of_constants_and_captures() -> Case:
    b = Builder()
    c, x, y = b.input("c", FLAG), b.input("x", tensor("f32", 5)), b.input("y", tensor("f32", 5))
    one = np.ones(5, np.float32)
    out = choice(b, c, [x, y], lambda b, x, y: [b.constant(one), y, x], lambda b, x, y: [x, x, x])
    return Case(finish(b, out), [flag(True), normal(5), normal(5)], [flag(False), normal(5), normal(5)])


@case
def a_choice_in_a_concatenation() -> Case:
    b = Builder()
    c, x = b.input("c", FLAG), b.input("x", tensor("f32", 4, 6))

    def slices(b: Any, x: Any) -> Any:
        return [b.slice(x, starts=(1, 0), sizes=(2, 6), steps=(1, 1))]

    (part,) = choice(
        b, c, [x], slices, lambda b, x: [b.exp(b.slice(x, starts=(0, 0), sizes=(2, 6), steps=(1, 1)))]
    )
    both = b.concat(part, b.neg(x), axis=0)
    return Case(finish(b, [both]), [flag(True), normal(4, 6)], [flag(False), normal(4, 6)])


@case
def choices_in_choices() -> Case:
    b = Builder()
    c, d, x = b.input("c", FLAG), b.input("d", FLAG), b.input("x", tensor("f32", 9))

    def inner(b: Any, d: Any, x: Any) -> Any:
        return choice(b, d, [x], lambda b, x: [b.exp(x)], lambda b, x: [x])

    def other(b: Any, d: Any, x: Any) -> Any:
        return [b.add(x, inner(b, b.logical_not(d), b.neg(x))[0])]

    out = choice(b, c, [d, x], inner, other)
    inputs = [[flag(i > 1), flag(i % 2 == 1), normal(9)] for i in range(4)]
    return Case(finish(b, out), *inputs)


@case
def a_counted_loop() -> Case:
    b = Builder()
    x = b.input("x", tensor("f32", 3, 17))

    def body(b: Any, turn: Any, go: Any, now: Any, x: Any) -> Any:
        new = b.add(b.mul(now, b.constant(np.float32(0.5))), x)
        return [go, new, b.exp(now), new]

    out = loop(b, b.constant(np.int64(4)), None, [b.neg(x)], [x], body, counted=True)
    return Case(finish(b, out), [normal(3, 17)])


@case
def a_loop_without_turns() -> Case:
    b = Builder()
    x = b.input("x", tensor("f32", 8))
    out = loop(
        b, b.constant(np.int64(0)), None, [x], [], lambda b, t, go, now: [go, b.exp(now), now], counted=True
    )
    return Case(finish(b, out), [normal(8)])


@case
def a_loop_that_counts_at_run_time() -> Case:
    b = Builder()
    n, x = b.input("n", COUNT), b.input("x", tensor("f32", 8))
    out = loop(b, n, None, [x], [], lambda b, t, go, now: [go, b.add(now, b.cast(t, to="f32"))])
    return Case(finish(b, out), *([count(n), normal(8)] for n in (3, 0, 1, -2)))


@case
def a_loop_that_counts_in_another_dtype() -> Case:
    b = Builder()
    n, x = b.input("n", tensor("i16")), b.input("x", tensor("f32", 8))
    out = loop(b, n, None, [x], [], lambda b, t, go, now: [go, b.exp(b.neg(now))])
    return Case(finish(b, out), *([np.array(n, np.int16), normal(8)] for n in (3, 0, -2)))


@case
def carried_values_that_change_places() -> Case:
    b = Builder()
    n, x, y, z = b.input("n", COUNT), *(b.input(k, tensor("f32", 40)) for k in "xyz")
    out = loop(b, n, None, [x, y, z], [], lambda b, t, go, x, y, z: [go, y, b.exp(b.neg(z)), x])
    return Case(finish(b, out), *([count(n), normal(40), normal(40), normal(40)] for n in (0, 1, 2, 5)))


@case
def a_carried_value_that_is_still_read() -> Case:
    b = Builder()
    n, x = b.input("n", COUNT), b.input("x", tensor("f32", 6))

    def body(b: Any, t: Any, go: Any, x: Any, y: Any) -> Any:
        new = b.exp(b.neg(b.abs(x)))
        return [go, new, b.add(new, b.mul(x, y))]

    return Case(
        finish(b, loop(b, n, None, [x, b.neg(x)], [], body)), *([count(n), normal(6)] for n in (1, 3))
    )


@case
def the_same_value_carried_twice() -> Case:
    b = Builder()
    n, x = b.input("n", COUNT), b.input("x", tensor("f32", 6))

    def body(b: Any, t: Any, go: Any, x: Any, y: Any) -> Any:
        new = b.sub(x, y)
        return [go, new, new]

    return Case(finish(b, loop(b, n, None, [x, x], [], body)), *([count(n), normal(6)] for n in (0, 1, 2)))


@case
def a_carried_value_seen_in_another_shape() -> Case:
    b = Builder()
    n, x = b.input("n", COUNT), b.input("x", tensor("f32", 4, 6))

    def body(b: Any, t: Any, go: Any, x: Any) -> Any:
        flat = b.reshape(x, shape=(24,))
        turned = b.transpose(x, perm=(1, 0))
        return [go, b.reshape(b.add(flat, b.reshape(turned, shape=(24,))), shape=(4, 6))]

    return Case(finish(b, loop(b, n, None, [x], [], body)), *([count(n), normal(4, 6)] for n in (1, 2, 3)))


@case
def a_loop_that_ends_early() -> Case:
    b = Builder()
    n, c, x = b.input("n", COUNT), b.input("c", FLAG), b.input("x", tensor("f32", 4))

    def body(b: Any, t: Any, go: Any, now: Any) -> Any:
        new = b.add(now, now)
        return [b.lt(b.reduce_max(new), b.constant(np.float32(50))), new]

    inputs = [
        [count(n), flag(c), np.array([1, 2, 3, 1], np.float32)] for n, c in ((9, True), (2, True), (5, False))
    ]
    return Case(finish(b, loop(b, n, c, [x], [], body)), *inputs)


@case
def a_loop_that_only_its_condition_ends() -> Case:
    b = Builder()
    x = b.input("x", tensor("f32", 4))

    def body(b: Any, t: Any, go: Any, now: Any, turns: Any) -> Any:
        new = b.add(now, now)
        return [b.lt(b.reduce_max(new), b.constant(np.float32(50))), new, b.add(t, b.constant(np.int64(1)))]

    out = loop(b, None, None, [x, b.constant(np.int64(0))], [], body)
    return Case(finish(b, out), [np.array([1, 2, 3, 1], np.float32)], [np.full(4, 99, np.float32)])


@case
def a_condition_that_is_carried() -> Case:
    """The old flag decides while the new one takes its place."""
    b = Builder()
    n, x = b.input("n", COUNT), b.input("x", tensor("f32", 4))

    def body(b: Any, t: Any, go: Any, now: Any, old: Any) -> Any:
        new = b.add(now, now)
        return [old, new, b.lt(b.reduce_max(new), b.constant(np.float32(8)))]

    out = loop(b, n, None, [x, b.constant(np.array(True))], [], body)
    return Case(finish(b, out), *([count(n), np.array([1, 2, 1, 1], np.float32)] for n in (1, 2, 8)))


@case
def loops_in_loops() -> Case:
    b = Builder()
    n, x, w = b.input("n", COUNT), b.input("x", tensor("f32", 3, 8)), b.input("w", tensor("f32", 8, 8))

    def outer(b: Any, t: Any, go: Any, x: Any, w: Any) -> Any:
        def inner(b: Any, u: Any, go: Any, now: Any, t: Any, x: Any) -> Any:
            return [go, b.add(now, b.mul(x, b.cast(b.add(t, u), to="f32")))]

        (sum_,) = loop(b, t, None, [b.matmul(x, w)], [t, x], inner)
        return [go, b.tanh(sum_)]

    return Case(
        finish(b, loop(b, n, None, [x], [w], outer)),
        *([count(n), normal(3, 8), normal(8, 8)] for n in (0, 1, 4)),
    )


@case
def a_choice_in_a_loop() -> Case:
    b = Builder()
    n, x = b.input("n", COUNT), b.input("x", tensor("f32", 5, 5))

    def body(b: Any, t: Any, go: Any, now: Any) -> Any:
        odd = b.eq(b.mod(t, b.constant(np.int64(2))), b.constant(np.int64(1)))
        return [
            go,
            *choice(
                b,
                odd,
                [now],
                lambda b, x: [b.exp(b.neg(b.abs(x)))],
                lambda b, x: [b.transpose(x, perm=(1, 0))],
            ),
        ]

    return Case(finish(b, loop(b, n, None, [x], [], body)), *([count(n), normal(5, 5)] for n in (0, 1, 2, 5)))


@case
def a_loop_that_picks_by_its_turn() -> Case:
    b = Builder()
    x, table = b.input("x", tensor("f32", 6)), b.input("table", tensor("f32", 5, 6))

    def body(b: Any, t: Any, go: Any, now: Any, table: Any) -> Any:
        row = b.gather(table, t, axis=0)
        return [go, b.add(now, row), row]

    out = loop(b, b.constant(np.int64(5)), None, [x], [table], body, counted=True)
    return Case(finish(b, out), [normal(6), normal(5, 6)])


@case
def elements_in_a_concatenation() -> Case:
    b = Builder()
    x = b.input("x", tensor("f32", 6))
    _, stack = loop(
        b,
        b.constant(np.int64(3)),
        None,
        [x],
        [],
        lambda b, t, go, x: [go, b.neg(b.exp(x)), b.exp(x)],
        counted=True,
    )
    wide = b.concat(stack, stack, b.reshape(x, shape=(1, 6)), axis=0)
    return Case(finish(b, [wide, b.transpose(stack, perm=(1, 0))]), [normal(6)])


@case
def a_scan() -> Case:
    b = Builder()
    s, xs = b.input("s", tensor("f32", 7)), b.input("xs", tensor("f32", b.symbol("n"), 7))

    def body(b: Any, s: Any, x: Any) -> Any:
        new = b.add(s, b.exp(x))
        return [new, new, b.sub(s, x)]

    sizes = (0, 1, 5)
    inputs = ([normal(7), normal(n, 7)] for n in sizes)
    return Case(finish(b, scan(b, [s], [xs], [], body)), *inputs, symbols=[{"n": n} for n in sizes])


@case
def a_scan_along_an_inner_axis() -> Case:
    b = Builder()
    s, xs = b.input("s", tensor("f32", 3, 4)), b.input("xs", tensor("f32", 3, 5, 4))
    (last, stack) = scan(
        b, [s], [b.transpose(xs, perm=(1, 0, 2))], [], lambda b, s, x: [b.add(s, x), b.mul(s, x)]
    )
    return Case(finish(b, [last, b.transpose(stack, perm=(1, 2, 0))]), [normal(3, 4), normal(3, 5, 4)])


@case
def a_scan_over_two_sequences_backwards() -> Case:
    b = Builder()
    s, xs, ys = (
        b.input("s", tensor("f32", 3)),
        b.input("xs", tensor("f32", 6, 3)),
        b.input("ys", tensor("f32", 6)),
    )
    back = b.slice(xs, starts=(5, 0), sizes=(6, 3), steps=(-1, 1))
    part = b.slice(ys, starts=(0,), sizes=(6,), steps=(1,))
    out = scan(
        b,
        [s],
        [back, part],
        [xs],
        lambda b, s, x, y, all_: [b.add(b.mul(s, y), x), b.reduce_sum(b.mul(all_, s))],
    )
    return Case(finish(b, out), [normal(3), normal(6, 3), normal(6)])


@case
def a_recurrent_cell() -> Case:
    """h' = o * tanh(c'), c' = f * c + i, as an LSTM has it."""
    b = Builder()
    h, c, xs = (
        b.input("h", tensor("f32", 2, 16)),
        b.input("c", tensor("f32", 2, 16)),
        b.input("xs", tensor("f32", 9, 2, 48)),
    )
    w = b.input("w", tensor("f32", 16, 48))

    def body(b: Any, h: Any, c: Any, x: Any, w: Any) -> Any:
        gates = b.sigmoid(b.add(x, b.matmul(h, w)))
        i, f, o = (b.slice(gates, starts=(0, 16 * g), sizes=(2, 16), steps=(1, 1)) for g in range(3))
        new = b.add(b.mul(f, c), i)
        out = b.mul(o, b.tanh(new))
        return [out, new, out]

    return Case(
        finish(b, scan(b, [h, c], [xs], [w], body)),
        [normal(2, 16), normal(2, 16), normal(9, 2, 48), normal(16, 48)],
    )
