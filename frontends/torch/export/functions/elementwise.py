"""Arithmetic, logic, comparisons, activations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


def away_from_overflow(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Where a divisor is -1, by which the least integer overflows, and divisors with 1 there."""
    risky = b == -1 if b.dtype.is_signed else torch.zeros_like(b, dtype=torch.bool)
    return risky, torch.where(risky, 1, b)


def divide(a: Tensor, b: Tensor) -> Tensor:
    """lhs / rhs; on integers the quotient truncates."""
    if a.dtype.is_floating_point:
        return a / b
    risky, b = away_from_overflow(a, b)
    return torch.where(risky, -a if a.dtype.is_signed else a, torch.div(a, b, rounding_mode="trunc"))


def floor_divide(a: Tensor, b: Tensor) -> Tensor:
    """floor(lhs / rhs); of floats by way of the remainder, as Python does it."""
    if a.dtype.is_floating_point:
        remainder = modulo(a, b, "trunc")
        quotient = (a - remainder) / b
        wrong = (remainder != 0) & ((remainder < 0) != (b < 0))
        return torch.where(b == 0, a / b, torch.where(wrong, quotient - 1, quotient).round())
    risky, b = away_from_overflow(a, b)
    return torch.where(risky, -a if a.dtype.is_signed else a, torch.div(a, b, rounding_mode="floor"))


def modulo(a: Tensor, b: Tensor, mode: str) -> Tensor:
    """The remainder of a floored or truncated quotient."""
    remainder = torch.remainder if mode == "floor" else torch.fmod
    if a.dtype.is_floating_point:  # wide, since PyTorch gives NaN where the quotient overflows
        return remainder(a.double(), b.double()).to(a.dtype)
    risky, b = away_from_overflow(a, b)
    return torch.where(risky, 0, remainder(a, b))


def ceil(x: Tensor) -> Tensor:
    """The least whole number >= x."""
    return x.ceil() if x.dtype.is_floating_point else x


def floor(x: Tensor) -> Tensor:
    """The largest whole number <= x."""
    return x.floor() if x.dtype.is_floating_point else x


def nearest(x: Tensor) -> Tensor:
    """The nearest whole number, halves to even."""
    return x.round() if x.dtype.is_floating_point else x


def truncate(x: Tensor) -> Tensor:
    """x without its fraction."""
    return x.trunc() if x.dtype.is_floating_point else x


def sign(x: Tensor) -> Tensor:
    """1, -1, or x itself where that is 0 or NaN."""
    positive = torch.where(x > 0, 1, x)
    return torch.where(x < 0, -1, positive) if x.dtype.is_signed else positive


def is_infinite(x: Tensor, positive: bool, negative: bool) -> Tensor:
    """Whether x is one of the infinities that are asked for."""
    inf = float("inf")
    if positive and negative:
        return x.isinf()
    return x == inf if positive else x == -inf if negative else torch.zeros_like(x, dtype=torch.bool)


def whole_bound(bound: float, low: int, high: int) -> int:
    """A bound cut to a range of integers."""
    return low if bound <= low else high if bound >= high else int(bound)


def clip(x: Tensor, min: float | None, max: float | None, limits: tuple[Any, Any]) -> Tensor:
    """x within bounds; on integers these are cut to what the dtype holds."""
    if not x.dtype.is_floating_point:
        min, max = (None if b is None else whole_bound(b, *limits) for b in (min, max))
    return x if min is None and max is None else x.clamp(min, max)


def shift_left(x: Tensor, count: Tensor, bits: int) -> Tensor:
    """x * 2^count; a count that is no less than the width gives 0."""
    inside = (count >= 0) & (count < bits)
    return torch.where(inside, x << torch.where(inside, count, 0), 0)


def shift_right(x: Tensor, count: Tensor, bits: int) -> Tensor:
    """floor(x / 2^count); a count that is no less than the width leaves the sign."""
    inside = (count >= 0) & (count < bits)
    beyond = torch.where(x < 0, -1, 0) if x.dtype.is_signed else torch.zeros_like(x)
    return torch.where(inside, x >> torch.where(inside, count, 0), beyond.to(x.dtype))


def celu(x: Tensor, alpha: float) -> Tensor:
    """x if x > 0 else alpha (e^(x / alpha) - 1)"""
    return F.celu(x, alpha)


def elu(x: Tensor, alpha: float) -> Tensor:
    """x if x > 0 else alpha (e^x - 1)"""
    return F.elu(x, alpha)


def selu(x: Tensor, alpha: float, gamma: float) -> Tensor:
    """Elu, scaled."""
    return F.elu(x, alpha) * gamma


def gelu(x: Tensor, approximate: str) -> Tensor:
    """The exact or the tanh form."""
    return F.gelu(x, approximate=approximate)


def hard_sigmoid(x: Tensor, alpha: float, beta: float) -> Tensor:
    """alpha x + beta within 0..1."""
    return (alpha * x + beta).clamp(0.0, 1.0)


