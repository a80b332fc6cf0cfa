"""Every newly compiled kernel beside the meaning of its ops, once.

The kernels of the model's own library run in a child process, which may crash without taking the
compiler along.  What was found right is remembered in the store under the kernel's source; what is
wrong makes lowering take the next candidate.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from aino_ir.codegen.c.process import Command, run_commands
from aino_ir.codegen.c.program import kernel_names
from aino_ir.codegen.cuda.toolchain import BinaryMaker
from aino_ir.driver.cache import source_hash
from aino_ir.driver.kernel_chains import chain_trials
from aino_ir.driver.kernel_trials import PATTERN, WORK_LIMIT, Trial, trials
from aino_ir.errors.codegen import KernelTrialsFailed
from aino_ir.kernels import Kernel
from aino_ir.passes.trials import Unrunnable
from aino_ir.plan import Plan
from aino_ir.runtime.fileio import disk_errors
from aino_ir.runtime.store import Store, digest

CHILD = Path(__file__).with_name("kernel_child.py")

CHILD_SECONDS = 120.0
"""Time that one child may take; a kernel that it was at then counts as hanging."""

BATCH_BYTES = 256 << 20
"""Operands and results of about so many bytes go to one child."""

KIND = "kernel-check"


class KernelWrong(UserWarning):
    """A compiled kernel does not compute what its ops mean; another candidate was taken."""


@dataclass
class KernelChecks:
    """What became of the kernels of a compilation.

    Attributes:
        right: found right in this compilation.
        remembered: found right before.
        not_run: kernel -> why it could not be tried; all of an instruction set in one row.
        wrong: kernels that are not used: name, ops, candidate, reason.
    """

    right: int = 0
    remembered: int = 0
    not_run: dict[str, str] = field(default_factory=dict)
    wrong: list[dict[str, str]] = field(default_factory=list)

    def facts(self) -> dict[str, Any]:
        """For reports."""
        return {
            "right": self.right,
            "remembered": self.remembered,
            "not run": dict(self.not_run),
            "wrong": list(self.wrong),
        }


@dataclass(frozen=True)
class Wrong:
    """A kernel that is not what it should be."""

    kernel: Kernel
    reason: str

    def sentence(self) -> str:
        """For warnings."""
        spec, candidate = self.kernel.spec, self.kernel.candidate
        return (
            f"kernel {self.kernel.function.name} ({candidate.generator}: {candidate.name}) does not compute "
            f"{spec.label or spec.anchor}: {self.reason}"
        )

    def facts(self, isa: str) -> dict[str, str]:
        """For reports."""
        spec, candidate = self.kernel.spec, self.kernel.candidate
        return {
            "kernel": self.kernel.function.name,
            "isa": isa,
            "ops": spec.label or spec.anchor,
            "candidate": f"{candidate.generator}: {candidate.name}",
            "reason": self.reason,
        }


class KernelChecker:
    """Checks the kernels of plans against the interpreter.

    Args:
        toolchain: the compiler of the libraries.
        store: what was found right is remembered there.
        checks: where the outcome is counted.
        progress: called with (done, total).
        language: what kernels are printed in.
        work_limit: operations of a kernel's meaning from which on it is not tried.
    """

    def __init__(
        self,
        toolchain: BinaryMaker,
        store: Store,
        checks: KernelChecks,
        progress: Callable[[int, int], None] | None = None,
        language: str = "c",
        work_limit: float = WORK_LIMIT,
    ) -> None:
        self.work_limit = work_limit
        self.language = language
        self.toolchain = toolchain
        self.store = store
        self.checks = checks
        self.progress = progress

    def check(
        self,
        plans: Sequence[Plan],
        isa: str,
        library: bytes,
        obstacle: str = "",
        left_out: Mapping[str, str] | None = None,
    ) -> list[Wrong]:
        """The wrong kernels of plans that share a library, each kernel once.

        With an `obstacle`, a reason why this machine does not run the library, none is run; kernels that are
        `left_out` of the library have such a reason each.
        """
        if obstacle:
            every = {n for plan in plans for n in kernel_names(plan)}
            self.checks.not_run[f"all {len(every)} of {isa}"] = obstacle
            return []
        wrong: list[Wrong] = []
        self.checks.not_run.update(left_out or {})
        seen: set[str] = set(left_out or ())
        for plan in plans:
            names = kernel_names(plan)
            fresh = [
                i for i, n in enumerate(names) if n not in seen and not self._known(plan.kernels[n], isa)
            ]
            seen.update(names)
            if fresh:
                wrong += self._tried(plan, names, fresh, isa, library)
        return wrong

    def _tried(
        self, plan: Plan, names: Sequence[str], fresh: Sequence[int], isa: str, library: bytes
    ) -> list[Wrong]:
        """Try kernels of a plan, given by their places in its table."""
        wrong: dict[str, str] = {}
        with self.store.work_folder() as folder, disk_errors(folder):
            path = folder / "library.so"
            path.write_bytes(library)
            job = {"library": str(path), "table": f"{plan.name}_kernels", "kernels": len(names)}
            for batch in _batches(self._all_trials(plan, names, fresh)):
                for trial, reason in zip(batch, run_trials(batch, job, folder), strict=True):
                    if reason:
                        for name in trial.suspects:
                            wrong.setdefault(name, f"{trial.kind} operands: {reason}")
        for number in fresh:
            name = names[number]
            if name not in wrong and name not in self.checks.not_run:
                self.checks.right += 1
                self.store.put(KIND, self._key(plan.kernels[name], isa), b"right")
        return [Wrong(plan.kernels[name], reason) for name, reason in wrong.items()]

    def _known(self, kernel: Kernel, isa: str) -> bool:
        known = self.store.get(KIND, self._key(kernel, isa)) is not None
        self.checks.remembered += known
        return known

    def _key(self, kernel: Kernel, isa: str) -> str:
        """All that the answer depends on: meaning, loops, printer, compiler."""
        tool = self.toolchain
        made = (kernel.candidate.generator, self.language, isa, tool.identity, *tool.flags(isa))
        return digest(KIND, kernel.spec.key, kernel.function.name, *made, source_hash())

    def _all_trials(self, plan: Plan, names: Sequence[str], fresh: Sequence[int]) -> Iterator[Trial]:
        """Trials of kernels by themselves, and of those that do an op together."""
        wanted = {names[number] for number in fresh}
        together = {
            key: {link.kernel.function.name for link in several.links} for key, several in plan.chains.items()
        }
        parts = {n for of_one in together.values() for n in of_one if plan.kernels[n].origin is None}
        yield from self._trials([(plan.kernels[names[i]], i) for i in fresh if names[i] not in parts])
        numbers = {name: number for number, name in enumerate(names)}
        for key, of_one in together.items():
            missing = sorted(of_one & self.checks.not_run.keys())
            if of_one.isdisjoint(wanted) or not of_one <= numbers.keys():
                continue
            if missing:
                left = sorted((of_one & parts) - set(missing))
                self.checks.not_run.update(dict.fromkeys(left, f"{missing[0]}, which it needs, is not run"))
                continue
            try:
                yield from chain_trials(plan.chains[key], numbers, self.work_limit)
            except Unrunnable as problem:
                self.checks.not_run.update(dict.fromkeys(sorted(of_one & parts), str(problem)))

    def _trials(self, kernels: Sequence[tuple[Kernel, int]]) -> Iterator[Trial]:
        for done, (kernel, number) in enumerate(kernels):
            if self.progress is not None:
                self.progress(done, len(kernels))
            try:
                yield from trials(kernel, number, self.work_limit)
            except Unrunnable as problem:
                self.checks.not_run[kernel.function.name] = str(problem)


def _batches(items: Iterable[Trial]) -> Iterator[list[Trial]]:
    """Trials in lists of bounded size."""
    batch: list[Trial] = []
    size = 0
    for trial in items:
        batch.append(trial)
        size += sum(b.data.nbytes for b in trial.buffers)
        if size > BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def run_trials(batch: Sequence[Trial], job: dict[str, Any], folder: Path) -> list[str]:
    """What is wrong with each trial ("": nothing); a crash is blamed on the kernel that was running."""
    end = 64
    for trial in batch:
        end = trial.place(end)
    data = folder / "data"
    memory = np.memmap(data, np.uint8, "w+", shape=(end,))
    memory[:] = PATTERN
    for trial in batch:
        trial.fill(memory)
    verdicts: list[str] = []
    while len(verdicts) < len(batch):
        rest = batch[len(verdicts) :]
        memory[:8] = 0
        calls = [trial.calls() for trial in rest]
        crash = _run_child({**job, "data": str(data), "calls": list(chain(*calls))}, folder)
        ends = np.cumsum([len(several) for several in calls])
        done = int(np.sum(ends <= int(memory[:8].view(np.int64)[0])))
        verdicts += [trial.judge(memory) for trial in rest[:done]]
        if done < len(rest):
            verdicts.append(crash or "it did not come to an end")
    del memory
    with suppress(OSError):
        data.unlink()
    return verdicts


def time_trials(
    batch: Sequence[Trial],
    job: dict[str, Any],
    folder: Path,
    threads: int,
    rounds: int,
    repeats: int,
    flush_bytes: int,
) -> list[list[int]]:
    """Nanoseconds of each trial in each round, the least of its runs; shorter where the child crashed.

    All trials take turns, so that what else the machine does hits them alike.
    """
    end = 64
    for trial in batch:
        trial.place(end)
        stride = _stride(trial)
        end = trial.scratch + threads * stride + 64 * rounds
    data = folder / "times"
    memory = np.memmap(data, np.uint8, "w+", shape=(end,))
    for trial in batch:
        trial.fill(memory)
    calls = []
    for turn in range(rounds):
        for trial in batch:
            timed = [_stride(trial), trial.units, threads, repeats, flush_bytes]
            place = trial.scratch + threads * _stride(trial) + 64 * turn
            calls.append({**trial.call(), "spans": [], "time": timed, "result": place})
    _run_child({**job, "data": str(data), "calls": calls}, folder)
    done = int(memory[:8].view(np.int64)[0])
    times: list[list[int]] = []
    for number, trial in enumerate(batch):
        finished = max(0, -(-(done - number) // len(batch)))
        places = [trial.scratch + threads * _stride(trial) + 64 * turn for turn in range(finished)]
        times.append([int(memory[at : at + 8].view(np.int64)[0]) for at in places])
    del memory
    with suppress(OSError):
        data.unlink()
    return times


def _stride(trial: Trial) -> int:
    """Bytes from one thread's scratch to the next one's."""
    return -(-trial.scratch_bytes // 64) * 64 + 64


def _run_child(job: dict[str, Any], folder: Path) -> str:
    """Run one child; how it crashed, or ""."""
    path = folder / "job.json"
    path.write_text(json.dumps(job), encoding="ascii")
    command = Command((sys.executable, "-I", "-S", str(CHILD), str(path)), folder, {})
    (outcome,) = run_commands([command], 1, CHILD_SECONDS)
    if outcome.ok:
        return ""
    if outcome.status is None:
        return f"it was still running after {CHILD_SECONDS:.0f} s"
    if outcome.status < 0:
        told = outcome.output.strip().splitlines()[-1:]  # what the emulation of a GPU says before it ends
        return ": ".join([f"it crashes (signal {-outcome.status})", *(line[:300] for line in told)])
    raise KernelTrialsFailed(status=outcome.status, lines=outcome.output.strip()[-500:])
