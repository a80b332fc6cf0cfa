"""Removes ops whose results nobody reads."""

from __future__ import annotations

from dataclasses import dataclass

from aino_ir.graph import Block, Function
from aino_ir.op import Op, Trait
from aino_ir.passes.base import Pass, PassContext


@dataclass(frozen=True)
class EliminateDeadCode(Pass):
    """Ops are pure: what nobody reads goes, in one sweep from the end of each block.

    An op whose run decides what a symbol stands for stays: extents elsewhere may name it.
    """

    name = "eliminate-dead-code"

    def run_function(self, function: Function, ctx: PassContext) -> None:
        """Sweep the function and its control-flow regions."""
        rewriter = ctx.rewriter(function)
        symbols = function.symbols
        deciding = {symbols.declared(name).origin.op for name in symbols}
        stack: list[Block] = [function.block]
        while stack:
            for op in reversed_ops(stack.pop()):
                if op.has(Trait.TERMINATOR):
                    continue
                if not any(result.users for result in op.results) and op.id not in deciding:
                    rewriter.erase(op, "EliminateDeadCode")
                elif op.name != "core.fused":
                    stack.extend(op.regions)


def reversed_ops(block: Block) -> list[Op]:
    """Ops of a block from the last to the first, as they are now."""
    return list(reversed(block))
