"""Sums and products of integers that wrap around, from ones that do not have to.

TVM tells LLVM that its own arithmetic on i32, u32 and u64 never leaves the type.
"""

from __future__ import annotations

from aino_ir.codegen.tvm.text import type_name
from aino_ir.dtypes import DTYPES
from aino_ir.loops.expr import VecType

SIGNS = {"add": "+", "sub": "-", "mul": "*"}

WRAPPED = frozenset((op, dtype) for op in SIGNS for dtype in ("i32", "u32", "u64"))
"""(operation, dtype) that have a function."""

_HALVES = ("name = Names()", 'x, y = name.let("x", x), name.let("y", y)', "half = {half}")
_UPPER_SUM = "high = T.shift_right(x, {shift}) + T.shift_right(y, {shift}) + T.shift_right(low, {shift})"
_JOINED = "return T.shift_left(high, {shift}) | (low & half)"

_WIDE: dict[str, tuple[str, ...]] = {
    "add": (*_HALVES, 'low = name.let("low", (x & half) + (y & half))', _UPPER_SUM, _JOINED),
    "sub": (
        *_HALVES,
        'y = name.let("y", T.bitwise_not(y))',
        'low = name.let("low", (x & half) + (y & half) + {one})',
        _UPPER_SUM,
        _JOINED,
    ),
    "mul": (
        *_HALVES,
        'low = name.let("low", (x & half) * (y & half))',
        'cross = name.let("cross", (T.shift_right(x, {shift}) * (y & half)) & half)',
        'other = name.let("other", ((x & half) * T.shift_right(y, {shift})) & half)',
        "high = T.shift_right(low, {shift}) + cross + other",
        _JOINED,
    ),
}
"""Of u64: by halves of 32 bits."""


def wrapping_lines(op: str, type_: VecType) -> tuple[str, ...]:
    """Lines of the body of ``f(x, y)``, for one of `WRAPPED`; what is 32 bits wide is computed on 64."""

    def number(value: int) -> str:
        scalar = f"T.uint64({value})"
        return scalar if type_.lanes == 1 else f"T.Broadcast({scalar}, {type_.lanes})"

    if type_.dtype.bits == 64:
        values = {"half": number((1 << 32) - 1), "shift": number(32), "one": number(1)}
        return tuple(line.format(**values) for line in _WIDE[op])
    narrow = type_name(type_.dtype, type_.lanes)
    wide = type_name(DTYPES[f"{type_.dtype.name[0]}64"], type_.lanes)
    left, right = (f'T.Cast("{wide}", {letter})' for letter in "xy")
    if (op, type_.dtype.name) == ("sub", "u32"):  # never below zero on the way
        left = f"{left} + {number(1 << 32)}"
    return (f'return T.Cast("{narrow}", {left} {SIGNS[op]} {right})',)
