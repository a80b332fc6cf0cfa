"""AINO's own operators (`aino_ir.frontends.torch.operators`): quantised numbers as written modules hold them.

PyTorch has no integers of 4 and 2 bits: bytes hold them, so their values are cast on the way in and out.
"""

from __future__ import annotations

from collections.abc import Sequence

import aino_ir.frontends.torch.product_operators  # noqa: F401 - defines torch.ops.aino
from aino_ir.dtypes import DTYPES
from aino_ir.frontends.torch.context import NodeContext, Row
from aino_ir.graph import Value


def quantize(c: NodeContext, x: Value, scale: Value, zero: Value | None, stored: str) -> Value:
    """round(x / scale) + zero, saturated."""
    return c.cast(c.emit("quantize", x, scale, number(c, zero, stored), to=DTYPES[stored]), c.dtype)


def dequantize(c: NodeContext, x: Value, scale: Value, zero: Value | None, stored: str) -> Value:
    """(x - zero) * scale."""
    return c.emit("dequantize", c.cast(x, DTYPES[stored]), scale, number(c, zero, stored))


def quantize_groups(
    c: NodeContext, x: Value, scale: Value, zero: Value | None, axis: int, group: int, stored: str
) -> Value:
    """The same with a scale for each group."""
    wide = {"axis": axis, "group": group, "to": DTYPES[stored]}
    return c.cast(c.emit("quantize_groups", x, scale, number(c, zero, stored), **wide), c.dtype)


def dequantize_groups(
    c: NodeContext, x: Value, scale: Value, zero: Value | None, axis: int, group: int, stored: str
) -> Value:
    """The same with a scale for each group."""
    codes = c.cast(x, DTYPES[stored])
    return c.emit("dequantize_groups", codes, scale, number(c, zero, stored), axis=axis, group=group)


def widen(c: NodeContext, x: Value, stored: str) -> Value:
    """x as f32."""
    return c.emit("quant.widen", c.cast(x, DTYPES[stored]))


def integer_matmul(
    c: NodeContext, lhs: Value, rhs: Value, scale: Value, offset: Value | None, zero: int
) -> Value:
    """A product of matrices of bytes."""
    return c.emit("quant.matmul", lhs, rhs, scale, offset, zero=zero)


def integer_convolution(
    c: NodeContext,
    x: Value,
    w: Value,
    scale: Value,
    offset: Value | None,
    strides: Sequence[int],
    dilations: Sequence[int],
    pads_before: Sequence[int],
    pads_after: Sequence[int],
    groups: int,
    zero: int,
) -> Value:
    """A convolution of bytes."""
    return c.emit(
        "quant.conv",
        x,
        w,
        scale,
        offset,
        strides=tuple(strides),
        dilations=tuple(dilations),
        pads_before=tuple(pads_before),
        pads_after=tuple(pads_after),
        groups=groups,
        zero=zero,
    )


def unchanged(c: NodeContext, y: Value) -> Value:
    """y: gradients are PyTorch's affair."""
    return y


def number(c: NodeContext, zero: Value | None, dtype: str) -> Value | None:
    """A zero point in the dtype of the numbers."""
    return None if zero is None else c.cast(zero, DTYPES[dtype])


TABLE: dict[str, Row] = {
    "aino.dequantize": dequantize,
    "aino.dequantize_groups": dequantize_groups,
    "aino.integer_convolution": integer_convolution,
    "aino.integer_matmul": integer_matmul,
    "aino.quantize": quantize,
    "aino.quantize_groups": quantize_groups,
    "aino.straight_through": unchanged,
    "aino.through_convolution": unchanged,
    "aino.through_matmul": unchanged,
    "aino.widen": widen,
}
"""Operator -> row."""
