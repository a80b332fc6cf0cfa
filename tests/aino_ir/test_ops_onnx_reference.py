"""`evaluate` against onnx.reference, for what ONNX defines and torch does not have."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from aino_ir.builder import op_class
from aino_ir.dtypes import DTYPES
from aino_ir.interp import run_module
from aino_ir.op import Sample
from aino_ir.sampling import edge_values, random_values, sample_module, seeded
from aino_ir.tolerance import disagreement


def run(name: str, *operands: Any, **attrs: Any) -> Any:
    """The interpreter's result of one op."""
    (result,) = run_module(sample_module(op_class(name), Sample(operands, attrs)), list(operands))
    return result


def of_onnx(op_type: str, *operands: Any, **attrs: Any) -> Any:
    """onnx.reference's result of one node."""
    names = [f"x{i}" for i in range(len(operands))]
    types = [onnx.helper.np_dtype_to_tensor_dtype(x.dtype) for x in operands]
    node = onnx.helper.make_node(op_type, names, ["y"], **attrs)
    inputs = [onnx.helper.make_tensor_value_info(n, t, None) for n, t in zip(names, types, strict=True)]
    output = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.UNDEFINED, None)
    graph = onnx.helper.make_graph([node], "g", inputs, [output])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 22)])
    with np.errstate(all="ignore"):
        return ReferenceEvaluator(model).run(None, dict(zip(names, operands, strict=True)))[0]


def agree(actual: Any, reference: Any, terms: int = 1) -> None:
    """Same dtype, and equal up to the order of sums."""
    assert actual.dtype == reference.dtype
    why = disagreement(actual, reference, "reordered", terms=terms)
    assert why is None, why


X = random_values(DTYPES["f32"], (3, 4, 5), seeded("onnx"))
EDGES = edge_values(DTYPES["f32"])

CASES: list[tuple[str, dict[str, Any], str, dict[str, Any]]] = [
    ("math.sign", {}, "Sign", {}),
    ("math.shrink", {"lambd": 0.4, "bias": 0.1}, "Shrink", {"lambd": 0.4, "bias": 0.1}),
    ("math.thresholded_relu", {"alpha": 0.3}, "ThresholdedRelu", {"alpha": 0.3}),
    ("math.hard_sigmoid", {}, "HardSigmoid", {}),
    ("math.hard_swish", {}, "HardSwish", {}),
    ("math.celu", {"alpha": 2.0}, "Celu", {"alpha": 2.0}),
    ("math.leaky_relu", {}, "LeakyRelu", {}),
    ("math.is_inf", {"negative": False}, "IsInf", {"detect_negative": 0}),
    ("math.is_inf", {"positive": False}, "IsInf", {"detect_positive": 0}),
    ("math.round", {}, "Round", {}),
    ("math.gelu", {"approximate": "tanh"}, "Gelu", {"approximate": "tanh"}),
    ("reduce.argmax", {"axis": 2, "select_last_index": True}, "ArgMax", {"axis": 2, "select_last_index": 1}),
    ("reduce.argmin", {"axis": 1, "keepdims": True}, "ArgMin", {"axis": 1, "keepdims": 1}),
    ("normalize.lp_norm", {"axis": 1}, "LpNormalization", {"axis": 1}),
    ("normalize.softmax", {"axis": 1}, "Softmax", {"axis": 1}),
]


@pytest.mark.parametrize(("name", "attrs", "op_type", "onnx_attrs"), CASES)
def test_ops_agree_with_onnx(
    name: str, attrs: dict[str, Any], op_type: str, onnx_attrs: dict[str, Any]
) -> None:
    if "keepdims" not in onnx_attrs and name.startswith("reduce."):
        onnx_attrs = {**onnx_attrs, "keepdims": 0}
    agree(run(name, X, **attrs), of_onnx(op_type, X, **onnx_attrs), terms=20)


def test_edges_agree_with_onnx() -> None:
    finite = EDGES[np.abs(EDGES) < 1e30]
    for name, op_type in (("math.round", "Round"), ("math.is_nan", "IsNaN"), ("math.floor", "Floor")):
        agree(run(name, EDGES), of_onnx(op_type, EDGES))
    agree(run("math.erf", finite), of_onnx("Erf", finite))


