"""Linear algebra by factorisations: LU, Cholesky, QR, eigenvalues and singular values.

PyTorch numbers the rows that LU exchanges from 1 on, in i32, and takes the determinant of the transpose of
an operand that is dense in row-major order (the factors serve gradients, so they are the same here).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aino_ir.dims import DimLike, dmin
from aino_ir.dtypes import float_info, i32, i64
from aino_ir.frontends.torch.context import NodeContext, Operand, Row
from aino_ir.frontends.torch.ops.reduction import is_empty
from aino_ir.graph import Value
from aino_ir.types import TensorType


def flipped(c: NodeContext, x: Value) -> Value:
    """The matrices in the last two axes, transposed."""
    lead = range(x.rank - 2)
    return c.transposed(x, (*lead, x.rank - 1, x.rank - 2))


def broadcast(c: NodeContext, x: Value, lead: Sequence[DimLike]) -> Value:
    """Matrices for every place of some outer axes."""
    shape = (*lead, *x.shape[-2:])
    return x if shape == x.shape else c.emit("expand", x, shape=shape)


def as_column(c: NodeContext, x: Value) -> Value:
    """Vectors as matrices of one column."""
    return c.reshape(x, (*x.shape, 1))


def identity(c: NodeContext, rows: DimLike, columns: DimLike, like: Value) -> Value:
    """Ones on the diagonal of a matrix, in the dtype of another value."""
    return c.cast(c.emit("eq", c.positions(rows, 2, 0), c.positions(columns, 2, 1)), like.dtype)


def triangle(c: NodeContext, x: Value, upper: bool, diagonal: bool = True) -> Value:
    """The upper or lower triangles of matrices, with or without their diagonals."""
    rows, columns = c.positions(x.shape[-2], 2, 0), c.positions(x.shape[-1], 2, 1)
    test = ("le" if upper else "ge") if diagonal else ("lt" if upper else "gt")
    return c.emit("select", c.emit(test, rows, columns), x, c.scalar(0, x.dtype))


def solved(c: NodeContext, a: Value, x: Value, upper: bool, unit: bool = False) -> Value:
    """The solutions of triangular systems."""
    return c.emit("linalg.solve_triangular", a, x, upper=upper, unit=unit)


def failure(c: NodeContext, failed: Value, index: int) -> Value:
    """What a factorisation says of its success, in the dtype that torch says."""
    return c.cast(failed, c.dtype_of(index))


# -- LU -----------------------------------------------------------------------------------------------


def order_of_rows(c: NodeContext, exchanged: Value, rows: DimLike) -> Value:
    """Which row stands at each place when row k and row exchanged[k] have changed places for k = 0, 1, ..."""
    lead = exchanged.shape[:-1]
    shape = (*lead, rows)
    axis = len(lead)
    start = c.emit("expand", c.positions(rows, axis + 1, axis), shape=shape)
    if is_empty(start) or is_empty(exchanged):
        return start
    steps = c.transposed(exchanged, (axis, *range(axis)))
    numbers = c.emit("index.range", start=0, size=steps.shape[0], step=1, dtype=i64)
    line = c.positions(rows, axis + 1, axis)

    def body(b: Any, order: Value, number: Value, other: Value, line: Value) -> list[Value]:
        place = b.reshape(other, shape=(*lead, 1))
        here = b.eq(line, number)
        there = b.eq(line, place)
        at_place = b.gather_elements(order, place, axis=axis)
        at_number = b.gather_elements(order, b.expand(number, shape=(*lead, 1)), axis=axis)
        return [b.select(here, at_place, b.select(there, at_number, order))]

    types = [start.type, TensorType(i64, ()), TensorType(i64, lead), line.type]
    region = c.b.region(types, body)
    return c.emit_all("control.scan", start, numbers, steps, line, states=1, sequences=2, regions=[region])[0]


def taken_rows(c: NodeContext, x: Value, order: Value) -> Value:
    """Rows of matrices in another order."""
    if is_empty(x):
        return x
    places = c.emit("expand", as_column(c, order), shape=(*order.shape, x.shape[-1]))
    return c.emit("gather_elements", x, places, axis=x.rank - 2)


def placed(c: NodeContext, order: Value) -> Value:
    """The order that undoes another one."""
    if is_empty(order):
        return order
    axis = order.rank - 1
    return c.emit_all("top_k", order, k=order.shape[-1], axis=axis, largest=False)[1]


class Lu:
    """LU factors of matrices and what is made of them.

    Attributes:
        packed: both factors, L below the diagonal.
        exchanged: the row that each row changed places with, from 0 on.
        failed: the first step, from 1 on, whose pivot is zero, else 0.
    """

    def __init__(self, c: NodeContext, x: Value) -> None:
        self.c = c
        self.packed, self.exchanged, self.failed = c.emit_all("linalg.lu", x)

    @property
    def pivots(self) -> Value:
        """The exchanged rows as torch numbers them."""
        c = self.c
        return c.cast(c.emit("add", self.exchanged, c.scalar(1, i64)), i32)

    def diagonal(self) -> Value:
        """The diagonal of U [..., n, n] with ones elsewhere along each row, as a vector: [..., n]."""
        return diagonal_of(self.c, self.packed)

    def odd(self) -> Value:
        """-1 for an odd number of exchanges, else 1."""
        c, dtype = self.c, self.packed.dtype
        count = self.exchanged.shape[-1]
        moved = c.emit("ne", self.exchanged, c.positions(count, self.exchanged.rank, self.exchanged.rank - 1))
        signs = c.emit("select", moved, c.scalar(-1, dtype), c.scalar(1, dtype))
        return c.emit("reduce.prod", signs, axes=(signs.rank - 1,))

    def solve(self, x: Value, adjoint: bool = False) -> Value:
        """The solutions Y of A Y = x, or of A^T Y = x."""
        order = order_of_rows(self.c, self.exchanged, self.packed.shape[-2])
        return lu_solved(self.c, self.packed, order, x, adjoint)


def diagonal_of(c: NodeContext, x: Value) -> Value:
    """The diagonals of square matrices."""
    rows, columns = c.positions(x.shape[-2], 2, 0), c.positions(x.shape[-1], 2, 1)
    alone = c.emit("select", c.emit("eq", rows, columns), x, c.scalar(0, x.dtype))
    return c.emit("reduce.sum", alone, axes=(x.rank - 1,))


def lu_solved(c: NodeContext, packed: Value, order: Value, x: Value, adjoint: bool) -> Value:
    """Solutions from LU factors and the order of rows."""
    if adjoint:
        y = solved(c, flipped(c, packed), x, upper=False)
        y = solved(c, flipped(c, packed), y, upper=True, unit=True)
        return taken_rows(c, y, placed(c, order))
    y = solved(c, packed, taken_rows(c, x, order), upper=False, unit=True)
    return solved(c, packed, y, upper=True)


def factors_of_determinant(c: NodeContext, a: Value) -> Lu:
    """LU factors as torch makes them for a determinant: those of the transpose of a dense operand."""
    meta = c.node.args[0].meta["val"]  # type: ignore[union-attr]
    return Lu(c, flipped(c, a) if meta.is_contiguous() else a)


def lu_factor(c: NodeContext, A: Value, pivot: bool = True, check_errors: bool = False) -> list[Value]:
    """LU factors in one matrix, the exchanged rows, and the first zero pivot."""
    _require_pivots(c, pivot)
    lu = Lu(c, A)
    if check_errors:
        require_success(c, lu.failed, "linalg.lu_factor_ex")
    return [lu.packed, lu.pivots, failure(c, lu.failed, 2)]


def _require_pivots(c: NodeContext, pivot: bool) -> None:
    if not pivot:
        c.unsupported("LU without exchanges of rows")


def unpacked(c: NodeContext, packed: Value) -> tuple[Value, Value]:
    """L and U of factors in one matrix."""
    m, n = packed.shape[-2:]
    steps = dmin(m, n)
    lower = c.cut(packed, packed.rank - 1, 0, steps)
    ones = identity(c, m, steps, packed)
    low = c.emit("add", triangle(c, lower, upper=False, diagonal=False), ones)
    return low, triangle(c, c.cut(packed, packed.rank - 2, 0, steps), upper=True)


def permutation(c: NodeContext, order: Value, like: Value) -> Value:
    """The matrix that puts rows back where they came from."""
    rows = order.shape[-1]
    rank = order.rank + 1
    wanted = c.reshape(order, (*order.shape[:-1], 1, rows))
    return c.cast(c.emit("eq", c.positions(rows, rank, rank - 2), wanted), like.dtype)


def lu_full(c: NodeContext, A: Value, pivot: bool = True) -> list[Value]:
    """The matrices P, L and U whose product is the operand."""
    _require_pivots(c, pivot)
    lu = Lu(c, A)
    low, up = unpacked(c, lu.packed)
    return [permutation(c, order_of_rows(c, lu.exchanged, A.shape[-2]), A), low, up]


def lu_unpack(
    c: NodeContext, LU_data: Value, LU_pivots: Value, unpack_data: bool = True, unpack_pivots: bool = True
) -> list[Value]:
    """P, L and U from factors in one matrix; what is not asked for is empty."""
    low, up = unpacked(c, LU_data) if unpack_data else (c.filled((0,), 0, LU_data.dtype),) * 2
    if not unpack_pivots:
        return [c.filled((0,), 0, LU_data.dtype), low, up]
    order = order_of_rows(c, exchanges(c, LU_pivots), LU_data.shape[-2])
    return [permutation(c, order, LU_data), low, up]


def exchanges(c: NodeContext, pivots: Value) -> Value:
    """torch's exchanged rows, from 0 on."""
    return c.emit("sub", c.cast(pivots, i64), c.scalar(1, i64))


