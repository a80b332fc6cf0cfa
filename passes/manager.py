"""Runs passes: times them, verifies and validates what they did, undoes what is wrong, reports."""

from __future__ import annotations

import time
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from aino_ir.errors.base import AinoError
from aino_ir.errors.passes import RequiredPassFailed
from aino_ir.graph import Module
from aino_ir.passes.base import ERROR_CLASSES, Pass, PassContext, PassResult
from aino_ir.passes.eliminate_dead_code import EliminateDeadCode
from aino_ir.passes.registry import parse_passes
from aino_ir.passes.rules import RulePass
from aino_ir.passes.validation import Failure, Memory, Sites, Validator
from aino_ir.verify import verify, verify_ops


class PassUndone(UserWarning):
    """A pass changed what the program means, and was taken back."""


@dataclass
class PassRecord:
    """What one pass did, for reports.

    Attributes:
        name: the pass with its options.
        seconds: time in the pass; `checking_seconds`: in verification and validation.
        changed: whether it changed anything.
        counters: rewrites by rule.
        before, after: ops by name.
        sites: how its rewrite sites were validated.
        skipped: sites that failed validation and were left out on the second try.
        undone: why the whole pass was taken back, or "".
        attempts: how often the pass was run.
        error_class: the loosest class among the rules that fired.
    """

    name: str
    seconds: float = 0.0
    checking_seconds: float = 0.0
    changed: bool = False
    counters: dict[str, int] = field(default_factory=dict)
    before: Counter[str] = field(default_factory=Counter)
    after: Counter[str] = field(default_factory=Counter)
    sites: Sites = field(default_factory=Sites)
    skipped: list[Failure] = field(default_factory=list)
    undone: str = ""
    attempts: int = 0
    error_class: str = "exact"

    @property
    def added(self) -> dict[str, int]:
        """Ops that there are more of now, by name."""
        return dict(self.after - self.before)

    @property
    def removed(self) -> dict[str, int]:
        """Ops that there are fewer of now, by name."""
        return dict(self.before - self.after)

    def __str__(self) -> str:
        changes = [f"-{n} {op}" for op, n in self.removed.items()]
        changes += [f"+{n} {op}" for op, n in self.added.items()]
        what = f"undone: {self.undone}" if self.undone else ", ".join(changes) or "no change"
        return f"{self.name:34s} {self.seconds * 1e3:8.1f} ms  {what}"


@dataclass
class PipelineReport:
    """What a pipeline did."""

    records: list[PassRecord] = field(default_factory=list)

    @property
    def changed(self) -> bool:
        """Whether any pass changed anything."""
        return any(r.changed for r in self.records)

    @property
    def undone(self) -> list[dict[str, str]]:
        """Passes and sites that were taken back, and why."""
        whole = [{"pass": r.name, "reason": r.undone} for r in self.records if r.undone]
        sites = [
            {"pass": r.name, "rule": f.rule, "reason": f.reason} for r in self.records for f in r.skipped
        ]
        return whole + sites

    @property
    def sites(self) -> Sites:
        """Validated sites of all passes together."""
        total = Sites()
        for r in self.records:
            total.add(r.sites)
        return total

    def facts(self) -> dict[str, Any]:
        """What an artifact's report says about the passes."""
        rows = [
            {
                "pass": r.name,
                "seconds": round(r.seconds, 4),
                "checking_seconds": round(r.checking_seconds, 4),
                "rewrites": r.counters,
                "sites": asdict(r.sites),
            }
            for r in self.records
        ]
        return {"passes": rows, "sites": asdict(self.sites), "undone": self.undone}

    def __str__(self) -> str:
        return "\n".join(str(r) for r in self.records)


Dump = Callable[[str, str], None]
"""Gets a title and the module's text."""


