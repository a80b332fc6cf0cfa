"""The benchmark of TVM's kernels: what a row says, what is short of the bar, what is not run again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from aino_ir.driver.bench import Comparison, EngineResult
from benchmarks import tvm
from benchmarks.zoo import Row


def row(difference: float = 1e-6, error: str = "", **milliseconds: float) -> dict[str, Any]:
    """What stands in a row for such results."""
    results = {
        engine: EngineResult(engine, minima=[1e-3 * milliseconds[name]])
        for engine, name in ((tvm.OURS, "ours"), (tvm.C, "c"), (tvm.DEFAULT, "tvm"))
        if name in milliseconds
    }
    found = tvm.checked(Row("net", difference, 3.0, error=error))
    return found | (tvm.timed(Comparison("net", 2, results)) if results else {})


@pytest.mark.parametrize(
    ("given", "lacking"),
    [
        ({}, ""),
        ({"ours": 2.0, "c": 1.0, "tvm": 30.0}, ""),
        ({"difference": 1e-3}, "1.0e-03 from PyTorch"),
        ({"difference": float("nan")}, "nan from PyTorch"),
        ({"error": "AINO-E0458"}, "AINO-E0458"),
        ({"ours": 4.0, "c": 1.0, "tvm": 30.0}, "4.0 times slower than c"),
        ({"ours": 2.0, "c": 1.0, "tvm": 1.0}, "0.5 times as fast as TVM"),
    ],
)
def test_what_is_short_of_the_bar_is_said(given: dict[str, Any], lacking: str) -> None:
    found = tvm.shortfall(row(**given))
    assert lacking in found and bool(found) == bool(lacking)


def test_networks_with_a_row_of_the_commit_are_not_run_again(tmp_path: Path, monkeypatch: Any) -> None:
    place, ran = tmp_path / "rows.jsonl", []

    def check(name: str, threads: int, target: str) -> Row:
        ran.append(name)
        return Row(name, 1e-6, 2.0)

    monkeypatch.setattr(tvm, "check_in_child", check)
    monkeypatch.setattr(tvm, "revision", lambda: "abc-dirty")
    arguments = ["one", "two", "--check", "--output", str(place)]
    assert tvm.main(arguments[1:]) == 0 and tvm.main(arguments) == 0
    assert ran == ["two.dynamo", "one.dynamo"]
    rows = [json.loads(line) for line in place.read_text(encoding="utf-8").splitlines()]
    assert [r["network"] for r in rows] == ["two", "one"] and rows[0]["compile seconds"] == 2.0
    assert tvm.done(place, "abc", []) == {"one", "two"}
    assert not tvm.done(place, "abc", [tvm.OURS]) and not tvm.done(place, "abd", [])


def test_a_row_without_tvms_own_pipeline_is_not_all_of_it(tmp_path: Path) -> None:
    place = tmp_path / "rows.jsonl"
    times = {tvm.OURS: {"ms": 1.0}, tvm.C: {"ms": 1.0}}
    rows = [
        {"network": "without", "commit": "abc", **times},
        {"network": "failed", "commit": "abc", **times, tvm.DEFAULT: {"error": "no answer within 9 s"}},
    ]
    place.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert tvm.done(place, "abc", [tvm.OURS, tvm.C]) == {"without", "failed"}
    assert tvm.done(place, "abc", [tvm.OURS, tvm.C, tvm.DEFAULT]) == {"failed"}
