"""Elementwise arithmetic.  Integers wrap; max and min propagate NaN; see docs/ir.md."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from aino_ir.dims import dmax, dmin
from aino_ir.dtypes import DType, boolean, integer_range
from aino_ir.elementwise import Elementwise
from aino_ir.infer import InferContext
from aino_ir.loops.expr import (
    Expr,
    Number,
    call,
    compare,
    const,
    maximum,
    minimum,
    select,
    unary,
)
from aino_ir.op import Trait, bool_attr, float_attr, operand
from aino_ir.special import in_double
from aino_ir.symbolic import elementwise_dims, is_symbolic, sign_of

Array = np.ndarray[Any, Any]

SYMBOLIC = frozenset({Trait.ELEMENTWISE, Trait.SYMBOLIC})
SYMBOLIC_COMMUTATIVE = SYMBOLIC | {Trait.COMMUTATIVE}


class Unary(Elementwise):
    """An elementwise op on one operand."""

    x = operand()


class Binary(Elementwise):
    """An elementwise op on two operands."""

    lhs = operand()
    rhs = operand()


class Add(Binary):
    """out = lhs + rhs; integers wrap."""

    name = "math.add"
    traits = SYMBOLIC_COMMUTATIVE

    def expr(self, a: Expr, b: Expr) -> Expr:
        return a + b

    def evaluate(self, ev: Any, a: Array, b: Array) -> Array:
        return a + b


class Sub(Binary):
    """out = lhs - rhs; integers wrap."""

    name = "math.sub"
    traits = SYMBOLIC

    def expr(self, a: Expr, b: Expr) -> Expr:
        return a - b

    def evaluate(self, ev: Any, a: Array, b: Array) -> Array:
        return a - b


class Mul(Binary):
    """out = lhs * rhs; integers wrap."""

    name = "math.mul"
    traits = SYMBOLIC_COMMUTATIVE

    def expr(self, a: Expr, b: Expr) -> Expr:
        return a * b

    def evaluate(self, ev: Any, a: Array, b: Array) -> Array:
        return a * b


class Pow(Binary):
    """out = lhs ** rhs; on floats as C's pow.

    On integers the product wraps; a negative exponent gives the truncated reciprocal: 1 for a base
    of 1, 1 or -1 for -1, else 0 (0 included).  x ** 0 is 1 for every x, NaN included.
    """

    name = "math.pow"

    def expr(self, a: Expr, b: Expr) -> Expr:
        return call("pow", a, b) if a.dtype.is_float else _integer_power(a, b)

    def evaluate(self, ev: Any, a: Array, b: Array) -> Array:
        if a.dtype.kind == "f":
            return in_double(np.power, a, b)
        exponent = np.maximum(b, 0)
        product = np.power(a, exponent)
        sign = np.where(b % 2 == 0, 1, a).astype(a.dtype)
        unit = (a == 1) | (a == np.array(-1).astype(a.dtype))
        return np.asarray(np.where(b < 0, np.where(unit, sign, 0), product)).astype(a.dtype)


class Min(Binary):
    """out = min(lhs, rhs); NaN if either is NaN.  Which zero min(0, -0) gives is not defined."""

    name = "math.min"
    traits = SYMBOLIC_COMMUTATIVE

    def expr(self, a: Expr, b: Expr) -> Expr:
        return minimum(a, b)

    def evaluate(self, ev: Any, a: Array, b: Array) -> Array:
        return elementwise_dims(dmin, a, b) if is_symbolic(ev) else np.asarray(np.minimum(a, b))


class Max(Binary):
    """out = max(lhs, rhs); NaN if either is NaN.  Which zero max(0, -0) gives is not defined."""

    name = "math.max"
    traits = SYMBOLIC_COMMUTATIVE

    def expr(self, a: Expr, b: Expr) -> Expr:
        return maximum(a, b)

    def evaluate(self, ev: Any, a: Array, b: Array) -> Array:
        return elementwise_dims(dmax, a, b) if is_symbolic(ev) else np.asarray(np.maximum(a, b))


class Atan2(Binary):
    """out = the angle of the point (rhs, lhs) in -pi..pi, as C's atan2(lhs, rhs)."""

    name = "math.atan2"
    accepts = "float"

    def expr(self, a: Expr, b: Expr) -> Expr:
        return call("atan2", a, b)

    def evaluate(self, ev: Any, a: Array, b: Array) -> Array:
        return in_double(np.arctan2, a, b)


