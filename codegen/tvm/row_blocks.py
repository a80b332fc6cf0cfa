"""Row programs (softmax, norms, sums) as blocks of TensorIR: one block a stage, all at a row's results.

A reduction along the contiguous axis is written as what vectors can do: partial results lane by lane, which
are folded to one vector, and its lanes in turn.  So the row is counted by turns and lanes.  What whole turns
leave of a row is a part of its own, one shorter vector; where results have a value for each element (TensorIR
schedules no memory that two blocks write), lanes divide the row instead.  The schedule computes every stage
where the row's results are computed, rows over threads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from aino_ir.codegen.kernels.rows import ARG_COMBINERS, lane_axis
from aino_ir.codegen.tvm.block_writer import BlockWriter, all_reads
from aino_ir.codegen.tvm.epilogue import tree_size
from aino_ir.codegen.tvm.expression import HelperNames
from aino_ir.codegen.tvm.kernel import INDENT, PrintedKernel, shape_text
from aino_ir.codegen.tvm.text import ADDITIVE, PythonNames, Text, element, literal, type_name
from aino_ir.codegen.tvm.tiling import number
from aino_ir.compute import Axis, Compute, RowProgram, RowStage
from aino_ir.kernels import KernelSpec
from aino_ir.loops.expr import Accumulator, Binary, Call, Expr, Var, const, identity, select
from aino_ir.loops.expr_tree import map_expr, walk
from aino_ir.loops.stmt import LoopFn

CHAINS = 4
"""Vectors that a reduction has under way at once, if the row divides so."""


def sums_as_rows(spec: KernelSpec) -> KernelSpec:
    """A computation with a sum as a row program: the axes of the sum are the row, its result a stage."""
    program = spec.program
    assert isinstance(program, Compute) and program.combiner is not None
    body = program.body
    if program.where is not None:
        body = select(program.where, body, const(identity(program.combiner, body.dtype), body.dtype))
    stage = RowStage("reduce", "total", body, program.combiner)
    total = Var(stage.name, body.type)

    def finished(e: Expr) -> Expr:
        return map_expr(e, lambda node: total if isinstance(node, Accumulator) else None)

    results = tuple(
        replace(r, expr=finished(r.expr if r.expr is not None else program.result_expr), per_row=True)
        for r in spec.results
    )
    first = results[0]
    assert first.expr is not None
    rows = RowProgram(program.axes, program.reduce, (stage,), first.expr, first.index, per_row=True)
    return replace(spec, program=rows, results=results)


@dataclass(frozen=True)
class RowShape:
    """How a row is counted.

    Attributes:
        width: lanes of a turn.
        lanes: of a vector.
        rest: elements behind the last turn.
    """

    width: int
    lanes: int
    rest: int = 0

    @property
    def folds(self) -> list[int]:
        """Lanes that are left after each fold in halves, down to one vector."""
        found, left = [], self.width
        while left > self.lanes and left % 2 == 0:
            left //= 2
            found.append(left)
        return found


def row_shape(spec: KernelSpec, lanes: int) -> RowShape | str:
    """How the rows of a program are counted, or why they are not printed as blocks."""
    program = spec.program
    assert isinstance(program, RowProgram)
    if lanes == 1:
        return "no vectors"
    if lane_axis(spec, program) is not program.row[-1]:
        return "rows across the contiguous axis"
    if any(s.combiner in ARG_COMBINERS or s.expr.dtype.is_bool for s in program.stages):
        return "positions of extremes, or conditions"
    if len({r.per_row for r in spec.results}) > 1:
        return "results of rows beside results of elements"
    expressions = (*(s.expr for s in program.stages), *(r.expr for r in spec.results if r.expr is not None))
    if any(read.default is not None for e in expressions for read in all_reads(e)):
        return "it reads past the edges of operands"
    extent = number(program.row[-1].extent)
    return counted(extent, lanes, spec.results[0].per_row) or "rows that no vector divides"


def counted(extent: int, lanes: int, per_row: bool) -> RowShape | None:
    """How rows of some elements are counted, whose results may be one a row; None where nothing does well."""
    width = _dividing(extent, lanes)
    if per_row and (width is None or width % lanes) and extent > lanes:
        return _with_rest(extent, lanes)
    return RowShape(width, lanes) if width is not None else None


def _dividing(extent: int, lanes: int) -> int | None:
    """Lanes of a turn that divide a row, best whole vectors; None where there are none."""
    widths = [lanes * n for n in (CHAINS, CHAINS // 2, 1) if extent % (lanes * n) == 0]
    widths += [n for n in range(max(2, lanes // 2), lanes * CHAINS + 1) if extent % n == 0]
    if extent < lanes:
        widths.append(extent)
    return max(widths, key=lambda n: (n / (lanes * -(-n // lanes)), n), default=None)


def _with_rest(extent: int, lanes: int) -> RowShape:
    """Whole vectors, as many in a turn as leave little of a row behind: what is left is added up in turn."""
    widths = [lanes * n for n in (CHAINS, CHAINS // 2, 1) if lanes * n <= extent]
    width = min(widths, key=lambda n: extent // n * n // lanes + 2 * (extent % n))
    return RowShape(width, lanes, extent % width)


@dataclass(frozen=True)
class RowPart:
    """A piece of every row that one loop nest walks.

    Attributes:
        walked: loops that reductions combine over.
        lane: the innermost loop, a vector.
        folds: lanes that are left after each fold of a vector in halves.
    """

    walked: tuple[Axis, ...]
    lane: Axis
    folds: tuple[int, ...]

    @property
    def axes(self) -> tuple[Axis, ...]:
        """All of its loops."""
        return (*self.walked, self.lane)


class RowBlockKernel(BlockWriter):
    """Prints one row program.

    Args:
        fn: the same kernel as loops: its name and header.
        spec: operands with the layouts that the kernel reads.
        shape: how its rows are counted.
        helpers: where helper functions come from.
    """

    def __init__(self, fn: LoopFn, spec: KernelSpec, shape: RowShape, helpers: HelperNames) -> None:
        program = spec.program
        assert isinstance(program, RowProgram)
        if not program.axes:  # a schedule needs a loop to compute stages at
            program = replace(program, axes=(Axis("row", 1),))
        self.program = program
        self.shape = shape
        *before, last = program.row
        self.last = last
        turns = Axis(f"{last.name}_turn", number(last.extent) // shape.width)
        lane = Axis(f"{last.name}_lane", shape.width)
        self.parts = [RowPart((*before, turns), lane, tuple(shape.folds))]
        if shape.rest:
            self.parts.append(RowPart(tuple(before), Axis(f"{last.name}_rest", shape.rest), ()))
        self.part = self.parts[0]
        self.values: dict[str, Text] = {}
        self.maps: dict[str, list[Text]] = {}
        axes = [*program.axes, *self.part.walked, *(part.lane for part in self.parts)]
        super().__init__(fn, spec, axes, helpers)
        self.ranges.known[last.name] = (0, number(last.extent) - 1)

    def coordinate(self, axis: str) -> Text:
        """Where a block is on an axis; on the row, by turns and lanes, or behind all turns."""
        if axis != self.last.name:
            return super().coordinate(axis)
        lane = self.coordinates[self.part.lane.name]
        if self.part is not self.parts[0]:
            return Text(f"{number(self.last.extent) - self.shape.rest} + {lane}", ADDITIVE)
        return Text(f"{self.coordinates[self.part.walked[-1].name]} * {self.shape.width} + {lane}", ADDITIVE)

    def expressions(self) -> list[Expr]:
        """The stages and the results."""
        stages = [s.expr for s in self.program.stages]
        return [*stages, *(r.expr for r in self.spec.results if r.expr is not None)]

    def stage(self, name: str) -> Text:
        """The value of a stage, in the present part of the row."""
        if name in self.maps:
            return self.maps[name][self.parts.index(self.part)]
        return self.values[name]

    def given(self, argument: Text) -> Text:
        """An argument that reads memory, under a name of the block's.

        Helpers name their arguments inside of an expression; where an index in there occurs again, TVM's
        elimination of common parts, which users of `to_relax` do not turn off, names it too late.
        """
        if "[" not in argument.text:
            return argument
        name = self.names.fresh("given")
        self.line(f"{name}: T.let = {argument}")
        return Text(name, size=argument.size)

    def printed(self) -> PrintedKernel:
        """The function and its schedule."""
        for expression in self.expressions():
            self.affordable(tree_size(expression))
        schedule = _RowSchedule(self.fn.name, self)
        for stage in self.program.stages:
            if stage.kind == "reduce":
                self._reduction(stage, schedule)
            elif stage.kind == "map":
                self._map(stage, schedule)
            else:
                self.values[stage.name] = self._plain(stage.name, stage.expr, (), schedule)
        self._results(schedule)
        return self.kernel(schedule.text())

    # -- blocks

    def _buffer(self, name: str, value: Expr, axes: Sequence[Axis]) -> Text:
        """Memory for values at the points of some axes; returns the element at the present ones."""
        extents = [Text(str(a.extent)) for a in (*self.program.axes, *axes)]
        self.line(f'{name} = T.sblock_alloc_buffer({shape_text(extents)}, "{type_name(value.dtype)}")')
        return self._at(name, axes)

    def _at(self, name: str, axes: Sequence[Axis]) -> Text:
        return element(name, *(Text(self.coordinates[a.name]) for a in (*self.program.axes, *axes)))

    def _open(self, block: str, axes: Sequence[Axis], kinds: str) -> None:
        self.open(block, (*self.program.axes, *axes), "S" * len(self.program.axes) + kinds)

    def _plain(
        self, wish: str, value: Expr, axes: tuple[Axis, ...], schedule: _RowSchedule, inline: bool = False
    ) -> Text:
        """A block that computes a value at every point of some axes; returns where."""
        name = self.names.fresh(wish)
        place = self._buffer(name, value, axes)
        self._open(name, axes, "S" * len(axes))
        before = len(self.lines)
        text = self.printer.pinned(value)
        alone = len(self.lines) == before  # TVM inlines a block that is one store
        self.line(f"{place} = {text}")
        self.depth = 1
        schedule.block(name, axes, inline=inline and alone)
        return place

    def _map(self, stage: RowStage, schedule: _RowSchedule) -> None:
        """A value for every element, part by part."""
        cheap = not any(isinstance(n, Call) for n in walk(stage.expr))
        places = []
        for part in self.parts:
            self.part = part
            places.append(self._plain(stage.name, stage.expr, self.part.axes, schedule, inline=cheap))
        self.part = self.parts[0]
        self.maps[stage.name] = places

    def _reduction(self, stage: RowStage, schedule: _RowSchedule) -> None:
        """The parts one by one, and then together."""
        assert stage.combiner is not None
        if len(self.parts) == 1:
            self.values[stage.name] = self._part_reduction(stage, stage.name, schedule)
            return
        names = [f"{stage.name}_{which}" for which in ("whole", "rest")]
        for part, name in zip(self.parts, names, strict=True):
            self.part = part
            self.values[name] = self._part_reduction(stage, name, schedule)
        self.part = self.parts[0]
        one, other = (Var(name, stage.expr.type) for name in names)
        both = Binary(stage.combiner, one, other, stage.expr.type)
        self.values[stage.name] = self._plain(stage.name, both, (), schedule)

    def _part_reduction(self, stage: RowStage, wish: str, schedule: _RowSchedule) -> Text:
        """Partial results by lanes, folds in halves, and the lanes of the last vector in turn."""
        assert stage.combiner is not None
        part, name, value = self.part, self.names.fresh(wish), stage.expr
        partial = self.names.fresh(f"{name}_lanes")
        place = self._buffer(partial, value, (part.lane,))
        self._open(partial, part.axes, "R" * len(part.walked) + "S")
        if part.walked:
            self._combine(place, stage.combiner, value)
        else:
            self.line(f"{place} = {self.printer.pinned(value)}")
            self.depth = 1
        schedule.block(partial, part.axes, reduces=part.walked)
        for left in part.folds:
            partial = self._fold(name, partial, left, stage, schedule)
        lanes = self._lanes(name, [number(part.lane.extent), *part.folds][-1])
        place = self._buffer(name, value, ())
        self._open(name, (lanes,), "R")
        self.values[stage.name] = self._at(partial, (lanes,))
        self._combine(place, stage.combiner, Var(stage.name, value.type))
        schedule.block(name, (lanes,), reduces=(lanes,))
        return place

    def _combine(self, place: Text, combiner: str, value: Expr) -> None:
        neutral = literal(identity(combiner, value.dtype), value.dtype)
        self.line("with T.init():")
        self.line(f"{INDENT}{place} = {neutral}")
        self.line(f"{place} = {self.combined(place, combiner, value)}")
        self.depth = 1

    def _fold(self, name: str, partial: str, left: int, stage: RowStage, schedule: _RowSchedule) -> str:
        """The upper half of the lanes onto the lower one."""
        assert stage.combiner is not None
        lanes = self._lanes(name, left)
        folded = self.names.fresh(f"{name}_{left}")
        place = self._buffer(folded, stage.expr, (lanes,))
        self._open(folded, (lanes,), "S")
        lower = self._at(partial, (lanes,))
        self.values[stage.name] = Text(f"{lower.text[:-1]} + {left}]")
        combined = self.combined(lower, stage.combiner, Var(stage.name, stage.expr.type))
        self.line(f"{place} = {combined}")
        self.depth = 1
        schedule.block(folded, (lanes,))
        return folded

    def _lanes(self, name: str, extent: int) -> Axis:
        """An axis over some lanes of a reduction."""
        axis = Axis(f"{name}_lane{extent}", extent)
        if axis.name not in self.coordinates:
            self.coordinates[axis.name] = self.names.fresh(f"v_{axis.name}")
            self.loops[axis.name] = self.names.fresh(axis.name)
        return axis

    def _results(self, schedule: _RowSchedule) -> None:
        results = self.spec.results
        axes = () if results[0].per_row else self.part.axes
        name = self.names.fresh("result")
        self._open(name, axes, "S" * len(axes))
        stores, count = [], len(self.spec.operands)
        for place, result in enumerate(results):
            assert result.expr is not None
            index = self.physical[-1 - place].index(result.index)
            places = [self.printer.index.text(c) for c in index] or [Text("0")]
            at = element(self.arguments[count + place].name, *places)
            value = self.printer.encoded(result.expr, result.dtype)
            self.affordable(value.size)
            if len(results) > 1:
                kept = self.names.fresh(f"value{place}")
                self.line(f"{kept}: T.let = {value}")
                value = Text(kept)
            stores.append(f"{at} = {value}")
        for store in stores:
            self.line(store)
        self.depth = 1
        schedule.result(name, axes)


class _RowSchedule:
    """The function that transforms a row program: blocks are told in the order of the text."""

    def __init__(self, kernel: str, writer: RowBlockKernel) -> None:
        self.function = kernel
        self.writer = writer
        self.names = PythonNames(("s",))
        self.inlined: list[str] = []
        self.moved: list[list[str]] = []
        self.head: list[str] = []
        self.around = self.names.fresh("row")

    def block(
        self, name: str, axes: Sequence[Axis], reduces: Sequence[Axis] = (), inline: bool = False
    ) -> None:
        """A stage's block, with its loops inside of a row and which of them reduce."""
        if inline:
            self.inlined.append(f's.compute_inline(s.get_sblock("{name}"))')
            return
        block = self.names.fresh(f"{name}_block")
        lines = [f'{block} = s.get_sblock("{name}")', f"s.compute_at({block}, {self.around})"]
        inside = [a for a in axes if number(a.extent) > 1]  # others are gone
        if inside:
            loops = {a.name: self.names.fresh(a.name) for a in inside}
            lines.append(f"{_listed(list(loops.values()))} = s.get_loops({block})[1:]")
            if inside[-1] not in reduces:
                lines.append(f"s.vectorize({loops[inside[-1].name]})")
            first = next((a for a in inside if a in reduces), None)
            if first is not None:
                lines.append(f"s.decompose_reduction({block}, {loops[first.name]})")
        self.moved.append(lines)

    def result(self, name: str, axes: Sequence[Axis]) -> None:
        """The block of the results: rows over threads."""
        block = self.names.fresh(f"{name}_block")
        rows = [self.names.fresh(a.name) for a in self.writer.program.axes]
        inside = [self.names.fresh(a.name) for a in axes]
        self.head += [
            f'{block} = s.get_sblock("{name}")',
            f"{_listed([*rows, *inside])} = s.get_loops({block})",
        ]
        self.head.append(f"{self.around} = s.fuse({', '.join(rows)})")
        if any(number(a.extent) > 1 for a in self.writer.program.axes):
            self.head.append(f"s.parallel({self.around})")
        if inside:
            self.head.append(f"s.vectorize({inside[-1]})")

    def text(self) -> str:
        """All of it; consumers move before what they read."""
        lines = [*self.inlined, *self.head, *(line for lines in reversed(self.moved) for line in lines)]
        return "\n".join([f"def schedule_{self.function}(s):", *(f"    {line}" for line in lines)]) + "\n"


def _listed(names: Sequence[str]) -> str:
    return f"{', '.join(names)}{',' if len(names) == 1 else ''}"
