"""MetaSchedule's traces: taken where they are faster, kept, and not looked for again."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import aino_ir as aino
from aino_ir.driver import tvm_tuning
from tests.codegen.tvm.support import matmul, needs_tvm, weights

TRACE = [
    'b0 = sch.get_sblock(name="total", func_name="main")',
    "l1, l2, l3 = sch.get_loops(block=b0)",
    "sch.parallel(loop=l1)",
]


class Child:
    """Stands for the process that tries schedules: every kernel's trace is `TRACE`."""

    def __init__(self, own: float | None, best: float | None, kernels: int = 1) -> None:
        self.own, self.best, self.kernels = own, best, kernels
        self.started = 0

    def __call__(self, commands: Any, jobs: int, seconds: float) -> list[Any]:
        self.started += 1
        ((_, _, _, job, answers),) = (c.argv for c in commands)
        row = {"own": self.own, "best": self.best, "trials": 8, "trace": TRACE}
        names = json.loads(Path(job).read_text(encoding="ascii"))["kernels"][: self.kernels]
        lines = [json.dumps({"kernel": name, **row}) + "\n" for name in names]
        Path(answers).write_text("".join(lines) + '{"kernel": "half a', encoding="ascii")
        return [SimpleNamespace(status=0 if self.kernels else 1, output="no such pass")]


def compiled(monkeypatch: Any, folder: Path, child: Child) -> Any:
    """A product for TVM, tuned by a child."""
    monkeypatch.setenv("AINO_CACHE_DIR", str(folder))
    monkeypatch.setattr(tvm_tuning, "run_commands", child)
    return aino.compile(matmul(13, 40, 9), "tvm:llvm", tune=1.0, cache=True)


def test_a_faster_trace_is_taken_and_tried_once(monkeypatch: Any, tmp_path: Path) -> None:
    needs_tvm()
    child = Child(own=2.0, best=1.0)
    first = compiled(monkeypatch, tmp_path, child)
    assert first.report.tuning["trials"] == 8 and first.report.tuning["measured"] == 1
    (row,) = first.report.tuning["changed"]
    assert row["candidate"] == "MetaSchedule"
    x = weights(13, 9)
    (want,) = aino.compile(matmul(13, 40, 9), "reference").run(x)
    assert abs(first.run(x)[0] - want).max() < 1e-4
    monkeypatch.setattr(tvm_tuning, "NOISE", 0.02)  # another option: the artifact itself is not reused
    second = aino.compile(matmul(13, 40, 9), "tvm:llvm", tune=2.0)
    assert child.started == 1
    assert second.report.tuning["trials"] == 0 and second.report.tuning["remembered"] == 1
    assert second.report.tuning["changed"]


def test_the_own_schedule_stays_where_it_is_as_fast(monkeypatch: Any, tmp_path: Path) -> None:
    needs_tvm()
    tuning = compiled(monkeypatch, tmp_path, Child(own=1.0, best=0.99)).report.tuning
    assert not tuning["changed"] and len(tuning["kept"]) == 1


def test_a_search_that_dies_leaves_the_schedules(monkeypatch: Any, tmp_path: Path) -> None:
    needs_tvm()
    child = Child(own=1.0, best=None, kernels=0)
    tuning = compiled(monkeypatch, tmp_path, child).report.tuning
    assert tuning["trials"] == 0 and not tuning["changed"]
    (reason,) = tuning["skipped"].values()
    assert reason == "the search ended early: no such pass"


@pytest.mark.slow
def test_metaschedule_tries_schedules_and_its_record_is_kept(monkeypatch: Any, tmp_path: Path) -> None:
    needs_tvm()
    if version("apache-tvm-ffi").startswith("0.1.15"):
        pytest.skip("apache-tvm-ffi 0.1.15 crashes where TVM copies functions as JSON")
    monkeypatch.setenv("AINO_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(tvm_tuning, "TRIALS", 4)
    first = aino.compile(matmul(16, 32, 24), "tvm:llvm", tune=60.0)
    assert first.report.tuning["measured"] == 1 and not first.report.tuning["skipped"]
    assert 1 <= first.report.tuning["trials"] <= 4
    (row,) = [*first.report.tuning["changed"], *first.report.tuning["kept"]]
    assert row["own seconds"] > 0 and row["best seconds"] > 0
    second = aino.compile(matmul(16, 32, 24), "tvm:llvm", tune=61.0)
    assert second.report.tuning["trials"] == 0 and second.report.tuning["remembered"] == 1
    x = weights(16, 24)
    (want,) = aino.compile(matmul(16, 32, 24), "reference").run(x)
    assert abs(second.run(x)[0] - want).max() < 1e-4
