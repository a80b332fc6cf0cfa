"""Linear algebra on the last two axes, and the bits of numbers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from aino_ir.compute import Compute, axes, coordinates, read
from aino_ir.dims import DimLike, product
from aino_ir.dtypes import f32, i32
from aino_ir.infer import InferContext
from aino_ir.loops.expr import bitcast, cast
from aino_ir.op import Op, Sample, dtype_attr, operand
from aino_ir.ops.math import Array
from aino_ir.sampling import edge_values, random_values, seeded
from aino_ir.types import TensorType, Type


class Determinant(Op):
    """out = the determinants of the square matrices in the last two axes of x."""

    name = "nn.determinant"
    x = operand()

    def infer(self, ic: InferContext) -> list[Type]:
        x = ic.tensor(self.x, "x")
        if not x.dtype.is_float:
            ic.bad_dtype("dtype of x", "float", x.dtype)
        if x.rank < 2:
            ic.bad_operand("rank of x", "at least 2", x.rank)
        ic.same(x.shape[-2], x.shape[-1], "rows and columns")
        return [TensorType(x.dtype, x.shape[:-2])]

    def evaluate(self, ev: Any, x: Array) -> Array:
        return np.asarray(np.linalg.det(x.astype(np.float64))).astype(x.dtype)

    def cost(self) -> DimLike:
        return product(self.x.shape) * product(self.x.shape[-1:])

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        rng = seeded(cls.name)
        for shape in ((2, 2), (3, 4, 4), (1, 1)):
            yield Sample((random_values(f32, shape, rng),), {}, f"{list(shape)}")


class Bitcast(Op):
    """out = the bits of x seen as `to`, a dtype of the same width."""

    name = "math.bitcast"
    x = operand()
    to = dtype_attr()

    def infer(self, ic: InferContext) -> list[Type]:
        x = ic.tensor(self.x, "x")
        if self.to.bits != x.dtype.bits:
            ic.bad_attribute("to", f"a dtype of {x.dtype.bits} bits", self.to)
        return [TensorType(self.to, x.shape)]

    def evaluate(self, ev: Any, x: Array) -> Array:
        stored = np.ascontiguousarray(x.astype(self.x.dtype.numpy))
        bits: Array = stored.view(self.to.numpy).reshape(x.shape)
        return bits.astype(self.to.compute.numpy)

    def define(self) -> Compute | None:
        if self.x.dtype.is_storage or self.to.is_storage:
            return None
        space = axes("i", self.x.shape)
        x = read(self.x, 0, coordinates(space))
        same = self.to is self.x.dtype
        return Compute(space, x if same else cast(x, self.to) if self.to.is_bool else bitcast(x, self.to))

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield Sample((edge_values(f32),), {"to": "i32"}, "f32 to i32")
        yield Sample((edge_values(i32),), {"to": "f32"}, "i32 to f32")
