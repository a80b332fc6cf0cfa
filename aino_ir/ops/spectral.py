"""Eigenvalues of symmetric matrices and singular values, by Jacobi's rotations.

Both work on the matrices in the last two axes, one matrix a unit, in double precision, and round their
results once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from aino_ir.compute import Nest, TensorRef
from aino_ir.dims import DimLike, product
from aino_ir.dtypes import bf16, boolean, f16, f32, f64, i64
from aino_ir.infer import InferContext
from aino_ir.loops.expr import Expr, VecType, cast, compare, const, index, maximum, select, unary
from aino_ir.nests import loops, outranks, unraveled
from aino_ir.op import Op, Sample, bool_attr, operand
from aino_ir.ops.factorization import Work, is_empty, matrices, total
from aino_ir.ops.math import Array
from aino_ir.sampling import random_values, seeded
from aino_ir.types import TensorType, Type

SWEEPS = 60
"""Sweeps over all pairs at most; five to ten are usual."""

SMALL = 1e-15
"""A pair of this relative size needs no rotation."""

TINY = 1e-290
"""Squares and products up to this are zero."""

NEGLIGIBLE = 2.0**-52
"""Singular values up to this, times the number of rows and relative to the largest, are rounding errors:
their columns point nowhere in particular, and not away from the others."""


def rotation(b: Any, apart: Expr, product: Expr) -> tuple[Expr, Expr]:
    """Cosine and sine of the smaller of the angles that make [[0, product], [product, apart]] diagonal."""
    theta = b.let(apart / (product * 2.0))
    size = b.let(unary("abs", theta) + unary("sqrt", theta * theta + 1.0))
    tangent = b.let(select(compare("lt", theta, 0.0), const(-1.0, f64), const(1.0, f64)) / size)
    cosine = b.let(const(1.0, f64) / unary("sqrt", tangent * tangent + 1.0))
    return cosine, b.let(tangent * cosine)


def turn(b: Any, place: Callable[[DimLike], Any], count: DimLike, angle: tuple[Expr, Expr]) -> None:
    """Rotate `count` pairs of elements; place(i) gives how to load and store the two of pair i."""
    cosine, sine = angle
    with b.loop("i", 0, count) as i:
        (load_p, store_p), (load_q, store_q) = place(i)
        x, y = b.let(load_p()), b.let(load_q())
        store_p(cosine * x - sine * y)
        store_q(sine * x + cosine * y)


def column_pair(a: Work, p: DimLike, q: DimLike) -> Callable[[DimLike], Any]:
    """Elements of two columns."""
    return lambda i: (_element(a, i, p), _element(a, i, q))


def row_pair(a: Work, p: DimLike, q: DimLike) -> Callable[[DimLike], Any]:
    """Elements of two rows."""
    return lambda j: (_element(a, p, j), _element(a, q, j))


def _element(a: Work, i: DimLike, j: DimLike) -> tuple[Callable[[], Expr], Callable[[Expr], None]]:
    return lambda: a.load(i, j), lambda value: a.store(i, j, value)


def identity(a: Work) -> None:
    """Make a square matrix the identity."""
    with loops(a.b, "e", (a.rows, a.columns)) as (i, j):
        same = compare("eq", index(i), index(j))
        a.store(i, j, select(same, const(1.0, f64), const(0.0, f64)))


def sign_of_column(b: Any, a: Work, column: DimLike) -> Expr:
    """-1 where the first element of at least half the largest magnitude is negative, else 1."""
    largest = b.reg("largest", VecType(f64), 0.0)
    with b.loop("i", 0, a.rows) as i:
        b.set(largest, maximum(largest.read(), unary("abs", a.load(i, column))))
    sign = b.reg("sign", VecType(f64), 0.0)
    with b.loop("i", 0, a.rows) as i:
        here = b.let(a.load(i, column))
        large = compare("ge", unary("abs", here) * 2.0, largest.read()) & compare("eq", sign.read(), 0.0)
        new = select(compare("lt", here, 0.0), const(-1.0, f64), const(1.0, f64))
        b.set(sign, select(large, new, sign.read()))
    return b.let(select(compare("eq", sign.read(), 0.0), const(1.0, f64), sign.read()))  # type: ignore[no-any-return]


def rank_of(b: Any, keys: str, count: DimLike, i: DimLike, largest: bool) -> DimLike:
    """Where element i stands when keys are put in order; equal ones keep theirs."""
    place = b.reg("place", VecType(i64), 0)
    here = b.let(b.load(keys, i))
    with b.loop("j", 0, count) as j:
        there = b.let(b.load(keys, j))
        equal = ~outranks(there, here, largest) & ~outranks(here, there, largest)
        before = outranks(there, here, largest) | (equal & compare("lt", index(j), index(i)))
        b.set(place, place.read() + select(before, const(1, i64), const(0, i64)))
    return b.index(place.read(), 0, count - 1)  # type: ignore[no-any-return]


def poison_of(b: Any, a: Work) -> Expr:
    """0, or NaN where an element is not finite: added to a result it says that the result means nothing."""
    found = b.reg("poison", VecType(f64), 0.0)
    with loops(b, "c", (a.rows, a.columns)) as (i, j):
        b.set(found, found.read() + a.load(i, j) * 0.0)
    return b.let(found.read())  # type: ignore[no-any-return]


def poisoned(x: Array) -> Array:
    """Which matrices hold something that is not finite."""
    return np.asarray(~np.isfinite(x).all((-2, -1)))


def signed_columns(x: Array) -> Array:
    """Signs that make the first element of at least half the largest magnitude of each column positive."""
    size = np.abs(x)
    first = np.argmax(size * 2 >= size.max(-2, keepdims=True, initial=0), -2)
    found = np.take_along_axis(x, first[..., None, :], -2)
    return np.where(found < 0, -1.0, 1.0)


class SymmetricEigen(Op):
    """values, vectors = eigenvalues, in ascending order, of symmetric matrices, with eigenvectors as columns.

    Only the lower triangle of x is read.  Vectors have length 1, and of each the first element of at least
    half the largest magnitude is positive.  A matrix with NaN or infinities gives NaN.  Cyclic Jacobi (Golub
    and Van Loan, "Matrix Computations", 8.5).
    """

    name = "linalg.eigh"
    x = operand()

    def infer(self, ic: InferContext) -> list[Type]:
        x = ic.tensor(self.x, "x")
        matrices(ic, x, "x", square=True)
        return [TensorType(x.dtype, x.shape[:-1]), TensorType(x.dtype, x.shape)]

    def evaluate(self, ev: Any, x: Array) -> tuple[Array, Array]:
        bad = poisoned(np.tril(x))
        wide = np.where(bad[..., None, None], 0.0, np.nan_to_num(x.astype(np.float64)))
        values, vectors = np.linalg.eigh(wide)
        values, vectors = (
            np.where(bad[..., None], np.nan, values),
            np.where(bad[..., None, None], np.nan, vectors),
        )
        if vectors.size:
            vectors = vectors * signed_columns(vectors)
        return values.astype(x.dtype), vectors.astype(x.dtype)

    def define(self) -> Nest:
        return Nest(self._build, product(self.x.shape[:-2]), key=f"eigh {self.x.type}")

    def _build(
        self, b: Any, inputs: tuple[TensorRef, ...], outputs: tuple[TensorRef, ...], unit: DimLike
    ) -> None:
        (source,), (values, vectors) = inputs, outputs
        at, n = unraveled(self.x.shape[:-2], unit), self.x.shape[-1]
        if is_empty(n):
            return
        a, v = Work(b, "work", n, n), Work(b, "vectors", n, n)
        with b.loop("i", 0, n) as i, b.loop("j", 0, i + 1) as j:
            value = b.let(cast(source.load((*at, i, j)), f64))
            a.store(i, j, value)
            a.store(j, i, value)
        identity(v)
        poison = poison_of(b, a)
        self._sweeps(b, a, v, poison)
        keys = b.alloc("keys", f64, n)
        with b.loop("i", 0, n) as i:
            b.store(keys, i, a.load(i, i))
        dtype = self.x.dtype.compute
        with b.loop("i", 0, n) as i:
            place = rank_of(b, keys, n, i, largest=False)
            values.store((*at, place), cast(b.load(keys, i) + poison, dtype))
            sign = sign_of_column(b, v, i)
            with b.loop("r", 0, n) as r:
                vectors.store((*at, r, place), cast(v.load(r, i) * sign + poison, dtype))

    @staticmethod
    def _sweeps(b: Any, a: Work, v: Work, poison: Expr) -> None:
        """Make a diagonal by rotations, and collect them in v."""
        n = a.rows
        more = b.reg("more", VecType(boolean), compare("eq", poison, 0.0))
        sweep = b.reg("sweep", VecType(i64), 0)
        with b.while_(lambda: more.read() & compare("lt", sweep.read(), SWEEPS)):
            b.set(sweep, sweep.read() + 1)
            b.set(more, const(False, boolean))
            with b.loop("p", 0, n) as p, b.loop("q", p + 1, n) as q:
                off, first, second = b.let(a.load(p, q)), b.let(a.load(p, p)), b.let(a.load(q, q))
                scale = unary("sqrt", unary("abs", first)) * unary("sqrt", unary("abs", second))
                size = b.let(unary("abs", off))
                small = compare("le", size, scale * SMALL) | compare("le", size, TINY)
                with b.when(b.let(~small)):
                    b.set(more, const(True, boolean))
                    angle = rotation(b, second - first, off)
                    turn(b, column_pair(a, p, q), n, angle)
                    turn(b, row_pair(a, p, q), n, angle)
                    turn(b, column_pair(v, p, q), n, angle)

    def cost(self) -> DimLike:
        return 30 * product(self.x.shape) * product(self.x.shape[-1:])

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        rng = seeded(cls.name)
        for shape in ((2, 2), (3, 4, 4), (1, 1), (2, 9, 9), (2, 0, 0), (0, 3, 3)):
            for dtype in (f32, f64, f16, bf16) if shape == (3, 4, 4) else (f32,):
                x = random_values(f64, shape, rng)
                q = np.linalg.qr(x)[0] if x.size else x
                spread = np.arange(shape[-1]) * 1.5 - 2
                x = (q * spread) @ np.swapaxes(q, -1, -2)
                yield Sample((x.astype(dtype.numpy),), {}, f"{dtype} {list(shape)}")
        yield Sample((np.array([[2, 7], [1, 2]], np.float32),), {}, "the upper triangle is not read")
        yield Sample((np.diag(np.array([3, -1, 2], np.float32)),), {}, "diagonal")


class SingularValues(Op):
    """left, values, right = the singular value decomposition of matrices that are no wider than high.

    x = left diag(values) right^T; values are in descending order; columns of left and right have length 1,
    and of each column of right the first element of at least half the largest magnitude is positive.  With
    `full` left is square: the columns behind are orthogonal to the others and else arbitrary, like those of
    singular values that are zero but for rounding.  A matrix with NaN or infinities gives NaN.  One-sided
    Jacobi (Hestenes, 1958).
    """

    name = "linalg.svd"
    x = operand()
    full = bool_attr(False)

    def infer(self, ic: InferContext) -> list[Type]:
        x = ic.tensor(self.x, "x")
        matrices(ic, x, "x")
        *lead, m, n = x.shape
        ic.at_least(m, n, "rows of x (there are as many columns)")
        return [
            TensorType(x.dtype, (*lead, m, m if self.full else n)),
            TensorType(x.dtype, (*lead, n)),
            TensorType(x.dtype, (*lead, n, n)),
        ]

    def evaluate(self, ev: Any, x: Array) -> tuple[Array, Array, Array]:
        n = x.shape[-1]
        bad = poisoned(x)
        wide = np.where(bad[..., None, None], 0.0, np.nan_to_num(x.astype(np.float64)))
        left, values, right = np.linalg.svd(wide, full_matrices=self.full)
        left, right = (np.where(bad[..., None, None], np.nan, m) for m in (left, right))
        values = np.where(bad[..., None], np.nan, values)
        right = np.swapaxes(right, -1, -2)
        if right.size:
            sign = signed_columns(right)
            right = right * sign
            left[..., :n] *= sign
        return left.astype(x.dtype), values.astype(x.dtype), right.astype(x.dtype)

    def define(self) -> Nest:
        return Nest(self._build, product(self.x.shape[:-2]), key=f"svd {self.full} {self.x.type}")

    def _build(
        self, b: Any, inputs: tuple[TensorRef, ...], outputs: tuple[TensorRef, ...], unit: DimLike
    ) -> None:
        (source,), (left, values, right) = inputs, outputs
        at, (m, n) = unraveled(self.x.shape[:-2], unit), self.x.shape[-2:]
        columns = m if self.full else n
        if is_empty(m, columns):
            return
        dtype = self.x.dtype.compute
        u = Work(b, "left", m, columns)
        with loops(b, "z", (m, columns)) as (i, j):
            u.store(i, j, 0.0)
        if not is_empty(n):
            a, v = Work(b, "work", m, n), Work(b, "right", n, n)
            a.read(source, at)
            poison = poison_of(b, a)
            scale = _scaled(b, a)
            identity(v)
            self._sweeps(b, a, v, poison)
            keys = b.alloc("keys", f64, n)
            with b.loop("j", 0, n) as j:
                squares = total(b, "squares", 0, m, lambda i: a.load(i, j) * a.load(i, j))
                b.store(keys, j, unary("sqrt", squares.read()))
            most = b.reg("most", VecType(f64), 0.0)
            with b.loop("j", 0, n) as j:
                b.set(most, maximum(most.read(), b.load(keys, j)))
            nothing = b.let(maximum(most.read() * cast(index(m), f64) * NEGLIGIBLE, const(TINY, f64)))
            with b.loop("j", 0, n) as j:
                place = rank_of(b, keys, n, j, largest=True)
                size = b.let(b.load(keys, j))
                values.store((*at, place), cast(size * scale + poison, dtype))
                sign = sign_of_column(b, v, j)
                with b.loop("r", 0, n) as r:
                    right.store((*at, r, place), cast(v.load(r, j) * sign + poison, dtype))
                with b.when(~compare("le", size, nothing)), b.loop("r", 0, m) as r:
                    u.store(r, place, a.load(r, j) * sign / size)
        _complete(b, u)
        if not is_empty(n):
            with loops(b, "p", (m, columns)) as (i, j):
                u.store(i, j, u.load(i, j) + poison)
        u.write(left, at)

    @staticmethod
    def _sweeps(b: Any, a: Work, v: Work, poison: Expr) -> None:
        """Make the columns of a orthogonal by rotations, and collect them in v."""
        m, n = a.rows, a.columns
        more = b.reg("more", VecType(boolean), compare("eq", poison, 0.0))
        sweep = b.reg("sweep", VecType(i64), 0)
        with b.while_(lambda: more.read() & compare("lt", sweep.read(), SWEEPS)):
            b.set(sweep, sweep.read() + 1)
            b.set(more, const(False, boolean))
            with b.loop("p", 0, n) as p, b.loop("q", p + 1, n) as q:
                one = total(b, "one", 0, m, lambda i, p=p: a.load(i, p) * a.load(i, p))
                two = total(b, "two", 0, m, lambda i, q=q: a.load(i, q) * a.load(i, q))
                both = total(b, "both", 0, m, lambda i, p=p, q=q: a.load(i, p) * a.load(i, q))
                alpha, beta, gamma = b.let(one.read()), b.let(two.read()), b.let(both.read())
                size = b.let(unary("abs", gamma))
                limit = unary("sqrt", alpha) * unary("sqrt", beta) * SMALL
                with b.when(b.let(~(compare("le", size, limit) | compare("le", size, TINY)))):
                    b.set(more, const(True, boolean))
                    angle = rotation(b, beta - alpha, gamma)
                    turn(b, column_pair(a, p, q), m, angle)
                    turn(b, column_pair(v, p, q), n, angle)

    def cost(self) -> DimLike:
        return 40 * product(self.x.shape) * product(self.x.shape[-1:])

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        rng = seeded(cls.name)
        for shape in ((2, 2), (3, 4, 4), (1, 1), (2, 9, 9), (2, 5, 3), (2, 0, 0), (0, 3, 3), (4, 0)):
            for dtype in (f32, f64, f16, bf16) if shape == (2, 5, 3) else (f32,):
                x = random_values(f64, shape, rng)
                left, values, right = np.linalg.svd(x, full_matrices=False)
                x = (left * (np.arange(values.shape[-1])[::-1] * 1.5 + 1)) @ right
                yield Sample((x.astype(dtype.numpy),), {}, f"{dtype} {list(shape)}")
        yield Sample((random_values(f32, (3, 3), rng),), {"full": True}, "square and full")


def _scaled(b: Any, a: Work) -> Expr:
    """Divide a matrix by its largest magnitude (by 1 where that is 0 or not finite); returns that number."""
    largest = b.reg("largest", VecType(f64), 0.0)
    with loops(b, "m", (a.rows, a.columns)) as (i, j):
        b.set(largest, maximum(largest.read(), unary("abs", a.load(i, j))))
    found = b.let(largest.read())
    fine = compare("gt", found, 0.0) & compare("lt", found, float("inf"))
    scale = b.let(select(fine, found, const(1.0, f64)))
    with loops(b, "m", (a.rows, a.columns)) as (i, j):
        a.store(i, j, a.load(i, j) / scale)
    return scale  # type: ignore[no-any-return]


def _complete(b: Any, u: Work) -> None:
    """Put unit vectors that are orthogonal to all others in the place of columns of zeros.

    Of the axes the one that is farthest from the span of the other columns is taken, and made orthogonal to
    them twice (Gram and Schmidt).
    """
    m, columns = u.rows, u.columns
    line = b.alloc("line", f64, m)
    with b.loop("c", 0, columns) as c:
        squares = total(b, "squares", 0, m, lambda i: u.load(i, c) * u.load(i, c))
        with b.when(compare("eq", squares.read(), 0.0)):
            best = b.reg("best", VecType(f64), float("inf"))
            place = b.reg("place", VecType(i64), 0)
            with b.loop("i", 0, m) as i:
                held = total(b, "held", 0, columns, lambda j, i=i: u.load(i, j) * u.load(i, j))
                with b.when(compare("lt", held.read(), best.read())):
                    b.set(best, held.read())
                    b.set(place, index(i))
            axis = b.let(place.read())
            with b.loop("i", 0, m) as i:
                same = compare("eq", index(i), axis)
                b.store(line, i, select(same, const(1.0, f64), const(0.0, f64)))
            for _ in range(2):
                with b.loop("j", 0, columns) as j:
                    along = total(b, "along", 0, m, lambda i, j=j: u.load(i, j) * b.load(line, i))
                    share = b.let(along.read())
                    with b.loop("i", 0, m) as i:
                        b.store(line, i, b.load(line, i) - share * u.load(i, j))
            length = total(b, "length", 0, m, lambda i: b.load(line, i) * b.load(line, i))
            size = b.let(unary("sqrt", length.read()))
            with b.loop("i", 0, m) as i:
                u.store(i, c, b.load(line, i) / size)
