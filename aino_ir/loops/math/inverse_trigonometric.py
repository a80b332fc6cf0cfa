"""asin, acos, atan, atan2."""

from __future__ import annotations

from aino_ir.loops.expr import Expr, compare, fma, select, unary
from aino_ir.loops.math import coefficients as c
from aino_ir.loops.math.base import (
    INFINITY,
    Pins,
    absolute,
    flip_sign,
    format_of,
    function,
    horner,
    literal,
    sign_bits,
)


def asin_parts(b: Pins, a: Expr) -> tuple[Expr, Expr, Expr]:
    """(large, base, tail): asin of a, or of sqrt((1 - a) / 2) where a > 1/2, as base + tail."""
    large = b.let(a > 0.5, "large")
    square = b.let(select(large, fma(a, -0.5, 0.5), a * a), "s")
    base = b.let(select(large, unary("sqrt", square), a), "r")
    tail = base * square * horner(square, format_of(a).parts(c.ASIN))
    return large, base, b.let(tail, "t")


@function("asin", f32_ulp=3.0, f64_ulp=3.0)
def asin(b: Pins, x: Expr) -> Expr:
    """inverse sine, NaN outside -1..1"""
    f = format_of(x)
    large, base, tail = asin_parts(b, b.let(absolute(x), "a"))
    high, low, _ = f.parts(c.HALF_PI)
    # pi/2 - 2 (base + tail)
    far = fma(base, -2.0, high) + fma(tail, -2.0, low)
    return flip_sign(b.let(select(large, far, base + tail), "y"), sign_bits(x))


@function("acos", f32_ulp=3.0, f64_ulp=3.0)
def acos(b: Pins, x: Expr) -> Expr:
    """inverse cosine, NaN outside -1..1"""
    f = format_of(x)
    large, base, tail = asin_parts(b, b.let(absolute(x), "a"))
    negative = b.let(x < 0.0, "negative")
    pi_high, pi_low, _ = f.parts(c.PI)
    half_high, half_low, _ = f.parts(c.HALF_PI)
    doubled = b.let((base + tail) * 2.0, "d")
    near_one = select(negative, fma(base, -2.0, pi_high) + fma(tail, -2.0, pi_low), doubled)
    sign = select(negative, literal(x, -1.0), 1.0)
    # pi/2 - asin(x)
    middle = (half_high - base * sign) + (half_low - tail * sign)
    return select(large, near_one, middle)


def atan_ratio(b: Pins, small: Expr, large: Expr) -> tuple[Expr, Expr]:
    """atan(small / large) for 0 <= small <= large, as a sum of two."""
    a = b.let(small / large, "a")
    square = b.let(a * a, "s")
    return a, b.let(a * square * horner(square, format_of(a).parts(c.ATAN)), "t")


@function("atan", f32_ulp=3.0, f64_ulp=3.0)
def atan(b: Pins, x: Expr) -> Expr:
    """inverse tangent"""
    a = b.let(absolute(x), "a")
    large = b.let(a > 1.0, "large")
    base, tail = atan_ratio(b, select(large, literal(x, 1.0), a), select(large, a, 1.0))
    high, low, _ = format_of(x).parts(c.HALF_PI)
    result = select(large, (high - base) + (low - tail), base + tail)
    return flip_sign(b.let(result, "y"), sign_bits(x))


@function("atan2", 2, f32_ulp=3.0, f64_ulp=3.0)
def atan2(b: Pins, y: Expr, x: Expr) -> Expr:
    """angle of the point (x, y), C99 special cases"""
    a, d = b.let(absolute(y), "a"), b.let(absolute(x), "d")
    steep = b.let(a > d, "steep")
    small, large = select(steep, d, a), b.let(select(steep, a, d), "g")
    # infinity/infinity counts as 1/1, 0/0 as 0/1.
    both = b.let(compare("eq", a, INFINITY) & compare("eq", d, INFINITY), "both")
    numerator = select(both, 1.0, small)
    denominator = select(both, 1.0, select(compare("eq", large, 0.0), 1.0, large))
    base, tail = atan_ratio(b, numerator, denominator)
    # Quadrants: r, pi/2 - r, pi/2 + r, pi - r as offset + sign * r.
    left = b.let(compare("ne", sign_bits(x), 0), "left")
    half_high, half_low, _ = format_of(x).parts(c.HALF_PI)
    pi_high, pi_low, _ = format_of(x).parts(c.PI)
    flat_high, flat_low = select(left, literal(x, pi_high), 0.0), select(left, literal(x, pi_low), 0.0)
    high = select(steep, half_high, flat_high)
    low = select(steep, half_low, flat_low)
    sign = b.let(select(steep, select(left, literal(x, 1.0), -1.0), select(left, literal(x, -1.0), 1.0)), "s")
    angle = fma(base, sign, high) + fma(tail, sign, low)
    return flip_sign(b.let(angle, "y"), sign_bits(y))
