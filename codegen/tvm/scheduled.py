"""The generator of computations with a schedule of TVM's."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import prod

from aino_ir.codegen.kernels.canonical import drop_unit_axes, merge_axes
from aino_ir.codegen.kernels.contract import panel_packings
from aino_ir.codegen.kernels.emit import FUNCTION_SIZE, expressions, result_size, vector_lanes
from aino_ir.codegen.kernels.map import moved_bytes
from aino_ir.codegen.kernels.naming import header
from aino_ir.codegen.kernels.reduction import ReductionGenerator
from aino_ir.codegen.kernels.roles import Roles, analyse, strided_operand
from aino_ir.codegen.kernels.rows import RowGenerator
from aino_ir.codegen.kernels.scheduled import CLOCK
from aino_ir.codegen.kernels.tiles import step_cycles
from aino_ir.codegen.schedule.defaults import default_schedule
from aino_ir.codegen.schedule.engine import lower
from aino_ir.codegen.schedule.trace import Schedule
from aino_ir.codegen.tvm.blocks import BlockKernel
from aino_ir.codegen.tvm.expression import HelperNames
from aino_ir.codegen.tvm.facts import on_gpu
from aino_ir.codegen.tvm.gpu_schedule import gpu_schedule_text
from aino_ir.codegen.tvm.helpers import Helpers
from aino_ir.codegen.tvm.kernel import PrintedKernel
from aino_ir.codegen.tvm.row_blocks import RowBlockKernel, RowShape, row_shape, sums_as_rows
from aino_ir.codegen.tvm.tiling import Tile, contraction_schedule, contraction_tile, number, plain_schedule
from aino_ir.compute import Compute, RowProgram
from aino_ir.dims import DimLike, is_static
from aino_ir.errors.printing import NoSpelling
from aino_ir.kernels import Candidate, Generator, Kernel, KernelSpec, Packing, Reject
from aino_ir.loops.expr import Call
from aino_ir.loops.expr_tree import walk
from aino_ir.loops.stmt import LoopFn
from aino_ir.target import Target

NAME = "blocks"

ALONG_LANES = "a sum along the axis that vectors would run along"
"""Why a sum is done by rows."""

STRIDED = 6.0
"""How much longer a step takes when vectors are gathered lane by lane."""


@dataclass(frozen=True)
class Scheduled:
    """A computation with its schedule.

    Attributes:
        spec: canonical, operands in the layouts that the kernel reads.
        schedule, tile: how it is done.
        lanes: of a vector of the machine.
        cycles: what that takes on one core, modelled; 0 for maps.
        roles: of the axes of a product for threads of a GPU.
    """

    spec: KernelSpec
    schedule: Schedule
    tile: Tile
    lanes: int
    cycles: float = 0.0
    roles: Roles | None = None


def scheduled(spec: KernelSpec, target: Target, packed: bool = True) -> Scheduled | str:
    """A spec's schedule, or why it has none: then its loops are printed as they run."""
    program = spec.program
    if not isinstance(program, Compute):
        return "not index notation over axes"
    extents = [a.extent for a in (*program.axes, *program.reduce)]
    obstacle = _obstacle(spec, extents)
    if obstacle:
        return obstacle
    lanes = vector_lanes(spec, target)
    roles = analyse(spec)
    if on_gpu(target):
        return _for_threads(spec, roles if isinstance(roles, Roles) else None)
    if isinstance(roles, Roles):
        return _contraction(roles, target, lanes, packed)
    canonical = merge_axes(drop_unit_axes(spec))
    schedule, tile = plain_schedule(canonical, target, lanes)
    if program.reduce and tile.lane is None:
        return ALONG_LANES
    if program.reduce and not schedule.program.axes:
        return "a single number"
    if program.reduce and not schedule.program.reduce:
        return "a sum of one term"
    steps = prod(number(a.extent) for a in schedule.program.reduce) * spec_size(canonical)
    cycles = steps / tile.width * step_cycles(1, 1, 2.0, 0.0) if program.reduce else 0.0
    return Scheduled(canonical, schedule, tile, lanes, cycles)


