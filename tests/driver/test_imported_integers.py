"""Imported products of bytes whose zero points the run finds, and means of bytes: exact, natively too."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import aino_ir as aino
from tests.conformance.batch import in_child
from tests.conformance.onnxruntime_session import Session
from tests.passes.helpers import op_names

Array = np.ndarray[Any, Any]
RNG = np.random.default_rng(0)
SYMMETRIC = (RNG.integers(-64, 65, (70, 24)).astype(np.int8), np.int8(0))
AFFINE = (RNG.integers(64, 193, (70, 24)).astype(np.uint8), np.uint8(20))
"""Weights of 7 bits: with larger ones ONNX Runtime's sums of pairs saturate where there is no VNNI."""


def dynamic(weight: Array, zero: Any) -> onnx.ModelProto:
    """What ONNX Runtime's dynamic quantisation writes for a Linear layer."""
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
        helper.make_node("MatMulInteger", ["q", "w", "z", "wz"], ["sum"]),
        helper.make_node("Cast", ["sum"], ["whole"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["s", "ws"], ["scale"]),
        helper.make_node("Mul", ["whole", "scale"], ["product"]),
        helper.make_node("Add", ["product", "bias"], ["y"]),
    ]
    bias = RNG.standard_normal(weight.shape[1]).astype(np.float32)
    constants = {"w": weight, "wz": np.asarray(zero), "ws": np.float32(0.02), "bias": bias}
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (2, 3, weight.shape[0]))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def averages() -> onnx.ModelProto:
    """Codes, their means over windows and over planes, and codes again."""
    shape = (2, 20, 9, 7)
    nodes = [
        helper.make_node("DequantizeLinear", ["x", "s", "z"], ["real"]),
        helper.make_node("AveragePool", ["real"], ["p"], kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4),
        helper.make_node("QuantizeLinear", ["p", "t", "z"], ["windows"]),
        helper.make_node("GlobalAveragePool", ["real"], ["g"]),
        helper.make_node("QuantizeLinear", ["g", "t", "z"], ["planes"]),
    ]
    constants = {"s": np.float32(0.1), "z": np.uint8(0), "t": np.float32(0.07)}
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, shape)],
        [helper.make_tensor_value_info(n, TensorProto.UINT8, None) for n in ("windows", "planes")],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def test_means_of_codes_are_exact_sums() -> None:
    model = averages()
    module = aino.load(model)
    names = op_names(module)
    assert "quant.conv" in names and "reduce.sum" in names
    assert "nn.avg_pool" not in names and "reduce.mean" not in names
    x = RNG.integers(0, 256, (2, 20, 9, 7)).astype(np.uint8)
    results = [aino.compile(module, target, verify="off").run(x) for target in ("c", "reference")]
    theirs = in_child(lambda: Session(model).run([x]))
    for got, want, other in zip(*results, theirs, strict=True):
        np.testing.assert_array_equal(got, want)
        assert np.abs(got.astype(int) - other).max() <= 1


@pytest.mark.parametrize("weights", [SYMMETRIC, AFFINE], ids=["i8", "u8"])
def test_dynamic_quantisation_is_a_product_of_bytes(weights: tuple[Array, Any]) -> None:
    model = dynamic(*weights)
    module = aino.load(model)
    assert "quant.matmul" in op_names(module) and "nn.matmul" not in op_names(module)
    x = RNG.standard_normal((2, 3, 70)).astype(np.float32) + 0.5
    exe = aino.compile(module, "c", verify="off")
    assert not exe.report.python_nodes
    (got,), (want,) = exe.run(x), aino.compile(module, "reference").run(x)
    np.testing.assert_array_equal(got, want)
    back = aino.to_onnx(module)

    def run() -> Any:
        return [Session(m).run([x])[0] for m in (model, back)]

    for theirs in in_child(run):
        np.testing.assert_allclose(got, theirs, rtol=1e-5, atol=1e-5)
