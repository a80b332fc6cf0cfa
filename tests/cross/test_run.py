"""A few conformance cases on every emulated target; `make test-cross` runs 300, and whole networks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import aino_ir as aino
from aino_ir.errors.run import IndexOutOfRange
from aino_ir.graph import Module
from aino_ir.tolerance import disagreement
from aino_ir.types import tensor
from tests.conformance.batch import run_cases
from tests.cross import run
from tests.cross.emulator import MACHINES, Machine

FEW = 20


def needed(target: str) -> None:
    lack = MACHINES[target].missing()
    if lack:
        pytest.skip(f"needs {lack}")


@pytest.mark.slow
@pytest.mark.parametrize("target", MACHINES)
def test_a_few_cases_elsewhere(target: str) -> None:
    needed(target)
    cases = run.chosen_cases(FEW)
    outcomes = list(run_cases(cases, target, FEW, run.run_together))
    assert [o.case for o in outcomes] == [c.name for c in cases]
    assert not [o for o in outcomes if o.status != "passed"]


def gather() -> Module:
    """Rows of a table by number; the table's length is symbolic, and threads share the work."""
    b = aino.Builder()
    x = b.input("x", tensor("f32", b.symbol("n", 1, 999), 3))
    at = b.input("at", tensor("i64", 4))
    b.output("y", b.gather(x, at, axis=0))
    b.output("where", b.nonzero(x))
    return b.module


@pytest.mark.slow
@pytest.mark.parametrize("target", MACHINES)
def test_symbols_errors_and_extents_that_the_run_decides(target: str) -> None:
    needed(target)
    x = np.arange(15, dtype=np.float32).reshape(5, 3) % 4
    at = np.array([0, 4, -1, 2], np.int64)
    y, where = run.run_elsewhere(gather(), [x, at], target, level=0, verify="off")
    np.testing.assert_array_equal(y, x[at])
    np.testing.assert_array_equal(where, np.array(np.nonzero(x)))
    with pytest.raises(IndexOutOfRange):
        run.run_elsewhere(gather(), [x, at + 4], target, level=0, verify="off")


@pytest.mark.slow
@pytest.mark.parametrize("machine", ["c:aarch64"])
def test_kernels_of_tvms_for_another_processor(machine: str) -> None:
    needed(machine)
    pytest.importorskip("tvm", reason="TVM is not installed")
    rng = np.random.default_rng(0)
    x, w = (rng.normal(size=shape).astype(np.float32) for shape in ((12, 24), (24, 64)))
    b = aino.Builder()
    product = b.matmul(b.input("x", tensor("f32", 12, 24)), b.constant(w))
    b.output("y", b.softmax(b.relu(product), axis=-1))
    target = "tvm:llvm -mtriple=aarch64-linux-gnu"
    (want,) = aino.compile(b.module, "reference").run(x)
    (got,) = run.run_elsewhere(b.module, [x], target, machine=machine, verify="off")
    assert disagreement(got, want, "reordered", terms=64) is None


def test_the_sample_is_the_same_every_time() -> None:
    names = [c.name for c in run.chosen_cases(300)]
    assert len(set(names)) == 300
    assert names[:FEW] == [c.name for c in run.chosen_cases(FEW)]
    assert len({n.split(".")[0] for n in names}) > 8, "every family of ops is among them"


def test_what_is_missing_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(MACHINES, "c:wasm32", Machine("no-such-program", "", "nodejs"))
    assert run.main(["--target", "c:wasm32", "--jsonl", str(tmp_path / "rows")]) == 1
    assert "c:wasm32: not run, needs apt install nodejs" in capsys.readouterr().out
