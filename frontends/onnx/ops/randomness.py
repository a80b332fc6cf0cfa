"""Random numbers: RandomUniform, RandomNormal, Bernoulli, Multinomial, and Dropout while training.

A node with a `seed` draws the numbers of that seed.  One without is given the seed of its place in the
model.  Either way a node draws the same numbers in every run of a model, on every target and with any
number of threads; ONNX leaves open which they are.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence

from aino_ir.dims import DimLike
from aino_ir.dtypes import DType, boolean, f32, f64, i64, u64
from aino_ir.frontends.floats import Number
from aino_ir.frontends.onnx.context import NodeContext, Row, constant_array, element_dtype
from aino_ir.frontends.onnx.nodes import OnnxNode
from aino_ir.graph import Value

TURN = 6.283185307179586


def seed_of(node: OnnxNode) -> int:
    """The seed that a node has, or that its place gives it."""
    given = node.attributes.get("seed")
    if given is None:
        place = f"{node.scope}/{node.index}/{node.op_type}/{'/'.join(node.outputs)}"
        return zlib.crc32(place.encode())
    if isinstance(given.value, int):
        return given.value
    (bits,) = struct.unpack("<q", struct.pack("<d", given.value))
    return int(bits)


def uniform(c: NodeContext, shape: Sequence[DimLike], dtype: DType, seed: int, offset: int = 0) -> Number:
    """Numbers in [0, 1), equally spaced: 53 bits in f64, 24 in f32."""
    bits = c.emit("random.bits", shape=tuple(shape), seed=seed, offset=offset)
    kept = 53 if dtype is f64 else 24
    high = c.emit("shift_right", bits, c.scalar(64 - kept, u64))
    return Number(c, c.cast(high, dtype)) * 2.0**-kept


def normal(c: NodeContext, shape: Sequence[DimLike], dtype: DType, seed: int) -> Number:
    """Numbers of the standard normal distribution, by the transform of Box and Muller."""
    radius = ((uniform(c, shape, dtype, seed, 0) * -1.0 + 1.0).map("log") * -2.0).map("sqrt")
    return radius * (uniform(c, shape, dtype, seed, 1) * TURN).map("cos")


def _drawn(c: NodeContext, node: OnnxNode, shape: Sequence[DimLike], dtype: DType) -> Value:
    """Numbers of the node's distribution in a dtype; those below f64 are drawn in f32."""
    if not dtype.is_float:
        c.invalid("dtype", "a float", dtype)
    drawn = f64 if dtype is f64 else f32
    if "Normal" in node.op_type:
        number = normal(c, shape, drawn, seed_of(node))
        number = number * node.float("scale", 1.0) + node.float("mean", 0.0)
    else:
        low, high = node.float("low", 0.0), node.float("high", 1.0)
        number = uniform(c, shape, drawn, seed_of(node)) * (high - low) + low
    return c.cast(number.value, dtype)


def of_shape(c: NodeContext, node: OnnxNode) -> Value:
    """Random numbers in the shape that an attribute gives."""
    dtype = element_dtype(node.int("dtype", 1), "attribute 'dtype'", node.location)
    return _drawn(c, node, node.ints("shape"), dtype)


def like(c: NodeContext, node: OnnxNode) -> Value:
    """Random numbers in the shape of the input, and in its dtype unless the node says."""
    code = node.int("dtype", None)
    dtype = c.x.dtype if code is None else element_dtype(code, "attribute 'dtype'", node.location)
    return _drawn(c, node, c.x.shape, dtype)


def bernoulli(c: NodeContext, node: OnnxNode) -> Value:
    """1 with the probability that the input says, else 0."""
    code, x = node.int("dtype", None), c.x
    dtype = x.dtype if code is None else element_dtype(code, "attribute 'dtype'", node.location)
    drawn = f64 if x.dtype is f64 else f32
    hit = uniform(c, x.shape, drawn, seed_of(node)) < Number(c, c.cast(x, drawn))
    return c.cast(hit.value, dtype)


def multinomial(c: NodeContext, node: OnnxNode) -> Value:
    """Classes [batch, samples] drawn by unnormalised log-probabilities [batch, classes]."""
    x, count = c.x, node.int("sample_size", 1)
    dtype = element_dtype(node.int("dtype", 6), "attribute 'dtype'", node.location)
    if x.rank != 2 or count < 1:
        c.invalid("rank of the input and sample_size", "2, and at least 1", (x.rank, count))
    drawn = f64 if x.dtype is f64 else f32
    shares = c.emit("softmax", c.cast(x, drawn), axis=1)
    edges = c.reshape(c.emit("cumsum", shares, axis=1), (x.shape[0], 1, x.shape[1]))
    dice = uniform(c, (x.shape[0], count, 1), drawn, seed_of(node))
    passed = c.cast((Number(c, edges) <= dice).value, i64)
    chosen = c.emit("reduce.sum", passed, axes=(2,), keepdims=False)
    last = c.reshape(c.b.dims_vector([x.shape[1] - 1]), ())
    return c.cast(c.emit("min", chosen, last), dtype)


def dropout(c: NodeContext, node: OnnxNode) -> list[Value | None]:
    """The operand itself, but while training: then elements are dropped, and the others scaled up."""
    mask_dtype = boolean if c.opset >= 10 else c.x.dtype
    training = c.input(2) if c.opset >= 12 else None
    flag = None if training is None else constant_array(training)
    ratio = c.input(1) if c.opset >= 12 else None
    known = None if ratio is None else constant_array(ratio)
    never = training is None or (flag is not None and not flag.reshape(-1)[0])
    if never or (known is not None and known.reshape(-1)[0] == 0):
        return [c.x, c.filled(c.x.shape, True, mask_dtype) if c.wants(1) else None]
    assert training is not None
    drawn = f64 if c.x.dtype is f64 else f32
    share = Number(c, c.scalar(0.5, drawn) if ratio is None else c.cast(c.scalar_of(1), drawn))
    kept = (uniform(c, c.x.shape, drawn, seed_of(node)) >= share).value
    scaled = Number(c, c.cast(c.x, drawn)) * Number(c, c.cast(kept, drawn)) / (share * -1.0 + 1.0)
    y = c.cast(scaled.value, c.x.dtype)
    if flag is None:
        idle = c.emit("logical_not", c.scalar_of(2))
        kept = c.emit("logical_or", kept, idle)
        y = c.emit("select", idle, c.x, y)
    return [y, c.cast(kept, mask_dtype)]


TABLE: dict[str, Row] = {
    "Bernoulli": bernoulli,
    "Dropout": dropout,
    "Multinomial": multinomial,
    "RandomNormal": of_shape,
    "RandomNormalLike": like,
    "RandomUniform": of_shape,
    "RandomUniformLike": like,
}
