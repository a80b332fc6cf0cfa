"""What all verbs share: results for people and machines, errors and exit statuses, progress."""

from __future__ import annotations

import errno
import json
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import click

from aino_ir.errors.base import EXIT_USAGE, AinoError, InternalError
from aino_ir.errors.cache import DiskFull, FileNotWritable
from aino_ir.errors.run import NativeAllocationFailed
from aino_ir.errors.usage import UnexpectedFault

if TYPE_CHECKING:
    from aino_ir.driver.pipeline import Progress

PATIENCE_SECONDS = 2.0
"""What takes longer than this shows a progress bar, when standard error is a terminal."""

EXIT_INTERRUPTED = 130

F = TypeVar("F", bound=Callable[..., Any])


class Shell:
    """One command line on its way.

    Attributes:
        words: the command line.
        json: whether the result goes to standard output as JSON.
        debug: whether errors show a traceback.
    """

    def __init__(self, words: list[str]) -> None:
        self.words = words
        self.json = "--json" in words  # known before parsing: usage errors are told as JSON too
        self.debug = "--debug" in words
        self._answered = False

    # -- results ------------------------------------------------------------------------------------

    def result(self, data: dict[str, Any], text: str) -> None:
        """Print a verb's result: `data` for machines, `text` for people."""
        self._answered = True
        click.echo(json.dumps(data, indent=2, sort_keys=True) if self.json else text)

    def rendered(self, table: Any) -> str:
        """A rich table as text, as wide as the terminal (or as it needs when there is none)."""
        from rich.console import Console

        console = Console(width=None if sys.stdout.isatty() else 160)
        with console.capture() as capture:
            console.print(table)
        return capture.get().rstrip()

    def note(self, text: str) -> None:
        """Tell people something beside the result, on standard error."""
        click.echo(text, err=True)

    # -- running ------------------------------------------------------------------------------------

    def run(self, verb: Callable[[], object]) -> int:
        """Run a verb; print what goes wrong; return the exit status."""
        try:
            with self._warnings():
                status = verb()
        except click.ClickException as wrong:
            self._usage(wrong)
            return EXIT_USAGE
        except (KeyboardInterrupt, click.Abort):
            self.note("interrupted")
            return EXIT_INTERRUPTED
        except Exception as problem:
            return self._failed(problem)
        return status if isinstance(status, int) else 0  # a verb returns nothing, --help its status

    def _failed(self, problem: Exception) -> int:
        error = as_aino_error(problem)
        if self.debug:
            import traceback

            self.note("".join(traceback.format_exception(problem)).rstrip())
        reproducer = ""
        if isinstance(error, InternalError):
            from aino_ir.driver.cli.faults import write_reproducer

            reproducer = write_reproducer(self.words, problem)
        self._tell(error, reproducer)
        return error.exit_status

    def _tell(self, error: AinoError, reproducer: str) -> None:
        if self.json:
            data: dict[str, Any] = {
                "code": error.code,
                "message": error.message,
                "hint": error.hint.format(**error.fields),
                "at": str(error.loc) if error.loc is not None else "",
                "exit_status": error.exit_status,
            }
            data |= {"reproducer": reproducer} if reproducer else {}
            # one JSON document on standard output: behind a result, the error goes to the other stream
            click.echo(json.dumps({"error": data}, indent=2), err=self._answered)
            return
        self.note(f"error: {error}")
        if reproducer:
            self.note(f"  reproducer: {reproducer}")

    def _usage(self, wrong: click.ClickException) -> None:
        if self.json:
            data = {"code": "", "message": wrong.format_message(), "exit_status": EXIT_USAGE}
            click.echo(json.dumps({"error": data}, indent=2))
        else:
            wrong.show()

    @contextmanager
    def _warnings(self) -> Iterator[None]:
        """Show AINO's warnings as one line each, others not at all."""

        def show(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
            if category.__module__.startswith("aino_ir."):
                self.note(f"warning: {message}")

        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.showwarning = show
            yield

    # -- progress -----------------------------------------------------------------------------------

    @contextmanager
    def progress(self) -> Iterator[Progress]:
        """A function that shows how far things are, once they take long."""
        bar = _Bar() if sys.stderr.isatty() and not self.json else None
        if bar is None:
            yield lambda stage, done, total: None
            return
        try:
            yield bar.tell
        finally:
            bar.close()


class _Bar:
    """A progress bar that appears after a while."""

    def __init__(self) -> None:
        self._now = ("", 0, 0)
        self._lock = threading.Lock()
        self._shown: Any = None
        self._task: Any = None
        self._timer = threading.Timer(PATIENCE_SECONDS, self._appear)
        self._timer.daemon = True
        self._timer.start()

    def tell(self, stage: str, done: int, total: int) -> None:
        """Set what is shown."""
        with self._lock:
            self._now = (stage, done, total)
            self._draw()

    def close(self) -> None:
        """Take it away."""
        self._timer.cancel()
        with self._lock:
            if self._shown is not None:
                self._shown.stop()
                self._shown = None

    def _appear(self) -> None:
        from rich.console import Console
        from rich.progress import Progress

        with self._lock:
            self._shown = Progress(console=Console(stderr=True), transient=True)
            self._task = self._shown.add_task("", total=None)
            self._shown.start()
            self._draw()

    def _draw(self) -> None:
        if self._shown is not None:
            stage, done, total = self._now
            self._shown.update(self._task, description=stage, completed=done, total=total or None)


def as_aino_error(problem: Exception) -> AinoError:
    """`problem`, or the error of the catalogue that stands for it."""
    if isinstance(problem, AinoError):
        return problem
    if isinstance(problem, MemoryError):
        return NativeAllocationFailed(what="the compiler")
    if isinstance(problem, OSError) and problem.filename is not None:
        if problem.errno in (errno.ENOSPC, errno.EDQUOT):
            return DiskFull(path=str(problem.filename))
        if problem.errno in (
            errno.EACCES,
            errno.EPERM,
            errno.EROFS,
            errno.ENOENT,
            errno.ENOTDIR,
            errno.EISDIR,
        ):
            return FileNotWritable(path=str(problem.filename), reason=problem.strerror or str(problem))
    return UnexpectedFault(kind=type(problem).__name__, message=str(problem).replace("\n", " ")[:500])


def common_options(function: F) -> F:
    """Options that every verb takes: --json and --debug."""
    for flag, text in (
        ("--debug", "Show a traceback when something goes wrong."),
        ("--json", "Print the result as JSON."),
    ):
        function = click.option(flag, is_flag=True, expose_value=False, help=text)(function)
    return function
