"""Sparse layers beside dense ones of the same shape: Linear, convolutions of real networks, single rows.

    python -m benchmarks.compression.sparse [--sparsity S] [--threads N] [--turns N] [--only TEXT]
        [--shard I/N] [--jsonl FILE]

Both executables of a row take turns in one process; the least and the median of the turns are kept.
Convolutions are measured row-major, as a model gives them, and channels last, as they lie among dense
convolutions.  Weights are random: nothing here speaks of accuracy.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from aino_ir.graph import Module
from benchmarks.compression.pruned_speed import convolution, linear, row

Array = np.ndarray[Any, Any]
Made = tuple[Module, tuple[Array, ...]]

LINEAR = ((128, 768, 768), (128, 768, 3072), (128, 3072, 768), (256, 1024, 1024), (512, 256, 256))
"""Rows, inputs, outputs: BERT-base and others."""

SINGLE = ((1, 1024, 1024), (1, 4096, 1024), (1, 4096, 4096))
"""One row: bound by how fast weights arrive."""

RESNET50 = (
    *((64, 56, 64), (64, 56, 256), (256, 56, 64), (256, 56, 128), (512, 28, 128), (128, 28, 512)),
    *((512, 28, 256), (1024, 14, 256), (256, 14, 1024), (1024, 14, 512), (2048, 7, 512), (512, 7, 2048)),
)
MOBILENET_V2 = ((144, 56, 24), (192, 28, 32), (384, 14, 64), (96, 14, 576), (576, 14, 96), (320, 7, 1280))
THREE_BY_THREE = ((64, 56, 64), (128, 28, 128), (256, 14, 256), (512, 7, 512))
"""Channels in, height and width, channels out."""


def cases() -> dict[str, tuple[str, Callable[[float], Made]]]:
    """Name -> (kind, what makes the model at a sparsity)."""
    out: dict[str, tuple[str, Callable[[float], Made]]] = {}
    for kind, table in (("linear", LINEAR), ("single row", SINGLE)):
        for sizes in table:
            out[f"{kind} " + "x".join(map(str, sizes))] = (kind, partial(linear, sizes))
    for network, shapes in (("resnet50", RESNET50), ("mobilenet_v2", MOBILENET_V2)):
        for sizes in shapes:
            name = "1x1 {0}x{1}x{1} to {2}".format(*sizes) + f" ({network})"
            out[f"{name}, row-major"] = ("pointwise", partial(convolution, sizes, last=False))
            out[f"{name}, channels last"] = ("pointwise", partial(convolution, sizes))
    for sizes in THREE_BY_THREE:
        name = "3x3 {0}x{1}x{1} to {2} (resnet50)".format(*sizes)
        out[f"{name}, row-major"] = ("3x3", partial(convolution, sizes, kernel=3, last=False))
        out[f"{name}, channels last"] = ("3x3", partial(convolution, sizes, kernel=3))
    return out


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what was asked for, one line a case; cases that the file holds already are left out."""
    parser = argparse.ArgumentParser(description="Sparse layers beside dense ones.")
    parser.add_argument("--sparsity", type=float, default=0.9)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--turns", type=int, default=30)
    parser.add_argument("--only", default="", help="cases whose name holds this")
    parser.add_argument("--shard", default="1/1", help="I/N: every Nth case from the Ith on")
    parser.add_argument("--jsonl", type=Path, help="where rows are appended")
    options = parser.parse_args(arguments)
    part, parts = (int(n) for n in options.shard.split("/"))
    done = _done(options.jsonl, options.sparsity)
    for name, (kind, make) in list(cases().items())[part - 1 :: parts]:
        if options.only not in name or name in done:
            continue
        (dense, inputs), (sparse, _) = make(0.0), make(options.sparsity)
        found = row(kind, name, dense, sparse, inputs, options.threads, options.turns)
        found["sparsity"] = options.sparsity
        if options.jsonl is not None:
            with options.jsonl.open("a") as file:
                file.write(json.dumps(found) + "\n")
        times = f"{found['ms_before']:.3f} -> {found['ms_after']:.3f} ms"
        kinds = ", ".join(found["candidates"])
        print(f"{name}: {times}, {found['times_as_fast']:.2f} times as fast, by {kinds}", flush=True)
    return 0


def _done(path: Path | None, sparsity: float) -> set[str]:
    """Names of the rows that a file holds."""
    if path is None or not path.exists():
        return set()
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return {r["name"] for r in rows if r["sparsity"] == sparsity}


if __name__ == "__main__":
    sys.exit(main())
