"""`aino.prune` and `ainoc prune`: options, the guard, the report, the files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import aino_ir as aino
from aino_ir.driver.cli import ainoc
from aino_ir.driver.emit import write_onnx
from aino_ir.errors.compression import CalibrationInputWrong, CalibrationNotFinite, EmptyCalibration
from aino_ir.errors.pruning import (
    BadSparsity,
    BadStructure,
    BadThreshold,
    PruningOptionsClash,
)
from aino_ir.errors.usage import UnknownOption
from tests.passes.compression.networks import mlp

Array = np.ndarray[Any, Any]
X = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)


def test_layers_that_gain_are_pruned_and_the_others_stay() -> None:
    pruned = aino.prune(mlp(), 0.9, scope="local")
    rows = {r.name: r for r in pruned.compression.rows}
    assert rows["fc0"].applied and rows["fc1"].applied
    assert "gain nothing" in aino.prune(mlp(), 0.3, scope="local").compression.rows[0].reason
    assert rows["fc0"].bytes_after < 0.4 * rows["fc0"].bytes_before
    assert rows["fc0"].seconds_after < rows["fc0"].seconds_before
    exe = aino.compile(pruned, cache=False)
    assert sum(k["candidate"].startswith("sparse") for k in exe.report.kernels) == 3
    (expected,) = aino.compile(pruned, "reference").run(X)
    np.testing.assert_allclose(exe.run(X)[0], expected, rtol=0, atol=1e-4 * float(np.abs(expected).max()))


def test_channels_are_gone_in_the_artifact() -> None:
    module = mlp()
    pruned = aino.prune(module, 0.5, structure="channel", scope="local")
    assert all(r.applied for r in pruned.compression.rows)
    small, large = (aino.compile(m, cache=False) for m in (pruned, module))
    assert small.report.weight_bytes < 0.5 * large.report.weight_bytes
    (y,) = small.run(X)
    assert y.shape == (64, 10)


def test_the_floor_takes_layers_back() -> None:
    pruned = aino.prune(mlp(), 0.9, scope="local", calibration=[X], min_sqnr=25.0)
    assert not pruned.compression.applied
    assert all(r.reason for r in pruned.compression.rows)
    assert pruned.compression.floor.holds


def test_a_metric_decides() -> None:
    (wanted,) = aino.compile(mlp(), "reference").run(X)

    def agreement(run: Any) -> float:
        return float(np.mean(run(X)[0].argmax(1) == wanted.argmax(1)))

    pruned = aino.prune(mlp(), 0.8, scope="local", metric=agreement, max_drop=1.0)
    assert pruned.compression.floor.before == 1.0 and pruned.compression.applied


def test_without_the_guard_everything_is_pruned() -> None:
    pruned = aino.prune(mlp(), structure="2:4", guard=False)
    rows = {r.name: r for r in pruned.compression.rows}
    assert all(r.applied and r.sparsity == 0.5 for r in rows.values())
    guarded = {r.name: r for r in aino.prune(mlp(), structure="2:4").compression.rows}
    assert not guarded["fc0"].applied and not guarded["fc1"].applied


def test_zero_sparsity_changes_nothing() -> None:
    pruned = aino.prune(mlp(), 0.0)
    assert {r.reason for r in pruned.compression.rows} == {"nothing in it is to be removed"}
    assert str(pruned) == str(mlp())


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"sparsity": 1.0}, BadSparsity),
        ({"sparsity": -0.1}, BadSparsity),
        ({"sparsity": float("nan")}, BadSparsity),
        ({"sparsity": True}, BadSparsity),
        ({"threshold": 0.0}, BadThreshold),
        ({"threshold": float("inf")}, BadThreshold),
        ({}, PruningOptionsClash),
        ({"sparsity": 0.5, "threshold": 0.1}, PruningOptionsClash),
        ({"sparsity": 0.5, "structure": "2:4"}, PruningOptionsClash),
        ({"sparsity": 0.5, "structure": "4:2"}, BadStructure),
        ({"sparsity": 0.5, "structure": "block:0x8"}, BadStructure),
        ({"sparsity": 0.5, "structure": "rows"}, BadStructure),
        ({"sparsity": 0.5, "scope": "layer"}, UnknownOption),
        ({"sparsity": 0.5, "criterion": "taylor"}, UnknownOption),
        ({"sparsity": 0.5, "criterion": "wanda"}, EmptyCalibration),
        ({"sparsity": 0.5, "criterion": "wanda", "structure": "channel"}, EmptyCalibration),
        ({"sparsity": 0.5, "criterion": "sparsegpt"}, EmptyCalibration),
        ({"sparsity": 0.5, "criterion": "sparsegpt", "structure": "channel"}, PruningOptionsClash),
        ({"threshold": 0.5, "criterion": "wanda"}, PruningOptionsClash),
        ({"threshold": 0.5, "criterion": "sparsegpt"}, PruningOptionsClash),
        ({"sparsity": 0.5, "guard": "clock"}, UnknownOption),
        ({"sparsity": 0.5, "calibration": []}, EmptyCalibration),
        ({"sparsity": 0.5, "calibration": [np.full((64, 64), np.nan, np.float32)]}, CalibrationNotFinite),
        ({"sparsity": 0.5, "calibration": [(X, X)]}, CalibrationInputWrong),
        ({"sparsity": 0.5, "calibration": [{"z": X}]}, CalibrationInputWrong),
    ],
)
def test_bad_options_are_refused(given: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        aino.prune(mlp(), **given)


@pytest.mark.parametrize("structure", ["unstructured", "2:4", "block:2x8"])
def test_criteria_that_know_the_inputs_lose_less(structure: str) -> None:
    rng = np.random.default_rng(3)
    mix = rng.standard_normal((24, 64)) * rng.permutation(np.logspace(-1, 1, 64))
    data = [(rng.standard_normal((64, 24)) @ mix / 8).astype(np.float32) for _ in range(4)]  # dependent
    module = mlp((64, 48))
    share = {} if ":" in structure and "block" not in structure else {"sparsity": 0.5, "scope": "local"}
    given = {"structure": structure, "guard": False, "calibration": data, **share}
    errors = {}
    for criterion in ("magnitude", "wanda", "sparsegpt"):
        pruned = aino.prune(module, criterion=criterion, **given)
        (row,) = pruned.compression.rows
        assert row.applied and abs(row.sparsity - 0.5) < 0.01
        runs = [aino.compile(m, "reference") for m in (module, pruned)]
        errors[criterion] = sum(float(np.mean((runs[0].run(x)[0] - runs[1].run(x)[0]) ** 2)) for x in data)
    assert errors["sparsegpt"] < 0.8 * errors["wanda"] < 0.8 * errors["magnitude"]


def test_a_measured_guard_says_so() -> None:
    pruned = aino.prune(mlp((64, 512, 256, 10), 128), 0.95, scope="local", guard="measured")
    report = pruned.compression
    assert {r.timing for r in report.rows} == {"measured"}
    assert all(r.seconds_before and r.seconds_after for r in report.rows)
    assert report.whole.timing == "measured" or not report.applied
    assert "measured" in str(report) and report.to_dict()["whole"]["timing"] in ("measured", "")


def test_the_command(tmp_path: Path) -> None:
    write_onnx(mlp(), tmp_path / "m.onnx")
    np.savez(tmp_path / "x.npz", x=X)
    words = ["prune", str(tmp_path / "m.onnx"), "-o", str(tmp_path / "p.onnx"), "--structure", "channel"]
    words += ["--sparsity", "0.25", "--calibration", str(tmp_path / "x.npz"), "--min-sqnr", "0"]
    words += ["--ignore", "fc1", "--report", str(tmp_path / "r.json")]
    result = CliRunner().invoke(ainoc, words)
    assert result.exit_code == 0, result.output
    assert "floor: output SQNR" in result.stdout
    report = json.loads((tmp_path / "r.json").read_text())
    assert {r["name"]: r["applied"] for r in report["layers"]} == {"fc0": True, "fc1": False}
    shapes = {
        tuple(d for d in v.shape) for op in aino.load(str(tmp_path / "p.onnx")).walk() for v in op.results
    }
    assert (64, 192) in shapes
    words = ["prune", str(tmp_path / "m.onnx"), "-o", "x.txt", "--sparsity", "0.5"]
    assert "AINO-E0704" in CliRunner().invoke(ainoc, words).stderr
    bad = CliRunner().invoke(ainoc, ["prune", str(tmp_path / "m.onnx"), "-o", "x.air", "--sparsity", "2"])
    assert bad.exit_code == 2 and "AINO-E0741" in bad.stderr
