"""Elementwise operations, constants and conversions."""

from __future__ import annotations

import math

import numpy as np

from aino_ir.dtypes import f32
from aino_ir.frontends.stablehlo.context import OpContext, Row, dense_array
from aino_ir.graph import Value


def constant(c: OpContext) -> Value:
    """Dense elements."""
    array = dense_array(c.attribute("value"), c.dtype)
    if array.size > 1 and all(s == 0 for s in array.strides):
        return c.filled(c.shape, array.reshape(-1)[0], c.dtype)
    return c.b.constant(np.ascontiguousarray(array).reshape(c.shape))


def by_kind(op: str, on_truth: str) -> Row:
    """An operation that is one op on numbers and another one on truth values (whose sums are "or")."""

    def lower(c: OpContext, *operands: Value) -> Value:
        return c.emit(on_truth if operands[0].dtype.is_bool else op, *operands)

    return lower


def compare(c: OpContext, a: Value, b: Value) -> Value:
    """A comparison; a total order of floats differs from it in the sign of zero and in NaN alone."""
    direction = c.word("comparison_direction").lower()
    if a.dtype.is_bool and direction not in ("eq", "ne"):
        a, b = (c.cast(x, f32) for x in (a, b))
    return c.emit(direction, a, b)


def clamp(c: OpContext, low: Value, x: Value, high: Value) -> Value:
    """x within bounds, which may be one number for all."""
    return c.emit("math.min", c.emit("math.max", x, low), high)


def convert(c: OpContext, x: Value) -> Value:
    """Another element type."""
    return c.cast(x, c.dtype)


def shift_right(c: OpContext, x: Value, count: Value) -> Value:
    """Zeros come in from the left: a shift of the unsigned number."""
    if not x.dtype.is_signed:
        return c.emit("shift_right", x, count)
    unsigned = f"u{x.dtype.bits}"
    shifted = c.emit("shift_right", c.emit("bitcast", x, to=unsigned), c.emit("bitcast", count, to=unsigned))
    return c.emit("bitcast", shifted, to=x.dtype)


def cbrt(c: OpContext, x: Value) -> Value:
    """The cube root, of negative numbers too."""
    root = c.emit("pow", c.emit("abs", x), c.scalar(1 / 3, x.dtype))
    return c.emit("mul", c.emit("sign", x), root)


def is_finite(c: OpContext, x: Value) -> Value:
    """Neither infinite nor NaN."""
    size = c.emit("abs", x)
    return c.emit("lt", size, c.scalar(math.inf, x.dtype))


def round_away(c: OpContext, x: Value) -> Value:
    """The nearest whole number, halves away from zero."""
    size = c.emit("abs", x)
    down = c.emit("floor", size)
    up = c.emit("ge", c.emit("sub", size, down), c.scalar(0.5, x.dtype))
    whole = c.emit("add", down, c.cast(up, x.dtype))
    return c.emit("mul", c.emit("sign", x), whole)


def square(c: OpContext, x: Value) -> Value:
    """x * x"""
    return c.emit("mul", x, x)


def passed(c: OpContext, *operands: Value) -> list[Value]:
    """The operands themselves."""
    return list(operands)


def remainder(c: OpContext, a: Value, b: Value) -> Value:
    """The remainder with the sign of the dividend."""
    return c.emit("mod", a, b, mode="trunc")


ROWS: dict[str, Row] = {
    "chlo.acos": "acos",
    "chlo.acosh": "acosh",
    "chlo.asin": "asin",
    "chlo.asinh": "asinh",
    "chlo.atan": "atan",
    "chlo.atanh": "atanh",
    "chlo.cosh": "cosh",
    "chlo.erf": "erf",
    "chlo.erfc": "erfc",
    "chlo.sinh": "sinh",
    "chlo.square": square,
    "chlo.tan": "tan",
    "stablehlo.abs": "abs",
    "stablehlo.add": by_kind("add", "logical_or"),
    "stablehlo.and": by_kind("bitwise_and", "logical_and"),
    "stablehlo.atan2": "atan2",
    "stablehlo.cbrt": cbrt,
    "stablehlo.ceil": "ceil",
    "stablehlo.clamp": clamp,
    "stablehlo.compare": compare,
    "stablehlo.constant": constant,
    "stablehlo.convert": convert,
    "stablehlo.cosine": "cos",
    "stablehlo.divide": "div",
    "stablehlo.exponential": "exp",
    "stablehlo.exponential_minus_one": "expm1",
    "stablehlo.floor": "floor",
    "stablehlo.is_finite": is_finite,
    "stablehlo.log": "log",
    "stablehlo.log_plus_one": "log1p",
    "stablehlo.logistic": "sigmoid",
    "stablehlo.maximum": by_kind("math.max", "logical_or"),
    "stablehlo.minimum": by_kind("math.min", "logical_and"),
    "stablehlo.multiply": by_kind("mul", "logical_and"),
    "stablehlo.negate": "neg",
    "stablehlo.not": by_kind("bitwise_not", "logical_not"),
    "stablehlo.optimization_barrier": passed,
    "stablehlo.or": by_kind("bitwise_or", "logical_or"),
    "stablehlo.power": "pow",
    "stablehlo.remainder": remainder,
    "stablehlo.round_nearest_afz": round_away,
    "stablehlo.round_nearest_even": "round",
    "stablehlo.rsqrt": "rsqrt",
    "stablehlo.select": "select",
    "stablehlo.shift_left": "shift_left",
    "stablehlo.shift_right_arithmetic": "shift_right",
    "stablehlo.shift_right_logical": shift_right,
    "stablehlo.sign": "sign",
    "stablehlo.sine": "sin",
    "stablehlo.sqrt": "sqrt",
    "stablehlo.subtract": "sub",
    "stablehlo.tan": "tan",
    "stablehlo.tanh": "tanh",
    "stablehlo.xor": by_kind("bitwise_xor", "logical_xor"),
}
