"""Engines side by side on one model: each in a process of its own, round robin, medians of minima.

Engines take turns in short rounds, so that a machine that slows down slows all of them.  A round's figure
is its fastest call (the one least disturbed), an engine's figure the median over its rounds.  An engine
that fails is left out and named, never waited for; one whose call takes more than `SLOW_CALL` seconds is
timed once, warm, by the call that gives its outputs.
"""

from __future__ import annotations

import json
import os
import selectors
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
from rich.markup import escape
from rich.table import Table

from aino_ir.driver.bench_worker import ENGINES, save_inputs
from aino_ir.errors.bench import BenchOption, EngineFailed, UnknownEngine

ROUNDS = 8
SECONDS_PER_ROUND = 0.4
SETUP_TIMEOUT = 600.0
SLOW_CALL = 5.0
SETTLE_SECONDS = 0.02
"""Pause between two engines' turns: the threads of the one before stop spinning."""

Arrays = dict[str, np.ndarray[Any, Any]]


@dataclass
class EngineResult:
    """What one engine gave.

    Attributes:
        name: the engine.
        version: of its distribution; empty when it did not start.
        setup_seconds: loading, compiling and warming up.
        minima: the fastest call of each round, in seconds.
        medians: the median call of each round, in seconds.
        runs: calls in all rounds.
        error: why it was left out; empty when it was not.
        outputs: its results for the given inputs, in order.
    """

    name: str
    version: str = ""
    setup_seconds: float = 0.0
    minima: list[float] = field(default_factory=list)
    medians: list[float] = field(default_factory=list)
    runs: int = 0
    error: str = ""
    outputs: list[np.ndarray[Any, Any]] = field(default_factory=list, repr=False)

    @property
    def seconds(self) -> float:
        """The engine's figure: the median over rounds of the round's fastest call."""
        return statistics.median(self.minima)

    def to_json(self) -> dict[str, Any]:
        """Return everything but the outputs as plain data."""
        plain = {k: v for k, v in asdict(self).items() if k != "outputs"}
        return plain | ({"seconds": self.seconds} if self.minima and not self.error else {})


@dataclass
class Comparison:
    """The engines' results on one model, in the order asked for.

    Attributes:
        model: the file.
        threads: threads every engine was told to use.
        results: by engine name; those that failed say why.
    """

    model: str
    threads: int
    results: dict[str, EngineResult]

    @property
    def measured(self) -> list[EngineResult]:
        """The engines that have a figure."""
        return [r for r in self.results.values() if not r.error]

    @property
    def left_out(self) -> list[EngineResult]:
        """The engines that failed."""
        return [r for r in self.results.values() if r.error]

    def ratio(self, peer: str, engine: str = "aino") -> float:
        """Return how many times faster `engine` is than `peer` (above 1: faster)."""
        for name in (engine, peer):
            if self.results[name].error:
                raise EngineFailed(name=name, reason=self.results[name].error)
        return self.results[peer].seconds / self.results[engine].seconds

    def difference(self, peer: str, engine: str = "aino") -> float:
        """Return max|engine - peer| / max|peer| over all outputs; inf where shapes or NaNs differ."""
        worst = 0.0
        for a, b in zip(self.results[engine].outputs, self.results[peer].outputs, strict=True):
            if a.shape != b.shape or not np.array_equal(np.isnan(a), np.isnan(b)):
                return float("inf")
            scale = float(np.max(np.abs(b), initial=0.0, where=np.isfinite(b))) or 1.0
            with np.errstate(invalid="ignore"):
                gap = np.abs(a.astype(np.float64) - b.astype(np.float64))
            worst = max(worst, float(np.max(np.where(a == b, 0.0, gap), initial=0.0)) / scale)
        return worst

    def to_json(self) -> dict[str, Any]:
        """Return the comparison as plain data."""
        return {
            "model": self.model,
            "threads": self.threads,
            "engines": {name: result.to_json() for name, result in self.results.items()},
        }


