"""sin, cos, tan: |x| is reduced to r in [-pi/4, pi/4] plus quarter turns, then minimax polynomials.

f32 over its whole range: x times the f64 pieces of 1/(2 pi), each product exact, the whole turns of
each dropped (after Payne and Hanek, "Radian reduction for trigonometric functions", 1983).
f64: three-part Cody-Waite reduction with fma, good for |x| < 2^47; larger arguments go through
`reduce_large`.
"""

from __future__ import annotations

from aino_ir.dtypes import f32, f64
from aino_ir.loops.expr import Expr, bitcast, cast, compare, fma, select, unary
from aino_ir.loops.math import coefficients as c
from aino_ir.loops.math.base import Pins, absolute, flip_sign, format_of, function, horner, sign_bits


def reduce_angle(b: Pins, a: Expr) -> tuple[Expr, Expr | None, Expr]:
    """(r, low, quarters): a = quarters * pi/2 + r + low for a >= 0; quarters modulo 4 as bits."""
    return _reduce_f32(b, a) if a.dtype is f32 else _reduce_f64(b, a)


def _reduce_f32(b: Pins, a: Expr) -> tuple[Expr, None, Expr]:
    wide = b.let(cast(a, f64), "w")
    turns: Expr | None = None
    for piece in c.TURNS:
        product = b.let(wide * piece, "p")
        part = product - unary("round", product)
        turns = part if turns is None else turns + part
    assert turns is not None  # there are pieces
    quarters = b.let(turns * 4.0, "q")
    whole = b.let(unary("round", quarters), "n")
    r = cast((quarters - whole) * c.HALF_PI["f64"][0], f32)
    f = format_of(a)
    return b.let(r, "r"), None, b.let(bitcast(cast(whole, f32) + f.integers, f.bits), "i")


def _reduce_f64(b: Pins, a: Expr) -> tuple[Expr, Expr, Expr]:
    f = format_of(a)
    first, second, third = f.parts(c.HALF_PI)
    shifted = b.let(fma(a, f.parts(c.TWO_OVER_PI)[0], f.integers), "n")
    n = b.let(shifted - f.integers, "n")
    exact = b.let(fma(n, -first, a), "r")
    r = b.let(fma(n, -second, exact), "r")
    low = fma(n, -third, fma(n, -second, exact - r))
    return r, b.let(low, "l"), b.let(bitcast(shifted, f.bits), "i")


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
