"""Contractions, pooling and attention."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from aino_ir.dims import is_static, product
from aino_ir.dtypes import f16, f32, f64, i64
from aino_ir.frontends.onnx.export.writer import Exporter, GraphWriter, Ref, Row


def matmul(g: GraphWriter, op: Any) -> Ref:
    """numpy.matmul, transposed operands by a node of their own."""
    sides = []
    for value, turned in ((op.lhs, op.transpose_lhs), (op.rhs, op.transpose_rhs)):
        order = list(range(value.rank))
        if turned:
            order[-2:] = order[-1], order[-2]
        sides.append(g.transpose(g.of(value), order))
    return g.node("MatMul", *sides)


def geometry(op: Any) -> dict[str, Any]:
    """Strides, dilations and pads as ONNX's attributes."""
    return {
        "strides": list(op.strides),
        "dilations": list(op.dilations),
        "pads": [*op.pads_before, *op.pads_after],
    }


def conv(g: GraphWriter, op: Any) -> Ref:
    """Convolution; ONNX has it for floats, integers are a sum of products over the taps."""
    if not op.x.dtype.is_float:
        return integer_conv(g, op)
    operands = g.of(op.x), g.of(op.w), g.optional(op.bias)
    return g.node("Conv", *operands, group=op.groups, **geometry(op))


