"""Reading whole models: structure, attribute access, every source, the models of the onnx package."""

from __future__ import annotations

import hashlib
import mmap
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from aino_ir.errors import onnx as errors
from aino_ir.frontends.onnx.functions import inline_functions
from aino_ir.frontends.onnx.nodes import OnnxGraph, TensorInfo, walk_nodes
from aino_ir.frontends.onnx.reader import read_model
from tests.frontends.onnx.models import CONDITION, branch, conditional, make_model, relu, tensor_value

LIGHT = sorted((Path(onnx.__file__).parent / "backend/test/data/light").glob("light_*.onnx"))


def read_everything(graph: OnnxGraph) -> int:
    """Number of stored values of a graph, each decoded once."""
    tensors = list(graph.initializers.values())
    for node in walk_nodes(graph):
        tensors += [item.value for item in node.attributes.values() if item.kind == "tensor"]
    for tensor in tensors:
        array = tensor.array()
        assert array.shape == tensor.shape and not array.flags.writeable
    return sum(tensor.size for tensor in tensors)


def test_a_model_becomes_plain_data() -> None:
    weight = numpy_helper.from_array(np.arange(4, dtype=np.float32).reshape(2, 2), "w")
    nodes = [
        helper.make_node("Gemm", ["x", "w", ""], ["h"], name="fc", alpha=0.5, transB=1),
        relu("h", "y"),
    ]
    x = tensor_value("x", ("batch", 2))
    proto = make_model(nodes, [x], [tensor_value("y", None)], [weight])
    proto.metadata_props.add(key="author", value="nobody")
    proto.producer_name, proto.producer_version = "tool", "2"
    model = read_model(proto)
    assert model.opsets == {"": 17} and model.ir_version == 10
    assert model.metadata == {"author": "nobody"} and model.producer == "tool 2"
    graph = model.graph
    assert graph.inputs[0].type == TensorInfo("f32", ("batch", 2))
    assert str(graph.inputs[0].type) == "f32[batch, 2]"
    assert graph.outputs[0].type == TensorInfo("f32", None)
    fc, act = graph.nodes
    assert (fc.name, fc.op_type, fc.domain, fc.opset) == ("fc", "Gemm", "", 17)
    assert fc.inputs == ("x", "w", "") and fc.outputs == ("h",)
    assert fc.location == "node 'fc' (Gemm)" and act.location == "node #1 (Relu)"
    assert fc.float("alpha") == 0.5 and fc.int("transB") == 1 and fc.int("transA", 0) == 0
    np.testing.assert_array_equal(graph.initializers["w"].array(), [[0, 1], [2, 3]])


def test_attributes_of_every_kind() -> None:
    table = numpy_helper.from_array(np.array([1, 2], np.int64))
    sparse = helper.make_sparse_tensor(
        numpy_helper.from_array(np.array([7.0], np.float32)),
        numpy_helper.from_array(np.array([1], np.int64)),
        [3],
    )
    kind = helper.make_tensor_type_proto(TensorProto.FLOAT16, [1, None])
    node = helper.make_node(
        "Any", ["x"], ["y"], domain="com.example", f=1.5, i=-3, s="text", t=table, fs=[1.0, 2.0], is_=[4, 5],
        ss=["a", "b"], ts=[table, table], g=branch([relu("x", "z")], "z"), sp=sparse, tp=kind, tps=[kind],
    )  # fmt: skip
    node.attribute.append(helper.make_attribute("empty", [], attr_type=onnx.AttributeProto.INTS))
    read = read_model(make_model([node], domains={"com.example": 1})).graph.nodes[0]
    assert read.float("f") == 1.5 and read.int("i") == -3 and read.str("s") == "text"
    assert read.floats("fs") == (1.0, 2.0) and read.ints("is_") == (4, 5) and read.strs("ss") == ("a", "b")
    assert read.tensor("t").array().tolist() == [1, 2] and len(read.tensors("ts")) == 2
    assert read.sparse_tensor("sp").array().tolist() == [0.0, 7.0, 0.0]
    assert read.type("tp") == TensorInfo("f16", (1, None)) == read.types("tps")[0]
    assert read.graph("g").captures == ("x",) == read.captures
    assert read.ints("empty") == () and read.ints("none", None) is None
    assert read.graph("g").nodes[0].location == "node #0 (Relu) in attribute 'g' of node #0 (Any)"


def test_attribute_access_reports_the_node() -> None:
    node = read_model(make_model([helper.make_node("Elu", ["x"], ["y"], name="elu", alpha=1.0)])).graph.nodes[
        0
    ]
    with pytest.raises(errors.AttributeMissing, match="attribute 'axis' \\(int\\)") as missing:
        node.int("axis")
    assert missing.value.loc == "node 'elu' (Elu)"
    with pytest.raises(errors.AttributeKindMismatch, match="'alpha' must be ints, it is float"):
        node.ints("alpha", ())


def test_string_attributes_must_be_text() -> None:
    node = helper.make_node("Any", ["x"], ["y"], domain="d", s=b"\xff", ss=[b"a", b"\xfe"])
    read = read_model(make_model([node], domains={"d": 1})).graph.nodes[0]
    with pytest.raises(errors.InvalidText, match="attribute 's' is not UTF-8 text"):
        read.str("s")
    with pytest.raises(errors.InvalidText, match="attribute 'ss'"):
        read.strs("ss")


