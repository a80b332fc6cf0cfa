"""The target `cuda` from end to end, on an emulated GPU: the driver's functions and the kernels run on the CPU."""

from __future__ import annotations

import ctypes
import gc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import aino_ir as aino
from aino_ir.builder import Builder
from aino_ir.codegen.cuda.emulated.device import EmulatedGpus
from aino_ir.driver.gpu import emulated_gpu
from aino_ir.dtypes import DTYPES
from aino_ir.errors.run import InputMismatch
from aino_ir.runtime.cuda.device import Stream, open_device
from aino_ir.runtime.cuda.tensors import DeviceArray
from aino_ir.types import tensor
from tests.driver.cuda_models import Array, close, fetched, normal, on_gpu, perceptron, placed, reference
from tests.driver.test_states import counter, runs

# -- runs ---------------------------------------------------------------------------------------------


def test_a_perceptron_of_any_batch(gpus: EmulatedGpus) -> None:
    module = perceptron()
    executable = on_gpu(module)
    for rows in (5, 7, 5, 1):
        (got,) = executable.run(normal(rows, 33))
        close(got, reference(module, normal(rows, 33))[0])


def test_runs_of_one_shape_launch_one_graph(gpus: EmulatedGpus) -> None:
    executable = on_gpu(perceptron())
    for rows in (5, 5, 7, 5):
        executable.run(normal(rows, 33))
    assert gpus.calls["cuGraphLaunch"] == 4
    assert gpus.calls["cuGraphInstantiateWithFlags"] == 2
    assert "cuLaunchKernel" not in gpus.calls
    assert len(gpus.launched) == 4 * len(executable.report.kernels)


def test_nothing_is_left_on_the_device(gpus: EmulatedGpus) -> None:
    executable = on_gpu(perceptron())
    executable.run(normal(5, 33))
    executable.run(normal(9, 33))
    assert gpus.live()["memory"] > 2
    del executable
    gc.collect()
    assert gpus.live() == {}


def test_artifacts_hold_cubins_and_sources(gpus: EmulatedGpus, tmp_path: Path) -> None:
    module = perceptron()
    path = on_gpu(module, "cuda:sm_80+sm_90a").save(tmp_path / "m.aino")
    executable = aino.load_executable(path)
    assert {"lib/sm_80.cubins", "lib/sm_90a.cubins"} <= set(executable.artifact.sections)
    assert any(
        s.startswith("src/sm_80/") and s.endswith("_kernels_0.cu") for s in executable.artifact.sections
    )
    (got,) = executable.run(normal(5, 33))
    close(got, reference(module, normal(5, 33))[0])


def test_branches_and_loops_are_walked(gpus: EmulatedGpus) -> None:
    from onnx import parser

    text = """
    <ir_version: 9, opset_import: ["" : 18]>
    g (float[4] x, int64 n, bool c) => (float[4] y, float[4] z, int64[?, 1] k) {
        y = Loop (n, c, x) <body = b (int64 i, bool go, float[4] v) => (bool again, float[4] w) {
            f = Cast <to = 1> (i)
            w = Add (v, f)
            again = Identity (go)
        }>
        z = If (c) <then_branch = t () => (float[4] a) { a = Neg (x) }, else_branch = e () => (float[4] a) { a = Abs (x) }>
        p = Greater (y, x)
        t0 = NonZero (p)
        k = Transpose (t0)
    }
    """
    model = parser.parse_model(text)
    x = np.array([1, -2, 3, -4], np.float32)
    executable = aino.compile(model, "cuda:sm_80", cache=False)
    assert not executable.report.python_nodes
    for n, c in ((3, True), (0, True), (2, False)):
        given = (x, np.array(n, np.int64), np.array(c))
        for got, want in zip(executable.run(*given), reference(aino.load(model), *given), strict=True):
            close(got, want)
    assert gpus.calls["cuLaunchKernel"] > 0


def test_profiles_measure_kernels_by_events(gpus: EmulatedGpus) -> None:
    executable = on_gpu(perceptron())
    profile = executable.profile(normal(5, 33), runs=2)
    assert [row.ms for row in profile.rows] == [1.0] * len(executable.report.kernels)


def test_tensor_cores_and_asynchronous_copies(gpus: EmulatedGpus) -> None:
    b = Builder()
    b.output("y", b.matmul(b.input("x", tensor("bf16", 96, 64)), b.input("w", tensor("bf16", 64, 80))))
    b.finish()
    executable = on_gpu(b.module)
    (row,) = executable.report.kernels
    assert "tensor cores" in row["candidate"]
    assert any("aino_copy(" in text for text in sources(executable))
    x, w = (normal(*shape).astype(DTYPES["bf16"].numpy) for shape in ((96, 64), (64, 80)))
    (got,), (want,) = executable.run(x, w), reference(b.module, x, w)
    np.testing.assert_allclose(np.float32(got), np.float32(want), rtol=2**-7, atol=2**-7)


