"""Resize and Upsample: positions and weights of each axis, computed as vectors, then one gather an axis."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from aino_ir.dims import DimLike, is_static
from aino_ir.dtypes import f32, f64, i64
from aino_ir.frontends.onnx.context import NodeContext, Row, constant_array
from aino_ir.frontends.onnx.nodes import OnnxNode
from aino_ir.frontends.onnx.ops.quantization import repeated
from aino_ir.graph import Value

MODES = ("nearest", "linear", "cubic")


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


class Vector:
    """f64 arithmetic on one value: keeps formulas readable."""

    def __init__(self, c: NodeContext, value: Value) -> None:
        self.c = c
        self.value = value

    def _other(self, other: Vector | float) -> Value:
        return other.value if isinstance(other, Vector) else self.c.scalar(other, f64)

    def _binary(self, op: str, other: Vector | float) -> Vector:
        return Vector(self.c, self.c.emit(op, self.value, self._other(other)))

    def __add__(self, other: Vector | float) -> Vector:
        return self._binary("add", other)

    def __sub__(self, other: Vector | float) -> Vector:
        return self._binary("sub", other)

    def __mul__(self, other: Vector | float) -> Vector:
        return self._binary("mul", other)

    def __truediv__(self, other: Vector | float) -> Vector:
        return self._binary("div", other)

    def __lt__(self, other: Vector | float) -> Vector:
        return self._binary("lt", other)

    def __gt__(self, other: Vector | float) -> Vector:
        return self._binary("gt", other)

    def map(self, op: str) -> Vector:
        """A unary op."""
        return Vector(self.c, self.c.emit(op, self.value))

    def where(self, yes: Vector | float, no: Vector | float) -> Vector:
        """`yes` where this is true, else `no`."""
        return Vector(self.c, self.c.emit("select", self.value, self._other(yes), self._other(no)))

    def settled(self) -> Value:
        """The value, as a constant when it follows from constants."""
        array = constant_array(self.value)
        return self.value if array is None else self.c.b.constant(array)


def extent_value(c: NodeContext, extent: DimLike) -> Vector:
    """An extent as an f64 scalar."""
    if isinstance(extent, int):
        return Vector(c, c.scalar(extent, f64))
    return Vector(c, c.cast(c.reshape(c.b.dims_vector([extent]), ()), f64))


def source_positions(
    c: NodeContext, rule: Rule, size: DimLike, extent: DimLike, scale: Vector, roi: tuple[float, float]
) -> Vector:
    """Where each output position lies in the operand, f64 [size]."""
    line = c.emit("index.range", start=0, size=size, step=1, dtype=f64)
    x, old, new = Vector(c, line), extent_value(c, extent), extent_value(c, size)
    resized = old * scale
    start, end = roi
    single = is_static(size) and size == 1

    def half() -> Vector:
        return (x + 0.5) / scale - 0.5

    def aligned() -> Vector:
        return x * ((old - 1.0) / (resized - 1.0))

    def symmetric() -> Vector:
        centre = old * 0.5
        return half() + (centre - centre * (new / resized))

    def cropped() -> Vector:
        if single:
            return x * 0.0 + (old - 1.0) * (0.5 * (start + end))
        return x * ((old - 1.0) * (end - start) / (resized - 1.0)) + (old - 1.0) * start

    formulas: dict[str, Callable[[], Vector]] = {
        "half_pixel": half,
        "half_pixel_symmetric": symmetric,
        "pytorch_half_pixel": lambda: (new > 1.0).where(half(), x * 0.0),
        "align_corners": lambda: x * 0.0 if single else aligned(),
        "asymmetric": lambda: x / scale,
        "tf_half_pixel_for_nn": lambda: (x + 0.5) / scale,
        "tf_crop_and_resize": cropped,
    }
    if rule.coordinates not in formulas:
        c.invalid("coordinate_transformation_mode", "one of " + ", ".join(formulas), rule.coordinates)
    return formulas[rule.coordinates]()


def nearest_positions(c: NodeContext, rule: Rule, x: Vector) -> Vector:
    """Positions rounded the node's way."""
    formulas: dict[str, Callable[[], Vector]] = {
        "round_prefer_floor": lambda: (x - 0.5).map("ceil"),
        "round_prefer_ceil": lambda: (x + 0.5).map("floor"),
        "floor": lambda: x.map("floor"),
        "ceil": lambda: x.map("ceil"),
    }
    if rule.nearest not in formulas:
        c.invalid("nearest_mode", "one of " + ", ".join(formulas), rule.nearest)
    return formulas[rule.nearest]()


def inside(c: NodeContext, position: Vector, extent: DimLike) -> Value:
    """Positions as i64, those outside of the axis moved to its ends."""
    last = extent_value(c, extent) - 1.0
    clipped = Vector(c, c.emit("max", c.emit("min", position.value, last.value), c.scalar(0.0, f64)))
    return c.cast(clipped.value, i64)


def kernel_weight(rule: Rule, distance: Vector) -> Vector:
    """Weight of a tap at a distance: the tent, or Keys' cubic."""
    d = distance.map("abs")
    if rule.mode == "linear":
        return (d > 1.0).where(0.0, d * -1.0 + 1.0)
    a = rule.cubic
    near = (d * (a + 2) - (a + 3)) * d * d + 1.0
    far = ((d * a - 5 * a) * d + 8 * a) * d - 4 * a
    return (d > 1.0).where((d < 2.0).where(far, 0.0), near)


def taps_of(c: NodeContext, rule: Rule, scale: float | None) -> tuple[range, float]:
    """Offsets of the taps from the position's floor, and the stretch of the kernel."""
    reach = 1 if rule.mode == "linear" else 2
    if not rule.antialias:
        return range(1 - reach, reach + 1), 1.0
    if scale is None:
        c.unsupported("antialias and symbolic extents")
    stretch = min(scale, 1.0)
    start = math.floor(-reach / stretch) + 1
    return range(start, 2 - start), stretch


def tables(
    c: NodeContext, rule: Rule, x: Vector, size: DimLike, extent: DimLike, scale: float | None
) -> tuple[Value, Value]:
    """Positions i64 and weights f64, both [size, taps], of a linear or cubic axis."""
    low = x.map("floor")
    offsets, stretch = taps_of(c, rule, scale)
    weights, places = [], []
    for offset in offsets:
        position = low + float(offset)
        weight = kernel_weight(rule, (position - x) * stretch)
        if rule.exclude_outside:
            last = extent_value(c, extent) - 1.0
            weight = (position < 0.0).where(0.0, (position > last).where(0.0, weight))
        weights.append(weight)
        places.append(inside(c, position, extent))
    if rule.exclude_outside or rule.antialias:
        total = weights[0]
        for weight in weights[1:]:
            total = total + weight
        weights = [weight / total for weight in weights]
    column = (size, 1)
    positions = c.emit("concat", *[c.reshape(p, column) for p in places], axis=1)
    values = c.emit("concat", *[c.reshape(w.value, column) for w in weights], axis=1)
    return Vector(c, positions).settled(), Vector(c, values).settled()


def resized_axis(
    c: NodeContext,
    rule: Rule,
    x: Value,
    axis: int,
    size: DimLike,
    scale: float | None,
    roi: tuple[float, float],
) -> tuple[Value, Value | None]:
    """x resized along one axis, and where the result lies outside of x (bool [size]) if that matters."""
    extent = x.shape[axis]
    whole = scale is not None and scale == int(scale) and scale >= 1
    if rule.mode == "nearest" and whole and _repeats(rule):
        return repeated(c, x, axis, int(scale or 1), size), None
    factor = (
        extent_value(c, size) / extent_value(c, extent) if scale is None else Vector(c, c.scalar(scale, f64))
    )
    source = source_positions(c, rule, size, extent, factor, roi)
    outside = None
    if rule.coordinates == "tf_crop_and_resize":
        last = extent_value(c, extent) - 1.0
        outside = c.emit("logical_or", (source < 0.0).value, (source > last).value)
    if rule.mode == "nearest":
        at = Vector(c, inside(c, nearest_positions(c, rule, source), extent)).settled()
        return c.emit("gather", x, at, axis=axis), outside
    positions, weights = tables(c, rule, source, size, extent, scale)
    return c.emit("resample", x, positions, c.cast(weights, x.dtype.compute), axis=axis), outside


def _repeats(rule: Rule) -> bool:
    """Whether output position o of a whole scale s reads o // s."""
    if rule.coordinates == "asymmetric":
        return rule.nearest == "floor"
    return rule.coordinates in ("half_pixel", "pytorch_half_pixel") and rule.nearest in (
        "round_prefer_floor",
        "round_prefer_ceil",
    )


