"""Every example runs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parent.parent.parent / "examples"
SAYS = {
    "compile_onnx": "largest difference from the reference",
    "dynamic_batch": "batch 64: output (64, 8)",
    "find_a_wrong_layer": "the first wrong layer: custom",
    "pass_from_another_package": "other-count-products",
    "read_a_profile": "the slowest is",
    "standalone_c": "0: y[0] = ",
    "write_a_fusion_rule": "undone: [{'pass': 'example-break-things'",
    "write_an_op": "example.two_slopes",
}
"""Example -> something that it prints."""


def test_every_example_is_run() -> None:
    assert {p.stem for p in EXAMPLES.glob("*.py")} - {"models"} == set(SAYS)


@pytest.mark.parametrize("name", sorted(SAYS))
def test_an_example_runs(name: str) -> None:
    command = [sys.executable, "-W", "error", "-m", f"examples.{name}"]
    done = subprocess.run(
        command, cwd=EXAMPLES.parent, env=dict(os.environ), capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    assert SAYS[name] in done.stdout
