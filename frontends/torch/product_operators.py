"""Products of bytes in PyTorch: exact sums, computed in f64, scaled in f32.

What was quantised and multiplied passes its gradient straight through the rounding: ``through_matmul`` and
``through_convolution`` give the product as it is, and have the gradient of the float product.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from aino_ir.frontends.torch.operators import define, kept, of_scale, unsaturated


def integer_matmul(lhs: Tensor, rhs: Tensor, scale: Tensor, offset: Tensor | None, zero: int) -> Tensor:
    """(lhs @ rhs + offset) * scale; `zero`, the zero point of lhs, changes nothing."""
    return _scaled(torch.matmul(lhs.to(torch.float64), rhs.to(torch.float64)), scale, offset)


def integer_convolution(
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
) -> Tensor:
    """(convolution of x, with `zero` around it, and w + offset) * scale."""
    rank = len(strides)
    wide = F.pad(x.to(torch.float64), flat_pads(pads_before, pads_after), value=float(zero))
    total = CONVOLUTION[rank](wide, w.to(torch.float64), None, strides, 0, dilations, groups)
    return _scaled(total, scale, None if offset is None else offset.reshape(-1, *[1] * rank))


def through_matmul(
    x: Tensor, y: Tensor, x_scale: Tensor, x_zero: Tensor | None, rhs: Tensor, scale: Tensor, stored: str
) -> Tensor:
    """y, the `integer_matmul` of what x was rounded to; its gradient is also that of x."""
    return y.clone()


def through_convolution(
    x: Tensor,
    y: Tensor,
    x_scale: Tensor,
    x_zero: Tensor | None,
    w: Tensor,
    scale: Tensor,
    strides: Sequence[int],
    dilations: Sequence[int],
    pads_before: Sequence[int],
    pads_after: Sequence[int],
    groups: int,
    stored: str,
) -> Tensor:
    """y, the `integer_convolution` of what x was rounded to; its gradient is also that of x."""
    return y.clone()


def _scaled(total: Tensor, scale: Tensor, offset: Tensor | None) -> Tensor:
    """(total + offset) * scale, rounded to f32 before it is scaled."""
    whole = total if offset is None else total + offset.to(torch.float64)
    return whole.to(torch.float32) * scale


def flat_pads(before: Sequence[int], after: Sequence[int]) -> list[int]:
    """What `torch.nn.functional.pad` takes: the last axis first."""
    return [p for pair in zip(reversed(before), reversed(after), strict=True) for p in pair]


CONVOLUTION = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


def _matmul_backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
    x, _, x_scale, x_zero, rhs, scale, stored = kept(ctx)
    codes = torch.matmul(gradient * scale, rhs.to(gradient.dtype).mT)
    mine = unsaturated(x, codes.sum_to_size(x.shape) / x_scale, x_scale, x_zero, stored)
    return mine, gradient, of_scale(ctx, 2, x, mine, x_scale), *[None] * 4


def _convolution_backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
    x, _, x_scale, x_zero, w, scale, strides, dilations, before, after, groups, stored = kept(ctx)
    padded = F.pad(x, flat_pads(before, after))
    codes, _, _ = torch.ops.aten.convolution_backward(
        gradient * scale,
        padded,
        w.to(gradient.dtype),
        None,
        strides,
        [0] * len(strides),
        dilations,
        False,
        [0] * len(strides),
        groups,
        [True, False, False],
    )
    inner = F.pad(codes, [-p for p in flat_pads(before, after)])
    mine = unsaturated(x, inner / x_scale, x_scale, x_zero, stored)
    return mine, gradient, of_scale(ctx, 2, x, mine, x_scale), *[None] * 9


GEOMETRY = "int[] strides, int[] dilations, int[] pads_before, int[] pads_after, int groups"
ROUNDED = "Tensor x, Tensor y, Tensor x_scale, Tensor? x_zero"

OPERATORS = (
    (integer_matmul, "Tensor lhs, Tensor rhs, Tensor scale, Tensor? offset, int zero", None),
    (
        integer_convolution,
        f"Tensor x, Tensor w, Tensor scale, Tensor? offset, {GEOMETRY}, int zero",
        None,
    ),
    (through_matmul, f"{ROUNDED}, Tensor rhs, Tensor scale, str stored", _matmul_backward),
    (
        through_convolution,
        f"{ROUNDED}, Tensor w, Tensor scale, {GEOMETRY}, str stored",
        _convolution_backward,
    ),
)
"""(meaning, arguments, gradient)"""

for _row in OPERATORS:
    define(*_row)
