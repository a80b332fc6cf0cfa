"""Steps of control flow: branches and loops around the steps of regions, and the extents they decide."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from aino_ir.codegen.lower.carried import Copies
from aino_ir.codegen.lower.compose import symbol_bounds
from aino_ir.codegen.lower.phases import bind_anew, bind_extent, emit_requirements
from aino_ir.codegen.lower.regions import Cell, LoopStorage
from aino_ir.compute import Compute
from aino_ir.dims import DimLike, dmin, is_static, symbol
from aino_ir.dtypes import i64
from aino_ir.kernels import KernelSpec, Result
from aino_ir.loops.expr import index
from aino_ir.op import Op
from aino_ir.ops.control import If
from aino_ir.plan import Branch, Extend, Repeat, Require, Run, Step, View
from aino_ir.symbols import Check

if TYPE_CHECKING:
    from aino_ir.codegen.lower.lowering import Lowering


def emit_control(lowering: Lowering, op: Op) -> None:
    """Add the steps of a choice, a loop or a scan to the plan."""
    if isinstance(op, If):
        emit_choice(lowering, op)
    else:
        emit_loop(lowering, op)


def emit_choice(lowering: Lowering, op: If) -> None:
    """A branch; where its regions' results differ in extents, a second one that copies them."""
    choice = lowering.storage.regions.choices[op]
    condition = lowering.storage.views[op.condition]
    blocks = []
    for number, region in enumerate(op.regions):
        steps = lowering.block(region)
        steps += _aside(lowering, op, [(c.view, c.values[number]) for c in choice.cells], [])
        blocks.append(tuple(steps))
    lowering.steps.append(Branch(condition, blocks[0], blocks[1], op.loc, op.loc.entries))
    if choice.cells:
        _bind(lowering, op, choice.cells)
        then, otherwise = (tuple(_aside(lowering, op, (), late)) for late in choice.late)
        lowering.steps.append(Branch(condition, then, otherwise, op.loc, op.loc.entries))


def emit_loop(lowering: Lowering, op: Op) -> None:
    """What happens before the first turn, the turns, and what is known behind them."""
    loop = lowering.storage.regions.loops[op]
    _write(lowering, op, [(c.view, c.values[0]) for c in loop.cells])
    growing = [*(buffer for buffer, _ in loop.stacks), *(buffer for buffer, _, _ in loop.late)]
    for buffer in growing:
        _extend(lowering, op, buffer, 0)
    for buffer, first, _ in loop.resized:
        _extend(lowering, op, buffer, first)
    for source, target in loop.entry:
        lowering.emit_copy(source, target, op.loc)
    body = tuple(_turn(lowering, op, loop))
    limits = loop.count, loop.start, loop.again, loop.turns
    lowering.steps.append(Repeat(loop.turn, body, *limits, op.loc, op.loc.entries))
    for name in loop.counters:
        assert loop.turns is not None
        bind_extent(lowering, op, symbol(name), loop.turns)
    _bind(lowering, op, loop.cells)


def _turn(lowering: Lowering, op: Op, loop: LoopStorage) -> list[Step]:
    """The steps of one turn."""
    around, lowering.steps = lowering.steps, []
    for cell in loop.cells:
        if cell.inside:
            bind_extent(lowering, op, symbol(cell.inside), cell.view)
    before = [bind_anew(lowering, op, cell.view) for cell in loop.same]
    turns = symbol(loop.turn) + 1
    for buffer, element in loop.stacks:
        _extend(lowering, op, buffer, turns * element, keep=True)
    lowering.steps += lowering.block(op.regions[0])
    for cell, name in zip(loop.same, before, strict=True):  # of no concern in the first turn
        changed = dmin(symbol(loop.turn), 1) * (cell.values[1] - symbol(name))
        check = Check("eq", changed, 0, "an extent of elements that are stacked", op.id)
        lowering.steps.append(Require(check, op.loc))
    for buffer, element, (source, window) in loop.late:
        _extend(lowering, op, buffer, turns * element, keep=True)
        lowering.emit_copy(source, window, op.loc)
    for buffer, _, following in loop.resized:
        _extend(lowering, op, buffer, following)
    lowering.steps += _aside(lowering, op, [(c.view, c.values[1]) for c in loop.cells], loop.final)
    made, lowering.steps = lowering.steps, around
    return made


def _extend(lowering: Lowering, op: Op, buffer: int, size: DimLike, keep: bool = False) -> None:
    """A buffer that turns enlarge; one without elements, whatever the turns, stays as it is."""
    if not is_static(lowering.plan.buffers[buffer].bytes):
        lowering.steps.append(Extend(buffer, size, keep, op.loc))


def _aside(lowering: Lowering, op: Op, extents: Iterable[tuple[View, DimLike]], copies: Copies) -> list[Step]:
    """Steps that write extents to their cells, and copy."""
    around, lowering.steps = lowering.steps, []
    _write(lowering, op, extents)
    for source, target in copies:
        lowering.emit_copy(source, target, op.loc)
    made, lowering.steps = lowering.steps, around
    return made


def _write(lowering: Lowering, op: Op, extents: Iterable[tuple[View, DimLike]]) -> None:
    """Kernels that write extents to their cells."""
    for cell, extent in extents:
        program = Compute((), index(extent))
        result = Result("out", i64, (), expr=program.body)
        symbols = symbol_bounds(program, (), (result,), lowering.function.symbols)
        spec = KernelSpec("extent", program, (), (result,), symbols, label="extent")
        kernel = lowering.kernel(spec, op)
        lowering.steps.append(Run(kernel.function.name, (cell,), loc=op.loc, nodes=op.loc.entries))


def _bind(lowering: Lowering, op: Op, cells: Iterable[Cell]) -> None:
    """Bind what is known behind an op."""
    for cell in cells:
        if cell.symbol:
            bind_extent(lowering, op, symbol(cell.symbol), cell.view)
    emit_requirements(lowering, op)
