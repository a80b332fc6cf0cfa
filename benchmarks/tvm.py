"""The eight networks on TVM: AINO's kernels built by it, its own default pipeline, and AINO's C.

``python -m benchmarks.tvm [NAME ...] [--threads 2] [--rounds 6] [--output benchmarks/TVM.jsonl]``

One row a network goes to the JSONL file: the milliseconds of each engine (as `benchmarks.run` takes them,
engines taking turns), how many times faster `tvm:llvm` is than TVM's own pipeline (ONNX frontend, pipeline
``zero``, no tuning), how many times slower than the target ``c``, and how far from its outputs.
The command fails where `tvm:llvm` is slower than TVM itself, or more than `MOST` times slower than ``c``.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console

from aino_ir.driver.bench import ROUNDS, SECONDS_PER_ROUND, Comparison, compare, describe_machine, render
from benchmarks.run import revision
from benchmarks.workloads import EXPORTERS, NAMES, workload

RESULTS = Path(__file__).resolve().parent / "TVM.jsonl"

OURS, C, DEFAULT = "aino-tvm", "aino", "tvm"
MOST = 3.0
"""How many times slower than ``c`` kernels built by TVM may be, without tuning."""


def row(name: str, comparison: Comparison) -> dict[str, Any]:
    """The figures of one network; engines that failed say why."""
    results = comparison.results
    found: dict[str, Any] = {"network": name, "threads": comparison.threads}
    for engine, result in results.items():
        found[engine] = {"error": result.error} if result.error else {"ms": round(1e3 * result.seconds, 3)}
    if not results[OURS].error:
        if DEFAULT in results and not results[DEFAULT].error:
            found["faster than TVM"] = round(comparison.ratio(DEFAULT, OURS), 2)
        if not results[C].error:
            found["slower than c"] = round(comparison.ratio(OURS, C), 2)
            found["difference"] = comparison.difference(C, OURS)
    return found


def shortfall(found: dict[str, Any]) -> str:
    """What a network's figures lack; empty where they reach the bar."""
    if "error" in found[OURS]:
        return str(found[OURS]["error"])
    if found.get("faster than TVM", 1.0) < 1.0:
        return f"{found['faster than TVM']} times as fast as TVM itself"
    if found.get("slower than c", 1.0) > MOST:
        return f"{found['slower than c']} times slower than c, not {MOST:g}"
    return ""


def main(argv: list[str] | None = None) -> int:
    """Measure, and append a row after every network; 1 where one does not reach the bar."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tvm", description=main.__doc__)
    parser.add_argument("names", nargs="*", default=list(NAMES), metavar="NAME", help="default: all eight")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--exporter", choices=EXPORTERS, default="dynamo")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--seconds", type=float, default=SECONDS_PER_ROUND)
    parser.add_argument("--without-tvm", action="store_true", help="leave TVM's own pipeline out")
    parser.add_argument("--output", type=Path, default=RESULTS, help="where rows are appended")
    options = parser.parse_args(argv)
    console = Console()
    engines = [OURS, C, *([] if options.without_tvm else [DEFAULT])]
    short = 0
    for name in options.names:
        made = workload(name, options.exporter)
        comparison = compare(
            made.path,
            made.inputs,
            engines,
            threads=options.threads,
            rounds=options.rounds,
            seconds=options.seconds,
            progress=lambda text: print(text, file=sys.stderr, flush=True),
        )
        console.print(name, render(comparison))
        found = row(name, comparison)
        lacking = shortfall(found)
        short += bool(lacking)
        if lacking:
            console.print(f"{name}: {lacking}")
        facts = {**describe_machine(), "commit": revision(), "date": time.strftime("%Y-%m-%d", time.gmtime())}
        with options.output.open("a", encoding="utf-8") as rows:
            rows.write(json.dumps({**found, **facts}, sort_keys=True) + "\n")
    return int(short > 0)


if __name__ == "__main__":
    sys.exit(main())
