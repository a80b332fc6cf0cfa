"""Quantised models in and out: which ops QDQ nodes become, and what integer contractions are written as."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import aino_ir as aino
from aino_ir.builder import Builder
from aino_ir.errors.export import OpNotExportable
from aino_ir.frontends.onnx import load_onnx
from aino_ir.graph import Module
from aino_ir.interp import run_module
from aino_ir.op import OPS
from aino_ir.types import tensor
from tests.conformance.batch import in_child
from tests.conformance.onnxruntime_session import Session
from tests.conformance.round_trip import check
from tests.passes.helpers import op_names

Array = np.ndarray[Any, Any]


def model(
    node: onnx.NodeProto, x: int, y: int, shape: tuple[int, ...], **constants: Array
) -> onnx.ModelProto:
    ports = [helper.make_tensor_value_info("x", x, shape)], [helper.make_tensor_value_info("y", y, None)]
    weights = [numpy_helper.from_array(v, k) for k, v in constants.items()]
    graph = helper.make_graph([node], "g", *ports, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


@pytest.mark.parametrize(
    ("scale", "attributes", "op"),
    [
        (np.float32(0.5), {}, "quant.quantize"),
        (np.array([0.5, 1, 2], np.float32), {"axis": 1}, "quant.quantize"),
        (np.full((4, 3), 0.5, np.float32), {"axis": 0, "block_size": 2}, "quant.quantize_groups"),
    ],
)
def test_quantize_linear_becomes_one_op(scale: Array, attributes: dict[str, int], op: str) -> None:
    node = helper.make_node("QuantizeLinear", ["x", "s"], ["y"], output_dtype=TensorProto.INT8, **attributes)
    module = load_onnx(model(node, TensorProto.FLOAT, TensorProto.INT8, (8, 3), s=scale))
    assert op_names(module)[-1] == op
    x = np.linspace(-90, 90, 24, dtype=np.float32).reshape(8, 3)
    wide = np.repeat(scale, 2, 0) if op.endswith("groups") else scale
    (y,) = run_module(module, [x])
    assert np.array_equal(y, np.clip(np.rint(x / wide), -128, 127).astype(np.int8))


def test_four_bits_in_blocks_go_out_and_come_back() -> None:
    q = np.arange(-8, 8).reshape(8, 2).astype(ml_dtypes.int4)
    node = helper.make_node("DequantizeLinear", ["x", "s"], ["y"], axis=0, block_size=3)
    scale = np.array([[1, 2], [3, 4], [5, 6]], np.float32)
    module = load_onnx(model(node, TensorProto.INT4, TensorProto.FLOAT, (8, 2), s=scale))
    assert op_names(module) == ["quant.dequantize_groups"]
    again = load_onnx(aino.to_onnx(module))
    assert op_names(again) == ["quant.dequantize_groups"]
    (y,) = run_module(again, [q])
    assert np.array_equal(y, q.astype(np.float32) * np.repeat(scale, 3, 0)[:8])


def convolution(per_channel: bool, computed: bool = False) -> Module:
    rng = np.random.default_rng(3)
    b = Builder()
    x = b.input("x", tensor("u8", 1, 3, 6, 6))
    w = rng.integers(-128, 128, (4, 3, 3, 3)).astype(np.int8)
    scale = rng.random((4, 1, 1)).astype(np.float32) + np.float32(0.1)
    bias = rng.integers(-500, 500, 4).astype(np.int32)
    offset = b.constant((bias - 9 * w.astype(np.int32).sum((1, 2, 3))).astype(np.int32))
    if computed:
        offset = b.add(offset, b.input("more", tensor("i32", 4)))
    y = b.op(
        OPS["quant.conv"],
        x,
        b.constant(w),
        b.constant(scale if per_channel else scale[0, 0, 0]),
        offset,
        strides=(1, 1),
        dilations=(1, 1),
        pads_before=(1, 1),
        pads_after=(1, 1),
        zero=9,
    ).result
    b.output("y", y)
    return b.module


def product() -> Module:
    rng = np.random.default_rng(4)
    b = Builder()
    w = rng.integers(-128, 128, (8, 5)).astype(np.int8)
    offset = (rng.integers(-500, 500, 5) - 30 * w.astype(np.int32).sum(0)).astype(np.int32)
    scale = b.constant(rng.random(5).astype(np.float32))
    x = b.input("x", tensor("u8", 3, 8))
    b.output("y", b.op(OPS["quant.matmul"], x, b.constant(w), scale, b.constant(offset), zero=30).result)
    return b.module


@pytest.mark.parametrize(
    "module", [convolution(True), convolution(False), product()], ids=["conv", "one scale", "matmul"]
)
def test_integer_contractions_run_elsewhere(module: Module) -> None:
    (value,) = module.main.inputs
    x = np.random.default_rng(5).integers(0, 256, value.shape).astype(np.uint8)  # type: ignore[arg-type]

    def run() -> Any:
        written = aino.to_onnx(module)
        check(written)
        kinds = [node.op_type for node in written.graph.node]
        return kinds, Session(written).run([x])

    kinds, (got,) = in_child(run)
    assert kinds.count("DequantizeLinear") == 3
    (want,) = run_module(module, [x])
    assert np.abs(got - want).max() <= 1e-5 * np.abs(want).max()


def test_an_offset_that_is_computed_cannot_be_written() -> None:
    with pytest.raises(OpNotExportable, match="its offset is computed"):
        aino.to_onnx(convolution(True, computed=True))
