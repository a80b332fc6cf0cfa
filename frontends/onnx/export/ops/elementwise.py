"""Elementwise ops: arithmetic, logic, comparisons, activations, conversions."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from aino_ir.dtypes import DTYPES, DType, boolean, f64, i32, integer_range
from aino_ir.frontends.onnx.export.types import element_code
from aino_ir.frontends.onnx.export.writer import Exporter, GraphWriter, Ref, Row


def with_floats(kind: str, *names: str) -> Exporter:
    """A row whose operator takes the op's float attributes, under the same names."""

    def write(g: GraphWriter, op: Any) -> Ref:
        return g.node(kind, g.of(op.x), **{name: getattr(op, name) for name in names})

    return write


def unless_integer(kind: str) -> Exporter:
    """A row for rounding, which leaves integers as they are."""

    def write(g: GraphWriter, op: Any) -> Ref:
        x = g.of(op.x)
        return x if not op.x.dtype.is_float else g.node(kind, x)

    return write


def composed(build: Callable[[GraphWriter, Ref], Ref]) -> Exporter:
    """A row for a function of one operand that ONNX has no operator for."""

    def write(g: GraphWriter, op: Any) -> Ref:
        return build(g, g.of(op.x))

    return write


def negative(g: GraphWriter, op: Any) -> Ref:
    """-x; unsigned integers wrap."""
    x = g.of(op.x)
    if x.dtype is not None and x.dtype.is_integer and not x.dtype.is_signed:
        return g.node("Sub", g.scalar(0, x), x)
    return g.node("Neg", x)


def relu(g: GraphWriter, op: Any) -> Ref:
    """max(x, 0); what is unsigned stays."""
    x = g.of(op.x)
    unsigned = x.dtype is not None and x.dtype.is_integer and not x.dtype.is_signed
    return x if unsigned else g.node("Relu", x)


def truncated(g: GraphWriter, op: Any) -> Ref:
    """Towards zero: the ceiling of what is negative, else the floor."""
    x = g.of(op.x)
    if not op.x.dtype.is_float:
        return x
    below = g.node("Less", x, g.scalar(0, x))
    return g.node("Where", below, g.node("Ceil", x), g.node("Floor", x), dtype=x.dtype)


def not_equal(g: GraphWriter, op: Any) -> Ref:
    """Not the same."""
    return g.node("Not", g.node("Equal", g.of(op.lhs), g.of(op.rhs)))


def select(g: GraphWriter, op: Any) -> Ref:
    """One of two values; of truth values by logic, since engines leave Where of these out."""
    condition, chosen, other = g.of(op.condition), g.of(op.on_true), g.of(op.on_false)
    if chosen.dtype is boolean:
        return g.node("Or", g.node("And", condition, chosen), g.node("And", g.node("Not", condition), other))
    return g.node("Where", condition, chosen, other, dtype=chosen.dtype)


def opposite(g: GraphWriter, remainder: Ref, divisor: Ref) -> Ref:
    """Whether a remainder is not 0 and has another sign than the divisor."""
    zero = g.scalar(0, remainder)
    signs = g.node("Xor", g.node("Less", remainder, zero), g.node("Less", divisor, zero))
    return g.node("And", g.node("Not", g.node("Equal", remainder, zero)), signs)


def floor_division(g: GraphWriter, op: Any) -> Ref:
    """The floor of the quotient; floats by way of the exact remainder, as the op says."""
    a, b = g.of(op.lhs), g.of(op.rhs)
    one, zero = g.scalar(1, a), g.scalar(0, a)
    if not op.lhs.dtype.is_float:
        quotient = g.node("Div", a, b)
        if not op.lhs.dtype.is_signed:
            return quotient
        remainder = g.node("Sub", a, g.node("Mul", quotient, b))
        wrong = opposite(g, remainder, b)
        return g.node("Where", wrong, g.node("Sub", quotient, one), quotient, dtype=a.dtype)
    remainder = g.node("Mod", a, b, fmod=1)
    quotient = g.node("Div", g.node("Sub", a, remainder), b)
    wrong = opposite(g, remainder, b)
    quotient = g.node("Where", wrong, g.node("Sub", quotient, one), quotient, dtype=a.dtype)
    whole = g.node("Round", quotient)
    plain = g.node("Div", a, b)
    return g.node("Where", g.node("Equal", b, zero), plain, whole, dtype=a.dtype)


