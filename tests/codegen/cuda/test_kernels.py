"""Kernels for GPUs: in the loop interpreter, whose threads are real ones, and emulated by a C compiler."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import aino_ir as aino
from aino_ir.builder import Builder
from aino_ir.codegen.c.unit import print_unit
from aino_ir.dtypes import DTYPES, f32
from aino_ir.errors.loops import LoopInvariantError, LoopOutOfBounds
from aino_ir.errors.printing import NoSpelling
from aino_ir.errors.run import IndexOutOfRange
from aino_ir.graph import Module, Value
from aino_ir.loops.builder import LoopBuilder
from aino_ir.loops.conditions import Condition
from aino_ir.loops.interp import run_kernel
from aino_ir.loops.stmt import Access, LoopFn
from aino_ir.loops.verify import verify_loops
from aino_ir.types import TensorType
from tests.codegen.kernels.support import Given, kernels, problem
from tests.codegen.native import target
from tests.conformance.batch import run_cases
from tests.conformance.cases import all_cases, share
from tests.source import ROOT

EMULATED = "c:cuda-emu"
ONE_IN = 60


def module(build: Any, *types: str) -> Module:
    """A module of inputs such as ``f32 2 n``; `build` gets the builder and them."""
    b = Builder()
    inputs = []
    for number, text in enumerate(types):
        dtype, *shape = text.split()
        dims = tuple(int(d) if d.isdigit() else b.symbol(d, 1, 1000) for d in shape)
        inputs.append(b.input(f"x{number}", TensorType(DTYPES[dtype], dims)))
    made = build(b, *inputs)
    for number, value in enumerate(made if isinstance(made, tuple | list) else (made,)):
        b.output(f"y{number}", value)
    b.finish()
    return b.module


def emulated(m: Module, *inputs: Any, tolerance: float = 1e-4) -> list[str]:
    """Run a module emulated and on the interpreter; the kernels' candidates."""
    executable = aino.compile(m, EMULATED, threads=1)
    assert not executable.report.python_nodes
    assert executable.report.checks["kernels"]["wrong"] == []
    results, expected = executable.run(*inputs), aino.compile(m, "reference").run(*inputs)
    for got, want in zip(results, expected, strict=True):
        assert (got.dtype, got.shape) == (want.dtype, want.shape)
        np.testing.assert_allclose(np.float64(got), np.float64(want), rtol=tolerance, atol=tolerance)
    return [row["candidate"] for row in executable.report.kernels]


def batched(values: Sequence[Value], each: int) -> Iterator[Sequence[Value]]:
    """So many values at a time."""
    return (values[i : i + each] for i in range(0, len(values), each))


