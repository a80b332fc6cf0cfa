"""Operator sets 1 to 6: what their operators say otherwise than operator set 7 does.

A row turns inputs and attributes into those of operator set 7 and hands on to the row of the operator;
operators without a row here mean the same in both. `consumed_inputs`, a hint of operator set 1 on memory,
is ignored everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from aino_ir.frontends.onnx.context import Lowered, Lowering, NodeContext
from aino_ir.frontends.onnx.integers import integer, line, sole
from aino_ir.frontends.onnx.nodes import Attribute, OnnxNode
from aino_ir.frontends.onnx.ops import TABLE
from aino_ir.frontends.onnx.tensors import CODES
from aino_ir.graph import Value

MODERN = 7
"""The operator set whose meanings the usual rows know."""


def modern(
    c: NodeContext,
    node: OnnxNode,
    inputs: Sequence[Value | None] | None = None,
    opset: int = MODERN,
    **changed: Attribute | None,
) -> Lowered:
    """The node lowered as operator set 7 (or a newer one) means it.

    Args:
        c: its context.
        node: the node.
        inputs: its inputs, when they are others.
        opset: the operator set that says what it means now.
        changed: attributes by name; None takes one away.
    """
    attributes = {name: a for name, a in {**node.attributes, **changed}.items() if a is not None}
    attributes.pop("consumed_inputs", None)
    new = replace(node, opset=opset, attributes=attributes)
    row = TABLE[node.domain, node.op_type]
    context = NodeContext(c.graph, new, c.inputs if inputs is None else inputs)
    return context.emit_all(row, *context.inputs) if isinstance(row, str) else row(context, new)


def broadcast(c: NodeContext, node: OnnxNode) -> Lowered:
    """The second operand is repeated only when asked, its axes beginning at `axis` of the first's."""
    x, y = c.x, c.tensor(1)
    if not node.int("broadcast", 0):
        if x.rank != y.rank:
            c.invalid("rank of the second operand without broadcast", x.rank, y.rank)
        for axis, (mine, other) in enumerate(zip(x.shape, y.shape, strict=True)):
            c.symbols.assume_eq(mine, other, f"{node.operator}: axis {axis} of its operands")
    elif "axis" in node.attributes:
        axis = c.axis(node.int("axis"), x.rank + 1)
        if axis + y.rank > x.rank:
            c.invalid("axis", f"at most {x.rank - y.rank} for an operand of rank {y.rank}", axis)
        y = c.reshape(y, (*y.shape, *[1] * (x.rank - axis - y.rank)))
    return modern(c, node, (x, y), broadcast=None, axis=None)


def prelu(c: NodeContext, node: OnnxNode) -> Lowered:
    """The slope is one number, or one for each channel."""
    x, slope = c.x, c.tensor(1)
    if slope.rank == 1 and x.rank > 2:
        slope = c.reshape(slope, (*slope.shape, *[1] * (x.rank - 2)))
    return modern(c, node, (x, slope))


def batch_normalization(c: NodeContext, node: OnnxNode) -> Lowered:
    """By given statistics with `is_test`, else by the batch's own."""
    testing = bool(node.int("is_test", 0))
    if not testing and len([name for name in node.outputs if name]) > 3:
        c.unsupported("is_test 0 and more than 3 outputs")
    if not testing and not node.int("spatial", 1):
        c.unsupported("is_test 0 and spatial 0")
    mode = None if testing else Attribute("int", 1)
    return modern(c, node, is_test=None, training_mode=mode)


def dropout(c: NodeContext, node: OnnxNode) -> Lowered:
    """Without `is_test` values are dropped at random."""
    if node.int("is_test", 0):
        return modern(c, node, is_test=None)
    ratio = c.b.constant(np.float32(node.float("ratio", 0.5)))
    inputs = (c.x, ratio, c.b.constant(np.asarray(True)))
    y, mask = modern(c, node, inputs, opset=12, is_test=None, ratio=None)  # type: ignore[misc]
    return [y, None if mask is None else c.cast(mask, c.x.dtype)]


def cast(c: NodeContext, node: OnnxNode) -> Lowered:
    """Before operator set 6 the dtype is given by its name."""
    if c.opset >= 6:
        return modern(c, node)
    name = node.str("to")
    code = CODES.get(_TYPE_NAMES.get(name, ""))
    if code is None:
        c.invalid("to", f"one of {', '.join(sorted(_TYPE_NAMES))}", name)
    return modern(c, node, to=Attribute("int", code))


