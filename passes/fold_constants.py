"""Computes at compile time what depends on constants alone."""

from __future__ import annotations

from dataclasses import dataclass

from aino_ir.constants import Const
from aino_ir.dtypes import DType
from aino_ir.errors.base import AinoError
from aino_ir.graph import Function
from aino_ir.op import Op, Trait
from aino_ir.passes.base import Pass, PassContext, plain_ops
from aino_ir.passes.lazy_constants import DEPTH_LIMIT, MATERIAL_BYTES, apply_op, depth, settled
from aino_ir.pattern import constant_of
from aino_ir.rewriter import Rewriter
from aino_ir.types import TensorType

RULE = "FoldConstantOp"

COMPRESSED_BITS = 8
"""Constants of so few bits stay as they are where an op decodes them: kernels do it as they read."""

HALF_BITS = 16
"""Likewise for floats."""


def is_compressed(dtype: DType) -> bool:
    """Whether values that an op expands are worth keeping: bytes and less, and floats of half the bits."""
    return dtype.bits <= (HALF_BITS if dtype.is_float else COMPRESSED_BITS)


@dataclass(frozen=True)
class FoldConstants(Pass):
    """Ops whose operands are all constants become constants.

    Small results are computed at once, large ones become lazy constants (computed in double precision
    when their bytes are needed, and rounded once).  Ops that would blow data up (a broadcast of
    a small constant to a big shape) stay.

    Options:
        max_growth: a large result may have so many times the bytes of the operands.
    """

    name = "fold-constants"
    error_class = "reordered"
    max_growth: int = 2

    def run_function(self, function: Function, ctx: PassContext) -> None:
        """One sweep: operands are folded before their readers; then what is small is computed."""
        rewriter = ctx.rewriter(function)
        for op in plain_ops(function):
            if op.block is not None and op.operands and not op.regions and self._foldable(op):
                fold(op, function, rewriter)
        settle_small(function, rewriter)

    def _foldable(self, op: Op) -> bool:
        if any(op.has(t) for t in (Trait.TERMINATOR, Trait.HOST, Trait.RANDOM, Trait.DATA_DEPENDENT)):
            return False
        if op.has(Trait.DECODES) and is_compressed(next(op.present_operands()).dtype):
            return False
        handles = [constant_of(v) for v in op.present_operands()]
        if op.reads_symbols() or any(h is None for h in handles):
            return False
        if not all(
            isinstance(r.type, TensorType) and r.type.is_static and r.type.layout.is_row_major
            for r in op.results
        ):
            return False
        size = sum(int(r.type.size) * r.dtype.bytes for r in op.results)  # type: ignore[union-attr, arg-type]
        given = sum(h.nbytes for h in handles if h is not None)
        return size <= max(MATERIAL_BYTES, self.max_growth * given)


def fold(op: Op, function: Function, rewriter: Rewriter) -> None:
    """Put constants in the place of an op on constants; an op that fails (an index out of range) stays."""
    inputs = [constant_of(v) for v in op.operands]
    matched = [v.op for v in op.present_operands() if v.op is not None]
    try:
        handles = [_compact(h) for h in apply_op(function, op, inputs)]
    except AinoError as error:
        rewriter.refuse(RULE, op, error.message)
        return
    builder = rewriter.builder(op)
    rewriter.replace(op, [builder.constant(h) for h in handles], RULE, matched)


def _compact(handle: Const) -> Const:
    """Small exact results as data right away; floats when the chain gets long (rounding once is better)."""
    exact = not handle.dtype.is_float
    small = handle.nbytes <= MATERIAL_BYTES
    if (small and exact) or depth(handle) > DEPTH_LIMIT:
        return settled(handle)
    return handle


def settle_small(function: Function, rewriter: Rewriter) -> None:
    """Compute small lazy constants, so that rules can read them and equal ones can be merged."""
    for op in plain_ops(function):
        handle = constant_of(op.results[0]) if len(op.results) == 1 else None
        if handle is not None and handle.is_lazy and handle.nbytes <= MATERIAL_BYTES:
            new = rewriter.builder(op).constant(settled(handle), op.result.name)
            rewriter.replace(op, new, "SettleConstant")