class _Worker:
    """The process of one engine, spoken to in lines of JSON."""

    def __init__(self, name: str, model: Path, inputs: Path, threads: int) -> None:
        self.name = name
        command = [
            sys.executable,
            "-m",
            "aino_ir.driver.bench_worker",
            name,
            str(model),
            str(inputs),
            str(threads),
        ]
        environment = os.environ | {"OMP_NUM_THREADS": str(threads), "AINO_LOG": "error"}
        self.log = tempfile.TemporaryFile(mode="w+", errors="replace")
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            env=environment,
        )

    def ask(self, request: dict[str, Any] | None, timeout: float) -> dict[str, Any]:
        """Send a request (None: just listen) and return the answer; raises EngineFailed."""
        assert self.process.stdin is not None and self.process.stdout is not None
        if request is not None:
            try:
                self.process.stdin.write(json.dumps(request).encode() + b"\n")
                self.process.stdin.flush()
            except BrokenPipeError:
                raise EngineFailed(name=self.name, reason=self.last_words()) from None
        line = _read_line(self.process.stdout, timeout)
        if line is None:
            raise EngineFailed(name=self.name, reason=f"no answer within {timeout:.0f} s")
        if not line:
            raise EngineFailed(name=self.name, reason=self.last_words())
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise EngineFailed(name=self.name, reason=answer["error"])
        return answer

    def last_words(self) -> str:
        """Describe how the process ended: its status and the last line that it printed."""
        status = self.process.wait(timeout=10)
        self.log.seek(0)
        lines = [line.strip() for line in self.log.read().splitlines() if line.strip()]
        return f"the process ended with status {status}" + (f": {lines[-1]}" if lines else "")

    def close(self) -> None:
        """End the process, whatever state it is in."""
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.log):
            if stream is not None:
                try:
                    stream.close()
                except BrokenPipeError:
                    continue  # a request that never reached the dead process


def _read_line(stream: IO[bytes], timeout: float) -> bytes | None:
    """Read one line; None when `timeout` seconds pass first, empty at the end of the stream."""
    end = time.monotonic() + timeout
    line = bytearray()
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        while not line.endswith(b"\n"):
            if not selector.select(max(0.0, end - time.monotonic())):
                return None
            got = os.read(stream.fileno(), 65536)
            if not got:
                return b""
            line += got
    return bytes(line)


def compare(
    model: str | Path,
    inputs: Mapping[str, np.ndarray[Any, Any]],
    engines: Iterable[str] = ("aino", "onnxruntime"),
    *,
    threads: int = 1,
    rounds: int = ROUNDS,
    seconds: float = SECONDS_PER_ROUND,
    setup_timeout: float = SETUP_TIMEOUT,
    progress: Callable[[str], None] | None = None,
) -> Comparison:
    """Measure `engines` on an ONNX file, interleaved.

    Args:
        model: the ONNX file that every engine reads.
        inputs: arrays by input name, the same for every engine.
        engines: names of `ENGINES`.
        threads: threads each engine may use.
        rounds: turns per engine.
        seconds: length of a turn.
        setup_timeout: seconds an engine may take to load and compile before it is left out.
        progress: called with a line of text as things happen.

    Raises:
        UnknownEngine: a name is not an engine.
        BenchOption: a number is too small.
    """
    names = list(dict.fromkeys(engines))
    for name in names:
        if name not in ENGINES:
            raise UnknownEngine(name=name, known=", ".join(ENGINES))
    for option, value in (("rounds", rounds), ("threads", threads)):
        if value < 1:
            raise BenchOption(option=option, value=value, least=1)
    if not seconds > 0:
        raise BenchOption(option="seconds", value=seconds, least="more than 0")
    entries = {name: (name, Path(model)) for name in names}
    results = interleave(
        entries,
        inputs,
        threads=threads,
        rounds=rounds,
        seconds=seconds,
        setup_timeout=setup_timeout,
        progress=progress,
    )
    return Comparison(str(model), threads, results)


