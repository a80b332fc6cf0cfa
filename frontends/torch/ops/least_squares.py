"""Least squares by singular values."""

from __future__ import annotations

from aino_ir.dims import dmin
from aino_ir.dtypes import float_info, i64
from aino_ir.frontends.torch.context import NodeContext, Row
from aino_ir.frontends.torch.ops.factorization import as_column, broadcast, singular_parts
from aino_ir.graph import Value


def least_squares(
    c: NodeContext, x: Value, b: Value, rcond: float | None = None, driver: str | None = None
) -> list[Value | None]:
    """Solutions of least norm, sums of squared residuals, ranks and singular values.

    As with LAPACK's drivers: gels takes the rank for full and says nothing of it, gelsy (the default) says
    the rank, gelsd and gelss also the singular values.  All are computed from those here.
    """
    driver = driver or "gelsy"
    vector = _is_vector(c)
    m, n = x.shape[-2:]
    wide = as_column(c, b) if vector else b
    solution = c.shape_of(0)
    lead = solution[:-1] if vector else solution[:-2]
    dtype = x.dtype
    left, values, right = singular_parts(c, x, False)
    top = c.emit("reduce.max", values, axes=(values.rank - 1,), keepdims=True)
    if rcond is None:
        longest = m + n - c.symbols.simplify(dmin(m, n))
        limit = c.elementwise("mul", c.operand(longest, dtype), float(float_info(dtype).eps), dtype=dtype)
    else:
        limit = c.operand(rcond, dtype)
    lowest = c.scalar(0, dtype) if driver == "gels" else c.emit("mul", limit, top)
    counts = c.emit("gt", values, lowest)
    safe = c.emit("select", counts, values, c.scalar(1, dtype))
    share = c.emit("select", counts, c.emit("reciprocal", safe), c.scalar(0, dtype))
    parts = [broadcast(c, v, lead) for v in (left, as_column(c, share), right)]
    target = broadcast(c, wide, lead)
    along = c.emit("matmul", parts[0], target, transpose_lhs=True)
    y = c.emit("matmul", parts[2], c.emit("mul", parts[1], along), transpose_lhs=True)
    rank = c.emit("reduce.sum", c.cast(counts, i64), axes=(counts.rank - 1,))
    return [
        c.reshape(y, solution),
        _residuals(c, x, y, target, rank, driver) if c.wants(1) else None,
        c.filled((0,), 0, i64) if driver == "gels" else rank,
        values if driver in ("gelsd", "gelss") else c.filled((0,), 0, dtype),
    ]


def _is_vector(c: NodeContext) -> bool:
    """Whether torch takes the right-hand side for a batch of vectors."""
    a, b = (c.node.args[i].meta["val"] for i in (0, 1))  # type: ignore[union-attr]
    return b.dim() == 1 or (a.dim() - 1 == b.dim() and tuple(b.shape) == tuple(a.shape[:-1]))


def _residuals(c: NodeContext, x: Value, y: Value, target: Value, rank: Value, driver: str) -> Value:
    """Sums of squares of what is left, where there are more rows than columns; of gelsy none."""
    shape = c.shape_of(1)
    if c.symbols.prove_ge(x.shape[-1], x.shape[-2]) is True or driver == "gelsy":
        return c.filled((0,), 0, x.dtype)
    if driver != "gels":  # with a lower rank torch gives no residuals: an extent that data decides
        least = c.emit("reduce.min", rank, axes=tuple(range(rank.rank))) if rank.rank else rank
        missing = c.emit("sub", c.operand(x.shape[-1], i64), least)
        c.emit("core.bind", missing, lower=(0,), upper=(0,), what="linalg.lstsq: columns above the rank")
    rest = c.emit("sub", c.emit("matmul", broadcast(c, x, y.shape[:-2]), y), target)
    return c.reshape(c.emit("reduce.sum_square", rest, axes=(rest.rank - 2,)), shape)


TABLE: dict[str, Row] = {"aten.linalg_lstsq": least_squares}
