"""Attention operators of ONNX Runtime: projections, masks, caches, rotary positions."""

from __future__ import annotations

import math

from aino_ir.dims import DimLike, dmax, is_static
from aino_ir.dtypes import boolean, f32, i64
from aino_ir.frontends.onnx.context import NodeContext, Row
from aino_ir.frontends.onnx.contrib import LARGEST, contrib
from aino_ir.frontends.onnx.integers import bound, sole
from aino_ir.frontends.onnx.nodes import OnnxNode
from aino_ir.frontends.onnx.ops.indexing import positions
from aino_ir.graph import Value

DOMAIN = "com.microsoft"

LOWEST = -LARGEST
"""What ONNX Runtime adds to the scores of keys that lie in the future."""


def split_heads(c: NodeContext, x: Value, heads: int) -> Value:
    """[batch, length, heads * width] as [batch, heads, length, width]."""
    batch, length, hidden = x.shape
    width = c.symbols.simplify(hidden // heads)
    return c.emit("transpose", c.reshape(x, (batch, length, heads, width)), perm=(0, 2, 1, 3))


def merge_heads(c: NodeContext, x: Value) -> Value:
    """[batch, heads, length, width] as [batch, length, heads * width]."""
    batch, heads, length, width = x.shape
    return c.reshape(c.emit("transpose", x, perm=(0, 2, 1, 3)), (batch, length, heads * width))


def attend(
    c: NodeContext,
    q: Value,
    k: Value,
    v: Value,
    bias: Value | None,
    scale: float,
    softcap: float = 0.0,
    sink: Value | None = None,
) -> Value:
    """softmax(scale q k^T + bias) v; with a softcap, scores are bent; a sink takes its share of the sum."""
    if softcap == 0.0 and sink is None:
        return c.emit("attention", q, k, v, bias, scale=scale)
    k, v = (repeated_heads(c, x, q.shape[1]) for x in (k, v))
    scores = c.emit("matmul", q, k, transpose_rhs=True)
    scores = c.emit("mul", scores, c.scalar(scale, scores.dtype))
    if softcap != 0.0:
        bent = c.emit("tanh", c.emit("div", scores, c.scalar(softcap, scores.dtype)))
        scores = c.emit("mul", bent, c.scalar(softcap, scores.dtype))
    if bias is not None:
        scores = c.emit("add", scores, bias)
    if sink is None:
        return c.emit("matmul", c.emit("softmax", scores, axis=3), v)
    column = c.emit("expand", sink, shape=(*scores.shape[:3], 1))
    weights = c.emit("softmax", c.emit("concat", scores, column, axis=3), axis=3)
    return c.emit("matmul", c.cut(weights, 3, 0, scores.shape[3]), v)


def repeated_heads(c: NodeContext, x: Value, heads: DimLike) -> Value:
    """Each head of keys or values as often as query heads share it."""
    batch, own, length, width = x.shape
    if own is heads or (is_static(own) and is_static(heads) and own == heads):
        return x
    each = c.symbols.simplify(heads // own)
    apart = c.reshape(x, (batch, own, 1, length, width))
    wide = c.emit("expand", apart, shape=(batch, own, each, length, width))
    return c.reshape(wide, (batch, heads, length, width))


def combined(c: NodeContext, a: Value | None, b: Value | None) -> Value | None:
    """The sum of two biases that may be absent."""
    if a is None or b is None:
        return b if a is None else a
    return c.emit("add", a, b)


def filled_mask(c: NodeContext, keep: Value, low: float) -> Value:
    """0 where a key counts, a low number where it does not."""
    return c.emit("select", keep, c.scalar(0.0, f32), c.scalar(low, f32))


def padding_bias(c: NodeContext, mask: Value | None, keys: DimLike, low: float) -> Value | None:
    """What a mask of keys adds to scores.

    [batch] holds lengths, [2 batch] ends and then starts, [batch, keys] a flag a key, [batch, queries, keys]
    a flag a pair.
    """
    if mask is None:
        return None
    if mask.rank == 4:
        c.unsupported("a mask of rank 4")
    if mask.rank >= 2:
        keep = c.emit("gt", mask, c.scalar(0, mask.dtype))
        axes = (mask.shape[0], 1, 1, mask.shape[1]) if mask.rank == 2 else (mask.shape[0], 1, *mask.shape[1:])
        return filled_mask(c, c.reshape(keep, axes), low)
    batch = c.x.shape[0]
    line = positions(c, 4, 3, keys)
    numbers = c.cast(mask, i64)
    ends = c.reshape(c.cut(numbers, 0, 0, batch), (batch, 1, 1, 1))
    keep = c.emit("lt", line, ends)
    if c.symbols.prove_eq(mask.shape[0], batch):
        return filled_mask(c, keep, low)
    if not c.symbols.prove_eq(mask.shape[0], 2 * batch):
        c.unsupported("a mask of lengths that are not one or two an item")
    starts = c.reshape(c.cut(numbers, 0, batch, batch), (batch, 1, 1, 1))
    return filled_mask(c, c.emit("logical_and", keep, c.emit("ge", line, starts)), low)


def causal_bias(c: NodeContext, queries: DimLike, keys: DimLike, past: DimLike) -> Value:
    """What hides the future: the first query sees the past and one key."""
    offset = c.reshape(c.b.dims_vector([past]), ())
    rows = c.emit("add", positions(c, 4, 2, queries), offset)
    return filled_mask(c, c.emit("le", positions(c, 4, 3, keys), rows), LOWEST)


def scale_of(node: OnnxNode, width: DimLike, c: NodeContext) -> float:
    """The attribute, or 1 / sqrt(width)."""
    given = node.float("scale", 0.0)
    if given != 0.0:
        return given
    if not isinstance(width, int):
        c.unsupported("heads of symbolic width")
    return 1.0 / math.sqrt(width)


def projected_attention(c: NodeContext, node: OnnxNode) -> list[Value | None]:
    """Queries, keys and values projected by one matrix; a past of both, [2, batch, heads, length, width]."""
    x, weights, bias, mask, past, more = c.x, c.tensor(1), c.input(2), c.input(3), c.input(4), c.input(5)
    if node.int("do_rotary", 0) or node.int("past_present_share_buffer", 0):
        c.unsupported("rotary positions or a shared buffer")  # nor has ONNX Runtime on CPU
    heads, third = node.int("num_heads"), c.symbols.simplify(weights.shape[1] // 3)
    sizes = node.ints("qkv_hidden_sizes", ()) or (third, third, third)
    flat = c.emit("matmul", x, weights)
    flat = flat if bias is None else c.emit("add", flat, bias)
    parts, start = [], 0
    for size in sizes:
        parts.append(split_heads(c, c.cut(flat, 2, start, size), heads))
        start = start + size  # type: ignore[assignment]
    q, k, v = parts
    if past is not None:
        before = [c.reshape(c.cut(past, 0, i, 1), past.shape[1:]) for i in (0, 1)]
        k, v = (c.emit("concat", b, now, axis=2) for b, now in zip(before, (k, v), strict=True))
    total = k.shape[2]
    low = node.float("mask_filter_value", -10000.0)
    hidden = padding_bias(c, mask, total, low)
    if node.int("unidirectional", 0):
        before_all = 0 if past is None else past.shape[3]
        hidden = combined(c, hidden, causal_bias(c, q.shape[2], total, before_all))
    y = attend(c, q, k, v, combined(c, hidden, more), scale_of(node, q.shape[3], c))
    present = None
    if c.wants(1):
        present = c.emit("concat", *[c.reshape(t, (1, *t.shape)) for t in (k, v)], axis=0)
    return [merge_heads(c, y), present]


def multi_head_attention(c: NodeContext, node: OnnxNode) -> list[Value | None]:
    """Attention over separate or packed queries, keys and values, which a past may precede."""
    heads = node.int("num_heads")
    if c.input(9) is not None:
        c.unsupported("cache_indirection")
    q, k, v = heads_of(c, heads, c.input(3))
    past_key, past_value = c.input(6), c.input(7)
    if c.input(8) is not None and past_key is not None and past_value is not None:
        return attention_over_buffers(c, node, (q, k, v), (past_key, past_value))
    if past_key is not None and past_value is not None:
        k, v = c.emit("concat", past_key, k, axis=2), c.emit("concat", past_value, v, axis=2)
    total = k.shape[2]
    hidden = padding_bias(c, c.input(4), total, node.float("mask_filter_value", -10000.0))
    if node.int("unidirectional", 0):
        before: DimLike = 0 if past_key is None else past_key.shape[2]
        if not c.symbols.prove_eq(before + q.shape[2], total):
            c.unsupported("unidirectional and other keys than the queries' own and a past")
        hidden = combined(c, hidden, causal_bias(c, q.shape[2], total, before))
    y = attend(c, q, k, v, combined(c, hidden, c.input(5)), scale_of(node, q.shape[3], c))
    return [merge_heads(c, y), k, v]


def attention_over_buffers(
    c: NodeContext, node: OnnxNode, qkv: tuple[Value, Value, Value], past: tuple[Value, Value]
) -> list[Value | None]:
    """Attention over caches that are buffers: new keys go where `past_sequence_length` ends the old ones."""
    q, k, v = qkv
    if node.int("unidirectional", 0):
        c.unsupported("unidirectional and past_sequence_length")
    length = k.shape[2]
    start = c.reshape(c.cast(c.scalar_of(8), i64), (1, 1))
    where = c.emit("expand", c.emit("add", start, positions(c, 2, 1, length)), shape=(k.shape[0], length))
    keys, values = (written_at(c, cache, new, where) for cache, new in zip(past, (k, v), strict=True))
    size = c.reshape(c.b.dims_vector([length]), ())
    end = c.reshape(c.emit("add", start, size), (1, 1, 1, 1))
    keep = c.emit("lt", positions(c, 4, 3, keys.shape[2]), end)
    hidden = combined(c, filled_mask(c, keep, -math.inf), c.input(5))
    low = node.float("mask_filter_value", -10000.0)
    hidden = combined(c, hidden, padding_bias(c, c.input(4), keys.shape[2], low))
    y = attend(c, q, keys, values, hidden, scale_of(node, q.shape[3], c))
    return [merge_heads(c, y), keys, values]


def written_at(c: NodeContext, cache: Value, new: Value, where: Value) -> Value:
    """A cache [batch, heads, positions, width] with new rows at positions [batch, length]."""
    place = c.reshape(where, (where.shape[0], 1, new.shape[2], 1))
    return c.emit("scatter_elements", cache, c.emit("expand", place, shape=new.shape), new, axis=2)


def heads_of(c: NodeContext, heads: int, bias: Value | None) -> tuple[Value, Value, Value]:
    """Queries, keys and values as [batch, heads, length, width], their biases added."""
    query, key, value = c.x, c.input(1), c.input(2)
    if query.rank == 5 or (key is not None and key.rank == 5):
        if bias is not None:
            c.unsupported("a bias and packed operands")
        packed = query if query.rank == 5 else key
        assert packed is not None
        count = 3 if query.rank == 5 else 2
        batch, length, _, _, width = packed.shape
        taken = [c.reshape(c.cut(packed, 3, i, 1), (batch, length, heads, width)) for i in range(count)]
        parts = [c.emit("transpose", t, perm=(0, 2, 1, 3)) for t in taken]
        if count == 2:
            parts.insert(0, split_heads(c, query, heads))
        return parts[0], parts[1], parts[2]
    if key is None or value is None:
        c.unsupported("queries alone")
    biases: list[Value | None] = [None, None, None]
    if bias is not None:
        hidden = query.shape[2]
        width = c.symbols.simplify(bias.shape[0] - 2 * hidden)
        biases = [
            c.cut(bias, 0, 0, hidden),
            c.cut(bias, 0, hidden, hidden),
            c.cut(bias, 0, 2 * hidden, width),
        ]
    found = []
    for x, b in zip((query, key, value), biases, strict=True):
        if x.rank == 4:
            found.append(x)
            continue
        found.append(split_heads(c, x if b is None else c.emit("add", x, b), heads))
    return found[0], found[1], found[2]


def rotated(
    c: NodeContext, x: Value, cos: Value, sin: Value, where: Value, interleaved: bool, width: int
) -> Value:
    """x [batch, heads, length, head width] turned by angles of its positions [batch or 1, length].

    The first `width` elements of a head are turned: pairs are neighbours, or lie half of it apart.
    """
    half = width // 2
    shape = (where.shape[0], 1, where.shape[1], half)
    angles = [c.reshape(c.cast(c.emit("gather", t, where, axis=0), x.dtype), shape) for t in (cos, sin)]
    cosine, sine = angles
    turned, rest = c.cut(x, 3, 0, width), None
    if not (is_static(x.shape[3]) and x.shape[3] == width):
        rest = c.cut(x, 3, width, c.symbols.simplify(x.shape[3] - width))
    if interleaved:
        pairs = c.reshape(turned, (*x.shape[:3], half, 2))
        first, second = (c.reshape(c.cut(pairs, 4, i, 1), (*x.shape[:3], half)) for i in (0, 1))
    else:
        first, second = c.cut(turned, 3, 0, half), c.cut(turned, 3, half, half)
    one = c.emit("sub", c.emit("mul", first, cosine), c.emit("mul", second, sine))
    two = c.emit("add", c.emit("mul", second, cosine), c.emit("mul", first, sine))
    if interleaved:
        apart = [c.reshape(t, (*x.shape[:3], half, 1)) for t in (one, two)]
        y = c.reshape(c.emit("concat", *apart, axis=4), (*x.shape[:3], width))
    else:
        y = c.emit("concat", one, two, axis=3)
    return y if rest is None else c.emit("concat", y, rest, axis=3)


def rotary_width(c: NodeContext, cos: Value) -> int:
    """How many elements of a head are turned: two for each column of the table."""
    columns = cos.shape[-1]
    if not isinstance(columns, int):
        c.unsupported("a table of symbolic width")
    return 2 * columns


def rotary_embedding(c: NodeContext, node: OnnxNode) -> Value:
    """Rotary positions on [batch, length, hidden] or [batch, heads, length, width]."""
    x, where, cos, sin = c.x, c.tensor(1), c.tensor(2), c.tensor(3)
    if node.float("scale", 1.0) != 1.0 or node.int("is_packed_batching", 0) != 0:
        c.unsupported("a scale or packed batches")
    width = rotary_width(c, cos)
    flat = x.rank == 3
    if flat:
        heads = node.int("num_heads", 0)
        if not heads:
            hidden = x.shape[2]
            if not isinstance(hidden, int):
                c.unsupported("a symbolic hidden size without num_heads")
            heads = hidden // width
        x = split_heads(c, x, heads)
    if where.rank == 1:
        where = c.emit("add", c.reshape(where, (1, 1)), positions(c, 2, 1, x.shape[2]))
    y = rotated(c, x, cos, sin, where, node.int("interleaved", 0) != 0, width)
    return merge_heads(c, y) if flat else y


def group_query_attention(c: NodeContext, node: OnnxNode) -> list[Value | None]:
    """Causal attention of query heads that share key heads, over a cache that grows by this call."""
    heads, kv_heads = node.int("num_heads"), node.int("kv_num_heads")
    if node.int("smooth_softmax", 0) > 0 and c.input(11) is None:
        sink: Value | None = c.scalar(0.0, c.x.dtype)
    else:
        sink = c.input(11)
        sink = None if sink is None else c.reshape(sink, (1, heads, 1, 1))
    q, k, v = grouped_heads(c, heads, kv_heads)
    length = q.shape[2]
    lengths = c.cast(c.tensor(5), i64)
    size = c.reshape(c.b.dims_vector([length]), ())
    one = c.scalar(1, i64)
    before = c.emit("sub", c.emit("add", c.reshape(lengths, (q.shape[0], 1)), one), size)
    before = c.emit("max", before, c.scalar(0, i64))
    where = c.emit("add", before, positions(c, 2, 1, length))  # [batch, length]: the queries' own positions
    if node.int("do_rotary", 0):
        cos, sin = c.tensor(7), c.tensor(8)
        given = c.input(9)
        at, width = where if given is None else given, rotary_width(c, cos)
        interleaved = node.int("rotary_interleaved", 0) != 0
        q, k = (rotated(c, x, cos, sin, at, interleaved, width) for x in (q, k))
    keys, values = grown(c, c.input(3), k, where), grown(c, c.input(4), v, where)
    line, rows = positions(c, 4, 3, keys.shape[2]), c.reshape(where, (q.shape[0], 1, length, 1))
    keep = c.emit("le", line, rows)
    window = node.int("local_window_size", -1)
    if window >= 0:
        near = c.emit("gt", line, c.emit("sub", rows, c.scalar(window, i64)))
        keep = c.emit("logical_and", keep, near)
    hidden = filled_mask(c, c.cast(keep, boolean), -math.inf)
    more = c.input(10)
    if more is not None:
        spare = c.symbols.simplify(keys.shape[2] - more.shape[3])
        more = c.emit("pad", more, before=(0, 0, 0, 0), after=(0, 0, 0, spare))
    y = attend(
        c,
        q,
        keys,
        values,
        combined(c, hidden, more),
        scale_of(node, q.shape[3], c),
        node.float("softcap", 0.0),
        sink,
    )
    return [merge_heads(c, y), keys, values]


def grouped_heads(c: NodeContext, heads: int, kv_heads: int) -> tuple[Value, Value, Value]:
    """Queries, keys and values by head; all three may come in one tensor."""
    query, key, value = c.x, c.input(1), c.input(2)
    if key is not None and value is not None:
        return split_heads(c, query, heads), split_heads(c, key, kv_heads), split_heads(c, value, kv_heads)
    width = c.symbols.simplify(query.shape[2] // (heads + 2 * kv_heads))
    first = c.cut(query, 2, 0, heads * width)
    others = [c.cut(query, 2, (heads + i * kv_heads) * width, kv_heads * width) for i in (0, 1)]
    return (
        split_heads(c, first, heads),
        split_heads(c, others[0], kv_heads),
        split_heads(c, others[1], kv_heads),
    )


def grown(c: NodeContext, past: Value | None, new: Value, where: Value) -> Value:
    """A cache [batch, heads, positions, width] with new rows at their positions, longer where it must be."""
    if past is None:
        return new
    (total,) = bound(c, [sole(c, 6)], 0, what="total_sequence_length")
    longest = c.symbols.simplify(dmax(past.shape[2], total))
    batch, heads, _, width = past.shape
    spare = c.symbols.simplify(longest - past.shape[2])
    wide = c.emit("concat", past, c.filled((batch, heads, spare, width), 0, past.dtype), axis=2)
    return written_at(c, wide, new, where)


TABLE: dict[str, Row] = {
    "Attention": contrib(
        projected_attention,
        "do_rotary",
        "mask_filter_value",
        "num_heads",
        "past_present_share_buffer",
        "qkv_hidden_sizes",
        "scale",
        "unidirectional",
    ),
    "GroupQueryAttention": contrib(
        group_query_attention,
        "do_rotary",
        "kv_num_heads",
        "local_window_size",
        "num_heads",
        "rotary_interleaved",
        "scale",
        "smooth_softmax",
        "softcap",
    ),
    "MultiHeadAttention": contrib(
        multi_head_attention, "mask_filter_value", "num_heads", "scale", "unidirectional"
    ),
    "RotaryEmbedding": contrib(
        rotary_embedding, "interleaved", "is_packed_batching", "num_heads", "rotary_embedding_dim", "scale"
    ),
}
