"""Distances between rows, bilinear forms, sums of embeddings, and folding of windows into planes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from aino_ir.dims import DimLike, is_static
from aino_ir.dtypes import i64
from aino_ir.frontends.torch.context import NodeContext, Operand, Row
from aino_ir.frontends.torch.ops.contraction import added, numbers
from aino_ir.frontends.torch.ops.indexing import neutral
from aino_ir.graph import Value


def norm(c: NodeContext, x: Value, p: float, axis: int) -> Value:
    """The p-norm along an axis."""
    if p in (1, 2):
        return c.emit("reduce.l1" if p == 1 else "reduce.l2", x, axes=(axis,))
    size = c.emit("abs", x)
    if math.isinf(p):
        return c.emit("reduce.max", size, axes=(axis,))
    if p == 0:
        return c.emit("reduce.sum", c.cast(c.emit("ne", x, c.scalar(0, x.dtype)), x.dtype), axes=(axis,))
    total = c.emit("reduce.sum", c.emit("pow", size, c.scalar(p, x.dtype)), axes=(axis,))
    nothing = c.emit("eq", total, c.scalar(0, x.dtype))  # where the root has no derivative
    some = c.emit("select", nothing, c.scalar(1, x.dtype), total)
    root = c.emit("pow", some, c.scalar(1 / p, x.dtype))
    return c.emit("select", nothing, c.scalar(0, x.dtype), root)


def pairwise(c: NodeContext, x1: Value, x2: Value, p: float, compute_mode: int | None = None) -> Value:
    """Distances of all rows of one matrix from all rows of another."""
    a = c.reshape(x1, (*x1.shape[:-1], 1, x1.shape[-1]))
    b = c.reshape(x2, (*x2.shape[:-2], 1, *x2.shape[-2:]))
    apart = c.emit("sub", a, b)
    if is_static(apart.shape[-1]) and apart.shape[-1] == 0:
        return c.filled(c.shape, 0, c.dtype)
    return norm(c, apart, p, apart.rank - 1)


def condensed(c: NodeContext, x: Value, p: float = 2.0) -> Value:
    """Distances of the rows of a matrix from each other, each pair once."""
    rows = x.shape[0]
    if not is_static(rows):
        c.unsupported("a symbolic number of rows")
    first, second = np.triu_indices(int(rows), 1)
    a, b = (c.emit("gather", x, c.b.constant(n.astype(np.int64)), axis=0) for n in (first, second))
    return norm(c, c.emit("sub", a, b), p, 1)


def trilinear(
    c: NodeContext,
    i1: Value,
    i2: Value,
    i3: Value,
    expand1: Sequence[int],
    expand2: Sequence[int],
    expand3: Sequence[int],
    sumdim: Sequence[int],
    unroll_dim: int = 1,
) -> Value:
    """The product of three tensors with new axes, summed over some."""
    wide = []
    for value, new in ((i1, expand1), (i2, expand2), (i3, expand3)):
        shape = list(value.shape)
        for axis in sorted(new):
            shape.insert(axis, 1)
        wide.append(c.reshape(value, shape))
    product = c.emit("mul", c.emit("mul", wide[0], wide[2]), wide[1])
    return c.emit("reduce.sum", product, axes=tuple(sumdim)) if sumdim else product


def addbmm(
    c: NodeContext, x: Value, batch1: Value, batch2: Value, beta: Operand = 1, alpha: Operand = 1
) -> Value:
    """beta * x + alpha * the sum of the products of a batch of matrices"""
    return added(c, c.emit("reduce.sum", c.emit("matmul", batch1, batch2), axes=(0,)), x, beta, alpha)


SUM, MEAN, MAX = 0, 1, 2
"""How embeddings of a bag are combined."""


def embedding_bag(
    c: NodeContext,
    weight: Value,
    indices: Value,
    offsets: Value,
    scale_grad_by_freq: bool = False,
    mode: int = 0,
    sparse: bool = False,
    per_sample_weights: Value | None = None,
    include_last_offset: bool = False,
    padding_idx: int = -1,
) -> list[Value | None]:
    """Rows of a table, combined by bags; a bag begins at each offset.  Empty bags are zero."""
    if c.wants(3) and mode == MAX:
        c.unsupported("the positions of the largest elements")
    count, size = c.shape[0], indices.shape[0]
    bags = _bags(c, offsets, count, size)
    rows = c.emit("gather", weight, indices, axis=0)
    counted = c.filled((size,), 1, i64)
    if padding_idx >= 0:
        kept = c.emit("ne", c.cast(indices, i64), c.scalar(padding_idx, i64))
        counted = c.cast(kept, i64)
        idle = neutral(c, rows, "max") if mode == MAX else 0
        rows = c.emit("select", c.reshape(kept, (size, 1)), rows, c.scalar(idle, rows.dtype))
    if per_sample_weights is not None:
        rows = c.emit("mul", rows, c.reshape(per_sample_weights, (size, 1)))
    places = c.reshape(bags, (size, 1))
    sizes = c.emit("scatter_nd", c.filled((count,), 0, i64), places, counted, reduction="add")
    start = neutral(c, rows, "max") if mode == MAX else 0
    first = c.filled((count, weight.shape[1]), start, rows.dtype)
    y = c.emit("scatter_nd", first, places, rows, reduction="max" if mode == MAX else "add")
    wide = c.reshape(sizes, (count, 1))
    if mode == MEAN:
        y = c.emit("div", y, c.cast(c.emit("max", wide, c.scalar(1, i64)), y.dtype))
    if mode == MAX:
        y = c.emit("select", c.emit("gt", wide, c.scalar(0, i64)), y, c.scalar(0, y.dtype))
    return [y, *_bag_facts(c, bags, sizes)]


def _bags(c: NodeContext, offsets: Value, count: DimLike, size: DimLike) -> Value:
    """The bag of each of `size` indices: how many of the `count` bags begin before it."""
    starts = c.cast(c.cut(offsets, 0, 0, count), i64)
    before = c.emit("le", c.reshape(starts, (1, count)), c.positions(size, 2, 0))
    return c.emit("sub", c.emit("reduce.sum", c.cast(before, i64), axes=(1,)), c.scalar(1, i64))


def _bag_facts(c: NodeContext, bags: Value, sizes: Value) -> list[Value | None]:
    """What torch keeps for the gradient, where somebody reads it and it can be said: the bag of each index,
    the sizes of bags (in place of the largest elements, too, where those are not kept).
    """
    out: list[Value | None] = []
    for index, value in ((1, bags), (2, sizes), (3, sizes)):
        unread = tuple(c.shape_of(index)) == (0,)  # torch keeps nothing
        fact = c.filled((0,), 0, i64) if unread else value
        fits = c.wants(index) and tuple(fact.shape) == c.shape_of(index)
        out.append(c.cast(fact, c.dtype_of(index)) if fits else None)
    return out


def embedding_bag_backward(
    c: NodeContext,
    grad: Value,
    indices: Value,
    offsets: Value,
    offset2bag: Value,
    bag_size: Value,
    maximum_indices: Value,
    num_weights: DimLike,
    scale_grad_by_freq: bool,
    mode: int,
    sparse: bool,
    per_sample_weights: Value | None,
    padding_idx: int = -1,
) -> Value:
    """The table's gradient: each index gets that of its bag, or its share of it."""
    if sparse or scale_grad_by_freq:
        c.unsupported("sparse gradients" if sparse else "gradients by frequency")
    count, width = grad.shape
    size = indices.shape[0]
    zeros = c.filled((num_weights, width), 0, grad.dtype)
    if mode == MAX:
        filled = c.emit("gt", c.reshape(c.cast(bag_size, i64), (count, 1)), c.scalar(0, i64))
        updates = c.emit("select", filled, grad, c.scalar(0, grad.dtype))
        places = c.emit("max", c.cast(maximum_indices, i64), c.scalar(0, i64))
        return c.emit("scatter_elements", zeros, places, updates, reduction="add", axis=0)
    if mode == MEAN:
        sizes = c.emit("max", c.reshape(c.cast(bag_size, i64), (count, 1)), c.scalar(1, i64))
        grad = c.emit("div", grad, c.cast(sizes, grad.dtype))
    rows = c.emit("gather", grad, _bags(c, offsets, count, size), axis=0)
    if per_sample_weights is not None:
        rows = c.emit("mul", rows, c.reshape(per_sample_weights, (size, 1)))
    if padding_idx >= 0:
        kept = c.emit("ne", c.cast(indices, i64), c.scalar(padding_idx, i64))
        rows = c.emit("select", c.reshape(kept, (size, 1)), rows, c.scalar(0, rows.dtype))
    return c.emit("scatter_nd", zeros, c.reshape(c.cast(indices, i64), (size, 1)), rows, reduction="add")


