"""Ops that decide extents of their results: what is not zero, what a condition keeps, what is distinct."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from aino_ir.compute import Compute, Nest, Phases, Stage, TensorRef, axes, coordinates, read
from aino_ir.dims import DimLike, ceildiv, dmin, is_static, product
from aino_ir.dtypes import DTYPES, boolean, f32, i64
from aino_ir.graph import Value
from aino_ir.infer import InferContext
from aino_ir.loops.expr import Expr, Read, VecType, cast, compare, const, index, select
from aino_ir.nests import Line, add_up, merge_sort, outranks
from aino_ir.op import Op, Sample, Trait, bool_attr, int_attr, operand
from aino_ir.ops.math import Array
from aino_ir.ops.tensor import unflatten
from aino_ir.sampling import accepted_dtypes, random_values, seeded
from aino_ir.types import TensorType, Type

CHUNK = 4096
"""Elements that one unit looks at: enough to be worth a thread, few enough to share a vector among some."""

Tensors = tuple[TensorRef, ...]
Keep = Callable[[Any, Tensors, DimLike], Expr]
"""(builder, inputs, position) -> whether the position is kept."""


@dataclass(frozen=True)
class Compaction:
    """The positions in 0..total-1 that a condition keeps, in order, found and numbered in parallel.

    Chunks of positions are counted, one kernel makes the counts starts, and behind the binding of their
    sum each chunk writes what belongs to its own positions.

    Attributes:
        total: how many positions there are.
        reads: operands that the condition reads.
        keep: the condition.
        key: what tells its loops from others.
    """

    total: DimLike
    reads: tuple[int, ...]
    keep: Keep
    key: str

    @property
    def temporaries(self) -> tuple[tuple[str, TensorType], ...]:
        """How many are kept of each chunk, of those before it, and in all."""
        chunks = TensorType(i64, (ceildiv(self.total, CHUNK),))
        return ("counts", chunks), ("starts", chunks), ("kept", TensorType(i64, (1,)))

    def count(self) -> tuple[Stage, ...]:
        """Kernels that leave the sum in the temporary ``kept``."""
        chunks = ceildiv(self.total, CHUNK)
        counting = Nest(self._count, chunks, key=f"count {self.key}")
        adding = Nest(partial(add_up, chunks), 1, key=f"add {chunks}")
        return Stage(counting, self.reads, ("counts",)), Stage(adding, ("counts",), ("starts", "kept"))

    def fill(
        self,
        kept: DimLike,
        reads: tuple[int, ...],
        writes: tuple[int | str, ...],
        write: Callable[[Any, Tensors, Tensors, DimLike, DimLike], None],
    ) -> Stage:
        """The kernel that writes what belongs to each kept position.

        Args:
            kept: how many are kept.
            reads: operands that are read besides those of the condition.
            writes: what is written.
            write: (builder, inputs, outputs, position, its number among the kept ones).
        """

        def build(b: Any, inputs: Tensors, outputs: Tensors, unit: DimLike) -> None:
            *given, starts = inputs
            number = b.reg("number", VecType(i64), starts.load((unit,)))
            if b.symbols.prove_ge(0, kept):  # nothing is ever kept
                return
            for i in self._positions(b, unit):
                with b.when(self.keep(b, tuple(given), i)):
                    write(b, tuple(given), outputs, i, b.index(number.read(), 0, kept - 1))
                    b.set(number, number.read() + 1)

        nest = Nest(build, ceildiv(self.total, CHUNK), key=f"fill {self.key}")
        return Stage(nest, (*self.reads, *reads, "starts"), writes)

    def _positions(self, b: Any, unit: DimLike) -> Iterator[DimLike]:
        """The positions of a unit's chunk, as one loop."""
        if is_static(self.total) and self.total == 0:
            return
        first = unit * CHUNK
        with b.loop("i", first, dmin(first + CHUNK, self.total)) as i:
            yield i

    def _count(self, b: Any, inputs: Tensors, outputs: Tensors, unit: DimLike) -> None:
        found = b.reg("found", VecType(i64), 0)
        for i in self._positions(b, unit):
            b.set(found, found.read() + select(self.keep(b, inputs, i), const(1, i64), 0))
        outputs[0].store((unit,), found.read())


def truth(value: Expr) -> Expr:
    """Whether a value is true: a bool itself, a number that is not zero."""
    return value if value.dtype.is_bool else compare("ne", value, 0)


