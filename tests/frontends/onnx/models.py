"""Small ONNX models for the reader's tests, and plain nodes back as protobuf for onnx's own evaluator."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from aino_ir.frontends.onnx.nodes import Attribute, OnnxGraph, OnnxNode, TensorInfo
from aino_ir.frontends.onnx.tensors import CODES

F32 = TensorProto.FLOAT


def tensor_value(name: str, dims: Iterable[int | str] | None = (2,), code: int = F32) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, code, None if dims is None else list(dims))


def make_model(
    nodes: Iterable[onnx.NodeProto],
    inputs: Iterable[str | onnx.ValueInfoProto] = ("x",),
    outputs: Iterable[str | onnx.ValueInfoProto] = ("y",),
    initializers: Iterable[onnx.TensorProto] = (),
    opset: int = 17,
    functions: Iterable[onnx.FunctionProto] = (),
    domains: Mapping[str, int] | None = None,
) -> onnx.ModelProto:
    """A model; inputs and outputs given by name are f32[2]."""

    def declare(values: Iterable[str | onnx.ValueInfoProto]) -> list[onnx.ValueInfoProto]:
        return [tensor_value(value) if isinstance(value, str) else value for value in values]

    graph = helper.make_graph(
        list(nodes), "main", declare(inputs), declare(outputs), initializer=list(initializers)
    )
    imports = [helper.make_opsetid("", opset)]
    imports += [helper.make_opsetid(domain, version) for domain, version in (domains or {}).items()]
    return helper.make_model(graph, opset_imports=imports, functions=list(functions), ir_version=10)


def relu(source: str = "x", target: str = "y", **attributes: Any) -> onnx.NodeProto:
    return helper.make_node("Relu", [source], [target], **attributes)


def branch(nodes: Iterable[onnx.NodeProto], output: str) -> onnx.GraphProto:
    """A subgraph without inputs that returns one f32[2]."""
    return helper.make_graph(list(nodes), "branch", [], [tensor_value(output)])


def conditional(
    then: onnx.GraphProto, other: onnx.GraphProto, target: str = "y", **names: Any
) -> onnx.NodeProto:
    return helper.make_node("If", ["c"], [target], then_branch=then, else_branch=other, **names)


CONDITION = tensor_value("c", (), TensorProto.BOOL)


def nested(depth: int) -> onnx.ModelProto:
    """Ifs inside each other, `depth` graphs deep counting the main one."""
    node = relu("x", f"v{depth}")
    for level in range(depth - 1, 0, -1):
        inner = helper.make_graph([node], "inner", [], [tensor_value(f"v{level + 1}")])
        node = onnx.NodeProto(op_type="If", input=["c"], output=[f"v{level}"])
        for name in ("then_branch", "else_branch"):
            node.attribute.add(name=name, type=onnx.AttributeProto.GRAPH).g.CopyFrom(
                inner if name == "then_branch" else branch([relu("x", f"e{level}")], f"e{level}")
            )
    return make_model([node], inputs=["x", CONDITION], outputs=["v1"])


_CODES = {kind: code for code, kind in enumerate(("float", "int", "string", "tensor", "graph"), start=1)}
_CODES |= {kind: code for code, kind in enumerate(("floats", "ints", "strings"), start=6)}
_FIELDS = {"float": "f", "int": "i", "string": "s"}


def attribute_message(name: str, attribute: Attribute) -> onnx.AttributeProto:
    message = onnx.AttributeProto(name=name, type=_CODES[attribute.kind])
    if attribute.kind in _FIELDS:
        setattr(message, _FIELDS[attribute.kind], attribute.value)
    elif attribute.kind == "tensor":
        message.t.CopyFrom(numpy_helper.from_array(np.array(attribute.value.array())))
    elif attribute.kind == "graph":
        message.g.CopyFrom(graph_message(attribute.value))
    else:
        getattr(message, attribute.kind).extend(attribute.value)
    return message


def node_message(node: OnnxNode) -> onnx.NodeProto:
    message = helper.make_node(node.op_type, node.inputs, node.outputs, node.name, domain=node.domain)
    message.attribute.extend(attribute_message(name, item) for name, item in node.attributes.items())
    return message


def graph_message(graph: OnnxGraph) -> onnx.GraphProto:
    def value(name: str, info: object) -> onnx.ValueInfoProto:
        if not isinstance(info, TensorInfo):
            return onnx.ValueInfoProto(name=name)
        return helper.make_tensor_value_info(name, CODES[info.dtype], info.dims)

    return helper.make_graph(
        [node_message(node) for node in graph.nodes],
        graph.name or "graph",
        [value(item.name, item.type) for item in graph.inputs],
        [value(item.name, item.type) for item in graph.outputs],
        [numpy_helper.from_array(np.array(t.array()), name) for name, t in graph.initializers.items()],
    )
