"""How many products of a constant's bytes with u8 add up in 16 bits: a fact that kernel generators read.

Instructions that multiply bytes in pairs leave sums of 16 bits.  How many such sums may be added up before
they have to be widened depends on the constant alone: whatever the activations are, a lane holds at most 255
times the positive weights that it has met, and at least 255 times the negative ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from aino_ir.constants import Const
from aino_ir.dtypes import i8

Array = np.ndarray[Any, Any]

QUARTET = 4
"""Neighbours along the reduction that kernels take in one step: two pairs."""

DEPTHS = (1, 2, 4)
"""Steps that kernels may add up in 16 bits."""

MOST = 128
"""What the positive weights of a lane may add up to, and the negative ones: 255 * 128 < 2^15."""


@dataclass(frozen=True)
class ShortSums:
    """What fits 16 bits of an i8 constant.

    Attributes:
        depths: for each axis: how many steps of four neighbours fit, counted from the start of the axis;
            0 where not even one does.
        whole: whether all of a slice along axis 0 fits.
    """

    depths: tuple[int, ...]
    whole: bool


def short_sums(handle: Const) -> ShortSums | None:
    """The fact of a constant, remembered in the handle; None for what is not i8."""
    if handle.dtype is not i8 or not handle.shape:
        return None
    known = handle.facts.get("short_sums")
    if known is None:
        array = handle.array()
        depths = tuple(depth_along(array, axis) for axis in range(array.ndim))
        known = handle.facts["short_sums"] = ShortSums(depths, bool(slices_fit(array).all()))
    assert isinstance(known, ShortSums)
    return known


def depth_along(array: Array, axis: int) -> int:
    """The most of `DEPTHS` steps along an axis whose sums fit everywhere, or 0."""
    found = 0
    for depth in DEPTHS:
        if lane_sums(array, axis, depth).max(initial=0) > MOST:
            break
        found = depth
    return found


def lane_sums(array: Array, axis: int, depth: int) -> Array:
    """The larger of the positive and the negative weights' sums of each 16-bit lane.

    Of shape [lanes along the axis, other axes]: lanes are pairs of places of each run of `depth` steps.
    """
    moved = np.moveaxis(array, axis, 0).astype(np.int32)
    missing = -moved.shape[0] % (QUARTET * depth)
    moved = np.pad(moved, [(0, missing), *[(0, 0)] * (moved.ndim - 1)])
    runs = moved.reshape(-1, depth, 2, 2, *moved.shape[1:])
    positive = np.maximum(runs, 0).sum(axis=(1, 3))
    negative = np.maximum(-runs, 0).sum(axis=(1, 3))
    return np.asarray(np.maximum(positive, negative).reshape(-1, *moved.shape[1:]))


def summed_axes(shape: tuple[int, ...], channel_axis: int) -> tuple[int, ...]:
    """Axes of a contraction's weights along which kernels take steps; none where a slice is one sum.

    Those are the input channels; where there are fewer of them than a step takes (pictures, which lie in
    rows), the last spatial axis too.  Where there is a single one (depthwise convolutions), a lane sums
    all taps.
    """
    if len(shape) > 2 and shape[1] == 1:
        return ()
    if len(shape) > 2 and shape[1] < QUARTET:
        return (1 - channel_axis, len(shape) - 1)
    return (1 - channel_axis,)


def slice_sums(array: Array) -> Array:
    """The larger of the positive and the negative weights' sums of each slice along axis 0."""
    flat = array.reshape(array.shape[0], -1).astype(np.int32)
    return np.asarray(np.maximum(np.maximum(flat, 0).sum(axis=1), np.maximum(-flat, 0).sum(axis=1)))


def slices_fit(array: Array) -> Array:
    """Whether all products of a slice along axis 0 fit 16 bits, for each slice."""
    return np.asarray(slice_sums(array) <= MOST)