_TYPE_NAMES = {
    "FLOAT": "f32",
    "DOUBLE": "f64",
    "FLOAT16": "f16",
    "BOOL": "bool",
    **{f"INT{bits}": f"i{bits}" for bits in (8, 16, 32, 64)},
    **{f"UINT{bits}": f"u{bits}" for bits in (8, 16, 32, 64)},
}
"""ONNX's names of element types before operator set 6."""


def concat(c: NodeContext, node: OnnxNode) -> Lowered:
    """Before operator set 4 axis 1 is the usual one."""
    return modern(c, node, axis=Attribute("int", node.int("axis", 1)))


def split(c: NodeContext, node: OnnxNode) -> Lowered:
    """In operator set 1 the sizes may be an input."""
    if c.opset > 1 or c.input(1) is None:
        return modern(c, node)
    return modern(c, node, opset=13, split=None)


def pad(c: NodeContext, node: OnnxNode) -> Lowered:
    """In operator set 1 `pads` is called `paddings`."""
    if c.opset > 1:
        return modern(c, node)
    return modern(c, node, paddings=None, pads=node.attributes["paddings"])


def reshape(c: NodeContext, node: OnnxNode) -> Lowered:
    """Before operator set 5 the shape is an attribute."""
    if c.opset >= 5:
        return modern(c, node)
    return modern(c, node, (c.x, _vector(c, node.ints("shape", ()))), shape=None)


def tile(c: NodeContext, node: OnnxNode) -> Lowered:
    """Before operator set 6 one axis is repeated, both given as scalars."""
    if c.opset >= 6:
        return modern(c, node)
    count, axis = sole(c, 1), sole(c, 2)
    if axis.static is not None:
        axis = integer(c, c.axis(axis.static, c.x.rank))
    repeats = [axis.eq(a).where(count, 1) for a in range(c.x.rank)]
    return modern(c, node, (c.x, line(c, repeats)))


def upsample(c: NodeContext, node: OnnxNode) -> Lowered:
    """The scales of the last two axes have attributes of their own."""
    scales = (1.0, 1.0, node.float("height_scale"), node.float("width_scale"))
    if c.x.rank != 4:
        c.invalid("rank of X", 4, c.x.rank)
    return modern(c, node, height_scale=None, width_scale=None, scales=Attribute("floats", scales))


def whole_power(c: NodeContext, node: OnnxNode) -> Lowered:
    """In operator set 1 the power `p` is a float."""
    if c.opset > 1:
        return modern(c, node)
    power = node.float("p", 2.0)
    if power != int(power):
        c.unsupported(f"p {power}")
    return modern(c, node, p=Attribute("int", int(power)))


def selu(c: NodeContext, node: OnnxNode) -> Lowered:
    """Before operator set 6 the usual numbers have fewer digits."""
    if c.opset >= 6:
        return modern(c, node)
    alpha, gamma = node.float("alpha", 1.6732), node.float("gamma", 1.0507)
    return modern(c, node, alpha=Attribute("float", alpha), gamma=Attribute("float", gamma))


def recurrent(c: NodeContext, node: OnnxNode) -> Lowered:
    """The sequence of outputs is made only with `output_sequence`."""
    results = modern(c, node, output_sequence=None)
    assert not isinstance(results, Value)
    if node.int("output_sequence", 0) or not c.wants(0):
        return results
    return c.unsupported("its output 'Y' and output_sequence 0")


def _vector(c: NodeContext, numbers: Sequence[int]) -> Value:
    return c.b.constant(np.asarray(numbers, np.int64))


ROWS: dict[str, Lowering] = {
    **dict.fromkeys(
        ("Add", "And", "Div", "Equal", "Greater", "Less", "Mul", "Or", "Pow", "Sub", "Xor"), broadcast
    ),
    **dict.fromkeys(("GRU", "LSTM", "RNN"), recurrent),
    **dict.fromkeys(("GlobalLpPool", "LpPool"), whole_power),
    "BatchNormalization": batch_normalization,
    "Cast": cast,
    "Concat": concat,
    "Dropout": dropout,
    "PRelu": prelu,
    "Pad": pad,
    "Reshape": reshape,
    "Selu": selu,
    "Split": split,
    "Tile": tile,
    "Upsample": upsample,
}
"""Operators of ai.onnx -> their lowering before operator set 7."""


def legacy_row(node: OnnxNode) -> Any:
    """The lowering of an old operator that meant something else, or None."""
    return ROWS.get(node.op_type) if node.domain == "" and node.opset < MODERN else None