def normal(*shape: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


@pytest.mark.slow
def test_a_share_of_the_cases() -> None:
    cases = [c for c in all_cases() if share(c.name, ONE_IN, 3)]
    outcomes = list(run_cases(cases, EMULATED, size=len(cases)))
    assert len(outcomes) > 50
    assert not [o for o in outcomes if o.status != "passed"]


def of_shapes(shapes: list[tuple[int, ...]], dtype: str = "f32") -> tuple[list[str], list[Any]]:
    """Types of a module's inputs, and values for them."""
    values = [normal(*shape).astype(DTYPES[dtype].numpy) for shape in shapes]
    return [" ".join(map(str, (dtype, *shape))) for shape in shapes], values


def test_products_by_tiles() -> None:
    sizes = [(64, 64, 64), (65, 70, 33), (16, 16, 16), (17, 130, 40), (100, 16, 200)]

    def build(b: Any, *given: Value) -> tuple[Value, ...]:
        plain = [b.relu(b.add(b.matmul(x, w), v)) for x, w, v in batched(given[:-2], 3)]
        return *plain, b.matmul(*given[-2:], transpose_lhs=True, transpose_rhs=True)

    shapes = [s for m, n, k in sizes for s in ((m, k), (k, n), (n,))]
    types, values = of_shapes([*shapes, (3, 20, 33), (3, 17, 20)])
    names = emulated(module(build, *types), *values)
    assert [name.partition(":")[0] for name in names] == ["tile"] * (len(sizes) + 1)


def test_convolutions_by_tiles() -> None:
    ways = [(1, 1), (1, 2), (2, 1)]  # groups and strides

    def build(b: Any, x: Value, *weights: Value) -> tuple[Value, ...]:
        geometry = {"dilations": (1, 2), "pads_before": (1, 2), "pads_after": (1, 0)}
        return tuple(
            b.conv(x, w, None, groups=groups, strides=(stride, stride), **geometry)
            for w, (groups, stride) in zip(weights, ways, strict=True)
        )

    types, values = of_shapes([(2, 8, 9, 11), *((34, 8 // groups, 3, 3) for groups, _ in ways)])
    names = emulated(module(build, *types), *values)
    assert sum(name.startswith("tile") for name in names) == 2  # but those of groups


def test_rows_by_blocks() -> None:
    def build(b: Any, x: Value) -> tuple[Value, ...]:
        return b.softmax(x), b.log_softmax(x, axis=0), b.argmax(x, axis=1), b.reduce_log_sum_exp(x, axes=(1,))

    x = normal(70, 301)
    x[3, 250], x[5, 7], x[6] = np.nan, np.inf, 2.0
    made = module(build, "f32 70 301")
    names = emulated(made, x)
    assert all(name.startswith("block rows") for name in names)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["f32", "f16"])
def test_rows_of_many_lengths(dtype: str) -> None:
    types, values = of_shapes([(3, 64), (2, 1000), (2, 1024), (1, 40000), (3, 67)], dtype)

    def build(b: Any, *rows: Value) -> tuple[Value, ...]:
        return tuple(y for x in rows for y in (b.softmax(x), b.reduce_max(x, axes=(1,))))

    names = emulated(module(build, *types), *values)
    assert len(names) == 10 and all(name.startswith("block rows") for name in names)
    assert sum("read once" in name for name in names) == 8  # the longest are read again


def test_rows_of_several_axes() -> None:
    made = module(
        lambda b, x: (b.reduce_sum(x, axes=(1, 2)), b.reduce_l2(x, axes=(0, 2)), b.reduce_min(x, axes=(2,))),
        "f32 4 6 50",
    )
    emulated(made, normal(4, 6, 50))


def test_norms_by_blocks() -> None:
    def build(b: Any, x: Value, w: Value, v: Value) -> Value:
        return b.layer_norm(x, w, v)  # type: ignore[no-any-return]

    names = emulated(
        module(build, "f32 9 768", "f32 768", "f32 768"), normal(9, 768), normal(768), normal(768)
    )
    assert names == ["block rows: a block of 64 threads a row, 4 lanes, read once"]


def test_products_with_a_vector() -> None:
    made = module(lambda b, x, w: b.matmul(x, w, transpose_rhs=True), "f32 1 400", "f32 70 400")
    assert emulated(made, normal(1, 400), normal(70, 400))[0].startswith("block rows")


def test_reductions_of_every_type() -> None:
    dtypes = ["i8", "u8", "i32", "i64", "f64", "bf16"]
    numbers = np.random.default_rng(3).integers(0, 100, (4, 150))

    def build(b: Any, *given: Value) -> tuple[Value, ...]:
        return tuple(
            y
            for x in given
            for y in (b.reduce_max(x, axes=(1,)), b.reduce_sum(x, axes=(1,)), b.argmin(x, axis=1))
        )

    made = module(build, *(f"{dtype} 4 150" for dtype in dtypes))
    names = emulated(made, *(numbers.astype(DTYPES[dtype].numpy) for dtype in dtypes))
    assert all(name.startswith("block rows") for name in names)


def test_maps_by_vectors() -> None:
    pairs = [("f32", "f32"), ("bf16", "f32"), ("f16", "f16"), ("i8", "i8"), ("f64", "f64")]

    def build(b: Any, *given: Value) -> list[Value]:
        out = []
        for (first, second), (x, y) in zip(pairs, batched(given, 2), strict=True):
            wide = b.cast(b.relu(x) if first.startswith(("f", "b")) else x, to=second)
            out += [b.add(wide, y), b.slice(x, starts=(0, 1), sizes=(6, 299), steps=(1, 1))]
        return out

    types = [t for first, second in pairs for t in (f"{first} 6 301", f"{second} 301")]
    x, y = 3 * normal(6, 301), normal(301)
    values = [v for a, c in pairs for v in (x.astype(DTYPES[a].numpy), y.astype(DTYPES[c].numpy))]
    assert all("elements" in name for name in emulated(module(build, *types), *values))


def test_maps_of_unknown_length() -> None:
    made = module(lambda b, x: b.tanh(x), "f32 n 3")
    for length in (1, 2, 100):
        assert emulated(made, normal(length, 3)) == ["element: a thread for each 4 elements"]


def test_a_block_of_a_transformer() -> None:
    def build(b: Any, x: Value, w: Value, v: Value, u: Value, scale: Value) -> Value:
        y = b.layer_norm(x, scale, scale)
        q = b.transpose(b.reshape(b.matmul(y, w), shape=(1, 20, 2, 32)), perm=(0, 2, 1, 3))
        a = b.attention(q, q, q, scale=0.2, causal=True)
        x = b.add(x, b.reshape(b.transpose(a, perm=(0, 2, 1, 3)), shape=(20, 64)))
        return b.add(x, b.matmul(b.gelu(b.matmul(x, v)), u))  # type: ignore[no-any-return]

    types = ("bf16 20 64", "bf16 64 64", "bf16 64 128", "bf16 128 64", "bf16 64")
    given = [(normal(*map(int, t.split()[1:])) / 8).astype(DTYPES["bf16"].numpy) for t in types]
    names = [name.partition(":")[0] for name in emulated(module(build, *types), *given, tolerance=2**-5)]
    assert {"tensor cores", "flash attention", "block rows"} <= set(names)


def test_sums_of_one_term() -> None:
    made = module(lambda b, x: (b.reduce_sum(x, axes=(1,)), b.reduce_l2(x, axes=(1,))), "f32 5 1 3")
    assert all(name.startswith("element") for name in emulated(made, normal(5, 1, 3)))


def test_rows_of_unknown_length() -> None:
    made = module(lambda b, x: b.softmax(x), "f32 3 n")
    for length in (1, 2, 127, 128, 129, 700):
        assert emulated(made, normal(3, length))[0].startswith("block rows")


def test_failed_checks_stop_and_name_the_node() -> None:
    made = module(lambda b, x, i: b.gather(x, i), "f32 9 4", "i64 3")
    emulated(made, normal(9, 4), np.array([8, -9, 0]))
    with pytest.raises(IndexOutOfRange):
        aino.compile(made, EMULATED, threads=1).run(normal(9, 4), np.array([0, 9, 1]))


# ---------------------------------------------------------------------------------- cooperative loops


def turned(threads: int = 8) -> LoopFn:
    """out[unit, t] = x[unit, threads - 1 - t], through memory that the threads share."""
    b = LoopBuilder("turned")
    x, out = b.param("x", f32, 3 * threads), b.param("out", f32, 3 * threads, Access.WRITE)
    line = b.share("line", f32, threads)
    with b.units(3, threads) as unit:
        b.store(line, b.thread, b.load(x, unit * threads + b.thread))
        b.barrier()
        b.store(out, unit * threads + b.thread, b.load(line, threads - 1 - b.thread))
    return b.finish()


def test_threads_of_a_unit_meet_at_barriers() -> None:
    fn = turned()
    assert verify_loops(fn).unproved == []
    x = np.arange(24, dtype=np.float32)
    out = np.zeros(24, np.float32)
    run_kernel(fn, [x, out])
    assert out.reshape(3, 8).tolist() == x.reshape(3, 8)[:, ::-1].tolist()


def test_barriers_stand_where_all_threads_come() -> None:
    b = LoopBuilder("apart")
    out = b.param("out", f32, 8, Access.WRITE)
    with b.units(1, 8):
        with b.when(Condition(b.thread, "<", 4)):
            b.barrier()
        b.store(out, b.thread, 1.0)
    with pytest.raises(LoopInvariantError, match="L14"):
        verify_loops(b.finish())
    b = LoopBuilder("often")
    out = b.param("out", f32, 8, Access.WRITE)
    with b.units(1, 8):
        with b.loop("i", b.thread, 8):
            b.barrier()
        b.store(out, b.thread, 1.0)
    with pytest.raises(LoopInvariantError, match="L14"):
        verify_loops(b.finish())


def test_coordinates_of_units_that_never_run() -> None:
    b = LoopBuilder("none")
    out = b.param("out", f32, 0, Access.WRITE)
    with b.units(0) as unit:
        row, column = b.split(unit, {"row": 3, "column": 0})
        b.store(out, row + column, 1.0)
    run_kernel(b.finish(), [np.zeros(0, np.float32)])


def test_one_thread_shares_nothing() -> None:
    b = LoopBuilder("alone")
    out = b.param("out", f32, 4, Access.WRITE)
    b.share("line", f32, 4)
    with b.units(4) as unit:
        b.store(out, unit, 1.0)
    with pytest.raises(LoopInvariantError, match="L14"):
        verify_loops(b.finish())


def test_a_failure_in_a_thread_ends_the_unit() -> None:
    b = LoopBuilder("outside")
    out = b.param("out", f32, 4, Access.WRITE)
    far = b.symbol("far", 0, 100)
    with b.units(1, 8):
        b.store(out, b.thread + far, 1.0)
        b.barrier()
    with pytest.raises(LoopOutOfBounds):
        run_kernel(b.finish(), [np.zeros(4, np.float32)], {"far": 0})


def test_c_has_no_threads_that_share() -> None:
    with pytest.raises(NoSpelling, match="shared"):
        print_unit([turned()], target("c:avx2"))


def test_the_text_of_a_kernel_whose_threads_share(golden: Any) -> None:
    golden.check("turned.cu", print_unit([turned()], target(EMULATED)))


def test_the_text_of_a_tile(golden: Any) -> None:
    (built,) = kernels(
        problem(lambda b, x, w: [b.matmul(x, w)], Given(normal(32, 48)), Given(normal(48, 80))),
        EMULATED,
        "tile",
    )
    golden.check("tile.cu", print_unit([built.fn], target(EMULATED)))


def test_the_loop_interpreter_agrees_on_a_tile() -> None:
    given = Given(normal(33, 17)), Given(normal(17, 20))
    (built,) = kernels(problem(lambda b, x, w: [b.matmul(x, w)], *given), EMULATED, "tile")
    assert built.interpret() is None


APART = {
    "    if (threadIdx.x == 2)\n        return;\n    AINO_BARRIER();\n": "3 of 4 threads wait at a barrier",
    "    if (threadIdx.x == 2)\n        AINO_BARRIER();\n    else\n        AINO_BARRIER();\n": (
        "waits in line 5, where others wait in line 7"
    ),
    "    float x = 1;\n    int32_t n = 1;\n    if (threadIdx.x == 2)\n        aino_exchange_f32(&x, x, 1);\n"
    "    else\n        aino_exchange_i32(&n, n, 1);\n": (
        "does an exchange of f32 with its warp, of which others do an exchange of i32"
    ),
}


@pytest.mark.parametrize("body", APART)
def test_the_emulation_tells_of_threads_that_do_not_meet(body: str, tmp_path: Path) -> None:
    compiler = shutil.which("gcc") or pytest.skip("no gcc")
    (tmp_path / "leaving.c").write_text(LEAVING.replace("BODY", body), encoding="ascii")
    headers = ["-I", str(ROOT / "codegen" / "cuda" / "runtime")]
    subprocess.run([compiler, *headers, "-o", "leaving", "leaving.c"], cwd=tmp_path, check=True, timeout=60)
    done = subprocess.run(
        ["./leaving"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode != 0
    assert APART[body] in done.stderr


LEAVING = """\
#include "aino_cuda.h"
AINO_GLOBAL(4) void k_kernel(int64_t lo)
{
BODY    (void)lo;
}
static void k_thread(void *const *views, const int64_t *syms, void *scratch, int64_t lo, int64_t hi)
{
    (void)views, (void)syms, (void)scratch, (void)hi;
    k_kernel(lo);
}
int main(void)
{
    void *const *views = 0;
    const int64_t *syms = 0;
    void *scratch = 0;
    int64_t lo = 0, hi = 1;
    AINO_LAUNCH_BLOCKS(k, 1, 4, lo);
    return 0;
}
"""
