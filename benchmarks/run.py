"""Measures the eight networks against the peers and writes benchmarks/RESULTS.md (`make bench`).

``python -m benchmarks.run [NAME ...] [--threads 1,2] [--exporter dynamo] [--vs onnxruntime,openvino]``
"""

from __future__ import annotations

import argparse
import datetime
import json
import subprocess
import sys
from pathlib import Path

from rich.console import Console

from aino_ir.driver.bench import ROUNDS, SECONDS_PER_ROUND, Comparison, compare, describe_machine, render
from benchmarks.workloads import EXPORTERS, NAMES, workload

RESULTS = Path(__file__).resolve().parent / "RESULTS.md"
PEERS = "onnxruntime,openvino"

PREAMBLE = """# Measured results

Milliseconds per call at batch 1, f32.  Each engine runs in a process of its own with the same number of
threads; engines take turns in {rounds} rounds of {seconds} s; a figure is the median over rounds of the
round's fastest call.  A ratio above 1 says how many times faster AINO is than the fastest peer.  The
last column is the largest difference from the first peer's outputs, relative to their largest value.
Written by `{command}`; networks have random weights (benchmarks/workloads.py).

{facts}
"""


def revision() -> str:
    """Return the commit of the checkout."""
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=RESULTS.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() or "unknown"


def _row(name: str, comparison: Comparison, peers: list[str]) -> str:
    cells = [name]
    for engine in ("aino", *peers):
        result = comparison.results[engine]
        cells.append("failed" if result.error else f"{1e3 * result.seconds:.2f}")
    fastest = min((r for r in comparison.measured if r.name != "aino"), key=lambda r: r.seconds, default=None)
    if fastest is None or comparison.results["aino"].error:
        cells += ["", ""]
    else:
        first = next(peer for peer in peers if not comparison.results[peer].error)
        cells += [f"{comparison.ratio(fastest.name):.2f}", f"{comparison.difference(first):.0e}"]
    return "| " + " | ".join(cells) + " |"


def report(done: dict[int, dict[str, Comparison]], peers: list[str], rounds: int, seconds: float) -> str:
    """Return RESULTS.md for comparisons by thread count and network."""
    versions = {r.name: r.version for rows in done.values() for c in rows.values() for r in c.measured}
    facts = describe_machine() | versions | {"commit": revision(), "date": datetime.date.today().isoformat()}
    text = PREAMBLE.format(
        rounds=rounds,
        seconds=seconds,
        command="make bench",
        facts="\n".join(f"- {k}: {v}" for k, v in facts.items()),
    )
    for threads, rows in done.items():
        heads = ["network", "aino", *peers, "ratio", "difference"]
        text += f"\n## {threads} thread{'s' if threads > 1 else ''}\n\n| " + " | ".join(heads) + " |\n"
        text += "| --- |" + " ---: |" * (len(heads) - 1) + "\n"
        text += "".join(_row(name, comparison, peers) + "\n" for name, comparison in rows.items())
        for name, comparison in rows.items():
            text += "".join(f"\n`{r.name}` on {name}: {r.error[:300]}\n" for r in comparison.left_out)
    return text


def main(argv: list[str] | None = None) -> int:
    """Measure, print tables, and write the results file after every network."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=main.__doc__)
    parser.add_argument("names", nargs="*", default=list(NAMES), metavar="NAME", help="default: all eight")
    parser.add_argument("--threads", default="1,2", help="thread counts, separated by commas")
    parser.add_argument("--exporter", choices=EXPORTERS, default="dynamo")
    parser.add_argument("--vs", default=PEERS, help=f"peers, separated by commas (default {PEERS})")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--seconds", type=float, default=SECONDS_PER_ROUND)
    parser.add_argument("--output", type=Path, default=RESULTS, help="the results file")
    options = parser.parse_args(argv)
    peers = [name for name in options.vs.split(",") if name]
    console = Console()
    done: dict[int, dict[str, Comparison]] = {}
    for threads in map(int, options.threads.split(",")):
        for name in options.names:
            made = workload(name, options.exporter)
            comparison = compare(
                made.path,
                made.inputs,
                ["aino", *peers],
                threads=threads,
                rounds=options.rounds,
                seconds=options.seconds,
                progress=lambda text: print(text, file=sys.stderr, flush=True),
            )
            console.print(name, render(comparison))
            done.setdefault(threads, {})[name] = comparison
            options.output.write_text(report(done, peers, options.rounds, options.seconds))
    plain = {str(t): {n: c.to_json() for n, c in rows.items()} for t, rows in done.items()}
    options.output.with_suffix(".json").write_text(json.dumps(plain, indent=1) + "\n")
    return int(any(c.results["aino"].error for rows in done.values() for c in rows.values()))


if __name__ == "__main__":
    sys.exit(main())
