"""Resizing without aliasing: where an axis shrinks, the kernel is as much wider (upsample_*_aa)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from aino_ir.dims import DimLike, is_static
from aino_ir.frontends.torch.context import Lowering, NodeContext, Row
from aino_ir.frontends.torch.ops.resizing import precision, resize
from aino_ir.graph import Value

Array = np.ndarray[Any, Any]

CUBIC = -0.5
"""The parameter of the cubic kernel that PyTorch and Pillow use here."""


def tent(at: Array) -> Array:
    """The kernel of linear interpolation, from -1 to 1."""
    return np.asarray(np.maximum(1 - np.abs(at), 0))


def keys(at: Array) -> Array:
    """The cubic kernel of Keys, from -2 to 2."""
    d = np.abs(at)
    near = ((CUBIC + 2) * d - (CUBIC + 3)) * d * d + 1
    far = ((CUBIC * d - 5 * CUBIC) * d + 8 * CUBIC) * d - 4 * CUBIC
    return np.where(d < 1, near, np.where(d < 2, far, 0.0))


def lanczos(at: Array) -> Array:
    """The kernel of Lanczos, from -3 to 3."""
    return np.where(np.abs(at) < 3, np.sinc(at) * np.sinc(at / 3), 0.0)


KERNELS = {"bilinear": (tent, 1.0), "bicubic": (keys, 2.0), "lanczos": (lanczos, 3.0)}
"""Each kernel, and how far it reaches."""


def tables(mode: str, extent: int, size: int, step: float) -> tuple[Array, Array]:
    """Positions and weights [size, taps] of an axis, as ATen's `_compute_indices_weights_aa` computes them.

    Args:
        mode: one of `KERNELS`.
        extent: of the operand.
        size: of the result.
        step: distance of neighbouring results on the operand's axis.
    """
    kernel, reach = KERNELS[mode]
    stretch = max(step, 1.0)
    support = reach * stretch
    centres = step * (np.arange(size) + 0.5)
    first = np.maximum((centres - support + 0.5).astype(np.int64), 0)
    behind = np.minimum((centres + support + 0.5).astype(np.int64), extent)
    taps = np.arange(max(int((behind - first).max(initial=1)), 1))
    places = first[:, None] + taps
    weights = kernel((places - centres[:, None] + 0.5) / stretch)
    weights = np.where(places < behind[:, None], weights, 0.0)
    return np.minimum(places, extent - 1), weights / weights.sum(1, keepdims=True)


def antialiased(mode: str) -> Lowering:
    """A row for both axes of a plane."""

    def resizing(c: NodeContext, x: Value, corners: bool, given: Sequence[float | None]) -> Value:
        out = x.dtype
        x = c.cast(x, precision(x))
        for axis, scale in zip((x.rank - 1, x.rank - 2), reversed(given), strict=True):
            extent, size = x.shape[axis], c.shape[axis]
            step = step_of(c, extent, size, scale, corners)
            places, weights = tables(mode, int(extent), int(size), step)  # type: ignore[arg-type]
            operands = c.b.constant(places), c.b.constant(weights.astype(x.dtype.numpy))
            x = c.emit("resample", x, *operands, axis=axis)
        return c.cast(x, out)

    return resize(2, resizing)


def step_of(c: NodeContext, extent: DimLike, size: DimLike, scale: float | None, corners: bool) -> float:
    """Distance of neighbouring results on the operand's axis."""
    if not is_static(extent) or not is_static(size):
        c.unsupported("an axis of symbolic extent")
    if corners:
        return (int(extent) - 1) / (int(size) - 1) if size > 1 else 0.0  # type: ignore[arg-type]
    return 1 / scale if scale is not None and scale > 0 else int(extent) / int(size)  # type: ignore[arg-type]


ROWS = {f"_upsample_{mode}2d_aa": antialiased(mode) for mode in KERNELS}
"""Rows by operator."""

TABLE: dict[str, Row] = {f"aten.{name}": row for name, row in ROWS.items()}
