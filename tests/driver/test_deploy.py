"""Artifacts for several instruction sets, chosen or refused at load; many threads in one executable."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import aino_ir as aino
from aino_ir.errors.artifact import ArchitectureMismatch, CpuUnsupported
from aino_ir.runtime import artifact as artifact_module
from aino_ir.target import ISAS, Host, detect_host
from benchmarks.resnet50 import resnet50
from tests.driver.models import mlp, mlp_reference

HOST = detect_host()
HAS_AVX2 = HOST.arch == "x86_64" and not HOST.missing(ISAS["avx2"].features)
needs_avx2 = pytest.mark.skipif(not HAS_AVX2, reason="this CPU has no AVX2")
x86_only = pytest.mark.skipif(HOST.arch != "x86_64", reason="the variants are those of x86-64")


def host(isa: str, arch: str = "x86_64") -> Host:
    """A machine that has what an ISA needs and nothing more."""
    return replace(HOST, arch=arch, cpu=f"a CPU with {isa}", features=frozenset(ISAS[isa].features))


@pytest.fixture
def pretend(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes the loader believe in another machine."""
    return lambda fake: monkeypatch.setattr(artifact_module, "detect_host", lambda: fake)


@x86_only
@pytest.mark.parametrize(
    ("target", "cpu", "chosen"),
    [
        ("c:avx2+avx512", "avx2", "avx2"),
        ("c:avx2+avx512", "avx512", "avx512"),
        ("c:portable+avx2", "vec128", "vec128"),
        ("c:portable+avx2", "avx2", "avx2"),
        ("c:portable+avx2", "avx512", "avx2"),
    ],
)
def test_the_most_demanding_variant_that_fits_is_chosen(
    target: str, cpu: str, chosen: str, pretend: Any
) -> None:
    exe = aino.compile(mlp(), target)
    assert exe.artifact.choose_variant(host(cpu)).isa == chosen
    pretend(host(cpu))
    assert exe.artifact.choose_variant().isa == chosen
    assert exe.report.kernels


@needs_avx2
@pytest.mark.parametrize("cpu", ["vec128", "avx2"])
def test_every_variant_that_runs_here_gives_the_result(cpu: str, pretend: Any, tmp_path: Path) -> None:
    model = mlp(batch=5, sizes=(19, 33, 7))
    path = aino.compile(model, "c:portable+avx2").save(tmp_path / "both.aino")
    pretend(host(cpu))
    exe = aino.load_executable(path)
    x = np.random.default_rng(0).standard_normal((5, 19)).astype(np.float32)
    (y,) = exe.run(x)
    expected = mlp_reference(model, x)
    assert np.abs(y - expected).max() <= 1e-5 * np.abs(expected).max()


@x86_only
def test_an_artifact_for_a_richer_cpu_is_refused(pretend: Any, tmp_path: Path) -> None:
    path = aino.compile(mlp(), "c:avx512").save(tmp_path / "avx512.aino")
    pretend(host("avx2"))
    exe = aino.load_executable(path)
    assert exe.report.kernels  # what it holds can still be read
    with pytest.raises(CpuUnsupported, match="avx512f") as caught:
        exe.run(np.zeros((2, 8), np.float32))
    assert str(path) in str(caught.value)
    assert "avx512" in str(caught.value)


def test_an_artifact_for_another_processor_family_is_refused(pretend: Any, tmp_path: Path) -> None:
    path = aino.compile(mlp(), "c:portable").save(tmp_path / "here.aino")
    other = "aarch64" if HOST.arch == "x86_64" else "x86_64"
    pretend(host("vec128", other))
    with pytest.raises(ArchitectureMismatch, match=other):
        aino.load_executable(path).run(np.zeros((2, 8), np.float32))


@pytest.mark.parametrize("threads", [1, 2])
def test_many_threads_call_one_executable(threads: int) -> None:
    """Eight callers, fifty runs each, all inputs different; shapes differ from call to call."""
    model = mlp(batch="n", sizes=(24, 48, 5))
    exe = aino.compile(model, dims={"n": (1, 16)}, threads=threads)
    wrong: list[str] = []
    ready = threading.Barrier(8)

    def caller(number: int) -> None:
        rng = np.random.default_rng(number)
        ready.wait()
        for run in range(50):
            x = rng.standard_normal((1 + (number + run) % 16, 24)).astype(np.float32)
            try:
                (y,) = exe.run(x)
            except Exception as problem:
                wrong.append(f"caller {number}, run {run}: {problem!r}")
                return
            expected = mlp_reference(model, x)
            if y.shape != expected.shape or np.abs(y - expected).max() > 1e-5 * np.abs(expected).max():
                wrong.append(f"caller {number}, run {run}: a wrong result")

    callers = [threading.Thread(target=caller, args=(i,)) for i in range(8)]
    for t in callers:
        t.start()
    for t in callers:
        t.join()
    assert not wrong


@pytest.mark.slow
def test_resnet50_needs_nothing_but_the_c_library(tmp_path: Path) -> None:
    model = tmp_path / "resnet50.onnx"
    model.write_bytes(resnet50(size=64, width=16).SerializeToString())
    line = [sys.executable, "-m", "aino_ir.driver.cli", "compile", str(model), "-o", str(tmp_path / "m.aino")]
    done = subprocess.run(line, capture_output=True, text=True, timeout=600, check=True)
    with zipfile.ZipFile(tmp_path / "m.aino") as archive:
        sizes = {i.filename: i.file_size for i in archive.infolist()}
        (library,) = (name for name in sizes if name.startswith("lib/"))
        archive.extract(library, tmp_path)
    whole = (tmp_path / "m.aino").stat().st_size
    found = re.search(r"\((\d+) bytes: weights (\d+), code (\d+), sources and manifest (\d+)\)", done.stdout)
    assert found is not None, done.stdout
    total, weights, code, rest = map(int, found.groups())
    assert (total, code) == (whole, sizes[library]) and total == weights + code + rest
    assert weights <= sizes["weights.bin"] < weights + 64 * 200 and rest < 2 << 20
    text = subprocess.run(["ldd", str(tmp_path / library)], capture_output=True, text=True, check=True).stdout
    loaded = {Path(line.split()[0]).name.split(".so")[0] for line in text.splitlines() if "vdso" not in line}
    assert loaded <= {"libc", "libm", "libpthread", "ld-linux-x86-64", "ld-linux-aarch64"}
