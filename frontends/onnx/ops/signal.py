"""Signals: Fourier transforms, fast or as products with cosine and sine matrices; mel filter banks."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from aino_ir.builder import Builder, op_class
from aino_ir.dims import DimLike, is_static
from aino_ir.dtypes import DType, f64, i64
from aino_ir.frontends.emitter import Emitter
from aino_ir.frontends.floats import Number, extent_number, positions_number
from aino_ir.frontends.onnx.axes import around, axes_input, run_time_axes
from aino_ir.frontends.onnx.context import NodeContext, Row, element_dtype
from aino_ir.frontends.onnx.integers import bound, integer, sole
from aino_ir.frontends.onnx.nodes import OnnxNode
from aino_ir.frontends.onnx.ops.movement import cut
from aino_ir.graph import Value
from aino_ir.ops.signal import UNROLLED, radices, roots_of_unity

LONG = 512
"""From this length on a fast transform beats a product with a matrix."""

LITTLE = 2**16
"""Operations of a product with a matrix that take no time to speak of."""


def dft(c: NodeContext, node: OnnxNode) -> Value:
    """x [..., 1 or 2] along an axis: real or complex to complex, or back with a half spectrum to real."""
    x = c.x
    if not is_static(x.shape[-1]):
        c.invalid("the last extent of the input", "1 or 2", x.shape[-1])
    if c.opset >= 20 and c.input(2) is not None:
        axes = axes_input(c, 2, x.rank)
        if axes is None:
            return dft_over_run_time_axis(c, node, run_time_axes(c, 2, x.rank))
        (axis,) = axes
    else:
        axis = c.axis(-2 if c.opset >= 20 else node.int("axis", 1), x.rank)
    if axis == x.rank - 1:
        c.invalid("axis", "not the last one, which holds real and imaginary part", axis)
    return over_axis(c, x, axis, lambda moved: spectrum(c, node, moved))


def over_axis(c: Emitter, x: Value, axis: int, transform: Callable[[Value], Value]) -> Value:
    """What `transform` makes of x [..., 1 or 2] with an axis moved to the place before the last."""
    last = x.rank - 2
    order = [a for a in range(last + 1) if a != axis]
    y = transform(c.emit("transpose", x, perm=(*order, axis, x.rank - 1)))
    back = list(range(last))
    back.insert(axis, last)
    return c.emit("transpose", y, perm=(*back, x.rank - 1))


def dft_over_run_time_axis(c: NodeContext, node: OnnxNode, axes: Value) -> Value:
    """A transform along an axis that only the run will tell."""
    x, shape = c.x, c.x.shape[:-1]
    inverse, onesided = bool(node.int("inverse", 0)), bool(node.int("onesided", 0))
    if not onesided and c.input(1) is None and all(is_fast(x, a) for a in range(x.rank - 1)):
        return fast_over_one_of(c, x, c.reshape(axes, ()), range(x.rank - 1), inverse)
    axis = integer(c, axes)
    lines = around(c, c.reshape(x, shape) if x.shape[-1] == 1 else x, axis)
    before, length, behind = lines.shape
    if x.shape[-1] != 1:
        behind = bound(c, [integer(c, behind) // 2], what="the extents around the axis")[0]
    parts = c.reshape(lines, (before, length, behind, x.shape[-1]))
    y = spectrum(c, node, c.emit("transpose", parts, perm=(0, 2, 1, 3)))
    extents = [axis.eq(a).where(y.shape[2], extent) for a, extent in enumerate(shape)]
    target = bound(c, extents, what="the extents of the spectrum")
    return c.reshape(c.emit("transpose", y, perm=(0, 2, 1, 3)), (*target, y.shape[3]))


def spectrum(c: NodeContext, node: OnnxNode, x: Value) -> Value:
    """x [..., n, 1 or 2] transformed along the axis before the last as the node says."""
    inverse, onesided = bool(node.int("inverse", 0)), bool(node.int("onesided", 0))
    extent = x.shape[-2]
    length: DimLike = (extent - 1) * 2 if inverse and onesided else extent
    if c.input(1) is not None:
        (length,) = bound(c, [sole(c, 1)], 1, what="dft_length")
    return transformed(c, x, length, inverse, onesided)


def fast_over_one_of(c: Emitter, x: Value, axis: Value, axes: Sequence[int], inverse: bool) -> Value:
    """A transform along the one of some axes that a 0-d value names: a branch for each."""
    first, *rest = axes

    def over(b: Builder, x: Value, axes: Sequence[int], axis: Value) -> list[Value]:
        inner = Emitter(b)
        if len(axes) > 1:
            return [fast_over_one_of(inner, x, axis, axes, inverse)]
        (a,) = axes
        return [over_axis(inner, x, a, lambda v: fast(inner, v, int(x.shape[a]), inverse, False))]

    if not rest:
        return over(c.b, x, axes, axis)[0]
    types = (x.type, axis.type)
    regions = [
        c.b.region(types, lambda b, x, axis, some=some: over(b, x, some, axis)) for some in ([first], rest)
    ]
    here = c.emit("eq", axis, c.scalar(first, axis.dtype))
    return c.b.op(op_class("control.if"), here, x, axis, regions=regions).result


def is_fast(x: Value, axis: int, length: DimLike | None = None) -> bool:
    """Whether an axis of x [..., 1 or 2] is better transformed fast than by a product with a matrix.

    It must be known how long it is, and have small factors only.  Then it is where a product would
    take far more operations, and where neither takes any time to speak of: a fast transform rounds less.
    """
    n = x.shape[axis] if length is None else length
    if not isinstance(n, int) or n < 1 or max(radices(n), default=1) > UNROLLED:
        return False
    size = x.type.size  # type: ignore[union-attr]
    return n >= LONG or (isinstance(size, int) and 4 * size * n <= LITTLE)


def fast(c: Emitter, x: Value, length: int, inverse: bool, onesided: bool) -> Value:
    """`transformed` by `signal.fft`."""
    half, axis = length // 2 + 1, x.rank - 2
    x = fitted(c, x, axis, half if inverse and onesided else length)
    if x.shape[-1] == 1 and length % 2 == 0 and not inverse:
        y = fast_of_real(c, x, length)
        return y if onesided else c.emit("mul", *mirrored(c, y, length))
    if x.shape[-1] == 1:
        x = fitted(c, x, axis + 1, 2)
    if inverse and onesided:  # the other half of the spectrum is the conjugate of this one
        x = c.emit("mul", *mirrored(c, x, length))
    y = c.emit("signal.fft", x, c.b.constant(roots_of_unity(length, x.dtype.compute)), inverse=inverse)
    if inverse and onesided:
        return cut(c, y, axis + 1, 0, 1)
    return cut(c, y, axis, 0, half) if onesided else y


def fast_of_real(c: Emitter, x: Value, length: int) -> Value:
    """Half the spectrum of real numbers x [..., n, 1], n even, by a complex transform of length n / 2.

    Numbers at even places are its real parts, those at odd places its imaginary parts; the spectra of
    both are then told apart by their symmetry.
    """
    half, axis, dtype = length // 2, x.rank - 2, x.dtype
    pairs = c.reshape(x, (*x.shape[:-2], half, 2))
    z = c.emit("signal.fft", pairs, c.b.constant(roots_of_unity(half, dtype.compute)))
    places = np.arange(half + 1)
    ahead = c.emit("gather", z, c.b.constant(places % half), axis=axis)
    behind = c.emit("gather", z, c.b.constant((half - places) % half), axis=axis)

    def of_half(op: str, a: Value, b: Value) -> Value:
        return c.emit("mul", c.emit(op, a, b), c.scalar(0.5, dtype))

    a, b = (cut(c, v, axis + 1, 0, 1) for v in (ahead, behind))
    p, q = (cut(c, v, axis + 1, 1, 1) for v in (ahead, behind))
    even = of_half("add", a, b), of_half("sub", p, q)
    odd = of_half("add", p, q), of_half("sub", b, a)
    turns = roots_of_unity(length, dtype.compute)[: half + 1].astype(dtype.numpy)
    cosine, sine = (c.b.constant(turns[:, part : part + 1]) for part in (0, 1))
    real = c.emit("add", c.emit("mul", odd[0], cosine), c.emit("mul", odd[1], sine))
    imaginary = c.emit("sub", c.emit("mul", odd[1], cosine), c.emit("mul", odd[0], sine))
    whole = [c.emit("add", even[0], real), c.emit("add", even[1], imaginary)]
    return c.emit("concat", *whole, axis=axis + 1)


def mirrored(c: Emitter, x: Value, length: int) -> tuple[Value, Value]:
    """Half a spectrum x [..., n / 2 + 1, 2] up to `length`, and what makes conjugates of the other half."""
    half, places = length // 2 + 1, np.arange(length)
    chosen = np.where(places < half, places, length - places)
    signs = np.where(places[:, None] < half, 1.0, [[1.0, -1.0]]).astype(x.dtype.numpy)
    return c.emit("gather", x, c.b.constant(chosen), axis=x.rank - 2), c.b.constant(signs)


def transformed(c: NodeContext, x: Value, length: DimLike, inverse: bool, onesided: bool) -> Value:
    """x [..., n, 1 or 2] transformed along the axis before the last; n is cut or filled up to `length`."""
    if isinstance(length, int) and is_fast(x, x.rank - 2, length):
        return fast(c, x, length, inverse, onesided)
    half = length // 2 + 1
    taken = half if inverse and onesided else length
    x = fitted(c, x, x.rank - 2, taken)
    real = part(c, x, 0)
    imaginary = part(c, x, 1) if x.shape[-1] == 2 else None
    bins = half if onesided and not inverse else length
    if isinstance(length, int):
        cosine, sine = (c.b.constant(m.astype(x.dtype.numpy)) for m in waves(length, inverse, onesided))
    else:
        cosine, sine = run_time_waves(c, length, (taken, bins), inverse, onesided, x.dtype)
    out_real = times(c, real, cosine)
    if imaginary is not None:
        out_real = c.emit("sub", out_real, times(c, imaginary, sine))
    if inverse and onesided:
        return c.reshape(out_real, (*out_real.shape, 1))
    out_imaginary = times(c, real, sine)
    if imaginary is not None:
        out_imaginary = c.emit("add", out_imaginary, times(c, imaginary, cosine))
    pair = [c.reshape(v, (*v.shape, 1)) for v in (out_real, out_imaginary)]
    return c.emit("concat", *pair, axis=x.rank - 1)


def waves(length: int, inverse: bool, onesided: bool) -> tuple[np.ndarray, np.ndarray]:
    """Cosines and sines [taken, bins] of a transform, f64."""
    half = length // 2 + 1
    taken, bins = half if inverse and onesided else length, half if onesided and not inverse else length
    rows, columns = np.arange(taken)[:, None], np.arange(bins)[None]
    angle = 2 * np.pi * (rows * columns % max(length, 1)) / max(length, 1)
    cosine, sine = np.cos(angle), np.sin(angle) * (1 if inverse else -1)
    if inverse:
        cosine, sine = cosine / length, sine / length
    if inverse and onesided:  # the other half of the spectrum is the conjugate of this one
        weight = np.full((taken, 1), 2.0)
        weight[0] = 1.0
        if length % 2 == 0:
            weight[-1] = 1.0
        cosine, sine = cosine * weight, sine * weight
    return cosine, sine


def run_time_waves(
    c: NodeContext,
    length: DimLike,
    shape: tuple[DimLike, DimLike],
    inverse: bool,
    onesided: bool,
    dtype: DType,
) -> tuple[Value, Value]:
    """`waves` of a length that only the run will tell, rounded to a dtype."""
    rows, columns = (c.emit("index.range", start=0, size=n, step=1, dtype=i64) for n in shape)
    rows = c.reshape(rows, (shape[0], 1))
    turns = c.emit("mod", c.emit("mul", rows, columns), integer(c, length).value, mode="floor")
    size = extent_number(c, length, f64)
    angle = Number(c, c.cast(turns, f64)) * (2 * math.pi) / size
    cosine, sine = angle.map("cos"), angle.map("sin") * (1.0 if inverse else -1.0)
    if inverse:
        cosine, sine = cosine / size, sine / size
    if inverse and onesided:
        row = Number(c, c.cast(rows, f64))
        edge = c.emit("logical_or", row.equals(0.0).value, (row * 2.0).equals(size).value)
        weight = Number(c, c.scalar(1.0, f64)).where(edge, 2.0)
        cosine, sine = cosine * weight, sine * weight
    return c.cast(cosine.value, dtype), c.cast(sine.value, dtype)


def times(c: NodeContext, x: Value, matrix: Value) -> Value:
    """x [..., n] times a matrix."""
    wide = c.reshape(x, (1, *x.shape)) if x.rank == 1 else x
    y = c.emit("matmul", wide, matrix)
    return c.reshape(y, y.shape[1:]) if x.rank == 1 else y


def part(c: Emitter, x: Value, which: int) -> Value:
    """The real or imaginary part, without the last axis."""
    return c.reshape(cut(c, x, x.rank - 1, which, 1), x.shape[:-1])


def fitted(c: Emitter, x: Value, axis: int, length: DimLike) -> Value:
    """x cut, or filled up with zeros, to a length."""
    extent = x.shape[axis]
    if c.symbols.prove_ge(extent, length):
        return cut(c, x, axis, 0, length)
    after: list[DimLike] = [0] * x.rank
    after[axis] = length - extent
    return c.emit("pad", x, before=[0] * x.rank, after=after)


def stft(c: NodeContext, node: OnnxNode) -> Value:
    """Frames of a signal [batch, n, 1 or 2], times a window, transformed: [batch, frames, bins, 2]."""
    x, window = c.x, c.input(2)
    (step,) = bound(c, [sole(c, 1)], 1, what="frame_step")
    if is_static(step) and step < 1:
        c.invalid("frame_step", "positive", step)
    if c.input(3) is not None:
        (length,) = bound(c, [sole(c, 3)], 1, what="frame_length")
    elif window is not None:
        length = window.shape[0]
    else:
        c.invalid("inputs", "a window or a frame_length", "neither")
    if x.rank == 2:
        x = c.reshape(x, (*x.shape, 1))
    c.symbols.assume_ge(x.shape[1], length, f"{node.operator}: the signal is as long as a frame")
    frames = (x.shape[1] - length) // step + 1
    if isinstance(frames, int) and isinstance(length, int) and isinstance(step, int):
        places = c.b.constant(np.arange(frames)[:, None] * step + np.arange(length)[None])
    else:
        first = c.emit("index.range", start=0, size=frames, step=1, dtype=i64)
        inner = c.emit("index.range", start=0, size=length, step=1, dtype=i64)
        starts = c.reshape(c.emit("mul", first, integer(c, step).value), (frames, 1))
        places = c.emit("add", starts, inner)
    framed = c.emit("gather", x, places, axis=1)
    if window is not None:
        framed = c.emit("mul", framed, c.reshape(window, (length, 1)))
    return transformed(c, framed, length, False, bool(node.int("onesided", 1)))


def mel_weight_matrix(c: NodeContext, node: OnnxNode) -> Value:
    """Triangular filters, equally wide on the mel scale: [spectrum bins, mel bins].

    A filter rises from the place of its lower edge to its centre and falls to its upper edge; places are
    spectrum bins, rounded down.
    """
    dtype = element_dtype(node.int("output_datatype", 1), "attribute 'output_datatype'", node.location)
    (bins,) = bound(c, [sole(c, 0)], what="num_mel_bins")
    (length,) = bound(c, [sole(c, 1)], what="dft_length")
    rate = Number(c, c.cast(c.scalar_of(2), f64))
    low, high = (mel(Number(c, c.cast(c.scalar_of(i), f64))) for i in (3, 4))
    step = (high - low) / (extent_number(c, bins, f64) + 2.0)
    mels = positions_number(c, bins + 2, f64) * step + low
    hertz = (Number(c, c.emit("pow", c.scalar(10.0, f64), (mels / 2595.0).value)) - 1.0) * 700.0
    places = (extent_number(c, length + 1, f64) * hertz / rate).map("floor")
    lower, centre, upper = (Number(c, cut(c, places.value, 0, k, bins)) for k in range(3))
    at = positions_number(c, length // 2 + 1, f64).reshaped(length // 2 + 1, 1)
    alone = lower.equals(centre)
    rise = (at - lower) / alone.choose(1.0, centre - lower)
    rising = rise.where(at.inside(lower, centre), 0.0)
    rising = alone.choose(at.equals(centre).choose(1.0, 0.0), rising)
    falls = c.emit("logical_and", (at >= centre).value, (at < upper).value)
    fall = (upper - at) / (upper > centre).choose(upper - centre, 1.0)
    return c.cast(Number(c, fall.where(falls, rising).settled()).value, dtype)


def mel(hertz: Number) -> Number:
    """A frequency on the mel scale."""
    return (hertz / 700.0 + 1.0).map("log10") * 2595.0


TABLE: dict[str, Row] = {"DFT": dft, "MelWeightMatrix": mel_weight_matrix, "STFT": stft}