class PassManager:
    """A list of passes, and how carefully they are run.

    Args:
        passes: passes, their names, or one text such as ``canonicalize,eliminate-dead-code``.
        validate: whether every rewrite site is run before and after on the interpreter.
        verify_all: verify the whole module after each pass, not only what it touched.
        cleanup: remove dead code after every pass that changed something.
        dump_after: "", "all", "changed", or a pass's name: whose result goes to `dump`.
        dump: gets (title, text).
        quiet: warn of nothing that is undone (it stands in the report).
    """

    def __init__(
        self,
        passes: Sequence[Pass | str] | str,
        *,
        validate: bool = True,
        verify_all: bool = False,
        cleanup: bool = True,
        dump_after: str = "",
        dump: Dump | None = None,
        quiet: bool = False,
    ) -> None:
        items = [passes] if isinstance(passes, str) else list(passes)
        self.passes: list[Pass] = []
        for item in items:
            self.passes += parse_passes(item) if isinstance(item, str) else [item]
        self.validate = validate
        self.verify_all = verify_all
        self.cleanup = cleanup
        self.dump_after = dump_after
        self.dump = dump
        self.quiet = quiet
        self.memory = Memory()

    def run(self, module: Module, ctx: PassContext | None = None) -> PipelineReport:
        """Run every pass in order on a module.

        Raises:
            RequiredPassFailed: a pass that cannot be left out changed the program's meaning.
        """
        ctx = ctx if ctx is not None else PassContext()
        report = PipelineReport()
        snapshot: Module | None = None
        for item in self.passes:
            if not ctx.allows(item.error_class):
                continue
            if self.validate and snapshot is None:
                snapshot = module.clone()
            report.records.append(self._run(item, module, snapshot, ctx))
            if report.records[-1].attempts > 1 or report.records[-1].changed:
                snapshot = None
        return report

    def _run(self, item: Pass, module: Module, snapshot: Module | None, ctx: PassContext) -> PassRecord:
        """Run one pass; `snapshot` is a clone of the module as it is now, and may be used up."""
        record = PassRecord(str(item), before=op_counts(module))
        failures = self._attempt(item, module, snapshot, ctx, record, frozenset())
        if failures and snapshot is not None:
            restore(module, snapshot.clone())
            skip = frozenset(pair for f in failures for pair in f.roots)
            again = self._attempt(item, module, snapshot, ctx, record, skip)
            record.skipped = failures if not again else []
            failures = again
            if failures:
                restore(module, snapshot)
        if failures:
            self._give_up(item, failures[0], record)
        for skipped in record.skipped:
            self._warn(f"pass {item.name} was not done at one place: {skipped.rule}: {skipped.reason}")
        record.after = op_counts(module)
        self._dump(item, record, module)
        return record

    def _attempt(
        self,
        item: Pass,
        module: Module,
        snapshot: Module | None,
        ctx: PassContext,
        record: PassRecord,
        skip: frozenset[tuple[str, int]],
    ) -> list[Failure]:
        """Run a pass once; what went wrong (empty: nothing)."""
        ctx.rewriters, ctx.skip = {}, skip
        record.attempts += 1
        start = time.perf_counter()
        try:
            result = item.run(module, ctx)
        except AinoError as error:
            if snapshot is None or item.required:
                raise
            return [Failure(item.name, frozenset(), str(error))]
        finally:
            record.seconds += time.perf_counter() - start
        self._note(item, result, ctx, record)
        start = time.perf_counter()
        try:
            return self._check(item, module, snapshot, ctx, record)
        finally:
            record.checking_seconds += time.perf_counter() - start

    def _note(self, item: Pass, result: PassResult, ctx: PassContext, record: PassRecord) -> None:
        record.changed, record.counters = result.changed, result.counters
        classes = rule_classes(item)
        fired = [classes.get(rule, item.error_class) for rule in result.counters]
        record.error_class = max(fired, key=ERROR_CLASSES.index, default=item.error_class)
        if ctx.explain:
            for rewriter in ctx.rewriters.values():
                ctx.refusals.extend((item.name, refusal) for refusal in rewriter.refusals)

    def _check(
        self, item: Pass, module: Module, snapshot: Module | None, ctx: PassContext, record: PassRecord
    ) -> list[Failure]:
        """Clean up, verify, validate."""
        if not record.changed:
            return []
        logs = {name: list(rewriter.log) for name, rewriter in ctx.rewriters.items()}
        if self.cleanup and not isinstance(item, EliminateDeadCode):
            ctx.rewriters = {}
            EliminateDeadCode().run(module, ctx)
        try:
            if self.verify_all:
                verify(module)
            else:
                verify_ops(module, [op for log in logs.values() for entry in log for op in entry.touched])
        except AinoError as error:
            if snapshot is None or item.required:
                raise
            return [Failure(item.name, frozenset(), str(error))]
        if snapshot is None:
            return []
        validator = Validator(item.error_class, rule_classes(item), self.memory)
        failures = validator.check_module(snapshot, module, logs)
        record.sites = validator.sites
        return failures

    def _give_up(self, item: Pass, failure: Failure, record: PassRecord) -> None:
        if item.required:
            raise RequiredPassFailed(name=item.name, rule=failure.rule, reason=failure.reason)
        record.undone = f"{failure.rule}: {failure.reason}"
        record.changed, record.counters = False, {}
        self._warn(f"pass {item.name} was undone: {record.undone}")

    def _warn(self, text: str) -> None:
        if not self.quiet:
            warnings.warn(text, PassUndone, stacklevel=5)

    def _dump(self, item: Pass, record: PassRecord, module: Module) -> None:
        if self.dump is None:
            return
        if self.dump_after in ("all", item.name) or (self.dump_after == "changed" and record.changed):
            self.dump(f"after {record.name}", str(module))


def rule_classes(item: Pass) -> dict[str, str]:
    """Error classes of a pass's single rules, where it has any."""
    return {r.name: r.error_class for r in item.rules} if isinstance(item, RulePass) else {}


def op_counts(module: Module) -> Counter[str]:
    """Ops by name, regions included."""
    return Counter(op.name for op in module.walk())


def restore(module: Module, snapshot: Module) -> None:
    """Give a module the functions of a clone of its former self; ids stay unused."""
    module.functions = snapshot.functions
    for function in module.functions.values():
        function.module = module
