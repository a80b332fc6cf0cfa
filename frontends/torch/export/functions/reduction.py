"""Reductions and running sums over axes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

Axes = Sequence[int] | None
Shape = Sequence[int]


def rows(x: Tensor, axes: Axes) -> Tensor:
    """x with the axes that are reduced (None: all) behind the others, as one."""
    rank = x.dim()
    reduced = list(range(rank)) if axes is None else sorted({a % max(rank, 1) for a in axes if rank})
    kept = [a for a in range(rank) if a not in reduced]
    extents = [x.shape[a] for a in kept]
    return x.permute(kept + reduced).reshape(*extents, math.prod(x.shape[a] for a in reduced))


def total(x: Tensor, axes: Axes, shape: Shape) -> Tensor:
    """Sums; integers wrap."""
    return rows(x, axes).sum(-1, dtype=x.dtype).reshape(shape)


def mean(x: Tensor, axes: Axes, shape: Shape, limits: tuple[Any, Any]) -> Tensor:
    """Means; on integers the quotient truncates."""
    row = rows(x, axes)
    if x.dtype.is_floating_point:
        return row.mean(-1).reshape(shape)
    whole, (low, high) = row.sum(-1, dtype=x.dtype), limits
    if low == 0:  # narrow integers without a sign are computed in wider ones: their sum wraps first
        whole = whole & high
    return torch.div(whole, row.shape[-1], rounding_mode="trunc").reshape(shape)


def product(x: Tensor, axes: Axes, shape: Shape) -> Tensor:
    """Products; integers wrap."""
    return rows(x, axes).prod(-1, dtype=x.dtype).reshape(shape)


def largest(x: Tensor, axes: Axes, shape: Shape, limits: tuple[Any, Any]) -> Tensor:
    """Largest elements; of none, the least number."""
    row = rows(x, axes)
    if row.shape[-1] == 0:
        return row.new_full(row.shape[:-1], limits[0]).reshape(shape)
    return row.amax(-1).reshape(shape)


def smallest(x: Tensor, axes: Axes, shape: Shape, limits: tuple[Any, Any]) -> Tensor:
    """Smallest elements; of none, the greatest number."""
    row = rows(x, axes)
    if row.shape[-1] == 0:
        return row.new_full(row.shape[:-1], limits[1]).reshape(shape)
    return row.amin(-1).reshape(shape)


def all_true(x: Tensor, axes: Axes, shape: Shape) -> Tensor:
    """Whether none is false."""
    return rows(x, axes).all(-1).reshape(shape)


def any_true(x: Tensor, axes: Axes, shape: Shape) -> Tensor:
    """Whether one is true."""
    return rows(x, axes).any(-1).reshape(shape)


def absolute_sum(x: Tensor, axes: Axes, shape: Shape) -> Tensor:
    """Sums of absolute values."""
    return total(x.abs(), axes, shape)


def square_sum(x: Tensor, axes: Axes, shape: Shape) -> Tensor:
    """Sums of squares."""
    return total(x * x, axes, shape)


def euclidean_norm(x: Tensor, axes: Axes, shape: Shape) -> Tensor:
    """Roots of sums of squares."""
    norm: Tensor = torch.linalg.vector_norm(rows(x, axes), dim=-1)
    return norm.reshape(shape)


def log_sum(x: Tensor, axes: Axes, shape: Shape) -> Tensor:
    """Logarithms of sums."""
    return torch.log(total(x, axes, shape))


def log_sum_exp(x: Tensor, axes: Axes, shape: Shape) -> Tensor:
    """Logarithms of sums of exponentials."""
    return torch.logsumexp(rows(x, axes), -1).reshape(shape)


def position_of_largest(x: Tensor, axis: int, keepdims: bool, select_last_index: bool) -> Tensor:
    """Where the largest element stands."""
    x = x.to(torch.uint8) if x.dtype == torch.bool else x
    if not select_last_index or x.dim() == 0:
        return x.argmax(axis, keepdim=keepdims)
    return x.shape[axis] - 1 - x.flip(axis).argmax(axis, keepdim=keepdims)


def position_of_smallest(x: Tensor, axis: int, keepdims: bool, select_last_index: bool) -> Tensor:
    """Where the smallest element stands."""
    x = x.to(torch.uint8) if x.dtype == torch.bool else x
    if not select_last_index or x.dim() == 0:
        return x.argmin(axis, keepdim=keepdims)
    return x.shape[axis] - 1 - x.flip(axis).argmin(axis, keepdim=keepdims)


def running(
    x: Tensor, axis: int, exclusive: bool, reverse: bool, first: int, run: Callable[..., Tensor]
) -> Tensor:
    """A running sum or product, from the end where it is reversed, each without its own element."""
    x = x.flip(axis) if reverse else x
    if exclusive and x.shape[axis] > 0:
        start = torch.full_like(x.narrow(axis, 0, 1), first)
        x = torch.cat([start, x.narrow(axis, 0, x.shape[axis] - 1)], axis)
    y = run(x, axis, dtype=x.dtype)
    return y.flip(axis) if reverse else y


def running_sum(x: Tensor, axis: int, exclusive: bool, reverse: bool) -> Tensor:
    """Sums of all elements up to each."""
    return running(x, axis, exclusive, reverse, 0, torch.cumsum)


def running_product(x: Tensor, axis: int, exclusive: bool, reverse: bool) -> Tensor:
    """Products of all elements up to each."""
    return running(x, axis, exclusive, reverse, 1, torch.cumprod)


TABLE: dict[str, Callable[..., Any]] = {
    "reduce.all": all_true,
    "reduce.any": any_true,
    "reduce.argmax": position_of_largest,
    "reduce.argmin": position_of_smallest,
    "reduce.l1": absolute_sum,
    "reduce.l2": euclidean_norm,
    "reduce.log_sum": log_sum,
    "reduce.log_sum_exp": log_sum_exp,
    "reduce.max": largest,
    "reduce.mean": mean,
    "reduce.min": smallest,
    "reduce.prod": product,
    "reduce.sum": total,
    "reduce.sum_square": square_sum,
    "scan.cumprod": running_product,
    "scan.cumsum": running_sum,
}
