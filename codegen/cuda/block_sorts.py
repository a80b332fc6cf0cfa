"""Sorting and top-k of lines: bitonic networks in shared memory, and merges of what they give.

A block sorts up to 4,096 elements, each with its position, which decides between equal ones and so makes
the order total: the network need not be stable to give what a stable sort gives.  Longer lines are sorted in
pieces, of each of which at most the wanted number is kept.  Then blocks sort what several pieces have left,
where that fits; or each element finds its place among two sorted runs by a binary search in the other run.

The network is K. E. Batcher's of 1968, "Sorting networks and their applications".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from aino_ir.codegen.kernels.access import Placement
from aino_ir.codegen.kernels.naming import header, kernel_name
from aino_ir.codegen.kernels.nest import tensors
from aino_ir.compute import BestOfLines, Nest, TensorRef
from aino_ir.dims import DimLike, is_static, product
from aino_ir.dtypes import DType, boolean, i32, i64
from aino_ir.kernels import Candidate, Division, KernelSpec, Operand, Part, Reject, Result
from aino_ir.loops.builder import LoopBuilder
from aino_ir.loops.conditions import Condition
from aino_ir.loops.expr import Expr, VecType, binary, cast, compare, const, index, select
from aino_ir.loops.stmt import LoopFn
from aino_ir.nests import outranks
from aino_ir.symbols import Symbols
from aino_ir.target import Target
from aino_ir.types import TensorType

SHORT = 32
"""Lines of fewer elements are left to one thread each."""

SHARED_BYTES = 32 << 10
"""Of a block: 4,096 elements of four bytes with their positions."""

MOST_THREADS = 512
NOWHERE = (1 << 31) - 1
"""The position of what is no element: it comes after all that are."""

Tensors = tuple[TensorRef, ...]
Ranked = tuple[Expr, Expr]
"""An element and its position (i32)."""


@dataclass(frozen=True)
class Lines:
    """What is sorted.

    Attributes:
        outer: extents of the axes that number lines.
        axis: where the sorted axis stands among them.
        length: elements of a line; `most`: at most, None: unknown.
        count: elements of a line that are wanted.
        largest: whether the greatest come first.
        dtype: of elements.
    """

    outer: tuple[DimLike, ...]
    axis: int
    length: DimLike
    most: int | None
    count: DimLike
    largest: bool
    dtype: DType

    @property
    def slots(self) -> int:
        """Elements that a block can sort, a power of two."""
        fit = SHARED_BYTES // (max(4, self.dtype.compute.bytes) + i32.bytes)
        return 1 << (fit.bit_length() - 1)

    @property
    def text(self) -> str:
        """What tells kernels for these lines from others."""
        return f"{self.outer} {self.axis} {self.length} {self.count} {self.largest} {self.dtype}"

    def at(self, line: tuple[DimLike, ...], element: DimLike) -> tuple[DimLike, ...]:
        """Coordinates of an element in the tensors of the op."""
        return (*line[: self.axis], element, *line[self.axis :])

    def split(
        self, b: Any, unit: DimLike, more: dict[str, DimLike]
    ) -> tuple[tuple[DimLike, ...], list[DimLike]]:
        """The coordinates of a unit's line, and those within it."""
        extents = {f"line{n}": e for n, e in enumerate(self.outer)} | more
        found = b.split(unit, extents) if extents else ()
        return tuple(found[: len(self.outer)]), list(found[len(self.outer) :])

    def precedes(self, a: Ranked, b: Ranked) -> Expr:
        """Whether an element comes before another one."""
        none_a, none_b = (compare("eq", x[1], NOWHERE) for x in (a, b))
        better, worse = outranks(a[0], b[0], self.largest), outranks(b[0], a[0], self.largest)
        return ~none_a & (none_b | better | (~worse & compare("lt", a[1], b[1])))


