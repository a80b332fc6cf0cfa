"""Elementwise comparisons, logic on bools, and bit operations on integers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from aino_ir.dims import DimLike
from aino_ir.elementwise import Comparison
from aino_ir.infer import InferContext
from aino_ir.loops.expr import Expr, binary, compare, unary
from aino_ir.op import Trait, operand
from aino_ir.ops.math import (
    SYMBOLIC,
    SYMBOLIC_COMMUTATIVE,
    Array,
    Binary,
    Unary,
)
from aino_ir.symbolic import elementwise_dims, is_symbolic

COMMUTATIVE = frozenset({Trait.ELEMENTWISE, Trait.COMMUTATIVE})


class Compared(Comparison):
    """A comparison of two operands of one dtype; subclasses name it."""

    traits = SYMBOLIC
    lhs = operand()
    rhs = operand()
    comparison: ClassVar[str]
    reference: ClassVar[Callable[..., Any]]

    def expr(self, a: Expr, b: Expr) -> Expr:
        return compare(self.comparison, a, b)

    def evaluate(self, ev: Any, a: Array, b: Array) -> Array:
        if is_symbolic(ev):
            return elementwise_dims(lambda x, y: self.of_dims(ev.symbols, x, y), a, b)
        return np.asarray(type(self).reference(a, b))

    def of_dims(self, symbols: Any, a: DimLike, b: DimLike) -> bool | None:
        """Whether it holds of two extents; None when that cannot be told."""
        raise TypeError(f"{self.name} cannot compare extents")


class Eq(Compared):
    """out = lhs == rhs; false if either is NaN, true for 0 and -0."""

    name = "logic.eq"
    traits = SYMBOLIC_COMMUTATIVE
    comparison = "eq"
    reference = staticmethod(np.equal)

    def of_dims(self, symbols: Any, a: DimLike, b: DimLike) -> bool | None:
        return symbols.prove_eq(a, b)  # type: ignore[no-any-return]


class Ne(Compared):
    """out = lhs != rhs; true if either is NaN."""

    name = "logic.ne"
    traits = SYMBOLIC_COMMUTATIVE
    comparison = "ne"
    reference = staticmethod(np.not_equal)

    def of_dims(self, symbols: Any, a: DimLike, b: DimLike) -> bool | None:
        return _negated(symbols.prove_eq(a, b))


class Lt(Compared):
    """out = lhs < rhs; false if either is NaN."""

    name = "logic.lt"
    comparison = "lt"
    reference = staticmethod(np.less)

    def of_dims(self, symbols: Any, a: DimLike, b: DimLike) -> bool | None:
        return _negated(symbols.prove_ge(a, b))


class Le(Compared):
    """out = lhs <= rhs; false if either is NaN."""

    name = "logic.le"
    comparison = "le"
    reference = staticmethod(np.less_equal)

    def of_dims(self, symbols: Any, a: DimLike, b: DimLike) -> bool | None:
        return symbols.prove_ge(b, a)  # type: ignore[no-any-return]


class Gt(Compared):
    """out = lhs > rhs; false if either is NaN."""

    name = "logic.gt"
    comparison = "gt"
    reference = staticmethod(np.greater)

    def of_dims(self, symbols: Any, a: DimLike, b: DimLike) -> bool | None:
        return _negated(symbols.prove_ge(b, a))


class Ge(Compared):
    """out = lhs >= rhs; false if either is NaN."""

    name = "logic.ge"
    comparison = "ge"
    reference = staticmethod(np.greater_equal)

    def of_dims(self, symbols: Any, a: DimLike, b: DimLike) -> bool | None:
        return symbols.prove_ge(a, b)  # type: ignore[no-any-return]


class BooleanBinary(Binary):
    """A truth function of two bools."""

    accepts = "bool"
    traits = SYMBOLIC_COMMUTATIVE
    loop_op: ClassVar[str]
    reference: ClassVar[Callable[..., Any]]
    decides: ClassVar[bool | None] = None
    """The value of one operand that tells the result whatever the other one is."""

    def expr(self, a: Expr, b: Expr) -> Expr:
        return binary(self.loop_op, a, b)

    def known(self, ic: InferContext) -> list[np.ndarray | None] | None:
        if self.decides is None or self.lhs.shape != self.rhs.shape:
            return None
        for contents in (ic.known(self.lhs), ic.known(self.rhs)):
            if contents is not None and all(bool(v) is self.decides for v in contents.reshape(-1)):
                return [contents]
        return None

    def evaluate(self, ev: Any, a: Array, b: Array) -> Array:
        return np.asarray(type(self).reference(a.astype(bool), b.astype(bool)))


class LogicalAnd(BooleanBinary):
    """out = lhs and rhs"""

    name = "logic.logical_and"
    loop_op = "and"
    decides = False
    reference = staticmethod(np.logical_and)


class LogicalOr(BooleanBinary):
    """out = lhs or rhs"""

    name = "logic.logical_or"
    loop_op = "or"
    decides = True
    reference = staticmethod(np.logical_or)


class LogicalXor(BooleanBinary):
    """out = whether exactly one of lhs and rhs is true"""

    name = "logic.logical_xor"
    loop_op = "xor"
    reference = staticmethod(np.logical_xor)


class LogicalNot(Unary):
    """out = not x"""

    name = "logic.logical_not"
    accepts = "bool"
    traits = SYMBOLIC

    def expr(self, x: Expr) -> Expr:
        return unary("not", x)

    def evaluate(self, ev: Any, x: Array) -> Array:
        return np.asarray(np.logical_not(x.astype(bool)))


class BitwiseBinary(Binary):
    """A function of the bits of two integers (two's complement)."""

    accepts = "integer"
    traits = COMMUTATIVE
    loop_op: ClassVar[str]
    reference: ClassVar[Callable[..., Any]]

    def expr(self, a: Expr, b: Expr) -> Expr:
        return binary(self.loop_op, a, b)

    def evaluate(self, ev: Any, a: Array, b: Array) -> Array:
        return np.asarray(type(self).reference(a, b))


class BitwiseAnd(BitwiseBinary):
    """out = the bits set in both lhs and rhs"""

    name = "logic.bitwise_and"
    loop_op = "and"
    reference = staticmethod(np.bitwise_and)


class BitwiseOr(BitwiseBinary):
    """out = the bits set in lhs or rhs"""

    name = "logic.bitwise_or"
    loop_op = "or"
    reference = staticmethod(np.bitwise_or)


class BitwiseXor(BitwiseBinary):
    """out = the bits set in exactly one of lhs and rhs"""

    name = "logic.bitwise_xor"
    loop_op = "xor"
    reference = staticmethod(np.bitwise_xor)


class BitwiseNot(Unary):
    """out = x with every bit flipped"""

    name = "logic.bitwise_not"
    accepts = "integer"

    def expr(self, x: Expr) -> Expr:
        return unary("not", x)

    def evaluate(self, ev: Any, x: Array) -> Array:
        return np.asarray(np.bitwise_not(x))


class ShiftLeft(Binary):
    """out = lhs * 2 ** rhs, wrapping; a count of the width or more (or negative) gives 0."""

    name = "logic.shift_left"
    accepts = "integer"

    def expr(self, a: Expr, b: Expr) -> Expr:
        return binary("shl", a, b)

    def evaluate(self, ev: Any, a: Array, b: Array) -> Array:
        width = a.dtype.itemsize * 8
        legal = (b >= 0) & (b < width)
        shifted = np.left_shift(a, np.where(legal, b, 0).astype(b.dtype))
        return np.where(legal, shifted, np.zeros((), a.dtype))


class ShiftRight(Binary):
    """out = floor(lhs / 2 ** rhs); a count of the width or more (or negative) gives 0, -1 for lhs < 0."""

    name = "logic.shift_right"
    accepts = "integer"

    def expr(self, a: Expr, b: Expr) -> Expr:
        return binary("shr", a, b)

    def evaluate(self, ev: Any, a: Array, b: Array) -> Array:
        width = a.dtype.itemsize * 8
        legal = (b >= 0) & (b < width)
        shifted = np.right_shift(a, np.where(legal, b, 0).astype(b.dtype))
        return np.where(legal, shifted, np.where(a < 0, -1, 0).astype(a.dtype))


def _negated(known: bool | None) -> bool | None:
    return None if known is None else not known
