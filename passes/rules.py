"""Rewrite rules: pattern, check with a reason, rewrite; and the driver that applies tables of them.

    class FoldScaleIntoDense(Rule):
        \"\"\"scale(dense(x, w), s) ==> dense(x, w * s)   when s is constant\"\"\"
        pattern = P(Mul, P(MatMul, "x", constant("w"), once=True), constant("s"))
        def check(self, m): return None if ... else "scale is not per column"
        def rewrite(self, m, b): return b.matmul(m["x"], b.mul(m["w"], m["s"]))

The driver keeps a worklist of ops: all of them once, then what a rewrite added and the readers of
what it replaced, so that work is linear in the graph and the rewrites.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from aino_ir.builder import Builder
from aino_ir.errors.ir import Undecided
from aino_ir.graph import Function, Value
from aino_ir.op import Op
from aino_ir.passes.base import Pass, PassContext, plain_ops
from aino_ir.pattern import Match, P
from aino_ir.rewriter import Rewriter


class Rule:
    """One rewrite.  The docstring is its law: ``before ==> after   when condition``."""

    pattern: ClassVar[P | tuple[P, ...]]
    error_class: ClassVar[str] = "exact"

    @property
    def name(self) -> str:
        """What logs and reports call it."""
        return type(self).__name__

    @property
    def patterns(self) -> tuple[P, ...]:
        """The alternatives to match."""
        return self.pattern if isinstance(self.pattern, tuple) else (self.pattern,)

    def check(self, m: Match) -> str | None:
        """Why a match must not be rewritten, or None.  An empty reason is not worth a report."""
        return None

    def looked_at(self, m: Match) -> Iterable[Op]:
        """Ops that the rule used beyond those that the pattern matched."""
        return ()

    def rewrite(self, m: Match, b: Builder) -> Value | Sequence[Value | None] | None:
        """The values that stand for the root's results; None turns the match down after all."""
        raise TypeError(f"{self.name} declares no rewrite")


class RuleTable:
    """Rules by the class of op that their patterns start at."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        self.rules = tuple(rules)
        self._by_class: dict[type[Op], list[tuple[Rule, P]]] = {}

    def of(self, op: Op) -> list[tuple[Rule, P]]:
        """Rules, with the alternative, that an op may be the root of."""
        cls = type(op)
        known = self._by_class.get(cls)
        if known is None:
            known = [
                (rule, pattern)
                for rule in self.rules
                for pattern in rule.patterns
                if any(issubclass(cls, c) for c in pattern.classes)
            ]
            self._by_class[cls] = known
        return known


def apply_rules(function: Function, rules: RuleTable, rewriter: Rewriter) -> None:
    """Rewrite a function until no rule fires any more."""
    work = deque(plain_ops(function))
    waiting = set(work)
    while work:
        op = work.popleft()
        waiting.discard(op)
        if op.block is None:
            continue
        if not any(try_rule(rule, pattern, op, rewriter) for rule, pattern in rules.of(op)):
            continue
        for again in rewriter.last_touched:
            if again.block is not None and again not in waiting:
                waiting.add(again)
                work.append(again)


def try_rule(rule: Rule, pattern: P, op: Op, rewriter: Rewriter) -> bool:
    """Rewrite at one op if a match passes the rule's check."""
    for m in pattern.matches(op):
        reason = rule.check(m)
        if reason is not None:
            if reason:
                rewriter.refuse(rule.name, op, reason)
            continue
        matched = (*m.ops, *rule.looked_at(m))
        try:
            values = rule.rewrite(m, rewriter.builder(op))
        except Undecided as error:
            rewriter.refuse(rule.name, op, error.message)
            continue
        if values is None:
            rewriter.rollback()
            continue
        if rewriter.replace(op, values, rule.name, matched):
            return True
    return False


@dataclass(frozen=True)
class RulePass(Pass):
    """A pass that is a table of rules."""

    rules: ClassVar[tuple[Rule, ...]] = ()

    def run_function(self, function: Function, ctx: PassContext) -> None:
        """Apply the rules that the numerics allow."""
        table = RuleTable(r for r in self.rules if ctx.allows(r.error_class))
        apply_rules(function, table, ctx.rewriter(function))
