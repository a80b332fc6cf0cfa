"""Argument reduction of the trigonometric functions: a = quarters * pi/2 + r, |r| <= pi/4, for all a.

Moderate arguments: three-part Cody-Waite reduction with fma.  Larger ones: the product of the
significand with the bits of 1/(2 pi) that matter, in integers (M. Payne and R. Hanek, "Radian
reduction for trigonometric functions", 1983); a barrel shifter picks the bits, since there are
neither branches nor tables.
"""

from __future__ import annotations

from itertools import pairwise

from aino_ir.loops.expr import Expr, bitcast, compare, const, fma, select
from aino_ir.loops.math import coefficients as c
from aino_ir.loops.math.base import INFINITY, NAN, Format, Pins, format_of

MODERATE = {"f32": 2.0**15, "f64": 2.0**47}
"""Below this, the Cody-Waite reduction loses nothing that counts."""
BITS_BEFORE_POINT = 8


def reduce_angle(b: Pins, a: Expr) -> tuple[Expr, Expr, Expr]:
    """(r, low, quarters): a = quarters * pi/2 + r + low for a >= 0; quarters modulo 4 as bits."""
    small, large = _reduce_moderate(b, a), _reduce_large(b, a)
    moderate = b.let(a < MODERATE[a.dtype.name], "moderate")
    r = select(moderate, small[0], select(a < INFINITY, large[0], NAN))
    low, quarters = (select(moderate, x, y) for x, y in zip(small[1:], large[1:], strict=True))
    return b.let(r, "r"), b.let(low, "l"), b.let(quarters, "i")


def _reduce_moderate(b: Pins, a: Expr) -> tuple[Expr, Expr, Expr]:
    f = format_of(a)
    first, second, third = f.parts(c.HALF_PI)
    shifted = b.let(fma(a, f.parts(c.TWO_OVER_PI)[0], f.integers), "n")
    n = b.let(shifted - f.integers, "n")
    exact = b.let(fma(n, -first, a), "r")
    step = b.let(n * second, "w")
    r = b.let(exact - step, "r")
    # Not fma(n, -second, exact - r): where r is tiny, exact - r would be rounded.
    low = fma(n, -third, ((exact - r) - step) - fma(n, second, -step))
    return r, low, bitcast(shifted, f.bits)


def _reduce_large(b: Pins, a: Expr) -> tuple[Expr, Expr, Expr]:
    f = format_of(a)
    word = f.bits.bits
    bits = b.let(bitcast(a, f.bits), "b")
    implicit = 1 << f.fraction
    significand = b.let((bits & (implicit - 1)) | implicit, "m")
    # Bits of 1/(2 pi) before this position only add whole turns: a = significand * 2^(exponent - fraction).
    position = b.let((bits >> f.fraction) - (f.bias + f.fraction - BITS_BEFORE_POINT), "s")
    high, middle, low = _window(b, f, position)
    low_part = _multiply_high(b, f, significand, low)
    middle_part = b.let(significand * middle + low_part, "y")
    carry = select(middle_part < low_part, const(1, f.bits, a.lanes), 0)
    turn = b.let(significand * high + _multiply_high(b, f, significand, middle) + carry, "x")
    quarters = b.let((turn + (1 << (word - 3))) >> (word - 2), "q")
    r, rest = _fraction(b, f, b.let(turn - (quarters << (word - 2)), "x"), middle_part)
    # Turns become radians.
    two_pi, two_pi_low = (4 * part for part in f.parts(c.HALF_PI)[:2])
    angle = b.let(r * two_pi, "r")
    return angle, fma(r, two_pi, -angle) + fma(r, two_pi_low, rest * two_pi), quarters


def _window(b: Pins, f: Format, position: Expr) -> list[Expr]:
    """Three words of 1/(2 pi) from a bit position on."""
    word = f.bits.bits
    steps = (8, 4, 2, 1) if word == 64 else (2, 1)
    halves = [half for w in c.TURN_WORDS for half in (w >> 32, w & 0xFFFFFFFF)]
    source = c.TURN_WORDS if word == 64 else halves
    words: list[Expr] = [const(w, f.bits, position.lanes) for w in source[: 2 * steps[0] + 3]]
    index = b.let(position >> (word.bit_length() - 1), "k")
    for step in steps:
        far = b.let(compare("ne", index & step, 0), "far")
        words = [b.let(select(far, y, x), "w") for x, y in zip(words, words[step:], strict=False)][: step + 3]
    shift = b.let(position & (word - 1), "s")
    back = b.let(word - shift, "s")
    return [b.let((x << shift) | (y >> back), "w") for x, y in pairwise(words)]


def _multiply_high(b: Pins, f: Format, x: Expr, y: Expr) -> Expr:
    """The upper word of x * y for a significand x."""
    half = f.bits.bits // 2
    low_half = (1 << half) - 1
    x1, x0 = b.let(x >> half, "x"), b.let(x & low_half, "x")
    y1, y0 = b.let(y >> half, "y"), b.let(y & low_half, "y")
    cross = b.let(x0 * y1, "c")
    middle = ((x0 * y0) >> half) + (cross & low_half) + x1 * y0
    return b.let(x1 * y1 + (cross >> half) + (middle >> half), "h")


def _fraction(b: Pins, f: Format, high: Expr, low: Expr) -> tuple[Expr, Expr]:
    """The signed two-word fraction (high, low) as a sum of two floats."""
    half = f.bits.bits // 2
    low_half, whole = (1 << half) - 1, 2.0**f.fraction

    def part(bits: Expr, offset: float, scale: int) -> Expr:
        number = bitcast(bits | f.bits_of(whole), f.dtype) - (whole + offset)
        return b.let(number * 2.0**-scale, "d")

    lifted = b.let(high + f.sign, "x")
    first, second = part(lifted >> half, 2.0 ** (half - 1), half), part(lifted & low_half, 0.0, 2 * half)
    third, fourth = part(low >> half, 0.0, 3 * half), part(low & low_half, 0.0, 4 * half)
    top = b.let(first + second, "t")
    rest = b.let((second - (top - first)) + (third + fourth), "l")
    total = b.let(top + rest, "t")
    return total, b.let(rest - (total - top), "l")
