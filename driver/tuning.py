"""Measures candidates of kernels, within a budget of seconds, and remembers which was the fastest.

Each kernel of the plan gets up to `MOST_CANDIDATES`; they are compiled, first judged like every kernel,
then timed in turns: by a child process with the model's threads, or by events on a GPU (`gpu_trials`), other
data in the caches between runs, the least of several short runs.  Kernels with the most modelled work come
first.  The analytic pick stays unless another one is faster by more than the noise, and again in a second
round of just the two, in which it must win most turns: a busy machine slows down now one of them, now the
other.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from aino_ir.codegen.c.compile import SourceUnit, compile_units
from aino_ir.codegen.c.measure import TABLE, measure_unit
from aino_ir.codegen.c.toolchain import Toolchain
from aino_ir.codegen.c.unit import print_unit
from aino_ir.codegen.catalogue import Experience, KernelCatalogue, identity
from aino_ir.driver.kernel_check import run_trials, time_trials
from aino_ir.driver.kernel_trials import Trial, trials
from aino_ir.driver.libraries import library_answer
from aino_ir.driver.tuning_records import Record, TuningRecords
from aino_ir.errors.base import AinoError
from aino_ir.kernels import Candidate, Kernel, Reject
from aino_ir.library_calls import CUBLAS, ProductCall
from aino_ir.passes.trials import Unrunnable
from aino_ir.plan import Plan, runs
from aino_ir.runtime.fileio import disk_errors
from aino_ir.runtime.store import Store
from aino_ir.target import Target

DEFAULT_SECONDS = 20.0
"""Budget of level 3 when none is given."""

MOST_CANDIDATES = 16

TOO_SLOW = 4.0
"""Candidates with this many times the least modelled cost are not worth measuring."""

ROUNDS, REPEATS = 5, 3
"""Turns that each candidate gets, and runs in each."""

NOISE = 0.03
"""How much faster, as a share, another candidate must be to take the place of the analytic pick."""

CONFIRM_ROUNDS, WINS = 11, 0.75
"""Turns of the second measurement, and the share of them that the faster candidate must win."""


@dataclass
class Tuning:
    """What was measured.

    Attributes:
        seconds: budget.
        rows: one a kernel whose candidates are known: what was picked, modelled and measured times.
        measured: kernels that were measured in this compilation.
        trials: what MetaSchedule tried in this compilation (targets of TVM's).
        remembered: kernels whose record was read back.
        skipped: kernel -> why it was not measured.
    """

    seconds: float
    rows: list[dict[str, Any]] = field(default_factory=list)
    measured: int = 0
    trials: int = 0
    remembered: int = 0
    skipped: dict[str, str] = field(default_factory=dict)

    def facts(self) -> dict[str, Any]:
        """For reports."""
        return {
            "budget": self.seconds,
            "measured": self.measured,
            "trials": self.trials,
            "remembered": self.remembered,
            "changed": [r for r in self.rows if r["changed"]],
            "kept": [r for r in self.rows if not r["changed"]],
            "skipped": dict(self.skipped),
        }


class Timer(Protocol):
    """The candidates of one kernel, compiled."""

    def verdicts(self) -> list[str]:
        """What is wrong with each, or ""."""
        raise NotImplementedError

    def nanoseconds(self, trials: Sequence[Trial], rounds: int, repeats: int) -> list[list[int]]:
        """Of each in each round, the least of its runs; shorter where it crashed."""
        raise NotImplementedError


class Bench(Protocol):
    """Compiles candidates and runs them, on this processor or on a device."""

    def open(self, made: Sequence[Trial]) -> AbstractContextManager[Timer]:
        """The candidates of one kernel, a trial of each, ready to run."""
        raise NotImplementedError


@dataclass(frozen=True)
class HostTimer:
    """Candidates in a library of C, run by child processes; see `Timer`."""

    made: Sequence[Trial]
    job: dict[str, Any]
    folder: Path
    threads: int
    flush_bytes: int

    def verdicts(self) -> list[str]:
        """What is wrong with each candidate, or ""."""
        return run_trials(self.made, self.job, self.folder)

    def nanoseconds(self, trials: Sequence[Trial], rounds: int, repeats: int) -> list[list[int]]:
        """Of each trial in each round, the least of its runs; shorter where the child crashed."""
        return time_trials(trials, self.job, self.folder, self.threads, rounds, repeats, self.flush_bytes)


@dataclass(frozen=True)
class HostBench:
    """Compiles candidates as C and runs them on this processor.

    Attributes:
        target: the variant.
        toolchain, store: what compiles, and where objects are kept.
        threads: of a run.
    """

    target: Target
    toolchain: Toolchain
    store: Store
    threads: int

    @contextmanager
    def open(self, made: Sequence[Trial]) -> Iterator[HostTimer]:
        """The candidates of one kernel, a trial of each, ready to run."""
        functions = [t.kernel.function for t in made]
        isa = self.target.isa
        unit, headers = measure_unit([f.name for f in functions], isa)
        sources = [SourceUnit(f"k{i}", print_unit([f], self.target), isa) for i, f in enumerate(functions)]
        library = compile_units([*sources, unit], headers, self.toolchain, self.store)[isa]
        with self.store.work_folder() as folder, disk_errors(folder):
            path = folder / "library.so"
            path.write_bytes(library)
            job = {"library": str(path), "table": TABLE, "kernels": len(functions)}
            yield HostTimer(made, job, folder, self.threads, 2 * self.target.l2_bytes)


class Tuner:
    """Measures the kernels of plans for one ISA variant.

    Args:
        target: the variant.
        catalogue: of all candidates, not only the best by the model.
        bench: what compiles and runs them.
        records: what is known already.
        tuning: where the outcome is counted.
        clock: seconds that pass (for tests).
    """

    def __init__(
        self,
        target: Target,
        catalogue: KernelCatalogue,
        bench: Bench,
        records: TuningRecords,
        tuning: Tuning,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.target = target
        self.catalogue = catalogue
        self.bench = bench
        self.records = records
        self.tuning = tuning
        self.clock = clock
        self._wrong: dict[str, str] = {}

    def tune(self, plans: Sequence[Plan], experience: Experience, deadline: float) -> None:
        """Note the fastest candidate of each kernel, as long as there is time."""
        calls = Counter(r.kernel for plan in plans for r in runs(plan))
        kernels = list({r.kernel: plan.kernels[r.kernel] for plan in plans for r in runs(plan)}.values())
        kernels.sort(key=lambda k: (-k.candidate.cost * calls[k.function.name], k.function.name))
        for kernel in kernels:
            known = self.records.find(kernel.spec.key)
            offered = self._offered(kernel)
            names = {identity(c) for c in offered}
            if known is not None and known.candidate in names and known.analytic == identity(offered[0]):
                self.tuning.remembered += 1
            elif len(offered) < 2:
                continue
            elif self.clock() >= deadline:
                self.tuning.skipped[kernel.function.name] = "the budget was spent"
                continue
            else:
                known = self._measured(kernel, offered)
            if known is not None:
                self._note(kernel, known, experience)

    def _offered(self, kernel: Kernel) -> list[Candidate]:
        """Candidates that are worth a try, the analytic pick first."""
        found = [a for a in self.catalogue.candidates(kernel.spec) if isinstance(a, Candidate)]
        return [c for c in found if c.cost <= TOO_SLOW * found[0].cost][:MOST_CANDIDATES]

    def _note(self, kernel: Kernel, record: Record, experience: Experience) -> None:
        if record.candidate != record.analytic:
            experience.best[kernel.spec.key] = record.candidate
        self.tuning.rows.append(
            {
                "kernel": kernel.function.name,
                "isa": self.target.isa,
                "ops": kernel.spec.label or kernel.spec.anchor,
                "changed": record.candidate != record.analytic,
                "candidate": ": ".join(record.candidate),
                "analytic": ": ".join(record.analytic),
                "modelled_us": record.modelled_us,
                "measured_us": record.measured_us,
                "analytic_us": record.analytic_us,
                "candidates": record.candidates,
                "library": self._of_library(kernel, record),
            }
        )

    def _of_library(self, kernel: Kernel, record: Record) -> str:
        """How a library's call compares, or why there is none; empty for what is nothing for libraries."""
        answer = library_answer(self.catalogue.candidates(kernel.spec))
        if answer is None:
            return ""
        if isinstance(answer, Reject):
            return answer.reason
        if record.candidate == identity(answer):
            ratio, other = record.analytic_us / record.measured_us, record.analytic
            return f"{ratio:.2f} times as fast as {': '.join(other)}"
        if not record.library_us:
            return self._wrong.get(kernel.function.name, "it was wrong or refused when it was measured")
        ratio = record.library_us / record.measured_us
        return f"takes {ratio:.2f} times as long as {': '.join(record.candidate)}"

    def _measured(self, kernel: Kernel, offered: Sequence[Candidate]) -> Record | None:
        """Compile, judge and time the candidates of one kernel."""
        name = kernel.function.name
        try:
            built = [
                Kernel(kernel.spec, c, self.catalogue.build(kernel.spec, c), origin=kernel.origin)
                for c in offered
            ]
            made = [_one_trial(k, i) for i, k in enumerate(_distinct(built))]
            times, final = self._times(made, identity(offered[0]))
        except Unrunnable as problem:
            self.tuning.skipped[name] = str(problem)
            return None
        except AinoError as problem:
            self.tuning.skipped[name] = problem.message
            return None
        first = times.get(identity(offered[0]))
        if first is None:  # the analytic pick is wrong, or crashed: the check of kernels will say so
            self.tuning.skipped[name] = "the analytic pick could not be measured"
            return None
        best = final
        modelled = next(c.cost for c in offered if identity(c) == best)
        record = Record(
            kernel.spec.key,
            best,
            identity(offered[0]),
            round(modelled * 1e6, 3),
            round(times[best], 3),
            round(first, 3),
            len(times),
            kernel.spec.label or kernel.spec.anchor,
            round(min((t for c, t in times.items() if c[0] == CUBLAS), default=0.0), 3),
        )
        self.records.add(record)
        self.tuning.measured += 1
        return record

    def _times(
        self, made: Sequence[Trial], analytic: tuple[str, str]
    ) -> tuple[dict[tuple[str, str], float], tuple[str, str]]:
        """Candidate -> microseconds, without those that are wrong; and the one to take."""
        with self.bench.open(made) as timer:
            verdicts = timer.verdicts()
            wrong = zip(made, verdicts, strict=True)
            self._wrong = {t.kernel.function.name: w for t, w in wrong if w and t.kernel.candidate.library}
            right = {identity(t.kernel.candidate): t for t, w in zip(made, verdicts, strict=True) if not w}
            turns = _timed(timer, right, ROUNDS)
            times = {c: min(t) / 1e3 for c, t in turns.items()}
            best = min(times, key=lambda c: times[c], default=analytic)
            if analytic not in times or times[best] > (1 - NOISE) * times[analytic]:
                return times, analytic
            again = _timed(timer, {c: right[c] for c in (analytic, best)}, CONFIRM_ROUNDS)
        if set(again) != {analytic, best}:
            return times, analytic
        times |= {c: min(t) / 1e3 for c, t in again.items()}
        won = sum(b < a for a, b in zip(again[analytic], again[best], strict=False))
        sure = won >= WINS * CONFIRM_ROUNDS and times[best] <= (1 - NOISE) * times[analytic]
        return times, best if sure else analytic


def _timed(
    timer: Timer, right: dict[tuple[str, str], Trial], rounds: int
) -> dict[tuple[str, str], list[int]]:
    """Candidate -> nanoseconds in each round, without those that crashed."""
    if not right:
        return {}
    found = timer.nanoseconds(list(right.values()), rounds, REPEATS)
    return {c: times for c, times in zip(right, found, strict=True) if times and min(times) > 0}


def _distinct(built: Sequence[Kernel]) -> list[Kernel]:
    """Kernels without those whose loops are the same as an earlier one's, where no library does either."""
    seen: dict[tuple[str, ProductCall | None], Kernel] = {}
    for kernel in built:
        seen.setdefault((kernel.function.name, kernel.candidate.library), kernel)
    return list(seen.values())


def _one_trial(kernel: Kernel, number: int) -> Trial:
    """The trial with the largest extents."""
    found = [t for t in trials(kernel, number) if t.kind != "edges"]
    if not found:
        raise Unrunnable("no operands can be made up for it")
    return found[-1]
