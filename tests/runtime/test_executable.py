"""The contract of executables: which arrays are taken, where results go, threads, forks, files."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from onnx import TensorProto

import aino_ir as aino
from aino_ir.errors.artifact import ArchitectureMismatch, CpuUnsupported, NotAnArtifact
from aino_ir.errors.base import AinoError
from aino_ir.errors.dims import ExtentMismatch, SymbolOutOfRange
from aino_ir.errors.run import (
    BadOutputBuffer,
    IndexOutOfRange,
    InputMismatch,
    NativeAllocationFailed,
    NothingToRun,
    UnsupportedInput,
    WrongInputCount,
    WrongOutputCount,
)
from aino_ir.errors.usage import OptionTooSmall
from aino_ir.runtime import artifact as artifact_module
from aino_ir.runtime import executable as executable_module
from aino_ir.runtime.artifact import Artifact, ArtifactWriter
from aino_ir.runtime.executable import Executable
from aino_ir.runtime.manifest import Manifest
from tests.driver.models import gather, mlp, mlp_reference, two_outputs, with_default

Array = np.ndarray[Any, Any]


@pytest.fixture(scope="module")
def exe() -> Executable:
    return aino.compile(mlp())


@pytest.fixture(scope="module")
def pair() -> Executable:
    return aino.compile(two_outputs())


@pytest.fixture(scope="module", params=["c", "reference"])
def both(request: pytest.FixtureRequest) -> Any:
    """The same model in native code and in the interpreter: one contract."""
    return aino.compile(two_outputs(), target=request.param)


def values(shape: tuple[int, ...] = (2, 8), seed: int = 1) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


# -- inputs --------------------------------------------------------------------------------------------


def unaligned(x: Array) -> Array:
    room = np.zeros(x.nbytes + 1, np.uint8)[1:]
    view = room.view(x.dtype).reshape(x.shape)
    view[...] = x
    assert not view.flags.aligned
    return view


def read_only(x: Array) -> Array:
    made = x.copy()
    made.flags.writeable = False
    return made


LAYOUTS: dict[str, Callable[[Array], Array]] = {
    "fortran": np.asfortranarray,
    "every second": lambda x: np.repeat(x, 2, axis=1)[:, ::2],
    "backwards": lambda x: x[::-1, ::-1].copy()[::-1, ::-1],
    "unaligned": unaligned,
    "read-only": read_only,
    "big-endian": lambda x: x.astype(x.dtype.newbyteorder(">")),
    "subclass": lambda x: x.view(np.matrix) if x.ndim == 2 else x,
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_any_layout_gives_the_same_bits(both: Any, name: str) -> None:
    x = values((2, 3))
    given = LAYOUTS[name](x)
    for got, want in zip(both.run(given), (-x, x + x), strict=True):
        assert type(got) is np.ndarray and np.array_equal(got, want)
    np.testing.assert_array_equal(np.asarray(given, np.float32), x)  # and leaves the input alone


def test_broadcast_arrays_with_stride_zero_are_taken(both: Any) -> None:
    x = np.broadcast_to(np.float32([1, 2, 3]), (2, 3))
    assert x.strides[0] == 0
    assert np.array_equal(both.run(x)[1], x + x)


def test_dtypes_are_exact(both: Any) -> None:
    for dtype in (np.float64, np.float16, np.int32, ml_dtypes.bfloat16, object):
        with pytest.raises(InputMismatch, match=r"'x': dtype must be f32, got ") as caught:
            both.run(np.zeros((2, 3), dtype))
        assert caught.value.exit_status == 1
    with pytest.raises(InputMismatch, match="dtype"):
        both.run(np.zeros((2, 3), ">f8"))


def test_shapes_are_exact(both: Any) -> None:
    for shape in ((3, 2), (2, 3, 1), (6,), (), (2, 0)):
        with pytest.raises(InputMismatch, match="shape must be"):
            both.run(np.zeros(shape, np.float32))


@pytest.mark.parametrize("value", [[[1.0, 2, 3]] * 2, 1.0, None, "text"])
def test_what_is_no_array_is_refused(both: Any, value: Any) -> None:
    with pytest.raises(UnsupportedInput, match=f"got {type(value).__name__}"):
        both.run(value)


def test_masked_arrays_are_refused(both: Any) -> None:
    with pytest.raises(UnsupportedInput, match="masked"):
        both.run(np.ma.masked_array(np.zeros((2, 3), np.float32), mask=True))


def test_counts_and_names_are_checked(both: Any) -> None:
    x = values((2, 3))
    for wrong in ((), (x, x), ({"y": x},), ({},), ({"x": x, "z": x},)):
        with pytest.raises(WrongInputCount, match=r"expected inputs \('x',\)"):
            both.run(*wrong)
    assert np.array_equal(both.run({"x": x})[0], -x)
    assert np.array_equal(both(x)[0], -x)


@pytest.mark.parametrize("target", ["c", "reference"])
def test_inputs_with_a_default_may_be_left_out(target: str) -> None:
    exe = aino.compile(with_default(), target=target)
    x, c = values((2, 3)), np.float32([7, 8, 9])
    assert exe.defaults == ("c",)
    for got, want in (
        (exe.run(x), x + np.float32([1, 2, 3])),
        (exe.run({"x": x}), x + np.float32([1, 2, 3])),
        (exe.run(x, c), x + c),
        (exe.run({"x": x, "c": c}), x + c),
    ):
        assert np.array_equal(got[0], want)
    with pytest.raises(WrongInputCount):
        exe.run({"c": c})


def test_symbols_are_bound_by_shapes() -> None:
    exe = aino.compile(mlp("batch"), dims={"batch": (1, 5)})
    assert exe.symbols == {"batch": (1, 5)}
    for rows in (1, 5, 2, 2):
        x = values((rows, 8))
        np.testing.assert_allclose(exe.run(x)[0], mlp_reference(mlp(), x), rtol=1e-4, atol=1e-5)
    with pytest.raises(SymbolOutOfRange, match="batch"):
        exe.run(values((6, 8)))
    with pytest.raises(ExtentMismatch, match="axis 1"):
        exe.run(values((2, 7)))
    with pytest.raises(InputMismatch, match="rank"):
        exe.run(values((8,)))


def test_remembered_shapes_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executable_module, "REMEMBERED_SHAPES", 3)
    exe = aino.compile(mlp("batch"))
    for rows in range(1, 9):
        assert exe.run(values((rows, 8)))[0].shape == (rows, 3)
        assert len(exe._extents) <= 3


@pytest.mark.parametrize("shape", [(), (0, 3), (1, 1, 1, 1, 1)])
def test_scalars_and_empty_tensors(shape: tuple[int, ...]) -> None:
    exe = aino.compile(two_outputs(shape=shape))
    x = np.full(shape, 2.5, np.float32)
    a, b = exe.run(x)
    assert a.shape == b.shape == shape and np.array_equal(a, -x) and np.array_equal(b, x + x)
    if shape == ():
        assert exe.run(np.float32(1.5))[1] == 3


@pytest.mark.parametrize(
    ("onnx_type", "dtype"),
    [
        (TensorProto.DOUBLE, np.float64),
        (TensorProto.INT64, np.int64),
        (TensorProto.INT8, np.int8),
        (TensorProto.FLOAT16, np.float16),
        (TensorProto.BFLOAT16, ml_dtypes.bfloat16),
    ],
)
def test_other_dtypes_pass_through(onnx_type: int, dtype: Any) -> None:
    exe = aino.compile(two_outputs(onnx_type))
    x = np.arange(6).reshape(2, 3).astype(dtype)
    a, b = exe.run(x)
    assert a.dtype == b.dtype == x.dtype and np.array_equal(a, -x) and np.array_equal(b, x + x)


# -- torch and DLPack ----------------------------------------------------------------------------------


def test_torch_in_is_torch_out(pair: Executable) -> None:
    torch = pytest.importorskip("torch")
    x = torch.arange(6, dtype=torch.float32).reshape(3, 2).T
    a, b = pair.run(x)
    assert isinstance(a, torch.Tensor) and torch.equal(a, -x) and torch.equal(b, x + x)
    assert torch.equal(pair.run(torch.nn.Parameter(x.clone()))[0], -x)
    out = [torch.zeros(2, 3), torch.zeros(2, 3)]
    got = pair.run(x, out=out)
    assert got[0] is out[0] and torch.equal(out[1], x + x)


def test_torch_dtypes_are_exact_too() -> None:
    torch = pytest.importorskip("torch")
    exe = aino.compile(two_outputs(TensorProto.BFLOAT16))
    x = torch.tensor([[1.0, 2, 3], [4, 5, 6]], dtype=torch.bfloat16)
    a, b = exe.run(x)
    assert a.dtype == torch.bfloat16 and torch.equal(a, -x) and torch.equal(b, x + x)
    for other in (torch.float16, torch.float32, torch.int16):
        with pytest.raises(InputMismatch, match="dtype must be bf16"):
            exe.run(x.to(other))
    with pytest.raises(InputMismatch, match="got bf16"):
        aino.compile(two_outputs(TensorProto.FLOAT16)).run(x)


def test_tensors_that_numpy_cannot_read_are_refused(pair: Executable) -> None:
    torch = pytest.importorskip("torch")
    for tensor in (torch.zeros(2, 3, device="meta"), torch.zeros(2, 3).to_sparse()):
        with pytest.raises(UnsupportedInput, match="'x': expected a dense"):
            pair.run(tensor)


class Lent:
    """Anything with DLPack."""

    def __init__(self, array: Any, problem: Exception | None = None) -> None:
        self.array, self.problem = array, problem

    def __dlpack__(self, **options: Any) -> Any:
        if self.problem is not None:
            raise self.problem
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return self.array.__dlpack_device__()


def test_dlpack_is_taken(both: Any) -> None:
    x = values((2, 3))
    assert np.array_equal(both.run(Lent(x))[0], -x)
    with pytest.raises(UnsupportedInput, match="Lent that numpy cannot read"):
        both.run(Lent(x, BufferError("elsewhere")))


# -- outputs -------------------------------------------------------------------------------------------


def test_outputs_are_the_callers_own(pair: Executable) -> None:
    x = values((2, 3))
    first = pair.run(x)
    kept = [y.copy() for y in first]
    pair.run(-x)
    for y, z in zip(first, kept, strict=True):
        assert np.array_equal(y, z) and y.flags.writeable and y.flags.owndata


def test_out_is_filled_and_returned(both: Any) -> None:
    x = values((2, 3))
    a, b = np.empty((2, 3), np.float32), np.empty((2, 3), np.float32)
    got = both.run(x, out=[a, b])
    assert got[0] is a and got[1] is b and np.array_equal(a, -x) and np.array_equal(b, x + x)
    both.run(-x, out={"b": b, "a": a})
    assert np.array_equal(a, x)


def test_out_may_overlap_inputs_and_itself(pair: Executable) -> None:
    x = values((2, 3))
    for place in ("input", "shifted", "unaligned"):
        room = np.zeros(32, np.float32)
        given = room[:6].reshape(2, 3)
        given[...] = x
        if place == "input":
            a, b = given, np.empty((2, 3), np.float32)
        elif place == "shifted":
            a, b = room[3:9].reshape(2, 3), room[12:18].reshape(2, 3)
        else:
            a, b = unaligned(x), unaligned(x)
        pair.run(given, out=[a, b])
        assert np.array_equal(a, -x) and np.array_equal(b, x + x), place


@pytest.mark.parametrize(
    "bad",
    [
        np.empty((2, 3), np.float64),
        np.empty((3, 2), np.float32),
        np.empty((3, 2), np.float32).T,
        read_only(np.empty((2, 3), np.float32)),
        np.empty((2, 3), ">f4"),
        [[0.0] * 3] * 2,
    ],
    ids=["dtype", "shape", "strides", "read-only", "byte order", "list"],
)
def test_out_that_cannot_take_the_result_is_refused(both: Any, bad: Any) -> None:
    with pytest.raises(BadOutputBuffer, match=r"out\['b'\]"):
        both.run(values((2, 3)), out=[np.empty((2, 3), np.float32), bad])


def test_out_of_another_length_is_refused(both: Any) -> None:
    a = np.empty((2, 3), np.float32)
    for out in ([a], [a, a, a], {"a": a}, {"a": a, "z": a}):
        with pytest.raises(WrongOutputCount, match=r"\('a', 'b'\)"):
            both.run(values((2, 3)), out=out)


# -- errors of a run -----------------------------------------------------------------------------------


def test_errors_name_the_node_and_the_executable_lives_on() -> None:
    exe = aino.compile(gather())
    with pytest.raises(IndexOutOfRange) as caught:
        exe.run(np.int64([0, 4]))
    assert "look_up" in str(caught.value.loc)
    assert np.array_equal(exe.run(np.int64([3, 0]))[0][:, 0], [9, 0])


def test_states_that_no_error_stands_for_are_reported(
    exe: Executable, monkeypatch: pytest.MonkeyPatch
) -> None:
    native = exe.native
    for status, kind in ((16, NativeAllocationFailed), (77, AinoError)):
        monkeypatch.setattr(native, "_run", lambda *_, status=status: status)
        with pytest.raises(kind):
            exe.run(values())


def test_null_executable_runs_nothing() -> None:
    exe = aino.compile(mlp(), target="null")
    assert exe.report.kernels and exe.report.source_bytes > 1000 and exe.inputs[0][0] == "x"
    for call in (exe.run, exe.profile):
        with pytest.raises(NothingToRun, match="null"):
            call(values())


# -- threads and processes -----------------------------------------------------------------------------


def test_many_callers_at_once() -> None:
    exe = aino.compile(mlp("batch", sizes=(8, 32, 3)), threads=2)
    inputs = [values((1 + i % 3, 8), seed=i) for i in range(8)]
    wanted = [exe.run(x)[0] for x in inputs]
    wrong: list[int] = []

    def work(i: int) -> None:
        for _ in range(50):
            if not np.array_equal(exe.run(inputs[i])[0], wanted[i]):
                wrong.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_first_runs_at_once_load_the_library_safely(tmp_path: Path, exe: Executable) -> None:
    path = exe.save(tmp_path / "m.aino")
    fresh = aino.load_executable(path)
    x, found = values(), []
    threads = [threading.Thread(target=lambda: found.append(fresh.run(x)[0])) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4 and all(np.array_equal(y, exe.run(x)[0]) for y in found)


BIG = (64, 2048, 64)
"""Sizes of an MLP that several threads share."""


@pytest.mark.parametrize("before", [True, False], ids=["after a run", "before any run"])
def test_child_of_a_fork_runs(before: bool, tmp_path: Path) -> None:
    code = f"""
