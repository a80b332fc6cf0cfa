"""What the machine can do at most, measured: multiply-adds and memory traffic of some threads at once.

The C below is compiled by the toolchain, and with the flags, that models are compiled with.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from aino_ir.codegen.c.compile import SourceUnit, compile_units
from aino_ir.codegen.c.toolchain import Toolchain
from aino_ir.runtime.library import Library
from aino_ir.runtime.store import Store

ACCUMULATORS = 12
"""Enough to hide a latency of four to six cycles on two units, and few enough for 16 registers."""

STREAM_FLOATS = 4 << 20
"""Elements of each of a thread's three arrays: 16 MiB each, more than its share of the caches."""

FMA_STEPS = 1 << 20
ROUNDS = 5

_SOURCE = """
#include <stdint.h>
#include <time.h>
#if defined(__AVX512F__)
#include <immintrin.h>
typedef float vec __attribute__((vector_size(64)));
#define FMA(a, b, c) ((vec)_mm512_fmadd_ps((__m512)(a), (__m512)(b), (__m512)(c)))
#elif defined(__FMA__)
#include <immintrin.h>
typedef float vec __attribute__((vector_size(32)));
#define FMA(a, b, c) ((vec)_mm256_fmadd_ps((__m256)(a), (__m256)(b), (__m256)(c)))
#elif defined(__aarch64__)
#include <arm_neon.h>
typedef float vec __attribute__((vector_size(16)));
#define FMA(a, b, c) ((vec)vfmaq_f32((float32x4_t)(c), (float32x4_t)(a), (float32x4_t)(b)))
#else
typedef float vec __attribute__((vector_size(16)));
#define FMA(a, b, c) ((a) * (b) + (c))
#endif
#define EXPORT __attribute__((visibility("default")))

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + 1e-9 * t.tv_nsec;
}

EXPORT int peak_lanes(void) { return sizeof(vec) / sizeof(float); }

/* Seconds of `steps` rounds of ACCUMULATORS multiply-adds; `data` keeps them from being dropped. */
EXPORT double peak_fma(float *data, int64_t steps)
{
    vec acc[ACCUMULATORS], x = (vec){0} + data[0], y = (vec){0} + data[1];
    for (int i = 0; i < ACCUMULATORS; i++)
        acc[i] = x + (float)i;
    double start = now();
    for (int64_t s = 0; s < steps; s++) {
#pragma GCC unroll 16
        for (int i = 0; i < ACCUMULATORS; i++)
            acc[i] = FMA(acc[i], x, y);
    }
    double end = now();
    for (int i = 0; i < ACCUMULATORS; i++)
        data[2] += acc[i][0];
    return end - start;
}

/* Seconds of c = a + s * b: two streams in, one out. */
EXPORT double peak_stream(float *restrict c, const float *restrict a, const float *restrict b, int64_t n)
{
    double start = now();
    for (int64_t i = 0; i < n; i++)
        c[i] = a[i] + 3.0f * b[i];
    return now() - start;
}

/* Seconds in which n vectors are read, eight sums at a time; `data` keeps them from being dropped. */
EXPORT double peak_read(float *data, const vec *restrict a, int64_t n)
{
    vec sum[8] = {{0}};
    double start = now();
    for (int64_t i = 0; i + 8 <= n; i += 8) {
#pragma GCC unroll 8
        for (int j = 0; j < 8; j++)
            sum[j] += a[i + j];
    }
    double end = now();
    for (int j = 0; j < 8; j++)
        data[0] += sum[j][0];
    return end - start;
}
""".replace("ACCUMULATORS", str(ACCUMULATORS))


@dataclass(frozen=True)
class Peak:
    """The most that some threads reached together.

    Attributes:
        gflops: billions of f32 operations a second (a multiply-add is two).
        gbytes: billions of bytes a second to and from memory.
        threads: how many threads.
    """

    gflops: float
    gbytes: float
    threads: int

    def best(self, other: Peak) -> Peak:
        """The better of two measurements, figure by figure."""
        return Peak(max(self.gflops, other.gflops), max(self.gbytes, other.gbytes), self.threads)


class PeakMeter:
    """Measures peaks with code for one ISA."""

    def __init__(self, isa: str, toolchain: Toolchain, store: Store) -> None:
        data = compile_units([SourceUnit("peak", _SOURCE, isa)], {}, toolchain, store)[isa]
        library = Library(data, "peak")
        pointer = ctypes.c_void_p
        self._library = library
        self._fma = library.function("peak_fma", ctypes.c_double, pointer, ctypes.c_int64)
        self._stream = library.function(
            "peak_stream", ctypes.c_double, pointer, pointer, pointer, ctypes.c_int64
        )
        self._read = library.function("peak_read", ctypes.c_double, pointer, pointer, ctypes.c_int64)
        self.lanes = int(library.function("peak_lanes", ctypes.c_int)())

    def measure(self, threads: int = 1, steps: int = FMA_STEPS, floats: int = STREAM_FLOATS) -> Peak:
        """The best of some rounds; all threads work at the same time."""
        flops = 2.0 * self.lanes * ACCUMULATORS * steps * threads
        moved = 12.0 * floats * threads
        seconds = [_together(threads, lambda: self._fma_once(steps)) for _ in range(ROUNDS)]
        arrays = [[np.ones(floats, np.float32) for _ in range(3)] for _ in range(threads)]
        mine = iter(arrays * ROUNDS)
        streams = [_together(threads, lambda: self._stream_once(next(mine), floats)) for _ in range(ROUNDS)]
        return Peak(flops / min(seconds) / 1e9, moved / min(streams) / 1e9, threads)

    def read(self, arrays: list[np.ndarray]) -> float:
        """Billions of bytes a second at which as many threads read one array each, all at the same time."""
        mine = iter(arrays)
        seconds = _together(len(arrays), lambda: self._read_once(next(mine)))
        return sum(a.nbytes for a in arrays) / seconds / 1e9

    def _read_once(self, array: np.ndarray) -> float:
        data = np.zeros(1, np.float32)
        vectors = array.nbytes // (4 * self.lanes)
        return float(self._read(data.ctypes.data, array.ctypes.data, vectors))

    def _fma_once(self, steps: int) -> float:
        data = np.asarray([0.5, 0.25, 0.0], np.float32)
        return float(self._fma(data.ctypes.data, steps))

    def _stream_once(self, arrays: list[np.ndarray], floats: int) -> float:
        c, a, b = (x.ctypes.data for x in arrays)
        return float(self._stream(c, a, b, floats))


def _together(threads: int, work: Callable[[], float]) -> float:
    """Seconds of the slowest of some threads that start together."""
    seconds: list[float] = []
    ready = threading.Barrier(threads)

    def one() -> None:
        ready.wait()
        seconds.append(work())

    workers = [threading.Thread(target=one) for _ in range(threads)]
    for w in workers:
        w.start()
    for w in workers:
        w.join()
    return max(seconds)
