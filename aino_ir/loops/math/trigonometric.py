"""sin, cos, tan: |x| is reduced to r in [-pi/4, pi/4] and quarter turns, then minimax polynomials."""

from __future__ import annotations

from aino_ir.loops.expr import Expr, compare, fma, select
from aino_ir.loops.math import coefficients as c
from aino_ir.loops.math.angle import reduce_angle
from aino_ir.loops.math.base import Pins, absolute, flip_sign, format_of, function, horner, sign_bits


def sin_and_cos(b: Pins, r: Expr, low: Expr | None) -> tuple[Expr, Expr]:
    """sin(r + low), cos(r + low) on |r| <= pi/4."""
    f = format_of(r)
    square = b.let(r * r, "s")
    sine, cosine = horner(square, f.parts(c.SIN)), horner(square, f.parts(c.COS))
    cubed = r * square
    half = b.let(fma(square, -0.5, 1.0), "h")
    # What 1 - r^2/2 loses in rounding goes into the smaller term.
    lost = fma(square, -0.5, 1.0 - half)
    tail = fma(square * square, cosine, lost)
    if low is None:
        return b.let(fma(cubed, sine, r), "sin"), b.let(half + tail, "cos")
    sin_ = r + fma(cubed, sine, low * half)
    return b.let(sin_, "sin"), b.let(half + fma(-r, low, tail), "cos")


def odd(quarters: Expr) -> Expr:
    """Whether the number of quarter turns is odd."""
    return compare("ne", quarters & 1, 0)


def half_turn_sign(b: Pins, quarters: Expr) -> Expr:
    """The sign bit where the angle lies in the second half turn."""
    return (quarters & 2) << (quarters.dtype.bits - 2)


@function("sin", f32_ulp=2.0, f64_ulp=2.0)
def sin(b: Pins, x: Expr) -> Expr:
    """sine of x in radians"""
    r, low, quarters = reduce_angle(b, b.let(absolute(x), "a"))
    sine, cosine = sin_and_cos(b, r, low)
    return flip_sign(select(odd(quarters), cosine, sine), sign_bits(x) ^ half_turn_sign(b, quarters))


@function("cos", f32_ulp=2.0, f64_ulp=2.0)
def cos(b: Pins, x: Expr) -> Expr:
    """cosine of x in radians"""
    r, low, quarters = reduce_angle(b, b.let(absolute(x), "a"))
    sine, cosine = sin_and_cos(b, r, low)
    turned = b.let(quarters + 1, "i")
    return flip_sign(select(odd(turned), cosine, sine), half_turn_sign(b, turned))


@function("tan", f32_ulp=4.0, f64_ulp=4.0)
def tan(b: Pins, x: Expr) -> Expr:
    """tangent of x in radians"""
    r, low, quarters = reduce_angle(b, b.let(absolute(x), "a"))
    sine, cosine = sin_and_cos(b, r, low)
    swap = b.let(odd(quarters), "swap")
    ratio = select(swap, -cosine, sine) / select(swap, sine, cosine)
    return flip_sign(b.let(ratio, "t"), sign_bits(x))
