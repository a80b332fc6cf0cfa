"""Scaled dot-product attention."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from aino_ir.compute import axis_name, read_broadcast
from aino_ir.dims import DimLike, is_static, product, symbol
from aino_ir.elementwise import ACCEPTS
from aino_ir.infer import InferContext
from aino_ir.kernels import Attention as AttentionProgram
from aino_ir.loops.expr import Arg, Expr, VecType, compare, index, select
from aino_ir.op import Op, Sample, bool_attr, dim_attr, float_attr, operand, optional_operand
from aino_ir.ops.math import Array
from aino_ir.sampling import accepted_dtypes, random_values, seeded
from aino_ir.special import in_double
from aino_ir.types import TensorType, Type


class Attention(Op):
    """out = softmax(scale * q k^T + bias) v, softmax over the keys.

    q [batch, heads, queries, width], k [batch, kv_heads, keys, width], v [batch, kv_heads, keys,
    value_width], with heads a multiple of kv_heads: query head h reads key head h // (heads / kv_heads).
    `bias` broadcasts to [batch, heads, queries, keys].  With `causal` a query q sees the keys up to
    q + offset.  A query that sees no key (all its logits are -inf) is NaN, or zero with
    `masked_rows_zero`.
    """

    name = "nn.attention"
    q = operand()
    k = operand()
    v = operand()
    bias = optional_operand()
    scale = float_attr(1.0)
    causal = bool_attr(False)
    offset = dim_attr(0)
    masked_rows_zero = bool_attr(False)

    def infer(self, ic: InferContext) -> list[Type]:
        values = [v for v in (self.q, self.k, self.v, self.bias) if v is not None]
        dtype = ic.same_dtype(*values)
        if not ACCEPTS["float"](dtype):
            ic.bad_dtype("dtype of q", "float", dtype)
        for v, what in zip(values, ("q", "k", "v"), strict=False):
            ic.rank(v, 4, what)
        batch, heads, queries, width = self.q.shape
        kv_heads, keys = self.k.shape[1:3]
        ic.same(width, self.k.shape[3], "widths of q and k")
        ic.same(batch, self.k.shape[0], "batches of q and k")
        ic.same_shape(self.k.shape[:3], self.v.shape[:3], "k and v without their widths")
        if is_static(heads) and is_static(kv_heads) and (kv_heads == 0 or heads % kv_heads):
            ic.bad_operand("heads of q", f"a multiple of {kv_heads}", heads)
        if self.bias is not None:
            logits = (batch, heads, queries, keys)
            if self.bias.rank > 4:
                ic.bad_operand("rank of bias", "at most 4", self.bias.rank)
            ic.same_shape(ic.broadcast(logits, self.bias.shape), logits, "logits and logits with bias")
        return [TensorType(dtype, ic.result_shape((batch, heads, queries, self.v.shape[3])))]

    def evaluate(self, ev: Any, q: Array, k: Array, v: Array, bias: Array | None = None) -> Array:
        def reference(q: Array, k: Array, v: Array, bias: Array) -> Array:
            groups = q.shape[1] // max(k.shape[1], 1)
            k, v = np.repeat(k, groups, axis=1), np.repeat(v, groups, axis=1)
            logits = self.scale * np.matmul(q, np.swapaxes(k, -1, -2)) + bias
            if self.causal:
                seen = np.arange(k.shape[2]) <= np.arange(q.shape[2])[:, None] + ev.size(self.offset)
                logits = np.where(seen, logits, -np.inf)
            top = np.max(logits, axis=-1, keepdims=True, initial=-np.inf)
            if self.masked_rows_zero:
                top = np.where(top == -np.inf, 0.0, top)
            e = np.exp(logits - top)
            total = np.sum(e, axis=-1, keepdims=True)
            if self.masked_rows_zero:
                total = np.where(total == 0, 1.0, total)
            return np.asarray(np.matmul(e / total, v))

        return in_double(reference, q, k, v, np.zeros((), q.dtype) if bias is None else bias)

    def define(self) -> AttentionProgram:
        batch, heads, queries, width = self.q.shape
        at = tuple(symbol(axis_name(name)) for name in ("b", "h", "q", "k"))
        score: Expr = Arg(0, VecType(self.q.dtype.compute)) * self.scale
        if self.bias is not None:
            score = score + read_broadcast(self.bias, 3, at)
        if self.causal:
            seen = compare("le", index(at[3]), index(at[2] + self.offset))
            score = select(seen, score, float("-inf"))
        return AttentionProgram(
            batch,
            heads,
            self.k.shape[1],
            queries,
            self.k.shape[2],
            width,
            self.v.shape[3],
            score,
            self.causal,
            self.offset,
            self.masked_rows_zero,
        )

    def cost(self) -> DimLike:
        width: DimLike = self.q.shape[3] + self.v.shape[3]
        keys: DimLike = self.k.shape[2]
        return 2 * product(self.q.shape[:3]) * keys * width

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        rng = seeded(cls.name)
        for dtype in accepted_dtypes("float"):
            operands = _operands(dtype, (2, 3, 5, 4), (2, 3, 7, 4), 6, None, rng)
            yield Sample(operands, {"scale": 0.5}, f"{dtype}")
        first = accepted_dtypes("float")[0]
        masked = np.zeros((5, 7), first.numpy)
        masked[1, :], masked[2, 3:] = -np.inf, -np.inf
        plain = _operands(first, (1, 2, 5, 8), (1, 2, 7, 8), 8, (1, 1, 5, 7), rng)
        yield Sample(plain, {"scale": 8**-0.5}, "bias")
        yield Sample((*plain[:3], masked), {"masked_rows_zero": True}, "a query that sees no key")
        yield Sample(plain[:3], {"causal": True, "offset": 2}, "causal")
        grouped = _operands(first, (1, 4, 3, 8), (1, 2, 9, 8), 5, (4, 1, 9), rng)
        yield Sample(grouped, {}, "grouped heads")


def _operands(
    dtype: Any,
    q: tuple[int, ...],
    k: tuple[int, ...],
    value_width: int,
    bias: tuple[int, ...] | None,
    rng: np.random.Generator,
) -> tuple[Array | None, ...]:
    made = [random_values(dtype, shape, rng) for shape in (q, k, (*k[:3], value_width))]
    return (*made, None if bias is None else random_values(dtype, bias, rng))
