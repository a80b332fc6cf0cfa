"""Removal of statements whose results nothing uses.

Guards that were refuted and loops that were dropped leave values behind that only they needed; a C
compiler would warn about them, and a reader would wonder.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from aino_ir.dims import Dim, DimLike
from aino_ir.loops.expr import Expr, Index, Load, PrefixMask, Ramp, RegRead, Var
from aino_ir.loops.ranges import dims_of, expressions_of
from aino_ir.loops.stmt import (
    BindIndex,
    Comment,
    DeclareReg,
    For,
    GroupProduct,
    If,
    Let,
    SetReg,
    Stmt,
    WarpCall,
    While,
    walk_statements,
)


class DeadCode:
    """Finds what is used, from the last statement of a kernel to the first.

    Blocks are handed over in reverse order of execution, since a name is used only after it is defined.

    Attributes:
        used: values and symbols that what was kept refers to.
    """

    def __init__(self, blocks: Iterable[tuple[Stmt, ...]]) -> None:
        self.used: set[str] = set()
        self._read = {
            e.name
            for block in blocks
            for statement in walk_statements(block)
            for root in expressions_of(statement)
            for e in _nodes(root)
            if isinstance(e, RegRead)
        }

    def prune(self, block: tuple[Stmt, ...]) -> tuple[Stmt, ...]:
        """The block without statements that have no effect."""
        kept: list[Stmt] = []
        for statement in reversed(block):
            live = self._live(statement)
            if live is not None:
                kept.append(live)
        return tuple(reversed(kept))

    def _live(self, s: Stmt) -> Stmt | None:
        if isinstance(s, (Let, BindIndex)):
            if s.name not in self.used:
                return None
        elif isinstance(s, (WarpCall, GroupProduct)):
            if self.used.isdisjoint(s.names):
                return None
        elif isinstance(s, (DeclareReg, SetReg)):
            if s.name not in self._read:
                return None
        elif isinstance(s, For):
            body = self.prune(s.body)
            if not _does_something(body):
                return None
            s = s if _same(body, s.body) else replace(s, body=body)
        elif isinstance(s, If):
            then, otherwise = self.prune(s.then), self.prune(s.otherwise)
            if not _does_something(then) and not _does_something(otherwise):
                return None
            if not (_same(then, s.then) and _same(otherwise, s.otherwise)):
                s = replace(s, then=then, otherwise=otherwise)
        elif isinstance(s, While):
            body = self.prune(s.body)
            s = s if _same(body, s.body) else replace(s, body=body)
        self._use(s)
        return s

    def _use(self, s: Stmt) -> None:
        for dim in dims_of(s):
            self._use_dim(dim)
        for root in expressions_of(s):
            for e in _nodes(root):
                if isinstance(e, Var):
                    self.used.add(e.name)
                elif isinstance(e, Index):
                    self._use_dim(e.dim)
                elif isinstance(e, Ramp):
                    self._use_dim(e.base)
                elif isinstance(e, PrefixMask):
                    self._use_dim(e.count)
                elif isinstance(e, Load):
                    self._use_dim(e.offset)
                    self._use_dim(e.stride)

    def _use_dim(self, dim: DimLike) -> None:
        if isinstance(dim, Dim):
            self.used |= dim.free_symbols()


def _nodes(root: Expr) -> list[Expr]:
    """All nodes of a settled tree."""
    nodes = [root]
    for e in nodes:
        nodes.extend(e.children())
    return nodes


def _same(a: tuple[Stmt, ...], b: tuple[Stmt, ...]) -> bool:
    return len(a) == len(b) and all(x is y for x, y in zip(a, b, strict=True))


def _does_something(block: tuple[Stmt, ...]) -> bool:
    return any(not isinstance(s, Comment) for s in block)
