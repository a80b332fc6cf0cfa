"""Write an op: one class says what it means, and it is read from ONNX, fused and compiled like any other."""

from __future__ import annotations

from typing import Any

import numpy as np

import aino_ir as aino
from aino_ir.loops.expr import Expr, select
from aino_ir.op import float_attr
from aino_ir.ops.activation import FloatUnary
from examples.models import with_custom_op


@aino.register_op(onnx=("com.example", "TwoSlopes"))
class TwoSlopes(FloatUnary):
    """out = up * x if x >= 0 else down * x"""

    name = "example.two_slopes"
    up = float_attr(2.0)
    down = float_attr(0.5)

    def expr(self, x: Expr) -> Expr:
        """What kernels compute for one element."""
        return select(x >= 0.0, x * self.up, x * self.down)

    def evaluate(self, ev: Any, x: np.ndarray) -> np.ndarray:
        """What it means: numpy, the reference that kernels are checked against."""
        return np.where(x >= 0, x * x.dtype.type(self.up), x * x.dtype.type(self.down))


model = with_custom_op("TwoSlopes")
print(aino.load(model))

exe = aino.compile(model)
for kernel in exe.report.kernels:
    print(f"{kernel['candidate']:32} {kernel['ops']}")

x = np.random.default_rng(1).standard_normal((4, 16)).astype(np.float32)
(y,), (expected,) = exe.run(x), aino.compile(model, "reference").run(x)
print("largest difference from the reference:", np.abs(y - expected).max())
assert np.allclose(y, expected, atol=1e-5)
