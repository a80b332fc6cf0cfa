"""Small ONNX models for tests of the driver and the runtime."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Array = np.ndarray[Any, Any]


def _model(
    nodes: Sequence[Any],
    inputs: Sequence[Any],
    outputs: Sequence[Any],
    initializers: Sequence[Any] = (),
    name: str = "tiny",
    domains: Sequence[str] = (),
) -> Any:
    graph = helper.make_graph(list(nodes), name, list(inputs), list(outputs), list(initializers))
    opsets = [helper.make_opsetid("", 17), *(helper.make_opsetid(d, 1) for d in domains)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def tensor(name: str, shape: Sequence[int | str], dtype: int = TensorProto.FLOAT) -> Any:
    return helper.make_tensor_value_info(name, dtype, list(shape))


def mlp(batch: int | str = 2, sizes: Sequence[int] = (8, 6, 3), seed: int = 0) -> Any:
    """Gemm, Relu, Gemm: input "x", output "y"."""
    rng = np.random.default_rng(seed)
    nodes, initializers, value = [], [], "x"
    for i, (rows, columns) in enumerate(itertools.pairwise(sizes)):
        weight = rng.standard_normal((rows, columns)).astype(np.float32)
        bias = rng.standard_normal(columns).astype(np.float32)
        initializers += [numpy_helper.from_array(weight, f"w{i}"), numpy_helper.from_array(bias, f"b{i}")]
        last = i == len(sizes) - 2
        made = "y" if last else f"h{i}"
        nodes.append(helper.make_node("Gemm", [value, f"w{i}", f"b{i}"], [made], name=f"fc{i}"))
        value = made
        if not last:
            nodes.append(helper.make_node("Relu", [value], [f"r{i}"], name=f"relu{i}"))
            value = f"r{i}"
    return _model(
        nodes, [tensor("x", [batch, sizes[0]])], [tensor("y", [batch, sizes[-1]])], initializers, "mlp"
    )


def mlp_reference(model: Any, x: Array) -> Array:
    """What `mlp` gives, in f64."""
    weights = {i.name: numpy_helper.to_array(i).astype(np.float64) for i in model.graph.initializer}
    value = x.astype(np.float64)
    layers = len(weights) // 2
    for i in range(layers):
        value = value @ weights[f"w{i}"] + weights[f"b{i}"]
        value = np.maximum(value, 0) if i < layers - 1 else value
    return value


def with_default() -> Any:
    """y = x + c, where c is an input that may be left out (then 1, 2, 3)."""
    c = numpy_helper.from_array(np.float32([1, 2, 3]), "c")
    nodes = [helper.make_node("Add", ["x", "c"], ["y"], name="add")]
    return _model(nodes, [tensor("x", [2, 3]), tensor("c", [3])], [tensor("y", [2, 3])], [c], "with_default")


def two_outputs(dtype: int = TensorProto.FLOAT, shape: Sequence[int | str] = (2, 3)) -> Any:
    """a = -x, b = x + x."""
    nodes = [
        helper.make_node("Neg", ["x"], ["a"], name="neg"),
        helper.make_node("Add", ["x", "x"], ["b"], name="add"),
    ]
    outputs = [tensor("a", shape, dtype), tensor("b", shape, dtype)]
    return _model(nodes, [tensor("x", shape, dtype)], outputs, name="two_outputs")


def gather() -> Any:
    """y = table[i]: fails at run time for an i outside the table."""
    table = numpy_helper.from_array(np.arange(12, dtype=np.float32).reshape(4, 3), "table")
    nodes = [helper.make_node("Gather", ["table", "i"], ["y"], name="look_up")]
    return _model(nodes, [tensor("i", [2], TensorProto.INT64)], [tensor("y", [2, 3])], [table], "gather")


def sequence() -> Any:
    """A sequence goes through the middle of the model."""
    nodes = [
        helper.make_node("SequenceConstruct", ["x", "x"], ["s"], name="pack"),
        helper.make_node("ConcatFromSequence", ["s"], ["y"], name="unpack", axis=0),
    ]
    return _model(nodes, [tensor("x", [2, 3])], [tensor("y", [4, 3])], name="sequence")


def strings() -> Any:
    """A string goes in and out."""
    nodes = [helper.make_node("Identity", ["x"], ["y"], name="same")]
    text = [tensor(n, [2], TensorProto.STRING) for n in "xy"]
    return _model(nodes, text[:1], text[1:], name="strings")


def unsupported() -> Any:
    """Two operators that nobody knows, among some that are known."""
    nodes = [
        helper.make_node("Relu", ["x"], ["a"], name="known"),
        helper.make_node("Foo", ["a"], ["b"], name="foo", domain="com.example"),
        helper.make_node("Exp", ["b"], ["c"], name="behind"),
        helper.make_node("Bar", ["c"], ["y"], domain="com.example"),
    ]
    return _model(nodes, [tensor("x", [2, 3])], [tensor("y", [2, 3])], name="bad", domains=["com.example"])


def saved(folder: Path, model: Any, name: str = "model.onnx") -> Path:
    """A model as a file."""
    path = folder / name
    path.write_bytes(model.SerializeToString())
    return path


def with_external_data(folder: Path, model: Any, name: str = "external.onnx") -> Path:
    """A model as a file, its weights in a second one beside it."""
    path = folder / name
    onnx.save_model(model, path, save_as_external_data=True, location=f"{name}.data", size_threshold=0)
    return path
