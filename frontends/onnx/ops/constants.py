"""Constants and generated values: Constant, ConstantOfShape, EyeLike, Range."""

from __future__ import annotations

import numpy as np

from aino_ir.dims import is_static
from aino_ir.dtypes import DTYPES, f32, i64
from aino_ir.errors.onnx import TypeUnsupported
from aino_ir.frontends.onnx.context import NodeContext, Row, constant_array, element_dtype
from aino_ir.frontends.onnx.integers import Integer, bound, extents, integer, sole
from aino_ir.frontends.onnx.names import quote
from aino_ir.frontends.onnx.nodes import OnnxNode
from aino_ir.graph import Value
from aino_ir.infer import SIZE_LIMIT


def constant(c: NodeContext, node: OnnxNode) -> Value:
    """The one attribute that is given says the value."""
    given = next((name for name in node.attributes if name.startswith(("value", "sparse_value"))), None)
    if given is None:
        c.invalid("attributes", "one of value, value_float, ...", "none")
    if given in ("value", "sparse_value"):
        tensor = node.tensor(given) if given == "value" else node.sparse_tensor(given)
        return c.graph.constant(tensor, node.outputs[0])
    if given in ("value_float", "value_floats"):
        numbers = node.float(given) if given == "value_float" else node.floats(given)
        return c.b.constant(np.asarray(numbers, np.float32))
    if given in ("value_int", "value_ints"):
        return c.b.constant(
            np.asarray(node.int(given) if given == "value_int" else node.ints(given), np.int64)
        )
    texts = (node.str(given),) if given == "value_string" else node.strs(given)
    return c.emit("string_constant", values=texts, shape=() if given == "value_string" else (len(texts),))


def constant_of_shape(c: NodeContext, node: OnnxNode) -> Value:
    """A tensor of one value, f32 zero by default."""
    shape = extents(c, 0)
    if any(is_static(d) and d < 0 for d in shape):
        c.invalid("shape", "without negative extents", list(shape))
    size = 1
    for d in shape:
        size *= max(int(d), 1) if is_static(d) else 1  # type: ignore[arg-type]
    if size > SIZE_LIMIT:
        c.invalid("number of elements", f"at most {SIZE_LIMIT}", size)
    tensor = node.tensor("value", None)
    if tensor is None:
        return c.filled(shape, 0.0, f32)
    if tensor.dtype not in DTYPES or tensor.size != 1:
        raise TypeUnsupported(loc=node.location, what=f"attribute {quote('value')}", got=tensor)
    return c.filled(shape, tensor.array().reshape(-1)[0], DTYPES[tensor.dtype])


def range_(c: NodeContext, node: OnnxNode) -> Value:
    """start, start + delta, ... before limit: a constant, or positions up to an extent."""
    arrays = [constant_array(c.tensor(i)) for i in range(3)]
    if all(a is not None for a in arrays):
        start, limit, delta = (a.reshape(-1)[0] for a in arrays if a is not None)
        count = max(int(np.ceil((limit - start) / delta)), 0) if delta else c.invalid("delta", "not 0", 0)
        steps = np.arange(count)
        return c.b.constant((start + steps.astype(arrays[0].dtype) * delta).astype(arrays[0].dtype))  # type: ignore[union-attr]
    if c.x.dtype.is_float:
        return float_range(c)
    begin, end, step = sole(c, 0), sole(c, 1), sole(c, 2)
    if step.static == 0:
        c.invalid("delta", "not 0", 0)
    turns = (end - begin).ceildiv(step) if step.static is None else distance(begin, end, step.static)
    (size,) = bound(c, [turns.max(0)], what="the number of elements")
    if begin.known is not None and step.static is not None:
        return c.emit("range", start=begin.known, size=size, step=step.static, dtype=c.x.dtype)
    line = c.emit("range", start=0, size=size, step=1, dtype=c.x.dtype)
    return c.emit("add", c.emit("mul", line, c.scalar_of(2)), c.scalar_of(0))


def distance(begin: Integer, end: Integer, step: int) -> Integer:
    """How many steps lead from begin up to end."""
    return (end - begin).ceildiv(step) if step > 0 else (begin - end).ceildiv(-step)


def float_range(c: NodeContext) -> Value:
    """A range of floats: the run computes their number, too."""
    start, limit, delta = (c.scalar_of(i) for i in range(3))
    count = c.emit("ceil", c.emit("div", c.emit("sub", limit, start), delta))
    number = integer(c, c.cast(count, i64)).max(0)
    (size,) = bound(c, [number], what="the number of elements")
    line = c.emit("range", start=0, size=size, step=1, dtype=c.x.dtype)
    return c.emit("add", c.emit("mul", line, delta), start)


def eye_like(c: NodeContext, node: OnnxNode) -> Value:
    """Ones on the k-th diagonal."""
    x = c.x
    code = node.int("dtype", None)
    dtype = x.dtype if code is None else element_dtype(code, "attribute 'dtype'", node.location)
    if x.rank != 2:
        c.invalid("rank", 2, x.rank)
    rows = c.emit("range", start=0, size=x.shape[0], step=1, dtype=i64)
    columns = c.emit("range", start=0, size=x.shape[1], step=1, dtype=i64)
    shifted = c.emit("add", rows, c.scalar(node.int("k", 0), i64))
    return c.cast(c.emit("eq", c.reshape(shifted, (x.shape[0], 1)), columns), dtype)


TABLE: dict[str, Row] = {
    "Constant": constant,
    "ConstantOfShape": constant_of_shape,
    "EyeLike": eye_like,
    "Range": range_,
}
