"""Support vector machines: probabilities of classes from those of pairs of classes."""

from __future__ import annotations

from typing import Any

import numpy as np

from aino_ir.infer import InferContext
from aino_ir.op import Op, int_attr, operand
from aino_ir.ops.math import Array
from aino_ir.types import TensorType, Type

CLOSE = 0.005
"""The iteration stops when no class is further off than this divided by the number of classes."""

TURNS = 100
"""Iterations at most (or the number of classes, if that is more)."""


class PairwiseCoupling(Op):
    """out[row] = the probabilities of `classes` classes that agree best with those of all pairs.

    pairs[row, p] is the probability of class i against j, for the pairs (0, 1), (0, 2), ..., (1, 2), ...
    The second method of Wu, Lin and Weng (2004), iterated as libsvm does.
    """

    name = "svm.pairwise_coupling"
    pairs = operand()
    classes = int_attr()

    def infer(self, ic: InferContext) -> list[Type]:
        pairs, classes = ic.tensor(self.pairs, "pairs"), self.classes
        ic.rank(self.pairs, 2, "pairs")
        if not pairs.dtype.is_float:
            ic.bad_dtype("dtype of pairs", "float", pairs.dtype)
        if classes < 2:
            ic.bad_attribute("classes", "at least 2", classes)
        ic.same(pairs.shape[1], classes * (classes - 1) // 2, "number of pairs")
        return [TensorType(pairs.dtype, ic.result_shape((pairs.shape[0], classes)))]

    def evaluate(self, ev: Any, pairs: Array) -> Array:
        out = np.empty((pairs.shape[0], self.classes), pairs.dtype)
        for row, numbers in enumerate(pairs):
            out[row] = coupled(numbers, self.classes)
        return out


def coupled(numbers: Array, classes: int) -> Array:
    """The probabilities of one row."""
    against = np.zeros((classes, classes), numbers.dtype)
    upper = np.triu_indices(classes, 1)
    against[upper] = numbers
    against.T[upper] = 1 - numbers
    q = -against.T * against
    np.fill_diagonal(q, (against**2).sum(0))
    p = np.full(classes, 1 / classes, numbers.dtype)
    for _ in range(max(TURNS, classes)):
        products = q @ p
        energy = p @ products
        if np.abs(products - energy).max() < CLOSE / classes:
            break
        for t in range(classes):
            change = (energy - products[t]) / q[t, t]
            p[t] += change
            energy = (energy + change * (change * q[t, t] + 2 * products[t])) / (1 + change) ** 2
            products = (products + change * q[t]) / (1 + change)
            p /= 1 + change
    return p
