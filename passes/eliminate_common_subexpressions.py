"""Lets equal ops on equal operands be computed once."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

from aino_ir.graph import Function
from aino_ir.op import Op, Trait
from aino_ir.passes.base import Pass, PassContext, plain_blocks


@dataclass(frozen=True)
class EliminateCommonSubexpressions(Pass):
    """Keeps the first of several ops with the same class, operands, attributes and result types.

    Operands of commutative ops are compared without regard to order.  Random ops differ by their
    seeds; ops with regions are left alone.
    """

    name = "eliminate-common-subexpressions"

    def run_function(self, function: Function, ctx: PassContext) -> None:
        """One sweep per block: operands are already merged when their readers are looked at."""
        rewriter = ctx.rewriter(function)
        for block in plain_blocks(function):
            seen: dict[Hashable, Op] = {}
            for op in block:
                if op.regions or op.has(Trait.TERMINATOR) or op.has(Trait.DATA_DEPENDENT):
                    continue
                first = seen.setdefault(op_key(op), op)
                if first is not op:
                    rewriter.replace(op, list(first.results), "MergeEqualOps", (first,))


def op_key(op: Op) -> Hashable:
    """What makes two ops compute the same."""
    operands = [-1 if v is None else v.id for v in op.operands]
    if op.has(Trait.COMMUTATIVE):
        operands.sort()
    return (type(op), tuple(operands), op.attributes_key(), tuple(r.type for r in op.results))
