"""Compiled kernels beside the meaning of their ops: wrong ones are found, named and replaced."""

from __future__ import annotations

import re

import numpy as np
import pytest

import aino_ir as aino
from aino_ir.codegen.kernels.map import MapGenerator
from aino_ir.codegen.kernels.registry import generators
from aino_ir.driver import kernel_trials
from aino_ir.driver.kernel_check import KernelWrong, _run_child
from aino_ir.driver.kernel_meaning import same_kind
from aino_ir.driver.kernel_trials import Trial
from aino_ir.errors.codegen import KernelTrialsFailed, NoLowering
from aino_ir.graph import Module
from aino_ir.kernels import Generator, Kernel
from aino_ir.runtime.store import Store as DiskStore
from aino_ir.types import tensor
from tests.driver.planted import Planted, Stray


def model(*shape: object) -> Module:
    b = aino.Builder()
    x = b.input("x", tensor("f32", *(shape or (5, 33))))
    b.output("y", b.add(b.tanh(x), x))
    return b.module


X = np.linspace(-3, 3, 165, dtype=np.float32).reshape(5, 33)


def plant(monkeypatch: pytest.MonkeyPatch, *planted: Generator, alone: bool = False) -> None:
    found = [*planted] if alone else [*generators(), *planted]
    monkeypatch.setattr("aino_ir.driver.pipeline.generators_for", lambda target, most: found)


def test_right_kernels_are_counted_and_remembered(hermetic_cache: object) -> None:
    first = aino.compile(model()).report.checks["kernels"]
    assert first == {"right": 1, "remembered": 0, "not run": {}, "wrong": []}
    again = aino.compile(model(), cache=True, level=1).report.checks["kernels"]
    assert again["right"] + again["remembered"] == len(aino.compile(model(), level=1).report.kernels)


def test_wrong_kernel_gives_way_to_the_next_candidate(monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, Planted(MapGenerator()))
    with pytest.warns(KernelWrong, match=r"\(planted: map.*does not compute .*plain operands: out: error"):
        exe = aino.compile(model(), cache=False)
    np.testing.assert_allclose(exe.run(X)[0], np.tanh(X) + X, rtol=1e-6)
    checks = exe.report.checks["kernels"]
    (wrong,) = checks["wrong"]
    assert wrong["candidate"].startswith("planted: ") and checks["right"] + checks["remembered"] == 1
    assert not exe.report.kernels[0]["candidate"].startswith("planted: ")


def test_symbolic_kernels_are_tried_at_small_and_larger_extents(monkeypatch: pytest.MonkeyPatch) -> None:
    b = aino.Builder()
    n = b.symbol("n", 1, 64)
    x = b.input("x", tensor("f32", n, 8))
    b.output("y", b.relu(b.add(x, x)))
    assert aino.compile(b.module, cache=False).report.checks["kernels"]["not run"] == {}
    plant(monkeypatch, Planted(MapGenerator()))
    with pytest.warns(KernelWrong):
        exe = aino.compile(b.module, cache=False)
    assert (exe.run(np.ones((3, 8), np.float32))[0] == 2).all()


def test_symbols_that_make_a_kernel_huge_are_smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    b = aino.Builder()
    x = b.input("x", tensor("f32", *(b.symbol(name, 1, 64) for name in "mn")))
    b.output("y", b.add(x, x))
    tried: dict[int, list[int]] = {}

    def note(kernel: Kernel, number: int, bindings: dict[str, int], *others: object) -> Trial | None:
        tried.setdefault(kernel_trials.ROOMY, []).extend(bindings.values())
        return trial(kernel, number, bindings, *others)  # type: ignore[arg-type]

    trial = kernel_trials._trial
    monkeypatch.setattr(kernel_trials, "_trial", note)
    for roomy in (kernel_trials.ROOMY, 1000):
        monkeypatch.setattr(kernel_trials, "ROOMY", roomy)
        aino.compile(b.module, cache=False)
    least = min(kernel_trials.LARGER_EXTENTS)
    large, small = (max(extents) for extents in tried.values())
    assert large >= least > small


def test_integers_that_divide_are_not_zero() -> None:
    b = aino.Builder()
    x, y = (b.input(n, tensor("i32", 4, 5)) for n in ("x", "y"))
    b.output("z", b.div(x, y))
    checks = aino.compile(b.module, cache=False).report.checks["kernels"]
    assert checks["not run"] == {} and checks["right"] == 1


