"""Batch normalisation and per-channel affine maps in convolution weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ml_dtypes import bfloat16

from aino_ir.builder import Builder
from aino_ir.graph import Module, Value
from aino_ir.interp import run_module
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


@pytest.mark.parametrize("statistics", [np.float32, bfloat16])
def test_norm_of_halves_alone_is_rounded_once(statistics: Any) -> None:
    """f32 in between, whatever the parameters are: half a unit in the last place, and no error of a channel."""
    b = Builder()
    x = b.input("x", tensor("bf16", 64, 6, 5, 5))
    given = [RNG.uniform(0.5, 1.5, 6).astype(np.float32).astype(bfloat16) for _ in range(4)]
    b.output("y", b.batch_norm(x, *(b.constant(g.astype(statistics)) for g in given), axis=1, epsilon=1e-3))
    run_pass(FOLD, b.module)
    assert {"math.mul", "math.add"} <= set(op_names(b.module))
    data = RNG.standard_normal((64, 6, 5, 5)).astype(np.float32).astype(bfloat16)
    (got,) = run_module(b.module, [data])
    scale, bias, mean, variance = (np.float64(g).reshape(6, 1, 1) for g in given)
    exact = (np.float64(data) - mean) / np.sqrt(variance + 1e-3) * scale + bias
    error = np.abs(np.float64(got) - exact)
    assert np.all(error <= 2.0**-8 * np.abs(exact) + 1e-6)


def test_folding_halves_costs_no_more_than_they_do() -> None:
    """A convolution and its norm in bf16: about as far from exact numbers before and after."""
    b = Builder()
    x = b.input("x", tensor("bf16", 8, 16, 6, 6))
    w, *given = (
        RNG.uniform(0.5, 1.5, s).astype(np.float32).astype(bfloat16) for s in ((8, 16, 1, 1), *[(8,)] * 4)
    )
    places = {"strides": (1, 1), "dilations": (1, 1), "pads_before": (0, 0), "pads_after": (0, 0)}
    y = b.conv(x, b.constant(w), **places, groups=1)
    b.output("y", b.batch_norm(y, *map(b.constant, given), axis=1, epsilon=1e-3))
    before = b.module.clone()
    run_pass(FOLD, b.module)
    assert op_names(b.module) == ["nn.conv"]
    data = RNG.standard_normal((8, 16, 6, 6)).astype(np.float32).astype(bfloat16)
    scale, bias, mean, variance = (np.float64(g).reshape(8, 1, 1) for g in given)
    products = np.einsum("oi,nihw->nohw", np.float64(w)[:, :, 0, 0], np.float64(data))
    exact = (products - mean) / np.sqrt(variance + 1e-3) * scale + bias
    apart, together = (
        np.sqrt(np.mean((np.float64(run_module(m, [data])[0]) - exact) ** 2)) for m in (before, b.module)
    )
    assert together <= 1.5 * apart
