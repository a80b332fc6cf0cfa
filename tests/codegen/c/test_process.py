"""Running compilers: order, limits, and that nothing is left running."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from aino_ir.codegen.c.process import Command, run_commands


def shell(folder: Path, text: str, **environ: str) -> Command:
    return Command(("/bin/sh", "-c", text), folder, environ)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def gone(pid: int) -> bool:
    """Whether a killed process is gone; the kernel may take a moment."""
    for _ in range(100):
        if not alive(pid):
            return True
        time.sleep(0.02)
    return False


def test_outcomes_come_in_order(tmp_path: Path) -> None:
    commands = [
        shell(tmp_path, f"sleep 0.0{3 - i}; echo out{i}; echo err{i} >&2; exit {i}") for i in range(3)
    ]
    outcomes = run_commands(commands, 3, 30)
    assert [o.status for o in outcomes] == [0, 1, 2]
    assert [o.ok for o in outcomes] == [True, False, False]
    assert [o.output.split() for o in outcomes] == [[f"out{i}", f"err{i}"] for i in range(3)]


def test_commands_run_in_the_c_locale_without_input_in_their_folder(tmp_path: Path) -> None:
    (outcome,) = run_commands([shell(tmp_path, "echo $LC_ALL $X $TMPDIR; pwd; cat", X="y")], 1, 30)
    assert outcome.output.split() == ["C", "y", str(tmp_path), str(tmp_path)]


def test_no_more_jobs_than_asked_run_at_a_time(tmp_path: Path) -> None:
    text = "mkdir lock && sleep 0.02 && rmdir lock || exit 9"
    assert all(o.ok for o in run_commands([shell(tmp_path, text)] * 4, 1, 30))


def test_signals_are_told_from_exits(tmp_path: Path) -> None:
    (outcome,) = run_commands([shell(tmp_path, "kill -SEGV $$")], 1, 30)
    assert outcome.status == -signal.SIGSEGV


def test_a_hanging_command_is_ended_with_its_children(tmp_path: Path) -> None:
    hang = shell(tmp_path, "sleep 1000 & echo $! > child; echo $$ > parent; echo started; wait")
    first, second = run_commands([hang, shell(tmp_path, "true")], 1, 0.5)
    assert first.timed_out and first.status is None and first.output == "started\n"
    assert second.timed_out and second.output == ""
    assert gone(int((tmp_path / "child").read_text())) and gone(int((tmp_path / "parent").read_text()))


def test_the_first_failure_ends_the_rest(tmp_path: Path) -> None:
    slow = shell(tmp_path, "echo $$ > slow; sleep 1000")
    bad = shell(tmp_path, "while ! test -s slow; do sleep 0.01; done; exit 3")
    outcomes = run_commands([slow, bad, shell(tmp_path, "touch never")], 2, 60, stop_on_failure=True)
    assert [o.status for o in outcomes] == [None, 3, None]
    assert not any(o.timed_out for o in outcomes)
    assert gone(int((tmp_path / "slow").read_text())) and not (tmp_path / "never").exists()


def test_long_messages_are_cut(tmp_path: Path) -> None:
    (outcome,) = run_commands([shell(tmp_path, "head -c 3000000 /dev/zero | tr '\\0' x")], 1, 30)
    assert outcome.ok and len(outcome.output) == 1 << 20


def test_a_program_that_is_not_there_is_an_error_and_ends_the_others(tmp_path: Path) -> None:
    slow = shell(tmp_path, "echo $$ > slow; sleep 1000")
    with pytest.raises(FileNotFoundError):
        run_commands([slow, Command(("/no/such/cc",), tmp_path, {})], 2, 60)
    if (tmp_path / "slow").exists() and (tmp_path / "slow").read_text():
        assert gone(int((tmp_path / "slow").read_text()))


_INTERRUPTED = """
import signal
import sys
from pathlib import Path
from aino_ir.codegen.c.process import Command, run_commands
from aino_ir.runtime.store import Store
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
store = Store.open(Path(sys.argv[1]))
with store.work_folder() as folder:
    text = "sleep 1000 & echo $! > ../child.tmp; mv ../child.tmp ../child; wait"
    run_commands([Command(("/bin/sh", "-c", text), folder, {})], 1, 600)
"""


def test_an_interrupt_ends_the_compiler_and_removes_its_files(tmp_path: Path, root: Path) -> None:
    cache = tmp_path / "cache"
    python = subprocess.Popen(
        [sys.executable, "-c", _INTERRUPTED, str(cache)], cwd=root, stderr=subprocess.PIPE
    )
    child = cache / "v1/tmp/child"
    for _ in range(1000):
        if child.exists():
            break
        time.sleep(0.02)
    os.kill(python.pid, signal.SIGINT)
    _, messages = python.communicate(timeout=120)
    assert b"KeyboardInterrupt" in messages
    assert gone(int(child.read_text()))
    assert [p.name for p in (cache / "v1/tmp").iterdir()] == ["child"]
