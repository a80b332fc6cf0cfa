"""Resizing and sampling of planes: upsample_*, grid_sampler.

Positions are computed by ops, so that extents may be symbolic; where they are not, folding makes tables of
them.  PyTorch computes positions in the operand's precision (f32 for low-precision floats).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from aino_ir.dims import DimLike
from aino_ir.dtypes import DType, f32, f64, i64
from aino_ir.frontends.torch.context import Lowering, NodeContext, Row
from aino_ir.graph import Value

Taps: TypeAlias = "Callable[[NodeContext, Value, DimLike, DType], tuple[Value, Value]]"
"""Makes positions and shares [results, taps] from where the results stand on the operand's axis."""

CUBIC = -0.75
"""The parameter of PyTorch's cubic kernel."""


def precision(x: Value) -> DType:
    """The dtype in which positions are computed."""
    return f64 if x.dtype.name == "f64" else f32


def line(c: NodeContext, size: DimLike, dtype: DType) -> Value:
    """0, 1, ... size - 1 as floats."""
    return c.cast(c.emit("index.range", start=0, size=size, step=1, dtype=i64), dtype)


def step_of(
    c: NodeContext, extent: DimLike, size: DimLike, scale: float | None, corners: bool, dtype: DType
) -> Value:
    """Distance of neighbouring results on the operand's axis."""
    if corners:
        gap = c.emit("max", c.operand(size, dtype), c.scalar(2, dtype))
        step = c.emit(
            "div",
            c.emit("sub", c.operand(extent, dtype), c.scalar(1, dtype)),
            c.emit("sub", gap, c.scalar(1, dtype)),
        )
        alone = c.emit("le", c.operand(size, dtype), c.scalar(1, dtype))
        return c.emit("select", alone, c.scalar(0, dtype), step)
    if scale is not None and scale > 0:
        return c.scalar(1.0 / scale, dtype)
    return c.emit("div", c.operand(extent, dtype), c.operand(size, dtype))


def sources(
    c: NodeContext,
    extent: DimLike,
    size: DimLike,
    scale: float | None,
    corners: bool,
    dtype: DType,
    cubic: bool = False,
) -> Value:
    """Where results stand on the operand's axis; left of its start is its start, but for cubic kernels."""
    step = step_of(c, extent, size, scale, corners, dtype)
    at = line(c, size, dtype)
    if corners:
        return c.emit("mul", at, step)
    half = c.scalar(0.5, dtype)
    place = c.emit("sub", c.emit("mul", c.emit("add", at, half), step), half)
    return place if cubic else c.emit("max", place, c.scalar(0, dtype))


Resizing: TypeAlias = "Callable[[NodeContext, Value, bool, Sequence[float | None]], Value]"
"""Resizes the last axes of x; takes whether corners are aligned, and the factor given for each axis."""


def resize(rank: int, resizing: Resizing) -> Lowering:
    """A row for an operator of either form: factors in one list, or one argument an axis."""

    def lower(
        c: NodeContext,
        x: Value,
        output_size: Sequence[DimLike] | None = None,
        align_corners: bool = False,
        scale_factors: Sequence[float] | None = None,
        scales: float | None = None,
        scales_d: float | None = None,
        scales_h: float | None = None,
        scales_w: float | None = None,
    ) -> Value:
        single = [scales_d, scales_h, scales_w if rank > 1 else scales][-rank:]
        return resizing(c, x, align_corners, scale_factors or single)

    return lower


def nearest(rank: int, exact: bool) -> Lowering:
    """A row for the nearest element (below, or with `exact` to the middle)."""

    def resizing(c: NodeContext, x: Value, corners: bool, given: Sequence[float | None]) -> Value:
        dtype = precision(x)
        for axis in range(rank):
            place = x.rank - rank + axis
            extent, size = x.shape[place], c.shape[place]
            if size is extent or (isinstance(size, int) and size == extent):
                continue
            step = step_of(c, extent, size, given[axis], False, dtype)
            at = line(c, size, dtype)
            if exact:
                at = c.emit("add", at, c.scalar(0.5, dtype))
            below = c.cast(c.emit("floor", c.emit("mul", at, step)), i64)
            x = c.emit("gather", x, clamped(c, below, extent), axis=place)
        return x

    return resize(rank, resizing)


