"""The no-regret guard: what is larger, slower or too far off stays as it was.

A compression proposes layers and can build the module with any set of them compressed.  The guard first
looks at each layer alone (bytes, time), then at the whole (its time too, where times are measured): as
long as the floor does not hold, the layers that lost most are taken back, by bisection, so that n layers
cost about log2(n) evaluations.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from numbers import Real
from typing import Any

import numpy as np

from aino_ir.errors.compression import BadMetric, MetricNeeded
from aino_ir.errors.usage import OptionTooSmall
from aino_ir.graph import Module
from aino_ir.interp import run_function
from aino_ir.passes.compression.costs import KernelCosts
from aino_ir.passes.compression.report import CompressionReport, FloorOutcome, LayerRow, WholeTimes

Array = np.ndarray[Any, Any]
Sample = tuple[Array, ...]
"""One array per input of main, in order."""

Run = Callable[..., tuple[Array, ...]]
"""A model as a function of arrays: what a metric gets."""

Metric = Callable[[Run], float]
"""How good a model is; more is better."""

Build = Callable[[frozenset[str]], Module]
"""The module with just these layers compressed (by name); must not change the original."""

MAX_DROP = 0.01
"""What a metric may lose when the caller does not say."""

MODEL_ERROR = 1.1
"""What models of a single layer's time are off by; the whole model is compared without it."""

MIN_SQNR = 20.0
"""Least signal-to-noise ratio in dB of the outputs when there is no metric."""


@dataclass
class Proposal:
    """A layer that can be compressed.

    Attributes:
        row: what is known about it; a row that has a reason is refused already.
        alone: makes (the layer alone as it was, compressed), for timing; None: time is not compared.
    """

    row: LayerRow
    alone: Callable[[], tuple[Module, Module]] | None = None


@dataclass(frozen=True)
class Floor:
    """How far the whole model may be off.

    Attributes:
        samples: calibration inputs.
        metric: how good a model is; None: the outputs' SQNR on the samples.
        max_drop: what the metric may lose.
        min_sqnr: least SQNR in dB where there is no metric.
        runner: makes a module runnable; the interpreter by default.
    """

    samples: Sequence[Sample] = ()
    metric: Metric | None = None
    max_drop: float | None = None
    min_sqnr: float = MIN_SQNR
    runner: Callable[[Module], Run] = field(default=lambda module: interpreted(module))

    def __post_init__(self) -> None:
        if self.max_drop is not None and self.metric is None:
            raise MetricNeeded(max_drop=self.max_drop)
        given: tuple[tuple[str, Any, str], ...] = (
            ("min_sqnr", self.min_sqnr, "-inf"),
            ("max_drop", self.max_drop, "0"),
        )
        for name, value, least in given:
            number = isinstance(value, Real) and not isinstance(value, bool)
            if value is not None and not (number and value >= float(least)):
                raise OptionTooSmall(option=name, kind="number", least=least, got=value)


def interpreted(module: Module) -> Run:
    """A module's outputs by the interpreter, as a function of its inputs."""
    main = module.main
    return lambda *inputs: run_function(main, inputs)[: len(main.output_names)]