def interleave(
    entries: Mapping[str, tuple[str, Path]],
    inputs: Mapping[str, np.ndarray[Any, Any]],
    *,
    threads: int = 1,
    rounds: int = ROUNDS,
    seconds: float = SECONDS_PER_ROUND,
    setup_timeout: float = SETUP_TIMEOUT,
    progress: Callable[[str], None] | None = None,
) -> dict[str, EngineResult]:
    """Measure models by turns, each with its own engine: label -> (name of `ENGINES`, file) -> result."""
    say = progress or (lambda text: None)
    results = {label: EngineResult(label) for label in entries}
    with tempfile.TemporaryDirectory(prefix="aino-bench-") as scratch:
        stored = Path(scratch) / "inputs.npz"
        save_inputs(stored, inputs)
        workers: dict[str, _Worker] = {}
        try:
            for label, (engine, model) in entries.items():
                say(f"{label}: loading {model.name}")
                workers[label] = _Worker(engine, model, stored, threads)
                _attempt(results[label], _start, workers[label], Path(scratch), setup_timeout)
            for turn in range(rounds):
                say(f"round {turn + 1} of {rounds}")
                for label in entries:
                    if not results[label].error and not _timed_once(results[label]):
                        time.sleep(SETTLE_SECONDS)
                        _attempt(results[label], _turn, workers[label], seconds)
        finally:
            for worker in workers.values():
                worker.close()
    return results


def _attempt(result: EngineResult, step: Callable[..., None], *arguments: Any) -> None:
    try:
        step(result, *arguments)
    except EngineFailed as failed:
        result.error = str(failed.fields["reason"])


def _start(result: EngineResult, worker: _Worker, scratch: Path, timeout: float) -> None:
    ready = worker.ask(None, timeout)
    result.version, result.setup_seconds = ready["version"], ready["setup"]
    path = scratch / f"{worker.name}.npz"
    answer = worker.ask({"do": "outputs", "path": str(path)}, timeout)
    if answer["seconds"] > SLOW_CALL:
        result.minima, result.medians, result.runs = [answer["seconds"]], [answer["seconds"]], 1
    with np.load(path, allow_pickle=False) as stored:
        result.outputs = [stored[name] for name in sorted(stored.files)]


def _timed_once(result: EngineResult) -> bool:
    """Whether an engine is so slow that the call behind its first one is its figure."""
    return result.runs == 1 and result.minima[0] > SLOW_CALL


def _turn(result: EngineResult, worker: _Worker, seconds: float) -> None:
    lap = worker.ask({"do": "run", "seconds": seconds}, timeout=60.0 + 20.0 * seconds)
    result.minima.append(lap["minimum"])
    result.medians.append(lap["median"])
    result.runs += int(lap["runs"])


def render(comparison: Comparison) -> Table:
    """Return the comparison as a table for a terminal; engines without a figure say why."""
    table = Table(title=f"{Path(comparison.model).name}, {comparison.threads} thread(s)")
    for heading in ("engine", "ms", "times AINO's", "set up s", "calls", "difference"):
        table.add_column(heading, justify="left" if heading == "engine" else "right")
    ours = comparison.results.get("aino")
    for result in comparison.results.values():
        label = escape(f"{result.name} {result.version}".strip())
        if result.error:
            table.add_row(label, "left out")
            continue
        peer = result is not ours and ours is not None and not ours.error
        table.add_row(
            label,
            f"{1e3 * result.seconds:.3f}",
            f"{comparison.ratio(result.name):.2f}" if peer else "",
            f"{result.setup_seconds:.2f}",
            str(result.runs),
            f"{comparison.difference(result.name):.1e}" if peer else "",
        )
    if comparison.left_out:
        table.caption = "\n".join(escape(f"{r.name}: {r.error[:300]}") for r in comparison.left_out)
        table.caption_justify = "left"
    return table


def describe_machine() -> dict[str, str]:
    """Return what a reader of figures must know of the machine: processor, usable cores, system, Python."""
    import platform

    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        names = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        model = names[0].split(":", 1)[1].strip() if names else model
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "processor": model,
        "cores": str(cores),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }
