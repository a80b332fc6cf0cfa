"""Control flow: what a region reads from outside, an inner graph of ONNX sees by its name."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from onnx import helper

from aino_ir.dims import symbol
from aino_ir.frontends.onnx.export.types import type_proto
from aino_ir.frontends.onnx.export.writer import GraphWriter, Ref, Row
from aino_ir.graph import Block, Value
from aino_ir.types import TensorType

RAW = True


def dtypes_of(op: Any) -> list[Any]:
    """Dtypes of an op's results."""
    return [r.type.dtype if isinstance(r.type, TensorType) else None for r in op.results]


def region(g: GraphWriter, name: str, block: Block, own: int, seen: Sequence[Value]) -> Any:
    """A region as a graph: its first `own` arguments are inputs, the others are what `seen` stands for."""
    from aino_ir.frontends.onnx.export.model import ref_of, write_block

    with g.inner() as body:
        inputs = []
        for argument in block.args[:own]:
            found = g.model.unique(argument.name or "argument")
            inputs.append(helper.make_value_info(found, type_proto(argument.type, symbols=False)))
            body.bind(argument, ref_of(found, argument))
        for argument, value in zip(block.args[own:], seen, strict=True):
            body.refs[argument] = g.refs[value]
        yielded = write_block(body, block)
        types = [type_proto(v.type, symbols=False) for v in block.terminator.present_operands()]
        return body.graph(name, inputs, list(zip(yielded, types, strict=True)))


def if_(g: GraphWriter, op: Any) -> Sequence[Ref]:
    """A choice."""
    branches = {
        attribute: region(g, name, block, 0, op.captures)
        for attribute, name, block in zip(
            ("then_branch", "else_branch"), ("then", "otherwise"), op.regions, strict=True
        )
    }
    return g.nodes_of("If", g.of(op.condition), dtypes=dtypes_of(op), **branches)


def loop(g: GraphWriter, op: Any) -> Sequence[Ref]:
    """A loop: iteration, condition and carried values go in."""
    carried, captures = op.inputs[: op.carried], op.inputs[op.carried :]
    body = region(g, "body", op.regions[0], 2 + op.carried, captures)
    limits = g.optional(op.trips), g.optional(op.condition)
    return g.nodes_of("Loop", *limits, *map(g.of, carried), dtypes=dtypes_of(op), body=body)


def scan(g: GraphWriter, op: Any) -> Sequence[Ref]:
    """A scan over first axes."""
    count = op.states + op.sequences
    body = region(g, "body", op.regions[0], count, op.inputs[count:])
    operands = map(g.of, op.inputs[:count])
    return g.nodes_of("Scan", *operands, dtypes=dtypes_of(op), body=body, num_scan_inputs=op.sequences)


def sequence_map(g: GraphWriter, op: Any) -> Sequence[Ref]:
    """A body applied to elements; values that are the same for all are seen by name."""
    body = region(g, "body", op.regions[0], op.sequences, op.inputs[op.sequences :])
    sequences = map(g.of, op.inputs[: op.sequences])
    return g.nodes_of("SequenceMap", *sequences, dtypes=dtypes_of(op), body=body)


def call(g: GraphWriter, op: Any) -> Sequence[Ref]:
    """The called function's ops in place of the call; caller or operands tell its symbols."""
    from aino_ir.frontends.onnx.export.model import write_block

    callee = op.block.function.module.functions[op.callee]
    body = g.called(callee.symbols)
    told = dict(zip(op.symbols, op.dims, strict=True))
    for name in callee.symbols:
        if name in told or (callee.symbols.declared(name).origin.kind == "input" and name in g.symbols):
            body.sources[name] = functools.partial(g.extent, told.get(name, symbol(name)))
    for argument, value in zip(callee.inputs, op.inputs, strict=True):
        body.bind(argument, g.refs[value])
    results = write_block(body, callee.block)
    for place, name in enumerate(op.decided):
        g.sources[name] = functools.partial(g.element, results[-1], place)
    return results


TABLE: dict[str, Row] = {
    "core.call": call,
    "control.if": if_,
    "control.loop": loop,
    "control.scan": scan,
    "sequence.map": sequence_map,
}