def hard_swish(x: Tensor, alpha: float, beta: float) -> Tensor:
    """x times its hard sigmoid."""
    return x * (alpha * x + beta).clamp(0.0, 1.0)


def leaky_relu(x: Tensor, alpha: float) -> Tensor:
    """x if x >= 0 else alpha x"""
    return F.leaky_relu(x, alpha)


def parametric_relu(x: Tensor, slope: Tensor) -> Tensor:
    """x if x >= 0 else slope x"""
    return torch.where(x >= 0, x, slope * x)


def log_sigmoid(x: Tensor) -> Tensor:
    """log(1 / (1 + e^-x))"""
    return F.logsigmoid(x)


def mish(x: Tensor) -> Tensor:
    """x tanh(log(1 + e^x))"""
    return x * torch.tanh(torch.logaddexp(x, torch.zeros_like(x)))


def shrink(x: Tensor, lambd: float, bias: float) -> Tensor:
    """x moved towards 0 where it lies outside of -lambd..lambd, else 0."""
    moved = torch.where(x < -lambd, x + bias, torch.where(x > lambd, x - bias, 0))
    return torch.where(x.isnan(), x, moved) if x.dtype.is_floating_point else moved


def silu(x: Tensor, alpha: float) -> Tensor:
    """x times the sigmoid of alpha x."""
    return F.silu(x) if alpha == 1.0 else x * torch.sigmoid(alpha * x)


def softplus(x: Tensor, beta: float) -> Tensor:
    """log(1 + e^(beta x)) / beta"""
    return F.softplus(x, beta, threshold=50)  # beyond, x itself is the result to the last bit


def softsign(x: Tensor) -> Tensor:
    """x / (1 + |x|)"""
    return x / (1 + x.abs())


def thresholded_relu(x: Tensor, alpha: float, value: float) -> Tensor:
    """value if x <= alpha else x"""
    return torch.where(x <= alpha, value, x)


TABLE: dict[str, Callable[..., Any]] = {
    "logic.bitwise_and": torch.bitwise_and,
    "logic.bitwise_not": torch.bitwise_not,
    "logic.bitwise_or": torch.bitwise_or,
    "logic.bitwise_xor": torch.bitwise_xor,
    "logic.eq": torch.eq,
    "logic.ge": torch.ge,
    "logic.gt": torch.gt,
    "logic.le": torch.le,
    "logic.logical_and": torch.logical_and,
    "logic.logical_not": torch.logical_not,
    "logic.logical_or": torch.logical_or,
    "logic.logical_xor": torch.logical_xor,
    "logic.lt": torch.lt,
    "logic.ne": torch.ne,
    "logic.shift_left": shift_left,
    "logic.shift_right": shift_right,
    "math.abs": torch.abs,
    "math.acos": torch.acos,
    "math.acosh": torch.acosh,
    "math.add": torch.add,
    "math.asin": torch.asin,
    "math.asinh": torch.asinh,
    "math.atan": torch.atan,
    "math.atan2": torch.atan2,
    "math.atanh": torch.atanh,
    "math.ceil": ceil,
    "math.celu": celu,
    "math.clip": clip,
    "math.cos": torch.cos,
    "math.cosh": torch.cosh,
    "math.div": divide,
    "math.elu": elu,
    "math.erf": torch.erf,
    "math.erfc": torch.erfc,
    "math.exp": torch.exp,
    "math.exp2": torch.exp2,
    "math.expm1": torch.expm1,
    "math.floor": floor,
    "math.floordiv": floor_divide,
    "math.gelu": gelu,
    "math.hard_sigmoid": hard_sigmoid,
    "math.hard_swish": hard_swish,
    "math.is_inf": is_infinite,
    "math.is_nan": torch.isnan,
    "math.leaky_relu": leaky_relu,
    "math.log": torch.log,
    "math.log10": torch.log10,
    "math.log1p": torch.log1p,
    "math.log2": torch.log2,
    "math.log_sigmoid": log_sigmoid,
    "math.max": torch.maximum,
    "math.min": torch.minimum,
    "math.mish": mish,
    "math.mod": modulo,
    "math.mul": torch.mul,
    "math.neg": torch.neg,
    "math.pow": torch.pow,
    "math.prelu": parametric_relu,
    "math.reciprocal": torch.reciprocal,
    "math.relu": torch.relu,
    "math.round": nearest,
    "math.rsqrt": torch.rsqrt,
    "math.select": torch.where,
    "math.selu": selu,
    "math.shrink": shrink,
    "math.sigmoid": torch.sigmoid,
    "math.sign": sign,
    "math.silu": silu,
    "math.sin": torch.sin,
    "math.sinh": torch.sinh,
    "math.softplus": softplus,
    "math.softsign": softsign,
    "math.sqrt": torch.sqrt,
    "math.sub": torch.sub,
    "math.tan": torch.tan,
    "math.tanh": torch.tanh,
    "math.thresholded_relu": thresholded_relu,
    "math.trunc": truncate,
}
