"""The reference networks: what they promise to everybody who measures or checks with them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks import workloads


def test_there_are_eight_and_a_small_one_of_each() -> None:
    assert workloads.NAMES == (
        "resnet50",
        "mobilenet_v2",
        "efficientnet_b0",
        "convnext_tiny",
        "vit_b16",
        "bert_base",
        "gpt2",
        "whisper_tiny_encoder",
    )
    assert workloads.SMALL_NAMES == tuple(f"{name}_small" for name in workloads.NAMES)


def test_inputs_follow_the_seed() -> None:
    for name in (*workloads.NAMES, *workloads.SMALL_NAMES):
        one, again, other = (workloads.example_inputs(name, seed) for seed in (1, 1, 2))
        assert all(np.array_equal(one[key], again[key]) for key in one)
        assert not all(np.array_equal(one[key], other[key]) for key in one)


def test_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(KeyError, match="resnet50"):
        workloads.workload("resnet51")


def test_keys_tell_recipes_apart() -> None:
    keys = {workloads._key(n, e) for n in workloads.NAMES for e in workloads.EXPORTERS}
    assert len(keys) == 2 * len(workloads.NAMES)


@pytest.mark.slow
@pytest.mark.parametrize("name", workloads.SMALL_NAMES)
def test_both_exports_agree_with_eager(name: str) -> None:
    pytest.importorskip("torch")
    onnxruntime = pytest.importorskip("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    for exporter in workloads.EXPORTERS:
        made = workloads.workload(name, exporter)
        session = onnxruntime.InferenceSession(str(made.path), options)
        for got, (key, want) in zip(session.run(None, made.inputs), made.outputs.items(), strict=True):
            assert np.isfinite(want).all()
            assert np.max(np.abs(got - want)) <= 1e-4 * np.max(np.abs(want)), (exporter, key)


@pytest.mark.slow
@pytest.mark.parametrize("name", workloads.SMALL_NAMES)
def test_outputs_depend_on_the_inputs(name: str) -> None:
    pytest.importorskip("torch")
    network = workloads.build(name)
    one, other = (workloads.run_eager(network, workloads.example_inputs(name, seed)) for seed in (1, 2))
    for y, z in zip(one, other, strict=True):
        assert np.max(np.abs(y - z)) > 0.1 * np.max(np.abs(y))


@pytest.mark.slow
def test_second_use_comes_from_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    monkeypatch.setenv("AINO_WORKLOADS", str(tmp_path))
    first = workloads.workload("whisper_tiny_encoder_small", "dynamo")
    monkeypatch.setattr(workloads, "build", None)
    again = workloads.workload("whisper_tiny_encoder_small", "dynamo")
    assert again.path == first.path
    assert all(np.array_equal(again.outputs[key], value) for key, value in first.outputs.items())
    assert [p.name for p in tmp_path.iterdir()] == [first.path.parent.name]


@pytest.mark.slow
def test_failed_export_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    monkeypatch.setenv("AINO_WORKLOADS", str(tmp_path))
    with pytest.raises(KeyError, match="no exporter is called 'nonsense'"):
        workloads.workload("whisper_tiny_encoder_small", "nonsense")
    assert list(tmp_path.iterdir()) == []


def test_operator_counts_see_bodies() -> None:
    from onnx import TensorProto, helper

    inner = helper.make_graph([helper.make_node("Neg", [], ["y"])], "body", [], [])
    node = helper.make_node("If", ["c"], ["z"], then_branch=inner, else_branch=inner)
    value = helper.make_tensor_value_info("c", TensorProto.BOOL, [])
    model = helper.make_model(
        helper.make_graph([node], "g", [value], []), opset_imports=[helper.make_opsetid("", 17)]
    )
    opsets, counts = workloads.operator_counts_of(model)
    assert opsets == {"ai.onnx": 17}
    assert counts == {"If": 1, "Neg": 2}


def test_light_models_are_the_nine_of_the_onnx_package() -> None:
    pytest.importorskip("onnx")
    assert len(workloads.light_models()) == 9
