"""A slow but exact interpreter of kernels: the oracle that every printer is compared with.

A kernel is turned into closures over numpy values, one per statement and expression node, with the
arithmetic of `aino_ir.loops.evaluate`.  It also keeps watch: every access is checked against the
buffer's declared size, promised facts are tested, integer divisors must not be zero, and scratch
starts out as NaN (integers: an odd pattern), so that reading what was never written shows.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence

import numpy as np

from aino_ir.dims import value_of
from aino_ir.errors.loops import LoopArgumentError
from aino_ir.loops.closures import Actions, actions_of
from aino_ir.loops.groups import GROUP
from aino_ir.loops.machine import Array, Failed, Machine, Outcome, Team
from aino_ir.loops.signals import NeverOver, Watch
from aino_ir.loops.stmt import (
    UNIT,
    LoopFn,
    Status,
)
from aino_ir.loops.warp import WARP

_COMPILED_LIMIT = 32


def run_kernel(
    fn: LoopFn,
    views: Sequence[Array],
    symbols: Mapping[str, int] | None = None,
    lo: int = 0,
    hi: int | None = None,
) -> Outcome:
    """Run units lo..hi-1 of a kernel on arrays; results are written in place.

    Args:
        fn: the kernel.
        views: 1-D arrays of the storage dtypes, one per parameter and at least as long as it says;
            for a kernel that can fail, an int64[2] status word may follow.
        symbols: values of the kernel's symbols.
        lo: first unit.
        hi: end of the units (exclusive); all when None.

    Returns:
        `Outcome(Status.OK)`, or what the first `Fail` recorded.

    Raises:
        LoopArgumentError: arrays or symbols do not fit the declaration.
        LoopOutOfBounds, LoopRunError: the kernel is wrong.
    """
    machine = Machine(fn, _check_symbols(fn, symbols or {}))
    machine.bind(views)
    prologue, body = _compile(fn)
    with np.errstate(all="ignore"):
        outcome = _run(machine, prologue, body, lo, hi)
    if outcome.status is not Status.OK and len(views) > len(fn.params):
        word = views[len(fn.params)]
        if word[0] == Status.OK.value:
            word[:] = outcome.status.value, outcome.value
    return outcome


_compiled: dict[int, tuple[LoopFn, tuple[Actions, Actions]]] = {}


def _compile(fn: LoopFn) -> tuple[Actions, Actions]:
    found = _compiled.get(id(fn))
    if found is not None:
        return found[1]
    blocks = actions_of(fn.prologue), actions_of(fn.body)
    if len(_compiled) >= _COMPILED_LIMIT:
        _compiled.clear()
    _compiled[id(fn)] = (fn, blocks)
    return blocks


def _run(machine: Machine, prologue: Actions, body: Actions, lo: int, hi: int | None) -> Outcome:
    end = value_of(machine.fn.units, machine.dims) if hi is None else hi
    try:
        for action in prologue:
            action(machine)
        for unit in range(lo, end):
            machine.dims[UNIT] = unit
            if machine.fn.threads > 1:
                _run_together(machine, body)
                continue
            for action in body:
                action(machine)
    except Failed as failed:
        return failed.outcome
    return Outcome(Status.OK)


def _run_together(machine: Machine, body: Actions) -> None:
    """One unit by all of its threads, which wait for each other at barriers."""
    threads = machine.fn.threads
    meeting = threading.Barrier(threads)
    warps, groups = (
        [Team(min(size, threads - first)) for first in range(0, threads, size)] for size in (WARP, GROUP)
    )
    meetings = [meeting, *(team.meeting for team in (*warps, *groups))]
    watch = Watch(threads, meetings)
    watch.signals += [signal for signals in machine.signals.values() for signal in signals]
    failures: list[Exception] = []

    def run(number: int) -> None:
        own = machine.thread(number, meeting, warps[number // WARP], groups[number // GROUP], watch)
        try:
            with np.errstate(all="ignore"):
                for action in body:
                    action(own)
        except threading.BrokenBarrierError:
            pass
        except Exception as failure:
            failures.append(own.fault(str(failure)) if isinstance(failure, NeverOver) else failure)
            watch.abort()
            for waiting in meetings:
                waiting.abort()
        finally:
            watch.leave()

    workers = [threading.Thread(target=run, args=(n,)) for n in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if failures:
        raise failures[0]


def _check_symbols(fn: LoopFn, symbols: Mapping[str, int]) -> dict[str, int]:
    for name in fn.symbols:
        if name not in symbols:
            raise LoopArgumentError(kernel=fn.name, name=name, expected="given", got="missing")
    for name, lo, hi in fn.facts:
        value = symbols[name]
        if value < lo or (hi is not None and value > hi):
            raise LoopArgumentError(kernel=fn.name, name=name, expected=f"in {lo}..{hi}", got=value)
    return {name: int(symbols[name]) for name in fn.symbols}
