"""MetaSchedule on the kernels of a plan for TVM, within a budget of seconds; the best traces are kept.

The database is AINO's: one record a kernel, under its meaning, the target and TVM's version, with the trace
as calls of TVM's `Schedule`.  A kernel with a record is not tried again.  AINO's own schedule stays unless a
trial is faster by more than the noise.  (TVM's own database keeps functions as JSON, and the search copies
them so; apache-tvm-ffi 0.1.15 crashes there, 0.1.14 does not.)
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aino_ir.codegen.c.process import Command, run_commands
from aino_ir.codegen.catalogue import Experience
from aino_ir.codegen.tvm.backend import emit_tvm
from aino_ir.codegen.tvm.build import tvm_version
from aino_ir.codegen.tvm.scheduled import NAME
from aino_ir.driver import tvm_tuning_child
from aino_ir.driver.tuning import NOISE, Tuning
from aino_ir.kernels import Kernel
from aino_ir.plan import Plan, runs
from aino_ir.runtime.store import Store, digest
from aino_ir.target import Target

KIND = "tvm-trace"

TRIALS = 32
"""Trials that a kernel gets, if there is time."""

LATE_SECONDS = 300.0
"""How long beyond the budget TVM may take to begin, and the trials that have begun may go on."""


class TvmTuner:
    """Tunes the kernels that have a schedule, for one ISA variant.

    Args:
        target: the variant.
        store: where records are kept.
        threads: threads of a run.
        tuning: where the outcome is counted.
    """

    def __init__(self, target: Target, store: Store, threads: int, tuning: Tuning) -> None:
        self.target = target
        self.store = store
        self.threads = threads
        self.tuning = tuning

    def tune(self, plans: Sequence[Plan], experience: Experience, seconds: float) -> None:
        """Note the best schedule of each kernel, the ones with the most modelled work first.

        A search that dies leaves the schedules that it did not come to as they are; the report says so.
        """
        calls = Counter(r.kernel for plan in plans for r in runs(plan))
        kernels = {r.kernel: plan.kernels[r.kernel] for plan in plans for r in runs(plan)}
        mine = [k for k in kernels.values() if k.candidate.generator == NAME]
        mine.sort(key=lambda k: (-k.candidate.cost * calls[k.function.name], k.function.name))
        fresh = []
        for kernel in mine:
            known = self.store.get(KIND, self._key(kernel))
            if known is None:
                fresh.append(kernel)
                continue
            self.tuning.remembered += 1
            self._note(kernel, json.loads(known), experience)
        if fresh:
            self._try(plans, fresh, experience, seconds)

    def _try(
        self, plans: Sequence[Plan], kernels: Sequence[Kernel], experience: Experience, seconds: float
    ) -> None:
        by_name = {k.function.name: k for k in kernels}
        with self.store.work_folder() as folder:
            script = folder / "kernels.py"
            script.write_text(emit_tvm(plans, self.target).script, encoding="ascii")
            job = {
                "script": str(script),
                "kernels": list(by_name),
                "trials": TRIALS,
                "seconds": seconds,
                "threads": self.threads,
            }
            (folder / "job.json").write_text(json.dumps(job), encoding="ascii")
            answers = folder / "answers"
            command = (
                sys.executable,
                "-m",
                tvm_tuning_child.__name__,
                str(folder / "job.json"),
                str(answers),
            )
            (outcome,) = run_commands([Command(command, folder, {})], 1, seconds + LATE_SECONDS)
            rows = _rows(answers)
        for row in {row["kernel"]: row for row in rows}.values():  # the last of each kernel
            kernel = by_name.pop(row.pop("kernel"))
            self.tuning.measured += 1
            self.tuning.trials += row["trials"]
            self.store.put(KIND, self._key(kernel), json.dumps(row).encode("ascii"))
            self._note(kernel, row, experience)
        died = outcome.status not in (0, None)
        reason = f"the search ended early: {last_line(outcome.output)}" if died else "the budget was spent"
        self.tuning.skipped |= dict.fromkeys(by_name, reason)

    def _note(self, kernel: Kernel, row: dict[str, Any], experience: Experience) -> None:
        faster = row["best"] is not None and (row["own"] is None or row["best"] < (1 - NOISE) * row["own"])
        if faster:
            experience.schedules[kernel.spec.key] = tuple(row["trace"])
        self.tuning.rows.append(
            {
                "kernel": kernel.function.name,
                "isa": self.target.isa,
                "ops": kernel.spec.label or kernel.spec.anchor,
                "changed": faster,
                "candidate": "MetaSchedule" if faster else kernel.candidate.name,
                "analytic": kernel.candidate.name,
                "trials": row["trials"],
                "own seconds": row["own"],
                "best seconds": row["best"],
            }
        )

    def _key(self, kernel: Kernel) -> str:
        made = (str(self.target), self.target.isa, str(self.threads), tvm_version())
        return digest(KIND, kernel.spec.key, kernel.candidate.name, *made)


def last_line(text: str) -> str:
    """The last line of a process's messages that says something."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:500] if lines else "it said nothing"


def _rows(path: Path) -> list[dict[str, Any]]:
    """The whole lines of what a child has written, however it ended."""
    if not path.exists():
        return []
    return [
        json.loads(line) for line in path.read_text(encoding="ascii").splitlines(True) if line.endswith("\n")
    ]
