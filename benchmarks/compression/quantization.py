"""Quantization of networks for digits: accuracy, bytes, time, and the same model in ONNX Runtime.

    python -m benchmarks.compression.quantization [--seeds 0,1,2] [--networks mlp,cnn] [--jsonl FILE]

For each network, seed and scheme one row: accuracy of the f32 model and of the quantised one (both compiled
for target c), the share of multiply-adds that are quantised (layers that the guard refused count as not),
bytes of the artifacts, and the time of a batch, both models by turns.  A scheme holds when the mean over the
seeds loses no more than its limit.  Static int8 is also written as QDQ ONNX, run by ONNX Runtime on 1,000
pictures and compared: the largest difference in quanta of the output.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import aino_ir as aino
from aino_ir.graph import Module
from benchmarks.compression.digits import (
    Array,
    Digits,
    accuracy,
    batches,
    measured,
    module_of,
)

LIMITS = {"int8": 0.5, "int8-dynamic": 0.5, "int8-weight": 0.5, "int4-weight": 1.0}
"""Points of accuracy that a scheme may lose on average."""

BATCHES = {"int8": 128, "int8-dynamic": 128, "int8-weight": 1, "int4-weight": 1}
"""Pictures at a time: weights alone are what a single picture waits for."""

CALIBRATION = 256
"""Training pictures that are looked at."""

TURNS = 15
"""Runs of each model that are timed."""


def compressed_row(name: str, seed: int, scheme: str, net: Any, data: Digits) -> dict[str, Any]:
    """One scheme on one trained network."""
    batch = BATCHES[scheme]
    module = module_of(net, batch)
    small = aino.quantize(module, scheme, calibration=batches(data.train[:CALIBRATION], batch))
    before, after = aino.compile(module), aino.compile(small)
    first, second = (accuracy(exe.run, data.test, data.test_labels, batch) for exe in (before, after))
    seconds = by_turns(before, after, data.test[:batch])
    report = small.compression
    row = {
        "network": name,
        "seed": seed,
        "scheme": scheme,
        "accuracy_f32": first,
        "accuracy": second,
        "share_of_macs": report.share_of_macs,
        "refused": {r.name: r.reason for r in report.refused},
        "artifact_bytes_f32": artifact_bytes(before),
        "artifact_bytes": artifact_bytes(after),
        "constant_bytes_f32": report.bytes_before,
        "constant_bytes": report.bytes_after,
        "seconds_f32": seconds[0],
        "seconds": seconds[1],
    }
    if scheme == "int8":
        row["quanta_from_onnxruntime"] = quanta_apart(small, data)
    return row


def by_turns(before: Any, after: Any, x: Array) -> tuple[float, float]:
    """Median seconds of both models, run by turns."""
    spent: tuple[list[float], list[float]] = ([], [])
    for _ in range(TURNS):
        for exe, times in zip((before, after), spent, strict=True):
            start = time.perf_counter()
            exe.run(x)
            times.append(time.perf_counter() - start)
    return statistics.median(spent[0]), statistics.median(spent[1])


def artifact_bytes(exe: Any) -> int:
    """Size of a saved artifact."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "m.aino"
        exe.save(place)
        return place.stat().st_size


def quanta_apart(module: Module, data: Digits, count: int = 1000) -> float:
    """Largest difference from ONNX Runtime on `count` pictures, in 255ths of the outputs' range."""
    import onnxruntime

    model = aino.to_onnx(module).SerializeToString()
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    exe = aino.compile(module)
    pictures = np.concatenate([data.test, data.train])[:count]
    ours = np.concatenate([exe.run(x)[0] for x in batches(pictures)])[:count]
    theirs = np.concatenate([session.run(None, {name: x})[0] for x in batches(pictures)])[:count]
    return float(np.abs(ours - theirs).max() / ((ours.max() - ours.min()) / 255))


def verdicts(rows: Sequence[dict[str, Any]]) -> list[str]:
    """One line for each network and scheme: the mean loss of accuracy against its limit."""
    lines = []
    for name, scheme in dict.fromkeys((r["network"], r["scheme"]) for r in rows):
        chosen = [r for r in rows if (r["network"], r["scheme"]) == (name, scheme)]
        loss = 100 * statistics.mean(r["accuracy_f32"] - r["accuracy"] for r in chosen)
        share = statistics.mean(r["share_of_macs"] for r in chosen)
        smaller = statistics.mean(r["constant_bytes_f32"] / r["constant_bytes"] for r in chosen)
        faster = statistics.mean(r["seconds_f32"] / r["seconds"] for r in chosen)
        verdict = "holds" if loss <= LIMITS[scheme] else "DOES NOT HOLD"
        apart = max((r["quanta_from_onnxruntime"] for r in chosen if scheme == "int8"), default=None)
        peer = "" if apart is None else f", {apart:.2f} quanta from ONNX Runtime"
        lines.append(
            f"{name} {scheme}: loses {loss:.2f} points (limit {LIMITS[scheme]}), {share:.0%} of MACs, "
            f"weights {smaller:.1f} times smaller, {faster:.2f} times as fast{peer}: {verdict}"
        )
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what was asked for, print the verdicts; 1 when one does not hold."""
    return measured(arguments, __doc__.splitlines()[0], "schemes", LIMITS, compressed_row, verdicts)


if __name__ == "__main__":
    sys.exit(main())
