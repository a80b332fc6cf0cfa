"""What compiling costs as graphs grow: CPU seconds per stage and memory for random graphs of rising size.

``python -m benchmarks.compile_cost [--nodes 10000,30000,100000] [--cc]`` compiles each graph in a process of
its own.  With ``--cc`` the C compiler runs too, on an empty cache; its processes' time stands apart.  The
growth exponent is that of AINO's own time: 1 is linear.
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
from collections.abc import Callable
from typing import Any, TypeVar

from rich.console import Console
from rich.table import Table

from benchmarks.random_dag import random_dag

C_COMPILER_STAGE = "cc"
NODES = "10000,30000,100000"

T = TypeVar("T")


def measure(nodes: int, seed: int, cc: bool = False) -> dict[str, Any]:
    """Compile one graph in this process.

    Returns its nodes, CPU seconds per stage, and this process's peak memory in
    bytes after each stage.
    """
    import aino_ir as aino
    from aino_ir.codegen.c.compile import compile_units
    from aino_ir.codegen.c.toolchain import find_toolchain
    from aino_ir.driver.api import collector_frozen, compile_options
    from aino_ir.driver.pipeline import Compilation
    from aino_ir.runtime.store import opened_or_temporary

    model = random_dag(nodes, seed)
    compilation = Compilation(compile_options("c"))
    target = compilation.options.target.variant(compilation.options.target.isa)
    seconds: dict[str, float] = {}
    peaks: dict[str, int] = {}

    def stage(name: str, work: Callable[[], T]) -> T:
        start = cpu_seconds()
        made = work()
        seconds[name] = cpu_seconds() - start
        peaks[name] = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return made

    with collector_frozen():
        module = stage("load", lambda: aino.load(model))
        module = stage("passes", lambda: compilation.optimize(module))
        plan = stage("lower", lambda: compilation.plan(module.main, target, "random_dag"))
        emission = stage("emit", lambda: compilation.emissions({target.isa: {"main": plan}}))[target.isa]
    if cc:
        with opened_or_temporary(True) as store:
            tool = find_toolchain(store)
            stage(
                C_COMPILER_STAGE,
                lambda: compile_units(emission.units, emission.headers, tool, store, timeout=3600),
            )
    return {
        "nodes": len(model.graph.node),
        "seconds": seconds,
        "total": sum(seconds.values()),
        "kernels": len(plan.kernels),
        "undone": len(compilation.passes.undone),
        "peak_bytes": peaks,
    }


def cpu_seconds() -> float:
    """Processor time of this process and of those that it waited for."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def measure_in_child(nodes: int, seed: int, cc: bool = False) -> dict[str, Any]:
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
            *(["--cc"] if cc else []),
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
        title="compile cost, CPU seconds",
        caption=f"growth exponent {growth(rows):.2f}" if len(rows) > 1 else "",
    )
    for heading in ("nodes", *stages, "all but cc", "total", "kernels", "undone", "peak GB by stage"):
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(
            f"{row['nodes']:,}",
            *(f"{row['seconds'].get(stage, 0.0):.1f}" for stage in stages),
            f"{own_seconds(row):.1f}",
            f"{row['total']:.1f}",
            str(row["kernels"]),
            str(row["undone"]),
            " ".join(f"{b / 1e9:.2f}" for b in row["peak_bytes"].values()),
        )
    return table


def main(argv: list[str] | None = None) -> int:
    """Compile the graphs, smallest first, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compile_cost", description=main.__doc__)
    parser.add_argument("--nodes", default=NODES, help=f"sizes, separated by commas (default {NODES})")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cc", action="store_true", help="run the C compiler too")
    parser.add_argument("--child", type=int, metavar="NODES", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.child:
        print(json.dumps(measure(options.child, options.seed, options.cc)))
        return 0
    sizes = sorted(map(int, options.nodes.split(",")))
    rows = [measure_in_child(nodes, options.seed, options.cc) for nodes in sizes]
    Console().print(render(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
