"""What a compression did, layer by layer: bits, sparsity, error, bytes, time, and the reason."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

NOISE = 1.03
"""Two measured times are told apart from here on."""

COLUMNS = ("layer", "op", "state", "bits", "sparsity", "SQNR dB", "max error", "bytes", "time us", "reason")


@dataclass
class LayerRow:
    """One layer (or group of layers that changes together).

    Attributes:
        name: the user's name for it (see `layers.py`).
        op: name of the op.
        applied: whether the compressed form is in the module.
        reason: why it is, or why it is not.
        bits: bits that a weight takes in the compressed form.
        sparsity: share of its weights that are zero or gone, 0..1.
        sqnr: signal-to-noise ratio in dB of what the scheme compares (`measured_on`); None: not known.
        max_error: largest absolute difference there.
        measured_on: "output", "weights", or "" when nothing was compared.
        bytes_before, bytes_after: of its constants, as the artifact stores them.
        seconds_before, seconds_after: of one run; None when not known.
        timing: "modelled", "measured", or "".
        macs: multiply-adds of one run before compression (0: unknown or symbolic).
    """

    name: str
    op: str
    applied: bool = False
    reason: str = ""
    bits: float | None = None
    sparsity: float = 0.0
    sqnr: float | None = None
    max_error: float | None = None
    measured_on: str = ""
    bytes_before: int = 0
    bytes_after: int = 0
    seconds_before: float | None = None
    seconds_after: float | None = None
    timing: str = ""
    macs: int = 0

    def refuse(self, reason: str) -> None:
        """Leave the layer as it was, for a reason."""
        self.applied = False
        self.reason = reason

    def cells(self) -> tuple[str, ...]:
        """The row of the printed table."""
        times = (self.seconds_before, self.seconds_after)
        return (
            self.name,
            self.op,
            "applied" if self.applied else "kept",
            "" if self.bits is None else f"{self.bits:g}",
            f"{self.sparsity:.0%}" if self.sparsity else "",
            "" if self.sqnr is None else f"{self.sqnr:.1f}",
            "" if self.max_error is None else f"{self.max_error:.3g}",
            f"{self.bytes_before} -> {self.bytes_after}" if self.bytes_after else str(self.bytes_before),
            " -> ".join("?" if t is None else f"{t * 1e6:.1f}" for t in times) if self.timing else "",
            self.reason,
        )


@dataclass
class FloorOutcome:
    """What was asked of the whole model, and what it gives.

    Attributes:
        quantity: what is compared: "metric", "output SQNR (dB)", or "" when nothing could be.
        before, after: its value for the original and the result (an SQNR has no value before).
        least: the value that must not be undercut.
        evaluations: candidate models that were run.
        note: why nothing was compared, or what else there is to say.
    """

    quantity: str = ""
    before: float | None = None
    after: float | None = None
    least: float | None = None
    evaluations: int = 0
    note: str = ""

    @property
    def holds(self) -> bool:
        """Whether the result keeps the floor (true when nothing could be compared)."""
        return self.after is None or self.least is None or self.after >= self.least

    def __str__(self) -> str:
        if not self.quantity:
            return f"floor: not checked ({self.note})"
        before = "" if self.before is None else f"{self.before:.6g} before, "
        text = f"floor: {self.quantity} {before}{self.after:.6g} after, at least {self.least:.6g} wanted"
        return f"{text} ({self.note})" if self.note else text


@dataclass(frozen=True)
class WholeTimes:
    """Seconds of one run of the whole model, original and result; None where they were not measured."""

    before: float | None = None
    after: float | None = None
    timing: str = ""

    @property
    def slower(self) -> bool:
        """Whether the result is slower by more than what a clock cannot tell."""
        return self.before is not None and self.after is not None and self.after > NOISE * self.before

    def __str__(self) -> str:
        if self.before is None or self.after is None:
            return "not timed"
        return f"{self.before * 1e6:.1f} -> {self.after * 1e6:.1f} us ({self.timing})"


@dataclass
class CompressionReport:
    """What a compression did to a module.

    Attributes:
        scheme: what was asked for, as text.
        rows: one per layer, in program order.
        floor: what became of the accuracy.
        bytes_before, bytes_after: constants of the whole module, as an artifact stores them.
        whole: the times of the whole model.
        notes: what else there is to say, such as patterns that meant no layer.
    """

    scheme: str
    rows: list[LayerRow] = field(default_factory=list)
    floor: FloorOutcome = field(default_factory=FloorOutcome)
    bytes_before: int = 0
    bytes_after: int = 0
    whole: WholeTimes = field(default_factory=WholeTimes)
    notes: list[str] = field(default_factory=list)

    @property
    def applied(self) -> list[LayerRow]:
        """Layers that are compressed."""
        return [r for r in self.rows if r.applied]

    @property
    def refused(self) -> list[LayerRow]:
        """Layers that stayed as they were."""
        return [r for r in self.rows if not r.applied]

    @property
    def share_of_macs(self) -> float:
        """Share of the multiply-adds of all listed layers that compressed layers do, 0..1."""
        total = sum(r.macs for r in self.rows)
        return sum(r.macs for r in self.applied) / total if total else 0.0

    def row(self, name: str) -> LayerRow:
        """The row of a layer."""
        return next(r for r in self.rows if r.name == name)

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain data."""
        return {
            "scheme": self.scheme,
            "layers": [asdict(r) for r in self.rows],
            "floor": {**asdict(self.floor), "holds": self.floor.holds},
            "bytes_before": self.bytes_before,
            "bytes_after": self.bytes_after,
            "share_of_macs": self.share_of_macs,
            "whole": asdict(self.whole),
            "notes": list(self.notes),
        }

    def to_json(self) -> str:
        """The report as JSON, keys sorted."""
        return json.dumps(self.to_dict(), indent=1, sort_keys=True)

    def __str__(self) -> str:
        table = [COLUMNS, *(r.cells() for r in self.rows)]
        widths = [max(len(row[i]) for row in table) for i in range(len(COLUMNS))]
        lines = [
            "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in table
        ]
        summary = (
            f"{self.scheme}: {len(self.applied)} of {len(self.rows)} layers, "
            f"{self.share_of_macs:.1%} of the multiply-adds, "
            f"constants {self.bytes_before} -> {self.bytes_after} bytes"
        )
        timed = [f"whole model: {self.whole}"] if self.whole.timing else []
        notes = [f"note: {note}" for note in self.notes]
        return "\n".join([*lines, summary, *timed, str(self.floor), *notes])
