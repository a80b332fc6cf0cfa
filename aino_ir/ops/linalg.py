"""Linear algebra on the last two axes, and the bits of numbers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from aino_ir.compute import Compute, Nest, TensorRef, axes, coordinates, read
from aino_ir.dims import DimLike, is_static, product
from aino_ir.dtypes import bf16, boolean, f16, f32, f64, i32, i64
from aino_ir.graph import Value
from aino_ir.infer import InferContext
from aino_ir.loops.expr import Expr, VecType, bitcast, cast, compare, const, index, select, unary
from aino_ir.nests import loops, unraveled
from aino_ir.op import Op, Sample, dtype_attr, operand
from aino_ir.ops.math import Array
from aino_ir.sampling import edge_values, random_values, seeded
from aino_ir.types import TensorType, Type


class Determinant(Op):
    """out = the determinants of the square matrices in the last two axes of x."""

    name = "nn.determinant"
    x = operand()

    def infer(self, ic: InferContext) -> list[Type]:
        x = square_matrices(ic, self.x)
        return [TensorType(x.dtype, x.shape[:-2])]

    def evaluate(self, ev: Any, x: Array) -> Array:
        return np.asarray(np.linalg.det(x.astype(np.float64))).astype(x.dtype)

    def define(self) -> Nest:
        return Nest(self._build, product(self.x.shape[:-2]), key=f"determinant {self.x.type}")

    def _build(
        self, b: Any, inputs: tuple[TensorRef | None, ...], outputs: tuple[TensorRef, ...], unit: DimLike
    ) -> None:
        """Gaussian elimination in f64 with partial pivoting, one matrix a unit."""
        (source,), (target,) = inputs, outputs
        assert source is not None
        matrix = unraveled(self.x.shape[:-2], unit)
        size = self.x.shape[-1]
        if is_static(size) and size == 0:  # the empty product
            target.store(matrix, const(1.0, self.x.dtype.compute))
            return
        work = b.alloc("work", f64, size * size)
        with loops(b, "i", (size, size)) as (i, j):
            b.store(work, i * size + j, cast(source.load((*matrix, i, j)), f64))
        result = b.reg("result", VecType(f64), 1.0)
        singular = b.reg("singular", VecType(boolean), False)
        with b.loop("k", 0, size) as k:
            row = pivot_row(b, work, size, size, k)
            with b.when(compare("ne", index(row), index(k))):
                exchange(b, work, size, k, row, k)
                b.set(result, -result.read())
            pivot = b.let(b.load(work, k * size + k))
            b.set(result, result.read() * pivot)
            with b.when(compare("eq", pivot, 0.0)):
                b.set(singular, const(True, boolean))
            with b.otherwise():
                self._eliminate(b, work, size, k, pivot)
        value = select(singular.read(), const(0.0, f64), result.read())
        target.store(matrix, cast(value, self.x.dtype.compute))

    @staticmethod
    def _eliminate(b: Any, work: str, size: DimLike, k: DimLike, pivot: Expr) -> None:
        """Subtract multiples of row k from those below, so that column k is zero there."""
        with b.loop("i", k + 1, size) as i:
            factor = b.let(b.load(work, i * size + k) / pivot)
            with b.loop("j", k + 1, size) as j:
                rest = b.load(work, i * size + j) - factor * b.load(work, k * size + j)
                b.store(work, i * size + j, rest)

    def cost(self) -> DimLike:
        return product(self.x.shape) * product(self.x.shape[-1:])

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        rng = seeded(cls.name)
        for shape in ((2, 2), (3, 4, 4), (1, 1), (2, 9, 9), (2, 0, 0), (0, 3, 3)):
            yield Sample((random_values(f32, shape, rng),), {}, f"{list(shape)}")
        for dtype in (f16, bf16, f64):
            yield Sample((random_values(dtype, (2, 3, 3), rng),), {}, f"{dtype}")
        permuted = np.eye(5, dtype=np.float32)[[3, 0, 4, 1, 2]]
        singular = np.arange(9, dtype=np.float32).reshape(3, 3) * [[1], [0], [1]]
        yield Sample((permuted,), {}, "a permutation")
        yield Sample((singular.astype(np.float32),), {}, "singular")


class Inverse(Op):
    """out = the inverses of the square matrices in the last two axes of x; a singular one gives NaN.

    Which matrices count as singular is decided by an exact zero in the elimination (in f64).
    """

    name = "nn.inverse"
    x = operand()

    def infer(self, ic: InferContext) -> list[Type]:
        return [square_matrices(ic, self.x).logical()]

    def evaluate(self, ev: Any, x: Array) -> Array:
        size = x.shape[-1]
        found = [_inverse(m) for m in x.reshape(-1, size, size).astype(np.float64)] if x.size else []
        out: Array = np.asarray(found, np.float64).reshape(x.shape)
        return out.astype(x.dtype)

    def define(self) -> Nest:
        return Nest(self._build, product(self.x.shape[:-2]), key=f"inverse {self.x.type}")

    def _build(
        self, b: Any, inputs: tuple[TensorRef | None, ...], outputs: tuple[TensorRef, ...], unit: DimLike
    ) -> None:
        """Gauss-Jordan elimination in f64 with partial pivoting beside the unit matrix, one matrix a unit."""
        (source,), (target,) = inputs, outputs
        assert source is not None
        matrix, size = unraveled(self.x.shape[:-2], unit), self.x.shape[-1]
        if is_static(size) and size == 0:
            return
        width = 2 * size
        work = b.alloc("work", f64, size * width)
        with loops(b, "i", (size, size)) as (i, j):
            b.store(work, i * width + j, cast(source.load((*matrix, i, j)), f64))
            unit_value = select(compare("eq", index(i), index(j)), const(1.0, f64), const(0.0, f64))
            b.store(work, i * width + size + j, unit_value)
        singular = b.reg("singular", VecType(boolean), False)
        with b.loop("k", 0, size) as k:
            exchange(b, work, width, k, pivot_row(b, work, width, size, k), 0)
            pivot = b.let(b.load(work, k * width + k))
            with b.when(compare("eq", pivot, 0.0)):
                b.set(singular, const(True, boolean))
            with b.otherwise():
                self._clear_column(b, work, size, k, pivot)
        with loops(b, "i", (size, size)) as (i, j):
            value = select(singular.read(), const(float("nan"), f64), b.load(work, i * width + size + j))
            target.store((*matrix, i, j), cast(value, self.x.dtype.compute))

    @staticmethod
    def _clear_column(b: Any, work: str, size: DimLike, k: DimLike, pivot: Expr) -> None:
        """Divide row k by its pivot, and subtract multiples of it from all others."""
        width = 2 * size
        with b.loop("j", 0, width) as j:
            b.store(work, k * width + j, b.load(work, k * width + j) / pivot)
        with b.loop("i", 0, size) as i, b.when(compare("ne", index(i), index(k))):
            factor = b.let(b.load(work, i * width + k))
            with b.loop("j", 0, width) as j:
                rest = b.load(work, i * width + j) - factor * b.load(work, k * width + j)
                b.store(work, i * width + j, rest)

    def cost(self) -> DimLike:
        return product(self.x.shape) * product(self.x.shape[-1:]) * 4

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        rng = seeded(cls.name)
        for dtype, shape in (
            *((f32, shape) for shape in ((2, 2), (3, 4, 4), (1, 1), (2, 9, 9), (2, 0, 0), (0, 3, 3))),
            *((dtype, (2, 3, 3)) for dtype in (f16, bf16, f64)),
        ):
            drawn = random_values(f32, shape, rng) / 4 + 2 * np.eye(shape[-1], dtype=np.float32)
            yield Sample((drawn.astype(dtype.numpy),), {}, f"{dtype}{list(shape)}")
        permuted = np.eye(5, dtype=np.float32)[[3, 0, 4, 1, 2]]
        yield Sample((permuted,), {}, "a permutation")
        yield Sample((np.zeros((2, 3, 3), np.float32) + permuted[0, :3],), {}, "singular: NaN")


def _inverse(matrix: Array) -> Array:
    try:
        return np.asarray(np.linalg.inv(matrix))
    except np.linalg.LinAlgError:
        return np.full_like(matrix, np.nan)


def square_matrices(ic: InferContext, x: Value) -> TensorType:
    """The type of an operand that must hold square matrices of floats in its last two axes."""
    type_ = ic.tensor(x, "x")
    if not type_.dtype.is_float:
        ic.bad_dtype("dtype of x", "float", type_.dtype)
    if type_.rank < 2:
        ic.bad_operand("rank of x", "at least 2", type_.rank)
    ic.same(type_.shape[-2], type_.shape[-1], "rows and columns")
    return type_


def pivot_row(b: Any, work: str, width: DimLike, size: DimLike, k: DimLike) -> DimLike:
    """The row from k on that is largest in column k, the first of equals; rows are `width` apart."""
    largest = b.reg("largest", VecType(f64), unary("abs", b.load(work, k * width + k)))
    place = b.reg("place", VecType(i64), index(k))
    with b.loop("i", k + 1, size) as i:
        here = b.let(unary("abs", b.load(work, i * width + k)))
        with b.when(compare("gt", here, largest.read())):
            b.set(largest, here)
            b.set(place, index(i))
    return b.index(place.read(), k, size - 1)  # type: ignore[no-any-return]


def exchange(b: Any, work: str, width: DimLike, k: DimLike, row: DimLike, start: DimLike) -> None:
    """Exchange two rows from column `start` on."""
    with b.loop("j", start, width) as j:
        upper, lower = b.let(b.load(work, k * width + j)), b.let(b.load(work, row * width + j))
        b.store(work, k * width + j, lower)
        b.store(work, row * width + j, upper)


class Bitcast(Op):
    """out = the bits of x seen as `to`, a dtype of the same width."""

    name = "math.bitcast"
    x = operand()
    to = dtype_attr()

    def infer(self, ic: InferContext) -> list[Type]:
        x = ic.tensor(self.x, "x")
        if self.to.bits != x.dtype.bits:
            ic.bad_attribute("to", f"a dtype of {x.dtype.bits} bits", self.to)
        return [TensorType(self.to, x.shape)]

    def evaluate(self, ev: Any, x: Array) -> Array:
        stored = np.ascontiguousarray(x.astype(self.x.dtype.numpy))
        bits: Array = stored.view(self.to.numpy).reshape(x.shape)
        return bits.astype(self.to.compute.numpy)

    def define(self) -> Compute | None:
        if self.x.dtype.is_storage or self.to.is_storage:
            return None  # the same bytes seen in another way: lowering makes a view of them
        space = axes("i", self.x.shape)
        x = read(self.x, 0, coordinates(space))
        if self.to is self.x.dtype:
            return Compute(space, x)
        as_number = self.to.is_bool or self.x.dtype.is_bool  # in vectors bools are masks: no bits to see
        return Compute(space, cast(x, self.to) if as_number else bitcast(x, self.to))

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield Sample((edge_values(f32),), {"to": "i32"}, "f32 to i32")
        yield Sample((edge_values(i32),), {"to": "f32"}, "i32 to f32")
        flags = random_values(boolean, (70,), seeded(cls.name))
        yield Sample((flags,), {"to": "u8"}, "bool to u8")
        yield Sample((flags.view(np.int8),), {"to": "bool"}, "i8 to bool")
