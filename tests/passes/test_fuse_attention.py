"""Attention as exporters write it: scales in several places, masks, masked rows, transposed keys."""

from __future__ import annotations

import numpy as np
import pytest

from aino_ir.builder import Builder
from aino_ir.graph import Module, Value
from aino_ir.passes.fuse_attention import FuseAttention
from aino_ir.types import tensor
from tests.passes.helpers import assert_fuses, assert_not_fused


def c(b: Builder, value: float) -> Value:
    return b.constant(np.float32(value))


def softmax(b: Builder, x: Value, guarded: bool) -> Value:
    p = b.softmax(x, axis=-1)
    return b.select(b.is_nan(p), c(b, 0), p) if guarded else p


def attention(
    scale_at: str = "product", mask: bool = True, guarded: bool = True, keys: str = "transposed", kv: int = 2
) -> Module:
    b = Builder()
    q = b.input("q", tensor("f32", 1, 2, 5, 4))
    k = b.input("k", tensor("f32", 1, kv, 7, 4))
    v = b.input("v", tensor("f32", 1, kv, 7, 6))
    if scale_at == "both":
        q, k = b.mul(q, c(b, 0.7)), b.mul(k, c(b, 0.7))
    right = k if keys == "flag" else b.transpose(k, perm=(0, 1, 3, 2))
    logits = b.matmul(q, right, transpose_rhs=keys == "flag")
    if scale_at == "product":
        logits = b.div(logits, c(b, 2.0))
    if mask:
        logits = b.add(logits, b.input("mask", tensor("f32", 1, 1, 5, 7)))
    if scale_at == "logits":
        logits = b.mul(c(b, 0.5), logits)
    b.output("y", b.matmul(softmax(b, logits, guarded), v))
    return b.module


@pytest.mark.parametrize("scale_at", ["nowhere", "product", "both"])
@pytest.mark.parametrize("mask", [True, False])
@pytest.mark.parametrize("guarded", [True, False])
@pytest.mark.parametrize("keys", ["transposed", "flag"])
def test_fused(scale_at: str, mask: bool, guarded: bool, keys: str) -> None:
    module = attention(scale_at, mask, guarded, keys)
    moved = ["tensor.transpose"] if keys == "transposed" else []
    left = [*moved, "nn.attention"] if keys == "flag" else ["nn.attention"]
    report = assert_fuses(module, [FuseAttention(), "canonicalize"], left)
    assert report.sites.run >= 1
    op = next(o for o in module.main.block if o.name == "nn.attention")
    assert op.masked_rows_zero is guarded
    want = {"nowhere": 1.0, "product": 0.5, "both": float(np.float32(0.7)) ** 2}[scale_at]
    assert op.scale == pytest.approx(want, rel=1e-12)


def test_scale_of_the_whole_logits_without_mask() -> None:
    assert_fuses(attention("logits", mask=False), [FuseAttention(), "canonicalize"], ["nn.attention"])


def refused(module: Module, reason: str) -> None:
    assert_not_fused(module, FuseAttention(), reason)


def test_scale_of_masked_logits_is_left() -> None:
    refused(attention("logits"), "the logits are no matmul")


def test_broadcast_heads_are_left() -> None:
    refused(attention(kv=1), "2 query heads for 1 key heads")


def test_softmax_along_another_axis_is_left() -> None:
    b = Builder()
    q = b.input("q", tensor("f32", 1, 2, 5, 4))
    logits = b.matmul(q, q, transpose_rhs=True)
    b.output("y", b.matmul(b.softmax(logits, axis=2), q))
    refused(b.module, "the softmax runs along axis 2")


def test_logits_with_other_readers_are_left() -> None:
    b = Builder()
    q = b.input("q", tensor("f32", 1, 2, 5, 4))
    logits = b.matmul(q, q, transpose_rhs=True)
    b.output("logits", logits)
    b.output("y", b.matmul(b.softmax(logits, axis=-1), q))
    refused(b.module, "the logits have other readers")


def test_other_ranks_are_left() -> None:
    b = Builder()
    q = b.input("q", tensor("f32", 2, 5, 4))
    b.output("y", b.matmul(b.softmax(b.matmul(q, q, transpose_rhs=True), axis=-1), q))
    refused(b.module, "operands of rank 3")


def test_transposed_product_is_left() -> None:
    b = Builder()
    q = b.input("q", tensor("f32", 1, 2, 5, 5))
    b.output("y", b.matmul(b.softmax(b.matmul(q, q), axis=-1), q, transpose_rhs=True))
    refused(b.module, "the product with v is transposed")


def test_sum_without_a_product_is_left() -> None:
    b = Builder()
    q = b.input("q", tensor("f32", 1, 2, 5, 5))
    b.output("y", b.matmul(b.softmax(b.add(q, q), axis=-1), q))
    refused(b.module, "neither operand of the sum")