def interpolated(rank: int, taps: Taps) -> Lowering:
    """A row for an interpolation along each axis."""
    return resize(rank, lambda c, x, corners, given: resampled(c, x, rank, corners, given, taps))


def clamped(c: NodeContext, places: Value, extent: DimLike) -> Value:
    """Positions within an axis."""
    last = c.operand(extent - 1, i64)
    return c.emit("max", c.emit("min", places, last), c.scalar(0, i64))


def resampled(
    c: NodeContext,
    x: Value,
    rank: int,
    corners: bool,
    scales: Sequence[float | None],
    taps: Taps,
) -> Value:
    """x interpolated along its last axes, one after the other."""
    dtype, out = precision(x), x.dtype
    shape = c.shape
    wide = c.cast(x, dtype)
    for axis in reversed(range(rank)):
        place = x.rank - rank + axis
        extent, size = wide.shape[place], shape[place]
        where = sources(c, extent, size, scales[axis], corners, dtype, taps is cubic_taps)
        positions, weights = taps(c, where, extent, dtype)
        wide = c.emit("resample", wide, positions, weights, axis=place)
    return c.cast(wide, out)


def linear_taps(c: NodeContext, where: Value, extent: DimLike, dtype: DType) -> tuple[Value, Value]:
    """Two neighbours and their shares."""
    floor = c.emit("floor", where)
    share = c.emit("sub", where, floor)
    first = clamped(c, c.cast(floor, i64), extent)
    second = clamped(c, c.emit("add", first, c.scalar(1, i64)), extent)
    return columns(c, [first, second]), columns(c, [c.emit("sub", c.scalar(1, dtype), share), share])


def cubic_taps(c: NodeContext, where: Value, extent: DimLike, dtype: DType) -> tuple[Value, Value]:
    """Four neighbours and their shares."""
    floor = c.emit("floor", where)
    share = c.emit("sub", where, floor)
    base = c.cast(floor, i64)
    places = [clamped(c, c.emit("add", base, c.scalar(k, i64)), extent) for k in (-1, 0, 1, 2)]
    return columns(c, places), columns(c, cubic_weights(c, share, dtype))


def cubic_weights(c: NodeContext, share: Value, dtype: DType) -> list[Value]:
    """Shares of the four neighbours of a position between the middle two."""

    def number(v: float) -> Value:
        return c.scalar(v, dtype)

    def near(t: Value) -> Value:
        inner = c.emit("sub", c.emit("mul", number(CUBIC + 2), t), number(CUBIC + 3))
        return c.emit("add", c.emit("mul", c.emit("mul", inner, t), t), number(1))

    def far(t: Value) -> Value:
        inner = c.emit("sub", c.emit("mul", number(CUBIC), t), number(5 * CUBIC))
        inner = c.emit("add", c.emit("mul", inner, t), number(8 * CUBIC))
        return c.emit("sub", c.emit("mul", inner, t), number(4 * CUBIC))

    rest = c.emit("sub", number(1), share)
    return [
        far(c.emit("add", share, number(1))),
        near(share),
        near(rest),
        far(c.emit("add", rest, number(1))),
    ]


def columns(c: NodeContext, parts: Sequence[Value]) -> Value:
    """Vectors side by side as the columns of a matrix."""
    return c.emit("concat", *(c.reshape(p, (p.shape[0], 1)) for p in parts), axis=1)


INTERPOLATIONS = ("bilinear", "nearest", "bicubic")
PADDINGS = ("zeros", "border", "reflection")


