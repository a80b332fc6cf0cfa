"""Ops that hold programs together: constants, groups, calls, and regions as modules of their own."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Sequence
from typing import Any

from torch import fx

from aino_ir.dims import symbol
from aino_ir.frontends.torch.dtypes import STORED
from aino_ir.frontends.torch.export.functions.control import choose, loop, scan
from aino_ir.frontends.torch.export.writer import GraphWriter
from aino_ir.graph import Block, Value

Nodes = Sequence[fx.Node]


def constant(writer: GraphWriter, op: Any) -> Nodes:
    """A parameter or buffer."""
    return [writer.constant(op.value)]


def itself(writer: GraphWriter, op: Any) -> Nodes:
    """The operand: a layout changes no meaning, nor does it that numbers are extents from here on."""
    return [writer.nodes[op.x]]


def fused(writer: GraphWriter, op: Any) -> Nodes:
    """The ops of a group, one after the other."""
    from aino_ir.frontends.torch.export.program import write_block

    (body,) = op.regions
    for argument, value in zip(body.args, op.inputs, strict=True):
        writer.nodes[argument] = writer.nodes[value]
    return write_block(writer, body)


def called(writer: GraphWriter, op: Any) -> Nodes:
    """The called function's ops in place of the call; caller or operands tell its symbols."""
    from aino_ir.frontends.torch.export.program import write_block

    callee = op.block.function.module.functions[op.callee]
    body = writer.body_of(callee.symbols)
    told = dict(zip(op.symbols, op.dims, strict=True))
    for name in callee.symbols:
        if name in told or (callee.symbols.declared(name).origin.kind == "input" and name in writer.symbols):
            body.sources[name] = functools.partial(writer.extent, told.get(name, symbol(name)))
    for argument, value in zip(callee.inputs, op.inputs, strict=True):
        body.bind(argument, writer.nodes[value])
    results = write_block(body, callee.block)
    for place, name in enumerate(op.decided):
        writer.sources[name] = functools.partial(_element, writer, results[-1], place)
    return results


def _element(writer: GraphWriter, vector: fx.Node, place: int) -> fx.Node:
    return writer.method("item", writer.call(operator.getitem, vector, place))


# -- regions -----------------------------------------------------------------------------------------------


def region(writer: GraphWriter, block: Block, name: str) -> tuple[fx.Node, list[Any]]:
    """A region as a submodule, and what of the graph outside it takes behind its own arguments."""
    from aino_ir.frontends.torch.export.program import write_block

    body = GraphWriter(writer.tensors, writer.symbols, writer)
    for argument in block.args:
        body.bind(argument, body.placeholder(argument.name or "argument"))
    results = write_block(body, block)
    return writer.submodule(name, body.finish(tuple(results), name)), body.lifted


def operands(writer: GraphWriter, values: Sequence[Value]) -> list[fx.Node]:
    """Nodes of values as they are stored."""
    return [writer.nodes[v] for v in values]


def unpacked(writer: GraphWriter, op: Any, made: fx.Node) -> Nodes:
    """Results of a call that gives a tuple."""
    return [writer.call(operator.getitem, made, i) for i in range(len(op.results))]


def if_(writer: GraphWriter, op: Any) -> Nodes:
    """A choice: both regions take what either needs."""
    then, of_then = region(writer, op.regions[0], "then")
    otherwise, of_otherwise = region(writer, op.regions[1], "otherwise")
    captures = operands(writer, op.captures)
    made = writer.call(choose, writer.nodes[op.condition], then, otherwise, captures, of_then, of_otherwise)
    return unpacked(writer, op, made)


def elements(writer: GraphWriter, stacks: Sequence[Value]) -> list[Any]:
    """Shape and dtype of one element of each stacked result."""
    return [(writer.extents_or_none(v.shape[1:]), STORED[writer.dtype_of(v).name]) for v in stacks]


def loop_(writer: GraphWriter, op: Any) -> Nodes:
    """A loop: iteration, condition and carried values go in."""
    body, lifted = region(writer, op.regions[0], "body")
    carried, captures = op.inputs[: op.carried], op.inputs[op.carried :]
    made = writer.call(
        loop,
        body,
        *(None if v is None else writer.nodes[v] for v in (op.trips, op.condition)),
        operands(writer, carried),
        [*operands(writer, captures), *lifted],
        op.counted,
        elements(writer, op.results[op.carried :]),
        writer.anchor(),
    )
    return unpacked(writer, op, made)


def scan_(writer: GraphWriter, op: Any) -> Nodes:
    """A scan over first axes."""
    body, lifted = region(writer, op.regions[0], "body")
    ends = op.states, op.states + op.sequences
    made = writer.call(
        scan,
        body,
        operands(writer, op.inputs[: ends[0]]),
        operands(writer, op.inputs[ends[0] : ends[1]]),
        [*operands(writer, op.inputs[ends[1] :]), *lifted],
        elements(writer, op.results[op.states :]),
        writer.anchor(),
    )
    return unpacked(writer, op, made)


STRUCTURE: dict[str, Callable[[GraphWriter, Any], Nodes]] = {
    "control.if": if_,
    "control.loop": loop_,
    "control.scan": scan_,
    "core.bind": itself,
    "core.call": called,
    "core.constant": constant,
    "core.fused": fused,
    "core.relayout": itself,
}
"""Ops that are no call of a function on tensors."""