import os, sys
import numpy as np
import aino_ir as aino
from tests.driver.models import mlp
exe = aino.compile(mlp(64, {BIG}), threads=2)
x = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)
want = aino.compile(mlp(64, {BIG}), threads=1).run(x)[0]
if {before}:
    exe.run(x)
child = os.fork()
good = np.array_equal(exe.run(x)[0], want)
if child == 0:
    os._exit(0 if good else 1)
status = os.waitpid(child, 0)[1]
sys.exit(0 if good and status == 0 else 1)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=Path.cwd(), timeout=60, check=False)
    assert done.returncode == 0


def test_results_do_not_depend_on_the_thread_count() -> None:
    x = values((64, 64))
    results = [aino.compile(mlp(64, BIG), threads=n).run(x)[0] for n in (1, 2, 3)]
    assert all(np.array_equal(results[0], y) for y in results[1:])


def test_little_work_takes_one_thread() -> None:
    small, big, symbolic = (
        aino.compile(model).artifact.section(f"src/{isa}/mlp.c").tobytes().decode()
        for isa in [aino.compile(mlp()).artifact.manifest.variants[-1].isa]
        for model in (mlp(), mlp(64, BIG), mlp("batch", BIG))
    )
    assert "nthreads = 1;" in small
    assert "nthreads = context->nthreads;" in big
    assert "nthreads = model_work(s) < 2000000 ? 1 : context->nthreads;" in symbolic


