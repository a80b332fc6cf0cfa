"""The random graphs that compile cost is measured on: whole, varied, finite and reproducible."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import pytest

from benchmarks.random_dag import example_input, random_dag


def test_graph_is_whole_and_varied() -> None:
    model = random_dag(2000)
    onnx.checker.check_model(model)
    nodes = model.graph.node
    assert abs(len(nodes) - 2000) < 100
    assert len({node.op_type for node in nodes}) >= 20
    reads = Counter(name for node in nodes for name in node.input)
    dead = [name for node in nodes for name in node.output if not reads[name] and name != "y"]
    assert not dead
    assert max(reads.values()) > 5  # fan-out


def test_same_seed_same_bytes() -> None:
    one, again, other = (random_dag(300, seed).SerializeToString() for seed in (0, 0, 1))
    assert one == again != other


def test_result_is_finite_and_depends_on_the_input() -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(random_dag(500).SerializeToString(), options)
    one, other = (session.run(None, {"x": example_input(seed)})[0] for seed in (0, 1))
    assert np.isfinite(one).all()
    assert np.max(np.abs(one - other)) > 1e-3
