"""The back end for GPUs: plans as units of CUDA C++, and their cubins as a library."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from aino_ir.codegen.c.backend import Emission, kernel_units
from aino_ir.codegen.c.compile import SourceUnit
from aino_ir.codegen.cuda.cubins import Cubin
from aino_ir.codegen.cuda.runtime import device_headers
from aino_ir.plan import Plan
from aino_ir.runtime.cubins import CubinLibrary, Resources
from aino_ir.target import Target

_ENTRY = re.compile(r"^AINO_GLOBAL(?:_BOUNDED)?\(\d+\) void (\w+)\(", re.MULTILINE)


def emit_cuda(plans: Sequence[Plan], target: Target, **_: object) -> Emission:
    """CUDA C++ of plans that share kernels; what happens between kernels is data, see `plan_data`."""
    texts = kernel_units(plans, target)
    units = [SourceUnit(f"{plans[0].name}_kernels_{n}", text, target.isa) for n, text in enumerate(texts)]
    return Emission(units, dict(device_headers()), ())


def entries_of(text: str) -> Iterator[str]:
    """The names of the kernels that a unit defines."""
    return (found[1] for found in _ENTRY.finditer(text))


def library_of(units: Sequence[SourceUnit], cubins: Sequence[Cubin], compiler: str) -> CubinLibrary:
    """The units of one architecture, compiled by `compiler`, as a library."""
    entries = {}
    for number, (unit, cubin) in enumerate(zip(units, cubins, strict=True)):
        for name in entries_of(unit.text):
            entries[name] = (number, cubin.resources.get(name, Resources()))
    return CubinLibrary(tuple(c.data for c in cubins), entries, compiler)


def spilling(plans: Sequence[Plan], resources: Mapping[str, Resources]) -> dict[str, int]:
    """Kernels whose registers do not suffice -> bytes that a thread spills."""
    found = {}
    for plan in plans:
        for name in plan.kernels:
            bytes_ = resources.get(f"{name}_kernel", Resources()).spill_bytes
            if bytes_:
                found[name] = bytes_
    return found
