"""What every frontend does to make ops: constants, casts, reshapes, axes, at the end of a block."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from aino_ir.builder import Builder, op_class
from aino_ir.constants import Const
from aino_ir.dims import DimLike, is_static
from aino_ir.dtypes import DType
from aino_ir.graph import Value
from aino_ir.symbols import Symbols


class Emitter:
    """Makes ops with a builder; the lowering contexts of the frontends derive from it.

    Attributes:
        b: the builder, at the end of a block.
    """

    __slots__ = ("b",)

    def __init__(self, b: Builder) -> None:
        self.b = b

    @property
    def symbols(self) -> Symbols:
        """The function's symbol table."""
        return self.b.function.symbols

    def emit(self, op: str, *operands: Value | None, **attrs: Any) -> Value:
        """The result of a new op, named as on the builder."""
        return self.b.op(op_class(op), *operands, **attrs).result

    def emit_all(self, op: str, *operands: Value | None, **attrs: Any) -> tuple[Value, ...]:
        """All results of a new op."""
        return self.b.op(op_class(op), *operands, **attrs).results

    def scalar(self, number: float | int | bool, dtype: DType) -> Value:
        """A 0-d constant."""
        return self.b.constant(np.asarray(number).astype(dtype.numpy))

    def filled(self, shape: Sequence[DimLike], number: Any, dtype: DType) -> Value:
        """A tensor of one value: a constant handle where the shape is known, else an expansion."""
        value = np.asarray(number).astype(dtype.numpy)
        if all(is_static(d) for d in shape):
            extents = tuple(int(d) for d in shape)  # type: ignore[arg-type]
            return self.b.constant(Const.deferred(dtype, extents, lambda: np.broadcast_to(value, extents)))
        return self.emit("expand", self.b.constant(value), shape=tuple(shape))

    def cast(self, value: Value, dtype: DType) -> Value:
        """The value in another dtype (itself when it has that one)."""
        return value if value.dtype is dtype else self.emit("cast", value, to=dtype)

    def reshape(self, value: Value, shape: Sequence[DimLike]) -> Value:
        """The value in another shape (itself when it has that one)."""
        if tuple(shape) == value.shape:
            return value
        return self.emit("reshape", value, shape=tuple(shape))

    def cut(self, x: Value, axis: int, start: DimLike, size: DimLike) -> Value:
        """`size` elements along one axis from `start` on (x itself for all of them)."""
        if size is x.shape[axis] or (is_static(size) and size == x.shape[axis]):
            return x
        starts: list[DimLike] = [0] * x.rank
        sizes = list(x.shape)
        starts[axis], sizes[axis] = start, size
        return self.emit("slice", x, starts=starts, sizes=sizes, steps=[1] * x.rank)

    def tile(self, x: Value, repeats: Sequence[DimLike]) -> Value:
        """x repeated along each axis: new axes, expanded, and merged again."""
        apart: list[DimLike] = []
        wide: list[DimLike] = []
        merged: list[DimLike] = []
        for extent, count in zip(x.shape, repeats, strict=True):
            if not (is_static(count) and count == 1):
                apart.append(1)
                wide.append(count)
            apart.append(extent)
            wide.append(extent)
            merged.append(extent * count)
        if len(apart) == x.rank:
            return x
        return self.reshape(self.emit("expand", self.reshape(x, apart), shape=tuple(wide)), merged)
