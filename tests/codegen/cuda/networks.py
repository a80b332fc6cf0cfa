"""The reference networks in their small form, with every kernel emulated, beside the interpreter.

    python -m tests.codegen.cuda.networks [--dtype bf16] [NAME ...]

Prints for each network how many kernels of which generator ran, and by how much results differ at most, as
a share of the largest; in 16 bits also how far the interpreter itself is from f32.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import aino_ir as aino
from aino_ir.dtypes import DTYPES
from benchmarks.workloads import SMALL_NAMES, workload

Array = np.ndarray[Any, Any]

TARGET = "c:cuda-emu"
TOLERANCES = {"f32": 1e-4, "f16": 1e-2, "bf16": 8e-2}
"""Of the largest element; sums have at most some thousand terms, and layers round to the dtype one after another."""


@dataclass(frozen=True)
class Emulated:
    """What became of a network.

    Attributes:
        generators: generator -> kernels that it made.
        python: nodes that ran in Python.
        wrong: kernels that the check of each kernel rejected.
        difference: largest difference from the interpreter, of all results, over the largest element.
        tolerance: how much of it is right.
        rounding: the interpreter's own difference from the network in f32.
    """

    generators: Counter[str]
    python: list[str]
    wrong: list[str]
    difference: float
    tolerance: float = TOLERANCES["f32"]
    rounding: float = 0.0

    @property
    def right(self) -> bool:
        """Whether all of it ran emulated, with the interpreter's results."""
        return not self.python and not self.wrong and self.difference <= self.tolerance


def network(name: str, dtype: str) -> tuple[Any, list[Array]]:
    """A model and inputs: the ONNX file of a network, or the PyTorch network in 16 bits."""
    made = workload(name)
    inputs = list(made.inputs.values())
    if dtype == "f32":
        return made.path, inputs
    import torch

    storage = {"bf16": torch.bfloat16, "f16": torch.float16}[dtype]
    tensors = [torch.from_numpy(x) for x in inputs]
    tensors = [t.to(storage) if t.is_floating_point() else t for t in tensors]
    arrays = [x.astype(DTYPES[dtype].numpy) if x.dtype.kind == "f" else x for x in inputs]
    return aino.load(made.model.to(storage), example_inputs=tuple(tensors)), arrays


def emulated(name: str, dtype: str = "f32") -> Emulated:
    """Compile the network called `name` for the emulation and run it there and in the interpreter."""
    model, inputs = network(name, dtype)
    executable = aino.compile(model, TARGET, threads=1)
    report = executable.report
    results = executable.run(*inputs)
    expected = aino.compile(model, "reference").run(*inputs)
    assert [(x.dtype, x.shape) for x in results] == [(x.dtype, x.shape) for x in expected]
    exact = list(workload(name).outputs.values())
    generators = Counter(str(row["candidate"]).partition(":")[0] for row in report.kernels)
    return Emulated(
        generators,
        list(map(str, report.python_nodes)),
        list(report.checks["kernels"]["wrong"]),
        largest_difference(results, expected),
        TOLERANCES[dtype],
        largest_difference(expected, exact),
    )


def largest_difference(results: Sequence[Array], expected: Sequence[Array]) -> float:
    """Of all results, over the largest element of what is expected."""
    found = 0.0
    for got, want in zip(map(np.float64, results), map(np.float64, expected), strict=True):
        assert np.isfinite(want).all()
        found = max(found, float(np.max(np.abs(got - want)) / np.max(np.abs(want))))
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Run and print; 1 when something differs."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--dtype", choices=sorted(TOLERANCES), default="f32")
    parser.add_argument("names", nargs="*", default=SMALL_NAMES, metavar="NAME", help="default: all eight")
    wrong = False
    given = parser.parse_args(arguments)
    for name in given.names:
        found = emulated(name, given.dtype)
        kernels = ", ".join(f"{n} {g}" for g, n in found.generators.most_common())
        print(f"{name}, {given.dtype}: {kernels}; differs by {found.difference:.1e}", end="")
        if given.dtype != "f32":
            print(f"; the interpreter from f32 by {found.rounding:.1e}", end="")
        print("" if found.right else f"; wrong: {found.wrong}, in Python: {found.python}", flush=True)
        wrong = wrong or not found.right
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
