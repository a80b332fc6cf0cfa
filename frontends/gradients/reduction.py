"""Rules of reductions, running sums and softmax."""

from __future__ import annotations

from collections.abc import Callable

from aino_ir.dims import product
from aino_ir.frontends.floats import Number, extent_number
from aino_ir.frontends.gradients.engine import Gradients, Rule, Step
from aino_ir.frontends.gradients.movement import inverse, transposed
from aino_ir.graph import Value


def kept(s: Step, value: Value) -> Number:
    """A value of the result's shape, with the reduced axes back as ones."""
    x = s.x()
    axes = s.op.reduced_axes()  # type: ignore[attr-defined]
    return s.number(s.reshape(value, tuple(1 if a in axes else d for a, d in enumerate(x.shape))))


def reduction(slope: Callable[[Step, Number, Number], Number | None]) -> Rule:
    """The rule of a reduction whose derivative by each element is slope(step, x, result); None for 1."""

    def rule(s: Step) -> Gradients:
        x = s.number(s.x())
        c = kept(s, s.c)
        by = slope(s, x, kept(s, s.out))
        gradient = c.value if by is None else (c * by).value
        return [
            s.emit("expand", gradient, shape=x.value.shape) if gradient.shape != x.value.shape else gradient
        ]

    return rule


def _mean(s: Step, x: Number, y: Number) -> Number:
    return s.number(s.scalar(1.0, x.dtype)) / extent_number(s, s.op.count(), x.dtype)  # type: ignore[attr-defined]


def _l2(s: Step, x: Number, y: Number) -> Number:
    """x / norm; 0 where all is 0."""
    return x / y.equals(0.0).choose(1.0, y)


def _extreme(s: Step, x: Number, y: Number) -> Number:
    """The largest elements share the gradient."""
    won = x.equals(y).choose(1.0, 0.0)
    axes = s.op.reduced_axes()  # type: ignore[attr-defined]
    return won / s.number(s.emit("reduce.sum", won.value, axes=axes, keepdims=True))


def _log_sum(s: Step, x: Number, y: Number) -> Number:
    return y.map("neg").map("exp")


def _prod(s: Step) -> Gradients:
    """The product of all other elements: of those before and of those behind; zeros need no exception."""
    x = s.x()
    axes = s.op.reduced_axes()  # type: ignore[attr-defined]
    others = tuple(a for a in range(x.rank) if a not in axes)
    perm = (*others, *axes)
    last = len(others)
    outer, inner = tuple(x.shape[a] for a in others), tuple(x.shape[a] for a in axes)
    rows = s.reshape(transposed(s, x, perm), (*outer, product(inner)))
    before = s.number(s.emit("cumprod", rows, axis=last, exclusive=True))
    behind = s.number(s.emit("cumprod", rows, axis=last, exclusive=True, reverse=True))
    rest = s.reshape((before * behind).value, (*outer, *inner))
    return [(kept(s, s.c) * s.number(transposed(s, rest, inverse(perm)))).value]


def _cumsum(s: Step) -> Gradients:
    attrs = {"axis": s.attr("axis"), "exclusive": s.attr("exclusive"), "reverse": not s.attr("reverse")}
    return [s.emit("cumsum", s.c, **attrs)]


def _row_sum(s: Step, x: Number) -> Number:
    axis = s.attr("axis") % x.value.rank
    return s.number(s.emit("reduce.sum", x.value, axes=(axis,), keepdims=True))


def _softmax(s: Step) -> Gradients:
    c, y = s.number(s.c), s.number(s.out)
    return [(y * (c - _row_sum(s, c * y))).value]


def _log_softmax(s: Step) -> Gradients:
    c, y = s.number(s.c), s.number(s.out)
    return [(c - y.map("exp") * _row_sum(s, c)).value]


TABLE: dict[str, Rule] = {
    "normalize.log_softmax": _log_softmax,
    "normalize.softmax": _softmax,
    "reduce.l1": reduction(lambda s, x, y: x.map("sign")),
    "reduce.l2": reduction(_l2),
    "reduce.log_sum": reduction(_log_sum),
    "reduce.log_sum_exp": reduction(lambda s, x, y: (x - y).map("exp")),
    "reduce.max": reduction(_extreme),
    "reduce.mean": reduction(_mean),
    "reduce.min": reduction(_extreme),
    "reduce.prod": _prod,
    "reduce.sum": reduction(lambda s, x, y: None),
    "reduce.sum_square": reduction(lambda s, x, y: x * 2.0),
    "scan.cumsum": _cumsum,
}
"""Rules by op name."""