def lu_solve(
    c: NodeContext, LU: Value, pivots: Value, B: Value, left: bool = True, adjoint: bool = False
) -> Value:
    """Solutions of A X = B (of X A = B when not `left`) from LU factors."""
    right = B if left else flipped(c, B)
    lead = c.shape[:-2]
    packed, wide = broadcast(c, LU, lead), broadcast(c, right, lead)
    order = order_of_rows(c, exchanges(c, pivots), LU.shape[-2])
    if tuple(lead) != order.shape[:-1]:
        order = c.emit("expand", order, shape=(*lead, order.shape[-1]))
    y = lu_solved(c, packed, order, wide, adjoint == left)
    return y if left else flipped(c, y)


def determinant(c: NodeContext, A: Value) -> list[Value]:
    """The product of the pivots, signed by the exchanges; and the factors."""
    lu = factors_of_determinant(c, A)
    product = c.emit("reduce.prod", lu.diagonal(), axes=(A.rank - 2,))
    return [c.emit("mul", product, lu.odd()), lu.packed, lu.pivots]


def log_determinant(c: NodeContext, A: Value) -> list[Value]:
    """Sign and logarithm of the magnitude of the determinant; and the factors."""
    lu = factors_of_determinant(c, A)
    diagonal = lu.diagonal()
    sign = c.emit("reduce.prod", c.emit("sign", diagonal), axes=(A.rank - 2,))
    logs = c.emit("reduce.sum", c.emit("log", c.emit("abs", diagonal)), axes=(A.rank - 2,))
    return [c.emit("mul", sign, lu.odd()), logs, lu.packed, lu.pivots]


