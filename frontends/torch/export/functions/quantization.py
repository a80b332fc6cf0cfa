"""Quantised numbers, and sums of products of bytes: exact in f64, scaled in f32."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from aino_ir.dtypes import DTYPES, integer_range
from aino_ir.frontends.torch.export.functions.contraction import conv
from aino_ir.frontends.torch.export.functions.storage import COMPUTED


def quantize(x: Tensor, scale: Tensor, zero: Tensor | None, to: str) -> Tensor:
    """round(x / scale) + zero, saturated; NaN gives 0."""
    low, high = integer_range(DTYPES[to])
    y = torch.round(x / scale)
    if zero is not None:
        y = y + zero.to(torch.float32)
    y = torch.where(y.isnan(), torch.zeros_like(y), y.clamp(low, high))
    return y.to(torch.int64).to(COMPUTED[to])


def dequantize(x: Tensor, scale: Tensor, zero: Tensor | None) -> Tensor:
    """(x - zero) * scale"""
    whole = x.to(torch.int32)
    if zero is not None:
        whole = whole - zero.to(torch.int32)
    return whole.to(torch.float32) * scale


def widen(x: Tensor) -> Tensor:
    """x as f32."""
    return x.to(torch.float32)


def spread(parameter: Tensor | None, extent: int, axis: int, group: int) -> Tensor | None:
    """A parameter of groups with one element for each of their members."""
    if parameter is None:
        return None
    return parameter.repeat_interleave(group, axis).narrow(axis, 0, extent)


def quantize_groups(x: Tensor, scale: Tensor, zero: Tensor | None, axis: int, group: int, to: str) -> Tensor:
    """`quantize` with parameters for groups along an axis."""
    wide = spread(scale, x.shape[axis], axis, group)
    assert wide is not None
    return quantize(x, wide, spread(zero, x.shape[axis], axis, group), to)


def dequantize_groups(x: Tensor, scale: Tensor, zero: Tensor | None, axis: int, group: int) -> Tensor:
    """`dequantize` with parameters for groups along an axis."""
    wide = spread(scale, x.shape[axis], axis, group)
    assert wide is not None
    return dequantize(x, wide, spread(zero, x.shape[axis], axis, group))


def scaled(total: Tensor, scale: Tensor, offset: Tensor | None) -> Tensor:
    """(total + offset) * scale, rounded to f32 before it is scaled."""
    whole = total if offset is None else total + offset.to(torch.float64)
    return whole.to(torch.float32) * scale


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
    shape: Sequence[int],
) -> Tensor:
    """A convolution of bytes; `zero` stands around x."""
    rank = len(strides)
    pads = [p for pair in zip(reversed(pads_before), reversed(pads_after), strict=True) for p in pair]
    wide = (
        torch.nn.functional.pad(x.to(torch.float64), pads, value=float(zero))
        if any(pads)
        else x.to(torch.float64)
    )
    none = [0] * rank
    total = conv(wide, w.to(torch.float64), None, strides, dilations, none, none, groups, shape)
    return scaled(total, scale, None if offset is None else offset.reshape(-1, *[1] * rank))


def quant_matmul(lhs: Tensor, rhs: Tensor, scale: Tensor, offset: Tensor | None, zero: int) -> Tensor:
    """A product of matrices of bytes."""
    return scaled(torch.matmul(lhs.to(torch.float64), rhs.to(torch.float64)), scale, offset)


TABLE = {
    "quant.conv": quant_conv,
    "quant.dequantize": dequantize,
    "quant.widen": widen,
    "quant.dequantize_groups": dequantize_groups,
    "quant.matmul": quant_matmul,
    "quant.quantize": quantize,
    "quant.quantize_groups": quantize_groups,
}
"""Op name -> function of tensors."""
