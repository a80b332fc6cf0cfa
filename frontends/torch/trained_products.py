"""Weights of products of bytes that are trained, with the bits that the deployed product has.

Such a product is (sum of codes * weights + offset) * scale, and its scale is what is left of the scales of
activation, weights and often the next activation.  How large a weight is as a number is therefore not known,
only how large it is beside those of other channels.  Parameters are measured in units in which the weights
have the variance of freshly initialised ones (1 / inputs of a sum; LeCun et al., 1998), so that step sizes
mean what they mean in a float network.

The offset holds the bias, in whole multiples of the scale, and takes off what the zero point of the
activation adds to the sum: it follows the weights, and the bias is trained.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aino_ir.constants import Const
from aino_ir.frontends.torch.export.functions.quantization import quant_conv, quant_matmul
from aino_ir.frontends.torch.operators import unsaturated
from aino_ir.frontends.torch.product_operators import flat_pads
from aino_ir.frontends.torch.trained_weights import TrainedWeights
from aino_ir.short_sums import DEPTHS, MOST, QUARTET, lane_sums, slice_sums, summed_axes

OFFSET_LIMIT = (1 << 30) - 1
"""Offsets that leave the other half of i32 to the sum of products."""

USUAL_CODE = 32.0
"""A usual distance of an activation's code from its zero point: the codes' unit where biases are measured."""


@dataclass(frozen=True)
class Product:
    """What a product has beside the bytes: weights, scale of the sum, offset, zero point of the bytes."""

    codes: Tensor
    scale: Tensor
    offset: Tensor | None
    zero: int


class TrainedProduct(TrainedWeights):
    """What trains a product's weights and bias.

    Attributes:
        of_sum: the scale of the sum.
        base: the bias as it was, in multiples of that scale; bias: what is added to it, times `bias_unit`.
            None where the product has no offset.
        depth: steps of products that fitted 16 bits at the start, and have to; 0: none.
    """

    CHANNEL = 0
    """Axis of the weights that is the output channels."""

    of_sum: Tensor
    base: Tensor
    bias: nn.Parameter | None
    bias_unit: Tensor

    def __init__(self, handle: Const, product: Product, offset_handle: Const | None) -> None:
        unit = self.unit_of(product)
        assert unit is not None
        super().__init__(handle, product.codes, unit, None)
        self.activation_zero = product.zero
        self.offset_handle = offset_handle
        self.register_buffer("of_sum", product.scale.clone())
        sums = self.per_channel(product.codes.to(torch.int64), self.CHANNEL)
        self.bias = None
        if product.offset is not None:
            base = product.offset.to(torch.int64) + product.zero * sums
            self.register_buffer("base", base)
            self.register_buffer("bias_unit", unit.reshape(-1).expand(base.shape) / USUAL_CODE)
            self.bias = nn.Parameter(torch.zeros(base.shape))
        self.depth = depth_of(product.codes.cpu().numpy(), self.CHANNEL % product.codes.dim())

    @classmethod
    def unit_of(cls, product: Product) -> Tensor | None:
        """What a weight of 1 is as a parameter, of a shape that broadcasts to the weights.

        None where the scale varies along something else than the output channels, is not finite or 0, or
        where the offset is not one number a channel though the activation's zero point will need that.
        """
        if product.codes.numel() == 0 or (product.zero and product.offset is None):
            return None
        column = cls.column_of(product.scale, product.codes.dim())
        if product.offset is not None and product.offset.shape != (product.codes.shape[cls.CHANNEL],):
            return None
        if column is None or not bool(torch.isfinite(column).all()) or bool((column == 0).any()):
            return None
        channels = product.codes.shape[cls.CHANNEL]
        size = float((product.codes * column).double().square().mean().sqrt())
        inputs: int = product.codes.numel() // channels
        wanted = 1.0 / math.sqrt(inputs)
        factor = wanted / size if size > 0 else wanted / float(column.abs().max())
        return (column.double() * factor).to(torch.float32)

    @classmethod
    def column_of(cls, scale: Tensor, rank: int) -> Tensor | None:
        """The scale of the sum as one number or one of each output channel, to broadcast to weights."""
        raise TypeError("abstract")

    @staticmethod
    def per_channel(x: Tensor, channel: int) -> Tensor:
        """Sums over everything but the channels."""
        return x.sum([a for a in range(x.dim()) if a != channel % x.dim()])

    def offset(self, codes: Tensor) -> Tensor | None:
        """The offset that belongs to integers: the bias less what the zero point adds to the sum."""
        if self.bias is None:
            return None
        moved = torch.round(self.bias.detach() / self.bias_unit).to(torch.int64)
        sums = self.per_channel(codes.to(torch.int64), self.CHANNEL)
        whole = self.base + moved - self.activation_zero * sums
        return whole.clamp(-OFFSET_LIMIT, OFFSET_LIMIT).to(torch.int32)

    def constants(self) -> list[tuple[Const, np.ndarray[Any, Any]]]:
        """The weights and the offset as they are now."""
        offset = self.offset(self.codes())
        made = super().constants()
        if offset is not None and self.offset_handle is not None:
            made.append((self.offset_handle, offset.cpu().numpy()))
        return made

    def stay_inside(self) -> None:
        """Make weights smaller where sums of their products do not fit 16 bits any more."""
        if not self.depth:
            return
        shape = tuple(self.weight.shape)
        with torch.no_grad():
            for axis in summed_axes(shape, self.CHANNEL % len(shape)) or (None,):
                fit(self.weight, self.scale, axis, self.depth)


class TrainedMatMul(TrainedProduct):
    """bytes @ weights."""

    CHANNEL = -1
    CALLED_WITH = ("lhs", "rounded")

    @classmethod
    def column_of(cls, scale: Tensor, rank: int) -> Tensor | None:
        """One number of each column."""
        if scale.numel() == 1:
            return scale.reshape(())
        return scale.reshape(-1) if scale.numel() == scale.shape[-1] else None

    def forward(self, lhs: Tensor, rounded: tuple[Any, ...]) -> Tensor:
        """The product as it is deployed."""
        codes = self.codes()
        offset = self.offset(codes)
        y = quant_matmul(lhs, codes, self.of_sum, offset, self.activation_zero, rounded)
        return _ThroughWeights.apply(y, self.weight, self.bias, lhs, self, ())  # type: ignore[no-any-return, no-untyped-call]

    def of_codes(self, centred: Tensor, gradient: Tensor, geometry: tuple[Any, ...]) -> Tensor:
        """The gradient of the weights' integers, given that of the sum."""
        return torch.matmul(centred.mT, gradient).sum_to_size(self.weight.shape)


