"""exp, exp2, expm1 and the logistic functions.

exp(x) = 2^n exp(r) with n = round(x / ln 2) and |r| <= ln(2)/2: n comes out of an addition that
leaves it in the low bits, the remainder is exact (one fma with ln 2 in two parts; Cody and Waite,
"Software Manual for the Elementary Functions", 1980), exp(r) is a minimax polynomial.  2^n is
applied in two halves, so that overflow and denormal results are rounded once and correctly.
"""

from __future__ import annotations

from aino_ir.loops.expr import Expr, bitcast, fma, select
from aino_ir.loops.math import coefficients as c
from aino_ir.loops.math.base import (
    Pins,
    absolute,
    at_least,
    at_most,
    format_of,
    function,
    horner,
    sign_bits,
)


def reduce_exp(b: Pins, x: Expr, low: Expr | None = None) -> tuple[Expr, Expr]:
    """exp(x + low) = m * 2^n as (m, bits), m near 1; `bits` holds n + 2 bias in its low bits.

    x must lie within `Format.exp_low .. exp_high` (or be NaN: then m is NaN); `low` must be so small
    that its square vanishes.
    """
    slope, r, bits = reduce_expm1(b, x, low)
    return b.let(fma(slope, r, 1.0), "m"), bits


def reduce_expm1(b: Pins, x: Expr, low: Expr | None = None) -> tuple[Expr, Expr, Expr]:
    """exp(x + low) = (1 + slope * r) * 2^n as (slope, r, bits); see `reduce_exp`."""
    f = format_of(x)
    ln2_high, ln2_low, _ = f.parts(c.LN2)
    shift = f.integers + 2 * f.bias
    shifted = b.let(fma(x, f.parts(c.LOG2E)[0], shift), "n")
    n = b.let(shifted - shift, "n")
    exact = fma(n, -ln2_high, x)
    r = b.let(fma(n, -ln2_low, exact) if low is None else exact + fma(n, -ln2_low, low), "r")
    slope = fma(horner(r, f.parts(c.EXP)), r, 1.0)
    return b.let(slope, "d"), r, b.let(bitcast(shifted, f.bits), "n")


def scale(b: Pins, m: Expr, bits: Expr) -> Expr:
    """m * 2^n for n + 2 bias in the low bits of `bits`, n from 2 (1 - bias) to 2 bias.

    Overflow gives infinity; a denormal result of a normal m is rounded once.
    """
    first, second = scale_factors(b, m, bits)
    return m * first * second


def scale_factors(b: Pins, m: Expr, bits: Expr) -> tuple[Expr, Expr]:
    """The two powers of two whose product is 2^n (see `scale`)."""
    f = format_of(m)
    half = b.let(bits >> 1, "h")
    return bitcast(half << f.fraction, m.dtype), bitcast((bits - half) << f.fraction, m.dtype)


def exp_of_negative(b: Pins, x: Expr, low: Expr | None = None) -> Expr:
    """exp(x + low) for x <= 0 (or NaN)."""
    m, bits = reduce_exp(b, b.let(at_least(x, format_of(x).exp_low), "x"), low)
    return b.let(scale(b, m, bits), "e")


def clamp_exp(b: Pins, x: Expr) -> Expr:
    """x within the range where exp is neither 0 nor infinite, a little widened."""
    f = format_of(x)
    return b.let(at_least(b.let(at_most(x, f.exp_high), "x"), f.exp_low), "x")


@function("exp", f32_ulp=1.0, f64_ulp=1.0)
def exp(b: Pins, x: Expr) -> Expr:
    """e to the power x"""
    m, bits = reduce_exp(b, clamp_exp(b, x))
    return scale(b, m, bits)


@function("exp2", f32_ulp=1.0, f64_ulp=1.0)
def exp2(b: Pins, x: Expr) -> Expr:
    """2 to the power x"""
    f = format_of(x)
    limit = float(f.bias + 1)
    x = b.let(at_least(b.let(at_most(x, limit), "x"), -limit - f.fraction - 2), "x")
    return exp2_sum(b, x, None)