class NonZero(Op):
    """out[:, j] = the coordinates of the j-th element that is not zero, in row-major order, as i64."""

    name = "index.nonzero"
    traits = frozenset({Trait.DATA_DEPENDENT})
    x = operand()

    def infer(self, ic: InferContext) -> list[Type]:
        x = ic.tensor(self.x, "x")
        return [TensorType(i64, (x.rank, ic.data_symbol(0, x.size)))]

    def evaluate(self, ev: Any, x: Array) -> Array:
        if x.ndim == 0:
            return np.zeros((0, int(x != 0)), np.int64)
        return np.stack(np.nonzero(x)).astype(np.int64)

    def define(self) -> Phases:
        shape, kept = self.x.shape, self.result.shape[1]
        found = Compaction(product(shape), (0,), self._keep, str(self.x.type))
        fill = found.fill(kept, (), (0,), self._write)
        return Phases(found.temporaries, found.count(), ((kept, "kept", 0),), (fill,))

    def _keep(self, b: Any, inputs: Tensors, position: DimLike) -> Expr:
        return truth(inputs[0].load(unflatten(position, self.x.shape)))

    def _write(self, b: Any, inputs: Tensors, outputs: Tensors, position: DimLike, number: DimLike) -> None:
        extents = {f"c{axis}": extent for axis, extent in enumerate(self.x.shape)}
        for axis, at in enumerate(b.split(position, extents) if extents else ()):
            outputs[0].store((axis, number), index(at))

    def cost(self) -> DimLike:
        return product(self.x.shape)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        rng = seeded(cls.name)
        for dtype in accepted_dtypes("number"):
            x = random_values(dtype, (3, 5), rng)
            yield Sample((np.where(rng.random((3, 5)) < 0.5, x, np.zeros_like(x)),), {}, f"{dtype}")
        for shape in ((), (0,), (3, 0), (7,), (2, 3, 4), (1, CHUNK + 3), (3, CHUNK)):
            x = rng.integers(0, 3, shape)
            yield Sample((np.asarray(x, np.int32),), {}, f"{list(shape)}")
        yield Sample((np.zeros((4, 4), np.float32),), {}, "nothing")
        yield Sample((np.array([0.0, -0.0, np.nan, np.inf], np.float32),), {}, "special values")


class Compress(Op):
    """out = the slices of x along `axis` at which the condition is true (it may be shorter than the axis)."""

    name = "index.compress"
    traits = frozenset({Trait.DATA_DEPENDENT})
    x = operand()
    condition = operand()
    axis = int_attr(0)

    def infer(self, ic: InferContext) -> list[Type]:
        x, condition = ic.tensor(self.x, "x"), ic.tensor(self.condition, "condition")
        axis = ic.axis(self.axis, x.rank)
        ic.rank(self.condition, 1, "condition")
        if not condition.dtype.is_bool:
            ic.bad_dtype("dtype of condition", "bool", condition.dtype)
        ic.at_least(x.shape[axis], condition.shape[0], f"extent of axis {axis}")
        shape = (*x.shape[:axis], ic.data_symbol(0, condition.shape[0]), *x.shape[axis + 1 :])
        return [TensorType(x.dtype, shape)]

    def evaluate(self, ev: Any, x: Array, condition: Array) -> Array:
        return np.compress(condition, x, axis=self.axis)

    def define(self) -> Phases:
        axis = self.axis % self.x.rank
        kept = self.result.shape[axis]
        found = Compaction(self.condition.shape[0], (1,), _condition, str(self.condition.type))
        places = ("places", TensorType(i64, (kept,)))
        gather = Stage(_slices(self.x, axis, self.result.shape), (0, "places"), (0,))
        return Phases(
            (*found.temporaries, places),
            found.count(),
            ((kept, "kept", 0),),
            (found.fill(kept, (), ("places",), _write_place), gather),
        )

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        rng = seeded(cls.name)
        for dtype in accepted_dtypes("number"):
            x = random_values(dtype, (4, 5), rng)
            yield Sample((x, np.array([True, False, True, True])), {}, f"{dtype}")
        for shape, axis, length in (
            ((6,), 0, 6),
            ((2, 5, 3), 1, 4),
            ((2, 5), -1, 0),
            ((0, 3), 1, 3),
            ((2, 0), 1, 0),
        ):
            keep = rng.random(length) < 0.5
            yield Sample((random_values(f32, shape, rng), keep), {"axis": axis}, f"{list(shape)}")
        yield Sample((random_values(f32, (3, 2), rng), np.zeros(3, bool)), {}, "nothing")


