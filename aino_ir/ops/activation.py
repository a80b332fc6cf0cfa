"""Elementwise activation functions.  All of them propagate NaN."""

from __future__ import annotations

from typing import Any

import numpy as np

from aino_ir import special
from aino_ir.dtypes import DType
from aino_ir.elementwise import Elementwise
from aino_ir.infer import InferContext
from aino_ir.loops.expr import Expr, call, const, maximum, minimum, select, unary
from aino_ir.op import float_attr, operand, str_attr
from aino_ir.ops.math import Array, Unary
from aino_ir.ops.transcendental import MathFunction


class FloatUnary(Unary):
    """An activation of floats."""

    accepts = "float"


class Relu(Unary):
    """out = max(x, 0)"""

    name = "math.relu"

    def expr(self, x: Expr) -> Expr:
        return maximum(x, 0)

    def evaluate(self, ev: Any, x: Array) -> Array:
        return np.asarray(np.maximum(x, x.dtype.type(0)))


class LeakyRelu(FloatUnary):
    """out = x if x >= 0 else alpha * x"""

    name = "math.leaky_relu"
    alpha = float_attr(0.01)
    sample_attrs = ({}, {"alpha": 0.3}, {"alpha": -1.0})

    def expr(self, x: Expr) -> Expr:
        return select(x >= 0.0, x, x * self.alpha)

    def evaluate(self, ev: Any, x: Array) -> Array:
        return np.where(x >= 0, x, x * x.dtype.type(self.alpha))


class Prelu(Elementwise):
    """out = x if x >= 0 else slope * x, the slope broadcast numpy-wise."""

    name = "math.prelu"
    x = operand()
    slope = operand()

    def expr(self, x: Expr, slope: Expr) -> Expr:
        return select(x >= 0, x, x * slope)

    def evaluate(self, ev: Any, x: Array, slope: Array) -> Array:
        return np.where(x >= 0, x, x * slope)


class ThresholdedRelu(FloatUnary):
    """out = value if x <= alpha else x"""

    name = "math.thresholded_relu"
    alpha = float_attr(1.0)
    value = float_attr(0.0)
    sample_attrs = ({}, {"alpha": 0.25, "value": -7.0})

    def expr(self, x: Expr) -> Expr:
        return select(x <= self.alpha, const(self.value, x.dtype), x)

    def evaluate(self, ev: Any, x: Array) -> Array:
        return np.where(x <= x.dtype.type(self.alpha), x.dtype.type(self.value), x)


class Shrink(FloatUnary):
    """out = x + bias if x < -lambd, x - bias if x > lambd, else 0 (NaN stays NaN)."""

    name = "math.shrink"
    lambd = float_attr(0.5)
    bias = float_attr(0.0)
    sample_attrs = ({}, {"lambd": 1.5, "bias": 1.5})

    def expr(self, x: Expr) -> Expr:
        inside = select(unary("isnan", x), x, const(0.0, x.dtype))
        return select(x < -self.lambd, x + self.bias, select(x > self.lambd, x - self.bias, inside))

    def evaluate(self, ev: Any, x: Array) -> Array:
        lambd, bias = x.dtype.type(self.lambd), x.dtype.type(self.bias)
        out = np.where(np.isnan(x), x, np.zeros((), x.dtype))
        out = np.where(x > lambd, x - bias, out)
        return np.where(x < -lambd, x + bias, out)


class Elu(FloatUnary):
    """out = x if x > 0 else alpha * (e^x - 1)"""

    name = "math.elu"
    alpha = float_attr(1.0)
    sample_attrs = ({}, {"alpha": 2.0})

    def expr(self, x: Expr) -> Expr:
        return select(x > 0.0, x, call("expm1", x) * self.alpha)

    def evaluate(self, ev: Any, x: Array) -> Array:
        return special.in_double(lambda v: np.where(v > 0, v, self.alpha * np.expm1(v)), x)


class Selu(FloatUnary):
    """out = gamma * x if x > 0 else gamma * alpha * (e^x - 1)"""

    name = "math.selu"
    alpha = float_attr(1.6732632423543772)
    gamma = float_attr(1.0507009873554805)

    def expr(self, x: Expr) -> Expr:
        return select(x > 0.0, x * self.gamma, call("expm1", x) * (self.gamma * self.alpha))

    def evaluate(self, ev: Any, x: Array) -> Array:
        def reference(v: Array) -> Array:
            return self.gamma * np.where(v > 0, v, self.alpha * np.expm1(v))

        return special.in_double(reference, x)


class Celu(FloatUnary):
    """out = x if x > 0 else alpha * (e^(x / alpha) - 1)"""

    name = "math.celu"
    alpha = float_attr(1.0)
    sample_attrs = ({}, {"alpha": 2.5})

    def result_dtype(self, ic: InferContext) -> DType:
        if self.alpha == 0:
            ic.bad_attribute("alpha", "not zero", self.alpha)
        return super().result_dtype(ic)

    def expr(self, x: Expr) -> Expr:
        return select(x > 0.0, x, call("expm1", x / self.alpha) * self.alpha)

    def evaluate(self, ev: Any, x: Array) -> Array:
        def reference(v: Array) -> Array:
            return np.where(v > 0, v, self.alpha * np.expm1(v / self.alpha))

        return special.in_double(reference, x)


