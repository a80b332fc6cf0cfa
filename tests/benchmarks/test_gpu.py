"""The script for real GPUs, on an emulated one: every section runs, rows are kept, a bundle is enough."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import aino_ir as aino
from aino_ir.codegen.cuda.emulated.device import EmulatedGpus
from aino_ir.driver.gpu import emulated_gpu
from aino_ir.runtime.artifact import Artifact
from aino_ir.runtime.cuda import driver as cuda_driver
from aino_ir.types import tensor
from benchmarks import gpu, gpu_bundle
from benchmarks.gpu_apart import run_parts
from benchmarks.gpu_bundle import is_drawn, make_bundle, without_weights
from benchmarks.gpu_cases import Case, cases
from benchmarks.gpu_checks import wrong
from benchmarks.gpu_draw import drawn, weights
from benchmarks.gpu_models import tensor_of
from benchmarks.gpu_peers import PEERS
from benchmarks.gpu_rows import GOALS, Rows, shares, summary
from benchmarks.gpu_timing import speeds
from tests.tools.child import run_python

FEW = {
    "correctness": ("gelu of a product", "gather"),
    "libraries": ("bias and relu of f32",),
    "bandwidth": ("sum of rows",),
    "mma": ("bf16 4096^3",),
    "wgmma": ("f16 4096^3",),
    "networks": ("gpt2 decode, batch 1",),
}


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few cases of some sections alone."""
    whole = cases

    def some(section: str, dry: bool = False) -> Iterable[Case]:
        return [c for c in whole(section, dry) if c.name in FEW.get(section, ())]

    monkeypatch.setattr("benchmarks.gpu_cases.cases", some)


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_section_has_cases_that_build() -> None:
    names: list[tuple[str, str]] = []
    timed = [s for s in gpu.ORDER if s not in ("sanitizer", "networks")]
    for section in timed:
        for case in cases(section, dry=True):
            assert case.section == section and case.module().main.inputs
            assert case.given is not None or len(drawn(case.name, case.inputs)) == len(case.inputs)
            names.append((section, case.name))
    assert len(names) == len(set(names)) and {section for section, _ in names} == set(timed)
    assert set(GOALS) == set(gpu.ORDER)


