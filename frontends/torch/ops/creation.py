"""Tensors made from numbers: full, arange, zeros, and those like another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch._subclasses.fake_tensor import unset_fake_temporarily

from aino_ir.dims import Dim, DimLike, is_static
from aino_ir.dtypes import DType, i64
from aino_ir.frontends.torch.context import Lowering, NodeContext, Operand, Row
from aino_ir.frontends.torch.tensors import array_of
from aino_ir.graph import Value

Array = np.ndarray[Any, Any]


def filled(c: NodeContext, value: Operand) -> Value:
    """A tensor of the shape and dtype that torch says, with one value."""
    if isinstance(value, Value):
        return c.emit("expand", c.cast(value, c.dtype), shape=c.shape)
    if not isinstance(value, (bool, int, float)):
        return c.emit("expand", c.operand(value, c.dtype), shape=c.shape)
    return c.filled(c.shape, c.operand(value, c.dtype).op.value.array(), c.dtype)  # type: ignore[union-attr]


def full(c: NodeContext, size: Sequence[DimLike], fill_value: Operand, dtype: DType | None = None) -> Value:
    """One value in a shape."""
    return filled(c, fill_value)


def full_like(c: NodeContext, x: Value, fill_value: Operand, dtype: DType | None = None) -> Value:
    """One value in the shape of another tensor."""
    return filled(c, fill_value)


def new_full(
    c: NodeContext, x: Value, size: Sequence[DimLike], fill_value: Operand, dtype: DType | None = None
) -> Value:
    """One value in a shape, with the dtype of another tensor."""
    return filled(c, fill_value)


def constant_in(number: float) -> Lowering:
    """A row for zeros, ones and tensors without contents (which are zero here)."""

    def lower(
        c: NodeContext,
        x: Value | None = None,
        size: Sequence[DimLike] = (),
        stride: Sequence[DimLike] = (),
        dtype: DType | None = None,
    ) -> Value:
        return filled(c, number)

    return lower


def scalar_tensor(c: NodeContext, s: Operand, dtype: DType | None = None) -> Value:
    """A number as a tensor."""
    return c.operand(s, c.dtype)


def arange(
    c: NodeContext, end: Operand, start: Operand = 0, step: Operand = 1, dtype: DType | None = None
) -> Value:
    """start, start + step, ... below end"""
    (size,) = c.shape
    numbers = [start, step]
    if all(isinstance(n, (int, float)) for n in numbers) and is_static(size):
        return c.b.constant(_line(start, step, int(size), c.dtype))  # type: ignore[arg-type]
    if isinstance(step, int) and not isinstance(start, (Value, float)) and c.dtype.is_integer:
        return c.emit("index.range", start=start, size=size, step=step, dtype=c.dtype)
    wide = c.dtype.compute
    line = c.cast(c.emit("index.range", start=0, size=size, step=1, dtype=i64), wide)
    scaled = c.emit("mul", line, c.operand(step, wide))
    return c.cast(c.emit("add", scaled, c.operand(start, wide)), c.dtype)


def _line(start: float, step: float, size: int, dtype: DType) -> Array:
    """What torch computes: start + i * step in double precision, or in integers, fractions dropped."""
    kind = np.int64 if dtype.is_integer else np.float64
    return np.asarray((kind(start) + np.arange(size, dtype=kind) * kind(step)).astype(dtype.numpy))


def eye(c: NodeContext, n: DimLike, m: DimLike | None = None, dtype: DType | None = None) -> Value:
    """Ones on the diagonal."""
    rows, columns = c.shape
    return c.cast(c.emit("eq", c.positions(rows, 2, 0), c.positions(columns, 2, 1)), c.dtype)


def one_hot(c: NodeContext, x: Value, num_classes: int = -1) -> Value:
    """One at the position that each element says."""
    classes = c.shape[-1]
    line = c.positions(classes, x.rank + 1, x.rank)
    return c.cast(c.emit("eq", c.reshape(x, (*x.shape, 1)), line), i64)


def computed(c: NodeContext, **numbers: Any) -> Value:
    """What torch itself computes from numbers alone: windows, frequencies."""
    if any(isinstance(n, (Value, Dim)) for n in numbers.values()):
        c.unsupported("numbers that are not known")
    numbers["dtype"] = c.meta().dtype
    with unset_fake_temporarily():
        return c.b.constant(array_of(c.node.target(**numbers)))  # type: ignore[operator]


TABLE: dict[str, Row] = {
    **{f"aten.{name}_window": computed for name in ("bartlett", "blackman", "hamming", "kaiser")},
    "aten.arange": arange,
    "aten.empty": constant_in(0),
    "aten.empty_like": constant_in(0),
    "aten.empty_permuted": constant_in(0),
    "aten.empty_strided": constant_in(0),
    "aten.eye": eye,
    "aten.fft_fftfreq": computed,
    "aten.fft_rfftfreq": computed,
    "aten.full": full,
    "aten.full_like": full_like,
    "aten.new_empty": constant_in(0),
    "aten.new_empty_strided": constant_in(0),
    "aten.new_full": new_full,
    "aten.new_ones": constant_in(1),
    "aten.new_zeros": constant_in(0),
    "aten.one_hot": one_hot,
    "aten.ones": constant_in(1),
    "aten.ones_like": constant_in(1),
    "aten.scalar_tensor": scalar_tensor,
    "aten.zeros": constant_in(0),
    "aten.zeros_like": constant_in(0),
}
