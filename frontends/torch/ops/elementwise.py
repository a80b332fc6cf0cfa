"""Elementwise operators: arithmetic, comparisons, logic, rounding, conversions."""

from __future__ import annotations

import math

from aino_ir.dims import Dim
from aino_ir.dtypes import DType, boolean
from aino_ir.frontends.torch.context import Lowering, NodeContext, Operand, Row, number_array
from aino_ir.graph import Value


def unary(op: str) -> Lowering:
    """A row for a function of floats; integers and truth values are converted first."""

    def lower(c: NodeContext, x: Operand) -> Value:
        return c.elementwise(op, x)

    return lower


def rounding(op: str) -> Lowering:
    """A row for a function that leaves integers as they are."""

    def lower(c: NodeContext, x: Value) -> Value:
        return c.elementwise(op, x) if x.dtype.is_float else x

    return lower


def round_decimals(c: NodeContext, x: Value, decimals: int = 0) -> Value:
    """x rounded to a number of decimal places, halves to the even one."""
    if not x.dtype.is_float:
        return x
    dtype = x.dtype.compute
    factor = c.scalar(10.0 ** abs(decimals), dtype)
    there, back = ("mul", "div") if decimals >= 0 else ("div", "mul")
    whole = c.emit("round", c.emit(there, c.cast(x, dtype), factor))
    return c.cast(c.emit(back, whole, factor), x.dtype)


def binary(op: str) -> Lowering:
    """A row for arithmetic in the dtype of the result."""

    def lower(c: NodeContext, x: Operand, other: Operand) -> Value:
        return c.elementwise(op, x, other)

    return lower


def comparison(op: str) -> Lowering:
    """A row for a comparison in the dtype that both operands are promoted to."""

    def lower(c: NodeContext, x: Operand, other: Operand) -> Value:
        dtype = c.computed_in()
        if dtype.is_storage:  # numbers are not rounded to it
            dtype = dtype.compute
        return c.emit(op, c.operand(x, dtype), c.operand(other, dtype))

    return lower


def logical(op: str) -> Lowering:
    """A row for logic on truth values of any dtype."""

    def lower(c: NodeContext, x: Value, other: Value | None = None) -> Value:
        return c.emit(op, *(c.truth(v) for v in (x, other) if v is not None))

    return lower


def bitwise(of_integers: str, of_bools: str) -> Lowering:
    """A row for logic on bits, which on truth values is logic."""

    def lower(c: NodeContext, x: Operand, other: Operand | None = None) -> Value:
        operands = [v for v in (x, other) if v is not None]
        op = of_bools if c.dtype.is_bool else of_integers
        return c.emit(op, *(c.operand(v, c.dtype) for v in operands))

    return lower


def extreme(of_numbers: str, of_bools: str) -> Lowering:
    """A row for the larger or smaller operand."""

    def lower(c: NodeContext, x: Value, other: Value) -> Value:
        return c.elementwise(of_bools if c.dtype.is_bool else of_numbers, x, other)

    return lower


def scaled_sum(op: str, of_bools: str = "") -> Lowering:
    """A row for x + alpha * other or x - alpha * other."""

    def lower(c: NodeContext, x: Operand, other: Operand, alpha: Operand = 1) -> Value:
        if c.dtype.is_bool and of_bools:
            y = c.operand(other, c.dtype)
            if alpha is not True and alpha != 1:
                y = c.emit("logical_and", y, c.operand(alpha, c.dtype))
            return c.emit(of_bools, c.operand(x, c.dtype), y)
        if not isinstance(alpha, (Value, Dim)) and alpha == 1:
            return c.elementwise(op, x, other)
        dtype = c.dtype.compute
        product = c.emit("mul", c.operand(other, dtype), c.operand(alpha, dtype))
        return c.cast(c.emit(op, c.operand(x, dtype), product), c.dtype)

    return lower


def reversed_sub(c: NodeContext, x: Operand, other: Operand, alpha: Operand = 1) -> Value:
    """other - alpha * x"""
    dtype = c.dtype.compute
    scaled = c.emit("mul", c.operand(x, dtype), c.operand(alpha, dtype))
    return c.cast(c.emit("sub", c.operand(other, dtype), scaled), c.dtype)


def multiply(c: NodeContext, x: Operand, other: Operand) -> Value:
    """The product; of truth values, their conjunction."""
    return c.elementwise("logical_and" if c.dtype.is_bool else "mul", x, other)


def divide(c: NodeContext, x: Operand, other: Operand, rounding_mode: str | None = None) -> Value:
    """The quotient: exact on floats (integers become floats), truncated or floored by mode."""
    if rounding_mode == "floor":
        return c.elementwise("floordiv", x, other)
    if rounding_mode == "trunc" and c.dtype.is_float:
        return c.emit("trunc", c.elementwise("div", x, other))  # rounded first, as eager does
    return c.elementwise("div", x, other)


