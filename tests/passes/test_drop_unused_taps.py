"""Taps that only padding meets: which, and that nothing else changes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from aino_ir.builder import Builder
from aino_ir.graph import Module
from aino_ir.interp import run_module
from aino_ir.ops.nn import used_taps
from aino_ir.passes.drop_unused_taps import DropUnusedTaps
from aino_ir.types import tensor
from tests.passes.helpers import assert_fuses, assert_not_fused, op_names, run_pass


def convolution(op: str, x: tuple[int, ...], w: tuple[int, ...], **given: Any) -> Module:
    rank = len(x) - 2
    attrs = {"strides": 1, "dilations": 1, "pads_before": 1, "pads_after": 1, **given}
    if op == "conv_transpose":
        attrs.setdefault("output_padding", 0)
    b = Builder()
    lists = {k: v if isinstance(v, tuple) else (v,) * rank for k, v in attrs.items()}
    b.output("y", getattr(b, op)(b.input("x", tensor("f32", *x)), b.input("w", tensor("f32", *w)), **lists))
    return b.module


@pytest.mark.parametrize("op", ["conv", "conv_transpose"])
def test_only_the_middle_tap_of_a_small_picture(op: str) -> None:
    module = convolution(op, (2, 3, 1, 1), (3, 3, 3, 3))
    assert_fuses(module, DropUnusedTaps(), ["tensor.slice", f"nn.{op}"])
    last = next(o for o in module.main.block if o.name == f"nn.{op}")
    assert last.w.shape[2:] == (1, 1) and last.pads_before == last.pads_after == (0, 0)


@pytest.mark.parametrize("op", ["conv", "conv_transpose"])
@pytest.mark.parametrize(
    ("spatial", "kernel", "attrs"),
    [
        ((1, 4), (3, 3), {}),
        ((2, 1), (5, 3), {"pads_before": (4, 1), "pads_after": (2, 1)}),
        ((3, 3), (3, 3), {"strides": 4, "pads_before": 2, "pads_after": 0}),
        ((2, 2), (3, 3), {"dilations": 3, "pads_before": 3, "pads_after": 3}),
    ],
)
def test_other_geometries_mean_the_same(
    op: str, spatial: tuple[int, ...], kernel: tuple[int, ...], attrs: dict[str, Any]
) -> None:
    module = convolution(op, (2, 3, *spatial), (3, 3, *kernel), **attrs)
    names = op_names(module)
    run_pass(DropUnusedTaps(), module.clone())
    before = op_names(module)
    assert before == names
    assert_fuses(module, DropUnusedTaps(), _expected(module))


def _expected(module: Module) -> list[str]:
    copy = module.clone()
    run_pass(DropUnusedTaps(), copy)
    return op_names(copy)


def test_taps_that_are_used_stay() -> None:
    module = convolution("conv", (1, 2, 2, 2), (2, 2, 3, 3))
    assert not run_pass(DropUnusedTaps(), module).changed


def test_what_would_have_to_be_cut_off_is_left_alone() -> None:
    module = convolution("conv", (1, 2, 5), (2, 2, 2), strides=9, dilations=4, pads_before=3, pads_after=0)
    assert_not_fused(module, DropUnusedTaps(), "cut off")


def test_used_taps_are_those_that_meet_an_element() -> None:
    for steps in (1, 2, 4):
        for stride in (1, 2, 3):
            for dilation in (1, 2):
                for pad in (0, 1, 3):
                    for limit in (1, 2, 5):
                        met = [
                            t
                            for t in range(4)
                            if any(0 <= i * stride + t * dilation - pad < limit for i in range(steps))
                        ]
                        want = (met[0], met[-1] - met[0] + 1) if met else (0, 0)
                        assert used_taps(steps, stride, dilation, pad, limit, 4) == want


def pool(op: str, x: tuple[int, ...], kernel: tuple[int, ...], **given: Any) -> Module:
    rank = len(kernel)
    attrs = {"strides": 1, "dilations": 1, "pads_before": 0, "pads_after": 0, **given}
    flags = {name: attrs.pop(name) for name in ("ceil_mode", "count_include_pad") if name in attrs}
    lists = {k: v if isinstance(v, tuple) else (v,) * rank for k, v in attrs.items()}
    b = Builder()
    b.output("y", getattr(b, op)(b.input("x", tensor("f32", *x)), kernel=kernel, **lists, **flags))
    return b.module


@pytest.mark.parametrize("op", ["max_pool", "avg_pool", "lp_pool"])
@pytest.mark.parametrize(
    ("spatial", "kernel", "attrs", "left"),
    [
        ((7, 5), (1280, 1280), {"strides": 1280, "ceil_mode": True}, (7, 5)),
        ((2, 3), (9, 9), {"pads_before": 3, "pads_after": 4}, (2, 4)),
        ((1,), (5,), {"pads_before": 2, "pads_after": 2}, (1,)),
        ((4,), (4,), {"strides": 3, "dilations": 2, "pads_before": 4, "pads_after": 1}, (2,)),
    ],
)
def test_pools_larger_than_pictures(
    op: str, spatial: tuple[int, ...], kernel: tuple[int, ...], attrs: dict[str, Any], left: tuple[int, ...]
) -> None:
    module = pool(op, (2, 3, *spatial), kernel, **attrs)
    assert_fuses(module, DropUnusedTaps(), [f"nn.{op}"])
    assert next(iter(module.main.block)).kernel == left


def test_pads_that_count_in_a_mean_are_taps() -> None:
    module = pool("avg_pool", (1, 2, 3), (5,), pads_before=1, pads_after=1, count_include_pad=True)
    assert not run_pass(DropUnusedTaps(), module).changed
    given = {"pads_before": 1, "ceil_mode": True, "count_include_pad": True, "strides": 9}
    module = pool("avg_pool", (1, 2, 3), (9,), **given)
    assert_fuses(module, DropUnusedTaps(), ["nn.avg_pool"])
    assert next(iter(module.main.block)).kernel == (4,)


def test_the_interpreter_looks_at_used_taps_alone() -> None:
    """A window of 10^12 elements over a picture of 4."""
    module = pool("avg_pool", (1, 1, 2, 2), (10**6, 10**6), strides=10**6, ceil_mode=True)
    x = np.asarray([[[[1, 2], [3, 6]]]], np.float32)
    assert run_module(module, [x])[0].item() == 3
