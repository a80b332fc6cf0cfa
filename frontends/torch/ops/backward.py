"""Gradients that torch does not take apart: convolution, attention, pools."""

from __future__ import annotations

import math
from collections.abc import Sequence

from aino_ir.dims import DimLike, is_static, product
from aino_ir.frontends.torch.context import Lowering, NodeContext, Row
from aino_ir.frontends.torch.ops.attention import logits
from aino_ir.frontends.torch.ops.contraction import numbers
from aino_ir.graph import Value


def convolution_backward(
    c: NodeContext,
    grad_output: Value,
    x: Value,
    weight: Value,
    bias_sizes: Sequence[int] | None,
    stride: Sequence[DimLike],
    padding: Sequence[DimLike],
    dilation: Sequence[DimLike],
    transposed: bool,
    output_padding: Sequence[DimLike],
    groups: int,
    output_mask: Sequence[bool],
) -> list[Value | None]:
    """Gradients of a convolution's operand, weights and bias."""
    rank = weight.rank - 2
    geometry = {
        "strides": numbers(c, stride, rank, "stride"),
        "dilations": numbers(c, dilation, rank, "dilation"),
        "pads": numbers(c, padding, rank, "padding"),
    }
    of_x, of_weight, of_bias = None, None, None
    if output_mask[0] and transposed:
        of_x = _conv(c, grad_output, weight, groups, **geometry)
    elif output_mask[0]:
        of_x = _transposed(c, grad_output, weight, x.shape[2:], groups, **geometry)
    if output_mask[1]:
        large, small = (grad_output, x) if transposed else (x, grad_output)
        of_weight = _weight_gradient(c, large, small, weight.shape[2:], groups, **geometry)
    if output_mask[2]:
        of_bias = c.emit("reduce_sum", grad_output, axes=(0, *range(2, grad_output.rank)))
    return [of_x, of_weight, of_bias]


def _conv(
    c: NodeContext,
    x: Value,
    w: Value,
    groups: int,
    strides: tuple[int, ...],
    dilations: tuple[int, ...],
    pads: tuple[int, ...],
    after: tuple[int, ...] | None = None,
) -> Value:
    return c.emit(
        "conv",
        x,
        w,
        strides=strides,
        dilations=dilations,
        pads_before=pads,
        pads_after=pads if after is None else after,
        groups=groups,
    )


def _transposed(
    c: NodeContext,
    gradient: Value,
    weight: Value,
    extents: Sequence[DimLike],
    groups: int,
    strides: tuple[int, ...],
    dilations: tuple[int, ...],
    pads: tuple[int, ...],
) -> Value:
    """The transpose of a convolution, as long as its operand was: rows that no window took get nothing."""
    extra = []
    for extent, out, k, s, d, p in zip(
        extents, gradient.shape[2:], weight.shape[2:], strides, dilations, pads, strict=True
    ):
        spare = extent - ((out - 1) * s - 2 * p + d * (k - 1) + 1)
        spare = c.b.function.symbols.simplify(spare)
        if not is_static(spare):
            c.unsupported(f"an operand of {extent} rows, of which {spare} may be left over")
        extra.append(int(spare))  # type: ignore[arg-type]
    return c.emit(
        "conv_transpose",
        gradient,
        weight,
        strides=strides,
        dilations=dilations,
        pads_before=pads,
        pads_after=pads,
        output_padding=tuple(extra),
        groups=groups,
    )


def _weight_gradient(
    c: NodeContext,
    x: Value,
    gradient: Value,
    kernel: Sequence[DimLike],
    groups: int,
    strides: tuple[int, ...],
    dilations: tuple[int, ...],
    pads: tuple[int, ...],
) -> Value:
    """Weights' gradient as a convolution over the batch: x [c, n, ...] with gradients [o, n, ...].

    Steps and gaps change places.  Groups stand side by side among the channels.
    """
    batch, channels, *area = x.shape
    perm = (2, 1, 0, *range(3, 3 + len(area)))
    apart = c.reshape(x, (batch, groups, _divided(channels, groups), *area))
    images = c.reshape(c.transposed(apart, perm), (_divided(channels, groups), batch * groups, *area))
    swapped = (1, 0, *range(2, x.rank))
    rows = zip(area, gradient.shape[2:], kernel, strides, dilations, pads, strict=True)
    made = _conv(
        c,
        images,
        c.transposed(gradient, swapped),
        groups,
        strides=dilations,
        dilations=strides,
        pads=pads,
        after=tuple(_pad_that_counts(c, *row) for row in rows),
    )
    for axis, extent in enumerate(kernel, 2):
        made = c.cut(made, axis, 0, extent)
    return c.transposed(made, swapped)


