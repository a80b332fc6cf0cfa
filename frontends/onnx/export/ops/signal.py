"""Fourier transforms and random bits."""

from __future__ import annotations

import math
from typing import Any

from aino_ir.dtypes import i64
from aino_ir.frontends.onnx.export.writer import GraphWriter, Ref, Row
from aino_ir.interp import Evaluation, run_op

MOST_BITS = 1 << 20
"""Random numbers that are written as a constant at most."""


def fft(g: GraphWriter, op: Any) -> Ref:
    """DFT has its roots of unity itself, and wants an axis for a batch."""
    x, rank = g.of(op.x), op.x.rank
    alone = g.unsqueeze(x, 0) if rank == 2 else x
    axis = g.scalar(max(rank, 3) - 2, i64)
    y = g.node("DFT", alone, None, axis, inverse=int(op.inverse))
    return g.node("Squeeze", y, g.vector([0])) if rank == 2 else y


def random_bits(g: GraphWriter, op: Any) -> Ref:
    """The bits themselves: they follow from the attributes, and no other engine has this generator."""
    shape = [d for d in op.result.shape if isinstance(d, int)]
    if len(shape) != op.result.rank or math.prod(shape) > MOST_BITS:
        g.refuse("it draws a number of bits that is symbolic or very large")
    env: dict[Any, Any] = {}
    run_op(op, env, Evaluation())
    return g.constant(env[op.result])


TABLE: dict[str, Row] = {"random.bits": random_bits, "signal.fft": fft}
