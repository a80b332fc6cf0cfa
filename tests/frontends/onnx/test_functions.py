"""Inlining model-local functions, and expanding standard operators by onnx's own bodies."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import AttributeProto, FunctionProto, TensorProto, helper
from onnx.reference import ReferenceEvaluator

from aino_ir.errors import AinoError
from aino_ir.errors import onnx as errors
from aino_ir.frontends.onnx.functions import NameSource, expand_function, inline_functions, type_message
from aino_ir.frontends.onnx.limits import DEFAULT
from aino_ir.frontends.onnx.nodes import OnnxModel, SequenceInfo, TensorInfo, walk_nodes
from aino_ir.frontends.onnx.order import check_names
from aino_ir.frontends.onnx.reader import read_model
from tests.frontends.onnx.models import (
    CONDITION,
    branch,
    conditional,
    graph_message,
    make_model,
    relu,
    tensor_value,
)

LOCAL = {"local": 1}


def reference(name: str, target: str, kind: int = AttributeProto.FLOAT) -> AttributeProto:
    return AttributeProto(name=name, ref_attr_name=target, type=kind)


def function(
    name: str,
    nodes: list[onnx.NodeProto],
    inputs: tuple[str, ...] = ("x",),
    outputs: tuple[str, ...] = ("y",),
    attributes: tuple[str, ...] = (),
    defaults: tuple[AttributeProto, ...] = (),
    opset: int = 17,
) -> FunctionProto:
    imports = [helper.make_opsetid("", opset), helper.make_opsetid("local", 1)]
    return helper.make_function(
        "local", name, inputs, outputs, nodes, imports, list(attributes), list(defaults)
    )


def call(function: str, inputs: list[str], outputs: list[str], **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(function, inputs, outputs, domain="local", **attributes)


def inlined(nodes: list[onnx.NodeProto], *functions: FunctionProto, **parts: Any) -> OnnxModel:
    model = inline_functions(read_model(make_model(nodes, functions=functions, domains=LOCAL, **parts)))
    check_names(model.graph)
    assert not model.functions
    assert not any(node.domain == "local" for node in walk_nodes(model.graph))
    return model


def elu(default: float | None = None) -> FunctionProto:
    node = helper.make_node("Elu", ["x"], ["y"], name="inner")
    node.attribute.append(reference("alpha", "a"))
    if default is None:
        return function("F", [node], attributes=("a",))
    return function("F", [node], defaults=(helper.make_attribute("a", default),))


def test_a_call_becomes_the_body() -> None:
    body = [relu("x", "t"), helper.make_node("Neg", ["t"], ["y"], name="neg")]
    model = inlined([call("F", ["x"], ["m"], name="one"), call("F", ["m"], ["y"])], function("F", body))
    assert [node.op_type for node in model.graph.nodes] == ["Relu", "Neg"] * 2
    first, second, third, fourth = model.graph.nodes
    assert first.inputs == ("x",) and second.outputs == ("m",) == third.inputs and fourth.outputs == ("y",)
    assert first.outputs == ("one/t",) and third.outputs == ("F/t",)
    assert second.location == "node 'one/neg' (Neg) in function 'local.F' called by node 'one' (F)"


def test_fresh_names_avoid_those_of_the_model() -> None:
    body = function("F", [relu("x", "t"), relu("t", "y")])
    nodes = [relu("x", "F/t"), call("F", ["F/t"], ["m"]), call("F", ["m"], ["y"])]
    names = [name for node in inlined(nodes, body).graph.nodes for name in node.outputs]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("given", "default", "expected"), [(2.0, None, 2.0), (2.0, 3.0, 2.0), (None, 3.0, 3.0), (None, None, 1.0)]
)
def test_attribute_references(given: float | None, default: float | None, expected: float) -> None:
    attributes = {} if given is None else {"a": given}
    node = inlined([call("F", ["x"], ["y"], **attributes)], elu(default)).graph.nodes[0]
    assert node.float("alpha", 1.0) == expected
    assert ("alpha" in node.attributes) is (given is not None or default is not None)


def test_a_missing_value_reaches_the_inner_default() -> None:
    """G passes an attribute on that its caller left out: the default of F holds."""
    inner = call("F", ["x"], ["y"])
    inner.attribute.append(reference("a", "b"))
    outer = function("G", [inner], attributes=("b",))
    for given, expected in (({}, 3.0), ({"b": 5.0}, 5.0)):
        model = inlined([call("G", ["x"], ["y"], **given)], elu(3.0), outer)
        assert model.graph.nodes[0].float("alpha") == expected


def test_references_inside_subgraphs() -> None:
    inner = helper.make_node("Elu", ["x"], ["t"])
    inner.attribute.append(reference("alpha", "a"))
    body = [conditional(branch([inner], "t"), branch([relu("x", "t")], "t"))]
    shape = function("F", body, inputs=("c", "x"), attributes=("a",))
    model = inlined([call("F", ["c", "v"], ["y"], a=4.0)], shape, inputs=["v", CONDITION])
    (node,) = model.graph.nodes
    assert set(node.captures) == {"v"} and node.inputs == ("c",)
    assert node.graph("then_branch").nodes[0].float("alpha") == 4.0
    assert node.graph("then_branch").outputs[0].name != node.graph("else_branch").outputs[0].name


def test_inputs_of_subgraphs_do_not_hide_the_values_of_the_caller() -> None:
    """The body of a Loop has an input `s`; so is called what the caller passes for `w`."""
    scalars = [tensor_value("i", (), TensorProto.INT64), tensor_value("go", (), TensorProto.BOOL)]
    nodes = [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Sub", ["s", "w"], ["next"])]
    outputs = [tensor_value("on", (), TensorProto.BOOL), tensor_value("next")]
    body = helper.make_graph(nodes, "body", [*scalars, tensor_value("s")], outputs)
    loop = function(
        "F", [helper.make_node("Loop", ["n", "c", "v"], ["y"], body=body)], inputs=("n", "c", "v", "w")
    )
    count = tensor_value("n", (), TensorProto.INT64)
    model = inlined([call("F", ["n", "c", "x", "s"], ["y"])], loop, inputs=[count, CONDITION, "x", "s"])
    assert model.graph.nodes[0].captures == ("s",)
    values = [np.array(3), np.array(True), np.array([9, 9], np.float32), np.array([1, 2], np.float32)]
    np.testing.assert_array_equal(run(model, values)[0], [6, 3])


def test_calls_inside_subgraphs() -> None:
    then = branch([call("F", ["x"], ["t"])], "t")
    model = inlined([conditional(then, branch([relu("x", "e")], "e"))], elu(2.0), inputs=["x", CONDITION])
    assert model.graph.nodes[0].graph("then_branch").nodes[0].op_type == "Elu"


def test_outputs_that_are_inputs_or_twice_the_same() -> None:
    body = function("F", [relu("x", "r")], outputs=("x", "r", "r"))
    model = inlined([call("F", ["x"], ["a", "b", "c"])], body, outputs=["a", "b", "c"])
    assert [(n.op_type, n.inputs, n.outputs) for n in model.graph.nodes] == [
        ("Relu", ("x",), ("b",)),
        ("Identity", ("x",), ("a",)),
        ("Identity", ("b",), ("c",)),
    ]


def test_absent_inputs_and_unwanted_outputs() -> None:
    body = function(
        "F",
        [helper.make_node("Clip", ["x", "lo", "hi"], ["y"]), relu("x", "z")],
        inputs=("x", "lo", "hi"),
        outputs=("y", "z"),
    )
    model = inlined([call("F", ["x", ""], ["y"])], body)
    assert model.graph.nodes[0].inputs == ("x", "", "") and model.graph.nodes[1].outputs == ("F/z",)
    only_second = inlined([call("F", ["x"], ["", "y"])], body)
    assert only_second.graph.nodes[1].outputs == ("y",)


def test_nodes_keep_the_operator_set_of_their_function() -> None:
    node = helper.make_node("Softmax", ["x"], ["y"])
    model = inlined([call("F", ["x"], ["m"]), relu("m", "y")], function("F", [node], opset=11))
    assert [node.opset for node in model.graph.nodes] == [11, 17]


def test_overloads_are_told_apart() -> None:
    first, second = function("F", [relu()]), function("F", [helper.make_node("Neg", ["x"], ["y"])])
    first.overload, second.overload = "one", "two"
    node = call("F", ["x"], ["y"])
    node.overload = "two"
    assert inlined([node], first, second).graph.nodes[0].op_type == "Neg"


def test_a_function_may_replace_a_standard_operator() -> None:
    neg = function("Relu", [helper.make_node("Neg", ["x"], ["y"])])
    neg.domain = ""
    model = inline_functions(read_model(make_model([relu()], functions=[neg])))
    assert model.graph.nodes[0].op_type == "Neg"


FAULTS: dict[str, tuple[list[onnx.NodeProto], list[FunctionProto], type[AinoError], str]] = {
    "too many inputs": (
        [call("F", ["x", "x"], ["y"])],
        [elu()],
        errors.FunctionInvalid,
        "has 1 inputs, the call gives 2",
    ),
    "too many outputs": ([call("F", ["x"], ["y", "z"])], [elu()], errors.FunctionInvalid, "has 1 outputs"),
    "unknown attribute": (
        [call("F", ["x"], ["y"], b=1.0)],
        [elu()],
        errors.FunctionInvalid,
        "has no attribute 'b'",
    ),
    "attribute of another kind": (
        [call("F", ["x"], ["y"], a=1)],
        [elu()],
        errors.AttributeKindMismatch,
        "'alpha' must be float, it is int",
    ),
    "absent input returned": (
        [call("F", [""], ["y"])],
        [function("F", [], outputs=("x",))],
        errors.FunctionInvalid,
        "returns its input 'x'",
    ),
    "recursion": (
        [call("F", ["x"], ["y"])],
        [function("F", [call("G", ["x"], ["y"])]), function("G", [call("F", ["x"], ["y"])])],
        errors.FunctionRecursion,
        "'local.F' -> 'local.G' -> 'local.F'",
    ),
    "recursion in a subgraph": (
        [call("F", ["x"], ["y"])],
        [
            function(
                "F",
                [
                    helper.make_node(
                        "If",
                        ["x"],
                        ["y"],
                        then_branch=branch([call("F", ["x"], ["t"])], "t"),
                        else_branch=branch([relu("x", "e")], "e"),
                    )
                ],
            )
        ],
        errors.FunctionRecursion,
        "'local.F' -> 'local.F'",
    ),
    "output not defined": (
        [call("F", ["x"], ["y"])],
        [function("F", [relu("x", "z")])],
        errors.FunctionInvalid,
        "does not define its output 'y'",
    ),
    "outer value used": (
        [call("F", ["x"], ["y"])],
        [function("F", [relu("v")])],
        errors.UndefinedValue,
        "'v'",
    ),
    "cycle": (
        [call("F", ["x"], ["y"])],
        [function("F", [relu("a", "b"), relu("b", "a"), relu()])],
        errors.GraphCycle,
        "cycle",
    ),
    "twice": (
        [call("F", ["x"], ["y"])],
        [elu(), elu()],
        errors.DuplicateName,
        "function 'local.F' is defined twice",
    ),
    "input twice": (
        [call("F", ["x"], ["y"])],
        [function("F", [relu()], inputs=("x", "x"))],
        errors.DuplicateName,
        "function input 'x'",
    ),
    "stray reference": (
        [call("F", ["x"], ["y"])],
        [function("F", list(elu().node))],
        errors.AttributeReferenceStray,
        "refers to 'a'",
    ),
    "unknown operator set": (
        [call("F", ["x"], ["y"])],
        [function("F", [relu()], opset=99)],
        errors.OpsetOutOfRange,
        "version 99",
    ),
    "without name": (
        [call("F", ["x"], ["y"])],
        [elu(), function("", [relu()])],
        errors.EmptyName,
        "a function has no name",
    ),
}


@pytest.mark.parametrize("case", FAULTS)
def test_fault(case: str) -> None:
    nodes, functions, kind, text = FAULTS[case]
    with pytest.raises(kind) as caught:
        inlined(nodes, *functions)
    assert text in caught.value.message


def test_bombs_are_found_before_they_are_built() -> None:
    """Thirty functions that each call the one before twice: a billion nodes."""
    functions = [function("F0", [relu()])]
    for level in range(1, 31):
        body = [call(f"F{level - 1}", ["x"], ["t"]), call(f"F{level - 1}", ["t"], ["y"])]
        functions.append(function(f"F{level}", body))
    with pytest.raises(errors.LimitExceeded, match="number of nodes after inlining"):
        inlined([call("F30", ["x"], ["y"])], *functions)


@pytest.mark.parametrize("order", [1, -1])
def test_long_chains_of_calls_are_refused(order: int) -> None:
    functions = [function("F0", [relu()])]
    functions += [function(f"F{level}", [call(f"F{level - 1}", ["x"], ["y"])]) for level in range(1, 100)]
    nodes = [call(f"F{level}", ["x"], [f"y{level}"]) for level in range(1, 100)][::order]
    with pytest.raises(errors.LimitExceeded, match="nesting of function calls"):
        inlined(nodes, *functions, outputs=["y99"])


def test_nesting_and_values_after_inlining_are_bounded() -> None:
    functions = [function("F0", [relu("x", "y")], inputs=("c", "x"))]
    for level in range(1, 10):
        then = branch([call(f"F{level - 1}", ["c", "x"], ["t"])], "t")
        body = [conditional(then, branch([relu("x", "e")], "e"))]
        functions.append(function(f"F{level}", body, inputs=("c", "x")))
    nodes = [call("F9", ["c", "x"], ["y"])]
    model = read_model(make_model(nodes, ["x", CONDITION], functions=functions, domains=LOCAL))
    inner = conditional(branch([call("F9", ["c", "x"], ["t"])], "t"), branch([relu("x", "e")], "e"))
    deeper = read_model(make_model([inner], ["x", CONDITION], functions=functions, domains=LOCAL))
    assert len(list(walk_nodes(inline_functions(model).graph))) == 19
    with pytest.raises(errors.LimitExceeded, match="nesting of function calls is 10"):
        inline_functions(model, replace(DEFAULT, depth=9))
    with pytest.raises(errors.LimitExceeded, match="nesting of subgraphs after inlining is 11"):
        inline_functions(deeper, replace(DEFAULT, depth=10))
    with pytest.raises(errors.LimitExceeded, match="number of values after inlining"):
        inline_functions(model, replace(DEFAULT, values=20))


def test_long_names_do_not_multiply() -> None:
    long = "n" * 10**5
    body = function("F", [relu("x", long), relu(long, "y")])
    nodes = [call("F", ["x"], [f"y{i}"], name=long) for i in range(50)]
    model = inlined(nodes, body, outputs=["y0"])
    assert max(len(name) for node in model.graph.nodes for name in node.outputs) < 200


def test_a_model_without_functions_stays_the_same_object() -> None:
    model = read_model(make_model([relu()]))
    assert inline_functions(model) is model


def test_name_source() -> None:
    names = NameSource(["a"])
    assert [names.fresh("a"), names.fresh("a"), names.fresh("b"), names.fresh("a_1")] == [
        "a_1",
        "a_2",
        "b",
        "a_1_1",
    ]


def run(model: OnnxModel, inputs: list[np.ndarray]) -> list[np.ndarray]:
    proto = helper.make_model(
        graph_message(model.graph),
        opset_imports=[helper.make_opsetid(domain, version) for domain, version in model.opsets.items()],
    )
    feeds = {value.name: array for value, array in zip(model.graph.inputs, inputs, strict=True)}
    return list(ReferenceEvaluator(proto).run(None, feeds))


EXPANDED = [
    "test_gelu_tanh_1", "test_gelu_default_1", "test_layer_normalization_2d_axis0", "test_celu", "test_clip",
    "test_softmax_axis_1", "test_softplus", "test_hardswish", "test_mvn", "test_group_normalization_example",
    "test_center_crop_pad_crop", "test_range_float_type_positive_delta", "test_thresholdedrelu",
    "test_shrink_hard",
    "test_nllloss_NC", "test_sce_mean", "test_dynamicquantizelinear", "test_reduce_l2_keep_dims_example",
    "test_rms_normalization_2d_axis0", "test_rotary_embedding", "test_attention_4d", "test_affine_grid_2d",
]  # fmt: skip


@pytest.mark.parametrize("name", EXPANDED)
def test_standard_bodies_compute_what_the_operator_does(name: str, node_cases: list[Any]) -> None:
    (case,) = (case for case in node_cases if case.name == name)
    model = read_model(case.model)
    (node,) = model.graph.nodes
    types = {value.name: value.type for value in model.graph.inputs}
    body = expand_function(node, [types.get(item) for item in node.inputs], NameSource.of(model.graph))
    assert body is not None and len(body) > 0
    version = max(item.opset for item in body)
    expanded = replace(model, graph=replace(model.graph, nodes=body), opsets={"": version})
    check_names(expanded.graph)
    inputs, outputs = case.data_sets[0]
    for got, expected in zip(run(expanded, inputs), outputs, strict=True):
        # onnx's evaluator keeps an axis of extent one when it stacks the scalars of a Loop.
        np.testing.assert_allclose(np.reshape(got, expected.shape), expected, rtol=1e-3, atol=1e-6)


def test_operators_without_a_body() -> None:
    names = NameSource()
    info = TensorInfo("f32", (2,))
    for op_type, domain in (("Add", ""), ("Foo", "local")):
        node = helper.make_node(op_type, ["x", "x"], ["y"], domain=domain)
        read = read_model(make_model([node], domains=LOCAL)).graph.nodes[0]
        assert expand_function(read, [info, info], names) is None


def test_bodies_that_take_graphs_are_left_alone() -> None:
    body = helper.make_graph([relu("a", "b")], "body", [tensor_value("a")], [tensor_value("b")])
    kind = helper.make_sequence_type_proto(helper.make_tensor_type_proto(TensorProto.FLOAT, [2]))
    proto = make_model(
        [helper.make_node("SequenceMap", ["s"], ["y"], body=body)],
        [helper.make_value_info("s", kind)],
        [helper.make_value_info("y", kind)],
    )
    graph = read_model(proto).graph
    assert expand_function(graph.nodes[0], [graph.inputs[0].type], NameSource.of(graph)) is None


def test_a_node_that_onnx_has_no_body_for() -> None:
    node = helper.make_node("SpaceToDepth", ["x"], ["y"], blocksize=2**62)
    read = read_model(make_model([node], opset=28)).graph.nodes[0]
    with pytest.raises(errors.UnbuildableFunction, match="no body of 'SpaceToDepth'"):
        expand_function(read, [TensorInfo("f32", (1, 4, 8, 8))], NameSource())


def test_a_malformed_node_is_not_expanded() -> None:
    node = read_model(make_model([helper.make_node("Celu", ["x"], ["y"], alpha=1.0)])).graph.nodes[0]
    with pytest.raises(errors.NodeArity):
        expand_function(replace(node, inputs=()), [], NameSource())


def test_types_as_messages() -> None:
    info = SequenceInfo(TensorInfo("f16", (1, "n", None)))
    expected = helper.make_sequence_type_proto(
        helper.make_tensor_type_proto(TensorProto.FLOAT16, [1, "n", None])
    )
    assert type_message(info) == expected
    assert type_message(None) == onnx.TypeProto()
    read = read_model(
        make_model([relu()], ["x", helper.make_value_info("s", expected), tensor_value("u", None)])
    )
    assert [type_message(value.type) for value in read.graph.inputs[1:]] == [
        expected,
        helper.make_tensor_type_proto(TensorProto.FLOAT, None),
    ]
