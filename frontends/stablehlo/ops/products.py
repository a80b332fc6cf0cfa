"""Contractions and convolutions."""

from __future__ import annotations

from aino_ir.dims import product
from aino_ir.frontends.stablehlo.context import OpContext, Row
from aino_ir.frontends.stablehlo.ops.indexing import numbers_of
from aino_ir.frontends.stablehlo.ops.movement import reversed_along, spaced
from aino_ir.graph import Value


def dot_general(c: OpContext, a: Value, b: Value) -> Value:
    """A contraction as a product of stacks of matrices: [batch, rows, inner] x [batch, inner, columns]."""
    numbers = numbers_of(c, "dot_dimension_numbers", "DotDimensionNumbers")
    batch = list(numbers.lhs_batching_dimensions), list(numbers.rhs_batching_dimensions)
    inner = list(numbers.lhs_contracting_dimensions), list(numbers.rhs_contracting_dimensions)
    a, b = c.cast(a, c.dtype), c.cast(b, c.dtype)
    rows = [n for n in range(a.rank) if n not in (*batch[0], *inner[0])]
    columns = [n for n in range(b.rank) if n not in (*batch[1], *inner[1])]
    stack, high, wide = ([x.shape[n] for n in axes] for x, axes in ((a, batch[0]), (a, rows), (b, columns)))
    depth, height, width = (product(dims) for dims in ([a.shape[n] for n in inner[0]], high, wide))
    left = c.reshape(c.permuted(a, [*batch[0], *rows, *inner[0]]), (*stack, height, depth))
    right = c.reshape(c.permuted(b, [*batch[1], *inner[1], *columns]), (*stack, depth, width))
    return c.reshape(c.emit("matmul", left, right), (*stack, *high, *wide))


def convolution(c: OpContext, x: Value, w: Value) -> Value:
    """A convolution of any axis order; one of a spread operand is a transposed convolution."""
    numbers = numbers_of(c, "dimension_numbers", "ConvDimensionNumbers")
    x, w = c.cast(x, c.dtype), c.cast(w, c.dtype)
    x = c.permuted(
        x,
        [numbers.input_batch_dimension, numbers.input_feature_dimension, *numbers.input_spatial_dimensions],
    )
    w = c.permuted(
        w,
        [
            numbers.kernel_output_feature_dimension,
            numbers.kernel_input_feature_dimension,
            *numbers.kernel_spatial_dimensions,
        ],
    )
    spatial = x.rank - 2
    ones = [1] * spatial
    strides, dilations = c.integers("window_strides", ones), c.integers("rhs_dilation", ones)
    spread, pads = c.integers("lhs_dilation", ones), c.matrix("padding", spatial)
    groups = c.integer("feature_group_count", 1)
    batches = c.integer("batch_group_count", 1)
    if batches != 1:  # pictures of a group meet their own share of the kernels, as groups of channels do
        count, *rest = c.extents(x)
        apart = c.emit(
            "transpose", c.reshape(x, (batches, count // batches, *rest)), perm=_second_first(x.rank)
        )
        x, groups = c.reshape(apart, (count // batches, batches * rest[0], *rest[1:])), batches
    if any(d != 1 for d in spread) and any(s != 1 for s in strides):
        x = spaced(c, x, c.scalar(0, c.dtype), [0, 0, *(d - 1 for d in spread)])
        spread = ones
    backwards = [n + 2 for n, flag in enumerate(c.flags("window_reversal")) if flag]
    w = reversed_along(c, w, backwards)
    if spatial == 0:
        out = c.emit("matmul", x, w, transpose_rhs=True)
    elif all(d == 1 for d in spread):
        x, pads = _cropped(c, x, pads)
        before, after = [list(side) for side in zip(*pads, strict=True)]
        out = c.emit(
            "conv",
            x,
            w,
            None,
            strides=strides,
            dilations=dilations,
            pads_before=before,
            pads_after=after,
            groups=groups,
        )
    else:
        out = _transposed(c, x, w, spread, dilations, pads, groups)
    order = [
        numbers.output_batch_dimension,
        numbers.output_feature_dimension,
        *numbers.output_spatial_dimensions,
    ]
    return c.permuted(out, [order.index(n) for n in range(len(order))])


def _second_first(rank: int) -> list[int]:
    """The permutation of rank + 1 axes that exchanges the first two."""
    return [1, 0, *range(2, rank + 1)]


def _cropped(c: OpContext, x: Value, pads: list[list[int]]) -> tuple[Value, list[list[int]]]:
    """Negative paddings cut the operand."""
    if not any(p < 0 for pair in pads for p in pair):
        return x, pads
    before = [0, 0, *(min(0, b) for b, _ in pads)]
    after = [0, 0, *(min(0, a) for _, a in pads)]
    x = c.emit("pad", x, before=before, after=after)
    return x, [[max(0, b), max(0, a)] for b, a in pads]


def _transposed(
    c: OpContext,
    x: Value,
    w: Value,
    spread: list[int],
    dilations: list[int],
    pads: list[list[int]],
    groups: int,
) -> Value:
    """A convolution whose operand has gaps: the transposed one, with the kernel turned round.

    An element of x at i * spread meets the kernel's tap t at output i * spread + before - t * dilation.
    """
    kernel = c.extents(w)[2:]
    w = reversed_along(c, w, list(range(2, w.rank)))
    outputs, inputs = c.extent(w, 0), c.extent(w, 1)
    w = c.reshape(w, (groups, outputs // groups, inputs, *kernel))
    w = c.emit("transpose", w, perm=[0, 2, 1, *range(3, 3 + len(kernel))])
    w = c.reshape(w, (groups * inputs, outputs // groups, *kernel))
    whole = [(k - 1) * d for k, d in zip(kernel, dilations, strict=True)]
    before = [span - b for span, (b, _) in zip(whole, pads, strict=True)]
    after = [span - a for span, (_, a) in zip(whole, pads, strict=True)]
    extra = [max(0, -b) for b in before], [max(0, -a) for a in after]
    out = c.emit(
        "conv_transpose",
        x,
        w,
        None,
        strides=spread,
        dilations=dilations,
        pads_before=[max(0, b) for b in before],
        pads_after=[max(0, a) for a in after],
        output_padding=[0] * len(kernel),
        groups=groups,
    )
    if any((*extra[0], *extra[1])):
        out = c.emit("pad", out, before=[0, 0, *extra[0]], after=[0, 0, *extra[1]])
    return out


ROWS: dict[str, Row] = {
    "stablehlo.convolution": convolution,
    "stablehlo.dot_general": dot_general,
}
