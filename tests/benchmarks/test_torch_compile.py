"""The benchmark of torch.compile: its arithmetic, and one small network through it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import torch_compile
from benchmarks.torch_compile import Timing, distance, main, rounds

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
    monkeypatch.setattr(torch_compile, "CALLS", 10)
    threads = torch.get_num_threads()
    output = tmp_path / "figures.json"
    arguments = ["--small", "--only", "bert_base", "--engines", "eager,aino,nonsense", "--rounds", "2"]
    monkeypatch.setattr(torch_compile, "overhead", lambda *_: {"aino": 1.0})
    try:
        assert main([*arguments, "--threads", "1", "--output", str(output)]) == 0
    finally:
        torch.set_num_threads(threads)
    figures: dict[str, Any] = json.loads(output.read_text())
    by_engine = {row["engine"]: row for row in figures["networks"]}
    assert by_engine["aino"]["error"] < 1e-4 and not by_engine["aino"]["problem"]
    assert by_engine["nonsense"]["problem"]
