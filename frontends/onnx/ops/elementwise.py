"""Elementwise operators: arithmetic, logic, comparisons, activations, conversions."""

from __future__ import annotations

import numpy as np

from aino_ir.dims import is_static
from aino_ir.dtypes import DType, f32
from aino_ir.frontends.onnx.context import Lowering, NodeContext, Row, constant_array, element_dtype
from aino_ir.frontends.onnx.nodes import OnnxNode
from aino_ir.frontends.onnx.tensors import CODES
from aino_ir.graph import Value
from aino_ir.infer import known_contents
from aino_ir.types import StringType

EXACT = 2**53
"""Integers up to this magnitude survive an attribute of doubles."""


def with_floats(op: str, **attributes: float) -> Lowering:
    """A row whose op takes the node's float attributes; `attributes` gives ONNX's defaults."""

    def lower(c: NodeContext, node: OnnxNode) -> Value:
        given = {name: node.float(name, default) for name, default in attributes.items()}
        return c.emit(op, *c.inputs, **given)

    return lower


def folded(op: str) -> Lowering:
    """A row for an operator of one or more operands that is a chain of binary ops."""

    def lower(c: NodeContext, node: OnnxNode) -> Value:
        total = c.x
        for index in range(1, len(c.inputs)):
            total = c.emit(op, total, c.require(index))
        return total

    return lower


def mean(c: NodeContext, node: OnnxNode) -> Value:
    """The mean of the operands."""
    total = c.x
    for index in range(1, len(c.inputs)):
        total = c.emit("add", total, c.require(index))
    return c.emit("div", total, c.scalar(len(c.inputs), total.dtype))


def divide(c: NodeContext, node: OnnxNode) -> Value:
    """The quotient; a division of extents by an extent is one that is not 0, since x / 0 is an error."""
    demand_divisor(c, c.x, c.tensor(1))
    return c.emit("div", c.x, c.tensor(1))


def demand_divisor(c: NodeContext, x: Value, divisor: Value) -> None:
    """Record at entry that divisors among known extents are at least 1."""
    if not x.dtype.is_integer or known_contents(x, c.symbols) is None:
        return
    known = known_contents(divisor, c.symbols)
    for extent in () if known is None else known.reshape(-1).tolist():
        if not is_static(extent) and c.symbols.prove_ge(extent, 0) and c.symbols.prove_ge(extent, 1) is None:
            c.symbols.assume_ge(extent, 1, f"{c.node.operator}: divisor")


def mod(c: NodeContext, node: OnnxNode) -> Value:
    """The remainder with the sign of the divisor, or of the dividend with fmod=1."""
    demand_divisor(c, c.x, c.tensor(1))
    return c.emit("mod", c.x, c.tensor(1), mode="trunc" if node.int("fmod", 0) else "floor")


def power(c: NodeContext, node: OnnxNode) -> Value:
    """x ** y in the dtype of x; y may have another one."""
    x, y = c.x, c.tensor(1)
    if x.dtype.is_integer and y.dtype.is_float:
        return c.cast(c.emit("pow", c.cast(x, y.dtype), y), x.dtype)
    return c.emit("pow", x, c.cast(y, x.dtype))


def bit_shift(c: NodeContext, node: OnnxNode) -> Value:
    """Shift left or right."""
    direction = node.str("direction")
    if direction not in ("LEFT", "RIGHT"):
        c.invalid("direction", "LEFT or RIGHT", direction)
    return c.emit("shift_left" if direction == "LEFT" else "shift_right", c.x, c.tensor(1))


def clip(c: NodeContext, node: OnnxNode) -> Value:
    """Bounds are attributes before operator set 11, inputs after."""
    if c.opset < 11:
        return c.emit("clip", c.x, min=node.float("min", None), max=node.float("max", None))
    low, high = c.input(1), c.input(2)
    bounds = [_bound(low), _bound(high)]
    if all(given is None or bound is not None for given, bound in zip((low, high), bounds, strict=False)):
        return c.emit("clip", c.x, min=bounds[0], max=bounds[1])
    x = c.x if low is None else c.emit("max", c.x, low)
    return x if high is None else c.emit("min", x, high)


def _bound(value: Value | None) -> float | None:
    """A constant bound as an attribute holds it exactly, else None."""
    array = None if value is None else constant_array(value)
    if array is None or array.size != 1:
        return None
    number = array.reshape(-1)[0].item() if array.dtype.kind in "iu" else float(array.reshape(-1)[0])
    if np.isnan(number) or (array.dtype.kind in "iu" and abs(number) > EXACT):
        return None
    return float(number)


def cast(c: NodeContext, node: OnnxNode) -> Value:
    """Conversion to the dtype that the node names, of texts and to texts too."""
    if node.int("to") == CODES["str"]:
        return to_text(c)
    return convert(c, element_dtype(node.int("to"), "attribute 'to'", node.location), node)


def cast_like(c: NodeContext, node: OnnxNode) -> Value:
    """Conversion to the dtype of the second input."""
    if isinstance(c.require(1).type, StringType):
        return to_text(c)
    return convert(c, c.tensor(1).dtype, node)


def to_text(c: NodeContext) -> Value:
    """Numbers as texts (texts as they are)."""
    x = c.require(0)
    return x if isinstance(x.type, StringType) else c.emit("text.format", x)


def convert(c: NodeContext, to: DType, node: OnnxNode) -> Value:
    """A conversion; 8-bit floats saturate unless the node says no, integers below 8 bits wrap."""
    if isinstance(c.require(0).type, StringType):
        return c.emit("text.parse", c.require(0), to=to)
    x = c.x
    if x.dtype is to:
        return x
    saturate = to.is_float and to.bits <= 8 and bool(node.int("saturate", 1))
    if to.name == "f8e8m0":
        return power_of_two(c, x, to, saturate, node)
    wraps = to.is_integer and to.bits < 8
    return c.emit("cast", x, to=to, saturate=saturate, semantics="x86" if wraps else "saturate")


