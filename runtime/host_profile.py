"""Where the time of a host program goes: kernels of native functions, and ops that run in Python."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from aino_ir.errors.run import NoProfile
from aino_ir.errors.usage import OptionTooSmall
from aino_ir.ops.call import Call
from aino_ir.runtime.host import HostProgram, Lap
from aino_ir.runtime.profile import WARM_UP_RUNS, Profile, ProfileRow, kernel_rows

PYTHON = "python"
"""What stands for the kernel of an op that runs in Python."""


def measure_host(
    program: HostProgram, values: Sequence[Any], kernels: Sequence[Mapping[str, Any]], runs: int, threads: int
) -> Profile:
    """Run a host program again and again with its step times noted.

    Args:
        program: the program.
        values: its inputs, checked.
        kernels: the report's rows of the kernel calls of all its functions.
        runs: how many runs to measure.
        threads: threads that a run may use.

    Raises:
        NoProfile: the library does not note times.
        OptionTooSmall: `runs` is below 1.
    """
    if runs < 1:
        raise OptionTooSmall(option="runs", kind="whole number", least=1, got=runs)
    if not all(s.native.notes_times for s in program.steps if s.native is not None):
        raise NoProfile(reason="its library was made without the entry for it")
    laps = []
    for _ in range(WARM_UP_RUNS + runs):
        laps.append(Lap())
        program.run(values, laps[-1])
    laps = laps[WARM_UP_RUNS:]
    whole = statistics.median(lap.marks[-1] - lap.marks[0] for lap in laps) / 1e6
    symbols = {n: v for lap in laps[-1:] for found in lap.symbols.values() for n, v in found.items()}
    return Profile(tuple(_rows(program, laps, kernels)), whole, runs, threads, symbols)


def _rows(
    program: HostProgram, laps: Sequence[Lap], kernels: Sequence[Mapping[str, Any]]
) -> Iterator[ProfileRow]:
    spans = np.median(np.diff([lap.marks for lap in laps], axis=1), axis=0) / 1e6
    starts = np.concatenate([[0.0], np.cumsum(spans)])
    for number, step in enumerate(program.steps):
        start, ms = float(starts[number]), float(spans[number])
        if step.native is None:
            nodes = step.op.loc.entries
            yield ProfileRow(number, PYTHON, step.op.name, tuple(nodes), start, ms, 0.0, 0.0, 0.0)
            continue
        assert isinstance(step.op, Call)
        times = np.stack([lap.times[number] for lap in laps])
        mine = [row for row in kernels if row.get("function") == step.op.callee]
        yield from kernel_rows(times, mine, laps[-1].symbols[number], start)
