"""Images: resampling along an axis by a table of positions and weights."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from aino_ir.compute import Axis, Compute, axes, coordinates, read
from aino_ir.dims import DimLike, product
from aino_ir.dtypes import f32
from aino_ir.infer import InferContext
from aino_ir.loops.expr import cast
from aino_ir.op import Op, Sample, int_attr, operand
from aino_ir.ops.math import Array
from aino_ir.ops.tensor import index_check, refuse_out_of_range, wrapped_index
from aino_ir.sampling import random_values, seeded
from aino_ir.types import TensorType, Type


class Resample(Op):
    """out[o] = sum over t of x[positions[o, t]] * weights[o, t] along `axis`.

    The tables are [extent of the result, taps]; weights are floats.  Linear, cubic and antialiased
    resizing are this op once per axis.  A position outside the axis is an error.
    """

    name = "image.resample"
    x = operand()
    positions = operand()
    weights = operand()
    axis = int_attr()
    domain = {"positions": lambda op: (0, op.x.shape[op.axis] - 1)}

    def infer(self, ic: InferContext) -> list[Type]:
        x, positions, weights = (
            ic.tensor(v, w)
            for v, w in ((self.x, "x"), (self.positions, "positions"), (self.weights, "weights"))
        )
        if not x.dtype.is_float or not weights.dtype.is_float:
            ic.bad_dtype("dtype of x and weights", "float", (x.dtype, weights.dtype))
        if not positions.dtype.is_integer:
            ic.bad_dtype("dtype of positions", "an integer", positions.dtype)
        ic.rank(self.positions, 2, "positions")
        size, _ = ic.same_shape(positions.shape, weights.shape, "tables")
        axis = ic.axis(self.axis, x.rank)
        return [TensorType(x.dtype, ic.result_shape((*x.shape[:axis], size, *x.shape[axis + 1 :])))]

    def evaluate(self, ev: Any, x: Array, positions: Array, weights: Array) -> Array:
        axis = self.axis % x.ndim
        refuse_out_of_range(self, positions, x.shape[axis])
        taken = np.take(x.astype(np.float64), positions.astype(np.int64), axis)
        shape = [1] * taken.ndim
        shape[axis : axis + 2] = weights.shape
        return np.asarray(np.sum(taken * weights.astype(np.float64).reshape(shape), axis + 1)).astype(x.dtype)

    def define(self) -> Compute:
        space = axes("i", self.result.shape)
        at = list(coordinates(space))
        axis = self.axis % self.x.rank
        tap = Axis("t", self.positions.shape[1])
        extent = self.x.shape[axis]
        chosen = wrapped_index(read(self.positions, 1, (at[axis], tap.dim)), extent)
        weight = cast(read(self.weights, 2, (at[axis], tap.dim)), self.x.dtype.compute)
        x = read(self.x, 0, (*at[:axis], chosen, *at[axis + 1 :]))
        check = index_check(self.positions, 1, extent)
        return Compute(space, x * weight, (tap,), "add", checks=(check,))

    def cost(self) -> DimLike:
        return 2 * product((*self.result.shape, self.positions.shape[1]))

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        rng = seeded(cls.name)
        for shape, axis, size, taps in (((2, 5), 1, 7, 2), ((4, 3, 2), 0, 3, 4), ((6,), -1, 1, 1)):
            positions = rng.integers(0, shape[axis], (size, taps))
            weights = random_values(f32, (size, taps), rng)
            yield Sample(
                (random_values(f32, shape, rng), positions, weights), {"axis": axis}, f"{list(shape)}"
            )
