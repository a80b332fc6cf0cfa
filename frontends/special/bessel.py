"""Bessel functions J and Y of orders 0 and 1, and the spherical one of order 0.

Up to a limit by the trapezoidal rule for Bessel's integral (DLMF 10.9.1), which converges exponentially: its
nodes give J of all orders, and with them Neumann's series of Y; beyond by Hankel's asymptotic series.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from aino_ir.frontends.special.doubles import Doubles
from aino_ir.frontends.special.modified_bessel import EULER, hankel_factors
from aino_ir.graph import Value

LIMIT = 25.0
NODES = 32
"""Nodes in a quarter of the circle: J of orders up to 62 comes out right up to the limit."""
ORDERS = 31
"""Terms of Neumann's series."""
LARGE_TERMS = 22

ANGLES = [(j + 0.5) * math.pi / (2 * NODES) for j in range(NODES)]


def bessel_first(d: Doubles, x: Value, order: int) -> Value:
    """J of order 0 or 1; 0 at the infinities."""
    size = d("abs", x)
    low, high = d("min", size, LIMIT), d("max", size, LIMIT)
    near = _weighted(d, low, order, [_first_weight(order, t) for t in ANGLES])
    value = d.select(d("le", size, LIMIT), near, _large(d, high, order, second=False))
    return d.select(d("lt", x, 0.0), d("neg", value), value) if order else value


def bessel_second(d: Doubles, x: Value, order: int) -> Value:
    """Y of order 0 or 1; -inf at 0, NaN below."""
    low, high = d("min", x, LIMIT), d("max", x, LIMIT)
    first = _weighted(d, low, order, [_first_weight(order, t) for t in ANGLES])
    rest = _weighted(d, low, order, [_neumann_weight(order, t) for t in ANGLES])
    logarithm = d("add", d("log", d("mul", low, 0.5)), EULER - order)
    near = d("sub", d("mul", logarithm, first), d("mul", 2.0, rest))
    if order:
        near = d("sub", near, d("div", 1.0, low))
    near = d("mul", 2 / math.pi, near)
    value = d.select(d("le", x, LIMIT), near, _large(d, high, order, second=True))
    return d.choose([(d("lt", x, 0.0), math.nan), (d("eq", x, 0.0), -math.inf)], value)


def _first_weight(order: int, angle: float) -> float:
    """The weight of a node in J."""
    return (math.sin(angle) if order else 1.0) / NODES


def _neumann_weight(order: int, angle: float) -> float:
    """The weight of a node in half the sum of Neumann's series of Y (DLMF 10.23.16).

    Of order 1 the series holds J0 / x, which is 1 / x less the sum of (J(2k - 1) + J(2k + 1)) / 2k.
    """
    if order == 0:
        terms = [(-1) ** k / k * math.cos(2 * k * angle) for k in range(1, ORDERS + 1)]
        return math.fsum(terms) / NODES
    terms = []
    for k in range(1, ORDERS):
        before, here = math.sin((2 * k - 1) * angle), math.sin((2 * k + 1) * angle)
        terms.append((-1) ** k * (2 * k + 1) / (k * (k + 1)) * here)
        terms.append(-(before + here) / (2 * k))
    return math.fsum(terms) / (2 * NODES)


def _weighted(d: Doubles, x: Value, order: int, weights: Sequence[float]) -> Value:
    """The sum of weights times cos(x sin t) (of an odd order sin(x sin t)) over the nodes."""
    total = d.value(0.0)
    for angle, weight in zip(ANGLES, weights, strict=True):
        wave = d("sin" if order else "cos", d("mul", x, math.sin(angle)))
        total = d("add", total, d("mul", weight, wave))
    return total


def _large(d: Doubles, x: Value, order: int, second: bool) -> Value:
    """Hankel's series (DLMF 10.17.3 and 10.17.4); the phase is x less an odd multiple of pi / 4."""
    inverse = d("div", 1.0, x)
    square = d("mul", inverse, inverse)
    factors = hankel_factors(order, LARGE_TERMS)
    even = d.horner(square, [a * (-1) ** k for k, a in enumerate(factors[::2])])
    odd = d("mul", inverse, d.horner(square, [a * (-1) ** k for k, a in enumerate(factors[1::2])]))
    sine, cosine = d("sin", x), d("cos", x)
    together, apart = d("add", sine, cosine), d("sub", sine, cosine)
    real, imaginary = (together, apart) if order == 0 else (apart, d("neg", together))
    if second:
        wave = d("add", d("mul", even, imaginary), d("mul", odd, real))
    else:
        wave = d("sub", d("mul", even, real), d("mul", odd, imaginary))
    value = d("mul", wave, d("sqrt", d("mul", 1 / math.pi, inverse)))
    return d.select(d.infinite(x), 0.0, value)


def spherical_bessel(d: Doubles, x: Value) -> Value:
    """sin(x) / x, 1 at 0 and 0 at the infinities."""
    ratio = d("div", d("sin", x), x)
    return d.choose([(d("eq", x, 0.0), 1.0), (d.infinite(x), 0.0)], ratio)
