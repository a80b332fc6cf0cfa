"""Resize and Upsample: positions and weights of each axis, computed as vectors, then one gather an axis.

Sizes, scales and regions of interest may be known, depend on extents, or be computed by the run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeAlias

import numpy as np

from aino_ir.dims import DimLike, is_static
from aino_ir.dtypes import f32, f64, i64
from aino_ir.frontends.floats import Number, extent_number, positions_number
from aino_ir.frontends.onnx.context import NodeContext, Row, constant_array
from aino_ir.frontends.onnx.integers import bound, extents, integer
from aino_ir.frontends.onnx.nodes import OnnxNode
from aino_ir.frontends.onnx.ops.quantization import repeated
from aino_ir.graph import Value

MODES = ("nearest", "linear", "cubic")

Factor: TypeAlias = "float | Number"
"""A number that is known, or an f64 scalar."""


@dataclass(frozen=True)
class Rule:
    """How an output position becomes an input position, and what is read there.

    Attributes:
        mode, coordinates, nearest, cubic, exclude_outside, antialias: the node's attributes.
        extrapolation: value outside of the operand (tf_crop_and_resize only).
    """

    mode: str
    coordinates: str
    nearest: str
    cubic: float
    exclude_outside: bool
    antialias: bool
    extrapolation: float


@dataclass(frozen=True)
class Target:
    """What becomes of one axis.

    Attributes:
        size: its new extent.
        scale: the factor by which positions are stretched.
        roi: start and end of the part that is read, as fractions (tf_crop_and_resize only).
    """

    size: DimLike
    scale: Factor
    roi: tuple[Factor, Factor] = (0.0, 1.0)


def number(c: NodeContext, factor: Factor) -> Number:
    """A factor as an f64 scalar."""
    return factor if isinstance(factor, Number) else Number(c, c.scalar(factor, f64))


def source_positions(c: NodeContext, rule: Rule, target: Target, extent: DimLike) -> Number:
    """Where each output position lies in the operand, f64 [size]."""
    size, scale = target.size, number(c, target.scale)
    x, old, new = positions_number(c, size, f64), extent_number(c, extent, f64), extent_number(c, size, f64)
    resized = old * scale
    start, end = target.roi

    def or_single(alone: Callable[[], Number], others: Callable[[], Number]) -> Number:
        """One formula for an axis of one position, another for longer ones."""
        if is_static(size):
            return alone() if size == 1 else others()
        return new.equals(1.0).choose(alone(), others())

    def half() -> Number:
        return (x + 0.5) / scale - 0.5

    def aligned() -> Number:
        return x * ((old - 1.0) / (resized - 1.0))

    def symmetric() -> Number:
        centre = old * 0.5
        return half() + (centre - centre * (new / resized))

    def middle() -> Number:
        return x * 0.0 + (old - 1.0) * ((number(c, start) + end) * 0.5)

    def cropped() -> Number:
        part = number(c, end) - start
        return x * ((old - 1.0) * part / (resized - 1.0)) + (old - 1.0) * start

    formulas: dict[str, Callable[[], Number]] = {
        "half_pixel": half,
        "half_pixel_symmetric": symmetric,
        "pytorch_half_pixel": lambda: (new > 1.0).choose(half(), x * 0.0),
        "align_corners": lambda: or_single(lambda: x * 0.0, aligned),
        "asymmetric": lambda: x / scale,
        "tf_half_pixel_for_nn": lambda: (x + 0.5) / scale,
        "tf_crop_and_resize": lambda: or_single(middle, cropped),
    }
    if rule.coordinates not in formulas:
        c.invalid("coordinate_transformation_mode", "one of " + ", ".join(formulas), rule.coordinates)
    return formulas[rule.coordinates]()


def nearest_positions(c: NodeContext, rule: Rule, x: Number) -> Number:
    """Positions rounded the node's way."""
    formulas: dict[str, Callable[[], Number]] = {
        "round_prefer_floor": lambda: (x - 0.5).map("ceil"),
        "round_prefer_ceil": lambda: (x + 0.5).map("floor"),
        "floor": lambda: x.map("floor"),
        "ceil": lambda: x.map("ceil"),
    }
    if rule.nearest not in formulas:
        c.invalid("nearest_mode", "one of " + ", ".join(formulas), rule.nearest)
    return formulas[rule.nearest]()


def inside(c: NodeContext, position: Number, extent: DimLike) -> Value:
    """Positions as i64, those outside of the axis moved to its ends."""
    last = extent_number(c, extent, f64) - 1.0
    clipped = c.emit("max", c.emit("min", position.value, last.value), c.scalar(0.0, f64))
    return c.cast(clipped, i64)


def kernel_weight(rule: Rule, distance: Number) -> Number:
    """Weight of a tap at a distance: the tent, or Keys' cubic."""
    d = distance.map("abs")
    if rule.mode == "linear":
        return (d > 1.0).choose(0.0, d * -1.0 + 1.0)
    a = rule.cubic
    near = (d * (a + 2) - (a + 3)) * d * d + 1.0
    far = ((d * a - 5 * a) * d + 8 * a) * d - 4 * a
    return (d > 1.0).choose((d < 2.0).choose(far, 0.0), near)


