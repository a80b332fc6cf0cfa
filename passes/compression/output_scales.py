"""Scales of outputs folded into what makes them, so that nothing is divided when a model runs.

A quantised output is round(y / s) + zero.  Where y is a sum of scaled integers, 1 / s can be part of their
scales.  The quotient is then rounded once less or once more, which moves a code by one where it stood
within an ulp of the middle between two: this is part of what quantisation loses, and measured with it.
"""

from __future__ import annotations

import numpy as np

from aino_ir.builder import Builder
from aino_ir.dtypes import f32
from aino_ir.graph import Module, Value
from aino_ir.op import Op
from aino_ir.ops.activation import Relu
from aino_ir.ops.math import Add, Clip
from aino_ir.ops.quant import Dequantize, Quantize
from aino_ir.ops.quant_products import QuantConv, QuantMatMul
from aino_ir.passes.quantization_rules import constants, number
from aino_ir.passes.rules import Rule, RuleTable, apply_rules
from aino_ir.pattern import Match, P, constant_of
from aino_ir.rewriter import Rewriter

CONTRACTIONS = (QuantConv, QuantMatMul)

DEEPEST = 8
"""How many ops a scale moves through."""


class FoldOutputScale(Rule):
    """quantize(y, s, z) ==> quantize(y / s, 1, z)   when only constants change in y / s

    y is made of contractions of integers, decoded integers and constants by sums and activations.
    """

    pattern = P(Quantize, op="op")

    def check(self, m: Match) -> str | None:
        op = m.op("op")
        scale = number(op.scale)
        if scale is None or not np.isfinite(scale) or scale <= 0 or scale == 1:
            return ""
        return None if divides(op.x) else ""

    def looked_at(self, m: Match) -> list[Op]:
        return constants(m.op("op").scale)

    def rewrite(self, m: Match, b: Builder) -> Value:
        op = m.op("op")
        scale = number(op.scale)
        assert scale is not None
        y = divided(b, op.x, np.float32(scale))
        return b.op(Quantize, y, b.constant(np.float32(1)), op.zero, **op.attrs()).result


def divides(value: Value, depth: int = 0) -> bool:
    """Whether a value can be divided by changing constants that nobody else would notice."""
    if value.dtype is not f32 or depth > DEEPEST:
        return False
    if constant_of(value) is not None:
        return True
    op = value.op
    if isinstance(op, Dequantize):
        return constant_of(op.scale) is not None
    if op is None or value.use_count != 1:
        return False
    if isinstance(op, CONTRACTIONS):
        return constant_of(op.scale) is not None
    return isinstance(op, (Add, Relu, Clip)) and all(divides(v, depth + 1) for v in op.present_operands())


def divided(b: Builder, value: Value, by: np.float32) -> Value:
    """value / by, for what `divides`."""
    known = constant_of(value)
    if known is not None:
        return b.constant((known.array().astype(np.float64) / by).astype(np.float32))
    op = value.op
    assert op is not None
    if isinstance(op, Dequantize):
        return b.op(Dequantize, op.x, divided(b, op.scale, by), op.zero).result
    if isinstance(op, CONTRACTIONS):
        operands = [divided(b, op.scale, by) if v is op.scale else v for v in op.operands]
        return b.op(type(op), *operands, **op.attrs()).result
    operands = [divided(b, v, by) for v in op.present_operands()]
    attrs = op.attrs()
    if isinstance(op, Clip):
        attrs = {k: None if bound is None else float(bound) / float(by) for k, bound in attrs.items()}
    return b.op(type(op), *operands, **attrs).result


def fold_output_scales(module: Module) -> None:
    """Rewrite every quantised output of main whose scale can be part of what makes it."""
    apply_rules(module.main, RuleTable((FoldOutputScale(),)), Rewriter(module.main))