def _slices(x: Value, axis: int, shape: tuple[DimLike, ...]) -> Compute:
    """The slices of operand 0 along an axis at the places that operand 1 holds."""
    space = axes("i", shape)
    at = coordinates(space)
    if is_static(x.shape[axis]) and x.shape[axis] == 0:  # there is no place to read at, nor any result
        return Compute(space, const(0, x.dtype.compute))
    place = Read(1, (at[axis],), VecType(i64))
    return Compute(space, read(x, 0, (*at[:axis], place, *at[axis + 1 :])))


def _condition(b: Any, inputs: Tensors, position: DimLike) -> Expr:
    return inputs[0].load((position,))


def _write_place(b: Any, inputs: Tensors, outputs: Tensors, position: DimLike, number: DimLike) -> None:
    outputs[0].store((number,), index(position))


class Unique(Op):
    """values, first positions, inverse, counts = the distinct elements of a vector (rows of `axis`).

    With `sorted` in ascending order (NaN last), else in that of their first occurrence.  `inverse` maps
    each element of x to its place among the values.  A NaN is like any other, and -0 like 0.
    """

    name = "index.unique"
    traits = frozenset({Trait.DATA_DEPENDENT})
    x = operand()
    axis = int_attr(0)
    sorted = bool_attr(True)

    def infer(self, ic: InferContext) -> list[Type]:
        x = ic.tensor(self.x, "x")
        axis = ic.axis(self.axis, x.rank)
        count = ic.data_symbol(0, x.shape[axis])
        values = TensorType(x.dtype, (*x.shape[:axis], count, *x.shape[axis + 1 :]))
        each = TensorType(i64, (count,))
        return [values, each, TensorType(i64, (x.shape[axis],)), each]

    def evaluate(self, ev: Any, x: Array) -> tuple[Array, ...]:
        axis = self.axis % x.ndim
        width = math.prod(x.shape[:axis] + x.shape[axis + 1 :])
        rows = np.moveaxis(x, axis, 0).reshape(x.shape[axis], width)
        same = (
            np.where(rows != rows, np.array(np.nan).astype(x.dtype), rows + 0)
            if x.dtype.kind == "f"
            else rows
        )
        found: dict[bytes, int] = {}
        inverse = np.array([found.setdefault(row.tobytes(), len(found)) for row in same], np.int64)
        first = np.array([int(np.argmax(inverse == v)) for v in range(len(found))], np.int64)
        counts = np.bincount(inverse, minlength=len(found)).astype(np.int64)
        if self.sorted and len(found) > 1:
            order = np.lexsort(rows[first].T[::-1])
            rank = np.empty_like(order)
            rank[order] = np.arange(len(order))
            first, counts, inverse = first[order], counts[order], rank[inverse]
        return np.take(x, first, axis), first, inverse.astype(np.int64), counts

    def define(self) -> Phases:
        axis = self.axis % self.x.rank
        rows, count = self.x.shape[axis], self.result_count
        each = TensorType(i64, (rows,))
        names = ("order", "spare", "label", "first", "counts")
        key = f"{axis} {self.sorted} {self.x.type}"
        work = Stage(Nest(self._group, 1, key=f"group {key}"), (0,), (*names, "kept"))
        values = _slices(self.x, axis, self.results[0].shape)
        return Phases(
            (*((name, each) for name in names), ("kept", TensorType(i64, (1,)))),
            (work,),
            ((count, "kept", 0),),
            (
                Stage(values, (0, "first"), (0,)),
                _copied("first", 1, count),
                _copied("label", 2, rows),
                _copied("counts", 3, count),
            ),
        )

    @property
    def result_count(self) -> DimLike:
        """How many distinct elements there are."""
        return self.results[1].shape[0]  # type: ignore[no-any-return]

    def _group(self, b: Any, inputs: Tensors, outputs: Tensors, unit: DimLike) -> None:
        """Sort, number the groups of equal rows, then number them anew by first occurrence if so wished."""
        rows = self.x.shape[self.axis % self.x.rank]
        order, spare, label, first, counts, kept = outputs
        if b.symbols.prove_ge(0, rows):
            kept.store((0,), const(0, i64))
            return
        merge_sort(b, Line(order), Line(spare), rows, lambda i, k: self._precedes(b, inputs[0], i, k))
        groups = b.reg("groups", VecType(i64), 0)
        with b.loop("k", 0, rows) as k:
            here = b.index(order.load((k,)), 0, rows - 1)
            fresh = b.reg("fresh", VecType(boolean), compare("eq", index(k), 0))
            with b.when(~fresh.read()):
                before = b.index(order.load((b.index(index(k - 1), 0, rows - 1),)), 0, rows - 1)
                b.set(fresh, self._precedes(b, inputs[0], before, here))
            with b.when(fresh.read()):
                new = b.index(groups.read(), 0, rows - 1)
                first.store((new,), index(here))
                counts.store((new,), const(0, i64))
                b.set(groups, groups.read() + 1)
            group = b.index(groups.read() - 1, 0, rows - 1)
            label.store((here,), index(group))
            counts.store((group,), counts.load((group,)) + 1)
        if not self.sorted:
            self._renumber(b, rows, outputs)
        kept.store((0,), groups.read())

    def _renumber(self, b: Any, rows: DimLike, outputs: Tensors) -> None:
        """Groups in the order of their first rows: `order` takes new numbers, `spare` what is moved."""
        order, spare, label, first, counts, _ = outputs
        number = b.reg("number", VecType(i64), 0)
        with b.loop("i", 0, rows) as i:
            group = b.index(label.load((i,)), 0, rows - 1)
            with b.when(compare("eq", first.load((group,)), index(i))):
                new = b.index(number.read(), 0, rows - 1)
                order.store((group,), index(new))
                spare.store((new,), counts.load((group,)))
                b.set(number, number.read() + 1)
            label.store((i,), order.load((group,)))
        with b.loop("i", 0, rows) as i:
            row = rows - 1 - i
            first.store((b.index(label.load((row,)), 0, rows - 1),), index(row))
        with b.loop("v", 0, rows) as v:
            with b.when(compare("lt", index(v), number.read())):
                counts.store((v,), spare.load((v,)))

    def _precedes(self, b: Any, x: TensorRef, i: DimLike, k: DimLike) -> Expr:
        """Whether row i comes strictly before row k: by the first elements that differ."""
        axis = self.axis % self.x.rank
        others = [e for a, e in enumerate(self.x.shape) if a != axis]
        width = product(others)

        def element(row: DimLike, position: DimLike) -> Expr:
            at = unflatten(position, tuple(others))
            value = x.load((*at[:axis], row, *at[axis:]))
            return cast(value, "i32") if value.dtype.is_bool else value

        if is_static(width) and width == 0:
            return const(False, boolean)
        if is_static(width) and width == 1:
            return b.let(outranks(element(i, 0), element(k, 0), False))  # type: ignore[no-any-return]
        sign = b.reg("sign", VecType(i64), 0)
        position = b.reg("position", VecType(i64), 0)
        with b.while_(lambda: compare("eq", sign.read(), 0) & compare("lt", position.read(), index(width))):
            at = b.index(position.read(), 0, width - 1)
            mine, other = b.let(element(i, at)), b.let(element(k, at))
            smaller, greater = outranks(mine, other, False), outranks(other, mine, False)
            b.set(sign, select(smaller, const(1, i64), select(greater, const(-1, i64), const(0, i64))))
            b.set(position, position.read() + 1)
        return b.let(compare("eq", sign.read(), 1))  # type: ignore[no-any-return]

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        rng = seeded(cls.name)
        for ordered in (True, False):
            for dtype in ("f32", "f64", "f16", "bf16", "i8", "u8", "i64", "bool"):
                x = random_values(DTYPES[dtype], (12,), rng)
                x = np.concatenate([x, x[::2], x[:3]])
                yield Sample((x,), {"sorted": ordered}, f"{dtype}")
            for shape, axis in (
                ((5, 2), 0),
                ((2, 6), 1),
                ((2, 4, 2), -2),
                ((0,), 0),
                ((0, 2), 0),
                ((1,), 0),
                ((3, 0), 0),
            ):
                x = rng.integers(0, 2, shape).astype(np.float32)
                yield Sample((x,), {"axis": axis, "sorted": ordered}, f"{list(shape)}")
            x = np.array([np.nan, 0.0, -0.0, np.inf, np.nan, -np.inf, 0.0], np.float32)
            yield Sample((x,), {"sorted": ordered}, "special values")


def _copied(name: str, result: int, count: DimLike) -> Stage:
    """The first elements of a temporary as a result."""
    space = axes("i", (count,))
    return Stage(Compute(space, Read(0, coordinates(space), VecType(i64))), (name,), (result,))
