"""Detection: suppression of overlapping boxes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from aino_ir.dims import dmax, dmin
from aino_ir.dtypes import i64
from aino_ir.infer import InferContext
from aino_ir.op import Op, Trait, bool_attr, dim_attr, operand, optional_operand
from aino_ir.ops.math import Array
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
