"""Fourier transforms, resampling, random bits."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from aino_ir.ops.random import FIRST, GAMMA, MASK, SECOND, mixed


def fft(x: Tensor, roots: Tensor, inverse: bool) -> Tensor:
    """Fourier transforms of complex numbers in pairs; PyTorch has roots of its own."""
    if x.numel() == 0:
        return x
    numbers = torch.complex(x[..., 0], x[..., 1])
    return torch.view_as_real((torch.fft.ifft if inverse else torch.fft.fft)(numbers))


def resample(x: Tensor, positions: Tensor, weights: Tensor, axis: int) -> Tensor:
    """Taps gathered along an axis, weighted, summed."""
    axis = axis % x.dim()
    taken = x[(slice(None),) * axis + (positions.to(torch.int64),)]
    weights = weights.reshape(*weights.shape, *[1] * (x.dim() - axis - 1))
    return (taken * weights).sum(axis + 1)


def random_bits(anchor: Tensor, shape: Sequence[int], seed: int, offset: int) -> Tensor:
    """SplitMix64, on 64-bit integers with a sign; see `random.bits`."""
    start = _signed(mixed(seed) + offset * mixed(1))
    z = torch.arange(1, math.prod(shape) + 1, device=anchor.device) * _signed(GAMMA) + start
    z = (z ^ _shifted(z, 30)) * _signed(FIRST)
    z = (z ^ _shifted(z, 27)) * _signed(SECOND)
    return (z ^ _shifted(z, 31)).reshape(list(shape))


def _signed(number: int) -> int:
    number &= MASK
    return number - 2**64 if number >> 63 else number


def _shifted(z: Tensor, count: int) -> Tensor:
    """A shift right that fills with zeros."""
    return (z >> count) & ((1 << (64 - count)) - 1)


TABLE: dict[str, Callable[..., Any]] = {
    "image.resample": resample,
    "random.bits": random_bits,
    "signal.fft": fft,
}
