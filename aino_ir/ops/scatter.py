"""Writing at indices: a copy of x in which updates replace elements, or are combined with them.

Updates are taken in row-major order, so of several that replace one element the last stays.  An index
outside its axis is an error; negative ones count from the end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from aino_ir.compute import InPlace, Nest, OrderedUpdates, TensorRef
from aino_ir.dims import DimLike, is_static
from aino_ir.dtypes import f32
from aino_ir.infer import InferContext
from aino_ir.nests import checked_place, loops, update
from aino_ir.op import Op, Sample, int_attr, operand, str_attr
from aino_ir.ops.index import check_elementwise_indices
from aino_ir.ops.math import Array
from aino_ir.ops.tensor import refuse_out_of_range
from aino_ir.sampling import random_values, seeded
from aino_ir.types import TensorType, Type

REDUCTIONS: dict[str, Callable[[Any, Any], Any] | None] = {
    "none": None,
    "add": np.add,
    "mul": np.multiply,
    "min": np.minimum,
    "max": np.maximum,
}
"""How an update meets what stands in its place; "none" replaces it."""


class Scatter(Op):
    """What all share: x, indices, updates, and the way updates are combined."""

    x = operand()
    indices = operand()
    updates = operand()
    reduction = str_attr("none")

    def infer(self, ic: InferContext) -> list[Type]:
        x, indices = ic.tensor(self.x, "x"), ic.tensor(self.indices, "indices")
        ic.same_dtype(self.x, self.updates)
        if self.reduction not in REDUCTIONS:
            ic.bad_attribute("reduction", ", ".join(REDUCTIONS), self.reduction)
        if not indices.dtype.is_integer:
            ic.bad_dtype("dtype of indices", "an integer", indices.dtype)
        self.check(ic, x, indices)
        return [TensorType(x.dtype, x.shape)]

    def check(self, ic: InferContext, x: TensorType, indices: TensorType) -> None:
        """Refuse shapes that do not fit."""

    def combine(self, out: Array, place: tuple[Array, ...], updates: Array) -> Array:
        """Write the updates at coordinates, in order."""
        function = REDUCTIONS[self.reduction]
        if function is None:
            for n in range(updates.size):
                out[tuple(p.reshape(-1)[n] for p in place)] = updates.reshape(-1)[n]
        else:
            np.ufunc.at(function, out, place, updates)  # type: ignore[arg-type]
        return out

    def define(self) -> Nest:
        over = InPlace(0, self._update)
        return Nest(
            self._build, 1, can_fail=True, key=self._key(), in_place=over, meaning=self.ordered_updates()
        )

    def _key(self) -> str:
        return f"{self.reduction} {self.x.type} {self.indices.type} {self.attributes}"

    def _build(
        self, b: Any, inputs: tuple[TensorRef, ...], outputs: tuple[TensorRef, ...], unit: DimLike
    ) -> None:
        with loops(b, "i", self.x.shape) as at:
            outputs[0].store(at, inputs[0].load(at))
        self._update(b, inputs, outputs, unit)

    def _update(
        self, b: Any, inputs: tuple[TensorRef, ...], outputs: tuple[TensorRef, ...], unit: DimLike
    ) -> None:
        """The updates, where the result holds the elements of x already."""
        self.build_updates(b, inputs[1], inputs[2], outputs[0])

    def build_updates(self, b: Any, indices: TensorRef, updates: TensorRef, out: TensorRef) -> None:
        """Loops over the updates."""
        meaning = self.ordered_updates()
        with loops(b, "u", meaning.rows) as row:
            place = checked_place(b, meaning, indices, row, self.x.shape)
            with loops(b, "t", self.x.shape[meaning.depth :]) as tail:
                update(meaning.reduction, out, (*place, *tail), updates.load((*row, *tail)))

    def ordered_updates(self) -> OrderedUpdates:
        """Which updates go where."""
        raise TypeError(f"{self.name} declares no places")

    def cost(self) -> DimLike:
        return self.updates.type.size  # type: ignore[union-attr]


class ScatterElements(Scatter):
    """out = x, with updates[i] at i whose coordinate `axis` is indices[i]."""

    name = "index.scatter_elements"
    axis = int_attr(0)

    def check(self, ic: InferContext, x: TensorType, indices: TensorType) -> None:
        check_elementwise_indices(ic, x, indices, ic.axis(self.axis, x.rank))
        ic.same_shape(indices.shape, self.updates.shape, "updates")

    def evaluate(self, ev: Any, x: Array, indices: Array, updates: Array) -> Array:
        axis = self.axis % x.ndim
        indices = indices.astype(np.int64)
        refuse_out_of_range(self, indices, x.shape[axis])
        place: list[Array] = list(np.indices(indices.shape))
        place[axis] = np.where(indices < 0, indices + x.shape[axis], indices)
        return self.combine(x.copy(), tuple(place), updates)

    def ordered_updates(self) -> OrderedUpdates:
        axis = self.axis % self.x.rank
        return OrderedUpdates(
            self.reduction,
            self.indices.shape,
            (axis,),
            self.x.rank,
            lambda indices, row: (indices.load(row),),
        )

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        rng = seeded(cls.name)
        for shape, wanted, axis in (((3, 5), (2, 4), 1), ((6,), (9,), 0), ((2, 3, 4), (2, 2, 3), -2)):
            for reduction in REDUCTIONS:
                indices = rng.integers(-shape[axis], shape[axis], wanted)
                x, updates = random_values(f32, shape, rng), random_values(f32, wanted, rng)
                yield Sample((x, indices, updates), {"axis": axis, "reduction": reduction}, f"{list(shape)}")
        empty = np.zeros((2, 0), np.float32)
        yield Sample(
            (random_values(f32, (2, 3), rng), empty.astype(np.int64), empty), {"axis": 1}, "no update"
        )


class ScatterND(Scatter):
    """out = x, with updates[i, ...] at x[indices[i, 0], indices[i, 1], ..., ...]: the last axis of the
    indices holds coordinates in the leading axes of x.
    """

    name = "index.scatter_nd"

    def check(self, ic: InferContext, x: TensorType, indices: TensorType) -> None:
        if indices.rank == 0 or not is_static(indices.shape[-1]) or indices.shape[-1] > x.rank:
            ic.bad_operand("indices", f"of rank 1 or more with a last extent of at most {x.rank}", indices)
        wanted = (*indices.shape[:-1], *x.shape[self._depth() :])
        ic.same_shape(wanted, self.updates.shape, "updates")

    def _depth(self) -> int:
        return int(self.indices.shape[-1])

    def evaluate(self, ev: Any, x: Array, indices: Array, updates: Array) -> Array:
        depth = self._depth()
        rows = updates.reshape(int(np.prod(indices.shape[:-1], dtype=np.int64)), *x.shape[depth:])
        columns = indices.reshape(rows.shape[0], depth).astype(np.int64)
        for axis in range(depth):
            refuse_out_of_range(self, columns[:, axis], x.shape[axis])
        columns = np.where(columns < 0, columns + np.array(x.shape[:depth], np.int64), columns)
        out: Array = x.copy()
        function = REDUCTIONS[self.reduction]
        for place, row in zip(map(tuple, columns.tolist()), rows, strict=True):
            out[place] = row if function is None else function(out[place], row)
        return out

    def ordered_updates(self) -> OrderedUpdates:
        axes = tuple(range(self._depth()))
        return OrderedUpdates(
            self.reduction,
            self.indices.shape[:-1],
            axes,
            len(axes),
            lambda indices, row: tuple(indices.load((*row, k)) for k in axes),
        )

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        rng = seeded(cls.name)
        for shape, indices in (
            ((4, 3), [[1], [-1], [1]]),
            ((3, 4), [[[0, 1], [2, -1]], [[0, 1], [1, 1]]]),
            ((5,), [[4]]),
            ((2, 2), np.zeros((0, 1), np.int64)),
        ):
            for reduction in REDUCTIONS:
                where = np.asarray(indices, np.int64)
                x = random_values(f32, shape, rng)
                updates = random_values(f32, (*where.shape[:-1], *shape[where.shape[-1] :]), rng)
                yield Sample((x, where, updates), {"reduction": reduction}, f"{list(shape)}")
