"""What the command line and the reports say of models with host ops."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import aino_ir as aino
from aino_ir.driver.cli import ainoc
from aino_ir.driver.compare import compare_outputs
from aino_ir.driver.coverage import check_model
from aino_ir.driver.emit import emit_files
from aino_ir.driver.inputs import make_inputs, write_arrays
from aino_ir.errors.base import AinoError
from aino_ir.errors.usage import OperatorsUnsupported, SourcesNeedPython
from aino_ir.op import Op
from aino_ir.ops.text import StringConcat
from aino_ir.target import detect_host, parse_target
from aino_ir.types import OptionalType, SequenceType, StringType, TensorType, tensor
from tests.driver.host_models import floats, labelled, labelled_results
from tests.driver.models import saved, strings


def test_strict_lists_every_op_with_its_reason() -> None:
    with pytest.raises(OperatorsUnsupported) as caught:
        aino.compile(labelled(), strict=True)
    text = caught.value.message
    assert "2 nodes have no code" in text and caught.value.exit_status == 1
    assert (
        "text.concat: values of type string[2, 1] have no native code (node 'shout' (StringConcat))" in text
    )
    assert "text.regex_full_match" in text and "math." not in text


def test_sources_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SourcesNeedPython, match="2 nodes do: text.concat") as caught:
        emit_files(labelled(), "c", tmp_path / "c")
    assert caught.value.exit_status == 1 and not (tmp_path / "c").exists()
    with pytest.raises(SourcesNeedPython, match="0 nodes do: input 'x'"):
        emit_files(strings(), "c", tmp_path / "c")
    (written,) = emit_files(labelled(), "loops", tmp_path / "m.loops")
    assert "matmul" in written.read_text() or "contract" in written.read_text()
    (written,) = emit_files(labelled(), "air", tmp_path / "m.air")
    assert "text.concat" in written.read_text()


def test_check_says_python_and_why() -> None:
    rows = {r.node: r for r in check_model(labelled(), parse_target("c", detect_host()))}
    assert {n: r.status for n, r in rows.items()} == {
        "node 'product' (MatMul)": "native",
        "node 'shift' (Add)": "native",
        "node 'shout' (StringConcat)": "python",
        "node 'match' (RegexFullMatch)": "python",
        "node 'as_number' (Cast)": "native",
        "node 'mask' (Mul)": "native",
    }
    assert "string[2, 1] have no native code" in rows["node 'shout' (StringConcat)"].reason


def test_command_line_tells(tmp_path: Path) -> None:
    path = saved(tmp_path, labelled())

    def run(*arguments: str) -> Any:
        command = [sys.executable, "-m", "aino_ir.driver.cli", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, cwd=tmp_path)

    made = run("compile", str(path), "-o", "m.aino")
    assert made.returncode == 0 and "python nodes: 2: text.concat" in made.stdout
    checked = run("check", str(path))
    assert checked.returncode == 0 and "4 native, 2 python" in checked.stdout
    strict = run("compile", str(path), "--strict", "-o", "s.aino")
    assert strict.returncode == 1 and "AINO-E0710" in strict.stderr
    emitted = run("compile", str(path), "--emit", "c", "-o", "c")
    assert emitted.returncode == 1 and "AINO-E0712" in emitted.stderr


def test_ops_that_nothing_can_run_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StringConcat, "evaluate", Op.evaluate)
    with pytest.raises(OperatorsUnsupported, match="1 nodes .*text.concat"):
        aino.compile(labelled(), cache=False)
    rows = check_model(labelled(), parse_target("c", detect_host()))
    assert [r.status for r in rows if r.op == "StringConcat"] == ["unsupported"]


def test_types_are_those_of_the_model() -> None:
    exe = aino.compile(labelled())
    assert isinstance(exe.outputs[0][1], TensorType)
    for text, what in [
        (np.asarray([["a"]], object), "extent of axis 0|shape"),
        (np.asarray(["a", "b"], object), "rank"),
        (np.asarray([["a"], [1]], object), "elements must be str"),
        (np.zeros((2, 1), np.float32), "array of strings"),
        ([["a"], ["b"]], "array of strings"),
    ]:
        with pytest.raises(AinoError, match=what):
            exe.run(floats(2, 4), text)
    kept, _ = exe.run(floats(2, 4), np.asarray([["yes"], ["no"]]))  # numpy's own strings are strings
    np.testing.assert_allclose(kept, labelled_results(floats(2, 4))[0], rtol=1e-5, atol=1e-6)


def test_values_of_all_types_are_made_up_and_written(tmp_path: Path) -> None:
    interface = [
        ("x", tensor("f32", 2)),
        ("t", StringType((2, 1))),
        ("xs", SequenceType(tensor("i64", 3))),
        ("m", OptionalType(StringType((1,)))),
    ]
    made = make_inputs(interface, seed=1)
    assert made["t"].shape == (2, 1) and all(isinstance(t, str) for t in made["t"].reshape(-1))
    assert [a.shape for a in made["xs"]] == [(3,), (3,)] and made["m"].shape == (1,)
    assert make_inputs(interface, seed=1)["t"].tolist() == made["t"].tolist()
    write_arrays(tmp_path / "a.npz", {**made, "absent": None})
    with np.load(tmp_path / "a.npz", allow_pickle=False) as read:
        assert set(read.files) == {"x", "t", "xs[0]", "xs[1]", "m"}
        assert read["t"].tolist() == made["t"].tolist() and np.array_equal(read["xs[1]"], made["xs"][1])


def test_outputs_of_all_types_are_compared() -> None:
    text = np.asarray(["a"], object)
    mine = [floats(2), text, [floats(2), text], None]
    rows = compare_outputs(["y", "t", "xs", "n"], mine, [floats(2), text.copy(), [floats(2), text], None])
    assert [(r.name, r.type, r.reason) for r in rows] == [
        ("y", "float32[2]", ""),
        ("t", "string[1]", ""),
        ("xs[0]", "float32[2]", ""),
        ("xs[1]", "string[1]", ""),
    ]
    rows = compare_outputs(["y", "t", "xs", "n"], mine, [floats(2) + 1, text + "b", [floats(2)], text])
    assert [bool(r.reason) for r in rows] == [True, True, True, True]


def test_run_and_verify_take_strings(tmp_path: Path) -> None:
    path = saved(tmp_path, labelled())
    np.save(tmp_path / "text.npy", np.asarray([["yes"], ["no"]]))
    runner = CliRunner()
    arguments = ["run", str(path), "--input", f"text={tmp_path / 'text.npy'}", "--random", "3"]
    told = runner.invoke(ainoc, [*arguments, "-o", str(tmp_path / "out.npz")])
    assert told.exit_code == 0 and "string[2, 1]" in told.output
    with np.load(tmp_path / "out.npz", allow_pickle=False) as out:
        assert out["loud"].tolist() == [["yes!"], ["no!"]] and not out["kept"][1].any()
    told = runner.invoke(ainoc, ["verify", str(path)])
    assert told.exit_code == 0, told.output
