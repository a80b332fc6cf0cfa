"""Special functions: gamma, zeta and Bessel functions, orthogonal polynomials, floats as bits.

Functions that AINO has no op for are composed in double precision and rounded once.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from aino_ir.dtypes import DTYPES, boolean, f64, i64
from aino_ir.frontends.special import (
    Doubles,
    airy,
    bessel_first,
    bessel_second,
    digamma,
    hurwitz_zeta,
    incomplete_gamma,
    inverse_error,
    log_gamma,
    modified_first,
    modified_second,
    normal_quantile,
    orthogonal,
    polygamma,
    scaled_complement,
    spherical_bessel,
)
from aino_ir.frontends.torch.context import Lowering, NodeContext, Operand, Row
from aino_ir.graph import Value


def in_doubles(function: Callable[[Doubles, Value], Value]) -> Lowering:
    """A row for a function of one real number that is computed in f64."""

    def lower(c: NodeContext, x: Value) -> Value:
        return c.cast(function(Doubles(c), c.cast(x, f64)), c.dtype)

    return lower


def sign_bit(c: NodeContext, x: Value) -> Value:
    """Whether the sign bit is set (also of -0 and of NaN)."""
    if x.dtype.is_bool or not (x.dtype.is_float or x.dtype.is_signed):
        return c.filled(x.shape, False, boolean)
    if x.dtype.is_float:
        x = c.emit("bitcast", x, to=DTYPES[f"i{x.dtype.bits}"])
    return c.emit("lt", x, c.scalar(0, x.dtype))


def copy_sign(c: NodeContext, x: Operand, other: Operand) -> Value:
    """The magnitude of x with the sign of the other."""
    size = c.emit("abs", c.operand(x, c.dtype))
    sign = sign_bit(c, c.operand(other, c.dtype))
    return c.emit("select", sign, c.emit("neg", size), size)


def hypotenuse(c: NodeContext, x: Value, other: Value) -> Value:
    """sqrt(x^2 + y^2) without overflow on the way."""
    d = Doubles(c)
    a, b = c.cast(c.cast(x, c.dtype), f64), c.cast(c.cast(other, c.dtype), f64)
    if c.dtype is not f64:
        return c.cast(d("sqrt", d("add", d("mul", a, a), d("mul", b, b))), c.dtype)
    a, b = d("abs", a), d("abs", b)
    large, small = d("max", a, b), d("min", a, b)
    ratio = d("div", small, large)
    value = d("mul", large, d("sqrt", d("add", 1.0, d("mul", ratio, ratio))))
    plain = d.select(d("eq", large, 0.0), 0.0, value)
    infinite = c.emit("logical_or", c.emit("is_inf", a), c.emit("is_inf", b))
    return d.select(infinite, math.inf, plain)


def angle(c: NodeContext, x: Value) -> Value:
    """pi below zero, else zero; NaN stays."""
    x = c.cast(x, c.dtype)
    zero = c.scalar(0, c.dtype)
    turned = c.emit("select", c.emit("lt", x, zero), c.scalar(math.pi, c.dtype), zero)
    return c.emit("select", c.emit("is_nan", x), x, turned)


def derivative_of_digamma(c: NodeContext, n: int, x: Value) -> Value:
    """Its n-th derivative."""
    return c.cast(polygamma(Doubles(c), n, c.cast(x, f64)), c.dtype)


def of_two(function: Callable[[Doubles, Value, Value], Value]) -> Lowering:
    """A row for a function of two real numbers that is computed in f64."""

    def lower(c: NodeContext, x: Operand, other: Operand) -> Value:
        return _in_doubles_of_two(c, function, x, other)

    return lower


def polynomial(function: orthogonal.Polynomial) -> Lowering:
    """A row for an orthogonal polynomial; degrees lose their fractions."""

    def lower(c: NodeContext, x: Operand, n: Operand) -> Value:
        def at(d: Doubles, x: Value, n: Value) -> Value:
            return function(d, x, d("trunc", n))

        return _in_doubles_of_two(c, at, x, n)

    return lower


def hermite(function: orthogonal.Polynomial) -> Lowering:
    """The same, NaN above the degree at which eager PyTorch stops."""

    def lower(c: NodeContext, x: Operand, n: Operand) -> Value:
        limit = 512.0 if c.dtype is f64 else 128.0
        return polynomial(orthogonal.limited(function, limit))(c, x, n)  # type: ignore[return-value]

    return lower


def _in_doubles_of_two(
    c: NodeContext, function: Callable[[Doubles, Value, Value], Value], x: Operand, other: Operand
) -> Value:
    if any(isinstance(extent, int) and extent == 0 for extent in c.shape):
        return c.filled(c.shape, 0, c.dtype)
    operands = (c.cast(c.operand(v, c.dtype), f64) for v in (x, other))
    return c.cast(function(Doubles(c), *operands), c.dtype)


def bessel(function: Callable[[Doubles, Value, int], Value], order: int) -> Lowering:
    """A row for a Bessel function."""
    return in_doubles(lambda d, x: function(d, x, order))


def modified(function: Callable[[Doubles, Value, int, bool], Value], order: int, scaled: bool) -> Lowering:
    """A row for a modified Bessel function."""
    return in_doubles(lambda d, x: function(d, x, order, scaled))


def next_after(c: NodeContext, x: Operand, other: Operand) -> Value:
    """The float next to x in the direction of the other one: as integers, floats of one sign are in order."""
    a, b = c.operand(x, c.dtype), c.operand(other, c.dtype)
    whole = DTYPES[f"i{c.dtype.bits}"]
    one = c.scalar(1, whole)
    bits = c.emit("bitcast", a, to=whole)
    zero = c.scalar(0, c.dtype)
    up, above = c.emit("lt", a, b), c.emit("lt", zero, a)
    away = c.emit("logical_not", c.emit("logical_xor", up, above))
    moved = c.emit("select", away, c.emit("add", bits, one), c.emit("sub", bits, one))
    lowest = c.scalar(-(2 ** (c.dtype.bits - 1)) + 1, whole)
    tiny = c.emit("select", up, one, lowest)
    moved = c.emit("bitcast", c.emit("select", c.emit("eq", a, zero), tiny, moved), to=c.dtype)
    moved = c.emit("select", c.emit("eq", a, b), b, moved)
    undefined = c.emit("logical_or", c.emit("is_nan", a), c.emit("is_nan", b))
    return c.emit("select", undefined, c.scalar(math.nan, c.dtype), moved)


def mantissa_and_exponent(c: NodeContext, x: Value) -> list[Value]:
    """x as a number of magnitude 1/2 to 1 and a power of two, read off the bits of a double."""
    d = Doubles(c)
    wide = d.value(x)
    small = d("lt", d("abs", wide), 2.0**-1022)
    scaled = d.select(small, d("mul", wide, 2.0**54), wide)
    bits = c.emit("bitcast", scaled, to=i64)
    field = c.scalar(0x7FF << 52, i64)
    power = c.emit("shift_right", c.emit("bitwise_and", bits, field), c.scalar(52, i64))
    rest = c.emit("bitwise_and", bits, c.emit("bitwise_not", field))
    half = c.emit("bitcast", c.emit("bitwise_or", rest, c.scalar(1022 << 52, i64)), to=f64)
    exponent = c.emit("sub", power, c.emit("select", small, c.scalar(1076, i64), c.scalar(1022, i64)))
    plain = d.both(d("ne", wide, 0.0), d("lt", d("abs", wide), math.inf))
    mantissa = c.cast(d.select(plain, half, wide), c.dtype_of(0))
    return [mantissa, c.cast(c.emit("select", plain, exponent, c.scalar(0, i64)), c.dtype_of(1))]


GAMMA_SHARE = of_two(lambda d, a, x: incomplete_gamma(d, a, x, upper=False))
GAMMA_REST = of_two(lambda d, a, x: incomplete_gamma(d, a, x, upper=True))

UNARY: dict[str, Lowering] = {
    "airy_ai": in_doubles(airy),
    "bessel_j0": bessel(bessel_first, 0),
    "bessel_j1": bessel(bessel_first, 1),
    "bessel_y0": bessel(bessel_second, 0),
    "bessel_y1": bessel(bessel_second, 1),
    "digamma": in_doubles(digamma),
    "erfcx": in_doubles(scaled_complement),
    "erfinv": in_doubles(inverse_error),
    "gammaln": in_doubles(log_gamma),
    "i0": modified(modified_first, 0, False),
    "i0e": modified(modified_first, 0, True),
    "i1": modified(modified_first, 1, False),
    "i1e": modified(modified_first, 1, True),
    "modified_bessel_i0": modified(modified_first, 0, False),
    "modified_bessel_i1": modified(modified_first, 1, False),
    "modified_bessel_k0": modified(modified_second, 0, False),
    "modified_bessel_k1": modified(modified_second, 1, False),
    "ndtri": in_doubles(normal_quantile),
    "scaled_modified_bessel_k0": modified(modified_second, 0, True),
    "scaled_modified_bessel_k1": modified(modified_second, 1, True),
    "spherical_bessel_j0": in_doubles(spherical_bessel),
}
"""Functions of one number by their names after ``aten.special_``."""

PRIMITIVE = {
    **{f"bessel_{name}": name for name in ("i0", "i0e", "i1", "i1e")},
    **{name: name for name in ("bessel_j0", "bessel_j1", "erfcx", "ndtri", "spherical_bessel_j0")},
}
"""Names of PyTorch's primitives -> those of `UNARY`."""

