"""Linear algebra: Cholesky and triangular systems, and the LAPACK routines that JAX calls on CPUs.

A routine's name says its precision: ``s`` f32, ``d`` f64; those of complex numbers are refused.  Vectors of
eigenvalues and singular values may differ from LAPACK's by their sign.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from aino_ir.dims import DimLike
from aino_ir.dtypes import i32, i64
from aino_ir.frontends.stablehlo.context import OpContext, Row
from aino_ir.graph import Value


def _letter(c: OpContext, name: str) -> str:
    """A letter of LAPACK among the routine's parameters, such as ``L``."""
    return chr(int(c.attribute("mhlo.backend_config")[name].value))


def _turned(c: OpContext, x: Value) -> Value:
    """The matrices in the last two axes, transposed."""
    return c.emit("transpose", x, perm=[*range(x.rank - 2), x.rank - 1, x.rank - 2])


def _succeeded(c: OpContext, shape: Sequence[DimLike]) -> Value:
    """What a routine says that cannot fail."""
    return c.filled(shape, 0, i32)


def factor(c: OpContext, x: Value, lower: bool) -> tuple[Value, Value]:
    """(Cholesky factor of one triangle, the first row where there is none, else 0)."""
    made, failed = c.emit_all("linalg.cholesky", x if lower else _turned(c, x))
    return made if lower else _turned(c, made), failed


def cholesky(c: OpContext, x: Value) -> Value:
    """The lower (upper) triangular factor."""
    return factor(c, x, bool(c.integer("lower")))[0]


def potrf(c: OpContext, x: Value) -> Sequence[Value]:
    """The factor and whether there is one."""
    made, failed = factor(c, x, _letter(c, "uplo") == "L")
    return made, c.cast(failed, i32)


def solve(c: OpContext, a: Value, b: Value, left: bool, lower: bool, turned: bool, unit: bool) -> Value:
    """X of A X = B or, from the right, of X A = B, with a triangular A that may be transposed."""
    upper = not lower
    if turned:
        a, upper = _turned(c, a), not upper
    if left:
        return c.emit("linalg.solve_triangular", a, b, upper=upper, unit=unit)
    flipped = c.emit("linalg.solve_triangular", _turned(c, a), _turned(c, b), upper=not upper, unit=unit)
    return _turned(c, flipped)


def triangular_solve(c: OpContext, a: Value, b: Value) -> Value:
    """A triangular system."""
    turned = c.word("transpose_a") in ("TRANSPOSE", "ADJOINT")
    left, lower, unit = (bool(c.integer(n)) for n in ("left_side", "lower", "unit_diagonal"))
    return solve(c, a, b, left, lower, turned, unit)


def trsm(c: OpContext, a: Value, b: Value) -> Value:
    """A triangular system."""
    left, lower, unit = (_letter(c, n) == yes for n, yes in (("side", "L"), ("uplo", "L"), ("diag", "U")))
    return solve(c, a, b, left, lower, _letter(c, "trans_x") != "N", unit)


def getrf(c: OpContext, x: Value) -> Sequence[Value]:
    """LU factors in one matrix, the row that each changed places with (from 1 on), the first zero pivot."""
    packed, rows, singular = c.emit_all("linalg.lu", x)
    return packed, c.cast(c.emit("add", rows, c.scalar(1, i64)), i32), c.cast(singular, i32)


def geqrf(c: OpContext, x: Value) -> Sequence[Value]:
    """R above, Householder vectors below the diagonal, and their scales."""
    return c.emit_all("linalg.qr", x)


def orgqr(c: OpContext, x: Value, scales: Value) -> Value:
    """The product of Householder reflections."""
    return c.emit("linalg.householder_product", x, scales)


def syevd(c: OpContext, x: Value) -> Sequence[Value]:
    """Eigenvectors, eigenvalues in ascending order."""
    values, vectors = c.emit_all("linalg.eigh", x if _letter(c, "uplo") == "L" else _turned(c, x))
    return vectors, values, _succeeded(c, x.shape[:-2])


def gesdd(c: OpContext, x: Value) -> Sequence[Value]:
    """(x, singular values, U, V transposed, success); without vectors where none are asked for."""
    full, tall = _letter(c, "mode") == "A", int(x.shape[-2]) >= int(x.shape[-1])
    left, values, right = c.emit_all("linalg.svd", x if tall else _turned(c, x), full=full)
    u, vt = (left, _turned(c, right)) if tall else (right, _turned(c, left))
    shapes = [c.result_type(n).shape for n in (2, 3)]
    vectors = [
        v if v.shape == shape else c.filled(shape, 0, x.dtype)
        for v, shape in zip((u, vt), shapes, strict=True)
    ]
    return x, values, *vectors, _succeeded(c, x.shape[:-2])


ROUTINES: dict[str, Callable[..., Any]] = {
    "geqrf": geqrf,
    "gesdd": gesdd,
    "getrf": getrf,
    "orgqr": orgqr,
    "potrf": potrf,
    "syevd": syevd,
    "trsm": trsm,
}
"""LAPACK's names without the letter of their precision."""

ROWS: dict[str, Row] = {
    "stablehlo.cholesky": cholesky,
    "stablehlo.triangular_solve": triangular_solve,
    **{f"call lapack_{p}{name}_ffi": row for name, row in ROUTINES.items() for p in "sd"},
}
