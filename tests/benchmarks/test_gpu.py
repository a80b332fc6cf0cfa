"""The script for real GPUs, on an emulated one: every section runs, rows are kept, a bundle is enough."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from aino_ir.driver.gpu import emulated_gpu
from aino_ir.runtime.cuda import driver as cuda_driver
from benchmarks import gpu
from benchmarks.gpu_cases import cases
from benchmarks.gpu_draw import drawn

FEW = ("gelu of a product", "gather")


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two cases of the first section alone."""
    whole = cases

    def some(section: str, dry: bool = False) -> list[Any]:
        return [c for c in whole(section, dry) if c.name in FEW]

    monkeypatch.setattr("benchmarks.gpu_cases.cases", some)


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_section_has_cases_that_build() -> None:
    names = set()
    for section in gpu.SECTIONS:
        for case in cases(section, dry=True):
            assert case.section == section and case.module().main.inputs
            assert len(drawn(case.name, case.inputs)) == len(case.inputs)
            names.add((section, case.name))
    assert len(names) == sum(len(cases(s)) for s in gpu.SECTIONS)


def test_a_dry_run_checks_and_goes_on_where_it_ended(few: None, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    arguments = ["--only", "correctness", "--dry-run", "--rows", str(path)]
    assert gpu.main(arguments) == 0
    rows = rows_of(path)
    assert [(r["case"], r["value"], r["dry"]) for r in rows] == [(name, True, True) for name in FEW]
    assert all(r["device"] == "Emulated GPU" and r["architecture"] == "sm_80" for r in rows)
    lines = path.read_text().splitlines()
    path.write_text(lines[0] + "\n")
    assert gpu.main(arguments) == 0
    assert path.read_text().splitlines() == lines


def test_a_dry_run_tells_no_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = cases
    monkeypatch.setattr(
        "benchmarks.gpu_cases.cases",
        lambda s, dry=False: [c for c in whole(s, dry) if c.name == "sum of rows"],
    )
    path = tmp_path / "rows.jsonl"
    assert gpu.main(["--only", "bandwidth", "--dry-run", "--rows", str(path)]) == 0
    assert [(r["case"], r["value"]) for r in rows_of(path)] == [("copy", None), ("sum of rows", None)]


def test_a_kernel_that_is_not_there_is_said(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    assert gpu.main(["--only", "wgmma", "--dry-run", "--rows", str(path)]) == 0
    assert all(row["value"] is None for row in rows_of(path))


def test_without_a_driver_nothing_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda_driver, "LIBRARY", "libcuda-that-is-not-there.so.1")
    assert gpu.main(["--only", "mma", "--rows", str(tmp_path / "rows.jsonl")]) == 4
    assert "AINO-E0540" in capsys.readouterr().err


def test_a_bundle_is_enough(few: None, tmp_path: Path) -> None:
    with emulated_gpu():
        size = gpu.make_bundle(tmp_path / "gpu.tar.gz", ["correctness"])
    assert size < gpu.MOST_BYTES
    with tarfile.open(tmp_path / "gpu.tar.gz") as bundle:
        for member in bundle:
            data = bundle.extractfile(member)
            assert data is not None
            place = tmp_path / "there" / member.name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(data.read())
    assert (tmp_path / "there" / "benchmarks" / "gpu.py").exists()
    path, folder = tmp_path / "rows.jsonl", tmp_path / "there" / gpu.FOLDER
    assert (
        gpu.main(["--only", "correctness", "--dry-run", "--rows", str(path), "--artifacts", str(folder)]) == 0
    )
    assert [r["value"] for r in rows_of(path)] == [True, True]


def test_speeds() -> None:
    assert gpu.speeds({"moved": 3_000_000_000, "flops": 0}, 1.0) == {"GB/s": 3000.0}
    assert gpu.speeds({"moved": 0, "flops": 2 * 4096**3}, 1.0) == {"TFLOP/s": 137.44}