def test_every_source_gives_the_same_model(tmp_path: Path) -> None:
    weight = numpy_helper.from_array(np.arange(1000, dtype=np.float32), "w")
    proto = make_model(
        [helper.make_node("Add", ["x", "w"], ["y"])], [tensor_value("x", (1000,))], ["y"], [weight]
    )
    data = proto.SerializeToString()
    path = tmp_path / "model.onnx"
    path.write_bytes(data)
    for source in (proto, data, bytearray(data), memoryview(data), path, str(path)):
        tensor = read_model(source).graph.initializers["w"]
        np.testing.assert_array_equal(tensor.array(), np.arange(1000))
        assert tensor.packed is not None and len(tensor.packed) == 4000


def test_weights_of_a_file_stay_in_its_map(tmp_path: Path) -> None:
    weight = numpy_helper.from_array(np.arange(1000, dtype=np.float32), "w")
    proto = make_model([helper.make_node("Add", ["x", "w"], ["y"])], ["x"], ["y"], [weight])
    path = tmp_path / "model.onnx"
    path.write_bytes(proto.SerializeToString())
    packed = read_model(path).graph.initializers["w"].packed
    assert isinstance(packed, memoryview) and isinstance(packed.obj, mmap.mmap)


def test_a_mutable_source_is_copied() -> None:
    weight = numpy_helper.from_array(np.ones(1000, np.float32), "w")
    proto = make_model(
        [helper.make_node("Add", ["x", "w"], ["y"])], [tensor_value("x", (1000,))], ["y"], [weight]
    )
    data = bytearray(proto.SerializeToString())
    model = read_model(data)
    data[:] = bytes(len(data))
    assert model.graph.initializers["w"].array().sum() == 1000


def test_nodes_are_sorted_when_the_file_is_not() -> None:
    nodes = [relu("b", "y"), relu("a", "b"), relu("x", "a")]
    assert [node.outputs for node in read_model(make_model(nodes)).graph.nodes] == [("a",), ("b",), ("y",)]


def test_sorting_counts_captured_values() -> None:
    nodes = [conditional(branch([relu("late", "t")], "t"), branch([relu("x", "e")], "e")), relu("x", "late")]
    graph = read_model(make_model(nodes, ["x", CONDITION])).graph
    assert [node.op_type for node in graph.nodes] == ["Relu", "If"]
    assert set(graph.nodes[1].captures) == {"late", "x"} and graph.captures == ()


def test_sibling_subgraphs_may_use_the_same_names() -> None:
    node = conditional(branch([relu("x", "r")], "r"), branch([relu("x", "r")], "r"))
    assert len(list(walk_nodes(read_model(make_model([node], ["x", CONDITION])).graph))) == 3


def test_sequence_optional_and_map_types() -> None:
    inner = helper.make_tensor_type_proto(TensorProto.INT64, ["n"])
    sequence = helper.make_sequence_type_proto(inner)
    types: list[Any] = [sequence, helper.make_optional_type_proto(sequence)]
    types.append(helper.make_map_type_proto(TensorProto.STRING, inner))
    types.append(helper.make_sparse_tensor_type_proto(TensorProto.FLOAT, [2]))
    opaque = onnx.TypeProto()
    opaque.opaque_type.domain, opaque.opaque_type.name = "d", "n"
    types.append(opaque)
    inputs = [helper.make_value_info(f"i{index}", item) for index, item in enumerate(types)]
    read = read_model(make_model([relu()], ["x", *inputs])).graph.inputs[1:]
    assert [str(value.type) for value in read] == [
        "seq(i64[n])",
        "optional(seq(i64[n]))",
        "map(str, i64[n])",
        "sparse(f32[2])",
        "opaque('d', 'n')",
    ]


def test_unknown_domains_are_listed() -> None:
    node = helper.make_node("Foo", ["x"], ["y"], domain="com.example")
    model = read_model(make_model([node], domains={"com.example": 3, "ai.onnx.ml": 3}))
    assert model.unknown_domains == ("com.example",)
    assert model.graph.nodes[0].opset == 3


def test_the_long_spelling_of_the_default_domain() -> None:
    proto = make_model([relu(domain="ai.onnx")])
    proto.opset_import[0].domain = "ai.onnx"
    model = read_model(proto)
    assert model.opsets == {"": 17} and model.graph.nodes[0].domain == ""


@pytest.mark.parametrize("path", LIGHT, ids=lambda path: path.stem)
def test_light_models(path: Path) -> None:
    model = read_model(path)
    proto = onnx.ModelProto.FromString(path.read_bytes())
    assert len(model.graph.nodes) == len(proto.graph.node)
    assert read_everything(model.graph) > 0


def test_light_models_are_nine() -> None:
    assert len(LIGHT) == 9


def test_node_cases_of_the_onnx_package(node_cases: list[Any]) -> None:
    """Two hundred cases, by hash of the name: each reads, and its constants are what onnx reads."""
    chosen = sorted(node_cases, key=lambda case: hashlib.sha256(case.name.encode()).digest())[:200]
    for case in chosen:
        model = inline_functions(read_model(case.model.SerializeToString()))
        assert [value.name for value in model.graph.inputs] == [item.name for item in case.model.graph.input]
        read_everything(model.graph)
        for proto in case.model.graph.initializer:
            expected = numpy_helper.to_array(proto)
            np.testing.assert_array_equal(model.graph.initializers[proto.name].array(), expected)