def taps_of(c: NodeContext, rule: Rule, scale: Factor, extent: DimLike) -> tuple[Number, Factor]:
    """Offsets of the taps from the position's floor, f64 [taps], and the stretch of the kernel."""
    reach = 1 if rule.mode == "linear" else 2
    if not rule.antialias:
        return Number(c, c.b.constant(np.arange(1.0 - reach, reach + 1))), 1.0
    if not isinstance(scale, Number):
        stretch = min(scale, 1.0)
        start = math.floor(-reach / stretch) + 1
        return Number(c, c.b.constant(np.arange(float(start), 2 - start))), stretch
    wide = Number(c, c.emit("min", scale.value, c.scalar(1.0, f64)))
    first = (number(c, float(-reach)) / wide).map("floor") + 1.0
    most = extent * 4 + 8  # a scale of at least 1 / extent leaves no fewer than one position
    count = integer(c, c.cast((first * -2.0 + 2.0).value, i64)).clamp(2, most)
    (taps,) = bound(c, [count], 2, most, "the taps of the resizing kernel")
    return positions_number(c, taps, f64) + first, wide


def tables(c: NodeContext, rule: Rule, x: Number, target: Target, extent: DimLike) -> tuple[Value, Value]:
    """Positions i64 and weights f64, both [size, taps], of a linear or cubic axis."""
    offsets, stretch = taps_of(c, rule, target.scale, extent)
    column = x.reshaped(target.size, 1)
    position = column.map("floor") + offsets
    weight = kernel_weight(rule, (position - column) * stretch)
    if rule.exclude_outside:
        last = extent_number(c, extent, f64) - 1.0
        weight = (position < 0.0).choose(0.0, (position > last).choose(0.0, weight))
    if rule.exclude_outside or rule.antialias:
        weight = weight / Number(c, c.emit("reduce.sum", weight.value, axes=(1,), keepdims=True))
    return Number(c, inside(c, position, extent)).settled(), weight.settled()


def resized_axis(
    c: NodeContext, rule: Rule, x: Value, axis: int, target: Target
) -> tuple[Value, Value | None]:
    """x resized along one axis, and where the result lies outside of x (bool [size]) if that matters."""
    extent, scale = x.shape[axis], target.scale
    whole = isinstance(scale, float) and scale == int(scale) and scale >= 1
    if rule.mode == "nearest" and whole and _repeats(rule):
        return repeated(c, x, axis, int(scale), target.size), None  # type: ignore[arg-type]
    source = source_positions(c, rule, target, extent)
    outside = None
    if rule.coordinates == "tf_crop_and_resize":
        last = extent_number(c, extent, f64) - 1.0
        outside = c.emit("logical_or", (source < 0.0).value, (source > last).value)
    if rule.mode == "nearest":
        at = Number(c, inside(c, nearest_positions(c, rule, source), extent)).settled()
        return c.emit("gather", x, at, axis=axis), outside
    positions, weights = tables(c, rule, source, target, extent)
    return c.emit("resample", x, positions, c.cast(weights, x.dtype.compute), axis=axis), outside


def _repeats(rule: Rule) -> bool:
    """Whether output position o of a whole scale s reads o // s."""
    if rule.coordinates == "asymmetric":
        return rule.nearest == "floor"
    return rule.coordinates in ("half_pixel", "pytorch_half_pixel") and rule.nearest in (
        "round_prefer_floor",
        "round_prefer_ceil",
    )


def resized(c: NodeContext, rule: Rule, targets: Sequence[Target], axes: Sequence[int]) -> Value:
    """x resized along each of the axes."""
    if rule.mode not in MODES:
        c.invalid("mode", "one of " + ", ".join(MODES), rule.mode)
    original = c.x.dtype
    x = c.x if rule.mode == "nearest" or original.is_float else c.cast(c.x, f32)
    masks: list[tuple[int, Value]] = []
    for axis, target in zip(axes, targets, strict=True):
        size, cropped = target.size, rule.coordinates == "tf_crop_and_resize"
        same = size is x.shape[axis] or (is_static(size) and size == x.shape[axis])
        if same and not cropped and (isinstance(target.scale, Number) or target.scale == 1.0):
            continue
        x, outside = resized_axis(c, rule, x, axis, target)
        if outside is not None:
            masks.append((axis, outside))
    for axis, outside in masks:
        mask = c.reshape(outside, [outside.shape[0] if a == axis else 1 for a in range(x.rank)])
        x = c.emit("select", mask, c.scalar(rule.extrapolation, x.dtype), x)
    return x if x.dtype is original else c.cast(c.emit("round", x), original)


def factors_of(c: NodeContext, index: int) -> list[Factor]:
    """Elements of a float input: known ones, or f64 scalars."""
    value = c.tensor(index)
    array = constant_array(value)
    if array is not None:
        return [float(v) for v in array.reshape(-1)]
    count = value.type.size  # type: ignore[union-attr]
    if not isinstance(count, int):
        c.refuse_unknown(index)
    flat = c.cast(c.reshape(value, (count,)), f64)
    return [Number(c, c.emit("gather", flat, c.scalar(n, i64))) for n in range(count)]