class TrainedConvolution(TrainedProduct):
    """A convolution of bytes with weights."""

    CHANNEL = 0
    CALLED_WITH = ("x", "strides", "dilations", "pads_before", "pads_after", "groups", "rounded")

    @classmethod
    def column_of(cls, scale: Tensor, rank: int) -> Tensor | None:
        """One number of each output channel, which is axis 1 of the result."""
        if scale.numel() == 1:
            return scale.reshape(())
        spatial = rank - 2
        if scale.dim() <= spatial or scale.numel() != scale.shape[-1 - spatial]:
            return None
        return scale.reshape(-1, *[1] * (rank - 1))

    def forward(
        self,
        x: Tensor,
        strides: Sequence[int],
        dilations: Sequence[int],
        pads_before: Sequence[int],
        pads_after: Sequence[int],
        groups: int,
        rounded: tuple[Any, ...],
    ) -> Tensor:
        """The convolution as it is deployed."""
        codes = self.codes()
        geometry = strides, dilations, pads_before, pads_after, groups
        offset = self.offset(codes)
        y = quant_conv(x, codes, self.of_sum, offset, *geometry, self.activation_zero, rounded)
        return _ThroughWeights.apply(y, self.weight, self.bias, x, self, geometry)  # type: ignore[no-any-return, no-untyped-call]

    def of_codes(self, centred: Tensor, gradient: Tensor, geometry: tuple[Any, ...]) -> Tensor:
        """The gradient of the weights' integers, given that of the sum."""
        strides, dilations, before, after, groups = geometry
        spatial = len(strides)
        padded = F.pad(centred, flat_pads(before, after))
        _, found, _ = torch.ops.aten.convolution_backward(
            gradient,
            padded,
            self.weight.detach(),
            None,
            strides,
            [0] * spatial,
            dilations,
            False,
            [0] * spatial,
            groups,
            [False, True, False],
        )
        return found  # type: ignore[no-any-return]


