"""Factorisations of matrices: LU, Cholesky, QR, and the solution of triangular systems.

Each op works on the matrices in the last two axes, one matrix a unit, in double precision, and rounds its
results once.  The conventions are those of LAPACK.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from aino_ir.compute import Nest, TensorRef
from aino_ir.dims import DimLike, dmin, is_static, product
from aino_ir.dtypes import bf16, f16, f32, f64, i64
from aino_ir.infer import InferContext
from aino_ir.loops.expr import Expr, VecType, binary, cast, compare, const, index, select, unary
from aino_ir.nests import loops, unraveled
from aino_ir.op import Op, Sample, bool_attr, operand
from aino_ir.ops.math import Array
from aino_ir.sampling import random_values, seeded
from aino_ir.types import TensorType, Type


def matrices(ic: InferContext, x: TensorType, name: str, square: bool = False) -> None:
    """Demand floats in at least two axes, of equal extent when `square`."""
    if not x.dtype.is_float:
        ic.bad_dtype(f"dtype of {name}", "float", x.dtype)
    if x.rank < 2:
        ic.bad_operand(f"rank of {name}", "at least 2", x.rank)
    if square:
        ic.same(x.shape[-2], x.shape[-1], f"rows and columns of {name}")


class Work:
    """A row-major matrix of doubles in scratch."""

    def __init__(self, b: Any, name: str, rows: DimLike, columns: DimLike) -> None:
        self.b = b
        self.rows = rows
        self.columns = columns
        self.name = b.alloc(name, f64, rows * columns)

    def load(self, i: DimLike, j: DimLike) -> Expr:
        """An element."""
        return self.b.load(self.name, i * self.columns + j)  # type: ignore[no-any-return]

    def store(self, i: DimLike, j: DimLike, value: Expr | float) -> None:
        """Write an element."""
        self.b.store(self.name, i * self.columns + j, value)

    def read(self, source: TensorRef, at: tuple[DimLike, ...]) -> None:
        """Take the matrix of a tensor whose outer coordinates are `at`."""
        with loops(self.b, "r", (self.rows, self.columns)) as (i, j):
            self.store(i, j, cast(source.load((*at, i, j)), f64))

    def write(self, target: TensorRef, at: tuple[DimLike, ...]) -> None:
        """Give the matrix to a tensor."""
        with loops(self.b, "w", (self.rows, self.columns)) as (i, j):
            target.store((*at, i, j), cast(self.load(i, j), target.type.dtype.compute))


def total(b: Any, name: str, lo: DimLike, hi: DimLike, term: Any) -> Any:
    """A register with the sum of term(i) over lo <= i < hi."""
    register = b.reg(name, VecType(f64), 0.0)
    with b.loop("s", lo, hi) as i:
        register_value = register.read() + term(i)
        b.set(register, register_value)
    return register


def is_empty(*extents: DimLike) -> bool:
    """Whether one of several extents is known to be 0."""
    return any(is_static(e) and e == 0 for e in extents)


def random_matrices(rng: np.random.Generator, *shape: int, dtype: Any = f32) -> Array:
    """Matrices that are far from singular."""
    x = random_values(dtype, shape, rng)
    small = min(shape[-2:])
    x[..., range(small), range(small)] += np.asarray(4, x.dtype)
    return x


class LuFactors(Op):
    """packed, rows, singular = LU factors of the matrices in the last two axes of x, by partial pivoting.

    x with its rows exchanged is L U; L (with ones on its diagonal, not stored) stands below the diagonal of
    `packed`, U on and above it.  Step k exchanged rows k and rows[k] (i64).  `singular` (i64) is the number,
    from 1 on, of the first step whose pivot is zero, else 0.
    """

    name = "linalg.lu"
    x = operand()

    def infer(self, ic: InferContext) -> list[Type]:
        x = ic.tensor(self.x, "x")
        matrices(ic, x, "x")
        lead, steps = x.shape[:-2], dmin(x.shape[-2], x.shape[-1])
        return [
            TensorType(x.dtype, x.shape),
            TensorType(i64, (*lead, steps)),
            TensorType(i64, lead),
        ]

    def evaluate(self, ev: Any, x: Array) -> tuple[Array, Array, Array]:
        m, n = x.shape[-2:]
        packed = np.array(x, np.float64).reshape(math.prod(x.shape[:-2]), m, n)
        rows = np.zeros((len(packed), min(m, n)), np.int64)
        singular = np.zeros(len(packed), np.int64)
        for number, a in enumerate(packed):
            for k in range(min(m, n)):
                column = np.abs(a[k:, k])
                rows[number, k] = k + (0 if np.isnan(column[0]) else int(np.nanargmax(column)))
                a[[k, rows[number, k]]] = a[[rows[number, k], k]]
                if a[k, k] == 0:
                    singular[number] = singular[number] or k + 1
                    continue
                with np.errstate(all="ignore"):
                    a[k + 1 :, k] /= a[k, k]
                    a[k + 1 :, k + 1 :] -= np.outer(a[k + 1 :, k], a[k, k + 1 :])
        lead = x.shape[:-2]
        return (
            packed.reshape(x.shape).astype(x.dtype),
            rows.reshape(*lead, min(m, n)),
            singular.reshape(lead),
        )

    def define(self) -> Nest:
        return Nest(self._build, product(self.x.shape[:-2]), key=f"lu {self.x.type}")

    def _build(
        self, b: Any, inputs: tuple[TensorRef, ...], outputs: tuple[TensorRef, ...], unit: DimLike
    ) -> None:
        (source,), (packed, rows, singular) = inputs, outputs
        at, (m, n) = unraveled(self.x.shape[:-2], unit), self.x.shape[-2:]
        first = b.reg("first", VecType(i64), 0)
        if not is_empty(m, n):
            a = Work(b, "work", m, n)
            a.read(source, at)
            with b.loop("k", 0, dmin(m, n)) as k:
                row = self._pivot(b, a, k)
                rows.store((*at, k), index(row))
                with b.when(compare("ne", index(row), index(k))), b.loop("j", 0, n) as j:
                    upper, lower = b.let(a.load(k, j)), b.let(a.load(row, j))
                    a.store(k, j, lower)
                    a.store(row, j, upper)
                pivot = b.let(a.load(k, k))
                with b.when(compare("eq", pivot, 0.0)):
                    b.set(first, select(compare("eq", first.read(), 0), index(k + 1), first.read()))
                with b.otherwise(), b.loop("i", k + 1, m) as i:
                    factor = b.let(a.load(i, k) / pivot)
                    a.store(i, k, factor)
                    with b.loop("j", k + 1, n) as j:
                        a.store(i, j, a.load(i, j) - factor * a.load(k, j))
            a.write(packed, at)
        singular.store(at, first.read())

    @staticmethod
    def _pivot(b: Any, a: Work, k: DimLike) -> DimLike:
        """The row from k on that is largest in column k, the first of equals."""
        largest = b.reg("largest", VecType(f64), unary("abs", a.load(k, k)))
        place = b.reg("place", VecType(i64), index(k))
        with b.loop("i", k + 1, a.rows) as i:
            here = b.let(unary("abs", a.load(i, k)))
            with b.when(compare("gt", here, largest.read())):
                b.set(largest, here)
                b.set(place, index(i))
        return b.index(place.read(), k, a.rows - 1)  # type: ignore[no-any-return]

    def cost(self) -> DimLike:
        return product(self.x.shape) * product(self.x.shape[-1:])

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        rng = seeded(cls.name)
        for shape in ((2, 2), (3, 4, 4), (1, 1), (2, 9, 9), (3, 5), (2, 5, 3), (2, 0, 0), (0, 3, 3), (0, 2)):
            yield Sample((random_values(f32, shape, rng),), {}, f"{list(shape)}")
        for dtype in (f16, bf16, f64):
            yield Sample((random_values(dtype, (2, 3, 3), rng),), {}, f"{dtype}")
        yield Sample((np.eye(5, dtype=np.float32)[[3, 0, 4, 1, 2]],), {}, "a permutation")
        yield Sample((np.ones((3, 3), np.float32),), {}, "singular")


class Cholesky(Op):
    """out, failed = the lower triangular L with L L^T = x, for each symmetric matrix in the last two axes.

    Only the lower triangle of x is read.  `failed` (i64) is the number, from 1 on, of the first row at which
    x is found not to be positive definite, else 0; L is NaN below and at that row's diagonal.
    """

    name = "linalg.cholesky"
    x = operand()

    def infer(self, ic: InferContext) -> list[Type]:
        x = ic.tensor(self.x, "x")
        matrices(ic, x, "x", square=True)
        return [TensorType(x.dtype, x.shape), TensorType(i64, x.shape[:-2])]

    def evaluate(self, ev: Any, x: Array) -> tuple[Array, Array]:
        n = x.shape[-1]
        a = np.asarray(x, np.float64).reshape(math.prod(x.shape[:-2]), n, n)
        out, failed = np.zeros_like(a), np.zeros(len(a), np.int64)
        with np.errstate(all="ignore"):
            for j in range(n):
                row = out[:, j, :j]
                rest = a[:, j, j] - np.sum(row * row, -1)
                bad = ~(rest > 0)
                failed = np.where((failed == 0) & bad, j + 1, failed)
                out[:, j, j] = np.where(bad, np.nan, np.sqrt(np.where(bad, 1, rest)))
                below = a[:, j + 1 :, j] - np.einsum("bik,bk->bi", out[:, j + 1 :, :j], row)
                out[:, j + 1 :, j] = below / out[:, j, j, None]
        return out.reshape(x.shape).astype(x.dtype), failed.reshape(x.shape[:-2])

    def define(self) -> Nest:
        return Nest(self._build, product(self.x.shape[:-2]), key=f"cholesky {self.x.type}")

    def _build(
        self, b: Any, inputs: tuple[TensorRef, ...], outputs: tuple[TensorRef, ...], unit: DimLike
    ) -> None:
        """Column after column (the Cholesky-Crout order)."""
        (source,), (target, failed) = inputs, outputs
        at, n = unraveled(self.x.shape[:-2], unit), self.x.shape[-1]
        first = b.reg("first", VecType(i64), 0)
        if not is_empty(n):
            out = Work(b, "work", n, n)
            with loops(b, "z", (n, n)) as (i, j):
                out.store(i, j, 0.0)
            with b.loop("j", 0, n) as j:
                squares = total(b, "squares", 0, j, lambda k: out.load(j, k) * out.load(j, k))
                rest = b.let(cast(source.load((*at, j, j)), f64) - squares.read())
                good = b.let(compare("gt", rest, 0.0))
                fresh = compare("eq", first.read(), 0) & ~good
                b.set(first, select(fresh, index(j + 1), first.read()))
                root = b.let(select(good, unary("sqrt", rest), const(float("nan"), f64)))
                out.store(j, j, root)
                with b.loop("i", j + 1, n) as i:
                    products = total(b, "products", 0, j, lambda k, i=i: out.load(i, k) * out.load(j, k))
                    out.store(i, j, (cast(source.load((*at, i, j)), f64) - products.read()) / root)
            out.write(target, at)
        failed.store(at, first.read())

    def cost(self) -> DimLike:
        return product(self.x.shape) * product(self.x.shape[-1:])

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        rng = seeded(cls.name)
        for shape in ((2, 2), (3, 4, 4), (1, 1), (2, 9, 9), (2, 0, 0), (0, 3, 3)):
            x = random_values(f32, shape, rng)
            positive = x @ np.swapaxes(x, -1, -2) + 2 * np.eye(shape[-1], dtype=np.float32)
            yield Sample((positive,), {}, f"{list(shape)}")
            if shape == (3, 4, 4):
                for dtype in (f16, bf16, f64):
                    yield Sample((positive.astype(dtype.numpy),), {}, f"{dtype}")
        yield Sample((np.array([[4, 9], [2, 5]], np.float32),), {}, "the upper triangle is not read")
        yield Sample((np.array([[1, 0, 0], [0, -1, 0], [1, 1, 1]], np.float32),), {}, "not positive")


class SolveTriangular(Op):
    """out = the solutions X of A X = x, for the triangular matrices A in the last two axes of a.

    With `upper` the upper triangle of a is read, else the lower one; with `unit` its diagonal is taken to
    be ones.  The outer axes of a and x agree.  A zero on the diagonal gives what division by it gives.
    """

    name = "linalg.solve_triangular"
    a = operand()
    x = operand()
    upper = bool_attr(False)
    unit = bool_attr(False)

    def infer(self, ic: InferContext) -> list[Type]:
        a, x = ic.tensor(self.a, "a"), ic.tensor(self.x, "x")
        matrices(ic, a, "a", square=True)
        matrices(ic, x, "x")
        if a.dtype is not x.dtype:
            ic.bad_dtype("dtype of x", str(a.dtype), x.dtype)
        if a.rank != x.rank:
            ic.bad_operand("rank of x", str(a.rank), x.rank)
        for axis, (theirs, ours) in enumerate(zip(a.shape[:-1], x.shape[:-1], strict=True)):
            ic.same(theirs, ours, f"extents of axis {axis}")
        return [TensorType(x.dtype, x.shape)]

    def evaluate(self, ev: Any, a: Array, x: Array) -> Array:
        n = x.shape[-2]
        matrix, out = a.astype(np.float64), x.astype(np.float64)
        with np.errstate(all="ignore"):
            for row in range(n)[:: -1 if self.upper else 1]:
                known = slice(row + 1, n) if self.upper else slice(0, row)
                shares = matrix[..., row, None, known] @ out[..., known, :]
                out[..., row, :] -= shares[..., 0, :]
                if not self.unit:
                    out[..., row, :] /= matrix[..., row, row, None]
        return np.asarray(out.astype(x.dtype))

    def define(self) -> Nest:
        units = product(self.x.shape[:-2]) * self.x.shape[-1]
        key = f"solve {self.upper} {self.unit} {self.a.type} {self.x.type}"
        return Nest(self._build, units, key=key)

    def _build(
        self, b: Any, inputs: tuple[TensorRef, ...], outputs: tuple[TensorRef, ...], unit: DimLike
    ) -> None:
        """Substitution, one column of one matrix a unit."""
        (matrix, source), (target,) = inputs, outputs
        *lead, n, columns = self.x.shape
        if is_empty(n):
            return
        *at, column = unraveled((*lead, columns), unit)
        known = b.alloc("known", f64, n)
        with b.loop("step", 0, n) as step:
            row = n - 1 - step if self.upper else step
            lo, hi = (row + 1, n) if self.upper else (0, row)
            shares = total(
                b,
                "shares",
                lo,
                hi,
                lambda j: cast(matrix.load((*at, row, j)), f64) * b.load(known, j),
            )
            value = b.let(cast(source.load((*at, row, column)), f64) - shares.read())
            if not self.unit:
                value = b.let(value / cast(matrix.load((*at, row, row)), f64))
            b.store(known, row, value)
            target.store((*at, row, column), cast(value, self.x.dtype.compute))

    def cost(self) -> DimLike:
        return product(self.x.shape) * product(self.x.shape[-2:-1])

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        rng = seeded(cls.name)
        for upper in (False, True):
            for unit in (False, True):
                attrs = {"upper": upper, "unit": unit}
                for shape, columns in (
                    ((3, 3), 2),
                    ((2, 5, 5), 1),
                    ((2, 1, 4, 4), 3),
                    ((2, 0, 0), 2),
                    ((2, 2), 0),
                ):
                    a = random_matrices(rng, *shape)
                    x = random_values(f32, (*shape[:-1], columns), rng)
                    yield Sample((a, x), attrs, f"{list(shape)} {attrs}")
        for dtype in (f16, bf16, f64):
            a = random_matrices(rng, 2, 3, 3, dtype=dtype)
            yield Sample((a, random_values(dtype, (2, 3, 2), rng)), {}, f"{dtype}")


class HouseholderQr(Op):
    """packed, scales = QR factors of the matrices in the last two axes of x, by Householder reflections.

    R stands on and above the diagonal of `packed`.  Reflection k is I - scales[k] v v^T, where v is zero
    above place k, 1 there, and column k of `packed` below it (LAPACK's geqrf).
    """

    name = "linalg.qr"
    x = operand()

    def infer(self, ic: InferContext) -> list[Type]:
        x = ic.tensor(self.x, "x")
        matrices(ic, x, "x")
        steps = dmin(x.shape[-2], x.shape[-1])
        return [TensorType(x.dtype, x.shape), TensorType(x.dtype, (*x.shape[:-2], steps))]

    def evaluate(self, ev: Any, x: Array) -> tuple[Array, Array]:
        m, n = x.shape[-2:]
        steps = min(m, n)
        if not x.size:
            return np.copy(x), np.zeros((*x.shape[:-2], steps), x.dtype)
        packed, scales = np.linalg.qr(x.astype(np.float64), mode="raw")
        return np.ascontiguousarray(np.swapaxes(packed, -1, -2)).astype(x.dtype), scales.astype(x.dtype)

    def define(self) -> Nest:
        return Nest(self._build, product(self.x.shape[:-2]), key=f"qr {self.x.type}")

    def _build(
        self, b: Any, inputs: tuple[TensorRef, ...], outputs: tuple[TensorRef, ...], unit: DimLike
    ) -> None:
        (source,), (packed, scales) = inputs, outputs
        at, (m, n) = unraveled(self.x.shape[:-2], unit), self.x.shape[-2:]
        if is_empty(m, n):
            return
        a = Work(b, "work", m, n)
        a.read(source, at)
        with b.loop("k", 0, dmin(m, n)) as k:
            squares = total(b, "squares", k + 1, m, lambda i: a.load(i, k) * a.load(i, k))
            head = b.let(a.load(k, k))
            length = unary("sqrt", head * head + squares.read())
            beta = b.let(-binary("copysign", length, head))
            there = b.let(compare("ne", squares.read(), 0.0))
            scale = b.let(select(there, (beta - head) / beta, const(0.0, f64)))
            scales.store((*at, k), cast(scale, self.x.dtype.compute))
            with b.when(there):
                with b.loop("i", k + 1, m) as i:
                    a.store(i, k, a.load(i, k) / (head - beta))
                a.store(k, k, beta)
                with b.loop("j", k + 1, n) as j:
                    along = total(b, "along", k + 1, m, lambda i, j=j: a.load(i, k) * a.load(i, j))
                    share = b.let(scale * (along.read() + a.load(k, j)))
                    a.store(k, j, a.load(k, j) - share)
                    with b.loop("i", k + 1, m) as i:
                        a.store(i, j, a.load(i, j) - share * a.load(i, k))
        a.write(packed, at)

    def cost(self) -> DimLike:
        return 2 * product(self.x.shape) * product(self.x.shape[-1:])

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        rng = seeded(cls.name)
        for shape in ((2, 2), (3, 4, 4), (1, 1), (2, 9, 9), (3, 5), (2, 5, 3), (2, 0, 0), (0, 3, 3), (3, 0)):
            yield Sample((random_values(f32, shape, rng),), {}, f"{list(shape)}")
        for dtype in (f16, bf16, f64):
            yield Sample((random_values(dtype, (2, 4, 3), rng),), {}, f"{dtype}")
        yield Sample((np.triu(random_values(f32, (4, 4), rng)),), {}, "triangular already")


class HouseholderProduct(Op):
    """out = the first columns of the product of Householder reflections (see `linalg.qr`), as many as x has.

    Reflections stand in the columns of x below the diagonal, one for each of `scales`.
    """

    name = "linalg.householder_product"
    x = operand()
    scales = operand()

    def infer(self, ic: InferContext) -> list[Type]:
        x, scales = ic.tensor(self.x, "x"), ic.tensor(self.scales, "scales")
        matrices(ic, x, "x")
        if scales.dtype is not x.dtype:
            ic.bad_dtype("dtype of scales", str(x.dtype), scales.dtype)
        if scales.rank != x.rank - 1:
            ic.bad_operand("rank of scales", str(x.rank - 1), scales.rank)
        for axis in range(x.rank - 2):
            ic.same(x.shape[axis], scales.shape[axis], f"extents of axis {axis}")
        ic.at_least(x.shape[-1], scales.shape[-1], "columns of x (there are as many reflections)")
        ic.at_least(x.shape[-2], x.shape[-1], "rows of x (there are as many columns)")
        return [TensorType(x.dtype, x.shape)]

    def evaluate(self, ev: Any, x: Array, scales: Array) -> Array:
        m, n = x.shape[-2:]
        out = np.broadcast_to(np.eye(m, n), x.shape).copy()
        for k in reversed(range(scales.shape[-1])):
            v = np.zeros((*x.shape[:-2], m, 1))
            v[..., k, 0] = 1
            v[..., k + 1 :, 0] = x[..., k + 1 :, k]
            out -= scales[..., k, None, None].astype(np.float64) * v @ (np.swapaxes(v, -1, -2) @ out)
        return np.asarray(out.astype(x.dtype))

    def define(self) -> Nest:
        units = product(self.x.shape[:-2]) * self.x.shape[-1]
        return Nest(self._build, units, key=f"reflections {self.x.type} {self.scales.type}")

    def _build(
        self, b: Any, inputs: tuple[TensorRef, ...], outputs: tuple[TensorRef, ...], unit: DimLike
    ) -> None:
        """All reflections of one column of the identity, the last one first."""
        (source, scales), (target,) = inputs, outputs
        *lead, m, n = self.x.shape
        steps = self.scales.shape[-1]
        *at, column = unraveled((*lead, n), unit)
        line = b.alloc("line", f64, m)
        with b.loop("i", 0, m) as i:
            same = compare("eq", index(i), index(column))
            b.store(line, i, select(same, const(1.0, f64), const(0.0, f64)))
        with b.loop("step", 0, steps) as step:
            k = steps - 1 - step

            def reflector(i: DimLike, k: DimLike = k) -> Expr:
                return cast(source.load((*at, i, k)), f64)

            along = total(b, "along", k + 1, m, lambda i: reflector(i) * b.load(line, i))
            share = b.let(cast(scales.load((*at, k)), f64) * (along.read() + b.load(line, k)))
            b.store(line, k, b.load(line, k) - share)
            with b.loop("i", k + 1, m) as i:
                b.store(line, i, b.load(line, i) - share * reflector(i))
        with b.loop("i", 0, m) as i:
            target.store((*at, i, column), cast(b.load(line, i), self.x.dtype.compute))

    def cost(self) -> DimLike:
        return 2 * product(self.x.shape) * product(self.scales.shape[-1:])

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        rng = seeded(cls.name)
        for shape, steps in (
            ((3, 3), 3),
            ((2, 5, 3), 3),
            ((4, 4), 2),
            ((2, 3, 0), 0),
            ((1, 1), 1),
            ((0, 2, 2), 1),
        ):
            x = random_values(f32, shape, rng)
            yield Sample((x, random_values(f32, (*shape[:-2], steps), rng)), {}, f"{list(shape)}")
        for dtype in (f16, bf16, f64):
            x = random_values(dtype, (2, 4, 3), rng)
            yield Sample((x, random_values(dtype, (2, 3), rng)), {}, f"{dtype}")
