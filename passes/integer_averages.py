"""Averages of codes: exact integer sums, scaled once by what a code counts in the mean."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from aino_ir.builder import Builder
from aino_ir.dims import is_static
from aino_ir.dtypes import i8, i32, u8
from aino_ir.graph import Value
from aino_ir.op import Op
from aino_ir.ops.nn import AvgPool
from aino_ir.ops.quant import Dequantize
from aino_ir.ops.quant_products import QuantConv
from aino_ir.ops.reduce import ReduceMean
from aino_ir.passes.integer_operands import OFFSET_LIMIT, number_of, surrounded
from aino_ir.passes.rules import Rule
from aino_ir.pattern import Match, P

Array = np.ndarray[Any, Any]


class Average(Rule):
    """What both rules share."""

    error_class = "reordered"

    def codes(self, m: Match) -> str | None:
        """Why the operand is none of bytes with one scale and one zero point, or None."""
        decode = m.op("decode")
        if decode.x.dtype not in (i8, u8):
            return f"the activation has {decode.x.dtype.bits} bits"
        if number_of(decode.scale) is None or number_of(decode.zero) is None:
            return "the activation's scale or zero point is no single constant"
        return None

    def looked_at(self, m: Match) -> list[Op]:
        decode = m.op("decode")
        return [v.op for v in (decode.scale, decode.zero) if v is not None and v.op is not None]


class AverageOfWindows(Average):
    """avg_pool((x - z) s) ==> (depthwise convolution of x with ones - z k) s / n   with n codes in a window

    k are the taps, and n is k or, where padding does not count, what of a window lies inside.
    """

    pattern = P(AvgPool, P(Dequantize, op="decode"))

    def check(self, m: Match) -> str | None:
        pool = m.root
        assert isinstance(pool, AvgPool)
        if not all(map(is_static, pool.x.shape[1:])):
            return "a symbolic number of channels or places"
        if pool.ceil_mode:
            return "windows may end beyond the padding"
        if math.prod(pool.kernel) * 255 * 255 >= OFFSET_LIMIT:
            return "sums may leave 32 bits"
        return self.codes(m)

    def rewrite(self, m: Match, b: Builder) -> Value:
        pool, decode = m.root, m.op("decode")
        assert isinstance(pool, AvgPool)
        scale, zero = number_of(decode.scale), number_of(decode.zero)
        assert scale is not None and zero is not None
        channels = int(pool.x.shape[1])
        attrs = pool.attrs()
        geometry = {k: attrs[k] for k in ("strides", "dilations", "pads_before", "pads_after")}
        x, geometry = surrounded(b, decode.x, geometry, int(zero))
        offset = np.full(channels, -int(zero) * math.prod(pool.kernel), np.int32)
        by = (np.float32(scale) / counts(pool).astype(np.float32)).astype(np.float32)
        return b.op(
            QuantConv,
            x,
            b.constant(np.ones((channels, 1, *pool.kernel), np.int8)),
            b.constant(by.reshape(()) if by.size == 1 else by),
            b.constant(offset) if zero else None,
            **geometry,
            groups=channels,
            zero=int(zero),
        ).result


def counts(pool: AvgPool) -> Array:
    """How many codes each window's mean is over: one number, or one for each place [*out]."""
    if pool.count_include_pad or not (any(pool.pads_before) or any(pool.pads_after)):
        return np.asarray(math.prod(pool.kernel))
    found: Array = np.ones((), np.int64)
    spatial = list(zip(pool.x.shape[2:], pool.result.shape[2:], strict=True))
    for axis, (extent, places) in enumerate(spatial):
        start = np.arange(int(places)) * pool.strides[axis] - pool.pads_before[axis]
        taps = start[:, None] + np.arange(pool.kernel[axis]) * pool.dilations[axis]
        inside = ((taps >= 0) & (taps < extent)).sum(axis=1)
        found = found[..., None] * inside
    return found


class AverageOfAxes(Average):
    """mean((x - z) s) ==> (sum(x) - n z) s / n   with n codes in a mean"""

    pattern = P(ReduceMean, P(Dequantize, op="decode"))

    def check(self, m: Match) -> str | None:
        mean = m.root
        assert isinstance(mean, ReduceMean)
        size = mean.count()
        if not isinstance(size, int):
            return "a symbolic number of codes"
        if not size or size * 255 * 2 >= OFFSET_LIMIT:
            return "there is nothing to average, or sums may leave 32 bits"
        return self.codes(m)

    def rewrite(self, m: Match, b: Builder) -> Value:
        mean, decode = m.root, m.op("decode")
        scale, zero = number_of(decode.scale), number_of(decode.zero)
        assert isinstance(mean, ReduceMean) and scale is not None and zero is not None
        size = mean.count()
        assert isinstance(size, int)
        total = b.reduce_sum(b.cast(decode.x, to="i32"), axes=mean.reduced_axes(), keepdims=mean.keepdims)
        by = b.constant(np.float32(np.float32(scale) / np.float32(size)))
        point = b.constant(np.asarray(size * int(zero), i32.numpy)) if zero else None
        return b.dequantize(total, by, point)  # type: ignore[no-any-return]
