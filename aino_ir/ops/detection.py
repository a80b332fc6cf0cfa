"""Detection: suppression of overlapping boxes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from aino_ir.compute import Nest, Phases, Stage, TensorRef
from aino_ir.dims import DimLike, dmax, dmin
from aino_ir.dtypes import DTYPES, DType, boolean, f32, f64, i64
from aino_ir.infer import InferContext
from aino_ir.loops.expr import (
    Expr,
    VecType,
    cast,
    compare,
    const,
    index,
    maximum,
    minimum,
    select,
    unary,
)
from aino_ir.nests import Line, add_up, merge_sort
from aino_ir.op import Op, Sample, Trait, bool_attr, dim_attr, operand, optional_operand
from aino_ir.ops.math import Array
from aino_ir.sampling import seeded
from aino_ir.types import TensorType, Type


class NonMaxSuppression(Op):
    """out[j] = (item, class, box) of the j-th box that is kept, i64.

    For each item and class, boxes are taken by falling score (ties: the lower index), at most `limit`;
    a box is dropped when its score is not above `threshold` (0-d, absent: all scores count), or when its
    intersection with a kept one is more than `overlap` (0-d, absent: 0) of their union.  Boxes are two
    opposite corners (y, x), or `centred` (x, y, width, height).
    """

    name = "index.non_max_suppression"
    traits = frozenset({Trait.DATA_DEPENDENT})
    boxes = operand()
    scores = operand()
    overlap = optional_operand()
    threshold = optional_operand()
    limit = dim_attr(0)
    centred = bool_attr(False)

    def infer(self, ic: InferContext) -> list[Type]:
        ic.rank(self.boxes, 3, "boxes")
        ic.rank(self.scores, 3, "scores")
        ic.same_dtype(self.boxes, self.scores)
        if not self.boxes.dtype.is_float:
            ic.bad_dtype("dtype of boxes", "float", self.boxes.dtype)
        for name, bound in (("overlap", self.overlap), ("threshold", self.threshold)):
            if bound is not None and (bound.rank or not bound.dtype.is_float):
                ic.bad_operand(name, "a 0-d float", bound.type)
        items = ic.same(self.boxes.shape[0], self.scores.shape[0], "items")
        count = ic.same(self.boxes.shape[1], self.scores.shape[2], "boxes")
        ic.same(self.boxes.shape[2], 4, "coordinates of a box")
        most = items * self.scores.shape[1] * dmin(count, dmax(self.limit, 0))
        return [TensorType(i64, (ic.data_symbol(0, most), 3))]

    def evaluate(
        self,
        ev: Any,
        boxes: Array,
        scores: Array,
        overlap: Array | None = None,
        threshold: Array | None = None,
    ) -> Array:
        rule = _Rule(ev.size(self.limit), 0.0 if overlap is None else float(overlap), threshold)
        kept: list[tuple[int, int, int]] = []
        for item in range(scores.shape[0]):
            corners = self._corners(boxes[item].astype(np.float64))
            for label in range(scores.shape[1]):
                kept += [(item, label, box) for box in rule.kept(corners, scores[item, label])]
        return np.asarray(kept, np.int64).reshape(-1, 3)

    def _corners(self, boxes: Array) -> Array:
        if self.centred:
            x, y, w, h = boxes.T
            return np.stack([y - h / 2, x - w / 2, y + h / 2, x + w / 2], 1)
        first, second = boxes[:, :2], boxes[:, 2:]
        return np.concatenate([np.minimum(first, second), np.maximum(first, second)], 1)

    def define(self) -> Phases:
        items, classes, count = self.scores.shape
        most = dmin(count, dmax(self.limit, 0))
        pairs, total = items * classes, self.result.shape[0]
        sorting = TensorType(i64, (items, classes, count))
        temporaries = (
            ("order", sorting),
            ("spare", sorting),
            ("chosen", TensorType(i64, (items, classes, most))),
            ("counts", TensorType(i64, (pairs,))),
            ("starts", TensorType(i64, (pairs,))),
            ("kept", TensorType(i64, (1,))),
        )
        key = f"{self.attributes} {[str(v.type) for v in self.present_operands()]}"
        given = tuple(range(len(list(self.present_operands()))))
        choosing = Nest(self._choose, pairs, key=f"choose {key}")
        adding = Nest(partial(add_up, pairs), 1, key=f"add {pairs}")
        writing = Nest(partial(self._write, total), pairs, key=f"write {key}")
        return Phases(
            temporaries,
            (
                Stage(choosing, given, ("order", "spare", "chosen", "counts")),
                Stage(adding, ("counts",), ("starts", "kept")),
            ),
            ((total, "kept", 0),),
            (Stage(writing, ("chosen", "counts", "starts"), (0,)),),
        )

    def _choose(
        self, b: Any, inputs: tuple[TensorRef, ...], outputs: tuple[TensorRef, ...], unit: DimLike
    ) -> None:
        """The boxes of one item and class that are kept, by falling score."""
        boxes, scores, *bounds = inputs
        order, spare, chosen, counts = outputs
        items, classes, count = self.scores.shape
        most = dmin(count, dmax(self.limit, 0))
        if b.symbols.prove_ge(0, most):
            counts.store((unit,), const(0, i64))
            return
        pair = b.split(unit, {"item": items, "label": classes})

        def precedes(i: DimLike, k: DimLike) -> Expr:
            a, c = scores.load((*pair, i)), scores.load((*pair, k))
            return compare("gt", a, c) | (unary("isnan", c) & ~unary("isnan", a))

        merge_sort(b, Line(order, pair), Line(spare, pair), count, precedes)
        overlap: Expr = const(0.0, f64)
        if self.overlap is not None:
            overlap, *bounds = (cast(bounds[0].load(()), "f64"), *bounds[1:])
        number, place = b.reg("number", VecType(i64), 0), b.reg("place", VecType(i64), 0)
        with b.while_(
            lambda: compare("lt", place.read(), index(count)) & compare("lt", number.read(), index(most))
        ):
            box = b.index(order.load((*pair, b.index(place.read(), 0, count - 1))), 0, count - 1)
            b.set(place, place.read() + 1)
            wanted = b.reg("wanted", VecType(boolean), const(True, boolean))
            if self.threshold is not None:
                least = cast(bounds[0].load(()), "f64")
                b.set(wanted, compare("gt", cast(scores.load((*pair, box)), "f64"), least))
            with b.when(~wanted.read()):
                b.set(place, index(count))
            other = b.reg("other", VecType(i64), 0)
            with b.while_(lambda: wanted.read() & compare("lt", other.read(), number.read())):
                rival = b.index(chosen.load((*pair, b.index(other.read(), 0, most - 1))), 0, count - 1)
                share = self._shared(b, boxes, pair[0], box, rival)
                b.set(wanted, compare("le", share, overlap))
                b.set(other, other.read() + 1)
            with b.when(wanted.read()):
                chosen.store((*pair, b.index(number.read(), 0, most - 1)), index(box))
                b.set(number, number.read() + 1)
        counts.store((unit,), number.read())

    def _shared(self, b: Any, boxes: TensorRef, item: DimLike, one: DimLike, other: DimLike) -> Expr:
        """Intersection over union of two boxes, in f64."""
        mine, its = self._loaded_corners(b, boxes, item, one), self._loaded_corners(b, boxes, item, other)
        sides = [
            maximum(const(0.0, f64), minimum(mine[a + 2], its[a + 2]) - maximum(mine[a], its[a]))
            for a in (0, 1)
        ]
        common = b.let(sides[0] * sides[1])
        areas = [(c[2] - c[0]) * (c[3] - c[1]) for c in (mine, its)]
        union = b.let(areas[0] + areas[1] - common)
        return b.let(select(compare("gt", union, 0.0), common / union, const(0.0, f64)))  # type: ignore[no-any-return]

    def _loaded_corners(self, b: Any, boxes: TensorRef, item: DimLike, box: DimLike) -> list[Expr]:
        """(y, x) of the lower and of the upper corner."""
        first, second, third, fourth = (b.let(cast(boxes.load((item, box, c)), "f64")) for c in range(4))
        if self.centred:
            sides = [b.let(side / 2.0) for side in (fourth, third)]
            middle = (second, first)
            return [
                *(m - s for m, s in zip(middle, sides, strict=True)),
                *(m + s for m, s in zip(middle, sides, strict=True)),
            ]
        pairs = ((first, third), (second, fourth))
        return [b.let(minimum(*p)) for p in pairs] + [b.let(maximum(*p)) for p in pairs]

    def _write(
        self,
        total: DimLike,
        b: Any,
        inputs: tuple[TensorRef, ...],
        outputs: tuple[TensorRef, ...],
        unit: DimLike,
    ) -> None:
        """The boxes of one item and class, at their place among all."""
        chosen, counts, starts = inputs
        items, classes, count = self.scores.shape
        most = dmin(count, dmax(self.limit, 0))
        if b.symbols.prove_ge(0, total) or b.symbols.prove_ge(0, most):
            return
        pair = b.split(unit, {"item": items, "label": classes})
        number = b.index(counts.load((unit,)), 0, most)
        start = b.index(starts.load((unit,)), 0, total)
        with b.loop("k", 0, number) as k:
            row = b.index(index(start + k), 0, total - 1)
            box = chosen.load((*pair, b.index(index(k), 0, most - 1)))
            for column, value in enumerate((index(pair[0]), index(pair[1]), box)):
                outputs[0].store((row, column), value)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        rng = seeded(cls.name)

        def scene(items: int, classes: int, boxes: int, dtype: DType = f32) -> tuple[Array, Array]:
            corners = rng.integers(0, 12, (items, boxes, 4)) / 4
            scores = rng.integers(0, 9, (items, classes, boxes)) / 8
            return corners.astype(dtype.numpy), scores.astype(dtype.numpy)

        half, some = np.array(0.5, np.float32), np.array(0.3, np.float32)
        for shape in ((1, 1, 6), (2, 3, 20), (1, 2, 0), (0, 1, 4), (2, 1, 1)):
            for centred in (False, True):
                attrs = {"limit": 4, "centred": centred}
                yield Sample((*scene(*shape), half, some), attrs, f"{list(shape)}")
        yield Sample(scene(2, 2, 9), {"limit": 0}, "none wanted")
        yield Sample(scene(2, 2, 9), {"limit": 100}, "no bounds")
        yield Sample((*scene(1, 1, 9, DTYPES["f64"]), half), {"limit": 5}, "f64")
        yield Sample((*scene(1, 1, 9, DTYPES["f16"]), None, some), {"limit": 5}, "f16, no overlap")
        boxes, scores = scene(1, 1, 8)
        scores[0, 0, ::3], boxes[0, 1] = np.nan, np.nan
        yield Sample((boxes, scores, half), {"limit": 9}, "NaN")


@dataclass(frozen=True)
class _Rule:
    """Which boxes of one class are kept."""

    limit: int
    overlap: float
    threshold: Array | None

    def kept(self, corners: Array, scores: Array) -> list[int]:
        """Boxes by falling score, those that a better one covers left out."""
        chosen: list[int] = []
        for box in np.argsort(-scores, kind="stable").tolist():
            if len(chosen) >= self.limit or (self.threshold is not None and not scores[box] > self.threshold):
                break
            if all(_overlap(corners[box], corners[other]) <= self.overlap for other in chosen):
                chosen.append(box)
        return chosen


def _overlap(a: Array, b: Array) -> float:
    """Intersection over union of two boxes."""
    sides = np.maximum(0.0, np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]))
    common = float(np.prod(sides))
    union = float(np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2])) - common
    return common / union if union > 0 else 0.0
