"""Taps that only padding meets: which, and that nothing else changes."""

from __future__ import annotations

from typing import Any

import pytest

from aino_ir.builder import Builder
from aino_ir.graph import Module
from aino_ir.passes.drop_unused_taps import DropUnusedTaps, used_taps
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
