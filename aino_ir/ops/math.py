"""Elementwise arithmetic.  Integers wrap; max, min and relu propagate NaN; see docs/ir.md."""

from __future__ import annotations

from typing import Any

import numpy as np

from aino_ir.compute import Check, axes, coordinates, read_broadcast
from aino_ir.dims import Dim, DimLike
from aino_ir.elementwise import Elementwise
from aino_ir.errors.ir import IntegerDivisionByZero
from aino_ir.loops.expr import Expr, call, compare, const
from aino_ir.loops.stmt import Status
from aino_ir.op import Trait, operand

SYMBOLIC = frozenset({Trait.ELEMENTWISE, Trait.SYMBOLIC})
SYMBOLIC_COMMUTATIVE = SYMBOLIC | {Trait.COMMUTATIVE}


class Unary(Elementwise):
    """An elementwise op on one operand."""

    x = operand()


class Binary(Elementwise):
    """An elementwise op on two operands."""

    lhs = operand()
    rhs = operand()


class Add(Binary):
    """out = lhs + rhs"""

    name = "math.add"
    traits = SYMBOLIC_COMMUTATIVE

    def expr(self, a: Expr, b: Expr) -> Expr:
        return a + b

    def evaluate(self, ev: Any, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return a + b


class Div(Binary):
    """out = lhs / rhs; on integers the quotient truncates, x / 0 is an error and INT_MIN / -1 wraps."""

    name = "math.div"
    traits = SYMBOLIC

    def expr(self, a: Expr, b: Expr) -> Expr:
        return a / b

    def evaluate(self, ev: Any, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        if getattr(ev, "symbolic", False):
            return np.frompyfunc(lambda x, y: truncated_quotient(ev, x, y), 2, 1)(a, b)
        if a.dtype.kind == "f":
            return a / b
        refuse_zero(self, b)
        quotient = np.where(b == -1, -a, a // np.where(b == 0, 1, b)) if a.dtype.kind == "i" else a // b
        if a.dtype.kind == "i":  # floor to truncation where the signs differ and it is inexact
            quotient = quotient + ((quotient * b != a) & ((a < 0) != (b < 0))).astype(a.dtype)
        return quotient.astype(a.dtype)

    def checks(self, at: tuple[DimLike, ...]) -> tuple[Check, ...]:
        return nonzero_divisor(self)


class Exp(Unary):
    """out = e ** x"""

    name = "math.exp"
    accepts = "float"

    def expr(self, x: Expr) -> Expr:
        return call("exp", x)

    def evaluate(self, ev: Any, x: np.ndarray) -> np.ndarray:
        return np.exp(x)


def nonzero_divisor(op: Binary) -> tuple[Check, ...]:
    """The check that an integer divisor has no zero (over the divisor's own elements)."""
    if not op.rhs.dtype.is_integer:
        return ()
    space = axes("c", op.rhs.shape)
    divisor = read_broadcast(op.rhs, 1, coordinates(space))
    return (Check(space, compare("ne", divisor, 0), Status.DIVISION_BY_ZERO, const(0, "i64")),)


def refuse_zero(op: Binary, divisor: np.ndarray) -> None:
    """Raise when an integer divisor has a zero."""
    if divisor.size and not np.all(divisor):
        raise IntegerDivisionByZero(loc=op.loc, op=op.name)


def truncated_quotient(ev: Any, a: DimLike, b: DimLike) -> DimLike | None:
    """a / b on extents, where truncation is provably floor division; None when it is not."""
    if not isinstance(a, Dim) and not isinstance(b, Dim):
        return None if b == 0 else int(abs(a) // abs(b)) * (1 if (a < 0) == (b < 0) else -1)
    if ev.symbols.prove_ge(a, 0) and ev.symbols.prove_ge(b, 1):
        return a // b
    return None
