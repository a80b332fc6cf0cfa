"""A product as tensor cores do it: the instruction, the order of its terms, how factors lie."""

from __future__ import annotations

from dataclasses import dataclass, replace

from aino_ir.codegen.cuda.instructions import LINE_BYTES, Instruction, on_tensor_cores
from aino_ir.codegen.cuda.panels import BANK_CHUNKS, PanelShape, panel_shape
from aino_ir.codegen.cuda.product import Product, analyse, innermost_last, run_along, terms_last
from aino_ir.codegen.cuda.tilings import Tiling
from aino_ir.kernels import KernelSpec, Packing
from aino_ir.loops.expr import Read
from aino_ir.target import Target


@dataclass(frozen=True)
class Plan:
    """A product as tensor cores do it.

    Attributes:
        of: its factors are as panels hold them.
        instruction: what multiplies.
        packings: how constants are to lie, by operand.
    """

    of: Product
    instruction: Instruction
    packings: tuple[tuple[int, Packing], ...] = ()

    def shape(self, side: int, height: int, line_bytes: int, *, grouped: bool = False) -> PanelShape:
        """The panel of a factor that has so many lines, and terms in bytes, in a tile.

        As `grouped` warps want it, its rows are cut to 128 bytes.
        """
        of, factor, storage = self.of, self.of.factors[side], self.instruction.storages[side]
        term, line = (run_along(of.spec, factor, axes) for axes in (of.terms, (of.rows, of.columns)[side]))
        if not isinstance(factor, Read) or of.spec.operands[factor.operand].dtype is not storage:
            term, line = replace(term, whole=False), replace(line, whole=False)
        made = panel_shape(term, line, (height, line_bytes // storage.bytes), storage)
        return replace(made, cut=BANK_CHUNKS) if grouped else made

    def panel(self, side: int, tiling: Tiling) -> PanelShape:
        """The panel of a factor in a stage of a tiling."""
        height = (tiling.rows, tiling.columns)[side]
        return self.shape(side, height, tiling.line_bytes, grouped=tiling.grouped)


def planned(spec: KernelSpec, target: Target) -> Plan | str:
    """How tensor cores do a spec, or why they do not."""
    plan = _plan(spec, target)
    if isinstance(plan, str):
        return plan
    packings = []
    for side, factor in enumerate(plan.of.factors):
        layout = terms_last(plan.of, factor)
        shape = plan.shape(side, LINE_BYTES, LINE_BYTES)
        together = shape.copied and not shape.turned
        if layout is not None and not together and isinstance(factor, Read):
            packings.append((factor.operand, Packing(layout)))
    if not packings:
        return plan
    operands = list(spec.operands)
    for number, packing in packings:
        operands[number] = replace(operands[number], layout=packing.layout, allocated=None)
    packed = _plan(replace(spec, operands=tuple(operands)), target)
    assert isinstance(packed, Plan)
    return replace(packed, packings=tuple(packings))


def _plan(spec: KernelSpec, target: Target) -> Plan | str:
    found = analyse(spec)
    if isinstance(found, str):
        return found
    matched = on_tensor_cores(found, target)
    if isinstance(matched, str):
        return matched
    instruction, of = matched
    return Plan(innermost_last(of), instruction)
