"""Control flow: If, Loop and Scan as regions; a condition that is known chooses its branch at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from aino_ir.builder import Builder, op_class
from aino_ir.dims import DimLike
from aino_ir.dtypes import boolean, i64
from aino_ir.frontends.onnx.context import NodeContext, Row, constant_array
from aino_ir.frontends.onnx.nodes import OnnxGraph, OnnxNode
from aino_ir.graph import Block, Value, add_block_argument
from aino_ir.infer import known_contents
from aino_ir.ops.call import type_symbols
from aino_ir.ops.core import Constant
from aino_ir.symbols import LOCAL, Symbols
from aino_ir.types import OptionalType, SequenceType, TensorType, Type

ROUNDS = 8
"""How often a loop's body is lowered until the types of its carried values are settled."""


def outer_values(c: NodeContext, names: Sequence[str]) -> tuple[list[str], list[Value]]:
    """Captured names that must become arguments of a region, and their values outside."""
    found = {name: c.graph.value(name) for name in names}
    taken = {name: v for name, v in found.items() if recreated(c, v) is None}
    return list(taken), list(taken.values())


def recreated(c: NodeContext, value: Value) -> Value | None:
    """A captured value itself when a region makes it anew instead of taking it: constants and extents."""
    if isinstance(value.op, Constant) or value.op is None:
        return value if value.op is not None else None
    return value if known_contents(value, c.symbols) is not None else None


def recreate(c: NodeContext, b: Builder, value: Value) -> Value:
    """A constant or a value made of extents, in another block."""
    if isinstance(value.op, Constant):
        return b.constant(value.op.value, value.name)
    known = known_contents(value, c.symbols)
    assert known is not None
    flat = b.dims_vector(known.reshape(-1).tolist())
    shaped = flat if known.ndim == 1 else b.reshape(flat, shape=known.shape)
    return shaped if value.dtype is i64 else b.cast(shaped, to=value.dtype)


def region(
    c: NodeContext,
    graph: OnnxGraph,
    leading: Sequence[Type],
    names: Sequence[str],
    values: Sequence[Value],
    close: Callable[[Builder, list[Value]], list[Value]] | None = None,
) -> Block:
    """A subgraph as a block whose arguments are its inputs, then captured values.

    Args:
        c: the node that owns the subgraph.
        graph: the subgraph.
        leading: types of its inputs.
        names: captured names that are arguments.
        values: what they are outside.
        close: what becomes of its outputs before the block yields them.
    """
    block = Block(c.b.function)
    module = c.b.function.module
    inner: dict[str, Value] = {}
    for declared, type_ in zip(graph.inputs, leading, strict=False):
        inner[declared.name] = add_block_argument(block, type_, module, declared.name)
    for name, value in zip(names, values, strict=True):
        inner[name] = add_block_argument(block, value.type, module, name)
    b = Builder(c.b.function, block, None, c.b.loc)
    for name in graph.captures:
        if name not in inner:
            inner[name] = recreate(c, b, c.graph.value(name))
    outputs = list(c.graph.nested(b, graph, inner))
    c.graph.close(b, outputs if close is None else close(b, outputs))
    return block


def if_(c: NodeContext, node: OnnxNode) -> Sequence[Value | None]:
    """One of two branches; the chosen one alone when the condition is known."""
    condition = c.tensor(0)
    branches = node.graph("then_branch"), node.graph("else_branch")
    known = constant_array(condition)
    if known is not None and known.size == 1:
        chosen = branches[0 if bool(known.reshape(-1)[0]) else 1]
        return c.graph.nested(c.b, chosen, {name: c.graph.value(name) for name in chosen.captures})
    names, values = outer_values(c, list(dict.fromkeys((*branches[0].captures, *branches[1].captures))))
    regions = [region(c, branch, (), names, values) for branch in branches]
    both = zip(*(r.terminator.present_operands() for r in regions), strict=False)
    if any(_ranks_differ(a.type, b.type) for a, b in both):
        c.refuse_unknown(0)
    return c.emit_all("control.if", condition, *values, regions=regions)