def scaled(c: NodeContext, extent: DimLike, scale: Factor) -> DimLike:
    """floor(extent * scale), for a symbolic extent and a known scale by the nearest simple fraction."""
    if isinstance(scale, Number):
        size = (extent_number(c, extent, f64) * scale).map("floor")
        return bound(c, [integer(c, c.cast(size.value, i64))], what="the scaled extents")[0]
    if isinstance(extent, int):
        return math.floor(extent * scale)
    fraction = Fraction(scale).limit_denominator(256)
    return extent * fraction.numerator // fraction.denominator


def by_scales(c: NodeContext, scales: Sequence[Factor], axes: Sequence[int]) -> list[Target]:
    """Targets of axes that are scaled."""
    if len(scales) != len(axes):
        c.invalid("number of scales", len(axes), len(scales))
    return [Target(scaled(c, c.x.shape[a], s), s) for a, s in zip(axes, scales, strict=True)]


def resize(c: NodeContext, node: OnnxNode) -> Value:
    """Sizes or scales; attributes have grown with the operator set versions."""
    x = c.x
    if c.opset < 11:
        rule = Rule(node.str("mode", "nearest"), "asymmetric", "floor", -0.75, False, False, 0.0)
        return resized(c, rule, by_scales(c, factors_of(c, 1), range(x.rank)), range(x.rank))
    rule = Rule(
        node.str("mode", "nearest"),
        node.str("coordinate_transformation_mode", "half_pixel"),
        node.str("nearest_mode", "round_prefer_floor"),
        node.float("cubic_coeff_a", -0.75),
        bool(node.int("exclude_outside", 0)),
        bool(node.int("antialias", 0)),
        node.float("extrapolation_value", 0.0),
    )
    axes = c.axes(node.ints("axes", tuple(range(x.rank))), x.rank)
    given = c.input(3)
    if given is None or given.shape == (0,):
        targets = by_scales(c, factors_of(c, 2), axes)
    else:
        targets = by_sizes(c, node, axes)
    if rule.coordinates == "tf_crop_and_resize":
        roi = factors_of(c, 1)
        if len(roi) != 2 * len(axes):
            c.invalid("number of elements of roi", 2 * len(axes), len(roi))
        bounds = zip(roi[: len(axes)], roi[len(axes) :], strict=True)
        targets = [Target(t.size, t.scale, pair) for t, pair in zip(targets, bounds, strict=True)]
    return resized(c, rule, targets, axes)


def by_sizes(c: NodeContext, node: OnnxNode, axes: Sequence[int]) -> list[Target]:
    """Targets of axes that get given sizes, by the policy for the aspect ratio."""
    shape, sizes = c.x.shape, extents(c, 3)
    if len(sizes) != len(axes):
        c.invalid("number of sizes", len(axes), len(sizes))
    policy = node.str("keep_aspect_ratio_policy", "stretch")
    ratios = [ratio(c, size, shape[a]) for size, a in zip(sizes, axes, strict=True)]
    if policy == "stretch":
        return [Target(s, r) for s, r in zip(sizes, ratios, strict=True)]
    if policy not in ("not_larger", "not_smaller"):
        c.invalid("keep_aspect_ratio_policy", "stretch, not_larger or not_smaller", policy)
    known = [r for r in ratios if not isinstance(r, Number)]
    if len(known) == len(ratios):
        one = min(known) if policy == "not_larger" else max(known)
        return [Target(math.floor(one * shape[a] + 0.5), one) for a in axes]
    common = number(c, ratios[0])
    for other in ratios[1:]:
        op = "min" if policy == "not_larger" else "max"
        common = Number(c, c.emit(op, common.value, number(c, other).value))
    rounded = [(common * extent_number(c, shape[a], f64) + 0.5).map("floor") for a in axes]
    found = bound(c, [integer(c, c.cast(n.value, i64)) for n in rounded], what="the resized extents")
    return [Target(size, common) for size in found]


def ratio(c: NodeContext, size: DimLike, extent: DimLike) -> Factor:
    """size / extent."""
    if isinstance(size, int) and isinstance(extent, int) and extent != 0:
        return size / extent
    return extent_number(c, size, f64) / extent_number(c, extent, f64)


def upsample(c: NodeContext, node: OnnxNode) -> Value:
    """Resize as it was before operator set 10; scales are an attribute before 9."""
    scales: Sequence[Factor] = node.floats("scales") if c.opset < 9 else factors_of(c, 1)
    mode = node.str("mode", "nearest")
    rule = Rule("linear" if mode == "bilinear" else mode, "asymmetric", "floor", -0.75, False, False, 0.0)
    axes = range(c.x.rank)
    return resized(c, rule, by_scales(c, scales, axes), axes)


TABLE: dict[str, Row] = {"Resize": resize, "Upsample": upsample}
