"""pow, cbrt and the exact C fmod.

pow(x, y) = 2^(y log2 |x|) with the logarithm and the product as sums of two numbers (T. J. Dekker,
"A floating-point technique for extending the available precision", 1971), then the C99 special cases.
"""

from __future__ import annotations

from aino_ir.dtypes import f32, f64
from aino_ir.loops.expr import Expr, bitcast, cast, compare, fma, select, unary
from aino_ir.loops.math import coefficients as c
from aino_ir.loops.math.base import (
    INFINITY,
    NAN,
    Pins,
    absolute,
    flip_sign,
    format_of,
    function,
    horner,
    literal,
    sign_bits,
)
from aino_ir.loops.math.exponential import exp2_sum
from aino_ir.loops.math.logarithm import split_exponent

Double = tuple[Expr, Expr]


def fast_two_sum(b: Pins, large: Expr, small: Expr) -> Double:
    """large + small as the rounded sum and its error, for |large| >= |small|."""
    total = b.let(large + small, "h")
    return total, b.let(small - (total - large), "l")


def multiply(b: Pins, x: Double, y: Double) -> Double:
    """The product of two sums of two."""
    high = b.let(x[0] * y[0], "h")
    return high, b.let(fma(x[0], y[0], -high) + fma(x[0], y[1], x[1] * y[0]), "l")


def log2_double(b: Pins, x: Expr) -> Double:
    """log2(x) for positive finite x with about twice the precision of the format."""
    f = format_of(x)
    e, m = split_exponent(b, x)
    fraction = b.let(m - 1.0, "f")
    bottom = b.let(m + 1.0, "d")
    bottom_low = m - (bottom - 1.0)
    # s = (m - 1) / (m + 1), log(m) = 2 atanh(s) = 2 s + 2/3 s^3 + s^5 P(s^2)
    s = b.let(fraction / bottom, "s")
    rest = fma(-s, bottom_low, fma(-s, bottom, fraction)) / bottom
    s_double = (s, b.let(rest, "r"))
    square = multiply(b, s_double, s_double)
    cube = multiply(b, square, s_double)
    third, third_low, _ = f.parts(c.TWO_THIRDS)
    term = multiply(b, cube, (literal(x, third), literal(x, third_low)))
    tail = cube[0] * square[0] * horner(square[0], f.parts(c.ATANH_TAIL))
    total, error = fast_two_sum(b, b.let(s * 2.0, "s"), term[0])
    logarithm = (total, b.let(fma(s_double[1], 2.0, (term[1] + error) + tail), "l"))
    high, low, _ = f.parts(c.LOG2E)
    scaled = multiply(b, logarithm, (literal(x, high), literal(x, low)))
    total, error = fast_two_sum(b, e, scaled[0])
    # e = 0 leaves the logarithm itself: the sum is then exact in either order.
    return fast_two_sum(b, total, b.let(scaled[1] + error, "l"))


@function("pow", 2, f32_ulp=2.0, f64_ulp=2.0)
def pow_(b: Pins, x: Expr, y: Expr) -> Expr:
    """x to the power y, C99 special cases"""
    a = b.let(absolute(x), "a")
    size = finite_power(b, a, y)
    infinite_y = compare("eq", absolute(y), INFINITY)
    limit = select(select(a > 1.0, y, -y) > 0.0, literal(x, INFINITY), 0.0)
    extreme = infinite_y | compare("eq", a, 0.0) | compare("eq", a, INFINITY)
    size = b.let(select(extreme, limit, size), "p")
    return power_sign(b, x, y, size)


def finite_power(b: Pins, a: Expr, y: Expr) -> Expr:
    """a^y for positive finite a and finite y."""
    f = format_of(a)
    log_high, log_low = log2_double(b, a)
    product = b.let(y * log_high, "w")
    low = fma(y, log_low, fma(y, log_high, -product))
    top, bottom = float(f.bias + 2), -float(f.bias + f.fraction + 3)
    inside = b.let((product < top) & (product > bottom), "inside")
    clamped = select(product > 0.0, literal(a, top), bottom)
    # NaN falls through both comparisons into `clamped`: it is put back with the special cases.
    exponent = b.let(select(inside, product, clamped), "w")
    return exp2_sum(b, exponent, b.let(select(inside, low, 0.0), "l"))


def power_sign(b: Pins, x: Expr, y: Expr, size: Expr) -> Expr:
    """|x|^y made x^y: the sign of odd powers, NaN where there is no real result, 1 where it always is."""
    f = format_of(x)
    half = b.let(y * 0.5, "h")
    integer = b.let(compare("eq", unary("trunc", y), y), "integer")
    is_odd = integer & compare("ne", unary("trunc", half), half)
    signed = flip_sign(size, select(is_odd, sign_bits(x), literal(bitcast(x, f.bits), 0)))
    no_result = (x < 0.0) & (x > -INFINITY) & ~integer
    unordered = unary("isnan", x) | unary("isnan", y)
    result = select(no_result | unordered, NAN, signed)
    always_one = compare("eq", y, 0.0) | compare("eq", x, 1.0)
    minus_one = compare("eq", x, -1.0) & compare("eq", absolute(y), INFINITY)
    return select(always_one | minus_one, 1.0, result)


@function("fmod", 2, f32_ulp=0.0, f64_ulp=0.0)
def fmod(b: Pins, x: Expr, y: Expr) -> Expr:
    """exact remainder of x / y with the sign of x (C fmod)"""
    a, d = b.let(absolute(x), "a"), b.let(absolute(y), "d")
    remainder = _remainder_f32(b, a, d) if x.dtype is f32 else _remainder_f64(b, a, d)
    return finish_fmod(b, x, y, b.let(remainder, "r"))


def _remainder_f32(b: Pins, a: Expr, d: Expr) -> Expr:
    """In f64: each step takes about 50 bits off the quotient, exactly; it has 277 at most."""
    wide, divisor = b.let(cast(a, f64), "a"), b.let(cast(d, f64), "d")
    inverse = b.let(literal(divisor, 1.0) / divisor, "i")
    for _ in range(6):
        wide = b.let(fma(-unary("trunc", wide * inverse), divisor, wide), "a")
    wide = b.let(select(wide < 0.0, wide + divisor, wide), "a")
    return cast(select(wide >= divisor, wide - divisor, wide), f32)


def _remainder_f64(b: Pins, a: Expr, d: Expr) -> Expr:
    """Long division by d 2^(52 j), j falling: each quotient has at most 52 bits, each remainder is exact."""
    steps = 19  # 2^(52 * 19) is the largest such power of two in range
    bases = [d, b.let(d * 2.0 ** (52 * steps), "d")]
    bases.append(b.let(bases[1] * 2.0 ** (52 * steps), "d"))
    for j in range(40, -1, -1):
        base, rest_of_j = bases[j // steps], j % steps
        divisor = b.let(base * 2.0 ** (52 * rest_of_j), "d") if rest_of_j else base
        rest = b.let(fma(-unary("trunc", a / divisor), divisor, a), "r")
        # The quotient may have been rounded up to the next integer.
        a = b.let(select(a >= divisor, select(rest < 0.0, rest + divisor, rest), a), "a")
    return a


def finish_fmod(b: Pins, x: Expr, y: Expr, remainder: Expr) -> Expr:
    """`remainder` with the sign of x; x where |y| is infinite, NaN for infinite x or zero y."""
    signed = flip_sign(remainder, sign_bits(x))
    inside = (absolute(x) < INFINITY) & (absolute(y) > 0.0)
    result = select(compare("eq", absolute(y), INFINITY), x, signed)
    return select(inside, result, NAN)
