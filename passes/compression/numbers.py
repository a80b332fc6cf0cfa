"""Scales, zero points and integers: rounding to the nearest, for activations and for weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from aino_ir.dtypes import DTYPES, DType, integer_range
from aino_ir.short_sums import MOST, lane_sums, slice_sums, summed_axes

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Grid:
    """A scale and a zero point in u8: x is about (q - zero) * scale."""

    scale: np.float32
    zero: int

    def rounded(self, x: Array) -> Array:
        """x as the grid holds it, f32."""
        q = np.clip(np.rint(x / self.scale) + self.zero, 0, 255)
        return np.asarray((q - self.zero) * self.scale, np.float32)


def activation_grid(low: float, high: float, symmetric: bool) -> Grid:
    """The grid of u8 over a range that holds 0; all zeros have scale 1."""
    if symmetric:
        top = max(-low, high)
        return Grid(_scale(top / 127), 128)
    scale = _scale((high - low) / 255)
    return Grid(scale, int(np.clip(np.rint(-low / float(scale)), 0, 255)))


def _scale(value: float) -> np.float32:
    """A scale as f32: normal and positive, 1 for nothing."""
    found = max(value, 0.0)
    scale: np.float32 = np.float32(found if found >= float(np.finfo(np.float32).tiny) else 1.0)
    return scale


@dataclass(frozen=True)
class Recipe:
    """How weights become integers.

    Attributes:
        dtype: i8, i4, u8 or u4 (unsigned where there is a zero point), or bf16.
        per: tensor, channel or group.
        group: neighbours along the reduction that share a scale; 0 where groups do not.
        depth: steps of four neighbours whose products with u8 have to add up in 16 bits
            (`aino_ir.short_sums`); 0 for no such demand.
    """

    dtype: DType
    per: str
    group: int = 0
    depth: int = 0

    @property
    def symmetric(self) -> bool:
        """Whether zero is 0."""
        return self.dtype.is_signed

    @property
    def most(self) -> int:
        """The largest magnitude that is used of a signed dtype."""
        return integer_range(self.dtype)[1]


def weight_recipe(bits: int, per: str, group: int, symmetric: bool, depth: int = 0) -> Recipe:
    """The recipe of so many bits; 16 are bf16, which needs no scale."""
    if bits == 16:
        return Recipe(DTYPES["bf16"], "tensor")
    dtype = DTYPES[f"{'i' if symmetric else 'u'}{bits}"]
    return Recipe(dtype, per, group if per == "group" else 0, depth)


@dataclass(frozen=True)
class Weights:
    """Quantised weights.

    Attributes:
        integers: of the dtype, in the weights' shape; of bf16 the numbers themselves.
        scale, zero: shapes that broadcast to the weights', or with one element a group; zero may be None.
    """

    integers: Array
    scale: Array
    zero: Array | None
    recipe: Recipe

    def values(self) -> Array:
        """What the integers stand for, f32."""
        if self.recipe.dtype.is_float:
            return np.asarray(self.integers.astype(np.float32))
        return dequantized(self.integers, self.scale, self.zero, self.recipe.group)

    @property
    def nbytes(self) -> int:
        """Bytes of everything, packed."""
        bits = self.recipe.dtype.bits
        zeros = 0 if self.zero is None else -(-self.zero.size * bits // 8)
        return -(-self.integers.size * bits // 8) + self.scale.nbytes + zeros


def dequantized(integers: Array, scale: Array, zero: Array | None, group: int) -> Array:
    """(integers - zero) * scale in f32; with groups, they run along axis 0."""
    if group:
        at = np.arange(integers.shape[0]) // group
        scale = scale[at]
        zero = None if zero is None else zero[at]
    whole = integers.astype(np.int32)
    if zero is not None:
        whole = whole - zero.astype(np.int32)
    return (whole.astype(np.float32) * scale).astype(np.float32)


def grid_of(w: Array, recipe: Recipe, channel_axis: int) -> tuple[Array, Array | None]:
    """(scale, zero) of weights by their extremes; groups run along axis 0 of a matrix [k, n]."""
    if recipe.per == "group":
        pad = -w.shape[0] % recipe.group
        parts = np.pad(w, ((0, pad), (0, 0)), mode="edge") if w.shape[0] else w
        parts = parts.reshape(-1, recipe.group, w.shape[1])
        low, high = parts.min(axis=1, initial=0.0), parts.max(axis=1, initial=0.0)
    else:
        axes = tuple(a for a in range(w.ndim) if recipe.per == "tensor" or a != channel_axis)
        low, high = w.min(axis=axes, keepdims=True, initial=0.0), w.max(axis=axes, keepdims=True, initial=0.0)
        if recipe.per == "tensor":
            low, high = low.reshape(()), high.reshape(())
    if recipe.symmetric:
        return _scales(np.maximum(-low, high) / recipe.most), None
    bottom, top = integer_range(recipe.dtype)
    scale = _scales((high - low) / (top - bottom))
    zero = np.clip(np.rint(-low / scale), bottom, top)
    return scale, zero.astype(recipe.dtype.numpy)


def _scales(values: Array) -> Array:
    scale = np.asarray(values, np.float32)
    return np.where(scale >= np.finfo(np.float32).tiny, scale, np.float32(1)).astype(np.float32)


def round_weights(w: Array, recipe: Recipe, channel_axis: int) -> Weights:
    """Weights rounded to the nearest number of their grid.

    Where sums of products have to stay within 16 bits, a channel's scale is raised until they do.
    """
    if recipe.dtype.is_float:
        return Weights(w.astype(recipe.dtype.numpy), np.ones((), np.float32), None, recipe)
    scale, zero = grid_of(w, recipe, channel_axis)
    group = recipe.group
    while recipe.depth:
        excess = sums_excess(on_grid(w, scale, None, recipe), recipe, channel_axis)
        if excess.max(initial=0) <= 1:
            break
        scale = raised(scale, excess)
    wide, middle = scale, zero
    if group:
        at = np.arange(w.shape[0]) // group
        wide, middle = scale[at], None if zero is None else zero[at]
    return Weights(on_grid(w, wide, middle, recipe), scale, zero, recipe)


def sums_excess(integers: Array, recipe: Recipe, channel_axis: int) -> Array:
    """How many times more than 16 bits hold the sums of products of each channel come to.

    Neighbours are those along the axes that kernels walk (`summed_axes`), or all taps of a channel.
    """
    walked = summed_axes(integers.shape, channel_axis)
    if not walked:
        return np.asarray(slice_sums(integers) / MOST)
    sums = [_channel_sums(lane_sums(integers, axis, recipe.depth)) for axis in walked]
    return np.asarray(np.max(sums, axis=0) / MOST)


def _channel_sums(lanes: Array) -> Array:
    """The largest sum of each output channel, of what `lane_sums` gives; channels are its second axis."""
    return np.asarray(lanes.reshape(*lanes.shape[:2], -1).max(axis=(0, 2), initial=0))


def raised(scale: Array, excess: Array) -> Array:
    """Scales (one a channel, or one) by which the sums fit, or nearly so."""
    if scale.size == 1:
        return np.asarray(scale * np.float32(excess.max()), np.float32)
    return np.asarray(scale * np.maximum(excess, 1).reshape(scale.shape), np.float32)


def on_grid(w: Array, scale: Array, zero: Array | None, recipe: Recipe) -> Array:
    """The nearest integers, in the recipe's dtype."""
    low, high = integer_range(recipe.dtype)
    if recipe.symmetric:
        low, high = -recipe.most, recipe.most
    q = np.rint(w / scale)
    if zero is not None:
        q = q + zero.astype(np.float32)
    return np.clip(q, low, high).astype(np.int8 if recipe.symmetric else np.uint8).astype(recipe.dtype.numpy)


__all__ = [
    "Grid",
    "Recipe",
    "Weights",
    "activation_grid",
    "grid_of",
    "on_grid",
    "raised",
    "round_weights",
    "sums_excess",
    "weight_recipe",
]
