"""Computations as blocks of TensorIR: what is computed in one function, how in the schedule beside it.

A `Compute` becomes a block for its sum and one for what is done with the sum; an operand that is read past
its edges is copied with a margin first, so that the sum itself tests nothing.  The schedule is AINO's trace
in TVM's words.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import reduce

from aino_ir.codegen.cstyle.index import Ranges
from aino_ir.codegen.kernels.canonical import axes_of
from aino_ir.codegen.schedule.trace import Schedule
from aino_ir.codegen.tvm.expression import HelperNames, TirPrinter
from aino_ir.codegen.tvm.helpers import MOST
from aino_ir.codegen.tvm.index import IndexText
from aino_ir.codegen.tvm.kernel import (
    INDENT,
    Argument,
    PrintedKernel,
    memory_dtype,
    shape_text,
    signature,
)
from aino_ir.codegen.tvm.schedule_text import BlockNames, MarginLoops, schedule_text
from aino_ir.codegen.tvm.text import PythonNames, Text, binary, call, comment, element, literal, type_name
from aino_ir.codegen.tvm.tiling import Tile, number, vector_width
from aino_ir.compute import Axis, Compute
from aino_ir.dims import Dim, DimLike, FloorDiv
from aino_ir.errors.printing import NoSpelling
from aino_ir.kernels import KernelSpec, Operand
from aino_ir.loops.expr import Accumulator, Binary, Expr, Read, VecType, const, identity, select
from aino_ir.loops.expr_tree import walk
from aino_ir.loops.stmt import LoopFn

TransformText = Callable[[str, Schedule, Tile, Mapping[str, str], BlockNames], str]
"""Writes the function that transforms a kernel, as `schedule_text` does."""


@dataclass(frozen=True)
class Physical:
    """How an operand's memory is declared: extents, some neighbouring ones of the layout's joined.

    Attributes:
        extents: as declared.
        groups: for each of them the physical dims of the layout that it joins.
    """

    operand: Operand
    extents: tuple[int, ...]
    groups: tuple[tuple[int, ...], ...]

    def index(self, coordinates: tuple[DimLike, ...]) -> tuple[DimLike, ...]:
        """Declared coordinates of an element."""
        parts = physical_index(self.operand, coordinates)
        sizes = physical_extents(self.operand)
        return tuple(reduce(lambda a, d: a * sizes[d] + parts[d], group, 0) for group in self.groups)  # type: ignore[arg-type,return-value]


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


class BlockKernel:
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
        self.fn = fn
        self.spec = spec
        self.program = spec.program
        self.schedule = schedule
        self.tile = tile
        self.lanes = lanes
        self.names = PythonNames()
        self.lines: list[str] = []
        self.depth = 1
        self.axes = (*self.program.axes, *self.program.reduce)
        self.ranges = Ranges({a.name: (0, number(a.extent) - 1) for a in self.axes})
        self.coordinates = {a.name: self.names.fresh(f"v_{a.name}") for a in self.axes}
        self.loops = {a.name: self.names.fresh(a.name) for a in self.axes}
        index = IndexText(lambda n: Text(self.coordinates[n]), lambda v: Text(str(v)))
        value = IndexText(
            lambda n: Text(f'T.Cast("int64", {self.coordinates[n]})'), lambda v: Text(f"T.int64({v})")
        )
        self.printer = _BlockPrinter(self, helpers, index, value)
        self.margins: dict[Read, Margin] = {}
        self.physical: dict[int, Physical] = {}
        self.arguments = self._arguments()

    # -- buffers ------------------------------------------------------------------------------------

    def _arguments(self) -> tuple[Argument, ...]:
        found = []
        spec = self.spec
        for place, operand in enumerate(spec.operands):
            indices = [_plain_index(r) for r in self._reads() if r.operand == place]
            plain = [index for index in indices if index is not None]
            physical = self.physical[place] = declared(operand, plain if len(plain) == len(indices) else [])
            name = self.names.fresh(operand.name)
            found.append(Argument(name, place, memory_dtype(operand.dtype), physical.extents))
        following = len(spec.operands)
        for place, result in enumerate(spec.results):
            view = result.aliases if result.aliases is not None else following
            following += result.aliases is None
            physical = self.physical[-1 - place] = declared(result, [result.index])
            name = self.names.fresh(result.name)
            found.append(Argument(name, view, memory_dtype(result.dtype), physical.extents))
        return tuple(found)

    def _expressions(self) -> list[Expr]:
        program = self.program
        found = [program.body] if program.reduce else []
        found += [e for e in (program.where,) if e is not None]
        return found + [self._result_expr(n) for n in range(len(self.spec.results))]

    def _reads(self) -> list[Read]:
        return [r for e in self._expressions() for r in all_reads(e)]

    def _result_expr(self, number: int) -> Expr:
        result = self.spec.results[number]
        return result.expr if result.expr is not None else self.program.result_expr

    # -- the function -------------------------------------------------------------------------------

    def printed(self, transform_text: TransformText = schedule_text) -> PrintedKernel:
        """The function and its schedule, which `transform_text` writes."""
        program = self.program
        for expression in self._expressions():
            self._affordable(tree_size(expression))
        body = self._body() if program.reduce else None
        margins = self._margins(body) if body is not None else {}
        blocks = BlockNames(
            self.names.fresh("total") if program.reduce else "",
            self.names.fresh("result"),
            [MarginLoops(m.name, len(m.order), m.lanes) for m in margins.values()],
        )
        loops = dict(self.loops)
        for margin in margins.values():
            self._margin(margin)
        self.margins = margins
        if body is not None:
            self._sum(blocks.total, body)
        self._results(blocks)
        head = [f"# {comment(line)}" for line in self.fn.header]
        parameters = [f"{a.name}: {a.declaration}" for a in self.arguments]
        text = [*head, "@T.prim_func(s_tir=True)", *signature(self.fn.name, parameters), *self.lines]
        views = len(self.spec.operands) + sum(r.aliases is None for r in self.spec.results)
        transform = transform_text(self.fn.name, self.schedule, self.tile, loops, blocks)
        return PrintedKernel(
            self.fn.name, "\n".join(text) + "\n", transform, self.arguments, (), False, views
        )

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
            index = _plain_index(read)
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

    def line(self, text: str) -> None:
        """Add a line at the present depth."""
        self.lines.append(INDENT * self.depth + text)

    def _open(self, block: str, axes: tuple[Axis, ...], kinds: str) -> None:
        """Loops over axes and a block in them."""
        loops = [self.loops[a.name] for a in axes]
        if axes:
            extents = ", ".join(str(a.extent) for a in axes)
            self.line(f"for {', '.join(loops)} in T.grid({extents}):")
            self.depth += 1
        self.line(f'with T.sblock("{block}"):')
        self.depth += 1
        if axes:
            names = ", ".join(self.coordinates[a.name] for a in axes)
            self.line(f'{names} = T.axis.remap("{kinds}", [{", ".join(loops)}])')
        else:
            self.line("T.axis.spatial(1, 0)")

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
        self._open(margin.name, axes, "S" * len(axes))
        place = dict(zip(margin.order, axes, strict=True))
        at = tuple(place[n].dim + lo for n, lo in enumerate(margin.low))
        value = self.load(replace(margin.read, index=at))
        target = element(margin.name, *(Text(self.coordinates[a.name]) for a in axes))
        self.line(f"{target} = {value}")
        self.ranges.known = before
        self.depth = 1

    def _sum(self, name: str, body: Expr) -> None:
        """The reduction."""
        program = self.program
        dtype = program.body.dtype
        shape = shape_text([Text(str(a.extent)) for a in self._kept_axes()]) if program.axes else Text("(1,)")
        self.line(f'{name} = T.sblock_alloc_buffer({shape}, "{type_name(dtype)}")')
        self._open(name, self.axes, "S" * len(program.axes) + "R" * len(program.reduce))
        place = self._total(name)
        assert program.combiner is not None
        neutral = literal(identity(program.combiner, dtype), dtype)
        self.line("with T.init():")
        self.line(f"{INDENT}{place} = {neutral}")
        if program.combiner == "add" and not dtype.is_bool:
            product = isinstance(body, Binary) and body.op == "mul"
            value = self.printer.plain(body) if product else self.printer.value(body)  # type: ignore[arg-type]
            self.line(f"{place} = {binary('+', place, value)}")
        else:
            combined = Binary(program.combiner, Accumulator(body.type), body, body.type)
            self.line(f"{place} = {self.printer.value(combined)}")
        self.depth = 1

    def _total(self, name: str) -> Text:
        self.printer.total = element(
            name, *([Text(self.coordinates[a.name]) for a in self._kept_axes()] or [Text("0")])
        )
        return self.printer.total

    def _kept_axes(self) -> list[Axis]:
        """Axes of the sums as they are kept: lanes last, so that a tile of them is vectors."""
        last = {id(self.tile.row): 1, id(self.tile.lane): 2}
        return sorted(self.program.axes, key=lambda a: last.get(id(a), 0))

    def _results(self, blocks: BlockNames) -> None:
        """What is done with the sum, or all there is without one."""
        axes = self.program.axes
        self._open(blocks.result, axes, "S" * len(axes))
        many = len(self.spec.results) > 1
        count = len(self.spec.operands)
        stores = []
        for place, result in enumerate(self.spec.results):
            argument = self.arguments[count + place]
            index = self.physical[-1 - place].index(result.index)
            at = element(argument.name, *(map(self.printer.index.text, index) if index else (Text("0"),)))
            value = self.printer.encoded(self._result_expr(place), result.dtype)
            self._affordable(value.size)
            if many:
                kept = self.names.fresh(f"value{place}")
                self.line(f"{kept}: T.let = {value}")
                value = Text(kept)
            stores.append(f"{at} = {value}")
        for store in stores:
            self.line(store)
        self.depth = 1

    def _affordable(self, size: float) -> None:
        """Refuse what is too large for TVM's simplifier, which looks at a part wherever it stands."""
        if size > MOST:
            raise NoSpelling(operation="an expression", type=f"{size:.3g} nodes", target="a block")

    # -- reads --------------------------------------------------------------------------------------

    def load(self, read: Read) -> Text:
        """An operand at coordinates, its default outside of its bounds."""
        margin = self.margins.get(read)
        if margin is not None:
            index = _plain_index(read)
            assert index is not None
            return element(margin.name, *map(self.printer.index.text, margin.index(index)))
        operand = self.spec.operands[read.operand]
        argument = self.arguments[read.operand]
        raw = element(argument.name, *self._place(read))
        conditions = self._conditions(read, operand) if read.default is not None else []
        if not conditions:
            return self.printer.decoded(raw, operand.dtype)
        inside = reduce(lambda a, b: call("T.And", a, b), conditions)
        return self.printer.guarded(inside, raw, operand.dtype, read.default, read.type.dtype)

    def _place(self, read: Read) -> list[Text]:
        physical = self.physical[read.operand]
        plain = _plain_index(read)
        if plain is not None:
            return [self.printer.index.text(c) for c in physical.index(plain)] or [Text("0")]
        if not physical.operand.layout.is_row_major or len(physical.groups) != len(read.index):
            raise NoSpelling(operation="a gather", type=str(physical.operand.layout), target="TVM")
        return [
            self.printer.value(c) if isinstance(c, Expr) else self.printer.index.text(c) for c in read.index
        ]

    def _conditions(self, read: Read, operand: Operand) -> list[Text]:
        """That the coordinates are inside, where that is not plain."""
        found = []
        for c, extent in zip(read.index, operand.shape, strict=True):
            low: int | None
            high: int | None
            if isinstance(c, Expr):
                text, (low, high) = self.printer.value(c), (None, None)
                zero, end = Text("T.int64(0)"), Text(f"T.int64({extent})")
            else:
                text, (low, high) = self.printer.index.text(c), self.ranges.of(c)
                zero, end = Text("0"), Text(str(extent))
            if low is None or low < 0:
                found.append(binary(">=", text, zero))
            if high is None or high >= number(extent):
                found.append(binary("<", text, end))
        return found


