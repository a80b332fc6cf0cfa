"""What the products of the eight networks are on TVM: tiles, vectors and threads, read off their text.

``python -m benchmarks.tvm_schedules [NAME ...]``

Networks are lowered for `tvm:llvm`, nothing is built or run. Every product (matrix products, convolutions)
is listed with what made it; the command fails where one has no register tile, no vectors or no threads.
Products of fewer than `FEW` multiplications are let off: one thread does them in the time that it takes
to wake another one.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path

import aino_ir as aino
from aino_ir.codegen.kernels.roles import Roles, analyse
from aino_ir.codegen.tvm.backend import printed_kernels
from aino_ir.codegen.tvm.kernel import PrintedKernel
from aino_ir.compute import Compute
from aino_ir.driver.api import compile_options
from aino_ir.driver.pipeline import Compilation
from aino_ir.graph import Module
from aino_ir.kernels import Kernel
from benchmarks.workloads import NAMES, workload

FEW = 1 << 15
"""Multiplications that are worth neither threads nor a tile."""

_ACCUMULATED = re.compile(r"^ +(\w+)\[ALL\d+\] = T\.fma\(.*, \1\[ALL\d+\]\)$", re.MULTILINE)
"""A vector of sums in finished loops."""


@dataclass(frozen=True)
class Product:
    """One product's kernel.

    Attributes:
        kernel: its name.
        candidate: what made it, and how.
        multiplications: how many it takes.
        lacking: which of tiles, vectors and threads it has not.
    """

    kernel: str
    candidate: str
    multiplications: int
    lacking: tuple[str, ...]

    @property
    def short(self) -> bool:
        """Whether it should have what it lacks."""
        return bool(self.lacking) and self.multiplications >= FEW


def lacking(printed: PrintedKernel) -> tuple[str, ...]:
    """Which of tiles, vectors and threads a product has not, by its schedule or, without one, its loops."""
    if printed.schedule:
        has = {"tiles": "s.unroll(", "vectors": "s.vectorize(", "threads": "s.parallel("}
        return tuple(what for what, step in has.items() if step not in printed.schedule)
    sums = set(_ACCUMULATED.findall(printed.text))
    found = {"tiles": len(sums) > 1, "vectors": bool(sums), "threads": "T.parallel(" in printed.text}
    return tuple(what for what, there in found.items() if not there)


def products(module: Module) -> Iterator[Product]:
    """The products of a module's kernels for TVM on this machine."""
    compilation = Compilation(compile_options("tvm:llvm", verify="off"))
    ((isa, plan),) = compilation.plans(module).items()
    printed, _ = printed_kernels([plan], compilation.options.target.variant(isa), {})
    kernels = {kernel.function.name: kernel for kernel in plan.kernels.values()}
    for text in printed:
        kernel = kernels[text.name]
        if isinstance(analyse(kernel.spec), Roles):
            candidate = f"{kernel.candidate.generator}: {kernel.candidate.name}"
            yield Product(text.name, candidate, _multiplications(kernel), lacking(text))


def _multiplications(kernel: Kernel) -> int:
    """Terms of all sums; extents that are no numbers count as one."""
    program = kernel.spec.program
    assert isinstance(program, Compute)
    return prod(a.extent for a in (*program.axes, *program.reduce) if isinstance(a.extent, int))


def main(argv: list[str] | None = None) -> int:
    """List products; 1 where one lacks what it should have."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tvm_schedules", description=main.__doc__)
    parser.add_argument("names", nargs="*", default=list(NAMES), metavar="NAME", help="default: all eight")
    short = 0
    for name in parser.parse_args(argv).names:
        path: Path = workload(name).path
        for product in products(aino.load(path)):
            short += product.short
            lacks = f"lacks {', '.join(product.lacking)}" if product.lacking else "good"
            excused = " (few multiplications)" if product.lacking and not product.short else ""
            print(f"{name:22} {product.kernel:40} {product.candidate:40} {lacks}{excused}", flush=True)
    return int(short > 0)


if __name__ == "__main__":
    sys.exit(main())