def inverse(c: NodeContext, A: Value, check_errors: bool = False) -> list[Value]:
    """The inverse, and whether there is one."""
    lu = Lu(c, A)
    if check_errors:
        require_success(c, lu.failed, "linalg.inv_ex")
    ones = broadcast(c, identity(c, A.shape[-1], A.shape[-1], A), A.shape[:-2])
    return [lu.solve(ones), failure(c, lu.failed, 1)]


def solve(c: NodeContext, A: Value, B: Value, left: bool = True, check_errors: bool = False) -> list[Value]:
    """Solutions of A X = B (of X A = B when not `left`); and the factors."""
    lu = Lu(c, A)
    if check_errors:
        require_success(c, lu.failed, "linalg.solve_ex")
    vector = B.rank == 1 or _is_vector(c)
    wide = as_column(c, B) if vector else B
    wide = wide if left else flipped(c, wide)
    lead = c.shape[:-1] if vector else c.shape[:-2]
    packed = broadcast(c, lu.packed, lead)
    order = order_of_rows(c, lu.exchanged, A.shape[-1])
    if tuple(lead) != order.shape[:-1]:
        order = c.emit("expand", order, shape=(*lead, order.shape[-1]))
    y = lu_solved(c, packed, order, broadcast(c, wide, lead), adjoint=not left)
    y = y if left else flipped(c, y)
    y = c.reshape(y, y.shape[:-1]) if vector else y
    return [y, lu.packed, lu.pivots, failure(c, lu.failed, 3)]


