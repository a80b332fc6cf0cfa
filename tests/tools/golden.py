"""Emitted texts compared with stored ones, in a folder `golden` beside the test."""

from __future__ import annotations

from pathlib import Path

import pytest


class Golden:
    """The stored texts of one test file; with ``--update-golden`` they are rewritten."""

    def __init__(self, folder: Path, update: bool) -> None:
        self.folder = folder
        self.update = update

    def check(self, name: str, text: str) -> None:
        """Fail unless ``golden/name`` holds `text`."""
        path = self.folder / name
        if self.update:
            self.folder.mkdir(exist_ok=True)
            path.write_text(text)
        assert path.is_file(), f"{path} is missing: run pytest with --update-golden, then read it"
        assert text == path.read_text(), f"{path} differs: read the difference, then use --update-golden"


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Golden:
    """Stored texts of the test's folder."""
    return Golden(request.path.parent / "golden", request.config.getoption("--update-golden"))
