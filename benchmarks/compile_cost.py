"""What compiling costs as graphs grow: seconds per stage and memory for random graphs of rising size.

``python -m benchmarks.compile_cost [--nodes 10000,30000,100000]`` compiles each graph in a process of its
own with an empty cache; the C compiler's time stands apart.  The growth exponent is that of AINO's own
time: 1 is linear.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import subprocess
import sys
import tempfile
import time
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.random_dag import random_dag

C_COMPILER_STAGE = "cc"
NODES = "10000,30000,100000"


def measure(nodes: int, seed: int) -> dict[str, Any]:
    """Compile one graph in this process; return its nodes, seconds per stage and peak memory in bytes."""
    import aino_ir as aino

    model = random_dag(nodes, seed)
    start = time.perf_counter()
    executable = aino.compile(model, target="c", threads=1)
    return {
        "nodes": len(model.graph.node),
        "seconds": dict(executable.report.seconds),
        "total": time.perf_counter() - start,
        "kernels": len({row["kernel"] for row in executable.report.kernels}),
        "peak_bytes": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
    }


def measure_in_child(nodes: int, seed: int) -> dict[str, Any]:
    """Do what `measure` does in a fresh process with an empty cache."""
    with tempfile.TemporaryDirectory(prefix="aino-cost-") as cache:
        command = [
            sys.executable,
            "-m",
            "benchmarks.compile_cost",
            "--child",
            str(nodes),
            "--seed",
            str(seed),
        ]
        environment = os.environ | {"AINO_CACHE_DIR": cache}
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment, check=True)
    row: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return row


def own_seconds(row: dict[str, Any]) -> float:
    """Return AINO's own time: everything but the C compiler's."""
    return float(row["total"] - row["seconds"].get(C_COMPILER_STAGE, 0.0))


def growth(rows: list[dict[str, Any]]) -> float:
    """Return the exponent of AINO's own time between the smallest and the largest graph."""
    first, last = rows[0], rows[-1]
    return math.log(own_seconds(last) / own_seconds(first)) / math.log(last["nodes"] / first["nodes"])


def render(rows: list[dict[str, Any]]) -> Table:
    """Return the rows as a table for a terminal, one column a stage."""
    stages = list(dict.fromkeys(stage for row in rows for stage in row["seconds"]))
    table = Table(
        title="compile cost, seconds", caption=f"growth exponent {growth(rows):.2f}" if len(rows) > 1 else ""
    )
    for heading in ("nodes", *stages, "all but cc", "total", "kernels", "peak GB"):
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(
            f"{row['nodes']:,}",
            *(f"{row['seconds'].get(stage, 0.0):.1f}" for stage in stages),
            f"{own_seconds(row):.1f}",
            f"{row['total']:.1f}",
            str(row["kernels"]),
            f"{row['peak_bytes'] / 1e9:.2f}",
        )
    return table


def main(argv: list[str] | None = None) -> int:
    """Compile the graphs, smallest first, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compile_cost", description=main.__doc__)
    parser.add_argument("--nodes", default=NODES, help=f"sizes, separated by commas (default {NODES})")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--child", type=int, metavar="NODES", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.child:
        print(json.dumps(measure(options.child, options.seed)))
        return 0
    rows = [measure_in_child(nodes, options.seed) for nodes in sorted(map(int, options.nodes.split(",")))]
    Console().print(render(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
