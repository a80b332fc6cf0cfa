"""Running sums and products along an axis."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np

from aino_ir.compute import Nest, RunningCombination, TensorRef
from aino_ir.dims import DimLike, product
from aino_ir.elementwise import ACCEPTS
from aino_ir.infer import InferContext
from aino_ir.loops.expr import VecType, binary, identity
from aino_ir.op import Op, Sample, bool_attr, int_attr, operand
from aino_ir.ops.math import Array
from aino_ir.sampling import accepted_dtypes, random_values, seeded
from aino_ir.types import TensorType, Type


class Scan(Op):
    """out[i] = combination of x[0..i] along `axis`.

    With `exclusive` x[i] itself is left out (the first result is the identity); with `reverse` the
    scan starts at the end.  Low-precision floats accumulate in f32, integers wrap.
    """

    x = operand()
    axis = int_attr(0)
    exclusive = bool_attr(False)
    reverse = bool_attr(False)
    combiner: ClassVar[str]

    def infer(self, ic: InferContext) -> list[Type]:
        x = ic.tensor(self.x, "x")
        if not ACCEPTS["number"](x.dtype):
            ic.bad_dtype("dtype of x", "number", x.dtype)
        if x.rank == 0:
            ic.bad_operand("rank of x", "at least 1", 0)
        ic.axis(self.axis, x.rank)
        return [TensorType(x.dtype, x.shape)]

    def evaluate(self, ev: Any, x: Array) -> Array:
        axis = self.axis % x.ndim
        wide = x.astype(np.float64) if x.dtype.kind == "f" else x
        y = np.flip(wide, axis) if self.reverse else wide
        y = self.accumulate(y, axis)
        if self.exclusive:
            first = tuple(1 if a == axis else e for a, e in enumerate(x.shape))
            start = np.full(first, identity(self.combiner, self.x.dtype), y.dtype)
            y = np.concatenate([start, y], axis)[tuple(slice(0, e) for e in x.shape)]
        return np.asarray(np.flip(y, axis) if self.reverse else y).astype(x.dtype)

    def accumulate(self, x: Array, axis: int) -> Array:
        """The inclusive forward scan in numpy."""
        raise TypeError(f"{self.name} declares no accumulate")

    def define(self) -> Nest:
        axis = self.axis % self.x.rank
        outer = [e for a, e in enumerate(self.x.shape) if a != axis]
        text = f"{self.combiner} {axis} {self.exclusive} {self.reverse} {self.x.type}"
        meaning = RunningCombination(axis, self.combiner, self.exclusive, self.reverse)
        return Nest(self._build, product(outer), key=text, meaning=meaning)

    def _build(
        self, b: Any, inputs: tuple[TensorRef | None, ...], outputs: tuple[TensorRef, ...], unit: DimLike
    ) -> None:
        (source,), (target,) = inputs, outputs
        assert source is not None
        axis = self.axis % self.x.rank
        at = _outer_coordinates(self.x.shape, axis, unit)
        kind = VecType(self.x.dtype.compute)
        total = b.reg("total", kind, identity(self.combiner, kind.dtype))
        extent = self.x.shape[axis]
        with b.loop("k", 0, extent) as k:
            at[axis] = extent - 1 - k if self.reverse else k
            before = b.let(total.read())
            after = b.let(binary(self.combiner, before, source.load(tuple(at))))
            target.store(tuple(at), before if self.exclusive else after)
            b.set(total, after)

    def cost(self) -> DimLike:
        """One operation per element."""
        return self.x.type.size  # type: ignore[union-attr]

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        rng = seeded(cls.name)
        for dtype in accepted_dtypes("number"):
            yield Sample((random_values(dtype, (2, 5, 3), rng),), {"axis": 1}, f"{dtype}")
        for exclusive in (False, True):
            for reverse in (False, True):
                attrs = {"exclusive": exclusive, "reverse": reverse}
                for shape, axis in (((6,), 0), ((3, 4), -1), ((2, 0), 1), ((0, 2), 1), ((1,), 0)):
                    x = random_values(accepted_dtypes("float")[0], shape, rng)
                    yield Sample((x,), {"axis": axis, **attrs}, f"{list(shape)} {attrs}")


class CumSum(Scan):
    """out[i] = x[0] + ... + x[i] along `axis`.

    With `exclusive` x[i] itself is left out (the first result is 0); with `reverse` the sum starts
    at the end.  Low-precision floats accumulate in f32, integers wrap.
    """

    name = "scan.cumsum"
    combiner = "add"

    def accumulate(self, x: Array, axis: int) -> Array:
        return np.cumsum(x, axis, dtype=x.dtype)


class CumProd(Scan):
    """out[i] = x[0] * ... * x[i] along `axis`.

    With `exclusive` x[i] itself is left out (the first result is 1); with `reverse` the product
    starts at the end.  Low-precision floats accumulate in f32, integers wrap.
    """

    name = "scan.cumprod"
    combiner = "mul"

    def accumulate(self, x: Array, axis: int) -> Array:
        return np.cumprod(x, axis, dtype=x.dtype)


def _outer_coordinates(shape: tuple[DimLike, ...], axis: int, unit: DimLike) -> list[DimLike]:
    """Coordinates of the `unit`-th line along `axis`; that axis itself is 0."""
    at: list[DimLike] = [0] * len(shape)
    rest = unit
    for a in reversed([a for a in range(len(shape)) if a != axis]):
        at[a] = rest % shape[a]
        rest = rest // shape[a]
    return at
