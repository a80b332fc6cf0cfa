"""`make demo`: builds a ResNet-50, compiles it for this machine, runs it and compares it with ONNX Runtime.

Needs the core dependencies and onnxruntime; no PyTorch and no download beyond the packages.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

import aino_ir as aino
from aino_ir.driver.bench import Comparison, compare, describe_machine
from benchmarks.resnet50 import images, resnet50

BUILD = Path(__file__).resolve().parent.parent / "build" / "demo"
TOLERANCE = 1e-4
"""Largest difference from ONNX Runtime, relative to its largest output."""


def largest_difference(ours: np.ndarray[Any, Any], peer: np.ndarray[Any, Any]) -> float:
    """Return max|ours - peer| / max|peer|."""
    return float(np.max(np.abs(ours - peer)) / np.max(np.abs(peer)))


def run_peer(path: Path, image: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return ONNX Runtime's logits."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {"image": image})
    return np.asarray(logits)


def results_table(
    executable: Any, comparison: Comparison, cold: float, warm: float, difference: float
) -> Table:
    """Return the demo's table: one row a fact, AINO beside ONNX Runtime."""
    report = executable.report
    table = Table(title=f"ResNet-50, 224x224, batch 1, f32, {comparison.threads} thread(s)")
    for heading, side in (("", "left"), ("AINO", "right"), ("ONNX Runtime", "right")):
        table.add_column(heading, justify=side)  # type: ignore[arg-type]
    ours, peer = comparison.results["aino"], comparison.results["onnxruntime"]

    def cells(what: Any) -> tuple[str, str]:
        return tuple("failed" if r.error else what(r) for r in (ours, peer))  # type: ignore[return-value]

    table.add_row("latency", *cells(lambda r: f"{1e3 * r.seconds:.2f} ms"))
    table.add_row("speed", *cells(lambda r: f"{report.flops / r.seconds / 1e9:.1f} GFLOP/s"))
    table.add_row("arena", f"{report.arena_bytes:,} bytes")
    table.add_row(
        "compiled in", f"{cold:.1f} s", f"{peer.setup_seconds:.1f} s (load)" if not peer.error else ""
    )
    table.add_row("again, from the cache", f"{warm:.2f} s")
    table.add_row("kernels", str(len(report.kernels)))
    table.add_row("largest difference", f"{difference:.1e}")
    for result in comparison.left_out:
        table.caption = f"{result.name}: {result.error[:300]}"
    return table


def main(argv: list[str] | None = None) -> int:
    """Build, compile, run, check and print the table; return 1 when the outputs differ."""
    parser = argparse.ArgumentParser(prog="make demo", description=main.__doc__)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--size", type=int, default=224, help="image size in pixels (default 224)")
    options = parser.parse_args(argv)
    console = Console()
    facts = describe_machine()
    console.print(
        f"AINO {aino.__version__} on {facts['processor']}, {facts['cores']} core(s)", highlight=False
    )
    shutil.rmtree(BUILD, ignore_errors=True)
    BUILD.mkdir(parents=True)
    os.environ["AINO_CACHE_DIR"] = str(BUILD / "cache")  # so that the first compilation is a cold one
    path, image = BUILD / "resnet50.onnx", images(size=options.size)
    with console.status("building a ResNet-50 with onnx.helper and seeded weights"):
        path.write_bytes(resnet50(size=options.size).SerializeToString())
    console.print(f"built {path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path}")
    with console.status("compiling it to C for this machine"):
        start = time.perf_counter()
        executable = aino.compile(path, target="c", threads=options.threads)
        cold = time.perf_counter() - start
        start = time.perf_counter()
        aino.compile(path, target="c", threads=options.threads)
        warm = time.perf_counter() - start
    console.print(f"compiled in {cold:.1f} s, again in {warm:.2f} s")
    (logits,) = executable.run(image)
    difference = largest_difference(logits, run_peer(path, image))
    with console.status("measuring, engines in turns") as status:
        comparison = compare(
            path,
            {"image": image},
            ("aino", "onnxruntime"),
            threads=options.threads,
            progress=lambda text: status.update(f"measuring: {text}"),
        )
    console.print(results_table(executable, comparison, cold, warm, difference))
    agrees = difference <= TOLERANCE
    console.print(
        f"outputs {'agree' if agrees else 'DIFFER'}: {difference:.1e} against {TOLERANCE:.0e} allowed"
    )
    return 0 if agrees and not comparison.left_out else 1


if __name__ == "__main__":
    sys.exit(main())
