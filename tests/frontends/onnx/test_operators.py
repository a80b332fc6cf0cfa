"""Operators: versions that differ, reference networks."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from aino_ir.frontends.onnx import load_onnx
from aino_ir.frontends.onnx.coverage import supported_operators
from aino_ir.interp import run_module
from benchmarks.workloads import light_models, workload
from tests.conformance.onnx_suite import compare
from tests.frontends.onnx.models import make_model, tensor_value

NETWORKS = (
    "resnet50",
    "mobilenet_v2",
    "efficientnet_b0",
    "convnext_tiny",
    "vit_b16",
    "bert_base",
    "gpt2",
    "whisper_tiny_encoder",
)


def test_the_comparison_can_fail() -> None:
    one, two = np.float32([1, 2]), np.float32([1, 2.1])
    assert compare([one], [one], 1e-3, 1e-7) == ""
    assert "1 of 2 differ" in compare([two], [one], 1e-3, 1e-7)
    assert "shape" in compare([one[:1]], [one], 1e-3, 1e-7)
    assert "dtype" in compare([one.astype(np.float64)], [one], 1e-3, 1e-7)
    assert "instead of 2 values" in compare([one], [one, one], 1e-3, 1e-7)


def test_most_operators_are_supported() -> None:
    supported = supported_operators()
    assert ("", "Conv") in supported
    assert ("", "LayerNormalization") in supported
    assert len(supported) >= 150


def agrees(model: onnx.ModelProto, **inputs: np.ndarray) -> None:
    """Our outputs are those of onnx's reference evaluator."""
    expected = ReferenceEvaluator(model).run(None, inputs)
    module = load_onnx(model)
    got = run_module(module, [inputs[n] for n in module.main.input_names])
    assert compare(list(got), list(expected), 1e-4, 1e-6) == ""


def node(op: str, inputs: list[str], **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op, inputs, ["y"], **attributes)


RNG = np.random.default_rng(7)
X = RNG.normal(size=(2, 3, 4, 5)).astype(np.float32)


def vector(name: str, *numbers: int) -> onnx.TensorProto:
    return numpy_helper.from_array(np.asarray(numbers, np.int64), name)


VERSIONS: list[tuple[str, int, onnx.NodeProto, list[onnx.TensorProto]]] = [
    ("softmax over flattened axes", 11, node("Softmax", ["x"], axis=1), []),
    ("softmax over one axis", 13, node("Softmax", ["x"], axis=1), []),
    ("log-softmax over flattened axes", 9, node("LogSoftmax", ["x"], axis=2), []),
    ("hardmax over flattened axes", 11, node("Hardmax", ["x"]), []),
    ("hardmax over one axis", 13, node("Hardmax", ["x"]), []),
    ("clip by attributes", 7, node("Clip", ["x"], min=-0.5, max=0.25), []),
    ("pad by attributes", 10, node("Pad", ["x"], pads=[0, 0, 1, 2, 0, 0, 3, 0], value=2.0), []),
    ("pad by inputs", 13, node("Pad", ["x", "p"], mode="reflect"), [vector("p", 0, 0, 1, 2, 0, 0, 3, 0)]),
    ("slice by attributes", 9, node("Slice", ["x"], starts=[1, -2], ends=[9, -1], axes=[1, 3]), []),
    ("squeeze of no axis", 11, node("Squeeze", ["x"]), []),
    ("unsqueeze by attribute", 11, node("Unsqueeze", ["x"], axes=[0, -1]), []),
    ("unsqueeze by input", 13, node("Unsqueeze", ["x", "a"]), [vector("a", 5, 0)]),
    ("sum by attribute", 11, node("ReduceSum", ["x"], axes=[-1, 1], keepdims=0), []),
    ("sum by input", 13, node("ReduceSum", ["x", "a"]), [vector("a", 1, -1)]),
    ("maximum by attribute", 13, node("ReduceMax", ["x"], axes=[0]), []),
    ("maximum by input", 18, node("ReduceMax", ["x", "a"]), [vector("a", 0)]),
    ("sum of no axis", 18, node("ReduceSum", ["x"], noop_with_empty_axes=1), []),
    ("upsample by attribute", 7, node("Upsample", ["x"], scales=[1.0, 1.0, 2.0, 3.0]), []),
    (
        "max pool with pads to the upper end",
        12,
        node("MaxPool", ["x"], kernel_shape=[3, 2], strides=[2, 2], auto_pad="SAME_UPPER"),
        [],
    ),
    (
        "average pool in ceil mode",
        19,
        node("AveragePool", ["x"], kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1),
        [],
    ),
    ("flatten from behind", 13, node("Flatten", ["x"], axis=-1), []),
    ("cast to an integer", 13, node("Cast", ["x"], to=onnx.TensorProto.INT8), []),
    ("top-k by attribute", 9, helper.make_node("TopK", ["x"], ["y", "i"], k=2, axis=2), []),
]