def remainder(mode: str) -> Lowering:
    """A row for the remainder with the sign of the divisor ("floor") or of the dividend ("trunc")."""

    def lower(c: NodeContext, x: Operand, other: Operand) -> Value:
        return c.elementwise("mod", x, other, mode=mode)

    return lower


def power(c: NodeContext, x: Operand, exponent: Operand) -> Value:
    """x ** exponent; the common small exponents are products and roots."""
    if isinstance(x, Value) and isinstance(exponent, (int, float)) and x.dtype is c.dtype:
        if exponent == 1:
            return x
        if exponent == 2:
            return c.emit("mul", x, x)
        if exponent == 0.5 and x.dtype.is_float:
            return c.emit("sqrt", x)
    return c.elementwise("pow", x, exponent)


def shift(op: str) -> Lowering:
    """A row for a shift by a number of bits."""

    def lower(c: NodeContext, x: Operand, other: Operand) -> Value:
        return c.elementwise(op, x, other)

    return lower


def clamp(c: NodeContext, x: Value, min: Operand | None = None, max: Operand | None = None) -> Value:
    """x within bounds; with a lower bound above the upper one everything is the upper one."""
    x = c.cast(x, c.dtype)
    if all(b is None or _is_attribute(b, c.dtype) for b in (min, max)):
        return c.emit("clip", x, min=min, max=max)
    if min is not None:
        x = c.elementwise("max", x, min)
    return x if max is None else c.elementwise("min", x, max)


def _is_attribute(bound: Operand, dtype: DType) -> bool:
    """Whether an attribute of doubles holds a bound, and the dtype does too."""
    if isinstance(bound, (Value, Dim)) or math.isnan(bound):
        return False
    exact = float(number_array(bound, dtype)) if dtype.is_integer else float(bound)
    return (abs(bound) < 2**53 and exact == bound) or (math.isinf(bound) and dtype.is_float)


def at_least(c: NodeContext, x: Value, min: Operand) -> Value:
    """x with a lower bound."""
    return clamp(c, x, min=min)


def at_most(c: NodeContext, x: Value, max: Operand) -> Value:
    """x with an upper bound."""
    return clamp(c, x, max=max)


def where(c: NodeContext, condition: Value, x: Operand, other: Operand) -> Value:
    """x where the condition holds, else the other one."""
    return c.emit("select", c.truth(condition), c.operand(x, c.dtype), c.operand(other, c.dtype))


def masked_fill(c: NodeContext, x: Value, mask: Value, value: Operand) -> Value:
    """A value where the mask holds, else x."""
    return c.emit("select", c.truth(mask), c.operand(value, c.dtype), c.operand(x, c.dtype))


def not_a_number(c: NodeContext, x: Value) -> Value:
    """Whether each element is NaN; integers never are."""
    return c.emit("is_nan", x) if x.dtype.is_float else c.filled(x.shape, False, boolean)


def infinite(positive: bool, negative: bool) -> Lowering:
    """A row for a test for infinities; integers never are."""

    def lower(c: NodeContext, x: Value) -> Value:
        if not x.dtype.is_float:
            return c.filled(x.shape, False, boolean)
        return c.emit("is_inf", x, positive=positive, negative=negative)

    return lower


def convert(c: NodeContext, x: Value, dtype: DType | None = None) -> Value:
    """x in another dtype, as C converts on x86."""
    return to_dtype(c, x, dtype or x.dtype)


def to_dtype(c: NodeContext, x: Value, dtype: DType) -> Value:
    """x in a dtype, with torch's result where a float does not fit an integer."""
    if x.dtype is dtype:
        return x
    return c.emit("cast", x, to=dtype, semantics="x86")


def identity(c: NodeContext, x: Value) -> Value:
    """x itself: copies and aliases are not told apart here."""
    return x


def copy(c: NodeContext, x: Value, src: Value) -> Value:
    """src in the shape and dtype of x."""
    value = to_dtype(c, src, c.dtype)
    return value if value.shape == x.shape else c.emit("expand", value, shape=x.shape)


def fill(c: NodeContext, x: Value, value: Operand) -> Value:
    """A tensor like x with one value."""
    if isinstance(value, Value):
        return c.emit("expand", c.cast(value, c.dtype), shape=x.shape)
    return c.emit("expand", c.operand(value, c.dtype), shape=x.shape)


def sign_of_real(c: NodeContext, x: Value) -> Value:
    """The sign; of truth values, themselves."""
    return x if x.dtype.is_bool else c.emit("sign", x)


