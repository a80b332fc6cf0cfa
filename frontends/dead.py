"""Ops that nobody reads, dropped when a frontend has lowered a block."""

from __future__ import annotations

from aino_ir.dims import free_symbols
from aino_ir.graph import Block, count_uses
from aino_ir.op import Op, Trait
from aino_ir.ops.core import Bind
from aino_ir.types import StringType, TensorType


def remove_dead(block: Block) -> None:
    """Drop ops whose results nobody reads (all ops are pure), but those that decide an extent."""
    for op in reversed(list(block)):
        if op.has(Trait.TERMINATOR) or any(r.users for r in op.results) or decides_extent(op, block):
            continue
        count_uses(op, op.operands, -1)
        block.remove(op)


def decides_extent(op: Op, block: Block) -> bool:
    """Whether a symbol stands for an extent or a position that only this op's run can tell."""
    assert block.function is not None
    symbols = block.function.symbols
    if isinstance(op, Bind):
        return True
    for result in op.results:
        if isinstance(result.type, (TensorType, StringType)):
            for name in (name for dim in result.shape for name in free_symbols(dim)):
                if name in symbols and symbols.declared(name).origin.op == op.id:
                    return True
    return False
