"""Brings constants into the regions that capture them, and runs a choice that is known in place."""

from __future__ import annotations

from dataclasses import dataclass

from aino_ir.clone import inline_block
from aino_ir.dims import Dim
from aino_ir.graph import Block, Function
from aino_ir.op import Op, Trait
from aino_ir.ops.control import If
from aino_ir.passes.base import Pass, PassContext, plain_ops
from aino_ir.pattern import constant_of
from aino_ir.rewriter import Rewriter
from aino_ir.types import TensorType


@dataclass(frozen=True)
class SimplifyRegions(Pass):
    """Regions read captured constants as constants of their own; a known condition leaves one region.

    A loop's body can then fold, and its products with weights become kernels that pack them.
    """

    name = "simplify-regions"

    def run_function(self, function: Function, ctx: PassContext) -> None:
        """One sweep, outer regions before those inside."""
        rewriter = ctx.rewriter(function)
        for op in plain_ops(function):
            if op.block is None or not op.regions or op.name == "core.fused":
                continue
            if isinstance(op, If) and choose(op, rewriter):
                continue
            for region in op.regions:
                sink_constants(op, region, rewriter)


def sink_constants(op: Op, region: Block, rewriter: Rewriter) -> None:
    """Let a region read its own copy of every constant that it captures."""
    first = region.first
    assert first is not None
    for argument in region.args:
        source = op.capture(argument.index)
        handle = constant_of(source)
        if source is None or handle is None or not argument.users:
            continue
        assert source.op is not None
        inner = rewriter.builder(first).constant(handle, argument.name or source.name)
        rewriter.replace_value(argument, inner, "SinkConstant", [source.op])


def choose(op: If, rewriter: Rewriter) -> bool:
    """Put the ops of the chosen region in the place of a choice whose condition is known."""
    handle = constant_of(op.condition)
    if handle is None or op.condition.op is None:
        return False
    region = op.regions[0 if bool(handle.array().reshape(-1)[0]) else 1]
    if any(mints_symbols(inner) for inner in region.walk()):
        return rewriter.refuse("ChooseRegion", op, "an op in it decides extents at run time")
    values = inline_block(rewriter.builder(op), region, op.captures)
    return rewriter.replace(op, values, "ChooseRegion", [op.condition.op])


def mints_symbols(op: Op) -> bool:
    """Whether an op's results have extents that only it decides, and that are named after it."""
    if op.has(Trait.DATA_DEPENDENT):
        return True
    function = op.block.function if op.block is not None else None
    assert function is not None
    for result in op.results:
        for d in result.type.shape if isinstance(result.type, TensorType) else ():
            names = d.free_symbols() if isinstance(d, Dim) else ()
            if any(function.symbols.declared(n).origin.op == op.id for n in names):
                return True
    return False
