"""Transposed convolutions by the remainders of their positions: every geometry means the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from aino_ir.builder import Builder
from aino_ir.graph import Module
from aino_ir.passes.split_transposed_convolutions import SplitTransposedConvolutions, residue_of
from aino_ir.types import tensor
from tests.passes.helpers import assert_not_fused, assert_same_meaning, op_names, run_pass


def transposed(
    x: tuple[int, ...],
    w: tuple[int, ...],
    bias: bool = False,
    groups: int = 1,
    constant: bool = False,
    **given: Any,
) -> Module:
    rank = len(x) - 2
    attrs = {"strides": 1, "dilations": 1, "pads_before": 0, "pads_after": 0, "output_padding": 0, **given}
    full = {k: v if isinstance(v, tuple) else (v,) * rank for k, v in attrs.items()}
    b = Builder()
    weights = np.random.default_rng(0).standard_normal(w).astype(np.float32)
    operands = [b.input("x", tensor("f32", *x))]
    operands.append(b.constant(weights, "w") if constant else b.input("w", tensor("f32", *w)))
    if bias:
        operands.append(b.input("bias", tensor("f32", w[1] * groups)))
    b.output("y", b.conv_transpose(*operands, groups=groups, **full))
    return b.module


GEOMETRIES: list[tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = [
    ((2, 3, 4, 5), (3, 4, 3, 3), {"strides": 2, "pads_before": 1, "pads_after": 1, "output_padding": 1}),
    ((1, 3, 4, 5), (3, 2, 3, 3), {"strides": 2, "pads_before": 1, "pads_after": 1, "bias": True}),
    ((1, 2, 3, 4), (2, 2, 1, 1), {"strides": 2, "output_padding": 1}),
    ((1, 2, 3, 4), (2, 2, 1, 1), {"strides": 2, "bias": True}),
    ((2, 4, 3, 3), (4, 2, 4, 5), {"strides": (3, 2), "pads_before": (1, 2), "groups": 2, "bias": True}),
    ((1, 2, 5), (2, 3, 4), {"strides": 3, "dilations": 2, "pads_before": 6, "pads_after": 1}),
    ((1, 2, 3, 3), (2, 2, 2, 3), {"strides": (1, 2), "pads_after": (0, 1)}),
    ((1, 2, 2, 3, 2), (2, 1, 2, 3, 2), {"strides": 2, "pads_before": (1, 1, 0)}),
    ((1, 1, 2, 2), (1, 1, 2, 2), {"strides": 2, "output_padding": 3}),
    ((1, 2, 2), (2, 2, 2), {"strides": 2, "output_padding": 3, "bias": True}),
]


@pytest.mark.parametrize(("x", "w", "attrs"), GEOMETRIES)
def test_every_geometry(x: tuple[int, ...], w: tuple[int, ...], attrs: dict[str, Any]) -> None:
    module = transposed(x, w, **attrs)
    before = module.clone()
    assert run_pass(SplitTransposedConvolutions(), module).changed
    assert_same_meaning(before, module)
    for op in module.main.block:
        if op.name == "nn.conv_transpose":
            assert set(op.strides) == {1}
    assert not run_pass(SplitTransposedConvolutions(), module).changed


PLAIN: list[tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = [
    ((2, 4, 3, 5), (4, 3, 3, 2), {"groups": 2, "bias": True, "pads_before": (1, 0), "dilations": (2, 1)}),
    ((1, 3, 5), (3, 2, 4), {"output_padding": 2, "dilations": 3}),
    ((1, 2, 6), (2, 3, 2), {"pads_before": 2, "pads_after": 3}),
    ((1, 2, 2, 3, 2), (2, 1, 2, 1, 2), {"pads_after": (0, 0, 1)}),
]


@pytest.mark.parametrize(("x", "w", "attrs"), [*GEOMETRIES, *PLAIN])
def test_constant_weights_are_turned_over(
    x: tuple[int, ...], w: tuple[int, ...], attrs: dict[str, Any]
) -> None:
    module = transposed(x, w, constant=True, **attrs)
    before = module.clone()
    assert run_pass(SplitTransposedConvolutions(), module).changed
    assert_same_meaning(before, module)
    names = op_names(module)
    assert "nn.conv" in names and "nn.conv_transpose" not in names


def test_no_work_is_done_for_zeros() -> None:
    """A 3x3 kernel with stride 2 has 9 taps: 1, 2, 2 and 4 of them for the four remainders."""
    module = transposed((1, 3, 4, 4), (3, 4, 3, 3), strides=2, pads_before=1, pads_after=1, output_padding=1)
    run_pass(SplitTransposedConvolutions(), module)
    taps = [np.prod(o.w.shape[2:]) for o in module.main.block if o.name == "nn.conv_transpose"]
    assert sorted(taps) == [1, 2, 2, 4]
    module = transposed((1, 3, 4, 4), (3, 4, 1, 1), strides=2, output_padding=1)
    run_pass(SplitTransposedConvolutions(), module)
    assert op_names(module).count("nn.conv_transpose") == 1


@pytest.mark.parametrize(
    ("x", "w", "attrs", "reason"),
    [
        ((1, 2, 5), (2, 3, 4), {"strides": 3, "dilations": 2}, "begin behind"),
        ((0, 2, 3, 3), (2, 2, 3, 3), {"strides": 2}, "nothing to compute"),
        ((1, 2, 1), (2, 3, 3), {"pads_before": 3, "output_padding": 2, "constant": True}, "all of its"),
    ],
)
def test_what_is_left_alone(
    x: tuple[int, ...], w: tuple[int, ...], attrs: dict[str, Any], reason: str
) -> None:
    assert_not_fused(transposed(x, w, **attrs), SplitTransposedConvolutions(), reason)


def test_residues_count_every_tap_once() -> None:
    for stride in (1, 2, 3, 4, 6):
        for dilation in (1, 2, 3, 4):
            for taps in (1, 2, 5):
                reached = []
                for r in range(stride):
                    found = residue_of(r, stride, dilation, taps * dilation, taps)
                    if found is not None:
                        reached += [found.first + i * found.step for i in range(found.count)]
                assert sorted(set(reached)) == sorted(reached)
                step = stride if dilation % stride else 1
                assert len(reached) <= taps and (step == 1 or reached)
