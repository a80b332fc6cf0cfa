"""Constants and generated values: Constant, ConstantOfShape, EyeLike, Range."""

from __future__ import annotations

import numpy as np

from aino_ir.dims import DimLike, ceildiv, dmax, is_static
from aino_ir.dtypes import DTYPES, f32, i64
from aino_ir.errors.onnx import TypeUnsupported
from aino_ir.frontends.onnx.context import NodeContext, Row, constant_array, element_dtype
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
    shape = c.known(0)
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
    begin, end = c.known(0)[0], c.known(1)[0]
    step = c.ints(2)[0]
    if step == 0:
        c.invalid("delta", "not 0", 0)
    size: DimLike = ceildiv(end - begin, step) if step > 0 else ceildiv(begin - end, -step)
    if c.symbols.prove_ge(size, 0) is not True:
        size = dmax(size, 0)
    return c.emit("range", start=begin, size=c.symbols.simplify(size), step=step, dtype=c.x.dtype)


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
