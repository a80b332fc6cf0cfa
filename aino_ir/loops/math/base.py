"""What the vector math functions are made of: formats, pinned names, polynomials, registration.

A function is written once, for f32 and f64 and any lane count, as an expression of its arguments:
no branches, no tables, one rounding per operation, so every target computes the same bits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from aino_ir.dtypes import DType, f32, f64, u32, u64
from aino_ir.loops.expr import Expr, Number, bitcast, const, fma, select, unary
from aino_ir.loops.math import coefficients as c


class Pins(Protocol):
    """What a body needs of a loop builder: names for shared values."""

    def let(self, expr: Expr, hint: str = "t") -> Expr:
        """`expr` under a name."""
        ...


class SharedTrees:
    """Pins that name nothing: the expression itself is shared."""

    def let(self, expr: Expr, hint: str = "t") -> Expr:
        """`expr` as it is."""
        return expr


@dataclass(frozen=True)
class Format:
    """One floating-point format and the constants that follow from it.

    Attributes:
        dtype, bits: the float dtype and the unsigned integer dtype of equal width.
        fraction: explicit significand bits (23, 52).
        bias: exponent bias (127, 1023).
        tiny: the smallest normal number.
        exp_low, exp_high: beyond these, exp rounds to 0 and overflows.
    """

    dtype: DType
    bits: DType
    fraction: int
    bias: int
    tiny: float
    exp_low: float
    exp_high: float

    def number(self, value: float) -> float:
        """`value` rounded to the format: a constant must be the same number everywhere."""
        return float(self.dtype.numpy.type(value))

    def parts(self, table: c.Table) -> c.Coefficients:
        """The entry of this dtype in a table of coefficients."""
        return table[self.dtype.name]

    @property
    def one(self) -> int:
        """The bits of 1.0."""
        return self.bias << self.fraction

    @property
    def sign(self) -> int:
        """The sign bit."""
        return 1 << (self.dtype.bits - 1)

    @property
    def integers(self) -> float:
        """1.5 * 2^fraction: added to x, it leaves x rounded to an integer in the low bits."""
        return 1.5 * 2.0**self.fraction

    def bits_of(self, value: float) -> int:
        """The bits of a constant."""
        return int(np.asarray(value, self.dtype.numpy).view(self.bits.numpy))


F32 = Format(f32, u32, 23, 127, 2.0**-126, -104.0, 89.0)
F64 = Format(f64, u64, 52, 1023, 2.0**-1022, -746.0, 710.0)
FORMATS = {"f32": F32, "f64": F64}
INFINITY, NAN = float("inf"), float("nan")


def format_of(x: Expr) -> Format:
    """The format of an expression."""
    return FORMATS[x.dtype.name]


Body = Callable[..., Expr]


@dataclass(frozen=True)
class MathFunction:
    """One function of the library.

    Attributes:
        name: what `expr.call` names it by.
        arity: number of arguments.
        dtypes: the dtypes it is written for; arguments and result have the same type.
        body: makes the result from (pins, *arguments) with `let` and pure expressions only.
        ulp: the promised largest error in units in the last place, per dtype.
        doc: one line: what it computes.
    """

    name: str
    arity: int
    dtypes: tuple[DType, ...]
    body: Body
    ulp: dict[str, float]
    doc: str


FUNCTIONS: dict[str, MathFunction] = {}
"""Every function by name."""


def function(name: str, arity: int = 1, *, f32_ulp: float, f64_ulp: float) -> Callable[[Body], Body]:
    """Register the decorated body under `name`."""

    def register(body: Body) -> Body:
        doc = (body.__doc__ or "").strip().split("\n")[0]
        FUNCTIONS[name] = MathFunction(name, arity, (f32, f64), body, {"f32": f32_ulp, "f64": f64_ulp}, doc)
        return body

    return register


def horner(x: Expr, coefficients: Sequence[float]) -> Expr:
    """The polynomial with the given coefficients (lowest power first), one fma a step."""
    result: Expr | float = coefficients[-1]
    for coefficient in reversed(coefficients[:-1]):
        result = fma(x, result, coefficient)
    return result if isinstance(result, Expr) else literal(x, result)


def absolute(x: Expr) -> Expr:
    """|x|."""
    return unary("abs", x)


def literal(x: Expr, value: Number) -> Expr:
    """A constant of the type of `x`."""
    return const(value, x.dtype, x.lanes)


def at_most(x: Expr, limit: float) -> Expr:
    """x, or `limit` where x is larger; NaN stays."""
    return select(x > limit, limit, x)


def at_least(x: Expr, limit: float) -> Expr:
    """x, or `limit` where x is smaller; NaN stays."""
    return select(x < limit, limit, x)


def sign_bits(x: Expr) -> Expr:
    """The sign bit of x, alone, as an unsigned integer."""
    f = format_of(x)
    return bitcast(x, f.bits) & f.sign


def flip_sign(x: Expr, bits: Expr) -> Expr:
    """x with its sign inverted where `bits` (an unsigned integer) is the sign bit, not 0."""
    return bitcast(bitcast(x, bits.dtype) ^ bits, x.dtype)
