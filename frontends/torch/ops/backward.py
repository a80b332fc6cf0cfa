"""Gradients that torch does not take apart: convolution, attention, pools."""

from __future__ import annotations

import math
from collections.abc import Sequence

from aino_ir.dims import DimLike, is_static
from aino_ir.frontends.torch.context import NodeContext, Row
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
    dtype = query.dtype
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
    return [of_query, of_key, of_value]


def max_pool_backward(
    c: NodeContext,
    grad_output: Value,
    x: Value,
    kernel_size: object,
    stride: object,
    padding: object,
    dilation: object,
    ceil_mode: bool,
    indices: Value,
) -> Value:
    """Each gradient goes to where its maximum was."""
    lead, area = x.shape[:-2], x.shape[-2] * x.shape[-1]
    places = grad_output.shape[-2] * grad_output.shape[-1]
    planes = c.filled((*lead, area), 0, x.dtype)
    made = c.emit(
        "scatter_elements",
        planes,
        c.reshape(indices, (*lead, places)),
        c.reshape(grad_output, (*lead, places)),
        reduction="add",
        axis=len(lead),
    )
    return c.reshape(made, x.shape)


def avg_pool_backward(
    c: NodeContext,
    grad_output: Value,
    x: Value,
    kernel_size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: int | None,
) -> Value:
    """Each gradient is spread over its window."""
    rank = len(kernel_size)
    pads = numbers(c, padding or (0,), rank, "padding")
    if ceil_mode or (any(pads) and not count_include_pad):
        c.unsupported("windows of different sizes")
    size = numbers(c, kernel_size, rank, "kernel")
    steps = numbers(c, stride or kernel_size, rank, "stride")
    share = 1.0 / (divisor_override or math.prod(size))
    extents = x.shape[-rank:]
    planes: DimLike = 1
    for extent in x.shape[:-rank]:
        planes = planes * extent
    flat = c.reshape(grad_output, (planes, 1, *grad_output.shape[-rank:]))
    ones = c.filled((1, 1, *size), share, x.dtype)
    made = _transposed(c, flat, ones, extents, 1, strides=steps, dilations=(1,) * rank, pads=pads)
    return c.reshape(made, x.shape)


TABLE: dict[str, Row] = {
    "aten._scaled_dot_product_flash_attention_for_cpu_backward": flash_backward,
    "aten.avg_pool2d_backward": avg_pool_backward,
    "aten.convolution_backward": convolution_backward,
    "aten.max_pool2d_with_indices_backward": max_pool_backward,
}
