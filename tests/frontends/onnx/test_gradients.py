"""The operator Gradient and its rules, against divided differences and torch.autograd."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper, numpy_helper

import aino_ir as aino
from aino_ir.errors.onnx import GradientMissing, NodeInvalid
from aino_ir.frontends.gradients import TABLE
from aino_ir.frontends.onnx import load_onnx
from aino_ir.interp import run_module
from tests.frontends.onnx.models import tensor_value

TRAINING = "ai.onnx.preview.training"
Array = np.ndarray[Any, Any]


def gradient_of(
    xs: Sequence[str], y: str, zs: Sequence[str] = (), inputs: Sequence[str] = (), tag: str = "d"
) -> onnx.NodeProto:
    """A Gradient node; its outputs are named after xs."""
    attributes: dict[str, Any] = {"xs": list(xs), "y": y}
    if zs:
        attributes["zs"] = list(zs)
    names = list(inputs) or [*xs, *zs]
    return helper.make_node("Gradient", names, [f"{tag}{x}" for x in xs], domain=TRAINING, **attributes)


def model_of(
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, Array],
    outputs: Sequence[str],
    constants: Mapping[str, Array] | None = None,
    opset: int = 23,
) -> onnx.ModelProto:
    declared = [tensor_value(n, a.shape, helper.np_dtype_to_tensor_dtype(a.dtype)) for n, a in inputs.items()]
    graph = helper.make_graph(
        list(nodes),
        "gradients",
        declared,
        [helper.make_empty_tensor_value_info(n) for n in outputs],
        [numpy_helper.from_array(a, n) for n, a in (constants or {}).items()],
    )
    imports = [helper.make_opsetid("", opset), helper.make_opsetid(TRAINING, 1)]
    return helper.make_model(graph, opset_imports=imports, ir_version=10)


def found(model: onnx.ModelProto, arrays: Sequence[Array]) -> list[Array]:
    return list(run_module(load_onnx(model), list(arrays)))


def draw(*shape: int, seed: int = 3, low: float = -1.0, high: float = 1.0) -> Array:
    return np.random.default_rng([seed, *shape]).uniform(low, high, shape)


def node(op: str, *inputs: str, outputs: Sequence[str] = ("y",), **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op, list(inputs), list(outputs), **attributes)


def weighted(nodes: Sequence[onnx.NodeProto]) -> list[onnx.NodeProto]:
    """`nodes`, and behind them y times its own sine: a gradient that differs from element to element."""
    return [*nodes, node("Sin", "y", outputs=["sine"]), node("Mul", "y", "sine", outputs=["loss"])]


def slopes(model: onnx.ModelProto, arrays: Mapping[str, Array], names: Sequence[str]) -> list[Array]:
    """Derivatives of the sum of a model's first output by divided differences, in double precision."""
    module = load_onnx(model)

    def total(changed: Mapping[str, Array]) -> float:
        return float(np.sum(run_module(module, list(changed.values()))[0]))

    out = []
    for name in names:
        slope = np.zeros_like(arrays[name])
        for place in np.ndindex(*slope.shape):
            step = np.zeros_like(slope)
            step[place] = 1e-5
            more, less = ({**arrays, name: arrays[name] + s} for s in (step, -step))
            slope[place] = (total(more) - total(less)) / 2e-5
        out.append(slope)
    return out


def agree(
    nodes: Sequence[onnx.NodeProto],
    arrays: Mapping[str, Array],
    constants: Mapping[str, Array] | None = None,
    xs: Sequence[str] | None = None,
    opset: int = 23,
) -> list[Array]:
    """Gradients of a loss by the float inputs, which are those of divided differences."""
    floats = [n for n, a in arrays.items() if a.dtype.kind == "f"] if xs is None else list(xs)
    others = [n for n in arrays if n not in floats]
    body = weighted(nodes)
    module = [*body, gradient_of(floats, "loss", others)]
    got = found(model_of(module, arrays, [f"d{n}" for n in floats], constants, opset), list(arrays.values()))
    want = slopes(model_of(body, arrays, ["loss"], constants, opset), arrays, floats)
    for name, g, w in zip(floats, got, want, strict=True):
        assert g.shape == arrays[name].shape and g.dtype == arrays[name].dtype
        np.testing.assert_allclose(g, w, rtol=2e-5, atol=2e-7, err_msg=name)
    return got


