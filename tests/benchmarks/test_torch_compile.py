"""The benchmark of torch.compile: its arithmetic, and one small network through it."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import torch_compile
from benchmarks.torch_compile import SMALLEST, Timing, distance, main, rounds

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")


def test_engines_take_turns() -> None:
    order: list[str] = []
    found = rounds({name: lambda name=name: order.append(name) for name in "ab"}, 3)  # type: ignore[misc]
    assert order == ["a", "b"] * 3 and set(found) == {"a", "b"}


def test_lines_say_what_there_is() -> None:
    assert "1.50x" in str(Timing("net", "aino", 2.0, 1.5, 1e-6))
    assert str(Timing("net", "inductor", problem="no compiler")).endswith("no compiler")
    assert distance(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 4.0])) == 0.5


@pytest.mark.slow
def test_a_small_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_child = torch_compile.rows_of_child

    def rows(network: str, args: Any) -> list[dict[str, Any]]:
        """Three operators need no process of their own, which would import torch once more."""
        return (torch_compile.rows_of if network == SMALLEST else in_child)(network, args)

    monkeypatch.setattr(torch_compile, "rows_of_child", rows)
    output = tmp_path / "figures.jsonl"
    arguments = ["--small", "--only", f"bert_base,{SMALLEST}", "--engines", "eager,aino,nonsense"]
    arguments += ["--rounds", "2", "--calls", "10", "--threads", "1", "--output", str(output)]
    assert main(arguments) == 0
    found = [json.loads(line) for line in output.read_text().splitlines()]
    assert {row["network"] for row in found} == {"bert_base_small", SMALLEST}
    assert {row["threads"] for row in found} == {1} and all("torch 2" in row["versions"] for row in found)
    by_engine = {row["engine"]: row for row in found if row["network"] == "bert_base_small"}
    assert by_engine["aino"]["error"] < 1e-4 and not by_engine["aino"]["problem"]
    assert by_engine["aino"]["kernels"] and len(by_engine["aino"]["kernels"]) == 1, "one native graph"
    assert "nonsense" in by_engine["nonsense"]["problem"]


def test_rows_are_measured_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def rows_of_child(network: str, args: Any) -> list[dict[str, Any]]:
        asked.append(network)
        return [asdict(Timing(network, "aino", 1.0, 2.0))]

    monkeypatch.setattr(torch_compile, "rows_of_child", rows_of_child)
    output = str(tmp_path / "figures.jsonl")
    for only in ("gpt2", "gpt2,vit_b16"):
        main(["--only", only, "--output", output])
    assert asked == ["gpt2", "vit_b16"]
    main(["--only", "gpt2", "--threads", "1", "--output", output])
    main(["--only", "gpt2", "--fresh", "--output", output])
    assert asked == ["gpt2", "vit_b16", "gpt2", "gpt2"]


def test_a_process_that_ends_early_is_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_compile.sys, "executable", "false")
    (row,) = torch_compile.rows_of_child("gpt2", torch_compile.parse([]))
    assert row["problem"] == "the process ended with 1"