def power_of_two(c: NodeContext, x: Value, to: DType, saturate: bool, node: OnnxNode) -> Value:
    """A conversion to the dtype of powers of two, which has no zero and nothing negative.

    What is too small becomes the least power, 2^-127: a constant, as targets flush that number to zero
    in float32.
    """
    x = c.cast(x, f32)
    if not saturate:
        return _nearest_power(c, x, to, node)
    least = 2.0**-127
    power = _nearest_power(c, c.emit("clip", x, max=2.0**127), to, node)
    return c.emit("select", c.emit("le", x, c.scalar(least, f32)), c.scalar(least, to), power)


def _nearest_power(c: NodeContext, x: Value, to: DType, node: OnnxNode) -> Value:
    """The power of two next to float32 numbers, in the node's direction."""
    mode = node.str("round_mode", "up")
    y = c.emit("cast", x, to=to)
    if mode not in ("up", "down", "nearest"):
        c.invalid("round_mode", "up, down or nearest", mode)
    if mode == "nearest":
        return y
    near = c.cast(y, f32)
    wrong = c.emit("lt", near, x) if mode == "up" else c.emit("gt", near, x)
    moved = c.emit("mul", near, c.scalar(2.0 if mode == "up" else 0.5, f32))
    return c.emit("cast", c.emit("select", wrong, moved, near), to=to)


def is_inf(c: NodeContext, node: OnnxNode) -> Value:
    """Which infinities count is said by attributes."""
    positive, negative = bool(node.int("detect_positive", 1)), bool(node.int("detect_negative", 1))
    return c.emit("is_inf", c.x, positive=positive, negative=negative)


def prelu(c: NodeContext, node: OnnxNode) -> Value:
    """The slope broadcasts to x."""
    return c.emit("prelu", c.x, c.tensor(1))


def gelu(c: NodeContext, node: OnnxNode) -> Value:
    """The exact or the tanh form."""
    return c.emit("gelu", c.x, approximate=node.str("approximate", "none"))


def bitcast(c: NodeContext, node: OnnxNode) -> Value:
    """The same bits as another dtype of the same width."""
    return c.emit("bitcast", c.x, to=element_dtype(node.int("to"), "attribute 'to'", node.location))


def equal(c: NodeContext, node: OnnxNode) -> Value:
    """Comparison of numbers, truth values or strings."""
    strings = isinstance(c.require(0).type, StringType)
    return c.emit("text.eq" if strings else "logic.eq", c.require(0), c.require(1))


def identity(c: NodeContext, node: OnnxNode) -> Value:
    """The operand itself."""
    return c.require(0)


TABLE: dict[str, Row] = {
    **{
        name: f"math.{op}"
        for name, op in {
            "Abs": "abs",
            "Acos": "acos",
            "Acosh": "acosh",
            "Add": "add",
            "Asin": "asin",
            "Asinh": "asinh",
            "Atan": "atan",
            "Atanh": "atanh",
            "Ceil": "ceil",
            "Cos": "cos",
            "Cosh": "cosh",
            "Erf": "erf",
            "Exp": "exp",
            "Floor": "floor",
            "IsNaN": "is_nan",
            "Log": "log",
            "Mish": "mish",
            "Mul": "mul",
            "Neg": "neg",
            "Reciprocal": "reciprocal",
            "Relu": "relu",
            "Round": "round",
            "Sigmoid": "sigmoid",
            "Sign": "sign",
            "Sin": "sin",
            "Sinh": "sinh",
            "Softplus": "softplus",
            "Softsign": "softsign",
            "Sqrt": "sqrt",
            "Sub": "sub",
            "Tan": "tan",
            "Tanh": "tanh",
            "Where": "select",
        }.items()
    },
    **{
        name: f"logic.{op}"
        for name, op in {
            "And": "logical_and",
            "BitwiseAnd": "bitwise_and",
            "BitwiseNot": "bitwise_not",
            "BitwiseOr": "bitwise_or",
            "BitwiseXor": "bitwise_xor",
            "Greater": "gt",
            "GreaterOrEqual": "ge",
            "Less": "lt",
            "LessOrEqual": "le",
            "Not": "logical_not",
            "Or": "logical_or",
            "Xor": "logical_xor",
        }.items()
    },
    "BitCast": bitcast,
    "BitShift": bit_shift,
    "Cast": cast,
    "CastLike": cast_like,
    "Celu": with_floats("celu", alpha=1.0),
    "Clip": clip,
    "Div": divide,
    "Equal": equal,
    "Elu": with_floats("elu", alpha=1.0),
    "Gelu": gelu,
    "HardSigmoid": with_floats("hard_sigmoid", alpha=0.2, beta=0.5),
    "HardSwish": with_floats("hard_swish"),
    "Identity": identity,
    "IsInf": is_inf,
    "LeakyRelu": with_floats("leaky_relu", alpha=0.01),
    "Max": folded("max"),
    "Mean": mean,
    "Min": folded("min"),
    "Mod": mod,
    "PRelu": prelu,
    "Pow": power,
    "Selu": with_floats("selu", alpha=1.67326319217681884765625, gamma=1.05070102214813232421875),
    "Shrink": with_floats("shrink", lambd=0.5, bias=0.0),
    "Sum": folded("add"),
    "Swish": with_floats("silu", alpha=1.0),
    "ThresholdedRelu": with_floats("thresholded_relu", alpha=1.0),
}
