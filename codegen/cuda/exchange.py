"""Values that the threads of a warp give each other."""

from __future__ import annotations

from aino_ir.dtypes import i32
from aino_ir.loops.builder import LoopBuilder
from aino_ir.loops.expr import Expr, cast
from aino_ir.loops.warp import OPERATIONS


def exchanged(b: LoopBuilder, x: Expr, distance: int) -> Expr:
    """The value of the thread whose number differs by the bits of `distance`; narrow types travel as i32."""
    carried = x.dtype if f"exchange_{x.dtype}" in OPERATIONS else i32
    (got,) = b.warp(f"exchange_{carried}", b.let(cast(x, carried)), parameter=distance)
    return b.let(cast(got, x.dtype))
