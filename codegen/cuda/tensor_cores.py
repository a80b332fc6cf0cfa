"""Products on tensor cores: GEMM, convolution, einsum of 16-bit floats and of bytes, and of f32 as tf32.

A block makes a tile of the result, each of its warps a part of it, in `mma.sync` instructions of 16 x 8
results and 32 bytes of terms (`instructions.py` lists them).  Panels of both factors come to shared memory
in a pipeline: while the warps multiply one stage, the copies of the next ones are on their way.  The results
of a warp go eight rows at a time through shared memory, so that neighbouring threads write neighbouring
elements, and whatever follows the product (bias, activation, residual, requantisation) is computed there.

Constants are stored so that their terms are contiguous.  Sums of bytes are
exact in 32 bits.  f32 factors are rounded only where the target says tf32; else `tile` multiplies them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from aino_ir.codegen.cuda.instructions import LINE_BYTES, Instruction, on_tensor_cores
from aino_ir.codegen.cuda.launch import shared_bytes
from aino_ir.codegen.cuda.panels import Panel, PanelShape, Source, panel_shape
from aino_ir.codegen.cuda.product import Product, analyse, extent_of, innermost_last, run_along, terms_last
from aino_ir.codegen.kernels.access import Placement, Point
from aino_ir.codegen.kernels.emit import emit_checks
from aino_ir.codegen.kernels.naming import header, kernel_name
from aino_ir.compute import Compute
from aino_ir.dims import DimLike, ceildiv
from aino_ir.kernels import Candidate, KernelSpec, Packing, Reject
from aino_ir.loops.builder import LoopBuilder
from aino_ir.loops.conditions import Condition
from aino_ir.loops.expr import Expr, Read, VecType, index
from aino_ir.loops.groups import GROUP
from aino_ir.loops.groups import LINE_BYTES as LINE_BYTES_OF_GROUPS
from aino_ir.loops.registers import RegTile
from aino_ir.loops.stmt import LoopFn
from aino_ir.loops.warp import WARP
from aino_ir.target import Target

TOTAL_BYTES = 4
"""Of a sum."""

STRIP = 8
"""Rows of a warp that are written together."""

PAD = 8
"""Elements behind each row of a strip, for the banks."""


@dataclass(frozen=True)
class Tiling:
    """How a block does its tile.

    Attributes:
        rows, columns: of the tile.
        down, across: warps.
        stages: of the pipeline.
        line_bytes: terms of a line that a stage has, in bytes.
        grouped: whether four warps multiply together (`wgmma`), each 16 rows and all columns of the tile.
    """

    rows: int
    columns: int
    down: int
    across: int
    stages: int
    line_bytes: int = 64
    grouped: bool = False

    @property
    def threads(self) -> int:
        """Threads of a block."""
        return self.down * self.across * WARP

    @property
    def part(self) -> tuple[int, int]:
        """Rows and columns of a warp."""
        return self.rows // self.down, self.columns // self.across

    @property
    def shared_bytes(self) -> int:
        """Shared memory of a block."""
        strips = self.down * self.across * STRIP * (self.part[1] + PAD) * TOTAL_BYTES
        return self.line_bytes * (self.rows + self.columns) * self.stages + strips

    def __str__(self) -> str:
        part = f"{self.part[0]}x{self.part[1]} a warp"
        how = "wgmma" if self.grouped else part
        return f"{self.rows}x{self.columns}, {how}, {self.stages} stages of {self.line_bytes} bytes"


def grouped(rows: int, columns: int, stages: int) -> Tiling:
    """A tile that groups of warps multiply, 64 rows each."""
    return Tiling(rows, columns, rows // 16, 1, stages, LINE_BYTES_OF_GROUPS, grouped=True)


TILINGS = (
    grouped(128, 256, 3),
    grouped(128, 128, 4),
    grouped(64, 128, 4),
    Tiling(128, 256, 2, 4, 3, 128),
    Tiling(128, 128, 2, 2, 3, 128),
    Tiling(128, 128, 2, 2, 2),
    Tiling(128, 64, 2, 2, 3),
    Tiling(64, 64, 2, 2, 4),
    Tiling(16, 64, 1, 4, 4),
    Tiling(64, 16, 4, 1, 4),
)
"""From the most work for each byte to the least."""

GROUP_ARCHITECTURES = ("sm_90a", "cuda-emu")
"""Where groups of warps multiply."""

GROUP_SHARE = 0.6
"""Time of their products: one warp's instructions reach 0.63 of an H100's peak at best."""

WAVES = 132
"""Tiles that keep a device busy: as many as it has multiprocessors."""

HIDDEN_BYTES = 16
"""Of a line on their way, with which a pipeline takes twice as long as one that never waits."""


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

    def shape(self, side: int, height: int, line_bytes: int) -> PanelShape:
        """The panel of a factor that has so many lines, and terms in bytes, in a tile."""
        of, factor, storage = self.of, self.of.factors[side], self.instruction.storages[side]
        term, line = (run_along(of.spec, factor, axes) for axes in (of.terms, (of.rows, of.columns)[side]))
        if not isinstance(factor, Read) or of.spec.operands[factor.operand].dtype is not storage:
            term, line = replace(term, whole=False), replace(line, whole=False)
        return panel_shape(term, line, (height, line_bytes // storage.bytes), storage)


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


class TensorCoreGenerator:
    """Products of 16-bit floats, of bytes and of f32 as tf32."""

    name = "tensor cores"

    def candidates(self, spec: KernelSpec, target: Target) -> Iterable[Candidate | Reject]:
        """The tilings that fit, the best first."""
        plan = planned(spec, target)
        if isinstance(plan, str):
            yield Reject(self.name, plan)
            return
        extents = extent_of(plan.of.rows), extent_of(plan.of.columns)
        for number, tiling in sorted(enumerate(TILINGS), key=lambda item: _rank(item[1], extents, item[0])):
            fits = tiling.shared_bytes <= shared_bytes(target) and _multiplies(plan, tiling, target)
            if fits and (tiling.rows < 2 * extents[0] or tiling.rows == 16):
                yield Candidate(
                    self.name,
                    f"{plan.instruction}, {tiling}",
                    (("tiling", number),),
                    plan.packings,
                    cost=5e-7 + 1e-14 * _rank(tiling, extents, number)[0],
                    error_class=plan.instruction.error_class,
                    precision=plan.instruction.precision,
                )

    def build(self, spec: KernelSpec, candidate: Candidate, target: Target) -> LoopFn:
        """The loops."""
        plan = planned(spec, target)
        assert isinstance(plan, Plan)
        b = LoopBuilder(kernel_name(spec))
        place = Placement(b, plan.of.spec)
        emit_checks(place)
        _Kernel(b, place, plan, TILINGS[dict(candidate.params)["tiling"]]).emit()
        return b.finish(header(spec, candidate))


def _multiplies(plan: Plan, tiling: Tiling, target: Target) -> bool:
    """Whether a target has the tiling's instruction, and panels are as it wants them: lines of terms."""
    if not tiling.grouped:
        return True
    sides = ((0, tiling.rows), (1, tiling.columns))
    turned = any(plan.shape(side, height, tiling.line_bytes).turned for side, height in sides)
    return target.isa in GROUP_ARCHITECTURES and plan.instruction.group != "" and not turned


