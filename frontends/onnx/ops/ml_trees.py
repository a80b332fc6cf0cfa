"""ai.onnx.ml: ensembles of decision trees.

The trees become tables of nodes, checked to be trees; `trees.leaves` finds the leaf of each row in each
tree, and what the leaves say is gathered and summed (or the largest, smallest or mean is taken).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from aino_ir.dims import is_static
from aino_ir.dtypes import DTYPES, DType, f32, i64
from aino_ir.frontends.onnx.context import NodeContext, Row
from aino_ir.frontends.onnx.nodes import OnnxNode
from aino_ir.frontends.onnx.ops.ml_models import TRANSFORMS, best, both_signs, labelled, rows, transformed
from aino_ir.graph import Value
from aino_ir.ops.trees import LEAF

DOMAIN = "ai.onnx.ml"

MODES = {f"BRANCH_{name}": n for n, name in enumerate(("LEQ", "LT", "GTE", "GT", "EQ", "NEQ"))}
"""Words of the older operators for the comparisons of `trees.leaves`."""

MEMBER = 6
"""TreeEnsemble's mode of a node that asks whether a feature is one of several values."""

AGGREGATES = ("AVERAGE", "SUM", "MIN", "MAX")

NODE_LIMIT = 1 << 24


@dataclass
class Forest:
    """Tables of nodes; a leaf leads to itself, and says `weights[leaf]`: pairs (target, weight)."""

    features: list[int] = field(default_factory=list)
    thresholds: list[float] = field(default_factory=list)
    modes: list[int] = field(default_factory=list)
    missing: list[bool] = field(default_factory=list)
    yes: list[int] = field(default_factory=list)
    no: list[int] = field(default_factory=list)
    roots: list[int] = field(default_factory=list)
    weights: dict[int, list[tuple[int, float]]] = field(default_factory=dict)

    def add(self, feature: int = 0, threshold: float = 0.0, mode: int = LEAF, missing: bool = False) -> int:
        """A new node, leading to itself; returns its number."""
        number = len(self.modes)
        self.features.append(feature)
        self.thresholds.append(threshold)
        self.modes.append(mode)
        self.missing.append(missing)
        self.yes.append(number)
        self.no.append(number)
        return number

    def depth(self, c: NodeContext) -> int:
        """The longest path from a root to a leaf; refuses nodes that lead back to themselves."""
        deepest, level, steps = 0, set(self.roots), 0
        while level := {
            n for node in level if self.modes[node] != LEAF for n in (self.yes[node], self.no[node])
        }:
            deepest, steps = deepest + 1, steps + len(level)
            if deepest > len(self.modes) or steps > 4 * NODE_LIMIT:
                c.invalid("nodes", "trees", "a node that leads back to itself")
        return deepest

    def leaves(self, c: NodeContext, x: Value) -> Value:
        """The leaf of each row in each tree, i64 [n, trees]."""
        extent = x.shape[1]
        if not self.roots or not self.modes:
            c.invalid("trees", "at least 1", 0)
        if is_static(extent) and not all(0 <= f < extent for f in self.features):
            c.invalid("nodes_featureids", f"within 0..{int(extent) - 1}", max(self.features))
        if not is_static(extent):
            c.symbols.assume_ge(extent, max(self.features) + 1, f"{c.node.operator}: number of features")
        ints = [np.asarray(t, np.int64) for t in (self.roots, self.features, self.modes, self.yes, self.no)]
        roots, features, modes, yes, no = (c.b.constant(t) for t in ints)
        thresholds = c.b.constant(np.asarray(self.thresholds).astype(x.dtype.numpy))
        missing = c.b.constant(np.asarray(self.missing, bool))
        return c.emit(
            "trees.leaves", x, roots, features, thresholds, modes, missing, yes, no, depth=self.depth(c)
        )

    def said(self, targets: int, dtype: DType, nothing: float) -> np.ndarray:
        """What each node says to each target, [nodes, targets]; `nothing` where it says nothing."""
        table = np.full((len(self.modes), targets), nothing, dtype.numpy)
        for node, pairs in self.weights.items():
            for target, weight in pairs:
                table[node, target] = weight
        return table


