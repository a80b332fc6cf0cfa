"""Every fault of a model that the reader tells apart: the smallest model with it, and its error."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import AttributeProto, helper, numpy_helper

from aino_ir.errors import AinoError
from aino_ir.errors import onnx as errors
from aino_ir.frontends.onnx.limits import DEFAULT
from aino_ir.frontends.onnx.reader import read_model
from aino_ir.frontends.onnx.schemas import require_operators, unsupported_operators
from tests.frontends.onnx.models import (
    CONDITION,
    branch,
    conditional,
    make_model,
    nested,
    relu,
    tensor_value,
)

Edit = Callable[[onnx.ModelProto], object]


def weight(name: str = "w", values: Any = (1.0, 2.0)) -> onnx.TensorProto:
    return numpy_helper.from_array(np.array(values, np.float32), name)


def edited(edit: Edit, nodes: list[onnx.NodeProto] | None = None, **parts: Any) -> onnx.ModelProto:
    proto = make_model([relu(name="r")] if nodes is None else nodes, **parts)
    edit(proto)
    return proto


def initializer(edit: Callable[[onnx.TensorProto], object]) -> onnx.ModelProto:
    tensor = weight()
    edit(tensor)
    return make_model([relu()], initializers=[tensor])


def attribute(**fields: Any) -> onnx.ModelProto:
    node = helper.make_node("Elu", ["x"], ["y"], name="e")
    node.attribute.append(AttributeProto(**fields))
    return make_model([node])


def duplicate_domain(proto: onnx.ModelProto) -> None:
    proto.opset_import.append(helper.make_opsetid("ai.onnx", 13))


def subgraph_output(name: str) -> onnx.ModelProto:
    node = conditional(branch([relu("x", "t")], name), branch([relu("x", "e")], "e"), name="if")
    return make_model([node], ["x", CONDITION])


def set_dims(*dims: int) -> Callable[[onnx.TensorProto], object]:
    def edit(tensor: onnx.TensorProto) -> None:
        del tensor.dims[:]
        tensor.dims.extend(dims)

    return edit


def two_attributes() -> onnx.ModelProto:
    node = helper.make_node("Elu", ["x"], ["y"], alpha=1.0)
    node.attribute.append(helper.make_attribute("alpha", 2.0))
    return make_model([node])


CASES: dict[str, tuple[Callable[[], onnx.ModelProto], type[AinoError], str]] = {
    "no IR version": (
        lambda: edited(lambda m: m.ClearField("ir_version")),
        errors.ModelIncomplete,
        "no IR version",
    ),
    "no graph": (lambda: edited(lambda m: m.ClearField("graph")), errors.ModelIncomplete, "no graph"),
    "no opset": (
        lambda: edited(lambda m: m.ClearField("opset_import")),
        errors.ModelIncomplete,
        "no operator set imports",
    ),
    "IR version": (
        lambda: edited(lambda m: setattr(m, "ir_version", 99)),
        errors.UnsupportedIrVersion,
        "IR version 99",
    ),
    "opset too old": (
        lambda: make_model([relu()], opset=0),
        errors.OpsetOutOfRange,
        "version 0, known are 1 to",
    ),
    "opset too new": (lambda: make_model([relu()], opset=10**6), errors.OpsetOutOfRange, "version 1000000"),
    "ml opset too new": (
        lambda: make_model([relu()], domains={"ai.onnx.ml": 99}),
        errors.OpsetOutOfRange,
        "'ai.onnx.ml' has version 99",
    ),
    "domain twice": (
        lambda: edited(duplicate_domain),
        errors.OpsetConflict,
        "'ai.onnx' is imported with versions 17 and 13",
    ),
    "domain not imported": (
        lambda: make_model([relu(domain="com.example")]),
        errors.OpsetMissing,
        "'com.example.Relu' needs operator set 'com.example'",
    ),
    "initializer twice": (
        lambda: make_model([relu()], initializers=[weight(), weight()]),
        errors.DuplicateName,
        "initializer 'w' is defined twice",
    ),
    "input twice": (lambda: make_model([relu()], ["x", "x"]), errors.DuplicateName, "graph input 'x'"),
    "output twice": (
        lambda: make_model([relu()], outputs=["y", "y"]),
        errors.DuplicateName,
        "graph output 'y'",
    ),
    "value twice": (
        lambda: make_model([relu(name="a"), relu(name="b")]),
        errors.DuplicateName,
        "first as an output of node 'a' (Relu)",
    ),
    "value is input": (lambda: make_model([relu("x", "x")]), errors.DuplicateName, "first as a graph input"),
    "value is initializer": (
        lambda: make_model([relu("x", "w")], initializers=[weight()]),
        errors.DuplicateName,
        "first as an initializer",
    ),
    "inner hides outer": (
        lambda: make_model(
            [relu("x", "t"), conditional(branch([relu("x", "t")], "t"), branch([relu("x", "e")], "e"))],
            ["x", CONDITION],
        ),
        errors.DuplicateName,
        "a value of this or an outer graph",
    ),
    "attribute twice": (two_attributes, errors.DuplicateName, "attribute 'alpha' is defined twice"),
    "input without name": (
        lambda: make_model([relu()], ["x", ""]),
        errors.EmptyName,
        "graph input 1 has no name",
    ),
    "initializer without name": (
        lambda: make_model([relu()], initializers=[weight("")]),
        errors.EmptyName,
        "initializer 0 has no name",
    ),
    "node without operator": (
        lambda: edited(lambda m: m.graph.node[0].ClearField("op_type")),
        errors.EmptyName,
        "an operator has no name",
    ),
    "attribute without name": (
        lambda: attribute(type=1, f=1.0),
        errors.EmptyName,
        "an attribute has no name",
    ),
    "undefined input": (
        lambda: make_model([relu("nowhere")]),
        errors.UndefinedValue,
        "input 0 uses value 'nowhere'",
    ),
    "undefined output": (
        lambda: make_model([relu()], outputs=["z"]),
        errors.UndefinedValue,
        "output list uses value 'z'",
    ),
    "undefined inner output": (
        lambda: subgraph_output("lost"),
        errors.UndefinedValue,
        "output list uses value 'lost'",
    ),
    "inner value used outside": (
        lambda: make_model(
            [conditional(branch([relu("x", "t")], "t"), branch([relu("x", "e")], "e"), "z"), relu("t")],
            ["x", CONDITION],
        ),
        errors.UndefinedValue,
        "value 't'",
    ),
    "cycle": (
        lambda: make_model([relu("b", "a", name="p"), relu("a", "b", name="q"), relu()]),
        errors.GraphCycle,
        "node 'p' (Relu) -> node 'q' (Relu) -> node 'p' (Relu)",
    ),
    "self cycle": (
        lambda: make_model([relu("y", name="p")]),
        errors.GraphCycle,
        "node 'p' (Relu) -> node 'p' (Relu)",
    ),
    "cycle through a subgraph": (
        lambda: make_model(
            [
                conditional(branch([relu("b", "t")], "t"), branch([relu("x", "e")], "e"), "a"),
                relu("a", "b"),
                relu(),
            ],
            ["x", CONDITION],
        ),
        errors.GraphCycle,
        "node #1 (Relu)",
    ),
    "input without type": (
        lambda: edited(lambda m: m.graph.input[0].ClearField("type")),
        errors.InvalidType,
        "graph input 'x' is malformed",
    ),
    "input without element type": (
        lambda: edited(lambda m: m.graph.input[0].type.tensor_type.ClearField("elem_type")),
        errors.InvalidType,
        "no element type",
    ),
    "unknown element type": (
        lambda: edited(lambda m: setattr(m.graph.input[0].type.tensor_type, "elem_type", 77)),
        errors.UnknownDataType,
        "graph input 'x' has data type 77",
    ),
    "unknown data type": (
        lambda: initializer(lambda t: setattr(t, "data_type", 99)),
        errors.UnknownDataType,
        "tensor 'w' has data type 99",
    ),
    "no data type": (
        lambda: initializer(lambda t: t.ClearField("data_type")),
        errors.UnknownDataType,
        "data type 0",
    ),
    "negative extent": (
        lambda: make_model([relu()], [tensor_value("x", (-1, 3))]),
        errors.NegativeDim,
        "graph input 'x' has dimensions [-1, 3]",
    ),
    "negative tensor extent": (
        lambda: initializer(set_dims(-2)),
        errors.NegativeDim,
        "tensor 'w' has dimensions [-2]",
    ),
    "rank": (
        lambda: make_model([relu()], [tensor_value("x", [1] * 17)]),
        errors.LimitExceeded,
        "rank of graph input 'x' is 17",
    ),
    "tensor rank": (
        lambda: initializer(set_dims(*[1] * 17)),
        errors.LimitExceeded,
        "rank of tensor 'w' is 17",
    ),
    "elements": (
        lambda: initializer(set_dims(2**40, 2)),
        errors.LimitExceeded,
        "number of elements of tensor 'w'",
    ),
    "elements behind a zero": (
        lambda: initializer(set_dims(0, 2**62)),
        errors.LimitExceeded,
        "number of elements",
    ),
    "raw size": (
        lambda: initializer(set_dims(3)),
        errors.TensorSizeMismatch,
        "f32[3] needs 12 bytes, raw_data holds 8",
    ),
    "segment": (
        lambda: initializer(lambda t: setattr(t.segment, "begin", 0)),
        errors.TensorSegmented,
        "one segment",
    ),
    "two data fields": (
        lambda: initializer(lambda t: t.float_data.append(1.0)),
        errors.TensorFieldConflict,
        "holds data in float_data, raw_data",
    ),
    "attribute without kind": (
        lambda: attribute(name="alpha"),
        errors.AttributeInvalid,
        "0 of its fields are filled",
    ),
    "attribute of unknown kind": (
        lambda: edited(
            lambda m: m.graph.node[0].attribute.append(AttributeProto.FromString(b"\x0a\x01a\xa0\x01\x63"))
        ),
        errors.AttributeInvalid,
        "'a' is malformed",
    ),
    "attribute of another field": (
        lambda: attribute(name="alpha", type=1, i=3),
        errors.AttributeInvalid,
        "type is float, but it holds int",
    ),
    "empty tensor attribute": (
        lambda: attribute(name="alpha", type=4),
        errors.AttributeInvalid,
        "type is tensor, but it is empty",
    ),
    "reference with a value": (
        lambda: attribute(name="alpha", type=1, f=1.0, ref_attr_name="a"),
        errors.AttributeInvalid,
        "refers to 'a' and holds a value",
    ),
    "reference outside": (
        lambda: attribute(name="alpha", type=1, ref_attr_name="a"),
        errors.AttributeReferenceStray,
        "refers to 'a'",
    ),
    "attribute kind": (
        lambda: attribute(name="alpha", type=2, i=3),
        errors.AttributeKindMismatch,
        "must be float, it is int",
    ),
    "attribute unknown": (
        lambda: attribute(name="beta", type=1, f=1.0),
        errors.AttributeUnknown,
        "'beta' is not defined by 'Elu' of operator set version 17",
    ),
    "attribute missing": (
        lambda: make_model([helper.make_node("Cast", ["x"], ["y"])]),
        errors.AttributeMissing,
        "attribute 'to' (int)",
    ),
    "too many inputs": (
        lambda: make_model([helper.make_node("Relu", ["x", "x"], ["y"])]),
        errors.NodeArity,
        "takes 1 to 1 inputs, the node has 2",
    ),
    "too few inputs": (
        lambda: make_model([helper.make_node("Concat", [], ["y"], axis=0)]),
        errors.NodeArity,
        "takes 1 to any number of inputs",
    ),
    "too many outputs": (
        lambda: make_model([helper.make_node("Relu", ["x"], ["y", "z"])]),
        errors.NodeArity,
        "1 to 1 outputs, the node has 2",
    ),
    "input left empty": (lambda: make_model([relu("")]), errors.NodeInputMissing, "input 0 ('X') of 'Relu'"),
    "default of another type": (
        lambda: make_model([relu()], ["x", tensor_value("w", (3,))], initializers=[weight()]),
        errors.InitializerTypeConflict,
        "initializer 'w' is f32[2], the graph input of this name is f32[3]",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_fault(case: str) -> None:
    build, kind, text = CASES[case]
    with pytest.raises(kind) as caught:
        read_model(build())
    assert text in caught.value.message
    assert "help: " in str(caught.value) and str(caught.value).isascii()


def test_names_of_a_subgraph_end_with_it() -> None:
    inner = helper.make_graph([relu("p", "t")], "body", [tensor_value("p")], [tensor_value("t")])
    node = helper.make_node("Any", ["x"], ["z"], domain="com.example", body=inner)
    for name in ("p", "t"):
        with pytest.raises(errors.UndefinedValue, match=f"value '{name}'"):
            read_model(make_model([node, relu(name)], domains={"com.example": 1}))


def test_errors_name_the_place() -> None:
    with pytest.raises(errors.UndefinedValue) as caught:
        read_model(subgraph_output("lost"))
    assert caught.value.loc == "subgraph of node 'if' (If)"


def test_nesting_is_bounded() -> None:
    assert read_model(nested(20)).graph.nodes
    with pytest.raises(errors.LimitExceeded, match="nesting of subgraphs is 11"):
        read_model(nested(20), replace(DEFAULT, depth=10))
    deep = nested(2)
    graph = deep.graph
    for _ in range(80):  # an object may be deeper than protobuf parses
        node = graph.node.add(op_type="If", input=["c"])
        graph = node.attribute.add(name="then_branch", type=AttributeProto.GRAPH).g
        graph.SetInParent()
    with pytest.raises(errors.LimitExceeded, match="nesting of subgraphs"):
        read_model(deep)


def test_nesting_that_protobuf_refuses() -> None:
    payload = b""
    for _ in range(200):  # graph > node > attribute > graph, as bytes
        for tag in (b"\x32", b"\x2a", b"\x0a"):
            payload = tag + _varint(len(payload)) + payload
    with pytest.raises(errors.ModelCorrupt):
        read_model(b"\x08\x0a\x3a" + _varint(len(payload)) + payload)


def _varint(value: int) -> bytes:
    encoded = b""
    while value > 127:
        encoded += bytes([value & 127 | 128])
        value >>= 7
    return encoded + bytes([value])


def test_nested_types_are_bounded() -> None:
    proto = make_model([relu()], ["x", "s"])
    kind = proto.graph.input[1].type
    for _ in range(80):
        kind = kind.sequence_type.elem_type
    kind.tensor_type.elem_type = 1
    with pytest.raises(errors.LimitExceeded, match="nesting of the type of graph input 's'"):
        read_model(proto)


@pytest.mark.parametrize(
    ("field", "limit", "text"),
    [
        ("nodes", 2, "number of nodes is 3"),
        ("values", 5, "number of values"),
        ("file_bytes", 10, "size of the given"),
    ],
)
def test_counts_are_bounded(field: str, limit: int, text: str) -> None:
    nodes = [relu("x", "a"), relu("a", "b"), relu("b", "y")]
    proto = make_model(nodes)
    assert len(read_model(proto.SerializeToString()).graph.nodes) == 3
    with pytest.raises(errors.LimitExceeded, match=text):
        read_model(proto.SerializeToString(), replace(DEFAULT, **{field: limit}))


def test_nodes_of_subgraphs_count() -> None:
    node = conditional(branch([relu("x", "t")], "t"), branch([relu("x", "e")], "e"))
    with pytest.raises(errors.LimitExceeded, match="number of nodes is 3"):
        read_model(make_model([node], ["x", CONDITION]), replace(DEFAULT, nodes=2))


@pytest.mark.parametrize("data", [b"", b"\x08\x0a", b"\0", b"\xff" * 40, b"not a model at all, but text\n"])
def test_bytes_that_are_no_model(data: bytes) -> None:
    with pytest.raises((errors.ModelCorrupt, errors.ModelIncomplete)):
        read_model(data)


@pytest.mark.parametrize("source", [None, 7, Path, np.zeros(3)])
def test_sources_that_are_none(source: Any) -> None:
    with pytest.raises(errors.ModelSourceInvalid):
        read_model(source)


def test_paths_that_cannot_be_read(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo.onnx"
    os.mkfifo(fifo)
    empty = tmp_path / "empty.onnx"
    empty.touch()
    for path, text in (
        (tmp_path / "missing.onnx", "no such file"),
        (tmp_path, "not a regular file"),
        (fifo, "not a regular file"),
        (Path("/dev/zero"), "not a regular file"),
        ("a\0b", "null"),
    ):
        with pytest.raises(errors.ModelUnreadable, match=text):
            read_model(path)
    with pytest.raises(errors.ModelIncomplete):
        read_model(empty)


def test_text_that_is_not_utf8() -> None:
    data = make_model([relu(name="NAME")], [tensor_value("x", ("DIMS",))]).SerializeToString()
    for name in (b"NAME", b"DIMS", b"Relu", b"main"):
        with pytest.raises(errors.InvalidText, match="is not UTF-8 text"):
            read_model(data.replace(name, b"\xff\xfe\xfd\xfc"))


def test_hostile_names_are_escaped() -> None:
    name = "a'b\"c\n*/\r\x1b[31m\u202e$(rm -rf /)" + "z" * 10**6
    proto = make_model([relu("x", name, name=name), relu("nowhere", "y", name=name)])
    with pytest.raises(errors.UndefinedValue) as caught:
        read_model(proto)
    text = str(caught.value)
    assert text.isascii() and "\x1b" not in text and len(text) < 1000
    assert "node 'a\\'b" in text and text.count("\n") == 3
    assert read_model(make_model([relu("x", name), relu(name, "y")])).graph.nodes[0].outputs == (name,)


def test_all_unsupported_operators_are_listed() -> None:
    inner = helper.make_node("Inner", ["x"], ["t"], domain="com.example")
    nodes = [
        helper.make_node("First", ["x"], ["a"], domain="com.example", name="one"),
        helper.make_node("First", ["a"], ["b"], domain="com.example", name="two"),
        conditional(branch([inner], "t"), branch([relu("b", "e")], "e")),
    ]
    graph = read_model(make_model(nodes, ["x", CONDITION], domains={"com.example": 2})).graph
    found = unsupported_operators(graph, lambda node: node.domain == "")
    assert [(item.op_type, item.opset, item.count) for item in found] == [("First", 2, 2), ("Inner", 2, 1)]
    assert found[0].first == "node 'one' (First)"
    with pytest.raises(errors.UnsupportedOperators, match="2 unsupported operators") as caught:
        require_operators(graph, lambda node: node.domain == "")
    assert "'com.example.First' version 2 (2 nodes, first: node 'one' (First))" in caught.value.message
    assert "'com.example.Inner'" in caught.value.message
    require_operators(graph, lambda node: True)
