"""RNN, GRU and LSTM: one product of all inputs with the weights, then a scan over the steps.

Short sequences of known length are unrolled.  Weights stand in ONNX's order: GRU z, r, h; LSTM i, o, f, c.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from aino_ir.dims import DimLike, is_static
from aino_ir.dtypes import i64
from aino_ir.frontends.onnx.context import NodeContext, Row
from aino_ir.frontends.onnx.nodes import OnnxNode
from aino_ir.frontends.onnx.ops.control import flipped
from aino_ir.frontends.onnx.ops.movement import cut
from aino_ir.graph import Value
from aino_ir.types import TensorType

UNROLLED = 16
"""Sequences of at most this known length are unrolled."""

DIRECTIONS = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}


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

ACTIVATIONS: dict[str, tuple[str, tuple[tuple[str, float], ...]]] = {
    "affine": ("", (("alpha", 1.0), ("beta", 0.0))),
    "elu": ("elu", (("alpha", 1.0),)),
    "hardsigmoid": ("hard_sigmoid", (("alpha", 0.2), ("beta", 0.5))),
    "leakyrelu": ("leaky_relu", (("alpha", 0.01),)),
    "relu": ("relu", ()),
    "scaledtanh": ("tanh", (("alpha", 1.0), ("beta", 1.0))),
    "sigmoid": ("sigmoid", ()),
    "softplus": ("softplus", ()),
    "softsign": ("softsign", ()),
    "tanh": ("tanh", ()),
    "thresholdedrelu": ("thresholded_relu", (("alpha", 1.0),)),
}
"""ONNX's name in small letters -> op, and its parameters with their defaults."""


def activations_of(
    c: NodeContext, kind: Kind, directions: int
) -> list[tuple[Callable[[Any, Value], Value], ...]]:
    """The activations of each direction; parameters are consumed in order."""
    node = c.node
    wanted = len(kind.activations) * directions
    names = node.strs("activations", kind.activations * directions)
    if len(names) != wanted:
        c.invalid("number of activations", wanted, len(names))
    alphas, betas = iter(node.floats("activation_alpha", ())), iter(node.floats("activation_beta", ()))
    clip = node.float("clip", None)
    made = []
    for name in names:
        if name.lower() not in ACTIVATIONS:
            c.invalid("activation", "one of " + ", ".join(sorted(ACTIVATIONS)), name)
        op, parameters = ACTIVATIONS[name.lower()]
        given = {p: next(alphas if p == "alpha" else betas, default) for p, default in parameters}
        made.append(_activation(name.lower(), op, given, clip))
    each = len(kind.activations)
    return [tuple(made[d * each : (d + 1) * each]) for d in range(directions)]


def _activation(
    name: str, op: str, given: dict[str, float], clip: float | None
) -> Callable[[Any, Value], Value]:
    def apply(b: Any, x: Value) -> Value:
        number = x.dtype.numpy.type
        if clip is not None:
            x = b.clip(x, min=-clip, max=clip)
        if name == "affine":
            return b.add(b.mul(x, b.constant(number(given["alpha"]))), b.constant(number(given["beta"])))  # type: ignore[no-any-return]
        if name == "scaledtanh":
            inner = b.tanh(b.mul(x, b.constant(number(given["beta"]))))
            return b.mul(inner, b.constant(number(given["alpha"])))  # type: ignore[no-any-return]
        return getattr(b, op)(x, **given)  # type: ignore[no-any-return]

    return apply


def recurrent(c: NodeContext, node: OnnxNode) -> list[Value | None]:
    """One of the three, in one or both directions."""
    kind = KINDS[node.op_type]
    x, w, r = c.x, c.tensor(1), c.tensor(2)
    batch_first = bool(node.int("layout", 0))
    if batch_first:
        x = c.emit("transpose", x, perm=(1, 0, 2))
    direction = node.str("direction", "forward")
    if direction not in DIRECTIONS:
        c.invalid("direction", ", ".join(DIRECTIONS), direction)
    backward = DIRECTIONS[direction]
    if not is_static(r.shape[-1]):
        c.unsupported("a symbolic hidden size")
    hidden = int(r.shape[-1])
    options = {
        "linear_before_reset": bool(node.int("linear_before_reset", 0)),
        "input_forget": bool(node.int("input_forget", 0)),
    }
    lengths = c.input(4)
    cells = [Cell(hidden, a, options) for a in activations_of(c, kind, len(backward))]
    outputs, finals = [], []
    for d, (cell, back) in enumerate(zip(cells, backward, strict=True)):
        states = [initial(c, c.input(5 + s), d, x, hidden, batch_first) for s in range(kind.states)]
        y, final = run_direction(c, kind, cell, x, (at(c, w, d), at(c, r, d), d), states, lengths, back)
        outputs.append(y)
        finals.append(final)
    return results(c, outputs, finals, batch_first)


