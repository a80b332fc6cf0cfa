"""Ops that move data, by shape or by index."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from aino_ir.frontends.torch.dtypes import STORED

OPERANDS = "moved"


def extents(anchor: Tensor, dims: Sequence[int]) -> Tensor:
    """Extents as a vector."""
    return torch.tensor(list(dims), dtype=torch.int64, device=anchor.device)


def reshape(x: Tensor, shape: Sequence[int]) -> Tensor:
    """Another shape."""
    return x.reshape(list(shape))


def transpose(x: Tensor, perm: Sequence[int]) -> Tensor:
    """Another order of axes."""
    return x.permute(list(perm))


def expand(x: Tensor, shape: Sequence[int]) -> Tensor:
    """A broadcast; ones keep the extents of x."""
    wanted = [1] * (x.dim() - len(shape)) + list(shape)
    new = len(wanted) - x.dim()
    return x.expand([-1 if axis >= new and extent == 1 else extent for axis, extent in enumerate(wanted)])


def concat(inputs: Sequence[Tensor], axis: int) -> Tensor:
    """Operands one behind the other."""
    return torch.cat(list(inputs), axis)


def cut(x: Tensor, starts: Sequence[int], sizes: Sequence[int], steps: Sequence[int]) -> Tensor:
    """Elements at even steps along each axis."""
    for axis, (start, size, step) in enumerate(zip(starts, sizes, steps, strict=True)):
        if step == 1 or size == 0:
            x = x.narrow(axis, start if size else 0, size)
            continue
        span = (size - 1) * abs(step) + 1
        x = x.narrow(axis, start if step > 0 else start - span + 1, span)
        x = x if step > 0 else x.flip(axis)
        x = x[(slice(None),) * axis + (slice(None, None, abs(step)),)]
    return x


def pad(x: Tensor, before: Sequence[int], after: Sequence[int], mode: str, value: float) -> Tensor:
    """What surrounds x: a value, or elements at positions that mirror, repeat or continue."""
    if mode == "constant":
        pairs = zip(reversed(before), reversed(after), strict=True)
        return F.pad(x, [width for pair in pairs for width in pair], value=value)
    for axis, (left, right) in enumerate(zip(before, after, strict=True)):
        if isinstance(left, int) and isinstance(right, int) and left == right == 0:
            continue
        extent = x.shape[axis]
        position = torch.arange(-left, extent + right, device=x.device)
        x = x.index_select(axis, POSITIONS[mode](position, extent))
    return x


def reflected(position: Tensor, extent: int) -> Tensor:
    """Mirrored at the border element."""
    period = 2 * (extent - 1)
    if period == 0:
        return torch.zeros_like(position)
    position = position % period
    return torch.minimum(position, period - position)


def mirrored(position: Tensor, extent: int) -> Tensor:
    """Mirrored behind the border element."""
    position = position % (2 * extent)
    return torch.minimum(position, 2 * extent - 1 - position)


def repeated(position: Tensor, extent: int) -> Tensor:
    """The nearest element."""
    return position.clamp(0, extent - 1)


def continued(position: Tensor, extent: int) -> Tensor:
    """Periodically."""
    return position % extent


POSITIONS: dict[str, Callable[[Tensor, int], Tensor]] = {
    "edge": repeated,
    "reflect": reflected,
    "symmetric": mirrored,
    "wrap": continued,
}
"""Mode of padding -> which element of an axis stands at a position."""


def at_axis(axis: int, index: Tensor) -> tuple[Any, ...]:
    """An index along one axis; PyTorch counts negative ones from the end and refuses what is outside."""
    return (slice(None),) * axis + (index.to(torch.int64),)


def gather(x: Tensor, indices: Tensor, axis: int) -> Tensor:
    """Slices at indices."""
    return x[at_axis(axis % x.dim(), indices)]


def positive(indices: Tensor, extent: int) -> Tensor:
    """Indices, negative ones counted from the end."""
    indices = indices.to(torch.int64)
    return torch.where(indices < 0, indices + extent, indices)


def gather_elements(x: Tensor, indices: Tensor, axis: int) -> Tensor:
    """One element an index."""
    return torch.gather(x, axis, positive(indices, x.shape[axis]))


def coordinates(indices: Tensor) -> tuple[Tensor, ...]:
    """The columns of the last axis."""
    return tuple(indices.to(torch.int64).unbind(-1))


def gather_nd(x: Tensor, indices: Tensor, batch_dims: int) -> Tensor:
    """Slices at coordinates."""
    rank = indices.dim() - 1
    places = [
        torch.arange(x.shape[a], device=x.device).reshape([-1 if a == b else 1 for b in range(rank)])
        for a in range(batch_dims)
    ]
    at = (*places, *coordinates(indices))
    return x[at] if at else x.broadcast_to(*indices.shape[:-1], *x.shape)


SCATTERED = {"add": "sum", "max": "amax", "min": "amin", "mul": "prod"}
"""How updates are combined, as PyTorch says it."""


def scatter_elements(x: Tensor, indices: Tensor, updates: Tensor, axis: int, reduction: str) -> Tensor:
    """Updates at indices along an axis."""
    indices = positive(indices, x.shape[axis])
    if reduction == "none":
        return x.scatter(axis, indices, updates)
    return x.scatter_reduce(axis, indices, updates, SCATTERED[reduction], include_self=True)


def scatter_nd(x: Tensor, indices: Tensor, updates: Tensor, reduction: str) -> Tensor:
    """Updates at coordinates."""
    depth = indices.shape[-1]
    count, rest = math.prod(x.shape[:depth]), math.prod(x.shape[depth:])
    numbers = torch.arange(count, device=x.device).reshape(x.shape[:depth])
    place = (numbers[coordinates(indices)] if depth else numbers.expand(indices.shape[:-1])).reshape(-1)
    flat, rows = x.reshape(count, rest), updates.reshape(place.shape[0], rest)
    here = place.unsqueeze(1).expand(place.shape[0], rest)
    if reduction == "none":
        return flat.scatter(0, here, rows).reshape(x.shape)
    return flat.scatter_reduce(0, here, rows, SCATTERED[reduction], include_self=True).reshape(x.shape)


def compress(x: Tensor, condition: Tensor, axis: int) -> Tensor:
    """Slices where a condition holds."""
    return x.index_select(axis, condition.nonzero().reshape(-1))


def nonzero(x: Tensor) -> Tensor:
    """Coordinates of what is not 0, one column each."""
    return x.nonzero().T


def reverse_sequence(x: Tensor, lengths: Tensor, time_axis: int, batch_axis: int) -> Tensor:
    """Leading elements in reverse."""
    rows = x.movedim((batch_axis, time_axis), (0, 1))
    step = torch.arange(rows.shape[1], device=x.device)
    ends = lengths.to(torch.int64).unsqueeze(1)
    step = torch.where(step < ends, ends - 1 - step, step)
    rows = rows[torch.arange(rows.shape[0], device=x.device).unsqueeze(1), step]
    return rows.movedim((0, 1), (batch_axis, time_axis))


def top_k(x: Tensor, k: int, axis: int, largest: bool) -> tuple[Tensor, Tensor]:
    """The largest or smallest elements and where they stand; ties go to the lower position."""
    values, positions = torch.sort(x, dim=axis, descending=largest, stable=True)
    return values.narrow(axis, 0, k), positions.narrow(axis, 0, k)


def positions(anchor: Tensor, start: int, size: int, step: int, dtype: str) -> Tensor:
    """start, start + step, ..."""
    return (torch.arange(size, device=anchor.device) * step + start).to(STORED[dtype])


TABLE: dict[str, Callable[..., Any]] = {
    "core.dims": extents,
    "index.compress": compress,
    "index.gather_elements": gather_elements,
    "index.gather_nd": gather_nd,
    "index.nonzero": nonzero,
    "index.range": positions,
    "index.reverse_sequence": reverse_sequence,
    "index.scatter_elements": scatter_elements,
    "index.scatter_nd": scatter_nd,
    "index.top_k": top_k,
    "tensor.concat": concat,
    "tensor.expand": expand,
    "tensor.gather": gather,
    "tensor.pad": pad,
    "tensor.reshape": reshape,
    "tensor.slice": cut,
    "tensor.transpose": transpose,
}
