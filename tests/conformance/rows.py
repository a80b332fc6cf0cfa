"""Files of outcomes: one JSON line a case, appended as they come, so that a run can go on where it stopped."""

from __future__ import annotations

import json
import platform
import subprocess
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.source import ROOT

Row = dict[str, Any]


def read_rows(path: Path) -> Iterator[Row]:
    """The rows of a file, none when there is no file; a last line that was cut short is left out."""
    if not path.exists():
        return
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            yield json.loads(line)
        except json.JSONDecodeError:
            continue


class Log:
    """A file that rows are added to; without a path, nothing."""

    def __init__(self, path: Path | None, fresh: bool = False) -> None:
        self._file = None
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("w" if fresh else "a", encoding="utf-8")

    def write(self, row: Mapping[str, Any]) -> None:
        """Add one row; whole lines, so that several processes may share a file."""
        if self._file is not None:
            self._file.write(json.dumps(row) + "\n")
            self._file.flush()

    def __enter__(self) -> Log:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: object, trace: TracebackType | None) -> None:
        if self._file is not None:
            self._file.close()


def parse_shard(text: str) -> tuple[int, int]:
    """Share number and count of ``i/n``, i from 0 to n - 1."""
    number, _, count = text.partition("/")
    if not (number.isdecimal() and count.isdecimal() and int(number) < int(count)):
        raise SystemExit(f"error: a shard is i/n with 0 <= i < n, got {text!r}")
    return int(number), int(count)


def commit() -> str:
    """The short hash of the checked-out commit, with a plus sign when files differ from it."""

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
        return done.stdout.strip() if done.returncode == 0 else ""

    head = git("rev-parse", "--short", "HEAD")
    return (head or "unknown") + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")


def versions(*packages: str) -> str:
    """What a result depends on beside the source: Python, packages, processor."""
    parts = [f"Python {platform.python_version()}", *(f"{p} {version(p)}" for p in packages)]
    return ", ".join([*parts, platform.machine()])
