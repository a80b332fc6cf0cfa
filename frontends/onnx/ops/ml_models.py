"""ai.onnx.ml: linear models and support vector machines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from aino_ir.dims import is_static
from aino_ir.dtypes import f32, i64
from aino_ir.frontends.floats import Number
from aino_ir.frontends.onnx.context import NodeContext, Row
from aino_ir.frontends.onnx.nodes import OnnxNode
from aino_ir.frontends.onnx.ops.ml_features import as_float, chosen, vector
from aino_ir.graph import Value

DOMAIN = "ai.onnx.ml"

TRANSFORMS = ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT")

WINITZKI = 0.147
"""The constant of the approximation of the inverse error function that ONNX's engines use."""


def transformed(c: NodeContext, scores: Value, transform: str) -> Value:
    """Scores [n, classes] after a post_transform."""
    if transform not in TRANSFORMS:
        c.invalid("post_transform", "one of " + ", ".join(TRANSFORMS), transform)
    if transform == "SOFTMAX":
        return c.emit("softmax", scores, axis=1)
    if transform == "LOGISTIC":
        return c.emit("sigmoid", scores)
    if transform == "SOFTMAX_ZERO":
        return softmax_zero(c, scores)
    return probit(c, scores) if transform == "PROBIT" else scores


def softmax_zero(c: NodeContext, scores: Value) -> Value:
    """A softmax in which scores of (nearly) 0 have no weight."""
    x = Number(c, scores)
    top = Number(c, c.emit("reduce.max", scores, axes=(1,), keepdims=True))
    counts = x.map("abs") > 1e-7
    parts = counts.choose((x - top).map("exp"), x * (top * -1.0).map("exp"))
    total = Number(c, c.emit("reduce.sum", parts.value, axes=(1,), keepdims=True))
    none = total.equals(0.0)
    return none.choose(0.5, parts / none.choose(1.0, total)).value


def probit(c: NodeContext, scores: Value) -> Value:
    """The quantile of the normal distribution, by Winitzki's approximation."""
    at = Number(c, scores) * 2.0 - 1.0
    inner = (at * -1.0 + 1.0) * (at + 1.0)
    flat = inner.equals(0.0)
    log = flat.choose(1.0, inner).map("log")
    v = log * 0.5 + 2.0 / (np.pi * WINITZKI)
    root = ((v * v - log * (1.0 / WINITZKI)).map("sqrt") - v).map("sqrt")
    sign = (at < 0.0).choose(-1.0, 1.0)
    return flat.choose(0.0, sign * root * 1.41421356).value


def labels_of(node: OnnxNode, ints: str = "classlabels_ints") -> tuple[Sequence[Any], bool]:
    """Labels of a classifier, and whether they are texts; without any, none."""
    texts = node.strs("classlabels_strings", ())
    return (texts, True) if texts else (node.ints(ints, ()), False)


def labelled(c: NodeContext, place: Value, labels: Sequence[Any], texts: bool) -> Value:
    """The label at each position (the position itself without labels)."""
    if not labels:
        return place
    return chosen(c, place, labels, "" if texts else 0, None if texts else i64)


def best(c: NodeContext, scores: Value) -> Value:
    """The position of the largest score of each row, i64 [n]."""
    return c.emit("argmax", scores, axis=1, keepdims=False)


def both_signs(c: NodeContext, score: Value) -> Value:
    """One score a row as two: its negative, and itself."""
    return c.emit("concat", c.emit("neg", score), score, axis=1)


def rows(c: NodeContext) -> Value:
    """The features [n, columns] as floats; one row alone may lack the first axis."""
    x = as_float(c, c.x)
    if x.rank not in (1, 2):
        c.invalid("rank of X", "1 or 2", x.rank)
    return c.reshape(x, (1, *x.shape)) if x.rank == 1 else x