def fold(
    c: NodeContext,
    x: Value,
    output_size: Sequence[DimLike],
    kernel_size: Sequence[int],
    dilation: Sequence[int],
    padding: Sequence[int],
    stride: Sequence[int],
) -> Value:
    """Sums of windows put back into a plane: a transposed convolution with one weight a tap."""
    batched = x.rank == 3
    wide = x if batched else c.reshape(x, (1, *x.shape))
    kernel, out = numbers(c, kernel_size, 2, "kernel"), numbers(c, output_size, 2, "output size")
    strides, pads = numbers(c, stride, 2, "stride"), numbers(c, padding, 2, "padding")
    dilations = numbers(c, dilation, 2, "dilation")
    taps = kernel[0] * kernel[1]
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    counts = [(o + 2 * p - n) // s + 1 for o, p, n, s in zip(out, pads, spans, strides, strict=True)]
    extra = [
        o + 2 * p - (n - 1) * s - span
        for o, p, n, s, span in zip(out, pads, counts, strides, spans, strict=True)
    ]
    channels = c.symbols.simplify(wide.shape[1] // taps)
    planes = c.reshape(wide, (wide.shape[0] * channels, taps, *counts))
    weights = np.eye(taps, dtype=np.float64).reshape(taps, 1, *kernel)
    y = c.emit(
        "conv_transpose",
        planes,
        c.b.constant(weights.astype(x.dtype.numpy)),
        None,
        strides=strides,
        dilations=dilations,
        pads_before=pads,
        pads_after=pads,
        output_padding=extra,
        groups=1,
    )
    return c.reshape(y, c.shape)


TABLE: dict[str, Row] = {
    "aten._cdist_forward": pairwise,
    "aten._embedding_bag": embedding_bag,
    "aten._embedding_bag_backward": embedding_bag_backward,
    "aten._embedding_bag_forward_only": embedding_bag,
    "aten._pdist_forward": condensed,
    "aten._trilinear": trilinear,
    "aten.addbmm.default": addbmm,
    "aten.col2im": fold,
}
