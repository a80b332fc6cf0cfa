"""What pruning gains in time: sparse layers beside dense ones, ResNet-50 with few channels or weights.

    python -m benchmarks.compression.pruned_speed [--threads N] [--turns N] [--only TEXT] [--jsonl FILE]

Both models of a row run by turns in one process; the least and the median of the turns are kept.  The
weights are random, so nothing here speaks of accuracy.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import aino_ir as aino
from aino_ir.graph import Module
from aino_ir.types import tensor
from benchmarks.resnet50 import images, resnet50

Array = np.ndarray[Any, Any]

SPARSITY = 0.9

LINEAR = ((128, 768, 3072), (128, 3072, 768), (256, 1024, 1024), (512, 256, 256))
"""Rows, inputs, outputs."""

POINTWISE = ((64, 56, 256), (256, 56, 64), (256, 28, 512), (512, 14, 1024), (1024, 14, 256))
"""Input channels, height and width, output channels."""

WANTED = {"linear": 3.0, "pointwise": 3.0, "resnet50": 2.0}
"""How many times as fast each kind should be."""


def weight(rng: np.random.Generator, outputs: int, inputs: int, sparsity: float) -> Array:
    """A random matrix [outputs, inputs] with a share of zeros."""
    w = rng.standard_normal((outputs, inputs)).astype(np.float32) / np.float32(np.sqrt(inputs))
    return np.asarray(np.where(rng.random(w.shape) >= sparsity, w, np.float32(0)))


def linear(sizes: tuple[int, int, int], sparsity: float) -> tuple[Module, tuple[Array, ...]]:
    """relu(x W + c)."""
    rows, inputs, outputs = sizes
    rng = np.random.default_rng(0)
    b = aino.Builder()
    x = b.input("x", tensor("f32", rows, inputs))
    y = b.matmul(x, b.constant(weight(rng, outputs, inputs, sparsity)), transpose_rhs=True)
    b.output("y", b.relu(b.add(y, b.constant(rng.standard_normal(outputs).astype(np.float32)))))
    return b.module, (rng.standard_normal((rows, inputs)).astype(np.float32),)


def convolution(
    sizes: tuple[int, int, int], sparsity: float, *, kernel: int = 1, last: bool = True
) -> tuple[Module, tuple[Array, ...]]:
    """A convolution with bias and relu; data and result channels last, as within a network, or row-major."""
    inputs, side, outputs = sizes
    rng = np.random.default_rng(0)
    b = aino.Builder()
    shape = (1, side, side, inputs) if last else (1, inputs, side, side)
    x = b.input("x", tensor("f32", *shape))
    w = weight(rng, outputs, inputs * kernel**2, sparsity).reshape(outputs, inputs, kernel, kernel)
    border = (kernel // 2,) * 2
    attrs = {"strides": (1, 1), "dilations": (1, 1), "pads_before": border, "pads_after": border}
    c = b.constant(rng.standard_normal(outputs).astype(np.float32))
    y = b.relu(b.conv(b.transpose(x, perm=(0, 3, 1, 2)) if last else x, b.constant(w), c, **attrs))
    b.output("y", b.transpose(y, perm=(0, 2, 3, 1)) if last else y)
    return b.module, (rng.standard_normal(shape).astype(np.float32),)


def half_of_the_channels() -> tuple[Module, Module, tuple[Array, ...]]:
    """ResNet-50, and the same with half of its channels."""
    whole = aino.load(resnet50())
    return whole, aino.prune(whole, 0.5, structure="channel", scope="local"), (images(),)


def a_tenth_of_the_weights() -> tuple[Module, Module, tuple[Array, ...]]:
    """ResNet-50, and the same with a tenth of the weights of each layer where that pays."""
    whole = aino.load(resnet50())
    return whole, aino.prune(whole, SPARSITY, scope="local"), (images(),)


def row(
    kind: str,
    name: str,
    before: Module,
    after: Module,
    inputs: tuple[Array, ...],
    threads: int | None,
    turns: int,
) -> dict[str, Any]:
    """Both models, timed by turns."""
    exes = [aino.compile(m, threads=threads) for m in (before, after)]
    for exe in exes:
        exe.run(*inputs)
    spent: tuple[list[float], list[float]] = ([], [])
    for _ in range(turns):
        for exe, times in zip(exes, spent, strict=True):
            start = time.perf_counter()
            exe.run(*inputs)
            times.append(time.perf_counter() - start)
    least = [min(times) for times in spent]
    return {
        "kind": kind,
        "name": name,
        "ms_before": 1e3 * least[0],
        "ms_after": 1e3 * least[1],
        "median_ms_before": 1e3 * statistics.median(spent[0]),
        "median_ms_after": 1e3 * statistics.median(spent[1]),
        "times_as_fast": least[0] / least[1],
        "weight_bytes": [exe.report.weight_bytes for exe in exes],
        "candidates": sorted({k["candidate"].partition(":")[0] for k in exes[1].report.kernels}),
    }


def cases() -> dict[str, tuple[str, Callable[[], tuple[Module, Module, tuple[Array, ...]]]]]:
    """Name -> (kind, what makes both models and their inputs)."""

    def both(
        make: Callable[[tuple[int, int, int], float], tuple[Module, tuple[Array, ...]]],
        sizes: tuple[int, int, int],
    ) -> Callable[[], tuple[Module, Module, tuple[Array, ...]]]:
        def made() -> tuple[Module, Module, tuple[Array, ...]]:
            (dense, inputs), (sparse, _) = make(sizes, 0.0), make(sizes, SPARSITY)
            return dense, sparse, inputs

        return made

    out: dict[str, tuple[str, Callable[[], tuple[Module, Module, tuple[Array, ...]]]]] = {}
    for sizes in LINEAR:
        out["linear " + "x".join(map(str, sizes))] = ("linear", both(linear, sizes))
    for sizes in POINTWISE:
        out["1x1 {0}x{1}x{1} to {2}".format(*sizes)] = ("pointwise", both(convolution, sizes))
    out["resnet50, half of its channels"] = ("resnet50", half_of_the_channels)
    out["resnet50, a tenth of its weights"] = ("resnet50", a_tenth_of_the_weights)
    return out


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what was asked for and print one line a case."""
    parser = argparse.ArgumentParser(description="What pruning gains in time.")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--turns", type=int, default=30)
    parser.add_argument("--only", default="", help="cases whose name holds this")
    parser.add_argument("--jsonl", type=Path, help="where rows are appended")
    options = parser.parse_args(arguments)
    for name, (kind, make) in cases().items():
        if options.only not in name:
            continue
        before, after, inputs = make()
        found = row(kind, name, before, after, inputs, options.threads, options.turns)
        if options.jsonl is not None:
            with options.jsonl.open("a") as file:
                file.write(json.dumps(found) + "\n")
        verdict = f"{found['times_as_fast']:.2f} times as fast (wanted {WANTED[kind]:.0f})"
        times = f"{found['ms_before']:.3f} -> {found['ms_after']:.3f} ms"
        print(f"{name}: {times}, {verdict}, by {', '.join(found['candidates'])}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
