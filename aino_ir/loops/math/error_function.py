"""erf, erfc and the two GELUs.

erfc(z) = exp(-z^2) E(t), E a minimax polynomial for exp(z^2) erfc(z) in t = 1 / (1 + c z); z^2 is
carried in two parts, so the tail keeps its relative accuracy down to the denormals.
"""

from __future__ import annotations

from aino_ir.loops.expr import Expr, bitcast, fma, select
from aino_ir.loops.math import coefficients as c
from aino_ir.loops.math.base import (
    Pins,
    absolute,
    at_least,
    at_most,
    flip_sign,
    format_of,
    function,
    horner,
    literal,
    sign_bits,
)
from aino_ir.loops.math.exponential import reduce_exp, reduce_expm1, scale_factors, times_sigmoid

SMALL_ERF = 0.90625
ERFCX_SLOPE = {"f32": 0.5, "f64": 0.25}
MILLS_SLOPE = {"f32": 0.25, "f64": 0.25}
"""c of t = 1 / (1 + c z): powers of two, so that c z is exact."""
ERFCX: c.Table = c.ERFCX_F32 | c.ERFCX_F64
MILLS: c.Table = c.MILLS_F32 | c.MILLS_F64
ERF_IS_ONE = {"f32": 3.92, "f64": 5.93}
ERFC_IS_ZERO = {"f32": 10.1, "f64": 27.3}
GELU_IS_ZERO = {"f32": 14.5, "f64": 38.7}


@function("erf", f32_ulp=2.0, f64_ulp=2.0)
def erf(b: Pins, x: Expr) -> Expr:
    """error function"""
    f = format_of(x)
    a = b.let(absolute(x), "a")
    square = b.let(x * x, "s")
    near = fma(a, horner(square, f.parts(c.ERF)), a)
    bounded = b.let(at_most(a, f.number(ERF_IS_ONE[x.dtype.name])), "z")
    m, bits = reduce_exp(b, b.let(-horner(bounded, f.parts(c.LOG_ERFC)), "w"))
    power = bitcast((bits - f.bias) << f.fraction, x.dtype)
    return flip_sign(select(a < SMALL_ERF, near, fma(-m, power, 1.0)), sign_bits(x))


def gaussian_tail(
    b: Pins, z: Expr, square: Expr, low: Expr, polynomial: c.Coefficients, slope: float, steepness: float
) -> tuple[Expr, Expr, Expr]:
    """(v, p, q) with v p q = exp(-(square + low)) E(t), t = 1 / (1 + slope z); p, q powers of two.

    `steepness` is d log E / d log t at t = 1: what t loses in rounding (times that) goes into the exponent.
    """
    cz = b.let(z * slope, "c")
    bottom = b.let(cz + 1.0, "d")
    t = b.let(literal(z, 1.0) / bottom, "t")
    lost = fma(-t, cz - (bottom - 1.0), fma(-t, bottom, 1.0))
    gain = fma(t, steepness - 1.0, 1.0)
    growth, r, bits = reduce_expm1(b, b.let(-square, "w"), fma(gain, lost, -low))
    scaled = b.let(horner(t, polynomial), "e")
    first, second = scale_factors(b, z, bits)
    return fma(scaled, growth * r, scaled), first, second


@function("erfc", f32_ulp=4.0, f64_ulp=4.0)
def erfc(b: Pins, x: Expr) -> Expr:
    """1 - erf(x), accurate in the tail"""
    f = format_of(x)
    z = b.let(at_most(absolute(x), f.number(ERFC_IS_ZERO[x.dtype.name])), "z")
    square = b.let(z * z, "s")
    slope = ERFCX_SLOPE[x.dtype.name]
    steepness = f.number(1.128 / slope)  # erfc'(0) = -1.128
    low = fma(z, z, -square)
    value, first, second = gaussian_tail(b, z, square, low, f.parts(ERFCX), slope, steepness)
    tail = b.let(value * first * second, "q")
    return select(x < 0.0, 2.0 - tail, tail)


@function("gelu", f32_ulp=4.0, f64_ulp=4.0)
def gelu(b: Pins, x: Expr) -> Expr:
    """x * (1 + erf(x / sqrt(2))) / 2, accurate in the tail"""
    f = format_of(x)
    # gelu(x) = max(x, 0) - |x| Q(|x|) with Q(z) = erfc(z / sqrt(2)) / 2.
    z = b.let(at_most(absolute(x), f.number(GELU_IS_ZERO[x.dtype.name])), "z")
    half = b.let(z * 0.5, "h")
    square = b.let(z * half, "s")
    slope = MILLS_SLOPE[x.dtype.name]
    steepness = f.number(0.798 / slope)  # d/dz of erfc(z / sqrt(2)) at 0 is -0.798
    low = fma(z, half, -square)
    value, first, second = gaussian_tail(b, z, square, low, f.parts(MILLS), slope, steepness)
    # x * 0 makes -infinity NaN, as it is in the defining formula.
    # Powers of two leave both factors exact, so that their product is rounded with the sum.
    return fma(-(value * first), half * second, select(x > 0.0, x, x * 0.0))


@function("gelu_tanh", f32_ulp=4.0, f64_ulp=4.0)
def gelu_tanh(b: Pins, x: Expr) -> Expr:
    """x * (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) / 2, accurate in the tail"""
    f = format_of(x)
    limit = 20.0 if f.fraction < 30 else 40.0
    z = b.let(at_least(b.let(at_most(x, limit), "z"), -limit), "z")
    slope, slope_low, _ = f.parts(c.GELU_SLOPE)
    cubic, cubic_low, _ = f.parts(c.GELU_CUBIC)
    # w = z (slope + cubic z^2) with what each step loses: near -10 an ulp of w is 50 ulp of the result.
    square = b.let(z * z, "s")
    square_low = fma(z, z, -square)
    rise = b.let(square * cubic, "p")
    rise_low = fma(square, cubic, -rise) + fma(square_low, cubic, square * cubic_low)
    factor = b.let(rise + slope, "c")
    back = b.let(factor - rise, "b")
    factor_low = (slope - back) + (rise - (factor - back)) + (rise_low + slope_low)
    w = b.let(z * factor, "w")
    low = fma(z, factor, -w) + z * factor_low
    return times_sigmoid(b, x, w, low)
