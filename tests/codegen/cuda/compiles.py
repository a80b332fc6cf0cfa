"""Every kernel of the operators' cases, or of ONNX models, compiled for devices: no GPU is needed for that.

    python -m tests.codegen.cuda.compiles [--target cuda:sm_80+sm_90a] [--shard i/n] [--model FILE ...]

Prints how many kernels there were, which the compiler rejects, and which spill registers.
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
        spilling: entry and architecture -> bytes that a thread spills.
        rejected: what the compiler said of units that it rejects.
        refused: why modules were not lowered.
    """

    kernels: int = 0
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
    return found


def modules_of_cases(count: int, number: int, rest: int = 0) -> Iterator[Module]:
    """Modules of the operators' cases that fall into a share."""
    mine = [c for c in all_cases() if share(c.name, count, number)][: rest or None]
    for start in range(0, len(mine), TOGETHER):
        yield joined(mine[start : start + TOGETHER])


def main(arguments: Sequence[str] | None = None) -> int:
    """Compile and print; 1 when something is rejected."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--target", default="cuda:sm_80+sm_90a")
    parser.add_argument("--shard", default="0/1", help="i/n: the i-th of n shares of the cases")
    parser.add_argument("--model", action="append", type=Path, help="an ONNX model, in place of cases")
    given = parser.parse_args(arguments)
    number, shares = parse_shard(given.shard)
    modules = map(aino.load, given.model) if given.model else modules_of_cases(shares, number)
    with opened_or_temporary() as store:
        found = count(iter(modules), given.target, find_cuda_toolchain(), store, 2 if given.model else 0)
    print(
        f"{found.kernels} kernels compiled, {len(found.spilling)} spill, {len(found.rejected)} units rejected"
    )
    for line in (*found.rejected, *found.refused, *(f"{k}: {v} bytes" for k, v in found.spilling.items())):
        print(line)
    return 1 if found.rejected or found.refused else 0


if __name__ == "__main__":
    sys.exit(main())
