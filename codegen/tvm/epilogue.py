"""What follows a sum, taken apart: long functions as parts, each of which is computed once.

TVM's simplifier puts what has a name wherever the name stands, and a block has no variables: the GELU of one
value would be thousands of operations.  So a part that is used more than once is a block of its own, and the
schedule computes it at the vector that needs it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from aino_ir.codegen.cstyle.lowering import Recorder
from aino_ir.loops.expr import Call, Expr, Var
from aino_ir.loops.expr_tree import fold, map_expr
from aino_ir.loops.math import FUNCTIONS

LONG = 700.0
"""Operations of results, with all names replaced by what they stand for, that are more than one block's."""

SMALL = 6.0
"""Size of a part that is written wherever it is used."""


@dataclass(frozen=True)
class Parts:
    """Results as a straight line of named parts.

    Attributes:
        named: the parts, each built on earlier ones.
        results: what is left of the results.
        shared: names of the parts that are used more than once.
    """

    named: tuple[tuple[Var, Expr], ...]
    results: tuple[Expr, ...]
    shared: frozenset[str]


def taken_apart(results: Sequence[Expr]) -> Parts | None:
    """Results with the bodies of the functions that they call as named parts; None where they are short."""
    recorder = Recorder()
    known: dict[Expr, Expr] = {}

    def expanded(e: Expr) -> Expr | None:
        if not isinstance(e, Call):
            return None
        if e not in known:
            args = [recorder.let(map_expr(x, expanded)) for x in e.args]
            known[e] = FUNCTIONS[e.function].body(recorder, *args)
        return known[e]

    left = tuple(map_expr(e, expanded) for e in results)
    sizes: dict[str, float] = {}
    for var, part in recorder.lets:
        sizes[var.name] = tree_size(part, sizes)
    if sum(tree_size(e, sizes) for e in left) <= LONG:
        return None
    used = sum((_names(e) for e in (*(part for _, part in recorder.lets), *left)), Counter())
    return Parts(tuple(recorder.lets), left, frozenset(name for name, count in used.items() if count > 1))


def tree_size(e: Expr, named: dict[str, float] | None = None) -> float:
    """How many nodes an expression has when parts that it shares are counted wherever they stand.

    Args:
        e: the expression.
        named: sizes of what names in it stand for, where that is not 1.
    """
    sizes = named or {}

    def size(node: Expr, parts: Sequence[float]) -> float:
        return sizes.get(node.name, 1.0) if isinstance(node, Var) else 1.0 + sum(parts)

    return fold(e, size)


def _names(e: Expr) -> Counter[str]:
    """The names in an expression, and how often they stand there (0, 1, or 2 for more)."""

    def names(node: Expr, parts: Sequence[Counter[str]]) -> Counter[str]:
        if isinstance(node, Var):
            return Counter([node.name])
        found = sum(parts, Counter())
        return Counter({name: min(count, 2) for name, count in found.items()})

    return fold(e, names)