def modulo(g: GraphWriter, op: Any) -> Ref:
    """The remainder with the sign of the dividend ("trunc") or of the divisor ("floor")."""
    a, b = g.of(op.lhs), g.of(op.rhs)
    if op.mode == "trunc":
        return g.node("Mod", a, b, fmod=1)
    if not op.lhs.dtype.is_float:
        return g.node("Mod", a, b)
    remainder = g.node("Mod", a, b, fmod=1)
    moved = g.node("Add", remainder, b)
    return g.node("Where", opposite(g, remainder, b), moved, remainder, dtype=a.dtype)


def shift(g: GraphWriter, op: Any) -> Ref:
    """A shift by a count that may be the width or more; ONNX shifts unsigned integers by less than that."""
    left = op.name == "logic.shift_left"
    x, count, dtype = g.of(op.lhs), g.of(op.rhs), op.lhs.dtype
    direction, known = "LEFT" if left else "RIGHT", g.known(count)
    unsigned = DTYPES[f"u{dtype.bits}"]
    negative_x = None
    if dtype.is_signed and not left:  # floor(x / 2^n) = ~(~x >> n) below 0
        negative_x = g.node("Less", x, g.scalar(0, x))
        x = g.node("Where", negative_x, g.node("BitwiseNot", x), x, dtype=x.dtype)
    x, count = g.cast(x, unsigned), g.cast(count, unsigned)
    if known is not None and bool(((known >= 0) & (known < dtype.bits)).all()):
        y = g.cast(g.node("BitShift", x, count, direction=direction), dtype)
    else:
        inside = g.node("Less", count, g.scalar(dtype.bits, unsigned))
        near = g.node("Where", inside, count, g.scalar(0, unsigned), dtype=unsigned)
        moved = g.node("BitShift", x, near, direction=direction)
        y = g.cast(g.node("Where", inside, moved, g.scalar(0, unsigned), dtype=unsigned), dtype)
    if negative_x is None:
        return y
    return g.node("Where", negative_x, g.node("BitwiseNot", y), y, dtype=dtype)


def exponential_2(g: GraphWriter, x: Ref) -> Ref:
    """2 to the power of x."""
    return g.node("Pow", g.scalar(2, x), x)


def exponential_less_1(g: GraphWriter, x: Ref) -> Ref:
    """e^x - 1 = tanh(x / 2) (e^x + 1), which is accurate near 0."""
    half = g.node("Tanh", g.node("Mul", x, g.scalar(0.5, x)))
    return g.node("Mul", half, g.node("Add", g.node("Exp", x), g.scalar(1, x)))


def logarithm_of_1_more(g: GraphWriter, x: Ref) -> Ref:
    """log(1 + x) = log(u) - ((u - 1) - x) / u with u = 1 + x rounded (Higham), inf where x is."""
    one = g.scalar(1, x)
    u = g.node("Add", x, one)
    lost = g.node("Sub", g.node("Sub", u, one), x)
    y = g.node("Sub", g.node("Log", u), g.node("Div", lost, u))
    infinite = g.node("Or", g.node("IsInf", x), g.node("Equal", u, g.scalar(0, x)))
    return g.node("Where", infinite, g.node("Log", u), y, dtype=x.dtype)


def logarithm(base: float) -> Exporter:
    """The logarithm to a base."""
    return composed(lambda g, x: g.node("Div", g.node("Log", x), g.scalar(math.log(base), x)))


def error_complement(g: GraphWriter, x: Ref) -> Ref:
    """1 - erf(x): exact to an absolute, not a relative error, since ONNX has erf alone."""
    return g.node("Sub", g.scalar(1, x), g.node("Erf", x))


def log_sigmoid(g: GraphWriter, x: Ref) -> Ref:
    """-softplus(-x)"""
    return g.node("Neg", g.node("Softplus", g.node("Neg", x)))


def reciprocal_root(g: GraphWriter, x: Ref) -> Ref:
    """1 / sqrt(x)"""
    return g.node("Reciprocal", g.node("Sqrt", x))


def scaled(g: GraphWriter, x: Ref, factor: float) -> Ref:
    """x * factor (x itself for 1)."""
    return x if factor == 1.0 else g.node("Mul", x, g.scalar(factor, x))


def silu(g: GraphWriter, op: Any) -> Ref:
    """x * sigmoid(alpha * x)"""
    x = g.of(op.x)
    return g.node("Mul", x, g.node("Sigmoid", scaled(g, x, op.alpha)))


