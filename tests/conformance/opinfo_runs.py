"""Samples of operators on the interpreter and compiled: captured once, compared with eager PyTorch."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from aino_ir.builder import Builder
from aino_ir.driver.api import compile
from aino_ir.errors.base import AinoError
from aino_ir.errors.torch import TorchError
from aino_ir.frontends.dead import remove_dead
from aino_ir.frontends.torch.graph import add_graph, lower_graph
from aino_ir.frontends.torch.lower import require_supported
from aino_ir.interp import run_module
from aino_ir.op import Trait
from aino_ir.runtime.store import opened_or_temporary
from aino_ir.tolerance import disagreement
from tests.codegen.native import compile_module
from tests.conformance.opinfo_cases import BY_RULE, Capture, Captured, Eager, arrays, capturing, samples

SECONDS = 20
"""How long one sample may take to be captured, lowered and interpreted."""
BATCH = 60
"""Samples in one compiled module."""

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Outcome:
    """How a sample went on a target.

    Attributes:
        sample: its number among those of the operator; -1 speaks of the operator as a whole.
        status: native (right, by AINO), fallback (an operator or form has no lowering, eager PyTorch would
            run it), by rule (other than eager's, as docs/ir.md says), wrong, refused (another error of the
            catalogue), crashed, or skipped (torch itself cannot capture the sample, or it gives no tensor);
            of calls that must fail: raises, or accepted.
        detail: what differs, or the error.
    """

    operator: str
    dtype: str
    sample: int
    target: str
    status: str
    detail: str = ""


class TookTooLong(Exception):
    """A sample was given up."""


@contextmanager
def time_limit(seconds: int) -> Iterator[None]:
    """TookTooLong in the block when it takes longer."""

    def ring(*_: object) -> None:
        raise TookTooLong(f"more than {seconds} s")

    old = signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, old)


@dataclass(frozen=True)
class Ready:
    """A captured sample."""

    operator: str
    sample: int
    captured: Captured


Judged = tuple[Ready, str, str]
"""A sample, its status, and the detail."""


def run_operators(
    operators: Sequence[str],
    dtype: str,
    targets: Sequence[str],
    limit: int | None = None,
    chosen: Any = lambda operator, number: True,
) -> list[Outcome]:
    """Outcomes of the samples of operators: captured once, run on each target.

    Args:
        operators: names of OpInfos.
        dtype: element type of the samples.
        targets: ``reference`` and targets that are compiled.
        limit: samples of each operator at most.
        chosen: which samples, by operator and number.
    """
    out: list[Outcome] = []
    calls: list[tuple[str, int, Eager]] = []
    ready: list[Ready] = []

    def leave_out(operator: str, number: int, why: str) -> None:
        out.extend(Outcome(operator, dtype, number, target, "skipped", why) for target in targets)

    for operator in operators:
        found = [(n, s) for n, s in enumerate(samples(operator, dtype)) if chosen(operator, n)][:limit]
        if not found:
            leave_out(operator, -1, "no samples")
        for number, sample in found:
            try:
                calls.append((operator, number, Eager.of_sample(operator, sample)))
            except Exception as problem:  # eager refuses it
                leave_out(operator, number, said(problem))
    with capturing() as capture:
        for operator, number, eager in calls:
            captured = _captured(capture, eager)
            if isinstance(captured, str):
                leave_out(operator, number, captured)
            else:
                ready.append(Ready(operator, number, captured))
    for target in targets:
        for which, status, detail in run_captured(ready, target):
            rule = BY_RULE.get((which.operator, dtype))
            if status == "wrong" and rule is not None:
                status, detail = "by rule", rule
            out.append(Outcome(which.operator, dtype, which.sample, target, status, detail))
    return sorted(out, key=lambda o: (o.operator, o.target, o.sample))


def _captured(capture: Capture, eager: Eager) -> Captured | str:
    """A call as a graph, or why there is none."""
    if not eager.expected:
        return "no tensor comes out"
    try:
        with time_limit(SECONDS):
            return capture(eager)
    except Exception as problem:  # whatever torch raises when it cannot trace
        return said(problem)


def run_captured(ready: Sequence[Ready], target: str) -> Iterator[Judged]:
    """How samples go on a target."""
    return run_interpreted(ready) if target == "reference" else run_native(ready, target)


def run_interpreted(ready: Sequence[Ready]) -> Iterator[Judged]:
    """Each sample by the interpreter."""
    for one in ready:
        try:
            with time_limit(SECONDS):
                results = run_module(lower_graph(one.captured.graph), arrays(one.captured.inputs))
            yield _judged(one, results)
        except TorchError as error:
            yield one, "fallback", said(error)
        except Exception as problem:
            yield one, failure(problem), said(problem)


def run_native(ready: Sequence[Ready], target: str) -> Iterator[Judged]:
    """Samples compiled together, as many as fit a module; a batch that fails is halved."""
    fit = []
    for one in ready:
        try:
            with time_limit(SECONDS):
                require_supported([one.captured.graph.graph])
                lower_graph(one.captured.graph)
            fit.append(one)
        except TorchError as error:
            yield one, "fallback", said(error)
        except Exception as problem:
            yield one, failure(problem), said(problem)
    for start in range(0, len(fit), BATCH):
        yield from _halving(fit[start : start + BATCH], target)


def _halving(batch: Sequence[Ready], target: str) -> Iterator[Judged]:
    try:
        results = run_together([one.captured for one in batch], target)
    except Exception as problem:
        if len(batch) == 1:
            yield batch[0], failure(problem), said(problem)
            return
        middle = len(batch) // 2
        yield from _halving(batch[:middle], target)
        yield from _halving(batch[middle:], target)
        return
    for one, made in zip(batch, results, strict=True):
        yield _judged(one, made)


def _judged(one: Ready, results: Sequence[Array]) -> Judged:
    why = judge(results, one.captured)
    return one, "wrong" if why else "native", why or ""


def run_together(batch: Sequence[Captured], target: str) -> list[list[Array]]:
    """The results of each sample, from one compiled module with all of them."""
    b = Builder()
    for number, captured in enumerate(batch):
        add_graph(b, captured.graph, prefix=f"s{number}_")
    b.finish()
    remove_dead(b.function.block)
    given = [a for captured in batch for a in arrays(captured.inputs)]
    made: Sequence[Array]
    if any(op.has(Trait.DATA_DEPENDENT) for op in b.module.walk()):
        # the run decides extents: so it gives memory
        made = compile(b.module, target, threads=1, level=0, cache=False, strict=True).run(*given)
    else:
        with opened_or_temporary() as store:
            native = compile_module(b.module, store, "c:avx2" if target == "c" else target)
        made = native.run(given)
    out, position = [], 0
    for captured in batch:
        count = len(captured.expected)
        out.append(list(made[position : position + count]))
        position += count
    return out


def judge(results: Sequence[Array], captured: Captured) -> str | None:
    """Why results are not what eager PyTorch gives, or None."""
    return differs(results, arrays(captured.expected), captured.undefined)


def differs(results: Sequence[Array], expected: Sequence[Array], undefined: bool = False) -> str | None:
    """Why results are not what is expected, or None; of undefined contents only types and shapes count."""
    if len(results) != len(expected):
        return f"{len(results)} results instead of {len(expected)}"
    for number, (got, want) in enumerate(zip(results, expected, strict=True)):
        if got.dtype != want.dtype or got.shape != want.shape:
            return f"result {number} is {got.dtype}{got.shape}, not {want.dtype}{want.shape}"
        why = None if undefined else disagreement(got, want, "approximate")
        if why is not None:
            return f"result {number}: {why}"
    return None


def failure(problem: BaseException) -> str:
    """The status of a sample that raises: an error that names what the user did, or a fault of AINO."""
    return "refused" if isinstance(problem, AinoError) and problem.exit_status != 3 else "crashed"


def said(problem: BaseException) -> str:
    """An error in one line."""
    if isinstance(problem, AinoError):
        return f"{problem.code} {' '.join(problem.message.split())}"[:300]
    return f"{type(problem).__name__}: {' '.join(str(problem).split())}"[:300]
