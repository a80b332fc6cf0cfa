"""Airy's function Ai."""

from __future__ import annotations

import math

from aino_ir.frontends.special.doubles import Doubles
from aino_ir.frontends.special.modified_bessel import scaled_integral
from aino_ir.graph import Value

CENTERS = (
    (-5.0, -7.0, 0.18428083525050577, -0.7710081684101265),
    (-1.0, -3.0, -0.3788142936776581, 0.3145837692165988),
    (1.5, 0.0, 0.3550280538878172, -0.2588194037928068),
)
"""(up to, center of a Taylor series, Ai and its derivative there)."""
LOWEST = -9.0
"""Below it the asymptotic series of oscillations serves."""
TERMS = 42
LARGE_TERMS = 24


def airy(d: Doubles, x: Value) -> Value:
    """Ai(x): Taylor series, whose factors follow from Ai'' = x Ai, between an oscillation and a decay."""
    highest = CENTERS[-1][0]
    value = _decaying(d, d("max", x, highest))
    for top, center, start, slope in reversed(CENTERS):
        apart = d("sub", d("max", d("min", x, top), LOWEST), center)
        value = d.select(d("le", x, top), d.horner(apart, _taylor(center, start, slope)), value)
    return d.select(d("lt", x, LOWEST), _oscillating(d, d("neg", d("min", x, LOWEST))), value)


def _taylor(center: float, start: float, slope: float) -> list[float]:
    """Factors of the series about a point."""
    out = [start, slope, center * start / 2]
    for n in range(1, TERMS - 2):
        out.append((center * out[n] + out[n - 1]) / ((n + 1) * (n + 2)))
    return out


def _decaying(d: Doubles, x: Value) -> Value:
    """sqrt(x / 3) / pi times K of order 1/3 (DLMF 9.6.2)."""
    root = d("sqrt", x)
    zeta = d("mul", 2 / 3, d("mul", x, root))
    wave = d("mul", scaled_integral(d, zeta, 1 / 3), d("exp", d("neg", zeta)))
    scale = d("mul", 1 / (math.pi * math.sqrt(3)), root)
    return d.select(d.infinite(x), 0.0, d("mul", scale, wave))


def _oscillating(d: Doubles, x: Value) -> Value:
    """Ai(-x) (DLMF 9.7.9)."""
    root = d("sqrt", x)
    zeta = d("mul", 2 / 3, d("mul", x, root))
    factors = [1.0]
    for k in range(1, LARGE_TERMS):
        factors.append(factors[-1] * (6 * k - 5) * (6 * k - 3) * (6 * k - 1) / (216 * k * (2 * k - 1)))
    inverse = d("div", 1.0, zeta)
    square = d("mul", inverse, inverse)
    even = d.horner(square, [u * (-1) ** k for k, u in enumerate(factors[::2])])
    odd = d("mul", inverse, d.horner(square, [u * (-1) ** k for k, u in enumerate(factors[1::2])]))
    sine, cosine = d("sin", zeta), d("cos", zeta)
    wave = d("add", d("mul", d("add", cosine, sine), even), d("mul", d("sub", sine, cosine), odd))
    value = d("div", wave, d("mul", math.sqrt(2 * math.pi), d("sqrt", root)))
    return d.select(d.infinite(x), 0.0, value)
