"""Every kernel of the operators' cases, or of networks, compiled for devices: no GPU is needed for that.

    python -m tests.codegen.cuda.compiles [--target cuda:sm_80+sm_90a] [--shard i/n]
    python -m tests.codegen.cuda.compiles [--model FILE ...] [--workloads] [--small]

Prints how many kernels there were, which the compiler rejects, and which spill registers; of networks a line
each, with the most registers that a thread takes.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import aino_ir as aino
from aino_ir.codegen.cuda.backend import entries_of
from aino_ir.codegen.cuda.cubins import compile_cubins
from aino_ir.codegen.cuda.toolchain import CudaToolchain, find_cuda_toolchain
from aino_ir.driver.api import compile_options
from aino_ir.driver.pipeline import Compilation
from aino_ir.errors.base import AinoError
from aino_ir.errors.cuda import CudaCompilerFailed
from aino_ir.graph import Module
from aino_ir.runtime.store import Store, opened_or_temporary
from tests.conformance.batch import joined
from tests.conformance.cases import all_cases, share
from tests.conformance.rows import parse_shard

TOGETHER = 40
"""Cases in one module."""


@dataclass
class Count:
    """What became of kernels.

    Attributes:
        kernels: entries that were compiled, of all architectures together.
        registers: entry and architecture -> registers of a thread.
        spilling: entry and architecture -> bytes that a thread spills.
        rejected: what the compiler said of units that it rejects.
        refused: why modules were not lowered.
    """

    kernels: int = 0
    registers: dict[str, int] = field(default_factory=dict)
    spilling: dict[str, int] = field(default_factory=dict)
    rejected: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)


def count(modules: Iterator[Module], target: str, tool: CudaToolchain, store: Store, level: int = 0) -> Count:
    """Compile the kernels of modules for every architecture of a target."""
    found = Count()
    for module in modules:
        compilation = Compilation(compile_options(target, level=level, verify="off"))
        try:
            emissions = compilation.emissions(compilation.program(module).plans)
        except AinoError as error:
            found.refused.append(f"{error.code} {error.message}")
            continue
        for isa, emission in emissions.items():
            for unit in emission.units:
                try:
                    (cubin,) = compile_cubins([unit], emission.headers, tool, store, jobs=1)
                except CudaCompilerFailed as error:
                    found.rejected.append(f"{isa}: {error.message}")
                    continue
                found.kernels += len(list(entries_of(unit.text)))
                spills = {f"{n} ({isa})": r.spill_bytes for n, r in cubin.resources.items() if r.spill_bytes}
                found.spilling |= spills
                found.registers |= {f"{n} ({isa})": r.registers for n, r in cubin.resources.items()}
    return found


def modules_of_cases(count: int, number: int, rest: int = 0) -> Iterator[Module]:
    """Modules of the operators' cases that fall into a share."""
    mine = [c for c in all_cases() if share(c.name, count, number)][: rest or None]
    for start in range(0, len(mine), TOGETHER):
        yield joined(mine[start : start + TOGETHER])


def modules_of_networks(files: Sequence[Path], names: Sequence[str]) -> Iterator[tuple[str, Module]]:
    """ONNX models of files and reference networks, with what they are called."""
    for file in files:
        yield file.stem, aino.load(file)
    for name in names:
        from benchmarks.workloads import workload

        yield name, aino.load(workload(name).path)


def said(found: Count) -> list[str]:
    """What became of kernels, in lines."""
    most = max(found.registers.values(), default=0)
    first = (
        f"{found.kernels} kernels compiled, {len(found.spilling)} spill, {len(found.rejected)} units rejected, "
        f"{most} registers at most"
    )
    return [first, *found.rejected, *found.refused, *(f"{k}: {v} bytes" for k, v in found.spilling.items())]


def main(arguments: Sequence[str] | None = None) -> int:
    """Compile and print; 1 when something is rejected."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--target", default="cuda:sm_80+sm_90a")
    parser.add_argument("--shard", default="0/1", help="i/n: the i-th of n shares of the cases")
    parser.add_argument(
        "--model", action="append", type=Path, default=[], help="an ONNX model, in place of cases"
    )
    parser.add_argument("--workloads", action="store_true", help="the eight reference networks")
    parser.add_argument("--small", action="store_true", help="with --workloads: their small forms")
    given = parser.parse_args(arguments)
    number, shares = parse_shard(given.shard)
    names: Sequence[str] = ()
    if given.workloads:
        from benchmarks.workloads import NAMES, SMALL_NAMES

        names = SMALL_NAMES if given.small else NAMES
    wrong, tool = False, find_cuda_toolchain()
    with opened_or_temporary() as store:
        if not given.model and not names:
            found = count(modules_of_cases(shares, number), given.target, tool, store)
            print(*said(found), sep="\n", flush=True)
            return 1 if found.rejected or found.refused else 0
        for name, module in modules_of_networks(given.model, names):
            found = count(iter([module]), given.target, tool, store, level=2)
            print(f"{name}: ", end="")
            print(*said(found), sep="\n    ", flush=True)
            wrong = wrong or bool(found.rejected or found.refused)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
