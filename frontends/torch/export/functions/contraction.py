"""Matrix products, convolutions, windows, attention."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
CONV_TRANSPOSE = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}
MAX_POOL = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
"""Spatial axes -> PyTorch's function."""


def matmul(lhs: Tensor, rhs: Tensor, transpose_lhs: bool, transpose_rhs: bool) -> Tensor:
    """numpy.matmul, either side transposed."""
    return torch.matmul(lhs.mT if transpose_lhs else lhs, rhs.mT if transpose_rhs else rhs)


def einsum(inputs: Sequence[Tensor], equation: str) -> Tensor:
    """Einstein's notation."""
    return torch.einsum(equation, *inputs)


def determinant(x: Tensor) -> Tensor:
    """Determinants of the matrices in the last two axes."""
    found: Tensor = torch.linalg.det(x)
    return found


def inverse(x: Tensor) -> Tensor:
    """Inverses of the matrices in the last two axes; NaN for singular ones."""
    found, info = torch.linalg.inv_ex(x)
    return torch.where((info == 0)[..., None, None], found, torch.full_like(found, float("nan")))


# -- windows -----------------------------------------------------------------------------------------------


def covered(
    x: Tensor,
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    before: Sequence[int],
    sizes: Sequence[int],
    fill: float,
) -> Tensor:
    """x surrounded by a value, or cut, so that `sizes` windows cover each spatial axis exactly."""
    pads: list[int] = []
    for axis in reversed(range(len(kernel))):
        needed = (sizes[axis] - 1) * strides[axis] + (kernel[axis] - 1) * dilations[axis] + 1
        pads += [before[axis], needed - before[axis] - x.shape[2 + axis]]
    return F.pad(x, pads, value=fill)


def windows(
    x: Tensor, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int], sizes: Sequence[int]
) -> Tensor:
    """The windows of what `covered` gives: [n, c, *sizes, *kernel]."""
    for axis, (k, s, d) in enumerate(zip(kernel, strides, dilations, strict=True)):
        x = x.unfold(2 + axis, (k - 1) * d + 1, s)[..., ::d]
    return x


def max_pool(
    x: Tensor,
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    pads_before: Sequence[int],
    shape: Sequence[int],
    limits: tuple[Any, Any],
) -> Tensor:
    """Maxima of windows."""
    lowest = -math.inf if x.dtype.is_floating_point else limits[0]
    x = covered(x, kernel, strides, dilations, pads_before, shape[2:], lowest)
    if x.dtype.is_floating_point and len(kernel) in MAX_POOL:
        return MAX_POOL[len(kernel)](x, list(kernel), list(strides), 0, list(dilations))
    return windows(x, kernel, strides, dilations, shape[2:]).flatten(-len(kernel)).amax(-1)


def max_pool_indices(
    x: Tensor,
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    pads_before: Sequence[int],
    column_major: bool,
    shape: Sequence[int],
) -> tuple[Tensor, Tensor]:
    """Maxima of windows and where they stand in the flattened x."""
    plane = torch.arange(math.prod(x.shape[2:]), device=x.device)
    if column_major:
        plane = plane.reshape(list(reversed(x.shape[2:]))).permute(*reversed(range(x.dim() - 2)))
    planes = torch.arange(x.shape[0] * x.shape[1], device=x.device) * math.prod(x.shape[2:])
    where = planes.reshape(*x.shape[:2], *[1] * (x.dim() - 2)) + plane.reshape(x.shape[2:])
    geometry = (kernel, strides, dilations)

    def of(source: Tensor, fill: float) -> Tensor:
        source = covered(source, *geometry, pads_before, shape[2:], fill)
        return windows(source, *geometry, shape[2:]).flatten(-len(kernel))

    lowest = -math.inf if x.dtype.is_floating_point else torch.iinfo(x.dtype).min
    values, positions = of(x, lowest), of(where, -1)
    best = torch.where(positions < 0, torch.full_like(values, lowest), values).argmax(-1, keepdim=True)
    return values.gather(-1, best).squeeze(-1), positions.gather(-1, best).squeeze(-1)


def window_sum(
    x: Tensor, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int], sizes: Sequence[int]
) -> Tensor:
    """Sums of the windows of what `covered` gives."""
    if len(kernel) == 2 and tuple(dilations) == (1, 1) and x.dtype.is_floating_point:
        return F.avg_pool2d(x, list(kernel), list(strides), divisor_override=1)
    return windows(x, kernel, strides, dilations, sizes).flatten(-len(kernel)).sum(-1, dtype=x.dtype)


def avg_pool(
    x: Tensor,
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    pads_before: Sequence[int],
    pads_after: Sequence[int],
    count_include_pad: bool,
    shape: Sequence[int],
) -> Tensor:
    """Means of windows."""
    geometry = (kernel, strides, dilations)
    ones = torch.ones((1, 1, *x.shape[2:]), dtype=x.dtype, device=x.device)
    before = [0] * len(kernel)
    if count_include_pad:
        pads = [p for pair in zip(reversed(pads_before), reversed(pads_after), strict=True) for p in pair]
        ones = F.pad(ones, pads, value=1)
    else:
        before = list(pads_before)
    ones = covered(ones, *geometry, before, shape[2:], 0)
    x = covered(x, *geometry, pads_before, shape[2:], 0)
    return window_sum(x, *geometry, shape[2:]) / window_sum(ones, *geometry, shape[2:])


