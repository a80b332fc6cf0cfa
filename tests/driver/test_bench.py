"""The benchmark harness: engines interleave, failures are named and left out; nothing asserts seconds."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from aino_ir.driver import bench, bench_worker
from aino_ir.errors.bench import BenchOption, EngineFailed, UnknownEngine
from benchmarks.resnet50 import images, resnet50


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "tiny.onnx"
    path.write_bytes(resnet50(size=32, width=8, classes=10, depths=(1, 1)).SerializeToString())
    return path


@pytest.fixture
def inputs() -> dict[str, np.ndarray[Any, Any]]:
    return {"image": images(size=32)}


def test_engine_gives_a_figure_and_outputs(model: Path, inputs: dict[str, Any]) -> None:
    pytest.importorskip("onnxruntime")
    got = bench.compare(model, inputs, ["onnxruntime"], rounds=3, seconds=0.01)
    result = got.results["onnxruntime"]
    assert not result.error and result.version
    assert len(result.minima) == len(result.medians) == 3 and result.runs >= 3
    assert min(result.minima) <= result.seconds <= max(result.minima)
    assert result.outputs[0].shape == (1, 10)
    json.dumps(got.to_json())


def test_a_very_slow_engine_is_timed_once(
    model: Path, inputs: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxruntime")
    monkeypatch.setattr(bench, "SLOW_CALL", 0.0)
    result = bench.compare(model, inputs, ["onnxruntime"], rounds=3, seconds=0.01).results["onnxruntime"]
    assert not result.error and result.runs == 1
    assert result.minima == result.medians and result.seconds == result.minima[0] > 0


def test_failing_engine_is_left_out_and_named(tmp_path: Path, inputs: dict[str, Any]) -> None:
    pytest.importorskip("onnxruntime")
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"not a model")
    got = bench.compare(broken, inputs, ["onnxruntime"], rounds=1, seconds=0.01)
    assert [r.name for r in got.left_out] == ["onnxruntime"] and not got.measured
    assert got.results["onnxruntime"].error
    assert "seconds" not in got.to_json()["engines"]["onnxruntime"]
    with pytest.raises(EngineFailed, match="onnxruntime gave no figure"):
        got.ratio("onnxruntime", engine="onnxruntime")


def test_silent_engine_is_given_up(model: Path, inputs: dict[str, Any]) -> None:
    pytest.importorskip("onnxruntime")
    got = bench.compare(model, inputs, ["onnxruntime"], rounds=1, seconds=0.01, setup_timeout=0.001)
    assert "no answer" in got.results["onnxruntime"].error


def test_dead_worker_leaves_its_last_words(model: Path, tmp_path: Path) -> None:
    worker = bench._Worker("nonsense", model, tmp_path / "none.npz", 1)
    try:
        with pytest.raises(EngineFailed, match="KeyError: 'nonsense'"):
            worker.ask(None, timeout=60)
    finally:
        worker.close()


def test_unknown_engine(model: Path, inputs: dict[str, Any]) -> None:
    with pytest.raises(UnknownEngine, match="tensorrt"):
        bench.compare(model, inputs, ["tensorrt"])


@pytest.mark.parametrize("options", [{"rounds": 0}, {"threads": 0}, {"seconds": 0.0}])
def test_option_too_small(model: Path, inputs: dict[str, Any], options: dict[str, Any]) -> None:
    with pytest.raises(BenchOption, match=next(iter(options))):
        bench.compare(model, inputs, ["aino"], **options)


def test_figure_is_the_median_of_the_minima() -> None:
    result = bench.EngineResult("x", minima=[3.0, 1.0, 2.0, 9.0, 1.5])
    assert result.seconds == 2.0


def test_ratio_and_difference() -> None:
    ours = bench.EngineResult("aino", minima=[1.0], outputs=[np.array([1.0, 2.0], np.float32)])
    peer = bench.EngineResult("onnxruntime", minima=[3.0], outputs=[np.array([1.0, 4.0], np.float32)])
    got = bench.Comparison("m", 1, {"aino": ours, "onnxruntime": peer})
    assert got.ratio("onnxruntime") == 3.0
    assert got.difference("onnxruntime") == 0.5
    ours.outputs = [np.array([1.0, np.nan], np.float32)]
    assert got.difference("onnxruntime") == float("inf")
    ours.outputs = [np.array([1.0], np.float32)]
    assert got.difference("onnxruntime") == float("inf")


def test_infinities_agree_with_themselves() -> None:
    same = [np.array([np.inf, 1.0], np.float32)]
    results = {name: bench.EngineResult(name, minima=[1.0], outputs=same) for name in ("aino", "onnxruntime")}
    assert bench.Comparison("m", 1, results).difference("onnxruntime") == 0.0


def test_measure_counts_its_calls() -> None:
    calls: list[int] = []
    lap = bench_worker.measure(lambda: calls.append(1) or [], seconds=0.0)
    assert lap["runs"] == len(calls) == 1
    assert lap["minimum"] == lap["median"]


def test_machine_is_described() -> None:
    assert set(bench.describe_machine()) == {"processor", "cores", "system", "python"}


def test_inputs_may_have_any_name(tmp_path: Path) -> None:
    given = {"file": np.ones(2, np.float32), "a/b.c": np.zeros((), np.int64), "names": np.ones(1)}
    bench_worker.save_inputs(tmp_path / "x.npz", given)
    got = bench_worker.load_inputs(tmp_path / "x.npz")
    assert list(got) == list(given)
    assert all(np.array_equal(got[k], v) and got[k].dtype == v.dtype for k, v in given.items())


def test_table_names_the_engine_left_out() -> None:
    fine = bench.EngineResult("aino", "0.1", minima=[0.001], outputs=[np.ones(1)])
    peer = bench.EngineResult("onnxruntime", "1.2", minima=[0.002], outputs=[np.ones(1)])
    gone = bench.EngineResult("openvino", error="No module named 'openvino' [red]")
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(
        bench.render(bench.Comparison("m.onnx", 2, {"aino": fine, "onnxruntime": peer, "openvino": gone}))
    )
    text = console.export_text()
    assert "2.00" in text and "left out" in text and "No module named 'openvino' [red]" in text


@pytest.mark.parametrize(("seconds", "calls"), [(60.0, bench_worker.WARM_UP_RUNS), (-1.0, 1)])
def test_slow_engines_warm_up_once(seconds: float, calls: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_worker, "WARM_UP_SECONDS", seconds)
    assert bench_worker._warm_up(list) == calls
