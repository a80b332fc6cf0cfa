"""cuBLAS beside AINO's kernels: taken where it is measured to be faster, and never silently (on an emulated GPU)."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import aino_ir as aino
from aino_ir.codegen.cuda.emulated.compiler import EmulatedCompiler
from aino_ir.codegen.cuda.emulated.cublas import EmulatedCublas
from aino_ir.codegen.cuda.emulated.device import EmulatedGpus
from aino_ir.driver import gpu_trials
from aino_ir.driver.gpu import emulated_gpu
from aino_ir.driver.libraries import NOT_MEASURED
from aino_ir.errors.cuda import LibraryCallFailed
from aino_ir.errors.usage import UnknownOption
from aino_ir.graph import Module
from aino_ir.location import loc
from aino_ir.runtime.cuda.library_launch import LibraryNotUsed
from aino_ir.types import tensor

CALL = "cublasLtMatmul"
TARGET = "cuda:sm_80"
SHAPES = ((32, 64), (64, 48))
X, W = (np.random.default_rng(n).standard_normal(s).astype(np.float32) for n, s in enumerate(SHAPES))


class Bench:
    """An emulated GPU with cuBLAS, whose calls take a tenth of what a kernel takes."""

    def __init__(self) -> None:
        self.gpus = EmulatedGpus()
        self.cublas = EmulatedCublas(self.gpus)
        self.gpus.durations[CALL] = 0.1

    def compile(self, module: Module, **options: Any) -> Any:
        """Compile with measurement."""
        with emulated_gpu(self.gpus, cublas=self.cublas):
            return aino.compile(module, TARGET, **{"cache": False, "tune": 1000, **options})

    def run(self, executable: Any, *inputs: Any) -> Any:
        """Run where the library is."""
        with emulated_gpu(self.gpus, cublas=self.cublas):
            return executable.run(*inputs)


COMPILED: dict[tuple[str, str], tuple[bytes, str]] = {}
"""What the C compiler has made of kernels in this file's tests, by text and architecture."""


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """Two candidates a kernel, not much memory to write between runs, and each text compiled once."""
    compiled = EmulatedCompiler.compile

    def once(self: EmulatedCompiler, name: str, text: str, isa: str, *rest: Any) -> tuple[bytes, str]:
        if (text, isa) not in COMPILED:
            COMPILED[text, isa] = compiled(self, name, text, isa, *rest)
        return COMPILED[text, isa]

    monkeypatch.setattr(EmulatedCompiler, "compile", once)
    monkeypatch.setattr("aino_ir.driver.tuning.MOST_CANDIDATES", 2)
    monkeypatch.setattr(gpu_trials, "FLUSH_SHARE", 1e-4)
    yield Bench()


def product(relu: bool = False, symbolic: bool = False) -> Module:
    b = aino.Builder()
    rows = b.symbol("n", 1, 64) if symbolic else 32
    x, w = b.input("x", tensor("f32", rows, 64)), b.input("w", tensor("f32", 64, 48))
    b.loc = loc("node 'm' (MatMul)")
    y = b.matmul(x, w)
    b.output("y", b.relu(y) if relu else y)
    b.finish()
    return b.module


def libraries(executable: Any) -> dict[str, Any]:
    found: dict[str, Any] = executable.report.checks["libraries"]
    return found


def test_the_library_is_taken_where_it_is_faster(bench: Bench, tmp_path: Path) -> None:
    executable = bench.compile(product())
    (row,) = executable.report.kernels
    assert row["candidate"] == "cublas: f32 product" and row["beside"].startswith("tile: ")
    told = libraries(executable)
    assert (told["cublas"], told["not used"]) == ("13.0.2", {})
    assert told["used"][row["kernel"]].startswith("10.00 times as fast as tile: ")
    executable.save(tmp_path / "m.aino")
    loaded = aino.load_executable(tmp_path / "m.aino")
    bench.gpus.launched.clear()
    (y,) = bench.run(loaded, X, W)
    np.testing.assert_allclose(y, X @ W, rtol=1e-5, atol=1e-5)
    assert bench.gpus.launched == [CALL, CALL]  # the first one on memory of its own, then the graph's
    bench.run(loaded, X, W)
    assert bench.gpus.launched == [CALL] * 3