def _is_vector(c: NodeContext) -> bool:
    """Whether torch takes a right-hand side for a batch of vectors."""
    a, b = (c.node.args[i].meta["val"] for i in (0, 1))  # type: ignore[union-attr]
    return tuple(b.shape) == tuple(a.shape[:-1])


# -- triangular systems and Cholesky ------------------------------------------------------------------


def solve_triangular(
    c: NodeContext, x: Value, B: Value, upper: bool, left: bool = True, unitriangular: bool = False
) -> Value:
    """Solutions X of x X = B, or of X x = B when not `left`."""
    lead = c.shape[:-2]
    a, wide = broadcast(c, x, lead), broadcast(c, B, lead)
    if left:
        return solved(c, a, wide, upper, unitriangular)
    return flipped(c, solved(c, flipped(c, a), flipped(c, wide), not upper, unitriangular))


def triangular_solve(
    c: NodeContext,
    x: Value,
    A: Value,
    upper: bool = True,
    transpose: bool = False,
    unitriangular: bool = False,
) -> list[Value]:
    """Solutions of A X = x (of A^T X = x with `transpose`), and A."""
    lead = c.shape[:-2]
    a, wide = broadcast(c, A, lead), broadcast(c, x, lead)
    turned = flipped(c, a) if transpose else a
    return [solved(c, turned, wide, upper != transpose, unitriangular), a]


def cholesky_checked(c: NodeContext, x: Value, upper: bool = False) -> Value:
    """The Cholesky factor of a positive definite matrix."""
    factor, failed = c.emit_all("linalg.cholesky", flipped(c, x) if upper else x)
    require_success(c, failed, "cholesky")
    return flipped(c, factor) if upper else factor


def cholesky(c: NodeContext, x: Value, upper: bool = False, check_errors: bool = False) -> list[Value]:
    """The Cholesky factor, and the first row at which there is none."""
    factor, failed = c.emit_all("linalg.cholesky", flipped(c, x) if upper else x)
    if check_errors:
        require_success(c, failed, "linalg.cholesky_ex")
    return [flipped(c, factor) if upper else factor, failure(c, failed, 1)]


def from_cholesky(c: NodeContext, factor: Value, x: Value, upper: bool) -> Value:
    """Solutions of A X = x for A = L L^T (U^T U when `upper`)."""
    low = flipped(c, factor) if upper else factor
    return solved(c, flipped(c, low), solved(c, low, x, upper=False), upper=True)


def cholesky_inverse(c: NodeContext, x: Value, upper: bool = False) -> Value:
    """The inverse of the matrix whose Cholesky factor is given."""
    ones = broadcast(c, identity(c, x.shape[-1], x.shape[-1], x), x.shape[:-2])
    return from_cholesky(c, x, ones, upper)


