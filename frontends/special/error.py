"""Functions of the normal distribution: the scaled complementary error function, and inverses."""

from __future__ import annotations

import math

from aino_ir.frontends.special.doubles import Doubles
from aino_ir.graph import Value

SCALED_STEP = 0.5
"""Step of the trapezoidal rule for `scaled_complement`: its error is exp(-(pi / step)^2)."""
SCALED_NODES = 13
SCALED_FROM = 4.5
"""From here on the pole of the integrand is as far from the real axis as the rule needs."""

NORMAL_GUESS = (2.515517, 0.802853, 0.010328), (1.0, 1.432788, 0.189269, 0.001308)
"""Numerator and denominator of Hastings' quantile (Abramowitz and Stegun 26.2.23), lowest power first."""


def scaled_complement(d: Doubles, x: Value) -> Value:
    """exp(x^2) erfc(x).

    For large x the trapezoidal rule of x / pi times the integral of exp(-t^2) / (t^2 + x^2) (DLMF 7.7.2).
    """
    low = d("min", x, SCALED_FROM)
    near = d("mul", d("exp", d("mul", low, low)), d("erfc", low))
    high = d("max", x, SCALED_FROM)
    total = d("div", 0.5, high)
    for node in range(1, SCALED_NODES):
        square = (node * SCALED_STEP) ** 2
        total = d("add", total, d("div", math.exp(-square), d("add", high, d("div", square, high))))
    return d.select(d("lt", x, SCALED_FROM), near, d("mul", total, 2 * SCALED_STEP / math.pi))


def normal_quantile(d: Doubles, p: Value) -> Value:
    """The number below which a share p of the normal distribution lies; by Halley's iteration."""
    low = d("lt", p, 0.5)
    tail = d.select(low, p, d("sub", 1.0, p))
    inside = d("max", tail, 5e-324)
    t = d("sqrt", d("mul", -2.0, d("log", inside)))
    top, bottom = (d.horner(t, factors) for factors in NORMAL_GUESS)
    x = d("sub", t, d("div", top, bottom))
    for _ in range(3):
        share = d("mul", 0.5, d("erfc", d("mul", x, math.sqrt(0.5))))
        density = d("mul", 1 / math.sqrt(2 * math.pi), d("exp", d("mul", -0.5, d("mul", x, x))))
        step = d("div", d("sub", share, inside), density)
        x = d("add", x, d("div", step, d("sub", 1.0, d("mul", 0.5, d("mul", step, x)))))
    x = d.select(d("eq", tail, 0.0), math.inf, d.select(d("ge", tail, 0.0), x, math.nan))
    return d.select(low, d("neg", x), x)


def inverse_error(d: Doubles, y: Value) -> Value:
    """The number whose error function is y: Giles' approximation, made exact by two Newton steps."""
    w = d("neg", d("log", d("mul", d("sub", 1.0, y), d("add", 1.0, y))))
    central = d.horner(d("sub", w, 2.5), CENTRAL)
    tail = d.horner(d("sub", d("sqrt", w), 3.0), TAIL)
    x = d("mul", y, d.select(d("lt", w, 5.0), central, tail))
    for _ in range(2):
        slope = d("mul", 2 / math.sqrt(math.pi), d("exp", d("neg", d("mul", x, x))))
        step = d("div", d("sub", d("erf", x), y), slope)
        x = d("sub", x, d.select(d("lt", d("abs", y), 1.0), step, 0.0))
    infinite = d("mul", y, math.inf)
    return d.select(d("lt", d("abs", y), 1.0), x, d.select(d("eq", d("abs", y), 1.0), infinite, math.nan))


CENTRAL = (
    1.50140941,
    0.246640727,
    -0.00417768164,
    -0.00125372503,
    0.00021858087,
    -4.39150654e-06,
    -3.5233877e-06,
    3.43273939e-07,
    2.81022636e-08,
)
TAIL = (
    2.83297682,
    1.00167406,
    0.00943887047,
    -0.0076224613,
    0.00573950773,
    -0.00367342844,
    0.00134934322,
    0.000100950558,
    -0.000200214257,
)
"""Giles' polynomials, lowest power first."""
