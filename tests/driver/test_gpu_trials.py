"""Kernels for GPUs one by one: tried in the emulation, measured on a device (an emulated one)."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from ml_dtypes import bfloat16

import aino_ir as aino
from aino_ir.codegen.cuda.elements import ElementGenerator
from aino_ir.codegen.cuda.generators import cuda_generators
from aino_ir.driver import emulated_kernels, gpu_trials
from aino_ir.driver.gpu import emulated_gpu
from aino_ir.driver.kernel_check import KernelWrong
from aino_ir.errors.printing import NoSpelling
from aino_ir.graph import Module
from aino_ir.target import Target
from aino_ir.types import tensor
from tests.driver.planted import Planted, Stray

X = np.linspace(-3, 3, 165, dtype=np.float32).reshape(5, 33)


def mapped() -> Module:
    b = aino.Builder()
    x = b.input("x", tensor("f32", 5, 33))
    b.output("y", b.add(b.tanh(x), x))
    return b.module


def product() -> Module:
    b = aino.Builder()
    x = b.input("x", tensor("bf16", 96, 64))
    b.output("y", b.softmax(b.matmul(x, b.input("w", tensor("bf16", 64, 80)))))
    return b.module


def compiled(module: Module, **options: Any) -> Any:
    return aino.compile(module, "cuda:sm_80", **{"cache": False, **options})


@pytest.fixture
def plant(monkeypatch: pytest.MonkeyPatch) -> Any:
    def planted(generator: Any) -> None:
        everyone = [generator, *cuda_generators()]
        monkeypatch.setattr("aino_ir.driver.pipeline.generators_for", lambda *_: everyone)

    return planted


def test_every_kernel_is_tried_where_that_is_asked_for() -> None:
    with emulated_gpu():
        executable = compiled(product(), verify="each-pass")
        checks = executable.report.checks["kernels"]
        assert checks["right"] + checks["remembered"] == len(executable.report.kernels) == 2
        assert checks["not run"] == {} and checks["wrong"] == []


def test_else_the_report_says_so() -> None:
    with emulated_gpu():
        checks = compiled(mapped()).report.checks["kernels"]
    assert checks["right"] == 0 and "each-pass" in checks["not run"]["all 1 of sm_80"]


@pytest.mark.parametrize(
    ("generator", "reason"),
    [
        (Planted(ElementGenerator()), "out: error"),
        (Stray(ElementGenerator(), 0), r"it crashes \(signal 6\): aino: .*\belements?\b"),
    ],
)
def test_wrong_kernels_are_found_without_a_gpu(generator: Any, reason: str, plant: Any) -> None:
    plant(generator)
    with emulated_gpu():
        with pytest.warns(KernelWrong, match="planted"):
            executable = compiled(mapped(), verify="each-pass")
        (wrong,) = executable.report.checks["kernels"]["wrong"]
        assert wrong["isa"] == "sm_80" and re.search(reason, wrong["reason"]), wrong["reason"]
        (row,) = executable.report.kernels
        assert "planted" not in row["candidate"]
        np.testing.assert_allclose(executable.run(X)[0], np.tanh(X) + X, rtol=1e-5)


def test_kernels_that_only_devices_have_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    printed = emulated_kernels.print_unit

    def refusing(functions: Any, target: Target) -> str:
        if any("softmax" in fn.name for fn in functions):
            raise NoSpelling(target="emulated", operation="tensor map", type="bf16")
        return printed(functions, target)

    monkeypatch.setattr(emulated_kernels, "print_unit", refusing)
    with emulated_gpu():
        checks = compiled(product(), verify="each-pass").report.checks["kernels"]
    ((name, reason),) = checks["not run"].items()
    assert "softmax" in name and "tensor map" in reason


@pytest.fixture
def two(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two candidates a kernel, and not much memory to write between runs."""
    monkeypatch.setattr("aino_ir.driver.tuning.MOST_CANDIDATES", 2)
    monkeypatch.setattr(gpu_trials, "FLUSH_SHARE", 1e-4)


def one_product() -> Module:
    b = aino.Builder()
    b.output("y", b.matmul(b.input("x", tensor("bf16", 32, 64)), b.input("w", tensor("bf16", 64, 32))))
    return b.module


@pytest.mark.parametrize("slow", [False, True])
def test_candidates_are_measured_by_events(slow: bool, two: None, hermetic_cache: object) -> None:
    with emulated_gpu() as gpus:
        (first,) = compiled(one_product()).report.kernels
        if slow:
            gpus.durations[f"{first['kernel']}_kernel"] = 2.0
        executable = compiled(one_product(), cache=True, tune=1000)
        tuned = executable.report.tuning
        (row,) = [*tuned["changed"], *tuned["kept"]]
        assert (row["changed"], row["analytic"], row["candidates"]) == (slow, first["candidate"], 2)
        assert (row["measured_us"], row["analytic_us"]) == (1000.0, 2000.0 if slow else 1000.0)
        assert (executable.report.kernels[0]["candidate"] != first["candidate"]) == slow
        again = compiled(one_product(), cache=True, tune=999).report.tuning
        assert (again["measured"], again["remembered"]) == (0, 1)
        x, w = (np.ones(shape, bfloat16) for shape in ((32, 64), (64, 32)))
        assert (executable.run(x, w)[0] == 64).all()


def test_a_candidate_that_the_driver_refuses_is_not_measured(two: None) -> None:
    with emulated_gpu() as gpus:
        gpus.fail("cuLaunchKernel", 701)
        tuned = compiled(one_product(), tune=1000).report.tuning
    assert list(tuned["skipped"].values()) == ["the analytic pick could not be measured"]


def test_without_a_gpu_nothing_is_measured() -> None:
    with emulated_gpu():
        other = aino.compile(mapped(), "cuda:sm_90a", cache=False, tune=1000).report.tuning
    assert other["skipped"] == {"sm_90a": "it is for sm_90a, the GPU here is sm_80"}
