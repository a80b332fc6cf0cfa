"""Models as modules of TVM's own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import aino_ir as aino
from aino_ir.builder import Builder
from aino_ir.driver.emit import emit_files
from aino_ir.dtypes import f32
from aino_ir.errors.toolchain import NotOneRelaxFunction
from aino_ir.errors.usage import TargetRunsNothing
from aino_ir.graph import Module
from aino_ir.tolerance import disagreement
from aino_ir.types import TensorType, tensor
from tests.codegen.tvm.support import conv, matmul, needs_tvm, weights


def run_relax(module: Any, *inputs: np.ndarray[Any, Any]) -> list[np.ndarray[Any, Any]]:
    """What `main` gives on TVM's own virtual machine."""
    import tvm
    from tvm import relax

    machine = relax.VirtualMachine(tvm.compile(module, "llvm"), tvm.cpu())
    return [y.numpy() for y in machine["main"](*map(tvm.runtime.tensor, inputs))]


def branches() -> Module:
    """Slices of an input, results joined in place, a sum over a product that is used twice."""
    b = Builder()
    x = b.input("x", tensor("f32", 6, 10))
    y = b.relu(b.matmul(x, b.constant(weights(10, 12))))
    part = b.slice(x, starts=(2, 3), sizes=(4, 6), steps=(1, 1))
    other = b.matmul(x, b.constant(weights(10, 4, seed=1)))
    b.output("out", b.concat(b.softmax(y, axis=-1), other, axis=1))
    b.output("part", b.exp(part))
    return b.module


def rows() -> Module:
    """Softmax of several vectors a row, and a norm."""
    b = Builder()
    x = b.input("x", tensor("f32", 5, 64))
    b.output("out", b.softmax(x, axis=-1))
    b.output("norm", b.layer_norm(b.relu(x), axis=-1))
    return b.module


@pytest.mark.parametrize("name", ["conv", "branches", "rows"])
def test_relax_modules_agree(name: str) -> None:
    needs_tvm()
    module = {"conv": lambda: conv(8, 9, 16, 3, pad=1), "branches": branches, "rows": rows}[name]()
    x = weights(*module.main.inputs[0].type.shape, seed=2)
    expected = aino.compile(module, "reference").run(x)
    made = aino.to_relax(module)
    text = made["main"].script()
    assert "R.call_tir_inplace(" in text
    for got, want in zip(run_relax(made, x), expected, strict=True):
        assert disagreement(got, want, "reordered", terms=128) is None


def test_kernels_that_check_give_their_status(tmp_path: Path) -> None:
    needs_tvm()
    b = Builder()
    x, at = b.input("x", tensor("f32", 6, 5)), b.input("at", tensor("i64", 4))
    b.output("out", b.gather(x, at, axis=0))
    made = aino.to_relax(b.module)
    given = weights(6, 5)
    out, status = run_relax(made, given, np.array([0, 5, 1, 2]))
    assert np.array_equal(out, given[[0, 5, 1, 2]]) and not status.any()
    assert run_relax(made, given, np.array([0, 9, 1, 2]))[1].any()


def test_libraries_of_tvms_run_without_aino(tmp_path: Path) -> None:
    needs_tvm()
    import tvm

    path, x = tmp_path / "model.so", tmp_path / "x.npy"
    tvm.compile(aino.to_relax(matmul(13, 40, 9)), "llvm").export_library(str(path))
    np.save(x, np.ones((13, 9), np.float32))
    program = (
        "import sys, numpy, tvm; from tvm import relax; sys.modules['aino_ir'] = None; "
        "machine = relax.VirtualMachine(tvm.runtime.load_module(sys.argv[1]), tvm.cpu()); "
        "print(machine['main'](tvm.runtime.tensor(numpy.load(sys.argv[2])))[0].numpy().shape)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(path), str(x)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stdout.strip() == "(13, 40)", done.stderr


def test_what_a_run_decides_is_refused() -> None:
    needs_tvm()
    b = Builder()
    x = b.input("x", TensorType(f32, (b.function.symbols.new("n", 1, 64), 9)))
    b.output("out", b.relu(x))
    with pytest.raises(NotOneRelaxFunction, match="extents that a run decides"):
        aino.to_relax(b.module)


def test_other_targets_are_refused() -> None:
    needs_tvm()
    with pytest.raises(TargetRunsNothing, match="a Relax module"):
        aino.to_relax(matmul(2, 3, 4), "c")


def test_emitted_files_run_on_their_own(tmp_path: Path) -> None:
    needs_tvm()
    place = tmp_path / "m.py"
    written = emit_files(matmul(4, 8, 3), "tvm", place)
    assert [p.name for p in written] == ["m.py", "m.weights"]
    done = subprocess.run(
        [sys.executable, str(place)], capture_output=True, text=True, timeout=120, check=False, cwd=tmp_path
    )
    assert "out: float32[4, 8]" in done.stdout, done.stderr