def grid_sampler_2d(
    c: NodeContext,
    x: Value,
    grid: Value,
    interpolation_mode: int,
    padding_mode: int,
    align_corners: bool,
) -> Value:
    """Planes read at positions that a grid gives, in -1..1 across each axis."""
    return sampled(c, x, grid, 2, INTERPOLATIONS[interpolation_mode], PADDINGS[padding_mode], align_corners)


def grid_sampler_3d(
    c: NodeContext,
    x: Value,
    grid: Value,
    interpolation_mode: int,
    padding_mode: int,
    align_corners: bool,
) -> Value:
    """Volumes read at positions that a grid gives."""
    return sampled(c, x, grid, 3, INTERPOLATIONS[interpolation_mode], PADDINGS[padding_mode], align_corners)


def grid_sampler(
    c: NodeContext,
    x: Value,
    grid: Value,
    interpolation_mode: int,
    padding_mode: int,
    align_corners: bool,
) -> Value:
    """Planes or volumes read at positions that a grid gives."""
    mode, padding = INTERPOLATIONS[interpolation_mode], PADDINGS[padding_mode]
    return sampled(c, x, grid, x.rank - 2, mode, padding, align_corners)


def sampled(
    c: NodeContext, x: Value, grid: Value, rank: int, mode: str, padding: str, corners: bool
) -> Value:
    """[n, channels, ...] read at [n, ..., rank]: a weighted sum of the neighbours of each position."""
    dtype = precision(x)
    places = []
    for axis in range(rank):  # the grid names the last axis first
        at = c.cast(c.cut(grid, grid.rank - 1, rank - 1 - axis, 1), dtype)
        at = c.reshape(at, at.shape[:-1])
        place = unnormalised(c, at, x.shape[2 + axis], corners, dtype)
        if mode != "bicubic":
            place = padded_place(c, place, x.shape[2 + axis], padding, corners, dtype)
        places.append(place)
    neighbours = [_neighbours(c, p, mode, dtype) for p in places]
    total: Value | None = None
    for combination in _combinations([len(n) for n in neighbours]):
        chosen = [n[i] for n, i in zip(neighbours, combination, strict=True)]
        weight: Value | None = None
        for _, share in chosen:
            if share is not None:
                weight = share if weight is None else c.emit("mul", weight, share)
        read = _read(c, x, [at for at, _ in chosen], padding, corners, mode, dtype)
        if weight is not None:
            read = c.emit("mul", read, c.reshape(weight, (weight.shape[0], 1, *weight.shape[1:])))
        total = read if total is None else c.emit("add", total, read)
    assert total is not None
    return c.cast(total, x.dtype)


def _combinations(counts: Sequence[int]) -> list[tuple[int, ...]]:
    out: list[tuple[int, ...]] = [()]
    for count in counts:
        out = [(*head, i) for head in out for i in range(count)]
    return out


def unnormalised(c: NodeContext, at: Value, extent: DimLike, corners: bool, dtype: DType) -> Value:
    """-1..1 as positions on an axis: between the middles of the outer elements, or their outer edges."""
    size, one, half = c.operand(extent, dtype), c.scalar(1, dtype), c.scalar(0.5, dtype)
    moved = c.emit("add", at, one)
    if corners:
        return c.emit("mul", moved, c.emit("mul", c.emit("sub", size, one), half))
    return c.emit("mul", c.emit("sub", c.emit("mul", moved, size), one), half)


def padded_place(
    c: NodeContext, place: Value, extent: DimLike, padding: str, corners: bool, dtype: DType
) -> Value:
    """A position moved into the axis as the padding says."""
    if padding == "zeros":
        return place
    last = c.emit("sub", c.operand(extent, dtype), c.scalar(1, dtype))
    if padding == "reflection":
        low = c.scalar(0.0 if corners else -0.5, dtype)
        span = last if corners else c.operand(extent, dtype)
        away = c.emit("abs", c.emit("sub", place, low))
        safe = c.emit("max", span, c.scalar(1, dtype)) if corners else span
        extra = c.emit("mod", away, safe, mode="trunc")
        flips = c.emit("floor", c.emit("div", away, safe))
        even = c.emit("eq", c.emit("mod", flips, c.scalar(2, dtype)), c.scalar(0, dtype))
        forth, back = c.emit("add", extra, low), c.emit("add", c.emit("sub", span, extra), low)
        place = c.emit("select", even, forth, back)
    return c.emit("min", c.emit("max", place, c.scalar(0, dtype)), last)


