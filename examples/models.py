"""Small ONNX models for the examples, with seeded weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper


def model(
    nodes: list[Any], sizes: dict[str, tuple[int, ...]], x: list[int | str], y: list[int | str]
) -> ModelProto:
    """A model from "x" to "y" with random weights of the given sizes."""
    rng = np.random.default_rng(0)
    weights = [
        numpy_helper.from_array((0.3 * rng.standard_normal(shape)).astype(np.float32), name)
        for name, shape in sizes.items()
    ]
    ports = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", x), ("y", y))]
    graph = helper.make_graph(nodes, "example", ports[:1], ports[1:], weights)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.example", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def mlp(path: Path, batch: int | str = 4) -> Path:
    """Two layers with a ReLU between them, as a file."""
    nodes = [
        helper.make_node("Gemm", ["x", "w0", "b0"], ["h"], name="first"),
        helper.make_node("Relu", ["h"], ["r"], name="activation"),
        helper.make_node("Gemm", ["r", "w1", "b1"], ["y"], name="second"),
    ]
    sizes = {"w0": (16, 32), "b0": (32,), "w1": (32, 8), "b1": (8,)}
    path.write_bytes(model(nodes, sizes, [batch, 16], [batch, 8]).SerializeToString())
    return path


def with_custom_op(operator: str) -> ModelProto:
    """A layer, an operator of the domain com.example, a layer."""
    nodes = [
        helper.make_node("Gemm", ["x", "w0"], ["h"], name="first"),
        helper.make_node(operator, ["h"], ["r"], name="custom", domain="com.example"),
        helper.make_node("Gemm", ["r", "w1"], ["y"], name="second"),
    ]
    return model(nodes, {"w0": (16, 32), "w1": (32, 8)}, [4, 16], [4, 8])