def at(c: NodeContext, value: Value, direction: int) -> Value:
    """One direction's part of a parameter."""
    return c.reshape(cut(c, value, 0, direction, 1), value.shape[1:])


def initial(c: NodeContext, given: Value | None, d: int, x: Value, hidden: int, batch_first: bool) -> Value:
    """A first state [batch, hidden]; zeros when it is not given."""
    if given is None:
        return c.filled((x.shape[1], hidden), 0, x.dtype)
    if batch_first:
        given = c.emit("transpose", given, perm=(1, 0, 2))
    return at(c, given, d)


def run_direction(
    c: NodeContext,
    kind: Kind,
    cell: Cell,
    x: Value,
    parameters: tuple[Value, Value, int],
    states: list[Value],
    lengths: Value | None,
    backward: bool,
) -> tuple[Value, list[Value]]:
    """Hidden states of all steps [steps, batch, hidden], and the last states."""
    w, r, d = parameters
    width = kind.gates * cell.hidden
    bias = c.input(3)
    if bias is None:
        x_bias, h_bias = None, c.filled((width,), 0, x.dtype)
    else:
        own = at(c, bias, d)
        x_bias, h_bias = cut(c, own, 0, 0, width), cut(c, own, 0, width, width)
    peepholes: list[Value] = []
    if node_peepholes := c.input(7):
        own = at(c, node_peepholes, d)
        peepholes = [cut(c, own, 0, g * cell.hidden, cell.hidden) for g in range(3)]
    if backward:
        x = reversed_steps(c, x, lengths)
    projected = c.emit("matmul", x, w, transpose_rhs=True)
    if x_bias is not None:
        projected = c.emit("add", projected, x_bias)
    weights = [r, h_bias, *peepholes]
    y, final = run_steps(c, kind, cell, projected, states, weights, lengths)
    return (reversed_steps(c, y, lengths) if backward else y), final


def reversed_steps(c: NodeContext, x: Value, lengths: Value | None) -> Value:
    """Steps in reverse, those past a sequence's length staying where they are."""
    if lengths is None:
        return flipped(c, x, True)
    return c.emit("reverse_sequence", x, lengths, time_axis=0, batch_axis=1)


def run_steps(
    c: NodeContext,
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
            x = at(c, projected, t)
            states, y = step(c.b, states, x, at(c, masks[0], t) if masks else None, weights)
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


def step_masks(c: NodeContext, steps: DimLike, lengths: Value) -> Value:
    """Whether a step is within a sequence's length, bool [steps, batch, 1]."""
    line = c.reshape(c.emit("index.range", start=0, size=steps, step=1, dtype=i64), (steps, 1, 1))
    return c.emit("lt", line, c.reshape(c.cast(lengths, i64), (1, lengths.shape[0], 1)))


def results(
    c: NodeContext, outputs: list[Value], finals: list[list[Value]], batch_first: bool
) -> list[Value | None]:
    """Y [steps, directions, batch, hidden] and the last states [directions, batch, hidden]."""

    def stack(parts: list[Value], axis: int) -> Value:
        apart = [c.reshape(p, (*p.shape[:axis], 1, *p.shape[axis:])) for p in parts]
        return c.emit("concat", *apart, axis=axis) if len(apart) > 1 else apart[0]

    y = stack(outputs, 1)
    last = [stack(list(column), 0) for column in zip(*finals, strict=True)]
    if batch_first:
        y = c.emit("transpose", y, perm=(2, 0, 1, 3))
        last = [c.emit("transpose", v, perm=(1, 0, 2)) for v in last]
    return [y, *last]


TABLE: dict[str, Row] = dict.fromkeys(KINDS, recurrent)
