"""Many cases in one compiled module, run in a process of its own.

One op alone would cost a compiler call each; here all cases of a batch become one module with many
inputs and outputs.  When a batch fails to compile, or its process dies, it is halved until the guilty
case stands alone.  Results are written between guard bytes, which no kernel may touch.
"""

from __future__ import annotations

import faulthandler
import multiprocessing
import signal
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from aino_ir.builder import Builder
from aino_ir.driver.api import compile
from aino_ir.errors.base import AinoError
from aino_ir.graph import Module
from aino_ir.op import OPS
from aino_ir.runtime.store import opened_or_temporary
from aino_ir.types import type_of
from tests.codegen.native import compile_module
from tests.conformance.cases import Array, Case, judge

GUARD = 256
"""Guard bytes on either side of a result."""

PATTERN = 0xA5

LONGEST = 300
"""Seconds that a batch may take."""


@dataclass(frozen=True)
class Outcome:
    """How a case went on a target.

    Attributes:
        status: passed, wrong, refused (an error of the catalogue) or crashed.
        detail: what differs, or the error.
    """

    case: str
    target: str
    status: str
    detail: str = ""


Together = Callable[[Sequence[Case], str], "list[list[Array] | str]"]
"""Runs cases as one module on a target: the results of each, or what is wrong."""


def run_cases(
    cases: Sequence[Case], target: str, size: int = 100, together: Together | None = None
) -> Iterator[Outcome]:
    """Outcomes of cases on a target, `size` of them in one module."""
    for start in range(0, len(cases), size):
        yield from _halving(list(cases[start : start + size]), target, together or run_together)


def _halving(cases: list[Case], target: str, together: Together) -> Iterator[Outcome]:
    answer = in_child(_run_batch, cases, target, together)
    if isinstance(answer, list):
        yield from answer
    elif len(cases) == 1:
        yield Outcome(cases[0].name, target, *answer)
    else:
        middle = len(cases) // 2
        yield from _halving(cases[:middle], target, together)
        yield from _halving(cases[middle:], target, together)


def in_child(function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function gives in a forked process, or ("crashed", how) when the process dies."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(False)
    child = context.Process(target=_child, args=(theirs, function, arguments))
    child.start()
    theirs.close()
    try:
        answer = ours.recv()
    except EOFError:
        answer = None
    child.join()
    if answer is None:
        code = child.exitcode or 0
        return "crashed", signal.Signals(-code).name if code < 0 else f"exit {code}"
    return answer


def _child(pipe: Connection, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    faulthandler.disable()
    signal.alarm(LONGEST)  # a batch that hangs counts as crashed
    pipe.send(function(*arguments))


def _run_batch(cases: Sequence[Case], target: str, together: Together) -> list[Outcome] | tuple[str, str]:
    try:
        results = together(cases, target)
    except AinoError as error:
        return "refused" if error.exit_status != 3 else "crashed", f"{error.code} {error.message}"
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        return "crashed", f"{type(error).__name__}: {error} ({place.name}, line {place.lineno})"
    out = []
    for case, made in zip(cases, results, strict=True):
        why = made if isinstance(made, str) else judge(case, made, case.expected())
        out.append(Outcome(case.name, target, "passed" if why is None else "wrong", why or ""))
    return out


def run_together(cases: Sequence[Case], target: str) -> list[list[Array] | str]:
    """The results of each case, from one module with all of them; a text where guard bytes changed."""
    module = joined(cases)
    given = [a for case in cases for a in case.operands]
    if not all(v.type.is_static for v in module.main.outputs):  # type: ignore[union-attr]
        exe = compile(module, target, threads=1, level=0)  # the run decides extents, so the memory is its own
        return apart(cases, exe.run(*given))
    with opened_or_temporary() as store:
        native = compile_module(module, store, target)
    types = [type for _, type in native.plan.outputs]
    wholes = [_guarded(t.size, t.dtype.numpy) for t in types]  # type: ignore[union-attr]
    made = [
        w[GUARD:-GUARD].view(t.dtype.numpy).reshape(t.shape)  # type: ignore[union-attr]
        for w, t in zip(wholes, types, strict=True)
    ]
    native.run(given, out=made)
    out: list[list[Array] | str] = []
    position = 0
    for case in cases:
        count = len(case.expected())
        mine = slice(position, position + count)
        position += count
        intact = all((w[:GUARD] == PATTERN).all() and (w[-GUARD:] == PATTERN).all() for w in wholes[mine])
        out.append(made[mine] if intact else "memory beside a result was written")
    return out


def apart(cases: Sequence[Case], results: Sequence[Array]) -> list[list[Array] | str]:
    """The results of all cases, case by case."""
    left = iter(results)
    return [[next(left) for _ in case.expected()] for case in cases]


def joined(cases: Sequence[Case]) -> Module:
    """One module whose main applies every case's op to inputs of its own."""
    b = Builder()
    values = []
    for n, case in enumerate(cases):
        operands = case.sample.operands
        values.append(
            [None if a is None else b.input(f"x{n}_{i}", type_of(a)) for i, a in enumerate(operands)]
        )
    for n, (case, given) in enumerate(zip(cases, values, strict=True)):
        op = b.op(OPS[case.op], *given, **case.sample.attrs)
        for i, result in enumerate(op.results):
            b.output(f"y{n}_{i}", result)
    return b.module


def _guarded(count: Any, dtype: np.dtype[Any]) -> Array:
    return np.full(int(count) * dtype.itemsize + 2 * GUARD, PATTERN, np.uint8)
