"""Modified Bessel functions I and K of orders 0 and 1."""

from __future__ import annotations

import math

from aino_ir.frontends.special.doubles import Doubles
from aino_ir.graph import Value

SERIES_LIMIT = 20.0
"""Up to here the power series of I serves, from here on its asymptotic series."""
SERIES_TERMS = 40
LARGE_TERMS = 26

EULER = 0.57721566490153286
SMALL_LIMIT = 1.0
SMALL_TERMS = 12
"""Terms of the series of K, up to its limit."""
NODES = 22
"""Nodes of the trapezoidal rule for K above that limit."""


def hankel_factors(order: int, count: int) -> list[float]:
    """a_k(order), the factors of the asymptotic series in 1 / x (DLMF 10.17.1)."""
    out = [1.0]
    for k in range(1, count):
        out.append(out[-1] * (4 * order**2 - (2 * k - 1) ** 2) / (8 * k))
    return out


def modified_first(d: Doubles, x: Value, order: int, scaled: bool) -> Value:
    """I of an order (0 or 1), times exp(-|x|) when `scaled`; DLMF 10.25.2 and 10.40.1."""
    size = d("abs", x)
    low = d("min", size, SERIES_LIMIT)
    factors = [1 / (math.factorial(k) * math.factorial(k + order)) for k in range(SERIES_TERMS)]
    near = d.horner(d("mul", d("mul", low, low), 0.25), factors)
    if order:
        near = d("mul", near, d("mul", low, 0.5))
    high = d("max", size, SERIES_LIMIT)
    signed = [a * (-1) ** k for k, a in enumerate(hankel_factors(order, LARGE_TERMS))]
    far = d("div", d.horner(d("div", 1.0, high), signed), d("sqrt", d("mul", 2 * math.pi, high)))
    if scaled:
        near = d("mul", near, d("exp", d("neg", low)))
    else:
        root = d("exp", d("mul", high, 0.5))  # whose square may overflow before the product does
        far = d.select(d.infinite(high), math.inf, d("mul", d("mul", far, root), root))
    value = d.select(d("le", size, SERIES_LIMIT), near, far)
    return d.select(d("lt", x, 0.0), d("neg", value), value) if order else value


def modified_second(d: Doubles, x: Value, order: int, scaled: bool) -> Value:
    """K of an order (0 or 1), times exp(x) when `scaled`; infinite at 0, NaN below."""
    low = d("min", x, SMALL_LIMIT)
    near = _small(d, low, order)
    high = d("max", x, SMALL_LIMIT)
    far = scaled_integral(d, high, float(order))
    if scaled:
        near = d("mul", near, d("exp", low))
    else:
        far = d("mul", far, d("exp", d("neg", high)))
    value = d.select(d("le", x, SMALL_LIMIT), near, far)
    return d.choose([(d("lt", x, 0.0), math.nan), (d("eq", x, 0.0), math.inf)], value)


def _small(d: Doubles, x: Value, order: int) -> Value:
    """The series with the logarithm (DLMF 10.31.1 and 10.31.2)."""
    quarter = d("mul", d("mul", x, x), 0.25)
    harmonic = [sum(1 / j for j in range(1, k + 1)) for k in range(SMALL_TERMS + 1)]
    logarithm = d("log", d("mul", x, 0.5))
    if order == 0:
        squares = [1 / math.factorial(k) ** 2 for k in range(SMALL_TERMS)]
        first = d.horner(quarter, squares)
        rest = d.horner(quarter, [h * f for h, f in zip(harmonic, squares, strict=False)])
        return d("sub", rest, d("mul", d("add", logarithm, EULER), first))
    products = [1 / (math.factorial(k) * math.factorial(k + 1)) for k in range(SMALL_TERMS)]
    first = d("mul", d("mul", x, 0.5), d.horner(quarter, products))
    digammas = [harmonic[k] + harmonic[k + 1] - 2 * EULER for k in range(SMALL_TERMS)]
    rest = d.horner(quarter, [s * f for s, f in zip(digammas, products, strict=True)])
    total = d("add", d("div", 1.0, x), d("mul", logarithm, first))
    return d("sub", total, d("mul", d("mul", x, 0.25), rest))


def scaled_integral(d: Doubles, x: Value, order: float) -> Value:
    """exp(x) K of an order for x >= 1: the integral of exp(x - x cosh t) cosh(order t) (DLMF 10.32.9).

    By the trapezoidal rule, which converges exponentially; its step follows the width of the integrand.
    """
    step = d("div", 0.7, d("sqrt", d("add", x, 8.0)))
    total = d.value(0.5)
    for node in range(1, NODES):
        t = d("mul", step, float(node))
        sine = d("sinh", d("mul", t, 0.5))
        term = d("exp", d("mul", d("mul", x, -2.0), d("mul", sine, sine)))
        if order == 1:
            term = d("mul", term, d("add", 1.0, d("mul", 2.0, d("mul", sine, sine))))
        elif order:
            term = d("mul", term, d("cosh", d("mul", t, order)))
        total = d("add", total, term)
    return d.select(d.infinite(x), 0.0, d("mul", d("mul", 2.0, step), d("mul", 0.5, total)))
