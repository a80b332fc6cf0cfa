"""Every kernel of a model built by TVM beside what the target `c` has for the same nodes, by time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import aino_ir as aino
from aino_ir.runtime.profile import ProfileRow
from aino_ir.runtime.tables import format_table
from benchmarks.workloads import Workload

HEADINGS = ("kernel", "calls", "ms", "%", "GFLOP/s", "c ms", "c GFLOP/s", "times", "made by", "by c")

PROFILES, RUNS = 5, 3
"""How often all kernels are measured: the best of the medians counts, call by call."""


@dataclass
class Calls:
    """All calls of one kernel.

    Attributes:
        ms: what they take together on thread 0.
        work: operations, in units of a million.
        nodes: where they come from.
        made: by which generator, and how.
    """

    made: str
    count: int = 0
    ms: float = 0.0
    work: float = 0.0
    nodes: set[str] = field(default_factory=set)

    @property
    def gflops(self) -> float:
        """Billions of operations a second."""
        return self.work / self.ms if self.ms else 0.0


def calls_by_kernel(rows: Iterable[ProfileRow], made: Mapping[int, str]) -> dict[str, Calls]:
    """The calls of each kernel; `made` says by the number of a step what makes it."""
    found: dict[str, Calls] = {}
    for row in rows:
        calls = found.setdefault(row.kernel, Calls(made.get(row.step, "")))
        calls.count += row.calls
        calls.ms += row.ms
        calls.work += row.gflops * row.ms
        calls.nodes |= set(row.nodes)
    return found


def beside(ours: Mapping[str, Calls], other: Mapping[str, Calls]) -> dict[str, Calls]:
    """For each of our kernels what the other's do for the same nodes.

    A kernel that shares nodes with several of ours counts with the one it shares the most with.
    """
    shared: dict[str, Calls] = defaultdict(lambda: Calls(""))
    for calls in other.values():
        best = max(ours, key=lambda name: len(ours[name].nodes & calls.nodes), default=None)
        if best is None or not ours[best].nodes & calls.nodes:
            continue
        found = shared[best]
        found.count += calls.count
        found.ms += calls.ms
        found.work += calls.work
        found.made = "; ".join(filter(None, dict.fromkeys([*found.made.split("; "), calls.made])))
    return dict(shared)


def table(ours: Mapping[str, Calls], other: Mapping[str, Calls]) -> str:
    """The kernels, the slowest first, and the sums."""
    twins = beside(ours, other)
    whole = sum(calls.ms for calls in ours.values()) or 1.0
    rows = []
    for name, calls in sorted(ours.items(), key=lambda item: -item[1].ms):
        share = f"{100 * calls.ms / whole:.1f}"
        twin = twins.get(name, Calls(""))
        figures = (
            [f"{twin.ms:.3f}", f"{twin.gflops:.1f}", f"{calls.ms / twin.ms:.2f}"] if twin.ms else [""] * 3
        )
        mine = [name, calls.count, f"{calls.ms:.3f}", share, f"{calls.gflops:.1f}"]
        rows.append([*mine, *figures, calls.made, twin.made])
    others = sum(calls.ms for calls in other.values())
    end = f"{whole:.2f} ms in kernels, {others:.2f} on c"
    return "\n".join([format_table(HEADINGS, rows, right=tuple(range(1, 8))), end])


def kernels(made: Workload, target: str, other: str, threads: int) -> str:
    """The table of a network on two targets."""
    return table(profiled(made, target, threads), profiled(made, other, threads))


def profiled(made: Workload, target: str, threads: int) -> dict[str, Calls]:
    """The kernels of a network on a target."""
    exe: Any = aino.compile(made.path, target, threads=threads)
    names = {int(k["step"]): k["candidate"] for k in exe.report.kernels}
    profiles = [exe.profile(dict(made.inputs), runs=RUNS).rows for _ in range(PROFILES)]
    best = [min(calls, key=lambda row: row.ms) for calls in zip(*profiles, strict=True)]
    return calls_by_kernel(best, names)