UNARY: dict[str, tuple[float, float]] = {
    "Abs": (0.1, 2), "Acos": (-0.8, 0.8), "Acosh": (1.2, 3), "Asin": (-0.8, 0.8), "Asinh": (-2, 2),
    "Atan": (-2, 2), "Atanh": (-0.8, 0.8), "Celu": (-2, 2), "Cos": (-2, 2), "Cosh": (-2, 2), "Elu": (-2, 2),
    "Erf": (-2, 2), "Exp": (-2, 2), "Gelu": (-2, 2), "HardSigmoid": (-4, 4), "HardSwish": (-4, 4),
    "LeakyRelu": (-2, 2), "Log": (0.2, 3), "LogSoftmax": (-2, 2), "Mish": (-2, 2), "Neg": (-2, 2),
    "Reciprocal": (0.3, 2), "Relu": (-2, 2), "Selu": (-2, 2), "Shrink": (-2, 2), "Sigmoid": (-2, 2),
    "Sin": (-2, 2), "Sinh": (-2, 2), "Softmax": (-2, 2), "Softplus": (-2, 2), "Softsign": (-2, 2),
    "Sqrt": (0.2, 3), "Swish": (-2, 2), "Tan": (-1, 1), "Tanh": (-2, 2), "ThresholdedRelu": (-2, 2),
    "Floor": (-2, 2), "Round": (-2, 2), "Sign": (-2, 2), "Identity": (-2, 2),
}  # fmt: skip


@pytest.mark.parametrize("op", sorted(UNARY))
def test_ops_of_one_operand(op: str) -> None:
    low, high = UNARY[op]
    opset = 24 if op == "Swish" else 23
    agree([node(op, "x")], {"x": draw(2, 3, low=low, high=high)}, opset=opset)


def test_the_other_form_of_gelu() -> None:
    agree([node("Gelu", "x", approximate="tanh")], {"x": draw(2, 3, low=-2, high=2)})


SHAPES = [((2, 3), (2, 3)), ((2, 3), (3,)), ((2, 1), (1, 3)), ((), (2, 2))]


TWO = [(op, *shapes) for op in ("Add", "Sub", "Mul", "Div", "Pow", "Max", "Min") for shapes in SHAPES]
TWO += [("PRelu", *shapes) for shapes in SHAPES[:2]]


@pytest.mark.parametrize(("op", "a", "b"), TWO)
def test_ops_of_two_operands(op: str, a: tuple[int, ...], b: tuple[int, ...]) -> None:
    agree([node(op, "a", "b")], {"a": draw(*a, low=0.3, high=2), "b": draw(*b, low=0.4, high=1.5, seed=8)})


def test_equal_maxima_share_like_those_of_torch() -> None:
    x, y = (torch.tensor(v, requires_grad=True) for v in ([1.0, 2.0, 0.0], [1.0, 0.0, 3.0]))
    torch.maximum(x, y).sum().backward()
    arrays = {"x": x.detach().numpy(), "z": y.detach().numpy()}
    model = model_of([node("Max", "x", "z"), gradient_of(["x", "z"], "y")], arrays, ["dx", "dz"])
    for g, w in zip(found(model, list(arrays.values())), (x.grad, y.grad), strict=True):
        assert w is not None and g.tolist() == w.tolist()


def test_powers_of_zero_are_those_of_torch() -> None:
    x = torch.tensor([0.0, 0.0, 2.0, 0.0], requires_grad=True)
    p = torch.tensor([0.0, 2.0, 0.0, 1.0], requires_grad=True)
    (x**p).sum().backward()
    arrays = {"x": x.detach().numpy(), "p": p.detach().numpy()}
    model = model_of([node("Pow", "x", "p"), gradient_of(["x", "p"], "y")], arrays, ["dx", "dp"])
    for g, w in zip(found(model, list(arrays.values())), (x.grad, p.grad), strict=True):
        assert w is not None
        np.testing.assert_allclose(g, w.numpy(), rtol=1e-6)


Case: TypeAlias = "tuple[list[onnx.NodeProto], dict[str, Array], dict[str, Array]]"
"""Nodes that make y, inputs, constants."""