@dataclass(frozen=True)
class ScheduledRows:
    """Rows with their schedule.

    Attributes:
        spec: a row program, operands in the layouts that the kernel reads.
        shape: how its rows are counted.
    """

    spec: KernelSpec
    shape: RowShape


def scheduled_rows(spec: KernelSpec, target: Target) -> ScheduledRows | str:
    """The rows of a row program or of a sum along the contiguous axis as blocks, or why they are none."""
    program = spec.program
    assert isinstance(program, (Compute, RowProgram))
    if on_gpu(target):
        return "rows for threads of a GPU"
    axes = (*program.axes, *(program.row if isinstance(program, RowProgram) else program.reduce))
    obstacle = _obstacle(spec, [a.extent for a in axes])
    if obstacle:
        return obstacle
    if isinstance(program, Compute):
        spec = merge_axes(drop_unit_axes(spec))
        if not spec.program.reduce:  # type: ignore[union-attr]
            return "a sum of one term"
        spec = sums_as_rows(spec)
    shape = row_shape(spec, vector_lanes(spec, target))
    return shape if isinstance(shape, str) else ScheduledRows(spec, shape)


def _obstacle(spec: KernelSpec, extents: Sequence[DimLike]) -> str:
    """What no block can have, whatever it computes; empty where there is nothing of it."""
    assert isinstance(spec.program, (Compute, RowProgram))
    if spec.program.checks:
        return "it tests its operands while it runs"
    shapes = [(*o.shape, *(o.allocated or ())) for o in (*spec.operands, *spec.results)]
    if spec.symbols or not all(map(is_static, (*extents, *(d for shape in shapes for d in shape)))):
        return "extents that are no numbers"
    return "nothing to do" if 0 in extents else ""


def _for_threads(spec: KernelSpec, roles: Roles | None) -> Scheduled | str:
    """A computation for a GPU: `gpu_schedule` finds the loops, the trace has no steps."""
    canonical = roles.spec if roles is not None else merge_axes(drop_unit_axes(spec))
    program = canonical.program
    assert isinstance(program, Compute)
    if not program.axes or (spec.program.reduce and not program.reduce):  # type: ignore[union-attr]
        return "a single number, or a sum of one term"
    cycles = float(spec_size(canonical) * prod(number(a.extent) for a in program.reduce))
    return Scheduled(canonical, Schedule(program), Tile(None, None, 1, 1, 1), 1, cycles, roles)


def _contraction(roles: Roles, target: Target, lanes: int, packed: bool) -> Scheduled | str:
    program = roles.spec.program
    assert isinstance(program, Compute)
    if not program.reduce:
        return "a sum of one term"
    strided = any(strided_operand(roles.spec, f, roles.lane.name) for f in roles.factors)
    if strided and isinstance(analyse(roles.spec, stage=True), Roles):
        return "vectors of numbers that lie apart: finished loops copy them into panels"
    tile = contraction_tile(roles, target, lanes)
    if number(roles.lane.extent) % tile.width and roles.lane.name not in tile.whole:
        return "lanes that nothing divides, of an operand that is not packed"
    if number(roles.lane.extent) % tile.width and result_size(roles.spec) >= FUNCTION_SIZE:
        return "a long function of lanes that nothing divides, which TVM would test one by one"
    schedule = contraction_schedule(roles, tile, target)
    spec = roles.spec
    if packed:
        layouts = dict(panel_packings(roles, tile.rows, tile.width))
        operands = [
            replace(o, layout=layouts[n].layout, allocated=None) if n in layouts else o
            for n, o in enumerate(spec.operands)
        ]
        spec = replace(spec, operands=tuple(operands))
    cycles = tile.cycles * prod(number(a.extent) for a in roles.outer)
    if strided:
        cycles *= STRIDED
    return Scheduled(spec, schedule, tile, lanes, cycles)


def spec_size(spec: KernelSpec) -> int:
    """Points of the results' axes."""
    assert isinstance(spec.program, Compute)
    return prod(number(a.extent) for a in spec.program.axes)