def test_what_is_slower_is_not_taken(bench: Bench) -> None:
    bench.gpus.durations[CALL] = 3.0
    executable = bench.compile(product())
    (row,) = executable.report.kernels
    assert row["candidate"].startswith("tile: ") and "beside" not in row
    assert libraries(executable)["not used"][row["kernel"]].startswith("takes 3.00 times as long as tile: ")
    assert libraries(executable)["used"] == {}


def test_without_measurement_no_library_is_used(bench: Bench) -> None:
    executable = bench.compile(product(), tune=0)
    assert libraries(executable) == {"cublas": "", "used": {}, "not used": {"all": NOT_MEASURED}}
    assert executable.report.kernels[0]["candidate"].startswith("tile: ")


def test_libraries_can_be_forbidden(bench: Bench) -> None:
    executable = bench.compile(product(), libraries=())
    assert libraries(executable)["not used"] == {"all": "forbidden"}
    assert executable.report.kernels[0]["candidate"].startswith("tile: ")
    with pytest.raises(UnknownOption, match="libraries"):
        bench.compile(product(), libraries=("mkl",))


def test_a_library_that_is_not_there_is_not_measured(bench: Bench) -> None:
    with emulated_gpu(bench.gpus):
        executable = aino.compile(product(), TARGET, cache=False, tune=1000)
    reason = libraries(executable)["not used"]["all"]
    assert reason == "cuBLAS is not there: there is none beside this driver"


def test_a_wrong_or_refusing_library_is_not_taken(bench: Bench) -> None:
    bench.cublas.refuse = {0}
    refused = bench.compile(product())
    (reason,) = libraries(refused)["not used"].values()
    assert "cublasLtMatmulAlgoGetHeuristic says CUBLAS_STATUS_NOT_SUPPORTED" in reason
    bench.cublas.refuse, bench.cublas.keeps_nan = set(), False
    (reason,) = libraries(bench.compile(product(relu=True)))["not used"].values()
    assert reason == "it does not give NaN where a factor is NaN"
    bench.cublas.keeps_nan = True
    assert libraries(bench.compile(product(relu=True)))["used"]


def test_where_the_library_is_missing_the_own_kernel_runs(bench: Bench) -> None:
    executable = bench.compile(product())
    bench.gpus.launched.clear()
    with emulated_gpu(bench.gpus):  # without it
        named = r"E0547: cuBLAS is not there: .*own kernel 'matmul_\w+' \(node 'm' \(MatMul\)\) runs instead"
        with pytest.warns(LibraryNotUsed, match=named):
            (y,) = executable.run(X, W)
        np.testing.assert_allclose(y, X @ W, rtol=1e-5, atol=1e-5)
        executable.run(X, W)  # and says no more
    assert CALL not in bench.gpus.launched and len(bench.gpus.launched) == 2


def test_a_call_that_fails_names_kernel_and_node(bench: Bench) -> None:
    executable = bench.compile(product())
    bench.cublas.fails = 13
    with pytest.raises(
        LibraryCallFailed, match=r"kernel 'matmul_\w+': cublasLtMatmul says CUBLAS_STATUS_EXEC"
    ):
        bench.run(executable, X, W)
    bench.cublas.fails = 0
    assert bench.run(executable, X, W)[0].shape == (32, 48)


def test_extents_that_a_run_brings(bench: Bench) -> None:
    executable = bench.compile(product(symbolic=True))
    assert executable.report.kernels[0]["candidate"].startswith("cublas: ")
    for rows in (32, 7, 1, 32):
        np.testing.assert_allclose(bench.run(executable, X[:rows], W)[0], X[:rows] @ W, rtol=1e-5, atol=1e-5)


def test_inputs_that_lie_elsewhere(bench: Bench) -> None:
    """Tensors move, also to addresses of another alignment; a graph that cannot follow is made anew."""
    executable = bench.compile(product())
    assert executable.report.kernels[0]["candidate"].startswith("cublas: ")
    with emulated_gpu(bench.gpus, cublas=bench.cublas):
        want = executable.run(X, W)[0]
        for shift in (0, 4, 0):
            if shift:
                bench.gpus.fail("cuGraphExecChildGraphNodeSetParams", 910)
            np.testing.assert_array_equal(run_at(bench.gpus, executable, shift), want)
    assert bench.gpus.calls["cuGraphExecChildGraphNodeSetParams"] >= 2