def sources(executable: Any) -> list[str]:
    artifact = executable.artifact
    return [bytes(artifact.section(s)).decode() for s in artifact.sections if s.endswith(".cu")]


# -- tensors on the device ----------------------------------------------------------------------------


def test_tensors_on_the_device_are_not_copied(gpus: EmulatedGpus) -> None:
    module = perceptron()
    executable = on_gpu(module)
    executable.run(normal(5, 33))
    copies = {name: count for name, count in gpus.calls.items() if "Memcpy" in name}
    for _ in range(2):
        (got,) = executable.run(placed(gpus, normal(5, 33)))
        assert isinstance(got, DeviceArray)
        close(fetched(gpus, got), reference(module, normal(5, 33))[0])
    assert {name: count for name, count in gpus.calls.items() if "Memcpy" in name} == copies


def test_a_graph_follows_its_tensors(gpus: EmulatedGpus) -> None:
    executable = on_gpu(perceptron())
    first, second = placed(gpus, normal(5, 33)), placed(gpus, 2 * normal(5, 33))
    (a,) = executable.run(first)
    (b,) = executable.run(second)
    assert gpus.calls["cuGraphInstantiateWithFlags"] == 1
    assert gpus.calls["cuGraphExecKernelNodeSetParams_v2"] >= 2
    assert not np.array_equal(fetched(gpus, a), fetched(gpus, b))


def test_a_run_may_be_repeated_without_looking(gpus: EmulatedGpus) -> None:
    module = perceptron()
    executable = on_gpu(module)
    assert executable.repeat_on(0, 0) is None  # nothing has run
    x, target = placed(gpus, normal(5, 33)), placed(gpus, np.zeros((5, 70), np.float32))
    executable.run(x, out=[target], stream=0)
    gpus.finish()
    before, calls = len(gpus.launched), dict(gpus.calls)
    again = executable.repeat_on(0, 0)
    assert again is not None
    again()
    close(fetched(gpus, target), reference(module, normal(5, 33))[0])
    assert len(gpus.launched) == before + len(executable.report.kernels)
    changed = {name for name, count in gpus.calls.items() if count != calls.get(name)}
    assert changed == {"cuGraphLaunch", "cuCtxPushCurrent_v2", "cuCtxPopCurrent_v2"}


