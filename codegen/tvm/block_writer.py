"""What blocks of TensorIR have in common: buffers, loops around a block, and reads of operands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

from aino_ir.codegen.cstyle.index import Ranges
from aino_ir.codegen.tvm.expression import HelperNames, TirPrinter
from aino_ir.codegen.tvm.helpers import MOST
from aino_ir.codegen.tvm.index import IndexText
from aino_ir.codegen.tvm.kernel import INDENT, Argument, PrintedKernel, memory_dtype, signature
from aino_ir.codegen.tvm.text import PythonNames, Text, binary, call, comment, element
from aino_ir.codegen.tvm.tiling import number
from aino_ir.compute import Axis
from aino_ir.dims import Dim, DimLike, FloorDiv
from aino_ir.errors.printing import NoSpelling
from aino_ir.kernels import KernelSpec, Operand
from aino_ir.loops.expr import Accumulator, Binary, Expr, Read, VecType
from aino_ir.loops.expr_tree import walk
from aino_ir.loops.stmt import LoopFn


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


class BlockWriter:
    """Writes the blocks of one kernel; `lines` is the result so far.

    Args:
        fn: the same kernel as loops: its name and header.
        spec: operands with the layouts that the kernel reads.
        axes: of all loops.
        helpers: where helper functions come from.
    """

    def __init__(self, fn: LoopFn, spec: KernelSpec, axes: Sequence[Axis], helpers: HelperNames) -> None:
        self.fn = fn
        self.spec = spec
        self.names = PythonNames()
        self.lines: list[str] = []
        self.depth = 1
        self.ranges = Ranges({a.name: (0, number(a.extent) - 1) for a in axes})
        self.coordinates = {a.name: self.names.fresh(f"v_{a.name}") for a in axes}
        self.loops = {a.name: self.names.fresh(a.name) for a in axes}
        index = IndexText(self.coordinate, lambda v: Text(str(v)))
        value = IndexText(
            lambda n: Text(f'T.Cast("int64", {self.coordinate(n)})'), lambda v: Text(f"T.int64({v})")
        )
        self.printer = BlockPrinter(self, helpers, index, value)
        self.physical: dict[int, Physical] = {}
        self.arguments = self._arguments()

    def coordinate(self, axis: str) -> Text:
        """Where a block is on an axis."""
        return Text(self.coordinates[axis])

    def expressions(self) -> list[Expr]:
        """Everything that the kernel computes."""
        raise TypeError("abstract")

    def stage(self, name: str) -> Text:
        """The value of an earlier stage at the present coordinates."""
        raise TypeError("abstract")

    # -- buffers

    def _arguments(self) -> tuple[Argument, ...]:
        found = []
        spec = self.spec
        reads = [r for e in self.expressions() for r in all_reads(e)]
        for place, operand in enumerate(spec.operands):
            indices = [plain_index(r) for r in reads if r.operand == place]
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

    def given(self, argument: Text) -> Text:
        """What a helper gets of an argument."""
        return argument

    # -- blocks

    def line(self, text: str) -> None:
        """Add a line at the present depth."""
        self.lines.append(INDENT * self.depth + text)

    def open(self, block: str, axes: Sequence[Axis], kinds: str) -> None:
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

    def affordable(self, size: float) -> None:
        """Refuse what is too large for TVM's simplifier, which looks at a part wherever it stands."""
        if size > MOST:
            raise NoSpelling(operation="an expression", type=f"{size:.3g} nodes", target="a block")

    def kernel(self, transform: str) -> PrintedKernel:
        """The finished kernel, whose schedule is `transform`."""
        head = [f"# {comment(line)}" for line in self.fn.header]
        parameters = [f"{a.name}: {a.declaration}" for a in self.arguments]
        text = [*head, "@T.prim_func(s_tir=True)", *signature(self.fn.name, parameters), *self.lines]
        views = len(self.spec.operands) + sum(r.aliases is None for r in self.spec.results)
        name, arguments = self.fn.name, self.arguments
        return PrintedKernel(name, "\n".join(text) + "\n", transform, arguments, (), False, views)

    def combined(self, total: Text, combiner: str, value: Expr) -> Text:
        """A total with one more value; a product may be added with one rounding."""
        self.printer.total = total
        if combiner == "add" and not value.dtype.is_bool:
            product = isinstance(value, Binary) and value.op == "mul"
            added = self.printer.plain(value) if product else self.printer.value(value)  # type: ignore[arg-type]
            return binary("+", total, added)
        return self.printer.value(Binary(combiner, Accumulator(value.type), value, value.type))

    # -- reads

    def load(self, read: Read) -> Text:
        """An operand at coordinates, its default outside of its bounds."""
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
        plain = plain_index(read)
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


class BlockPrinter(TirPrinter):
    """Expressions with reads of operands and of the sum."""

    def __init__(self, kernel: BlockWriter, helpers: HelperNames, index: IndexText, value: IndexText) -> None:
        super().__init__(helpers, lambda name: kernel.stage(name).text, index, value, {})
        self.kernel = kernel
        self.total = Text("")

    def read(self, e: Read) -> Text:
        """An operand at coordinates."""
        return self.kernel.load(e)

    def helper(self, function: str, *args: tuple[Text, VecType]) -> Text:
        """A call of a helper, which may have no variables of its own."""
        if function in self.helpers.keeping:
            raise self.missing(f"{function} in a block", args[0][1])
        return super().helper(function, *((self.kernel.given(a), type_) for a, type_ in args))

    def accumulator(self, e: Accumulator) -> Text:
        """The total so far."""
        return self.total


def plain_index(read: Read) -> tuple[DimLike, ...] | None:
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
