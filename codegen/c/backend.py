"""The C back end: a finished plan as translation units, weights and an artifact's facts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

from aino_ir.codegen.c.compile import SourceUnit
from aino_ir.codegen.c.program import Program, print_program
from aino_ir.codegen.c.runtime import runtime_headers
from aino_ir.codegen.c.unit import print_unit
from aino_ir.loops.stmt import LoopFn
from aino_ir.plan import Plan, runs
from aino_ir.target import Target

UNIT_LINES = 1500
"""Lines of kernels in one translation unit: units compile in parallel, each has a fixed cost."""


@dataclass(frozen=True)
class Emission:
    """Generated sources of one ISA variant.

    Attributes:
        units: translation units, the main one last.
        headers: text by file name.
        program: the main unit with its public header.
    """

    units: list[SourceUnit]
    headers: dict[str, str]
    program: Program


def emit(plan: Plan, target: Target, *, alone_below: int = 0, profile: bool = False) -> Emission:
    """C text of a plan; `alone_below` and `profile` as for `print_program`."""
    program = print_program(plan, describe(plan), alone_below=alone_below, profile=profile)
    units = [
        SourceUnit(f"{plan.name}_kernels_{i}", text, target.isa)
        for i, text in enumerate(_kernel_units(plan, target))
    ]
    units.append(SourceUnit(plan.name, program.source, target.isa))
    headers = {**runtime_headers(), f"{plan.name}.h": program.header}
    return Emission(units, headers, program)


def _kernel_units(plan: Plan, target: Target) -> Iterator[str]:
    """Kernels in order of first use, packed into units of about UNIT_LINES lines."""
    order = dict.fromkeys(r.kernel for r in runs(plan))
    batch: list[LoopFn] = []
    size = 0
    for name in order:
        fn = plan.kernels[name].function
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
