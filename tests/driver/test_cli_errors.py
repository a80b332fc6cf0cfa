"""What ``ainoc`` does when things go wrong: codes, exit statuses, reproducers, and no tracebacks."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from click.testing import CliRunner, Result

from aino_ir.driver.cli import ainoc, faults
from aino_ir.driver.cli import shell as shell_module
from aino_ir.errors.cache import CacheWarning
from aino_ir.runtime import fileio
from tests.driver.models import mlp, saved
from tests.tools.hermetic import left_over


@pytest.fixture
def model(tmp_path: Path) -> str:
    return str(saved(tmp_path, mlp()))


def ain(*words: str) -> Result:
    return CliRunner().invoke(ainoc, [str(w) for w in words])


def fails(status: int, code: str, *words: str) -> str:
    """Run a command line that must end in an error; return what it printed."""
    result = ain(*words)
    assert result.exit_code == status, result.output
    assert f"error: {code}: " in result.stderr and "help: " in result.stderr
    assert "Traceback" not in result.output
    return result.stderr


def test_unreadable_models_are_faults_of_the_model(tmp_path: Path) -> None:
    assert "no such file" in fails(1, "AINO-E0101", "compile", tmp_path / "no.onnx")
    fails(1, "AINO-E0101", "check", tmp_path)
    (tmp_path / "cut.onnx").write_bytes(mlp().SerializeToString()[:100])
    fails(1, "AINO-E0102", "run", tmp_path / "cut.onnx")
    (tmp_path / "m.aino").write_bytes(b"no artifact")
    fails(1, "AINO-E0602", "run", tmp_path / "m.aino")
    fails(1, "AINO-E0601", "run", tmp_path / "no.aino")


def test_a_verb_that_does_not_exist_names_its_like() -> None:
    near, far = ain("compil", "m.onnx"), ain("zzz")
    assert near.exit_code == far.exit_code == 2
    assert "no verb is called 'compil'; did you mean 'compile'?" in near.stderr
    assert "no verb is called 'zzz'; there are compile, run, " in far.stderr


def test_wrong_kinds_of_files_are_faults_of_the_command(tmp_path: Path) -> None:
    fails(2, "AINO-E0701", "compile", tmp_path / "m.h5")
    fails(2, "AINO-E0707", "verify", tmp_path / "m.aino")


def test_wrong_options_are_faults_of_the_command(model: str) -> None:
    fails(2, "AINO-E0440", "compile", model, "--target", "z80")
    fails(2, "AINO-E0704", "compile", model, "--dim", "batch")
    fails(2, "AINO-E0704", "compile", model, "--dim", "batch=1...4")
    fails(2, "AINO-E0708", "compile", model, "--emit", "c", "--target", "c:portable+avx2")
    fails(2, "AINO-E0709", "compile", model, "--emit", "c", "--target", "reference")
    fails(2, "AINO-E0709", "compile", model, "--target", "reference")
    fails(2, "AINO-E0709", "compile", model, "--target", "null")


def test_wrong_inputs_say_which(model: str, tmp_path: Path) -> None:
    assert "'x' (f32[2, 8])" in fails(2, "AINO-E0706", "run", model)
    assert "--input x=x.npy" in fails(
        2, "AINO-E0704", "run", model, "--input", saved_array(tmp_path, "a.npy")
    )
    fails(2, "AINO-E0704", "run", model, "--input", f"z={saved_array(tmp_path, 'a.npy')}")
    fails(1, "AINO-E0705", "run", model, "--input", f"x={tmp_path / 'none.npy'}")
    (tmp_path / "text.npy").write_text("no array")
    fails(1, "AINO-E0705", "run", model, "--input", f"x={tmp_path / 'text.npy'}")
    np.save(tmp_path / "objects.npy", np.array([{}], object), allow_pickle=True)
    fails(1, "AINO-E0705", "run", model, "--input", f"x={tmp_path / 'objects.npy'}")
    np.savez(tmp_path / "two.npz", a=np.zeros(1), b=np.zeros(1))
    fails(2, "AINO-E0704", "run", model, "--input", f"x={tmp_path / 'two.npz'}")
    fails(1, "AINO-E0503", "run", model, "--input", f"x={saved_array(tmp_path, 'a.npy')}")


def saved_array(folder: Path, name: str) -> str:
    np.save(folder / name, np.zeros((2, 9), np.float32))
    return str(folder / name)


def test_usage_errors_of_the_parser_exit_2(model: str) -> None:
    for words in (
        [],
        ["no-such-verb"],
        ["compile"],
        ["compile", model, "--level", "9"],
        ["compile", model, "--what"],
    ):
        result = ain(*words)
        assert result.exit_code == 2 and "Traceback" not in result.output
    told = json.loads(ain("compile", "--json").stdout)
    assert told["error"]["exit_status"] == 2 and "MODEL" in told["error"]["message"]


def test_json_errors_hold_code_message_and_hint(tmp_path: Path) -> None:
    told = json.loads(ain("run", str(tmp_path / "no.onnx"), "--json").stdout)["error"]
    assert told["code"] == "AINO-E0101" and told["exit_status"] == 1
    assert "no such file" in told["message"] and told["hint"]


def test_missing_compiler_is_a_fault_of_the_machine(
    model: str, monkeypatch: pytest.MonkeyPatch, hermetic_cache: Path
) -> None:
    from aino_ir.codegen.c import toolchain

    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(toolchain, "_packaged_zig", lambda: None)
    assert "pip install aino-ir[cc]" in fails(4, "AINO-E0450", "compile", model)
    monkeypatch.setenv("AINO_CC", "no-such-cc")
    fails(4, "AINO-E0451", "compile", model)


class FullDisk(fileio.Disk):
    def write_piece(self, fd: int, view: memoryview) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    "words", [["compile", "-o"], ["compile", "--emit", "loops", "-o"], ["run", "--random", "1", "-o"]]
)
def test_full_disk_is_said_and_leaves_nothing(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    ain("run", model, "--random", "1")  # fills the cache, which a full disk would only slow down
    if words[0] == "run":
        monkeypatch.setattr(np, "savez", lambda *_, **__: FullDisk().write_piece(0, memoryview(b"")))
    else:
        monkeypatch.setattr(fileio.Disk, "write_piece", FullDisk.write_piece)
    out = tmp_path / "out"
    out.mkdir()
    fails(4, "AINO-E0651", words[0], model, *words[1:], str(out / "result"))
    assert not list(out.iterdir()) and not left_over(tmp_path)


def test_compile_finds_what_run_has_compiled(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hermetic_cache: Path
) -> None:
    assert ain("run", model, "--random", "1").exit_code == 0
    monkeypatch.setattr("aino_ir.driver.api._new_artifact", None)
    assert ain("compile", model, "-o", str(tmp_path / "m.aino")).exit_code == 0


def test_folder_that_is_not_there_is_said(model: str, tmp_path: Path) -> None:
    fails(4, "AINO-E0652", "compile", model, "-o", tmp_path / "no" / "m.aino")


def boom(*_: Any, **__: Any) -> None:
    raise KeyError("oh")


def test_fault_of_aino_leaves_a_reproducer(
    model: str, monkeypatch: pytest.MonkeyPatch, hermetic_cache: Path
) -> None:
    from aino_ir.driver import api

    monkeypatch.setattr(api, "compile", boom)
    text = fails(3, "AINO-E0901", "run", model, "--random", "1")
    assert "KeyError: 'oh'" in text
    place = Path(text.rpartition("reproducer: ")[2].strip())
    assert hermetic_cache in place.parents
    fault = (place / "fault.txt").read_text()
    assert f"ainoc run {model}" in fault and "Traceback" in fault and "boom" in fault
    assert (place / "model.onnx").read_bytes() == Path(model).read_bytes()
    told = json.loads(ain("run", model, "--random", "1", "--json").stdout)["error"]
    assert told["code"] == "AINO-E0901" and Path(told["reproducer"]).is_dir()


def test_reproducers_do_not_pile_up(monkeypatch: pytest.MonkeyPatch, hermetic_cache: Path) -> None:
    for i in range(faults.KEPT_FAULTS + 3):
        place = Path(faults.write_reproducer([f"word{i}"], KeyError(i)))
        os.utime(place, (i + 1, i + 1))
    assert len(list(place.parent.iterdir())) == faults.KEPT_FAULTS and place.is_dir()


def test_large_models_are_named_not_copied(
    model: str, monkeypatch: pytest.MonkeyPatch, hermetic_cache: Path
) -> None:
    monkeypatch.setattr(faults, "LARGEST_COPY", 10)
    place = Path(faults.write_reproducer(["run", model], KeyError()))
    assert [p.name for p in place.iterdir()] == ["fault.txt"] and model in (place / "fault.txt").read_text()


def test_reproducer_goes_elsewhere_without_a_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AINO_CACHE_DIR", "/proc/nowhere")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(faults.tempfile, "tempdir", str(tmp_path))
    assert Path(faults.write_reproducer(["x"], KeyError())).parent == tmp_path
    monkeypatch.setattr(faults.tempfile, "tempdir", "/proc/nowhere")
    assert faults.write_reproducer(["x"], KeyError()) == ""


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    result = ain("run", str(tmp_path / "no.onnx"), "--debug")
    assert "Traceback" in result.stderr and "AINO-E0101" in result.stderr and result.exit_code == 1


@pytest.mark.parametrize(
    ("problem", "status", "code"),
    [
        (MemoryError(), 4, "AINO-E0512"),
        (OSError(errno.ENOSPC, "No space left", "/x/y"), 4, "AINO-E0651"),
        (PermissionError(errno.EACCES, "Permission denied", "/x/y"), 4, "AINO-E0652"),
        (OSError("strange"), 3, "AINO-E0901"),
        (RecursionError("deep\nline"), 3, "AINO-E0901"),
    ],
)
def test_other_exceptions_become_errors(
    problem: Exception, status: int, code: str, monkeypatch: pytest.MonkeyPatch, hermetic_cache: Path
) -> None:
    def raising(*_: Any) -> None:
        raise problem

    monkeypatch.setattr("aino_ir.driver.cli.cache.cache_path", raising)
    fails(status, code, "cache", "path")


def verb(monkeypatch: pytest.MonkeyPatch, action: Any) -> Result:
    """Run `action` as if it were a verb."""
    command = click.Command("act", callback=action)
    monkeypatch.setattr(ainoc, "get_command", lambda ctx, name: command)
    return ain("act")


def test_interrupt_exits_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    result = verb(monkeypatch, interrupted)
    assert result.exit_code == 130 and "interrupted" in result.stderr


def test_warnings_are_one_line_each_and_only_ainos(monkeypatch: pytest.MonkeyPatch) -> None:
    def warned() -> None:
        warnings.warn("slow disk", CacheWarning, stacklevel=1)
        warnings.warn("somebody else's", UserWarning, stacklevel=1)

    result = verb(monkeypatch, warned)
    assert result.exit_code == 0 and result.stderr == "warning: slow disk\n"


def test_strict_refuses_undone_passes(
    model: str, monkeypatch: pytest.MonkeyPatch, hermetic_cache: Path
) -> None:
    from aino_ir.runtime.report import Report

    def report(*_: Any) -> Report:
        return Report(undone=[{"pass": "fold-constants", "reason": "wrong"}])

    monkeypatch.setattr(Report, "from_manifest", staticmethod(report))
    assert "fold-constants" in fails(3, "AINO-E0903", "compile", model, "--strict")


def test_progress_appears_on_a_terminal_only_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(shell_module, "PATIENCE_SECONDS", 0.0)
    with shell_module.Shell([]).progress() as tell:
        bar = tell.__self__  # type: ignore[attr-defined]
        bar._timer.join(10)
        tell("cc", 1, 4)
        assert bar._shown.tasks[0].description == "cc" and bar._shown.tasks[0].total == 4
    assert bar._shown is None
    with shell_module.Shell(["--json"]).progress() as tell:
        assert not hasattr(tell, "__self__")


# -- as processes --------------------------------------------------------------------------------------

COMMAND = [sys.executable, "-c", "from aino_ir.driver.cli import main; main()"]


def test_help_imports_little() -> None:
    code = (
        "import sys; from aino_ir.driver.cli import ainoc\n"
        "try: ainoc.main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'numpy', 'onnx', 'rich', 'lark', 'torch', 'aino_ir.driver.api'} & set(sys.modules)\n"
        "sys.exit(', '.join(heavy) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


def test_reader_that_goes_away_causes_no_noise(model: str) -> None:
    with subprocess.Popen(
        [*COMMAND, "opt", model], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        errors = process.stderr.read()
        assert process.wait(60) == 1
    assert "Traceback" not in errors and "BrokenPipe" not in errors
