"""Folders of CUDA C++: built by nvcc, and run on the CPU with an emulation of the runtime API."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import aino_ir as aino
from aino_ir.builder import Builder
from aino_ir.constants import Const
from aino_ir.driver.emit import emit_files
from aino_ir.errors.usage import TargetRunsNothing
from aino_ir.graph import Module
from aino_ir.runtime.cuda import driver as cuda_driver
from aino_ir.types import tensor
from tests.source import ROOT

NVCC = shutil.which("nvcc")
CC = shutil.which("cc")
EMULATED = ROOT / "codegen" / "cuda" / "emulated"

Array = np.ndarray[Any, Any]


def normal(*shape: int) -> Array:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def perceptron() -> tuple[Module, list[Array]]:
    b = Builder()
    x = b.input("x", tensor("f32", b.symbol("n", 1, 64), 33))
    hidden = b.relu(b.matmul(x, b.constant(normal(33, 50))))
    b.output("y", b.softmax(b.matmul(hidden, b.constant(normal(50, 70)))))
    b.finish()
    return b.module, [normal(5, 33)]


def picked() -> tuple[Module, list[Array]]:
    b = Builder()
    x, i = b.input("x", tensor("f32", 6, 4)), b.input("i", tensor("i64", 3))
    b.output("y", b.relu(b.gather(x, i, axis=0)))
    b.finish()
    return b.module, [normal(6, 4), np.array([0, 5, 1])]


CONTROL = """
<ir_version: 9, opset_import: ["" : 18]>
g (float[4] x, int64 n, bool c) => (float[4] y, float[4] z, int64[?, 1] k) {
    y = Loop (n, c, x) <body = b (int64 i, bool go, float[4] v) => (bool again, float[4] w) {
        f = Cast <to = 1> (i)
        w = Add (v, f)
        again = Identity (go)
    }>
    z = If (c) <
        then_branch = t () => (float[4] a) { a = Neg (x) },
        else_branch = e () => (float[4] a) { a = Abs (x) }
    >
    p = Greater (y, x)
    t0 = NonZero (p)
    k = Transpose (t0)
}
"""


def control() -> tuple[Module, list[Array]]:
    from onnx import parser

    x = np.array([1, -2, 3, -4], np.float32)
    return aino.load(parser.parse_model(CONTROL)), [x, np.array(3, np.int64), np.array(True)]


def stateful() -> tuple[Module, list[Array]]:
    """States, of which one begins with zeros, symbolic extents, and several outputs."""
    b = Builder()
    n = b.symbol("n", 1, 8)
    x = b.input("x", tensor("f32", n, 3))
    total = b.state("total", tensor("f32", 3))
    steps = b.state("steps", tensor("i64", 1), Const.of(np.array([10])))
    new_total = b.add(total, b.sum(x, axes=(0,)))
    new_steps = b.add(steps, b.constant(np.array([1])))
    b.output("scaled", b.mul(x, new_total))
    b.output("total", new_total)
    b.output("steps", new_steps)
    b.finish([new_total, new_steps])
    return b.module, [normal(5, 3)]


SYMBOLS = {perceptron: (5,), stateful: (5,)}


def written(module: Module, folder: Path) -> str:
    """The folder of a module; the model's name in it."""
    files = emit_files(module, "cu", folder, "cuda:sm_80")
    (main,) = [f for f in files if f.name.endswith("_main.cu")]
    assert {"Makefile", "aino_cuda.h", "aino_status.h"} <= {f.name for f in files}
    return main.name.removesuffix("_main.cu")


def built(folder: Path, name: str) -> Path:
    """The example program, compiled by a C compiler."""
    assert CC is not None
    sources = sorted(str(p) for p in folder.glob("*.cu"))
    command = [CC, "-std=gnu11", "-O1", "-Wall", "-Werror", "-Wno-unused-function", "-Wno-unused-variable"]
    command += [
        "-ffp-contract=off",
        "-fwrapv",
        "-DAINO_EMULATED_RUNTIME",
        "-I",
        str(EMULATED),
        "-I",
        str(folder),
    ]
    command += ["-x", "c", *sources, "-o", str(folder / name), "-lm"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    return folder / name


def run(
    program: Path, name: str, inputs: list[Array], outputs: int, symbols: tuple[int, ...] = (), **env: str
) -> Any:
    folder = program.parent
    for number, value in enumerate(inputs):
        value.tofile(folder / f"in{number}.bin")
    files = [f"in{n}.bin" for n in range(len(inputs))] + [f"out{n}.bin" for n in range(outputs)]
    command = [str(program), f"{name}.weights", *map(str, symbols), *files]
    return subprocess.run(
        command,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, **env},
    )