def test_products_by_a_library_are_checked(few: None, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    assert gpu.main(["--only", "libraries", "--dry-run", "--engine", "aino", "--rows", str(path)]) == 0
    (row,) = rows_of(path)
    assert (row["section"], row["what"], row["value"]) == ("libraries", "results are right", True)


def test_a_library_that_is_not_there_is_an_error_and_no_figure(few: None) -> None:
    with emulated_gpu():
        (offer,) = gpu_bundle.compiled_here("libraries", dry=True)
        row = gpu._figures("libraries", offer, dry=True)
    assert row["what"] == "error" and row["error"].startswith(
        "LibraryNotUsed: AINO-E0547: cuBLAS is not there"
    )


def test_a_dry_run_checks_and_goes_on_where_it_ended(few: None, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    arguments = ["--only", "correctness", "--dry-run", "--engine", "aino", "--rows", str(path)]
    assert gpu.main(arguments) == 0
    rows = rows_of(path)
    assert [(r["case"], r["value"], r["dry"]) for r in rows] == [(n, True, True) for n in FEW["correctness"]]
    assert all(r["device"] == "Emulated GPU" and r["architecture"] == "sm_80" for r in rows)
    lines = path.read_text().splitlines()
    path.write_text(lines[0] + "\n")
    assert gpu.main(arguments) == 0
    assert path.read_text().splitlines() == lines


def test_a_dry_run_tells_no_times(few: None, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    assert gpu.main(["--only", "bandwidth", "--dry-run", "--engine", "aino", "--rows", str(path)]) == 0
    assert [(r["case"], r["value"], r.get("right")) for r in rows_of(path)] == [
        ("copy", None, None),
        ("sum of rows", None, True),
    ]


def test_the_suite_of_onnx_runs(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    assert gpu.main(["--only", "suite", "--dry-run", "--engine", "aino", "--rows", str(path)]) == 0
    assert [r["value"] for r in rows_of(path)] == [True, True]


def test_a_kernel_that_is_not_there_is_said(few: None, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    assert gpu.main(["--only", "wgmma", "--dry-run", "--engine", "aino", "--rows", str(path)]) == 0
    (row,) = rows_of(path)
    assert row["value"] is None and row["what"] == "no such kernel"


def test_what_products_need_is_what_kernels_are_called(few: None, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    assert gpu.main(["--only", "mma", "--dry-run", "--engine", "aino", "--rows", str(path)]) == 0
    assert {row["what"] for row in rows_of(path)} == {"ms a run"}


def test_when_time_is_up_a_call_ends(few: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "rows.jsonl"
    arguments = [
        "--only",
        "correctness",
        "--dry-run",
        "--engine",
        "aino",
        "--rows",
        str(path),
        "--budget",
        "0",
    ]
    assert gpu.main(arguments) == 5
    assert "time is up before 'gelu of a product'" in capsys.readouterr().out and not path.exists()


@pytest.mark.parametrize(("status", "value"), [(0, True), (gpu.FAULT, False), (1, None)])
def test_the_sanitizer_runs_correctness_once_more(
    status: int, value: bool | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "compute-sanitizer"
    program.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path / "calls"}\nexit {status}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    path = tmp_path / "rows.jsonl"
    assert gpu.main(["--only", "sanitizer", "--dry-run", "--engine", "aino", "--rows", str(path)]) == 0
    assert [(r["case"], r["value"]) for r in rows_of(path)] == [(tool, value) for tool in gpu.TOOLS]
    calls = (tmp_path / "calls").read_text().splitlines()
    assert [c.split()[1] for c in calls] == list(gpu.TOOLS)
    assert all("-m benchmarks.gpu --only correctness" in c for c in calls)


def test_without_a_sanitizer_that_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.gpu.shutil.which", lambda name: None)
    rows = Rows(tmp_path / "rows.jsonl", {})
    assert gpu.run_sanitizer(rows, None, True, gpu.Clock(10.0))
    assert [r["value"] for r in rows_of(rows.path)] == [None] * len(gpu.TOOLS)


def test_without_a_driver_nothing_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda_driver, "LIBRARY", "libcuda-that-is-not-there.so.1")
    command = ["--only", "mma", "--engine", "aino", "--rows", str(tmp_path / "rows.jsonl")]
    assert gpu.main(command) == 4
    assert "AINO-E0540" in capsys.readouterr().err


PART = """
import json, sys
from pathlib import Path
from benchmarks.gpu_apart import begun
path, section = Path(sys.argv[1]), sys.argv[2]
tried = [json.loads(line)["case"] for line in path.read_text().splitlines()] if path.exists() else []
for case in ("first", section, "last"):
    if case in tried:
        continue
    begun(path, {"section": section, "case": case})
    if case == "crash":
        raise SystemExit(-11)
    with path.open("a") as file:
        print(json.dumps({"section": section, "case": case, "value": 1}), file=file)
    if case == "lost":
        raise SystemExit(6)
"""


def test_a_part_that_ends_does_not_take_the_others_with_it(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    calls: list[str] = []

    def command(part: tuple[str, str], seconds: float) -> list[str]:
        calls.append(part[0])
        return ["-c", PART, str(path), part[0]]

    for section in ("crash", "lost"):
        path.unlink(missing_ok=True)
        assert run_parts([(section, "aino"), ("fine", "aino")], path, command, lambda section: 30.0) == 0
        rows = [(r["section"], r["case"], r["value"]) for r in rows_of(path)]
        ended = ("crash", "crash", None) if section == "crash" else ("lost", "lost", 1)
        assert rows == [
            (section, "first", 1),
            ended,
            (section, "last", 1),
            ("fine", "fine", 1),
        ]
    assert calls == ["crash", "crash", "fine", "lost", "lost", "fine"]


def unpacked(bundle: Path, folder: Path) -> Path:
    with tarfile.open(bundle) as archive:
        for member in archive:
            data = archive.extractfile(member)
            assert data is not None
            place = folder / member.name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(data.read())
    return folder


@pytest.mark.slow
def test_a_bundle_is_enough(few: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_bundle, "LARGE", 256)
    sections = ["correctness", "networks"]
    with emulated_gpu():
        assert make_bundle(tmp_path / "gpu.tar.gz", sections, dry=True, seconds=0.0) is None
        assert not (tmp_path / "gpu.tar.gz").exists()
        size = make_bundle(tmp_path / "gpu.tar.gz", sections, dry=True)
        monkeypatch.setattr(gpu_bundle, "compiled", None)  # a second call has all it needs
        assert make_bundle(tmp_path / "gpu.tar.gz", sections, dry=True, seconds=0.0) == size
    assert size is not None and size < gpu_bundle.MOST_BYTES
    there = unpacked(tmp_path / "gpu.tar.gz", tmp_path / "there")
    for name in ("correctness-0", "networks-0"):  # what is compared keeps its constants
        artifact = Artifact.open(there / gpu_bundle.FOLDER / f"{name}.aino")
        blank = [not any(artifact.weight(n)) for n, w in enumerate(artifact.manifest.weights) if is_drawn(w)]
        assert all(blank) == (name == "networks-0") or not blank
    chosen = [word for section in sections for word in ("--only", section)]
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "benchmarks.gpu",
            *chosen,
            "--dry-run",
            "--rows",
            str(tmp_path / "rows.jsonl"),
        ],
        cwd=there,
        env={**os.environ, "PYTHONPATH": str(there)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    values = {r["case"]: (r["what"], r["value"]) for r in rows_of(tmp_path / "rows.jsonl")}
    assert all(values[name] == ("results are right", True) for name in FEW["correctness"])
    assert all(values[name] == ("ms a run", None) for name in FEW["networks"])


def test_weights_are_drawn_where_the_variant_of_the_device_has_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(gpu_bundle, "LARGE", 256)
    b = aino.Builder()
    w = np.random.default_rng(0).standard_normal((32, 16)).astype(np.float32)
    b.output("y", b.matmul(b.input("x", tensor("f32", 4, 32)), b.constant(w)))
    x = np.random.default_rng(1).standard_normal((4, 32)).astype(np.float32)
    for capability, number in (((8, 0), 0), ((9, 0), 1)):
        with emulated_gpu(EmulatedGpus([capability])):
            whole = aino.compile(b.module, "cuda:sm_80+sm_90a", cache=False)
            path = tmp_path / "stripped.aino"
            path.write_bytes(without_weights(whole.artifact))
            stripped = aino.load_executable(path)
            assert not stripped.run(x)[0].any()
            gpu_bundle.draw_weights(stripped, "case")
            drawn_there = weights(f"case {number}", "f32", w.nbytes).reshape(w.shape)
            np.testing.assert_allclose(stripped.run(x)[0], x @ drawn_there, rtol=1e-4, atol=1e-5)


ALONE = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("lark", "onnx", "networkx", "rich", "safetensors", "torch"):
            raise ImportError(name)

sys.meta_path.insert(0, Missing())
from benchmarks import gpu
gpu.source_identity()
"""


def test_a_bundle_needs_numpy_and_ml_dtypes_alone() -> None:
    done = run_python(ALONE)
    assert done.returncode == 0, done.stderr


def test_peers_compute_what_the_cases_do() -> None:
    for section in ("bandwidth", "norms", "mma", "gemv", "attention"):
        for case in cases(section, dry=True):
            values = zip(drawn(case.name, case.inputs), case.inputs, strict=True)
            tensors = [tensor_of(value, row[0], "cpu") for value, row in values]
            got = PEERS[case.peer[0]](*tensors)
            executable = aino.compile(case.module(), "reference", verify="off", cache=False)
            (want,) = executable.run(*tensors)
            arrays = drawn(case.name, case.inputs)
            (own,) = executable.run(*arrays)
            assert wrong(case.peer[0], arrays, own) is None
            own[(*(0 for _ in own.shape[1:]), ...)] += own.dtype.type(9)
            assert wrong(case.peer[0], arrays, own) is not None
            assert got.shape == want.shape and got.dtype == want.dtype
            wide = got.double(), want.double()
            torch.testing.assert_close(*wide, rtol=2**-6, atol=2**-6 * float(wide[1].abs().max()))


def test_weights_are_drawn_alike_and_differ_by_name() -> None:
    one, again, other = (weights(name, "bf16", 64) for name in ("a", "a", "b"))
    assert one.nbytes == 64 and np.array_equal(one, again) and not np.array_equal(one, other)


def test_speeds() -> None:
    assert speeds(3_000_000_000, 0, 1.0) == {"GB/s": 3000.0}
    assert speeds(0, 2 * 4096**3, 1.0) == {"TFLOP/s": 137.44}


def test_what_the_rows_say_of_the_goals(tmp_path: Path) -> None:
    rows = Rows(tmp_path / "rows.jsonl", {"device": "one"})
    rows.add("bandwidth", "copy", value=2000.0)
    rows.add("bandwidth", "chain", value=1.0, **{"GB/s": 1800.0})
    rows.add("bandwidth", "sum", value=1.0, **{"GB/s": 1000.0})
    rows.add("mma", "bf16", value=2.0)
    rows.add("mma", "bf16", "torch", value=1.0)
    rows.add("norms", "softmax", value=None)
    rows.add("correctness", "gather", value=True)
    assert list(shares(rows.present)) == [
        ("bandwidth", "chain", 0.9, True),
        ("bandwidth", "sum", 0.5, False),
        ("mma", "bf16", 0.5, False),
        ("correctness", "gather", None, True),
    ]
    lines = summary(rows.present).splitlines()
    assert "bandwidth    1 of 2 reach the goal (0.85 of copy): 0.50 to 0.90" in lines
    assert "norms        no figures" in lines and "correctness  1 of 1 reach the goal" in lines
    assert not list(shares(Rows(rows.path, {"device": "another"}).present))
