"""The figures of `benchmarks.gpu`: lines of JSON, written at once, and what they say of the goals."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.gpu_apart import begun, done

OWN = "aino"
"""The engine that everything else is compared with."""


class Rows:
    """The figures of this and earlier calls, one line of JSON each.

    Args:
        path: of the file; lines are added to it.
        common: what every row of this call has: device, versions.
    """

    def __init__(self, path: Path, common: dict[str, Any]) -> None:
        self.path = path
        self.common = common
        self._keys = tuple(sorted(common))
        self._known = {self._key(row): row for row in read_rows(path)}

    def _key(self, row: dict[str, Any]) -> tuple[Any, ...]:
        named = (row.get("section"), row.get("case"), row.get("engine", OWN))
        return (*named, *(str(row.get(k)) for k in self._keys))

    def find(self, section: str, case: str, engine: str = OWN) -> dict[str, Any] | None:
        """The row of a case, if it has been run already with these versions on this device."""
        return self._known.get(self._key({"section": section, "case": case, "engine": engine, **self.common}))

    def begin(self, section: str, case: str, engine: str = OWN) -> None:
        """Note that a case is begun, for whoever finds out how it ended if this process does not."""
        begun(self.path, {"section": section, "case": case, "engine": engine, **self.common})

    def add(self, section: str, case: str, engine: str = OWN, **figures: Any) -> None:
        """Write a row, at once."""
        named = {"section": section, "case": case, "engine": engine}
        row = {**named, **figures, **self.common}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, sort_keys=True) + "\n")
            file.flush()
        self._known[self._key(row)] = row
        done(self.path)
        print(json.dumps({**named, **figures}, sort_keys=True), flush=True)

    @property
    def present(self) -> list[dict[str, Any]]:
        """The rows of this device and these versions."""
        wanted = tuple(str(self.common[k]) for k in self._keys)
        return [row for key, row in self._known.items() if key[3:] == wanted]


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a file, if there is one."""
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.strip():
                yield json.loads(line)


ORIGIN = ("aino", "architecture", "device", "driver", "dry", "python", "source", "torch")
"""What rows say of where they come from."""


def latest(path: Path) -> list[dict[str, Any]]:
    """The rows of a file that come from where its last one does."""
    rows = list(read_rows(path))
    if not rows:
        return []
    return Rows(path, {name: rows[-1][name] for name in ORIGIN if name in rows[-1]}).present


@dataclass(frozen=True)
class Goal:
    """What a section has to reach.

    Attributes:
        peer: the engine, or ``copy`` for the measured bandwidth of copies, or empty: every case is right.
        share: of the peer's speed.
        figure: AINO's that counts; of networks it has what the host does before each run, as the peer's has.
    """

    peer: str = ""
    share: float = 1.0
    figure: str = "value"


GOALS = {
    "correctness": Goal(),
    "libraries": Goal(),
    "suite": Goal(),
    "sanitizer": Goal(),
    "bandwidth": Goal("copy", 0.85),
    "norms": Goal("torch.compile"),
    "mma": Goal("torch", 0.60),
    "wgmma": Goal("torch", 0.85),
    "gemv": Goal("copy", 0.75),
    "attention": Goal("torch", 0.60),
    "networks": Goal("torch.compile", figure="ms a call"),
}
"""Section -> its goal; torch's own products are cuBLAS's, its attention is FlashAttention."""


def shares(rows: list[dict[str, Any]]) -> Iterator[tuple[str, str, float | None, bool]]:
    """(section, case, share of the peer's speed, whether that is the goal) of every case with a figure.

    The share is None where the goal is to be right.
    """
    copy = next((r["value"] for r in rows if r["case"] == "copy" and r["value"]), None)
    values = {(r["section"], r["case"], r.get("engine", OWN)): r for r in rows}
    for (section, case, engine), row in values.items():
        if engine != OWN or case == "copy" or row["value"] is None:
            continue
        goal = GOALS[section]
        if not goal.peer:
            yield section, case, None, row["value"] is True
            continue
        if goal.peer == "copy":
            share = row["GB/s"] / copy if copy else None
        else:
            peer = values.get((section, case, goal.peer), {}).get("value")
            share = peer / row[goal.figure] if isinstance(peer, float) else None
        if share is not None:
            yield section, case, round(share, 3), share >= goal.share and row.get("right", True)


def summary(rows: list[dict[str, Any]]) -> str:
    """A line for each section: how many cases reach its goal, and the least and greatest share."""
    found: dict[str, list[tuple[float | None, bool]]] = {}
    for section, _, share, reached in shares(rows):
        found.setdefault(section, []).append((share, reached))
    lines = []
    for section, goal in GOALS.items():
        if section not in found:
            lines.append(f"{section:12} no figures")
            continue
        several = found[section]
        count = sum(reached for _, reached in several)
        text = f"{section:12} {count} of {len(several)} reach the goal"
        measured = [s for s, _ in several if s is not None]
        if measured:
            text += f" ({goal.share:.2f} of {goal.peer}): {min(measured):.2f} to {max(measured):.2f}"
        lines.append(text)
    return "\n".join(lines)
