"""Every kernel of a compiled model beside what the machine can do, measured in the same run.

``python -m benchmarks.kernels [NAME | MODEL.onnx] [--threads 1] [--runs 50] [--exporter dynamo]``

A row is a kernel call: milliseconds on thread 0, GFLOP/s and GB/s, both also as a share of the peak of as
many threads (benchmarks/peak.py), and the spills in the kernel's hot loops (benchmarks/spills.py).  Bytes
are what the kernel must at least move; when they come from caches, the share of GB/s can pass 100 %.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import aino_ir as aino
from aino_ir.codegen.c.toolchain import find_toolchain
from aino_ir.driver.inputs import inputs_for
from aino_ir.runtime.profile import Profile
from aino_ir.runtime.store import opened_or_temporary
from aino_ir.runtime.tables import format_table
from benchmarks.peak import Peak, PeakMeter
from benchmarks.spills import HotLoop, hot_loops
from benchmarks.workloads import EXPORTERS, NAMES, SMALL_NAMES, workload

HEADINGS = ("kernel", "candidate", "ms", "%", "GFLOP/s", "of peak", "GB/s", "of peak", "spills", "ops")


def spills_by_kernel(loops: list[HotLoop] | None) -> dict[str, str]:
    """Function -> spills in its hot loops, with their multiply-adds: ``2/96``."""
    totals: dict[str, tuple[int, int]] = {}
    for loop in loops or []:
        spills, multiply_adds = totals.get(loop.function, (0, 0))
        totals[loop.function] = (spills + loop.spills, multiply_adds + loop.multiply_adds)
    return {name: f"{spills}/{count}" for name, (spills, count) in totals.items()}


def table(profile: Profile, peak: Peak, spills: dict[str, str], candidates: dict[int, str]) -> str:
    """The rows, the slowest first, and totals."""
    whole = profile.ms or 1.0
    rows = [
        (
            row.kernel,
            candidates.get(row.step, ""),
            f"{row.ms:.4f}",
            f"{100 * row.ms / whole:.1f}",
            f"{row.gflops:.1f}",
            f"{row.gflops / peak.gflops:.0%}",
            f"{row.gbytes:.1f}",
            f"{row.gbytes / peak.gbytes:.0%}",
            spills.get(row.kernel, ""),
            row.ops[:60],
        )
        for row in sorted(profile.rows, key=lambda r: -r.ms)
    ]
    done = sum(row.gflops * row.ms for row in profile.rows) / whole
    return "\n".join(
        [
            format_table(HEADINGS, rows, right=tuple(range(2, 9))),
            f"{profile.ms:.4f} ms a run, {profile.threads} threads, {done:.1f} GFLOP/s "
            f"({done / peak.gflops:.0%} of the peak)",
            f"peak in this run: {peak.gflops:.1f} GFLOP/s, {peak.gbytes:.1f} GB/s",
        ]
    )


def measured(exe: Any, inputs: dict[str, Any], runs: int) -> str:
    """The table of one executable."""
    variant = exe.artifact.choose_variant()
    with opened_or_temporary(True) as store:
        meter = PeakMeter(variant.isa, find_toolchain(store), store)
        before = meter.measure(exe.threads)
        profile = exe.profile(inputs, runs=runs)
        peak = before.best(meter.measure(exe.threads))
    spills = spills_by_kernel(hot_loops(exe.artifact.library(variant)))
    candidates = {int(k["step"]): k["candidate"] for k in exe.report.kernels}
    return table(profile, peak, spills, candidates)


def main(argv: list[str] | None = None) -> int:
    """Compile, profile, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kernels", description=main.__doc__)
    parser.add_argument("model", nargs="?", default="resnet50", help="a workload's name or an ONNX file")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--exporter", choices=EXPORTERS, default="dynamo")
    options = parser.parse_args(argv)
    if options.model in (*NAMES, *SMALL_NAMES):
        made = workload(options.model, options.exporter)
        path, inputs = made.path, dict(made.inputs)
    else:
        path, inputs = Path(options.model), {}
    exe = aino.compile(path, threads=options.threads)
    print(measured(exe, inputs or inputs_for(exe.inputs, (), 0, {}, exe.defaults), options.runs))
    return 0


if __name__ == "__main__":
    sys.exit(main())
