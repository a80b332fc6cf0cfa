"""Conditions over Dims: what a guard says about loop variables, for builder, verifier and footprints."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from aino_ir.dims import DimLike
from aino_ir.loops.expr import Binary, Compare, Const, Expr, Index, compare
from aino_ir.symbols import Symbols

_COMPARE_OF = {"<": "lt", "<=": "le", ">": "gt", ">=": "ge", "==": "eq"}
_RELATION_OF = {op: relation for relation, op in _COMPARE_OF.items()}
_NEGATED = {"<": ">=", "<=": ">", ">": "<=", ">=": "<"}


@dataclass(frozen=True)
class Condition:
    """`a relation b` on Dims; the relation is one of ``<``, ``<=``, ``>``, ``>=``, ``==``."""

    a: DimLike
    relation: str
    b: DimLike

    def expr(self) -> Expr:
        """The condition as a bool scalar."""
        return compare(_COMPARE_OF[self.relation], Index(self.a), Index(self.b))

    def negated(self) -> Condition | None:
        """The opposite, where it is a condition (`==` has none)."""
        opposite = _NEGATED.get(self.relation)
        return Condition(self.a, opposite, self.b) if opposite else None

    def at_least(self) -> tuple[DimLike, DimLike]:
        """(x, y) such that an inequality says x >= y."""
        a, b = self.a, self.b
        return {">=": (a, b), ">": (a, b + 1), "<=": (b, a), "<": (b, a + 1)}[self.relation]

    def prove(self, symbols: Symbols) -> bool | None:
        """Whether it always holds (True), never holds (False), or is not known."""
        if self.relation == "==":
            return symbols.prove_eq(self.a, self.b)
        return symbols.prove_ge(*self.at_least())

    def assume(self, symbols: Symbols) -> None:
        """Add it to a table as a fact.

        Raises:
            ContradictoryDims: the table knows that it cannot hold.
        """
        if self.relation == "==":
            symbols.given_eq(self.a, self.b)
        else:
            symbols.given_ge(*self.at_least())

    def __str__(self) -> str:
        return f"{self.a} {self.relation} {self.b}"


def conditions_of(expr: Expr) -> Iterator[Condition]:
    """What follows from a bool scalar being true: its comparisons of Dims, through `and`."""
    if isinstance(expr, Compare):
        a, b = _dim_of(expr.a), _dim_of(expr.b)
        if a is not None and b is not None and expr.op in _RELATION_OF:
            yield Condition(a, _RELATION_OF[expr.op], b)
    elif isinstance(expr, Binary) and expr.op == "and":
        yield from conditions_of(expr.a)
        yield from conditions_of(expr.b)


def negations_of(expr: Expr) -> Iterator[Condition]:
    """What follows from a bool scalar being false: the opposites of its comparisons, through `or`."""
    if isinstance(expr, Binary) and expr.op == "or":
        yield from negations_of(expr.a)
        yield from negations_of(expr.b)
        return
    whole = as_condition(expr)
    opposite = whole.negated() if whole is not None else None
    if opposite is not None:
        yield opposite


def as_condition(expr: Expr) -> Condition | None:
    """The condition that a comparison of two Dims is, else None."""
    return next(conditions_of(expr), None) if isinstance(expr, Compare) else None


def _dim_of(expr: Expr) -> DimLike | None:
    if isinstance(expr, Index):
        return expr.dim
    if isinstance(expr, Const) and expr.dtype.is_integer:
        return int(expr.value)
    return None
