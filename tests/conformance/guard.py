"""Work in forked processes that may crash or hang, several at a time.

Each worker is the leader of a process group of its own.  One that dies or is silent for too long costs
the item that it was at, and nothing else: it is ended with all its children, and another goes on.
"""

from __future__ import annotations

import contextlib
import faulthandler
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Generic, TypeVar

Item = TypeVar("Item")
Answer = TypeVar("Answer")

GRACE = 5.0
"""Seconds that a worker has to end its own children before it is killed."""


@dataclass(frozen=True)
class Death:
    """What became of a worker: a signal's name, an exit status, or that it gave no answer in time."""

    how: str


class _Worker(Generic[Item, Answer]):
    """One forked process that answers item after item."""

    def __init__(self, work: Callable[[Item], Answer]) -> None:
        context = multiprocessing.get_context("fork")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, self.pipe, work))
        self.process.start()
        theirs.close()
        self.item: Item | None = None
        self.deadline = 0.0

    def give(self, item: Item, seconds: float) -> None:
        self.item, self.deadline = item, time.monotonic() + seconds
        self.pipe.send(item)

    def end(self) -> None:
        """End the process and its group: first politely, so that it can end compilers that it started."""
        group = self.process.pid
        assert group is not None
        self.pipe.close()
        for number in (signal.SIGINT, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(group, number)
            self.process.join(GRACE)
        self.process.close()

    def death(self) -> Death:
        """How the process ended by itself."""
        self.process.join(GRACE)
        code = self.process.exitcode
        if code is None:
            return Death("closed its pipe")
        return Death(signal.Signals(-code).name if code < 0 else f"exit {code}")


def _serve(pipe: Connection, parents: Connection, work: Callable[[Item], Answer]) -> None:
    os.setsid()
    parents.close()
    faulthandler.disable()
    parent = os.getppid()
    with contextlib.suppress(EOFError, KeyboardInterrupt):
        while os.getppid() == parent:  # siblings hold copies of the pipe: its end would not tell
            if pipe.poll(1.0):
                pipe.send(work(pipe.recv()))


def guarded(
    items: Sequence[Item],
    work: Callable[[Item], Answer],
    seconds: Callable[[Item], float],
    jobs: int = 1,
) -> Iterator[tuple[Item, Answer | Death]]:
    """Answers as they come, one for each item.

    Args:
        items: what to work on; passed through pipes.
        work: called in a forked process.
        seconds: how long an item may take.
        jobs: processes at a time.
    """
    waiting = list(items)[::-1]
    workers: list[_Worker[Item, Answer]] = []
    try:
        while waiting or any(w.item is not None for w in workers):
            while waiting and len(workers) < jobs:
                workers.append(_Worker(work))
            for worker in workers:
                if worker.item is None and waiting:
                    item = waiting.pop()
                    worker.give(item, seconds(item))
            yield from _answers(workers)
    finally:
        for worker in workers:
            worker.end()


def _answers(workers: list[_Worker[Item, Answer]]) -> Iterator[tuple[Item, Answer | Death]]:
    """What busy workers have to say, after waiting for one of them; the dead are removed."""
    busy = {w.pipe: w for w in workers if w.item is not None}
    nearest = min(w.deadline for w in busy.values())
    ready = wait(list(busy), max(0.0, nearest - time.monotonic()))
    for pipe, worker in busy.items():
        item = worker.item
        assert item is not None
        if pipe in ready:
            try:
                answer: Answer | Death = pipe.recv()
                worker.item = None
            except (EOFError, OSError):
                answer = worker.death()
        elif time.monotonic() >= worker.deadline:
            answer = Death("no answer in time")
        else:
            continue
        if worker.item is not None:
            workers.remove(worker)
            worker.end()
        yield item, answer
