"""Any computation by its default schedule: the ground under the special generators, and their judge."""

from __future__ import annotations

from collections.abc import Iterable
from math import prod

from aino_ir.codegen.kernels.canonical import drop_unit_axes, merge_axes
from aino_ir.codegen.kernels.emit import vector_lanes
from aino_ir.codegen.kernels.naming import header
from aino_ir.codegen.kernels.roles import extent_or, strided_operand
from aino_ir.codegen.kernels.tiles import step_cycles
from aino_ir.codegen.schedule.defaults import default_schedule, default_tiling
from aino_ir.codegen.schedule.engine import lower
from aino_ir.compute import Compute
from aino_ir.kernels import Candidate, KernelSpec, Reject
from aino_ir.loops.stmt import LoopFn
from aino_ir.target import Target

CLOCK = 3.5e9
"""Cycles a second that modelled costs assume; only ratios matter."""

SYMBOLIC_EXTENT = 128

UNPACKED = 3.0
"""How much longer a step takes than the model says, since operands lie as they are, not in panels."""

STRIDED = 3.0
"""The same again where vectors are gathered lane by lane."""

UNBLOCKED = 10.0
"""The same where no operand is read again from registers: moving data is all there is to it, and the
special generators know how."""


class ScheduledGenerator:
    """A `Compute` with its default schedule."""

    name = "scheduled"

    def candidates(self, spec: KernelSpec, target: Target) -> Iterable[Candidate | Reject]:
        """One candidate for every computation."""
        if not isinstance(spec.program, Compute):
            yield Reject(self.name, "not index notation over axes")
            return
        canonical = merge_axes(drop_unit_axes(spec))
        program = canonical.program
        assert isinstance(program, Compute)
        lanes = vector_lanes(spec, target)
        tiling = default_tiling(canonical, target, lanes)
        width = lanes if tiling.lane is not None else 1
        steps = prod(extent_or(a.extent, SYMBOLIC_EXTENT) for a in (*program.axes, *program.reduce))
        loads = float(tiling.vectors + tiling.rows)
        cycles = steps / (width * tiling.positions) * step_cycles(tiling.rows, tiling.vectors, loads, 0.0)
        longer = UNPACKED if tiling.rows > 1 else UNBLOCKED
        if tiling.lane is not None and strided_operand(canonical, program.body, tiling.lane.name):
            longer *= STRIDED
        name = f"default schedule, {tiling.rows}x{tiling.vectors * width}"
        yield Candidate(self.name, name, (("lanes", lanes),), cost=cycles * longer / CLOCK + 1e-6)

    def build(self, spec: KernelSpec, candidate: Candidate, target: Target) -> LoopFn:
        """The loops."""
        canonical = merge_axes(drop_unit_axes(spec))
        schedule = default_schedule(canonical, target, dict(candidate.params)["lanes"])
        steps = ", then ".join(map(str, schedule.steps))
        return lower(canonical, schedule, (*header(spec, candidate), f"trace: {steps}"))
