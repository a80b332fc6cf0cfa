"""Parts of `benchmarks.gpu` in processes of their own, so that none takes the others with it.

A kernel that faults makes the context of its process useless; a compiler of a peer's may hang, or take all
the memory.  A part that ends before its time is begun again: what it was at has a row by then that says how
it ended, and is not tried again.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

GRACE = 60.0
"""Seconds that a part may go on after its time: the case that it is at."""

COMPLETE, TIME_IS_UP, CONTEXT_LOST, NO_DEVICE = 0, 5, 6, 4
"""Exit statuses of a part; after any other one it was at a case, or there is no going on."""

Part = tuple[str, str]
"""Section and engine."""


def marker(rows: Path) -> Path:
    """The file that says which case is being run."""
    return rows.with_suffix(".begun")


def begun(rows: Path, row: dict[str, Any]) -> None:
    """Note what is begun; `row` is what its figures will be added to."""
    marker(rows).write_text(json.dumps(row, sort_keys=True), encoding="utf-8")


def done(rows: Path) -> None:
    """It is over, whatever came of it."""
    marker(rows).unlink(missing_ok=True)


def run_parts(
    parts: Sequence[Part],
    rows: Path,
    command: Callable[[Part, float], Sequence[str]],
    seconds: Callable[[str], float],
) -> int:
    """Run parts one after the other; the status of them all.

    Args:
        parts: what to run.
        rows: the file that they add to.
        command: makes the command of a part that has so many seconds.
        seconds: how many a part of a section may take now; none: nothing more is begun.
    """
    worst = COMPLETE
    for part in parts:
        status = _run_part(part, rows, command, seconds)
        if status == NO_DEVICE:
            return NO_DEVICE
        worst = worst or (TIME_IS_UP if status else COMPLETE)
    return worst


def _run_part(
    part: Part, rows: Path, command: Callable[[Part, float], Sequence[str]], seconds: Callable[[str], float]
) -> int:
    """One part, begun again as long as each attempt finishes a case."""
    end = time.monotonic() + seconds(part[0])
    while True:
        left = end - time.monotonic()
        if left <= 0:
            print(f"{part[0]} of {part[1]}: no time is left; call again to go on", flush=True)
            return TIME_IS_UP
        done(rows)
        status = _status_of(command(part, left), left + GRACE)
        if status in (COMPLETE, TIME_IS_UP, NO_DEVICE):
            return status
        if status != CONTEXT_LOST and not _note_end(rows, status):
            print(f"{part[0]} of {part[1]}: ended with status {status} before its first case", flush=True)
            return status


def _status_of(command: Sequence[str], seconds: float) -> int:
    """How a process ends, after so many seconds at the latest; what it has started ends with it."""
    with subprocess.Popen([sys.executable, *command], start_new_session=True) as process:
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            return -signal.SIGKILL
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def _note_end(rows: Path, status: int) -> bool:
    """Write a row for the case that a process did not survive; whether there was one."""
    if not marker(rows).exists():
        return False
    row = json.loads(marker(rows).read_text(encoding="utf-8"))
    row |= {"what": "error", "value": None, "error": f"the process ended with status {status}"}
    with rows.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row, sort_keys=True) + "\n")
    print(json.dumps(row, sort_keys=True), flush=True)
    done(rows)
    return True