class _BlockPrinter(TirPrinter):
    """Expressions with reads of operands and of the sum."""

    def __init__(self, kernel: BlockKernel, helpers: HelperNames, index: IndexText, value: IndexText) -> None:
        super().__init__(helpers, lambda n: n, index, value, {})
        self.kernel = kernel
        self.total = Text("")

    def read(self, e: Read) -> Text:
        return self.kernel.load(e)

    def helper(self, function: str, *args: tuple[Text, VecType]) -> Text:
        if function in self.helpers.keeping:
            raise self.missing(f"{function} in a block", args[0][1])
        return super().helper(function, *args)

    def accumulator(self, e: Accumulator) -> Text:
        return self.total


def _plain_index(read: Read) -> tuple[DimLike, ...] | None:
    """The coordinates of a read, None where some are computed."""
    plain = tuple(c for c in read.index if not isinstance(c, Expr))
    return plain if len(plain) == len(read.index) else None


def all_reads(e: Expr) -> list[Read]:
    """Every read in an expression, those in coordinates and defaults included."""
    found: list[Read] = []
    for node in walk(e):
        if isinstance(node, Read):
            found.append(node)
            for part in (*node.index, node.default):
                if isinstance(part, Expr):
                    found += all_reads(part)
    return found


def tree_size(e: Expr) -> float:
    """How many nodes an expression has when parts that it shares are counted wherever they stand."""
    sizes: dict[int, float] = {}
    stack = [e]
    while stack:
        node = stack[-1]
        rest = [c for c in node.children() if id(c) not in sizes]
        if rest:
            stack += rest
            continue
        sizes[id(node)] = 1.0 + sum(sizes[id(c)] for c in node.children())
        stack.pop()
    return sizes[id(e)]


