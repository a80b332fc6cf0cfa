"""What one call costs: an MLP 784-64-10 from Python and from C, on one thread.

``python -m benchmarks.overhead [--calls 20000] [--batch 1]``

The kernels themselves take a share of each figure; "in the kernels" is that share, by the profile.
The figures are the fastest round of `ROUNDS`, in microseconds a call.
"""

from __future__ import annotations

import argparse
import ctypes
import itertools
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import aino_ir as aino
from aino_ir.builder import Builder
from aino_ir.codegen.c.compile import SourceUnit, compile_units
from aino_ir.codegen.c.toolchain import find_toolchain
from aino_ir.graph import Module
from aino_ir.runtime.executable import Executable
from aino_ir.runtime.library import Library
from aino_ir.runtime.native import address_of
from aino_ir.runtime.store import opened_or_temporary
from aino_ir.types import tensor

SIZES = (784, 64, 10)
ROUNDS = 7

_CALLER = """
#include <stdint.h>
#include <time.h>

typedef int run_function(void *context, const void *const *in, void *const *out);

/* Nanoseconds of `calls` calls, or -1 when one of them fails. */
__attribute__((visibility("default"))) int64_t time_calls(
    run_function *run, void *context, const void *const *in, void *const *out, int64_t calls)
{
    struct timespec start, end;
    clock_gettime(CLOCK_MONOTONIC, &start);
    for (int64_t i = 0; i < calls; i++)
        if (run(context, in, out))
            return -1;
    clock_gettime(CLOCK_MONOTONIC, &end);
    return (end.tv_sec - start.tv_sec) * 1000000000ll + end.tv_nsec - start.tv_nsec;
}
"""


@dataclass(frozen=True)
class Overhead:
    """Microseconds a call.

    Attributes:
        python: `exe.run(x)`.
        python_out: `exe.run(x, out=[y])`.
        c: `NAME_run` called from C.
        kernels: time in the kernels, by the profile.
    """

    python: float
    python_out: float
    c: float
    kernels: float

    def __str__(self) -> str:
        rows = (
            ("exe.run(x)", self.python),
            ("exe.run(x, out=[y])", self.python_out),
            ("NAME_run from C", self.c),
            ("in the kernels", self.kernels),
        )
        return "\n".join(f"{what:24}{value:8.2f} us a call" for what, value in rows)


def mlp(batch: int = 1) -> Module:
    """A linear layer, ReLU, a linear layer, with seeded weights."""
    rng = np.random.default_rng(0)
    b = Builder()
    value = b.input("x", tensor("f32", batch, SIZES[0]))
    for layer, (rows, columns) in enumerate(itertools.pairwise(SIZES)):
        weights = rng.standard_normal((rows, columns)).astype(np.float32) / np.float32(rows) ** 0.5
        value = b.add(b.matmul(value, b.constant(weights)), b.constant(np.zeros(columns, np.float32)))
        value = b.relu(value) if layer == 0 else value
    b.output("y", value)
    return b.module


def measure(calls: int, batch: int = 1) -> Overhead:
    """Compile the MLP and time calls."""
    exe: Any = aino.compile(mlp(batch), threads=1)
    x = np.random.default_rng(1).standard_normal((batch, SIZES[0])).astype(np.float32)
    y = np.empty((batch, SIZES[-1]), np.float32)
    python = fastest(lambda: _python_calls(lambda: exe.run(x), calls))
    python_out = fastest(lambda: _python_calls(lambda: exe.run(x, out=[y]), calls))
    from_c = _caller(exe, x, y, calls)
    kernels = sum(row.ms for row in exe.profile(x, runs=200).rows)
    return Overhead(python / calls, python_out / calls, fastest(from_c) / calls, 1e3 * kernels)


def fastest(round: Callable[[], float]) -> float:
    """The least of `ROUNDS` rounds, in microseconds."""
    return min(round() for _ in range(ROUNDS)) * 1e6


def _python_calls(call: Callable[[], object], calls: int) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        call()
    return time.perf_counter() - start


def _caller(exe: Executable, x: np.ndarray, y: np.ndarray, calls: int) -> Callable[[], float]:
    """Seconds of `calls` calls in a loop in C, with a context of its own."""
    variant = exe.artifact.choose_variant()
    details = exe.artifact.manifest.details["variants"][variant.isa]
    name, pointer = details["symbol_prefix"], ctypes.c_void_p
    model = Library(exe.artifact.library(variant), variant.section)
    with opened_or_temporary(True) as store:
        unit = SourceUnit("caller", _CALLER, variant.isa)
        caller = Library(compile_units([unit], {}, find_toolchain(store), store)[variant.isa], "caller")
    context = pointer()
    create = model.function(f"{name}_create", ctypes.c_int, pointer, ctypes.c_int, pointer)
    weights = exe.artifact.weights[details["weights_offset"] :]
    if create(address_of(weights), 1, ctypes.addressof(context)):
        raise MemoryError("no context")
    run = ctypes.cast(model.function(f"{name}_run", ctypes.c_int), pointer)
    loop = caller.function("time_calls", ctypes.c_int64, *[pointer] * 4, ctypes.c_int64)
    given, made = (pointer * 1)(x.ctypes.data), (pointer * 1)(y.ctypes.data)

    loaded = model, caller  # as long as their code may be called

    def seconds() -> float:
        assert loaded
        elapsed = int(loop(run, context, given, made, calls))
        if elapsed < 0:
            raise RuntimeError(f"{name}_run failed")
        return elapsed / 1e9

    return seconds


def main(argv: list[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.overhead", description=main.__doc__)
    parser.add_argument("--calls", type=int, default=20_000)
    parser.add_argument("--batch", type=int, default=1)
    options = parser.parse_args(argv)
    print(f"MLP {'-'.join(map(str, SIZES))}, batch {options.batch}, one thread")
    print(measure(options.calls, options.batch))
    return 0


if __name__ == "__main__":
    sys.exit(main())
