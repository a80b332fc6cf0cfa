"""Access by index: gather at coordinates or along an axis, selection, and generated positions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from aino_ir.compute import BestOfLines, Check, Compute, Nest, TensorRef, axes, coordinates, read
from aino_ir.dims import DimLike, is_static, product
from aino_ir.dtypes import f32, i64
from aino_ir.errors.ir import OutOfRangeIndex
from aino_ir.graph import Value
from aino_ir.infer import InferContext
from aino_ir.loops.expr import Expr, binary, cast, compare, const, index, select
from aino_ir.loops.stmt import Status
from aino_ir.nests import best_of_line
from aino_ir.op import Op, Sample, Trait, bool_attr, dim_attr, dtype_attr, int_attr, operand
from aino_ir.ops.math import Array
from aino_ir.ops.tensor import index_check, refuse_out_of_range, wrapped_index
from aino_ir.sampling import random_values, seeded
from aino_ir.types import TensorType, Type

SYMBOLIC = frozenset({Trait.SYMBOLIC})


class Range(Op):
    """out[i] = start + i * step for i < size, as `dtype`."""

    name = "index.range"
    traits = SYMBOLIC
    start = dim_attr(0)
    size = dim_attr()
    step = int_attr(1)
    dtype = dtype_attr("i64")

    def infer(self, ic: InferContext) -> list[Type]:
        if not (self.dtype.is_integer or self.dtype.is_float):
            ic.bad_attribute("dtype", "a number's", self.dtype)
        ic.at_least(self.size, 0, "size")
        return [TensorType(self.dtype, ic.result_shape((self.size,)))]

    def evaluate(self, ev: Any) -> Array:
        positions = np.arange(ev.size(self.size)) * self.step + ev.size(self.start)
        return np.asarray(positions if getattr(ev, "symbolic", False) else ev.cast(positions, self.dtype))

    def define(self) -> Compute:
        space = axes("i", (self.size,))
        return Compute(space, cast(index(self.start + space[0].dim * self.step), self.dtype.compute))

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for start, size, step in ((0, 5, 1), (7, 4, -2), (3, 0, 1), (-2, 3, 3)):
            for dtype in ("i64", "i32", "f32"):
                yield Sample((), {"start": start, "size": size, "step": step, "dtype": dtype})


class GatherND(Op):
    """out[b, i, ...] = x[b, indices[b, i, 0], indices[b, i, 1], ..., ...]: the last axis of the indices
    holds coordinates in the axes of x behind the first `batch_dims`, which both share.

    Negative coordinates count from the end; one outside its axis is an error.
    """

    name = "index.gather_nd"
    x = operand()
    indices = operand()
    batch_dims = int_attr(0)

    def infer(self, ic: InferContext) -> list[Type]:
        x, indices = ic.tensor(self.x, "x"), ic.tensor(self.indices, "indices")
        if not indices.dtype.is_integer:
            ic.bad_dtype("dtype of indices", "an integer", indices.dtype)
        if indices.rank == 0 or not is_static(indices.shape[-1]):
            ic.bad_operand("indices", "of rank 1 or more with a known last extent", indices)
        batch, depth = self.batch_dims, self._depth()
        if not 0 <= batch < min(indices.rank, x.rank + 1) or batch + depth > x.rank:
            ic.bad_attribute("batch_dims", f"such that {batch} + {depth} axes fit rank {x.rank}", batch)
        for axis in range(batch):
            ic.same(x.shape[axis], indices.shape[axis], f"extents of batch axis {axis}")
        return [TensorType(x.dtype, ic.result_shape((*indices.shape[:-1], *x.shape[batch + depth :])))]

    def _depth(self) -> int:
        return int(self.indices.shape[-1])

    def evaluate(self, ev: Any, x: Array, indices: Array) -> Array:
        batch, depth = self.batch_dims, self._depth()
        place: list[Array] = [
            np.arange(indices.shape[a]).reshape([-1 if a == b else 1 for b in range(indices.ndim - 1)])
            for a in range(batch)
        ]
        for k in range(depth):
            column, extent = indices[..., k].astype(np.int64), x.shape[batch + k]
            refuse_out_of_range(self, column, extent)
            place.append(np.where(column < 0, column + extent, column))
        if not place:
            return np.broadcast_to(x, (*indices.shape[:-1], *x.shape))
        return x[tuple(np.broadcast_arrays(*place))] if indices.ndim > 1 else x[tuple(place)]

    def define(self) -> Compute:
        space = axes("i", self.result.shape)
        at = coordinates(space)
        lead = at[: self.indices.rank - 1]
        batch, depth = self.batch_dims, self._depth()
        chosen = [
            wrapped_index(read(self.indices, 1, (*lead, k)), self.x.shape[batch + k]) for k in range(depth)
        ]
        here = (*lead[:batch], *chosen, *at[self.indices.rank - 1 :])
        checks = tuple(column_check(self.indices, 1, k, self.x.shape[batch + k]) for k in range(depth))
        return Compute(space, read(self.x, 0, here), checks=checks)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        rng = seeded(cls.name)
        for shape, indices, batch in (
            ((3, 4, 5), [[0, 1], [2, -1]], 0),
            ((3, 4, 5), [[[1]], [[-3]]], 0),
            ((2, 4, 3), [[1], [-4]], 1),
            ((2, 3, 4), [[[0, 1], [2, 3]], [[1, 1], [0, -1]]], 1),
            ((4,), [2], 0),
            ((3, 2), np.zeros((0, 1), np.int64), 0),
        ):
            x = random_values(f32, shape, rng)
            yield Sample((x, np.asarray(indices, np.int64)), {"batch_dims": batch}, f"{list(shape)}")


class GatherElements(Op):
    """out[i] = x[i with coordinate `axis` replaced by indices[i]]; the shape is that of the indices.

    Negative indices count from the end; one outside the axis is an error.  Other axes of the indices
    may be shorter than those of x.
    """

    name = "index.gather_elements"
    x = operand()
    indices = operand()
    axis = int_attr(0)
    domain = {"indices": lambda op: (-op.x.shape[op.axis], op.x.shape[op.axis] - 1)}

    def infer(self, ic: InferContext) -> list[Type]:
        x, indices = ic.tensor(self.x, "x"), ic.tensor(self.indices, "indices")
        check_elementwise_indices(ic, x, indices, ic.axis(self.axis, x.rank))
        return [TensorType(x.dtype, indices.shape)]

    def evaluate(self, ev: Any, x: Array, indices: Array) -> Array:
        axis = self.axis % x.ndim
        indices = indices.astype(np.int64)
        refuse_out_of_range(self, indices, x.shape[axis])
        place: list[Array] = list(np.indices(indices.shape, sparse=True))
        place[axis] = np.where(indices < 0, indices + x.shape[axis], indices)
        return np.asarray(x[tuple(place)])

    def define(self) -> Compute:
        space = axes("i", self.result.shape)
        at = coordinates(space)
        axis = self.axis % self.x.rank
        chosen = wrapped_index(read(self.indices, 1, at), self.x.shape[axis])
        here = (*at[:axis], chosen, *at[axis + 1 :])
        return Compute(
            space, read(self.x, 0, here), checks=(index_check(self.indices, 1, self.x.shape[axis]),)
        )

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        rng = seeded(cls.name)
        for shape, wanted, axis in (((3, 4), (2, 6), 1), ((5,), (3,), 0), ((2, 3, 4), (2, 2, 3), -2)):
            indices = rng.integers(-shape[axis], shape[axis], wanted)
            yield Sample((random_values(f32, shape, rng), indices), {"axis": axis}, f"{list(shape)}")
        yield Sample((random_values(f32, (3, 0), rng), np.zeros((2, 0), np.int32)), {"axis": 0}, "empty")


class ReverseSequence(Op):
    """out = x with the first lengths[b] elements along `time_axis` reversed, for each b of `batch_axis`."""

    name = "index.reverse_sequence"
    x = operand()
    lengths = operand()
    time_axis = int_attr(0)
    batch_axis = int_attr(1)

    def infer(self, ic: InferContext) -> list[Type]:
        x, lengths = ic.tensor(self.x, "x"), ic.tensor(self.lengths, "lengths")
        time, batch = ic.axis(self.time_axis, x.rank), ic.axis(self.batch_axis, x.rank)
        if time == batch:
            ic.bad_attribute("batch_axis", f"another axis than {time}", batch)
        if not lengths.dtype.is_integer:
            ic.bad_dtype("dtype of lengths", "an integer", lengths.dtype)
        ic.same_shape((x.shape[batch],), lengths.shape, "lengths")
        return [TensorType(x.dtype, x.shape)]

    def evaluate(self, ev: Any, x: Array, lengths: Array) -> Array:
        refuse_long(self, lengths, x.shape[self.time_axis])
        out = np.moveaxis(x.copy(), (self.batch_axis, self.time_axis), (0, 1))
        for row, length in zip(out, lengths.tolist(), strict=True):
            row[:length] = row[:length][::-1].copy()
        return np.moveaxis(out, (0, 1), (self.batch_axis, self.time_axis))

    def define(self) -> Compute:
        space = axes("i", self.x.shape)
        at = list(coordinates(space))
        time = self.time_axis % self.x.rank
        length = cast(read(self.lengths, 1, (at[self.batch_axis],)), "i64")
        step = index(at[time])
        here: list[Any] = list(at)
        here[time] = select(compare("lt", step, length), length - 1 - step, step)
        check = length_check(self.lengths, 1, self.x.shape[time])
        return Compute(space, read(self.x, 0, here), checks=(check,))

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        rng = seeded(cls.name)
        x = random_values(f32, (4, 3, 2), rng)
        yield Sample((x, np.array([4, 0, 2])), {}, "time first")
        x = random_values(f32, (2, 5), rng)
        yield Sample((x, np.array([1, 5], np.int32)), {"time_axis": -1, "batch_axis": 0}, "batch first")


class TopK(Op):
    """values, i64 positions = the `k` largest (smallest) elements along `axis`, in order.

    Ties go to the lower position; NaN is greater than every number.
    """

    name = "index.top_k"
    x = operand()
    k = dim_attr()
    axis = int_attr(-1)
    largest = bool_attr(True)

    def infer(self, ic: InferContext) -> list[Type]:
        x = ic.tensor(self.x, "x")
        if not (x.dtype.is_float or x.dtype.is_integer):
            ic.bad_dtype("dtype of x", "a number's", x.dtype)
        axis = ic.axis(self.axis, x.rank)
        ic.at_least(self.k, 0, "k")
        ic.at_least(x.shape[axis], self.k, f"extent of axis {axis} (k is {self.k})")
        shape = ic.result_shape((*x.shape[:axis], self.k, *x.shape[axis + 1 :]))
        return [TensorType(x.dtype, shape), TensorType(i64, shape)]

    def evaluate(self, ev: Any, x: Array) -> tuple[Array, Array]:
        axis, extent = self.axis % x.ndim, x.shape[self.axis]
        if self.largest:  # a stable ascending sort of the reversed axis, read from its end
            order = extent - 1 - np.flip(np.argsort(np.flip(x, axis), axis, kind="stable"), axis)
        else:
            order = np.argsort(x, axis, kind="stable")
        order = np.take(order, np.arange(ev.size(self.k)), axis)
        return np.take_along_axis(x, order, axis), order.astype(np.int64)

    def define(self) -> Nest:
        axis = self.axis % self.x.rank
        outer = [e for a, e in enumerate(self.x.shape) if a != axis]
        key = f"{axis} {self.largest} {self.k} {self.x.type}"
        meaning = BestOfLines(axis, self.k, self.largest)
        return Nest(self._build, product(outer), key=key, meaning=meaning)

    def _build(
        self, b: Any, inputs: tuple[TensorRef, ...], outputs: tuple[TensorRef, ...], unit: DimLike
    ) -> None:
        (source,), (values, positions) = inputs, outputs
        axis, k = self.axis % self.x.rank, self.k
        if is_static(k) and k == 0:
            return
        extents = {f"o{a}": e for a, e in enumerate(self.x.shape) if a != axis}
        outer = b.split(unit, extents) if extents else ()

        def at(position: DimLike) -> tuple[DimLike, ...]:
            return (*outer[:axis], position, *outer[axis:])

        best = BestOfLines(axis, k, self.largest)
        best_of_line(b, (source, values, positions), at, self.x.shape[axis], best)

    def cost(self) -> DimLike:
        return product(self.x.shape)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        rng = seeded(cls.name)
        for shape, k, axis in (((3, 7), 3, 1), ((5,), 5, 0), ((4, 2, 3), 2, 0), ((2, 3), 0, 1)):
            for largest in (True, False):
                x = random_values(f32, shape, rng).round()
                yield Sample((x,), {"k": k, "axis": axis, "largest": largest}, f"{list(shape)} with ties")
        x = np.array([[1, np.nan, 5, np.nan, -np.inf, np.inf]], np.float32)
        for largest in (True, False):
            yield Sample((x,), {"k": 4, "largest": largest}, "NaN and infinities")
        yield Sample((rng.integers(-9, 9, (2, 6)).astype(np.int8),), {"k": 2}, "i8")


def check_elementwise_indices(ic: InferContext, x: TensorType, indices: TensorType, axis: int) -> None:
    """Demand integer indices of x's rank that are no longer than x along other axes than `axis`."""
    if not indices.dtype.is_integer:
        ic.bad_dtype("dtype of indices", "an integer", indices.dtype)
    if indices.rank != x.rank:
        ic.bad_operand("rank of indices", str(x.rank), indices.rank)
    for a in range(x.rank):
        if a != axis:
            ic.at_least(x.shape[a], indices.shape[a], f"extent of axis {a} (of the indices)")


def refuse_long(op: Op, lengths: Array, extent: int) -> None:
    """Raise when a length is outside 0..extent."""
    bad = (lengths < 0) | (lengths > extent)
    if bad.any():
        raise OutOfRangeIndex(loc=op.loc, op=op.name, index=int(lengths[bad][0]), extent=extent + 1)


def length_check(lengths: Value, operand_number: int, extent: DimLike) -> Check:
    """The check that every length is within 0..extent."""
    space = axes("c", lengths.shape)
    length = cast(read(lengths, operand_number, coordinates(space)), "i64")
    legal = compare("ge", length, 0) & compare("le", length, index(extent))
    return Check(space, legal, Status.INDEX_OUT_OF_RANGE, length)


def column_check(indices: Value, operand_number: int, column: int, extent: DimLike) -> Check:
    """The check that one column of an operand of coordinates is within -extent..extent-1."""
    space = axes("c", indices.shape[:-1])
    i = cast(read(indices, operand_number, (*coordinates(space), column)), "i64")
    size = index(extent)
    legal: Expr = binary("and", compare("ge", i, const(0, "i64") - size), compare("lt", i, size))
    return Check(space, legal, Status.INDEX_OUT_OF_RANGE, i)