def test_threads_come_from_the_call_the_environment_or_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AINO_THREADS", "3")
    assert aino.compile(mlp()).threads == 3
    assert aino.compile(mlp(), threads=5).threads == 5
    monkeypatch.setenv("AINO_THREADS", "")
    assert aino.compile(mlp()).threads == len(os.sched_getaffinity(0)) or aino.compile(mlp()).threads >= 1
    for wrong in ("0", "-1", "many"):
        monkeypatch.setenv("AINO_THREADS", wrong)
        with pytest.raises(OptionTooSmall, match="AINO_THREADS"):
            aino.compile(mlp())


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_unloading_gives_everything_back(exe: Executable, tmp_path: Path) -> None:
    path = exe.save(tmp_path / "m.aino")
    x = values()

    def cycle() -> None:
        aino.load_executable(path, threads=2).run(x)

    cycle()
    gc.collect()
    before, threads = open_files(), threading.active_count()
    maps = Path("/proc/self/maps").read_text().count("aino-library")
    for _ in range(10):
        cycle()
    assert open_files() == before and threading.active_count() == threads
    assert Path("/proc/self/maps").read_text().count("aino-library") <= maps


# -- artifacts -----------------------------------------------------------------------------------------


def test_saved_executables_give_the_same_bits_and_bytes(exe: Executable, tmp_path: Path) -> None:
    path = exe.save(tmp_path / "m.aino")
    loaded = aino.load_executable(path)
    assert loaded.inputs == exe.inputs and loaded.outputs == exe.outputs and repr(loaded) == repr(exe)
    assert np.array_equal(loaded.run(values())[0], exe.run(values())[0])
    assert loaded.report.kernels == exe.report.kernels and loaded.report.weight_bytes > 0
    assert loaded.save(tmp_path / "again.aino").read_bytes() == path.read_bytes()


