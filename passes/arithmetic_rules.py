"""Algebraic identities on elementwise ops.  Zeros of either sign count as equal."""

from __future__ import annotations

import math

import numpy as np

from aino_ir.builder import Builder
from aino_ir.dtypes import DType, integer_range
from aino_ir.elementwise import Elementwise
from aino_ir.graph import Value
from aino_ir.op import Op
from aino_ir.ops.activation import Relu
from aino_ir.ops.cast import Cast, Select
from aino_ir.ops.division import Div
from aino_ir.ops.logic import LogicalAnd, LogicalNot, LogicalOr
from aino_ir.ops.math import Add, Clip, Mul, Neg, Pow, Sub
from aino_ir.ops.tensor import Expand
from aino_ir.passes.rules import Rule
from aino_ir.pattern import Match, P, anything, scalar, scalar_of, uniform_of


def same_type(value: Value, result: Value) -> bool:
    """Whether two values have one type, so that one can stand for the other."""
    return value.type == result.type


def makers(*values: Value) -> list[Op]:
    """The ops that made values (constants whose content a rule read)."""
    return [v.op for v in values if v.op is not None]


class DropNeutralOperand(Rule):
    """x + 0, x - 0, x * 1, x / 1, x ** 1 ==> x   when x has the result's type"""

    pattern = (P(Add, "x", "c"), P(Mul, "x", "c"), P(Sub, "x", "c"), P(Div, "x", "c"), P(Pow, "x", "c"))

    def looked_at(self, m: Match) -> list[Op]:
        return makers(m["c"])

    def check(self, m: Match) -> str | None:
        neutral = 0 if isinstance(m.root, (Add, Sub)) else 1
        found = uniform_of(m["c"])
        if found is None or found != neutral or isinstance(found, bool):
            return ""
        return None if same_type(m["x"], m.root.result) else "x is broadcast here"

    def rewrite(self, m: Match, b: Builder) -> Value:
        return m["x"]


class UndoNegation(Rule):
    """-(-x) ==> x"""

    pattern = P(Neg, P(Neg, "x"))

    def rewrite(self, m: Match, b: Builder) -> Value:
        return m["x"]


class SubtractFromZero(Rule):
    """0 - x ==> -x"""

    pattern = P(Sub, scalar("c"), "x")

    def check(self, m: Match) -> str | None:
        return None if scalar_of(m["c"]) == 0 and same_type(m["x"], m.root.result) else ""

    def rewrite(self, m: Match, b: Builder) -> Value:
        return b.neg(m["x"])  # type: ignore[no-any-return]


class SubtractNegation(Rule):
    """a + (-b) ==> a - b"""

    pattern = P(Add, "a", P(Neg, "b"))

    def rewrite(self, m: Match, b: Builder) -> Value:
        return b.sub(m["a"], m["b"])  # type: ignore[no-any-return]


class AddNegation(Rule):
    """a - (-b) ==> a + b"""

    pattern = P(Sub, "a", P(Neg, "b"))

    def rewrite(self, m: Match, b: Builder) -> Value:
        return b.add(m["a"], m["b"])  # type: ignore[no-any-return]


class MultiplyByReciprocal(Rule):
    """x / c ==> x * (1 / c)   when c is a power of two, so that 1 / c is exact"""

    pattern = P(Div, "x", scalar("c"))

    def check(self, m: Match) -> str | None:
        if not m["x"].dtype.is_float:
            return ""
        c = float(scalar_of(m["c"]) or 0.0)
        if (
            c == 0.0
            or not math.isfinite(c)
            or abs(math.frexp(c)[0]) != 0.5
            or not 2.0**-60 < abs(c) < 2.0**60
        ):
            return f"1 / {c} is not exact"
        return None

    def rewrite(self, m: Match, b: Builder) -> Value:
        c = float(scalar_of(m["c"]))  # type: ignore[arg-type]
        handle = np.full(m["c"].shape, 1.0 / c).astype(m["c"].dtype.numpy)
        return b.mul(m["x"], b.constant(handle))  # type: ignore[no-any-return]


