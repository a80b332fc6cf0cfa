"""Imported products of bytes whose zero points the run finds: integer kernels, the same bits everywhere."""

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


@pytest.mark.parametrize("weights", [SYMMETRIC, AFFINE], ids=["i8", "u8"])
def test_dynamic_quantisation_is_a_product_of_bytes(weights: tuple[Array, Any]) -> None:
    model = dynamic(*weights)
    module = aino.load(model)
    assert "quant.matmul" in op_names(module) and "nn.matmul" not in op_names(module)
    x = RNG.standard_normal((2, 3, 70)).astype(np.float32) + 0.5
    exe = aino.compile(module, "c")
    assert not exe.report.python_nodes
    (got,), (want,) = exe.run(x), aino.compile(module, "reference").run(x)
    np.testing.assert_array_equal(got, want)
    back = aino.to_onnx(module)

    def run() -> Any:
        return [Session(m).run([x])[0] for m in (model, back)]

    for theirs in in_child(run):
        np.testing.assert_allclose(got, theirs, rtol=1e-5, atol=1e-5)
