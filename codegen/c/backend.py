"""The C back end: a finished plan as translation units, weights and an artifact's facts."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from aino_ir.codegen.c import cortex_m
from aino_ir.codegen.c.compile import SourceUnit
from aino_ir.codegen.c.dialects import dialect
from aino_ir.codegen.c.platforms import platform
from aino_ir.codegen.c.program import Program, print_program
from aino_ir.codegen.c.unit import print_unit
from aino_ir.loops.stmt import LoopFn
from aino_ir.plan import Plan, runs
from aino_ir.target import Target

DEVICES = (cortex_m.CORTEX_M,)
"""Instruction sets with a folder of their own, which registers them."""

UNIT_LINES = 1500
"""Lines of kernels in one translation unit: units compile in parallel, each has a fixed cost."""


@dataclass(frozen=True)
class Emission:
    """Generated sources of one ISA variant.

    Attributes:
        units: translation units, the main ones last.
        headers: text by file name.
        programs: the main units with their public headers.
        script: kernels in another language than C, which another compiler makes an object of; or empty.
    """

    units: list[SourceUnit]
    headers: dict[str, str]
    programs: tuple[Program, ...]
    script: str = ""

    @property
    def program(self) -> Program:
        """The only main unit."""
        (program,) = self.programs
        return program


def emit(plan: Plan, target: Target, *, alone_below: int = 0, profile: bool = False) -> Emission:
    """C text of a plan; `alone_below` and `profile` as for `print_program`."""
    return emit_all([plan], target, alone_below=alone_below, profile=profile)


def emit_all(
    plans: Sequence[Plan], target: Target, *, alone_below: int = 0, profile: bool = False
) -> Emission:
    """C text of plans that go into one library: each has its own interface, they share their kernels."""
    spoken, largest = dialect(target.isa), platform(target.arch, target.system).largest_bytes
    programs = [
        print_program(
            p,
            describe(p),
            alone_below=alone_below,
            profile=profile,
            interface=spoken.interface,
            largest_bytes=largest,
        )
        for p in plans
    ]
    units = [
        SourceUnit(f"{plans[0].name}_kernels_{i}", text, target.isa)
        for i, text in enumerate(kernel_units(plans, target))
    ]
    units += [
        SourceUnit(p.name, program.source, target.isa) for p, program in zip(plans, programs, strict=True)
    ]
    headers = dict(spoken.runtime(target.system)) if plans else {}
    headers |= {f"{p.name}.h": program.header for p, program in zip(plans, programs, strict=True)}
    return Emission(units, headers, tuple(programs))


def kernel_units(plans: Sequence[Plan], target: Target) -> Iterator[str]:
    """Kernels in order of first use, packed into units of about UNIT_LINES lines."""
    used: dict[str, LoopFn] = {}
    for plan in plans:
        for run in runs(plan):
            used.setdefault(run.kernel, plan.kernels[run.kernel].function)
    batch: list[LoopFn] = []
    size = 0
    for fn in used.values():
        batch.append(fn)
        size += statement_count(fn)
        if size >= UNIT_LINES:
            yield print_unit(batch, target)
            batch, size = [], 0
    if batch:
        yield print_unit(batch, target)


def statement_count(fn: LoopFn) -> int:
    """Statements of a kernel, nested ones included."""

    def count(block: tuple[object, ...]) -> int:
        total = 0
        for s in block:
            total += 1
            for part in ("body", "then", "otherwise"):
                total += count(getattr(s, part, ()))
        return total

    return count(fn.body) + count(fn.prologue)


def describe(plan: Plan) -> str:
    """JSON that NAME_describe returns."""
    return json.dumps(
        {
            "name": plan.name,
            "inputs": [{"name": n, "type": str(t)} for n, t in plan.inputs],
            "outputs": [{"name": n, "type": str(t)} for n, t in plan.outputs],
            "symbols": plan.entry_symbols,
            "decided": plan.decided,
            "arena_bytes": str(plan.arena_bytes),
        },
        sort_keys=True,
    )
