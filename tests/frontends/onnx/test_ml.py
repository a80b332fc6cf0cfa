"""ai.onnx.ml against ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from aino_ir.errors.ir import OutOfRangeIndex
from aino_ir.errors.onnx import NodeInvalid
from aino_ir.frontends.onnx import load_onnx
from aino_ir.interp import run_module
from aino_ir.ops.svm import coupled
from tests.frontends.onnx.models import make_model

RNG = np.random.default_rng(31)
X = RNG.standard_normal((6, 3)).astype(np.float32)
X[4] = 0
INTS = RNG.integers(-2, 3, (5, 2))
TEXTS = np.asarray([["b", "a"], ["zzz", "c"]], object)
ROW = np.float32([3, 1, 2, 5])
INT = np.int64


def model_of(op: str, arrays: Any, outputs: int = 1, version: int = 3, **attributes: Any) -> onnx.ModelProto:
    names = [f"x{n}" for n in range(len(arrays))]
    targets = [f"y{n}" for n in range(outputs)]
    inputs = []
    for name, a in zip(names, arrays, strict=True):
        code = TensorProto.STRING if a.dtype == object else helper.np_dtype_to_tensor_dtype(a.dtype)
        inputs.append(
            helper.make_tensor_value_info(name, code, [f"n_{name}", *a.shape[1:]] if a.ndim == 2 else a.shape)
        )
    node = helper.make_node(op, names, targets, name="the node", domain="ai.onnx.ml", **attributes)
    ends = [onnx.ValueInfoProto(name=name) for name in targets]
    return make_model([node], inputs, ends, opset=17, domains={"ai.onnx.ml": version})


def agree(
    op: str, *arrays: Any, outputs: int = 1, version: int = 3, tolerance: float = 1e-5, **attributes: Any
) -> Any:
    """Outputs of a node, which are those of ONNX Runtime."""
    arrays = tuple(a if isinstance(a, np.ndarray) else np.asarray(a) for a in arrays)
    model = model_of(op, arrays, outputs, version, **attributes)
    got = run_module(load_onnx(model), arrays)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    want = session.run(None, {f"x{n}": a for n, a in enumerate(arrays)})
    for g, w in zip(got, want, strict=True):
        w = np.asarray(w)
        assert np.shape(g) == w.shape
        if w.dtype == object:
            assert g.tolist() == w.tolist()
        else:
            assert g.dtype == w.dtype
            np.testing.assert_allclose(g, w, rtol=tolerance, atol=tolerance)
    return got


def test_columns_are_extracted() -> None:
    agree("ArrayFeatureExtractor", X, INT([2, 0, 2]))
    agree("ArrayFeatureExtractor", X, INT([[1]]))
    agree("ArrayFeatureExtractor", ROW, INT([3, 1]))


def test_features_are_prepared() -> None:
    agree("Binarizer", X, threshold=0.25)
    agree("FeatureVectorizer", X, X[:, :2], inputdimensions=[2, 3])
    agree("Scaler", X, offset=[1.0, 0.5, 2.0], scale=[2.0, 3.0, 0.5])
    agree("Scaler", INTS, offset=[1.0], scale=[2.0])
    for norm in ("MAX", "L1", "L2"):
        agree("Normalizer", np.abs(X), norm=norm)


def test_missing_values_are_imputed() -> None:
    holes = np.where(X > 0.5, np.float32(np.nan), X)
    agree("Imputer", holes, imputed_value_floats=[7.0, 8.0, 9.0], replaced_value_float=float("nan"))
    agree("Imputer", X, imputed_value_floats=[7.0], replaced_value_float=0.0)
    agree("Imputer", INTS, imputed_value_int64s=[7, 8], replaced_value_int64=1)


def test_values_are_encoded() -> None:
    agree("OneHotEncoder", INTS, cats_int64s=[-1, 0, 2], zeros=1)
    agree("OneHotEncoder", TEXTS, cats_strings=["a", "b", "c"], zeros=1)
    agree("CategoryMapper", TEXTS, cats_strings=["a", "b", "c"], cats_int64s=[5, 6, 7], default_int64=-3)
    agree("CategoryMapper", INTS, cats_strings=["a", "b", "c"], cats_int64s=[-1, 0, 1], default_string="no")


ENCODERS: list[tuple[np.ndarray, dict[str, Any]]] = [
    (INTS, {"keys_int64s": [-1, 0, 2], "values_floats": [0.5, 1.5, 2.5], "default_float": 9.0}),
    (INTS, {"keys_int64s": [-1, 0, 2], "values_strings": ["x", "y", "z"]}),
    (INTS, {"keys_int64s": [1, 2], "values_int64s": [10, 20]}),
    (TEXTS, {"keys_strings": ["a", "b"], "values_int64s": [10, 20], "default_int64": 5}),
    (TEXTS, {"keys_strings": ["a", "b"], "values_strings": ["A", "B"], "default_string": "?"}),
    (np.float32([[1.5, np.nan], [0, 2]]), {"keys_floats": [1.5, float("nan")], "values_int64s": [1, 2]}),
]


@pytest.mark.parametrize("number", range(len(ENCODERS)))
def test_labels_are_encoded(number: int) -> None:
    x, attributes = ENCODERS[number]
    agree("LabelEncoder", x, version=4 if x.dtype == np.float32 else 2, **attributes)


def test_labels_of_the_first_version() -> None:
    agree("LabelEncoder", TEXTS, version=1, classes_strings=["a", "b", "c"], default_int64=-7)
    agree("LabelEncoder", INTS, version=1, classes_strings=["a", "b"], default_string="none")


def test_an_unknown_category_is_an_error_where_zeros_are_not_allowed() -> None:
    model = model_of("OneHotEncoder", [INTS], cats_int64s=[-1, 0], zeros=0)
    with pytest.raises(OutOfRangeIndex) as caught:
        run_module(load_onnx(model), [np.int64([[5, 0]])])
    assert "'the node'" in str(caught.value)


# -- linear models and vector machines ------------------------------------------------------------------

TRANSFORMS = ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO")


def floats(*shape: int) -> list[float]:
    return [float(v) for v in RNG.standard_normal(shape).astype(np.float32).reshape(-1)]


def test_linear_regression() -> None:
    agree("LinearRegressor", X, coefficients=floats(3), intercepts=[0.5])
    agree("LinearRegressor", X, coefficients=floats(2, 3), intercepts=[0.5, -1.0], targets=2)


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_linear_classification(transform: str) -> None:
    common: dict[str, Any] = {"outputs": 2, "post_transform": transform}
    agree(
        "LinearClassifier",
        X,
        coefficients=floats(3, 3),
        intercepts=floats(3),
        classlabels_ints=[4, 5, 6],
        **common,
    )
    agree(
        "LinearClassifier",
        X,
        coefficients=floats(2, 3),
        intercepts=floats(2),
        classlabels_strings=["a", "b"],
        **common,
    )
    if transform in ("NONE", "LOGISTIC"):
        agree(
            "LinearClassifier", X, coefficients=floats(3), intercepts=[0.1], classlabels_ints=[7, 9], **common
        )


KERNELS: list[dict[str, Any]] = [
    {"kernel_type": "LINEAR", "kernel_params": [1.0, 0.0, 1.0]},
    {"kernel_type": "RBF", "kernel_params": [0.4, 0.0, 3.0]},
    {"kernel_type": "POLY", "kernel_params": [0.3, 1.0, 2.0]},
    {"kernel_type": "SIGMOID", "kernel_params": [0.3, 0.1, 3.0]},
]


@pytest.mark.parametrize("kernel", KERNELS, ids=[k["kernel_type"] for k in KERNELS])
def test_vector_machines(kernel: dict[str, Any]) -> None:
    vectors = floats(5, 3)
    agree(
        "SVMRegressor", X, coefficients=floats(5), support_vectors=vectors, n_supports=5, rho=[0.2], **kernel
    )
    agree(
        "SVMRegressor",
        X,
        coefficients=floats(5),
        support_vectors=vectors,
        n_supports=5,
        rho=[0.2],
        one_class=1,
        **kernel,
    )
    three: dict[str, Any] = {
        "coefficients": floats(2, 5),
        "support_vectors": vectors,
        "vectors_per_class": [2, 1, 2],
        "rho": floats(3),
        "outputs": 2,
    }
    agree("SVMClassifier", X, classlabels_ints=[3, 5, 7], **three, **kernel)
    agree(
        "SVMClassifier",
        X,
        classlabels_strings=["a", "b", "c"],
        prob_a=[-1.0, -0.5, -2.0],
        prob_b=[0.1, 0.0, -0.1],
        tolerance=1e-4,
        **three,
        **kernel,
    )
    two: dict[str, Any] = {
        "coefficients": floats(5),
        "support_vectors": vectors,
        "vectors_per_class": [2, 3],
        "rho": [0.1],
        "outputs": 2,
        "classlabels_ints": [0, 1],
    }
    agree("SVMClassifier", X, **two, **kernel)
    agree("SVMClassifier", X, prob_a=[-1.2], prob_b=[0.1], tolerance=1e-4, **two, **kernel)


def test_machines_without_vectors() -> None:
    agree("SVMRegressor", X, coefficients=floats(3), rho=[0.2], n_supports=0, kernel_params=[1.0, 0.0, 1.0])
    agree(
        "SVMClassifier",
        X,
        coefficients=floats(3, 3),
        rho=[0.2],
        classlabels_ints=[1, 2, 3],
        outputs=2,
        kernel_params=[1.0, 0.0, 1.0],
    )


def test_probabilities_of_pairs() -> None:
    """Pairs that come from one distribution give it back."""
    p = np.asarray([0.5, 0.3, 0.2])
    pairs = np.asarray([p[i] / (p[i] + p[j]) for i in range(3) for j in range(i + 1, 3)])
    np.testing.assert_allclose(coupled(pairs, 3), p, atol=0.01)


# -- trees ----------------------------------------------------------------------------------------------


def trees(kind: str, targets: int, **changed: Any) -> dict[str, Any]:
    """Three trees of depth 2 with random questions, and weights of every target at every leaf."""
    count, inner = 3, [0, 1, 2]
    nodes = [(t, n) for t in range(count) for n in range(7)]
    modes = ["BRANCH_LEQ" if n in inner else "LEAF" for _, n in nodes]
    leaves = [(t, n, k) for t, n in nodes if n not in inner for k in range(targets)]
    found = {
        "nodes_treeids": [t for t, _ in nodes],
        "nodes_nodeids": [n for _, n in nodes],
        "nodes_modes": modes,
        "nodes_featureids": [int(RNG.integers(3)) if n in inner else 0 for _, n in nodes],
        "nodes_values": floats(len(nodes)),
        "nodes_truenodeids": [2 * n + 1 if n in inner else 0 for _, n in nodes],
        "nodes_falsenodeids": [2 * n + 2 if n in inner else 0 for _, n in nodes],
        "nodes_missing_value_tracks_true": [int(RNG.integers(2)) for _ in nodes],
        f"{kind}_treeids": [t for t, _, _ in leaves],
        f"{kind}_nodeids": [n for _, n, _ in leaves],
        f"{kind}_ids": [k for _, _, k in leaves],
        f"{kind}_weights": floats(len(leaves)),
    }
    return {**found, **changed}


HOLES = np.where(X > 0.9, np.float32(np.nan), X)


@pytest.mark.parametrize("aggregate", ["SUM", "AVERAGE", "MIN", "MAX"])
def test_tree_regression(aggregate: str) -> None:
    agree("TreeEnsembleRegressor", HOLES, n_targets=2, aggregate_function=aggregate, **trees("target", 2))
    agree(
        "TreeEnsembleRegressor",
        X,
        n_targets=1,
        aggregate_function=aggregate,
        base_values=[0.75],
        **trees("target", 1),
    )


@pytest.mark.parametrize("mode", ["BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ"])
def test_questions_of_trees(mode: str) -> None:
    tables = trees("target", 1)
    tables["nodes_modes"] = [mode if m != "LEAF" else m for m in tables["nodes_modes"]]
    tables["nodes_values"] = [float(v) for v in RNG.integers(-1, 2, len(tables["nodes_values"]))]
    agree("TreeEnsembleRegressor", INTS_AS_FLOATS, n_targets=1, **tables)


INTS_AS_FLOATS = RNG.integers(-1, 2, (8, 3)).astype(np.float32)


@pytest.mark.parametrize("transform", ["NONE", "SOFTMAX", "LOGISTIC"])
def test_tree_classification(transform: str) -> None:
    common: dict[str, Any] = {"outputs": 2, "post_transform": transform}
    agree("TreeEnsembleClassifier", HOLES, classlabels_int64s=[2, 4, 6], **trees("class", 3), **common)
    agree(
        "TreeEnsembleClassifier",
        X,
        classlabels_strings=["a", "b", "c"],
        base_values=[0.1, 0.2, 0.3],
        **trees("class", 3),
        **common,
    )
    if transform != "SOFTMAX":
        agree("TreeEnsembleClassifier", X, classlabels_int64s=[0, 1], **trees("class", 1), **common)


def test_positive_weights_of_two_classes_are_a_probability() -> None:
    weights = [abs(w) / 3 for w in floats(12)]
    tables = trees("class", 1, class_weights=weights)
    labels, scores = agree("TreeEnsembleClassifier", X, classlabels_int64s=[0, 1], outputs=2, **tables)
    assert np.array_equal(labels, (scores[:, 1] > 0.5).astype(np.int64))


def ensemble(**changed: Any) -> dict[str, Any]:
    """A TreeEnsemble of the fifth version: a root over an inner node and a leaf."""

    def tensor(name: str, values: Any, dtype: Any) -> onnx.TensorProto:
        return numpy_helper.from_array(np.asarray(values, dtype), name)

    found: dict[str, Any] = {
        "n_targets": 2,
        "tree_roots": [0],
        "nodes_modes": tensor("m", [0, 0], np.uint8),
        "nodes_featureids": [0, 1],
        "nodes_splits": tensor("s", [0.25, -0.5], np.float32),
        "nodes_truenodeids": [1, 0],
        "nodes_trueleafs": [0, 1],
        "nodes_falsenodeids": [2, 1],
        "nodes_falseleafs": [1, 1],
        "leaf_targetids": [0, 1, 0],
        "leaf_weights": tensor("w", [1.5, 2.5, -3.5], np.float32),
    }
    return {**found, **changed}


def test_tree_ensembles() -> None:
    agree("TreeEnsemble", X, version=5, **ensemble())
    (soft,) = run_module(load_onnx(model_of("TreeEnsemble", [X], 1, 5, **ensemble(post_transform=1))), [X])
    (plain,) = run_module(load_onnx(model_of("TreeEnsemble", [X], 1, 5, **ensemble())), [X])
    shares = np.exp(plain) / np.exp(plain).sum(1, keepdims=True)
    np.testing.assert_allclose(soft, shares, rtol=1e-5)  # ONNX's evaluator ignores the attribute


BROKEN: list[tuple[str, str, dict[str, Any], str]] = [
    ("a circle", "TreeEnsemble", ensemble(nodes_truenodeids=[0, 0]), "leads back to itself"),
    ("a leaf that is none", "TreeEnsemble", ensemble(nodes_falsenodeids=[9, 1]), "within 0..2"),
    ("a feature that is none", "TreeEnsemble", ensemble(nodes_featureids=[0, 3]), "nodes_featureids"),
    ("a target that is none", "TreeEnsemble", ensemble(leaf_targetids=[0, 2, 0]), "targets of leaves"),
    ("tables of two lengths", "TreeEnsemble", ensemble(nodes_featureids=[0]), "of one length"),
    ("no such aggregate", "TreeEnsemble", ensemble(aggregate_function=7), "aggregate_function"),
    ("no such transform", "TreeEnsemble", ensemble(post_transform=7), "post_transform"),
    ("no such word", "TreeEnsembleRegressor", trees("target", 1, n_targets=1, nodes_modes=["X"] * 21), "BRANCH_LEQ"),
    ("no such norm", "Normalizer", {"norm": "L3"}, "norm"),
    ("no values", "Imputer", {}, "imputed_value_floats"),
    ("no such kernel", "SVMRegressor", {"coefficients": [1.0], "support_vectors": [0.0] * 3, "n_supports": 1, "kernel_type": "X"}, "kernel_type"),
    ("no such transform of scores", "LinearRegressor", {"coefficients": [0.0] * 3, "post_transform": "X"}, "post_transform"),
    ("widths that are too few", "FeatureVectorizer", {"inputdimensions": [1, 2]}, "inputdimensions"),
    ("no categories", "OneHotEncoder", {"cats_strings": ["a"]}, "categories"),
    ("more keys than values", "LabelEncoder", {"keys_floats": [1.0, 2.0], "values_floats": [1.0]}, "keys and values"),
    ("two numbers for three texts", "CategoryMapper", {"cats_int64s": [1, 2], "cats_strings": ["a"] * 3}, "categories"),
]  # fmt: skip


@pytest.mark.parametrize(("op", "attributes", "text"), [r[1:] for r in BROKEN], ids=[r[0] for r in BROKEN])
def test_malformed_nodes_are_refused(op: str, attributes: dict[str, Any], text: str) -> None:
    version = 5 if op == "TreeEnsemble" else 3
    model = model_of(op, [X], version=version, **attributes)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 6
    with pytest.raises(NodeInvalid, match=text):
        load_onnx(model)