def run_at(gpus: EmulatedGpus, executable: Any, shift: int) -> Any:
    """Run on memory of the device, x so many bytes behind where an allocation starts."""
    model = executable._cuda.model_on(0, executable._variants)
    place = gpus.allocate(np.concatenate([np.zeros(shift, np.uint8), X.reshape(-1).view(np.uint8)]))
    out = gpus.allocate(np.zeros((32, 48), np.float32))
    model.run_on_device([place + shift, gpus.allocate(W)], [out], {}, 0, lambda slot, size: None)
    return np.frombuffer(gpus.contents(out, 32 * 48 * 4), np.float32).reshape(32, 48)


def test_products_side_by_side_have_workspaces_of_their_own(bench: Bench) -> None:
    b = aino.Builder()
    x = b.input("x", tensor("f32", 32, 64))
    for name in ("v", "w"):
        b.output(f"by {name}", b.matmul(x, b.input(name, tensor("f32", 64, 48))))
    b.finish()
    executable = bench.compile(b.module)
    assert [row["candidate"] for row in executable.report.kernels] == ["cublas: f32 product"] * 2
    plan = executable._cuda.artifact.manifest.details["variants"]["sm_80"]["plan"]
    assert plan["scratch"] == [0, 1] and plan["order"] == [[], []]
    got = bench.run(executable, X, W, -W)
    for y, w in zip(got, (W, -W), strict=True):
        np.testing.assert_allclose(y, X @ w, rtol=1e-5, atol=1e-5)


def test_bias_residual_and_activation_in_one_call(bench: Bench) -> None:
    b = aino.Builder()
    x, w = b.input("x", tensor("f32", 32, 64)), b.input("w", tensor("f32", 64, 48))
    bias, residual = b.input("b", tensor("f32", 48)), b.tanh(b.input("r", tensor("f32", 32, 48)))
    b.output("y", b.softmax(b.relu(b.add(b.add(b.matmul(x, w), bias), residual))))
    b.finish()
    executable = bench.compile(b.module)
    assert executable.report.kernels[1]["candidate"] == "cublas: f32 product, bias, residual, relu"
    given = (X, W, W[0] * 3, X @ W[:, ::-1])
    (want,) = aino.compile(b.module, "reference").run(*given)
    for _ in range(2):
        np.testing.assert_allclose(bench.run(executable, *given)[0], want, rtol=1e-4, atol=1e-6)


def test_profiles_and_single_steps_call_the_library_too(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AINO_CUDA_SYNC", "1")
    executable = bench.compile(product())
    bench.gpus.launched.clear()
    np.testing.assert_allclose(bench.run(executable, X, W)[0], X @ W, rtol=1e-5, atol=1e-5)
    assert bench.gpus.launched == [CALL]
    with emulated_gpu(bench.gpus, cublas=bench.cublas):
        (row,) = executable.profile(X, W).rows
    assert row.ms == pytest.approx(0.1, rel=1e-3)


def test_records_and_artifacts_tell_libraries_apart(
    bench: Bench, tmp_path: Path, hermetic_cache: object
) -> None:
    path: Any = aino.save(product(), tmp_path / "m.air")
    first = bench.compile(path, cache=True)
    again = bench.compile(path, cache=True, tune=999).report.tuning
    assert (again["measured"], again["remembered"]) == (0, 1)
    assert "fast" in again["changed"][0]["library"]
    bench.cublas.version = (13, 1, 0)
    other = bench.compile(path, cache=True)
    assert other.report.tuning["measured"] == 1 and libraries(other)["cublas"] == "13.1.0"
    assert libraries(first)["cublas"] == "13.0.2"
    alone = bench.compile(path, cache=True, libraries=()).report
    assert alone.kernels[0]["candidate"].startswith("tile: ")


def test_an_executable_gives_back_what_the_library_made(bench: Bench) -> None:
    executable = bench.compile(product())
    bench.run(executable, X, W)
    assert bench.cublas.live
    with emulated_gpu(bench.gpus, cublas=bench.cublas):
        del executable
        gc.collect()
    assert bench.cublas.live == 0
