"""Write a rewrite rule: what to look for, when it holds, what to put there.  Every rewrite is validated."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np

import aino_ir as aino
from aino_ir.builder import Builder
from aino_ir.graph import Value
from aino_ir.ops.activation import Relu
from aino_ir.ops.math import Mul, Neg
from aino_ir.passes.rules import Rule, RulePass
from aino_ir.pattern import Match, P, scalar, scalar_of
from aino_ir.types import tensor


class ScaleBehindRelu(Rule):
    """relu(x * c) ==> relu(x) * c   when c is a positive number"""

    pattern = P(Relu, P(Mul, "x", scalar("c")))

    def check(self, m: Match) -> str | None:
        """Why a match must be left alone, or None."""
        return None if scalar_of(m["c"]) > 0 else "c is not positive"

    def rewrite(self, m: Match, b: Builder) -> Value:
        """What stands for the match."""
        return b.mul(b.relu(m["x"]), m["c"])  # type: ignore[no-any-return]


class DropNegation(Rule):
    """-x ==> x: wrong, of course"""

    pattern = P(Neg, "x")

    def rewrite(self, m: Match, b: Builder) -> Value:
        """What stands for the match."""
        return m["x"]


@dataclass(frozen=True)
class MoveScales(RulePass):
    """Scales go behind ReLUs."""

    name = "example-move-scales"
    error_class = "reordered"
    rules = (ScaleBehindRelu(),)


@dataclass(frozen=True)
class BreakThings(RulePass):
    """A pass with a wrong rule."""

    name = "example-break-things"
    rules = (DropNegation(),)


b = Builder()
x = b.input("x", tensor("f32", 4, 8))
b.output("y", b.neg(b.relu(b.mul(x, b.constant(np.float32(3))))))
module = b.module
print(module)

report = aino.PassManager([MoveScales()]).run(module)
print(report)
print(module)
assert report.changed

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    report = aino.PassManager([BreakThings()]).run(module)  # found out, and taken back
print("undone:", report.undone)
assert report.undone