def lines_of(spec: KernelSpec) -> Lines | str:
    """What a spec sorts, or why it does not."""
    program = spec.program
    if not isinstance(program, Nest) or not isinstance(program.meaning, BestOfLines):
        return "not a sort"
    meaning, x = program.meaning, spec.operands[0]
    length = x.shape[meaning.axis]
    table = Symbols()
    for name, low, high in spec.symbols:
        table.new(name, lo=low, hi=high)
    most = int(length) if is_static(length) else table.interval(length)[1]  # type: ignore[arg-type]
    most = most if isinstance(most, int) else None
    outer = tuple(e for a, e in enumerate(x.shape) if a != meaning.axis)
    if most is not None and most < SHORT:
        return f"lines of {most} elements"
    return Lines(outer, meaning.axis, length, most, meaning.count, meaning.largest, x.dtype)


class BlockSortGenerator:
    """Kernels that sort lines which a block can hold."""

    name = "block sort"

    def candidates(self, spec: KernelSpec, target: Target) -> Iterable[Candidate | Reject]:
        """One candidate."""
        lines = lines_of(spec)
        if isinstance(lines, str):
            yield Reject(self.name, lines)
        elif lines.most is None or lines.most > lines.slots:
            yield Reject(self.name, f"lines of {lines.most or 'any number of'} elements, {lines.slots} fit")
        else:
            slots = _power(lines.most)
            yield Candidate(
                self.name, f"a block for each line, a network of {slots}", cost=1e-6, error_class="exact"
            )

    def build(self, spec: KernelSpec, candidate: Candidate, target: Target) -> LoopFn:
        """The loops."""
        lines = lines_of(spec)
        assert isinstance(lines, Lines) and lines.most is not None
        piece = Piece(lines, lines.length, 1, lines.length, lines.count, _power(lines.most), True, True)
        b = LoopBuilder(kernel_name(spec))
        inputs, outputs = tensors(b, Placement(b, spec))
        with b.units(piece.units, piece.threads) as unit:
            piece.build(b, inputs, outputs, unit)
        return b.finish(header(spec, candidate))


def _power(count: int) -> int:
    """The next power of two, at least a warp of pairs."""
    return max(64, 1 << (count - 1).bit_length())