def softplus(g: GraphWriter, op: Any) -> Ref:
    """log(1 + e^(beta x)) / beta"""
    return scaled(g, g.node("Softplus", scaled(g, g.of(op.x), op.beta)), 1.0 / op.beta)


def hard_swish(g: GraphWriter, op: Any) -> Ref:
    """x * min(max(alpha x + beta, 0), 1); ONNX's operator has fixed numbers."""
    x = g.of(op.x)
    if (op.alpha, op.beta) == (1.0 / 6.0, 0.5):
        return g.node("HardSwish", x)
    return g.node("Mul", x, g.node("HardSigmoid", x, alpha=op.alpha, beta=op.beta))


def thresholded_relu(g: GraphWriter, op: Any) -> Ref:
    """A value at or below a threshold, else x."""
    x = g.of(op.x)
    if op.value == 0.0:
        return g.node("ThresholdedRelu", x, alpha=op.alpha)
    low = g.node("LessOrEqual", x, g.scalar(op.alpha, x))
    return g.node("Where", low, g.scalar(op.value, x), x, dtype=x.dtype)


def celu(g: GraphWriter, op: Any) -> Ref:
    """max(x, 0) + min(alpha (e^(x / alpha) - 1), 0); ONNX's operator has single precision alone."""
    x = g.of(op.x)
    if op.x.dtype.compute is not f64:
        return g.node("Celu", x, alpha=op.alpha)
    zero = g.scalar(0, x)
    below = scaled(g, exponential_less_1(g, g.node("Div", x, g.scalar(op.alpha, x))), op.alpha)
    return g.node("Where", g.node("Greater", x, zero), x, below, dtype=x.dtype)


def prelu(g: GraphWriter, op: Any) -> Ref:
    """slope * x below 0; ONNX's operator broadcasts the slope alone."""
    x, slope = g.of(op.x), g.of(op.slope)
    if op.x.rank == op.result.rank and all(map(g.proves, op.x.shape, op.result.shape)):
        return g.node("PRelu", x, slope)
    below = g.node("Less", x, g.scalar(0, x))
    return g.node("Where", below, g.node("Mul", x, slope), x, dtype=x.dtype)


def clip(g: GraphWriter, op: Any) -> Ref:
    """x within bounds; on integers they are cut to what the dtype holds.

    A bound that is absent is an infinity: ONNX would take the largest finite number.
    """
    x, dtype = g.of(op.x), op.x.dtype.compute
    low = -math.inf if op.min is None else op.min
    high = math.inf if op.max is None else op.max
    return g.node("Clip", x, *(g.scalar(bound_of(b, dtype), x) for b in (low, high)))


def bound_of(bound: float, dtype: DType) -> float | int:
    """A bound as a value of the dtype."""
    if not dtype.is_integer:
        return bound
    low, high = integer_range(dtype)
    return low if bound <= low else high if bound >= high else int(bound)


def angle_of_point(g: GraphWriter, op: Any) -> Ref:
    """atan2(y, x): the arc tangent of the quotient, moved by pi left of the axis; quadrants by sign."""
    y, x = g.of(op.lhs), g.of(op.rhs)
    zero = g.scalar(0, x)

    def where(condition: Ref, a: Ref, b: Ref) -> Ref:
        return g.node("Where", condition, a, b, dtype=x.dtype)

    def is_negative(v: Ref) -> Ref:  # -0 counts: its reciprocal is -inf
        at_zero = g.node("Less", g.node("Reciprocal", v), zero)
        return g.node("Or", g.node("Less", v, zero), g.node("And", g.node("Equal", v, zero), at_zero))

    def both(test: str) -> Ref:
        return g.node("And", g.node(test, y), g.node(test, x))

    pi = where(is_negative(y), g.scalar(-math.pi, x), g.scalar(math.pi, x))
    ones = where(is_negative(y), g.scalar(-1, x), g.scalar(1, x))
    across = where(is_negative(x), g.scalar(-1, x), g.scalar(1, x))
    quotient = where(both("IsInf"), g.node("Mul", ones, across), g.node("Div", y, x))
    origin = g.node("And", g.node("Equal", y, zero), g.node("Equal", x, zero))
    quotient = where(origin, g.node("Mul", y, across), quotient)
    base = g.node("Atan", quotient)
    return where(is_negative(x), g.node("Add", base, pi), base)


