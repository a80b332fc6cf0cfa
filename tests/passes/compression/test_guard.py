"""The guard: layers that do not pay stay, the floor holds with as few layers taken back as possible."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

import numpy as np
import pytest

from aino_ir.builder import Builder
from aino_ir.errors.compression import BadMetric, MetricNeeded
from aino_ir.graph import Module
from aino_ir.passes.compression.guard import Floor, Proposal, constant_bytes, guarded, sqnr
from aino_ir.passes.compression.report import CompressionReport, LayerRow
from aino_ir.types import tensor

NAMES = ("a", "b", "c", "d", "e")
ERRORS = {"a": 0.001, "b": 0.3, "c": 0.002, "d": 0.2, "e": 0.0005}


def summing(offsets: dict[str, float]) -> Module:
    """y = x + the sum of offsets."""
    b = Builder()
    value = b.input("x", tensor("f32", 4))
    for name in NAMES:
        value = b.add(value, b.constant(np.full(4, offsets.get(name, 0.0), np.float32)))
    b.output("y", value)
    b.finish()
    return b.module


def proposals() -> list[Proposal]:
    return [
        Proposal(
            LayerRow(n, "math.add", sqnr=-20 * np.log10(ERRORS[n]), bytes_before=8, bytes_after=4, macs=10)
        )
        for n in NAMES
    ]


def build(chosen: frozenset[str]) -> Module:
    build.calls.append(chosen)  # type: ignore[attr-defined]
    return summing({n: ERRORS[n] for n in chosen})


@pytest.fixture(autouse=True)
def _fresh() -> None:
    build.calls = []  # type: ignore[attr-defined]


SAMPLES = [(np.linspace(1, 2, 4, dtype=np.float32),)]


def run(floor: Floor, **options) -> tuple[Module, CompressionReport]:
    return guarded("test", summing({}), proposals(), build, floor, **options)


@dataclass
class Whole:
    """Says what modules take by the layers that are compressed in them."""

    kind: str = "modelled"
    known: dict[int, frozenset[str]] = field(default_factory=dict)

    def build(self, chosen: frozenset[str]) -> Module:
        module = build(chosen)
        self.known[id(module)] = chosen
        return module

    def seconds(self, module: Module) -> float:
        """Two layers need conversions that cost more than they gain."""
        chosen = self.known.get(id(module), frozenset())
        return 10.0 + 2.0 * len(chosen & {"a", "b"}) - len(chosen & {"c", "d", "e"})

    def times(self, before: Module, after: Module, beside: int = 0) -> tuple[float, float]:
        return self.seconds(before), self.seconds(after)

    def stored_bytes(self, module: Module) -> int:
        return 0


def test_what_makes_the_whole_slower_is_taken_back_least_gain_first() -> None:
    timing, asked = Whole(), proposals()
    for gain, proposal in enumerate(asked, 1):
        proposal.row.seconds_before, proposal.row.seconds_after = 10.0, 10.0 - gain
    module, report = guarded("test", summing({}), asked, timing.build, Floor(), timing)
    assert [r.name for r in report.refused] == ["a"]
    assert "whole model would be slower" in report.row("a").reason
    assert timing.seconds(module) == 9.0


def test_a_whole_that_is_faster_is_asked_about_once() -> None:
    timing, asked = Whole(), proposals()[2:]
    _, report = guarded("test", summing({}), asked, timing.build, Floor(), timing)
    assert [r.name for r in report.applied] == ["c", "d", "e"] and len(timing.known) == 1


def test_all_layers_stay_compressed_where_the_floor_holds() -> None:
    _, report = run(Floor(SAMPLES, min_sqnr=5.0))
    assert [r.name for r in report.applied] == list(NAMES)
    assert report.floor.holds and report.floor.evaluations == 1
    assert report.share_of_macs == 1.0


def test_the_worst_layers_are_taken_back_and_no_more() -> None:
    module, report = run(Floor(SAMPLES, min_sqnr=40.0))
    assert [r.name for r in report.refused] == ["b", "d"]
    assert "floor of 40 dB" in report.row("b").reason
    assert report.floor.holds and report.floor.after is not None and report.floor.after >= 40.0
    assert str(module) == str(build(frozenset("ace")))
    assert report.floor.evaluations <= 4


def test_everything_is_taken_back_where_nothing_holds() -> None:
    module, report = run(Floor(SAMPLES, min_sqnr=1000.0))
    assert not report.applied and report.share_of_macs == 0.0
    assert str(module) == str(summing({}))
    assert report.floor.after == float("inf")


def test_a_metric_decides_by_its_drop() -> None:
    def closeness(model) -> float:
        return -float(np.abs(model(*SAMPLES[0])[0] - SAMPLES[0][0]).max())

    _, report = run(Floor(SAMPLES, metric=closeness, max_drop=0.01))
    assert {r.name for r in report.refused} == {"b", "d"}
    assert report.floor.quantity == "metric" and report.floor.before == 0.0 and report.floor.least == -0.01


def test_without_the_guard_nothing_is_taken_back() -> None:
    _, report = run(Floor(SAMPLES, min_sqnr=40.0), guard=False)
    assert len(report.applied) == 5 and not report.floor.holds


def test_without_data_the_report_says_that_nothing_was_checked() -> None:
    _, report = run(Floor())
    assert len(report.applied) == 5
    assert "not checked" in str(report)


class Clock:
    """Says that every layer but one gets faster."""

    kind = "modelled"

    def __init__(self) -> None:
        self.asked: list[Module] = []

    def times(self, before: Module, after: Module, beside: int = 0) -> tuple[float | None, float | None]:
        self.asked += [before, after]
        known = {"quick": 1e-6, "slow": 2e-6}
        return known.get(before.name), known.get(after.name)

    def stored_bytes(self, module: Module) -> int:
        return 0


class Stopwatch(Clock):
    """Every layer alone is quick, all of them together are not."""

    kind = "measured"

    def times(self, before: Module, after: Module, beside: int = 0) -> tuple[float | None, float | None]:
        return (2e-6, 1e-6) if before.name == "slow" else (1e-6, 2e-6)


def named(name: str) -> Module:
    return Module(name)


def test_what_is_slower_or_larger_stays() -> None:
    rows = [LayerRow(n, "op", bytes_before=8, bytes_after=4) for n in "abcd"]
    rows[2].bytes_after = 9
    rows[3].refuse("ignored")
    alone = {"a": ("slow", "quick"), "b": ("quick", "slow"), "c": ("slow", "quick"), "d": ("slow", "quick")}
    found = [Proposal(r, alone=lambda pair=alone[r.name]: (named(pair[0]), named(pair[1]))) for r in rows]
    clock = Clock()
    _, report = guarded("test", summing({}), found, build, Floor(SAMPLES, min_sqnr=0.0), clock)
    assert [r.name for r in report.applied] == ["a"]
    assert report.row("a").reason == "2.0 times smaller, 2.0 times faster (modelled)"
    assert report.row("b").reason == "it would be slower: 1.0 -> 2.0 us (modelled)"
    assert report.row("c").reason == "it would be larger: 8 -> 9 bytes"
    assert report.row("d").reason == "ignored"
    assert len(clock.asked) == 8, "refused layers are not timed, and the whole is once"


def test_a_model_that_is_slower_as_a_whole_stays_as_it_was() -> None:
    rows = [LayerRow(n, "op", bytes_before=8, bytes_after=4) for n in "ab"]
    found = [Proposal(r, alone=lambda: (named("slow"), named("quick"))) for r in rows]
    floor = Floor(SAMPLES, min_sqnr=0.0)
    module, report = guarded("test", summing({}), found, build, floor, Stopwatch())
    assert not report.applied and str(module) == str(summing({}))
    assert all("the model is slower: 1.0 -> 2.0 us (measured)" in r.reason for r in report.rows)
    found = [Proposal(LayerRow("a", "op", bytes_before=8, bytes_after=4))]
    _, report = guarded("test", summing({}), found, build, floor, Stopwatch(), guard=False)
    assert report.applied and "whole model: 1.0 -> 2.0 us (measured)" in str(report)


def test_a_drop_needs_a_metric() -> None:
    with pytest.raises(MetricNeeded, match="max_drop=0.1 was given without a metric"):
        Floor(SAMPLES, max_drop=0.1)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "good", None])
def test_a_metric_must_be_a_number(value) -> None:
    with pytest.raises(BadMetric, match="instead of a finite number"):
        run(Floor(SAMPLES, metric=lambda model: value))


def test_reports_are_tables_and_data() -> None:
    _, report = run(Floor(SAMPLES, min_sqnr=40.0))
    text = str(report)
    assert "3 of 5 layers, 60.0% of the multiply-adds" in text
    assert json.loads(report.to_json())["layers"][1]["applied"] is False
    assert json.loads(report.to_json())["floor"]["holds"] is True


def test_noise_ratios() -> None:
    signal = np.array([3.0, 4.0])
    assert sqnr(signal, signal) == float("inf")
    assert sqnr(signal + 0.5, signal) == pytest.approx(10 * np.log10(25 / 0.5))
    assert sqnr(signal, signal * 0) == float("-inf")


def test_bytes_count_packed_values_and_tied_constants_once() -> None:
    b = Builder()
    x = b.input("x", tensor("f32", 5))
    y = b.add(b.add(x, b.constant(np.ones(5, np.float32))), b.constant(np.ones(5, np.float32)))
    import ml_dtypes

    four = b.cast(b.constant(np.ones(5).astype(ml_dtypes.int4)), to="f32")
    b.output("y", b.add(y, four))
    b.finish()
    assert constant_bytes(b.module) == 20 + 3
