"""log, log2, log10, log1p.

x = 2^e m with sqrt(1/2) <= m < sqrt(2), taken from the bits; log(m) = f - f^2/2 + f^3 P(f) with
f = m - 1 (exact) and a minimax polynomial P.
"""

from __future__ import annotations

from aino_ir.loops.expr import Expr, bitcast, compare, fma, select
from aino_ir.loops.math import coefficients as c
from aino_ir.loops.math.base import INFINITY, NAN, Pins, absolute, format_of, function, horner, literal


def split_exponent(b: Pins, x: Expr) -> tuple[Expr, Expr]:
    """(e, m) with x = 2^e m, sqrt(1/2) <= m < sqrt(2); e is a float.  x positive and finite."""
    f = format_of(x)
    tiny = b.let(x < f.tiny, "tiny")
    normal = b.let(select(tiny, x * 2.0 ** (f.fraction + 2), x), "x")
    bottom = f.bits_of(f.parts(c.ROOT_HALF)[0])
    shifted = b.let(bitcast(normal, f.bits) + (f.one - bottom), "i")
    m = bitcast((shifted & ((1 << f.fraction) - 1)) + bottom, x.dtype)
    whole = 2.0**f.fraction
    offset = select(tiny, literal(x, whole + f.bias + f.fraction + 2), whole + f.bias)
    e = bitcast((shifted >> f.fraction) | f.bits_of(whole), x.dtype) - offset
    return b.let(e, "e"), b.let(m, "m")


def log_tail(b: Pins, f: Expr) -> Expr:
    """log(1 + f) - f for sqrt(1/2) <= 1 + f <= sqrt(2)."""
    polynomial = fma(f, horner(f, format_of(f).parts(c.LOG)), -0.5)
    return (f * f) * polynomial


def finish_log(x: Expr, result: Expr) -> Expr:
    """`result` for positive finite x; the limits at 0 and infinity, NaN for negative x and NaN."""
    edge = select(x < 0.0, literal(x, NAN), select(compare("eq", x, 0.0), -INFINITY, x))
    inside = (x > 0.0) & (x < INFINITY)
    return select(inside, result, edge)


@function("log", f32_ulp=1.0, f64_ulp=1.0)
def log(b: Pins, x: Expr) -> Expr:
    """natural logarithm"""
    e, m = split_exponent(b, x)
    return finish_log(x, log_of_parts(b, e, b.let(m - 1.0, "f")))


def log_of_parts(b: Pins, e: Expr, f: Expr) -> Expr:
    """e ln 2 + log(1 + f)."""
    ln2_high, ln2_low, _ = format_of(f).parts(c.LN2)
    return fma(e, ln2_high, f + fma(e, ln2_low, log_tail(b, f)))


@function("log2", f32_ulp=2.0, f64_ulp=2.0)
def log2(b: Pins, x: Expr) -> Expr:
    """logarithm to base 2"""
    e, m = split_exponent(b, x)
    f = b.let(m - 1.0, "f")
    high, low, _ = format_of(x).parts(c.LOG2E)
    tail = b.let(log_tail(b, f), "t")
    fraction = fma(f, high, fma(f, low, tail * high))
    return finish_log(x, e + fraction)


@function("log10", f32_ulp=2.0, f64_ulp=2.0)
def log10(b: Pins, x: Expr) -> Expr:
    """logarithm to base 10"""
    e, m = split_exponent(b, x)
    f = b.let(m - 1.0, "f")
    format_ = format_of(x)
    high, low, _ = format_.parts(c.LOG10E)
    two_high, two_low, _ = format_.parts(c.LOG10_2)
    tail = b.let(log_tail(b, f), "t")
    fraction = fma(f, high, fma(f, low, fma(tail, high, e * two_low)))
    return finish_log(x, fma(e, two_high, fraction))


@function("log1p", f32_ulp=2.0, f64_ulp=2.0)
def log1p(b: Pins, x: Expr) -> Expr:
    """log(1 + x) without cancellation"""
    result = log1p_core(b, x)
    edge = select(x < -1.0, literal(x, NAN), select(compare("eq", x, -1.0), -INFINITY, x))
    inside = (x > -1.0) & (x < INFINITY) & (absolute(x) >= format_of(x).tiny)
    return select(inside, result, edge)


def log1p_core(b: Pins, x: Expr) -> Expr:
    """log(1 + x) for finite x > -1."""
    e, fraction = log1p_parts(b, x)
    return log_of_parts(b, e, fraction)


def log1p_parts(b: Pins, x: Expr) -> tuple[Expr, Expr]:
    """(e, f) with 1 + x = 2^e (1 + f): what rounding 1 + x loses goes back into f."""
    f = format_of(x)
    u = b.let(x + 1.0, "u")
    back = b.let(u - x, "b")
    lost = (1.0 - back) + (x - (u - back))
    e, m = split_exponent(b, u)
    # 2^-e from the bits; where u is huge nothing is lost that counts.
    inverse = bitcast(bitcast(m, f.bits) - bitcast(u, f.bits) + f.one, x.dtype)
    lost = select(u < 2.0 ** (f.bias // 2), lost * inverse, 0.0)
    return e, b.let((m - 1.0) + lost, "f")
