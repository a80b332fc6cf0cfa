"""Ops that hold programs together: constants, returns, extents as values, fused groups."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from aino_ir.dims import DimLike
from aino_ir.dtypes import i64
from aino_ir.errors.ir import ValueOutOfBounds
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


def is_data(op: Op) -> bool:
    """Whether an op only stands for data: a constant, a text, an empty list, an absent value."""
    if isinstance(op, Constant):
        return True
    return op.has(Trait.HOST) and not op.operands and not op.regions and not op.reads_symbols()


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


class Bind(Op):
    """out = x, whose elements are from here on the values of symbols: extents and positions.

    Element i (row-major) must be within lower[i]..upper[i], both inclusive.  `what` says in errors what
    the numbers are.
    """

    name = "core.bind"
    traits = frozenset({Trait.DATA_DEPENDENT})
    x = operand()
    lower = dims_attr()
    upper = dims_attr()
    what = str_attr("the operand")

    def infer(self, ic: InferContext) -> list[Type]:
        x = ic.tensor(self.x, "x")
        if not x.dtype.is_integer or not x.is_static or int(x.size) > KNOWN_LIMIT:  # type: ignore[arg-type]
            ic.bad_operand("x", f"at most {KNOWN_LIMIT} integers", x)
        for name, bounds in (("lower", self.lower), ("upper", self.upper)):
            if len(bounds) != x.size:
                ic.bad_attribute(name, f"{x.size} numbers", bounds)
        self._symbols(ic)
        return [x.logical()]

    def _symbols(self, ic: InferContext) -> list[DimLike]:
        bounds = zip(self.lower, self.upper, strict=True)
        return [ic.symbols.value(self.id, i, lo, hi) for i, (lo, hi) in enumerate(bounds)]

    def known(self, ic: InferContext) -> list[np.ndarray | None]:
        out = np.empty(len(self.lower), object)
        out[:] = self._symbols(ic)
        return [out.reshape(self.x.shape)]

    def evaluate(self, ev: Any, x: np.ndarray) -> np.ndarray:
        values = [int(v) for v in x.reshape(-1).tolist()]
        for i, (got, lower, upper) in enumerate(zip(values, self.lower, self.upper, strict=True)):
            lo, hi = ev.size(lower), ev.size(upper)
            if not lo <= got <= hi:
                raise ValueOutOfBounds(op=self.name, element=i, what=self.what, got=got, lo=lo, hi=hi)
        ev.bind(self.result, values)
        return x


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