def test_what_the_host_decides_is_not_repeated(gpus: EmulatedGpus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AINO_CUDA_SYNC", "1")  # launches one by one
    executable = on_gpu(perceptron())
    executable.run(placed(gpus, normal(5, 33)), stream=0)
    assert executable.repeat_on(0, 0) is None


def test_outputs_may_be_given(gpus: EmulatedGpus) -> None:
    module = perceptron()
    target = placed(gpus, np.zeros((5, 70), np.float32))
    (got,) = on_gpu(module).run(placed(gpus, normal(5, 33)), out=[target])
    assert got is target
    close(fetched(gpus, target), reference(module, normal(5, 33))[0])


def test_wrong_tensors_are_refused(gpus: EmulatedGpus) -> None:
    executable = on_gpu(perceptron())
    with pytest.raises(InputMismatch, match="dtype"):
        executable.run(placed(gpus, normal(5, 33).astype(np.float64)))
    with pytest.raises(InputMismatch, match="rank"):
        executable.run(placed(gpus, normal(33)))


def test_every_device_gets_its_own_code() -> None:
    with emulated_gpu(EmulatedGpus([(8, 0), (8, 6)])) as gpus:
        module = perceptron()
        executable = on_gpu(module)
        (got,) = executable.run(placed(gpus, normal(5, 33), device=1))
        assert got.device == 1
        close(fetched(gpus, got), reference(module, normal(5, 33))[0])


def test_outputs_of_decided_size_are_made_on_the_device(gpus: EmulatedGpus) -> None:
    from onnx import parser

    model = parser.parse_model("""
    <ir_version: 9, opset_import: ["" : 18]>
    g (float[3, 4] x) => (int64[2, ?] k, float[3, 4] y) { k = NonZero (x) y = Relu (x) }
    """)
    executable = aino.compile(model, "cuda:sm_80", cache=False)
    for x in (np.eye(3, 4, dtype=np.float32), np.ones((3, 4), np.float32), np.zeros((3, 4), np.float32)):
        wanted = reference(aino.load(model), x)
        for got, want in zip(executable.run(placed(gpus, x)), wanted, strict=True):
            close(fetched(gpus, got), want)
        for got, want in zip(executable.run(x), wanted, strict=True):
            close(got, want)


def test_defaults_go_where_the_inputs_are(gpus: EmulatedGpus) -> None:
    from onnx import numpy_helper, parser

    model = parser.parse_model("""
    <ir_version: 9, opset_import: ["" : 18]>
    g (float[4] x, float[4] d) => (float[4] y) { y = Add (x, d) }
    """)
    model.graph.initializer.append(numpy_helper.from_array(normal(4), "d"))
    executable = aino.compile(model, "cuda:sm_80", cache=False)
    (got,) = executable.run(placed(gpus, normal(4)))
    close(fetched(gpus, got), 2 * normal(4))


def test_states_stay_on_the_device(gpus: EmulatedGpus) -> None:
    executable = on_gpu(counter([5, 6, 7]))
    assert runs(executable, 3) == [([5 + n, 6 + 2 * n, 7 + 3 * n], 10 + n) for n in (1, 2, 3)]
    assert runs(on_gpu(counter()), 1) == [([1, 2, 3], 11)]


def on_streams(count: int) -> list[Stream]:
    """Streams of the first device, as a caller has them."""
    device = open_device()
    with device.current():
        return [Stream.new(device) for _ in range(count)]


def seen_now(value: DeviceArray) -> Array:
    """What lies there now, whatever is still to be done."""
    size = int(np.prod(value.shape)) * 4
    return np.frombuffer(ctypes.string_at(value.memory.address, size), np.float32).reshape(value.shape)


def test_who_reads_a_result_waits_for_its_stream(gpus: EmulatedGpus) -> None:
    module = perceptron()
    executable, (here, there) = on_gpu(module), on_streams(2)
    (want,) = reference(module, normal(5, 33))
    (got,) = executable.run(placed(gpus, normal(5, 33)), stream=here.handle)
    got.__dlpack__(stream=-1)
    open_device().synchronize(there.handle)
    assert np.isnan(seen_now(got)).all()  # nobody has waited
    got.__dlpack__(stream=there.handle)
    open_device().synchronize(there.handle)
    close(seen_now(got), want)
    with pytest.raises(BufferError, match="not copied"):
        got.__dlpack__(copy=True)
    with pytest.raises(BufferError, match="not copied"):
        got.__dlpack__(dl_device=(1, 0))


def test_states_follow_the_order_of_runs_on_any_stream(gpus: EmulatedGpus) -> None:
    executable, streams = on_gpu(counter([5, 6, 7])), on_streams(3)
    for stream in streams:
        total, _ = executable.run(placed(gpus, np.float32([1, 2, 3])), stream=stream.handle)
    open_device().synchronize(streams[-1].handle)
    assert seen_now(total).tolist() == [8, 12, 16]


def test_python_ops_stand_between_native_functions(gpus: EmulatedGpus) -> None:
    from onnx import parser

    model = parser.parse_model("""
    <ir_version: 9, opset_import: ["" : 18]>
    g (float[4] x) => (float[4] y, string[4] s) {
        t = Relu (x) s = Cast <to = 8> (t) u = Cast <to = 1> (s) y = Add (u, x)
    }
    """)
    executable = aino.compile(model, "cuda:sm_80", cache=False)
    assert executable.report.python_nodes
    x = np.array([1, -2, 3, 0.5], np.float32)
    for got, want in zip(executable.run(x), reference(aino.load(model), x), strict=True):
        assert np.array_equal(got, want)
    assert gpus.launched


def test_the_report_says_how_much_shared_memory_a_launch_asks_for() -> None:
    b = Builder()
    q = b.input("q", tensor("bf16", 1, 1, 64, 64))
    b.output("y", b.attention(q, q, q))
    b.finish()
    with emulated_gpu():
        (row,) = on_gpu(b.module, "cuda:sm_90a").report.kernels
    assert row["candidate"].startswith("group attention")
    assert row["asked_shared_bytes"] == 2 * 64 * (64 + 2 * (64 + 64))


# -- registers ----------------------------------------------------------------------------------------

SPILLS = """ptxas info : Compiling entry function '{entry}' for 'sm_80'
ptxas info : Function properties for {entry}
    8 bytes stack frame, 24 bytes spill stores, 16 bytes spill loads
ptxas info : Used 255 registers, 1024 bytes smem
"""


def test_what_spills_is_reported_and_given_up_where_another_is_as_fast() -> None:
    module = perceptron()
    with emulated_gpu():
        row = on_gpu(module).report.kernels[0]
    with emulated_gpu(messages=SPILLS.format(entry=f"{row['kernel']}_kernel")):
        executable = on_gpu(module)
        given_up = executable.report.checks["registers"]["given up"]
        first = executable.report.kernels[0]
        assert bool(given_up) == (first["candidate"] != row["candidate"])
        if not given_up:  # nothing else is nearly as fast
            assert (first["registers"], first["spill_bytes"], first["shared_bytes"]) == (255, 40, 1024)
