"""AINO's wheel, built once for all tests of a process."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.source import ROOMS, ROOT


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from a copy of the sources, so that the checkout gains no build folder."""
    work = tmp_path_factory.mktemp("wheel")
    copy = work / "source"
    copy.mkdir()
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    for room in ROOMS:
        shutil.copytree(ROOT / room, copy / room, ignore=shutil.ignore_patterns("__pycache__"))
    options = ("--no-deps", "--no-build-isolation", "-q", "-w", str(work))
    command = [sys.executable, "-m", "pip", "wheel", *options, "."]
    done = subprocess.run(command, cwd=copy, capture_output=True, text=True, timeout=170, check=False)
    assert done.returncode == 0, done.stderr
    return next(work.glob("aino_ir-*.whl"))