def guarded(
    scheme: str,
    original: Module,
    proposals: Sequence[Proposal],
    build: Build,
    floor: Floor,
    timing: KernelCosts | None = None,
    guard: bool = True,
) -> tuple[Module, CompressionReport]:
    """The compressed module with the layers that pay, and what became of each.

    Args:
        scheme: for the report.
        original: the module as it was.
        proposals: every layer that was looked at, in program order.
        build: makes the module for a set of layer names.
        floor: what the whole model must keep.
        timing: tells the time of single layers; None: time is not compared.
        guard: whether anything is taken back; without it the report still tells.

    Raises:
        BadMetric: the metric gave no finite number.
    """
    for proposal in proposals:
        if not proposal.row.reason:
            _time(proposal, timing, constant_bytes(original))
            reason = does_not_pay(proposal.row) if guard else None
            if reason:
                proposal.row.refuse(reason)
    chosen = [p.row for p in proposals if not p.row.reason]
    judge = _Judge(floor, original)
    module = build(frozenset(r.name for r in chosen))
    after = judge.value(module)
    if guard and chosen and not judge.holds(after):
        module, after, chosen = _take_back(judge, build, chosen)
    whole = WholeTimes()
    if timing is not None and chosen:
        whole = _whole(timing, original, module)
        if guard and whole.slower and timing.kind == "measured":
            for row in chosen:
                row.refuse(f"with all that pays alone the model is slower: {whole}")
            module, chosen = original.clone(), []
            after = judge.value(module)
        elif guard and whole.slower:
            module, chosen = _keep_what_pays(timing, original, build, chosen)
            whole = _whole(timing, original, module)
            after = judge.value(module)
    for row in chosen:
        row.applied, row.reason = True, _gain(row)
    report = CompressionReport(scheme, [p.row for p in proposals], judge.outcome(after), whole=whole)
    report.bytes_before, report.bytes_after = constant_bytes(original), constant_bytes(module)
    return module, report


def does_not_pay(row: LayerRow) -> str | None:
    """Why a layer should stay as it was, looked at alone, or None."""
    if row.bytes_after > row.bytes_before:
        return f"it would be larger: {row.bytes_before} -> {row.bytes_after} bytes"
    before, after = row.seconds_before, row.seconds_after
    slack = MODEL_ERROR if row.timing == "modelled" else 1.0
    if before is not None and after is not None and after > slack * before:
        return f"it would be slower: {before * 1e6:.1f} -> {after * 1e6:.1f} us ({row.timing})"
    return None


def sqnr(actual: Any, reference: Any) -> float:
    """Signal-to-quantization-noise ratio in dB; inf where nothing differs."""
    a, r = np.asarray(actual, np.float64), np.asarray(reference, np.float64)
    noise, signal = float(np.sum((a - r) ** 2)), float(np.sum(r**2))
    if noise == 0.0:
        return float("inf")
    return 10.0 * float(np.log10(signal / noise)) if signal > 0.0 else float("-inf")


