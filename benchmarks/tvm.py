"""The eight networks on TVM: AINO's kernels built by it, its own default pipeline, and AINO's C.

``python -m benchmarks.tvm [NAME ...] [--check] [--without-tvm] [--tvm-limit 900] [--threads 2] [--rounds 3]``
``python -m benchmarks.tvm NAME --profile`` shows the kernels of both targets beside each other, no more.

Every network is compiled for `tvm:llvm` in a process of its own first, and its outputs are compared with
eager PyTorch's; then the engines take turns (`benchmarks.run`'s way). One row a network goes to the JSONL
file: the difference, seconds of compilation, kernels that were replaced, milliseconds of each engine, how
many times faster `tvm:llvm` is than TVM's own pipeline (ONNX frontend, pipeline ``zero``, no tuning) and
how many times slower than the target ``c``. Where a call takes over five seconds, as many of TVM's own
do, it is timed once, warm; where its pipeline fails, or needs more than `--tvm-limit` seconds to
begin or for a call, the row says so. A network that has such a row of this commit is not run again
(`--fresh`).
The command fails where outputs differ, where `tvm:llvm` is slower than TVM itself, or more than `MOST`
times slower than ``c``.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

from rich.console import Console

from aino_ir.driver.bench import SECONDS_PER_ROUND, Comparison, compare, describe_machine, render
from benchmarks.run import revision
from benchmarks.tvm_kernels import kernels
from benchmarks.workloads import EXPORTERS, NAMES, workload
from benchmarks.zoo import TOLERANCE, Row, check_in_child

RESULTS = Path(__file__).resolve().parent / "TVM.jsonl"
TARGET = "tvm:llvm"

OURS, C, DEFAULT = "aino-tvm", "aino", "tvm"
MOST = 3.0
"""How many times slower than ``c`` kernels built by TVM may be, without tuning."""

ROUNDS = 3
SETUP_TIMEOUT = 900.0
"""Seconds that an engine may take to begin, and then for a call: TVM's own pipeline takes minutes."""


def checked(checks: Row) -> dict[str, Any]:
    """What the comparison with eager PyTorch gave."""
    if checks.error:
        return {"error": checks.error}
    return {
        "difference from PyTorch": checks.difference,
        "compile seconds": round(checks.compile_seconds, 1),
        "replaced kernels": len(checks.wrong_kernels),
        "undone passes": len(checks.undone),
        "Python nodes": len(checks.python_nodes),
    }


def timed(comparison: Comparison) -> dict[str, Any]:
    """The engines' figures; those that failed say why."""
    results = comparison.results
    found: dict[str, Any] = {
        engine: {"error": result.error} if result.error else {"ms": round(1e3 * result.seconds, 3)}
        for engine, result in results.items()
    }
    if not results[OURS].error:
        if DEFAULT in results and not results[DEFAULT].error:
            found["faster than TVM"] = round(comparison.ratio(DEFAULT, OURS), 2)
        if not results[C].error:
            found["slower than c"] = round(comparison.ratio(OURS, C), 2)
            found["difference"] = comparison.difference(C, OURS)
    return found


def shortfall(found: dict[str, Any]) -> str:
    """What a network's figures lack; empty where they reach the bar."""
    if "error" in found:
        return str(found["error"])
    if not found.get("difference from PyTorch", 0.0) <= TOLERANCE:
        return f"{found['difference from PyTorch']:.1e} from PyTorch's outputs, not {TOLERANCE:g}"
    if "error" in found.get(OURS, {}):
        return str(found[OURS]["error"])
    if found.get("faster than TVM", 1.0) < 1.0:
        return f"{found['faster than TVM']} times as fast as TVM itself"
    if found.get("slower than c", 1.0) > MOST:
        return f"{found['slower than c']} times slower than c, not {MOST:g}"
    return ""


def done(path: Path, commit: str, engines: Collection[str]) -> set[str]:
    """Networks that have a row of a commit with figures, or errors, of some engines.

    The rows themselves make a checkout dirty.
    """
    if not path.exists():
        return set()
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    clean = commit.removesuffix("-dirty")
    mine = [r for r in rows if r["commit"].removesuffix("-dirty") == clean]
    return {r["network"] for r in mine if all(engine in r for engine in engines)}


def engines_of(options: argparse.Namespace) -> list[str]:
    """Engines that take turns; none where only outputs are compared."""
    if options.check:
        return []
    return [OURS, C] if options.without_tvm else [OURS, C, DEFAULT]


def measured(name: str, options: argparse.Namespace, console: Console) -> dict[str, Any]:
    """The row of one network."""
    found: dict[str, Any] = {"network": name, "threads": options.threads}
    found |= checked(check_in_child(f"{name}.{options.exporter}", options.threads, TARGET))
    if options.check or "error" in found:
        return found
    made = workload(name, options.exporter)
    comparison = compare(
        made.path,
        made.inputs,
        engines_of(options),
        threads=options.threads,
        rounds=options.rounds,
        seconds=options.seconds,
        setup_timeout=options.tvm_limit,
        progress=lambda text: print(text, file=sys.stderr, flush=True),
    )
    console.print(render(comparison))
    return found | timed(comparison)


def main(argv: list[str] | None = None) -> int:
    """Measure, and append a row after every network; 1 where one does not reach the bar."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tvm", description=main.__doc__)
    parser.add_argument("names", nargs="*", default=list(NAMES), metavar="NAME", help="default: all eight")
    parser.add_argument("--check", action="store_true", help="compare outputs alone, take no times")
    parser.add_argument("--profile", action="store_true", help="show the kernels, add no row")
    parser.add_argument("--fresh", action="store_true", help="also what has a row of this commit")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--exporter", choices=EXPORTERS, default="dynamo")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--seconds", type=float, default=SECONDS_PER_ROUND)
    parser.add_argument("--without-tvm", action="store_true", help="leave TVM's own pipeline out")
    parser.add_argument(
        "--tvm-limit",
        type=float,
        default=SETUP_TIMEOUT,
        metavar="SECONDS",
        help="the longest that an engine may take to begin, and for a call",
    )
    parser.add_argument("--output", type=Path, default=RESULTS, help="where rows are appended")
    options = parser.parse_args(argv)
    console = Console()
    if options.profile:
        for name in options.names:
            print(kernels(workload(name, options.exporter), TARGET, "c", options.threads))
        return 0
    commit = revision()
    known = set() if options.fresh else done(options.output, commit, engines_of(options))
    facts = {**describe_machine(), "commit": commit, "date": time.strftime("%Y-%m-%d", time.gmtime())}
    short = 0
    for name in options.names:
        if name in known:
            console.print(f"{name}: has a row of {commit}")
            continue
        found = measured(name, options, console)
        lacking = shortfall(found)
        short += bool(lacking)
        console.print(f"{name}: {lacking or 'good'}")
        with options.output.open("a", encoding="utf-8") as rows:
            rows.write(json.dumps({**found, **facts}, sort_keys=True) + "\n")
    return int(short > 0)


if __name__ == "__main__":
    sys.exit(main())