class _ThroughWeights(torch.autograd.Function):
    """y as it is, with the gradient that weights and bias of the float product have."""

    @staticmethod
    def forward(
        ctx: Any,
        y: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        x: Tensor,
        product: TrainedMatMul | TrainedConvolution,
        geometry: tuple[Any, ...],
    ) -> Tensor:
        ctx.save_for_backward(weight, x)
        ctx.product, ctx.geometry = product, geometry
        return y.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
        weight, x = ctx.saved_tensors
        product = ctx.product
        of_sum = gradient * product.of_sum
        centred = x.to(gradient.dtype) - product.activation_zero
        codes = product.of_codes(centred, of_sum, ctx.geometry)
        mine = unsaturated(weight, codes / product.scale, product.scale, None, product.stored)
        bias = None
        if product.bias is not None:
            channel = -1 if isinstance(product, TrainedMatMul) else 1
            bias = product.per_channel(of_sum, channel) / product.bias_unit
        return gradient, mine, bias, None, None, None


# -- sums that fit 16 bits -----------------------------------------------------------------------------------


def depth_of(codes: np.ndarray[Any, Any], channel_axis: int) -> int:
    """The most steps whose sums fit 16 bits in all of some weights, or 0; see `aino_ir.short_sums`."""
    if codes.dtype != np.int8:
        return 0
    walked = summed_axes(codes.shape, channel_axis)
    if not walked:
        return 1 if slice_sums(codes).max(initial=0) <= MOST else 0
    fitting = [d for d in DEPTHS if all(lane_sums(codes, axis, d).max(initial=0) <= MOST for axis in walked)]
    return max(fitting, default=0)


def fit(weight: Tensor, unit: Tensor, axis: int | None, depth: int) -> None:
    """Shrink weights, in place, in the lanes whose integers' sums exceed `MOST`.

    Args:
        weight: parameters; their integers are round(weight / unit).
        axis: along which kernels walk, `depth` steps at a time; None: all of a slice along axis 0 is a lane.
        depth: steps.
    """
    codes = weight / unit
    if axis is None:
        small = shrunk(codes, list(range(1, codes.dim())))
    else:
        moved = codes.movedim(axis, 0)
        missing = -moved.shape[0] % (QUARTET * depth)
        padded = torch.cat([moved, moved.new_zeros((missing, *moved.shape[1:]))])
        runs = shrunk(padded.reshape(-1, depth, 2, 2, *moved.shape[1:]), [1, 3])
        small = runs.reshape(padded.shape)[: moved.shape[0]].movedim(0, axis)
    weight.copy_(torch.where(small == codes, weight, small * unit))


def shrunk(codes: Tensor, along: list[int]) -> Tensor:
    """Numbers such that, rounded, the positive and the negative ones add up to at most `MOST` along axes."""
    for sign in (1.0, -1.0):
        part = (codes * sign).clamp(min=0)
        over = torch.round(part).sum(along, keepdim=True) > MOST
        room = MOST - 0.501 * (part > 0).sum(along, keepdim=True)  # rounding adds a half to each
        factor = torch.where(over, room.clamp(min=0) / part.sum(along, keepdim=True), 1.0)
        codes = torch.where(part > 0, codes * factor, codes)
    return codes