def _ranks_differ(a: Type, b: Type) -> bool:
    """Whether two types are tensors of different rank: only one of them can be a value's."""
    return isinstance(a, TensorType) and isinstance(b, TensorType) and a.rank != b.rank


def loop(c: NodeContext, node: OnnxNode) -> Sequence[Value | None]:
    """A loop with carried values and stacked elements."""
    graph = node.graph("body")
    trips, condition = c.input(0), c.input(1)
    carried = [c.require(i) for i in range(2, len(c.inputs))]
    if len(graph.inputs) != 2 + len(carried):
        c.invalid("inputs of the body", 2 + len(carried), len(graph.inputs))
    names, values = outer_values(c, graph.captures)
    types: list[Type] = [v.type for v in carried]
    plain: set[int] = set()

    def close(b: Builder, outputs: list[Value]) -> list[Value]:
        """Values that may be absent at first are wrapped when the body says that they never are."""
        for i, type_ in enumerate(types):
            if isinstance(type_, OptionalType) and not isinstance(outputs[1 + i].type, OptionalType):
                plain.add(i)
                outputs[1 + i] = b.op(op_class("optional.some"), outputs[1 + i]).result
        return outputs

    for _ in range(ROUNDS):
        before = c.symbols.clone()
        leading = [TensorType(i64, ()), TensorType(boolean, ()), *types]
        body = region(c, graph, leading, names, values, close)
        yielded = [v.type for v in body.terminator.present_operands()][1 : 1 + len(carried)]
        wider = [widened(c, a, b) for a, b in zip(types, yielded, strict=True)]
        if wider == types:
            break
        types = wider
        forget(c, before, types)
    else:
        c.unsupported("carried values whose types do not settle")
    counted = trips is not None and stays_true(condition, body)
    results = c.emit_all(
        "control.loop",
        trips,
        condition,
        *carried,
        *values,
        carried=len(carried),
        counted=counted,
        regions=[body],
    )
    return [c.emit("optional.get", v) if i in plain else v for i, v in enumerate(results)]


def forget(c: NodeContext, before: Symbols, types: Sequence[Type]) -> None:
    """Go back to the symbols of `before`: the body that was lowered meanwhile is thrown away.

    Symbols that the widened types of carried values need are declared anew.
    """
    for type_ in types:
        for name in sorted(type_symbols(type_)):
            if name not in before:
                before.new(name, 0, None, origin=LOCAL)
    c.b.function.symbols = before


def stays_true(condition: Value | None, body: Block) -> bool:
    """Whether a loop's condition is true at first, and every turn leaves it true."""
    following = next(body.terminator.present_operands())
    return (condition is None or is_true(condition)) and (following is body.args[1] or is_true(following))


def is_true(value: Value) -> bool:
    """Whether a value is the constant true."""
    array = constant_array(value)
    return array is not None and array.size == 1 and bool(array.reshape(-1)[0])


def widened(c: NodeContext, before: Type, after: Type) -> Type:
    """A type that holds a carried value before and after a turn: extents that change become symbols."""
    if isinstance(before, OptionalType) and isinstance(after, OptionalType):
        return OptionalType(widened(c, before.element, after.element))
    if isinstance(before, SequenceType) and isinstance(after, SequenceType):
        empty = isinstance(before.element, TensorType) and before.element.rank == 0
        return after if empty else before
    if before == after or not isinstance(before, TensorType) or not isinstance(after, TensorType):
        return before
    if before.dtype is not after.dtype or before.rank != after.rank:
        c.invalid("type of a carried value", before, after)
    shape: list[DimLike] = []
    for a, b in zip(before.shape, after.shape, strict=True):
        same = c.symbols.prove_eq(a, b)
        local = (
            not isinstance(a, int)
            and a.as_symbol() is not None
            and c.symbols.declared(str(a)).origin is LOCAL
        )
        shape.append(a if same or local else c.symbols.new(c.symbols.fresh("carried"), 0, None, origin=LOCAL))
    return TensorType(before.dtype, tuple(shape))


