"""A Python of its own for a test: what is imported there has not been imported before."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.source import ROOT


def run_python(
    code: str, cwd: Path = ROOT, path: Path | None = ROOT, timeout: float = 120.0, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run code with warnings as errors.

    Args:
        code: the program.
        cwd: where it runs.
        path: what PYTHONPATH says, None for nothing.
        timeout: seconds after which it is ended.
        environment: more variables.
    """
    kept = {k: v for k, v in os.environ.items() if k not in {"PYTHONPATH", "PYTHONSAFEPATH"}}
    found = {} if path is None else {"PYTHONPATH": str(path)}
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=cwd,
        env=kept | found | environment,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
