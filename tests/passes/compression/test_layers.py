"""Which layers there are, what they are called, and what patterns mean them."""

from __future__ import annotations

import numpy as np

from aino_ir.builder import Builder
from aino_ir.location import loc
from aino_ir.passes.compression.layers import find_layers, packed_bytes, prepared
from aino_ir.types import tensor
from tests.passes.compression.models import SAME, cnn


def test_layers_have_the_names_of_their_weights() -> None:
    layers = find_layers(cnn())
    assert [(layer.name, layer.kind, layer.channel_axis) for layer in layers] == [
        ("c1", "nn.conv", 0),
        ("c2", "nn.conv", 0),
        ("fc", "nn.matmul", 1),
    ]
    assert layers[1].macs == 2 * 8 * 64 * 72


def test_names_stay_apart_and_come_from_nodes_where_weights_have_none() -> None:
    b = Builder()
    x = b.input("x", tensor("f32", 2, 4))
    w = np.eye(4, dtype=np.float32)
    b.loc = loc("node 'head_1' (MatMul)")
    y = b.matmul(b.matmul(x, b.constant(w)), b.constant(w))
    b.loc = loc()
    b.output("y", b.matmul(y, b.constant(w)))
    b.finish()
    layers = find_layers(b.module)
    assert [layer.name for layer in layers] == ["head_1", "head_1#2", "nn.matmul"]
    assert layers[0].matches(["head*"]) and layers[1].matches(["node 'head_1'*"])
    assert not layers[2].matches(["head*"])


def test_what_has_no_constant_weights_is_no_layer() -> None:
    b = Builder()
    x = b.input("x", tensor("f32", 4, 4))
    w = b.constant(np.ones((4, 4), np.float32))
    b.output("y", b.matmul(b.matmul(x, x), b.matmul(w, w)))
    b.finish()
    assert find_layers(b.module) == []


def test_batch_normalisation_is_folded_first() -> None:
    b = Builder()
    x = b.input("x", tensor("f32", 1, 3, 6, 6))
    w = b.constant(np.ones((4, 3, 3, 3), np.float32), "c.weight")
    ones = b.constant(np.ones(4, np.float32))
    y = b.batch_norm(
        b.conv(x, w, None, **SAME), b.constant(np.full(4, 2, np.float32)), ones, ones, ones, axis=1
    )
    b.output("y", y)
    b.finish()
    module = prepared(b.module)
    (layer,) = find_layers(module)
    assert layer.name == "c"
    assert np.allclose(layer.weight.array(), 2.0, atol=1e-4)
    assert any(op.name == "norm.batch_norm" or "batch_norm" in op.name for op in b.module.main.block)


def test_bytes_of_packed_values() -> None:
    assert [packed_bytes(5, bits) for bits in (8, 4, 2)] == [5, 3, 2]
