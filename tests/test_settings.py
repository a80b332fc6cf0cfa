"""The test run itself: unexpected skips fail, time per suite is printed, the build file's promises hold."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.source import ROOMS, ROOT

SKIPPING = "import pytest\n\ndef test_one():\n    pytest.skip('no reason')\n\ndef test_two():\n    pass\n"


def run_pytest(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run a pytest of its own over `folder`, with this project's hooks."""
    (folder / "tests").mkdir()
    shutil.copy(ROOT / "tests" / "tools" / "account.py", folder / "tests" / "conftest.py")
    (folder / "tests" / "test_it.py").write_text(SKIPPING)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *options, "tests"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=100, check=False)


@pytest.mark.parametrize("workers", [(), ("-n", "1")])
def test_unlisted_skip_fails_the_run(tmp_path: Path, workers: tuple[str, ...]) -> None:
    (tmp_path / "skips.txt").write_text("# nothing\n")
    done = run_pytest(tmp_path, "--expected-skips=skips.txt", *workers)
    assert done.returncode == 1
    assert "tests/test_it.py::test_one" in done.stdout
    assert "1 passed, 1 skipped" in done.stdout.splitlines()[-1]


def test_listed_skip_is_fine(tmp_path: Path) -> None:
    (tmp_path / "skips.txt").write_text("tests/test_it.py::test_o*  # as expected\n")
    done = run_pytest(tmp_path, "--expected-skips=skips.txt")
    assert done.returncode == 0
    assert "tests/test_it.py" in done.stdout and "seconds per suite" in done.stdout


def test_without_a_list_skips_are_fine(tmp_path: Path) -> None:
    assert run_pytest(tmp_path).returncode == 0


def test_environment_is_hermetic() -> None:
    assert os.environ["AINO_CACHE_DIR"]
    assert os.environ["HF_HUB_OFFLINE"] == "1"


def test_help_names_every_target() -> None:
    make = shutil.which("make")
    if make is None:
        pytest.skip("make is not installed")
    shown = subprocess.run(
        [make, "help"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    ).stdout
    for target in ("demo", "test", "check", "format", "bench", "docs", "clean"):
        assert re.search(rf"^  make {target}\b", shown, re.MULTILINE)


def test_rooms_are_mapped_alike_everywhere() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    for room in ROOMS[1:]:
        assert f'"aino_ir.{room}" = "{room}"' in text
        assert f'"aino_ir.{room}": "{room}"' in (ROOT / "setup.py").read_text()


UNPINNED = {"nvidia-cuda-nvrtc"}
"""Dependencies whose version the installed build of PyTorch decides."""


def test_every_dependency_is_pinned() -> None:
    pinned = {
        re.split(r"[=;]", line)[0].lower().replace("_", "-")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if line and not line.startswith("#")
    }
    text = (ROOT / "pyproject.toml").read_text()
    named = set(re.findall(r'"([A-Za-z][\w-]*)>=[\d.]+', text)) - {"setuptools"}
    assert {name.lower() for name in named} - pinned == UNPINNED
    assert "torch" in pinned