def weighted(c: NodeContext, x: Value, targets: int) -> Value:
    """x times the coefficients of each target, plus its intercept."""
    matrix = np.asarray(c.node.floats("coefficients"), x.dtype.numpy).reshape(targets, -1)
    y = c.emit("matmul", x, c.b.constant(np.ascontiguousarray(matrix.T)))
    intercepts = c.node.floats("intercepts", ())
    return c.emit("add", y, vector(c, intercepts, x.dtype)) if intercepts else y


def linear_regressor(c: NodeContext, node: OnnxNode) -> Value:
    """A weighted sum a target."""
    y = weighted(c, rows(c), node.int("targets", 1))
    return c.cast(transformed(c, y, node.str("post_transform", "NONE")), f32)


def linear_classifier(c: NodeContext, node: OnnxNode) -> list[Value]:
    """A weighted sum a class, or one for two classes."""
    x = rows(c)
    labels, texts = labels_of(node)
    if not is_static(x.shape[1]) or not int(x.shape[1]):
        c.unsupported("a symbolic number of features")
    count = len(node.floats("coefficients")) // int(x.shape[1])
    scores = weighted(c, x, count)
    if count == 1:
        scores = both_signs(c, scores) if len(labels) in (0, 2) else scores
    if scores.shape[1] == 1:  # one class: is it this one or none
        place = c.cast(c.emit("le", c.reshape(scores, (scores.shape[0],)), c.scalar(0, x.dtype)), i64)
    else:
        place = best(c, scores)
    transform = node.str("post_transform", "NONE")
    if count == 1 and transform == "NONE" and scores.shape[1] == 2:  # as ONNX Runtime has it
        own = c.emit("slice", scores, starts=(0, 1), sizes=(scores.shape[0], 1), steps=(1, 1))
        scores = c.emit("concat", c.emit("sub", c.scalar(1.0, x.dtype), own), own, axis=1)
    return [labelled(c, place, labels, texts), c.cast(transformed(c, scores, transform), f32)]


# -- support vector machines --------------------------------------------------------------------------


def kernel_values(c: NodeContext, x: Value, vectors: np.ndarray) -> Value:
    """The kernel of each row with each vector, [n, vectors]."""
    kind = c.node.str("kernel_type", "LINEAR")
    gamma, shift, degree = (*c.node.floats("kernel_params", ()), 0.0, 0.0, 0.0)[:3]
    table = vectors.astype(x.dtype.numpy)
    if kind == "RBF":
        count, width = table.shape
        apart = c.emit("sub", c.reshape(x, (x.shape[0], 1, width)), c.b.constant(table))
        distance = c.emit("reduce.sum_square", apart, axes=(2,), keepdims=False)
        return (Number(c, c.reshape(distance, (x.shape[0], count))) * -gamma).map("exp").value
    dot = Number(c, c.emit("matmul", x, c.b.constant(np.ascontiguousarray(table.T))))
    if kind == "LINEAR":
        return dot.value
    if kind == "POLY":
        base = dot * gamma + shift
        return c.emit("pow", base.value, c.scalar(degree, x.dtype))
    if kind != "SIGMOID":
        c.invalid("kernel_type", "LINEAR, POLY, RBF or SIGMOID", kind)
    return (dot * gamma + shift).map("tanh").value


def svm_regressor(c: NodeContext, node: OnnxNode) -> Value:
    """A weighted sum of kernels; with `one_class` its sign."""
    x, count = rows(c), node.int("n_supports", 0)
    coefficients = np.asarray(node.floats("coefficients"), x.dtype.numpy)
    rho = node.floats("rho", (0.0,))[0]
    if count > 0:
        vectors = np.asarray(node.floats("support_vectors")).reshape(count, -1)
        values = kernel_values(c, x, vectors)
    else:
        values = x
    y = Number(c, c.emit("matmul", values, c.b.constant(coefficients.reshape(-1, 1)))) + rho
    if node.int("one_class", 0):
        y = (y > 0.0).choose(1.0, -1.0)
    return c.cast(transformed(c, y.value, node.str("post_transform", "NONE")), f32)


