"""Operators on trial: FlexAttention, whose scores and probabilities subgraphs may change."""

from __future__ import annotations

import math

from aino_ir.dtypes import f32, f64
from aino_ir.frontends.onnx.context import NodeContext, Row, element_dtype
from aino_ir.frontends.onnx.nodes import OnnxNode
from aino_ir.frontends.onnx.ops.movement import exact_quotient
from aino_ir.graph import Value

DOMAIN = "ai.onnx.preview"


def flex_attention(c: NodeContext, node: OnnxNode) -> Value:
    """prob_mod(softmax(score_mod(Q K^T scale))) V, each key and value head serving a group of queries."""
    q, k, v = (c.tensor(i) for i in range(3))
    if not q.rank == k.rank == v.rank == 4:
        c.invalid("ranks of Q, K and V", 4, (q.rank, k.rank, v.rank))
    code = node.int("softmax_precision", None)
    default = f64 if q.dtype is f64 else f32
    wide = default if code is None else element_dtype(code, "attribute 'softmax_precision'", node.location)
    factor = node.float("scale", None)
    if factor is None and not isinstance(q.shape[3], int):
        c.unsupported("a symbolic head size and no scale")
    factor = 1.0 / math.sqrt(int(q.shape[3])) if factor is None else factor
    keys, values = heads_of(c, k, q), heads_of(c, v, q)
    scores = c.emit("matmul", c.cast(q, wide), c.cast(keys, wide), transpose_rhs=True)
    scores = modified(c, node, "score_mod", c.emit("mul", scores, c.scalar(factor, wide)))
    shares = modified(c, node, "prob_mod", c.emit("softmax", scores, axis=3))
    return c.cast(c.emit("matmul", shares, c.cast(values, wide)), q.dtype)


def heads_of(c: NodeContext, x: Value, like: Value) -> Value:
    """x with each head repeated, so that it has as many as the queries."""
    heads, wanted = x.shape[1], like.shape[1]
    if c.symbols.prove_eq(heads, wanted):
        return x
    group = exact_quotient(c, wanted, heads)
    batch, _, length, size = x.shape
    apart = c.reshape(x, (batch, heads, 1, length, size))
    return c.reshape(
        c.emit("expand", apart, shape=(batch, heads, group, length, size)), (batch, wanted, length, size)
    )


def modified(c: NodeContext, node: OnnxNode, name: str, x: Value) -> Value:
    """What a subgraph of one input and one output makes of x (x itself without the subgraph)."""
    graph = node.graph(name, None)
    if graph is None:
        return x
    if len(graph.inputs) != 1 or len(graph.outputs) != 1:
        c.invalid(f"{name}", "a graph of one input and one output", (len(graph.inputs), len(graph.outputs)))
    values = {captured: c.graph.value(captured) for captured in graph.captures}
    (y,) = c.graph.nested(c.b, graph, {**values, graph.inputs[0].name: x})
    if y.dtype is not x.dtype or y.rank != x.rank:
        c.invalid(f"type of the output of {name}", x.type, y.type)
    for axis, (a, b) in enumerate(zip(x.shape, y.shape, strict=True)):
        c.symbols.assume_eq(a, b, f"{node.operator}: axis {axis} of {name}")
    return y


TABLE: dict[str, Row] = {"FlexAttention": flex_attention}
