"""Ops that access by index, windows, resampling and sums of products: definitions, meaning, refusals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import aino_ir.ops  # noqa: F401  registers every family
from aino_ir.builder import Builder
from aino_ir.definition_interp import evaluate_op_definition
from aino_ir.dims import Dim
from aino_ir.errors.ir import BadAttribute, BadOperand, DTypeMismatch, OutOfRangeIndex, ShapeMismatch
from aino_ir.interp import run_module
from aino_ir.op import OPS, Trait
from aino_ir.sampling import inputs_of, sample_module, samples_for
from aino_ir.tolerance import disagreement
from aino_ir.types import tensor, type_of

NAMES = [
    *sorted(
        name
        for name, cls in OPS.items()
        if name.split(".")[0] in ("index", "image") and not cls.has(Trait.DATA_DEPENDENT)
    ),
    "math.bitcast",
    "nn.conv_transpose",
    "nn.einsum",
    "nn.lp_pool",
    "nn.max_pool_indices",
]


def apply(name: str, *arrays: Any, **attrs: Any) -> tuple[np.ndarray, ...]:
    """Results of an op on arrays, in the interpreter."""
    b = Builder()
    values = [None if a is None else b.input(f"x{i}", type_of(a)) for i, a in enumerate(arrays)]
    op = b.op(OPS[name], *values, **attrs)
    for i, result in enumerate(op.results):
        b.output(f"y{i}", result)
    return run_module(b.module, [a for a in arrays if a is not None])


@pytest.mark.parametrize("name", NAMES)
def test_definition_agrees_with_evaluate(name: str) -> None:
    seen = 0
    for sample in samples_for(OPS[name]):
        module = sample_module(OPS[name], sample)
        op = module.main.block.first
        assert op is not None
        expected = run_module(module, inputs_of(sample))
        for y, r in zip(evaluate_op_definition(op, sample.operands), expected, strict=True):
            assert y.dtype == r.dtype
            terms = max(1, *(int(np.prod(a.shape)) for a in inputs_of(sample)), 1)
            why = disagreement(y, r, "reordered", terms=terms)
            assert why is None, f"{sample.note} {sample.attrs}: {why}"
        seen += 1
    assert seen > 0


X = np.arange(12, dtype=np.float32).reshape(3, 4)

OUTSIDE: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
    ("index.gather_nd", (X, np.array([[0, 4]])), {}),
    ("index.gather_nd", (X, np.array([[-4, 0]])), {}),
    ("index.gather_elements", (X, np.array([[3, 0]])), {"axis": 0}),
    ("index.gather_elements", (X, np.array([[2**40]])), {"axis": 1}),
    ("index.scatter_elements", (X, np.array([[-4]]), np.ones((1, 1), np.float32)), {"axis": 0}),
    ("index.scatter_nd", (X, np.array([[3]]), np.ones((1, 4), np.float32)), {}),
    ("index.reverse_sequence", (X, np.array([1, 2, 3, 4])), {}),
    ("index.reverse_sequence", (X, np.array([-1, 2, 3, 3])), {}),
    ("image.resample", (X, np.array([[4]]), np.ones((1, 1), np.float32)), {"axis": 1}),
]


@pytest.mark.parametrize(("name", "arrays", "attrs"), OUTSIDE)
def test_indices_outside_are_errors_in_both(
    name: str, arrays: tuple[Any, ...], attrs: dict[str, Any]
) -> None:
    with pytest.raises(OutOfRangeIndex):
        apply(name, *arrays, **attrs)
    b = Builder()
    op = b.op(OPS[name], *[b.input(f"x{i}", type_of(a)) for i, a in enumerate(arrays)], **attrs)
    if not (
        name == "index.reverse_sequence" and arrays[1].min() >= 0
    ):  # a length is not an index in a message
        with pytest.raises(OutOfRangeIndex):
            evaluate_op_definition(op, arrays)


def test_scatter_takes_updates_in_order() -> None:
    indices, updates = np.array([1, 1, -1]), np.array([5, 6, 7], np.float32)
    (y,) = apply("index.scatter_elements", np.zeros(3, np.float32), indices, updates)
    assert y.tolist() == [0, 6, 7]
    (y,) = apply("index.scatter_elements", np.ones(3, np.float32), indices, updates, reduction="add")
    assert y.tolist() == [1, 12, 8]


def test_data_dependent_extents_are_symbols() -> None:
    b = Builder()
    x = b.input("x", tensor("f32", 2, 3))
    y = b.nonzero(x)
    assert isinstance(y.shape[1], Dim)
    assert b.function.symbols.interval(y.shape[1]) == (0, 6)
    z = b.gather(b.reshape(x, shape=(6,)), b.slice(y, starts=(0, 0), sizes=(1, y.shape[1]), steps=(1, 1)))
    b.output("z", z)
    module = b.module
    for array in (np.eye(2, 3, dtype=np.float32), np.zeros((2, 3), np.float32)):
        (got,) = run_module(module, [array])
        assert got.shape == (1, int(np.count_nonzero(array)))


def test_selections() -> None:
    (y,) = apply("index.nonzero", np.array([[1, 0], [0, 2]]))
    assert y.tolist() == [[0, 1], [0, 1]]
    (y,) = apply("index.compress", X, np.array([False, True]), axis=0)
    assert y.tolist() == [[4, 5, 6, 7]]
    values, first, inverse, counts = apply("index.unique", np.array([3, 1, 3, 2, 1]))
    assert (values.tolist(), first.tolist()) == ([1, 2, 3], [1, 3, 0])
    assert (inverse.tolist(), counts.tolist()) == ([2, 0, 2, 1, 0], [2, 1, 2])
    assert apply("index.unique", np.array([3, 1, 3]), sorted=False)[0].tolist() == [3, 1]


def test_overlapping_boxes_are_suppressed() -> None:
    boxes = np.array([[[0, 0, 1, 1], [0, 0.1, 1, 1.1], [0, 2, 1, 3], [1, 3, 0, 2]]], np.float32)
    scores = np.array([[[0.9, 0.8, 0.3, 0.7]]], np.float32)
    found = apply("index.non_max_suppression", boxes, scores, np.float32(0.5), limit=3)[0]
    assert found.tolist() == [[0, 0, 0], [0, 0, 3]]
    half, least = np.float32(0.5), np.float32(0.8)
    found = apply("index.non_max_suppression", boxes, scores, half, least, limit=3)[0]
    assert found.tolist() == [[0, 0, 0]]
    centred = np.array([[[0.5, 0.5, 1, 1], [0.6, 0.5, 1, 1]]], np.float32)
    found = apply("index.non_max_suppression", centred, scores[..., :2], half, limit=2, centred=True)[0]
    assert found.tolist() == [[0, 0, 0]]


def test_inverses() -> None:
    (y,) = apply("nn.inverse", np.array([[[2, 1], [1, 1]], [[1, 2], [2, 4]]], np.float32))
    np.testing.assert_allclose(y[0], [[1, -1], [-1, 2]], rtol=1e-6)
    assert np.isnan(y[1]).all()


def test_determinants() -> None:
    (y,) = apply("nn.determinant", np.array([[1, 2], [3, 4]], np.float32))
    assert float(y) == pytest.approx(-2)


REFUSED: list[tuple[str, tuple[Any, ...], dict[str, Any], type[Exception]]] = [
    ("index.range", (), {"size": -1}, BadOperand),
    ("index.range", (), {"size": 2, "dtype": "bool"}, BadAttribute),
    ("index.gather_nd", (X, np.zeros((1, 3), np.int64)), {}, BadAttribute),
    ("index.gather_nd", (X, np.zeros((1, 1), np.float32)), {}, DTypeMismatch),
    ("index.gather_nd", (X, np.zeros((), np.int64)), {}, BadOperand),
    ("index.gather_elements", (X, np.zeros(3, np.int64)), {}, BadOperand),
    ("index.gather_elements", (X, np.zeros((1, 1), np.float32)), {}, DTypeMismatch),
    ("index.scatter_elements", (X, np.zeros((1, 1), np.int64), X), {}, ShapeMismatch),
    ("index.scatter_elements", (X, np.zeros((3, 4), np.int64), X), {"reduction": "mean"}, BadAttribute),
    ("index.scatter_elements", (X, X, X), {}, DTypeMismatch),
    ("index.scatter_nd", (X, np.zeros((1, 3), np.int64), X), {}, BadOperand),
    ("index.top_k", (X,), {"k": 5}, BadOperand),
    ("index.top_k", (X > 0,), {"k": 1}, DTypeMismatch),
    ("index.reverse_sequence", (X, np.zeros(4, np.int64)), {"batch_axis": 0}, BadAttribute),
    ("index.reverse_sequence", (X, np.zeros(4, np.float32)), {}, DTypeMismatch),
    ("index.compress", (X, np.ones(3, np.int64)), {}, DTypeMismatch),
    ("index.non_max_suppression", (np.ones((1, 2, 4), int), np.ones((1, 1, 2), int)), {}, DTypeMismatch),
    ("image.resample", (X, np.zeros((1, 1), np.float32), np.zeros((1, 1), np.float32)), {"axis": 0}, DTypeMismatch),
    ("image.resample", (X > 0, np.zeros((1, 1), int), np.zeros((1, 1), np.float32)), {"axis": 0}, DTypeMismatch),
    ("math.bitcast", (X,), {"to": "i64"}, BadAttribute),
    ("nn.determinant", (X.astype(int),), {}, DTypeMismatch),
    ("nn.determinant", (X[0],), {}, BadOperand),
    ("nn.inverse", (X[0],), {}, BadOperand),
    ("nn.inverse", (X,), {}, ShapeMismatch),
    ("nn.determinant", (X,), {}, ShapeMismatch),
    ("nn.einsum", (X,), {"equation": "ij"}, BadAttribute),
    ("nn.einsum", (X,), {"equation": "ij->ijk"}, BadAttribute),
    ("nn.einsum", (X, X), {"equation": "ij,jk->ik"}, ShapeMismatch),
    ("nn.einsum", (X > 0,), {"equation": "ij->i"}, DTypeMismatch),
]  # fmt: skip


@pytest.mark.parametrize(("name", "arrays", "attrs", "error"), REFUSED)
def test_illegal_ops_are_refused(
    name: str, arrays: tuple[Any, ...], attrs: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        apply(name, *arrays, **attrs)


WINDOW = {"strides": (1,), "dilations": (1,), "pads_before": (0,), "pads_after": (0,)}


@pytest.mark.parametrize(
    ("name", "arrays", "attrs", "error"),
    [
        ("nn.lp_pool", (X[None],), {**WINDOW, "kernel": (2,), "p": 0}, BadAttribute),
        ("nn.lp_pool", (X[None].astype(int),), {**WINDOW, "kernel": (2,)}, DTypeMismatch),
        ("nn.conv_transpose", (X[0], X[0]), {**WINDOW, "output_padding": (0,)}, BadOperand),
        ("nn.conv_transpose", (X[None], X[None]), {**WINDOW, "output_padding": (0,)}, ShapeMismatch),
        ("nn.conv_transpose", (X[None], X[:, None]), {**WINDOW, "output_padding": ()}, BadAttribute),
        ("nn.conv_transpose", (X[None], X[:, None]), {**WINDOW, "output_padding": (0,), "groups": 2}, BadAttribute),
        ("nn.conv_transpose", (X[None], X[:, None]), {**WINDOW, "strides": (0,), "output_padding": (0,)}, BadAttribute),
    ],
)  # fmt: skip
def test_illegal_windows_are_refused(
    name: str, arrays: tuple[Any, ...], attrs: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        apply(name, *arrays, **attrs)
