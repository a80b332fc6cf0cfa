"""Access by index: gather at coordinates or along an axis, and generated positions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from aino_ir.compute import Check, Compute, axes, coordinates, read
from aino_ir.dims import DimLike, is_static
from aino_ir.dtypes import f32
from aino_ir.graph import Value
from aino_ir.infer import InferContext
from aino_ir.loops.expr import Expr, binary, cast, compare, const, index
from aino_ir.loops.stmt import Status
from aino_ir.op import Op, Sample, Trait, dim_attr, dtype_attr, int_attr, operand
from aino_ir.ops.math import Array
from aino_ir.ops.tensor import refuse_out_of_range, wrapped_index
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
        return positions if getattr(ev, "symbolic", False) else ev.cast(positions, self.dtype)

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


def column_check(indices: Value, operand_number: int, column: int, extent: DimLike) -> Check:
    """The check that one column of an operand of coordinates is within -extent..extent-1."""
    space = axes("c", indices.shape[:-1])
    i = cast(read(indices, operand_number, (*coordinates(space), column)), "i64")
    size = index(extent)
    legal: Expr = binary("and", compare("ge", i, const(0, "i64") - size), compare("lt", i, size))
    return Check(space, legal, Status.INDEX_OUT_OF_RANGE, i)