POLYNOMIALS: dict[str, Lowering] = {
    **{
        f"{shift}chebyshev_polynomial_{letter}": polynomial(wrap(function))
        for letter, function in {
            "t": orthogonal.chebyshev_first,
            "u": orthogonal.chebyshev_second,
            "v": orthogonal.chebyshev_third,
            "w": orthogonal.chebyshev_fourth,
        }.items()
        for shift, wrap in (("", lambda p: p), ("shifted_", orthogonal.shifted))
    },
    "hermite_polynomial_h": hermite(orthogonal.hermite_physicists),
    "hermite_polynomial_he": hermite(orthogonal.hermite_probabilists),
    "laguerre_polynomial_l": polynomial(orthogonal.laguerre),
    "legendre_polynomial_p": polynomial(orthogonal.legendre),
}
"""Polynomials by their names after ``aten.special_``."""

TABLE: dict[str, Row] = {
    **{f"aten.special_{name}": row for name, row in (UNARY | POLYNOMIALS).items()},
    **{f"prims.{name}": UNARY[ours] for name, ours in PRIMITIVE.items()},
    "aten.angle": angle,
    "aten.copysign": copy_sign,
    "aten.digamma": UNARY["digamma"],
    "aten.erfinv": UNARY["erfinv"],
    "aten.frexp": mantissa_and_exponent,
    "aten.hypot": hypotenuse,
    "aten.i0": UNARY["i0"],
    "aten.igamma": GAMMA_SHARE,
    "aten.igammac": GAMMA_REST,
    "aten.lgamma": UNARY["gammaln"],
    "aten.nextafter": next_after,
    "aten.polygamma": derivative_of_digamma,
    "aten.signbit": sign_bit,
    "aten.special_zeta": of_two(hurwitz_zeta),
    "prims.frexp": mantissa_and_exponent,
    "prims.igamma": GAMMA_SHARE,
    "prims.igammac": GAMMA_REST,
    "prims.nextafter": next_after,
    "prims.zeta": of_two(hurwitz_zeta),
}