def lp_pool(
    x: Tensor,
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    pads_before: Sequence[int],
    p: int,
    shape: Sequence[int],
) -> Tensor:
    """Norms of windows."""
    x = covered(x, kernel, strides, dilations, pads_before, shape[2:], 0).abs()
    total = window_sum(x if p == 1 else x**p, kernel, strides, dilations, shape[2:])
    return total if p == 1 else total ** (1.0 / p)


# -- convolutions ------------------------------------------------------------------------------------------


def conv(
    x: Tensor,
    w: Tensor,
    bias: Tensor | None,
    strides: Sequence[int],
    dilations: Sequence[int],
    pads_before: Sequence[int],
    pads_after: Sequence[int],
    groups: int,
    shape: Sequence[int],
) -> Tensor:
    """Convolution; on integers or with many axes a sum of products over windows."""
    kernel, rank = w.shape[2:], len(strides)
    if x.dtype.is_floating_point and rank in CONV:
        padding = list(pads_before)
        if padding != list(pads_after):
            pads = zip(reversed(pads_before), reversed(pads_after), strict=True)
            x, padding = F.pad(x, [p for pair in pads for p in pair]), [0] * rank
        return CONV[rank](x, w, bias, list(strides), padding, list(dilations), groups)
    x = covered(x, kernel, strides, dilations, pads_before, shape[2:], 0)
    patches = windows(x, kernel, strides, dilations, shape[2:])  # [n, c, *out, *kernel]
    patches = patches.movedim(1, 1 + rank).reshape(x.shape[0], math.prod(shape[2:]), groups, -1)
    weights = w.reshape(groups, w.shape[0] // groups, -1)
    y = torch.matmul(patches.movedim(2, 1), weights.mT)  # [n, groups, out, oc / groups]
    y = y.mT.reshape(shape)
    return y if bias is None else y + bias.reshape(-1, *[1] * rank)


def conv_transpose(
    x: Tensor,
    w: Tensor,
    bias: Tensor | None,
    strides: Sequence[int],
    dilations: Sequence[int],
    pads_before: Sequence[int],
    pads_after: Sequence[int],
    output_padding: Sequence[int],
    groups: int,
) -> Tensor:
    """Transposed convolution: all of it, then cut or extended."""
    rank = len(strides)
    full = CONV_TRANSPOSE[rank](x, w, None, list(strides), 0, 0, groups, list(dilations))
    pads: list[int] = []
    for before, after, more in reversed(list(zip(pads_before, pads_after, output_padding, strict=True))):
        pads += [-before, more - after]
    y = F.pad(full, pads) if any(pads) else full
    return y if bias is None else y + bias.reshape(-1, *[1] * rank)


# -- attention ---------------------------------------------------------------------------------------------


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Tensor | None,
    scale: float,
    causal: bool,
    offset: int,
    masked_rows_zero: bool,
) -> Tensor:
    """softmax(scale q k^T + bias) v; heads that share keys form a group."""
    batch, heads, queries, width = q.shape
    kv_heads, keys = k.shape[1], k.shape[2]
    grouped = q.reshape(batch, kv_heads, heads // kv_heads * queries, width)
    scores = torch.matmul(grouped, k.mT).reshape(batch, heads, queries, keys)
    scores = scores if scale == 1.0 else scores * scale
    scores = scores if bias is None else scores + bias
    if causal:
        row = torch.arange(queries, device=q.device).unsqueeze(1) + offset
        seen = torch.arange(keys, device=q.device) <= row
        scores = scores.masked_fill(~seen, -math.inf)
    if masked_rows_zero:
        nothing = (scores == -math.inf).all(-1, keepdim=True)
        scores = scores.masked_fill(nothing, 0.0)  # a softmax of nothing but -inf has no gradient
        weights = torch.softmax(scores, -1).masked_fill(nothing, 0.0)
    else:
        weights = torch.softmax(scores, -1)
    weights = weights.reshape(batch, kv_heads, heads // kv_heads * queries, keys)
    return torch.matmul(weights, v).reshape(batch, heads, queries, v.shape[3])


TABLE: dict[str, Callable[..., Any]] = {
    "nn.attention": attention,
    "nn.avg_pool": avg_pool,
    "nn.conv": conv,
    "nn.conv_transpose": conv_transpose,
    "nn.determinant": determinant,
    "nn.inverse": inverse,
    "nn.einsum": einsum,
    "nn.lp_pool": lp_pool,
    "nn.matmul": matmul,
    "nn.max_pool": max_pool,
    "nn.max_pool_indices": max_pool_indices,
}
