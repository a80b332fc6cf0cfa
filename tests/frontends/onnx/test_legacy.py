"""Operator sets 1 to 6: what operators said otherwise before version 7."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from aino_ir.errors.onnx import NodeInvalid, VariantUnsupported
from aino_ir.frontends.onnx import load_onnx
from aino_ir.frontends.onnx.legacy import MODERN, ROWS
from aino_ir.interp import run_module
from tests.frontends.onnx.models import make_model, tensor_value

RNG = np.random.default_rng(6)
X = RNG.normal(size=(2, 3, 4, 5)).astype(np.float32)
POSITIVE = np.abs(X) + np.float32(0.5)
CHANNEL = np.float32([0.25, 0.5, -0.75])
INNER = RNG.normal(size=(4, 5)).astype(np.float32)
FLAGS, FLAG = X > 0, np.array([True, False, True])

Expected = Callable[..., Any]

ROW: dict[str, tuple[str, int, dict[str, Any], tuple[Any, ...], Expected]] = {
    "add, equal shapes": ("Add", 6, {}, (X, X), lambda x, y: x + y),
    "add, suffix": ("Add", 6, {"broadcast": 1}, (X, INNER), lambda x, y: x + y),
    "add at an axis": (
        "Add",
        6,
        {"broadcast": 1, "axis": 1},
        (X, CHANNEL),
        lambda x, y: x + y[:, None, None],
    ),
    "sub in version 1": (
        "Sub",
        1,
        {"broadcast": 1, "axis": 1, "consumed_inputs": [0, 0]},
        (X, CHANNEL),
        lambda x, y: x - y[:, None, None],
    ),
    "mul by a scalar": ("Mul", 6, {"broadcast": 1}, (X, np.float32(3)), lambda x, y: x * y),
    "div": ("Div", 6, {"broadcast": 1, "axis": 2}, (X, INNER + 9), lambda x, y: x / y),
    "pow": ("Pow", 1, {"broadcast": 1}, (POSITIVE, INNER), lambda x, y: x**y),
    "and": ("And", 1, {"broadcast": 1, "axis": 1}, (FLAGS, FLAG), lambda x, y: x & y[:, None, None]),
    "or": ("Or", 1, {}, (FLAGS, ~FLAGS), lambda x, y: x | y),
    "xor": ("Xor", 1, {"broadcast": 1, "axis": 1}, (FLAGS, FLAG), lambda x, y: x ^ y[:, None, None]),
    "greater": ("Greater", 1, {"broadcast": 1, "axis": 1}, (X, CHANNEL), lambda x, y: x > y[:, None, None]),
    "less": ("Less", 1, {"broadcast": 1}, (X, INNER), lambda x, y: x < y),
    "equal": ("Equal", 1, {"broadcast": 1, "axis": 1}, (FLAGS, FLAG), lambda x, y: x == y[:, None, None]),
    "one slope": ("PRelu", 6, {}, (X, np.float32([0.3])), lambda x, s: np.where(x > 0, x, x * s)),
    "slopes": ("PRelu", 1, {}, (X, CHANNEL), lambda x, s: np.where(x > 0, x, x * s[:, None, None])),
    "statistics given": (
        "BatchNormalization",
        6,
        {"is_test": 1},
        (X, CHANNEL, CHANNEL + 1, CHANNEL - 1, np.abs(CHANNEL)),
        lambda x, s, b, m, v: (
            (x - m[:, None, None]) / np.sqrt(v[:, None, None] + 1e-5) * s[:, None, None] + b[:, None, None]
        ),
    ),
    "statistics of the batch": (
        "BatchNormalization",
        1,
        {"consumed_inputs": [0, 0, 0, 1, 1]},
        (X, CHANNEL, CHANNEL, CHANNEL, CHANNEL),
        lambda x, s, b, m, v: (
            (x - x.mean((0, 2, 3), keepdims=True))
            / np.sqrt(x.var((0, 2, 3), keepdims=True) + 1e-5)
            * s[:, None, None]
            + b[:, None, None]
        ),
    ),
    "dropout": ("Dropout", 6, {"is_test": 1}, (X,), lambda x: x),
    "dropout of nothing": ("Dropout", 1, {"ratio": 0.0}, (X,), lambda x: x),
    "cast by name": ("Cast", 1, {"to": "INT32"}, (X * 9,), lambda x: x.astype(np.int32)),
    "cast by number": ("Cast", 6, {"to": onnx.TensorProto.DOUBLE}, (X,), lambda x: x.astype(np.float64)),
    "concat": ("Concat", 1, {}, (X, X), lambda x, y: np.concatenate([x, y], 1)),
    "concat at an axis": ("Concat", 4, {"axis": 3}, (X, X), lambda x, y: np.concatenate([x, y], 3)),
    "split": ("Split", 2, {"axis": 1, "split": [2, 1]}, (X,), lambda x: x[:, :2]),
    "paddings": (
        "Pad",
        1,
        {"paddings": [0, 0, 1, 0, 0, 0, 0, 2], "value": 3.0},
        (X,),
        lambda x: np.pad(x, ((0, 0), (0, 0), (1, 0), (0, 2)), constant_values=3),
    ),
    "reshape": ("Reshape", 1, {"shape": [0, -1, 10]}, (X,), lambda x: x.reshape(2, 6, 10)),
    "upsample": (
        "Upsample",
        1,
        {"height_scale": 2.0, "width_scale": 3.0},
        (X,),
        lambda x: x.repeat(2, 2).repeat(3, 3),
    ),
    "global norm": (
        "GlobalLpPool",
        1,
        {"p": 2.0},
        (X,),
        lambda x: np.sqrt((x * x).sum((2, 3), keepdims=True)),
    ),
    "selu": (
        "Selu",
        1,
        {},
        (X,),
        lambda x: np.float32(1.0507) * np.where(x > 0, x, np.float32(1.6732) * np.expm1(x)),
    ),
    "gemm": (
        "Gemm",
        6,
        {"broadcast": 1, "transB": 1, "alpha": 0.5},
        (INNER, INNER, np.float32([1, 2, 3, 4])),
        lambda a, b, c: 0.5 * a @ b.T + c,
    ),
}
"""Row: operator, version, attributes, inputs, what numpy makes of them."""


def model_of(
    op: str, opset: int, attributes: dict[str, Any], inputs: Any, outputs: int = 1
) -> onnx.ModelProto:
    names = [f"x{i}" for i in range(len(inputs))]
    ports = [
        tensor_value(n, a.shape, helper.np_dtype_to_tensor_dtype(a.dtype))
        for n, a in zip(names, map(np.asarray, inputs), strict=True)
    ]
    results = [f"y{i}" for i in range(outputs)]
    node = helper.make_node(op, names, results, **attributes)
    return make_model([node], ports, [onnx.ValueInfoProto(name=n) for n in results], opset=opset)


@pytest.mark.parametrize("row", ROW)
def test_versions(row: str) -> None:
    op, opset, attributes, inputs, expected = ROW[row]
    module = load_onnx(model_of(op, opset, attributes, inputs, 2 if op == "Split" else 1))
    got, want = run_module(module, [np.asarray(a) for a in inputs])[0], expected(*inputs)
    assert got.dtype == want.dtype or want.dtype == np.float64
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


def with_constants(
    op: str, opset: int, constants: dict[str, Any], outputs: int = 1, **attributes: Any
) -> onnx.ModelProto:
    """A model of one node on x and constants."""
    nodes = [
        helper.make_node("Constant", [], [name], value=onnx.numpy_helper.from_array(np.asarray(value)))
        for name, value in constants.items()
    ]
    results = [f"y{i}" for i in range(outputs)]
    nodes.append(helper.make_node(op, ["x", *constants], results, **attributes))
    return make_model(
        nodes, [tensor_value("x", X.shape)], [onnx.ValueInfoProto(name=n) for n in results], opset=opset
    )


def test_sizes_of_a_split_may_be_an_input() -> None:
    first, second = run_module(load_onnx(with_constants("Split", 1, {"n": np.int64([1, 2])}, 2, axis=1)), [X])
    np.testing.assert_array_equal(first, X[:, :1])
    np.testing.assert_array_equal(second, X[:, 1:])


def test_one_axis_is_tiled() -> None:
    model = with_constants("Tile", 1, {"tiles": np.float32(2), "axis": np.float32(-1)})
    np.testing.assert_array_equal(run_module(load_onnx(model), [X])[0], np.tile(X, (1, 1, 1, 2)))
    model = with_constants("Tile", 6, {"repeats": np.int64([1, 2, 1, 1])})
    np.testing.assert_array_equal(run_module(load_onnx(model), [X])[0], np.tile(X, (1, 2, 1, 1)))


@pytest.mark.parametrize("op", ["RNN", "GRU", "LSTM"])
def test_sequences_of_outputs_are_asked_for(op: str) -> None:
    gates = {"RNN": 1, "GRU": 3, "LSTM": 4}[op]
    sequence = RNG.normal(size=(3, 2, 4)).astype(np.float32)
    weights = [RNG.normal(size=(1, gates * 5, n)).astype(np.float32) for n in (4, 5)]

    def made(opset: int, outputs: list[str], **attributes: Any) -> list[Any]:
        node = helper.make_node(op, ["x", "w", "r"], outputs, hidden_size=5, **attributes)
        ports = [tensor_value(n, a.shape) for n, a in zip("xwr", [sequence, *weights], strict=True)]
        results = [onnx.ValueInfoProto(name=n) for n in outputs if n]
        return list(
            run_module(load_onnx(make_model([node], ports, results, opset=opset)), [sequence, *weights])
        )

    old, new = made(1, ["y", "h"], output_sequence=1), made(7, ["y", "h"])
    for a, b in zip(old, new, strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(made(1, ["", "h"])[0], new[1])
    with pytest.raises(VariantUnsupported, match="output_sequence 0"):
        made(1, ["y", "h"])


REFUSED: dict[str, tuple[str, int, dict[str, Any], tuple[Any, ...], int, type[Exception], str]] = {
    "ranks differ": ("Add", 6, {}, (X, INNER), 1, NodeInvalid, "rank of the second operand"),
    "does not fit": ("Add", 6, {"broadcast": 1, "axis": 3}, (X, INNER), 1, NodeInvalid, "axis"),
    "saved statistics": (
        "BatchNormalization",
        6,
        {},
        (X, CHANNEL, CHANNEL, CHANNEL, CHANNEL),
        5,
        VariantUnsupported,
        "more than 3 outputs",
    ),
    "statistics of positions": (
        "BatchNormalization",
        6,
        {"spatial": 0},
        (X, CHANNEL, CHANNEL, CHANNEL, CHANNEL),
        1,
        VariantUnsupported,
        "spatial 0",
    ),
    "no such type": ("Cast", 1, {"to": "REAL"}, (X,), 1, NodeInvalid, "REAL"),
    "rank of an image": (
        "Upsample",
        1,
        {"height_scale": 2.0, "width_scale": 2.0},
        (INNER,),
        1,
        NodeInvalid,
        "4",
    ),
    "broken power": ("GlobalLpPool", 1, {"p": 1.5}, (X,), 1, VariantUnsupported, "1.5"),
}


@pytest.mark.parametrize("row", REFUSED)
def test_refusals(row: str) -> None:
    op, opset, attributes, inputs, outputs, error, text = REFUSED[row]
    with pytest.raises(error, match=text):
        load_onnx(model_of(op, opset, attributes, inputs, outputs))


def test_whole_powers() -> None:
    pooled = model_of("LpPool", 1, {"kernel_shape": [2, 2], "p": 2.0}, (X,))
    (got,) = run_module(load_onnx(pooled), [X])
    squares = X**2
    sums = sum(squares[:, :, i : i + 3, j : j + 4] for i in (0, 1) for j in (0, 1))
    np.testing.assert_allclose(got, np.sqrt(sums), rtol=1e-5)


def test_every_row_has_a_test() -> None:
    tested = {op for op, opset, *_ in ROW.values() if opset < MODERN}
    assert tested | {"GRU", "LSTM", "RNN", "LpPool", "Tile"} >= set(ROWS)