def constant_bytes(module: Module) -> int:
    """Bytes of a module's distinct constants, values of 4 and 2 bits packed."""
    handles = {op.value.key: op.value for op in module.walk() if op.name == "core.constant"}  # type: ignore[attr-defined]
    return sum(-(-h.size * h.dtype.bits // 8) for h in handles.values())


def _time(proposal: Proposal, timing: KernelCosts | None, stored: int) -> None:
    if timing is None or proposal.alone is None:
        return
    before, after = proposal.alone()
    row = proposal.row
    beside = max(0, stored - row.bytes_before)
    row.seconds_before, row.seconds_after = timing.times(before, after, beside)
    row.timing = timing.kind


def _gain(row: LayerRow) -> str:
    """What a compressed layer gains, in words."""
    parts = []
    if row.bytes_after and row.bytes_after < row.bytes_before:
        parts.append(f"{row.bytes_before / row.bytes_after:.1f} times smaller")
    if row.seconds_before and row.seconds_after and row.seconds_before > 1.005 * row.seconds_after:
        parts.append(f"{row.seconds_before / row.seconds_after:.1f} times faster ({row.timing})")
    return ", ".join(parts) or "asked for"


class _Judge:
    """Says how good modules are, by the metric or by their outputs."""

    def __init__(self, floor: Floor, original: Module) -> None:
        self.floor = floor
        self.evaluations = 0
        self.before: float | None = None
        self.references: list[tuple[Array, ...]] = []
        run = floor.runner(original)
        if floor.metric is not None:
            self.before = self._metric(run)
        else:
            self.references = [run(*sample) for sample in floor.samples]

    @property
    def least(self) -> float | None:
        """The value that must not be undercut; None when nothing can be compared."""
        if self.before is not None:
            drop = self.floor.max_drop if self.floor.max_drop is not None else MAX_DROP
            return self.before - drop
        return self.floor.min_sqnr if self.references else None

    def value(self, module: Module) -> float | None:
        """How good a module is."""
        if self.least is None:
            return None
        self.evaluations += 1
        run = self.floor.runner(module)
        if self.floor.metric is not None:
            return self._metric(run)
        outputs = [run(*sample) for sample in self.floor.samples]
        ratios = []
        for position, reference in enumerate(self.references[0]):
            if np.asarray(reference).dtype.kind != "f":
                continue
            got = np.concatenate([np.asarray(o[position], np.float64).reshape(-1) for o in outputs])
            want = np.concatenate([np.asarray(r[position], np.float64).reshape(-1) for r in self.references])
            ratios.append(sqnr(got, want))
        return min(ratios, default=float("inf"))

    def holds(self, value: float | None) -> bool:
        """Whether a value keeps the floor."""
        return value is None or self.least is None or value >= self.least

    def outcome(self, after: float | None) -> FloorOutcome:
        """What the report says."""
        if after is None:
            return FloorOutcome(note="there is neither a metric nor calibration data")
        quantity = "metric" if self.floor.metric is not None else "output SQNR (dB)"
        return FloorOutcome(quantity, self.before, after, self.least, self.evaluations)

    def _metric(self, run: Run) -> float:
        assert self.floor.metric is not None
        value = self.floor.metric(run)
        number = np.asarray(value)
        if number.size != 1 or number.dtype.kind not in "fiub" or not np.isfinite(number).all():
            raise BadMetric(got=repr(value))
        return float(number.reshape(()))


def _whole(timing: KernelCosts, original: Module, module: Module) -> WholeTimes:
    """The times of both as wholes: what stands between layers counts."""
    return WholeTimes(*timing.times(original, module), timing.kind)


def _keep_what_pays(
    timing: KernelCosts, original: Module, build: Build, rows: list[LayerRow]
) -> tuple[Module, list[LayerRow]]:
    """The fewest layers taken back, those that gain least first, so that the whole is no slower."""

    def gain(row: LayerRow) -> float:
        known = row.seconds_before is not None and row.seconds_after is not None
        return row.seconds_before - row.seconds_after if known else 0.0  # type: ignore[operator]

    least_first = sorted(rows, key=lambda r: (gain(r), r.name))
    low, high = 1, len(rows)  # with all of them taken back it is the original
    best: Module | None = None
    while low < high:
        middle = (low + high) // 2
        module = build(frozenset(r.name for r in least_first[middle:]))
        if _whole(timing, original, module).slower:
            low = middle + 1
        else:
            high, best = middle, module
    if best is None:
        best = build(frozenset(r.name for r in least_first[high:]))
    for row in least_first[:high]:
        row.refuse("with it the whole model would be slower: it gains less than converting its data costs")
    kept = set(map(id, least_first[high:]))
    return best, [r for r in rows if id(r) in kept]


def _take_back(
    judge: _Judge, build: Build, rows: list[LayerRow]
) -> tuple[Module, float | None, list[LayerRow]]:
    """The fewest layers taken back, the worst first, so that the floor holds."""
    worst_first = sorted(rows, key=lambda r: (r.sqnr if r.sqnr is not None else 0.0, r.name))
    low, high = 1, len(rows)  # taking back `high` of them leaves the original, which holds
    best: tuple[Module, float | None] | None = None
    while low < high:
        middle = (low + high) // 2
        module = build(frozenset(r.name for r in worst_first[middle:]))
        value = judge.value(module)
        if judge.holds(value):
            high, best = middle, (module, value)
        else:
            low = middle + 1
    if best is None:
        module = build(frozenset(r.name for r in worst_first[high:]))
        best = module, judge.value(module)
    assert judge.least is not None
    for row in worst_first[:high]:
        unit = "" if judge.floor.metric is not None else " dB"
        row.refuse(f"with it the model falls below the floor of {judge.least:.6g}{unit}")
    kept = set(map(id, worst_first[high:]))
    return *best, [r for r in rows if id(r) in kept]
