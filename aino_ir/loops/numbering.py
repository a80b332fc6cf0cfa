"""Value numbers: equal pure expressions get one number, in time linear in the tree's distinct nodes.

Hashing frozen trees would walk them whole each time, and trees that share sub-expressions
exponentially often; here each node object is numbered once from the numbers of its children.
"""

from __future__ import annotations

from collections.abc import Callable, Container

from aino_ir.loops.dot_expr import AddPairs, Dot, DotHalves, DotPairs
from aino_ir.loops.expr import (
    Binary,
    Bitcast,
    Call,
    Cast,
    Compare,
    Const,
    Expr,
    Fma,
    Index,
    Load,
    PrefixMask,
    Ramp,
    Reduce,
    RegRead,
    Round,
    Select,
    Shuffle,
    Splat,
    Unary,
    Var,
)

_STATIC: dict[type, Callable[..., tuple[object, ...]]] = {
    Const: lambda e: e._key(),
    Index: lambda e: (e.dim,),
    Ramp: lambda e: (e.base, e.step, e.type),
    PrefixMask: lambda e: (e.count, e.type),
    Var: lambda e: (e.name,),
    Unary: lambda e: (e.op,),
    Binary: lambda e: (e.op,),
    Compare: lambda e: (e.op,),
    Fma: lambda e: (),
    Dot: lambda e: (),
    DotPairs: lambda e: (),
    AddPairs: lambda e: (),
    DotHalves: lambda e: (),
    Select: lambda e: (),
    Cast: lambda e: (e.type,),
    Round: lambda e: (e.storage,),
    Bitcast: lambda e: (e.type,),
    Splat: lambda e: (e.type,),
    Shuffle: lambda e: (e.pattern,),
    Reduce: lambda e: (e.op,),
    Call: lambda e: (e.function,),
    Load: lambda e: (e.buffer, e.offset, e.type, e.stride, e.mask is None, e.other is None),
}
"""Per node class: what tells two nodes over the same children apart."""

LEAVES = (Const, Index, Ramp, PrefixMask, Var, RegRead)
"""Nodes that cost nothing to repeat: they are never pinned for being used twice."""


class Numbering:
    """Numbers for the expressions of one kernel.

    Args:
        constant_buffers: buffers that the kernel never writes, whose loads are pure.
    """

    def __init__(self, constant_buffers: Container[str]) -> None:
        self._constant_buffers = constant_buffers
        self._numbers: dict[tuple[object, ...], int] = {}
        self._known: dict[int, tuple[Expr, int | None]] = {}

    def number(self, root: Expr) -> int | None:
        """The number of `root`; None when its value depends on when it is evaluated."""
        known = self._known.get(id(root))
        if known is not None:
            return known[1]
        stack = [root]
        while stack:
            e = stack[-1]
            if id(e) not in self._known:
                waiting = [c for c in e.children() if id(c) not in self._known]
                if waiting:
                    stack.extend(waiting)
                    continue
                self._known[id(e)] = (e, self._make(e))  # the reference keeps the id from being reused
            stack.pop()
        return self._known[id(root)][1]

    def _make(self, e: Expr) -> int | None:
        static = _STATIC.get(type(e))
        if static is None or (isinstance(e, Load) and e.buffer not in self._constant_buffers):
            return None
        numbers = [self._known[id(c)][1] for c in e.children()]
        if None in numbers:
            return None
        return self._numbers.setdefault((type(e), static(e), *numbers), len(self._numbers))
