"""Lowering: names, dimensions, constants, shape chains, locations, and every way to refuse a model."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from aino_ir.dims import Dim
from aino_ir.errors.ir import ShapeMismatch
from aino_ir.errors.onnx import (
    DimensionInvalid,
    DimensionUnknown,
    InitializerTypeConflict,
    InputNotConstant,
    InputRankUnknown,
    InputUnknown,
    LoweringFault,
    NodeInputMissing,
    NodeInvalid,
    TypeUnsupported,
    UnsupportedOperators,
)
from aino_ir.frontends.dim_specs import symbol_name
from aino_ir.frontends.onnx import load_onnx
from aino_ir.graph import Module
from aino_ir.interp import run_module
from aino_ir.ops.core import Constant
from tests.frontends.onnx.models import branch, conditional, make_model, relu, tensor_value

I64 = TensorProto.INT64


def node(
    op: str, inputs: Iterable[str], outputs: Iterable[str] = ("y",), **attributes: Any
) -> onnx.NodeProto:
    return helper.make_node(op, list(inputs), list(outputs), **attributes)


def array(name: str, value: Any, dtype: Any = np.float32) -> onnx.TensorProto:
    return numpy_helper.from_array(np.asarray(value, dtype), name)


def vector(name: str, *numbers: int) -> onnx.TensorProto:
    return array(name, numbers, np.int64)


def ops(module: Module) -> list[str]:
    return [op.name for op in module.main.block if op.name not in ("core.constant", "core.return")]


def run(module: Module, *arrays: np.ndarray) -> np.ndarray:
    (result,) = run_module(module, arrays)
    return result


# ------------------------------------------------------------------------------------- dimensions


def test_a_named_dimension_is_one_symbol_everywhere() -> None:
    values = [tensor_value("x", ["batch", 3]), tensor_value("z", ["batch", 3])]
    module = load_onnx(make_model([node("Add", ["x", "z"])], inputs=values))
    x, z = module.main.inputs
    assert isinstance(x.shape[0], Dim)
    assert x.shape[0] is z.shape[0]
    assert str(x.shape[0]) == "batch"
    assert module.main.symbols.info("batch").lo == 0


def test_unnamed_dimensions_get_symbols_of_their_own() -> None:
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, None])
    module = load_onnx(make_model([relu()], inputs=[value]))
    (x,) = module.main.inputs
    assert [str(d) for d in x.shape] == ["x_0", "x_1"]


def test_dimensions_are_fixed_and_bounded() -> None:
    value = tensor_value("x", ["batch", "seq"])
    module = load_onnx(make_model([relu()], inputs=[value]), dims={"batch": (1, 64), "seq": 128})
    (x,) = module.main.inputs
    assert x.shape[1] == 128
    info = module.main.symbols.info("batch")
    assert (info.lo, info.hi) == (1, 64)


def test_an_unknown_dimension_is_refused() -> None:
    model = make_model([relu()], inputs=[tensor_value("x", ["batch"])])
    with pytest.raises(DimensionUnknown, match="no dimension 'sequence'") as caught:
        load_onnx(model, dims={"sequence": 3})
    assert "'batch'" in str(caught.value)


@pytest.mark.parametrize("spec", [-1, (8, 1), "8", (1, 2, 3), True, (-1, 4), 1.5])
def test_a_malformed_dimension_is_refused(spec: Any) -> None:
    model = make_model([relu()], inputs=[tensor_value("x", ["batch"])])
    with pytest.raises(DimensionInvalid, match="dimension 'batch' cannot be"):
        load_onnx(model, dims={"batch": spec})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("batch", "batch"),
        ("N", "dim_N"),
        ("k0", "dim_k0"),
        ("sequence length + 1", "sequence_length_1"),
        ("*/ system(0)", "system_0"),
        ("max", "dim_max"),
        ("\u00e9", "dim_"),
        ("lambda", "dim_lambda"),
        ("7up", "dim_7up"),
    ],
)
def test_symbol_names_are_safe(text: str, expected: str) -> None:
    assert symbol_name(text) == expected


def test_names_that_become_equal_stay_apart() -> None:
    model = make_model([relu()], inputs=[tensor_value("x", ["seq len", "seq-len"])])
    (x,) = load_onnx(model).main.inputs
    assert [str(d) for d in x.shape] == ["seq_len", "seq_len_2"]


def test_an_input_without_a_shape_is_refused() -> None:
    with pytest.raises(InputRankUnknown, match="'x' has no shape"):
        load_onnx(make_model([relu()], inputs=[tensor_value("x", None)]))


# ------------------------------------------------------------------------------------- constants


def test_initializers_share_handles_and_keep_names() -> None:
    weight = array("w", np.ones((2, 2)))
    nodes = [node("MatMul", ["x", "w"], ["h"]), node("MatMul", ["h", "w"], ["y"])]
    module = load_onnx(make_model(nodes, inputs=[tensor_value("x", [2, 2])], initializers=[weight]))
    constants = [op for op in module.main.block if isinstance(op, Constant)]
    assert len(constants) == 1
    assert constants[0].result.name == "w"
    assert module.main.output_names == ["y"]


def test_subgraph_constants_are_not_captured_twice() -> None:
    nodes = [node("Constant", [], ["a"], value_ints=[1, 2]), node("Constant", [], ["b"], value_float=2.0)]
    module = load_onnx(make_model([*nodes, node("Identity", ["b"])], inputs=[]))
    assert float(run(module)) == 2.0
    assert module.op_count() == 2  # the unused constant is gone


def test_an_overridable_initializer_is_a_default() -> None:
    model = make_model([node("Add", ["x", "z"])], inputs=["x", "z"], initializers=[array("z", [1, 2])])
    module = load_onnx(model)
    assert module.main.input_names == ["x", "z"]
    assert module.main.defaults["z"].array().tolist() == [1, 2]


def test_initializers_of_old_files_are_constants() -> None:
    model = make_model([node("Add", ["x", "z"])], inputs=["x", "z"], initializers=[array("z", [1, 2])])
    model.ir_version = 3
    module = load_onnx(model)
    assert module.main.input_names == ["x"]
    assert run(module, np.zeros(2, np.float32)).tolist() == [1, 2]


def test_an_input_can_be_fixed() -> None:
    model = make_model([node("Reshape", ["x", "s"])], inputs=["x", tensor_value("s", ["rank"], I64)])
    with pytest.raises(InputNotConstant, match="it depends on input 's'") as caught:
        load_onnx(model)
    assert caught.value.inputs == ("s",)
    module = load_onnx(model, values={"s": np.array([2, 1])})
    assert module.main.input_names == ["x"]
    assert run(module, np.zeros(2, np.float32)).shape == (2, 1)


def test_a_fixed_input_must_exist_and_fit() -> None:
    model = make_model([relu()])
    with pytest.raises(InputUnknown, match="no input 'z'"):
        load_onnx(model, values={"z": np.zeros(2, np.float32)})
    for wrong in (np.zeros(3, np.float32), np.zeros(2, np.float64), np.zeros((2, 1), np.float32)):
        with pytest.raises(InitializerTypeConflict, match="'x' is f"):
            load_onnx(model, values={"x": wrong})


# ------------------------------------------------------------------------------------- shape chains


def attention_shapes() -> onnx.ModelProto:
    """[batch, seq, 12] seen as [batch, seq, 3, 4] and transposed, as exporters write it."""
    nodes = [
        node("Shape", ["x"], ["shape"]),
        node("Constant", [], ["zero"], value_int=0),
        node("Constant", [], ["one"], value_int=1),
        node("Gather", ["shape", "zero"], ["b0"]),
        node("Gather", ["shape", "one"], ["s0"]),
        node("Unsqueeze", ["b0", "axis"], ["b1"]),
        node("Unsqueeze", ["s0", "axis"], ["s1"]),
        node("Concat", ["b1", "s1", "heads"], ["target"], axis=0),
        node("Reshape", ["x", "target"], ["apart"]),
        node("Transpose", ["apart"], ["moved"], perm=[0, 2, 1, 3]),
        node("Mul", ["b0", "three"], ["rows"]),
        node("Unsqueeze", ["rows", "axis"], ["rows1"]),
        node("Concat", ["rows1", "rest"], ["flat"], axis=0),
        node("Reshape", ["moved", "flat"], ["y"]),
    ]
    return make_model(
        nodes,
        inputs=[tensor_value("x", ["batch", "seq", 12])],
        initializers=[
            vector("axis", 0),
            vector("heads", 3, 4),
            array("three", 3, np.int64),
            vector("rest", -1, 4),
        ],
    )


def test_shape_chains_vanish() -> None:
    module = load_onnx(attention_shapes(), dims={"batch": (1, None)})
    assert ops(module) == ["tensor.reshape", "tensor.transpose", "tensor.reshape"]
    assert [str(d) for d in module.main.outputs[0].shape] == ["3*batch", "seq", "4"]
    assert not module.main.symbols.checks
    for batch, seq in ((1, 5), (4, 2)):
        x = np.arange(batch * seq * 12, dtype=np.float32).reshape(batch, seq, 12)
        expected = x.reshape(batch, seq, 3, 4).transpose(0, 2, 1, 3).reshape(batch * 3, -1, 4)
        assert np.array_equal(run(module, x), expected)


def test_an_open_extent_that_cannot_be_proved_is_checked_at_entry() -> None:
    model = make_model(
        [node("Reshape", ["x", "s"])], inputs=[tensor_value("x", ["rows"])], initializers=[vector("s", -1, 4)]
    )
    module = load_onnx(model)
    assert module.main.symbols.checks
    assert run(module, np.zeros(8, np.float32)).shape == (2, 4)
    with pytest.raises(Exception, match="open extent"):
        run(module, np.zeros(6, np.float32))


@pytest.mark.parametrize(
    ("begin", "end", "step"),
    [(0, 2**63 - 1, 1), (-3, 2**31 - 1, 1), (1, -1, 2), (-1, -(2**63), -1), (5, 2, 1)],
)
def test_slices_of_symbolic_extents(begin: int, end: int, step: int) -> None:
    names = ("begin", "end", "axis", "step")
    numbers = [vector(n, v) for n, v in zip(names, (begin, end, 0, step), strict=True)]
    model = make_model(
        [node("Slice", ["x", *names])], inputs=[tensor_value("x", ["rows"])], initializers=numbers
    )
    module = load_onnx(model, dims={"rows": (3, 100)})
    for rows in (3, 8):
        x = np.arange(rows, dtype=np.float32)
        assert run(module, x).tolist() == x[begin:end:step].tolist()


# ------------------------------------------------------------------------------------- functions, places


def test_model_functions_are_inlined_and_standard_ones_expanded() -> None:
    twice = helper.make_function(
        "local", "Twice", ["a"], ["b"], [node("Add", ["a", "a"], ["b"])], [helper.make_opsetid("", 17)]
    )
    call = helper.make_node("Twice", ["x"], ["h"], domain="local")
    model = make_model([call, node("HardSwish", ["h"])], functions=[twice], domains={"local": 1})
    x = np.array([1, -4], np.float32)
    assert run(load_onnx(model), x) == pytest.approx([2 * 5 / 6, 0])


def test_every_op_knows_its_node() -> None:
    module = load_onnx(
        make_model([relu(name="first"), node("Exp", ["y"], ["z"], name="second")], outputs=["z"])
    )
    assert [str(op.loc) for op in module.main.block][:2] == ["node 'first' (Relu)", "node 'second' (Exp)"]
    assert module.main.block.first is not None
    assert module.main.block.first.result.name == "y"


def test_unsupported_operators_are_listed_at_once() -> None:
    foo = [helper.make_node("Foo", ["x"], [f"f{i}"], domain="com.example", name=f"foo_{i}") for i in range(3)]
    bar = helper.make_node("Bar", ["x"], ["y"], domain="com.example")
    with pytest.raises(UnsupportedOperators) as caught:
        load_onnx(make_model([*foo, bar], domains={"com.example": 1}))
    text = str(caught.value)
    assert "2 unsupported operators" in text
    assert "'com.example.Foo' version 1 (3 nodes, first: node 'foo_0' (Foo))" in text
    assert "com.example.Bar" in text


def test_unsupported_operators_of_subgraphs_are_listed() -> None:
    inner = branch([helper.make_node("Foo", ["x"], ["a"], domain="com.example")], "a")
    model = make_model(
        [conditional(inner, branch([relu("x", "b")], "b"))],
        inputs=["x", tensor_value("c", (), TensorProto.BOOL)],
        domains={"com.example": 1},
    )
    with pytest.raises(UnsupportedOperators, match="com.example.Foo"):
        load_onnx(model)


# ------------------------------------------------------------------------------------- refusals


REFUSED: list[tuple[str, onnx.ModelProto, type[Exception], str]] = [
    (
        "shapes that do not fit carry the node",
        make_model(
            [node("MatMul", ["x", "z"], name="mm")],
            inputs=[tensor_value("x", [2, 3]), tensor_value("z", [2, 3])],
        ),
        ShapeMismatch,
        "inner extents",
    ),
    (
        "two open extents",
        make_model([node("Reshape", ["x", "s"])], initializers=[vector("s", -1, -1)]),
        NodeInvalid,
        "at most one -1",
    ),
    (
        "an open extent that does not divide",
        make_model([node("Reshape", ["x", "s"])], initializers=[vector("s", -1, 3)]),
        NodeInvalid,
        "divisor of 2 elements",
    ),
    (
        "a copied extent past the rank",
        make_model([node("Reshape", ["x", "s"])], initializers=[vector("s", 1, 0)]),
        NodeInvalid,
        "without 0 at position 1",
    ),
    (
        "an axis outside the rank",
        make_model([node("Concat", ["x", "x"], axis=3)]),
        NodeInvalid,
        "axis must be within -1..0, got 3",
    ),
    (
        "an axis twice",
        make_model([node("Unsqueeze", ["x", "a"])], initializers=[vector("a", 0, 0)]),
        NodeInvalid,
        "axes must be distinct",
    ),
    (
        "a negative extent",
        make_model([node("ConstantOfShape", ["s"])], inputs=[], initializers=[vector("s", -3, 4)]),
        NodeInvalid,
        "without negative extents",
    ),
    (
        "too many elements",
        make_model([node("ConstantOfShape", ["s"])], inputs=[], initializers=[vector("s", 2**31, 2**31)]),
        NodeInvalid,
        "number of elements",
    ),
    (
        "a dtype that AINO lacks",
        make_model([relu()], inputs=[tensor_value("x", [2], TensorProto.FLOAT6E2M3)])
        if hasattr(TensorProto, "FLOAT6E2M3")
        else make_model([node("Cast", ["x"], to=99)]),
        TypeUnsupported,
        "not supported",
    ),
    (
        "data that decides a rank",
        make_model(
            [node("NonZero", ["x"], ["s"]), node("Flatten", ["s"], ["f"]), node("Reshape", ["x", "f"])]
        ),
        InputNotConstant,
        "input 1 \\('shape'\\) of 'Reshape'",
    ),
]


@pytest.mark.parametrize(("model", "error", "text"), [r[1:] for r in REFUSED], ids=[r[0] for r in REFUSED])
def test_refusals_name_the_node(model: onnx.ModelProto, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text) as caught:
        load_onnx(model)
    if not issubclass(error, TypeUnsupported):
        assert "at node" in str(caught.value)


def test_a_missing_operand_is_refused_by_its_name() -> None:
    model = make_model([node("Resize", ["x", "", "", ""], mode="nearest")], opset=19)
    with pytest.raises(NodeInputMissing, match="input 2 \\('scales'\\)"):
        load_onnx(model)


def test_a_fault_of_a_lowering_is_an_error_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    from aino_ir.frontends.onnx import ops as tables

    def broken(c: Any, node: Any) -> Any:
        raise IndexError("tuple index out of range")

    monkeypatch.setitem(tables.TABLE, ("", "Relu"), broken)
    with pytest.raises(LoweringFault, match="lowering of 'Relu' failed: IndexError: tuple index") as caught:
        load_onnx(make_model([relu(name="first")]))
    assert caught.value.exit_status == 3
    assert "node 'first'" in str(caught.value)


@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax"])
def test_softmax_of_half_precision_rounds_each_step(op: str) -> None:
    """As ONNX's definition by a function does; in numpy half precision rounds each step, too."""
    x = np.random.default_rng(3).standard_normal((4, 33)).astype(np.float16) * np.float16(4)
    off = x - x.max(-1, keepdims=True)
    power = np.exp(off)
    total = power.sum(-1, keepdims=True)
    want = power / total if op == "Softmax" else off - np.log(total)
    for opset in (11, 13):
        node = helper.make_node(op, ["x"], ["y"], axis=1)
        model = make_model([node], [tensor_value("x", x.shape, TensorProto.FLOAT16)], ["y"], opset=opset)
        (got,) = run_module(load_onnx(model), [x])
        assert got.dtype == np.float16 and (got == want).all()
    once = np.exp(off.astype(np.float64)) / np.exp(off.astype(np.float64)).sum(-1, keepdims=True)
    assert op != "Softmax" or (once.astype(np.float16) != want).any()
