"""Batch normalisation and per-channel affine maps in convolution weights."""

from __future__ import annotations

import numpy as np
import pytest
from ml_dtypes import bfloat16

from aino_ir.builder import Builder
from aino_ir.graph import Module, Value
from aino_ir.passes.base import PassContext
from aino_ir.passes.fold_batch_norm import FoldBatchNorm
from aino_ir.passes.fold_constants import FoldConstants
from aino_ir.pattern import constant_of
from aino_ir.types import tensor
from tests.passes.helpers import assert_same_meaning, op_names, run_pass

FOLD = [FoldBatchNorm(), FoldConstants()]
RNG = np.random.default_rng(3)


def c(b: Builder, *shape: int, positive: bool = False) -> Value:
    data = RNG.standard_normal(shape).astype(np.float32)
    return b.constant(np.abs(data) + 0.1 if positive else data)


def conv(b: Builder, x: Value, bias: bool = True, groups: int = 1) -> Value:
    w = c(b, 6, x.shape[1] // groups, 3, 3)
    attrs = {
        "strides": (1, 1),
        "dilations": (1, 1),
        "pads_before": (1, 1),
        "pads_after": (1, 1),
        "groups": groups,
    }
    return b.conv(x, w, c(b, 6), **attrs) if bias else b.conv(x, w, **attrs)


def norm(b: Builder, x: Value) -> Value:
    n = x.shape[1]
    return b.batch_norm(x, c(b, n), c(b, n), c(b, n), c(b, n, positive=True), axis=1, epsilon=1e-3)


def start() -> tuple[Builder, Value]:
    b = Builder()
    return b, b.input("x", tensor("f32", 2, 4, 5, 6))


def folded(b: Builder, y: Value, left: list[str]) -> Module:
    b.output("y", y)
    before = b.module.clone()
    report = run_pass(FOLD, b.module)
    assert op_names(b.module) == left
    assert_same_meaning(before, b.module)
    assert report.sites.unvalidated == 0
    assert not run_pass(FOLD, b.module).changed
    return b.module


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("groups", [1, 2])
def test_norm_into_convolution(bias: bool, groups: int) -> None:
    b, x = start()
    folded(b, norm(b, conv(b, x, bias, groups)), ["nn.conv"])


@pytest.mark.parametrize("shape", [(6, 1, 1), (1, 6, 1, 1), (), (1,)])
@pytest.mark.parametrize("bias", [True, False])
def test_scale_and_shift_into_convolution(shape: tuple[int, ...], bias: bool) -> None:
    b, x = start()
    y = b.sub(b.add(b.mul(conv(b, x, bias), c(b, *shape)), c(b, *shape)), c(b, *shape))
    folded(b, y, ["nn.conv"])


@pytest.mark.parametrize("bias", [True, False])
def test_statistics_of_a_wider_type(bias: bool) -> None:
    b = Builder()
    x = b.input("x", tensor("bf16", 2, 4, 5, 6))
    parts = [b.constant(RNG.standard_normal(s).astype(bfloat16)) for s in ((6, 4, 3, 3), (6,))]
    places = dict.fromkeys(("strides", "dilations", "pads_before", "pads_after"), (1, 1))
    y = b.conv(x, *parts[: 1 + bias], **places, groups=1)
    folded(b, norm(b, y), ["nn.conv"])


def test_weights_are_rounded_once() -> None:
    b, x = start()
    module = folded(b, norm(b, b.mul(conv(b, x), c(b, 6, 1, 1))), ["nn.conv"])
    op = next(o for o in module.main.block if o.name == "nn.conv")
    handle = constant_of(op.w)
    assert handle is not None
    np.testing.assert_array_equal(handle.array(), handle.array(wide=True).astype(np.float32))


def test_norm_alone_becomes_affine() -> None:
    b, x = start()
    folded(b, norm(b, x), ["math.mul", "math.add"])


def test_norm_of_a_convolution_with_other_readers() -> None:
    b, x = start()
    y = conv(b, x)
    b.output("z", y)
    folded(b, norm(b, y), ["nn.conv", "math.mul", "math.add"])


def test_spatial_factor_stays() -> None:
    b, x = start()
    b.output("y", b.mul(conv(b, x), c(b, 5, 6)))
    ctx = PassContext()
    assert not run_pass(FOLD, b.module, ctx).changed
    assert [r.reason for _, r in ctx.refusals] == ["the factor is not per channel"]


def test_run_time_weights_stay() -> None:
    b, x = start()
    w = b.input("w", tensor("f32", 6, 4, 1, 1))
    attrs = {"strides": (1, 1), "dilations": (1, 1), "pads_before": (0, 0), "pads_after": (0, 0)}
    b.output("y", b.mul(b.conv(x, w, **attrs), c(b, 6, 1, 1)))
    ctx = PassContext()
    assert not run_pass(FoldBatchNorm(), b.module, ctx).changed
    assert [r.reason for _, r in ctx.refusals] == ["the weights are no constant"]