def aggregated(c: NodeContext, forest: Forest, x: Value, targets: int, aggregate: str, dtype: DType) -> Value:
    """What the trees say to each target, [n, targets]."""
    if aggregate not in AGGREGATES:
        c.invalid("aggregate_function", "one of " + ", ".join(AGGREGATES), aggregate)
    if not all(0 <= t < targets for pairs in forest.weights.values() for t, _ in pairs):
        c.invalid("targets of leaves", f"within 0..{targets - 1}", "others")
    leaves = forest.leaves(c, x)
    silent = {"MIN": np.inf, "MAX": -np.inf}.get(aggregate, 0.0)
    table = c.b.constant(forest.said(targets, dtype, silent))
    said = c.emit("gather", table, leaves, axis=0)
    op = {"MIN": "reduce.min", "MAX": "reduce.max"}.get(aggregate, "reduce.sum")
    y = c.emit(op, said, axes=(1,), keepdims=False)
    if aggregate == "AVERAGE":
        return c.emit("div", y, c.scalar(len(forest.roots), dtype))
    if aggregate == "SUM":
        return y
    return c.emit("select", c.emit("eq", y, c.scalar(silent, dtype)), c.scalar(0.0, dtype), y)


# -- TreeEnsemble ---------------------------------------------------------------------------------------


def tree_ensemble(c: NodeContext, node: OnnxNode) -> Value:
    """Inner nodes and leaves in tables of their own, since version 5 of the operator set."""
    x = rows(c)
    splits = node.tensor("nodes_splits")
    dtype = DTYPES[splits.dtype]
    x = c.cast(x, dtype)
    wide = dtype.compute
    forest = forest_of_tables(c, node)
    code = node.int("aggregate_function", 1)
    aggregate = AGGREGATES[code] if 0 <= code < len(AGGREGATES) else str(code)
    y = aggregated(c, forest, c.cast(x, wide), node.int("n_targets", 1), aggregate, wide)
    transform = node.int("post_transform", 0)
    if not 0 <= transform < len(TRANSFORMS):
        c.invalid("post_transform", f"within 0..{len(TRANSFORMS) - 1}", transform)
    return c.cast(transformed(c, y, TRANSFORMS[transform]), dtype)


def forest_of_tables(c: NodeContext, node: OnnxNode) -> Forest:
    """Nodes of a TreeEnsemble; a question after membership becomes a chain of questions after equality."""
    modes = [int(m) for m in np.asarray(node.tensor("nodes_modes").array()).reshape(-1)]
    splits = np.asarray(node.tensor("nodes_splits").array()).astype(np.float64).reshape(-1).tolist()
    features, tracks = node.ints("nodes_featureids"), node.ints("nodes_missing_value_tracks_true", ())
    weights = np.asarray(node.tensor("leaf_weights").array()).astype(np.float64).reshape(-1).tolist()
    targets = node.ints("leaf_targetids")
    branches = [
        (node.ints(f"nodes_{side}nodeids"), node.ints(f"nodes_{side}leafs")) for side in ("true", "false")
    ]
    lengths = {len(t) for t in (modes, splits, features, *branches[0], *branches[1])}
    if len(lengths) != 1 or len(weights) != len(targets) or (tracks and len(tracks) != len(modes)):
        c.invalid("tables of nodes and of leaves", "of one length each", sorted(lengths))
    forest = Forest()
    inner = [forest.add(f, s, m, bool(t)) for f, s, m, t in _nodes(features, splits, modes, tracks)]
    leaves = [forest.add() for _ in weights]
    forest.weights = {n: [(t, w)] for n, t, w in zip(leaves, targets, weights, strict=True)}

    def followed(number: int, is_leaf: int) -> int:
        table = leaves if is_leaf else inner
        if not 0 <= number < len(table):
            c.invalid("numbers of nodes and leaves", f"within 0..{len(table) - 1}", number)
        return table[number]

    for n, place in enumerate(inner):
        forest.yes[place], forest.no[place] = (followed(ids[n], leafs[n]) for ids, leafs in branches)
    for root in node.ints("tree_roots"):
        alone = 0 <= root < len(inner) and all(leafs[root] for _, leafs in branches)
        same = alone and forest.yes[inner[root]] == forest.no[inner[root]]
        forest.roots.append(forest.yes[inner[root]] if same else followed(root, 0))
    members = node.tensor("membership_values", None)
    ask_members(c, forest, inner, [] if members is None else np.asarray(members.array()).reshape(-1).tolist())
    return forest


