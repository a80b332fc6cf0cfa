"""Rules of elementwise ops: a derivative beside each op of one operand, functions for the others."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

from aino_ir.frontends.floats import Number, Operand
from aino_ir.frontends.gradients.engine import Gradients, Rule, Step
from aino_ir.graph import Value

Derivative: TypeAlias = "Callable[[Step, Number, Number], Operand]"
"""(step, operand, result) -> derivative of the result by the operand."""


def unary(derivative: Derivative) -> Rule:
    """The rule of an op of one operand with a given derivative."""

    def rule(s: Step) -> Gradients:
        slope = derivative(s, s.number(s.x()), s.number(s.out))
        return [(s.number(s.c) * slope).value]

    return rule


def flat(s: Step) -> Gradients:
    """The rule of ops that are constant wherever they can be differentiated."""
    return []


def _ratio(number: float, x: Number) -> Number:
    return Number(x.c, x.c.scalar(number, x.dtype)) / x


def _above(s: Step, x: Number, bound: float, yes: Operand, no: Operand) -> Number:
    """`yes` where x > bound, else `no`."""
    return (x > bound).choose(yes, no)


def _clip(s: Step, x: Number, y: Number) -> Number:
    """1 within the bounds, both inclusive."""
    low, high = s.attr("min"), s.attr("max")
    inside = s.number(s.scalar(1.0, x.dtype))
    if low is not None:
        inside = inside.where((x >= low).value, 0.0)
    return inside if high is None else inside.where((x <= high).value, 0.0)


def _hard_sigmoid(s: Step, x: Number, y: Number) -> Number:
    return _above(s, y, 0.0, (y < 1.0).choose(s.real("alpha"), 0.0), 0.0)


def _hard_swish(s: Step, x: Number, y: Number) -> Number:
    gate = x * s.real("alpha") + s.real("beta")
    middle = x * (2 * s.real("alpha")) + s.real("beta")
    return _above(s, gate, 0.0, (gate < 1.0).choose(middle, 1.0), 0.0)


def _silu(s: Step, x: Number, y: Number) -> Number:
    share = (x * s.real("alpha")).map("sigmoid")
    return share + y * (share * -1.0 + 1.0) * s.real("alpha")


def _mish(s: Step, x: Number, y: Number) -> Number:
    t = x.map("softplus").map("tanh")
    return t + x * (t * t * -1.0 + 1.0) * x.map("sigmoid")


def _softsign(s: Step, x: Number, y: Number) -> Number:
    size = x.map("abs") + 1.0
    return _ratio(1.0, size * size)


def _gelu(s: Step, x: Number, y: Number) -> Number:
    if s.attr("approximate") == "none":
        density = (x * x * -0.5).map("exp") * (1 / math.sqrt(2 * math.pi))
        return ((x * math.sqrt(0.5)).map("erf") + 1.0) * 0.5 + x * density
    factor = math.sqrt(2 / math.pi)
    t = ((x + x * x * x * 0.044715) * factor).map("tanh")
    inner = (x * x * (3 * 0.044715) + 1.0) * factor
    return (t + 1.0) * 0.5 + x * (t * t * -1.0 + 1.0) * inner * 0.5


def _one_minus_square(x: Number) -> Number:
    return x * x * -1.0 + 1.0


DERIVATIVES: dict[str, Derivative] = {
    "math.abs": lambda s, x, y: x.map("sign"),
    "math.acos": lambda s, x, y: _ratio(-1.0, _one_minus_square(x).map("sqrt")),
    "math.acosh": lambda s, x, y: _ratio(1.0, (x * x - 1.0).map("sqrt")),
    "math.asin": lambda s, x, y: _ratio(1.0, _one_minus_square(x).map("sqrt")),
    "math.asinh": lambda s, x, y: _ratio(1.0, (x * x + 1.0).map("sqrt")),
    "math.atan": lambda s, x, y: _ratio(1.0, x * x + 1.0),
    "math.atanh": lambda s, x, y: _ratio(1.0, _one_minus_square(x)),
    "math.celu": lambda s, x, y: _above(s, x, 0.0, 1.0, (x / s.real("alpha")).map("exp")),
    "math.clip": _clip,
    "math.cos": lambda s, x, y: x.map("sin").map("neg"),
    "math.cosh": lambda s, x, y: x.map("sinh"),
    "math.elu": lambda s, x, y: _above(s, x, 0.0, 1.0, y + s.real("alpha")),
    "math.erf": lambda s, x, y: (x * x * -1.0).map("exp") * (2 / math.sqrt(math.pi)),
    "math.erfc": lambda s, x, y: (x * x * -1.0).map("exp") * (-2 / math.sqrt(math.pi)),
    "math.exp": lambda s, x, y: y,
    "math.exp2": lambda s, x, y: y * math.log(2),
    "math.expm1": lambda s, x, y: y + 1.0,
    "math.gelu": _gelu,
    "math.hard_sigmoid": _hard_sigmoid,
    "math.hard_swish": _hard_swish,
    "math.leaky_relu": lambda s, x, y: _above(s, x, 0.0, 1.0, s.real("alpha")),
    "math.log": lambda s, x, y: _ratio(1.0, x),
    "math.log10": lambda s, x, y: _ratio(1 / math.log(10), x),
    "math.log1p": lambda s, x, y: _ratio(1.0, x + 1.0),
    "math.log2": lambda s, x, y: _ratio(1 / math.log(2), x),
    "math.log_sigmoid": lambda s, x, y: x.map("neg").map("sigmoid"),
    "math.mish": _mish,
    "math.neg": lambda s, x, y: -1.0,
    "math.reciprocal": lambda s, x, y: y * y * -1.0,
    "math.relu": lambda s, x, y: _above(s, x, 0.0, 1.0, 0.0),
    "math.rsqrt": lambda s, x, y: y / x * -0.5,
    "math.selu": lambda s, x, y: _above(s, x, 0.0, s.real("gamma"), y + s.real("gamma") * s.real("alpha")),
    "math.shrink": lambda s, x, y: (x.map("abs") > s.real("lambd")).choose(1.0, 0.0),
    "math.sigmoid": lambda s, x, y: y * (y * -1.0 + 1.0),
    "math.silu": _silu,
    "math.sin": lambda s, x, y: x.map("cos"),
    "math.sinh": lambda s, x, y: x.map("cosh"),
    "math.softplus": lambda s, x, y: (x * s.real("beta")).map("sigmoid"),
    "math.softsign": _softsign,
    "math.sqrt": lambda s, x, y: _ratio(0.5, y),
    "math.tan": lambda s, x, y: y * y + 1.0,
    "math.tanh": lambda s, x, y: _one_minus_square(y),
    "math.thresholded_relu": lambda s, x, y: _above(s, x, s.real("alpha"), 1.0, 0.0),
}
"""Derivatives of ops of one operand; at a kink that of one side, as PyTorch has it."""


# -- ops of several operands --------------------------------------------------------------------------


def broadcast(s: Step, *gradients: Number | Callable[[], Number] | None) -> Gradients:
    """Gradients of operands that were broadcast; what nobody wants is not computed."""
    out: list[Value | None] = []
    for index, gradient in enumerate(gradients):
        if gradient is None or not s.wanted[index]:
            out.append(None)
            continue
        made = gradient if isinstance(gradient, Number) else gradient()
        out.append(s.reduced(made.value, s.x(index)))
    return out


def _parts(s: Step) -> tuple[Number, Number, Number]:
    return s.number(s.c), s.number(s.x(0)), s.number(s.x(1))


def _add(s: Step) -> Gradients:
    c = s.number(s.c)
    return broadcast(s, c, c)


def _sub(s: Step) -> Gradients:
    c = s.number(s.c)
    return broadcast(s, c, lambda: c.map("neg"))


def _mul(s: Step) -> Gradients:
    c, a, b = _parts(s)
    return broadcast(s, lambda: c * b, lambda: c * a)


def _div(s: Step) -> Gradients:
    c, _, b = _parts(s)
    return broadcast(s, lambda: c / b, lambda: c * s.number(s.out) / b * -1.0)


def _pow(s: Step) -> Gradients:
    c, a, b = _parts(s)

    def base() -> Number:
        power = Number(s, s.emit("pow", a.value, (b - 1.0).value))
        return (c * b * power).where(s.emit("ne", b.value, s.scalar(0.0, b.dtype)), 0.0)

    def exponent() -> Number:
        y = s.number(s.out)
        slope = y * a.map("log")
        dead = s.emit("logical_and", a.equals(0.0).value, (b >= 0.0).value)
        return c * Number(s, s.emit("select", dead, s.scalar(0.0, y.dtype), slope.value))

    return broadcast(s, base, exponent)


def _extreme(s: Step) -> Gradients:
    """Of max and min: the operand that won takes all; equal ones share."""
    c, a, b = _parts(s)
    y = s.number(s.out)
    shared = a.equals(b).choose(0.5, 1.0)

    def of(x: Number) -> Callable[[], Number]:
        return lambda: c * shared.where(x.equals(y).value, 0.0)

    return broadcast(s, of(a), of(b))


def _mod(s: Step) -> Gradients:
    c, a, b = _parts(s)
    whole = "floor" if s.attr("mode") == "floor" else "trunc"
    return broadcast(s, c, lambda: c * (a / b).map(whole) * -1.0)


def _atan2(s: Step) -> Gradients:
    c, y, x = _parts(s)
    return broadcast(s, lambda: c * x / (x * x + y * y), lambda: c * y / (x * x + y * y) * -1.0)


def _prelu(s: Step) -> Gradients:
    c, x, slope = _parts(s)
    positive = (x > 0.0).value
    return broadcast(s, lambda: c.where(positive, c * slope), lambda: (c * x * 0.0).where(positive, c * x))


def _select(s: Step) -> Gradients:
    c, condition = s.number(s.c), s.x(0)
    zero = s.number(s.scalar(0.0, c.dtype))
    return broadcast(s, None, lambda: c.where(condition, 0.0), lambda: zero.where(condition, c))


def _cast(s: Step) -> Gradients:
    return [s.cast(s.c, s.x().dtype)]


TABLE: dict[str, Rule] = {
    **{name: unary(derivative) for name, derivative in DERIVATIVES.items()},
    **{f"math.{name}": flat for name in ("ceil", "floor", "floordiv", "round", "sign", "trunc")},
    "math.add": _add,
    "math.atan2": _atan2,
    "math.cast": _cast,
    "math.div": _div,
    "math.max": _extreme,
    "math.min": _extreme,
    "math.mod": _mod,
    "math.mul": _mul,
    "math.pow": _pow,
    "math.prelu": _prelu,
    "math.select": _select,
    "math.sub": _sub,
}
"""Rules by op name."""
