"""Runs compilers: several at once, bounded in time, and never left behind.

Each command is an argument list (no shell), runs in a process group of its own with ``LC_ALL=C`` and
no input, and writes its messages to a file.  Whatever ends `run_commands` early (a failure, the time
limit, Ctrl-C) ends all the groups that it started.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

MESSAGE_BYTES = 1 << 20
"""How much of a command's messages is kept."""

_POLL_SECONDS = 0.002


@dataclass(frozen=True)
class Command:
    """What to run.

    Attributes:
        argv: program and arguments.
        cwd: folder to run in.
        environ: additions to this process's environment.
    """

    argv: tuple[str, ...]
    cwd: Path
    environ: Mapping[str, str]


@dataclass(frozen=True)
class Outcome:
    """How a command ended.

    Attributes:
        command: what ran.
        status: exit status; minus the signal's number when a signal ended it; None when it was ended
            here because its time was up or another command failed.
        output: its messages, standard output and error together.
        timed_out: whether the time limit ended it.
    """

    command: Command
    status: int | None
    output: str
    timed_out: bool = False

    @property
    def ok(self) -> bool:
        """Whether it exited with status 0."""
        return self.status == 0


class _Running:
    """One started command."""

    def __init__(self, command: Command) -> None:
        self.command = command
        self.messages: IO[bytes] = tempfile.TemporaryFile(dir=command.cwd)
        try:
            self.process = subprocess.Popen(
                list(command.argv),
                cwd=command.cwd,
                env={**os.environ, "LC_ALL": "C", "TMPDIR": str(command.cwd), **command.environ},
                stdin=subprocess.DEVNULL,
                stdout=self.messages,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except BaseException:
            self.messages.close()
            raise

    def end(self) -> None:
        """Kill the whole group and reap the process."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def outcome(self, status: int | None, timed_out: bool = False) -> Outcome:
        """Return the outcome and let go of the message file."""
        self.messages.seek(0)
        text = self.messages.read(MESSAGE_BYTES).decode("utf-8", "replace")
        self.messages.close()
        return Outcome(self.command, status, text, timed_out)


def run_commands(
    commands: Sequence[Command],
    jobs: int,
    timeout: float,
    stop_on_failure: bool = False,
    finished: Callable[[int, Outcome], None] | None = None,
) -> list[Outcome]:
    """Run `commands`, at most `jobs` at a time, and return their outcomes in order.

    Args:
        commands: what to run; independent of each other.
        jobs: processes at a time, at least one.
        timeout: seconds for all of them together.
        stop_on_failure: whether the first failure ends the rest; commands that were not run, or were
            ended for that reason, have status None.
        finished: called with index and outcome of each command as soon as it has ended by itself.

    Raises:
        OSError: a program cannot be started.
    """
    deadline = time.monotonic() + timeout
    waiting = list(enumerate(commands))[::-1]
    running: dict[int, _Running] = {}
    outcomes: dict[int, Outcome] = {}
    try:
        while (waiting or running) and time.monotonic() < deadline:
            while waiting and len(running) < max(1, jobs):
                index, command = waiting.pop()
                running[index] = _Running(command)
            for index in _wait_for_any(running, deadline):
                entry = running.pop(index)
                outcomes[index] = entry.outcome(entry.process.returncode)
                if finished is not None:
                    finished(index, outcomes[index])
                if stop_on_failure and not outcomes[index].ok:
                    waiting.clear()
                    return _in_order(commands, running, outcomes, timed_out=False)
        return _in_order(commands, running, outcomes, timed_out=True)
    finally:
        for entry in running.values():
            entry.end()
            entry.messages.close()


def _in_order(
    commands: Sequence[Command], running: dict[int, _Running], outcomes: dict[int, Outcome], timed_out: bool
) -> list[Outcome]:
    """End what still runs and return one outcome per command."""
    for index in sorted(running):
        entry = running.pop(index)
        entry.end()
        outcomes[index] = entry.outcome(None, timed_out)
    missing = (i for i in range(len(commands)) if i not in outcomes)
    outcomes.update({i: Outcome(commands[i], None, "", timed_out) for i in missing})
    return [outcomes[i] for i in range(len(commands))]


def _wait_for_any(running: dict[int, _Running], deadline: float) -> list[int]:
    """Wait until some command has ended or the deadline has passed; return those that ended."""
    seconds = max(0.0, deadline - time.monotonic())
    descriptors: list[int] = []
    poller = select.poll()
    try:
        for entry in running.values():
            fd = _pidfd(entry.process.pid)
            if fd is None:
                seconds = min(seconds, _POLL_SECONDS)
            else:
                descriptors.append(fd)
                poller.register(fd, select.POLLIN)
        poller.poll(seconds * 1000)
    finally:
        for fd in descriptors:
            os.close(fd)
    return [index for index, entry in running.items() if entry.process.poll() is not None]


def _pidfd(pid: int) -> int | None:
    """Return a descriptor that becomes readable when the process ends, or None where there is none."""
    if not hasattr(os, "pidfd_open"):
        return None
    try:
        return os.pidfd_open(pid)
    except OSError:
        return None
