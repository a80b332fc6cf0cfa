"""Deep copies: of modules with the same ids, of blocks as new ops; constant handles are shared."""

from __future__ import annotations

from collections.abc import Sequence

from aino_ir.builder import Builder
from aino_ir.graph import Block, Function, Module, State, Value, add_block_argument, count_uses
from aino_ir.op import Op, Trait
from aino_ir.types import ROW_MAJOR, TensorType


def clone_module(module: Module) -> Module:
    """A copy of a module whose functions can be changed independently."""
    copy = Module(module.name)
    copy.metadata = dict(module.metadata)
    copy.compression = module.compression
    for function in module.functions.values():
        copy_function(function, copy)
    copy.reserve_ids(module.last_id)
    return copy


def copy_function(function: Function, module: Module) -> Function:
    """Copy a function into another module, with the same ids."""
    copy = module.add_function(function.name)
    copy.symbols = function.symbols.clone()
    copy.input_names = list(function.input_names)
    copy.output_names = list(function.output_names)
    copy.states = [State(s.name, s.type, s.init) for s in function.states]
    copy.defaults = dict(function.defaults)
    copy_block(function.block, copy.block, {})
    return copy


def copy_block(source: Block, target: Block, values: dict[Value, Value]) -> None:
    """Copy arguments and ops of `source` to the empty `target`, with the same ids.

    `values` maps old values to new ones and is extended.
    """
    for arg in source.args:
        new = Value(arg.id, arg.type, None, arg.index, target, arg.name)
        new.known, new.known_ready = arg.known, arg.known_ready
        target.args.append(new)
        values[arg] = new
    for op in source:
        copy_op(op, target, values)


def copy_op(op: Op, target: Block, values: dict[Value, Value]) -> Op:
    """Copy one op, whose operands `values` knows, to the end of `target`, with the same ids."""
    operands = tuple(None if v is None else values[v] for v in op.operands)
    regions = []
    for region in op.regions:
        inner = Block(target.function)
        copy_block(region, inner, {})
        regions.append(inner)
    new_op = type(op)(op.id, operands, op.attributes, tuple(regions), op.loc)
    for inner in regions:
        inner.parent = new_op
    results = []
    for r in op.results:
        made = Value(r.id, r.type, new_op, r.index, None, r.name)
        made.known, made.known_ready = r.known, r.known_ready
        values[r] = made
        results.append(made)
    new_op.results = tuple(results)
    count_uses(new_op, new_op.operands)
    target.insert(new_op)
    return new_op


def inline_block(b: Builder, block: Block, arguments: Sequence[Value]) -> list[Value]:
    """Build the ops of a block anew where a builder stands; returns what stands for its results.

    Extents that an op of the block decides and that are named after it get new names, which attributes of
    the ops behind it do not know: such blocks cannot be inlined.
    """
    values: dict[Value, Value] = dict(zip(block.args, arguments, strict=True))
    for op in block:
        operands = [None if v is None else values[v] for v in op.operands]
        if op.has(Trait.TERMINATOR):
            return [v for v in operands if v is not None]
        regions = [_region_anew(b, region) for region in op.regions]
        layouts = [r.type.layout if isinstance(r.type, TensorType) else ROW_MAJOR for r in op.results]
        made = b.op(
            type(op),
            *operands,
            layouts=layouts,
            regions=regions,
            names=[r.name for r in op.results],
            **op.attrs(),
        )
        made.loc = op.loc.union(b.loc)
        values.update(zip(op.results, made.results, strict=True))
    return []


def _region_anew(b: Builder, region: Block) -> Block:
    """A region with new ops."""
    block = Block(b.function)
    for argument in region.args:
        add_block_argument(block, argument.type, b.function.module, argument.name)
    inner = Builder(b.function, block, None, b.loc, b.record)
    inner.op(type(region.terminator), *inline_block(inner, region, block.args))
    return block
