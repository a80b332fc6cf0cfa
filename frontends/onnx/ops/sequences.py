"""Sequences and optional values.  What is known while lowering leaves no trace: an element taken from a
sequence that was just constructed is that element.
"""

from __future__ import annotations

from collections.abc import Sequence

from aino_ir.dims import DimLike, is_static
from aino_ir.dtypes import boolean, f32, i64
from aino_ir.frontends.onnx.context import NodeContext, Row, constant_array, element_dtype
from aino_ir.frontends.onnx.nodes import OnnxNode, TypeInfo
from aino_ir.frontends.onnx.ops.control import outer_values, region
from aino_ir.frontends.onnx.ops.movement import cut
from aino_ir.graph import Value
from aino_ir.ops.sequence import Construct, Some, alike
from aino_ir.symbols import LOCAL
from aino_ir.types import OptionalType, SequenceType, TensorType, Type


def constructed(c: NodeContext, items: Sequence[Value], element: Type | None = None) -> Value:
    """A sequence of values; extents in which they differ become symbols of the element type."""
    if element is None:
        element = items[0].type
        for n, item in enumerate(items[1:], 1):
            if not alike(element, item.type):
                c.invalid(f"type of input {n}", element, item.type)
            element = merged(c, element, item.type)
    return c.emit("sequence.construct", *items, element=element)


def merged(c: NodeContext, a: Type, b: Type) -> Type:
    """The type of elements of either type: extents that differ become symbols."""
    if not isinstance(a, TensorType) or not isinstance(b, TensorType):
        return a
    shape = [
        x if x is y or (is_static(x) and is_static(y) and x == y) else element_symbol(c)
        for x, y in zip(a.shape, b.shape, strict=True)
    ]
    return TensorType(a.dtype, tuple(shape))


def element_symbol(c: NodeContext) -> DimLike:
    """A symbol for an extent that differs from element to element."""
    return c.symbols.new(c.symbols.fresh("element"), 0, None, origin=LOCAL)


def items_of(c: NodeContext, index: int = 0) -> tuple[Value, ...] | None:
    """The elements of an input that is a sequence constructed here, or None."""
    value = c.require(index)
    if not isinstance(value.type, SequenceType):
        c.invalid(f"type of input {index}", "a sequence", value.type)
    return value.op.inputs if isinstance(value.op, Construct) else None


def position_of(c: NodeContext, index: int, count: int, default: int | None = None) -> int | None:
    """A constant position, made non-negative; None when it is not known."""
    value = c.input(index)
    if value is None:
        return default
    array = constant_array(value)
    if array is None:
        return None
    at = int(array.reshape(-1)[0])
    return at + count if at < 0 else at


def construct(c: NodeContext, node: OnnxNode) -> Value:
    """A sequence of the inputs."""
    return constructed(c, [c.require(i) for i in range(len(c.inputs))])


def empty(c: NodeContext, node: OnnxNode) -> Value:
    """A sequence of no elements (of f32 unless the node says)."""
    code = node.int("dtype", None)
    dtype = f32 if code is None else element_dtype(code, "attribute 'dtype'", node.location)
    return constructed(c, (), TensorType(dtype, ()))


def at(c: NodeContext, node: OnnxNode) -> Value:
    """One element."""
    items = items_of(c)
    if items is not None:
        position = position_of(c, 1, len(items))
        if position is not None and 0 <= position < len(items):
            return items[position]
    return c.emit("sequence.at", c.require(0), c.tensor(1))


def insert(c: NodeContext, node: OnnxNode) -> Value:
    """A sequence with one element more."""
    items, x = items_of(c), c.require(1)
    if items is not None:
        position = position_of(c, 2, len(items), len(items))
        if position is not None and 0 <= position <= len(items):
            return constructed(c, [*items[:position], x, *items[position:]])
    return c.emit("sequence.insert", c.require(0), x, c.input(2))


def erase(c: NodeContext, node: OnnxNode) -> Value:
    """A sequence with one element less."""
    items = items_of(c)
    if items is not None and len(items) > 1:
        position = position_of(c, 1, len(items), len(items) - 1)
        if position is not None and 0 <= position < len(items):
            return constructed(c, [*items[:position], *items[position + 1 :]])
    return c.emit("sequence.erase", c.require(0), c.input(1))


def length(c: NodeContext, node: OnnxNode) -> Value:
    """The number of elements."""
    items = items_of(c)
    return c.emit("sequence.length", c.require(0)) if items is None else c.scalar(len(items), i64)