class HardSigmoid(FloatUnary):
    """out = min(max(alpha * x + beta, 0), 1)"""

    name = "math.hard_sigmoid"
    alpha = float_attr(0.2)
    beta = float_attr(0.5)
    sample_attrs = ({}, {"alpha": 1 / 6})

    def expr(self, x: Expr) -> Expr:
        return minimum(maximum(x * self.alpha + self.beta, 0.0), 1.0)

    def evaluate(self, ev: Any, x: Array) -> Array:
        return _hard_gate(x, self.alpha, self.beta)


class HardSwish(FloatUnary):
    """out = x * min(max(alpha * x + beta, 0), 1); NaN at -inf (-inf * 0)."""

    name = "math.hard_swish"
    alpha = float_attr(1.0 / 6.0)
    beta = float_attr(0.5)

    def expr(self, x: Expr) -> Expr:
        return x * minimum(maximum(x * self.alpha + self.beta, 0.0), 1.0)

    def evaluate(self, ev: Any, x: Array) -> Array:
        return x * _hard_gate(x, self.alpha, self.beta)


class Sigmoid(MathFunction):
    """out = 1 / (1 + e^-x)"""

    name = "math.sigmoid"
    function = "sigmoid"
    reference = staticmethod(special.sigmoid)


class LogSigmoid(FloatUnary):
    """out = log(1 / (1 + e^-x)) = -softplus(-x)"""

    name = "math.log_sigmoid"

    def expr(self, x: Expr) -> Expr:
        return -call("softplus", -x)

    def evaluate(self, ev: Any, x: Array) -> Array:
        return special.in_double(lambda v: -special.softplus(-v), x)


class Silu(FloatUnary):
    """out = x / (1 + e^(-alpha * x)), x times its sigmoid; NaN at -inf (-inf * 0)."""

    name = "math.silu"
    alpha = float_attr(1.0)
    sample_attrs = ({}, {"alpha": 1.702})

    def expr(self, x: Expr) -> Expr:
        return x * call("sigmoid", x if self.alpha == 1.0 else x * self.alpha)

    def evaluate(self, ev: Any, x: Array) -> Array:
        return special.in_double(lambda v: v * special.sigmoid(self.alpha * v), x)


class Softplus(FloatUnary):
    """out = log(1 + e^(beta * x)) / beta"""

    name = "math.softplus"
    beta = float_attr(1.0)
    sample_attrs = ({}, {"beta": 2.0})

    def result_dtype(self, ic: InferContext) -> DType:
        if not self.beta > 0:
            ic.bad_attribute("beta", "above 0", self.beta)
        return super().result_dtype(ic)

    def expr(self, x: Expr) -> Expr:
        if self.beta == 1.0:
            return call("softplus", x)
        inner = x * self.beta
        return select(
            inner > 100.0, x, call("softplus", inner) / self.beta
        )  # there it is x, and inner overflows

    def evaluate(self, ev: Any, x: Array) -> Array:
        def reference(v: Array) -> Array:
            inner = self.beta * v
            return np.where(inner > 700, v, special.softplus(inner) / self.beta)

        return special.in_double(reference, x)


class Softsign(FloatUnary):
    """out = x / (1 + |x|); NaN at the infinities (inf / inf)."""

    name = "math.softsign"

    def expr(self, x: Expr) -> Expr:
        return x / (unary("abs", x) + 1.0)

    def evaluate(self, ev: Any, x: Array) -> Array:
        return np.asarray(x / (x.dtype.type(1) + np.abs(x)))


class Mish(FloatUnary):
    """out = x * tanh(log(1 + e^x)); NaN at -inf (-inf * 0)."""

    name = "math.mish"

    def expr(self, x: Expr) -> Expr:
        return x * call("tanh", call("softplus", x))

    def evaluate(self, ev: Any, x: Array) -> Array:
        return special.in_double(lambda v: v * np.tanh(special.softplus(v)), x)


class Gelu(FloatUnary):
    """out = x/2 * (1 + erf(x / sqrt(2))), or x/2 * (1 + tanh(sqrt(2/pi) * (x + 0.044715 x^3))).

    `approximate` is "none" for the first and "tanh" for the second form; NaN at -inf (-inf * 0).
    """

    name = "math.gelu"
    approximate = str_attr("none")
    sample_attrs = ({}, {"approximate": "tanh"})

    def result_dtype(self, ic: InferContext) -> DType:
        if self.approximate not in ("none", "tanh"):
            ic.bad_attribute("approximate", "none or tanh", self.approximate)
        return super().result_dtype(ic)

    def expr(self, x: Expr) -> Expr:
        return call("gelu_tanh" if self.approximate == "tanh" else "gelu", x)

    def evaluate(self, ev: Any, x: Array) -> Array:
        return special.in_double(special.gelu_tanh if self.approximate == "tanh" else special.gelu, x)


def _hard_gate(x: Array, alpha: float, beta: float) -> Array:
    number = x.dtype.type
    return np.asarray(np.minimum(np.maximum(x * number(alpha) + number(beta), number(0)), number(1)))
