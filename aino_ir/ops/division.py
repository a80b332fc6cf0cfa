"""Elementwise division and its remainder: of floats, and of integers, where a divisor of zero is an error."""

from __future__ import annotations

from typing import Any

import numpy as np

from aino_ir.compute import Check, axes, coordinates, read_broadcast
from aino_ir.dims import DimLike
from aino_ir.dtypes import DType
from aino_ir.errors.ir import IntegerDivisionByZero
from aino_ir.infer import InferContext
from aino_ir.loops.expr import Const, Expr, binary, call, compare, const, select, unary
from aino_ir.loops.stmt import Status
from aino_ir.op import str_attr
from aino_ir.ops.math import SYMBOLIC, Array, Binary
from aino_ir.symbolic import elementwise_dims, floor_quotient, is_symbolic, truncated_quotient


class Div(Binary):
    """out = lhs / rhs; on integers the quotient truncates, x / 0 is an error and INT_MIN / -1 wraps."""

    name = "math.div"
    traits = SYMBOLIC

    def expr(self, a: Expr, b: Expr) -> Expr:
        return a / (b if b.dtype.is_float else safe_divisor(b))

    def evaluate(self, ev: Any, a: Array, b: Array) -> Array:
        if is_symbolic(ev):
            return elementwise_dims(lambda x, y: truncated_quotient(ev, x, y), a, b)
        if a.dtype.kind == "f":
            return a / b
        refuse_zero(self, b)
        return truncating_division(a, b)

    def checks(self, at: tuple[DimLike, ...]) -> tuple[Check, ...]:
        return nonzero_divisor(self)


class FloorDiv(Binary):
    """out = floor(lhs / rhs), as Python's //; on integers x // 0 is an error and INT_MIN // -1 wraps.

    On floats it is the quotient of lhs less the floor-mode remainder, so that it agrees with
    `math.mod`; x // 0 is lhs / rhs.
    """

    name = "math.floordiv"
    traits = SYMBOLIC

    def expr(self, a: Expr, b: Expr) -> Expr:
        if a.dtype.is_float:
            return _float_floor_division(a, b)
        divisor = safe_divisor(b)
        quotient, remainder = a / divisor, binary("rem", a, divisor)
        return quotient - select(_inexact_and_opposite(remainder, b), 1, const(0, a.dtype))

    def evaluate(self, ev: Any, a: Array, b: Array) -> Array:
        if is_symbolic(ev):
            return elementwise_dims(lambda x, y: floor_quotient(ev, x, y), a, b)
        if a.dtype.kind != "f":
            refuse_zero(self, b)
        return np.asarray(np.floor_divide(a, b))

    def checks(self, at: tuple[DimLike, ...]) -> tuple[Check, ...]:
        return nonzero_divisor(self)


class Mod(Binary):
    """out = lhs - rhs * q, where q = floor(lhs / rhs) in mode "floor", trunc(lhs / rhs) in mode "trunc".

    "floor" (Python's %, ONNX Mod with fmod=0) gives the sign of rhs, "trunc" (C's % and fmod, ONNX
    Mod with fmod=1) the sign of lhs.  On integers x mod 0 is an error and INT_MIN mod -1 is 0; on
    floats x mod 0 and inf mod x are NaN, and a finite x mod an infinity is exact.
    """

    name = "math.mod"
    traits = SYMBOLIC
    mode = str_attr("floor")
    sample_attrs = ({"mode": "floor"}, {"mode": "trunc"})

    def result_dtype(self, ic: InferContext) -> DType:
        if self.mode not in ("floor", "trunc"):
            ic.bad_attribute("mode", "floor or trunc", self.mode)
        return super().result_dtype(ic)

    def expr(self, a: Expr, b: Expr) -> Expr:
        remainder = call("fmod", a, b) if a.dtype.is_float else binary("rem", a, safe_divisor(b))
        if self.mode == "trunc":
            return remainder
        return select(_inexact_and_opposite(remainder, b), remainder + b, remainder)

    def evaluate(self, ev: Any, a: Array, b: Array) -> Array:
        if is_symbolic(ev):
            return elementwise_dims(lambda x, y: self._of_dims(ev, x, y), a, b)
        if a.dtype.kind != "f":
            refuse_zero(self, b)
        if self.mode == "trunc":
            return np.asarray(np.fmod(a, b))
        return np.asarray(np.remainder(a, b))

    def _of_dims(self, ev: Any, a: DimLike, b: DimLike) -> DimLike | None:
        quotient = (floor_quotient if self.mode == "floor" else truncated_quotient)(ev, a, b)
        return None if quotient is None else a - quotient * b

    def checks(self, at: tuple[DimLike, ...]) -> tuple[Check, ...]:
        return nonzero_divisor(self)


# ---------------------------------------------------------------------------------- shared pieces


def nonzero_divisor(op: Binary) -> tuple[Check, ...]:
    """The check that an integer divisor has no zero (over the divisor's own elements)."""
    if not op.rhs.dtype.is_integer:
        return ()
    space = axes("c", op.rhs.shape)
    divisor = read_broadcast(op.rhs, 1, coordinates(space))
    return (Check(space, compare("ne", divisor, 0), Status.DIVISION_BY_ZERO, const(0, "i64")),)


def safe_divisor(divisor: Expr) -> Expr:
    """An integer divisor with 1 for 0: real zeros fail the check, but lanes masked off may hold one."""
    if isinstance(divisor, Const) and divisor.value:
        return divisor
    return select(compare("eq", divisor, 0), const(1, divisor.dtype), divisor)


def refuse_zero(op: Binary, divisor: Array) -> None:
    """Raise when an integer divisor has a zero."""
    if divisor.size and not np.all(divisor):
        raise IntegerDivisionByZero(loc=op.loc, op=op.name)


def truncating_division(a: Array, b: Array) -> Array:
    """a / b on integers without zeros in b, rounded towards zero; INT_MIN / -1 wraps."""
    if a.dtype.kind != "i":
        return np.asarray(a // b)
    quotient = np.where(b == -1, -a, a // b)
    rounded_down = (quotient * b != a) & ((a < 0) != (b < 0))
    return np.asarray(quotient + rounded_down.astype(a.dtype))


def _inexact_and_opposite(remainder: Expr, divisor: Expr) -> Expr:
    """Whether a truncated division must be lowered by one to be a floor division."""
    return compare("ne", remainder, 0) & ((remainder < 0) ^ (divisor < 0))


def _float_floor_division(a: Expr, b: Expr) -> Expr:
    """numpy's and torch's float //: exact remainder first, then the quotient rounded to a whole number."""
    remainder = call("fmod", a, b)
    quotient = (a - remainder) / b
    quotient = select(_inexact_and_opposite(remainder, b), quotient - 1.0, quotient)
    whole = unary("floor", quotient)
    whole = select((quotient - whole) > 0.5, whole + 1.0, whole)
    zero = binary("copysign", const(0.0, a.dtype), a / b)
    result = select(compare("eq", quotient, 0.0), zero, whole)
    return select(compare("eq", b, 0.0), a / b, result)
