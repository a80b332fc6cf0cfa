"""Special functions: log-gamma and its derivative, inverse error function, signs as bits.

Functions that AINO has no op for are composed in double precision and rounded once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from aino_ir.dtypes import DTYPES, boolean, f64
from aino_ir.frontends.torch.context import Lowering, NodeContext, Operand, Row
from aino_ir.graph import Value

LANCZOS = (
    0.99999999999980993,
    676.5203681218851,
    -1259.1392167224028,
    771.32342877765313,
    -176.61502916214059,
    12.507343278686905,
    -0.13857109526572012,
    9.9843695780195716e-6,
    1.5056327351493116e-7,
)
"""Coefficients of Lanczos' approximation with g = 7 (Godfrey)."""

DIGAMMA_SERIES = (1 / 12, -1 / 120, 1 / 252, -1 / 240, 1 / 132, -691 / 32760, 1 / 12)
"""B_2k / 2k of the asymptotic series of the digamma function."""

SHIFT = 10
"""From here on the asymptotic series is as exact as doubles."""


class Doubles:
    """Arithmetic on f64 values with numbers."""

    def __init__(self, c: NodeContext) -> None:
        self.c = c

    def value(self, x: Operand) -> Value:
        """A value or number as f64."""
        return self.c.operand(x, f64)

    def __call__(self, op: str, *operands: Operand, **attrs: object) -> Value:
        """The result of an op on f64 operands."""
        return self.c.emit(op, *(self.value(x) for x in operands), **attrs)

    def select(self, condition: Value, x: Operand, other: Operand) -> Value:
        """x where the condition holds."""
        return self.c.emit("select", condition, self.value(x), self.value(other))


def in_doubles(function: Callable[[Doubles, Value], Value]) -> Lowering:
    """A row for a function of one real number that is computed in f64."""

    def lower(c: NodeContext, x: Value) -> Value:
        return c.cast(function(Doubles(c), c.cast(x, f64)), c.dtype)

    return lower


def log_gamma(d: Doubles, x: Value) -> Value:
    """log |gamma(x)|: Lanczos above 1/2, by reflection below; infinite at 0, -1, -2 ..."""
    low = d("lt", x, 0.5)
    y = d("sub", d.select(low, d("sub", 1.0, x), x), 1.0)
    total = d.value(LANCZOS[0])
    for number, factor in enumerate(LANCZOS[1:], 1):
        total = d("add", total, d("div", factor, d("add", y, float(number))))
    t = d("add", y, 7.5)
    main = d("sub", d("mul", d("add", y, 0.5), d("log", t)), t)
    value = d("add", d("add", main, d("log", total)), math.log(2 * math.pi) / 2)
    fraction = d("sub", x, d("floor", x))
    sine = d("abs", d("sin", d("mul", math.pi, fraction)))
    below = d("sub", math.log(math.pi), d("add", d("log", sine), value))
    pole = d.c.emit("logical_and", low, d("eq", fraction, 0.0))
    value = d.select(pole, math.inf, d.select(low, below, value))
    return d.select(d.c.emit("is_inf", x), math.inf, value)


def digamma(d: Doubles, x: Value) -> Value:
    """The derivative of log gamma: shifted up to its asymptotic series; by reflection below zero."""
    low = d("le", x, 0.0)
    y = d.select(low, d("sub", 1.0, x), x)
    total = d.value(0.0)
    for _ in range(SHIFT):
        small = d("lt", y, float(SHIFT))
        total = d("sub", total, d.select(small, d("div", 1.0, y), 0.0))
        y = d.select(small, d("add", y, 1.0), y)
    square = d("div", 1.0, d("mul", y, y))
    series = d.value(0.0)
    for factor in reversed(DIGAMMA_SERIES):
        series = d("mul", square, d("add", series, factor))
    value = d("add", total, d("sub", d("sub", d("log", y), d("div", 0.5, y)), series))
    fraction = d("sub", x, d("floor", x))
    cotangent = d("div", math.pi, d("tan", d("mul", math.pi, fraction)))
    whole = d("eq", fraction, 0.0)
    zero = d("div", -1.0, x)
    pole = d.select(d("eq", x, 0.0), zero, math.nan)
    return d.select(low, d.select(whole, pole, d("sub", value, cotangent)), value)


def inverse_error(d: Doubles, y: Value) -> Value:
    """The number whose error function is y: Giles' approximation, made exact by two Newton steps."""
    w = d("neg", d("log", d("mul", d("sub", 1.0, y), d("add", 1.0, y))))
    x = d("mul", y, d.select(d("lt", w, 5.0), _central(d, w), _tail(d, w)))
    for _ in range(2):
        slope = d("mul", 2 / math.sqrt(math.pi), d("exp", d("neg", d("mul", x, x))))
        step = d("div", d("sub", d("erf", x), y), slope)
        x = d("sub", x, d.select(d("lt", d("abs", y), 1.0), step, 0.0))
    infinite = d("mul", y, math.inf)
    return d.select(d("lt", d("abs", y), 1.0), x, d.select(d("eq", d("abs", y), 1.0), infinite, math.nan))


def _horner(d: Doubles, w: Value, factors: Sequence[float]) -> Value:
    total = d.value(factors[0])
    for factor in factors[1:]:
        total = d("add", d("mul", total, w), factor)
    return total


def _central(d: Doubles, w: Value) -> Value:
    factors = (
        2.81022636e-08,
        3.43273939e-07,
        -3.5233877e-06,
        -4.39150654e-06,
        0.00021858087,
        -0.00125372503,
        -0.00417768164,
        0.246640727,
        1.50140941,
    )
    return _horner(d, d("sub", w, 2.5), factors)


def _tail(d: Doubles, w: Value) -> Value:
    factors = (
        -0.000200214257,
        0.000100950558,
        0.00134934322,
        -0.00367342844,
        0.00573950773,
        -0.0076224613,
        0.00943887047,
        1.00167406,
        2.83297682,
    )
    return _horner(d, d("sub", d("sqrt", w), 3.0), factors)


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


TABLE: dict[str, Row] = {
    "aten.angle": angle,
    "aten.copysign": copy_sign,
    "aten.digamma": in_doubles(digamma),
    "aten.erfinv": in_doubles(inverse_error),
    "aten.hypot": hypotenuse,
    "aten.lgamma": in_doubles(log_gamma),
    "aten.signbit": sign_bit,
    "aten.special_digamma": in_doubles(digamma),
    "aten.special_erfinv": in_doubles(inverse_error),
    "aten.special_gammaln": in_doubles(log_gamma),
}
