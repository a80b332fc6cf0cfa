"""What crashes or hangs costs one item, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.conformance.guard import Death, guarded


def work(item: str) -> str:
    kind, _, rest = item.partition(" ")
    if kind == "die":
        os.kill(os.getpid(), signal.SIGSEGV)
    if kind == "exit":
        os._exit(7)
    if kind == "hang":
        time.sleep(600)
    if kind == "spawn":
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        Path(rest).write_text(str(child.pid))
        time.sleep(600)
    return item.upper()


def run(items: list[str], jobs: int = 1, seconds: float = 60) -> dict[str, object]:
    return dict(guarded(items, work, lambda item: 0.3 if item[:4] in ("hang", "spaw") else seconds, jobs))


def test_every_item_is_answered() -> None:
    items = [f"item {n}" for n in range(20)]
    assert run(items, jobs=3) == {item: item.upper() for item in items}
    assert run([]) == {}


def test_the_dead_cost_one_item() -> None:
    items = ["a", "die", "b", "exit", "hang", "c"]
    expected = {
        **{item: item.upper() for item in "abc"},
        "die": Death("SIGSEGV"),
        "exit": Death("exit 7"),
        "hang": Death("no answer in time"),
    }
    assert run(items) == expected
    assert run(items, jobs=2) == expected


def test_what_a_hanging_worker_started_is_ended_too(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    list(guarded([f"spawn {note}"], work, lambda _: 5.0))
    pid = int(note.read_text())
    for _ in range(100):
        if not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text().split()[2]:
            break
        time.sleep(0.05)
    else:
        raise AssertionError("it still runs")
