"""Whether the threads of a unit come together to where they must: barriers, operations of warps and groups.

Blocks that only some threads run may hold what concerns fewer threads: where a condition is the same for all
threads of a warp, operations of warps; where it is the same for all of a group, products of groups too.
"""

from __future__ import annotations

from enum import IntEnum

from aino_ir.dims import DimLike, free_symbols, value_of
from aino_ir.loops.expr import Binary, Cast, Compare, Const, Expr, Index, Unary
from aino_ir.loops.groups import GROUP
from aino_ir.loops.stmt import (
    THREAD,
    Barrier,
    BindIndex,
    For,
    GroupProduct,
    If,
    LoopFn,
    Registers,
    StartSignals,
    Stmt,
    WarpCall,
    blocks_of,
)
from aino_ir.loops.warp import WARP


class Together(IntEnum):
    """Who is sure to come to a place together: the threads of a unit, a group or a warp, or each alone."""

    ALONE = 0
    WARP = 1
    GROUP = 2
    UNIT = 3


_SIZES = {Together.GROUP: GROUP, Together.WARP: WARP}


def separated(fn: LoopFn) -> str | None:
    """What is wrong with a kernel whose threads may come apart before they meet; None: nothing."""
    return _Meetings(fn).block(fn.body, Together.UNIT if fn.threads > 1 else Together.ALONE)


class _Meetings:
    """Walks a kernel with the knowledge which indices are the same for whom."""

    def __init__(self, fn: LoopFn) -> None:
        self._threads = fn.threads
        self._alike: dict[str, Together] = {THREAD: Together.ALONE}

    def block(self, body: tuple[Stmt, ...], together: Together) -> str | None:
        """The first problem in a block that these come to together."""
        for s in body:
            if _demands(s) > together:
                return "a meeting of threads that some may not reach"
            if isinstance(s, BindIndex):
                self._alike[s.name] = self._of(s.value)
            inside = Together.ALONE
            if isinstance(s, For):
                inside = min(together, self._of_dims(s.lo, s.hi))
            elif isinstance(s, If):
                inside = min(together, self._of(s.condition))
            for block in blocks_of(s):
                problem = self.block(block, inside)
                if problem is not None:
                    return problem
        return None

    def _of(self, e: Expr) -> Together:
        """For whom an expression is the same; what is not made of Dims may differ from thread to thread."""
        if isinstance(e, Const):
            return Together.UNIT
        if isinstance(e, Index):
            return self._of_dims(e.dim)
        if isinstance(e, (Compare, Binary, Unary, Cast)):
            return min(map(self._of, e.children()))
        return Together.ALONE

    def _of_dims(self, *dims: DimLike) -> Together:
        names = {name for dim in dims for name in free_symbols(dim)}
        if names == {THREAD}:
            return min(map(self._of_threads, dims))
        return min((self._alike.get(name, Together.UNIT) for name in names), default=Together.UNIT)

    def _of_threads(self, dim: DimLike) -> Together:
        """For whom a Dim of the thread's number alone is the same: tried for each thread."""
        values = [value_of(dim, {THREAD: t}) for t in range(self._threads)]
        if len(set(values)) == 1:
            return Together.UNIT
        for together, size in _SIZES.items():
            parts = [values[first : first + size] for first in range(0, self._threads, size)]
            if all(len(set(part)) == 1 for part in parts):
                return together
        return Together.ALONE


def _demands(s: Stmt) -> Together:
    """Who must come to a statement together."""
    if isinstance(s, Barrier):
        return Together.WARP if s.warp else Together.UNIT
    if isinstance(s, StartSignals):
        return Together.UNIT
    if isinstance(s, (GroupProduct, Registers)):
        return Together.GROUP
    return Together.WARP if isinstance(s, WarpCall) else Together.ALONE
