"""sinh, cosh, tanh and their inverses: a polynomial near zero, exponentials and logarithms elsewhere."""

from __future__ import annotations

from aino_ir.loops.expr import Expr, bitcast, compare, fma, select, unary
from aino_ir.loops.math import coefficients as c
from aino_ir.loops.math.base import (
    INFINITY,
    NAN,
    Pins,
    absolute,
    at_most,
    flip_sign,
    format_of,
    function,
    horner,
    literal,
    sign_bits,
)
from aino_ir.loops.math.exponential import reduce_exp, scale_factors
from aino_ir.loops.math.logarithm import log1p_core, log1p_parts, log_of_parts

SMALL_TANH = 0.625


def odd_polynomial(b: Pins, x: Expr, table: c.Table) -> Expr:
    """x + x^3 P(x^2)."""
    square = b.let(x * x, "s")
    return fma(x * square, horner(square, format_of(x).parts(table)), x)


@function("tanh", f32_ulp=2.0, f64_ulp=2.0)
def tanh(b: Pins, x: Expr) -> Expr:
    """hyperbolic tangent"""
    f = format_of(x)
    a = b.let(absolute(x), "a")
    # tanh is 1 from 0.36 * (fraction + 3) on.
    m, bits = reduce_exp(b, b.let(at_most(a, f.number(0.36 * (f.fraction + 3))) * 2.0, "w"))
    power = bitcast((bits - f.bias) << f.fraction, x.dtype)
    large = 1.0 - literal(x, 2.0) / fma(m, power, 1.0)
    result = select(a < SMALL_TANH, odd_polynomial(b, a, c.TANH), large)
    return flip_sign(result, sign_bits(x))


def half_exp(b: Pins, a: Expr) -> tuple[Expr, Expr]:
    """(exp(a) / 2, exp(-a) / 2) for a >= 0; the first overflows only where cosh does."""
    f = format_of(a)
    m, bits = reduce_exp(b, b.let(at_most(a, f.exp_high + 1.0), "a"))
    first, second = scale_factors(b, m, bits)
    growing = b.let((m * 0.5) * first * second, "e")
    return growing, literal(a, 0.25) / growing


@function("sinh", f32_ulp=3.0, f64_ulp=3.0)
def sinh(b: Pins, x: Expr) -> Expr:
    """hyperbolic sine"""
    a = b.let(absolute(x), "a")
    growing, falling = half_exp(b, a)
    result = select(a < 1.0, odd_polynomial(b, a, c.SINH), growing - falling)
    return flip_sign(result, sign_bits(x))


@function("cosh", f32_ulp=2.0, f64_ulp=2.0)
def cosh(b: Pins, x: Expr) -> Expr:
    """hyperbolic cosine"""
    growing, falling = half_exp(b, b.let(absolute(x), "a"))
    return growing + falling


@function("asinh", f32_ulp=4.0, f64_ulp=4.0)
def asinh(b: Pins, x: Expr) -> Expr:
    """inverse hyperbolic sine"""
    f = format_of(x)
    a = b.let(absolute(x), "a")
    huge = b.let(a > 2.0 ** (f.fraction + 4), "huge")
    moderate = b.let(select(huge, 1.0, a), "c")
    square = b.let(moderate * moderate, "s")
    root = unary("sqrt", square + 1.0) + 1.0
    result = b.let(log_of_sum(b, a, huge, b.let(moderate + square / root, "u")), "t")
    inside = (a >= f.tiny) & (a < INFINITY)
    return select(inside, flip_sign(result, sign_bits(x)), x)


@function("acosh", f32_ulp=4.0, f64_ulp=4.0)
def acosh(b: Pins, x: Expr) -> Expr:
    """inverse hyperbolic cosine"""
    f = format_of(x)
    huge = b.let(x > 2.0 ** (f.fraction + 4), "huge")
    t = b.let(select(huge, 1.0, x) - 1.0, "t")
    result = log_of_sum(b, x, huge, b.let(t + unary("sqrt", fma(t, t, t * 2.0)), "u"))
    return select(x < 1.0, NAN, select(x < INFINITY, result, x))


def log_of_sum(b: Pins, a: Expr, huge: Expr, u: Expr) -> Expr:
    """log(1 + u), or log(2 a) where a is huge."""
    # log(2a) = log(1 + a) + ln 2 there, since a + 1 rounds to nearly a: one logarithm serves both.
    e, fraction = log1p_parts(b, b.let(select(huge, a, u), "u"))
    return log_of_parts(b, b.let(select(huge, e + 1.0, e), "e"), fraction)


@function("atanh", f32_ulp=4.0, f64_ulp=4.0)
def atanh(b: Pins, x: Expr) -> Expr:
    """inverse hyperbolic tangent"""
    f = format_of(x)
    a = b.let(absolute(x), "a")
    ratio = b.let((a + a) / (1.0 - a), "u")
    result = b.let(log1p_core(b, ratio) * 0.5, "t")
    signed = flip_sign(result, sign_bits(x))
    at_one = flip_sign(literal(x, INFINITY), sign_bits(x))
    beyond = select(compare("eq", a, 1.0), at_one, literal(x, NAN))
    return select(a < 1.0, select(a < f.tiny, x, signed), beyond)
