"""Scaled dot-product attention, as PyTorch writes it and as it takes it apart on the CPU."""

from __future__ import annotations

import math

from aino_ir.dims import DimLike, is_static
from aino_ir.frontends.torch.context import NodeContext, Row
from aino_ir.graph import Value


def attention(
    c: NodeContext,
    query: Value,
    key: Value,
    value: Value,
    attn_mask: Value | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Value:
    """softmax(scale q k^T + mask) v; a mask of truth values hides keys, a query that sees none gives zero."""
    if dropout_p:
        c.unsupported(f"dropout_p={dropout_p}")
    if any(is_static(d) and d == 0 for d in c.shape):
        return c.filled(c.shape, 0, c.dtype)
    if scale is None:
        if not is_static(query.shape[-1]):
            c.unsupported("a symbolic width")
        scale = 1 / math.sqrt(int(query.shape[-1])) if query.shape[-1] else 1.0
    lead = _broadcast(c, *(v.shape[:-3] if enable_gqa else v.shape[:-2] for v in (query, key, value)))
    q, k, v = (_four_axes(c, t, lead, enable_gqa) for t in (query, key, value))
    bias = None if attn_mask is None else _bias(c, attn_mask, lead, q, query.rank, enable_gqa)
    y = c.emit(
        "nn.attention",
        q,
        k,
        v,
        bias,
        scale=scale,
        causal=is_causal,
        masked_rows_zero=attn_mask is not None,
    )
    return c.reshape(y, c.shape)


def _broadcast(c: NodeContext, *leads: tuple[DimLike, ...]) -> tuple[DimLike, ...]:
    """The leading extents that all share, unit ones being repeated."""
    rank = max(len(lead) for lead in leads)
    out: list[DimLike] = [1] * rank
    for lead in leads:
        for axis, extent in enumerate(lead, rank - len(lead)):
            if not (is_static(extent) and extent == 1):
                out[axis] = extent
    return tuple(out)


def _four_axes(c: NodeContext, x: Value, lead: tuple[DimLike, ...], grouped: bool) -> Value:
    """x as [batch, heads, rows, width]: leading axes are repeated where they must be, and merged."""
    own = x.shape[-3:] if grouped else x.shape[-2:]
    if x.shape != (*lead, *own):
        x = c.emit("expand", x, shape=(*lead, *own))
    if grouped:
        return c.reshape(x, (_product(lead), *own))
    batch, heads = (lead[:-1], lead[-1]) if lead else ((), 1)
    return c.reshape(x, (_product(batch), heads, *own))


def _product(extents: tuple[DimLike, ...]) -> DimLike:
    out: DimLike = 1
    for extent in extents:
        out = out * extent
    return out


def _bias(
    c: NodeContext, mask: Value, lead: tuple[DimLike, ...], q: Value, rank: int, grouped: bool
) -> Value:
    """The mask as numbers that broadcast to [batch, heads, queries, keys]."""
    if mask.dtype.is_bool:
        hidden = c.scalar(-math.inf, q.dtype)
        mask = c.emit("select", mask, c.scalar(0, q.dtype), hidden)
    mask = c.cast(mask, q.dtype)
    mask = c.reshape(mask, [1] * (max(rank, 4) - mask.rank) + list(mask.shape))
    if mask.rank == 4:
        return mask
    *batch, heads, queries, keys = mask.shape
    whole = lead if grouped else lead[:-1]
    if tuple(batch) != whole:
        mask = c.emit("expand", mask, shape=(*whole, heads, queries, keys))
    return c.reshape(mask, (_product(whole), heads, queries, keys))


def flash_for_cpu(
    c: NodeContext,
    query: Value,
    key: Value,
    value: Value,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    attn_mask: Value | None = None,
    scale: float | None = None,
) -> list[Value | None]:
    """The same; the logarithms of the sums are made where the gradient reads them."""
    y = attention(c, query, key, value, attn_mask, dropout_p, is_causal, scale)
    if not c.wants(1):
        return [y, None]
    if scale is None:
        scale = 1 / math.sqrt(int(query.shape[-1]))
    raw = logits(c, query, key, attn_mask, is_causal, scale)
    most = c.emit("reduce_max", raw, axes=(raw.rank - 1,), keepdims=True)
    total = c.emit("reduce_sum", c.emit("exp", c.emit("sub", raw, most)), axes=(raw.rank - 1,), keepdims=True)
    sums = c.emit("add", c.emit("log", total), most)
    return [y, c.cast(c.reshape(sums, sums.shape[:-1]), c.dtype_of(1))]


def logits(
    c: NodeContext, query: Value, key: Value, attn_mask: Value | None, is_causal: bool, scale: float
) -> Value:
    """scale q k^T + mask as f32 (f64 for f64): what attention's softmax is of."""
    wide = query.dtype.compute
    raw = c.emit("matmul", c.cast(query, wide), c.cast(key, wide), transpose_rhs=True)
    raw = c.elementwise("mul", raw, scale, dtype=wide)
    hidden = c.scalar(-math.inf, wide)
    if is_causal:
        queries, keys = raw.shape[-2:]
        row = c.positions(queries, 2, 0)
        column = c.positions(keys, 2, 1)
        raw = c.emit("select", c.emit("ge", row, column), raw, hidden)
    if attn_mask is None:
        return raw
    if attn_mask.dtype.is_bool:
        return c.emit("select", attn_mask, raw, hidden)
    return c.emit("add", raw, c.cast(attn_mask, wide))


TABLE: dict[str, Row] = {
    "aten._scaled_dot_product_flash_attention_for_cpu": flash_for_cpu,
    "aten.scaled_dot_product_attention": attention,
}
