"""Lets matrix products read transposed matrices instead of having them transposed."""

from __future__ import annotations

from dataclasses import dataclass

from aino_ir.builder import Builder
from aino_ir.graph import Value
from aino_ir.op import Op
from aino_ir.ops.nn import MatMul
from aino_ir.ops.tensor import Transpose
from aino_ir.passes.rules import Rule, RulePass
from aino_ir.pattern import Match, P


class TransposeIntoMatMul(Rule):
    """matmul(a^T, b), matmul(a, b^T) ==> matmul(a, b) with the flag turned   when matrices are transposed"""

    pattern = P(MatMul, op="matmul")

    def check(self, m: Match) -> str | None:
        return None if any(_swapped(v) for v in m.root.operands) else ""

    def looked_at(self, m: Match) -> list[Op]:
        return [t for v in m.root.operands if (t := _swapped(v)) is not None]

    def rewrite(self, m: Match, b: Builder) -> Value:
        matmul = m.op("matmul")
        left, right = _swapped(matmul.lhs), _swapped(matmul.rhs)
        return b.matmul(  # type: ignore[no-any-return]
            left.x if left is not None else matmul.lhs,
            right.x if right is not None else matmul.rhs,
            transpose_lhs=matmul.transpose_lhs != (left is not None),
            transpose_rhs=matmul.transpose_rhs != (right is not None),
        )


def _swapped(value: Value | None) -> Transpose | None:
    """The transpose that made a value, when it swaps the last two axes alone."""
    op = None if value is None else value.op
    if not isinstance(op, Transpose):
        return None
    rank = len(op.perm)
    return op if op.perm == (*range(rank - 2), rank - 1, rank - 2) else None


@dataclass(frozen=True)
class AbsorbTransposes(RulePass):
    """Transposes of matrices become flags of the matmuls that read them."""

    name = "absorb-transposes"
    rules = (TransposeIntoMatMul(),)
