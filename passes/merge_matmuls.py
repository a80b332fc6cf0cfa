"""Merges matrix products of one value with several constants (queries, keys and values) into one product."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from aino_ir.builder import Builder
from aino_ir.graph import Function, Value
from aino_ir.op import Op
from aino_ir.ops.math import Add
from aino_ir.ops.nn import MatMul
from aino_ir.passes.base import Pass, PassContext, plain_blocks
from aino_ir.pattern import constant_of
from aino_ir.rewriter import Rewriter

RULE = "MergeMatMuls"


@dataclass(frozen=True)
class Branch:
    """One product with a constant, and the constant that is added to it, if any."""

    matmul: MatMul
    bias: Value | None
    last: Op

    @property
    def ops(self) -> tuple[Op, ...]:
        """What is replaced."""
        return (self.last,) if self.last is self.matmul else (self.last, self.matmul)

    @property
    def columns(self) -> int:
        """Columns of the product."""
        return int(self.matmul.rhs.shape[-1])


@dataclass(frozen=True)
class MergeMatMuls(Pass):
    """x @ a + p, x @ b + q, x @ c ==> slices of x @ [a b c] + [p q 0]

    The left operand is then read once, and one kernel runs instead of several.  The constants are
    joined by ops on constants, which folding turns into lazy constants.

    Options:
        max_columns: no product gets more columns.
    """

    name = "merge-matmuls"
    error_class = "reordered"
    max_columns: int = 16384

    def run_function(self, function: Function, ctx: PassContext) -> None:
        rewriter = ctx.rewriter(function)
        for block in plain_blocks(function):
            shared: dict[tuple[Value, object], list[Branch]] = {}
            for op in block:
                branch = branch_of(op)
                if branch is not None:
                    shared.setdefault((branch.matmul.lhs, branch.matmul.rhs.dtype), []).append(branch)
            for branches in shared.values():
                columns = sum(b.columns for b in branches)
                if len(branches) > 1 and columns <= self.max_columns:
                    merge(branches, rewriter)


def branch_of(op: Op) -> Branch | None:
    """The branch that starts at a product with a constant matrix, or None."""
    if not isinstance(op, MatMul) or op.transpose_lhs or op.transpose_rhs:
        return None
    if constant_of(op.rhs) is None or op.rhs.rank != 2:
        return None
    users = list(op.result.users)
    if len(users) == 1 and isinstance(users[0], Add):
        add = users[0]
        other = add.rhs if add.lhs is op.result else add.lhs
        if constant_of(other) is not None and other.shape == op.rhs.shape[1:]:
            return Branch(op, other, add)
    return Branch(op, None, op)


def merge(branches: list[Branch], rewriter: Rewriter) -> None:
    """Put slices of one product in the place of several."""
    first = branches[0].matmul
    b = rewriter.builder(first)
    whole: Value = b.matmul(first.lhs, b.concat(*(_here(b, x.matmul.rhs) for x in branches), axis=1))
    if any(x.bias is not None for x in branches):
        whole = b.add(whole, b.concat(*(_bias(b, x) for x in branches), axis=0))
    start = 0
    pieces = []
    for branch in branches:
        starts = (*[0] * (whole.rank - 1), start)
        sizes = (*whole.shape[:-1], branch.columns)
        pieces.append(b.slice(whole, starts=starts, sizes=sizes, steps=(1,) * whole.rank))
        start += branch.columns
    for branch, piece in zip(branches, pieces, strict=True):
        rewriter.replace(branch.last, piece, RULE, branch.ops)


def _here(b: Builder, value: Value) -> Value:
    """A constant again where the builder stands: the original may be made later."""
    handle = constant_of(value)
    assert handle is not None
    return b.constant(handle)


def _bias(b: Builder, branch: Branch) -> Value:
    if branch.bias is not None:
        return _here(b, branch.bias)
    return b.constant(np.zeros(branch.columns, branch.matmul.rhs.dtype.numpy))
