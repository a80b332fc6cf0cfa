"""What the lowerings of ONNX Runtime's own operators (domain com.microsoft) share.

The onnx package has no definition of them, so each row says itself which attributes it knows; a node with
another one is refused instead of being taken for something else.  Their meaning is that of ONNX Runtime's
ContribOperators.md and of its CPU kernels, which the tests compare with.
"""

from __future__ import annotations

from collections.abc import Callable

from aino_ir.dims import DimLike, is_static
from aino_ir.frontends.onnx.context import Lowered, Lowering, NodeContext
from aino_ir.frontends.onnx.names import quote
from aino_ir.frontends.onnx.nodes import OnnxNode
from aino_ir.graph import Value

DOMAIN = "com.microsoft"

LARGEST = 3.4028234663852886e38
"""The largest number of single precision."""


def contrib(lower: Lowering, *attributes: str) -> Lowering:
    """A row that takes these attributes and no others."""

    def checked(c: NodeContext, node: OnnxNode) -> Lowered:
        for name in node.attributes:
            if name not in attributes:
                c.unsupported(f"attribute {quote(name)}")
        return lower(c, node)

    return checked


def added(c: NodeContext, x: Value, more: Value | None) -> Value:
    """x + more (x itself without)."""
    return x if more is None else c.emit("add", x, more)


def times(c: NodeContext, x: Value, factor: float) -> Value:
    """x * factor (x itself for 1)."""
    return x if factor == 1.0 else c.emit("mul", x, c.scalar(factor, x.dtype))


def activated(c: NodeContext, kind: str, y: Value, parameter: Callable[[int, float], float]) -> Value:
    """y behind a named activation; `parameter(i, default)` gives its numbers."""
    names = {"Relu": "relu", "Tanh": "tanh", "Sigmoid": "sigmoid"}
    if kind in ("", "Identity"):
        return y
    if kind in names:
        return c.emit(names[kind], y)
    if kind == "LeakyRelu":
        return c.emit("leaky_relu", y, alpha=parameter(0, 0.01))
    if kind == "Clip":
        return c.emit("clip", y, min=parameter(0, -LARGEST), max=parameter(1, LARGEST))
    if kind == "HardSigmoid":
        return c.emit("hard_sigmoid", y, alpha=parameter(0, 0.2), beta=parameter(1, 0.5))
    if kind == "Elu":
        return c.emit("elu", y, alpha=parameter(0, 1.0))
    if kind == "Softplus":
        return c.emit("softplus", y)
    c.unsupported("this activation")


def is_one(extent: DimLike) -> bool:
    """Whether an extent is the number 1."""
    return is_static(extent) and extent == 1
