"""Where the time of a run goes: one row a kernel call, as a table, as JSON, or as a Chrome trace.

Thread 0 adds up the time of each of its steps; the steps of the other threads run beside it.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from aino_ir.dims import parse_dim
from aino_ir.errors.run import NoProfile
from aino_ir.errors.usage import OptionTooSmall
from aino_ir.runtime.function import Model
from aino_ir.runtime.tables import format_table

WARM_UP_RUNS = 2


@dataclass(frozen=True)
class ProfileRow:
    """One kernel call.

    Attributes:
        step: its number in the plan.
        kernel: the kernel's name.
        ops: what it computes.
        nodes: where it comes from in the model.
        start_ms: when it began, from the beginning of the run.
        ms: how long thread 0 was in it (median over runs), all turns of loops together.
        calls: how often it was called: once, or as often as loops and branches came to it.
        wait_ms: how long thread 0 then waited for the others.
        gflops: billions of operations per second.
        gbytes: billions of bytes per second that it must at least have moved.
    """

    step: int
    kernel: str
    ops: str
    nodes: tuple[str, ...]
    start_ms: float
    ms: float
    wait_ms: float
    gflops: float
    gbytes: float
    calls: int = 1

    @property
    def loc(self) -> str:
        """Where it comes from, as text."""
        return ", ".join(self.nodes)


@dataclass(frozen=True)
class Profile:
    """A model's profile.

    Attributes:
        rows: one a kernel call, in order.
        ms: a whole run (median).
        runs: how many runs were measured.
        threads: threads that a run could use.
    """

    rows: tuple[ProfileRow, ...]
    ms: float
    runs: int
    threads: int = 1
    symbols: Mapping[str, int] = field(default_factory=dict)

    def to_json(self) -> str:
        """Everything as JSON."""
        return json.dumps(asdict(self), indent=2, sort_keys=True)

    def to_chrome(self) -> str:
        """A trace for chrome://tracing or Perfetto: one complete event a kernel call, in microseconds."""
        events: list[dict[str, Any]] = []
        for row in self.rows:
            what = {"nodes": list(row.nodes), "ops": row.ops, "GFLOP/s": row.gflops, "GB/s": row.gbytes}
            place = {"ph": "X", "pid": 0, "tid": 0}
            events.append(
                {
                    "name": row.kernel,
                    "cat": "kernel",
                    "ts": 1e3 * row.start_ms,
                    "dur": 1e3 * row.ms,
                    "args": what,
                }
                | place
            )
            if row.wait_ms > 0:
                ended = row.start_ms + row.ms
                events.append(
                    {"name": "wait", "cat": "wait", "ts": 1e3 * ended, "dur": 1e3 * row.wait_ms} | place
                )
        return json.dumps({"traceEvents": events, "displayTimeUnit": "ms"}, indent=1)

    def __str__(self) -> str:
        """A table, the slowest kernel first."""
        headings = ("kernel", "ops", "ms", "%", "GFLOP/s", "GB/s", "from")
        rows = sorted(self.rows, key=lambda row: -row.ms)
        whole = self.ms or 1.0
        lines = [
            (
                row.kernel,
                row.ops,
                f"{row.ms:.4f}",
                f"{100 * row.ms / whole:.1f}",
                f"{row.gflops:.1f}",
                f"{row.gbytes:.1f}",
                row.loc[:60],
            )
            for row in rows
        ]
        waiting = sum(row.wait_ms for row in rows)
        of_it = f"{self.runs} runs, {self.threads} threads, {waiting:.4f} ms of it waiting"
        tail = f"{self.ms:.4f} ms a run ({of_it})"
        return f"{format_table(headings, lines, right=(2, 3, 4, 5))}\n{tail}"


def measure(
    run: Callable[[np.ndarray[Any, Any]], None],
    native: Model,
    kernels: Sequence[Mapping[str, Any]],
    symbols: Mapping[str, int],
    runs: int,
) -> Profile:
    """Run a model again and again with its step times noted.

    Args:
        run: runs it once and adds to an i64[steps, 2] array the ns in each step and how often it is reached.
        native: the loaded model.
        kernels: the report's rows of the kernel calls.
        symbols: values of the shape symbols of this run.
        runs: how many runs to measure.

    Raises:
        NoProfile: the library does not note times.
        OptionTooSmall: `runs` is below 1.
    """
    if runs < 1:
        raise OptionTooSmall(option="runs", kind="whole number", least=1, got=runs)
    if not native.notes_times:
        raise NoProfile(reason="its library was made without the entry for it")
    times = np.zeros((runs, len(native.steps), 2), np.int64)
    for _ in range(WARM_UP_RUNS):
        run(np.zeros_like(times[0]))
    for lap in times:
        run(lap)
    whole = statistics.median(times[:, :, 0].sum(axis=1).tolist()) / 1e6
    return Profile(tuple(kernel_rows(times, kernels, symbols)), whole, runs, native.threads, dict(symbols))


def kernel_rows(
    times: np.ndarray[Any, Any],
    kernels: Sequence[Mapping[str, Any]],
    symbols: Mapping[str, int],
    start_ms: float = 0.0,
) -> Iterator[ProfileRow]:
    """Rows of the kernel calls of a native function.

    Args:
        times: i64[runs, steps, 2]: the ns in each step, and how often it was reached.
        kernels: the report's rows of the kernel calls.
        symbols: values of the shape symbols.
        start_ms: when the function began, from the beginning of the run.
    """
    spans, calls = np.median(times[:, :, 0], axis=0) / 1e6, np.median(times[:, :, 1], axis=0)
    starts = start_ms + np.concatenate([[0.0], np.cumsum(spans)])
    steps = [int(k["step"]) for k in kernels]
    for kernel, step, following in zip(kernels, steps, [*steps[1:], len(spans)], strict=False):
        ms = float(spans[step])
        often, seconds = float(calls[step]), max(ms, 1e-6) / 1e3
        yield ProfileRow(
            step=step,
            kernel=kernel["kernel"],
            ops=kernel["ops"],
            nodes=tuple(kernel["nodes"]),
            start_ms=float(starts[step]),
            ms=ms,
            calls=round(often),
            wait_ms=float(spans[step + 1 : following].sum()),
            gflops=often * _number(kernel["flops"], symbols) / seconds / 1e9,
            gbytes=often * _number(kernel["bytes"], symbols) / seconds / 1e9,
        )


def _number(value: int | str, symbols: Mapping[str, int]) -> int:
    """A count of the report: a number, or an expression over symbols."""
    if isinstance(value, int):
        return value
    dim = parse_dim(value)
    return int(dim) if isinstance(dim, int) else dim.evaluate(dict(symbols))
