"""Weights with many zeros through the whole compiler: compressed in the artifact, right, and in plain C too."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import aino_ir as aino
from aino_ir.driver.emit import emit_files
from aino_ir.types import tensor
from tests.codegen.kernels.test_sparse import sparse

Array = np.ndarray[Any, Any]


def layer(share: float) -> tuple[aino.Module, Array]:
    """relu(x W + c) with a share of zeros in W."""
    b = aino.Builder()
    x = b.input("x", tensor("f32", 96, 256))
    y = b.matmul(x, b.constant(sparse(256, 320, share=share)))
    b.output("y", b.relu(b.add(y, b.constant(np.linspace(-1, 1, 320, dtype=np.float32)))))
    return b.module, np.random.default_rng(5).standard_normal((96, 256)).astype(np.float32)


def test_sparse_weights_are_stored_compressed_and_compute_the_same() -> None:
    module, x = layer(0.9)
    exe = aino.compile(module, "c", cache=False)
    dense = aino.compile(layer(0.0)[0], "c", cache=False)
    assert [k["candidate"].split(":")[0] for k in exe.report.kernels] == ["sparse"]
    assert [k["candidate"].split(":")[0] for k in dense.report.kernels] == ["contract"]
    assert exe.report.checks["kernels"]["right"] == 1 and not exe.report.checks["kernels"]["wrong"]
    assert exe.report.weight_bytes < 0.3 * dense.report.weight_bytes
    (expected,) = aino.compile(module, "reference").run(x)
    (actual,) = exe.run(x)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-4 * float(np.abs(expected).max()))


def test_infinity_times_a_pruned_weight_stays_nan() -> None:
    module, x = layer(0.9)
    x[7, 3] = np.inf
    (expected,) = aino.compile(module, "reference").run(x)
    (actual,) = aino.compile(module, "c", cache=False).run(x)
    assert np.isnan(expected[7]).any()
    np.testing.assert_array_equal(np.isnan(actual), np.isnan(expected))


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
def test_emitted_c_runs_the_streams(tmp_path: Path) -> None:
    module, x = layer(0.9)
    emit_files(module, "c", tmp_path, "c:portable")
    sources = sorted(str(p) for p in tmp_path.glob("*.c"))
    command = ["cc", "-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror", "-Wno-psabi", *sources]
    subprocess.run([*command, "-lm", "-lpthread", "-o", str(tmp_path / "run")], check=True, timeout=120)
    assert (tmp_path / "module.weights").stat().st_size < 0.3 * 256 * 320 * 4
    x.tofile(tmp_path / "x")
    subprocess.run(["./run", "module.weights", "x", "y"], cwd=tmp_path, check=True, timeout=60)
    (expected,) = aino.compile(module, "reference").run(x)
    actual = np.fromfile(tmp_path / "y", np.float32).reshape(expected.shape)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-4 * float(np.abs(expected).max()))
