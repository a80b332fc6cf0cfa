"""Access by index: Gather, Scatter and their kin; selection and ordering."""

from __future__ import annotations

from aino_ir.dims import DimLike, product
from aino_ir.dtypes import i64
from aino_ir.frontends.onnx.context import NodeContext, Row
from aino_ir.frontends.onnx.integers import bound, integer, sole
from aino_ir.frontends.onnx.nodes import OnnxNode
from aino_ir.graph import Value


def gather(c: NodeContext, node: OnnxNode) -> Value:
    """Slices of x along an axis."""
    return c.emit("gather", c.x, c.tensor(1), axis=c.axis(node.int("axis", 0), c.x.rank))


def gather_nd(c: NodeContext, node: OnnxNode) -> Value:
    """Elements or slices at coordinates that the last axis of the indices holds."""
    return c.emit("gather_nd", c.x, c.tensor(1), batch_dims=node.int("batch_dims", 0))


def gather_elements(c: NodeContext, node: OnnxNode) -> Value:
    """Elements whose coordinate on one axis is given."""
    return c.emit("gather_elements", c.x, c.tensor(1), axis=c.axis(node.int("axis", 0), c.x.rank))


def scatter_elements(c: NodeContext, node: OnnxNode) -> Value:
    """A copy of x with elements replaced or combined."""
    axis, reduction = c.axis(node.int("axis", 0), c.x.rank), node.str("reduction", "none")
    return c.emit("scatter_elements", c.x, c.tensor(1), c.tensor(2), axis=axis, reduction=reduction)


def scatter_nd(c: NodeContext, node: OnnxNode) -> Value:
    """A copy of x with slices replaced or combined."""
    return c.emit("scatter_nd", c.x, c.tensor(1), c.tensor(2), reduction=node.str("reduction", "none"))


def positions(c: NodeContext, rank: int, axis: int, extent: DimLike) -> Value:
    """0, 1, 2, ... along one axis of a tensor, i64; all other axes have extent 1."""
    line = c.emit("index.range", start=0, size=extent, step=1, dtype=i64)
    return c.reshape(line, [extent if a == axis else 1 for a in range(rank)])


def one_hot_depth(c: NodeContext) -> DimLike:
    """The extent of a one-hot axis: an integer, or a float without a fraction."""
    depth = c.tensor(1)
    whole = sole(c, 1) if depth.dtype.is_integer else integer(c, c.cast(c.scalar_of(1), i64))
    return bound(c, [whole], what="depth")[0]


def one_hot(c: NodeContext, node: OnnxNode) -> Value:
    """off_value everywhere but at the index along a new axis; indices count from the end when negative."""
    indices, values = c.tensor(0), c.tensor(2)
    depth = one_hot_depth(c)
    axis = node.int("axis", -1)
    rank = indices.rank + 1
    axis = c.axis(axis, rank)
    given = c.cast(indices, i64)
    shape = list(given.shape)
    shape.insert(axis, 1)
    size = c.reshape(c.b.dims_vector([depth]), ())
    wrapped = c.emit("select", c.emit("lt", given, c.scalar(0, i64)), c.emit("add", given, size), given)
    hot = c.emit("eq", c.reshape(wrapped, shape), positions(c, rank, axis, depth))
    off = c.emit("gather", values, c.scalar(0, i64))
    on = c.emit("gather", values, c.scalar(1, i64))
    return c.emit("select", hot, on, off)


def top_k(c: NodeContext, node: OnnxNode) -> tuple[Value, ...]:
    """The k largest or smallest along an axis; k is an attribute before operator set 10."""
    axis = c.axis(node.int("axis", -1), c.x.rank)
    k = node.int("k") if c.opset < 10 else bound(c, [sole(c, 1)], 0, c.x.shape[axis], "k")[0]
    return c.emit_all("top_k", c.x, k=k, axis=axis, largest=bool(node.int("largest", 1)))


def trilu(c: NodeContext, node: OnnxNode) -> Value:
    """Zeros below (above) the k-th diagonal of the last two axes."""
    x = c.x
    if x.rank < 2:
        c.invalid("rank", "at least 2", x.rank)
    rows = positions(c, 2, 0, x.shape[-2])
    columns = positions(c, 2, 1, x.shape[-1])
    diagonal = c.tensor(1) if c.input(1) is not None else c.scalar(0, i64)
    edge = c.emit("add", rows, c.reshape(diagonal, ()))
    keep = c.emit("ge" if node.int("upper", 1) else "le", columns, edge)
    return c.emit("select", keep, x, c.scalar(0, x.dtype))


def reverse_sequence(c: NodeContext, node: OnnxNode) -> Value:
    """The first elements of each sequence reversed."""
    time, batch = node.int("time_axis", 0), node.int("batch_axis", 1)
    return c.emit("reverse_sequence", c.x, c.tensor(1), time_axis=time, batch_axis=batch)


def nonzero(c: NodeContext, node: OnnxNode) -> Value:
    """Coordinates of what is not zero."""
    return c.emit("nonzero", c.x)


def compress(c: NodeContext, node: OnnxNode) -> Value:
    """Slices at which a condition holds; without an axis, of the flattened operand."""
    axis = node.int("axis", None)
    if axis is None:
        return c.emit("compress", c.reshape(c.x, [product(c.x.shape)]), c.tensor(1), axis=0)
    return c.emit("compress", c.x, c.tensor(1), axis=c.axis(axis, c.x.rank))


def unique(c: NodeContext, node: OnnxNode) -> tuple[Value, ...]:
    """Distinct elements, or slices of an axis."""
    axis, x = node.int("axis", None), c.x
    if axis is None:
        x, axis = c.reshape(x, [product(x.shape)]), 0
    return c.emit_all("unique", x, axis=c.axis(axis, x.rank), sorted=bool(node.int("sorted", 1)))


def tensor_scatter(c: NodeContext, node: OnnxNode) -> Value:
    """A cache with an update written along an axis, from each item's own position on."""
    cache, update, start = c.tensor(0), c.tensor(1), c.input(2)
    axis = c.axis(node.int("axis", -2), cache.rank)
    line = positions(c, cache.rank, axis, update.shape[axis])
    if start is not None:
        first = c.reshape(c.cast(start, i64), [start.shape[0], *[1] * (cache.rank - 1)])
        line = c.emit("add", line, first)
    if node.str("mode", "linear") == "circular":
        extent = c.reshape(c.b.dims_vector([cache.shape[axis]]), ())
        line = c.emit("mod", line, extent)
    where = c.emit("expand", line, shape=update.shape)
    return c.emit("scatter_elements", cache, where, update, axis=axis)


TABLE: dict[str, Row] = {
    "Compress": compress,
    "Gather": gather,
    "GatherElements": gather_elements,
    "GatherND": gather_nd,
    "NonZero": nonzero,
    "OneHot": one_hot,
    "ReverseSequence": reverse_sequence,
    "Scatter": scatter_elements,
    "ScatterElements": scatter_elements,
    "ScatterND": scatter_nd,
    "TensorScatter": tensor_scatter,
    "TopK": top_k,
    "Trilu": trilu,
    "Unique": unique,
}
