"""Deep copies of modules: same ids, shared constant handles."""

from __future__ import annotations

from aino_ir.graph import Block, Function, Module, State, Value, count_uses
from aino_ir.op import Op


def clone_module(module: Module) -> Module:
    """A copy of a module whose functions can be changed independently."""
    copy = Module(module.name)
    copy.metadata = dict(module.metadata)
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
