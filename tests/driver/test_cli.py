"""Every verb of ``ainoc`` in process: what it prints, what it writes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

import aino_ir as aino
from aino_ir.driver.cli import VERBS, ainoc
from aino_ir.driver.emit import write_onnx
from aino_ir.types import tensor
from tests.driver.models import mlp, mlp_reference, saved, unsupported, with_default


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("models")
    saved(place, mlp(), "mlp.onnx")
    saved(place, mlp("batch"), "batch.onnx")
    saved(place, unsupported(), "bad.onnx")
    saved(place, with_default(), "default.onnx")
    return place


def ain(folder: Path, *words: str, status: int = 0) -> Result:
    """Run a command line inside `folder`."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        result = CliRunner().invoke(ainoc, list(words))
    finally:
        os.chdir(before)
    assert result.exit_code == status, result.output
    return result


def data(folder: Path, *words: str, status: int = 0) -> Any:
    return json.loads(ain(folder, *words, "--json", status=status).stdout)


def test_help_imports_next_to_nothing() -> None:
    """What makes `ainoc --help` quick, counted: it brings none of the libraries that verbs work with."""
    code = """
import json, sys
before = set(sys.modules)
from aino_ir.driver.cli import ainoc
try:
    ainoc.main(["--help"])
except SystemExit:
    print(json.dumps(sorted(set(sys.modules) - before)))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    modules = json.loads(done.stdout.splitlines()[-1])
    packages = {m.partition(".")[0] for m in modules}
    heavy = {"numpy", "onnx", "lark", "networkx", "rich", "torch", "safetensors", "ml_dtypes", "sympy"}
    assert not packages & heavy
    assert len(modules) < 100 and sum(m.startswith("aino_ir") for m in modules) < 15


def test_help_lists_every_verb_with_its_summary() -> None:
    text = CliRunner().invoke(ainoc, ["--help"]).stdout
    for verb, summary in VERBS.items():
        assert f"{verb} " in text and summary[:20] in text
        page = CliRunner().invoke(ainoc, [verb, "--help"])
        assert page.exit_code == 0 and "Usage:" in page.stdout


def test_compile_then_run_and_the_numbers(folder: Path, tmp_path: Path) -> None:
    artifact = tmp_path / "m.aino"
    text = ain(folder, "compile", "mlp.onnx", "-o", str(artifact)).stdout
    assert "wrote" in text and "f32[2, 8]" in text and artifact.is_file()
    x = np.random.default_rng(3).standard_normal((2, 8)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    out = tmp_path / "y.npz"
    ain(folder, "run", str(artifact), "--input", f"x={tmp_path / 'x.npy'}", "--output", str(out))
    with np.load(out) as stored:
        np.testing.assert_allclose(stored["y"], mlp_reference(mlp(), x), rtol=1e-5, atol=1e-5)
    np.savez(tmp_path / "all.npz", x=x)
    again = data(folder, "run", str(artifact), "--input", str(tmp_path / "all.npz"))
    assert again["outputs"][0]["type"] == "float32[2, 3]" and again["seconds"] > 0


def test_output_is_named_after_the_model(folder: Path) -> None:
    found = data(folder, "compile", "mlp.onnx")
    assert found["artifact"] == "mlp.aino" and (folder / "mlp.aino").stat().st_size == found["bytes"]
    assert found["inputs"] == ["x: f32[2, 8]"]
    assert [k["nodes"] for k in found["report"]["kernels"]]


def test_random_inputs_are_the_same_for_a_seed(folder: Path) -> None:
    first, second, other = (
        data(folder, "run", "batch.onnx", "--random", s, "--dim", "batch=3")["outputs"] for s in "778"
    )
    assert first == second != other
    assert first[0]["type"] == "float32[3, 3]"


def test_run_takes_sizes_of_symbols_for_an_artifact(folder: Path, tmp_path: Path) -> None:
    path = str(tmp_path / "b.aino")
    ain(folder, "compile", "batch.onnx", "-o", path, "--dim", "batch=2..5")
    assert data(folder, "run", path, "--random", "1")["outputs"][0]["type"] == "float32[2, 3]"
    assert (
        data(folder, "run", path, "--random", "1", "--dim", "batch=5")["outputs"][0]["type"]
        == "float32[5, 3]"
    )
    assert "batch" in ain(folder, "run", path, "--random", "1", "--dim", "batch=6", status=1).stderr


def test_run_leaves_defaults_alone(folder: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((2, 3), np.float32))
    row = data(folder, "run", "default.onnx", "--input", f"x={tmp_path / 'x.npy'}")["outputs"][0]
    assert (row["min"], row["mean"], row["max"]) == ("1", "2", "3")


def test_run_shows_and_writes_a_profile(folder: Path, tmp_path: Path) -> None:
    shown = ain(folder, "run", "mlp.onnx", "--random", "1", "--profile")
    assert "GFLOP/s" in shown.stderr and "fc0" in shown.stderr
    trace = tmp_path / "trace.json"
    ain(folder, "run", "mlp.onnx", "--random", "1", "--profile", str(trace))
    assert json.loads(trace.read_text())["traceEvents"]


@pytest.mark.parametrize(("kind", "sign"), [("air", "nn.matmul"), ("loops", "for ")])
def test_emit_writes_text(folder: Path, tmp_path: Path, kind: str, sign: str) -> None:
    place = tmp_path / f"mlp.{kind}"
    assert data(folder, "compile", "mlp.onnx", "--emit", kind, "-o", str(place))["files"] == [str(place)]
    assert sign in place.read_text()


def test_emitted_air_compiles_to_the_same_numbers(folder: Path, tmp_path: Path) -> None:
    place = tmp_path / "mlp.air"
    ain(folder, "compile", "mlp.onnx", "--emit", "air", "-o", str(place))
    assert (
        data(folder, "run", str(place), "--random", "5")["outputs"]
        == data(folder, "run", "mlp.onnx", "--random", "5")["outputs"]
    )


@pytest.mark.parametrize("words", [["compile", "mlp.onnx", "--emit", "onnx"], ["opt", "mlp.onnx"]])
def test_onnx_is_written_and_read_again(folder: Path, tmp_path: Path, words: list[str]) -> None:
    place = tmp_path / "out.onnx"
    ain(folder, *words, "-o", str(place))
    assert (
        data(folder, "run", str(place), "--random", "5")["outputs"]
        == data(folder, "run", "mlp.onnx", "--random", "5")["outputs"]
    )


def test_heavy_weights_of_onnx_lie_beside_it(folder: Path, tmp_path: Path) -> None:
    b = aino.Builder()
    w = np.random.default_rng(1).normal(size=(64, 64)).astype(np.float32)
    b.output("y", b.matmul(b.input("x", tensor("f32", 2, 64)), b.constant(w, "w")))
    assert write_onnx(b.module, tmp_path / "small.onnx") == [tmp_path / "small.onnx"]
    files = write_onnx(b.module, tmp_path / "heavy.onnx", limit=1000)
    assert [f.name for f in files] == ["heavy.onnx", "heavy.onnx.data"]
    small, heavy = (
        data(folder, "run", str(tmp_path / f"{name}.onnx"), "--random", "5")["outputs"]
        for name in ("small", "heavy")
    )
    assert small == heavy


def test_emit_c_writes_a_folder(folder: Path, tmp_path: Path) -> None:
    files = data(folder, "compile", "mlp.onnx", "--emit", "c", "-o", str(tmp_path / "out"))["files"]
    names = {Path(f).name for f in files}
    assert {"mlp.c", "mlp.h", "mlp.weights", "mlp_main.c", "CMakeLists.txt"} <= names
    assert "profile" not in (tmp_path / "out" / "mlp.c").read_text()


def test_check_lists_all_operators_and_all_unsupported(folder: Path) -> None:
    found = data(folder, "check", "mlp.onnx")
    assert next((n["node"], n["status"]) for n in found["nodes"]) == ("node 'fc0' (Gemm)", "native")
    assert found["counts"] == {"native": 3} and found["nodes"][0]["types"] == ["f32[2, 6]"]
    bad = ain(folder, "check", "bad.onnx", status=1)
    assert "2 unsupported" in bad.stdout and "1 unknown" in bad.stdout
    assert "com.example.Foo, com.example.Bar" in bad.stderr and "AINO-E0710" in bad.stderr
    told = ain(folder, "check", "bad.onnx", "--json", status=1)
    assert json.loads(told.stdout)["counts"] == {"native": 1, "unknown": 1, "unsupported": 2}
    assert json.loads(told.stderr)["error"]["code"] == "AINO-E0710"
    python = data(folder, "check", "mlp.onnx", "--target", "reference")
    assert python["counts"] == {"python": 3}


def test_check_reads_air(folder: Path, tmp_path: Path) -> None:
    place = tmp_path / "m.air"
    ain(folder, "opt", "mlp.onnx", "--passes", "eliminate-dead-code", "-o", str(place))
    assert data(folder, "check", str(place))["counts"] == {"native": 5}


def test_opt_runs_the_passes_that_are_named(folder: Path) -> None:
    result = ain(
        folder, "opt", "mlp.onnx", "--passes", "canonicalize,eliminate-dead-code", "--dump-after", "all"
    )
    assert "nn.matmul" in result.stdout and "core.fused" not in result.stdout
    assert "after canonicalize" in result.stderr and "eliminate-dead-code" in result.stderr
    found = data(folder, "opt", "mlp.onnx")
    assert "fuse" in " ".join(p["pass"] for p in found["passes"]) and "core.fused" in found["module"]


def test_opt_names_unknown_passes(folder: Path) -> None:
    assert "AINO-E0301" in ain(folder, "opt", "mlp.onnx", "--passes", "no-such-pass", status=2).stderr
    assert "AINO-E0302" in ain(folder, "opt", "mlp.onnx", "--passes", "canonicalize{", status=2).stderr


@pytest.mark.parametrize("against", ["reference", "onnxruntime"])
def test_verify_compares_every_output(folder: Path, against: str) -> None:
    if against == "onnxruntime":
        pytest.importorskip("onnxruntime")
    found = data(folder, "verify", "batch.onnx", "--dim", "batch=3", "--against", against)
    assert (
        found["agrees"]
        and found["outputs"][0]["type"] == "float32[3, 3]"
        and found["outputs"][0]["error"] < 1e-5
    )


def test_compile_tunes_within_a_budget(folder: Path) -> None:
    found = data(folder, "compile", "mlp.onnx", "--tune", "0.001", "--no-libraries", "-o", "tuned.aino")
    assert found["report"]["tuning"]["budget"] == 0.001 and found["report"]["tuning"]["measured"] == 0


def test_verify_compares_an_artifact_with_its_model(folder: Path) -> None:
    ain(folder, "compile", "mlp.onnx", "-o", "mlp.aino")
    found = data(folder, "verify", "mlp.aino", "mlp.onnx")
    assert found["agrees"] and found["outputs"][0]["error"] < 1e-5
    assert "AINO-E0707" in ain(folder, "verify", "mlp.aino", status=2).stderr


def test_verify_against_torch(folder: Path) -> None:
    torch = pytest.importorskip("torch")
    module = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Tanh())
    torch.export.save(torch.export.export(module, (torch.zeros(2, 4),)), folder / "net.pt2")
    found = data(folder, "verify", "net.pt2", "--against", "torch")
    assert found["agrees"] and found["outputs"][0]["type"] == "float32[2, 3]"
    assert "AINO-E0701" in ain(folder, "verify", "mlp.onnx", "--against", "torch", status=2).stderr


def test_verify_reports_disagreement(
    folder: Path, monkeypatch: pytest.MonkeyPatch, hermetic_cache: Path
) -> None:
    from aino_ir.driver import compare

    monkeypatch.setitem(compare.REFERENCES, "reference", lambda *_: [np.zeros((2, 3), np.float32)])
    result = ain(folder, "verify", "mlp.onnx", status=3)
    assert "AINO-E0902" in result.stderr and "'y'" in result.stderr and "reproducer" in result.stderr
    assert "y" in result.stdout and "error" in result.stdout


@pytest.mark.parametrize(("target", "agrees"), [("cuda-emu", False), ("cuda-emu,tf32", True)])
def test_verify_knows_how_exact_products_are_to_be(
    folder: Path, monkeypatch: pytest.MonkeyPatch, target: str, agrees: bool
) -> None:
    from aino_ir.driver import compare

    exact = compare.REFERENCES["reference"]
    monkeypatch.setitem(
        compare.REFERENCES, "reference", lambda *given: [np.float32(y * 1.0005) for y in exact(*given)]
    )
    words = ("verify", "mlp.onnx", "--target", target)
    assert ("agrees" in ain(folder, *words, status=0 if agrees else 3).stdout) == agrees


def test_bench_prints_both_engines(folder: Path) -> None:
    pytest.importorskip("onnxruntime")
    words = (
        "bench",
        "mlp.onnx",
        "--vs",
        "onnxruntime",
        "--rounds",
        "1",
        "--seconds",
        "0.01",
        "--threads",
        "1",
    )
    found = data(folder, *words)
    assert set(found["engines"]) == {"aino", "onnxruntime"} and found["engines"]["aino"]["seconds"] > 0
    assert "AINO-E0770" in ain(folder, "bench", "mlp.onnx", "--vs", "abacus", status=2).stderr


def test_targets_say_what_runs_here(folder: Path) -> None:
    found = data(folder, "targets")
    rows = {row["target"]: row for row in found["targets"]}
    assert rows["c"]["runs here"] == rows["c"]["can be built"] == "yes"
    assert rows["c:riscv64"]["can be built"] == "yes"
    assert rows["c:riscv64"]["runs here"].startswith("no: it is for riscv64 processors, this machine is ")
    assert rows["c:avx2-windows"]["runs here"] == "no: it is for windows, this machine runs linux"
    assert rows["null"]["runs here"] == "no: it runs nothing"
    assert found["machine"]["cores"] >= 1 and "compiler" in found
    assert "c:avx2" in ain(folder, "targets").stdout


def test_targets_work_without_a_compiler(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AINO_CC", "/no/such/compiler")
    found = data(folder, "targets")
    assert found["compiler"].startswith("none: ")
    rows = {row["target"]: row["can be built"] for row in found["targets"]}
    assert rows["c"].startswith("no: ") and rows["reference"] == "yes"


def test_cache_is_shown_listed_and_emptied(folder: Path, hermetic_cache: Path) -> None:
    assert ain(folder, "cache", "path").stdout.strip() == str(hermetic_cache)
    assert data(folder, "cache", "list") == {"bytes": 0, "entries": []}
    assert data(folder, "cache", "clear") == {"bytes": 0, "removed": 0}
    assert not hermetic_cache.exists()
    ain(folder, "compile", "mlp.onnx")
    kinds = {entry["kind"] for entry in data(folder, "cache", "list")["entries"]}
    assert {"artifact", "library", "object", "probe"} <= kinds
    assert "entries" in ain(folder, "cache", "list").stdout
    assert "removed" in ain(folder, "cache", "clear").stdout
    assert data(folder, "cache", "list")["entries"] == []