def cholesky_solve(c: NodeContext, x: Value, input2: Value, upper: bool = False) -> Value:
    """Solutions for the matrix whose Cholesky factor is given."""
    lead = c.shape[:-2]
    return from_cholesky(c, broadcast(c, input2, lead), broadcast(c, x, lead), upper)


# -- QR -----------------------------------------------------------------------------------------------


def qr(c: NodeContext, A: Value, mode: str = "reduced") -> list[Value]:
    """Q and R; Q is square in mode "complete" and empty in mode "r"."""
    packed, scales = c.emit_all("linalg.qr", A)
    steps = scales.shape[-1]
    rows = A.shape[-2] if mode == "complete" else steps
    r = triangle(c, c.cut(packed, packed.rank - 2, 0, rows), upper=True)
    if mode == "r":
        return [c.filled((0,), 0, A.dtype), r]
    return [c.emit("linalg.householder_product", columns(c, packed, rows), scales), r]


def columns(c: NodeContext, packed: Value, count: DimLike) -> Value:
    """Reflections in a matrix of `count` columns, at least as many as there are reflections."""
    have = packed.shape[-1]
    missing = c.symbols.simplify(count - have)
    if c.symbols.prove_ge(0, missing) is True:
        return c.cut(packed, packed.rank - 1, 0, count)
    if c.symbols.prove_ge(missing, 0) is not True:
        c.unsupported("matrices of which it is open whether they are tall")
    before = [0] * packed.rank
    return c.emit("pad", packed, before=before, after=[*before[:-1], missing])


def householder_qr(c: NodeContext, x: Value) -> list[Value]:
    """Reflections and R in one matrix, and the reflections' scales."""
    return list(c.emit_all("linalg.qr", x))


def householder_product(
    c: NodeContext, x: Value, tau: Value | None = None, input2: Value | None = None
) -> Value:
    """The first columns of a product of reflections."""
    scales = tau if tau is not None else input2
    assert scales is not None
    return c.emit("linalg.householder_product", x, scales)


def times_reflections(
    c: NodeContext, x: Value, input2: Value, input3: Value, left: bool = True, transpose: bool = False
) -> Value:
    """A matrix times the whole product of reflections, from the left or from the right."""
    q = c.emit("linalg.householder_product", columns(c, x, x.shape[-2]), input2)
    if left:
        return c.emit("matmul", q, input3, transpose_lhs=transpose)
    return c.emit("matmul", input3, q, transpose_rhs=transpose)


# -- eigenvalues and singular values ------------------------------------------------------------------


def symmetric_eigen(c: NodeContext, A: Value, UPLO: str = "L", compute_v: bool = True) -> list[Value]:
    """Eigenvalues in ascending order and eigenvectors of symmetric matrices."""
    values, vectors = c.emit_all("linalg.eigh", flipped(c, A) if UPLO.upper() == "U" else A)
    return [values, vectors if compute_v else c.filled((0,), 0, A.dtype)]


def singular_parts(c: NodeContext, x: Value, full: bool) -> tuple[Value, Value, Value]:
    """U, S and V^T of matrices of any shape."""
    m, n = x.shape[-2:]
    tall = c.symbols.prove_ge(m, n)
    if tall is None:
        c.unsupported("matrices of which it is open whether they are tall")
    left, values, right = c.emit_all("linalg.svd", x if tall else flipped(c, x), full=full)
    if tall:
        return left, values, flipped(c, right)
    return right, values, flipped(c, left)


def singular_values(
    c: NodeContext, A: Value, full_matrices: bool = False, compute_uv: bool = True, driver: str | None = None
) -> list[Value]:
    """Singular values in descending order, and the two orthogonal matrices."""
    left, values, right = singular_parts(c, A, full_matrices and compute_uv)
    if compute_uv:
        return [left, values, right]
    empty = c.filled((0,), 0, A.dtype)
    return [empty, values, empty]