def _neighbours(c: NodeContext, place: Value, mode: str, dtype: DType) -> list[tuple[Value, Value | None]]:
    """Whole positions (as floats) around a position, with their shares."""
    if mode == "nearest":
        return [(c.emit("round", place), None)]
    floor = c.emit("floor", place)
    share = c.emit("sub", place, floor)
    if mode == "bilinear":
        rest = c.emit("sub", c.scalar(1, dtype), share)
        return [(floor, rest), (c.emit("add", floor, c.scalar(1, dtype)), share)]
    weights = cubic_weights(c, share, dtype)
    return [
        (c.emit("add", floor, c.scalar(k, dtype)), w) for k, w in zip((-1, 0, 1, 2), weights, strict=True)
    ]


def _read(
    c: NodeContext, x: Value, places: Sequence[Value], padding: str, corners: bool, mode: str, dtype: DType
) -> Value:
    """[n, channels, ...] at whole positions [n, ...]; outside it is zero or what the padding says."""
    inside: Value | None = None
    flat: Value | None = None
    plane: DimLike = 1
    for axis, place in enumerate(places):
        extent = x.shape[2 + axis]
        plane = plane * extent
        if mode == "bicubic":
            place = padded_place(c, place, extent, padding, corners, dtype)
        last = c.emit("sub", c.operand(extent, dtype), c.scalar(1, dtype))
        zero = c.scalar(0, dtype)
        if padding == "zeros":
            here = c.emit("logical_and", c.emit("ge", place, zero), c.emit("le", place, last))
            inside = here if inside is None else c.emit("logical_and", inside, here)
        index = c.cast(c.emit("min", c.emit("max", place, zero), last), i64)
        flat = index if flat is None else c.emit("add", c.emit("mul", flat, c.operand(extent, i64)), index)
    assert flat is not None
    n, channels = x.shape[:2]
    count: DimLike = 1
    for extent in flat.shape[1:]:
        count = count * extent
    rows = c.reshape(x, (n, channels, plane))
    wanted = c.emit("expand", c.reshape(flat, (n, 1, count)), shape=(n, channels, count))
    read = c.reshape(c.emit("gather_elements", rows, wanted, axis=2), (n, channels, *flat.shape[1:]))
    read = c.cast(read, dtype)
    if inside is None:
        return read
    seen = c.reshape(inside, (n, 1, *flat.shape[1:]))
    return c.emit("select", seen, read, c.scalar(0, dtype))


TABLE: dict[str, Row] = {
    "aten._upsample_nearest_exact1d": nearest(1, exact=True),
    "aten._upsample_nearest_exact2d": nearest(2, exact=True),
    "aten._upsample_nearest_exact3d": nearest(3, exact=True),
    "aten.grid_sampler": grid_sampler,
    "aten.grid_sampler_2d": grid_sampler_2d,
    "aten.grid_sampler_3d": grid_sampler_3d,
    "aten.upsample_bicubic2d": interpolated(2, cubic_taps),
    "aten.upsample_bilinear2d": interpolated(2, linear_taps),
    "aten.upsample_linear1d": interpolated(1, linear_taps),
    "aten.upsample_nearest1d": nearest(1, exact=False),
    "aten.upsample_nearest2d": nearest(2, exact=False),
    "aten.upsample_nearest3d": nearest(3, exact=False),
    "aten.upsample_trilinear3d": interpolated(3, linear_taps),
}
