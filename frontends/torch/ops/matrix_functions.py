"""Functions of matrices."""

from __future__ import annotations

import math

from aino_ir.dims import is_static
from aino_ir.dtypes import f64
from aino_ir.frontends.special import Doubles
from aino_ir.frontends.torch.context import NodeContext, Row
from aino_ir.frontends.torch.ops.factorization import identity
from aino_ir.graph import Value

HALVED_BELOW = 0.5
"""Norm up to which matrices are halved."""
TERMS = 14
"""Terms of the exponential series: from that norm on the rest is below the rounding of doubles."""


def matrix_exponential(c: NodeContext, x: Value) -> Value:
    """exp of matrices in f64: halved until they are small, by the series, and squared as often."""
    if any(is_static(d) and d == 0 for d in x.shape):
        return x
    d = Doubles(c)
    wide = d.value(x)
    columns = d("reduce.sum", d("abs", wide), axes=(x.rank - 2,))
    size = d("reduce.max", columns, axes=(columns.rank - 1,))
    times = d("ceil", d("log2", d("mul", d("max", size, HALVED_BELOW), 1 / HALVED_BELOW)))
    finite = d.select(d("lt", times, math.inf), times, 0.0)
    times = c.reshape(finite, (*finite.shape, 1, 1))
    small = d("mul", wide, d("exp2", d("neg", times)))
    one = c.cast(identity(c, x.shape[-2], x.shape[-1], wide), f64)
    series = d("add", d("mul", small, 1 / TERMS), one)
    for n in range(TERMS - 1, 0, -1):
        series = d("add", d("mul", d("matmul", small, series), 1 / n), one)

    def square(d: Doubles, turn: Value, y: Value, times: Value) -> list[Value]:
        return [d.select(d("lt", turn, times), d("matmul", y, y), y)]

    (y,) = d.repeat(d.largest(finite), [series], [times], square)
    return c.cast(y, c.dtype)


TABLE: dict[str, Row] = {"aten.linalg_matrix_exp": matrix_exponential}
