"""Arithmetic in double precision, as functions that are composed of ops are written in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from aino_ir.dtypes import boolean, f64, i64
from aino_ir.frontends.emitter import Emitter
from aino_ir.graph import Value
from aino_ir.types import TensorType

Operand = Value | float
"""A value, or a number."""


class Doubles:
    """Arithmetic on f64 values with numbers."""

    def __init__(self, c: Emitter) -> None:
        self.c = c

    def value(self, x: Operand) -> Value:
        """A value or number as f64."""
        return self.c.cast(x, f64) if isinstance(x, Value) else self.c.scalar(x, f64)

    def __call__(self, op: str, *operands: Operand, **attrs: object) -> Value:
        """The result of an op on f64 operands."""
        return self.c.emit(op, *(self.value(x) for x in operands), **attrs)

    def select(self, condition: Value, x: Operand, other: Operand) -> Value:
        """x where the condition holds."""
        return self.c.emit("select", condition, self.value(x), self.value(other))

    def choose(self, cases: Sequence[tuple[Value, Operand]], other: Operand) -> Value:
        """What stands beside the first condition that holds, else the other."""
        result = self.value(other)
        for condition, x in reversed(cases):
            result = self.select(condition, x, result)
        return result

    def both(self, *conditions: Value) -> Value:
        """Whether all conditions hold."""
        result = conditions[0]
        for condition in conditions[1:]:
            result = self.c.emit("logical_and", result, condition)
        return result

    def horner(self, x: Operand, factors: Sequence[float]) -> Value:
        """The polynomial with the given factors, the constant one first."""
        total = self.value(factors[-1])
        for factor in reversed(factors[:-1]):
            total = self("add", self("mul", total, x), factor)
        return total

    def is_odd(self, n: Value) -> Value:
        """Whether a whole number is odd."""
        half = self("mul", n, 0.5)
        return self("ne", half, self("floor", half))

    def infinite(self, x: Value) -> Value:
        """Whether x is infinite."""
        return self.c.emit("is_inf", x)

    def largest(self, x: Value) -> Value:
        """The largest element of a tensor that has some, 0-d."""
        return x if x.rank == 0 else self("reduce.max", x, axes=tuple(range(x.rank)))

    def repeat(
        self,
        turns: Value,
        states: Sequence[Value],
        captures: Sequence[Value],
        body: Callable[..., Sequence[Value]],
    ) -> tuple[Value, ...]:
        """States after some turns of a body.

        Args:
            turns: how many, a 0-d f64.
            states: f64 values of the shape that they keep.
            captures: what the body reads besides.
            body: (arithmetic, the number of the turn from 0 on, states..., captures...) -> states.
        """

        def inside(b: Any, turn: Value, again: Value, *values: Value) -> list[Value]:
            inner = Doubles(Emitter(b))
            return [inner.c.scalar(True, boolean), *body(inner, inner.value(turn), *values)]

        types = [TensorType(i64, ()), TensorType(boolean, ()), *(v.type for v in (*states, *captures))]
        region = self.c.b.region(types, inside)
        count = self.c.cast(turns, i64)
        wide = {"carried": len(states), "counted": True}
        return self.c.emit_all("control.loop", count, None, *states, *captures, regions=[region], **wide)
