"""Ops that hold programs together: constants, returns, extents as values, fused groups."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from aino_ir.dims import DimLike
from aino_ir.dtypes import i64
from aino_ir.infer import KNOWN_LIMIT, InferContext
from aino_ir.op import Op, Trait, const_attr, dims_attr, int_attr, operand, str_attr, variadic_operand
from aino_ir.types import TensorType, Type

if TYPE_CHECKING:
    from aino_ir.graph import Value


class Return(Op):
    """Ends a block; the operands are the block's results."""

    name = "core.return"
    traits = frozenset({Trait.TERMINATOR})
    values = variadic_operand()

    def infer(self, ic: InferContext) -> list[Type]:
        return []


class Constant(Op):
    """out = a constant handle."""

    name = "core.constant"
    value = const_attr()

    def infer(self, ic: InferContext) -> list[Type]:
        return [self.value.type]

    def evaluate(self, ev: Any) -> np.ndarray:
        return self.value.array(wide=ev.wide)

    def known(self, ic: InferContext) -> list[np.ndarray | None]:
        if self.value.size > KNOWN_LIMIT or self.value.dtype.is_float:
            return [None]
        array = self.value.array()
        out = np.empty(array.size, object)
        out[:] = [int(v) for v in array.reshape(-1)]
        return [out.reshape(array.shape)]


class Dims(Op):
    """out[i] = dims[i]: extents as a 1-d i64 value."""

    name = "core.dims"
    dims = dims_attr()

    def infer(self, ic: InferContext) -> list[Type]:
        return [TensorType(i64, (len(self.dims),))]

    def evaluate(self, ev: Any) -> np.ndarray:
        return np.asarray([ev.size(d) for d in self.dims], np.int64)

    def known(self, ic: InferContext) -> list[np.ndarray | None]:
        out = np.empty(len(self.dims), object)
        out[:] = list(self.dims)
        return [out]

    def define(self) -> Any:
        from aino_ir.compute import Compute, axes
        from aino_ir.loops.expr import Expr, index, select

        (axis,) = axes("i", (len(self.dims),))
        body: Expr = index(self.dims[-1]) if self.dims else index(0)
        for position in range(len(self.dims) - 2, -1, -1):
            body = select(index(axis.dim) <= position, index(self.dims[position]), body)
        return Compute((axis,), body)


class Fused(Op):
    """A group of ops that becomes one kernel; the region sees the operands as its arguments.

    Inner ops stay visible.  `kind` names the anchor's generator ("map", "contract", "row", ...).
    """

    name = "core.fused"
    region_names = ("body",)
    inputs = variadic_operand()
    kind = str_attr("map")
    anchor = int_attr(0)

    def infer(self, ic: InferContext) -> list[Type]:
        return [v.type for v in self.regions[0].terminator.present_operands()]

    def evaluate(self, ev: Any, *arrays: Any) -> tuple[Any, ...]:
        return tuple(ev.block(self.regions[0], arrays))


class Relayout(Op):
    """out = x, stored in another layout (the result type's)."""

    name = "core.relayout"
    x = operand()

    def infer(self, ic: InferContext) -> list[Type]:
        return [ic.tensor(self.x, "x").logical()]

    def evaluate(self, ev: Any, x: np.ndarray) -> np.ndarray:
        return x

    def define(self) -> Any:
        from aino_ir.compute import Compute, axes, coordinates, read

        space = axes("i", self.x.shape)
        return Compute(space, read(self.x, 0, coordinates(space)))

    def forward(self, source: Value, at: tuple[DimLike, ...]) -> tuple[DimLike, ...]:
        return at
