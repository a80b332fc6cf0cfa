"""Training: gradients, and steps of optimisers (Adagrad, Adam, Momentum), each for any number of tensors."""

from __future__ import annotations

from collections.abc import Callable

from aino_ir.frontends.floats import Number
from aino_ir.frontends.gradients import TABLE as RULES
from aino_ir.frontends.gradients import pullback
from aino_ir.frontends.onnx.context import NodeContext, Row
from aino_ir.frontends.onnx.names import quote
from aino_ir.frontends.onnx.nodes import OnnxNode
from aino_ir.graph import Value
from aino_ir.location import loc

DOMAIN = "ai.onnx.preview.training"


def groups(c: NodeContext, each: int) -> list[tuple[Number, ...]]:
    """Inputs behind the rate and the number of updates: for each tensor its `each` kinds."""
    rest = [Number(c, c.tensor(i)) for i in range(2, len(c.inputs))]
    if not rest or len(rest) % each:
        c.invalid("number of inputs", f"2 and a multiple of {each}", len(c.inputs))
    count = len(rest) // each
    return [tuple(rest[kind * count + n] for kind in range(each)) for n in range(count)]


def by_kind(results: list[tuple[Number, ...]]) -> list[Value | None]:
    """Results of all tensors in the order of the outputs: kind after kind."""
    return [number.value for kind in zip(*results, strict=True) for number in kind]


def rate(c: NodeContext, like: Number) -> Number:
    """The learning rate in the dtype of a tensor."""
    return Number(c, c.cast(c.scalar_of(0), like.dtype))


def updates(c: NodeContext, like: Number) -> Number:
    """The number of updates so far in the dtype of a tensor."""
    return Number(c, c.cast(c.scalar_of(1), like.dtype))


def first_step(c: NodeContext, at_first: Callable[[], Number], later: Callable[[], Number]) -> Number:
    """One number for the very first update, another for the others."""
    started = c.emit("gt", c.scalar_of(1), c.scalar(0, c.tensor(1).dtype))
    return later().where(started, at_first())


def adagrad(c: NodeContext, node: OnnxNode) -> list[Value | None]:
    """Steps divided by the root of the sum of squared gradients; the rate decays."""
    epsilon, norm = node.float("epsilon", 0.0), node.float("norm_coefficient", 0.0)
    decay = node.float("decay_factor", 0.0)
    results: list[tuple[Number, ...]] = []
    for x, gradient, squares in groups(c, 3):
        step = rate(c, x) / (updates(c, x) * decay + 1.0)
        g = x * norm + gradient
        total = squares + g * g
        results.append((x - step * g / (total.map("sqrt") + epsilon), total))
    return by_kind(results)


def adam(c: NodeContext, node: OnnxNode) -> list[Value | None]:
    """Running means of gradients and of their squares, corrected for their start at 0."""
    alpha, beta = node.float("alpha", 0.9), node.float("beta", 0.999)
    epsilon, norm = node.float("epsilon", 0.0), node.float("norm_coefficient", 0.0)
    after = node.float("norm_coefficient_post", 0.0)
    results: list[tuple[Number, ...]] = []
    for x, gradient, mean, square in groups(c, 4):
        g = x * norm + gradient
        mean = mean * alpha + g * (1 - alpha)
        square = square * beta + g * g * (1 - beta)
        step, turns = rate(c, x), updates(c, x)

        def power(base: float, turns: Number = turns) -> Number:
            return Number(c, c.emit("pow", c.scalar(base, turns.dtype), turns.value))

        def corrected(step: Number = step) -> Number:
            return step * (power(beta) * -1.0 + 1.0).map("sqrt") / (power(alpha) * -1.0 + 1.0)

        step = first_step(c, lambda step=step: step, corrected)  # type: ignore[misc]
        moved = x - step * mean / (square.map("sqrt") + epsilon)
        results.append((moved * (1 - after), mean, square))
    return by_kind(results)


def momentum(c: NodeContext, node: OnnxNode) -> list[Value | None]:
    """A velocity that gradients change, in the plain form or Nesterov's."""
    alpha, beta, norm = node.float("alpha"), node.float("beta"), node.float("norm_coefficient")
    mode = node.str("mode")
    if mode not in ("standard", "nesterov"):
        c.invalid("mode", "standard or nesterov", mode)
    results: list[tuple[Number, ...]] = []
    for x, gradient, velocity in groups(c, 3):
        g = x * norm + gradient
        one, later = Number(c, c.scalar(1.0, x.dtype)), Number(c, c.scalar(beta, x.dtype))
        share = first_step(c, lambda one=one: one, lambda later=later: later)  # type: ignore[misc]
        velocity = velocity * alpha + share * g
        step = velocity if mode == "standard" else g + velocity * alpha
        results.append((x - rate(c, x) * step, velocity))
    return by_kind(results)


# -- gradients ----------------------------------------------------------------------------------------


def gradient(c: NodeContext, node: OnnxNode) -> list[Value | None]:
    """Derivatives of y, a value of the graph (all its elements added up), by the values called xs.

    The inputs are the values that xs and zs have meanwhile; what lies between them and y is computed for
    these, as a graph of its own (where they are the graph's own values, it becomes one with it again).
    """
    xs, zs, y = node.strs("xs"), node.strs("zs", ()), node.str("y")
    names = (*xs, *zs)
    if len(names) != len(c.inputs) or len(set(names)) != len(names):
        c.invalid("xs and zs", f"{len(c.inputs)} different names, one an input", names)
    given = {name: c.require(i) for i, name in enumerate(names)}
    for i, name in enumerate(xs):
        x = c.tensor(i)
        if not x.dtype.is_float:
            c.invalid(f"dtype of {quote(name)}", "a float", x.dtype)
        given[name] = c.emit("cast", x, to=x.dtype)  # a value of its own, whatever it is computed from
    try:
        target = c.graph.recomputed(y, given)
    except KeyError:
        c.invalid("y", "a value of the graph that the node stands in", quote(y))
    c.b.loc = loc(node.location)
    inputs = [given[name] for name in xs]
    ones = c.filled(target.shape, 1.0, target.dtype)
    found = pullback(c.b, RULES, [(target, ones)], inputs) if target.dtype.is_float else [None] * len(xs)
    return [
        c.filled(x.shape, 0.0, x.dtype) if made is None else made
        for x, made in zip(inputs, found, strict=True)
    ]


TABLE: dict[str, Row] = {"Adagrad": adagrad, "Adam": adam, "Gradient": gradient, "Momentum": momentum}
