"""Operator sets 1 to 6: what nodes meant before version 7."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from aino_ir.errors.onnx import NodeInvalid, VariantUnsupported
from aino_ir.frontends.onnx import load_onnx
from aino_ir.frontends.onnx.early import EARLY, FIRST_PRESENT
from aino_ir.interp import run_module
from tests.frontends.onnx.models import make_model, tensor_value

X = np.arange(24, dtype=np.float32).reshape(2, 3, 4) - 5
ROW = np.asarray([1, 2, 3, 4], np.float32)
COLUMN = np.asarray([1, 2, 3], np.float32)
STATISTICS = [np.float32(v) for v in ([1, 2, 3], [0, 1, 0], [1, 1, 1], [4, 1, 9])]


def early(op: str, version: int, arrays: list[np.ndarray], **attributes: Any) -> onnx.ModelProto:
    """A model of one node of an early operator set."""
    names = [f"x{n}" for n in range(len(arrays))]
    inputs = [
        tensor_value(name, a.shape, helper.np_dtype_to_tensor_dtype(a.dtype))
        for name, a in zip(names, arrays, strict=True)
    ]
    return make_model(
        [helper.make_node(op, names, ["y"], name="the node", **attributes)], inputs, opset=version
    )


def along(axis: int, v: np.ndarray) -> np.ndarray:
    """v along an axis of X."""
    return v.reshape([-1 if a == axis else 1 for a in range(3)])


def normalized() -> np.ndarray:
    scale, bias, mean, variance = (along(1, v) for v in STATISTICS)
    return (X - mean) / np.sqrt(variance + 1e-5) * scale + bias


def normalized_by_itself() -> np.ndarray:
    mean, variance = X.mean((0, 2), keepdims=True), X.var((0, 2), keepdims=True)
    return (X - mean) / np.sqrt(variance + 1e-5) * along(1, STATISTICS[0]) + along(1, STATISTICS[1])


INT = np.int64
ROWS: list[tuple[str, int, list[np.ndarray], dict[str, Any], Callable[[], Any]]] = [
    ("Add", 6, [X, X], {}, lambda: X + X),
    ("Add", 6, [X, COLUMN], {"broadcast": 1, "axis": 1}, lambda: X + along(1, COLUMN)),
    ("Add", 1, [X, ROW], {"broadcast": 1, "consumed_inputs": [0, 0]}, lambda: X + ROW),
    ("Sub", 6, [X, COLUMN], {"broadcast": 1, "axis": -2}, lambda: X - along(1, COLUMN)),
    ("Mul", 6, [X, X[:, :, 0]], {"broadcast": 1, "axis": 0}, lambda: X * X[:, :, :1]),
    ("Div", 6, [X, ROW], {"broadcast": 1}, lambda: X / ROW),
    ("Pow", 1, [X, np.float32(2)], {"broadcast": 1}, lambda: X**2),
    ("Greater", 1, [X, COLUMN], {"broadcast": 1, "axis": 1}, lambda: X > along(1, COLUMN)),
    ("Less", 1, [X, ROW], {"broadcast": 1}, lambda: ROW > X),
    ("Equal", 1, [X.astype(INT), ROW.astype(INT)], {"broadcast": 1}, lambda: X == ROW),
    ("And", 1, [X > 0, ROW > 2], {"broadcast": 1}, lambda: (X > 0) & (ROW > 2)),
    ("Or", 1, [X > 0, ROW > 2], {"broadcast": 1}, lambda: (X > 0) | (ROW > 2)),
    ("Xor", 1, [X > 0, ROW > 2], {"broadcast": 1}, lambda: (X > 0) ^ (ROW > 2)),
    ("BatchNormalization", 6, [X, *STATISTICS], {"is_test": 1}, normalized),
    ("BatchNormalization", 1, [X, *STATISTICS], {"consumed_inputs": [0] * 5}, normalized_by_itself),
    ("Cast", 1, [X], {"to": "INT32"}, lambda: X.astype(np.int32)),
    ("Concat", 1, [X, X], {}, lambda: np.concatenate([X, X], 1)),
    ("Dropout", 6, [X], {"is_test": 1}, lambda: X),
    ("GlobalLpPool", 1, [X], {"p": 1.0}, lambda: np.abs(X).sum(2, keepdims=True)),
    ("LpPool", 1, [X], {"p": 1.0, "kernel_shape": [4]}, lambda: np.abs(X).sum(2, keepdims=True)),
    ("PRelu", 6, [X, COLUMN], {}, lambda: np.where(X < 0, X * along(1, COLUMN), X)),
    ("PRelu", 1, [X, COLUMN[1:2]], {}, lambda: np.where(X < 0, X * 2, X)),
    ("Pad", 1, [X], {"paddings": [0, 0, 1, 0, 0, 2]}, lambda: np.pad(X, ((0, 0), (0, 0), (1, 2)))),
    ("Reshape", 1, [X], {"shape": [0, -1]}, lambda: X.reshape(2, 12)),
    ("Selu", 1, [-ROW], {}, lambda: 1.0507 * 1.6732 * (np.exp(-ROW) - 1)),
    ("Split", 1, [X, np.asarray([4], INT)], {"axis": 2}, lambda: X),
    ("Tile", 1, [X, INT(3), INT(1)], {}, lambda: np.tile(X, (1, 3, 1))),
    ("Upsample", 1, [X[None]], {"height_scale": 2.0, "width_scale": 1.0}, lambda: X[None].repeat(2, 2)),
]  # fmt: skip


@pytest.mark.parametrize(
    ("op", "version", "arrays", "attributes", "want"), ROWS, ids=[f"{r[0]}-{r[1]}" for r in ROWS]
)
def test_early_meaning(
    op: str, version: int, arrays: list[Any], attributes: dict[str, Any], want: Callable[[], Any]
) -> None:
    arrays = [np.asarray(a) for a in arrays]
    got = run_module(load_onnx(early(op, version, arrays, **attributes)), arrays)[0]
    expected = np.asarray(want())
    assert got.shape == expected.shape
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


def test_every_row_is_tried() -> None:
    assert {row[0] for row in ROWS} == EARLY.keys()
    assert all(row[1] < FIRST_PRESENT for row in ROWS)


def test_what_early_operators_refuse() -> None:
    with pytest.raises(NodeInvalid, match="without broadcast=1"):
        load_onnx(early("Add", 6, [X, ROW]))
    with pytest.raises(NodeInvalid, match=r"axis.*at most 0"):
        load_onnx(early("Add", 6, [X, X], broadcast=1, axis=1))
    with pytest.raises(NodeInvalid, match="'WORD'"):
        load_onnx(early("Cast", 1, [X], to="WORD"))
    with pytest.raises(VariantUnsupported, match="a power of 1.5"):
        load_onnx(early("LpPool", 1, [X], p=1.5, kernel_shape=[2]))


def test_versions_from_7_on_are_left_alone() -> None:
    model = early("Add", 7, [X, ROW])
    assert np.array_equal(run_module(load_onnx(model), [X, ROW])[0], X + ROW)