MOVES: dict[str, Case] = {
    "reshape": ([node("Reshape", "x", "s")], {"x": draw(2, 3)}, {"s": np.array([3, 2])}),
    "transpose": ([node("Transpose", "x", perm=[2, 0, 1])], {"x": draw(2, 3, 4)}, {}),
    "expand": ([node("Expand", "x", "s")], {"x": draw(3, 1)}, {"s": np.array([2, 3, 4])}),
    "concat": ([node("Concat", "x", "z", "x", axis=1)], {"x": draw(2, 2), "z": draw(2, 3)}, {}),
    "pad": ([node("Pad", "x", "s")], {"x": draw(2, 3)}, {"s": np.array([1, -1, 2, 1])}),
    "mirrored": ([node("Pad", "x", "s", mode="reflect")], {"x": draw(3, 4)}, {"s": np.array([1, 2, 2, 3])}),
    "edge": ([node("Pad", "x", "s", mode="edge")], {"x": draw(3, 4)}, {"s": np.array([0, 2, 1, 0])}),
    "wrapped": ([node("Pad", "x", "s", mode="wrap")], {"x": draw(3, 4)}, {"s": np.array([1, 1, 0, 2])}),
    "resized": (
        [node("Resize", "x", "", "", "s", mode="cubic")],
        {"x": draw(1, 1, 4, 3)},
        {"s": np.array([1, 1, 6, 2])},
    ),
    "slice": (
        [node("Slice", "x", "a", "b", "c", "d")],
        {"x": draw(3, 7)},
        {"a": np.array([0, 5]), "b": np.array([2, 0]), "c": np.array([0, 1]), "d": np.array([1, -2])},
    ),
    "slice ahead": (
        [node("Slice", "x", "a", "b", "c", "d")],
        {"x": draw(3, 8)},
        {"a": np.array([1]), "b": np.array([7]), "c": np.array([1]), "d": np.array([3])},
    ),
    "split": ([node("Split", "x", outputs=["y", "z"], axis=1, num_outputs=2)], {"x": draw(2, 5)}, {}),
    "gather": ([node("Gather", "x", "i", axis=1)], {"x": draw(2, 4, 2)}, {"i": np.array([[1, 1], [-1, 0]])}),
    "gather elements": (
        [node("GatherElements", "x", "i", axis=1)],
        {"x": draw(2, 4)},
        {"i": np.array([[1, 1, 0], [3, 0, 3]])},
    ),
    "gather nd": ([node("GatherND", "x", "i")], {"x": draw(2, 3, 2)}, {"i": np.array([[0, 1], [0, 1], [1, 2]])}),
    "scatter elements": (
        [node("ScatterElements", "x", "i", "u", axis=1)],
        {"x": draw(2, 4), "u": draw(2, 2)},
        {"i": np.array([[1, 2], [3, 0]])},
    ),
    "scatter added": (
        [node("ScatterND", "x", "i", "u", reduction="add")],
        {"x": draw(4, 2), "u": draw(3, 2)},
        {"i": np.array([[1], [1], [3]])},
    ),
    "scatter nd": (
        [node("ScatterND", "x", "i", "u")], {"x": draw(4, 2), "u": draw(2, 2)}, {"i": np.array([[1], [3]])}
    ),
    "where": ([node("Where", "k", "x", "z")], {"x": draw(2, 3), "z": draw(3)}, {"k": np.array([[True], [False]])}),
    "clip": ([node("Clip", "x", "l", "h")], {"x": draw(9)}, {"l": np.array(-0.4), "h": np.array(0.5)}),
    "cumsum": ([node("CumSum", "x", "a", exclusive=1)], {"x": draw(2, 4)}, {"a": np.array(1)}),
    "top k": ([node("TopK", "x", "k", outputs=["y", "i"])], {"x": draw(2, 5)}, {"k": np.array([3])}),
    "reverse": (
        [node("ReverseSequence", "x", "n", time_axis=0, batch_axis=1)], {"x": draw(4, 2)}, {"n": np.array([3, 2])}
    ),
    "tile": ([node("Tile", "x", "r")], {"x": draw(2, 3)}, {"r": np.array([2, 2])}),
    "mod": ([node("Mod", "x", "z", fmod=1)], {"x": draw(5, high=9), "z": draw(5, low=1.3, high=2)}, {}),
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(MOVES))
def test_moved_elements(name: str) -> None:
    nodes, arrays, constants = MOVES[name]
    agree(nodes, arrays, constants)


