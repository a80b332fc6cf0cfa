"""What the target `cuda` says when something goes wrong, on emulated GPUs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import aino_ir as aino
from aino_ir.builder import Builder
from aino_ir.codegen.cuda.emulated.device import EmulatedGpus
from aino_ir.driver.gpu import emulated_gpu, this_host
from aino_ir.errors.cuda import (
    DeviceArchitectureMismatch,
    DeviceOutOfMemory,
    DriverCallFailed,
    DriverTooOld,
    KernelFailed,
    MixedDevices,
    NoCudaDevice,
    NoCudaDriver,
    NotEnoughSharedMemory,
)
from aino_ir.errors.run import IndexOutOfRange
from aino_ir.errors.toolchain import UnknownTarget
from aino_ir.runtime.cuda import driver as cuda_driver
from aino_ir.runtime.cuda.device import open_device
from aino_ir.runtime.cuda.plan import KernelFacts, Parts
from aino_ir.types import tensor
from tests.driver.cuda_models import close, normal, on_gpu, perceptron, picked, placed, reference


def test_what_a_kernel_meets_is_raised_with_its_node(gpus: EmulatedGpus) -> None:
    module = picked()
    executable = on_gpu(module)
    x = normal(6, 4)
    with pytest.raises(IndexOutOfRange) as caught:
        executable.run(x, np.array([0, 9, 1]))
    assert "'pick' (Gather)" in str(caught.value)
    (got,) = executable.run(x, np.array([0, 5, 1]))
    close(got, reference(module, x, np.array([0, 5, 1]))[0])


def test_no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    with emulated_gpu():
        executable = on_gpu(perceptron())
    monkeypatch.setattr(cuda_driver, "LIBRARY", "libcuda-that-is-not-there.so.1")
    with pytest.raises(NoCudaDriver, match="libcuda-that-is-not-there"):
        executable.run(normal(5, 33))
    with pytest.raises(UnknownTarget, match="no GPU is known of here"):
        aino.compile(perceptron(), "cuda")
    assert this_host().gpu == ""


def test_a_driver_that_does_not_start() -> None:
    broken = EmulatedGpus()
    broken.fail("cuInit", 999)
    with pytest.raises(NoCudaDriver, match="CUDA_ERROR_UNKNOWN"), emulated_gpu(broken):
        pass


def test_no_device() -> None:
    with emulated_gpu(EmulatedGpus([])):
        executable = on_gpu(perceptron())
        with pytest.raises(NoCudaDevice, match="the driver lists 0"):
            executable.run(normal(5, 33))


@pytest.mark.parametrize(("capability", "isa"), [((8, 9), "sm_89"), ((9, 0), "sm_90a")])
def test_the_first_gpu_is_the_default(capability: tuple[int, int], isa: str) -> None:
    with emulated_gpu(EmulatedGpus([capability])):
        assert aino.compile(perceptron(), "cuda", cache=False).artifact.manifest.target == f"cuda:{isa}"


def test_code_for_another_architecture() -> None:
    with emulated_gpu(EmulatedGpus([(8, 6)])):
        close(on_gpu(perceptron()).run(normal(5, 33))[0], reference(perceptron(), normal(5, 33))[0])
        with pytest.raises(
            DeviceArchitectureMismatch, match=r"code for sm_90a, device 0 \(Emulated GPU\) needs sm_86"
        ):
            on_gpu(perceptron(), "cuda:sm_90a").run(normal(5, 33))


def with_facts(monkeypatch: pytest.MonkeyPatch, **facts: Any) -> None:
    """Let kernels say other things of themselves."""
    read = KernelFacts.of
    monkeypatch.setattr(KernelFacts, "of", staticmethod(lambda row: replace(read(row), **facts)))


def test_kernels_that_want_more_shared_memory_than_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    with_facts(monkeypatch, shared=147456)
    with emulated_gpu(EmulatedGpus([(8, 6)])):
        executable = on_gpu(picked())
        with pytest.raises(NotEnoughSharedMemory, match="wants 147456 bytes .* has 101376") as caught:
            executable.run(normal(6, 4), np.zeros(3, np.int64))
        assert "cuda:sm_86" in str(caught.value) and "'pick' (Gather)" in str(caught.value)


def test_blocks_have_as_many_threads_as_their_kernel_says(
    gpus: EmulatedGpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_facts(monkeypatch, threads=512)
    with pytest.raises(KernelFailed, match="CUDA_ERROR_INVALID_VALUE"):
        on_gpu(perceptron()).run(normal(5, 33))


@pytest.mark.parametrize(("version", "error"), [(12040, DriverTooOld), (13020, DriverCallFailed)])
def test_code_of_a_later_cuda_than_the_driver(
    version: int, error: type[Exception], gpus: EmulatedGpus
) -> None:
    gpus.version = version
    device = open_device()
    with device.current(), pytest.raises(error, match="CUDA_ERROR_INVALID_IMAGE") as caught:
        device.load(b"no library", "sm_80", "m.aino", "nvrtc 13.0")
    if error is DriverTooOld:
        assert "of CUDA 12.4, does not load what nvrtc 13.0 made" in str(caught.value)


def test_a_driver_that_finds_no_binary(gpus: EmulatedGpus) -> None:
    gpus.fail("cuModuleLoadData", 209)
    with pytest.raises(DeviceArchitectureMismatch):
        on_gpu(perceptron()).run(normal(5, 33))


@pytest.mark.parametrize(
    ("room", "what"), [(1 << 10, "the weights"), (24 << 10, "an? |intermediate|input|output")]
)
def test_out_of_memory(room: int, what: str) -> None:
    with emulated_gpu(EmulatedGpus(memory=room)):
        executable = on_gpu(perceptron())
        with pytest.raises(DeviceOutOfMemory, match=what) as caught:
            executable.run(normal(64, 33))
        assert caught.value.fields["total"] == room


@pytest.mark.parametrize(
    ("function", "what"),
    [("cuModuleLoadData", "the kernels"), ("cuGraphInstantiateWithFlags", "a graph of 3 launches")],
)
def test_out_of_memory_in_other_calls(function: str, what: str, gpus: EmulatedGpus) -> None:
    executable = on_gpu(perceptron())
    gpus.fail(function, 2)
    with pytest.raises(DeviceOutOfMemory, match=f"out of device memory for {what}"):
        executable.run(normal(5, 33))


@pytest.mark.parametrize("function", ["cuModuleLoadData", "cuGraphInstantiateWithFlags"])
def test_calls_that_are_refused_are_named(function: str, gpus: EmulatedGpus) -> None:
    executable = on_gpu(perceptron())
    gpus.fail(function, 1)
    name = function.removesuffix("WithFlags")
    with pytest.raises(DriverCallFailed, match=f"{name} failed: CUDA_ERROR_INVALID_VALUE"):
        executable.run(normal(5, 33))


def test_scratch_that_is_not_there_names_kernel_and_node(
    gpus: EmulatedGpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    executable = on_gpu(picked())
    parts = KernelFacts.parts

    def greedy(facts: KernelFacts, units: int, scratch: int) -> Parts:
        return replace(parts(facts, units, scratch), scratch_bytes=1 << 50)

    monkeypatch.setattr(KernelFacts, "parts", greedy)
    (row,) = executable.report.kernels
    with pytest.raises(DeviceOutOfMemory, match=f"scratch of kernel '{row['kernel']}' .*'pick' .Gather."):
        executable.run(normal(6, 4), np.array([0, 5, 1]))


def test_with_waits_a_kernel_that_fails_later_is_named_with_its_node(
    gpus: EmulatedGpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    executable = on_gpu(picked())
    monkeypatch.setenv("AINO_CUDA_SYNC", "1")
    gpus.break_down(after=0, status=700)
    with pytest.raises(KernelFailed, match="CUDA_ERROR_ILLEGAL_ADDRESS") as caught:
        executable.run(normal(6, 4), np.array([0, 5, 1]))
    (row,) = executable.report.kernels
    assert caught.value.fields["kernel"] == row["kernel"] and "'pick' (Gather)" in str(caught.value)


@pytest.mark.parametrize("function", ["cuLaunchKernel", "cuGraphAddKernelNode_v2"])
def test_a_launch_that_fails_names_kernel_and_node(
    function: str, gpus: EmulatedGpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    if function == "cuLaunchKernel":
        monkeypatch.setenv("AINO_CUDA_SYNC", "1")
    executable = on_gpu(perceptron())
    gpus.fail(function, 701, after=1)
    with pytest.raises(KernelFailed, match="CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES") as caught:
        executable.run(normal(5, 33))
    assert caught.value.fields["kernel"] == executable.report.kernels[1]["kernel"]


def test_a_kernel_that_fails_later(gpus: EmulatedGpus) -> None:
    executable = on_gpu(perceptron())
    executable.run(normal(5, 33))
    gpus.break_down(after=len(gpus.launched) + 2)
    with pytest.raises(KernelFailed, match="CUDA_ERROR_LAUNCH_FAILED"):
        executable.run(normal(5, 33))


def test_mixed_devices() -> None:
    b = Builder()
    x, y = b.input("x", tensor("f32", 4)), b.input("y", tensor("f32", 4))
    b.output("z", b.add(x, y))
    b.finish()
    with emulated_gpu(EmulatedGpus([(8, 0), (8, 0)])) as gpus:
        executable = on_gpu(b.module)
        here, there = placed(gpus, normal(4)), placed(gpus, normal(4), device=1)
        with pytest.raises(MixedDevices, match="'y' is on cpu, but 'x' is on cuda:0"):
            executable.run(here, normal(4))
        with pytest.raises(MixedDevices, match="'y' is on cuda:1, but 'x' is on cuda:0"):
            executable.run(here, there)
        with pytest.raises(MixedDevices, match="'z' is on cpu"):
            executable.run(here, here, out=[np.zeros(4, np.float32)])
