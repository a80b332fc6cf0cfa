"""What tests of the loop builder share: a kernel with two buffers, and counts of its statements."""

from __future__ import annotations

from aino_ir.dtypes import f32
from aino_ir.loops.builder import LoopBuilder
from aino_ir.loops.expr import VecType
from aino_ir.loops.stmt import Access, LoopFn, Stmt, walk_statements

F32 = VecType(f32)


def new(name: str = "k") -> tuple[LoopBuilder, str, str]:
    """A builder with an input and an output of 64 f32."""
    b = LoopBuilder(name)
    return b, b.param("x", f32, 64), b.param("y", f32, 64, Access.WRITE)


def count(fn: LoopFn, kind: type) -> int:
    """How many statements of a kind the kernel's unit loop holds."""
    return sum(isinstance(s, kind) for s in walk_statements(fn.body))


def only(fn: LoopFn, kind: type) -> Stmt:
    """The one statement of a kind."""
    (found,) = [s for s in walk_statements(fn.body) if isinstance(s, kind)]
    return found
