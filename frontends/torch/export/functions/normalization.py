"""Softmax and normalisations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


def softmax(x: Tensor, axis: int) -> Tensor:
    """e^x as shares of its sum along an axis."""
    return torch.softmax(x, axis)


def log_softmax(x: Tensor, axis: int) -> Tensor:
    """The logarithm of `softmax`."""
    return torch.log_softmax(x, axis)


def column(parameter: Tensor, rank: int, axis: int) -> Tensor:
    """A vector of one number for each index of an axis, so that it broadcasts."""
    return parameter.reshape([-1 if a == axis else 1 for a in range(rank)])


def batch_norm(
    x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, variance: Tensor, epsilon: float, axis: int
) -> Tensor:
    """Statistics that are given; PyTorch's own function has no gradient of these."""
    rank, axis = x.dim(), axis % x.dim()
    if axis == 1 and not (mean.requires_grad or variance.requires_grad):
        return F.batch_norm(x, mean, variance, scale, bias, training=False, eps=epsilon)
    scale, bias, mean, variance = (column(v, rank, axis) for v in (scale, bias, mean, variance))
    return (x - mean) / torch.sqrt(variance + epsilon) * scale + bias


def standardized(x: Tensor, axes: list[int], epsilon: float) -> tuple[Tensor, Tensor, Tensor]:
    """(x - mean) / sqrt(variance + epsilon) over axes, the mean, and the inverse of the root."""
    mean = x.mean(axes, keepdim=True)
    centred = x - mean
    inverse = torch.rsqrt((centred * centred).mean(axes, keepdim=True) + epsilon)
    return centred * inverse, mean, inverse


def affine(x: Tensor, scale: Tensor | None, bias: Tensor | None) -> Tensor:
    """x * scale + bias, of which either may be absent."""
    x = x if scale is None else x * scale
    return x if bias is None else x + bias


def group_norm(x: Tensor, scale: Tensor | None, bias: Tensor | None, groups: int, epsilon: float) -> Tensor:
    """Groups of channels."""
    parts = x.reshape(x.shape[0], groups, x.shape[1] // groups, *x.shape[2:])
    y = standardized(parts, list(range(2, parts.dim())), epsilon)[0].reshape(x.shape)
    scale, bias = (None if v is None else column(v, x.dim(), 1) for v in (scale, bias))
    return affine(y, scale, bias)


def instance_norm(x: Tensor, scale: Tensor | None, bias: Tensor | None, epsilon: float) -> Tensor:
    """Each channel of each item."""
    return group_norm(x, scale, bias, x.shape[1], epsilon)


def layer_norm(
    x: Tensor, scale: Tensor | None, bias: Tensor | None, axis: int, epsilon: float, statistics: bool
) -> Any:
    """Over the axes from one to the last."""
    axis = axis % x.dim()
    row = x.shape[axis:]
    if not statistics and all(p is None or p.shape == row for p in (scale, bias)):
        return F.layer_norm(x, row, scale, bias, epsilon)
    y, mean, inverse = standardized(x, list(range(axis, x.dim())), epsilon)
    y = affine(y, scale, bias)
    return (y, mean, inverse) if statistics else y


def rms_norm(x: Tensor, scale: Tensor | None, axis: int, epsilon: float) -> Tensor:
    """By the root of the mean square over the axes from one to the last."""
    axes = list(range(axis % x.dim(), x.dim()))
    y = x * torch.rsqrt((x * x).mean(axes, keepdim=True) + epsilon)
    return y if scale is None else y * scale


def local_response_norm(x: Tensor, size: int, alpha: float, beta: float, bias: float) -> Tensor:
    """By the squares of neighbouring channels."""
    around = [0, 0] * (x.dim() - 2) + [(size - 1) // 2, size // 2]
    squares = F.pad(x * x, around).unfold(1, size, 1).sum(-1)
    return x / (bias + alpha / size * squares) ** beta


def lp_norm(x: Tensor, axis: int, p: int, epsilon: float) -> Tensor:
    """By the norm along an axis; 0 stays 0."""
    norm = torch.linalg.vector_norm(x, p, axis, keepdim=True)
    norm = norm.clamp(min=epsilon) if epsilon else norm
    return torch.where(norm == 0, 0.0, x / torch.where(norm == 0, 1.0, norm))


def mean_variance_norm(x: Tensor, axes: Sequence[int], epsilon: float) -> Tensor:
    """Centred, then divided by the deviation."""
    centred = x - x.mean(list(axes), keepdim=True)
    deviation = torch.sqrt((centred * centred).mean(list(axes), keepdim=True))
    return centred / (deviation + epsilon)


TABLE: dict[str, Callable[..., Any]] = {
    "normalize.batch_norm": batch_norm,
    "normalize.group_norm": group_norm,
    "normalize.instance_norm": instance_norm,
    "normalize.layer_norm": layer_norm,
    "normalize.local_response_norm": local_response_norm,
    "normalize.log_softmax": log_softmax,
    "normalize.lp_norm": lp_norm,
    "normalize.mean_variance_norm": mean_variance_norm,
    "normalize.rms_norm": rms_norm,
    "normalize.softmax": softmax,
}
