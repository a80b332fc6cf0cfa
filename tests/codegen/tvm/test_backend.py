"""Models for TVM through AINO's executables: results, errors, what a run decides, threads."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import aino_ir as aino
from aino_ir.builder import Builder
from aino_ir.errors.run import IndexOutOfRange
from aino_ir.types import tensor
from tests.codegen.tvm.support import agrees, conv, joined, matmul, needs_tvm, random_inputs, weights


def test_products_and_convolutions() -> None:
    shapes = [(13, 40, 9), (17, 101, 23), (1, 1000, 64), (64, 96, 48)]
    modules = {f"product {shape}": matmul(*shape) for shape in shapes}
    given: list[tuple[int, ...]] = [
        (16, 14, 32, 3, 1, 1),
        (3, 30, 16, 7, 2, 3),
        (32, 15, 32, 3, 1, 1, 32),
        (8, 9, 10, 3, 2, 1),
    ]
    modules |= {f"convolution {numbers}": conv(*numbers) for numbers in given}
    module = joined(modules)
    agrees(module, *random_inputs(module), terms=256)


def test_long_functions_behind_products() -> None:
    """Rows that no tile divides; a function of a few parts, one of many, and one whose argument is shared."""
    b = Builder()
    x = b.input("x", tensor("f32", 13, 24))
    y = b.matmul(x, b.constant(weights(24, 32)))
    b.output("gelu", b.gelu(b.add(y, b.constant(weights(32, seed=2)))))
    b.output("tanh", b.gelu(b.matmul(x, b.constant(weights(24, 16, seed=3))), approximate="tanh"))
    z = b.matmul(x, b.constant(weights(24, 40, seed=4)))
    b.output("mish", b.mul(z, b.tanh(b.softplus(z))))
    lengths = b.reduce_sum(b.mul(x, x), axes=(1,), keepdims=True)
    b.output("power", b.div(x, b.pow(lengths, b.constant(np.float32(0.5)))))
    agrees(b.module, weights(13, 24, seed=1), terms=24)


def test_floats_keep_what_the_simplifier_would_fold() -> None:
    """x * 0, x + 0, x - x, (x + y) - x, comparisons with NaN and their negations, a * b + c by two roundings."""
    b = Builder()
    x, y = (b.input(n, tensor("f32", 64)) for n in "xy")
    zero, large = b.constant(np.float32(0)), b.constant(np.float32(12582912))
    b.output("times", b.mul(x, zero))
    b.output("plus", b.add(x, zero))
    b.output("sum", b.add(b.mul(x, y), y))
    b.output("nothing", b.sub(x, x))
    b.output("nearest", b.sub(b.add(x, large), large))
    b.output("rounded", b.sub(b.add(x, y), x))
    b.output("left", b.sub(b.sub(b.add(x, y), y), x))
    b.output("number", b.eq(x, x))
    b.output("none", b.ne(b.mul(x, y), b.mul(x, y)))
    for name in ("lt", "le", "eq", "ne", "gt", "ge"):
        b.output(name, b.logical_not(getattr(b, name)(x, y)))
    given = weights(64), weights(64, seed=1)
    given[0][:6] = np.nan, -0.0, np.inf, -np.inf, 0.0, 1.0
    given[1][5], given[1][7] = 1.0, np.nan
    module = b.module
    expected = aino.compile(module, "reference").run(*given)
    for level in (0, 2):  # op by op, and as few kernels; passes take zeros of either sign for equal
        executable = agrees(module, *given, level=level)
        for got, want in zip(executable.run(*given), expected, strict=True):
            assert np.array_equal(got, want, equal_nan=want.dtype.kind == "f")
            assert level > 0 or got.dtype.kind == "b" or np.array_equal(np.signbit(got), np.signbit(want))


def test_no_sum_swallows_what_a_function_gives() -> None:
    """exp ends in a product, which is infinite by itself and not within a sum with one rounding."""
    b = Builder()
    x, y = (b.input(n, tensor("f32", 16)) for n in "xy")
    b.output("out", b.sub(b.exp(x), b.mul(x, y)))
    given = weights(16), weights(16, seed=1)
    given[0][3] = given[1][3] = np.inf
    agrees(b.module, *given)


def test_integers_wrap() -> None:
    b = Builder()
    names = ("i32", "u32", "u64")
    inputs = {n: [b.input(f"{n}{k}", tensor(n, 64)) for k in "xy"] for n in names}
    for n, (x, y) in inputs.items():
        for op in ("add", "sub", "mul"):
            b.output(f"{op}_{n}", getattr(b, op)(x, y))
    rng = np.random.default_rng(0)
    given = []
    for n in names:
        info = np.iinfo(n.replace("u", "uint").replace("i3", "int3") if n[0] == "i" else f"uint{n[1:]}")
        given += [rng.integers(info.min, info.max, 64, info.dtype, endpoint=True) for _ in "xy"]
    agrees(b.module, *given)


def test_zero_among_choices_of_integers() -> None:
    """TVM reinterprets an integer that is zero as a pointer alone."""
    b = Builder()
    x, where = b.input("x", tensor("u32", 16)), b.input("where", tensor("bool", 16))
    b.output("chosen", b.select(where, x, b.constant(np.zeros(16, np.uint32))))
    b.output("shifted", b.shift_left(x, b.input("by", tensor("u32", 16))))
    b.output("cos", b.cos(b.input("angle", tensor("f32", 16))))
    counts = np.arange(16, dtype=np.uint32)
    agrees(b.module, counts, counts % 3 == 0, counts * 4, np.float32(10.0) ** counts.astype(np.float32))


def test_bools_are_reduced_in_vectors() -> None:
    b = Builder()
    x = b.input("x", tensor("bool", 5, 33))
    b.output("any", b.reduce_any(x, axes=(1,), keepdims=False))
    b.output("all", b.reduce_all(x, axes=(1,), keepdims=False))
    agrees(b.module, np.tri(5, 33, 1, dtype=np.bool_) ^ (np.arange(5) == 2)[:, None])


def test_small_floats_round_as_everywhere() -> None:
    b = Builder()
    x = b.input("x", tensor("f16", 5, 33))
    b.output("out", b.softmax(b.tanh(x), axis=-1))
    agrees(b.module, weights(5, 33).astype(np.float16))


def test_an_index_out_of_range_is_an_error() -> None:
    needs_tvm()
    b = Builder()
    x, at = b.input("x", tensor("f32", 6, 5)), b.input("at", tensor("i64", 4))
    b.output("out", b.gather(x, at, axis=0))
    executable = agrees(b.module, weights(6, 5), np.array([0, 5, -1, 2]))
    with pytest.raises(IndexOutOfRange):
        executable.run(weights(6, 5), np.array([0, 6, 1, 2]))
    executable.run(weights(6, 5), np.array([0, 1, 2, 3]))  # the next run is not the worse for it


def test_threads_do_not_change_results(tmp_path: Path) -> None:
    needs_tvm()
    module, x = matmul(64, 96, 48), weights(64, 48)
    results = []
    for threads in (1, 3):
        executable: Any = aino.compile(module, "tvm:llvm", threads=threads, cache=False)
        results.append(executable.run(x)[0])
    assert np.array_equal(*results)


def test_artifacts_load_without_tvm(tmp_path: Path) -> None:
    """A saved model needs numpy alone: what TVM's code asks of TVM's runtime comes with it."""
    needs_tvm()
    path = tmp_path / "m.aino"
    aino.compile(matmul(13, 40, 9), "tvm:llvm", cache=False).save(path)
    program = (
        "import sys, numpy, aino_ir; sys.modules['tvm'] = None; "
        "y, = aino_ir.load_executable(sys.argv[1]).run(numpy.ones((13, 9), 'float32')); print(y.shape)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stdout.strip() == "(13, 40)", done.stderr
