"""The table of driver functions: against cuda.h where it is there, and how calls become errors."""

from __future__ import annotations

import ctypes
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from aino_ir.codegen.cuda.emulated.device import EmulatedGpus
from aino_ir.errors.cuda import DriverCallFailed, NoCudaDriver
from aino_ir.runtime.cuda.driver import (
    PROTOTYPES,
    Driver,
    KernelNode,
    argument_type,
    bound_functions,
    driver_in_use,
    installed_driver,
    the_driver,
)
from tests.runtime.cuda.headers import NVCC, expect_compiled


@pytest.mark.skipif(NVCC is None, reason="nvcc is not installed")
def test_prototypes_are_those_of_the_header(tmp_path: Path) -> None:
    lines = ["#include <cuda.h>", "#undef cuEventElapsedTime"]
    lines += [
        f"extern CUresult CUDAAPI (*own_{name})({parameters});" for name, parameters in PROTOTYPES.items()
    ]
    renamed = {"cuEventElapsedTime": "cuEventElapsedTime_v2"}  # the same parameters, whatever it is called
    lines += [
        f"CUresult CUDAAPI (*own_{name})({p}) = {renamed.get(name, name)};" for name, p in PROTOTYPES.items()
    ]
    lines.append(f'static_assert(sizeof(CUDA_KERNEL_NODE_PARAMS) == {ctypes.sizeof(KernelNode)}, "node");')
    expect_compiled(lines, tmp_path)


def test_scalars_are_passed_as_such() -> None:
    assert argument_type("CUdeviceptr") is ctypes.c_uint64
    assert argument_type("CUstream") is ctypes.c_void_p
    assert argument_type("const void *") is ctypes.c_void_p
    assert all(re.fullmatch(r"[\w *]+(, [\w *]+)*", text) for text in PROTOTYPES.values())


def test_the_emulated_device_has_every_function() -> None:
    assert set(EmulatedGpus().functions) == set(PROTOTYPES)


def test_functions_are_bound_by_their_types() -> None:
    library = SimpleNamespace(**{name: SimpleNamespace() for name in PROTOTYPES})
    bound = bound_functions(library)
    assert bound["cuMemAlloc_v2"].argtypes == [ctypes.c_void_p, ctypes.c_size_t]  # type: ignore[attr-defined]


def test_an_old_driver_is_refused() -> None:
    with pytest.raises(NoCudaDriver, match="older than CUDA 12.0"):
        bound_functions(SimpleNamespace())


def test_a_missing_library_is_no_driver() -> None:
    with pytest.raises(NoCudaDriver, match="libnothing"):
        installed_driver("libnothing.so.1")


def test_a_refused_call_names_function_and_error() -> None:
    gpus = EmulatedGpus()
    driver = Driver(gpus.functions)
    gpus.fail("cuStreamCreate", 201)
    with pytest.raises(DriverCallFailed, match="cuStreamCreate failed: CUDA_ERROR_INVALID_CONTEXT"):
        driver.handle("cuStreamCreate", 0)
    assert driver.error_name(12345) == "CUDA error 12345"


def test_the_driver_in_use_is_the_latest() -> None:
    one, two = Driver(EmulatedGpus().functions), Driver(EmulatedGpus().functions)
    with driver_in_use(one):
        with driver_in_use(two):
            assert the_driver() is two
        assert the_driver() is one
