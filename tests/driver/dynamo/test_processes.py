"""What other processes and other thread pools see of the backend: the cache, and threads that sleep."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tests.driver.dynamo.tools import by_aino, close

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")

PROGRAM = """
import torch
torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.GELU(), torch.nn.Linear(16, 3))
x = torch.randn(4, 8)
f = torch.compile(model, backend="aino", options={"threads": 1, "strict": True})
with torch.no_grad():
    assert torch.allclose(f(x), model(x), atol=1e-5)
model.train()
f(x).square().sum().backward()
assert all(p.grad is not None for p in model.parameters())
"""
"""Inference, and a step of training: three graphs, through the entry point."""


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="a shell script stands in for the compiler")
def test_a_second_process_calls_no_compiler(tmp_path: Path, root: Path) -> None:
    calls, compiler = tmp_path / "calls", tmp_path / "counted-cc"
    compiler.write_text(f'#!/bin/sh\necho "$*" >> {calls}\nexec {shutil.which("cc")} "$@"\n')
    compiler.chmod(0o755)
    environ = {
        **os.environ,
        "AINO_CC": str(compiler),
        "AINO_CACHE_DIR": str(tmp_path / "cache"),
        "PYTHONPATH": os.pathsep.join([str(root), *filter(None, [os.environ.get("PYTHONPATH")])]),
    }
    counts = []
    for _ in range(2):
        command = [sys.executable, "-W", "ignore", "-c", PROGRAM]
        done = subprocess.run(
            command, env=environ, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, done.stderr
        counts.append(len(calls.read_text().splitlines()))
    assert counts[0] >= 3
    assert counts[1] == counts[0], calls.read_text().splitlines()[counts[0] :]


def threads() -> set[int]:
    return {int(p.name) for p in Path("/proc/self/task").iterdir()}


def state(thread: int) -> str:
    """One letter: R runs, S sleeps."""
    status = Path(f"/proc/self/task/{thread}/stat").read_text()
    return status.rpartition(")")[2].split()[0]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux's /proc")
def test_our_threads_sleep_while_torch_works() -> None:
    """Workers look a bounded number of times for more work, and then wait to be woken."""
    before = threads()
    x, w = torch.randn(256, 256), torch.randn(256, 256)
    f = by_aino(lambda x, w: torch.relu(x @ w), options={"threads": 2})
    with torch.no_grad():
        for _ in range(3):
            close(f(x, w) / 256, torch.relu(x @ w) / 256)
        ours = threads() - before
        assert ours, "the pool has started"
        patience = time.monotonic() + 60
        while any(state(t) != "S" for t in ours):
            assert time.monotonic() < patience, "a thread looks for work forever"
            torch.mm(x, w)
        close(f(x, w) / 256, torch.relu(x @ w) / 256)