def pseudo_inverse(
    c: NodeContext,
    x: Value,
    atol: Operand | None = None,
    rtol: Operand | None = None,
    hermitian: bool = False,
) -> Value:
    """The pseudo-inverse; singular values up to max(atol, rtol * the largest) count as zero."""
    dtype = x.dtype
    if hermitian:
        signed, vectors = c.emit_all("linalg.eigh", x)
        values = c.emit("abs", signed)
        sign = c.emit("sign", signed)
        left, right = c.emit("mul", vectors, c.reshape(sign, (*sign.shape[:-1], 1, sign.shape[-1]))), vectors
    else:
        left, values, turned = singular_parts(c, x, False)
        right = flipped(c, turned)
    if rtol is None and (atol is None or not isinstance(atol, Value)) and not atol:
        low = c.symbols.simplify(dmin(x.shape[-2], x.shape[-1]))
        longest = x.shape[-2] + x.shape[-1] - low
        rtol = c.elementwise("mul", c.operand(longest, dtype), float(float_info(dtype).eps), dtype=dtype)
    limits = [_limit(c, atol, values), _limit(c, rtol, values)]
    top = c.emit("reduce.max", values, axes=(values.rank - 1,), keepdims=True)
    limit = c.emit("max", limits[0], c.emit("mul", limits[1], top))
    counts = c.emit("gt", values, limit)
    safe = c.emit("select", counts, values, c.scalar(1, dtype))
    share = c.emit("select", counts, c.emit("reciprocal", safe), c.scalar(0, dtype))
    scaled = c.emit("mul", right, c.reshape(share, (*share.shape[:-1], 1, share.shape[-1])))
    return c.emit("matmul", scaled, left, transpose_rhs=True)


def _limit(c: NodeContext, given: Operand | None, values: Value) -> Value:
    """A tolerance as a value that broadcasts with singular values."""
    limit = c.operand(0 if given is None else given, values.dtype)
    return limit if limit.rank == 0 else as_column(c, limit)


# -- what failed --------------------------------------------------------------------------------------


def require_success(c: NodeContext, failed: Value, what: str) -> None:
    """Demand when the module runs that no factorisation of a batch failed."""
    place = c.emit("reduce.sum", c.cast(failed, i64), axes=tuple(range(failed.rank)))
    c.emit("core.bind", place, lower=(0,), upper=(0,), what=f"{what}: the place of the failure")


def check_errors(c: NodeContext, info: Value, api_name: str, is_matrix: bool) -> list[Value]:
    """Demand that a factorisation has succeeded."""
    require_success(c, info, api_name)
    return []


TABLE: dict[str, Row] = {
    "aten._linalg_check_errors": check_errors,
    "aten._linalg_det": determinant,
    "aten._linalg_eigh": symmetric_eigen,
    "aten._linalg_slogdet": log_determinant,
    "aten._linalg_solve_ex": solve,
    "aten._linalg_svd": singular_values,
    "aten.cholesky": cholesky_checked,
    "aten.cholesky_inverse": cholesky_inverse,
    "aten.cholesky_solve": cholesky_solve,
    "aten.geqrf": householder_qr,
    "aten.linalg_cholesky_ex": cholesky,
    "aten.linalg_householder_product": householder_product,
    "aten.linalg_inv_ex": inverse,
    "aten.linalg_lu": lu_full,
    "aten.linalg_lu_factor_ex": lu_factor,
    "aten.linalg_lu_solve": lu_solve,
    "aten.linalg_pinv.atol_rtol_tensor": pseudo_inverse,
    "aten.linalg_qr": qr,
    "aten.linalg_solve_triangular": solve_triangular,
    "aten.lu_unpack": lu_unpack,
    "aten.orgqr": householder_product,
    "aten.ormqr": times_reflections,
    "aten.triangular_solve": triangular_solve,
}
