"""Control flow, recurrent cells, sequences and optional values of ONNX models."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from aino_ir.errors.ir import BadOperand, OutOfRangeIndex
from aino_ir.errors.onnx import InputNotConstant, NodeInvalid, VariantUnsupported
from aino_ir.frontends import recurrence
from aino_ir.frontends.onnx import load_onnx
from aino_ir.graph import Module
from aino_ir.interp import run_module
from aino_ir.verify import verify
from tests.frontends.onnx.models import CONDITION, branch, conditional, make_model, relu, tensor_value

I64 = TensorProto.INT64
RNG = np.random.default_rng(3)


def node(op: str, inputs: list[str], outputs: tuple[str, ...] = ("y",), **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op, inputs, list(outputs), **attributes)


def anything(*names: str) -> list[onnx.ValueInfoProto]:
    return [helper.make_empty_tensor_value_info(name) for name in names]


def array(name: str, value: Any, dtype: Any = np.float32) -> onnx.TensorProto:
    return numpy_helper.from_array(np.asarray(value, dtype), name)


def names(module: Module) -> list[str]:
    return [op.name for op in module.main.block if op.name not in ("core.constant", "core.return")]


# ------------------------------------------------------------------------------------- control flow


def test_a_branch_sees_outer_values_and_makes_constants_anew() -> None:
    then = branch([node("Add", ["x", "w"], ("t",))], "t")
    other = branch([node("Mul", ["x", "w"], ("e",))], "e")
    model = make_model([conditional(then, other)], inputs=["x", CONDITION], initializers=[array("w", [3, 4])])
    module = load_onnx(model)
    verify(module)
    (op,) = [op for op in module.main.block if op.name == "control.if"]
    assert len(op.operands) == 2  # the condition and x: the constant is in each region
    x = np.array([1, 2], np.float32)
    assert run_module(module, [x, np.True_])[0].tolist() == [4, 6]
    assert run_module(module, [x, np.False_])[0].tolist() == [3, 8]


def test_branches_of_different_rank_need_a_known_condition() -> None:
    """No value has one of two ranks: which branch is taken must be known, and the refusal names the input."""
    flat = branch([node("Reshape", ["x", "all"], ("f",))], "f")
    tall = branch([node("Reshape", ["x", "two"], ("t",))], "t")
    ports = [tensor_value("x", (6,)), CONDITION]
    constants = [array("all", [6], np.int64), array("two", [2, 3], np.int64)]
    model = make_model([conditional(flat, tall)], ports, anything("y"), constants)
    with pytest.raises(InputNotConstant, match="input 'c'") as caught:
        load_onnx(model)
    assert caught.value.inputs == ("c",)
    x = np.arange(6, dtype=np.float32)
    for c, shape in ((True, (6,)), (False, (2, 3))):
        (y,) = run_module(load_onnx(model, values={"c": np.asarray(c)}), [x])
        assert y.shape == shape


def test_a_known_condition_leaves_one_branch() -> None:
    model = make_model(
        [
            node("Shape", ["x"], ("s",)),
            node("Size", ["s"], ("rank",)),
            node("Equal", ["rank", "one"], ("c",)),
            conditional(branch([relu("x", "t")], "t"), branch([node("Neg", ["x"], ("e",))], "e")),
        ],
        initializers=[array("one", 1, np.int64)],
    )
    assert names(load_onnx(model)) == ["math.relu"]


def loop_body(nodes: list[onnx.NodeProto], carried: list[int | str]) -> onnx.GraphProto:
    inputs = [
        tensor_value("i", (), I64),
        tensor_value("go", (), TensorProto.BOOL),
        tensor_value("a", carried),
    ]
    outputs = [tensor_value("go_out", (), TensorProto.BOOL), tensor_value("b", carried)]
    return helper.make_graph([node("Identity", ["go"], ("go_out",)), *nodes], "body", inputs, outputs)


def test_a_loop_whose_value_grows() -> None:
    body = loop_body([node("Concat", ["a", "x"], ("b",), axis=0)], ["n"])
    loop = node("Loop", ["trips", "", "x"], body=body)
    inputs = ["x", tensor_value("trips", (), I64)]
    module = load_onnx(make_model([loop], inputs=inputs, outputs=anything("y")))
    verify(module)
    x = np.array([1, 2], np.float32)
    assert run_module(module, [x, np.int64(2)])[0].tolist() == [1, 2] * 3
    assert run_module(module, [x, np.int64(0)])[0].tolist() == [1, 2]


def test_a_list_that_grows_from_nothing_has_declared_extents() -> None:
    """The body is lowered a second time when the list's elements are known; its symbols must be the model's."""
    inputs = [
        tensor_value("i", (), I64),
        tensor_value("go", (), TensorProto.BOOL),
        helper.make_tensor_sequence_value_info("a", TensorProto.FLOAT, ["k"]),
    ]
    outputs = [
        tensor_value("go_out", (), TensorProto.BOOL),
        helper.make_tensor_sequence_value_info("b", TensorProto.FLOAT, ["k"]),
    ]
    nodes = [
        node("Identity", ["go"], ("go_out",)),
        node("SequenceAt", ["xs", "i"], ("x",)),
        node("SequenceInsert", ["a", "x"], ("b",)),
    ]
    loop = node("Loop", ["trips", "", "none"], body=helper.make_graph(nodes, "body", inputs, outputs))
    given = [
        helper.make_tensor_sequence_value_info("xs", TensorProto.FLOAT, ["n"]),
        tensor_value("trips", (), I64),
    ]
    module = load_onnx(
        make_model([node("SequenceEmpty", [], ("none",)), loop], inputs=given, outputs=anything("y"))
    )
    verify(module)
    xs = [np.float32([1, 2]), np.float32([3])]
    assert [x.tolist() for x in run_module(module, [xs, np.int64(2)])[0]] == [[1, 2], [3]]


def test_a_carried_value_may_be_absent_at_first() -> None:
    """The body takes an optional list and yields one that is always there."""
    values = [helper.make_tensor_value_info("i", TensorProto.INT64, [])]
    values.append(helper.make_tensor_value_info("go", TensorProto.BOOL, []))
    kind = helper.make_tensor_type_proto(TensorProto.FLOAT, [2])
    maybe = helper.make_optional_type_proto(helper.make_sequence_type_proto(kind))
    given = helper.make_graph([node("OptionalGetElement", ["s"], ("old",))], "given", [], anything("old"))
    empty = helper.make_graph([node("SequenceEmpty", [], ("new",))], "empty", [], anything("new"))
    nodes = [
        node("OptionalHasElement", ["s"], ("has",)),
        node("If", ["has"], ("list",), then_branch=given, else_branch=empty),
        node("SequenceInsert", ["list", "x"], ("t",)),
        node("Identity", ["go"], ("on",)),
    ]
    on = helper.make_tensor_value_info("on", TensorProto.BOOL, [])
    body = helper.make_graph(
        nodes, "body", [*values, helper.make_value_info("s", maybe)], [on, *anything("t")]
    )
    ports = [
        tensor_value("x", (2,)),
        tensor_value("n", (), TensorProto.INT64),
        helper.make_value_info("o", maybe),
    ]
    module = load_onnx(make_model([node("Loop", ["n", "", "o"], body=body)], ports, anything("y")))
    verify(module)
    x, ones = np.float32([3, 4]), np.ones(2, np.float32)
    for start, turns, length in ((None, 2, 2), ([ones], 1, 2), ([], 1, 1)):
        (made,) = run_module(module, [x, np.int64(turns), start])
        assert len(made) == length and made[-1].tolist() == [3, 4]


def test_a_carried_value_may_not_change_its_rank() -> None:
    body = loop_body([node("Unsqueeze", ["a", "axis"], ("b",))], ["n"])
    loop = node("Loop", ["", "go0", "x"], body=body)
    inputs = ["x", tensor_value("go0", (), TensorProto.BOOL)]
    model = make_model([loop], inputs=inputs, initializers=[array("axis", [0], np.int64)])
    with pytest.raises(NodeInvalid, match="type of a carried value"):
        load_onnx(model)


def test_a_scan_over_another_axis_backwards() -> None:
    body = helper.make_graph(
        [node("Add", ["s", "e"], ("t",)), node("Identity", ["t"], ("o",))],
        "body",
        [tensor_value("s", [3]), tensor_value("e", [3])],
        [tensor_value("t", [3]), tensor_value("o", [3])],
    )
    scan = helper.make_node(
        "Scan",
        ["x0", "xs"],
        ["last", "all"],
        body=body,
        num_scan_inputs=1,
        scan_input_axes=[1],
        scan_input_directions=[1],
        scan_output_axes=[-1],
    )
    inputs = [tensor_value("x0", [3]), tensor_value("xs", [3, 4])]
    module = load_onnx(make_model([scan], inputs=inputs, outputs=anything("last", "all")))
    verify(module)
    xs = RNG.normal(size=(3, 4)).astype(np.float32)
    last, every = run_module(module, [np.zeros(3, np.float32), xs])
    np.testing.assert_allclose(every, np.cumsum(xs[:, ::-1], 1), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(last, xs.sum(1), rtol=1e-5, atol=1e-6)


# ------------------------------------------------------------------------------------- recurrent cells


def onnx_order(parameter: torch.Tensor, gates: list[int]) -> np.ndarray:
    blocks = np.split(parameter.detach().numpy(), len(gates))
    return np.concatenate([blocks[g] for g in gates])


@pytest.mark.parametrize("unrolled", [0, 16], ids=["scan", "unrolled"])
@pytest.mark.parametrize(
    ("kind", "gates", "attributes"),
    [("LSTM", [0, 3, 1, 2], {}), ("GRU", [1, 0, 2], {"linear_before_reset": 1}), ("RNN", [0], {})],
)
def test_cells_agree_with_torch(
    kind: str, gates: list[int], attributes: dict[str, int], unrolled: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recurrence, "UNROLLED", unrolled)
    torch.manual_seed(0)
    cell = getattr(torch.nn, kind)(3, 4, bidirectional=True)

    def stack(stem: str) -> np.ndarray:
        return np.stack([onnx_order(getattr(cell, f"{stem}_l0{d}"), gates) for d in ("", "_reverse")])

    bias = np.concatenate([stack("bias_ih"), stack("bias_hh")], 1)
    model = make_model(
        [
            node(
                kind, ["x", "w", "r", "b"], ("y", "h"), direction="bidirectional", hidden_size=4, **attributes
            )
        ],
        inputs=[tensor_value("x", [5, 2, 3])],
        outputs=anything("y", "h"),
        initializers=[array("w", stack("weight_ih")), array("r", stack("weight_hh")), array("b", bias)],
    )
    module = load_onnx(model)
    verify(module)
    assert ("control.scan" in names(module)) == (unrolled == 0)
    x = RNG.normal(size=(5, 2, 3)).astype(np.float32)
    y, h = run_module(module, [x])
    with torch.no_grad():
        expected, last = cell(torch.from_numpy(x))
    last = last[0] if kind == "LSTM" else last
    np.testing.assert_allclose(y.transpose(0, 2, 1, 3).reshape(5, 2, 8), expected.numpy(), atol=1e-5)
    np.testing.assert_allclose(h, last.numpy(), atol=1e-5)


@pytest.mark.parametrize(
    ("attributes", "text"),
    [
        ({"direction": "sideways"}, "direction must be"),
        ({"activations": ["Tanh", "Tanh"]}, "number of activations must be 1"),
        ({"activations": ["Sine"]}, "activation must be one of"),
    ],
)
def test_malformed_cells_are_refused(attributes: dict[str, Any], text: str) -> None:
    weights = [array("w", np.ones((1, 4, 3))), array("r", np.ones((1, 4, 4)))]
    call = node("RNN", ["x", "w", "r"], hidden_size=4, **attributes)
    with pytest.raises(NodeInvalid, match=text):
        load_onnx(make_model([call], inputs=[tensor_value("x", [5, 2, 3])], initializers=weights))


def test_a_symbolic_hidden_size_is_refused() -> None:
    call = node("RNN", ["x", "w", "r"], hidden_size=4)
    inputs = [
        tensor_value("x", [5, 2, 3]),
        tensor_value("w", [1, "hidden", 3]),
        tensor_value("r", [1, "hidden", "hidden"]),
    ]
    with pytest.raises(VariantUnsupported, match="a symbolic hidden size"):
        load_onnx(make_model([call], inputs=inputs))


# ------------------------------------------------------------------------------------- sequences, optionals


def test_known_sequences_leave_no_trace() -> None:
    calls = [
        node("SplitToSequence", ["x"], ("s",), axis=0, keepdims=0),
        node("SequenceInsert", ["s", "z"], ("s2",)),
        node("SequenceErase", ["s2", "first"], ("s3",)),
        node("SequenceAt", ["s3", "last"], ("e",)),
        node("SequenceLength", ["s3"], ("n",)),
        node("ConcatFromSequence", ["s3"], ("c",), axis=0, new_axis=1),
    ]
    model = make_model(
        calls,
        inputs=[tensor_value("x", [2]), tensor_value("z", ())],
        outputs=anything("e", "n", "c"),
        initializers=[array("first", 0, np.int64), array("last", -1, np.int64)],
    )
    module = load_onnx(model)
    assert not [n for n in names(module) if n.startswith("sequence")]
    e, n, c = run_module(module, [np.array([5, 6], np.float32), np.float32(7)])
    assert (float(e), int(n), c.tolist()) == (7, 2, [6, 7])


def sequence_model(*calls: onnx.NodeProto, outputs: tuple[str, ...] = ("y",)) -> Module:
    element = helper.make_tensor_type_proto(TensorProto.FLOAT, ["n"])
    s = helper.make_value_info("s", helper.make_sequence_type_proto(element))
    inputs = [s, tensor_value("i", (), I64), tensor_value("x", [2])]
    module = load_onnx(make_model(list(calls), inputs=inputs, outputs=anything(*outputs)))
    verify(module)
    return module


ITEMS = [np.float32([1]), np.float32([2, 3]), np.float32([])]


def test_sequences_of_the_caller() -> None:
    module = sequence_model(
        node("SequenceAt", ["s", "i"], ("at",)),
        node("SequenceInsert", ["s", "x", "i"], ("more",)),
        node("SequenceErase", ["s", "i"], ("less",)),
        node("SequenceLength", ["s"], ("count",)),
        node("ConcatFromSequence", ["s"], ("joined",), axis=0),
        outputs=("at", "more", "less", "count", "joined"),
    )
    x = np.float32([8, 9])
    at, more, less, count, joined = run_module(module, [ITEMS, np.int64(-2), x])
    assert at.tolist() == [2, 3]
    assert [v.tolist() for v in more] == [[1], [8, 9], [2, 3], []]
    assert [v.tolist() for v in less] == [[1], []]
    assert (int(count), joined.tolist()) == (3, [1, 2, 3])
    with pytest.raises(OutOfRangeIndex):
        run_module(module, [ITEMS, np.int64(3), x])


def test_elements_of_another_type_are_refused() -> None:
    with pytest.raises(BadOperand, match="type of x"):
        sequence_model(node("Cast", ["x"], ("d",), to=TensorProto.DOUBLE), node("SequenceInsert", ["s", "d"]))
    with pytest.raises(NodeInvalid, match="type of input 1"):
        sequence_model(node("SequenceConstruct", ["x", "i"]))
    with pytest.raises(NodeInvalid, match="a sequence"):
        sequence_model(node("SequenceLength", ["x"]))


def test_optional_values() -> None:
    element = helper.make_tensor_type_proto(TensorProto.FLOAT, [2])
    o = helper.make_value_info("o", helper.make_optional_type_proto(element))
    calls = [node("OptionalHasElement", ["o"], ("has",)), node("OptionalGetElement", ["o"], ("value",))]
    module = load_onnx(make_model(calls, inputs=[o], outputs=anything("has", "value"), opset=18))
    has, value = run_module(module, [np.float32([1, 2])])
    assert (bool(has), value.tolist()) == (True, [1, 2])
    with pytest.raises(OutOfRangeIndex):
        run_module(module, [None])
    asked = load_onnx(make_model(calls[:1], inputs=[o], outputs=anything("has"), opset=18))
    assert not bool(run_module(asked, [None])[0])