class SquareIsProduct(Rule):
    """x ** 2 ==> x * x"""

    pattern = P(Pow, "x", scalar("c"))
    error_class = "reordered"

    def check(self, m: Match) -> str | None:
        return None if scalar_of(m["c"]) == 2 and same_type(m["x"], m.root.result) else ""

    def rewrite(self, m: Match, b: Builder) -> Value:
        return b.mul(m["x"], m["x"])  # type: ignore[no-any-return]


class ReluTwice(Rule):
    """relu(relu(x)) ==> relu(x)"""

    pattern = P(Relu, P(Relu, anything, op="inner"))

    def rewrite(self, m: Match, b: Builder) -> Value:
        return m.op("inner").result  # type: ignore[no-any-return]


class ReluOfClip(Rule):
    """relu(clip(x, lo, hi)) ==> clip(x, max(lo, 0), max(hi, 0))"""

    pattern = P(Relu, P(Clip, "x", op="clip"))

    def rewrite(self, m: Match, b: Builder) -> Value:
        low, high = m.op("clip").min, m.op("clip").max
        return b.clip(  # type: ignore[no-any-return]
            m["x"], min=0.0 if low is None else max(low, 0.0), max=None if high is None else max(high, 0.0)
        )


class ClipOfRelu(Rule):
    """clip(relu(x), lo, hi) ==> clip(x, max(lo, 0), hi)   when hi is not negative"""

    pattern = P(Clip, P(Relu, "x"), op="clip")

    def check(self, m: Match) -> str | None:
        high = m.op("clip").max
        return None if high is None or high >= 0 else f"the upper bound {high} is negative"

    def rewrite(self, m: Match, b: Builder) -> Value:
        low, high = m.op("clip").min, m.op("clip").max
        return b.clip(m["x"], min=0.0 if low is None else max(low, 0.0), max=high)  # type: ignore[no-any-return]


class ClipWithoutTop(Rule):
    """clip(x, 0, none) ==> relu(x)"""

    pattern = P(Clip, "x", op="clip")

    def check(self, m: Match) -> str | None:
        return None if m.op("clip").min == 0 and m.op("clip").max is None else ""

    def rewrite(self, m: Match, b: Builder) -> Value:
        return b.relu(m["x"])  # type: ignore[no-any-return]


class DropSelfCast(Rule):
    """cast(x : T) to T ==> x"""

    pattern = P(Cast, "x", op="cast")

    def check(self, m: Match) -> str | None:
        return None if m["x"].dtype is m.op("cast").to else ""

    def rewrite(self, m: Match, b: Builder) -> Value:
        return m["x"]


class DropCastDetour(Rule):
    """cast(cast(x : T) to U) to V ==> cast(x) to V   when U holds every value of T"""

    pattern = P(Cast, P(Cast, "x", op="inner"), op="outer")

    def check(self, m: Match) -> str | None:
        source, middle, last = m["x"].dtype, m.op("inner").to, m.op("outer").to
        if not holds(middle, source):
            return f"{middle} does not hold every {source}"
        same_kind = source.is_float == last.is_float or not source.is_float
        return (
            None
            if same_kind or source.compute is middle.compute
            else f"{source} to {last} may saturate elsewhere"
        )

    def rewrite(self, m: Match, b: Builder) -> Value:
        outer = m.op("outer")
        return b.cast(m["x"], to=outer.to, semantics=outer.semantics, saturate=outer.saturate)  # type: ignore[no-any-return]


def holds(wide: DType, narrow: DType) -> bool:
    """Whether every value of `narrow` is a value of `wide`, so that a cast there loses nothing."""
    if wide is narrow:
        return True
    if narrow.is_bool:
        return wide.is_integer or wide.is_float
    if narrow.is_integer and wide.is_integer:
        (a, b), (c, d) = integer_range(narrow), integer_range(wide)
        return c <= a and b <= d
    if narrow.is_float:
        return (wide.name, narrow.name) in LOSSLESS_FLOATS
    return False


LOSSLESS_FLOATS = {("f64", "f32"), ("f64", "f16"), ("f64", "bf16"), ("f32", "f16"), ("f32", "bf16")}
"""(wide, narrow) pairs of float dtypes."""


