"""Nodes of the operator sets 1 to 6, seen as nodes of version 7 (or of the version that a row says).

Until then broadcasting was asked for by attributes, some inputs were attributes, and `consumed_inputs`
allowed an operator to destroy its inputs.  A row of `EARLY` changes the node or its inputs where its
meaning was another one; rows of the operator tables then need to know nothing of all this.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
from onnx import TensorProto

from aino_ir.dims import is_static
from aino_ir.frontends.onnx.context import NodeContext
from aino_ir.frontends.onnx.integers import integer, line, sole
from aino_ir.frontends.onnx.names import quote
from aino_ir.frontends.onnx.nodes import Attribute
from aino_ir.graph import Value

FIRST_PRESENT = 7
"""The first version that needs no change."""

DROPPED = ("consumed_inputs", "is_test", "broadcast", "output_sequence")
"""Attributes that later versions lack."""

Upgrade: TypeAlias = "Callable[[NodeContext], NodeContext]"


def upgraded(c: NodeContext) -> NodeContext:
    """A node of an early operator set as a later one would write it; others as they are."""
    node = c.node
    if node.domain or not 0 < node.opset < FIRST_PRESENT:
        return c
    row = EARLY.get(node.op_type)
    if row is not None:
        c = row(c)
    attributes = {name: a for name, a in c.node.attributes.items() if name not in DROPPED}
    opset = max(c.node.opset, FIRST_PRESENT)
    return changed(c, c.inputs, opset, attributes)


def changed(
    c: NodeContext, inputs: Sequence[Value | None], opset: int, attributes: dict[str, Attribute]
) -> NodeContext:
    """The context of a node with other inputs, attributes and version."""
    node = dataclasses.replace(c.node, attributes=attributes, opset=opset)
    return NodeContext(c.graph, node, inputs)


def with_attributes(c: NodeContext, **attributes: tuple[str, Any]) -> NodeContext:
    """The node with attributes (kind, value) added or replaced; those of kind "" are dropped."""
    merged = {**c.node.attributes, **{name: Attribute(*given) for name, given in attributes.items()}}
    return changed(c, c.inputs, c.node.opset, {name: a for name, a in merged.items() if a.kind})


def with_defaults(**attributes: tuple[str, Any]) -> Upgrade:
    """A row that adds attributes which had another default, or none."""

    def upgrade(c: NodeContext) -> NodeContext:
        missing = {name: given for name, given in attributes.items() if name not in c.node.attributes}
        return with_attributes(c, **missing)

    return upgrade


def broadcast(c: NodeContext) -> NodeContext:
    """The second operand's axes stand at `axis` of the first one's (at its end by default)."""
    first, second = c.tensor(0), c.tensor(1)
    axis = c.node.int("axis", None)
    if not c.node.int("broadcast", 0):
        if first.rank != second.rank:
            c.invalid("ranks of the operands without broadcast=1", first.rank, second.rank)
    elif axis is not None:
        axis = c.axis(axis, max(first.rank, 1))
        behind = first.rank - axis - second.rank
        if behind < 0:
            c.invalid("axis", f"at most {first.rank - second.rank}", axis)
        second = c.reshape(second, (*second.shape, *[1] * behind))
    c = changed(c, (first, second), c.node.opset, dict(c.node.attributes))
    return with_attributes(c, axis=("", None))


def batch_normalization(c: NodeContext) -> NodeContext:
    """Unless `is_test`, the batch's own statistics normalise it."""
    if c.node.int("is_test", 0):
        return c
    return changed(c, c.inputs, 14, {**c.node.attributes, "training_mode": Attribute("int", 1)})


def cast(c: NodeContext) -> NodeContext:
    """The dtype was a word before version 6."""
    if c.node.attributes["to"].kind != "string":
        return c
    word, codes = c.node.str("to"), dict(TensorProto.DataType.items())
    if word.upper() not in codes:
        c.invalid("attribute 'to'", "one of " + ", ".join(sorted(codes)), quote(word))
    return with_attributes(c, to=("int", codes[word.upper()]))


def dropout(c: NodeContext) -> NodeContext:
    """Unless `is_test`, elements are dropped: the form with inputs, whose mask is made of bools."""
    if c.node.int("is_test", 0):
        return c
    ratio = c.b.constant(np.float32(c.node.float("ratio", 0.5)))
    return changed(c, (c.x, ratio, c.b.constant(np.asarray(True))), 12, {})


def pad(c: NodeContext) -> NodeContext:
    """`paddings` became `pads` with version 2."""
    old = c.node.attributes.get("paddings")
    return c if old is None else with_attributes(c, pads=(old.kind, old.value), paddings=("", None))


def prelu(c: NodeContext) -> NodeContext:
    """A slope of one axis belongs to the channels."""
    slope = c.tensor(1)
    if slope.rank == 1 and c.x.rank > 2 and not (is_static(slope.shape[0]) and slope.shape[0] == 1):
        slope = c.reshape(slope, (slope.shape[0], *[1] * (c.x.rank - 2)))
    return changed(c, (c.x, slope), c.node.opset, dict(c.node.attributes))


def whole_power(c: NodeContext) -> NodeContext:
    """The power of a pool was a float in version 1."""
    given = c.node.attributes.get("p")
    if given is None or given.kind == "int":
        return c
    if given.value != int(given.value):
        c.unsupported(f"a power of {given.value}")
    return with_attributes(c, p=("int", int(given.value)))


def reshape(c: NodeContext) -> NodeContext:
    """The shape was an attribute before version 5."""
    if "shape" not in c.node.attributes:
        return c
    shape = c.b.constant(np.asarray(c.node.ints("shape"), np.int64))
    c = changed(c, (c.x, shape), c.node.opset, dict(c.node.attributes))
    return with_attributes(c, shape=("", None))


def split(c: NodeContext) -> NodeContext:
    """Version 1 takes the sizes as an input, too."""
    if c.input(1) is None:
        return c
    attributes = {name: a for name, a in c.node.attributes.items() if name != "split"}
    return changed(c, c.inputs, 13, attributes)


def tile(c: NodeContext) -> NodeContext:
    """Before version 6 one axis is repeated."""
    if len(c.inputs) != 3:
        return c
    count, axis = sole(c, 1), sole(c, 2)
    wrapped = axis.lt(0).where(axis + c.x.rank, axis)
    repeats = line(c, [wrapped.eq(a).where(count, integer(c, 1)) for a in range(c.x.rank)])
    return changed(c, (c.x, repeats), 6, dict(c.node.attributes))


def upsample(c: NodeContext) -> NodeContext:
    """Version 1 scales height and width."""
    if "scales" in c.node.attributes:
        return c
    scales = (1.0, 1.0, c.node.float("height_scale"), c.node.float("width_scale"))
    return with_attributes(c, scales=("floats", scales), height_scale=("", None), width_scale=("", None))


EARLY: dict[str, Upgrade] = {
    **dict.fromkeys(
        ("Add", "And", "Div", "Equal", "Greater", "Less", "Mul", "Or", "Pow", "Sub", "Xor"), broadcast
    ),
    "BatchNormalization": batch_normalization,
    "Cast": cast,
    "Concat": with_defaults(axis=("int", 1)),
    "Dropout": dropout,
    "GlobalLpPool": whole_power,
    "LpPool": whole_power,
    "PRelu": prelu,
    "Pad": pad,
    "Reshape": reshape,
    "Selu": with_defaults(alpha=("float", 1.6732), gamma=("float", 1.0507)),
    "Split": split,
    "Tile": tile,
    "Upsample": upsample,
}
"""Operators whose meaning changed until version 7: how a node is rewritten."""
