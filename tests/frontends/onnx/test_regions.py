"""MaxRoiPool and TfIdfVectorizer against ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from aino_ir.errors.onnx import NodeInvalid
from aino_ir.frontends.onnx import load_onnx
from aino_ir.interp import run_module
from tests.frontends.onnx.models import make_model

RNG = np.random.default_rng(17)


def model_of(op: str, arrays: Any, opset: int = 17, **attributes: Any) -> onnx.ModelProto:
    names = [f"x{n}" for n in range(len(arrays))]
    inputs = []
    for name, a in zip(names, arrays, strict=True):
        code = TensorProto.STRING if a.dtype == object else helper.np_dtype_to_tensor_dtype(a.dtype)
        inputs.append(helper.make_tensor_value_info(name, code, a.shape))
    node = helper.make_node(op, names, ["y"], **attributes)
    return make_model([node], inputs, [onnx.ValueInfoProto(name="y")], opset=opset)


def agree(op: str, *arrays: np.ndarray, **attributes: Any) -> None:
    model = model_of(op, arrays, **attributes)
    got = run_module(load_onnx(model), arrays)[0]
    session = onnxruntime.InferenceSession(model.SerializeToString())
    want = session.run(None, {f"x{n}": a for n, a in enumerate(arrays)})[0]
    assert got.dtype == want.dtype
    np.testing.assert_allclose(got, want, rtol=1e-6)


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_regions_are_pooled(scale: float) -> None:
    x = RNG.standard_normal((2, 3, 7, 9)).astype(np.float32)
    rois = np.float32(
        [[0, 0, 0, 8, 6], [1, 2, 1, 5, 4], [0, 3, 3, 3, 3], [1, 20, 20, 30, 30], [0, 6, 2, 12, 9]]
    )
    agree("MaxRoiPool", x, rois, pooled_shape=[2, 3], spatial_scale=scale)


def test_regions_need_a_shape() -> None:
    x, rois = np.zeros((1, 1, 4, 4), np.float32), np.zeros((1, 5), np.float32)
    with pytest.raises(NodeInvalid, match="pooled_shape"):
        load_onnx(model_of("MaxRoiPool", [x, rois], pooled_shape=[0, 1]))
    with pytest.raises(NodeInvalid, match="4 and 2"):
        load_onnx(model_of("MaxRoiPool", [x[0], rois], pooled_shape=[1, 1]))


POOL = {
    "ngram_counts": [0, 3],
    "ngram_indexes": [0, 4, 1, 2, 3],
    "pool_int64s": [2, 3, 5, 2, 3, 5, 2],
    "weights": [0.5, 1.0, 2.0, 3.0, 0.25],
}
ROWS = np.int64([[2, 3, 5, 2, 2, 3], [5, 5, 2, 3, 5, 2], [9, 9, 9, 9, 9, 9]])


@pytest.mark.parametrize("mode", ["TF", "IDF", "TFIDF"])
@pytest.mark.parametrize(("shortest", "longest", "skips"), [(1, 1, 3), (2, 2, 0), (1, 2, 2), (2, 2, 9)])
def test_sequences_are_counted(mode: str, shortest: int, longest: int, skips: int) -> None:
    attributes = {**POOL, "mode": mode, "min_gram_length": shortest, "max_gram_length": longest}
    for x in (ROWS, ROWS[0], ROWS.astype(np.int32)):
        agree("TfIdfVectorizer", x, max_skip_count=skips, **attributes)


def test_texts_are_counted() -> None:
    words = np.asarray([["a", "b", "c", "a"], ["b", "c", "?", "b"]], object)
    texts = [{2: "a", 3: "b", 5: "c"}[n] for n in POOL["pool_int64s"]]  # type: ignore[index]
    attributes = {k: v for k, v in POOL.items() if k != "pool_int64s"}
    common: dict[str, Any] = {
        "mode": "TFIDF",
        "min_gram_length": 1,
        "max_gram_length": 2,
        "max_skip_count": 1,
    }
    agree("TfIdfVectorizer", words, pool_strings=texts, **common, **attributes)


BROKEN = [
    ({"mode": "X"}, "mode"),
    ({"min_gram_length": 0}, "gram lengths"),
    ({"max_skip_count": 10**6}, "gram lengths"),
    ({"ngram_counts": [0, 4]}, "whole n-grams"),
    ({"ngram_indexes": [0, 1]}, "5 of them"),
]


@pytest.mark.parametrize(("changed", "text"), BROKEN)
def test_malformed_pools_are_refused(changed: dict[str, Any], text: str) -> None:
    common = {"mode": "TF", "min_gram_length": 1, "max_gram_length": 2, "max_skip_count": 0}
    with pytest.raises(NodeInvalid, match=text):
        load_onnx(model_of("TfIdfVectorizer", [ROWS], **{**common, **POOL, **changed}))