class SelectByConstant(Rule):
    """select(true, a, b) ==> a, select(false, a, b) ==> b   when the chosen one has the result's type"""

    pattern = P(Select, "c", "a", "b")

    def looked_at(self, m: Match) -> list[Op]:
        return makers(m["c"])

    def check(self, m: Match) -> str | None:
        if uniform_of(m["c"]) is None:
            return ""
        return None if same_type(self._chosen(m), m.root.result) else "the chosen value is broadcast here"

    @staticmethod
    def _chosen(m: Match) -> Value:
        return m["a"] if uniform_of(m["c"]) else m["b"]

    def rewrite(self, m: Match, b: Builder) -> Value:
        return self._chosen(m)


class SelectOfEqual(Rule):
    """select(c, a, a) ==> a   when a has the result's type"""

    pattern = P(Select, anything, "a", "a")

    def check(self, m: Match) -> str | None:
        return None if same_type(m["a"], m.root.result) else "a is broadcast here"

    def rewrite(self, m: Match, b: Builder) -> Value:
        return m["a"]


class DecideLogic(Rule):
    """a and true, a or false ==> a;  a and false ==> false;  a or true ==> true"""

    pattern = (P(LogicalAnd, "a", "c"), P(LogicalOr, "a", "c"))

    def looked_at(self, m: Match) -> list[Op]:
        return makers(m["c"])

    def check(self, m: Match) -> str | None:
        if uniform_of(m["c"]) is None:
            return ""
        return None if same_type(self._chosen(m), m.root.result) else "the operand is broadcast here"

    @staticmethod
    def _chosen(m: Match) -> Value:
        neutral = isinstance(m.root, LogicalAnd)
        return m["a"] if bool(uniform_of(m["c"])) is neutral else m["c"]

    def rewrite(self, m: Match, b: Builder) -> Value:
        return self._chosen(m)


class UndoLogicalNot(Rule):
    """not not a ==> a"""

    pattern = P(LogicalNot, P(LogicalNot, "a"))

    def rewrite(self, m: Match, b: Builder) -> Value:
        return m["a"]


class DropExpandBeforeBroadcast(Rule):
    """f(expand(x), y) ==> f(x, y)   when f broadcasts and its result keeps its shape"""

    pattern = P(Elementwise)

    def check(self, m: Match) -> str | None:
        return None if any(self._source(v) for v in m.root.operands) else ""

    @staticmethod
    def _source(value: Value | None) -> Value | None:
        if value is None or not isinstance(value.op, Expand):
            return None
        return value.op.x if value.op.x.rank <= value.rank else None

    def looked_at(self, m: Match) -> list[Op]:
        return [v.op for v in m.root.present_operands() if isinstance(v.op, Expand)]

    def rewrite(self, m: Match, b: Builder) -> Value | None:
        root = m.root
        for position, value in enumerate(root.operands):
            source = self._source(value)
            if source is None:
                continue
            operands = [*root.operands[:position], source, *root.operands[position + 1 :]]
            if broadcast_of(operands) == root.result.shape:
                return b.op(type(root), *operands, **root.attrs()).result
        return None


def broadcast_of(operands: list[Value | None]) -> tuple[object, ...] | None:
    """The broadcast shape of operands, or None when extents would have to be compared."""
    shapes = [v.shape for v in operands if v is not None]
    rank = max(len(s) for s in shapes)
    out: list[object] = []
    for axis in range(rank):
        extents = {s[axis - rank + len(s)] for s in shapes if axis - rank + len(s) >= 0} - {1}
        if len(extents) > 1:
            return None
        out.append(next(iter(extents), 1))
    return tuple(out)


ARITHMETIC_RULES: tuple[Rule, ...] = (
    DropNeutralOperand(),
    UndoNegation(),
    SubtractFromZero(),
    SubtractNegation(),
    AddNegation(),
    MultiplyByReciprocal(),
    SquareIsProduct(),
    ReluTwice(),
    ReluOfClip(),
    ClipOfRelu(),
    ClipWithoutTop(),
    DropSelfCast(),
    DropCastDetour(),
    SelectByConstant(),
    SelectOfEqual(),
    DecideLogic(),
    UndoLogicalNot(),
    DropExpandBeforeBroadcast(),
)
