"""Control flow: torch.cond, while_loop, scan, map and associative_scan become ops with regions.

Subgraphs take all that they read as arguments.  Numbers over symbols among those arguments are known
inside a region as they are outside, and are no captures.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch.fx import GraphModule

from aino_ir.builder import Builder
from aino_ir.dtypes import boolean, i64
from aino_ir.frontends.torch.binding import bound_call
from aino_ir.frontends.torch.context import NodeContext, Row
from aino_ir.frontends.torch.ops import row_of
from aino_ir.graph import Block, Value
from aino_ir.types import TensorType, Type


def tensors_of(values: Sequence[Any]) -> list[Value]:
    """The values among arguments of a subgraph."""
    return [v for v in values if isinstance(v, Value)]


def region(c: NodeContext, module: GraphModule, values: Sequence[Any], types: Sequence[Type]) -> Block:
    """A block that runs a subgraph; its arguments stand for the values among `values`, in order."""

    def body(b: Builder, *arguments: Value) -> list[Value]:
        return call(c, b, module, refilled(values, arguments))

    return c.b.region(types, body)


def refilled(values: Sequence[Any], arguments: Sequence[Value]) -> list[Any]:
    """`values` with its tensors replaced, in order."""
    fresh = iter(arguments)
    return [next(fresh) if isinstance(v, Value) else v for v in values]


def call(c: NodeContext, b: Builder, module: GraphModule, values: Sequence[Any]) -> list[Value]:
    """The results of a subgraph, built with another builder."""
    loc = b.loc
    found = c.graph.nested(b, module, dict(enumerate(values)))
    b.loc = loc
    if not all(isinstance(v, Value) for v in found):
        c.unsupported("a subgraph that gives something else than tensors")
    return found


def cond(
    c: NodeContext, predicate: Any, then: GraphModule, otherwise: GraphModule, operands: Sequence[Any] = ()
) -> Sequence[Value]:
    """One of two subgraphs."""
    if isinstance(predicate, (bool, int)):
        return call(c, c.b, then if predicate else otherwise, operands)
    captures = tensors_of(operands)
    types = [v.type for v in captures]
    regions = [region(c, module, operands, types) for module in (then, otherwise)]
    condition = c.reshape(c.cast(predicate, boolean), ())
    return c.emit_all("control.if", condition, *captures, regions=regions)


def while_loop(
    c: NodeContext,
    condition: GraphModule,
    body: GraphModule,
    carried: Sequence[Any],
    additional: Sequence[Any] = (),
) -> Sequence[Value]:
    """A subgraph again and again, while another one says so."""
    if len(tensors_of(carried)) != len(carried):
        c.unsupported("a carried number that is no tensor")
    captures = tensors_of(additional)
    start = c.reshape(call(c, c.b, condition, [*carried, *additional])[0], ())

    def turn(b: Builder, iteration: Value, before: Value, *arguments: Value) -> list[Value]:
        own = refilled(additional, arguments[len(carried) :])
        new = call(c, b, body, [*arguments[: len(carried)], *own])
        (again,) = call(c, b, condition, [*new, *own])
        return [b.reshape(again, shape=()), *new]

    types: list[Type] = [TensorType(i64, ()), TensorType(boolean, ())]
    types += [v.type for v in (*carried, *captures)]
    block = c.b.region(types, turn)
    return c.emit_all("control.loop", None, start, *carried, *captures, carried=len(carried), regions=[block])


def scan(
    c: NodeContext,
    combine: GraphModule,
    init: Sequence[Value],
    xs: Sequence[Value],
    additional: Sequence[Any] = (),
) -> Sequence[Value]:
    """A subgraph over the first axis of sequences, with states."""
    return scanned(c, combine, init, xs, additional)


def scanned(
    c: NodeContext,
    module: GraphModule,
    states: Sequence[Value],
    sequences: Sequence[Value],
    additional: Sequence[Any],
) -> Sequence[Value]:
    """Final states, then what the subgraph gives for each element, stacked."""
    captures = tensors_of(additional)
    types: list[Type] = [v.type for v in states]
    types += [TensorType(v.dtype, v.shape[1:]) for v in sequences]
    types += [v.type for v in captures]
    block = region(c, module, [*states, *sequences, *additional], types)
    return c.emit_all(
        "control.scan",
        *states,
        *sequences,
        *captures,
        states=len(states),
        sequences=len(sequences),
        regions=[block],
    )


def map_(
    c: NodeContext, function: GraphModule, xs: Sequence[Value], additional: Sequence[Any] = ()
) -> Sequence[Value]:
    """A subgraph for each element of the first axis."""
    return scanned(c, function, (), xs, additional)


def associative_scan(
    c: NodeContext, combine: GraphModule, xs: Sequence[Value], additional: Sequence[Any] = ()
) -> Sequence[Value]:
    """Running combinations of the elements of the first axis."""
    firsts = [c.cut(x, 0, 0, 1) for x in xs]
    rests = [c.cut(x, 0, 1, x.shape[0] - 1) for x in xs]
    states = [c.reshape(v, v.shape[1:]) for v in firsts]
    captures = tensors_of(additional)

    def body(b: Builder, *arguments: Value) -> list[Value]:
        own = refilled(additional, arguments[2 * len(xs) :])
        new = call(c, b, combine, [*arguments[: 2 * len(xs)], *own])
        return [*new, *new]

    types = [v.type for v in states]
    types += [TensorType(v.dtype, v.shape[1:]) for v in rests]
    types += [v.type for v in captures]
    block = c.b.region(types, body)
    found = c.emit_all(
        "control.scan",
        *states,
        *rests,
        *captures,
        states=len(xs),
        sequences=len(xs),
        regions=[block],
    )[len(xs) :]
    return [c.emit("concat", first, rest, axis=0) for first, rest in zip(firsts, found, strict=True)]


def with_effects(c: NodeContext, token: Any, target: Any, *args: Any, **named: Any) -> Sequence[Any]:
    """A call whose order among others counts, which a token stands for: the token, then its results."""
    row = row_of(target)
    assert row is not None
    results = bound_call(c, row, target, args, named)()
    return [token, *(results if isinstance(results, Sequence) else [results])]


TABLE: dict[str, Row] = {
    "higher_order.associative_scan": associative_scan,
    "higher_order.cond": cond,
    "higher_order.map_impl": map_,
    "higher_order.scan": scan,
    "higher_order.while_loop": while_loop,
    "higher_order.with_effects": with_effects,
}
