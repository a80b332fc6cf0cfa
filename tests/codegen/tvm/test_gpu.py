"""Kernels for GPUs: every loop that touches memory is bound to threads, and the schedules keep the meaning."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import aino_ir as aino
from aino_ir.builder import Builder
from aino_ir.codegen.tvm.backend import emit_tvm
from aino_ir.codegen.tvm.build import load_script
from aino_ir.driver.api import compile_options
from aino_ir.driver.emit import emit_files
from aino_ir.driver.pipeline import Compilation
from aino_ir.errors.toolchain import TvmKernelsAlone
from aino_ir.graph import Module
from aino_ir.plan import Plan
from aino_ir.tolerance import disagreement
from aino_ir.types import tensor
from tests.codegen.tvm.support import matmul, needs_tvm, weights


def convolution(groups: int = 1) -> Module:
    """A padded convolution by weights that come from outside."""
    b = Builder()
    x, w = b.input("x", tensor("f32", 1, 8, 9, 9)), b.input("w", tensor("f32", 16, 8 // groups, 3, 3))
    options: dict[str, Any] = {"strides": (1, 1), "dilations": (1, 1), "groups": groups}
    y = b.conv(x, w, pads_before=(1, 1), pads_after=(1, 1), **options)
    b.output("out", y)
    return b.module


def product(m: int, n: int, k: int, batch: tuple[int, ...] = ()) -> Module:
    """A product of two inputs."""
    b = Builder()
    x, y = b.input("x", tensor("f32", *batch, m, k)), b.input("y", tensor("f32", *batch, k, n))
    b.output("out", b.matmul(x, y))
    return b.module


def rows() -> Module:
    """A softmax: finished loops, a unit a thread."""
    b = Builder()
    x = b.input("x", tensor("f32", 6, 40))
    b.output("out", b.softmax(x, axis=-1))
    return b.module


MODELS: dict[str, Callable[[], Module]] = {
    "product": lambda: product(70, 96, 20),
    "batched": lambda: product(9, 17, 16, batch=(3,)),
    "convolution": convolution,
    "grouped": lambda: convolution(8),
    "rows": rows,
}


def script_for(module: Module, target: str) -> tuple[Plan, str]:
    """A module's plan and file for a target."""
    compilation = Compilation(compile_options(target, verify="off", level=1))
    ((isa, plan),) = compilation.plans(module).items()
    return plan, emit_tvm([plan], compilation.options.target.variant(isa)).script


class Unbound:
    """A schedule whose threads are loops, each of which does what all of them would do together."""

    def __init__(self, schedule: Any) -> None:
        self.schedule = schedule

    def __getattr__(self, name: str) -> Any:
        return getattr(self.schedule, name)

    def bind(self, loop: Any, thread: str) -> None:
        """Leave the loop."""

    def set_scope(self, block: Any, buffer: int, scope: str) -> None:
        """Leave the memory."""

    def cache_read(self, block: Any, buffer: int, scope: str) -> Any:
        """A copy in plain memory."""
        return self.schedule.cache_read(block, buffer, "global")


def on_processor(script: Any, name: str) -> Any:
    """A kernel with its threads as loops, built for this machine."""
    import tvm

    function, transform = script.KERNELS[name]
    schedule = tvm.s_tir.Schedule(tvm.IRModule({name: function}))
    schedule.work_on(name)
    transform(Unbound(schedule))
    return tvm.compile(schedule.mod, target="llvm")[name]


@pytest.mark.parametrize("name", ["product", "batched", "convolution", "grouped"])
def test_schedules_for_threads_mean_the_same(name: str, tmp_path: Path) -> None:
    needs_tvm()
    import tvm

    module = MODELS[name]()
    plan, text = script_for(module, "tvm:cuda -arch=sm_80")
    (kernel,) = plan.kernels
    place = tmp_path / "kernels.py"
    place.write_text(text, encoding="ascii")
    script = load_script(place)
    given = [weights(*t.type.shape, seed=n) for n, t in enumerate(module.main.inputs)]
    (want,) = aino.compile(module, "reference").run(*given)
    shapes = [tuple(map(int, re.findall(r"\d+", s))) for s in re.findall(r": T\.Buffer\(\(([\d, ]+)\)", text)]
    tensors = [tvm.runtime.tensor(x.reshape(s)) for x, s in zip(given, shapes, strict=False)]
    out = tvm.runtime.tensor(np.full(shapes[-1], np.nan, np.float32))
    on_processor(script, kernel)(*tensors, out)
    got = out.numpy().reshape(want.shape)
    assert disagreement(got, want, "reordered", terms=128) is None


@pytest.mark.parametrize("name", list(MODELS))
def test_kernels_for_gpus_are_bound_and_products_share_memory(name: str) -> None:
    plan, text = script_for(MODELS[name](), "tvm:opencl")
    assert "T.parallel(" not in text and "s.parallel(" not in text and "s.vectorize(" not in text
    assert "llvm." not in text
    bound = len(re.findall(r's\.bind\([a-z0-9_]+, "threadIdx\.x"\)|thread="threadIdx.x"', text))
    assert bound >= len(plan.kernels)
    if name in ("product", "batched", "convolution"):
        assert text.count('"shared")') == 2 and '"blockIdx.y"' in text and "s.decompose_reduction(" in text


@pytest.mark.parametrize(
    ("target", "sign"), [("tvm:cuda -arch=sm_80", "__global__"), ("tvm:opencl", "__kernel")]
)
def test_sources_are_made_without_a_gpu(target: str, sign: str, tmp_path: Path) -> None:
    needs_tvm()
    b = Builder()
    x = b.input("x", tensor("f32", 20, 24))
    b.output("out", b.softmax(b.matmul(x, b.constant(weights(24, 40))), axis=-1))
    written = emit_files(b.module, "tvm", tmp_path / "m.py", target)
    source = "\n".join(load_script(written[0]).sources())
    assert source.count(sign) >= 2


def test_running_for_a_gpu_of_tvms_is_refused() -> None:
    with pytest.raises(TvmKernelsAlone, match="there is no host program"):
        aino.compile(matmul(4, 8, 3), "tvm:opencl")
    needs_tvm()
    with pytest.raises(TvmKernelsAlone, match="tvm:cuda"):
        aino.to_relax(matmul(4, 8, 3), "tvm:cuda")
