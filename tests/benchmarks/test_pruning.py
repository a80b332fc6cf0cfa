"""The benchmarks of pruning, on networks that are hardly trained and small layers; whole: their own commands."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.compression import pruned_speed, sparse
from benchmarks.compression.digits import digits, trained
from benchmarks.compression.pruning import RECIPES, pruned_row, verdicts


@pytest.mark.slow
@pytest.mark.parametrize("recipe", list(RECIPES))
def test_a_pruned_network_is_tuned_and_measured(recipe: str) -> None:
    data = digits(0)
    row = pruned_row("mlp", 0, recipe, trained("mlp", 0, data, epochs=3), data)
    assert row["accuracy"] >= row["accuracy_untuned"] - 0.01
    assert row["share_of_macs"] > 0.9
    assert row["weight_bytes"] < 0.7 * row["weight_bytes_before"]


def test_verdicts_are_about_means() -> None:
    row = {
        "network": "mlp",
        "recipe": "channel",
        "accuracy_before": 0.9,
        "accuracy": 0.89,
        "share_of_macs": 1.0,
        "weight_bytes_before": 8,
        "weight_bytes": 4,
        "seconds_before": 2.0,
        "seconds": 1.0,
    }
    (line,) = verdicts([row, {**row, "accuracy": 0.885}])
    assert "loses 1.25 points" in line and line.endswith(": holds")
    (line,) = verdicts([row, {**row, "accuracy": 0.8}])
    assert line.endswith("DOES NOT HOLD")


def test_speed_cases_compute_the_same_and_are_timed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(pruned_speed, "LINEAR", ((64, 128, 128),))
    monkeypatch.setattr(pruned_speed, "POINTWISE", ((64, 8, 128),))
    rows = tmp_path / "rows.jsonl"
    for kind in ("linear", "1x1"):
        assert pruned_speed.main(["--turns", "2", "--only", kind, "--jsonl", str(rows)]) == 0
    found = [json.loads(line) for line in rows.read_text().splitlines()]
    assert [r["kind"] for r in found] == ["linear", "pointwise"]
    assert all(r["candidates"] == ["sparse"] and min(r["ms_before"], r["ms_after"]) > 0 for r in found)
    assert capsys.readouterr().out.count("times as fast") == 2


def test_weights_have_their_share_of_zeros() -> None:
    w = pruned_speed.weight(np.random.default_rng(0), 64, 128, 0.9)
    assert 0.85 < float(np.mean(w == 0)) < 0.95


def test_sparse_cases_are_measured_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sparse, "RESNET50", ((64, 8, 128),))
    rows = tmp_path / "rows.jsonl"
    for _ in range(2):
        assert sparse.main(["--turns", "2", "--only", "64x8x8", "--jsonl", str(rows)]) == 0
    found = [json.loads(line) for line in rows.read_text().splitlines()]
    assert [r["name"].split(", ")[1] for r in found] == ["row-major", "channels last"]
    assert all(r["candidates"] == ["sparse"] for r in found), "no copies around sparse convolutions"
    assert capsys.readouterr().out.count("times as fast") == 2