def cast(g: GraphWriter, op: Any) -> Ref:
    """A conversion; narrow floats are told whether to saturate, narrow integers are cut from wider ones."""
    x = g.refs[op.x]
    saturate = None
    if op.to.name.startswith("f8"):
        saturate = int(op.saturate)
    if op.to is op.x.dtype:
        return x
    if op.to.is_integer and op.to.bits < 8 and op.x.dtype.is_float:
        x = g.cast(x, i32)
    return g.node("Cast", x, dtype=op.to, to=element_code(op.to), saturate=saturate)


def bitcast(g: GraphWriter, op: Any) -> Ref:
    """The same bits as another dtype."""
    return g.node("BitCast", g.refs[op.x], dtype=op.to, to=element_code(op.to))


def is_inf(g: GraphWriter, op: Any) -> Ref:
    """Which infinities count is said by attributes."""
    return g.node("IsInf", g.of(op.x), detect_positive=int(op.positive), detect_negative=int(op.negative))


def gelu(g: GraphWriter, op: Any) -> Ref:
    """The exact or the tanh form."""
    return g.node("Gelu", g.of(op.x), approximate=op.approximate)


TABLE: dict[str, Row] = {
    "logic.bitwise_and": "BitwiseAnd",
    "logic.bitwise_not": "BitwiseNot",
    "logic.bitwise_or": "BitwiseOr",
    "logic.bitwise_xor": "BitwiseXor",
    "logic.eq": "Equal",
    "logic.ge": "GreaterOrEqual",
    "logic.gt": "Greater",
    "logic.le": "LessOrEqual",
    "logic.logical_and": "And",
    "logic.logical_not": "Not",
    "logic.logical_or": "Or",
    "logic.logical_xor": "Xor",
    "logic.lt": "Less",
    "logic.ne": not_equal,
    "logic.shift_left": shift,
    "logic.shift_right": shift,
    "math.abs": "Abs",
    "math.acos": "Acos",
    "math.acosh": "Acosh",
    "math.add": "Add",
    "math.asin": "Asin",
    "math.asinh": "Asinh",
    "math.atan": "Atan",
    "math.atan2": angle_of_point,
    "math.atanh": "Atanh",
    "math.bitcast": bitcast,
    "math.cast": cast,
    "math.ceil": unless_integer("Ceil"),
    "math.celu": celu,
    "math.clip": clip,
    "math.cos": "Cos",
    "math.cosh": "Cosh",
    "math.div": "Div",
    "math.elu": with_floats("Elu", "alpha"),
    "math.erf": "Erf",
    "math.erfc": composed(error_complement),
    "math.exp": "Exp",
    "math.exp2": composed(exponential_2),
    "math.expm1": composed(exponential_less_1),
    "math.floor": unless_integer("Floor"),
    "math.floordiv": floor_division,
    "math.gelu": gelu,
    "math.hard_sigmoid": with_floats("HardSigmoid", "alpha", "beta"),
    "math.hard_swish": hard_swish,
    "math.is_inf": is_inf,
    "math.is_nan": "IsNaN",
    "math.leaky_relu": with_floats("LeakyRelu", "alpha"),
    "math.log": "Log",
    "math.log10": logarithm(10.0),
    "math.log1p": composed(logarithm_of_1_more),
    "math.log2": logarithm(2.0),
    "math.log_sigmoid": composed(log_sigmoid),
    "math.max": "Max",
    "math.min": "Min",
    "math.mish": "Mish",
    "math.mod": modulo,
    "math.mul": "Mul",
    "math.neg": negative,
    "math.pow": "Pow",
    "math.prelu": prelu,
    "math.reciprocal": "Reciprocal",
    "math.relu": relu,
    "math.round": unless_integer("Round"),
    "math.rsqrt": composed(reciprocal_root),
    "math.select": select,
    "math.selu": with_floats("Selu", "alpha", "gamma"),
    "math.shrink": with_floats("Shrink", "lambd", "bias"),
    "math.sigmoid": "Sigmoid",
    "math.sign": "Sign",
    "math.silu": silu,
    "math.sin": "Sin",
    "math.sinh": "Sinh",
    "math.softplus": softplus,
    "math.softsign": "Softsign",
    "math.sqrt": "Sqrt",
    "math.sub": "Sub",
    "math.tan": "Tan",
    "math.tanh": "Tanh",
    "math.thresholded_relu": thresholded_relu,
    "math.trunc": truncated,
}
