"""Computations as blocks of TensorIR: what is computed in one function, how in the schedule beside it.

A `Compute` becomes a block for its sum and one for what is done with the sum; an operand that is read past
its edges is copied with a margin first, so that the sum itself tests nothing.  The schedule is AINO's trace
in TVM's words.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from aino_ir.codegen.kernels.canonical import axes_of
from aino_ir.codegen.schedule.trace import Schedule
from aino_ir.codegen.tvm.block_writer import BlockWriter, all_reads, plain_index
from aino_ir.codegen.tvm.epilogue import SMALL, Parts, taken_apart, tree_size
from aino_ir.codegen.tvm.expression import HelperNames
from aino_ir.codegen.tvm.kernel import (
    INDENT,
    PrintedKernel,
    shape_text,
)
from aino_ir.codegen.tvm.schedule_text import BlockNames, MarginLoops, schedule_text
from aino_ir.codegen.tvm.text import POSTFIX, Text, call, element, literal, type_name
from aino_ir.codegen.tvm.tiling import Tile, number, vector_width
from aino_ir.compute import Axis, Compute
from aino_ir.dims import DimLike
from aino_ir.kernels import KernelSpec
from aino_ir.loops.expr import Expr, Read, const, identity, select
from aino_ir.loops.stmt import LoopFn

TransformText = Callable[[str, Schedule, Tile, Mapping[str, str], BlockNames], str]
"""Writes the function that transforms a kernel, as `schedule_text` does."""


@dataclass(frozen=True)
class Margin:
    """A copy of an operand with a margin around it.

    Attributes:
        read: what it answers.
        low: the least coordinate on every axis.
        extents: of the copy, by the operand's axes.
        order: the operand's axes as the copy has them, outermost first.
        lanes: lanes of the vectors along the last of them.
    """

    name: str
    read: Read
    low: tuple[int, ...]
    extents: tuple[int, ...]
    order: tuple[int, ...]
    lanes: int

    def index(self, coordinates: tuple[DimLike, ...]) -> list[DimLike]:
        """Where an element of the operand is in the copy."""
        return [coordinates[axis] - self.low[axis] for axis in self.order]


class BlockKernel(BlockWriter):
    """Prints one computation.

    Args:
        fn: the same kernel as loops: its name and header.
        spec: canonical; operands with the layouts that the kernel reads.
        schedule: of the spec's program.
        tile: what the schedule makes of the results' axes.
        lanes: of a vector of the machine.
        helpers: where helper functions come from.
    """

    def __init__(
        self,
        fn: LoopFn,
        spec: KernelSpec,
        schedule: Schedule,
        tile: Tile,
        lanes: int,
        helpers: HelperNames,
    ) -> None:
        assert isinstance(spec.program, Compute)
        self.program = spec.program
        self.schedule = schedule
        self.tile = tile
        self.lanes = lanes
        self.axes = (*self.program.axes, *self.program.reduce)
        self.margins: dict[Read, Margin] = {}
        self.clamped: dict[str, Text] = {}
        self.values: dict[str, Text] = {}
        super().__init__(fn, spec, self.axes, helpers)

    def coordinate(self, axis: str) -> Text:
        """Where a block is on an axis; what a tile has too much reads the last coordinate again."""
        return self.clamped.get(axis) or super().coordinate(axis)

    def expressions(self) -> list[Expr]:
        """The sum, its condition and the results."""
        program = self.program
        found = [program.body] if program.reduce else []
        found += [e for e in (program.where,) if e is not None]
        return found + [self._result_expr(n) for n in range(len(self.spec.results))]

    def stage(self, name: str) -> Text:
        """The value of a part of the results."""
        return self.values[name]

    def _result_expr(self, number: int) -> Expr:
        result = self.spec.results[number]
        return result.expr if result.expr is not None else self.program.result_expr

    # -- the function -------------------------------------------------------------------------------

    def printed(self, transform_text: TransformText = schedule_text) -> PrintedKernel:
        """The function and its schedule, which `transform_text` writes."""
        program = self.program
        results = [self._result_expr(n) for n in range(len(self.spec.results))]
        parts = taken_apart(results) if program.reduce else None
        for expression in self.expressions():
            self.affordable(tree_size(expression))
        body = self._body() if program.reduce else None
        margins = self._margins(body) if body is not None else {}
        total = self.names.fresh("total") if program.reduce else ""
        result = self.names.fresh("result")
        copies = [MarginLoops(m.name, len(m.order), m.lanes) for m in margins.values()]
        loops = dict(self.loops)
        for margin in margins.values():
            self._margin(margin)
        self.margins = margins
        if body is not None:
            self._sum(total, body)
        named = self._parts(parts) if parts is not None else []
        self._results(result, parts.results if parts is not None else results)
        blocks = BlockNames(total, result, copies, named)
        return self.kernel(transform_text(self.fn.name, self.schedule, self.tile, loops, blocks))

    def _body(self) -> Expr:
        """What is summed up; terms that do not count are the neutral element."""
        program = self.program
        assert program.combiner is not None
        if program.where is None:
            return program.body
        neutral = const(identity(program.combiner, program.body.dtype), program.body.dtype)
        return select(program.where, program.body, neutral)

    def _margins(self, body: Expr) -> dict[Read, Margin]:
        """Copies for what the sum reads past the edges of operands."""
        found: dict[Read, Margin] = {}
        for read in all_reads(body):
            index = plain_index(read)
            if read.default is None or read in found or index is None or axes_of(read.default):
                continue
            bounds = [(lo, hi) for lo, hi in map(self.ranges.of, index) if lo is not None and hi is not None]
            shape = [number(d) for d in self.spec.operands[read.operand].shape]
            inside = [lo >= 0 and hi < d for (lo, hi), d in zip(bounds, shape, strict=False)]
            if len(bounds) < len(index) or all(inside):
                continue
            low = tuple(lo for lo, _ in bounds)
            extents = tuple(hi - lo + 1 for lo, hi in bounds)
            operand = self.spec.operands[read.operand]
            name = self.names.fresh(f"{operand.name}_margin")
            order = tuple(axis for axis, part in operand.layout.parts(len(shape)) if part != "i")
            last = order[-1]
            whole = low[last] == 0 and extents[last] == shape[last]
            lanes = vector_width(extents[last], self.lanes) if whole else 1
            found[read] = Margin(name, read, low, extents, order, lanes)
        return found

    # -- blocks -------------------------------------------------------------------------------------

    def _margin(self, margin: Margin) -> None:
        """The copy of an operand with a margin."""
        shape = shape_text([Text(str(margin.extents[axis])) for axis in margin.order])
        self.line(f'{margin.name} = T.sblock_alloc_buffer({shape}, "{type_name(margin.read.type.dtype)}")')
        axes = tuple(Axis(f"{margin.name}{n}", margin.extents[n]) for n in margin.order)
        for axis in axes:
            suffix = axis.name.removeprefix(margin.name)
            self.coordinates[axis.name] = self.names.fresh(f"v{suffix}")
            self.loops[axis.name] = self.names.fresh(f"i{suffix}")
        before = dict(self.ranges.known)
        self.ranges.known |= {a.name: (0, number(a.extent) - 1) for a in axes}
        self.open(margin.name, axes, "S" * len(axes))
        place = dict(zip(margin.order, axes, strict=True))
        at = tuple(place[n].dim + lo for n, lo in enumerate(margin.low))
        value = self.load(replace(margin.read, index=at))
        target = element(margin.name, *(Text(self.coordinates[a.name]) for a in axes))
        self.line(f"{target} = {value}")
        self.ranges.known = before
        self.depth = 1

    def _sum(self, name: str, body: Expr) -> None:
        """The reduction."""
        program, tile = self.program, self.tile
        dtype = program.body.dtype
        extents = [Text(str(tile.counted(a).extent)) for a in self._kept_axes()] or [Text("1")]
        self.line(f'{name} = T.sblock_alloc_buffer({shape_text(extents)}, "{type_name(dtype)}")')
        counted = [tile.counted(a) for a in self.axes]
        self.open(name, counted, "S" * len(program.axes) + "R" * len(program.reduce))
        place = self._total(name)
        assert program.combiner is not None
        neutral = literal(identity(program.combiner, dtype), dtype)
        self.line("with T.init():")
        self.line(f"{INDENT}{place} = {neutral}")
        self.clamped = {
            a.name: call("T.min", super(BlockKernel, self).coordinate(a.name), str(number(a.extent) - 1))
            for a in program.axes
            if a.name in tile.clamped
        }
        self.line(f"{place} = {self.combined(place, program.combiner, body)}")
        self.clamped = {}
        self.depth = 1

    def _total(self, name: str) -> Text:
        self.printer.total = self._kept(name)
        return self.printer.total

    def _kept(self, name: str) -> Text:
        """The element for the present coordinates of what is kept for every point of the results' axes."""
        return element(name, *([Text(self.coordinates[a.name]) for a in self._kept_axes()] or [Text("0")]))

    def _kept_axes(self) -> list[Axis]:
        """Axes of the sums as they are kept: lanes last, so that a tile of them is vectors."""
        tile = self.tile
        last = {a.name: place for place, a in enumerate((tile.row, tile.lane), 1) if a is not None}
        return sorted(self.program.axes, key=lambda a: last.get(a.name, 0))

    def _parts(self, parts: Parts) -> list[str]:
        """What results are made of: a block for a part that is used more than once, if it is not small."""
        axes, blocks = self.program.axes, []
        extents = shape_text([Text(str(a.extent)) for a in self._kept_axes()] or [Text("1")])
        for var, part in parts.named:
            value = self.printer.pinned(part)
            self.affordable(value.size)
            if var.name not in parts.shared or value.size <= SMALL or var.dtype.is_bool:
                self.values[var.name] = Text(value.at(POSTFIX))
                self.printer.sizes[var.name] = value.size
                continue
            name = self.names.fresh(var.name)
            self.line(f'{name} = T.sblock_alloc_buffer({extents}, "{type_name(var.dtype)}")')
            self.open(name, axes, "S" * len(axes))
            self.values[var.name] = self._kept(name)
            self.line(f"{self.values[var.name]} = {value}")
            self.depth = 1
            blocks.append(name)
        return blocks

    def _results(self, block: str, expressions: Sequence[Expr]) -> None:
        """What is done with the sum, or all there is without one."""
        axes = self.program.axes
        self.open(block, axes, "S" * len(axes))
        many = len(self.spec.results) > 1
        count = len(self.spec.operands)
        stores = []
        for place, result in enumerate(self.spec.results):
            argument = self.arguments[count + place]
            index = self.physical[-1 - place].index(result.index)
            at = element(argument.name, *(map(self.printer.index.text, index) if index else (Text("0"),)))
            value = self.printer.encoded(expressions[place], result.dtype)
            self.affordable(value.size)
            if many:
                kept = self.names.fresh(f"value{place}")
                self.line(f"{kept}: T.let = {value}")
                value = Text(kept)
            stores.append(f"{at} = {value}")
        for store in stores:
            self.line(store)
        self.depth = 1

    # -- reads --------------------------------------------------------------------------------------

    def load(self, read: Read) -> Text:
        """An operand at coordinates: from its copy with a margin, if it has one."""
        margin = self.margins.get(read)
        if margin is None:
            return super().load(read)
        index = plain_index(read)
        assert index is not None
        return element(margin.name, *map(self.printer.index.text, margin.index(index)))
