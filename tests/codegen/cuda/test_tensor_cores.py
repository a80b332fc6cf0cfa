"""Products on tensor cores: every tiling, layouts and borders, in the loop interpreter and emulated."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from aino_ir.builder import Builder
from aino_ir.codegen.c.unit import print_unit
from aino_ir.codegen.cuda.tensor_cores import TILINGS, Tiling
from aino_ir.graph import Value
from aino_ir.loops.stmt import Store, walk_statements
from tests.codegen.c.support import build, compilers, run
from tests.codegen.cuda.test_emulation import write_headers
from tests.codegen.kernels.support import Built, Given, Problem, kernels, normal, problem, rejects
from tests.codegen.native import target

EMULATED = "c:cuda-emu"
bf16, f16 = ml_dtypes.bfloat16, np.float16


def half(*shape: int, dtype: Any = bf16, seed: int = 0) -> Any:
    return normal(*shape, seed=seed).astype(dtype)


def tiled() -> list[Built]:
    """A kernel of each tiling."""
    return on_tensor_cores(matmul(200, 136, 104))


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


def on_tensor_cores(p: Problem) -> list[Built]:
    return kernels(p, EMULATED, "tensor cores", bounds=False)


def matmul(m: int, n: int, k: int, dtype: Any = bf16, **options: bool) -> Problem:
    """gelu(x w + v) + r, in 16 bits."""

    def body(b: Builder, x: Value, w: Value, v: Value, r: Value) -> list[Value]:
        return [b.add(b.gelu(b.add(b.matmul(x, w, **options), v)), r)]

    x = half(k, m, dtype=dtype) if options.get("transpose_lhs") else half(m, k, dtype=dtype)
    w = half(n, k, dtype=dtype) if options.get("transpose_rhs") else half(k, n, dtype=dtype)
    return problem(body, *map(Given, (x, w, half(n, dtype=dtype), half(m, n, dtype=dtype))), terms=k)


@pytest.mark.parametrize("dtype", [bf16, f16])
@pytest.mark.parametrize("lhs", [False, True])
@pytest.mark.parametrize("rhs", [False, True])
def test_layouts(dtype: Any, lhs: bool, rhs: bool, tmp_path: Path) -> None:
    made = on_tensor_cores(matmul(72, 40, 88, dtype, transpose_lhs=lhs, transpose_rhs=rhs))[:1]
    check_emulated(made, tmp_path)
    stored = {s.buffer for s in walk_statements(made[0].fn.body) if isinstance(s, Store)}
    assert stored == {"strips", "out"}  # panels are filled by copies alone


def test_every_tiling(tmp_path: Path) -> None:
    made = tiled()
    assert {k.candidate.name for k in made} == {str(t) for t in TILINGS}
    check_emulated(made, tmp_path)


def test_the_loop_interpreter_agrees() -> None:
    small = on_tensor_cores(matmul(17, 33, 40))[0]
    assert small.interpret() is None


@pytest.mark.parametrize("shape", [(17, 33, 19), (16, 16, 16), (65, 70, 33), (129, 31, 50)])
def test_odd_sizes(shape: tuple[int, int, int], tmp_path: Path) -> None:
    check_emulated(on_tensor_cores(matmul(*shape))[:2], tmp_path)


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
    check_emulated(on_tensor_cores(p), tmp_path)


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
    check_emulated(on_tensor_cores(p)[:2], tmp_path)


def test_f32_stays_f32() -> None:
    p = problem(lambda b, x, w: [b.matmul(x, w)], Given(normal(64, 64)), Given(normal(64, 64)))
    assert "not 16-bit floats" in rejects(p, EMULATED)["tensor cores"]


def test_shared_memory_is_enough() -> None:
    assert all(t.shared_bytes <= 48 << 10 for t in TILINGS)
    assert Tiling(128, 128, 2, 2, 2).shared_bytes == 32768 + 4 * 8 * 72 * 4
