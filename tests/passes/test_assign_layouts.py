"""Layouts: what is stored channels last, which transposes become views, where copies are left."""

from __future__ import annotations

import numpy as np
import pytest

from aino_ir.builder import Builder
from aino_ir.graph import Module, Value
from aino_ir.passes.assign_layouts import AssignLayouts, channels_last
from aino_ir.passes.canonicalize import Canonicalize
from aino_ir.types import ROW_MAJOR, Layout, permuted, tensor
from tests.passes.helpers import assert_fuses

PASSES = [AssignLayouts(), Canonicalize()]
LAST = channels_last(4)


def conv(b: Builder, x: Value, channels: int, groups: int = 1) -> Value:
    w = np.random.default_rng(0).standard_normal((channels, x.shape[1] // groups, 3, 3)).astype(np.float32)
    attrs = {"strides": (1, 1), "dilations": (1, 1), "pads_before": (1, 1), "pads_after": (1, 1)}
    return b.conv(x, b.constant(w), **attrs, groups=groups)


def layouts(module: Module) -> list[tuple[str, Layout]]:
    ops = [o for o in module.main.block if o.name not in ("core.constant", "core.return")]
    return [(o.name.split(".")[1], o.result.type.layout) for o in ops]


def assigned(module: Module, ops: list[str]) -> list[Layout]:
    report = assert_fuses(module, PASSES, ops)
    assert report.sites.run == 0, "layouts change no meaning: structure alone proves that"
    return [layout for _, layout in layouts(module)]


def test_chain_of_convolutions_keeps_channels_last() -> None:
    b = Builder()
    x = b.input("x", tensor("f32", 1, 3, 6, 6))
    y = b.relu(conv(b, x, 8))
    y = b.add(
        b.max_pool(y, kernel=(3, 3), strides=(1, 1), dilations=(1, 1), pads_before=(1, 1), pads_after=(1, 1)),
        y,
    )
    b.output("y", b.reduce_mean(conv(b, y, 8, groups=8), axes=(2, 3)))
    ops = ["nn.conv", "math.relu", "nn.max_pool", "math.add", "nn.conv", "reduce.mean"]
    assert assigned(b.module, ops) == [LAST] * 5 + [ROW_MAJOR]


def test_output_is_copied_back() -> None:
    b = Builder()
    x = b.input("x", tensor("f32", 1, 3, 6, 6))
    b.output("y", b.relu(conv(b, x, 8)))
    assert assigned(b.module, ["nn.conv", "math.relu", "core.relayout"]) == [LAST, LAST, ROW_MAJOR]


def test_few_channels_stay_row_major() -> None:
    b = Builder()
    x = b.input("x", tensor("f32", 1, 3, 6, 6))
    b.output("y", b.relu(conv(b, x, 4)))
    assert assigned(b.module, ["nn.conv", "math.relu"]) == [ROW_MAJOR] * 2
    assert not any(layout != ROW_MAJOR for _, layout in layouts(b.module))


def test_unit_spatial_extents_stay_row_major() -> None:
    b = Builder()
    x = b.input("x", tensor("f32", 1, 16, 1, 1))
    w = b.constant(np.ones((8, 16, 1, 1), np.float32))
    attrs = {"strides": (1, 1), "dilations": (1, 1), "pads_before": (0, 0), "pads_after": (0, 0)}
    b.output("y", b.reshape(b.conv(x, w, **attrs), shape=(1, 8)))
    assert assigned(b.module, ["nn.conv", "tensor.reshape"]) == [ROW_MAJOR] * 2


def test_gate_of_channels() -> None:
    b = Builder()
    x = b.input("x", tensor("f32", 1, 3, 6, 6))
    y = conv(b, x, 8)
    gate = b.sigmoid(conv(b, b.reduce_mean(y, axes=(2, 3), keepdims=True), 8))
    b.output("y", b.reduce_sum(b.mul(y, gate), axes=(1, 2, 3)))
    ops = ["nn.conv", "reduce.mean", "nn.conv", "math.sigmoid", "math.mul", "reduce.sum"]
    assert assigned(b.module, ops) == [LAST, ROW_MAJOR, ROW_MAJOR, ROW_MAJOR, LAST, ROW_MAJOR]


def test_concatenation_of_channels() -> None:
    b = Builder()
    x = b.input("x", tensor("f32", 1, 3, 6, 6))
    y = b.concat(conv(b, x, 8), conv(b, x, 16), axis=1)
    y = b.slice(y, starts=(0, 4, 0, 0), sizes=(1, 8, 6, 6), steps=(1, 1, 1, 1))
    b.output("y", b.reduce_sum(y, axes=(2, 3)))
    ops = ["nn.conv", "nn.conv", "tensor.concat", "tensor.slice", "reduce.sum"]
    assert assigned(b.module, ops)[:4] == [LAST] * 4


def test_mixed_operands_are_brought_to_row_major() -> None:
    b = Builder()
    x, z = b.input("x", tensor("f32", 1, 3, 6, 6)), b.input("z", tensor("f32", 1, 8, 6, 6))
    b.output("y", b.mul(conv(b, x, 8), z))
    assert assigned(b.module, ["nn.conv", "core.relayout", "math.mul"]) == [LAST, ROW_MAJOR, ROW_MAJOR]


def test_transposes_around_rows_are_free() -> None:
    b = Builder()
    x = b.input("x", tensor("f32", 1, 3, 6, 6))
    y = conv(b, x, 8)
    rows = b.layer_norm(b.transpose(y, perm=(0, 2, 3, 1)), axis=-1)
    b.output("y", b.reduce_sum(b.add(b.transpose(rows, perm=(0, 3, 1, 2)), y), axes=(1, 2, 3)))
    ops = [
        "nn.conv",
        "tensor.transpose",
        "normalize.layer_norm",
        "tensor.transpose",
        "math.add",
        "reduce.sum",
    ]
    assert assigned(b.module, ops) == [LAST, ROW_MAJOR, ROW_MAJOR, LAST, LAST, ROW_MAJOR]


def test_heads_of_attention_are_views() -> None:
    b = Builder()
    x = b.input("x", tensor("f32", 1, 5, 2, 4))
    heads = [b.transpose(b.neg(x), perm=(0, 2, 1, 3)) for _ in range(3)]
    y = b.transpose(b.attention(*heads), perm=(0, 2, 1, 3))
    b.output("y", b.neg(b.reshape(y, shape=(5, 8))))
    heads_first = permuted(0, 2, 1, 3)
    found = dict(layouts(b.module))
    assert_fuses(
        b.module,
        PASSES,
        [
            *["math.neg", "tensor.transpose"] * 3,
            "nn.attention",
            "tensor.transpose",
            "tensor.reshape",
            "math.neg",
        ],
    )
    after = [layout for name, layout in layouts(b.module) if name in ("attention", "transpose")]
    assert found["attention"] == ROW_MAJOR
    assert after == [heads_first] * 4 + [ROW_MAJOR]


def test_one_dimensional_convolution() -> None:
    b = Builder()
    x = b.input("x", tensor("f32", 1, 4, 9))
    w = b.constant(np.ones((8, 4, 3), np.float32))
    y = b.conv(x, w, strides=(1,), dilations=(1,), pads_before=(1,), pads_after=(1,))
    b.output("y", b.neg(b.transpose(b.gelu(y), perm=(0, 2, 1))))
    ops = ["nn.conv", "math.gelu", "tensor.transpose", "math.neg"]
    assert assigned(b.module, ops) == [permuted(0, 2, 1), permuted(0, 2, 1), ROW_MAJOR, ROW_MAJOR]


def sparse(b: Builder, x: Value, channels: int, zeros: float, kernel: int = 1) -> Value:
    rng = np.random.default_rng(1)
    shape = (channels, x.shape[1], kernel, kernel)
    w = rng.standard_normal(shape) * (rng.random(shape) >= zeros)
    border = (kernel // 2,) * 2
    attrs = {"strides": (1, 1), "dilations": (1, 1), "pads_before": border, "pads_after": border}
    return b.conv(x, b.constant(w.astype(np.float32)), **attrs)


@pytest.mark.parametrize("kernel", [1, 3])
def test_sparse_convolutions_among_each_other_stay_row_major(kernel: int) -> None:
    b = Builder()
    x = b.input("x", tensor("f32", 1, 32, 6, 6))
    y = b.relu(sparse(b, x, 24, 0.9, kernel))
    b.output("y", sparse(b, y, 32, 0.9))
    assert assigned(b.module, ["nn.conv", "math.relu", "nn.conv"]) == [ROW_MAJOR] * 3


def test_sparse_convolutions_among_dense_ones_are_channels_last() -> None:
    b = Builder()
    x = b.input("x", tensor("f32", 1, 32, 6, 6))
    y = b.relu(sparse(b, x, 24, 0.9))
    b.output("y", b.reduce_mean(sparse(b, conv(b, y, 8), 64, 0.9), axes=(2, 3)))
    ops = ["nn.conv", "math.relu", "nn.conv", "nn.conv", "reduce.mean"]
    assert assigned(b.module, ops) == [LAST] * 4 + [ROW_MAJOR]