def absolute(c: NodeContext, x: Value) -> Value:
    """|x|; what has no sign is its own."""
    return c.emit("abs", x) if x.dtype.is_float or x.dtype.is_signed else x


def ignoring_nan(op: str) -> Lowering:
    """A row for the larger or smaller operand, a NaN counting as absent."""

    def lower(c: NodeContext, x: Operand, other: Operand) -> Value:
        a, b = c.operand(x, c.dtype), c.operand(other, c.dtype)
        if not c.dtype.is_float:
            return c.elementwise(
                {"max": "logical_or", "min": "logical_and"}[op] if c.dtype.is_bool else op, a, b
            )
        best = c.emit(op, a, b)
        return c.emit("select", c.emit("is_nan", a), b, c.emit("select", c.emit("is_nan", b), a, best))

    return lower


def converted(c: NodeContext, a: Value, dtype: DType) -> Value:
    """a in another dtype: what torch makes of floats that it takes out of Python."""
    return to_dtype(c, a, dtype)


TABLE: dict[str, Row] = {
    **{
        f"aten.{name}": unary(op)
        for name, op in {
            "acos": "acos",
            "acosh": "acosh",
            "asin": "asin",
            "asinh": "asinh",
            "atan": "atan",
            "atanh": "atanh",
            "cos": "cos",
            "cosh": "cosh",
            "erf": "erf",
            "erfc": "erfc",
            "exp": "exp",
            "exp2": "exp2",
            "expm1": "expm1",
            "log": "log",
            "log10": "log10",
            "log1p": "log1p",
            "log2": "log2",
            "reciprocal": "reciprocal",
            "rsqrt": "rsqrt",
            "sigmoid": "sigmoid",
            "sin": "sin",
            "sinh": "sinh",
            "special_erf": "erf",
            "special_erfc": "erfc",
            "special_exp2": "exp2",
            "special_expit": "sigmoid",
            "special_expm1": "expm1",
            "special_log1p": "log1p",
            "sqrt": "sqrt",
            "tan": "tan",
            "tanh": "tanh",
        }.items()
    },
    **{f"aten.{name}": rounding(name) for name in ("ceil", "floor", "trunc")},
    **{f"aten.{name}": comparison(f"logic.{name}") for name in ("eq", "ge", "gt", "le", "lt", "ne")},
    **{f"aten.logical_{name}": logical(f"logic.logical_{name}") for name in ("and", "not", "or", "xor")},
    **{
        f"aten.bitwise_{n}": bitwise(f"logic.bitwise_{n}", f"logic.logical_{n}")
        for n in ("and", "not", "or", "xor")
    },
    "aten._to_copy": convert,
    "aten.abs": absolute,
    "aten.add": scaled_sum("add", "logical_or"),
    "aten.alias": identity,
    "aten.atan2": binary("atan2"),
    "aten.__lshift__": shift("shift_left"),
    "aten.__rshift__": shift("shift_right"),
    "aten.bitwise_left_shift": shift("shift_left"),
    "aten.bitwise_right_shift": shift("shift_right"),
    "aten.clamp": clamp,
    "aten.clamp_max": at_most,
    "aten.clamp_min": at_least,
    "aten.clone": identity,
    "aten.copy": copy,
    "aten.detach": identity,
    "aten.div": divide,
    "aten.true_divide": divide,
    "prims.convert_element_type": converted,
    "aten.fill": fill,
    "aten.floor_divide": binary("floordiv"),
    "aten.fmax": ignoring_nan("max"),
    "aten.fmin": ignoring_nan("min"),
    "aten.fmod": remainder("trunc"),
    "aten.isinf": infinite(True, True),
    "aten.isnan": not_a_number,
    "aten.isneginf": infinite(False, True),
    "aten.isposinf": infinite(True, False),
    "aten.lift_fresh": identity,
    "aten.lift_fresh_copy": identity,
    "aten.masked_fill": masked_fill,
    "aten.maximum": extreme("max", "logical_or"),
    "aten.minimum": extreme("min", "logical_and"),
    "aten.mul": multiply,
    "aten.neg": unary("neg"),
    "aten.positive": identity,
    "aten.pow": power,
    "aten.remainder": remainder("floor"),
    "aten.round.decimals": round_decimals,
    "aten.round.default": rounding("round"),
    "aten.rsub": reversed_sub,
    "aten.sgn": sign_of_real,
    "aten.sign": sign_of_real,
    "aten.sub": scaled_sum("sub"),
    "aten.where.self": where,
    "aten.where.ScalarSelf": where,
    "aten.where.ScalarOther": where,
    "aten.where.Scalar": where,
}