class Neg(Unary):
    """out = -x; -INT_MIN is INT_MIN, and unsigned integers wrap."""

    name = "math.neg"
    traits = SYMBOLIC

    def expr(self, x: Expr) -> Expr:
        return -x

    def evaluate(self, ev: Any, x: Array) -> Array:
        return np.asarray(np.negative(x))


class Abs(Unary):
    """out = |x|; |INT_MIN| is INT_MIN, and -0 becomes 0."""

    name = "math.abs"
    traits = SYMBOLIC

    def expr(self, x: Expr) -> Expr:
        return unary("abs", x)

    def evaluate(self, ev: Any, x: Array) -> Array:
        if is_symbolic(ev):
            return elementwise_dims(lambda v: v if ev.symbols.prove_ge(v, 0) else abs(v), x)
        return np.asarray(np.abs(x))


class Sign(Unary):
    """out = 1 if x > 0, -1 if x < 0, else x (0, -0 or NaN)."""

    name = "math.sign"
    traits = SYMBOLIC

    def expr(self, x: Expr) -> Expr:
        positive = select(x > 0, const(1, x.dtype), x)
        if not (x.dtype.is_float or x.dtype.is_signed):
            return positive
        return select(x < 0, const(-1, x.dtype), positive)

    def evaluate(self, ev: Any, x: Array) -> Array:
        if is_symbolic(ev):
            return elementwise_dims(lambda v: sign_of(ev.symbols, v), x)
        return np.where(x == 0, x, np.sign(x))


class Reciprocal(Unary):
    """out = 1 / x; 1 / 0 is inf and 1 / -0 is -inf."""

    name = "math.reciprocal"
    accepts = "float"

    def expr(self, x: Expr) -> Expr:
        return 1.0 / x

    def evaluate(self, ev: Any, x: Array) -> Array:
        return np.asarray(np.divide(x.dtype.type(1), x))


class Sqrt(Unary):
    """out = the square root of x, correctly rounded; NaN below 0, and sqrt(-0) is -0."""

    name = "math.sqrt"
    accepts = "float"

    def expr(self, x: Expr) -> Expr:
        return unary("sqrt", x)

    def evaluate(self, ev: Any, x: Array) -> Array:
        return np.asarray(np.sqrt(x))


class Rsqrt(Unary):
    """out = 1 / sqrt(x); NaN below 0, inf at 0, -inf at -0."""

    name = "math.rsqrt"
    accepts = "float"

    def expr(self, x: Expr) -> Expr:
        return 1.0 / unary("sqrt", x)

    def evaluate(self, ev: Any, x: Array) -> Array:
        return in_double(lambda v: 1.0 / np.sqrt(v), x)


class RoundingUnary(Unary):
    """An op that makes floats whole; integers stay as they are."""

    traits = SYMBOLIC
    loop_op: str
    reference: Callable[..., Any]

    def expr(self, x: Expr) -> Expr:
        return unary(self.loop_op, x) if x.dtype.is_float else x

    def evaluate(self, ev: Any, x: Array) -> Array:
        return np.asarray(type(self).reference(x)) if x.dtype.kind == "f" else x


class Floor(RoundingUnary):
    """out = the largest whole number <= x; infinities, NaN and -0 stay."""

    name = "math.floor"
    loop_op = "floor"
    reference = staticmethod(np.floor)


class Ceil(RoundingUnary):
    """out = the least whole number >= x; infinities and NaN stay, -0.5 gives -0."""

    name = "math.ceil"
    loop_op = "ceil"
    reference = staticmethod(np.ceil)


class Round(RoundingUnary):
    """out = the whole number nearest to x, halves to the even one; infinities and NaN stay."""

    name = "math.round"
    loop_op = "round"
    reference = staticmethod(np.rint)