def resized(
    c: NodeContext,
    rule: Rule,
    sizes: Sequence[DimLike],
    scales: Sequence[float | None],
    axes: Sequence[int],
    roi: Sequence[float],
) -> Value:
    """x resized along each of the axes."""
    if rule.mode not in MODES:
        c.invalid("mode", "one of " + ", ".join(MODES), rule.mode)
    original = c.x.dtype
    x = c.x if rule.mode == "nearest" or original.is_float else c.cast(c.x, f32)
    masks: list[tuple[int, Value]] = []
    for number, (axis, size, scale) in enumerate(zip(axes, sizes, scales, strict=True)):
        bounds = (roi[number], roi[number + len(axes)]) if roi else (0.0, 1.0)
        same = size is x.shape[axis] or (is_static(size) and size == x.shape[axis])
        if same and (scale is None or scale == 1.0) and rule.coordinates != "tf_crop_and_resize":
            continue
        x, outside = resized_axis(c, rule, x, axis, size, scale, bounds)
        if outside is not None:
            masks.append((axis, outside))
    for axis, outside in masks:
        mask = c.reshape(outside, [outside.shape[0] if a == axis else 1 for a in range(x.rank)])
        x = c.emit("select", mask, c.scalar(rule.extrapolation, x.dtype), x)
    return x if x.dtype is original else c.cast(c.emit("round", x), original)


def scaled_extent(extent: DimLike, scale: float) -> DimLike:
    """floor(extent * scale), for a symbolic extent by the nearest simple fraction."""
    if is_static(extent):
        return math.floor(extent * scale)  # type: ignore[operator]
    fraction = Fraction(scale).limit_denominator(256)
    return extent * fraction.numerator // fraction.denominator


def scales_of(c: NodeContext, index: int) -> list[float]:
    """Scales that are a constant input."""
    return [float(s) for s in c.array(index).reshape(-1)]


def resize(c: NodeContext, node: OnnxNode) -> Value:
    """Sizes or scales; attributes have grown with the operator set versions."""
    x = c.x
    if c.opset < 11:
        scales = scales_of(c, 1)
        rule = Rule(node.str("mode", "nearest"), "asymmetric", "floor", -0.75, False, False, 0.0)
        sizes = [scaled_extent(d, s) for d, s in zip(x.shape, scales, strict=True)]
        return resized(c, rule, sizes, scales, range(x.rank), ())
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
    roi: Sequence[float] = ()
    if rule.coordinates == "tf_crop_and_resize":
        roi = [float(v) for v in c.array(1).reshape(-1)]
    given = c.input(3)
    if given is None or given.shape == (0,):
        scales = scales_of(c, 2)
        if len(scales) != len(axes):
            c.invalid("number of scales", len(axes), len(scales))
        sizes = [scaled_extent(x.shape[a], s) for a, s in zip(axes, scales, strict=True)]
        return resized(c, rule, sizes, scales, axes, roi)
    return _resize_to(c, node, rule, axes, roi)


def _resize_to(
    c: NodeContext, node: OnnxNode, rule: Rule, axes: Sequence[int], roi: Sequence[float]
) -> Value:
    """Resize to given sizes, by the policy for the aspect ratio."""
    x = c.x
    sizes = list(c.known(3))
    if len(sizes) != len(axes):
        c.invalid("number of sizes", len(axes), len(sizes))
    policy = node.str("keep_aspect_ratio_policy", "stretch")
    ratios: list[float | None] = [
        int(s) / int(x.shape[a]) if is_static(s) and is_static(x.shape[a]) and x.shape[a] != 0 else None  # type: ignore[arg-type]
        for s, a in zip(sizes, axes, strict=True)
    ]
    if policy == "stretch":
        return resized(c, rule, sizes, ratios, axes, roi)
    if policy not in ("not_larger", "not_smaller"):
        c.invalid("keep_aspect_ratio_policy", "stretch, not_larger or not_smaller", policy)
    known = [r for r in ratios if r is not None]
    if len(known) != len(ratios):
        c.unsupported(f"policy {policy!r} and symbolic extents")
    ratio = min(known) if policy == "not_larger" else max(known)
    extents = [int(x.shape[a]) for a in axes]
    return resized(c, rule, [math.floor(ratio * d + 0.5) for d in extents], [ratio] * len(axes), axes, roi)


def upsample(c: NodeContext, node: OnnxNode) -> Value:
    """Resize as it was before operator set 10; scales are an attribute before 9."""
    scales = list(node.floats("scales")) if c.opset < 9 else scales_of(c, 1)
    mode = node.str("mode", "nearest")
    rule = Rule("linear" if mode == "bilinear" else mode, "asymmetric", "floor", -0.75, False, False, 0.0)
    sizes = [scaled_extent(d, s) for d, s in zip(c.x.shape, scales, strict=True)]
    return resized(c, rule, sizes, scales, range(c.x.rank), ())


TABLE: dict[str, Row] = {"Resize": resize, "Upsample": upsample}
