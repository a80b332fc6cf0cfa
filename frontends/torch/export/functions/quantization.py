"""Quantised numbers: calls of AINO's own operators, which are quantised numbers when they are read again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

import aino_ir.frontends.torch.product_operators  # noqa: F401 - defines torch.ops.aino


def call(name: str, *arguments: Any) -> Tensor:
    """One of AINO's operators."""
    made: Tensor = getattr(torch.ops.aino, name)(*arguments)
    return made


def quantize(x: Tensor, scale: Tensor, zero: Tensor | None, to: str) -> Tensor:
    """round(x / scale) + zero, saturated; NaN gives 0."""
    return call("quantize", x, scale, zero, to)


def dequantize(
    x: Tensor, scale: Tensor, zero: Tensor | None, stored: str, rounded: tuple[Any, ...]
) -> Tensor:
    """(x - zero) * scale; what was rounded to x passes its gradient straight through."""
    y = call("dequantize", x, scale, zero, stored)
    if not rounded:
        return y
    source, x_scale, x_zero, x_stored = rounded
    return call("straight_through", source, y, x_scale, x_zero, scale, x_stored)


def widen(x: Tensor, stored: str) -> Tensor:
    """x as f32."""
    return call("widen", x, stored)


def quantize_groups(x: Tensor, scale: Tensor, zero: Tensor | None, axis: int, group: int, to: str) -> Tensor:
    """`quantize` with parameters for groups along an axis."""
    return call("quantize_groups", x, scale, zero, axis, group, to)


def dequantize_groups(
    x: Tensor, scale: Tensor, zero: Tensor | None, axis: int, group: int, stored: str
) -> Tensor:
    """`dequantize` with parameters for groups along an axis."""
    return call("dequantize_groups", x, scale, zero, axis, group, stored)


def quant_matmul(
    lhs: Tensor, rhs: Tensor, scale: Tensor, offset: Tensor | None, zero: int, rounded: tuple[Any, ...]
) -> Tensor:
    """A product of matrices of bytes."""
    y = call("integer_matmul", lhs, rhs, scale, offset, zero)
    if not rounded:
        return y
    x, x_scale, x_zero, stored = rounded
    return call("through_matmul", x, y, x_scale, x_zero, rhs, scale, stored)


def quant_conv(
    x: Tensor,
    w: Tensor,
    scale: Tensor,
    offset: Tensor | None,
    strides: Sequence[int],
    dilations: Sequence[int],
    pads_before: Sequence[int],
    pads_after: Sequence[int],
    groups: int,
    zero: int,
    rounded: tuple[Any, ...],
) -> Tensor:
    """A convolution of bytes; `zero` stands around x."""
    geometry = strides, dilations, pads_before, pads_after, groups
    y = call("integer_convolution", x, w, scale, offset, *geometry, zero)
    if not rounded:
        return y
    source, x_scale, x_zero, stored = rounded
    return call("through_convolution", source, y, x_scale, x_zero, w, scale, *geometry, stored)


TABLE = {
    "quant.conv": quant_conv,
    "quant.matmul": quant_matmul,
    "quant.dequantize": dequantize,
    "quant.widen": widen,
    "quant.dequantize_groups": dequantize_groups,
    "quant.quantize": quantize,
    "quant.quantize_groups": quantize_groups,
}
"""Op name -> function of tensors."""

OPERANDS = "stored"
