"""Activations: ReLU and its kin, sigmoids, softplus, GELU and SiLU."""

from __future__ import annotations

from aino_ir.frontends.torch.context import Lowering, NodeContext, Operand, Row
from aino_ir.graph import Value

SOFTPLUS_LINEAR = 20.0
"""From this beta * x on e^-x vanishes in f32, so that softplus is the identity there anyway."""


def relu(c: NodeContext, x: Value) -> Value:
    """max(x, 0)"""
    return c.emit("relu", x)


def clipped(low: float, high: float) -> Lowering:
    """A row for x within two numbers."""

    def lower(c: NodeContext, x: Value) -> Value:
        return c.emit("clip", x, min=low, max=high)

    return lower


def hardtanh(c: NodeContext, x: Value, min_val: Operand = -1, max_val: Operand = 1) -> Value:
    """x within two numbers."""
    low, high = c.number(min_val, "a bound"), c.number(max_val, "a bound")
    return c.emit("clip", c.cast(x, c.dtype), min=low, max=high)


def leaky_relu(c: NodeContext, x: Value, negative_slope: Operand = 0.01) -> Value:
    """x, times a slope below zero."""
    return c.emit("leaky_relu", x, alpha=c.number(negative_slope, "a slope"))


def rrelu(
    c: NodeContext, x: Value, lower: Operand = 1 / 8, upper: Operand = 1 / 3, training: bool = False
) -> Value:
    """x, times the mean of two slopes below zero; in training the slopes are drawn."""
    if training:
        c.unsupported("training, which draws random slopes,")
    slopes = c.number(lower, "a slope"), c.number(upper, "a slope")
    return c.emit("leaky_relu", x, alpha=sum(slopes) / 2)


def prelu(c: NodeContext, x: Value, weight: Value) -> Value:
    """x, times the slope of its channel below zero."""
    if weight.rank == 1 and x.rank != 1:
        weight = c.reshape(weight, [weight.shape[0] if a == 1 else 1 for a in range(x.rank)])
    return c.emit("prelu", x, weight)


def elu(c: NodeContext, x: Value, alpha: Operand = 1, scale: Operand = 1, input_scale: Operand = 1) -> Value:
    """scale * x, below zero scale * alpha * (e^(input_scale * x) - 1)"""
    a, s, i = (c.number(v, "a factor") for v in (alpha, scale, input_scale))
    if s == 1 and i == 1:
        return c.emit("elu", x, alpha=a)
    if i == 1:
        return c.emit("selu", x, alpha=a, gamma=s)
    dtype = x.dtype.compute
    wide = c.cast(x, dtype)
    grown = c.emit("expm1", c.emit("mul", wide, c.scalar(i, dtype)))
    below = c.emit("mul", grown, c.scalar(a * s, dtype))
    above = c.emit("mul", wide, c.scalar(s, dtype))
    positive = c.emit("gt", wide, c.scalar(0, dtype))
    return c.cast(c.emit("select", positive, above, below), x.dtype)


def selu(c: NodeContext, x: Value) -> Value:
    """The self-normalising form of elu."""
    return c.emit("selu", x)


def celu(c: NodeContext, x: Value, alpha: Operand = 1.0) -> Value:
    """x, below zero alpha * (e^(x / alpha) - 1)"""
    return c.emit("celu", x, alpha=c.number(alpha, "alpha"))


def gelu(c: NodeContext, x: Value, approximate: str = "none") -> Value:
    """The exact or the tanh form."""
    return c.emit("gelu", x, approximate=approximate)


def silu(c: NodeContext, x: Value) -> Value:
    """x times its sigmoid."""
    return c.emit("silu", x)


def mish(c: NodeContext, x: Value) -> Value:
    """x tanh(softplus(x))"""
    return c.emit("mish", x)


def hardsigmoid(c: NodeContext, x: Value) -> Value:
    """min(max(x + 3, 0), 6) / 6"""
    return c.emit("hard_sigmoid", x, alpha=1 / 6, beta=0.5)


def hardswish(c: NodeContext, x: Value) -> Value:
    """x min(max(x + 3, 0), 6) / 6"""
    return c.emit("hard_swish", x)


def softplus(c: NodeContext, x: Value, beta: Operand = 1, threshold: Operand = 20) -> Value:
    """log(1 + e^(beta x)) / beta, and x itself above the threshold."""
    factor, limit = c.number(beta, "beta"), c.number(threshold, "a threshold")
    y = c.emit("softplus", x, beta=factor)
    if limit >= SOFTPLUS_LINEAR and x.dtype.name != "f64":
        return y
    dtype = x.dtype.compute
    scaled = c.emit("mul", c.cast(x, dtype), c.scalar(factor, dtype))
    return c.emit("select", c.emit("gt", scaled, c.scalar(limit, dtype)), x, y)


def log_sigmoid(c: NodeContext, x: Value) -> Value:
    """log(1 / (1 + e^-x))"""
    return c.emit("log_sigmoid", x)


def log_sigmoid_forward(c: NodeContext, x: Value) -> list[Value | None]:
    """The same; the buffer for the gradient is not made."""
    return [c.emit("log_sigmoid", x), None]


def softshrink(c: NodeContext, x: Value, lambd: Operand = 0.5) -> Value:
    """x moved towards zero by lambd."""
    limit = c.number(lambd, "lambd")
    return c.emit("shrink", x, lambd=limit, bias=limit)


def hardshrink(c: NodeContext, x: Value, lambd: Operand = 0.5) -> Value:
    """x where |x| > lambd, else zero."""
    return c.emit("shrink", x, lambd=c.number(lambd, "lambd"), bias=0.0)


def threshold(c: NodeContext, x: Value, threshold: Operand, value: Operand) -> Value:
    """x where it is above the threshold, else a value (NaN stays)."""
    below = c.emit("le", c.cast(x, c.dtype), c.operand(threshold, c.dtype))
    return c.emit("select", below, c.operand(value, c.dtype), c.cast(x, c.dtype))


TABLE: dict[str, Row] = {
    "aten._prelu_kernel": prelu,
    "aten.celu": celu,
    "aten.elu": elu,
    "aten.gelu": gelu,
    "aten.hardshrink": hardshrink,
    "aten.hardsigmoid": hardsigmoid,
    "aten.hardswish": hardswish,
    "aten.hardtanh": hardtanh,
    "aten.leaky_relu": leaky_relu,
    "aten.log_sigmoid": log_sigmoid,
    "aten.log_sigmoid_forward": log_sigmoid_forward,
    "aten.mish": mish,
    "aten.prelu": prelu,
    "aten.relu": relu,
    "aten.relu6": clipped(0.0, 6.0),
    "aten.rrelu": rrelu,
    "aten.selu": selu,
    "aten.silu": silu,
    "aten.softplus": softplus,
    "aten.softshrink": softshrink,
    "aten.threshold": threshold,
}
