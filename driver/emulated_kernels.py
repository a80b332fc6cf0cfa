"""Kernels for GPUs one by one on the CPU: the emulation of their text, as a library that can be tried.

It runs what the device would run, with every access watched (`codegen/cuda/emulation.py`), and is thousands
of times slower; kernels with much work are not tried.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from aino_ir.codegen.c.compile import SourceUnit, compile_units
from aino_ir.codegen.c.dialects import dialect
from aino_ir.codegen.c.program import kernel_names, kernel_table
from aino_ir.codegen.c.toolchain import Toolchain
from aino_ir.codegen.c.unit import print_unit
from aino_ir.errors.printing import NoSpelling
from aino_ir.plan import Plan
from aino_ir.runtime.store import Store
from aino_ir.target import parse_target

ISA = "cuda-emu"

WORK_LIMIT = 2e8
"""Kernels whose meaning takes more operations are not tried: seconds in the emulation."""


@dataclass(frozen=True)
class EmulatedKernels:
    """The kernels of plans, compiled for the emulation.

    Attributes:
        library: with a table of kernels for each plan, as the C target's have.
        left_out: kernel -> why the emulation does not have it.
    """

    library: bytes
    left_out: dict[str, str] = field(default_factory=dict)


def emulated_kernels(plans: Sequence[Plan], toolchain: Toolchain, store: Store) -> EmulatedKernels:
    """Compile the kernels of plans for the emulation.

    Raises:
        CompilerFailed: the C compiler rejects them.
    """
    target = parse_target(f"c:{ISA}").variant(ISA)
    texts: dict[str, str] = {}
    left_out: dict[str, str] = {}
    for plan in plans:
        for name in kernel_names(plan):
            if name not in texts and name not in left_out:
                try:
                    texts[name] = print_unit([plan.kernels[name].function], target)
                except NoSpelling as refusal:
                    left_out[name] = refusal.message
    units = [SourceUnit(f"emulated_{n}", text, ISA) for n, text in enumerate(texts.values())]
    tables = [
        SourceUnit(f"{p.name}_table", f"#include <stdint.h>\n\n{kernel_table(p, set(texts))}\n", ISA)
        for p in plans
        if kernel_names(p)
    ]
    headers = dict(dialect(ISA).runtime("linux"))
    return EmulatedKernels(compile_units([*units, *tables], headers, toolchain, store)[ISA], left_out)
