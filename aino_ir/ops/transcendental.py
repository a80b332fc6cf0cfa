"""Elementwise transcendental functions of floats; each target meets the ulp goals of docs/ir.md.

Outside its domain a function is NaN; NaN gives NaN.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from aino_ir import special
from aino_ir.dims import DimLike
from aino_ir.loops.expr import Expr, call
from aino_ir.ops.math import Array, Unary


class MathFunction(Unary):
    """out = a function of the vector math library; subclasses name it and its numpy reference."""

    accepts = "float"
    function: ClassVar[str]
    reference: ClassVar[Callable[..., Any]]

    def expr(self, x: Expr) -> Expr:
        return call(self.function, x)

    def evaluate(self, ev: Any, x: Array) -> Array:
        return special.in_double(type(self).reference, x)

    def cost(self) -> DimLike:
        """About ten operations per element."""
        return self.result.type.size * 10  # type: ignore[union-attr]


class Exp(MathFunction):
    """out = e ** x; inf above the largest finite result, 0 at -inf."""

    name = "math.exp"
    function = "exp"
    reference = staticmethod(np.exp)


class Exp2(MathFunction):
    """out = 2 ** x; inf above the largest finite result, 0 at -inf."""

    name = "math.exp2"
    function = "exp2"
    reference = staticmethod(np.exp2)


class Expm1(MathFunction):
    """out = e ** x - 1, accurate near 0; -1 at -inf."""

    name = "math.expm1"
    function = "expm1"
    reference = staticmethod(np.expm1)


class Log(MathFunction):
    """out = the natural logarithm of x; -inf at 0, NaN below."""

    name = "math.log"
    function = "log"
    reference = staticmethod(np.log)


class Log2(MathFunction):
    """out = the logarithm of x to base 2; -inf at 0, NaN below."""

    name = "math.log2"
    function = "log2"
    reference = staticmethod(np.log2)


class Log10(MathFunction):
    """out = the logarithm of x to base 10; -inf at 0, NaN below."""

    name = "math.log10"
    function = "log10"
    reference = staticmethod(np.log10)


class Log1p(MathFunction):
    """out = log(1 + x), accurate near 0; -inf at -1, NaN below."""

    name = "math.log1p"
    function = "log1p"
    reference = staticmethod(np.log1p)


class Sin(MathFunction):
    """out = sin(x), x in radians; NaN at the infinities."""

    name = "math.sin"
    function = "sin"
    reference = staticmethod(np.sin)


class Cos(MathFunction):
    """out = cos(x), x in radians; NaN at the infinities."""

    name = "math.cos"
    function = "cos"
    reference = staticmethod(np.cos)


class Tan(MathFunction):
    """out = tan(x), x in radians; NaN at the infinities."""

    name = "math.tan"
    function = "tan"
    reference = staticmethod(np.tan)


class Asin(MathFunction):
    """out = the angle in -pi/2..pi/2 whose sine is x; NaN outside -1..1."""

    name = "math.asin"
    function = "asin"
    reference = staticmethod(np.arcsin)


class Acos(MathFunction):
    """out = the angle in 0..pi whose cosine is x; NaN outside -1..1."""

    name = "math.acos"
    function = "acos"
    reference = staticmethod(np.arccos)


class Atan(MathFunction):
    """out = the angle in -pi/2..pi/2 whose tangent is x."""

    name = "math.atan"
    function = "atan"
    reference = staticmethod(np.arctan)


class Sinh(MathFunction):
    """out = (e^x - e^-x) / 2"""

    name = "math.sinh"
    function = "sinh"
    reference = staticmethod(np.sinh)


class Cosh(MathFunction):
    """out = (e^x + e^-x) / 2"""

    name = "math.cosh"
    function = "cosh"
    reference = staticmethod(np.cosh)


class Tanh(MathFunction):
    """out = (e^x - e^-x) / (e^x + e^-x); 1 and -1 at the infinities."""

    name = "math.tanh"
    function = "tanh"
    reference = staticmethod(np.tanh)


class Asinh(MathFunction):
    """out = log(x + sqrt(x^2 + 1))"""

    name = "math.asinh"
    function = "asinh"
    reference = staticmethod(np.arcsinh)


class Acosh(MathFunction):
    """out = log(x + sqrt(x^2 - 1)); NaN below 1."""

    name = "math.acosh"
    function = "acosh"
    reference = staticmethod(np.arccosh)


class Atanh(MathFunction):
    """out = log((1 + x) / (1 - x)) / 2; infinite at -1 and 1, NaN outside."""

    name = "math.atanh"
    function = "atanh"
    reference = staticmethod(np.arctanh)


class Erf(MathFunction):
    """out = 2/sqrt(pi) * integral of exp(-t^2) dt from 0 to x"""

    name = "math.erf"
    function = "erf"
    reference = staticmethod(special.erf)


class Erfc(MathFunction):
    """out = 1 - erf(x), accurate where erf(x) is near 1."""

    name = "math.erfc"
    function = "erfc"
    reference = staticmethod(special.erfc)
