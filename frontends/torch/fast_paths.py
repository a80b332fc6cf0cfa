"""PyTorch's fast paths of transformers in evaluation mode, taken apart.

``nn.TransformerEncoderLayer`` and ``nn.MultiheadAttention`` call one operator for all that they do; torch has
no rule for either.  Semantics: ``native/transformers/transformer.cpp`` and ``attention.cpp`` of ATen.  Nested
tensors stay with torch.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.nn import functional


def heads(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, count: int) -> torch.Tensor:
    """A projection of x [batch, rows, width], as [batch, count, rows, width of a head]."""
    batch, rows, _ = x.shape
    projected = functional.linear(x, weight, bias)
    return projected.view(batch, rows, count, projected.shape[-1] // count).transpose(1, 2)


def hidden(mask: torch.Tensor, kind: int | None) -> torch.Tensor:
    """What hides keys, as truth values that broadcast to [batch, heads, queries, keys].

    A mask of numbers hides where it is not zero.  Kind 0 is [queries, keys], 1 is [batch, keys], 2 has all
    four axes.
    """
    mask = mask.to(torch.bool)
    if kind == 1:
        batch, keys = mask.shape
        return mask.view(batch, 1, 1, keys)
    return mask


def multi_head_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    embed_dim: int,
    num_head: int,
    qkv_weight: torch.Tensor,
    qkv_bias: torch.Tensor,
    proj_weight: torch.Tensor,
    proj_bias: torch.Tensor,
    mask: torch.Tensor | None = None,
    need_weights: bool = True,
    average_attn_weights: bool = True,
    mask_type: int | None = None,
) -> Any:
    """(attention of projections, projected; its weights or None); a query that sees no key gives NaN."""
    if query.is_nested:
        return NotImplemented
    batch, rows, _ = query.shape
    weights, biases = torch.split(qkv_weight, embed_dim), torch.split(qkv_bias, embed_dim)
    sources = zip((query, key, value), weights, biases, strict=True)
    q, k, v = (heads(x, w, b, num_head) for x, w, b in sources)
    shown = None
    if mask is None and not need_weights:
        seen = functional.scaled_dot_product_attention(q, k, v)
    else:
        scores = torch.matmul(q, k.transpose(-2, -1)) * (1 / math.sqrt(embed_dim // num_head))
        if mask is not None:
            scores = scores.masked_fill(hidden(mask, mask_type), -math.inf)
        shown = scores.softmax(-1)
        seen = torch.matmul(shown, v)
    merged = seen.transpose(1, 2).reshape(batch, rows, embed_dim)
    result = functional.linear(merged, proj_weight, proj_bias)
    if not need_weights or shown is None:
        return result, None
    return result, shown.mean(1) if average_attn_weights else shown


def transformer_encoder_layer(
    src: torch.Tensor,
    embed_dim: int,
    num_heads: int,
    qkv_weight: torch.Tensor,
    qkv_bias: torch.Tensor,
    proj_weight: torch.Tensor,
    proj_bias: torch.Tensor,
    use_gelu: bool,
    norm_first: bool,
    eps: float,
    norm_weight_1: torch.Tensor,
    norm_bias_1: torch.Tensor,
    norm_weight_2: torch.Tensor,
    norm_bias_2: torch.Tensor,
    ffn_weight_1: torch.Tensor,
    ffn_bias_1: torch.Tensor,
    ffn_weight_2: torch.Tensor,
    ffn_bias_2: torch.Tensor,
    mask: torch.Tensor | None = None,
    mask_type: int | None = None,
) -> Any:
    """Self-attention and two dense layers, each with a residual and a layer norm before or behind."""
    if src.is_nested:
        return NotImplemented

    def attended(x: torch.Tensor) -> torch.Tensor:
        projections = (qkv_weight, qkv_bias, proj_weight, proj_bias)
        result: torch.Tensor = multi_head_attention(
            x, x, x, embed_dim, num_heads, *projections, mask, need_weights=False, mask_type=mask_type
        )[0]
        return result

    def fed_forward(x: torch.Tensor) -> torch.Tensor:
        inner = functional.linear(x, ffn_weight_1, ffn_bias_1)
        inner = functional.gelu(inner) if use_gelu else functional.relu(inner)
        return functional.linear(inner, ffn_weight_2, ffn_bias_2)

    x = src
    steps = ((attended, norm_weight_1, norm_bias_1), (fed_forward, norm_weight_2, norm_bias_2))
    for step, weight, bias in steps:
        if norm_first:
            x = x + step(functional.layer_norm(x, (embed_dim,), weight, bias, eps))
        else:
            x = functional.layer_norm(x + step(x), (embed_dim,), weight, bias, eps)
    return x