def test_nothing_is_tried_without_verification(monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, Planted(MapGenerator()))
    exe = aino.compile(model(), cache=False, verify="off")
    assert "kernels" not in exe.report.checks and "check kernels" not in exe.report.seconds
    assert np.abs(exe.run(X)[0] - (np.tanh(X) + X)).max() > 1e-3


def test_no_right_candidate_is_an_error_that_names_the_wrong_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, Planted(MapGenerator()), alone=True)
    with pytest.warns(KernelWrong), pytest.raises(NoLowering, match="planted: map.* is wrong: "):
        aino.compile(model(), cache=False, strict=True)


def test_without_a_right_candidate_python_does_it(monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, Planted(MapGenerator()), alone=True)
    with pytest.warns(KernelWrong):
        exe = aino.compile(model(), cache=False)
    assert all("is wrong: " in row["reason"] for row in exe.report.python_nodes) and exe.report.python_nodes
    np.testing.assert_allclose(exe.run(X)[0], np.tanh(X) + X, rtol=1e-6)


@pytest.mark.parametrize(
    ("planted", "reason"),
    [
        (Stray(MapGenerator(), 1 << 40), r"crashes \(signal 11\)"),
        (Stray(MapGenerator(), 0), "writes outside"),
    ],
)
def test_stray_writes(planted: Planted, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, planted)
    with pytest.warns(KernelWrong, match=reason):
        exe = aino.compile(model(), cache=False)
    np.testing.assert_allclose(exe.run(X)[0], np.tanh(X) + X, rtol=1e-6)


def test_child_that_cannot_work_is_an_error(store: DiskStore) -> None:
    with store.work_folder() as folder:
        (folder / "data").write_bytes(bytes(64))
        job = {"library": "none.so", "table": "t", "kernels": 1, "data": str(folder / "data"), "calls": []}
        with pytest.raises(KernelTrialsFailed, match=re.escape("none.so")):
            _run_child(job, folder)


def test_factor_that_may_be_zero_tells_nothing_where_it_meets_infinity() -> None:
    b = aino.Builder()
    x, y, z = (b.input(name, tensor("f32", 8, 90)) for name in "xyz")
    b.output("out", b.mul(b.silu(b.add(x, y)), z))
    executable = aino.compile(b.module, "c", threads=1, cache=False)
    facts = executable.report.checks["kernels"]
    assert facts["right"] > 0 and not facts["wrong"]


def test_what_tells_something_is_still_compared() -> None:
    native = np.array([1.0, np.inf, np.nan, 2.0], np.float32)
    assert same_kind(native, native).all()
    flushed = np.array([1.0, np.nan, np.nan, np.inf], np.float32)
    assert same_kind(native, flushed).tolist() == [True, False, True, False]
    assert same_kind(np.array([1, 2]), np.array([1, 3])).tolist() == [True, False]


def test_a_result_is_as_exact_as_what_it_is_made_of() -> None:
    """An ulp of f32 is far more than one of f64, to which the function's value is converted."""
    b = aino.Builder()
    x = b.input("x", tensor("f32", 4, 33))
    b.output("y", b.cast(b.cosh(x), to="f64"))
    checks = aino.compile(b.module, strict=True).report.checks["kernels"]
    assert (checks["right"] + checks["remembered"], checks["wrong"]) == (1, [])


def norm_as_integers(dtype: str, scale: float) -> Module:
    b = aino.Builder()
    x = b.input("x", tensor("f32", 128, 768))
    weight, bias = b.input("weight", tensor("f32", 768)), b.input("bias", tensor("f32", 768))
    y = b.layer_norm(x, weight, bias, axis=1, epsilon=1e-12)
    zero = b.constant(np.zeros((), dtype))
    b.output(
        "y", b.quantize(y, b.constant(np.float32(scale)), zero, to={"int8": "i8", "int16": "i16"}[dtype])
    )
    return b.module


def test_a_sum_in_another_order_may_round_to_the_next_integer() -> None:
    exe = aino.compile(norm_as_integers("int16", 0.0003))
    assert exe.report.checks["kernels"]["wrong"] == [] and exe.host_steps == 0


def test_integers_far_from_ties_are_still_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nearly all: a kernel that is off by one anywhere else is found."""
    seen = []

    def judged(batch: list[Trial], *rest: object) -> list[str]:
        seen.extend(batch)
        return ["" for _ in batch]

    monkeypatch.setattr("aino_ir.driver.kernel_check.run_trials", judged)
    aino.compile(norm_as_integers("int8", 0.04), cache=False)
    (sure,) = [t.sure[0] for t in seen if t.native[0].dtype == np.int8]
    assert 0.98 < sure.mean() < 1
