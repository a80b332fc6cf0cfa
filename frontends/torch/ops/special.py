"""Special functions: log-gamma and its derivative, inverse error function, signs as bits.

Functions that AINO has no op for are composed in double precision and rounded once.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from aino_ir.dtypes import DTYPES, boolean, f64
from aino_ir.frontends.special import Doubles, digamma, inverse_error, log_gamma, polygamma
from aino_ir.frontends.torch.context import Lowering, NodeContext, Operand, Row
from aino_ir.graph import Value


def in_doubles(function: Callable[[Doubles, Value], Value]) -> Lowering:
    """A row for a function of one real number that is computed in f64."""

    def lower(c: NodeContext, x: Value) -> Value:
        return c.cast(function(Doubles(c), c.cast(x, f64)), c.dtype)

    return lower


def sign_bit(c: NodeContext, x: Value) -> Value:
    """Whether the sign bit is set (also of -0 and of NaN)."""
    if x.dtype.is_bool or not (x.dtype.is_float or x.dtype.is_signed):
        return c.filled(x.shape, False, boolean)
    if x.dtype.is_float:
        x = c.emit("bitcast", x, to=DTYPES[f"i{x.dtype.bits}"])
    return c.emit("lt", x, c.scalar(0, x.dtype))


def copy_sign(c: NodeContext, x: Operand, other: Operand) -> Value:
    """The magnitude of x with the sign of the other."""
    size = c.emit("abs", c.operand(x, c.dtype))
    sign = sign_bit(c, c.operand(other, c.dtype))
    return c.emit("select", sign, c.emit("neg", size), size)


def hypotenuse(c: NodeContext, x: Value, other: Value) -> Value:
    """sqrt(x^2 + y^2) without overflow on the way."""
    d = Doubles(c)
    a, b = c.cast(c.cast(x, c.dtype), f64), c.cast(c.cast(other, c.dtype), f64)
    if c.dtype is not f64:
        return c.cast(d("sqrt", d("add", d("mul", a, a), d("mul", b, b))), c.dtype)
    a, b = d("abs", a), d("abs", b)
    large, small = d("max", a, b), d("min", a, b)
    ratio = d("div", small, large)
    value = d("mul", large, d("sqrt", d("add", 1.0, d("mul", ratio, ratio))))
    plain = d.select(d("eq", large, 0.0), 0.0, value)
    infinite = c.emit("logical_or", c.emit("is_inf", a), c.emit("is_inf", b))
    return d.select(infinite, math.inf, plain)


def angle(c: NodeContext, x: Value) -> Value:
    """pi below zero, else zero; NaN stays."""
    x = c.cast(x, c.dtype)
    zero = c.scalar(0, c.dtype)
    turned = c.emit("select", c.emit("lt", x, zero), c.scalar(math.pi, c.dtype), zero)
    return c.emit("select", c.emit("is_nan", x), x, turned)


def derivative_of_digamma(c: NodeContext, n: int, x: Value) -> Value:
    """Its n-th derivative."""
    return c.cast(polygamma(Doubles(c), n, c.cast(x, f64)), c.dtype)


TABLE: dict[str, Row] = {
    "aten.angle": angle,
    "aten.copysign": copy_sign,
    "aten.digamma": in_doubles(digamma),
    "aten.erfinv": in_doubles(inverse_error),
    "aten.hypot": hypotenuse,
    "aten.lgamma": in_doubles(log_gamma),
    "aten.polygamma": derivative_of_digamma,
    "aten.signbit": sign_bit,
    "aten.special_digamma": in_doubles(digamma),
    "aten.special_erfinv": in_doubles(inverse_error),
    "aten.special_gammaln": in_doubles(log_gamma),
}
