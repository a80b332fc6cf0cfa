"""Fixtures that keep a test's files to itself, and a disk that fails or dies when told to."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aino_ir.runtime.fileio import Disk
from aino_ir.runtime.store import Store

SYSTEM_CALLS = (
    "make_folder",
    "create",
    "write_piece",
    "seek",
    "sync",
    "close",
    "replace",
    "unlink",
    "read",
    "touch",
)
"""Methods of `Disk` that `FaultyDisk` counts."""


class FaultyDisk(Disk):
    """A disk whose n-th call fails, or ends the process as SIGKILL does.

    Attributes:
        calls: names of the calls made so far.
        fail_at: number of the call (from 1) that fails, and all after it when `lasting`.
        error: the error number that it fails with; None to kill the process instead.
    """

    def __init__(self, fail_at: int = 0, error: int | None = errno.ENOSPC, lasting: bool = False) -> None:
        self.calls: list[str] = []
        self.fail_at = fail_at
        self.error = error
        self.lasting = lasting

    def _step(self, name: str, arguments: tuple[Any, ...]) -> None:
        self.calls.append(name)
        count = len(self.calls)
        freeing = name in ("close", "unlink", "touch", "read")  # a full disk still lets these through
        due = count == self.fail_at or (self.lasting and count > self.fail_at and not freeing)
        if not self.fail_at or not due:
            return
        if name == "write_piece":  # half of it gets there
            fd, view = arguments
            super().write_piece(fd, view[: len(view) // 2])
        if self.error is None:
            os.kill(os.getpid(), signal.SIGKILL)
        if name == "close":
            super().close(*arguments)  # the descriptor is gone even when close reports an error
        raise OSError(self.error, os.strerror(self.error or 0))


def _counted(name: str) -> Any:
    def method(self: FaultyDisk, *arguments: Any) -> Any:
        self._step(name, arguments)
        return getattr(Disk, name)(self, *arguments)

    return method


for _name in SYSTEM_CALLS:
    setattr(FaultyDisk, _name, _counted(_name))


@pytest.fixture
def hermetic_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder of the test's own, which AINO_CACHE_DIR names."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("AINO_CACHE_DIR", str(folder))
    return folder


@pytest.fixture
def store(hermetic_cache: Path) -> Store:
    """An empty store of the test's own."""
    return Store.open(hermetic_cache)


@pytest.fixture(scope="session")
def shared_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A store for tests that only want their compilations to be quick."""
    yield Store.open(tmp_path_factory.mktemp("shared-cache"))


def left_over(folder: Path) -> list[str]:
    """Return the unfinished files and work folders below `folder`."""
    return sorted(
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.name.endswith(".part") or path.name.startswith("work-")
    )
