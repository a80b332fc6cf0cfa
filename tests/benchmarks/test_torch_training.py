"""The benchmark of training keeps a row for each network, and trains no network twice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import torch_training
from benchmarks.torch_training import Comparison, main


def test_rows_are_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def compare(network: str, steps: int, batch: int, options: dict[str, Any]) -> Comparison:
        asked.append(network)
        return Comparison(network, steps, batch, 1e-6, 0.001, 0.5, 2.0, 1.0, 2.0, 1.0)

    monkeypatch.setattr(torch_training, "compare", compare)
    output = ["--output", str(tmp_path / "rows.jsonl"), "--threads", str(torch.get_num_threads())]
    for only in ("bert", "bert,resnet18"):
        assert main(["--only", only, *output]) == 0
    assert asked == ["bert", "resnet18"]
    main(["--only", "bert", "--steps", "7", *output])
    main(["--only", "bert", "--fresh", *output])
    assert asked == ["bert", "resnet18", "bert", "bert"]
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert [r["network"] for r in rows] == asked
    assert all("torch 2" in r["versions"] and r["source"] for r in rows)