@pytest.mark.skipif(CC is None, reason="no C compiler")
@pytest.mark.parametrize("make", [perceptron, picked, control, stateful])
def test_the_host_program_runs_on_the_cpu(make: Any, tmp_path: Path) -> None:
    module, inputs = make()
    name = written(module, tmp_path)
    program = built(tmp_path, name)
    symbols = SYMBOLS.get(make, ())
    wanted = aino.compile(module, "reference").run(*inputs)
    done = run(program, name, inputs, len(wanted), symbols)
    assert done.returncode == 0, done.stderr
    for number, want in enumerate(wanted):
        got = np.fromfile(tmp_path / f"out{number}.bin", want.dtype).reshape(want.shape)
        np.testing.assert_allclose(np.float64(got), np.float64(want), rtol=1e-4, atol=1e-5)


@pytest.mark.skipif(CC is None, reason="no C compiler")
def test_failures_come_back_as_statuses(tmp_path: Path) -> None:
    module, (x, _) = picked()
    name = written(module, tmp_path)
    program = built(tmp_path, name)
    done = run(program, name, [x, np.array([0, 9, 1])], 1)
    assert done.returncode == 1 and "code 1 in step 0" in done.stderr


@pytest.mark.skipif(CC is None, reason="no C compiler")
def test_missing_memory_comes_back_as_a_status(tmp_path: Path) -> None:
    module, inputs = perceptron()
    name = written(module, tmp_path)
    done = run(built(tmp_path, name), name, inputs, 1, (5,), AINO_EMULATED_BYTES="4000")
    assert done.returncode == 1 and "code 16" in done.stderr


@pytest.mark.slow
@pytest.mark.skipif(NVCC is None, reason="nvcc is not installed")
@pytest.mark.parametrize("make", [stateful, control])
def test_nvcc_builds_the_folder(make: Any, tmp_path: Path) -> None:
    name = written(make()[0], tmp_path)
    assert NVCC is not None
    make_program = shutil.which("make")
    command = (
        [make_program, f"NVCC={NVCC}"]
        if make_program
        else [NVCC, *tmp_path.glob("*.cu"), "-o", f"{name}_main"]
    )
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stderr
    (tmp_path / "user.cpp").write_text(
        f'#include "{name}.h"\nint main() {{ {name}_model m(nullptr); return m.run(nullptr, nullptr); }}\n'
    )
    done = subprocess.run(
        [NVCC, "-c", "user.cpp"], cwd=tmp_path, capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr


def test_kernels_are_named_after_their_ops(tmp_path: Path) -> None:
    name = written(perceptron()[0], tmp_path)
    kernels = (tmp_path / f"{name}_kernels_0.cu").read_text()
    assert "void matmul_nx50_" in kernels and "nn.matmul" in kernels
    assert (tmp_path / f"{name}.h").read_text().count(f"int {name}_run(") == 1


def test_sources_are_the_same_again(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        written(control()[0], tmp_path / folder)
    texts = [{p.name: p.read_bytes() for p in (tmp_path / f).iterdir()} for f in ("a", "b")]
    assert texts[0] == texts[1]


def test_without_a_gpu_the_default_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_driver, "LIBRARY", "libcuda-that-is-not-there.so.1")
    told: list[str] = []
    emit_files(perceptron()[0], "cu", tmp_path, "cuda", tell=told.append)
    assert told == ["there is no GPU here: the sources are for cuda:sm_80"]


def test_other_targets_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TargetRunsNothing):
        emit_files(perceptron()[0], "cu", tmp_path, "c:avx2")
