"""The ONNX backend interface, also as onnx's own test runner uses it."""

from __future__ import annotations

import unittest
import warnings

import numpy as np
import onnx
import onnx.backend.test
import pytest
from onnx import TensorProto, helper

from aino_ir.driver import onnx_backend
from aino_ir.driver.onnx_backend import Backend, ReferenceBackend
from aino_ir.errors.onnx import UnsupportedOperators
from aino_ir.errors.run import WrongInputCount
from aino_ir.errors.usage import UnknownDevice

Port = helper.make_tensor_value_info


def model(nodes: list[onnx.NodeProto], inputs: list, outputs: list, opset: int = 20) -> onnx.ModelProto:
    graph = helper.make_graph(nodes, "g", inputs, outputs)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)


def adding() -> onnx.ModelProto:
    ports = [Port(n, TensorProto.FLOAT, [2, 3]) for n in "abc"]
    return model([helper.make_node("Add", ["a", "b"], ["c"])], ports[:2], ports[2:])


X = np.arange(6, dtype=np.float32).reshape(2, 3)


@pytest.mark.parametrize("backend", [onnx_backend, Backend, ReferenceBackend])
def test_a_model_is_prepared_and_run(backend) -> None:
    rep = backend.prepare(adding())
    for inputs in ([X, X], (X, X), {"a": X, "b": X}):
        (y,) = rep.run(inputs)
        np.testing.assert_array_equal(y, X + X)
    (y,) = backend.run_model(adding(), [X, X])
    np.testing.assert_array_equal(y, X + X)
    assert rep.host_steps == (1 if backend is ReferenceBackend else 0)


def test_inputs_with_a_default_may_be_left_out() -> None:
    """Wherever they stand among the graph's inputs."""
    ports = [Port(n, TensorProto.FLOAT, [2, 3]) for n in "abc"]
    with_default = model([helper.make_node("Sub", ["b", "a"], ["c"])], ports[:2], ports[2:])
    with_default.graph.initializer.append(onnx.numpy_helper.from_array(X, "a"))
    rep = ReferenceBackend.prepare(with_default)
    np.testing.assert_array_equal(rep.run([5 * X])[0], 4 * X)
    np.testing.assert_array_equal(rep.run([2 * X, 5 * X])[0], 3 * X)
    np.testing.assert_array_equal(rep.run({"b": X})[0], 0 * X)
    with pytest.raises(WrongInputCount):
        rep.run([X, X, X])


def test_one_node() -> None:
    node = helper.make_node("Gather", ["x", "i"], ["y"], axis=1)
    (y,) = onnx_backend.run_node(node, [X, np.array([2, 0])])
    np.testing.assert_array_equal(y, X[:, [2, 0]])
    twice = helper.make_node("Mul", ["x", "x"], ["y"])
    (y,) = ReferenceBackend.run_node(twice, [X])
    np.testing.assert_array_equal(y, X * X)
    old = helper.make_node("Squeeze", ["x"], ["y"], axes=[0])
    (y,) = onnx_backend.run_node(old, [X[None]], opset_version=11)
    np.testing.assert_array_equal(y, X)


def test_devices() -> None:
    assert onnx_backend.supports_device("CPU") and onnx_backend.supports_device("CPU:0")
    assert not onnx_backend.supports_device("CUDA")
    with pytest.raises(UnknownDevice, match="CUDA"):
        onnx_backend.prepare(adding(), "CUDA")


def test_faults_are_the_models_own() -> None:
    broken = adding()
    broken.graph.node[0].op_type = "Unknown"
    with pytest.raises(UnsupportedOperators, match="Unknown"):
        onnx_backend.prepare(broken)


def summing() -> onnx.ModelProto:
    """A sum whose number of axes, and so the rank of its result, is data."""
    inputs = [Port("x", TensorProto.FLOAT, [2, 3]), Port("axes", TensorProto.INT64, ["n"])]
    node = helper.make_node("ReduceSum", ["x", "axes"], ["y"], keepdims=0)
    return model([node], inputs, [Port("y", TensorProto.FLOAT, None)])


def test_a_value_that_decides_a_rank_is_compiled_for() -> None:
    rep = ReferenceBackend.prepare(summing())
    assert rep.fixed == ("axes",)
    for axes in ([0], [1], [0, 1], [0]):
        (y,) = rep.run([X, np.array(axes, np.int64)])
        np.testing.assert_array_equal(y, X.sum(tuple(axes)))
    with pytest.raises(WrongInputCount):
        ReferenceBackend.prepare(summing()).run([X])


@pytest.mark.parametrize("backend", [Backend, ReferenceBackend])
def test_the_runner_of_onnx_accepts_it(backend: type[Backend]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # onnx's own cases overflow while they are made
        runner = onnx.backend.test.BackendTest(backend, __name__)
    runner.include(r"^test_(softmax_axis_0|sign|reduce_sum_default_axes_keepdims_random)_cpu$")
    result = unittest.TextTestRunner(verbosity=0).run(runner.test_suite)
    assert result.wasSuccessful()
    assert result.testsRun - len(result.skipped) == 3
