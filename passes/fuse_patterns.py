"""Turns compositions of small ops into the named op that they are: norms, softmax, activations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from aino_ir.builder import Builder
from aino_ir.graph import Value
from aino_ir.ops.activation import HardSigmoid, Sigmoid
from aino_ir.ops.division import Div
from aino_ir.ops.math import Add, Clip, Mul, Pow, Reciprocal, Rsqrt, Sqrt, Sub
from aino_ir.ops.normalize import LayerNorm, RmsNorm
from aino_ir.ops.reduce import ReduceMax, ReduceMean, ReduceSum
from aino_ir.ops.transcendental import Erf, Exp, Log, Tanh
from aino_ir.passes.rules import Rule, RulePass
from aino_ir.pattern import Match, P, number, scalar, scalar_of

# ---------------------------------------------------------------------------------- activations


def _times(*factors: Any) -> tuple[P, ...]:
    """The product of three factors in every order of multiplication."""
    a, b, c = factors
    return (P(Mul, P(Mul, a, b), c), P(Mul, P(Mul, a, c), b), P(Mul, P(Mul, b, c), a))


_ERF = P(Add, (P(Erf, P(Div, "x", number(2**0.5))), P(Erf, P(Mul, "x", number(2**-0.5)))), number(1.0))


class ErfIsGelu(Rule):
    """x * 0.5 * (1 + erf(x / sqrt 2)) ==> gelu(x)"""

    pattern = _times("x", number(0.5), _ERF)
    error_class = "reordered"

    def rewrite(self, m: Match, b: Builder) -> Value:
        return b.gelu(m["x"])  # type: ignore[no-any-return]


_CUBE = (P(Pow, "x", number(3.0)), P(Mul, P(Mul, "x", "x"), "x"))
_INNER = (
    P(Add, "x", P(Mul, _CUBE, number(0.044715))),
    P(Mul, "x", P(Add, P(Mul, P(Mul, "x", "x"), number(0.044715)), number(1.0))),
)
_TANH = P(Add, P(Tanh, P(Mul, _INNER, number((2 / 3.141592653589793) ** 0.5))), number(1.0))


class TanhIsGelu(Rule):
    """x * 0.5 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3))) ==> gelu(x), by tanh"""

    pattern = _times("x", number(0.5), _TANH)
    error_class = "reordered"

    def rewrite(self, m: Match, b: Builder) -> Value:
        return b.gelu(m["x"], approximate="tanh")  # type: ignore[no-any-return]


class SigmoidIsSilu(Rule):
    """x * sigmoid(x) ==> silu(x)"""

    pattern = P(Mul, "x", P(Sigmoid, "x"))
    error_class = "reordered"

    def rewrite(self, m: Match, b: Builder) -> Value:
        return b.silu(m["x"])  # type: ignore[no-any-return]


_GATE = P(Clip, P(Add, "x", number(3.0, 0.0)), op="clip")


class ClipIsHardSwish(Rule):
    """x * clip(x + 3, 0, 6) / 6 ==> hard_swish(x), and x * hard_sigmoid(x, 1/6, 1/2) ==> hard_swish(x)"""

    pattern = (
        P(Div, P(Mul, "x", _GATE), number(6.0, 0.0)),
        P(Mul, "x", P(Div, _GATE, number(6.0, 0.0))),
        P(Mul, P(Mul, "x", _GATE), number(1 / 6)),
        P(Mul, "x", P(Mul, _GATE, number(1 / 6))),
        P(Mul, "x", P(HardSigmoid, "x", op="gate")),
    )
    error_class = "reordered"

    def check(self, m: Match) -> str | None:
        if "gate" in m.named:
            gate = m.op("gate")
            fits = abs(gate.alpha - 1 / 6) < 1e-6 and gate.beta == 0.5
            return None if fits else f"the gate is {gate.alpha} x + {gate.beta}"
        clip = m.op("clip")
        return None if (clip.min, clip.max) == (0.0, 6.0) else f"the gate is cut at {clip.min} and {clip.max}"

    def rewrite(self, m: Match, b: Builder) -> Value:
        return b.hard_swish(m["x"])  # type: ignore[no-any-return]


# ---------------------------------------------------------------------------------------- norms

_CENTRED = P(Sub, "x", P(ReduceMean, "x", op="mean"), op="centred")
_SQUARES = (P(Pow, _CENTRED, number(2.0)), P(Mul, _CENTRED, _CENTRED))
_VARIANCE = P(Add, P(ReduceMean, _SQUARES, op="variance"), scalar("epsilon"))
_MEAN_SQUARE = P(
    Add, P(ReduceMean, (P(Pow, "x", number(2.0)), P(Mul, "x", "x")), op="variance"), scalar("epsilon")
)


def _divided(x: Any, variance: P) -> tuple[P, ...]:
    """x / sqrt(variance), as exporters write it."""
    return (
        P(Div, x, P(Sqrt, variance)),
        P(Mul, x, P(Rsqrt, variance)),
        P(Mul, x, P(Reciprocal, P(Sqrt, variance))),
        P(Mul, x, P(Div, number(1.0), P(Sqrt, variance))),
    )


def _mean_problem(m: Match, *names: str) -> str | None:
    """Why means are not over the last axis with that axis kept, or None."""
    x = m["x"]
    for name in names:
        mean = m.op(name)
        if mean.reduced_axes() != (x.rank - 1,) or not mean.keepdims:
            return f"the mean is over axes {mean.reduced_axes()}, not over the last one, kept"
    return None


class MeansAreLayerNorm(Rule):
    """(x - mean(x)) / sqrt(mean((x - mean(x))^2) + epsilon) ==> layer_norm(x)   along the last axis"""

    pattern = _divided(_CENTRED, _VARIANCE)
    error_class = "reordered"

    def check(self, m: Match) -> str | None:
        return _mean_problem(m, "mean", "variance")

    def rewrite(self, m: Match, b: Builder) -> Value:
        epsilon = float(scalar_of(m["epsilon"]) or 0.0)
        return b.layer_norm(m["x"], axis=-1, epsilon=epsilon)  # type: ignore[no-any-return]


class MeanSquareIsRmsNorm(Rule):
    """x / sqrt(mean(x^2) + epsilon) ==> rms_norm(x)   along the last axis"""

    pattern = _divided("x", _MEAN_SQUARE)
    error_class = "reordered"

    def check(self, m: Match) -> str | None:
        return _mean_problem(m, "variance")

    def rewrite(self, m: Match, b: Builder) -> Value:
        epsilon = float(scalar_of(m["epsilon"]) or 0.0)
        return b.rms_norm(m["x"], axis=-1, epsilon=epsilon)  # type: ignore[no-any-return]


class ScaleIntoNorm(Rule):
    """norm(x) * s ==> norm(x, s)   when s is a vector along the last axis, and norm has no scale or bias"""

    pattern = P(Mul, P((LayerNorm, RmsNorm), "x", op="norm", once=True), "s")

    def check(self, m: Match) -> str | None:
        norm = m.op("norm")
        if norm.scale is not None or getattr(norm, "bias", None) is not None:
            return "the norm has a scale or bias already"
        return _vector_problem(m, "s")

    error_class = "reordered"

    def rewrite(self, m: Match, b: Builder) -> Value:
        norm = m.op("norm")
        return b.op(type(norm), m["x"], m["s"], **norm.attrs()).results[0]


class BiasIntoNorm(Rule):
    """layer_norm(x, s) + c ==> layer_norm(x, s, c)   when c is a vector along the last axis"""

    pattern = P(Add, P(LayerNorm, "x", op="norm", once=True), "s")
    error_class = "reordered"

    def check(self, m: Match) -> str | None:
        return "the norm has a bias already" if m.op("norm").bias is not None else _vector_problem(m, "s")

    def rewrite(self, m: Match, b: Builder) -> Value:
        norm = m.op("norm")
        return b.op(LayerNorm, m["x"], norm.scale, m["s"], **norm.attrs()).results[0]


def _vector_problem(m: Match, name: str) -> str | None:
    norm, vector = m.op("norm"), m[name]
    if norm.axis % norm.x.rank != norm.x.rank - 1 or getattr(norm, "statistics", False):
        return "the norm is over several axes, or gives its statistics"
    if vector.shape != norm.x.shape[-1:]:
        return f"the parameter has shape {vector.shape}"
    return None


# -------------------------------------------------------------------------------------- softmax

_OFF = P(Sub, "x", P(ReduceMax, "x", op="maximum"))
_POWER = P(Exp, _OFF)
_TOTAL = P(ReduceSum, _POWER, op="total")


def _softmax_axis(m: Match) -> int | None:
    """The one axis that the maximum and the sum are over, both with that axis kept, or None."""
    maximum, total = m.op("maximum"), m.op("total")
    axes = maximum.reduced_axes()
    fits = len(axes) == 1 and total.reduced_axes() == axes and maximum.keepdims and total.keepdims
    return int(axes[0]) if fits else None


class StepsAreSoftmax(Rule):
    """e / sum(e) with e = exp(x - max(x)) ==> softmax(x)   along one axis, kept"""

    pattern = P(Div, _POWER, _TOTAL)
    error_class = "reordered"

    def check(self, m: Match) -> str | None:
        return "maximum and sum are not over the same one axis, kept" if _softmax_axis(m) is None else None

    def rewrite(self, m: Match, b: Builder) -> Value:
        return b.softmax(m["x"], axis=_softmax_axis(m))  # type: ignore[no-any-return]


class StepsAreLogSoftmax(StepsAreSoftmax):
    """x - max(x) - log(sum(exp(x - max(x)))) ==> log_softmax(x)   along one axis, kept"""

    pattern = P(Sub, _OFF, P(Log, _TOTAL))

    def rewrite(self, m: Match, b: Builder) -> Value:
        return b.log_softmax(m["x"], axis=_softmax_axis(m))  # type: ignore[no-any-return]


@dataclass(frozen=True)
class FusePatterns(RulePass):
    """Named patterns: gelu (both forms), silu, hard swish, layer norm, RMS norm, both softmaxes."""

    name = "fuse-patterns"
    error_class = "reordered"
    rules = (
        ErfIsGelu(),
        TanhIsGelu(),
        SigmoidIsSilu(),
        ClipIsHardSwish(),
        MeansAreLayerNorm(),
        MeanSquareIsRmsNorm(),
        ScaleIntoNorm(),
        BiasIntoNorm(),
        StepsAreSoftmax(),
        StepsAreLogSoftmax(),
    )
