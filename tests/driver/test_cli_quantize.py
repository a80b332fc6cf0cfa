"""``ainoc quantize``: files in, a model and a report out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

import aino_ir as aino
from aino_ir.driver.cli import ainoc
from aino_ir.driver.emit import write_onnx
from tests.passes.compression.models import mlp, samples


@pytest.fixture
def model(tmp_path: Path) -> Path:
    module = mlp(batch=64, width=256, hidden=128)
    path, *_ = write_onnx(module, tmp_path / "mlp.onnx")
    for number, (x,) in enumerate(samples(module, 2)):
        np.savez(tmp_path / f"{number}.npz", x=x)
    return Path(path)


def ain(*words: object, status: int = 0) -> Result:
    result = CliRunner().invoke(ainoc, ["quantize", *map(str, words)])
    assert result.exit_code == status, result.output
    return result


@pytest.mark.parametrize("ending", ["onnx", "air"])
def test_static_int8_with_a_report(model: Path, ending: str) -> None:
    folder = model.parent
    out, report = folder / f"small.{ending}", folder / "report.json"
    calibration = [w for n in (0, 1) for w in ("--calibration", folder / f"{n}.npz")]
    text = ain(model, "-o", out, *calibration, "--report", report, "--ignore", "MatMul_1").stdout
    assert "fc1" in text and "ignored by name" in text and f"wrote {out}" in text
    told = json.loads(report.read_text())
    assert [layer["applied"] for layer in told["layers"]] == [True, False]
    assert any(op.name == "quant.matmul" for op in aino.load(out).main.block)


def test_results_for_machines(model: Path) -> None:
    out = model.parent / "small.onnx"
    told = json.loads(ain(model, "-o", out, "--scheme", "int4-weight", "--group", 32, "--json").stdout)
    assert told["report"]["scheme"] == "int4-weight" and told["file"] == str(out)
    assert told["report"]["floor"]["note"]


def test_faults_have_their_status(model: Path) -> None:
    folder = model.parent
    assert "AINO-E0723" in ain(model, "-o", folder / "a.onnx", status=2).output
    assert "AINO-E0704" in ain(model, "-o", folder / "a.txt", status=2).output
    np.savez(folder / "bad.npz", x=np.full((64, 256), np.nan, np.float32))
    bad = ain(model, "-o", folder / "a.onnx", "--calibration", folder / "bad.npz", status=1)
    assert "AINO-E0725" in bad.output
    np.save(folder / "bare.npy", np.zeros((64, 256), np.float32))
    bare = ain(model, "--calibration", folder / "bare.npy", status=2)
    assert "--calibration x=x.npy" in bare.output


def test_the_report_alone(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without -o nothing is written but the report, which lies beside the result or here."""
    monkeypatch.chdir(model.parent)
    text = ain(model, "--scheme", "int8-weight").stdout
    assert "fc1" in text and "nothing was written" in text
    text = ain(model, "--scheme", "int8-weight", "--report").stdout
    assert "wrote mlp.report.json" in text and json.loads(Path("mlp.report.json").read_text())["layers"]
    ain(model, "--scheme", "int8-weight", "-o", "small.air", "--report")
    assert Path("small.report.json").exists() and Path("small.air").exists()
