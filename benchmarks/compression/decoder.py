"""What weights of few bits gain where a decoder makes one token: GPT-2, a step at a time, beside its f32.

    python -m benchmarks.compression.decoder [--layers N] [--threads N] [--turns N] [--jsonl FILE]
        [--scheme NAME ...] [--group N]

The network has random weights at the size that its authors published (`--layers 2` for a quick look).  The
module is quantised with the guard on, which keeps what would be slower or larger as it was; what is lost it
does not judge, since data for that cannot follow states.  Both executables make the same tokens' steps by
turns, with keys and values of the steps before in their states; logits are compared over all steps, as a
signal-to-noise ratio.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

import aino_ir as aino
from aino_ir.graph import Module
from benchmarks.generation import Step

Array = np.ndarray[Any, Any]

SCHEMES = ("int4-weight", "int8-weight")
LAYERS = 12
CONTEXT = 64
"""Tokens that the cache has room for."""

VOCABULARY = 50257


def step_module(layers: int, **options: Any) -> Module:
    """A step of GPT-2 with random weights."""
    import transformers

    torch.manual_seed(0)
    config = transformers.GPT2Config(n_layer=layers, initializer_range=0.05, **options)
    model: Any = transformers.GPT2LMHeadModel(config)
    step = Step(model.eval(), CONTEXT, 1).eval()
    made: Module = aino.load(step, (torch.ones(1, 1, dtype=torch.int64), torch.tensor([0])))
    return made


def steps(count: int, vocabulary: int) -> list[tuple[Array, Array]]:
    """(token, position) of one step after the other."""
    drawn = np.random.default_rng(2).integers(1, vocabulary, count)
    return [(np.array([[t]], np.int64), np.array([i], np.int64)) for i, t in enumerate(drawn)]


def compared(module: Module, scheme: str, options: argparse.Namespace, vocabulary: int) -> dict[str, Any]:
    """One scheme beside f32."""
    numbers = {"group": options.group} if scheme == "int4-weight" else {}
    small = aino.quantize(module, scheme, **numbers)
    exes = [aino.compile(m, threads=options.threads) for m in (module, small)]
    spent: tuple[list[float], list[float]] = ([], [])
    signal = noise = 0.0
    for inputs in steps(min(options.turns, CONTEXT), vocabulary):
        logits = []
        for exe, times in zip(exes, spent, strict=True):
            start = time.perf_counter()
            (made,) = exe.run(*inputs)
            times.append(time.perf_counter() - start)
            logits.append(np.asarray(made, np.float64))
        signal += float((logits[0] ** 2).sum())
        noise += float(((logits[1] - logits[0]) ** 2).sum())
    report = small.compression
    before, after = (1e3 * statistics.median(times) for times in spent)
    return {
        "network": f"gpt2, {options.layers} layers",
        "scheme": scheme,
        "group": options.group if scheme == "int4-weight" else 0,
        "applied": len(report.applied),
        "layers": len(report.rows),
        "refused": {r.name: r.reason for r in report.rows if not r.applied},
        "sqnr": 10 * float(np.log10(signal / noise)) if noise else None,
        "ms_before": before,
        "ms_after": after,
        "times_as_fast": before / after,
        "weight_bytes": [exe.report.weight_bytes for exe in exes],
        "decoding": sum(k["candidate"].startswith("decoding") for k in exes[1].report.kernels),
        "threads": options.threads,
    }


def line(row: dict[str, Any]) -> str:
    """A row for people."""
    share = f"{row['applied']} of {row['layers']} layers"
    times = f"{row['ms_before']:.2f} -> {row['ms_after']:.2f} ms, {row['times_as_fast']:.2f} times as fast"
    quality = "the same logits" if row["sqnr"] is None else f"{row['sqnr']:.1f} dB"
    return f"{row['network']}, {row['scheme']}: {share}, {times}, {quality}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what was asked for and print one line a scheme."""
    parser = argparse.ArgumentParser(description="A decoder's step with weights of few bits.")
    parser.add_argument("--layers", type=int, default=LAYERS)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--turns", type=int, default=40)
    parser.add_argument("--scheme", nargs="*", default=SCHEMES, choices=SCHEMES)
    parser.add_argument("--group", type=int, default=32)
    parser.add_argument("--jsonl", type=Path, help="where rows are appended")
    options = parser.parse_args(arguments)
    module = step_module(options.layers)
    for scheme in options.scheme:
        row = compared(module, scheme, options, VOCABULARY)
        if options.jsonl is not None:
            with options.jsonl.open("a") as file:
                file.write(json.dumps(row) + "\n")
        print(line(row), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
