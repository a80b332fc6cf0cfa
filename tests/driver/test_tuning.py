"""Measured candidates: what is measured, remembered, picked and told; never how many seconds it took."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import aino_ir as aino
from aino_ir.driver import tuning
from aino_ir.driver.kernel_trials import Trial
from aino_ir.driver.tuning_records import Record, TuningRecords
from aino_ir.graph import Module
from aino_ir.runtime.store import Store
from aino_ir.target import parse_target
from aino_ir.types import tensor


def model() -> Module:
    rng = np.random.default_rng(0)
    b = aino.Builder()
    x = b.input("x", tensor("f32", 24, 40))
    w = b.constant(rng.standard_normal((40, 48)).astype(np.float32))
    b.output("y", b.tanh(b.matmul(x, w)))
    return b.module


X = np.random.default_rng(1).standard_normal((24, 40)).astype(np.float32)


@pytest.fixture(autouse=True)
def few_candidates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each candidate costs a compiler run."""
    monkeypatch.setattr("aino_ir.driver.pipeline.MOST_CANDIDATES", 3)


def compiled(**options: Any) -> Any:
    return aino.compile(model(), **{"cache": True, "tune": 1000, **options})


def test_second_time_nothing_is_measured(hermetic_cache: object) -> None:
    first = compiled().report.tuning
    assert first["measured"] == 1 and first["remembered"] == 0
    (row,) = [*first["changed"], *first["kept"]]
    assert 2 <= row["candidates"] <= tuning.MOST_CANDIDATES
    assert row["measured_us"] > 0 and row["modelled_us"] > 0
    assert row["measured_us"] <= row["analytic_us"], "never slower than the analytic pick"
    second = compiled(tune=999).report.tuning
    assert second["measured"] == 0 and second["remembered"] == 1


def test_what_is_measured_fastest_is_taken(hermetic_cache: object, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def times(batch: list[Trial], *rest: Any) -> list[list[int]]:
        asked.append(len(batch))
        return [[1_000_000 - 100_000 * i] * rest[3] for i in range(len(batch))]  # the last is the fastest

    monkeypatch.setattr(tuning, "time_trials", times)
    exe = compiled()
    (row,) = exe.report.tuning["changed"]
    assert row["candidate"] != row["analytic"] and row["measured_us"] < row["analytic_us"] == 1000
    kernel = next(k for k in exe.report.kernels if k["kernel"].startswith("matmul"))
    assert kernel["candidate"] == row["candidate"]
    assert f"instead of {row['analytic']}" in str(exe.report)
    (expected,) = aino.compile(model(), "reference").run(X)
    np.testing.assert_allclose(exe.run(X)[0], expected, rtol=1e-5, atol=1e-5)
    assert len(asked) == 2 and asked[0] > 2 and asked[1] == 2, "all, then the two"


def test_noise_does_not_change_the_pick(hermetic_cache: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "time_trials", lambda batch, *_: [[1000 - i] for i in range(len(batch))])
    report = compiled().report.tuning
    assert report["changed"] == [] and len(report["kept"]) == 1


def test_win_that_is_not_repeated_does_not_change_the_pick(
    hermetic_cache: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a busy machine the analytic pick may be unlucky once; most turns of the second time decide."""

    def times(batch: list[Trial], *rest: Any) -> list[list[int]]:
        if len(batch) > 2:
            return [[9000], *[[1000]] * (len(batch) - 1)]
        return [[2000] * rest[3], [1900] + [2100] * (rest[3] - 1)]

    monkeypatch.setattr(tuning, "time_trials", times)
    report = compiled().report.tuning
    assert report["changed"] == [] and report["kept"][0]["measured_us"] == 2.0


def test_candidate_that_crashes_is_left_out(hermetic_cache: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "time_trials", lambda batch, *_: [[1000], *[[]] * (len(batch) - 1)])
    (row,) = compiled().report.tuning["kept"]
    assert row["candidates"] == 1


def test_budget_that_is_spent_is_told(hermetic_cache: object) -> None:
    report = compiled(tune=1e-9).report.tuning
    assert report["measured"] == 0 and set(report["skipped"].values()) == {"the budget was spent"}


def test_level_3_measures_and_level_2_does_not(hermetic_cache: object) -> None:
    assert compiled(tune=0, level=3).report.tuning["budget"] == tuning.DEFAULT_SECONDS
    assert compiled(tune=0, level=2).report.tuning == {}


def test_records_are_readable_text(store: Store) -> None:
    records = TuningRecords(store, parse_target("c:portable"), 2, "gcc 12.2.0")
    record = Record("ab" * 32, ("contract", "tile 4x16"), ("map", "m"), 1.5, 2.5, 3.5, 4, "a\tb", 9.5)
    assert records.find(record.spec) is None
    records.add(record)
    text = records.path.read_text()
    assert text.startswith("# aino tuning records 2\n# cpu: ") and "\ncompiler" not in text
    assert "# threads: 2" in text and "contract: tile 4x16\tmap: m\t1.5\t2.5\t3.5\t9.5\t4\ta b\n" in text
    with records.path.open("a") as file:
        file.write("nonsense\n" + record.line().replace("1.5", "x") + "\n")
    again = TuningRecords(store, parse_target("c:portable"), 2, "gcc 12.2.0")
    found = again.find(record.spec)
    assert found is not None and found.candidate == record.candidate and found.ops == "a b"
    other = TuningRecords(store, parse_target("c:portable"), 1, "gcc 12.2.0")
    assert other.find(record.spec) is None, "another number of threads is another device"