REDUCTIONS = ["L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare"]


@pytest.mark.parametrize("kept", [0, 1])
@pytest.mark.parametrize("kind", REDUCTIONS)
def test_reductions(kind: str, kept: int) -> None:
    x = {"x": draw(2, 3, 2, low=0.3, high=1.5)}
    agree([node(f"Reduce{kind}", "x", "axes", keepdims=kept)], x, {"axes": np.array([0, 2])})


def test_a_product_with_a_zero() -> None:
    x = np.array([[2.0, 0.0, 3.0], [0.0, 0.0, 1.0]])
    got = agree([node("ReduceProd", "x", "axes", keepdims=0)], {"x": x}, {"axes": np.array([1])})
    assert np.isfinite(got[0]).all()


PRODUCTS: dict[str, Case] = {
    "matmul": ([node("MatMul", "a", "b")], {"a": draw(2, 3), "b": draw(3, 4)}, {}),
    "matmul over batches": ([node("MatMul", "a", "b")], {"a": draw(2, 1, 2, 3), "b": draw(3, 3, 2)}, {}),
    "vectors": ([node("MatMul", "a", "b")], {"a": draw(3), "b": draw(3, 2)}, {}),
    "gemm": (
        [node("Gemm", "a", "b", "c", transA=1, transB=1, alpha=0.5, beta=2.0)],
        {"a": draw(3, 2), "b": draw(4, 3), "c": draw(4)},
        {},
    ),
    "gemm of the left": ([node("Gemm", "a", "b", transA=1)], {"a": draw(3, 2), "b": draw(3, 4)}, {}),
    "einsum": (
        [node("Einsum", "a", "b", equation="bij,jk->bk")], {"a": draw(2, 2, 3), "b": draw(3, 2)}, {}
    ),
    "conv": (
        [node("Conv", "x", "w", "b", strides=[2, 1], pads=[1, 0, 0, 1], dilations=[1, 2])],
        {"x": draw(2, 2, 4, 5), "w": draw(3, 2, 2, 2), "b": draw(3)},
        {},
    ),
    "grouped conv": (
        [node("Conv", "x", "w", group=2, strides=[2], pads=[1, 1])], {"x": draw(2, 4, 6), "w": draw(4, 2, 3)}, {}
    ),
    "transposed conv": (
        [node("ConvTranspose", "x", "w", "b", strides=[2], pads=[1, 0], group=2)],
        {"x": draw(2, 4, 3), "w": draw(4, 1, 3), "b": draw(2)},
        {},
    ),
    "max pool": (
        [node("MaxPool", "x", kernel_shape=[2, 2], strides=[1, 2], pads=[0, 1, 0, 0])], {"x": draw(1, 2, 3, 4)}, {}
    ),
    "average pool": (
        [node("AveragePool", "x", kernel_shape=[2, 3], strides=[2, 1], pads=[1, 1, 0, 1])],
        {"x": draw(1, 2, 3, 4)},
        {},
    ),
    "global pool": ([node("GlobalAveragePool", "x")], {"x": draw(1, 2, 3, 4)}, {}),
    "layer norm": (
        [node("LayerNormalization", "x", "s", "b", axis=-1)], {"x": draw(2, 4), "s": draw(4), "b": draw(4)}, {}
    ),
    "rms norm": ([node("RMSNormalization", "x", "s", axis=-1)], {"x": draw(2, 4), "s": draw(4)}, {}),
    "instance norm": (
        [node("InstanceNormalization", "x", "s", "b")], {"x": draw(2, 2, 3), "s": draw(2), "b": draw(2)}, {}
    ),
    "group norm": (
        [node("GroupNormalization", "x", "s", "b", num_groups=2)],
        {"x": draw(1, 4, 3), "s": draw(4), "b": draw(4)},
        {},
    ),
    "batch norm": (
        [node("BatchNormalization", "x", "s", "b", "m", "v")],
        {"x": draw(2, 2, 3), "s": draw(2), "b": draw(2), "m": draw(2), "v": draw(2, low=0.5)},
        {},
    ),
    "lp norm": ([node("LpNormalization", "x", axis=1, p=2)], {"x": draw(2, 3)}, {}),
    "local response norm": ([node("LRN", "x", size=3, alpha=0.5)], {"x": draw(1, 4, 2)}, {}),
    "mean and variance": ([node("MeanVarianceNormalization", "x", axes=[0, 2])], {"x": draw(2, 2, 3)}, {}),
    "attention": (
        [node("Attention", "q", "k", "v", is_causal=1)],
        {"q": draw(1, 4, 3, 2), "k": draw(1, 2, 3, 2), "v": draw(1, 2, 3, 3)},
        {},
    ),
    "attention with a mask": (
        [node("Attention", "q", "k", "v", "m")],
        {"q": draw(1, 2, 2, 2), "k": draw(1, 2, 3, 2), "v": draw(1, 2, 3, 2), "m": draw(2, 3)},
        {},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(PRODUCTS))
def test_products_windows_and_norms(name: str) -> None:
    nodes, arrays, constants = PRODUCTS[name]
    opset = 24 if "attention" in name else 23
    agree(nodes, arrays, constants, opset=opset)


def test_the_same_derivatives_as_torch_for_a_network() -> None:
    arrays = {"x": draw(2, 3, 6, 6), "w": draw(4, 3, 3, 3), "f": draw(36, 5)}
    arrays = {n: a.astype(np.float32) for n, a in arrays.items()}
    x, w, f = (torch.from_numpy(a).requires_grad_() for a in arrays.values())
    logits = F.max_pool2d(F.relu(F.conv2d(x, w, padding=1)), 2).reshape(2, -1) @ f
    F.log_softmax(logits, 1).square().mean().backward()
    nodes = [
        node("Conv", "x", "w", outputs=["c"], pads=[1, 1, 1, 1]),
        node("Relu", "c", outputs=["r"]),
        node("MaxPool", "r", outputs=["p"], kernel_shape=[2, 2], strides=[2, 2]),
        node("Flatten", "p", outputs=["h"]),
        node("MatMul", "h", "f", outputs=["logits"]),
        node("LogSoftmax", "logits", outputs=["shares"]),
        node("Mul", "shares", "shares", outputs=["squares"]),
        node("ReduceMean", "squares", outputs=["loss"], keepdims=0),
        gradient_of(["x", "w", "f"], "loss"),
    ]
    model = model_of(nodes, arrays, ["loss", "dx", "dw", "df"])
    for target in ("reference", "c"):
        _, *got = aino.compile(model, target, cache=False).run(*arrays.values())
        for g, w_ in zip(got, (x.grad, w.grad, f.grad), strict=True):
            assert w_ is not None
            np.testing.assert_allclose(g, w_.numpy(), rtol=1e-4, atol=1e-6)


# -- what the operator itself promises ----------------------------------------------------------------


def cube(name: str = "x") -> list[onnx.NodeProto]:
    """y = x^3."""
    return [node("Mul", name, name, outputs=["square"]), node("Mul", "square", name)]


def test_second_derivatives() -> None:
    x = np.array([0.5, -2.0, 3.0])
    second = helper.make_node("Gradient", ["x"], ["ddx"], domain=TRAINING, xs=["x"], y="dx")
    (got,) = found(model_of([*cube(), gradient_of(["x"], "y"), second], {"x": x}, ["ddx"]), [x])
    np.testing.assert_allclose(got, 6 * x)


def test_other_values_may_be_put_in() -> None:
    """The derivative by an intermediate value, at a value that it does not have."""
    x, h = np.array([1.0, 2.0]), np.array([5.0, 7.0])
    nodes = [
        node("Exp", "x", outputs=["mid"]),
        node("Mul", "mid", "mid", outputs=["y"]),
        gradient_of(["mid"], "y", inputs=["h"]),
        gradient_of(["mid"], "y", tag="own_"),
    ]
    got = found(model_of(nodes, {"x": x, "h": h}, ["dmid", "own_mid"]), [x, h])
    np.testing.assert_allclose(got[0], 2 * h)
    np.testing.assert_allclose(got[1], 2 * np.exp(x))


def test_values_that_are_the_same_otherwise_are_independent() -> None:
    x = np.array([2.0, 3.0])
    nodes = [
        node("Identity", "x", outputs=["same"]),
        node("Mul", "x", "same"),
        gradient_of(["x", "same"], "y"),
        gradient_of(["x"], "y", tag="both_"),
    ]
    got = found(model_of(nodes, {"x": x}, ["dx", "dsame", "both_x"]), [x])
    np.testing.assert_allclose(got[0], x)
    np.testing.assert_allclose(got[1], x)
    np.testing.assert_allclose(got[2], 2 * x)


def test_what_y_does_not_depend_on_has_gradient_zero() -> None:
    x, z = np.array([2.0, 3.0]), np.ones((2, 2))
    nodes = [*cube(), gradient_of(["x", "z"], "y")]
    got = found(model_of(nodes, {"x": x, "z": z}, ["dx", "dz"]), [x, z])
    assert got[1].shape == (2, 2) and not got[1].any()
    whole = [node("Cast", "x", to=TensorProto.INT64), gradient_of(["x"], "y")]
    assert found(model_of(whole, {"x": x}, ["dx"]), [x])[0].tolist() == [0, 0]


def test_symbolic_extents() -> None:
    model = model_of(
        [
            node("MatMul", "x", "w", outputs=["h"]),
            node("Softmax", "h", outputs=["s"]),
            node("Slice", "s", "one", "many", "one", "two"),
            gradient_of(["x", "w"], "y"),
        ],
        {"x": np.zeros((2, 2)), "w": np.zeros((2, 5))},
        ["dx", "dw"],
        {"one": np.array([1]), "two": np.array([2]), "many": np.array([99])},
    )
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "n"
    module = load_onnx(model)
    for n in (1, 4):
        x = torch.from_numpy(draw(n, 2)).requires_grad_()
        w = torch.from_numpy(draw(2, 5)).requires_grad_()
        F.softmax(x @ w, 1)[:, 1::2].sum().backward()
        got = run_module(module, [x.detach().numpy(), w.detach().numpy()])
        for g, want in zip(got, (x.grad, w.grad), strict=True):
            assert want is not None
            np.testing.assert_allclose(g, want.numpy(), rtol=1e-9)


def test_the_suites_own_cases_are_native() -> None:
    nodes = [node("Add", "a", "b", outputs=["c"]), node("Mul", "c", "a"), gradient_of(["a", "b"], "y")]
    arrays = {"a": np.array(1.0, np.float32), "b": np.array(2.0, np.float32)}
    exe = aino.compile(model_of(nodes, arrays, ["y", "da", "db"], opset=12), "c", cache=False)
    assert [float(v) for v in exe.run(*arrays.values())] == [3.0, 4.0, 1.0] and exe.host_steps == 0


def refused(nodes: Sequence[onnx.NodeProto], match: str) -> None:
    with pytest.raises(NodeInvalid, match=match):
        load_onnx(model_of(nodes, {"x": np.ones(2)}, ["dx"]))


def test_an_op_without_a_rule_is_named_with_its_node() -> None:
    nodes = [
        helper.make_node("LpPool", ["x"], ["y"], name="pool", kernel_shape=[2]),
        gradient_of(["x"], "y"),
    ]
    with pytest.raises(GradientMissing, match=r"nn\.lp_pool") as caught:
        load_onnx(model_of(nodes, {"x": np.ones((1, 1, 4))}, ["dx"]))
    assert "pool" in str(caught.value.loc)
    rounded = [
        helper.make_node("AveragePool", ["x"], ["y"], kernel_shape=[2], strides=[2], ceil_mode=1),
        gradient_of(["x"], "y"),
    ]
    with pytest.raises(GradientMissing, match="rounded up"):
        load_onnx(model_of(rounded, {"x": np.ones((1, 1, 5))}, ["dx"]))


def test_nodes_that_make_no_sense_are_refused() -> None:
    refused([*cube(), gradient_of(["x"], "nothing")], "a value of the graph")
    refused([*cube(), gradient_of(["x"], "y", inputs=["x", "x"])], "different names")
    number = [node("Cast", "x", outputs=["n"], to=TensorProto.INT64), gradient_of(["x"], "y", inputs=["n"])]
    refused([*cube(), *number], "a float")


def test_every_rule_is_of_an_op() -> None:
    from aino_ir.op import OPS

    assert set(TABLE) <= set(OPS)
