"""Small models that pruning is tried on."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from aino_ir.builder import Builder
from aino_ir.graph import Module, Value
from aino_ir.types import tensor

SAME = {"strides": (1, 1), "dilations": (1, 1), "pads_before": (1, 1), "pads_after": (1, 1)}


class Net:
    """A builder of nets with random constants."""

    def __init__(self, seed: int = 0) -> None:
        self.b = Builder()
        self.rng = np.random.default_rng(seed)

    def weight(self, *shape: int, name: str = "") -> Value:
        """A random constant."""
        array = self.rng.standard_normal(shape).astype(np.float32) / np.float32(np.sqrt(shape[-1]))
        return self.b.constant(array, name)

    def linear(self, x: Value, inputs: int, outputs: int, name: str = "") -> Value:
        """x W + c."""
        product = self.b.matmul(x, self.weight(inputs, outputs, name=name))
        return self.b.add(product, self.weight(outputs))  # type: ignore[no-any-return]

    def done(self, y: Value) -> Module:
        """The module with one output."""
        self.b.output("y", y)
        return self.b.module


def mlp(sizes: tuple[int, ...] = (64, 256, 128, 10), batch: int = 64) -> Module:
    """Linear layers fc0, fc1 ... with relu between them."""
    net = Net()
    x = net.b.input("x", tensor("f32", batch, sizes[0]))
    for n, (a, c) in enumerate(pairwise(sizes)):
        x = net.linear(x, a, c, f"fc{n}.weight")
        if n < len(sizes) - 2:
            x = net.b.relu(x)
    return net.done(x)


def cnn() -> Module:
    """Convolutions: depthwise, grouped, normalised, added, concatenated, split, flattened."""
    net = Net(1)
    b = net.b
    x = b.input("x", tensor("f32", 2, 3, 8, 8))
    y = b.relu(b.conv(x, net.weight(16, 3, 3, 3, name="stem"), net.weight(16), **SAME))
    z = b.conv(y, net.weight(16, 1, 3, 3, name="depthwise"), groups=16, **SAME)
    z = b.batch_norm(z, net.weight(16), net.weight(16), net.weight(16), b.constant(np.ones(16, np.float32)))
    z = b.add(z, y)
    g = b.conv(z, net.weight(24, 4, 3, 3, name="grouped"), groups=4, **SAME)
    c = b.concat(g, z, axis=1)
    o = b.relu(b.conv(c, net.weight(12, 40, 3, 3, name="mix"), **SAME))
    first = b.slice(o, starts=(0, 0, 0, 0), sizes=(2, 8, 8, 8), steps=(1, 1, 1, 1))
    second = b.slice(o, starts=(0, 8, 0, 0), sizes=(2, 4, 8, 8), steps=(1, 1, 1, 1))
    first = b.conv(first, net.weight(4, 8, 3, 3, name="part"), **SAME)
    f = b.reshape(b.add(first, second), shape=(2, 256))
    return net.done(net.linear(b.relu(net.linear(f, 256, 32, "fc")), 32, 5, "out"))


def attention(heads: int = 4, kv_heads: int = 4, fused: bool = False, batch: Any = 2) -> Module:
    """A transformer block: multi-head attention with a residual, then a feed-forward net."""
    net, width, each, length = Net(2), 32, 8, 5
    b = net.b
    if isinstance(batch, str):
        batch = b.symbol(batch, 1, 64)
    x = b.input("x", tensor("f32", batch, length, width))

    def split(v: Value, count: int) -> Value:
        v = b.reshape(v, shape=(batch, length, count, each))
        return b.transpose(v, perm=(0, 2, 1, 3))  # type: ignore[no-any-return]

    q = split(net.linear(x, width, heads * each, "q"), heads)
    k = split(net.linear(x, width, kv_heads * each, "k"), kv_heads)
    v = split(net.linear(x, width, kv_heads * each, "v"), kv_heads)
    if fused:
        mixed = b.attention(q, k, v, scale=0.35)
    else:
        scores = b.softmax(b.mul(b.matmul(q, k, transpose_rhs=True), b.constant(np.float32(0.35))), axis=-1)
        mixed = b.matmul(scores, v)
    mixed = b.reshape(b.transpose(mixed, perm=(0, 2, 1, 3)), shape=(batch, length, heads * each))
    x = b.add(x, net.linear(mixed, heads * each, width, "proj"))
    return net.done(b.add(x, net.linear(b.gelu(net.linear(x, width, 64, "up")), 64, width, "down")))
