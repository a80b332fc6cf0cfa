"""The table of kernels beside the machine's peak, and the spill lint."""

from __future__ import annotations

import shutil
from typing import Any

import numpy as np
import pytest

import aino_ir as aino
from aino_ir.builder import Builder
from aino_ir.codegen.c.toolchain import find_toolchain
from aino_ir.runtime.profile import Profile, ProfileRow
from aino_ir.runtime.store import Store
from aino_ir.target import detect_host
from aino_ir.types import tensor
from benchmarks.kernels import measured, spills_by_kernel, table
from benchmarks.peak import Peak, PeakMeter
from benchmarks.spills import HotLoop, functions, hot_loops, is_spill

X86 = detect_host().arch == "x86_64" and shutil.which("objdump") is not None
needs_objdump = pytest.mark.skipif(not X86, reason="needs objdump on x86-64")
needs_avx2 = pytest.mark.skipif(detect_host().isa().name == "vec128", reason="this CPU has no AVX2")

LISTING = """
lib.so:     file format elf64-x86-64

0000000000001000 <kernel>:
    1000:	push   %rbp
    1001:	vmovaps %ymm0,0x20(%rsp)
    1010:	vfmadd231ps %ymm1,%ymm2,%ymm3
    1016:	vmovaps %ymm0,0x20(%rsp)
    101c:	vmovups %ymm0,0x20(%rdi)
    1022:	vmovaps 0x20(%rsp),%ymm0
{fmas}
    1100:	jne    1010 <kernel+0x10>
    1106:	jmp    1000 <kernel>
    110b:	ret

0000000000002000 <other>:
    2000:	vfmadd231ps %ymm1,%ymm2,%ymm3
    2006:	jne    2000 <other>
"""


def listing(count: int) -> str:
    fmas = "\n".join(f"    {0x1030 + 6 * i:x}:\tvfmadd213ps (%rax),%ymm2,%ymm3" for i in range(count))
    return LISTING.format(fmas=fmas)


def lint(text: str) -> list[HotLoop]:
    from benchmarks.spills import _loops

    return [loop for name, body in functions(text) for loop in _loops(name, body)]


def test_innermost_loops_with_many_multiply_adds_are_hot() -> None:
    (loop,) = lint(listing(9))
    assert (loop.function, loop.start, loop.end) == ("kernel", 0x1010, 0x1100)
    assert (loop.multiply_adds, loop.spills) == (10, 1)
    assert lint(listing(3)) == []


@pytest.mark.parametrize(
    ("operation", "operands", "spill"),
    [
        ("vmovaps", "%ymm0,0x20(%rsp)", True),
        ("vmovups", "%zmm31,(%rsp)", True),
        ("vmovdqa", "%xmm3,-0x40(%rbp)", False),
        ("vmovaps", "0x20(%rsp),%ymm0", False),
        ("vmovups", "%ymm0,0x20(%rdi)", False),
        ("mov", "%rax,0x20(%rsp)", False),
    ],
)
def test_what_a_spill_is(operation: str, operands: str, spill: bool) -> None:
    assert is_spill(operation, operands, {"%rsp"}) is spill


def gemm(b: Builder) -> Any:
    rng = np.random.default_rng(0)
    x = b.input("x", tensor("f32", 48, 128))
    return b.relu(b.matmul(x, b.constant(rng.standard_normal((128, 96)).astype(np.float32))))


def convolution(b: Builder) -> Any:
    rng = np.random.default_rng(0)
    x = b.input("x", tensor("f32", 1, 32, 14, 14))
    weights = b.constant(rng.standard_normal((32, 32, 3, 3)).astype(np.float32))
    at = {"strides": (1, 1), "dilations": (1, 1), "pads_before": (1, 1), "pads_after": (1, 1)}
    return b.relu(b.conv(x, weights, **at))


def compiled(build: Any) -> Any:
    b = Builder()
    b.output("y", build(b))
    return aino.compile(b.module, "c:avx2", threads=1)


@needs_objdump
@pytest.mark.parametrize(("build", "share"), [(gemm, 0.0), (convolution, 0.0)])
def test_hot_loops_keep_their_registers(build: Any, share: float) -> None:
    """At most `share` spills a multiply-add."""
    exe = compiled(build)
    loops = hot_loops(exe.artifact.library(exe.artifact.manifest.variants[0]))
    assert loops
    spills, multiply_adds = sum(h.spills for h in loops), sum(h.multiply_adds for h in loops)
    assert spills <= share * multiply_adds, spills_by_kernel(loops)


def test_a_peak_is_measured(store: Store) -> None:
    meter = PeakMeter(detect_host().isa().name, find_toolchain(store), store)
    one = meter.measure(threads=2, steps=1 << 10, floats=1 << 12)
    assert one.gflops > 0 and one.gbytes > 0 and one.threads == 2
    assert one.best(Peak(1e9, 0.0, 2)) == Peak(1e9, one.gbytes, 2)
    assert meter.lanes in (4, 8, 16)
    assert meter.read([np.ones(1 << 12, np.float32) for _ in range(2)]) > 0


def test_a_table_has_shares_of_the_peak() -> None:
    row = ProfileRow(3, "gemm_k", "nn.matmul", ("node",), 0.0, 2.0, 0.0, 25.0, 5.0)
    text = table(Profile((row,), 4.0, 1), Peak(100.0, 20.0, 1), {"gemm_k": "1/64"}, {3: "contract: t"})
    line = next(line for line in text.splitlines() if line.startswith("gemm_k"))
    assert line.split() == "gemm_k contract: t 2.0000 50.0 25.0 25% 5.0 25% 1/64 nn.matmul".split()
    assert "12.5 GFLOP/s (12% of the peak)" in text


@needs_avx2
def test_every_kernel_of_a_model_is_listed() -> None:
    exe = compiled(gemm)
    text = measured(exe, {"x": np.ones((48, 128), np.float32)}, runs=3)
    assert all(k["kernel"] in text for k in exe.report.kernels)
    assert "peak in this run" in text
