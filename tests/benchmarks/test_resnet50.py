"""The ResNet-50 of the demo: the published network, the same bytes every time."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from benchmarks.resnet50 import images, resnet50


def test_it_is_the_published_network() -> None:
    model = resnet50()
    onnx.checker.check_model(model)
    kinds = [node.op_type for node in model.graph.node]
    assert kinds.count("Conv") == kinds.count("BatchNormalization") == 53
    assert kinds.count("Add") == 16
    weights = {t.name: int(np.prod(t.dims)) for t in model.graph.initializer}
    statistics = sum(n for name, n in weights.items() if name.endswith(("_mean", "_variance")))
    assert sum(weights.values()) - statistics == 25_557_032  # parameters as published


def test_same_seed_same_bytes() -> None:
    one, again, other = (resnet50(size=32, width=8, seed=seed).SerializeToString() for seed in (0, 0, 1))
    assert one == again != other


def test_activations_stay_sane() -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(resnet50(size=64, width=16).SerializeToString(), options)
    one, other = (session.run(None, {"image": images(size=64, seed=seed)})[0] for seed in (1, 2))
    assert 0.1 < np.max(np.abs(one)) < 1e3
    assert np.max(np.abs(one - other)) > 0.01 * np.max(np.abs(one))
