"""Decision trees: the leaf that each row of features reaches in each tree."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from aino_ir.compute import Nest, TensorRef
from aino_ir.dims import DimLike, product
from aino_ir.dtypes import boolean, i64
from aino_ir.infer import InferContext
from aino_ir.loops.expr import Expr, VecType, cast, compare, const, select
from aino_ir.op import Op, Sample, int_attr, operand
from aino_ir.ops.math import Array
from aino_ir.types import TensorType, Type

MODES = ("<=", "<", ">=", ">", "==", "!=")
"""Comparisons of a feature (left) with a threshold (right), by their numbers."""

LEAF = len(MODES)
"""The mode of a node that is a leaf."""


class TreeLeaves(Op):
    """out[row, tree] = the leaf, as a node number i64, that x[row] reaches from the tree's root.

    A node compares feature `features[node]` of the row with `thresholds[node]` by `modes[node]` and goes
    on to `yes[node]` or `no[node]`; a feature that is NaN goes to `yes` where `missing[node]`, whatever
    the comparison.  After `depth` steps every path has reached a leaf, whose mode is 6.  Numbers of nodes
    and features must be within their tables (frontends check them).
    """

    name = "trees.leaves"
    x = operand()
    roots = operand()
    features = operand()
    thresholds = operand()
    modes = operand()
    missing = operand()
    yes = operand()
    no = operand()
    depth = int_attr()
    domain = {
        "roots": lambda op: (0, op.modes.shape[0] - 1),
        "features": lambda op: (0, op.x.shape[1] - 1),
        "modes": lambda op: (0, LEAF),
        "yes": lambda op: (0, op.modes.shape[0] - 1),
        "no": lambda op: (0, op.modes.shape[0] - 1),
    }

    def infer(self, ic: InferContext) -> list[Type]:
        x, roots = ic.tensor(self.x, "x"), ic.tensor(self.roots, "roots")
        ic.rank(self.x, 2, "x")
        ic.rank(self.roots, 1, "roots")
        if ic.same_dtype(self.x, self.thresholds) is not x.dtype or not x.dtype.is_float:
            ic.bad_dtype("dtype of x and thresholds", "one float", x.dtype)
        for name in ("features", "thresholds", "modes", "missing", "yes", "no"):
            value = getattr(self, name)
            ic.rank(value, 1, name)
            ic.same(value.shape[0], self.modes.shape[0], f"number of nodes in {name}")
        for name in ("roots", "features", "modes", "yes", "no"):
            if getattr(self, name).dtype is not i64:
                ic.bad_dtype(f"dtype of {name}", "i64", getattr(self, name).dtype)
        if not self.missing.dtype.is_bool:
            ic.bad_dtype("dtype of missing", "bool", self.missing.dtype)
        if self.depth < 0:
            ic.bad_attribute("depth", "at least 0", self.depth)
        return [TensorType(i64, ic.result_shape((x.shape[0], roots.shape[0])))]

    def evaluate(
        self, ev: Any, x: Array, roots: Array, features: Array, thresholds: Array, *rest: Array
    ) -> Array:
        modes, missing, yes, no = rest
        node = np.broadcast_to(roots, (x.shape[0], roots.shape[0]))
        rows = np.arange(x.shape[0])[:, None]
        tests = (np.less_equal, np.less, np.greater_equal, np.greater, np.equal, np.not_equal)
        for _ in range(self.depth):
            value, threshold, mode = x[rows, features[node]], thresholds[node], modes[node]
            holds = np.zeros(node.shape, bool)
            for number, test in enumerate(tests):
                holds |= (mode == number) & test(value, threshold)
            holds = np.where(np.isnan(value), missing[node], holds)
            following = np.where(holds, yes[node], no[node])
            node = np.where(mode == LEAF, node, following)
        return np.asarray(node, np.int64)

    def define(self) -> Nest:
        return Nest(self._build, self.x.shape[0] * self.roots.shape[0], key=f"trees {self.depth}")

    def _build(
        self, b: Any, inputs: tuple[TensorRef, ...], outputs: tuple[TensorRef, ...], unit: DimLike
    ) -> None:
        x, roots, features, thresholds, modes, missing, yes, no = inputs
        row, tree = b.split(unit, {"row": self.x.shape[0], "tree": self.roots.shape[0]})
        node = b.reg("node", VecType(i64), roots.load((tree,)))
        more = b.reg("more", VecType(boolean), const(True, boolean))
        left = b.reg("left", VecType(i64), const(self.depth, i64))
        with b.while_(lambda: more.read()):
            here = b.index(node.read(), 0, self.modes.shape[0] - 1)
            mode = b.let(modes.load((here,)))
            feature = b.index(features.load((here,)), 0, self.x.shape[1] - 1)
            value, threshold = b.let(x.load((row, feature))), b.let(thresholds.load((here,)))
            holds: Expr = compare("eq", mode, 0) & compare("le", value, threshold)
            for number, test in enumerate(("lt", "ge", "gt", "eq", "ne"), 1):
                holds = holds | (compare("eq", mode, number) & compare(test, value, threshold))
            holds = select(compare("ne", value, value), missing.load((here,)), holds)
            following = select(holds, yes.load((here,)), no.load((here,)))
            go_on = b.let(compare("lt", mode, LEAF) & compare("gt", left.read(), 0))
            b.set(node, select(go_on, following, node.read()))
            b.set(left, left.read() - 1)
            b.set(more, go_on)
        outputs[0].store((row, tree), cast(node.read(), i64))

    def cost(self) -> DimLike:
        return product((self.x.shape[0], self.roots.shape[0], max(self.depth, 1)))

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        """Two trees: of depth 2 with every comparison, and a leaf alone."""
        x = np.asarray([[1, 2], [-1, 0.5], [np.nan, 3], [0, np.nan], [2, 2]], np.float32)
        tables = (
            np.asarray([0, 7], np.int64),
            np.asarray([0, 1, 1, 0, 0, 0, 0, 0], np.int64),
            np.asarray([0, 2, 0.5, 0, 0, 0, 0, 0], np.float32),
        )
        missing = np.asarray([True, False, True, False, False, False, False, False])
        yes = np.asarray([1, 3, 5, 3, 4, 5, 6, 7], np.int64)
        no = np.asarray([2, 4, 6, 3, 4, 5, 6, 7], np.int64)
        for first, second, third in ((0, 1, 2), (3, 4, 5), (1, 2, 0)):
            modes = np.asarray([first, second, third, LEAF, LEAF, LEAF, LEAF, LEAF], np.int64)
            yield Sample(
                (x, *tables, modes, missing, yes, no), {"depth": 2}, f"modes {first} {second} {third}"
            )
