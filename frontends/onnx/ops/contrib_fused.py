"""Fused operators of ONNX Runtime: activations with a bias, products, convolutions, normalisations."""

from __future__ import annotations

from aino_ir.dims import DimLike
from aino_ir.dtypes import i32
from aino_ir.frontends.onnx.context import NodeContext, Row
from aino_ir.frontends.onnx.contrib import activated, added, contrib, times
from aino_ir.frontends.onnx.nodes import OnnxNode
from aino_ir.frontends.onnx.ops.contraction import convolution, gemm
from aino_ir.frontends.onnx.ops.indexing import trilu
from aino_ir.graph import Value

DOMAIN = "com.microsoft"


def gelu(c: NodeContext, node: OnnxNode) -> Value:
    """The exact form."""
    return c.emit("gelu", c.x)


def fast_gelu(c: NodeContext, node: OnnxNode) -> Value:
    """The tanh form of x + bias."""
    return c.emit("gelu", added(c, c.x, c.input(1)), approximate="tanh")


def quick_gelu(c: NodeContext, node: OnnxNode) -> Value:
    """x * sigmoid(alpha x)"""
    return c.emit("silu", c.x, alpha=node.float("alpha", 1.702))


def bias_gelu(c: NodeContext, node: OnnxNode) -> Value:
    """The exact form of a + b."""
    return c.emit("gelu", c.emit("add", c.x, c.tensor(1)))


def bias_split_gelu(c: NodeContext, node: OnnxNode) -> Value:
    """The first half of the last axis of x + bias times the gelu of the second."""
    y = c.emit("add", c.x, c.tensor(1))
    half = c.symbols.simplify(y.shape[-1] // 2)
    first, second = (c.cut(y, y.rank - 1, start, half) for start in (0, half))
    return c.emit("mul", first, c.emit("gelu", second))


def fused_matmul(c: NodeContext, node: OnnxNode) -> Value:
    """alpha * op(A) op(B); with transBatch the first axis of an operand is its row axis."""
    sides = []
    for index, name in enumerate(("transBatchA", "transBatchB")):
        x = c.tensor(index)
        if node.int(name, 0) and x.rank > 2:
            x = c.emit("transpose", x, perm=(*range(1, x.rank - 1), 0, x.rank - 1))
        sides.append(x)
    a, b = sides
    turned = bool(node.int("transA", 0)) and a.rank > 1, bool(node.int("transB", 0)) and b.rank > 1
    rows, columns = a.rank == 1, b.rank == 1
    a = c.reshape(a, (1, *a.shape)) if rows else a
    b = c.reshape(b, (*b.shape, 1)) if columns else b
    y = c.emit("matmul", a, b, transpose_lhs=turned[0], transpose_rhs=turned[1])
    shape: list[DimLike] = list(y.shape)
    if columns:
        del shape[-1]
    if rows:
        del shape[-1 if columns else -2]
    return times(c, c.reshape(y, shape), node.float("alpha", 1.0))


def fused_gemm(c: NodeContext, node: OnnxNode) -> Value:
    """Gemm behind an activation."""
    names = ("activation_alpha", "activation_beta", "activation_gamma")
    return activated(
        c, node.str("activation", ""), gemm(c, node), lambda i, default: node.float(names[i], default)
    )


def fused_conv(c: NodeContext, node: OnnxNode) -> Value:
    """Conv, another tensor added, behind an activation."""
    y = added(c, convolution(c, c.x, c.tensor(1), c.input(2)), c.input(3))
    numbers = node.floats("activation_params", ())

    def parameter(index: int, default: float) -> float:
        return numbers[index] if index < len(numbers) else default

    return activated(c, node.str("activation", ""), y, parameter)


def skip_layer_normalization(c: NodeContext, node: OnnxNode) -> list[Value | None]:
    """Layer normalisation of input + skip + bias, which is the fourth output."""
    x, gamma = added(c, c.emit("add", c.x, c.tensor(1)), c.input(4)), c.tensor(2)
    statistics = c.wants(1) or c.wants(2)
    results = c.emit_all(
        "layer_norm", x, gamma, c.input(3), epsilon=node.float("epsilon", 1e-12), statistics=statistics
    )
    return [*results, *[None] * (3 - len(results)), x]


def skip_simplified_layer_normalization(c: NodeContext, node: OnnxNode) -> list[Value | None]:
    """Division of input + skip + bias, the fourth output, by the root of its mean square."""
    x = added(c, c.emit("add", c.x, c.tensor(1)), c.input(3))
    return [c.emit("rms_norm", x, c.tensor(2), epsilon=node.float("epsilon", 1e-12)), None, None, x]


def embed_layer_normalization(c: NodeContext, node: OnnxNode) -> list[Value | None]:
    """Layer normalisation of the sum of word, position and segment embeddings."""
    ids, segments, words, places = c.tensor(0), c.input(1), c.tensor(2), c.tensor(3)
    total = c.emit("gather", words, ids, axis=0)
    position_ids = c.input(8)
    if position_ids is None:
        rows = c.cut(places, 0, 0, ids.shape[1])
    else:
        rows = c.emit("gather", places, position_ids, axis=0)
    total = c.emit("add", total, rows)
    if segments is not None:
        total = c.emit("add", total, c.emit("gather", c.tensor(4), segments, axis=0))
    y = c.emit("layer_norm", total, c.tensor(5), c.tensor(6), epsilon=node.float("epsilon", 1e-12))
    mask = c.input(7)
    if mask is None or not node.int("mask_index_type", 1):
        lengths = c.filled([ids.shape[0]], 0, i32)
    else:
        lengths = c.emit("reduce.sum", c.cast(c.emit("eq", mask, c.scalar(1, mask.dtype)), i32), axes=(1,))
    return [y, lengths, total]


def unique(c: NodeContext, node: OnnxNode) -> list[Value | None]:
    """Distinct elements in order of their first occurrence, the inverse, and counts."""
    values, _, inverse, counts = c.emit_all("unique", c.x, axis=0, sorted=False)
    return [values, inverse, counts]


def inverse(c: NodeContext, node: OnnxNode) -> Value:
    """Inverses of the matrices in the last two axes."""
    return c.emit("nn.inverse", c.x)


_GEMM = ("alpha", "beta", "transA", "transB")
_CONV = ("auto_pad", "dilations", "group", "kernel_shape", "pads", "strides")

TABLE: dict[str, Row] = {
    "BiasGelu": contrib(bias_gelu),
    "BiasSplitGelu": contrib(bias_split_gelu),
    "EmbedLayerNormalization": contrib(embed_layer_normalization, "epsilon", "mask_index_type"),
    "FastGelu": contrib(fast_gelu),
    "FusedConv": contrib(fused_conv, *_CONV, "activation", "activation_params"),
    "FusedGemm": contrib(
        fused_gemm, *_GEMM, "activation", "activation_alpha", "activation_beta", "activation_gamma"
    ),
    "FusedMatMul": contrib(fused_matmul, "alpha", "transA", "transB", "transBatchA", "transBatchB"),
    "Gelu": contrib(gelu),
    "Inverse": contrib(inverse),
    "QuickGelu": contrib(quick_gelu, "alpha"),
    "SkipLayerNormalization": contrib(skip_layer_normalization, "epsilon"),
    "SkipSimplifiedLayerNormalization": contrib(skip_simplified_layer_normalization, "epsilon"),
    "Trilu": contrib(trilu, "upper"),
    "Unique": contrib(unique),
}
