"""The vector math library: elementary functions for f32 and f64, written once in the loop language.

`FUNCTIONS` holds every function by name; `expr.call("exp", x)` makes a node for one.  Targets print
each function they use as a helper from `MathFunction.body`; the interpreter evaluates the same body.
The bounds promised in `MathFunction.ulp` are measured by `tools/measure_math.py` (docs/math.md).
"""

from __future__ import annotations

from aino_ir.loops.expr import Expr
from aino_ir.loops.math import (
    error_function,
    exponential,
    hyperbolic,
    inverse_trigonometric,
    logarithm,
    power,
    trigonometric,
)
from aino_ir.loops.math.base import FUNCTIONS, MathFunction, Pins, SharedTrees

__all__ = ["FUNCTIONS", "MathFunction", "Pins", "expand"]

_REGISTERED = (
    error_function,
    exponential,
    hyperbolic,
    inverse_trigonometric,
    logarithm,
    power,
    trigonometric,
)


def expand(name: str, *args: Expr) -> Expr:
    """The body of a function as one tree with shared sub-expressions."""
    return FUNCTIONS[name].body(SharedTrees(), *args)