def svm_classifier(c: NodeContext, node: OnnxNode) -> list[Value]:
    """Votes of one machine a pair of classes; or without support vectors one weighted sum a class."""
    x = rows(c)
    labels, texts = labels_of(node)
    classes = max(len(labels), 1)
    counts = node.ints("vectors_per_class", ())
    if not sum(counts):
        return _linear_machine(c, node, x, labels, texts, classes)
    scores, votes = pair_scores(c, x, counts)
    transform = node.str("post_transform", "NONE")
    if node.floats("prob_a", ()):
        scores = pair_probabilities(c, scores, classes)
    elif classes == 2:
        scores = both_signs(c, scores)
    return [labelled(c, best(c, votes), labels, texts), c.cast(transformed(c, scores, transform), f32)]


def _linear_machine(
    c: NodeContext, node: OnnxNode, x: Value, labels: Sequence[Any], texts: bool, classes: int
) -> list[Value]:
    matrix = np.asarray(node.floats("coefficients"), x.dtype.numpy).reshape(classes, -1)
    scores = c.emit("matmul", x, c.b.constant(np.ascontiguousarray(matrix.T)))
    scores = c.emit("add", scores, c.scalar(node.floats("rho", (0.0,))[0], x.dtype))
    y = transformed(c, scores, node.str("post_transform", "NONE"))
    return [labelled(c, best(c, scores), labels, texts), c.cast(y, f32)]


def pair_scores(c: NodeContext, x: Value, counts: Sequence[int]) -> tuple[Value, Value]:
    """Scores [n, pairs] of all pairs of classes, and how many pairs each class wins [n, classes]."""
    node, classes, total = c.node, len(counts), sum(counts)
    starts = np.cumsum([0, *counts])
    vectors = np.asarray(node.floats("support_vectors")).reshape(total, -1)
    coefficients = np.asarray(node.floats("coefficients")).reshape(-1, total)
    pairs = [(i, j) for i in range(classes) for j in range(i + 1, classes)]
    mixing = np.zeros((total, len(pairs)), x.dtype.numpy)
    wins = np.zeros((2, len(pairs), classes), x.dtype.numpy)
    for number, (i, j) in enumerate(pairs):
        first, second = slice(starts[i], starts[i + 1]), slice(starts[j], starts[j + 1])
        mixing[first, number] = coefficients[j - 1, first]
        mixing[second, number] = coefficients[i, second]
        wins[0, number, i] = wins[1, number, j] = 1
    mixed = c.emit("matmul", kernel_values(c, x, vectors), c.b.constant(mixing))
    scores = c.emit("add", mixed, vector(c, node.floats("rho"), x.dtype))
    won = Number(c, scores) > 0.0
    votes = [
        c.emit("matmul", won.choose(*sides).value, c.b.constant(table))
        for sides, table in zip(((1.0, 0.0), (0.0, 1.0)), wins, strict=True)
    ]
    return scores, c.emit("add", *votes)


def pair_probabilities(c: NodeContext, scores: Value, classes: int) -> Value:
    """Probabilities [n, classes] that agree best with those of all pairs (Wu, Lin, Weng 2004)."""
    node = c.node
    slope, shift = (Number(c, vector(c, node.floats(f"prob_{n}"), scores.dtype)) for n in "ab")
    likely = ((Number(c, scores) * slope + shift) * -1.0).map("sigmoid")
    held = c.emit("clip", likely.value, min=1e-7, max=1 - 1e-7)
    return c.emit("svm.pairwise_coupling", held, classes=classes)


TABLE: dict[str, Row] = {
    "LinearClassifier": linear_classifier,
    "LinearRegressor": linear_regressor,
    "SVMClassifier": svm_classifier,
    "SVMRegressor": svm_regressor,
}
