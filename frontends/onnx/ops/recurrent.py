"""RNN, GRU and LSTM: one product of all inputs with the weights, then a scan over the steps.

How the steps run is `aino_ir.frontends.recurrence`'s business.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aino_ir.dims import is_static
from aino_ir.frontends.onnx.context import NodeContext, Row
from aino_ir.frontends.onnx.nodes import OnnxNode
from aino_ir.frontends.onnx.ops.movement import cut
from aino_ir.frontends.recurrence import KINDS, Cell, Kind, reversed_steps, run_steps
from aino_ir.graph import Value

DIRECTIONS = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}


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