def integer_conv(g: GraphWriter, op: Any) -> Ref:
    """sum over taps of w[:, :, tap] x[:, :, where the tap reads], exact in the op's own integers."""
    x, w, rank = g.of(op.x), g.of(op.w), op.x.rank
    shape, kernel = op.result.shape, op.w.shape[2:]
    if not all(is_static(k) for k in kernel) or product(kernel) > 512:
        g.refuse("it convolves integers with a kernel of symbolic or very many taps")
    if not all(is_static(d) for d in shape[2:]):
        g.refuse("it convolves integers of symbolic spatial extents")
    axes, spatial = g.vector(range(2, rank)), [int(d) for d in shape[2:]]
    if any(op.pads_before) or any(op.pads_after):
        x = g.node("Pad", x, g.vector([0, 0, *op.pads_before, 0, 0, *op.pads_after]))
    n, oc, groups = shape[0], shape[1], op.groups
    each_in = op.w.shape[1]
    total: Ref | None = None
    for tap in itertools.product(*(range(int(k)) for k in kernel)):
        starts = [t * d for t, d in zip(tap, op.dilations, strict=True)]
        ends = [s + (o - 1) * e + 1 for s, o, e in zip(starts, spatial, op.strides, strict=True)]
        part = g.node("Slice", x, g.vector(starts), g.vector(ends), axes, g.vector(op.strides))
        flat = g.reshape(part, (n, groups, each_in, product(spatial)))
        taps = [g.vector([*map(int, v)]) for v in (tap, [t + 1 for t in tap])]
        weights = g.reshape(g.node("Slice", w, *taps, axes), (1, groups, oc // groups, each_in))
        term = g.node("MatMul", weights, flat)
        total = term if total is None else g.node("Add", total, term)
    assert total is not None
    y = g.reshape(total, shape)
    if op.bias is None:
        return y
    return g.node("Add", y, g.reshape(g.of(op.bias), [-1, *[1] * (rank - 2)]))


def conv_transpose(g: GraphWriter, op: Any) -> Ref:
    """Transposed convolution."""
    operands = g.of(op.x), g.of(op.w), g.optional(op.bias)
    extra = list(op.output_padding) if any(op.output_padding) else None
    return g.node("ConvTranspose", *operands, group=op.groups, output_padding=extra, **geometry(op))


def pool(kind: str) -> Exporter:
    """A row for pooling with one result."""
    return lambda g, op: g.node(kind, g.of(op.x), **window(op))


def window(op: Any) -> dict[str, Any]:
    """The window of a pool as ONNX's attributes; rounding up is left out where it makes no difference."""
    up = op.ceil_mode and not all(
        is_static(d) and is_static(o) and (d + b + a - (k - 1) * t - 1) // s + 1 == o
        for d, o, k, s, t, b, a in zip(
            op.x.shape[2:],
            op.results[0].shape[2:],
            op.kernel,
            op.strides,
            op.dilations,
            op.pads_before,
            op.pads_after,
            strict=True,
        )
    )
    return {"kernel_shape": list(op.kernel), "ceil_mode": int(up), **geometry(op)}


def avg_pool(g: GraphWriter, op: Any) -> Ref:
    """Means of windows."""
    return g.node("AveragePool", g.of(op.x), count_include_pad=int(op.count_include_pad), **window(op))


def lp_pool(g: GraphWriter, op: Any) -> Ref:
    """Norms of windows."""
    return g.node("LpPool", g.of(op.x), p=op.p, **window(op))


def max_pool_indices(g: GraphWriter, op: Any) -> Sequence[Ref]:
    """Maxima of windows and where they stand."""
    x = g.of(op.x)
    order = int(op.column_major)
    return g.nodes_of("MaxPool", x, dtypes=[x.dtype, i64], storage_order=order, **window(op))


def einsum(g: GraphWriter, op: Any) -> Ref:
    """Einstein's notation."""
    return g.node("Einsum", *[g.of(v) for v in op.inputs], equation=op.equation)


def attention(g: GraphWriter, op: Any) -> Ref:
    """softmax(scale q k^T + bias) v, written out; heads that share keys form a group."""
    q, k, v = g.of(op.q), g.of(op.k), g.of(op.v)
    batch, heads, queries, width = op.q.shape
    kv_heads, keys, value_width = op.k.shape[1], op.k.shape[2], op.v.shape[3]
    grouped = not g.proves(heads, kv_heads)
    each = g.symbols.simplify(heads // kv_heads)
    if grouped:
        q = g.reshape(q, (batch, kv_heads, each, queries, width))
        k, v = g.unsqueeze(k, 2), g.unsqueeze(v, 2)
    order = list(range(5 if grouped else 4))
    order[-2:] = order[-1], order[-2]
    scores = g.node("MatMul", q, g.transpose(k, order))
    if grouped:
        scores = g.reshape(scores, (batch, heads, queries, keys))
    if op.scale != 1.0:
        scores = g.node("Mul", scores, g.scalar(op.scale, scores))
    if op.bias is not None:
        scores = g.node("Add", scores, g.of(op.bias))
    if op.causal:
        scores = g.node(
            "Where",
            visible(g, queries, keys, op.offset),
            scores,
            g.scalar(-float("inf"), scores),
            dtype=scores.dtype,
        )
    weights = g.node("Softmax", scores, axis=-1)
    if op.masked_rows_zero:
        seen = g.node("ReduceMax", scores, g.vector([-1]), keepdims=1)
        nothing = g.node("Equal", seen, g.scalar(-float("inf"), scores))
        weights = g.node("Where", nothing, g.scalar(0, scores), weights, dtype=scores.dtype)
    if grouped:
        weights = g.reshape(weights, (batch, kv_heads, each, queries, keys))
    y = g.node("MatMul", weights, v)
    return g.reshape(y, (batch, heads, queries, value_width)) if grouped else y


def visible(g: GraphWriter, queries: Any, keys: Any, offset: Any) -> Ref:
    """Which keys each query sees: those up to its position plus the offset."""
    zero, one = g.scalar(0, i64), g.scalar(1, i64)
    rows = g.node("Add", g.node("Range", zero, g.number(queries), one), g.number(offset))
    return g.node("LessOrEqual", g.node("Range", zero, g.number(keys), one), g.unsqueeze(rows, 1))


def inverse(g: GraphWriter, op: Any) -> Ref:
    """Inverses by ONNX Runtime's own operator, since ONNX has none."""
    dtype = op.x.dtype if op.x.dtype in (f16, f32, f64) else f32
    y = g.foreign("Inverse", "com.microsoft", 1, g.cast(g.of(op.x), dtype), dtype=dtype)
    return g.cast(y, op.x.dtype)


TABLE: dict[str, Row] = {
    "nn.attention": attention,
    "nn.avg_pool": avg_pool,
    "nn.conv": conv,
    "nn.conv_transpose": conv_transpose,
    "nn.determinant": "Det",
    "nn.einsum": einsum,
    "nn.inverse": inverse,
    "nn.lp_pool": lp_pool,
    "nn.matmul": matmul,
    "nn.max_pool": pool("MaxPool"),
    "nn.max_pool_indices": max_pool_indices,
}
