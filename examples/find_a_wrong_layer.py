"""Which layer is wrong?  Make every value an output, and compare with the reference in the model's order."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx

import aino_ir as aino
from aino_ir.loops.expr import Expr
from aino_ir.ops.activation import FloatUnary
from examples.models import with_custom_op


@aino.register_op(onnx=("com.example", "Halve"))
class Halve(FloatUnary):
    """out = x / 2; but what its kernels compute is not what it means."""

    name = "example.halve"

    def expr(self, x: Expr) -> Expr:
        """The mistake."""
        return x * 0.25

    def evaluate(self, ev: Any, x: np.ndarray) -> np.ndarray:
        """The meaning."""
        return x * x.dtype.type(0.5)


def wrong_node(model: onnx.ModelProto, *inputs: np.ndarray) -> str | None:
    """The first node whose value differs from the reference, or None."""
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    makers = {name: node.name for node in model.graph.node for name in node.output}
    known = {output.name for output in model.graph.output}
    for name in makers:
        if name not in known:
            watched.graph.output.append(onnx.ValueInfoProto(name=name))
    exe = aino.compile(watched, verify="off")  # else the compiler finds this mistake itself and refuses
    actual = dict(zip((n for n, _ in exe.outputs), exe.run(*inputs), strict=True))
    expected = dict(zip(actual, aino.compile(watched, "reference").run(*inputs), strict=True))
    for name, node in makers.items():
        error = np.abs(actual[name] - expected[name]).max() / np.abs(expected[name]).max()
        print(f"{node:8} {name:4} {error:.1e}")
        if error > 1e-4:
            return node
    return None


x = np.random.default_rng(1).standard_normal((4, 16)).astype(np.float32)
found = wrong_node(with_custom_op("Halve"), x)
print("the first wrong layer:", found)
assert found == "custom"