def _rank(tiling: Tiling, extents: tuple[int, int], number: int) -> tuple[float, int]:
    """Modelled work: elements of whole tiles, times what a tile loads for each, over how many run at once."""
    tiles = -(-extents[0] // tiling.rows) * -(-extents[1] // tiling.columns)
    work = tiles * (tiling.rows * tiling.columns + 64 * (tiling.rows + tiling.columns))
    waves = -(-tiles // WAVES)
    latency = 1 + HIDDEN_BYTES / ((tiling.stages - 1) * tiling.line_bytes)
    return work * waves / tiles * latency * (GROUP_SHARE if tiling.grouped else 1), number


class _Kernel:
    def __init__(self, b: LoopBuilder, place: Placement, plan: Plan, tiling: Tiling) -> None:
        self.b = b
        self.place = place
        self.of = plan.of
        self.instruction = plan.instruction
        self.tiling = tiling
        self.terms = tiling.line_bytes // plan.instruction.storages[0].bytes
        heights, names = (tiling.rows, tiling.columns), ("row", "column")
        self.panels = tuple(
            Panel(
                b,
                place,
                f"{names[side]}_panels",
                side,
                plan.shape(side, heights[side], tiling.line_bytes),
                tiling.stages,
                tiling.threads,
            )
            for side in (0, 1)
        )
        width = tiling.part[1] + PAD
        self.strips = b.share("strips", plan.instruction.total, tiling.down * tiling.across * STRIP * width)

    def _source(self, side: int, stack: dict[str, DimLike]) -> Source:
        b, of = self.b, self.of
        axes = (of.rows, of.columns)[side]

        def at(line: DimLike, term: DimLike) -> dict[str, DimLike]:
            return {**stack, **of.coordinates(b, axes, line), **of.coordinates(b, of.terms, term)}

        return Source(of.factors[side], of.extent(axes), of.extent(of.terms), at)

    def emit(self) -> None:
        """Units are tiles: the pipeline, then the results."""
        b, of, tiling = self.b, self.of, self.tiling
        heights = (tiling.rows, tiling.columns)
        tiles = [ceildiv(of.extent(a), h) for a, h in zip((of.rows, of.columns), heights, strict=True)]
        stacked = of.extent(of.stack)
        with b.units(stacked * tiles[0] * tiles[1], tiling.threads) as unit:
            layer, row_tile, column_tile = b.split(
                unit, {"layer": stacked, "row_tile": tiles[0], "column_tile": tiles[1]}
            )
            stack = of.coordinates(b, of.stack, layer)
            starts = (row_tile * tiling.rows, column_tile * tiling.columns)
            warp = b.index(index(b.thread // WARP), 0, tiling.threads // WARP - 1, "warp")
            corner = b.split(warp, {"warp_down": tiling.down, "warp_across": tiling.across})
            own = tuple(c * p for c, p in zip(corner, tiling.part, strict=True))
            sums = b.reg_tile(
                "sum", (tiling.part[0] // 16, tiling.part[1] // 8, 4), VecType(self.instruction.total), 0
            )
            self._pipeline(starts, stack, own, sums)
            self._results(starts, stack, own, warp, sums)

    def _pipeline(
        self, starts: tuple[DimLike, ...], stack: dict[str, DimLike], own: tuple[DimLike, ...], sums: RegTile
    ) -> None:
        b, stages = self.b, self.tiling.stages
        steps = ceildiv(self.of.extent(self.of.terms), self.terms)
        for ahead in range(stages - 1):
            self._fill(ahead, ahead, steps, starts, stack)
        with b.loop("k", 0, steps) as k:
            b.await_copies(stages - 2, publish=self.tiling.grouped)
            b.barrier()
            later = k + (stages - 1)
            self._fill(later, b.dim(later % stages), steps, starts, stack)
            self._multiply(b.index(index(k % stages), 0, stages - 1, "stage"), own, sums)

    def _fill(
        self,
        step: DimLike,
        stage: DimLike,
        steps: DimLike,
        starts: tuple[DimLike, ...],
        stack: dict[str, DimLike],
    ) -> None:
        b = self.b
        with b.when(Condition(step, "<", steps)):
            for side, panel in enumerate(self.panels):
                panel.fill(self._source(side, stack), stage, starts[side], step * self.terms)
        b.close_copies()

    def _multiply(self, stage: DimLike, own: tuple[DimLike, ...], sums: RegTile) -> None:
        if self.tiling.grouped:
            self._multiply_together(stage, sums)
            return
        b, (rows, columns) = self.b, self.tiling.part
        for term in range(0, self.terms, self.instruction.terms):
            first = [self._fragments(0, stage, own[0] + r, term) for r in range(0, rows, 16)]
            for c in range(0, columns, 16):
                second = self._fragments(1, stage, own[1] + c, term)
                for r, a in enumerate(first):
                    for half in range(2):
                        place = (r, c // 8 + half)
                        totals = [sums[place[0], place[1], i] for i in range(4)]
                        found = b.warp(
                            self.instruction.operation,
                            *a,
                            *second[2 * half : 2 * half + 2],
                            *[t.read() for t in totals],
                        )
                        for total, value in zip(totals, found, strict=True):
                            b.set(total, value)

    def _multiply_together(self, stage: DimLike, sums: RegTile) -> None:
        b, (first, second) = self.b, self.panels
        group = b.index(index(b.thread // GROUP), 0, self.tiling.threads // GROUP - 1, "group")
        totals = [sums[0, c, i] for c in range(self.tiling.columns // 8) for i in range(4)]
        found = b.group_product(
            self.instruction.group,
            first.factor(stage, group),
            second.factor(stage),
            [t.read() for t in totals],
        )
        for total, value in zip(totals, found, strict=True):
            b.set(total, value)

    def _fragments(self, side: int, stage: DimLike, line: DimLike, term: int) -> tuple[Expr, ...]:
        found = self.panels[side].fragments(stage, line, term)
        rounding = self.instruction.rounding
        return tuple(self.b.warp(rounding, f)[0] for f in found) if rounding else found

    # -- results

    def _results(
        self,
        starts: tuple[DimLike, ...],
        stack: dict[str, DimLike],
        own: tuple[DimLike, ...],
        warp: DimLike,
        sums: RegTile,
    ) -> None:
        """Eight rows of each warp at a time: from registers to shared memory, and from there on."""
        b, (rows, columns) = self.b, self.tiling.part
        width = columns + PAD
        lane = b.index(index(b.thread % WARP), 0, WARP - 1, "lane")
        row, quad = b.split(lane, {"row": 8, "quad": 4})
        mine = warp * (STRIP * width)
        for r in range(rows // 16):
            for half in range(2):
                b.barrier()
                for c in range(columns // 8):
                    for i in range(2):
                        target = mine + row * width + c * 8 + quad * 2 + i
                        b.store(self.strips, target, sums[r, c, 2 * half + i].read())
                b.barrier()
                with b.loop("part", 0, STRIP * columns // WARP) as part:
                    number = part * WARP + lane
                    down = b.index(index(number // columns), 0, STRIP - 1, "down")
                    across = b.index(index(number % columns), 0, columns - 1, "across")
                    value = b.load(self.strips, mine + down * width + across)
                    self._result(
                        starts[0] + own[0] + r * 16 + half * 8 + down,
                        starts[1] + own[1] + across,
                        stack,
                        value,
                    )

    def _result(self, row: DimLike, column: DimLike, stack: dict[str, DimLike], total: Expr) -> None:
        b, of = self.b, self.of
        program = of.spec.program
        assert isinstance(program, Compute)
        inside = Condition(row, "<", of.extent(of.rows)).expr()
        with b.when(inside & Condition(column, "<", of.extent(of.columns)).expr()):
            at = {**stack, **of.coordinates(b, of.rows, row), **of.coordinates(b, of.columns, column)}
            point = Point(at)
            values = [
                self.place.expr(r.expr if r.expr is not None else program.result_expr, point, {0: total})
                for r in of.spec.results
            ]
            for number, value in enumerate(values):
                self.place.store(number, point, value)
