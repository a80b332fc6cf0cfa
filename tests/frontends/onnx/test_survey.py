"""A survey tells of every node, whatever happens to the ones before it."""

from __future__ import annotations

from onnx import TensorProto, helper

from aino_ir.frontends.onnx.survey import survey_onnx
from tests.driver.models import mlp, tensor, unsupported


def test_every_node_has_types_and_ops() -> None:
    module, nodes = survey_onnx(mlp("batch"))
    assert [(n.node.op_type, n.types) for n in nodes] == [
        ("Gemm", ("f32[batch, 6]",)),
        ("Relu", ("f32[batch, 6]",)),
        ("Gemm", ("f32[batch, 3]",)),
    ]
    assert [[op.name for op in n.ops if op.name != "core.constant"] for n in nodes][1] == ["math.relu"]
    assert module.name == "mlp" and not any(n.problem for n in nodes)


def test_survey_goes_on_behind_what_it_cannot_take() -> None:
    model = unsupported()
    _, nodes = survey_onnx(model)
    assert [(bool(n.problem), n.blocked) for n in nodes] == [
        (False, False),
        (True, False),
        (True, True),
        (True, False),
    ]
    assert "com.example.Foo' version 1" in nodes[1].problem and nodes[2].types == ("?",)
    assert nodes[3].types == ("f32[2, 3]",)  # as the output declares
    model.graph.value_info.append(tensor("b", [2, 3]))
    _, nodes = survey_onnx(model)
    assert not nodes[2].problem and nodes[2].types == ("f32[2, 3]",)


def test_operators_inside_subgraphs_count() -> None:
    def branch(name: str, op: str, domain: str) -> object:
        node = helper.make_node(op, ["x"], [name], domain=domain)
        return helper.make_graph(
            [node], name, [], [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2])]
        )

    node = helper.make_node(
        "If",
        ["c"],
        ["y"],
        name="choose",
        then_branch=branch("t", "Foo", "com.example"),
        else_branch=branch("e", "Relu", ""),
    )
    inputs = [tensor("c", [], TensorProto.BOOL), tensor("x", [2])]
    graph = helper.make_graph([node], "g", inputs, [tensor("y", [2])])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.example", 1)]
    _, nodes = survey_onnx(helper.make_model(graph, opset_imports=opsets, ir_version=8))
    assert len(nodes) == 1 and nodes[0].problem


def test_failing_nodes_say_why_and_errors_do_not_stop_it() -> None:
    nodes = [
        helper.make_node("Reshape", ["x", "shape"], ["a"], name="odd"),
        helper.make_node("Relu", ["x"], ["y"], name="fine"),
    ]
    shape = helper.make_tensor("shape", TensorProto.INT64, [1], [5])
    graph = helper.make_graph(
        nodes, "g", [tensor("x", [2, 3])], [tensor("y", [2, 3]), tensor("a", [5])], [shape]
    )
    _, found = survey_onnx(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    )
    assert found[0].problem and not found[0].blocked and not found[1].problem
