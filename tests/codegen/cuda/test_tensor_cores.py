"""Products on tensor cores: every tiling, layouts and borders, in the loop interpreter and emulated."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import aino_ir as aino
from aino_ir.builder import Builder
from aino_ir.codegen.c.unit import print_unit
from aino_ir.codegen.cuda import tensor_cores
from aino_ir.codegen.cuda.launch import BOUNDARY, asked_bytes, asked_places
from aino_ir.codegen.cuda.tilings import TILINGS, Tiling
from aino_ir.driver.gpu import emulated_gpu
from aino_ir.dtypes import bf16 as BF16
from aino_ir.dtypes import f16
from aino_ir.graph import Value
from aino_ir.loops.stmt import Share, Store, walk_statements
from aino_ir.ops.quant import Quantize
from aino_ir.ops.quant_products import QuantConv, QuantMatMul
from aino_ir.types import Layout, TensorType
from tests.codegen.c.support import build, compilers, run
from tests.codegen.cuda.test_emulation import write_headers
from tests.codegen.kernels.support import Built, Given, Problem, candidates, kernels, normal, problem, rejects
from tests.codegen.native import target

EMULATED = "c:cuda-emu"
bf16 = ml_dtypes.bfloat16


def half(*shape: int, dtype: Any = bf16, seed: int = 0) -> Any:
    return normal(*shape, seed=seed).astype(dtype)


def all_tiled() -> list[Built]:
    """A kernel of each tiling."""
    return on_tensor_cores(matmul(200, 136, 104), most=len(TILINGS))


def tiled() -> list[Built]:
    """A kernel of each tiling that every architecture has."""
    return [k for k in all_tiled() if "wgmma" not in k.candidate.name]


def check_emulated(made: list[Built], folder: Path) -> None:
    """Run kernels emulated, with every access watched."""
    write_headers(folder)
    fns = {k.fn.name: k.fn for k in made}
    text = print_unit(list(fns.values()), target(EMULATED))
    library = build(text, next(iter(compilers())), "cuda-emu", folder)
    for kernel in made:
        views = kernel.problem.memory(kernel.candidate)
        run(library, kernel.fn, views, list(kernel.symbols.values()))
        why = kernel.problem.complaint(views)
        assert why is None, f"{kernel.candidate.name}: {why}"


def on_tensor_cores(p: Problem, text: str = EMULATED, most: int = 8) -> list[Built]:
    return kernels(p, text, "tensor cores", most, bounds=False)


def matmul(m: int, n: int, k: int, dtype: Any = bf16, **options: bool) -> Problem:
    """gelu(x w + v) + r, in 16 bits."""

    def body(b: Builder, x: Value, w: Value, v: Value, r: Value) -> list[Value]:
        return [b.add(b.gelu(b.add(b.matmul(x, w, **options), v)), r)]

    x = half(k, m, dtype=dtype) if options.get("transpose_lhs") else half(m, k, dtype=dtype)
    w = half(n, k, dtype=dtype) if options.get("transpose_rhs") else half(k, n, dtype=dtype)
    return problem(body, *map(Given, (x, w, half(n, dtype=dtype), half(m, n, dtype=dtype))), terms=k)


@pytest.mark.parametrize("dtype", [bf16, np.float16])
@pytest.mark.parametrize("lhs", [False, True])
@pytest.mark.parametrize("rhs", [False, True])
def test_layouts(dtype: Any, lhs: bool, rhs: bool, tmp_path: Path) -> None:
    made = on_tensor_cores(matmul(72, 40, 88, dtype, transpose_lhs=lhs, transpose_rhs=rhs), most=1)
    check_emulated(made, tmp_path)
    stored = {s.buffer for s in walk_statements(made[0].fn.body) if isinstance(s, Store)}
    assert stored == {"strips", "out"}  # panels are filled by copies alone


def test_every_tiling(tmp_path: Path) -> None:
    made = all_tiled()
    assert {k.candidate.name for k in made} == {f"bf16, {t}" for t in TILINGS}
    check_emulated([k for k in made if "of 64 bytes" in k.candidate.name], tmp_path)


def test_the_loop_interpreter_agrees() -> None:
    (small,) = on_tensor_cores(matmul(17, 33, 40), most=1)
    assert small.interpret() is None


@pytest.mark.parametrize("shape", [(17, 33, 19), (16, 16, 16), (65, 70, 33), (129, 31, 50)])
def test_odd_sizes(shape: tuple[int, int, int], tmp_path: Path) -> None:
    check_emulated(on_tensor_cores(matmul(*shape), most=2), tmp_path)


@pytest.mark.parametrize(
    ("columns", "tile", "lanes"), [(40, "64x64", 8), (40, "64x16", 4), (36, "64x64", 4), (33, "64x64", 1)]
)
def test_results_are_vectors_where_they_are_whole(columns: int, tile: str, lanes: int) -> None:
    made = on_tensor_cores(matmul(72, columns, 40), most=len(TILINGS))
    (kernel,) = (k for k in made if f" {tile}, " in k.candidate.name)
    out = [s for s in walk_statements(kernel.fn.body) if isinstance(s, Store) and s.buffer == "out"]
    assert {(s.value.lanes, s.mask) for s in out} == {(lanes, None)}


def test_stacks_and_prologues(tmp_path: Path) -> None:
    def body(b: Builder, x: Value, w: Value) -> list[Value]:
        return [b.matmul(b.relu(x), w)]

    check_emulated(
        on_tensor_cores(problem(body, Given(half(3, 20, 40)), Given(half(3, 40, 24)), terms=40)), tmp_path
    )


@pytest.mark.parametrize(("groups", "stride"), [(1, 1), (1, 2)])
def test_convolutions(groups: int, stride: int, tmp_path: Path) -> None:
    def body(b: Builder, x: Value, w: Value) -> list[Value]:
        geometry = {"strides": (stride, stride), "pads_before": (1, 2), "pads_after": (1, 0)}
        return [b.relu(b.conv(x, w, None, groups=groups, dilations=(1, 1), **geometry))]

    p = problem(body, Given(half(2, 16, 9, 11)), Given(half(32, 16, 3, 3)), terms=144)
    check_emulated(on_tensor_cores(p, most=2), tmp_path)


def test_symbolic_extents(tmp_path: Path) -> None:
    n = Builder().symbol("n", 1, 500)
    p = problem(
        lambda b, x, w: [b.matmul(x, w)],
        Given(half(37, 64), shape=(n, 64)),
        Given(half(64, 48)),
        symbols={"n": (1, 500)},
        values={"n": 37},
        terms=64,
    )
    check_emulated(on_tensor_cores(p, most=2), tmp_path)


def test_neighbours_across_a_border_are_not_copied_together(tmp_path: Path) -> None:
    def body(b: Builder, x: Value, w: Value) -> list[Value]:
        geometry = {"strides": (1,), "pads_before": (2,), "pads_after": (2,), "dilations": (2,)}
        return [b.conv(x, w, None, groups=1, **geometry)]

    p = problem(body, Given(half(1, 16, 32)), Given(half(16, 16, 3)), terms=48)
    check_emulated(on_tensor_cores(p, most=1), tmp_path)


def stores_of(kernel: Built) -> set[str]:
    return {s.buffer for s in walk_statements(kernel.fn.body) if isinstance(s, Store)}


@pytest.mark.parametrize("dtype", [bf16, np.int8])
def test_convolutions_of_channels_that_lie_together_are_copied(dtype: Any, tmp_path: Path) -> None:
    layout = Layout(((0, None), (2, None), (3, None), (1, None)))
    x, w = normal(2, 32, 6, 7, dtype=dtype), normal(32, 32, 3, 3, dtype=dtype, seed=1)
    geometry = {"strides": (1, 2), "pads_before": (1, 1), "pads_after": (1, 1), "dilations": (1, 1)}

    def body(b: Builder, x: Value, w: Value, *scale: Value) -> list[Value]:
        if dtype is bf16:
            return [b.conv(x, w, None, groups=1, **geometry)]
        return [b.op(QuantConv, x, w, *scale, groups=1, **geometry).result]

    scale = () if dtype is bf16 else (Given(np.asarray(np.float32(0.5))),)
    p = problem(body, Given(x, layout), Given(w, constant=True), *scale, layouts=[layout], terms=288)
    made = on_tensor_cores(p, most=1)
    assert stores_of(made[0]) == {"strips", "out"}
    check_emulated(made, tmp_path)


def requantised(m: int, n: int, k: int, lhs: Any, rhs: Any, constant: bool = True) -> Problem:
    """A product of bytes with offset and scale, requantised to u8."""
    rng = np.random.default_rng([m, n, k])
    x, w = (
        rng.integers(np.iinfo(t).min, np.iinfo(t).max, s, t, endpoint=True)
        for t, s in ((lhs, (m, k)), (rhs, (k, n)))
    )
    scale = (rng.random(n) * 2.0**-6).astype(np.float32)
    offset = rng.integers(-5000, 5000, n).astype(np.int32)

    def body(b: Builder, *given: Value) -> list[Value]:
        *factors, step, zero = given
        total = b.op(QuantMatMul, *factors).result
        return [total, b.op(Quantize, b.relu(total), step, zero, to="u8").result]

    numbers = (scale, offset, np.float32(0.7).reshape(()), np.uint8(3).reshape(()))
    return problem(
        body,
        Given(x),
        Given(w, constant=constant),
        *map(Given, map(np.asarray, numbers)),
        terms=k,
        error_class="exact",
    )


def test_bytes_are_exact(tmp_path: Path) -> None:
    signs = [(a, b) for a in (np.int8, np.uint8) for b in (np.int8, np.uint8)]
    made = [k for a, b in signs for k in on_tensor_cores(requantised(72, 40, 160, a, b), most=1)]
    for kernel in made:
        assert kernel.candidate.error_class == "exact" and kernel.candidate.packings
        assert stores_of(kernel) == {"strips", "out", "out2"}
    odd = [requantised(*shape, np.uint8, np.int8) for shape in ((17, 33, 83), (65, 16, 33))]
    free = requantised(33, 40, 64, np.int8, np.int8, constant=False)
    made += [k for p in (*odd, free) for k in on_tensor_cores(p, most=1)]
    check_emulated(made, tmp_path)


def test_sums_of_bytes_that_32_bits_do_not_hold() -> None:
    long = requantised(16, 16, 33000, np.uint8, np.int8)
    assert "summed in i64" in rejects(long, EMULATED)["tensor cores"]


def test_the_loop_interpreter_agrees_on_bytes() -> None:
    (small,) = on_tensor_cores(requantised(17, 20, 40, np.uint8, np.int8), most=1)
    assert small.interpret() is None


def floats(m: int, n: int, k: int, **options: bool) -> Problem:
    """gelu(x w) of f32."""

    def body(b: Builder, x: Value, w: Value) -> list[Value]:
        return [b.gelu(b.matmul(x, w, **options))]

    w = normal(n, k) if options.get("transpose_rhs") else normal(k, n)
    return problem(body, Given(normal(m, k)), Given(w), terms=k)


def test_f32_stays_f32() -> None:
    assert "does not say tf32" in rejects(floats(64, 64, 64), EMULATED)["tensor cores"]
    f64 = problem(lambda b, x, w: [b.matmul(x, w)], *[Given(normal(64, 64, dtype=np.float64))] * 2)
    assert "summed in f64" in rejects(f64, f"{EMULATED},tf32")["tensor cores"]


def test_f32_as_tf32_where_that_is_asked_for(tmp_path: Path) -> None:
    made = [
        *on_tensor_cores(floats(72, 40, 56), f"{EMULATED},tf32", most=1),
        *on_tensor_cores(floats(33, 70, 45, transpose_rhs=True), f"{EMULATED},tf32", most=1),
    ]
    assert {k.candidate.precision for k in made} == {f16}
    close = [replace(k, problem=replace(k.problem, error_class="approximate", precision=f16)) for k in made]
    check_emulated(close, tmp_path)


def mixed_kernels(text: str, most: int = 1) -> list[Built]:
    """Bytes and tf32, for whoever compiles them for devices."""
    made = on_tensor_cores(requantised(200, 136, 160, np.uint8, np.int8), text, most)
    return [*made, *on_tensor_cores(floats(200, 136, 160), f"{text},tf32", most)]


def test_shared_memory_is_enough() -> None:
    assert Tiling(128, 128, 2, 2, 2).shared_bytes == 32768 + 4 * 8 * 72 * 4
    for isa, most in (("sm_80", 163), ("sm_86", 99), ("sm_90a", 227)):
        offered = candidates(matmul(512, 512, 64), f"cuda:{isa}", "tensor cores")
        taken = [TILINGS[dict(c.params)["tiling"]].shared_bytes for c in offered]
        assert max(taken) <= most << 10 and (max(taken) > 99 << 10) == (most > 99)
    for kernel in all_tiled():
        declared = {s.name: s.size * s.dtype.bytes for s in kernel.fn.prologue if isinstance(s, Share)}
        tiling = TILINGS[dict(kernel.candidate.params)["tiling"]]
        assert sum(declared.values()) + BOUNDARY * tiling.fetched == tiling.shared_bytes
        assert (asked_bytes(kernel.fn) > 0) == (tiling.shared_bytes > 48 << 10)
        places = sorted((start, declared[name]) for name, start in asked_places(kernel.fn).items())
        assert all(a + size <= b for (a, size), (b, _) in pairwise(places))


def test_launches_ask_for_shared_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensor_cores, "TILINGS", (Tiling(64, 64, 2, 2, 4, 128),))
    b = Builder()
    b.output(
        "y", b.matmul(b.input("x", TensorType(BF16, (48, 64))), b.input("w", TensorType(BF16, (64, 48))))
    )
    x, w = half(48, 64), half(64, 48)
    with emulated_gpu() as gpus:
        executable = aino.compile(b.module, "cuda:sm_80", cache=False)
        (got,) = executable.run(x, w)
        assert gpus.calls["cuFuncSetAttribute"] == 1
    assert executable.report.kernels[0]["candidate"].startswith("tensor cores")
    np.testing.assert_allclose(np.float32(got), np.float32(x) @ np.float32(w), rtol=1e-2, atol=1e-1)
