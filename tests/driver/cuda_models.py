"""Models and arrays for tests of the target `cuda`."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

import aino_ir as aino
from aino_ir.builder import Builder
from aino_ir.codegen.cuda.emulated.device import EmulatedGpus
from aino_ir.dtypes import DTYPES
from aino_ir.graph import Module
from aino_ir.location import loc
from aino_ir.runtime.cuda.tensors import DeviceArray
from aino_ir.types import tensor

Array = np.ndarray[Any, Any]


def normal(*shape: int) -> Array:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def perceptron(symbolic: bool = True) -> Module:
    b = Builder()
    rows = b.symbol("n", 1, 64) if symbolic else 5
    x = b.input("x", tensor("f32", rows, 33))
    hidden = b.relu(b.matmul(x, b.constant(normal(33, 50))))
    b.output("y", b.softmax(b.matmul(hidden, b.constant(normal(50, 70)))))
    b.finish()
    return b.module


def picked() -> Module:
    """Rows by their indices: a kernel that can fail."""
    b = Builder()
    x, i = b.input("x", tensor("f32", 6, 4)), b.input("i", tensor("i64", 3))
    b.loc = loc("node 'pick' (Gather)")
    b.output("y", b.relu(b.gather(x, i, axis=0)))
    b.finish()
    return b.module


def on_gpu(module: Module, target: str = "cuda:sm_80", **options: Any) -> Any:
    return aino.compile(module, target, cache=False, **options)


def reference(module: Module, *inputs: Any) -> tuple[Any, ...]:
    return aino.compile(module, "reference").run(*inputs)


def close(got: Any, want: Any) -> None:
    assert (got.dtype, got.shape) == (want.dtype, want.shape)
    np.testing.assert_allclose(np.float64(got), np.float64(want), rtol=1e-4, atol=1e-5)


def placed(gpus: EmulatedGpus, array: Array, device: int = 0) -> DeviceArray:
    """An array on a device, as another library would hand it over."""
    dtype = next(name for name, d in DTYPES.items() if d.numpy == array.dtype)
    memory = SimpleNamespace(address=gpus.allocate(array, device))
    return DeviceArray(memory, array.shape, dtype, device)


def fetched(gpus: EmulatedGpus, value: DeviceArray) -> Array:
    dtype = DTYPES[value.dtype].numpy
    size = int(np.prod(value.shape)) * dtype.itemsize
    return np.frombuffer(gpus.contents(value.memory.address, size), dtype).reshape(value.shape)