def _nodes(
    features: Sequence[int], splits: Sequence[float], modes: Sequence[int], tracks: Sequence[int]
) -> list[tuple[int, float, int, int]]:
    return list(zip(features, splits, modes, tracks or [0] * len(modes), strict=True))


def ask_members(c: NodeContext, forest: Forest, inner: Sequence[int], members: Sequence[float]) -> None:
    """Give nodes of mode MEMBER their values, which stand one behind the other, NaN after each set."""
    rest, equal = list(members), MODES["BRANCH_EQ"]
    for place in [n for n in inner if forest.modes[n] == MEMBER]:
        found: list[float] = []
        while rest and not np.isnan(rest[0]):
            found.append(rest.pop(0))
        if not rest:
            c.invalid("membership_values", "a set for each such node, NaN after each", list(members))
        rest.pop(0)
        if not found:  # a member of nothing: never (but NaN where the node says so)
            found = [np.inf]
            forest.yes[place] = forest.no[place]
        last = place
        forest.modes[place], forest.thresholds[place] = equal, found[0]
        for value in found[1:]:
            following = forest.add(forest.features[place], value, equal, forest.missing[place])
            forest.yes[following], forest.no[following] = forest.yes[place], forest.no[last]
            forest.no[last] = following
            last = following


# -- TreeEnsembleClassifier and TreeEnsembleRegressor ------------------------------------------------------


def numbers(node: OnnxNode, name: str) -> list[float]:
    """Floats of an attribute, or of its double form as a tensor."""
    tensor = node.tensor(f"{name}_as_tensor", None)
    if tensor is not None:
        return [float(v) for v in np.asarray(tensor.array()).reshape(-1)]
    return list(node.floats(name, ()))


def forest_of_lists(c: NodeContext, node: OnnxNode, kind: str) -> Forest:
    """Nodes that say their tree and their number in it; leaves have any number of weights."""
    trees, ids, modes = node.ints("nodes_treeids"), node.ints("nodes_nodeids"), node.strs("nodes_modes")
    features, values = node.ints("nodes_featureids"), numbers(node, "nodes_values")
    yes, no = node.ints("nodes_truenodeids"), node.ints("nodes_falsenodeids")
    tracks = node.ints("nodes_missing_value_tracks_true", ()) or (0,) * len(ids)
    lengths = {len(t) for t in (trees, ids, modes, features, values, yes, no, tracks)}
    if len(lengths) != 1:
        c.invalid("tables of nodes", "of one length", sorted(lengths))
    forest, places = Forest(), {}
    for n, key in enumerate(zip(trees, ids, strict=True)):
        leaf = modes[n] == "LEAF"
        if not leaf and modes[n] not in MODES:
            c.invalid("nodes_modes", "one of " + ", ".join((*MODES, "LEAF")), modes[n])
        mode = LEAF if leaf else MODES[modes[n]]
        places[key] = forest.add(0 if leaf else features[n], values[n], mode, bool(tracks[n]))
    for n, place in enumerate(places.values() if len(places) == len(ids) else ()):
        if forest.modes[place] != LEAF:
            for side, table in ((yes, forest.yes), (no, forest.no)):
                if (trees[n], side[n]) not in places:
                    c.invalid("numbers of nodes", f"of tree {trees[n]}", side[n])
                table[place] = places[trees[n], side[n]]
    if len(places) != len(ids):
        c.invalid("nodes", "distinct", "two of one number")
    reached = {n for p in places.values() if forest.modes[p] != LEAF for n in (forest.yes[p], forest.no[p])}
    first: dict[int, int] = {}
    for (tree, _), place in places.items():
        if tree not in first or (first[tree] in reached and place not in reached):
            first[tree] = place
    forest.roots = [first[tree] for tree in sorted(first)]
    keys = zip(node.ints(f"{kind}_treeids"), node.ints(f"{kind}_nodeids"), strict=True)
    targets, weights = node.ints(f"{kind}_ids"), numbers(node, f"{kind}_weights")
    for key, target, weight in zip(keys, targets, weights, strict=True):
        if key not in places:
            c.invalid(f"{kind}_nodeids", "numbers of nodes", key)
        forest.weights.setdefault(places[key], []).append((target, weight))
    return forest


