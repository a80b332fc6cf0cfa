"""RNN, GRU and LSTM as both frontends lower them: steps unrolled when they are few and known, else a scan.

Weights stand in ONNX's order: GRU z, r, h; LSTM i, o, f, c.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from aino_ir.dims import DimLike, dmax, is_static
from aino_ir.dtypes import i64
from aino_ir.frontends.emitter import Emitter
from aino_ir.graph import Value
from aino_ir.types import TensorType

UNROLLED = 16
"""Sequences of at most this known length are unrolled."""


@dataclass(frozen=True)
class Kind:
    """One of the three cells.

    Attributes:
        gates: blocks of the weights.
        activations: the defaults.
        states: hidden state alone, or with the cell's.
        step: (cell, builder, x W' of the step, states, weights) -> new states.
    """

    gates: int
    activations: tuple[str, ...]
    states: int
    step: Callable[[Cell, Any, Value, Sequence[Value], Sequence[Value]], list[Value]]


@dataclass(frozen=True)
class Cell:
    """What the steps of one direction share."""

    hidden: int
    activations: tuple[Callable[[Any, Value], Value], ...]
    options: dict[str, bool]

    def gates(self, b: Any, x: Value, count: int) -> list[Value]:
        """The blocks of [batch, count * hidden]."""
        sizes = (x.shape[0], self.hidden)
        return [
            b.slice(x, starts=(0, g * self.hidden), sizes=sizes, steps=(1, 1)) if count > 1 else x
            for g in range(count)
        ]


def rnn_step(cell: Cell, b: Any, x: Value, states: Sequence[Value], weights: Sequence[Value]) -> list[Value]:
    """h = f(x W' + h R' + bias)"""
    (h,), (r, bias) = states, weights[:2]
    total = b.add(b.add(x, b.matmul(h, r, transpose_rhs=True)), bias)
    return [cell.activations[0](b, total)]


def gru_step(cell: Cell, b: Any, x: Value, states: Sequence[Value], weights: Sequence[Value]) -> list[Value]:
    """z, r = f(...); n = g(x W' + r * h R'); h = (1 - z) * n + z * h"""
    (h,), (recurrent, bias) = states, weights[:2]
    f, g = cell.activations
    size = cell.hidden

    def part(value: Value, first: int, count: int) -> Value:
        lead = [0] * (value.rank - 1)
        starts, sizes = [first * size, *lead], [count * size, *value.shape[1:]]
        return b.slice(value, starts=starts, sizes=sizes, steps=[1] * value.rank)  # type: ignore[no-any-return]

    xz, xr, xn = cell.gates(b, x, 3)
    zr = b.add(b.matmul(h, part(recurrent, 0, 2), transpose_rhs=True), part(bias, 0, 2))
    hz, hr = cell.gates(b, zr, 2)
    z, r = f(b, b.add(xz, hz)), f(b, b.add(xr, hr))
    if cell.options["linear_before_reset"]:
        inner = b.mul(r, b.add(b.matmul(h, part(recurrent, 2, 1), transpose_rhs=True), part(bias, 2, 1)))
    else:
        inner = b.add(b.matmul(b.mul(r, h), part(recurrent, 2, 1), transpose_rhs=True), part(bias, 2, 1))
    n = g(b, b.add(xn, inner))
    return [b.add(b.sub(n, b.mul(z, n)), b.mul(z, h))]


def lstm_step(cell: Cell, b: Any, x: Value, states: Sequence[Value], weights: Sequence[Value]) -> list[Value]:
    """i, o, f = f(...); c = f * c + i * g(...); h = o * h(c), with peepholes from c to the gates"""
    (h, c), (r, bias, *peepholes) = states, weights
    f, g, out = cell.activations
    total = b.add(b.add(x, b.matmul(h, r, transpose_rhs=True)), bias)
    i, o, forget, candidate = cell.gates(b, total, 4)
    if peepholes:
        i = b.add(i, b.mul(peepholes[0], c))
        forget = b.add(forget, b.mul(peepholes[2], c))
    i = f(b, i)
    kept = b.sub(b.constant(_one(i)), i) if cell.options["input_forget"] else f(b, forget)
    new = b.add(b.mul(kept, c), b.mul(i, g(b, candidate)))
    if peepholes:
        o = b.add(o, b.mul(peepholes[1], new))
    return [b.mul(f(b, o), out(b, new)), new]


def _one(like: Value) -> Any:
    return like.dtype.numpy.type(1)


KINDS = {
    "RNN": Kind(1, ("Tanh",), 1, rnn_step),
    "GRU": Kind(3, ("Sigmoid", "Tanh"), 1, gru_step),
    "LSTM": Kind(4, ("Sigmoid", "Tanh", "Tanh"), 2, lstm_step),
}


def flipped(c: Emitter, x: Value) -> Value:
    """x with its first axis read backwards."""
    starts: list[DimLike] = [0] * x.rank
    steps = [1] * x.rank
    starts[0], steps[0] = c.symbols.simplify(dmax(x.shape[0] - 1, 0)), -1
    return c.emit("slice", x, starts=starts, sizes=x.shape, steps=steps)


def first_of(c: Emitter, value: Value, position: int) -> Value:
    """One position of the first axis, which vanishes."""
    return c.reshape(c.cut(value, 0, position, 1), value.shape[1:])


def reversed_steps(c: Emitter, x: Value, lengths: Value | None) -> Value:
    """Steps in reverse, those past a sequence's length staying where they are."""
    if lengths is None:
        return flipped(c, x)
    return c.emit("reverse_sequence", x, lengths, time_axis=0, batch_axis=1)


def run_steps(
    c: Emitter,
    kind: Kind,
    cell: Cell,
    projected: Value,
    states: list[Value],
    weights: list[Value],
    lengths: Value | None,
) -> tuple[Value, list[Value]]:
    """All steps: unrolled when they are few, else a scan."""
    steps = projected.shape[0]
    masks = []
    if lengths is not None:
        masks = [step_masks(c, steps, lengths)]

    def step(
        b: Any, now: list[Value], x: Value, mask: Value | None, own: Sequence[Value]
    ) -> tuple[list[Value], Value]:
        new = kind.step(cell, b, x, now, own)
        if mask is None:
            return new, new[0]
        kept = [b.select(mask, after, before) for after, before in zip(new, now, strict=True)]
        return kept, b.select(mask, new[0], b.constant(_one(new[0]) * 0))

    if is_static(steps) and int(steps) <= UNROLLED:
        outputs = []
        for t in range(int(steps)):
            x = first_of(c, projected, t)
            states, y = step(c.b, states, x, first_of(c, masks[0], t) if masks else None, weights)
            outputs.append(c.reshape(y, (1, *y.shape)))
        if not outputs:
            return c.filled((0, *states[0].shape), 0, projected.dtype), states
        return (c.emit("concat", *outputs, axis=0) if len(outputs) > 1 else outputs[0]), states
    sequences = [projected, *masks]

    def body(b: Any, *arguments: Value) -> list[Value]:
        count = kind.states
        mask = arguments[count + 1] if masks else None
        now, y = step(b, list(arguments[:count]), arguments[count], mask, arguments[count + len(sequences) :])
        return [*now, y]

    types = [v.type for v in states]
    types += [TensorType(v.dtype, v.shape[1:]) for v in sequences]
    types += [v.type for v in weights]
    region = c.b.region(types, body)
    found = c.emit_all(
        "control.scan",
        *states,
        *sequences,
        *weights,
        states=kind.states,
        sequences=len(sequences),
        regions=[region],
    )
    return found[-1], list(found[:-1])


def step_masks(c: Emitter, steps: DimLike, lengths: Value) -> Value:
    """Whether a step is within a sequence's length, bool [steps, batch, 1]."""
    line = c.reshape(c.emit("index.range", start=0, size=steps, step=1, dtype=i64), (steps, 1, 1))
    return c.emit("lt", line, c.reshape(c.cast(lengths, i64), (1, lengths.shape[0], 1)))