def _pad_that_counts(
    c: NodeContext, extent: DimLike, out: DimLike, kernel: DimLike, stride: int, dilation: int, pad: int
) -> int:
    """The padding behind an axis without what no window reached, so that there are no results to cut off."""
    reach = (out - 1) * stride + (kernel - 1) * dilation + 1
    spare = c.b.function.symbols.simplify(extent + 2 * pad - reach)
    return max(pad - int(spare), 0) if is_static(spare) else pad  # type: ignore[arg-type]


def _divided(extent: DimLike, by: int) -> DimLike:
    return extent // by


def flash_backward(
    c: NodeContext,
    grad_out: Value,
    query: Value,
    key: Value,
    value: Value,
    out: Value,
    logsumexp: Value,
    dropout_p: float,
    is_causal: bool,
    attn_mask: Value | None = None,
    scale: float | None = None,
) -> list[Value | None]:
    """Gradients of attention from the logarithms of its sums (Dao, "FlashAttention", 2022, appendix B.2)."""
    if dropout_p:
        c.unsupported(f"dropout_p={dropout_p}")
    if scale is None:
        scale = 1 / math.sqrt(int(query.shape[-1]))
    dtype, heads = query.dtype, key.shape
    key, value = (_repeated(c, v, query.shape[1]) for v in (key, value))
    raw = logits(c, query, key, attn_mask, is_causal, scale)
    sums = c.cast(c.reshape(logsumexp, (*logsumexp.shape, 1)), raw.dtype)
    shares = c.cast(c.emit("exp", c.emit("sub", raw, sums)), dtype)
    of_value = c.emit("matmul", shares, grad_out, transpose_lhs=True)
    of_shares = c.emit("matmul", grad_out, value, transpose_rhs=True)
    drift = c.emit("reduce_sum", c.emit("mul", grad_out, out), axes=(out.rank - 1,), keepdims=True)
    of_logits = c.emit("mul", shares, c.emit("sub", of_shares, drift))
    scaled = c.elementwise("mul", of_logits, scale, dtype=dtype)
    of_query = c.emit("matmul", scaled, key)
    of_key = c.emit("matmul", scaled, query, transpose_lhs=True)
    return [of_query, _summed(c, of_key, heads), _summed(c, of_value, (*heads[:-1], of_value.shape[-1]))]


def _repeated(c: NodeContext, x: Value, heads: DimLike) -> Value:
    """Keys or values [batch, heads, ...] for more heads of queries: each serves its neighbours."""
    if x.shape[1] == heads:
        return x
    batch, own, *rest = x.shape
    wide = c.reshape(x, (batch, own, 1, *rest))
    return c.reshape(c.emit("expand", wide, shape=(batch, own, heads // own, *rest)), (batch, heads, *rest))


def _summed(c: NodeContext, gradient: Value, shape: Sequence[DimLike]) -> Value:
    """The gradient of what `_repeated` was given."""
    if gradient.shape[1] == shape[1]:
        return gradient
    batch, own, *rest = shape
    apart = c.reshape(gradient, (batch, own, gradient.shape[1] // own, *rest))
    return c.emit("reduce.sum", apart, axes=(2,))


def max_pool_backward(rank: int) -> Lowering:
    """A row that sends each gradient to where its maximum was, in planes of some rank."""

    def lower(c: NodeContext, grad_output: Value, x: Value, indices: Value) -> Value:
        lead = x.shape[:-rank]
        flat = (*lead, product(grad_output.shape[-rank:]))
        made = c.emit(
            "scatter_elements",
            c.filled((*lead, product(x.shape[-rank:])), 0, x.dtype),
            c.reshape(indices, flat),
            c.reshape(grad_output, flat),
            reduction="add",
            axis=len(lead),
        )
        return c.reshape(made, x.shape)

    return lower


TABLE: dict[str, Row] = {
    "aten._scaled_dot_product_flash_attention_for_cpu_backward": flash_backward,
    "aten.adaptive_max_pool2d_backward": max_pool_backward(2),
    "aten.adaptive_max_pool3d_backward": max_pool_backward(3),
    "aten.convolution_backward": convolution_backward,
    "aten.fractional_max_pool2d_backward": max_pool_backward(2),
    "aten.fractional_max_pool3d_backward": max_pool_backward(3),
    "aten.max_pool2d_with_indices_backward": max_pool_backward(2),
    "aten.max_pool3d_with_indices_backward": max_pool_backward(3),
}
