"""Small models for the TVM target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

import aino_ir as aino
from aino_ir.builder import Builder
from aino_ir.clone import inline_block
from aino_ir.codegen.c.backend import Emission
from aino_ir.codegen.tvm.backend import emit_tvm
from aino_ir.driver.api import compile_options
from aino_ir.driver.pipeline import Compilation
from aino_ir.graph import Module
from aino_ir.plan import Plan
from aino_ir.tolerance import disagreement
from aino_ir.types import TensorType, tensor

Array = np.ndarray[Any, Any]


def needs_tvm() -> None:
    """Skip the test where TVM is not installed."""
    pytest.importorskip("tvm", reason="TVM is not installed")


def weights(*shape: int, seed: int = 0) -> Array:
    """Numbers around zero."""
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def matmul(m: int, n: int, k: int, batch: Sequence[int] = (), constant: bool = True) -> Module:
    """A product with a rectified sum behind it."""
    b = Builder()
    x = b.input("x", tensor("f32", *batch, m, k))
    y = b.constant(weights(k, n)) if constant else b.input("y", tensor("f32", *batch, k, n))
    b.output("out", b.relu(b.matmul(x, y)))
    return b.module


def conv(
    channels: int,
    size: int,
    filters: int,
    taps: int,
    stride: int = 1,
    pad: int = 0,
    groups: int = 1,
) -> Module:
    """A convolution with a rectified sum behind it."""
    b = Builder()
    x = b.input("x", tensor("f32", 1, channels, size, size))
    w = b.constant(weights(filters, channels // groups, taps, taps))
    y = b.conv(
        x,
        w,
        strides=(stride, stride),
        dilations=(1, 1),
        pads_before=(pad, pad),
        pads_after=(pad, pad),
        groups=groups,
    )
    b.output("out", b.relu(y))
    return b.module


def joined(modules: Mapping[str, Module]) -> Module:
    """Modules of fixed extents side by side in one, inputs and outputs in order: it is built once."""
    b = Builder()
    for name, module in modules.items():
        function = module.main
        given = zip(function.input_names, function.inputs, strict=True)
        results = inline_block(b, function.block, [b.input(f"{name} {n}", v.type) for n, v in given])
        for output, value in zip(function.output_names, results, strict=True):
            b.output(f"{name} {output}", value)
    return b.module


def random_inputs(module: Module) -> list[Array]:
    """Numbers around zero for every input of fixed extents."""
    found = []
    for seed, value in enumerate(module.main.inputs):
        assert isinstance(value.type, TensorType)
        x = weights(*map(int, value.type.shape), seed=seed + 5)  # type: ignore[arg-type]
        found.append(x.astype(np.float16) if value.type.dtype.name == "f16" else x)
    return found


def emitted(module: Module) -> tuple[Plan, Emission]:
    """A module's plan for TVM on this machine, and what is made of it."""
    compilation = Compilation(compile_options("tvm:llvm", verify="off"))
    ((isa, plan),) = compilation.plans(module).items()
    return plan, emit_tvm([plan], compilation.options.target.variant(isa))


def agrees(module: Module, *inputs: Array, terms: int = 1, level: int = 2) -> Any:
    """Compile for TVM, run, compare with the interpreter; returns the executable."""
    needs_tvm()
    expected = aino.compile(module, "reference").run(*inputs)
    executable = aino.compile(module, "tvm:llvm", cache=False, level=level)
    names = module.main.output_names
    for name, got, want in zip(names, executable.run(*inputs), expected, strict=True):
        assert got.dtype == want.dtype and got.shape == want.shape, name
        assert disagreement(got, want, "reordered", terms=terms) is None, name
    assert executable.host_steps == 0
    return executable
