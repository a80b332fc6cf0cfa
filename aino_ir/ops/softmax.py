"""Softmax and its logarithm over one axis."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from aino_ir.compute import RowProgram, RowStage, read
from aino_ir.dims import DimLike
from aino_ir.elementwise import ACCEPTS
from aino_ir.infer import InferContext
from aino_ir.loops.expr import Expr, Var, call
from aino_ir.op import Op, Sample, int_attr, operand
from aino_ir.ops.math import Array
from aino_ir.ops.reduce import row_space
from aino_ir.sampling import accepted_dtypes, random_values, seeded
from aino_ir.special import in_double
from aino_ir.types import TensorType, Type


class SoftmaxBase(Op):
    """What softmax and log-softmax share: one operand, one axis, the row's maximum taken off first."""

    x = operand()
    axis = int_attr(-1)

    def infer(self, ic: InferContext) -> list[Type]:
        x = ic.tensor(self.x, "x")
        if not ACCEPTS["float"](x.dtype):
            ic.bad_dtype("dtype of x", "float", x.dtype)
        if x.rank == 0:
            ic.bad_operand("rank of x", "at least 1", 0)
        ic.axis(self.axis, x.rank)
        return [TensorType(x.dtype, x.shape)]

    def define(self) -> RowProgram:
        space = row_space(self.x.shape, (self.axis % self.x.rank,))
        x = read(self.x, 0, space.index)
        stages = (RowStage("reduce", "maximum", x, "max"), *self.stages(x, Var("maximum", x.type)))
        return RowProgram(space.outer, space.row, stages, self.out(x), space.index)

    def stages(self, x: Expr, maximum: Expr) -> tuple[RowStage, ...]:
        """Stages after the maximum."""
        raise TypeError(f"{self.name} declares no stages")

    def out(self, x: Expr) -> Expr:
        """The result per element."""
        raise TypeError(f"{self.name} declares no out")

    def cost(self) -> DimLike:
        """About 13 operations per element: maximum, difference, exponential, sum, quotient."""
        return self.x.type.size * 13  # type: ignore[union-attr]

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        rng = seeded(cls.name)
        for dtype in accepted_dtypes("float"):
            yield Sample((random_values(dtype, (3, 5, 4), rng),), {"axis": 1}, f"{dtype}")
        first = accepted_dtypes("float")[0]
        for shape, axis in (((7,), 0), ((2, 33), -1), ((0, 3), 1), ((3, 0), 1), ((2, 1), 1), ((4, 3), 0)):
            yield Sample((random_values(first, shape, rng),), {"axis": axis}, f"{list(shape)}")
        infinity = np.inf
        rows = [
            [1, np.nan, 2],
            [-infinity] * 3,
            [infinity, 1, 2],
            [-infinity, 0, 1],
            [500, 3, 499.5],
            [-1e30, 0, 1],
        ]
        yield Sample((np.array(rows, np.float32),), {}, "NaN, infinities and large values")


class Softmax(SoftmaxBase):
    """out = e^(x - m) / sum of e^(x - m) along `axis`, m being the largest x of the row.

    A row with a NaN or inf, or with nothing but -inf, is NaN.
    """

    name = "normalize.softmax"

    def stages(self, x: Expr, maximum: Expr) -> tuple[RowStage, ...]:
        exponential = RowStage("map", "exponential", call("exp", x - maximum))
        return (exponential, RowStage("reduce", "total", Var("exponential", x.type), "add"))

    def out(self, x: Expr) -> Expr:
        return Var("exponential", x.type) / Var("total", x.type)

    def evaluate(self, ev: Any, x: Array) -> Array:
        def reference(v: Array) -> Array:
            e = np.exp(v - np.max(v, axis=self.axis, keepdims=True, initial=-np.inf))
            return np.asarray(e / np.sum(e, axis=self.axis, keepdims=True))

        return in_double(reference, x)


class LogSoftmax(SoftmaxBase):
    """out = (x - m) - log(sum of e^(x - m)) along `axis`, m being the largest x of the row.

    A row with a NaN or inf, or with nothing but -inf, is NaN.
    """

    name = "normalize.log_softmax"

    def stages(self, x: Expr, maximum: Expr) -> tuple[RowStage, ...]:
        total = RowStage("reduce", "total", call("exp", x - maximum), "add")
        return (total, RowStage("scalar", "logarithm", call("log", Var("total", x.type))))

    def out(self, x: Expr) -> Expr:
        return (x - Var("maximum", x.type)) - Var("logarithm", x.type)

    def evaluate(self, ev: Any, x: Array) -> Array:
        def reference(v: Array) -> Array:
            v = v - np.max(v, axis=self.axis, keepdims=True, initial=-np.inf)
            return np.asarray(v - np.log(np.sum(np.exp(v), axis=self.axis, keepdims=True)))

        return in_double(reference, x)
