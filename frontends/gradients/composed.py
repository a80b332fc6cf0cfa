"""Rules of ops that are written as a composition of simpler ones, which is differentiated in their place."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from aino_ir.dims import DimLike, product
from aino_ir.frontends.floats import Number
from aino_ir.frontends.gradients.engine import Gradients, Rule, Step, pullback
from aino_ir.graph import Value


def composed(build: Callable[[Step], Value]) -> Rule:
    """The rule of an op whose first result `build` makes of the same operands by other ops."""

    def rule(s: Step) -> Gradients:
        if any(c is not None for c in s.cotangents[1:]):
            s.missing("of its further results")
        made = build(s)
        inputs = list(dict.fromkeys(v for v, w in zip(s.op.operands, s.wanted, strict=True) if v and w))
        found = dict(zip(inputs, pullback(s.b, s.rules, [(made, s.c)], inputs), strict=True))
        return [found.pop(v, None) if v is not None else None for v in s.op.operands]

    return rule


def _mean(s: Step, x: Number, axes: Sequence[int]) -> Number:
    return s.number(s.emit("reduce.mean", x.value, axes=tuple(axes), keepdims=True))


def normalized(s: Step, x: Number, axes: Sequence[int], epsilon: float) -> Number:
    """(x - mean) / sqrt(variance + epsilon) over axes."""
    centred = x - _mean(s, x, axes)
    return centred * (_mean(s, centred * centred, axes) + epsilon).map("rsqrt")


def scaled(s: Step, x: Number, first: int, shape: tuple[DimLike, ...] | None = None) -> Value:
    """x * scale + bias, the operands from `first` on, where they are there; reshaped first."""
    for position, op in enumerate(("mul", "add"), first):
        value = s.op.operands[position] if position < len(s.op.operands) else None
        if value is not None:
            more = value if shape is None else s.reshape(value, shape)
            x = s.number(s.emit(op, x.value, more))
    return x.value


def _last_axes(s: Step) -> tuple[int, ...]:
    rank = s.x().rank
    return tuple(range(s.attr("axis") % rank, rank))


def _layer_norm(s: Step) -> Value:
    return scaled(s, normalized(s, s.number(s.x()), _last_axes(s), s.real("epsilon")), 1)


def _rms_norm(s: Step) -> Value:
    x = s.number(s.x())
    size = (_mean(s, x * x, _last_axes(s)) + s.real("epsilon")).map("rsqrt")
    return scaled(s, x * size, 1)


def _per_channel(x: Value, axis: int = 1) -> tuple[DimLike, ...]:
    """The shape in which one number a channel broadcasts to x."""
    return tuple(d if a == axis else 1 for a, d in enumerate(x.shape))


def _instance_norm(s: Step) -> Value:
    x = s.x()
    return scaled(s, normalized(s, s.number(x), range(2, x.rank), s.real("epsilon")), 1, _per_channel(x))


def _group_norm(s: Step) -> Value:
    x, groups = s.x(), s.attr("groups")
    size = x.shape[1] // groups * product(x.shape[2:])
    rows = s.number(s.reshape(x, (x.shape[0], groups, size)))
    y = normalized(s, rows, (2,), s.real("epsilon")).reshaped(*x.shape)
    return scaled(s, y, 1, _per_channel(x))


def _mean_variance_norm(s: Step) -> Value:
    x, axes = s.number(s.x()), s.attr("axes")
    centred = x - _mean(s, x, axes)
    return (centred / (_mean(s, centred * centred, axes).map("sqrt") + s.real("epsilon"))).value


def _batch_norm(s: Step) -> Value:
    x, axis = s.x(), s.attr("axis") % s.x().rank
    shape = _per_channel(x, axis)
    scale, bias, mean, variance = (s.number(s.reshape(s.x(i), shape)) for i in range(1, 5))
    y = (s.number(x) - mean) * (variance + s.real("epsilon")).map("rsqrt")
    return (y * scale + bias).value


def _lp_norm(s: Step) -> Value:
    x, axis = s.number(s.x()), s.attr("axis") % s.x().rank
    op = "reduce.l1" if s.attr("p") == 1 else "reduce.l2"
    norm = s.number(s.emit(op, x.value, axes=(axis,), keepdims=True))
    bound = norm if s.real("epsilon") == 0 else norm.clamp(s.real("epsilon"), float("inf"))
    return (x / norm.equals(0.0).choose(1.0, bound)).value


def _local_response_norm(s: Step) -> Value:
    """The window sums as sums of shifted squares."""
    x, size = s.number(s.x()), s.attr("size")
    before, channels = (size - 1) // 2, s.x().shape[1]
    pads = [0] * s.x().rank
    low, high = list(pads), list(pads)
    low[1], high[1] = before, size - 1 - before
    squares = s.emit("pad", (x * x).value, before=tuple(low), after=tuple(high))
    total = s.number(s.cut(squares, 1, 0, channels))
    for shift in range(1, size):
        total = total + s.number(s.cut(squares, 1, shift, channels))
    base = total * (s.real("alpha") / size) + s.real("bias")
    return (x / s.number(s.emit("pow", base.value, s.scalar(s.real("beta"), x.dtype)))).value


def _attention(s: Step) -> Value:
    """softmax(scale q k^T + bias) v, the queries of a group of heads as one batch axis."""
    q, k, v = s.x(0), s.x(1), s.x(2)
    batch, heads, queries, width = q.shape
    kv_heads, keys = k.shape[1], k.shape[2]
    group = 1 if heads == kv_heads else heads // kv_heads
    apart = s.reshape(q, (batch, kv_heads, group, queries, width))
    of_keys = s.reshape(k, (batch, kv_heads, 1, keys, width))
    of_values = s.reshape(v, (batch, kv_heads, 1, keys, v.shape[3]))
    raw = s.number(s.emit("matmul", apart, of_keys, transpose_rhs=True)) * s.real("scale")
    logits = raw.reshaped(batch, heads, queries, keys)
    bias = s.op.operands[3] if len(s.op.operands) > 3 else None
    if bias is not None:
        logits = logits + s.number(bias)
    if s.attr("causal"):
        at_key = s.emit("range", start=0, size=keys)
        at_query = s.reshape(s.emit("range", start=s.attr("offset"), size=queries), (queries, 1))
        logits = logits.where(s.emit("le", at_key, at_query), float("-inf"))
    seen: Value | None = None
    if s.attr("masked_rows_zero"):
        top = s.number(s.emit("reduce.max", logits.value, axes=(3,), keepdims=True))
        seen = (top > float("-inf")).value
        logits = logits.where(seen, 0.0)
    shares = s.number(s.emit("softmax", logits.value, axis=3))
    if seen is not None:
        shares = shares.where(seen, 0.0)
    mixed = s.emit("matmul", s.reshape(shares.value, (batch, kv_heads, group, queries, keys)), of_values)
    return s.reshape(mixed, (batch, heads, queries, v.shape[3]))


TABLE: dict[str, Rule] = {
    "nn.attention": composed(_attention),
    "normalize.batch_norm": composed(_batch_norm),
    "normalize.group_norm": composed(_group_norm),
    "normalize.instance_norm": composed(_instance_norm),
    "normalize.layer_norm": composed(_layer_norm),
    "normalize.local_response_norm": composed(_local_response_norm),
    "normalize.lp_norm": composed(_lp_norm),
    "normalize.mean_variance_norm": composed(_mean_variance_norm),
    "normalize.rms_norm": composed(_rms_norm),
}
"""Rules by op name."""
