"""Signals: discrete Fourier transforms as products with cosine and sine matrices; mel filter banks."""

from __future__ import annotations

import numpy as np

from aino_ir.dims import DimLike, is_static
from aino_ir.dtypes import DType
from aino_ir.frontends.onnx.context import NodeContext, Row, element_dtype
from aino_ir.frontends.onnx.nodes import OnnxNode
from aino_ir.frontends.onnx.ops.movement import cut
from aino_ir.graph import Value


def dft(c: NodeContext, node: OnnxNode) -> Value:
    """x [..., 1 or 2] along an axis: real or complex to complex, or back with a half spectrum to real."""
    x = c.x
    given = c.input(1)
    if c.opset >= 20:
        axis = c.ints(2)[0] if c.input(2) is not None else -2
    else:
        axis = node.int("axis", 1)
    axis = c.axis(axis, x.rank)
    if axis == x.rank - 1:
        c.invalid("axis", "not the last one, which holds real and imaginary part", axis)
    inverse, onesided = bool(node.int("inverse", 0)), bool(node.int("onesided", 0))
    length: DimLike = c.known(1)[0] if given is not None else x.shape[axis]
    if given is None and inverse and onesided:
        length = (x.shape[axis] - 1) * 2
    if not isinstance(length, int) or not is_static(x.shape[-1]):
        c.unsupported("a symbolic length")
    last = x.rank - 2
    order = [a for a in range(last + 1) if a != axis]
    moved = c.emit("transpose", x, perm=(*order, axis, x.rank - 1))
    y = transformed(c, moved, length, inverse, onesided)
    back = list(range(last))
    back.insert(axis, last)
    return c.emit("transpose", y, perm=(*back, x.rank - 1))


def transformed(c: NodeContext, x: Value, length: int, inverse: bool, onesided: bool) -> Value:
    """x [..., n, 1 or 2] transformed along the axis before the last; n is cut or filled up to `length`."""
    half = length // 2 + 1
    taken = half if inverse and onesided else length
    x = fitted(c, x, x.rank - 2, taken)
    real = part(c, x, 0)
    imaginary = part(c, x, 1) if x.shape[-1] == 2 else None
    rows, columns = np.arange(taken)[:, None], np.arange(half if onesided and not inverse else length)[None]
    angle = 2 * np.pi * (rows * columns % length) / length
    cosine, sine = np.cos(angle), np.sin(angle) * (1 if inverse else -1)
    if inverse:
        cosine, sine = cosine / length, sine / length
    if inverse and onesided:  # the other half of the spectrum is the conjugate of this one
        weight = np.full((taken, 1), 2.0)
        weight[0] = 1.0
        if length % 2 == 0:
            weight[-1] = 1.0
        cosine, sine = cosine * weight, sine * weight
    out_real = times(c, real, cosine, x.dtype)
    if imaginary is not None:
        out_real = c.emit("sub", out_real, times(c, imaginary, sine, x.dtype))
    if inverse and onesided:
        return c.reshape(out_real, (*out_real.shape, 1))
    out_imaginary = times(c, real, sine, x.dtype)
    if imaginary is not None:
        out_imaginary = c.emit("add", out_imaginary, times(c, imaginary, cosine, x.dtype))
    pair = [c.reshape(v, (*v.shape, 1)) for v in (out_real, out_imaginary)]
    return c.emit("concat", *pair, axis=x.rank - 1)


def times(c: NodeContext, x: Value, matrix: np.ndarray, dtype: DType) -> Value:
    """x [..., n] times a constant matrix."""
    wide = c.reshape(x, (1, *x.shape)) if x.rank == 1 else x
    y = c.emit("matmul", wide, c.b.constant(matrix.astype(dtype.numpy)))
    return c.reshape(y, y.shape[1:]) if x.rank == 1 else y


def part(c: NodeContext, x: Value, which: int) -> Value:
    """The real or imaginary part, without the last axis."""
    return c.reshape(cut(c, x, x.rank - 1, which, 1), x.shape[:-1])


def fitted(c: NodeContext, x: Value, axis: int, length: int) -> Value:
    """x cut, or filled up with zeros, to a length."""
    extent = x.shape[axis]
    if is_static(extent) and int(extent) >= length:
        return cut(c, x, axis, 0, length)
    after: list[DimLike] = [0] * x.rank
    after[axis] = length - extent
    return c.emit("pad", x, before=[0] * x.rank, after=after)


def stft(c: NodeContext, node: OnnxNode) -> Value:
    """Frames of a signal [batch, n, 1 or 2], times a window, transformed: [batch, frames, bins, 2]."""
    x, step = c.x, c.ints(1)[0]
    window = c.input(2)
    if c.input(3) is not None:
        length = c.ints(3)[0]
    elif window is not None and is_static(window.shape[0]):
        length = int(window.shape[0])
    else:
        c.unsupported("neither a window of known length nor a frame_length")
    if step < 1:
        c.invalid("frame_step", "positive", step)
    if x.rank == 2:
        x = c.reshape(x, (*x.shape, 1))
    extent = x.shape[1]
    if not is_static(extent):
        c.unsupported("a symbolic signal length")
    frames = (int(extent) - length) // step + 1
    starts = np.arange(frames)[:, None] * step + np.arange(length)[None]
    framed = c.emit("gather", x, c.b.constant(starts), axis=1)
    if window is not None:
        framed = c.emit("mul", framed, c.reshape(window, (length, 1)))
    return transformed(c, framed, length, False, bool(node.int("onesided", 1)))


def mel_weight_matrix(c: NodeContext, node: OnnxNode) -> Value:
    """Triangular filters, equally wide on the mel scale: [spectrum bins, mel bins]."""
    bins, length, rate = (int(c.array(i).reshape(-1)[0]) for i in range(3))
    low, high = float(c.array(3).reshape(-1)[0]), float(c.array(4).reshape(-1)[0])
    dtype = element_dtype(node.int("output_datatype", 1), "attribute 'output_datatype'", node.location)
    mels = 2595 * np.log10(1 + np.array([low, high]) / 700)
    step = (mels[1] - mels[0]) / (bins + 2)
    edges = 700 * (10 ** ((np.arange(bins + 2) * step + mels[0]) / 2595) - 1)
    places = ((length + 1) * edges // rate).astype(int)
    out = np.zeros((length // 2 + 1, bins))
    for band in range(bins):
        lower, centre, higher = places[band : band + 3]
        if lower == centre:
            out[centre, band] = 1
        else:
            rising = np.arange(lower, centre + 1)
            out[rising, band] = (rising - lower) / (centre - lower)
        if higher > centre:
            falling = np.arange(centre, higher)
            out[falling, band] = (higher - falling) / (higher - centre)
    return c.b.constant(out.astype(dtype.numpy))


TABLE: dict[str, Row] = {"DFT": dft, "MelWeightMatrix": mel_weight_matrix, "STFT": stft}
