"""Recurrent layers: RNN, GRU and LSTM of any depth, in one or both directions.

PyTorch's gates stand in another order than those of `aino_ir.frontends.recurrence`; the weights are
reordered, which folding does once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from aino_ir.frontends.recurrence import KINDS, Cell, Kind, lstm_step, reversed_steps, run_steps
from aino_ir.frontends.torch.context import Lowering, NodeContext, Row
from aino_ir.graph import Value

ORDER = {"RNN": (0,), "GRU": (1, 0, 2), "LSTM": (0, 3, 1, 2)}
"""Which of PyTorch's gates (GRU r, z, n; LSTM i, f, g, o) stands where in ours."""

OPTIONS = {"linear_before_reset": True, "input_forget": False}


def named(op: str) -> Callable[[Any, Value], Value]:
    """An activation by the name of its op."""
    return lambda b, x: getattr(b, op)(x)


def projected_step(
    cell: Cell, b: Any, x: Value, states: Sequence[Value], weights: Sequence[Value]
) -> list[Value]:
    """An LSTM whose hidden state is a linear map of the usual one."""
    h, c = lstm_step(cell, b, x, states, weights[:2])
    return [b.matmul(h, weights[2], transpose_rhs=True), c]


def layers(name: str, activations: tuple[str, ...]) -> Lowering:
    """A row for a stack of layers of one kind."""

    def lower(
        c: NodeContext,
        x: Value,
        hx: Value | Sequence[Value],
        params: Sequence[Value],
        has_biases: bool,
        num_layers: int,
        dropout: float,
        train: bool,
        bidirectional: bool,
        batch_first: bool,
    ) -> list[Value | None]:
        if train and dropout and num_layers > 1:
            c.unsupported(f"dropout={dropout} in training mode")
        kind = KINDS[name]
        starts = [hx] if isinstance(hx, Value) else list(hx)
        functions = tuple(named(a) for a in activations)
        y = c.transposed(x, (1, 0, 2)) if batch_first else x
        directions = 2 if bidirectional else 1
        each = len(params) // (num_layers * directions)
        finals: list[list[Value]] = []
        for layer in range(num_layers):
            outputs = []
            for direction in range(directions):
                number = layer * directions + direction
                own = list(params[number * each : (number + 1) * each])
                states = [c.reshape(c.cut(s, 0, number, 1), s.shape[1:]) for s in starts]
                out, last = one_direction(
                    c, kind, name, functions, y, states, own, has_biases, direction == 1
                )
                outputs.append(out)
                finals.append(last)
            y = outputs[0] if len(outputs) == 1 else c.emit("concat", *outputs, axis=2)
        y = c.transposed(y, (1, 0, 2)) if batch_first else y
        return [y, *(_stacked(c, list(column)) for column in zip(*finals, strict=True))]

    return lower


def one_direction(
    c: NodeContext,
    kind: Kind,
    name: str,
    functions: tuple[Callable[[Any, Value], Value], ...],
    x: Value,
    states: list[Value],
    parameters: list[Value],
    biased: bool,
    backward: bool,
) -> tuple[Value, list[Value]]:
    """Hidden states of all steps [steps, batch, hidden], and the last states."""
    w, r, *rest = parameters
    hidden = int(r.shape[0]) // kind.gates
    order = ORDER[name]
    w, r = _reordered(c, w, order, hidden), _reordered(c, r, order, hidden)
    if backward:
        x = reversed_steps(c, x, None)
    projected = c.emit("matmul", x, w, transpose_rhs=True)
    width = kind.gates * hidden
    bias = c.filled((width,), 0, x.dtype)
    if biased:
        projected = c.emit("add", projected, _reordered(c, rest[0], order, hidden))
        bias = _reordered(c, rest[1], order, hidden)
    weights = [r, bias]
    if len(rest) > (2 if biased else 0):
        weights.append(rest[-1])
        kind = replace(kind, step=projected_step)
    cell = Cell(hidden, functions, OPTIONS)
    y, last = run_steps(c, kind, cell, projected, states, weights, None)
    return (reversed_steps(c, y, None) if backward else y), last


def _reordered(c: NodeContext, parameter: Value, order: tuple[int, ...], hidden: int) -> Value:
    """Blocks of gates in our order."""
    if order == tuple(range(len(order))):
        return parameter
    return c.emit("concat", *(c.cut(parameter, 0, g * hidden, hidden) for g in order), axis=0)


def _stacked(c: NodeContext, parts: list[Value]) -> Value:
    apart = [c.reshape(p, (1, *p.shape)) for p in parts]
    return apart[0] if len(apart) == 1 else c.emit("concat", *apart, axis=0)


TABLE: dict[str, Row] = {
    "aten.gru.input": layers("GRU", ("sigmoid", "tanh")),
    "aten.lstm.input": layers("LSTM", ("sigmoid", "tanh", "tanh")),
    "aten.rnn_relu.input": layers("RNN", ("relu",)),
    "aten.rnn_tanh.input": layers("RNN", ("tanh",)),
}