def exp2_sum(b: Pins, x: Expr, low: Expr | None) -> Expr:
    """2^(x + low) for x clamped to where the result is neither 0 nor infinite."""
    f = format_of(x)
    shift = f.integers + 2 * f.bias
    shifted = b.let(x + shift, "n")
    remainder = x - (shifted - shift)
    r = b.let(remainder if low is None else remainder + low, "r")
    m = b.let(fma(horner(r, f.parts(c.EXP2)), r, 1.0), "m")
    return scale(b, m, b.let(bitcast(shifted, f.bits), "n"))


@function("expm1", f32_ulp=2.0, f64_ulp=2.0)
def expm1(b: Pins, x: Expr) -> Expr:
    """exp(x) - 1 without cancellation"""
    f = format_of(x)
    low = -0.72 * (f.fraction + 2)
    clamped = b.let(at_least(b.let(at_most(x, f.exp_high), "x"), f.number(low)), "x")
    half_power, part = expm1_parts(b, clamped)
    return select(absolute(x) < f.tiny, x, (fma(half_power, part, half_power - 0.5)) * 2.0)


def expm1_parts(b: Pins, x: Expr) -> tuple[Expr, Expr]:
    """(2^(n-1), exp(r) - 1) for exp(x) = 2^n exp(r)."""
    f = format_of(x)
    ln2_high, ln2_low, _ = f.parts(c.LN2)
    shift = f.integers + f.bias - 1
    shifted = b.let(fma(x, f.parts(c.LOG2E)[0], shift), "n")
    n = b.let(shifted - shift, "n")
    # The rounding of r is carried along: it would be the largest error where exp(x) is near 1/2.
    high = b.let(fma(n, -ln2_high, x), "r")
    r = b.let(fma(n, -ln2_low, high), "r")
    rest = fma(n, -ln2_low, high - r)
    square = b.let(r * r, "s")
    part = r + fma(square, horner(r, f.parts(c.EXP)), rest)
    power = b.let(bitcast(bitcast(shifted, f.bits) << f.fraction, x.dtype), "p")
    return power, part


@function("sigmoid", f32_ulp=2.5, f64_ulp=2.5)
def sigmoid(b: Pins, x: Expr) -> Expr:
    """1 / (1 + exp(-x))"""
    z = exp_of_negative(b, b.let(-absolute(x), "a"))
    return select(x < 0.0, z, 1.0) / (z + 1.0)


@function("silu", f32_ulp=3.0, f64_ulp=3.0)
def silu(b: Pins, x: Expr) -> Expr:
    """x / (1 + exp(-x))"""
    return times_sigmoid(b, x, x, None)


def times_sigmoid(b: Pins, x: Expr, w: Expr, low: Expr | None) -> Expr:
    """x * sigmoid(w + low), one rounding where the result is denormal; w has the sign of x."""
    f = format_of(x)
    bound = b.let(at_least(-absolute(w), f.exp_low - 12.0), "a")
    if low is not None:
        low = flip_sign_like(low, w)
    slope, r, bits = reduce_expm1(b, bound, low)
    first, second = (b.let(p, "p") for p in scale_factors(b, x, bits))
    growth = b.let(slope * r, "g")
    z = b.let((growth + 1.0) * first, "z")
    # x * 0 makes -infinity NaN, as it is in the defining formula.
    bounded = b.let(at_least(x, 2.0 * f.exp_low), "x")
    below = fma(x, 0.0, fma(bounded, growth, bounded) * first * second)
    return select(x < 0.0, below, x) / fma(z, second, 1.0)


def flip_sign_like(low: Expr, w: Expr) -> Expr:
    """`low` as it is for w < 0, negated for w >= 0: the low part of -|w + low|."""
    f = format_of(w)
    return bitcast(bitcast(low, f.bits) ^ sign_bits(w) ^ f.sign, w.dtype)


@function("softplus", f32_ulp=2.5, f64_ulp=2.5)
def softplus(b: Pins, x: Expr) -> Expr:
    """log(1 + exp(x))"""
    f = format_of(x)
    z = exp_of_negative(b, b.let(-absolute(x), "a"))
    log1p = fma(b.let(z * z, "s"), horner(z, f.parts(c.LOG1P_UNIT)), z)
    return at_least(x, 0.0) + log1p
