"""The open blocks of a kernel under construction."""

from __future__ import annotations

from typing import NamedTuple

from aino_ir.loops.expr import Var
from aino_ir.loops.stmt import If, Stmt
from aino_ir.symbols import Symbols


class Scope:
    """One open block: its statements, and the values pinned in it.

    Attributes:
        parent: the enclosing block, None for the function's own (the prologue).
        symbols: the table with the ranges and facts that hold here.
        statements: what the block holds so far.
    """

    def __init__(self, parent: Scope | None, symbols: Symbols) -> None:
        self.parent = parent
        self.symbols = symbols
        self.statements: list[Stmt] = []
        self._values: dict[object, Var] = {}

    def find(self, key: object) -> Var | None:
        """The name under which an equal value is pinned in this block or around it."""
        scope: Scope | None = self
        while scope is not None:
            found = scope._values.get(key)
            if found is not None:
                return found
            scope = scope.parent
        return None

    def remember(self, key: object, value: Var) -> None:
        """Let `find` give `value` for `key` until the block is closed."""
        self._values[key] = value

    def close(self) -> tuple[Stmt, ...]:
        """The finished block, without guards around nothing."""
        return tuple([s for s in self.statements if not _is_empty_guard(s)])


def _is_empty_guard(statement: Stmt) -> bool:
    return isinstance(statement, If) and not statement.then and not statement.otherwise


class When(NamedTuple):
    """What `otherwise` must know about the `when` before it.

    Attributes:
        scope: the block it stands in.
        length: statements in that block right after it.
        statement: the guard, None when its condition was decided.
        known: whether the condition always or never holds; None is undecided.
    """

    scope: Scope
    length: int
    statement: If | None
    known: bool | None