def flattened_softmax(x: np.ndarray, axis: int) -> np.ndarray:
    rows = x.reshape(int(np.prod(x.shape[:axis])), -1)
    e = np.exp(rows - rows.max(1, keepdims=True))
    return (e / e.sum(1, keepdims=True)).reshape(x.shape)


def flattened_hardmax(x: np.ndarray) -> np.ndarray:
    rows = x.reshape(x.shape[0], -1)
    return (np.arange(rows.shape[1]) == rows.argmax(1)[:, None]).astype(np.float32).reshape(x.shape)


OLD = {
    "Softmax": lambda x: flattened_softmax(x, 1),
    "LogSoftmax": lambda x: np.log(flattened_softmax(x, 2)),
    "Hardmax": flattened_hardmax,
    "Upsample": lambda x: x.repeat(2, 2).repeat(3, 3),
}


@pytest.mark.parametrize(
    ("opset", "call", "constants"), [v[1:] for v in VERSIONS], ids=[v[0] for v in VERSIONS]
)
def test_operator_set_versions(opset: int, call: onnx.NodeProto, constants: list[onnx.TensorProto]) -> None:
    model = make_model(
        [call],
        inputs=[tensor_value("x", X.shape)],
        outputs=[helper.make_empty_tensor_value_info(name) for name in call.output],
        initializers=constants,
        opset=opset,
    )
    if opset < 13 and call.op_type in OLD:  # the reference evaluator knows newer versions only
        module = load_onnx(model)
        (got,) = run_module(module, [X])
        np.testing.assert_allclose(got, OLD[call.op_type](X), rtol=1e-5)
    else:
        agrees(model, x=X)


@pytest.mark.slow
@pytest.mark.parametrize("exporter", ["dynamo", "torchscript"])
@pytest.mark.parametrize("name", NETWORKS)
def test_reference_networks(name: str, exporter: str) -> None:
    built = workload(f"{name}_small", exporter)
    module = load_onnx(built.path)
    results = run_module(module, [built.inputs[n] for n in module.main.input_names])
    for output, y in zip(module.main.output_names, results, strict=True):
        expected = built.outputs[output]
        assert np.abs(y - expected).max() <= 1e-4 * np.abs(expected).max()
    names = {op.name for op in module.walk()}
    assert not names & {"core.dims", "index.range"}, "a chain of shapes is left"


@pytest.mark.parametrize("name", ["light_squeezenet", "light_shufflenet"])
def test_light_models(name: str) -> None:
    path = light_models()[name]
    module = load_onnx(path)
    (x,) = module.main.inputs
    shape = tuple(int(d) for d in x.shape)
    count = int(np.prod(shape))
    image = (np.arange(count).reshape(shape) / count).astype(np.float32)
    (got,) = run_module(module, [image])
    expected = numpy_helper.to_array(onnx.load_tensor(path.with_name(f"{path.stem}_output_0.pb")))
    assert np.abs(got - expected).max() <= 1e-4 * np.abs(expected).max()