def tree_regressor(c: NodeContext, node: OnnxNode) -> Value:
    """What the trees say, and the base values."""
    x, forest = rows(c), forest_of_lists(c, node, "target")
    targets, base = node.int("n_targets", 1), numbers(node, "base_values")
    y = aggregated(c, forest, x, targets, node.str("aggregate_function", "SUM"), x.dtype)
    if base:
        y = c.emit("add", y, c.b.constant(np.asarray(base, x.dtype.numpy)))
    return c.cast(transformed(c, y, node.str("post_transform", "NONE")), f32)


def tree_classifier(c: NodeContext, node: OnnxNode) -> list[Value]:
    """Scores of the classes; of two classes, one alone may have weights, and then decides both."""
    x, forest = rows(c), forest_of_lists(c, node, "class")
    texts = node.strs("classlabels_strings", ())
    labels: Sequence[Any] = texts or node.ints("classlabels_int64s", ())
    classes, base = max(len(labels), 1), numbers(node, "base_values")
    y = aggregated(c, forest, x, classes, "SUM", x.dtype)
    transform = node.str("post_transform", "NONE")
    spoken = {target for pairs in forest.weights.values() for target, _ in pairs}
    if len(spoken) == 1 and classes <= 2:
        place, scores = decided(c, forest, y, min(spoken), base, transform)
        if classes == 1:
            return [place, c.cast(scores, f32)]
        return [labelled(c, place, labels, bool(texts)), c.cast(scores, f32)]
    if base:
        y = c.emit("add", y, c.b.constant(np.asarray(base, x.dtype.numpy)))
    scores = transformed(c, y, transform)
    return [labelled(c, best(c, y), labels, bool(texts)), c.cast(scores, f32)]


def decided(
    c: NodeContext, forest: Forest, y: Value, target: int, base: Sequence[float], transform: str
) -> tuple[Value, Value]:
    """Which of two classes one score decides for, and both scores [n, 2].

    Weights that are all positive are the probability of the second class; else the score's sign decides.
    """
    score = c.emit("slice", y, starts=(0, target), sizes=(y.shape[0], 1), steps=(1, 1))
    if base:
        score = c.emit("add", score, c.scalar(base[-1], y.dtype))
    positive = all(weight >= 0 for pairs in forest.weights.values() for _, weight in pairs)
    above = c.emit("gt", c.reshape(score, (y.shape[0],)), c.scalar(0.5 if positive else 0.0, y.dtype))
    if positive and transform == "NONE":
        rest = c.emit("sub", c.scalar(1.0, y.dtype), score)
        return c.cast(above, i64), c.emit("concat", rest, score, axis=1)
    return c.cast(above, i64), transformed(c, both_signs(c, score), transform)


TABLE: dict[str, Row] = {
    "TreeEnsemble": tree_ensemble,
    "TreeEnsembleClassifier": tree_classifier,
    "TreeEnsembleRegressor": tree_regressor,
}
