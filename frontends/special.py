"""Special functions that the IR has no op for, composed in double precision and rounded once."""

from __future__ import annotations

import math
from collections.abc import Sequence

from aino_ir.dtypes import f64
from aino_ir.frontends.emitter import Emitter
from aino_ir.graph import Value

Operand = Value | float
"""A value, or a number."""

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

BERNOULLI = (1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730, 7 / 6, -3617 / 510)
"""B_2, B_4 ..."""

SHIFT = 10
"""From here on the asymptotic series is as exact as doubles."""


class Doubles:
    """Arithmetic on f64 values with numbers."""

    def __init__(self, c: Emitter) -> None:
        self.c = c

    def value(self, x: Operand) -> Value:
        """A value or number as f64."""
        return self.c.cast(x, f64) if isinstance(x, Value) else self.c.scalar(x, f64)

    def __call__(self, op: str, *operands: Operand, **attrs: object) -> Value:
        """The result of an op on f64 operands."""
        return self.c.emit(op, *(self.value(x) for x in operands), **attrs)

    def select(self, condition: Value, x: Operand, other: Operand) -> Value:
        """x where the condition holds."""
        return self.c.emit("select", condition, self.value(x), self.value(other))


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


def polygamma(d: Doubles, n: int, x: Value) -> Value:
    """The n-th derivative of the digamma function.

    Above zero (-1)^(n+1) n! times the sum of (x + k)^-(n+1): terms, then Euler and Maclaurin's formula.
    Below by reflection with the n-th derivative of the cotangent, a polynomial in the cotangent itself.
    """
    if n == 0:
        return digamma(d, x)
    low = d("le", x, 0.0)
    y = d.select(low, d("sub", 1.0, x), x)
    total, shift = d.value(0.0), max(SHIFT, n)
    for k in range(shift):
        total = d("add", total, _power(d, d("div", 1.0, d("add", y, float(k))), n + 1))
    inverse = d("div", 1.0, d("add", y, float(shift)))
    power, square = _power(d, inverse, n), d("mul", inverse, inverse)
    total = d("add", total, d("mul", power, d("add", 1.0 / n, d("mul", 0.5, inverse))))
    series = d.value(0.0)
    for k in range(len(BERNOULLI), 0, -1):
        rising = math.prod(range(n + 1, n + 2 * k))
        factor = BERNOULLI[k - 1] * rising / math.factorial(2 * k)
        series = d("mul", square, d("add", factor, series))
    total = d("add", total, d("mul", power, series))
    sign = 1.0 if n % 2 else -1.0
    above = d("mul", sign * math.factorial(n), total)
    fraction = d("sub", x, d("floor", x))
    cotangent = d("div", 1.0, d("tan", d("mul", math.pi, fraction)))
    derivative = d("mul", math.pi ** (n + 1), _horner(d, cotangent, _cotangent_derivative(n)))
    below = d("sub", d("mul", -sign, above), derivative)
    pole = d.select(d("eq", fraction, 0.0), sign * math.inf, below)
    return d.select(low, pole, above)


def _power(d: Doubles, x: Value, n: int) -> Value:
    """x^n for n > 0, by squares."""
    if n == 1:
        return x
    half = _power(d, x, n // 2)
    whole = d("mul", half, half)
    return d("mul", whole, x) if n % 2 else whole


def _cotangent_derivative(n: int) -> list[float]:
    """Coefficients, highest first, of the polynomial that the n-th derivative of cot x is in cot x."""
    found = [0, 1]  # lowest first: cot x itself
    for _ in range(n):
        slope = [k * number for k, number in enumerate(found)][1:]
        found = [-(a + b) for a, b in zip([*slope, 0, 0], [0, 0, *slope], strict=True)]
    return [float(number) for number in reversed(found)]


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
