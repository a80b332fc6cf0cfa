"""Passes under the final check: the whole module before and after, and what happens when they differ.

The sites of every pass were validated one by one; `compare_modules` then judges what came of all of them
together, by the worst class of the passes that changed something.  When the modules differ, the first
pass after which they do is found by bisection and left out; should that not help, no optional pass is
run at all.  Each step is deterministic, so what is reported can be reproduced with ``ainoc opt``.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from aino_ir.errors.passes import RequiredPassFailed
from aino_ir.graph import Module
from aino_ir.passes.base import ERROR_CLASSES, Pass, PassContext
from aino_ir.passes.manager import PassManager, PassRecord, PassUndone, PipelineReport
from aino_ir.passes.whole_module import Verdict, compare_modules

MOST_BISECTIONS = 2
"""Passes that are looked for and left out one by one, before all optional ones are."""

WHOLE = "whole module"
"""What undone passes name as the rule that was broken."""


@dataclass
class Outcome:
    """What came of a pipeline.

    Attributes:
        module: the module after the passes.
        report: what they did; passes that were left out count as undone.
        verdict: of the final check.
    """

    module: Module
    report: PipelineReport
    verdict: Verdict


class FinalCheck:
    """Runs passes on clones of a module until the result agrees with it as a whole.

    Args:
        passes: the pipeline, in order.
        context: makes a fresh context for each run.
        verify_all: as for `PassManager`.
        stage: times what happens under a name.
    """

    def __init__(
        self,
        passes: Sequence[Pass],
        context: Callable[[], PassContext],
        verify_all: bool = False,
        stage: Callable[[str], AbstractContextManager[None]] = lambda name: nullcontext(),
    ) -> None:
        self.passes = list(passes)
        self.context = context
        self.verify_all = verify_all
        self.stage = stage

    def run(self, module: Module) -> Outcome:
        """The module after the passes; the given one stays as it is.

        Raises:
            RequiredPassFailed: even without the optional passes the module means something else.
        """
        kept = list(range(len(self.passes)))
        undone: dict[int, str] = {}
        outcome = self._attempt(module, kept, quiet=False)
        while outcome.verdict.kind == "differs":
            optional = [i for i in kept if not self.passes[i].required]
            if not optional:
                name = self.passes[kept[-1]].name if kept else "none"
                raise RequiredPassFailed(name=name, rule=WHOLE, reason=outcome.verdict.reason)
            wrong = [self._guilty(module, kept)] if len(undone) < MOST_BISECTIONS else optional
            wrong = wrong if set(wrong) <= set(optional) else optional
            for i in wrong:
                undone[i] = f"{WHOLE}: {outcome.verdict.reason}"
                self._warn(i, kept, outcome.verdict)
            kept = [i for i in kept if i not in undone]
            outcome = self._attempt(module, kept)
        for i in sorted(undone):
            outcome.report.records.insert(i, PassRecord(str(self.passes[i]), undone=undone[i]))
        return outcome

    def _attempt(self, module: Module, numbers: Sequence[int], quiet: bool = True) -> Outcome:
        """Run some of the passes on a clone, and compare."""
        passes = [self.passes[i] for i in numbers]
        with self.stage("passes"):
            changed = module.clone()
            manager = PassManager(passes, verify_all=self.verify_all, quiet=quiet)
            report = manager.run(changed, self.context())
        found = [r.error_class for r in report.records if r.changed]
        if not found:
            return Outcome(changed, report, Verdict("agrees", "exact", "nothing was changed"))
        with self.stage("check module"):
            verdict = compare_modules(module, changed, max(found, key=ERROR_CLASSES.index))
        return Outcome(changed, report, verdict)

    def _guilty(self, module: Module, kept: Sequence[int]) -> int:
        """The first pass after which the module differs from what it was."""
        right, wrong = 0, len(kept)
        while wrong - right > 1:
            middle = (right + wrong) // 2
            if self._attempt(module, kept[:middle]).verdict.kind == "differs":
                wrong = middle
            else:
                right = middle
        return kept[wrong - 1]

    def _warn(self, number: int, kept: Sequence[int], verdict: Verdict) -> None:
        upto = ",".join(str(self.passes[i]) for i in kept if i <= number)
        warnings.warn(
            f"pass {self.passes[number].name} was undone: none of its sites is wrong, but after it the whole "
            f"module is: {verdict.reason} (`ainoc opt MODEL --passes '{upto}'` prints what it did)",
            PassUndone,
            stacklevel=3,
        )