def physical_extents(operand: Operand) -> tuple[int, ...]:
    """Extents of an operand's memory, outermost first."""
    shape = operand.allocated if operand.allocated is not None else operand.shape
    return tuple(number(e) for e in operand.layout.phys(shape))


def physical_index(operand: Operand, coordinates: tuple[DimLike, ...]) -> tuple[DimLike, ...]:
    """Where an element is in an operand's memory, one number a physical dim."""
    tiles = dict(operand.layout.tiles)
    found: list[DimLike] = []
    for axis, part in operand.layout.parts(len(operand.shape)):
        c = coordinates[axis]
        found.append(c // tiles[axis] if part == "o" else c % tiles[axis] if part == "i" else c)
    return tuple(found)


def declared(operand: Operand, indices: list[tuple[DimLike, ...]]) -> Physical:
    """How memory is declared: neighbours that are only ever counted together are one dimension."""
    sizes = physical_extents(operand)
    groups: list[tuple[int, ...]] = [(d,) for d in range(len(sizes))]
    parts = [physical_index(operand, i) for i in indices]

    def at(index: tuple[DimLike, ...], group: tuple[int, ...]) -> DimLike:
        return reduce(lambda a, d: a * sizes[d] + index[d], group, 0)  # type: ignore[arg-type,return-value]

    place = 0
    while parts and place + 1 < len(groups):
        joined = (*groups[place], *groups[place + 1])
        apart = sum(quotients(at(p, g)) for p in parts for g in (groups[place], groups[place + 1]))
        together = sum(quotients(at(p, joined)) for p in parts)
        if together < apart:
            groups[place : place + 2] = [joined]
            place = 0
        else:
            place += 1
    extents = []
    for group in groups:
        extent = 1
        for d in group:
            extent *= sizes[d]
        extents.append(max(1, extent))
    return Physical(operand, tuple(extents) or (1,), tuple(groups))


def quotients(dim: DimLike) -> int:
    """How many floor divisions an index has."""
    if not isinstance(dim, Dim):
        return 0
    return sum(isinstance(atom, FloorDiv) for _, atoms in dim.terms() for atom in atoms)