class Trunc(RoundingUnary):
    """out = x without its fraction (towards zero); infinities and NaN stay."""

    name = "math.trunc"
    loop_op = "trunc"
    reference = staticmethod(np.trunc)


class Clip(Unary):
    """out = min(max(x, min), max), a bound of None being absent; NaN stays.

    With min > max every number becomes max.  On integers the bounds are saturated to the dtype.
    Bounds that are values are written with `math.max` and `math.min`.
    """

    name = "math.clip"
    traits = SYMBOLIC
    min = float_attr(None)
    max = float_attr(None)
    sample_attrs = ({"min": -1.5, "max": 2}, {"min": 0}, {"max": 6}, {"min": 3, "max": 1}, {})

    def _bounds(self, dtype: DType) -> tuple[Number | None, Number | None]:
        return tuple(None if b is None else saturated(b, dtype) for b in (self.min, self.max))  # type: ignore[return-value]

    def expr(self, x: Expr) -> Expr:
        low, high = self._bounds(self.x.dtype)
        y = x if low is None else maximum(x, low)
        return y if high is None else minimum(y, high)

    def evaluate(self, ev: Any, x: Array) -> Array:
        low, high = self._bounds(self.x.dtype)
        if is_symbolic(ev):
            y = x if low is None else elementwise_dims(lambda v: dmax(v, int(low)), x)
            return y if high is None else elementwise_dims(lambda v: dmin(v, int(high)), y)
        if low is not None:
            x = np.maximum(x, x.dtype.type(low))
        return np.asarray(x if high is None else np.minimum(x, x.dtype.type(high)))


class IsNan(Unary):
    """out = whether x is NaN."""

    name = "math.is_nan"
    accepts = "float"

    def result_dtype(self, ic: InferContext) -> DType:
        super().result_dtype(ic)
        return boolean

    def expr(self, x: Expr) -> Expr:
        return unary("isnan", x)

    def evaluate(self, ev: Any, x: Array) -> Array:
        return np.asarray(np.isnan(x))


class IsInf(Unary):
    """out = whether x is inf (with `positive`) or -inf (with `negative`)."""

    name = "math.is_inf"
    accepts = "float"
    positive = bool_attr(True)
    negative = bool_attr(True)
    sample_attrs = tuple({"positive": p, "negative": n} for p in (True, False) for n in (True, False))

    def result_dtype(self, ic: InferContext) -> DType:
        super().result_dtype(ic)
        return boolean

    def expr(self, x: Expr) -> Expr:
        if self.positive and self.negative:
            return unary("isinf", x)
        if not (self.positive or self.negative):
            return const(False, boolean, x.lanes)
        return compare("eq", x, float("inf") if self.positive else float("-inf"))

    def evaluate(self, ev: Any, x: Array) -> Array:
        found = np.zeros(x.shape, bool)
        if self.positive:
            found |= np.isposinf(x)
        if self.negative:
            found |= np.isneginf(x)
        return found


# ---------------------------------------------------------------------------------- shared pieces


def saturated(bound: float, dtype: DType) -> Number:
    """A bound in the range of `dtype`."""
    if dtype.is_float:
        return bound
    low, high = integer_range(dtype)
    return low if bound <= low else high if bound >= high else int(bound)


def _integer_power(base: Expr, exponent: Expr) -> Expr:
    """base ** exponent by squaring over the bits of the exponent, wrapping."""
    dtype = base.dtype
    value_bits = dtype.bits - (1 if dtype.is_signed else 0)
    result: Expr = const(1, dtype)
    square = base
    for bit in range(value_bits):
        odd = compare("ne", exponent & (1 << bit), 0)
        result = select(odd, result * square, result)
        if bit + 1 < value_bits:
            square = square * square
    if not dtype.is_signed:
        return result
    sign = select(compare("ne", exponent & 1, 0), base, const(1, dtype))
    unit = compare("eq", base, 1) | compare("eq", base, -1)
    reciprocal = select(unit, sign, const(0, dtype))
    return select(exponent < 0, reciprocal, result)
