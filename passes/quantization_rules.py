"""Identities of quantised numbers: what saturation does anyway, and zero points of zero."""

from __future__ import annotations

import numpy as np

from aino_ir.builder import Builder
from aino_ir.dtypes import integer_range
from aino_ir.graph import Value
from aino_ir.op import Op
from aino_ir.ops.activation import Relu
from aino_ir.ops.math import Clip
from aino_ir.ops.quant import Dequantize, Quantize
from aino_ir.passes.rules import Rule
from aino_ir.pattern import Match, P, scalar_of


def number(value: Value | None) -> float | None:
    """The one number that a constant holds, 0 where there is no value, else None."""
    found = 0.0 if value is None else scalar_of(value)
    return None if found is None else float(found)


def constants(*values: Value | None) -> list[Op]:
    """The ops that made values whose content a rule read."""
    return [v.op for v in values if v is not None and v.op is not None]


class DropZeroPoint(Rule):
    """quantize(x, s, 0) ==> quantize(x, s), dequantize(x, s, 0) ==> dequantize(x, s)"""

    pattern = P((Quantize, Dequantize), op="op")

    def check(self, m: Match) -> str | None:
        op = m.op("op")
        zero = op.zero
        if zero is None or zero.type.size != 1 or zero.rank > op.x.rank or number(zero) != 0:
            return ""
        return None

    def looked_at(self, m: Match) -> list[Op]:
        return constants(m.op("op").zero)

    def rewrite(self, m: Match, b: Builder) -> Value:
        op = m.op("op")
        return b.op(type(op), op.x, op.scale, **op.attrs()).result


class SaturateInstead(Rule):
    """quantize(relu(x)) ==> quantize(x), quantize(clip(x, a, b)) ==> quantize(x)

    when the ends of the range saturate: round(a / s) + z <= least code, round(b / s) + z >= largest.
    """

    pattern = P(Quantize, P((Relu, Clip), op="cut"), op="op")

    def check(self, m: Match) -> str | None:
        op, cut = m.op("op"), m.op("cut")
        scale, zero = number(op.scale), number(op.zero)
        if scale is None or zero is None or not np.isfinite(scale) or scale <= 0:
            return ""
        low, high = integer_range(op.to)
        ends = (0.0, None) if isinstance(cut, Relu) else (cut.min, cut.max)
        if ends[0] is not None and code(ends[0], scale, zero) > low:
            return "it cuts off more than saturation does"
        if ends[1] is not None and code(ends[1], scale, zero) < high:
            return "it cuts off more than saturation does"
        return None

    def looked_at(self, m: Match) -> list[Op]:
        return constants(m.op("op").scale, m.op("op").zero)

    def rewrite(self, m: Match, b: Builder) -> Value:
        op = m.op("op")
        return b.op(Quantize, m.op("cut").x, op.scale, op.zero, **op.attrs()).result


def code(x: float, scale: float, zero: float) -> float:
    """round(x / scale) + zero in f32, as `quant.quantize` computes it, before it saturates."""
    with np.errstate(over="ignore"):
        return float(np.rint(np.float32(x) / np.float32(scale)) + np.float32(zero))


QUANTIZATION_RULES: tuple[Rule, ...] = (DropZeroPoint(), SaturateInstead())
