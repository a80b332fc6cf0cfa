"""Optimiser steps, FlexAttention with subgraphs, and affine grids, against onnx's own evaluator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

import aino_ir as aino
from aino_ir.errors.onnx import NodeInvalid
from aino_ir.errors.run import InputMismatch
from aino_ir.frontends.onnx import load_onnx
from aino_ir.interp import run_module
from tests.frontends.onnx.models import make_model, tensor_value

RNG = np.random.default_rng(21)
TRAINING, PREVIEW = "ai.onnx.preview.training", "ai.onnx.preview"
INT = np.int64


def model_of(node: onnx.NodeProto, arrays: Sequence[np.ndarray]) -> onnx.ModelProto:
    inputs = [
        tensor_value(name, a.shape, helper.np_dtype_to_tensor_dtype(a.dtype))
        for name, a in zip(node.input, arrays, strict=True)
    ]
    domains = {} if not node.domain else {node.domain: 1}
    return make_model([node], inputs, list(node.output), opset=22, domains=domains)


def agree(node: onnx.NodeProto, *arrays: Any, tolerance: float = 1e-5) -> list[Any]:
    """Outputs of a node, which are those of onnx's evaluator."""
    arrays = tuple(np.asarray(a) for a in arrays)
    model = model_of(node, arrays)
    got = list(run_module(load_onnx(model), arrays))
    want = ReferenceEvaluator(model).run(None, dict(zip(node.input, arrays, strict=True)))
    for g, w in zip(got, want, strict=True):
        assert g.dtype == np.float32
        np.testing.assert_allclose(g, w, rtol=tolerance, atol=tolerance)
    return got


def optimiser(op: str, kinds: int, tensors: int, turns: int, **attributes: Any) -> list[Any]:
    """One step for some tensors of several sizes."""
    shapes = [(3,), (2, 4)][:tensors]
    values = [
        np.abs(RNG.standard_normal(shapes[n])).astype(np.float32)
        for _ in range(kinds)
        for n in range(tensors)
    ]
    inputs = ["r", "t", *(f"i{n}" for n in range(len(values)))]
    outputs = [f"o{n}" for n in range((kinds - 1) * tensors)]
    node = helper.make_node(op, inputs, outputs, domain=TRAINING, **attributes)
    return agree(node, np.float32(0.1), INT(turns), *values)


@pytest.mark.parametrize("tensors", [1, 2])
@pytest.mark.parametrize("turns", [0, 3])
def test_optimiser_steps(tensors: int, turns: int) -> None:
    common = {"norm_coefficient": 0.01}
    optimiser("Adagrad", 3, tensors, turns, epsilon=1e-5, decay_factor=0.1, **common)
    optimiser(
        "Adam", 4, tensors, turns, epsilon=1e-5, alpha=0.8, beta=0.9, norm_coefficient_post=0.02, **common
    )
    for mode in ("standard", "nesterov"):
        optimiser("Momentum", 3, tensors, turns, alpha=0.9, beta=0.7, mode=mode, **common)


def test_optimisers_refuse_what_they_do_not_know() -> None:
    with pytest.raises(NodeInvalid, match="standard or nesterov"):
        optimiser("Momentum", 3, 1, 0, alpha=0.9, beta=0.7, mode="other", norm_coefficient=0.0)
    node = helper.make_node("Adagrad", ["r", "t", "x", "g"], ["y", "h"], domain=TRAINING)
    x = np.zeros(2, np.float32)
    with pytest.raises(NodeInvalid, match="multiple of 3"):
        load_onnx(model_of(node, [np.float32(0), np.asarray(0), x, x]))  # type: ignore[list-item]


def graph(nodes: Sequence[onnx.NodeProto], source: str, target: str) -> onnx.GraphProto:
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, list("BHLS")) for n in (source, target)]
    half = helper.make_tensor("half", TensorProto.FLOAT, [], [0.5])
    return helper.make_graph(list(nodes), "modifier", values[:1], values[1:], [half])


@pytest.mark.parametrize("heads", [2, 4])
def test_attention_with_modifiers(heads: int) -> None:
    soft = graph(
        [helper.make_node("Mul", ["s", "half"], ["m"]), helper.make_node("Tanh", ["m"], ["t"])], "s", "t"
    )
    halved = graph([helper.make_node("Mul", ["p", "half"], ["o"])], "p", "o")
    q = RNG.standard_normal((2, 4, 3, 8)).astype(np.float32)
    k = RNG.standard_normal((2, heads, 5, 8)).astype(np.float32)
    v = RNG.standard_normal((2, heads, 5, 6)).astype(np.float32)
    for attributes in ({}, {"score_mod": soft}, {"prob_mod": halved, "scale": 0.3}):
        node = helper.make_node("FlexAttention", ["q", "k", "v"], ["y"], domain=PREVIEW, **attributes)
        agree(node, q, k, v)


def test_a_modifier_must_keep_the_type() -> None:
    wrong = graph([helper.make_node("Cast", ["s"], ["t"], to=TensorProto.DOUBLE)], "s", "t")
    node = helper.make_node("FlexAttention", ["q", "k", "v"], ["y"], domain=PREVIEW, score_mod=wrong)
    x = np.zeros((1, 1, 2, 2), np.float32)
    with pytest.raises(NodeInvalid, match="output of score_mod"):
        load_onnx(model_of(node, [x, x, x]))


@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("space", [(3, 4), (2, 3, 4), (5, 1)])
def test_affine_grids(space: tuple[int, ...], aligned: bool) -> None:
    rank = len(space)
    theta = RNG.standard_normal((2, rank, rank + 1)).astype(np.float32)
    node = helper.make_node("AffineGrid", ["theta", "size"], ["y"], align_corners=int(aligned))
    model = model_of(node, [theta, np.zeros(rank + 2, np.int64)])
    got = run_module(load_onnx(model), [theta, np.asarray([2, 3, *space])])[0]
    if aligned and 1 in space:  # torch puts a single place in the middle, ONNX at the first end
        assert got.shape == (2, *space, rank) and np.isfinite(got).all()
        return
    want = torch.nn.functional.affine_grid(torch.from_numpy(theta), [2, 3, *space], align_corners=aligned)
    np.testing.assert_allclose(got, want.numpy(), rtol=1e-5, atol=1e-5)


def test_affine_grids_have_two_or_three_axes() -> None:
    node = helper.make_node("AffineGrid", ["theta", "size"], ["y"])
    with pytest.raises(NodeInvalid, match="4 or 5"):
        load_onnx(model_of(node, [np.zeros((1, 2, 3), np.float32), np.zeros(3, np.int64)]))


def test_sequences_of_unknown_rank_take_what_is_put_in() -> None:
    sequence = helper.make_tensor_sequence_value_info("s", TensorProto.FLOAT, None)
    nodes = [
        helper.make_node("SequenceInsert", ["s", "x"], ["more"]),
        helper.make_node("SequenceAt", ["more", "zero"], ["y"]),
    ]
    zero = helper.make_tensor("zero", TensorProto.INT64, [], [0])
    model = make_model(nodes, inputs=[sequence, tensor_value("x", [3])], initializers=[zero])
    module = load_onnx(model)
    first, second = np.ones(3, np.float32), np.zeros(3, np.float32)
    exe = aino.compile(model, "reference")
    assert exe.run([first], second)[0].tolist() == [1, 1, 1]
    with pytest.raises(InputMismatch, match="dtype"):
        exe.run([first.astype(np.float64)], second)
    assert run_module(module, [[first], second])[0].tolist() == [1, 1, 1]
    assert run_module(module, [[], second])[0].tolist() == [0, 0, 0]
