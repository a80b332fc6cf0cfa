"""Profiles: one row a kernel call, figures that fit together, tables, JSON and traces."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

import aino_ir as aino
from aino_ir.builder import Builder, op_class
from aino_ir.codegen.c import steps
from aino_ir.errors.run import IndexOutOfRange, NoProfile
from aino_ir.errors.usage import OptionTooSmall
from aino_ir.runtime.executable import Executable
from aino_ir.runtime.profile import Profile, measure
from aino_ir.runtime.tables import format_table
from aino_ir.types import tensor
from tests.driver.models import gather, mlp


@pytest.fixture(scope="module")
def exe() -> Executable:
    return aino.compile(mlp("batch", (8, 64, 3)), threads=2)


def values(rows: int = 4) -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).standard_normal((rows, 8)).astype(np.float32)


@pytest.fixture(scope="module")
def profile(exe: Executable) -> Profile:
    return exe.profile(values(), runs=5)


def test_one_row_a_kernel_call(exe: Executable, profile: Profile) -> None:
    assert [r.kernel for r in profile.rows] == [k["kernel"] for k in exe.report.kernels]
    assert {n for r in profile.rows for n in r.nodes} >= {"node 'fc0' (Gemm)", "node 'fc1' (Gemm)"}
    assert profile.rows[0].loc and profile.symbols == {"batch": 4}
    assert profile.runs == 5 and profile.threads == 2


def test_figures_fit_together(exe: Executable, profile: Profile) -> None:
    starts = [r.start_ms for r in profile.rows]
    assert starts == sorted(starts) and starts[0] == 0
    assert all(r.ms >= 0 and r.wait_ms >= 0 and r.gbytes > 0 for r in profile.rows)
    whole = sum(r.ms + r.wait_ms for r in profile.rows)
    assert whole == pytest.approx(starts[-1] + profile.rows[-1].ms + profile.rows[-1].wait_ms)
    first = profile.rows[0]
    operations = first.gflops * 1e9 * max(first.ms, 1e-6) / 1e3
    assert operations == pytest.approx(
        2 * 4 * 8 * 64, rel=0.2
    )  # the products, and a little for bias and relu


def test_profiled_runs_give_the_same_numbers(exe: Executable) -> None:
    x = values()
    want = exe.run(x)[0]
    exe.profile(x, runs=1)
    exe.profile({"x": x}, runs=1)
    assert np.array_equal(exe.run(x)[0], want)


def test_table_json_and_trace(profile: Profile) -> None:
    text = str(profile)
    assert "GFLOP/s" in text and "fc0" in text and "ms a run (5 runs, 2 threads" in text
    plain = json.loads(profile.to_json())
    assert len(plain["rows"]) == len(profile.rows) and plain["ms"] == profile.ms
    events = json.loads(profile.to_chrome())["traceEvents"]
    kernels = [e for e in events if e["cat"] == "kernel"]
    assert [e["name"] for e in kernels] == [r.kernel for r in profile.rows]
    assert all(e["ph"] == "X" and e["dur"] >= 0 and e["ts"] >= 0 for e in events)
    assert kernels[0]["dur"] == pytest.approx(1e3 * profile.rows[0].ms)


@pytest.mark.parametrize("symbolic", [False, True])
def test_long_plans_are_profiled_too(symbolic: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "STRAIGHT_LINE_STEPS", 1)
    sizes = (8, 9, 10, 3)
    exe = aino.compile(mlp("batch" if symbolic else 4, sizes), cache=False, threads=1)
    text = exe.artifact.section(f"src/{exe.artifact.manifest.variants[-1].isa}/mlp.c").tobytes()
    assert (b"model_part_1" in text) == symbolic and (b"model_table" in text) == (not symbolic)
    found = exe.profile(values(), runs=2)
    assert len(found.rows) == 3 and found.ms > 0 and sum(r.ms for r in found.rows) > 0


def test_turns_of_a_loop_are_added_up() -> None:
    b = Builder()
    n, x = b.input("n", tensor("i64")), b.input("x", tensor("f32", 8))
    types = [tensor("i64"), tensor("bool"), tensor("f32", 8)]
    body = b.region(types, lambda b, turn, go, now: [go, b.exp(b.neg(now))])
    (y,) = b.op(op_class("control.loop"), n, None, x, carried=1, regions=[body]).results
    b.output("y", y)
    exe = aino.compile(b.module, cache=False, level=0, threads=1)
    for turns in (0, 1, 7):
        rows = exe.profile(np.int64(turns), np.ones(8, np.float32), runs=2).rows
        assert {r.calls for r in rows if "copy" not in r.ops} == {turns}


def test_errors_of_a_run_come_through() -> None:
    with pytest.raises(IndexOutOfRange):
        aino.compile(gather()).profile(np.int64([9, 9]))


def test_runs_are_counted_from_one(exe: Executable) -> None:
    with pytest.raises(OptionTooSmall, match="runs"):
        exe.profile(values(), runs=0)


def test_what_cannot_be_profiled_says_so(exe: Executable, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NoProfile, match="reference"):
        aino.compile(mlp(), target="reference").profile(values(2))
    monkeypatch.setattr(exe.native, "_profile", None)
    with pytest.raises(NoProfile, match="without the entry"):
        measure(lambda times: None, exe.native, [], {}, 1)


def test_tables_align_their_columns() -> None:
    text = format_table(("name", "n"), [("a", 1), ("longer", 200)], right=(1,))
    assert text.splitlines() == ["name      n", "------  ---", "a         1", "longer  200"]
