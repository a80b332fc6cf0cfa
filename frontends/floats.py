"""Arithmetic on float values, so that formulas read as such."""

from __future__ import annotations

from typing import TypeAlias

from aino_ir.dims import DimLike
from aino_ir.dtypes import DType
from aino_ir.frontends.emitter import Emitter
from aino_ir.frontends.folding import constant_array
from aino_ir.graph import Value

Operand: TypeAlias = "Number | float"


class Number:
    """A float value with operators; plain numbers take its dtype.

    Attributes:
        c: makes the ops.
        value: the value (of comparisons: of truth values).
    """

    __slots__ = ("c", "dtype", "value")

    def __init__(self, c: Emitter, value: Value, dtype: DType | None = None) -> None:
        self.c = c
        self.value = value
        self.dtype: DType = value.dtype if dtype is None else dtype

    def _other(self, other: Operand) -> Value:
        return other.value if isinstance(other, Number) else self.c.scalar(other, self.dtype)

    def _emit(self, op: str, other: Operand, **attrs: str) -> Number:
        return Number(self.c, self.c.emit(op, self.value, self._other(other), **attrs), self.dtype)

    def __add__(self, other: Operand) -> Number:
        return self._emit("add", other)

    def __sub__(self, other: Operand) -> Number:
        return self._emit("sub", other)

    def __mul__(self, other: Operand) -> Number:
        return self._emit("mul", other)

    def __truediv__(self, other: Operand) -> Number:
        return self._emit("div", other)

    def __lt__(self, other: Operand) -> Number:
        return self._emit("lt", other)

    def __le__(self, other: Operand) -> Number:
        return self._emit("le", other)

    def __gt__(self, other: Operand) -> Number:
        return self._emit("gt", other)

    def __ge__(self, other: Operand) -> Number:
        return self._emit("ge", other)

    def equals(self, other: Operand) -> Number:
        """Whether both are the same."""
        return self._emit("eq", other)

    def inside(self, low: Operand, high: Operand) -> Value:
        """Whether low <= this <= high."""
        return self.c.emit("logical_and", (self >= low).value, (self <= high).value)

    def clamp(self, low: Operand, high: Operand) -> Number:
        """This kept within low..high."""
        return self._emit("max", low)._emit("min", high)

    def map(self, op: str) -> Number:
        """A unary op."""
        return Number(self.c, self.c.emit(op, self.value), self.dtype)

    def mod(self, other: Operand) -> Number:
        """The remainder with the sign of the divisor."""
        return self._emit("mod", other, mode="floor")

    def where(self, condition: Value, no: Operand) -> Number:
        """This where the condition holds, else `no`."""
        return Number(self.c, self.c.emit("select", condition, self.value, self._other(no)), self.dtype)

    def choose(self, yes: Operand, no: Operand) -> Number:
        """`yes` where this (a comparison) holds, else `no`."""
        chosen = self.c.emit("select", self.value, self._other(yes), self._other(no))
        return Number(self.c, chosen, self.dtype)

    def reshaped(self, *shape: DimLike) -> Number:
        """The same elements in another shape."""
        return Number(self.c, self.c.reshape(self.value, shape), self.dtype)

    def settled(self) -> Value:
        """The value, as a constant when it follows from constants."""
        array = constant_array(self.value)
        return self.value if array is None else self.c.b.constant(array)


def extent_number(c: Emitter, extent: DimLike, dtype: DType) -> Number:
    """An extent as a float scalar."""
    if isinstance(extent, int):
        return Number(c, c.scalar(extent, dtype))
    return Number(c, c.cast(c.reshape(c.b.dims_vector([extent]), ()), dtype))


def positions_number(c: Emitter, size: DimLike, dtype: DType) -> Number:
    """0, 1, 2, ... [size]."""
    return Number(c, c.emit("index.range", start=0, size=size, step=1, dtype=dtype))
