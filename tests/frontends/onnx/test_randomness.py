"""Random operators: distributions, seeds, and that every run draws the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from aino_ir.errors.onnx import NodeInvalid
from aino_ir.frontends.onnx import load_onnx
from aino_ir.interp import run_module
from tests.frontends.onnx.models import make_model, tensor_value

COUNT = 20_000


def drawn(op: str, *arrays: Any, opset: int = 22, outputs: int = 1, **attributes: Any) -> list[np.ndarray]:
    """Outputs of a model of one node."""
    arrays = tuple(np.asarray(a) for a in arrays)
    return run_module(load_onnx(model_of(op, arrays, opset, outputs, **attributes)), arrays)  # type: ignore[return-value]


def model_of(op: str, arrays: Any, opset: int = 22, outputs: int = 1, **attributes: Any) -> onnx.ModelProto:
    names = [f"x{n}" for n in range(len(arrays))]
    targets = [f"y{n}" for n in range(outputs)]
    inputs = [
        tensor_value(name, a.shape, helper.np_dtype_to_tensor_dtype(a.dtype))
        for name, a in zip(names, arrays, strict=True)
    ]
    return make_model([helper.make_node(op, names, targets, **attributes)], inputs, targets, opset=opset)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_uniform_numbers(dtype: type) -> None:
    code = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    (y,) = drawn("RandomUniform", shape=[COUNT], low=-1.0, high=3.0, dtype=code, seed=4.0)
    assert y.dtype == dtype
    assert -1 <= y.min() < -0.99 and 2.99 < y.max() <= 3
    assert abs(y.mean(dtype=np.float64) - 1) < 5 * 4 / np.sqrt(12 * COUNT)
    assert abs(np.var(y, dtype=np.float64) - 16 / 12) < 0.05


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_normal_numbers(dtype: type) -> None:
    x = np.zeros((2, COUNT // 2), dtype)
    (y,) = drawn("RandomNormalLike", x, mean=2.0, scale=0.5, seed=1.0)
    assert y.shape == x.shape and y.dtype == dtype and np.isfinite(y).all()
    assert abs(y.mean() - 2) < 5 * 0.5 / np.sqrt(COUNT)
    assert abs(y.std() - 0.5) < 0.02
    assert abs(((y - 2) ** 3).mean()) < 0.02  # no skew
    assert abs(((y - 2) ** 4).mean() / 0.5**4 - 3) < 0.3


def test_bernoulli_draws_by_probability() -> None:
    p = np.repeat(np.float32([0, 0.25, 1]), COUNT)
    (y,) = drawn("Bernoulli", p, dtype=TensorProto.INT32)
    assert y.dtype == np.int32 and set(y.tolist()) == {0, 1}
    never, some, always = y.reshape(3, COUNT)
    assert never.sum() == 0 and always.sum() == COUNT
    assert abs(some.mean() - 0.25) < 0.02


def test_multinomial_draws_by_log_probability() -> None:
    shares = np.float32([[0.1, 0.2, 0.7], [1, 0, 0]])
    with np.errstate(divide="ignore"):
        (y,) = drawn("Multinomial", np.log(shares) + 5, sample_size=COUNT, dtype=TensorProto.INT64, seed=2.0)
    assert y.shape == (2, COUNT) and y.dtype == np.int64
    for row, share in zip(y, shares, strict=True):
        assert np.abs(np.bincount(row, minlength=3) / COUNT - share).max() < 0.02
    with pytest.raises(NodeInvalid, match="sample_size"):
        drawn("Multinomial", np.zeros((1, 2), np.float32), sample_size=0)


def test_dropout_while_training() -> None:
    x = np.ones(COUNT, np.float32)
    model = model_of("Dropout", [x, np.float32(0.25), np.asarray(True)], outputs=2, seed=5)
    module = load_onnx(model)
    y, mask = run_module(module, [x, np.float32(0.25), np.asarray(True)])
    assert abs(mask.mean() - 0.75) < 0.02
    assert np.array_equal(y, np.where(mask, np.float32(1) / np.float32(0.75), 0))
    y, mask = run_module(module, [x, np.float32(0.25), np.asarray(False)])  # both are decided by the run
    assert mask.all() and np.array_equal(y, x)
    y, mask = run_module(module, [x, np.float32(0), np.asarray(True)])
    assert mask.all() and np.array_equal(y, x)


def test_dropout_of_old_operator_sets() -> None:
    x = np.ones(COUNT, np.float32)
    y, mask = drawn("Dropout", x, opset=6, outputs=2, ratio=0.5)
    assert mask.dtype == np.float32 and abs(mask.mean() - 0.5) < 0.02
    assert np.array_equal(y, mask * 2)


def test_seeds_decide_and_runs_repeat() -> None:
    first, again, other = (
        drawn("RandomUniform", shape=[8], seed=seed)[0].tolist() for seed in (1.0, 1.0, 2.0)
    )
    assert first == again != other
    nodes = [helper.make_node("RandomUniform", [], [name], shape=[8]) for name in ("a", "b")]
    module = load_onnx(make_model(nodes, inputs=(), outputs=["a", "b"]))
    a, b = run_module(module, [])
    assert a.tolist() != b.tolist()  # nodes without a seed differ
    assert np.array_equal(run_module(module, [])[0], a)


def test_only_floats_are_drawn() -> None:
    with pytest.raises(NodeInvalid, match="a float"):
        drawn("RandomNormal", shape=[2], dtype=TensorProto.INT32)