@dataclass(frozen=True)
class Piece:
    """Stretches of lines that a block sorts each.

    Attributes:
        lines: what is sorted in the end.
        total: elements of a line, as they come.
        pieces: stretches of a line.
        stretch: elements of one; the last one may have fewer.
        keep: how many of a stretch are wanted.
        slots: of the network.
        first, last: whether elements are those of the op's operand, and what is kept its results.
    """

    lines: Lines
    total: DimLike
    pieces: int
    stretch: DimLike
    keep: DimLike
    slots: int
    first: bool
    last: bool

    @property
    def units(self) -> DimLike:
        """Blocks."""
        return product(self.lines.outer) * self.pieces

    @property
    def threads(self) -> int:
        """Of a block."""
        return min(MOST_THREADS, self.slots // 2)

    def build(self, b: Any, inputs: Tensors, outputs: Tensors, unit: DimLike) -> None:
        """Fill, sort, write."""
        line, (piece,) = self.lines.split(b, unit, {"piece": self.pieces})
        shared = b.share("value", self.lines.dtype.compute, self.slots), b.share("position", i32, self.slots)
        with self._slot(b) as slot:
            element = piece * self.stretch + slot
            inside = Condition(element, "<", self.total).expr() & Condition(slot, "<", self.stretch).expr()
            with b.when(inside):
                place = b.index(index(element), 0, self.total - 1, "element")
                _put(b, shared, slot, _element(self.lines, inputs, line, place, self.first))
            with b.otherwise():
                _put(b, shared, slot, (const(0, self.lines.dtype.compute), const(NOWHERE, i32)))
        b.barrier()
        self._sort(b, shared)
        with self._slot(b) as slot, b.when(Condition(slot, "<", self.keep)):
            found = tuple(b.load(s, slot) for s in shared)
            _keep(self.lines, outputs, line, piece * self.keep + slot, found, self.last)

    def _slot(self, b: Any) -> Any:
        """A loop over the slots that are this thread's."""
        return b.loop("slot", b.thread, self.slots, step=self.threads)

    def _sort(self, b: Any, shared: tuple[str, str]) -> None:
        """Sorted runs of 2, 4 ... slots: pairs of slots at halving distances are put in order."""
        depth = self.slots.bit_length() - 1
        with b.loop("stage", 0, depth) as stage, b.loop("step", 0, stage + 1) as step:
            distance = b.let(const(1, i64) << index(stage - step), "distance")
            run = b.let(const(2, i64) << index(stage), "run")
            with b.loop("pair", b.thread, self.slots // 2, step=self.threads) as pair:
                low = b.let(index(pair) * 2 - (index(pair) & (distance - 1)))
                here, there = (b.index(e, 0, self.slots - 1) for e in (low, low + distance))
                a, c = (tuple(b.load(s, at) for s in shared) for at in (here, there))
                wrong = b.let(self.lines.precedes(c, a))
                ascending = compare("eq", low & run, 0)
                with b.when(select(ascending, wrong, ~wrong)):
                    _put(b, shared, here, c)
                    _put(b, shared, there, a)
            b.barrier()


def _put(b: Any, shared: tuple[str, str], slot: DimLike, what: Ranked) -> None:
    for buffer, value in zip(shared, what, strict=True):
        b.store(buffer, slot, value)


def _element(lines: Lines, inputs: Tensors, line: tuple[DimLike, ...], at: DimLike, first: bool) -> Ranked:
    """An element of the operand, whose position is where it stands, or one that a kernel before has left."""
    if first:
        return inputs[0].load(lines.at(line, at)), cast(index(at), i32)
    return inputs[0].load((*line, at)), inputs[1].load((*line, at))


def _keep(
    lines: Lines, outputs: Tensors, line: tuple[DimLike, ...], at: DimLike, what: Ranked, last: bool
) -> None:
    """Write an element to the results, or to where the next kernel looks for it."""
    values, positions = outputs
    if last:
        values.store(lines.at(line, at), what[0])
        positions.store(lines.at(line, at), cast(what[1], i64))
    else:
        values.store((*line, at), what[0])
        positions.store((*line, at), what[1])


@dataclass(frozen=True)
class Merge:
    """Pairs of sorted runs become one each; every element finds its place.

    Attributes:
        lines: what is sorted in the end.
        runs, length: of a line, and elements of one.
        keep: elements of a merged run that are wanted.
        last: whether what is kept is the op's results.
    """

    lines: Lines
    runs: int
    length: int
    keep: int
    last: bool

    @property
    def units(self) -> DimLike:
        """Elements."""
        return product(self.lines.outer) * (self.runs * self.length)

    def build(self, b: Any, inputs: Tensors, outputs: Tensors, unit: DimLike) -> None:
        """One element: its place in its run, and how many of the other run come before it."""
        lines, total = self.lines, self.runs * self.length
        line, (run, within) = lines.split(b, unit, {"run": self.runs, "within": self.length})
        mine = _element(lines, inputs, line, run * self.length + within, False)
        is_left = b.let(compare("eq", index(run) & 1, 0))
        other = b.let(select(is_left, index(run) + 1, index(run) - 1), "other")
        exists = b.let(compare("lt", other, self.runs))
        low = b.reg("low", VecType(i64), 0)
        high = b.reg("high", VecType(i64), select(exists, const(self.length, i64), const(0, i64)))
        with b.while_(lambda: compare("lt", low.read(), high.read())):
            middle = b.let((low.read() + high.read()) >> 1)
            rival = _element(lines, inputs, line, b.index(other * self.length + middle, 0, total - 1), False)
            before = b.reg("before", VecType(boolean), lines.precedes(rival, mine))
            with b.when(~is_left):
                b.set(before, ~lines.precedes(mine, rival))
            b.set(low, select(before.read(), middle + 1, low.read()))
            b.set(high, select(before.read(), high.read(), middle))
        rank = b.let(index(within) + low.read())
        start = b.let(binary("shr", index(run), const(1, i64)) * self.keep, "start")
        merged = -(-self.runs // 2) * self.keep
        with b.when(compare("lt", rank, self.keep)):
            _keep(lines, outputs, line, b.index(start + rank, 0, merged - 1), mine, self.last)
        if self.runs % 2 and self.length < self.keep:  # the last run has no other: nothing follows it
            with b.when(~exists & Condition(within + self.length, "<", self.keep).expr()):
                rest = b.index(start + index(within + self.length), 0, merged - 1)
                nothing = const(0, lines.dtype.compute), const(NOWHERE, i32)
                _keep(lines, outputs, line, rest, nothing, self.last)


def split_sort(spec: KernelSpec) -> Division | None:
    """Lines that no block can hold: sorted in pieces, which are then brought together."""
    lines = lines_of(spec)
    if isinstance(lines, str) or not is_static(lines.length) or not is_static(lines.count):
        return None
    length, count = int(lines.length), int(lines.count)  # type: ignore[arg-type]
    if length <= lines.slots or length >= NOWHERE:
        return None
    slots = lines.slots
    runs = -(-length // slots)
    piece = Piece(lines, length, runs, slots, min(slots, count), slots, True, False)
    made = _Parts(spec, lines)
    made.add(piece, piece.units, piece.threads, runs * min(slots, count))
    kept = min(slots, count)
    while runs > 1:
        together = max(1, slots // kept)
        if together > 1:
            stretch, pieces = together * kept, -(-runs // together)
            keep = min(stretch, count)
            step = Piece(lines, runs * kept, pieces, stretch, keep, _power(stretch), False, pieces == 1)
            made.add(step, step.units, step.threads, None if pieces == 1 else pieces * keep)
        else:
            pieces, keep = -(-runs // 2), min(2 * kept, count)
            merge = Merge(lines, runs, kept, keep, pieces == 1)
            made.add(merge, merge.units, 1, None if pieces == 1 else pieces * keep)
        runs, kept = pieces, keep
    return Division(tuple(made.temporaries), tuple(made.parts))


class _Parts:
    """The kernels of a sort, each reading what the one before it has left."""

    def __init__(self, spec: KernelSpec, lines: Lines) -> None:
        self.spec = spec
        self.lines = lines
        self.temporaries: list[tuple[str, TensorType]] = []
        self.parts: list[Part] = []
        self.reads: tuple[int | str, ...] = (0,)
        self.operands: tuple[Operand, ...] = (spec.operands[0],)

    def add(self, what: Piece | Merge, units: DimLike, threads: int, left: int | None) -> None:
        """A kernel that leaves so many elements of a line; None: the results."""
        spec, number = self.spec, len(self.parts)
        writes: tuple[int | str, ...] = (0, 1)
        results = spec.results
        if left is not None:
            shape = (*self.lines.outer, left)
            dtypes = {"value": self.lines.dtype, "position": i32}
            types = {f"{name}{number}": TensorType(dtype, shape) for name, dtype in dtypes.items()}
            writes = tuple(types)
            results = tuple(Result(name, type_.dtype, shape) for name, type_ in types.items())
            self.temporaries += types.items()
        build: Callable[..., None] = what.build
        key = f"{type(what).__name__} {self.lines.text} {_numbers(what)}"
        nest = Nest(build, units, key=key, threads=threads)
        anchor = f"{spec.anchor}_{type(what).__name__.lower()}"
        made = KernelSpec(
            anchor, nest, self.operands, results, spec.symbols, spec.numerics, f"{spec.label} ({number + 1})"
        )
        self.parts.append(Part(made, self.reads, writes))
        self.reads = writes
        self.operands = tuple(Operand(r.name, r.dtype, r.shape) for r in results)


def _numbers(what: Piece | Merge) -> str:
    if isinstance(what, Merge):
        return f"{what.runs} {what.length} {what.keep} {what.last}"
    return f"{what.total} {what.pieces} {what.stretch} {what.keep} {what.slots} {what.first} {what.last}"