class BlockGenerator:
    """Computations that are printed as blocks with a schedule."""

    name = NAME

    def candidates(self, spec: KernelSpec, target: Target) -> Iterable[Candidate | Reject]:
        """The one schedule."""
        if isinstance(spec.program, RowProgram):
            yield from self._rows(spec, target)
            return
        found = scheduled(spec, target)
        if found == ALONG_LANES:
            yield from self._rows(spec, target)
            return
        if isinstance(found, str):
            yield Reject(self.name, found)
            return
        exact = not found.schedule.program.reduce
        cost = moved_bytes(spec) / 20e9 if exact else found.cycles / CLOCK
        candidate = Candidate(
            self.name,
            f"schedule, tile {found.tile}",
            packings=packings_of(spec, target),
            cost=0.9 * (cost + 1e-6),
            error_class="exact" if exact else "reordered",
        )
        obstacle = "" if on_gpu(target) else self._unprintable(spec, candidate, target)
        yield Reject(self.name, obstacle) if obstacle else candidate

    def _unprintable(self, spec: KernelSpec, candidate: Candidate, target: Target) -> str:
        """Why blocks cannot say what a spec computes, which only printing them tells; "" where they can.

        Without this, a product with a long function behind it would be plain loops, and not those of a
        generator that knows tiles.
        """
        if not any(isinstance(node, Call) for e in expressions(spec) for node in walk(e)):
            return ""
        try:
            print_scheduled(Kernel(spec, candidate, self.build(spec, candidate, target)), target, Helpers())
        except NoSpelling as error:
            return f"blocks have no spelling for it: {error}"
        return ""

    def _rows(self, spec: KernelSpec, target: Target) -> Iterable[Candidate | Reject]:
        """Blocks by rows, in the place of the loops that the rows' own generator makes."""
        found = scheduled_rows(spec, target)
        if isinstance(found, str):
            yield Reject(self.name, found)
            return
        for answer in _row_loops(spec).candidates(spec, target):
            assert isinstance(answer, Candidate)
            name = f"schedule, rows by {found.shape.width} lanes"
            yield replace(answer, generator=self.name, name=name, cost=0.9 * answer.cost)

    def build(self, spec: KernelSpec, candidate: Candidate, target: Target) -> LoopFn:
        """The same computation as loops: what analyses of the plan look at."""
        found = scheduled(spec, target)
        if _by_rows(spec, found):
            return _row_loops(spec).build(spec, candidate, target)
        assert isinstance(found, Scheduled)
        canonical = found.spec
        return lower(canonical, default_schedule(canonical, target, 1), header(spec, candidate))


def _by_rows(spec: KernelSpec, found: Scheduled | str) -> bool:
    """Whether a spec that has this schedule, or none for this reason, is done row by row."""
    return isinstance(spec.program, RowProgram) or found == ALONG_LANES


def _row_loops(spec: KernelSpec) -> Generator:
    """Who makes loops of what is printed as rows."""
    return RowGenerator() if isinstance(spec.program, RowProgram) else ReductionGenerator()


def packings_of(spec: KernelSpec, target: Target) -> tuple[tuple[int, Packing], ...]:
    """The layouts that a schedule wants constants in."""
    roles = analyse(spec)
    if on_gpu(target) or not isinstance(roles, Roles):
        return ()
    tile = contraction_tile(roles, target, vector_lanes(spec, target))
    return panel_packings(roles, tile.rows, tile.width)


def print_scheduled(kernel: Kernel, target: Target, helpers: HelperNames) -> PrintedKernel:
    """A kernel of `BlockGenerator` as blocks.

    Raises:
        NoSpelling: TensorIR has no spelling for something in it.
    """
    found = scheduled(kernel.spec, target)
    if _by_rows(kernel.spec, found):
        rows = scheduled_rows(kernel.spec, target)
        assert isinstance(rows, ScheduledRows)
        return RowBlockKernel(kernel.function, rows.spec, rows.shape, helpers).printed()
    assert isinstance(found, Scheduled)
    printer = BlockKernel(kernel.function, found.spec, found.schedule, found.tile, found.lanes, helpers)
    if not on_gpu(target):
        return printer.printed()
    return printer.printed(partial(gpu_schedule_text, roles=found.roles))