def join(c: NodeContext, node: OnnxNode) -> Value:
    """Elements one behind the other, or stacked."""
    items, axis, stack = items_of(c), node.int("axis"), bool(node.int("new_axis", 0))
    if not items:
        return c.emit("sequence.join", c.require(0), axis=axis, new_axis=stack)
    axis = c.axis(axis, items[0].rank + stack)
    if stack:
        items = tuple(c.reshape(v, (*v.shape[:axis], 1, *v.shape[axis:])) for v in items)
    return items[0] if len(items) == 1 else c.emit("concat", *items, axis=axis)


def split(c: NodeContext, node: OnnxNode) -> Value:
    """A sequence of parts along an axis."""
    x, given = c.x, c.input(1)
    axis, keepdims = c.axis(node.int("axis", 0), x.rank), bool(node.int("keepdims", 1))
    extent = x.shape[axis]
    sizes = None if given is None else constant_array(given)
    if not isinstance(extent, int) or (given is not None and sizes is None):
        return c.emit("sequence.split", x, given, axis=axis, keepdims=keepdims or given is not None)
    if sizes is None:
        widths = [1] * extent
    elif sizes.ndim == 0:
        each = max(int(sizes), 1)
        widths = [min(each, extent - start) for start in range(0, extent, each)]
    else:
        widths = sizes.tolist()
    if sum(widths) != extent:
        c.invalid("the sum of the sizes", extent, sum(widths))
    parts, start = [], 0
    for width in widths:
        part = cut(c, x, axis, start, width)
        if given is None and not keepdims:
            part = c.reshape(part, (*x.shape[:axis], *x.shape[axis + 1 :]))
        parts.append(part)
        start += width
    return constructed(c, parts, None if parts else TensorType(x.dtype, x.shape))


def mapped(c: NodeContext, node: OnnxNode) -> Sequence[Value | None]:
    """A body applied to each element; further sequences go along, other values are the same for all."""
    body = node.graph("body")
    operands = [c.require(i) for i in range(len(c.inputs))]
    sequences = [n for n, v in enumerate(operands) if isinstance(v.type, SequenceType)]
    order = [*sequences, *(n for n in range(len(operands)) if n not in sequences)]
    names, values = outer_values(c, body.captures)
    types: list[Type] = []
    for n in range(len(operands)):
        type_ = operands[n].type
        types.append(own_extents(c, type_.element) if isinstance(type_, SequenceType) else type_)
    block = region(c, body, types, names, values)
    moved = [block.args[n] for n in order] + block.args[len(operands) :]
    block.args = moved
    for position, argument in enumerate(moved):
        argument.index = position
    inputs = [*(operands[n] for n in order), *values]
    return c.emit_all("sequence.map", *inputs, sequences=len(sequences), regions=[block])


def own_extents(c: NodeContext, type_: Type) -> Type:
    """An element type whose symbolic extents are a region's own."""
    if isinstance(type_, TensorType):
        return TensorType(type_.dtype, tuple(d if is_static(d) else element_symbol(c) for d in type_.shape))
    return type_


def optional(c: NodeContext, node: OnnxNode) -> Value:
    """A value as an optional one, or none of a type."""
    if c.input(0) is not None:
        return c.emit("optional.some", c.require(0))
    return c.emit("optional.none", element=declared_type(c, node.type("type")))


def declared_type(c: NodeContext, info: TypeInfo) -> Type:
    """The type that an attribute declares; open extents become symbols."""
    from aino_ir.frontends.dimensions import Dimensions
    from aino_ir.frontends.onnx.lower import value_type

    return value_type(info, "attribute 'type'", c.symbols.fresh("element"), Dimensions(c.symbols))


def has_element(c: NodeContext, node: OnnxNode) -> Value:
    """Whether a value is there; known for everything but an optional value from outside."""
    value = c.input(0)
    if value is None:
        return c.scalar(False, boolean)
    if not isinstance(value.type, OptionalType) or isinstance(value.op, Some):
        return c.scalar(True, boolean)
    return c.emit("optional.has", value)


def get_element(c: NodeContext, node: OnnxNode) -> Value:
    """The value of an optional one."""
    value = c.require(0)
    if not isinstance(value.type, OptionalType):
        return value
    return value.op.x if isinstance(value.op, Some) else c.emit("optional.get", value)


TABLE: dict[str, Row] = {
    "ConcatFromSequence": join,
    "Optional": optional,
    "OptionalGetElement": get_element,
    "OptionalHasElement": has_element,
    "SequenceAt": at,
    "SequenceConstruct": construct,
    "SequenceEmpty": empty,
    "SequenceErase": erase,
    "SequenceInsert": insert,
    "SequenceLength": length,
    "SequenceMap": mapped,
    "SplitToSequence": split,
}
