"""Blocks of well-known networks, small: what structured pruning has to see through in each of them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from aino_ir.graph import Module, Value
from aino_ir.types import tensor
from tests.passes.compression.networks import SAME, Net

POINT = {"strides": (1, 1), "dilations": (1, 1), "pads_before": (0, 0), "pads_after": (0, 0)}
WIDE = {"strides": (1, 1), "dilations": (1, 1), "pads_before": (3, 3), "pads_after": (3, 3)}


class Blocks(Net):
    """Layers by the names that their weights get."""

    def picture(self, channels: int, side: int = 6, batch: int = 2) -> Value:
        """The input."""
        return self.b.input("x", tensor("f32", batch, channels, side, side))  # type: ignore[no-any-return]

    def conv(self, x: Value, outputs: int, name: str, size: int = 1, groups: int = 1) -> Value:
        """A convolution of the same extents, with a bias."""
        attrs = {1: POINT, 3: SAME, 7: WIDE}[size]
        w = self.weight(outputs, int(x.shape[1]) // groups, size, size, name=name)
        return self.b.conv(x, w, self.weight(outputs), groups=groups, **attrs)  # type: ignore[no-any-return]

    def norm(self, x: Value) -> Value:
        """Batch normalisation."""
        c = int(x.shape[1])
        ones = self.b.constant(np.linspace(0.5, 1.5, c, dtype=np.float32))
        return self.b.batch_norm(x, self.weight(c), self.weight(c), self.weight(c), ones)  # type: ignore[no-any-return]

    def head(self, x: Value, name: str = "head") -> Module:
        """Global average pool and a linear layer to 5 classes."""
        pooled = self.b.reduce_mean(x, axes=(2, 3))
        return self.done(self.linear(pooled, int(x.shape[1]), 5, name))


def resnet() -> Module:
    """A stem, a bottleneck with a projection, one without: every residual addition ties its channels."""
    net = Blocks(10)
    b = net.b
    y = b.relu(net.norm(net.conv(net.picture(3), 8, "stem", 3)))
    for name, project in (("a", True), ("b", False)):
        z = b.relu(net.norm(net.conv(y, 8, f"{name}.1")))
        z = b.relu(net.norm(net.conv(z, 8, f"{name}.2", 3)))
        z = net.norm(net.conv(z, 16, f"{name}.3"))
        y = b.relu(b.add(z, net.norm(net.conv(y, 16, f"{name}.project")) if project else y))
    return net.head(y)


def mobilenet_v2() -> Module:
    """Two inverted residuals: expansion, depthwise, linear bottleneck, addition."""
    net = Blocks(11)
    b = net.b
    y = net.conv(net.picture(3), 8, "stem", 3)
    for n in range(2):
        z = b.clip(net.norm(net.conv(y, 24, f"expand{n}")), min=0.0, max=6.0)
        z = b.clip(net.norm(net.conv(z, 24, f"depthwise{n}", 3, groups=24)), min=0.0, max=6.0)
        y = b.add(y, net.norm(net.conv(z, 8, f"project{n}")))
    return net.head(y)


def convnext() -> Module:
    """A ConvNeXt block: depthwise 7x7, layer norm and two linear layers channels last, layer scale, addition."""
    net = Blocks(12)
    b = net.b
    x = net.conv(net.picture(3), 8, "stem", 3)
    y = b.transpose(net.conv(x, 8, "depthwise", 7, groups=8), perm=(0, 2, 3, 1))
    y = b.layer_norm(y, net.weight(8), net.weight(8))
    y = net.linear(b.gelu(net.linear(y, 8, 32, "up")), 32, 8, "down")
    y = b.transpose(b.mul(y, net.weight(8)), perm=(0, 3, 1, 2))
    return net.head(b.add(x, y))


def bert() -> Module:
    """An encoder layer: heads by reshape and transpose, layer norms over the residual stream, an FFN."""
    net, width, heads, each, length = Blocks(13), 32, 4, 8, 5
    b = net.b
    x = b.input("x", tensor("f32", 2, length, width))

    def split(name: str) -> Value:
        v = b.reshape(net.linear(x, width, width, name), shape=(2, length, heads, each))
        return b.transpose(v, perm=(0, 2, 1, 3))  # type: ignore[no-any-return]

    scores = b.mul(b.matmul(split("q"), split("k"), transpose_rhs=True), b.constant(np.float32(0.35)))
    mixed = b.transpose(b.matmul(b.softmax(scores, axis=-1), split("v")), perm=(0, 2, 1, 3))
    mixed = net.linear(b.reshape(mixed, shape=(2, length, width)), width, width, "proj")
    y = b.layer_norm(b.add(x, mixed), net.weight(width), net.weight(width))
    z = net.linear(b.gelu(net.linear(y, width, 64, "up")), 64, width, "down")
    return net.done(b.layer_norm(b.add(y, z), net.weight(width), net.weight(width)))


def densenet() -> Module:
    """Each layer reads all that came before, concatenated; a transition reads everything."""
    net = Blocks(14)
    b = net.b
    y = net.conv(net.picture(3), 8, "stem", 3)
    for n in range(3):
        z = net.conv(b.relu(net.norm(y)), 16, f"narrow{n}")
        y = b.concat(y, net.conv(b.relu(net.norm(z)), 8, f"grow{n}", 3), axis=1)
    return net.head(b.relu(net.conv(y, 16, "transition")))


def squeeze_excite() -> Module:
    """Channels scaled by a small net over their means."""
    net = Blocks(15)
    b = net.b
    y = b.relu(net.conv(net.picture(3), 16, "conv", 3))
    s = b.reduce_mean(y, axes=(2, 3), keepdims=True)
    s = b.sigmoid(net.conv(b.relu(net.conv(s, 4, "squeeze")), 16, "excite"))
    return net.head(b.mul(y, s))


def shufflenet() -> Module:
    """A unit whose halves are shuffled by reshape, transpose, reshape."""
    net = Blocks(16)
    b = net.b
    x = net.conv(net.picture(3), 16, "stem", 3)
    whole = {"steps": (1, 1, 1, 1)}
    kept = b.slice(x, starts=(0, 0, 0, 0), sizes=(2, 8, 6, 6), **whole)
    y = b.slice(x, starts=(0, 8, 0, 0), sizes=(2, 8, 6, 6), **whole)
    y = b.relu(net.conv(y, 12, "first"))
    y = net.conv(net.conv(y, 12, "depthwise", 3, groups=12), 8, "second")
    y = b.reshape(b.concat(kept, y, axis=1), shape=(2, 2, 8, 6, 6))
    y = b.reshape(b.transpose(y, perm=(0, 2, 1, 3, 4)), shape=(2, 16, 6, 6))
    return net.head(y)


ARCHITECTURES: dict[str, Callable[[], Module]] = {
    f.__name__: f for f in (resnet, mobilenet_v2, convnext, bert, densenet, squeeze_excite, shufflenet)
}