def test_library_is_loaded_at_the_first_run(exe: Executable, tmp_path: Path) -> None:
    fresh = aino.load_executable(exe.save(tmp_path / "m.aino"))
    assert fresh.report.kernels and "_native" not in vars(fresh._function)
    fresh.run(values())
    assert "_native" in vars(fresh._function)


def test_artifact_for_another_processor_is_refused_clearly(
    exe: Executable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    from aino_ir.target import detect_host

    path = exe.save(tmp_path / "m.aino")
    host = detect_host()
    monkeypatch.setattr(artifact_module, "detect_host", lambda: replace(host, arch="aarch64"))
    with pytest.raises(ArchitectureMismatch, match="x86_64"):
        aino.load_executable(path).run(values())
    monkeypatch.setattr(artifact_module, "detect_host", lambda: replace(host, features=frozenset()))
    if host.isa().features:
        loaded = aino.load_executable(path)
        with pytest.raises(CpuUnsupported, match="missing: ") as caught:
            loaded.run(values())
        assert caught.value.exit_status == 4 and loaded.report.kernels


def test_manifest_that_makes_no_sense_is_refused() -> None:
    for details in ({}, {"symbols": [["n"]], "variants": {}}, {"symbols": 3, "variants": {}}):
        writer = ArtifactWriter(Manifest("m", "c:avx2", "x86_64", "test", details=details))
        with pytest.raises(NotAnArtifact, match="makes no sense"):
            Executable(Artifact.from_bytes(writer.to_bytes()))