def scan(c: NodeContext, node: OnnxNode) -> Sequence[Value | None]:
    """A scan; axes are moved to the front, and sequences that run backwards are reversed outside."""
    graph, count = node.graph("body"), node.int("num_scan_inputs")
    if c.opset < 9:
        return scan_batches(c, node, graph, count)
    operands = [c.tensor(i) for i in range(len(c.inputs))]
    states, sequences = operands[: len(operands) - count], operands[len(operands) - count :]
    outputs = len(graph.outputs) - len(states)
    in_axes, out_axes = (
        node.ints("scan_input_axes", (0,) * count),
        node.ints("scan_output_axes", (0,) * outputs),
    )
    backward = node.ints("scan_input_directions", (0,) * count)
    out_backward = node.ints("scan_output_directions", (0,) * outputs)
    moved = [
        flipped(c, to_front(c, s, a), bool(d)) for s, a, d in zip(sequences, in_axes, backward, strict=True)
    ]
    results = scanned(c, graph, states, moved)
    elements = [
        from_front(c, flipped(c, e, bool(d)), a)
        for e, a, d in zip(results[len(states) :], out_axes, out_backward, strict=True)
    ]
    return [*results[: len(states)], *elements]


def scanned(
    c: NodeContext, graph: OnnxGraph, states: Sequence[Value], sequences: Sequence[Value]
) -> tuple[Value, ...]:
    """The scan of a subgraph over first axes."""
    names, values = outer_values(c, graph.captures)
    leading: list[Type] = [v.type for v in states]
    leading += [TensorType(s.dtype, s.shape[1:]) for s in sequences]
    body = region(c, graph, leading, names, values)
    return c.emit_all(
        "control.scan",
        *states,
        *sequences,
        *values,
        states=len(states),
        sequences=len(sequences),
        regions=[body],
    )


def scan_batches(c: NodeContext, node: OnnxNode, graph: OnnxGraph, count: int) -> Sequence[Value | None]:
    """The first version: a scan for each item of a batch (whose number must be known)."""
    if c.input(0) is not None:
        c.unsupported("sequence_lens")
    operands = [c.tensor(i) for i in range(1, len(c.inputs))]
    batch = operands[0].shape[0]
    if not isinstance(batch, int):
        c.unsupported("a symbolic number of batches")
    directions = node.ints("directions", (0,) * count)
    items = []
    for item in range(batch):
        own = [c.emit("gather", v, c.scalar(item, i64), axis=0) for v in operands]
        states, sequences = own[: len(own) - count], own[len(own) - count :]
        moved = [flipped(c, s, bool(d)) for s, d in zip(sequences, directions, strict=True)]
        items.append(scanned(c, graph, states, moved))
    return [
        c.emit("concat", *[c.reshape(v, (1, *v.shape)) for v in column], axis=0)
        for column in zip(*items, strict=True)
    ]


def to_front(c: NodeContext, x: Value, axis: int) -> Value:
    """x with an axis moved to the front."""
    axis = c.axis(axis, x.rank)
    return x if axis == 0 else c.emit("transpose", x, perm=(axis, *(a for a in range(x.rank) if a != axis)))


def from_front(c: NodeContext, x: Value, axis: int) -> Value:
    """x with its first axis moved to a place."""
    axis = c.axis(axis, x.rank)
    if axis == 0:
        return x
    perm = list(range(1, x.rank))
    perm.insert(axis, 0)
    return c.emit("transpose", x, perm=perm)


def flipped(c: NodeContext, x: Value, backward: bool) -> Value:
    """x with its first axis reversed if asked."""
    if not backward:
        return x
    last = x.shape[0] - 1
    return c.emit(
        "slice",
        x,
        starts=(last, *[0] * (x.rank - 1)),
        sizes=x.shape,
        steps=(-1, *np.ones(x.rank - 1, int).tolist()),
    )


TABLE: dict[str, Row] = {"If": if_, "Loop": loop, "Scan": scan}
