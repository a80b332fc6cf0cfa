"""Tuning records: a text file a device, one line a kernel, that people can read and delete.

The file lies in the cache folder; its name is a hash of the device's facts, which stand in its first
lines.  Lines are appended by single writes, so that several processes may tune at once; the last line
about a kernel counts, and lines that make no sense are passed over.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from aino_ir.runtime.fileio import disk_errors
from aino_ir.runtime.store import Store, digest
from aino_ir.target import Target, detect_host

FORMAT = "aino tuning records 2"
FOLDER = "tuning"
COLUMNS = (
    "spec",
    "candidate",
    "analytic",
    "modelled us",
    "measured us",
    "analytic us",
    "library us",
    "tried",
    "ops",
)


@dataclass(frozen=True)
class Record:
    """What was found out about one kernel.

    Attributes:
        spec: hash of what it computes.
        candidate: (generator, name) of the one to take.
        analytic: (generator, name) of the one that the model prefers.
        modelled_us, measured_us: microseconds of the one to take.
        analytic_us: measured microseconds of the model's.
        candidates: how many were measured.
        ops: what it computes, for people.
        library_us: measured microseconds of a library's call; 0: none was measured.
    """

    spec: str
    candidate: tuple[str, str]
    analytic: tuple[str, str]
    modelled_us: float
    measured_us: float
    analytic_us: float
    candidates: int
    ops: str
    library_us: float = 0.0

    def line(self) -> str:
        """The record as a line of text, columns separated by tabs."""
        figures = (self.modelled_us, self.measured_us, self.analytic_us, self.library_us)
        parts = [self.spec, ": ".join(self.candidate), ": ".join(self.analytic), *map(str, figures)]
        return "\t".join([*parts, str(self.candidates), " ".join(self.ops.split())])

    @staticmethod
    def parse(line: str) -> Record | None:
        """The record that a line holds, or None."""
        parts = line.rstrip("\n").split("\t")
        if len(parts) != len(COLUMNS) or ": " not in parts[1] or ": " not in parts[2]:
            return None
        try:
            modelled, measured, analytic, library = map(float, parts[3:7])
            tried = int(parts[7])
        except ValueError:
            return None
        first, second = (tuple(p.split(": ", 1)) for p in parts[1:3])
        return Record(
            parts[0],
            (first[0], first[1]),
            (second[0], second[1]),
            modelled,
            measured,
            analytic,
            tried,
            parts[8],
            library,
        )


class TuningRecords:
    """The records of one device.

    Args:
        store: whose folder they lie in.
        target: the ISA variant.
        threads: threads of a run.
        compiler: family and version.
    """

    def __init__(self, store: Store, target: Target, threads: int, compiler: str) -> None:
        self.store = store
        self.facts = {
            "cpu": detect_host().cpu,
            "isa": target.isa,
            "threads": threads,
            "caches": f"{target.l1_bytes} {target.l2_bytes} {target.l3_bytes}",
            "compiler": compiler,
        }
        self._records: dict[str, Record] | None = None

    @property
    def path(self) -> Path:
        """The file."""
        name = digest(FORMAT, *(str(p) for item in self.facts.items() for p in item))[:16]
        return self.store.side_folder(FOLDER) / f"{name}.tsv"

    def find(self, spec: str) -> Record | None:
        """The record about a kernel, or None."""
        if self._records is None:
            self._records = {r.spec: r for r in self._read()}
        return self._records.get(spec)

    def add(self, record: Record) -> None:
        """Keep a record."""
        self.find(record.spec)
        assert self._records is not None
        self._records[record.spec] = record
        disk = self.store.disk
        head = [f"# {FORMAT}", *(f"# {k}: {v}" for k, v in self.facts.items()), "# " + "\t".join(COLUMNS)]
        with disk_errors(self.path):
            fd = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                lines = [*([] if os.fstat(fd).st_size else head), record.line()]
                disk.write(fd, ("\n".join(lines) + "\n").encode("utf-8", "replace"))
            finally:
                disk.close(fd)

    def _read(self) -> list[Record]:
        try:
            text = self.path.read_text(encoding="utf-8", errors="replace")
        except OSError:
            return []
        found = (Record.parse(line) for line in text.splitlines() if not line.startswith("#"))
        return [r for r in found if r is not None]
