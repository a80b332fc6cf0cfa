"""The reference networks in their small form, with every kernel emulated, beside the interpreter.

    python -m tests.codegen.cuda.networks [NAME ...]

Prints for each network how many kernels of which generator ran, and by how much results differ at most, as
a share of the largest.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

import aino_ir as aino
from benchmarks.workloads import SMALL_NAMES, workload

TARGET = "c:cuda-emu"
TOLERANCE = 1e-4
"""Of the largest element; the networks are of f32, and their sums have at most some thousand terms."""


@dataclass(frozen=True)
class Emulated:
    """What became of a network.

    Attributes:
        generators: generator -> kernels that it made.
        python: nodes that ran in Python.
        wrong: kernels that the check of each kernel rejected.
        difference: largest difference from the interpreter, of all results, over the largest element.
    """

    generators: Counter[str]
    python: list[str]
    wrong: list[str]
    difference: float

    @property
    def right(self) -> bool:
        """Whether all of it ran emulated, with the interpreter's results."""
        return not self.python and not self.wrong and self.difference <= TOLERANCE


def emulated(name: str) -> Emulated:
    """Compile the network called `name` for the emulation and run it there and in the interpreter."""
    made = workload(name)
    executable = aino.compile(made.path, TARGET, threads=1)
    report = executable.report
    results = executable.run(*made.inputs.values())
    expected = aino.compile(made.path, "reference").run(*made.inputs.values())
    difference = 0.0
    for got, want in zip(results, expected, strict=True):
        assert (got.dtype, got.shape) == (want.dtype, want.shape)
        assert np.isfinite(want).all()
        difference = max(difference, float(np.max(np.abs(got - want)) / np.max(np.abs(want))))
    generators = Counter(str(row["candidate"]).partition(":")[0] for row in report.kernels)
    return Emulated(
        generators, list(map(str, report.python_nodes)), list(report.checks["kernels"]["wrong"]), difference
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run and print; 1 when something differs."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("names", nargs="*", default=SMALL_NAMES, metavar="NAME", help="default: all eight")
    wrong = False
    for name in parser.parse_args(arguments).names:
        found = emulated(name)
        kernels = ", ".join(f"{n} {g}" for g, n in found.generators.most_common())
        print(f"{name}: {kernels}; differs by {found.difference:.1e}", end="")
        print("" if found.right else f"; wrong: {found.wrong}, in Python: {found.python}", flush=True)
        wrong = wrong or not found.right
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
