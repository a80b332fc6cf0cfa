"""AINO's own operators in PyTorch, ``torch.ops.aino``: what written modules call where ATen has no word.

Quantised numbers stay quantised when a module is written, trained, exported and read again, since each of
these operators has a row of its own.  Rounding has no gradient of use: what was quantised and dequantised
passes its gradient straight through where it did not saturate (Bengio et al. 2013; Jacob et al. 2018).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from aino_ir.dtypes import DTYPES, integer_range
from aino_ir.frontends.torch.dtypes import STORED


def quantize(x: Tensor, scale: Tensor, zero: Tensor | None, stored: str) -> Tensor:
    """round(x / scale) + zero, saturated to AINO's dtype `stored`; NaN gives 0."""
    low, high = integer_range(DTYPES[stored])
    y = codes_of(x, scale, zero)
    y = torch.where(y.isnan(), torch.zeros_like(y), y.clamp(low, high))
    return y.to(torch.int64).to(STORED[stored])


def dequantize(x: Tensor, scale: Tensor, zero: Tensor | None, stored: str) -> Tensor:
    """(x - zero) * scale in the dtype of the scale; x holds values of AINO's dtype `stored`."""
    wide = scale.to(torch.promote_types(scale.dtype, torch.float32))
    return (_whole(x, zero).to(wide.dtype) * wide).to(scale.dtype)


def quantize_groups(
    x: Tensor, scale: Tensor, zero: Tensor | None, axis: int, group: int, stored: str
) -> Tensor:
    """`quantize` with a scale and zero point for each group along an axis."""
    return quantize(x, spread(scale, x, axis, group), _spread_zero(zero, x, axis, group), stored)


def dequantize_groups(
    x: Tensor, scale: Tensor, zero: Tensor | None, axis: int, group: int, stored: str
) -> Tensor:
    """`dequantize` with a scale and zero point for each group along an axis."""
    return dequantize(x, spread(scale, x, axis, group), _spread_zero(zero, x, axis, group), stored)


def widen(x: Tensor, stored: str) -> Tensor:
    """x as f32; it holds values of AINO's dtype `stored`."""
    return x.to(torch.float32)


def straight_through(
    x: Tensor, y: Tensor, scale: Tensor, zero: Tensor | None, by: Tensor, stored: str
) -> Tensor:
    """y, which came of rounding x to `stored` and decoding that with the scale `by`.

    Its gradient is also that of the x that did not saturate.
    """
    return y.clone()


def codes_of(x: Tensor, scale: Tensor, zero: Tensor | None) -> Tensor:
    """Numbers on the scale, before they saturate."""
    y = torch.round(x.to(torch.float32) / scale.to(torch.float32))
    return y if zero is None else y + zero.to(torch.float32)


def _whole(x: Tensor, zero: Tensor | None) -> Tensor:
    whole = x.to(torch.int32)
    return whole if zero is None else whole - zero.to(torch.int32)


def spread(parameter: Tensor, x: Tensor, axis: int, group: int) -> Tensor:
    """A parameter of groups with one element for each of their members."""
    return parameter.repeat_interleave(group, axis).narrow(axis, 0, x.shape[axis])


def _spread_zero(zero: Tensor | None, x: Tensor, axis: int, group: int) -> Tensor | None:
    return None if zero is None else spread(zero, x, axis, group)


# -- gradients ------------------------------------------------------------------------------------------


def keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    """Keep an operator's tensors, and the rest of its arguments."""
    ctx.save_for_backward(*(a for a in inputs if isinstance(a, Tensor)))
    ctx.there = [isinstance(a, Tensor) for a in inputs]
    ctx.arguments = [None if isinstance(a, Tensor) else a for a in inputs]


def kept(ctx: Any) -> list[Any]:
    """Arguments of an operator whose gradient is wanted."""
    tensors = iter(ctx.saved_tensors)
    return [next(tensors) if there else a for there, a in zip(ctx.there, ctx.arguments, strict=True)]


def _dequantize_backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
    """Of the scale; integers have none."""
    x, scale, zero, _ = kept(ctx)
    mine = (gradient * _whole(x, zero).to(gradient.dtype)).sum_to_size(scale.shape)
    return None, mine, None, None


def _dequantize_groups_backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
    x, scale, zero, axis, group, _ = kept(ctx)
    whole = _whole(x, _spread_zero(zero, x, axis, group)).to(gradient.dtype)
    places = torch.arange(x.shape[axis], device=x.device) // group
    return None, torch.zeros_like(scale).index_add(axis, places, gradient * whole), None, None, None, None


def _widen_backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
    x, _ = kept(ctx)
    return (gradient.to(x.dtype) if x.dtype.is_floating_point else None), None


def unsaturated(x: Tensor, gradient: Tensor, scale: Tensor, zero: Tensor | None, stored: str) -> Tensor:
    """The gradient of x, given that of its codes times their scale; none where x saturates."""
    low, high = integer_range(DTYPES[stored])
    codes = codes_of(x, scale, zero)
    inside = (codes >= low) & (codes <= high)
    return (gradient * inside).sum_to_size(x.shape).to(x.dtype)


def of_scale(ctx: Any, position: int, x: Tensor, mine: Tensor, scale: Tensor) -> Tensor | None:
    """The gradient of the scale that x was divided by, given that of x; None where nobody wants it.

    Codes are about x / scale, so what a scale changes in them is -x / scale of what x changes: a scale that
    the run finds (of a row's largest number) is divided by and multiplied with, and both have to count.
    """
    if not ctx.needs_input_grad[position]:
        return None
    return (-mine * (x / scale)).sum_to_size(scale.shape).to(scale.dtype)


def _straight_through_backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
    x, _, scale, zero, by, stored = kept(ctx)
    mine = unsaturated(x, gradient * (by / scale), scale, zero, stored)
    return mine, gradient, of_scale(ctx, 2, x, mine, scale), *[None] * 3


PARAMETERS = "Tensor scale, Tensor? zero"

GROUPS = "int axis, int group"

OPERATORS = (
    (quantize, f"Tensor x, {PARAMETERS}, str stored", None),
    (dequantize, f"Tensor x, {PARAMETERS}, str stored", _dequantize_backward),
    (quantize_groups, f"Tensor x, {PARAMETERS}, {GROUPS}, str stored", None),
    (dequantize_groups, f"Tensor x, {PARAMETERS}, {GROUPS}, str stored", _dequantize_groups_backward),
    (widen, "Tensor x, str stored", _widen_backward),
    (
        straight_through,
        f"Tensor x, Tensor y, {PARAMETERS}, Tensor by, str stored",
        _straight_through_backward,
    ),
)
"""(meaning, arguments, gradient)"""


def define(
    function: Callable[..., Tensor], arguments: str, backward: Callable[..., tuple[Any, ...]] | None
) -> None:
    """Make a function an operator ``torch.ops.aino.NAME``: its meaning, its shapes and its gradient."""
    name = f"aino::{function.__name__}"
    made = torch.library.custom_op(name, function, mutates_args=(), schema=f"({arguments}) -> Tensor")
    made.register_fake(function)
    if backward is not None:
        made.register_autograd(backward, setup_context=keep)


for _row in OPERATORS:
    define(*_row)