REDUCTIONS = {
    "reduce.sum": "ReduceSum",
    "reduce.mean": "ReduceMean",
    "reduce.prod": "ReduceProd",
    "reduce.max": "ReduceMax",
    "reduce.min": "ReduceMin",
    "reduce.l1": "ReduceL1",
    "reduce.l2": "ReduceL2",
    "reduce.log_sum": "ReduceLogSum",
    "reduce.log_sum_exp": "ReduceLogSumExp",
    "reduce.sum_square": "ReduceSumSquare",
}


@pytest.mark.parametrize("name", REDUCTIONS)
def test_reductions_agree_with_onnx(name: str) -> None:
    axes = np.array([0, -1])
    x = np.abs(X) if name == "reduce.log_sum" else X
    agree(run(name, x, axes=(0, -1), keepdims=True), of_onnx(REDUCTIONS[name], x, axes), terms=15)
    if name not in ("reduce.max", "reduce.min", "reduce.mean"):  # the reference has no empty ones of these
        empty = np.zeros((2, 0, 3), np.float32)
        agree(run(name, empty, axes=(1,)), of_onnx(REDUCTIONS[name], empty, np.array([1]), keepdims=0))


@pytest.mark.parametrize("dtype", ["i32", "i64"])
def test_integer_reductions_agree_with_onnx(dtype: str) -> None:
    x = random_values(DTYPES[dtype], (4, 7), seeded(dtype))
    for name in ("reduce.sum", "reduce.mean", "reduce.prod", "reduce.max", "reduce.min", "reduce.l1"):
        agree(run(name, x, axes=(1,)), of_onnx(REDUCTIONS[name], x, np.array([1]), keepdims=0))


def test_empty_extrema_are_what_onnx_says() -> None:
    empty = np.zeros((2, 0), np.float32)
    assert run("reduce.max", empty, axes=(1,)).tolist() == [-np.inf] * 2
    assert run("reduce.min", empty, axes=(1,)).tolist() == [np.inf] * 2
    assert run("reduce.max", empty.astype(np.int8), axes=(1,)).tolist() == [-128] * 2
    assert np.isnan(run("reduce.mean", empty, axes=(1,))).all()


@pytest.mark.parametrize("exclusive", [0, 1])
@pytest.mark.parametrize("reverse", [0, 1])
def test_cumulative_sums_agree_with_onnx(exclusive: int, reverse: int) -> None:
    for axis in (0, 1, -1):
        ours = run("cumsum", X, axis=axis, exclusive=exclusive, reverse=reverse)
        agree(ours, of_onnx("CumSum", X, np.array(axis), exclusive=exclusive, reverse=reverse), terms=5)


def test_integer_arithmetic_agrees_with_onnx() -> None:
    a = np.array([-7, -7, 7, 7, 0, 9], np.int64)
    b = np.array([3, -3, 3, -3, 5, 9], np.int64)
    agree(run("math.mod", a, b), of_onnx("Mod", a, b))
    agree(run("math.mod", a, b, mode="trunc"), of_onnx("Mod", a, b, fmod=1))
    assert run("math.div", a, b).tolist() == [-2, 2, 2, -2, 0, 1]
    u, n = np.array([1, 200, 255], np.uint8), np.array([1, 3, 7], np.uint8)
    agree(run("logic.shift_left", u, n), of_onnx("BitShift", u, n, direction="LEFT"))
    agree(run("logic.shift_right", u, n), of_onnx("BitShift", u, n, direction="RIGHT"))


def test_mean_variance_normalisation_agrees_with_onnx() -> None:
    x = random_values(DTYPES["f32"], (2, 3, 4, 4), seeded("mvn"))
    ours = run("normalize.mean_variance_norm", x, axes=(0, 2, 3))
    agree(ours, of_onnx("MeanVarianceNormalization", x, axes=[0, 2, 3]), terms=32)


@pytest.mark.parametrize("to", ["f8e4m3fn", "f8e5m2"])
@pytest.mark.parametrize("saturate", [0, 1])
def test_casts_to_f8_agree_with_onnx(to: str, saturate: int) -> None:
    x = np.array(
        [0, -0.0, 1, -3.3, 447, 448, 460, 470, 1e5, -1e9, 57344, 7e4, np.nan, 1e-9, 0.017], np.float32
    )
    code = {"f8e4m3fn": onnx.TensorProto.FLOAT8E4M3FN, "f8e5m2": onnx.TensorProto.FLOAT8E5M2}[to]
    ours = run("math.cast", x, to=to, saturate=saturate).astype(np.float32)
    theirs = of_onnx("Cast", x, to=code, saturate=saturate).astype(np.float32)
    assert disagreement(ours, theirs) is None
