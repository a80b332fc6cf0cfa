"""Argument reduction of the trigonometric functions: a = quarters * pi/2 + r, |r| <= pi/4, for all a.

f32: a times f64 pieces of 1/(2 pi), each product exact, the whole turns of each dropped.
f64 below 2^47: three-part Cody-Waite reduction with fma.
f64 from there on: the product of the significand with the bits of 1/(2 pi) that matter, in integers
(M. Payne and R. Hanek, "Radian reduction for trigonometric functions", 1983); the bits are picked by
a barrel shifter, since there are neither branches nor tables.
"""

from __future__ import annotations

from aino_ir.dtypes import f32, f64, u64
from aino_ir.loops.expr import Expr, bitcast, cast, compare, const, fma, select, unary
from aino_ir.loops.math import coefficients as c
from aino_ir.loops.math.base import F64, INFINITY, NAN, Pins, format_of, literal

CODY_WAITE_LIMIT = 2.0**47
LOW_HALF = 0xFFFFFFFF
WHOLE = F64.bits_of(2.0**52)


def reduce_angle(b: Pins, a: Expr) -> tuple[Expr, Expr | None, Expr]:
    """(r, low, quarters): a = quarters * pi/2 + r + low for a >= 0; quarters modulo 4 as bits."""
    if a.dtype is f32:
        return _reduce_f32(b, a)
    small, large = _reduce_moderate(b, a), _reduce_large(b, a)
    moderate = b.let(a < CODY_WAITE_LIMIT, "moderate")
    r = select(moderate, small[0], select(a < INFINITY, large[0], NAN))
    low, quarters = (select(moderate, x, y) for x, y in zip(small[1:], large[1:], strict=True))
    return b.let(r, "r"), b.let(low, "l"), b.let(quarters, "i")


def _reduce_f32(b: Pins, a: Expr) -> tuple[Expr, None, Expr]:
    wide = b.let(cast(a, f64), "w")
    turns = literal(wide, 0.0)
    for number, piece in enumerate(c.TURNS):
        product = b.let(wide * piece, "p")
        part = product - unary("round", product)
        turns = turns + part if number else part
    quarters = b.let(turns * 4.0, "q")
    whole = b.let(unary("round", quarters), "n")
    r = cast((quarters - whole) * c.HALF_PI["f64"][0], f32)
    f = format_of(a)
    return b.let(r, "r"), None, b.let(bitcast(cast(whole, f32) + f.integers, f.bits), "i")


def _reduce_moderate(b: Pins, a: Expr) -> tuple[Expr, Expr, Expr]:
    first, second, third = c.HALF_PI["f64"]
    shifted = b.let(fma(a, c.TWO_OVER_PI["f64"][0], F64.integers), "n")
    n = b.let(shifted - F64.integers, "n")
    exact = b.let(fma(n, -first, a), "r")
    r = b.let(fma(n, -second, exact), "r")
    low = fma(n, -third, fma(n, -second, exact - r))
    return r, low, bitcast(shifted, u64)


def _reduce_large(b: Pins, a: Expr) -> tuple[Expr, Expr, Expr]:
    bits = b.let(bitcast(a, u64), "b")
    significand = b.let((bits & (2**52 - 1)) | 2**52, "m")
    # Bits of 1/(2 pi) before this position only add whole turns: a = significand * 2^(exponent - 52).
    position = b.let((bits >> 52) - (1023 + 52 - 8), "s")
    high, middle, low = _window(b, position)
    low_part = _multiply_high(b, significand, low)
    middle_part = b.let(significand * middle + low_part, "y")
    carry = select(middle_part < low_part, const(1, u64, a.lanes), 0)
    turn = b.let(significand * high + _multiply_high(b, significand, middle) + carry, "x")
    quarters = b.let((turn + 2**61) >> 62, "q")
    r, rest = _fraction(b, b.let(turn - (quarters << 62), "x"), middle_part)
    # Turns become radians.
    two_pi, two_pi_low = 4 * c.HALF_PI["f64"][0], 4 * c.HALF_PI["f64"][1]
    angle = b.let(r * two_pi, "r")
    return angle, fma(r, two_pi, -angle) + fma(r, two_pi_low, rest * two_pi), quarters


def _window(b: Pins, position: Expr) -> list[Expr]:
    """Three words of 1/(2 pi) from a bit position on."""
    words: list[Expr] = [const(w, u64, position.lanes) for w in c.TURN_WORDS]
    index = b.let(position >> 6, "k")
    for step in (8, 4, 2, 1):
        far = b.let(compare("ne", index & step, 0), "far")
        words = [b.let(select(far, y, x), "w") for x, y in zip(words, words[step:], strict=False)][: step + 3]
    shift = b.let(position & 63, "s")
    back = b.let(64 - shift, "s")
    pairs = zip(words, words[1:], strict=False)
    return [b.let((x << shift) | (y >> back), "w") for x, y in pairs]


def _multiply_high(b: Pins, x: Expr, y: Expr) -> Expr:
    """The upper 64 bits of x * y for x < 2^53."""
    x1, x0 = b.let(x >> 32, "x"), b.let(x & LOW_HALF, "x")
    y1, y0 = b.let(y >> 32, "y"), b.let(y & LOW_HALF, "y")
    cross = b.let(x0 * y1, "c")
    middle = ((x0 * y0) >> 32) + (cross & LOW_HALF) + x1 * y0
    return b.let(x1 * y1 + (cross >> 32) + (middle >> 32), "h")


def _fraction(b: Pins, high: Expr, low: Expr) -> tuple[Expr, Expr]:
    """The signed 128-bit fraction (high, low) as a sum of two f64 numbers."""
    lifted = b.let(high + 2**63, "x")
    upper = (bitcast((lifted >> 32) | WHOLE, f64) - (2.0**52 + 2.0**31)) * 2.0**-32
    parts = [b.let(upper, "d")]
    for word, scale in ((lifted & LOW_HALF, 64), (low >> 32, 96), (low & LOW_HALF, 128)):
        parts.append(b.let((bitcast(word | WHOLE, f64) - 2.0**52) * 2.0**-scale, "d"))
    top = b.let(parts[0] + parts[1], "t")
    rest = b.let((parts[1] - (top - parts[0])) + (parts[2] + parts[3]), "l")
    total = b.let(top + rest, "t")
    return total, b.let(rest - (total - top), "l")
