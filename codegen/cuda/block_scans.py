"""Running sums and products: a block a line, warps that scan by exchanges, a carry from chunk to chunk.

A thread has four neighbouring elements of a chunk, which come and go by way of shared memory, so that
neighbouring threads read and write neighbouring elements.  Within a warp the combination of whoever comes
before is found by exchanges between threads whose numbers differ in one bit.  Long lines of which there are
few are cut into stretches: what each comes to, a scan of that, and then every stretch from where it starts.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from aino_ir.codegen.cuda.exchange import exchanged
from aino_ir.codegen.kernels.access import Placement
from aino_ir.codegen.kernels.canonical import slope
from aino_ir.codegen.kernels.naming import header, kernel_name
from aino_ir.codegen.kernels.nest import tensors
from aino_ir.codegen.kernels.roles import extent_or
from aino_ir.compute import Axis, Compute, Nest, RunningCombination, TensorRef, axes, coordinates
from aino_ir.dims import DimLike, is_static, product, symbol
from aino_ir.dtypes import DType
from aino_ir.kernels import Candidate, Division, KernelSpec, Operand, Part, Reject, Result
from aino_ir.loops.builder import LoopBuilder
from aino_ir.loops.conditions import Condition
from aino_ir.loops.expr import (
    Accumulator,
    Expr,
    Index,
    Read,
    VecType,
    binary,
    compare,
    const,
    identity,
    index,
    minimum,
    select,
)
from aino_ir.loops.registers import Reg
from aino_ir.loops.stmt import LoopFn
from aino_ir.loops.warp import WARP
from aino_ir.target import Target
from aino_ir.types import TensorType

SHORT = 64
"""Lines of fewer elements are left to one thread each."""

MANY = 2048
"""So many lines that lie across are done a line a thread: neighbours then read neighbouring elements."""

EACH = 4
"""Elements of a chunk that a thread has."""

THREADS = 256
BANKS = 32

LONG = 1 << 15
"""Elements of a line that is worth several blocks, and `FEW` lines so long leave a device idle."""

FEW = 64
MOST_BLOCKS = 1024
STRETCH = 1 << 12
"""Elements of a stretch at least: four chunks."""

Tensors = tuple[TensorRef, ...]


@dataclass(frozen=True)
class Lines:
    """What is scanned.

    Attributes:
        how: the combination.
        shape: of the operand.
        dtype: in which it is combined.
        stretch, stretches: elements of a line that a block does, and how many blocks do a line.
    """

    how: RunningCombination
    shape: tuple[DimLike, ...]
    dtype: DType
    stretch: DimLike
    stretches: int = 1

    @property
    def outer(self) -> tuple[DimLike, ...]:
        """Extents that number lines."""
        return tuple(e for a, e in enumerate(self.shape) if a != self.how.axis)

    @property
    def units(self) -> DimLike:
        """Blocks."""
        return product(self.outer) * self.stretches

    @property
    def threads(self) -> int:
        """Of a block."""
        threads = THREADS
        while is_static(self.stretch) and threads > WARP and threads * EACH >= 2 * int(self.stretch):  # type: ignore[arg-type]
            threads //= 2
        return threads

    def at(self, line: tuple[DimLike, ...], step: DimLike) -> tuple[DimLike, ...]:
        """Coordinates of the element that comes so many steps after a line's start."""
        axis, extent = self.how.axis, self.shape[self.how.axis]
        return (*line[:axis], extent - 1 - step if self.how.reverse else step, *line[axis:])

    def start(self) -> Expr:
        """What a line starts with."""
        return const(identity(self.how.combiner, self.dtype), self.dtype)

    def combined(self, a: Expr, b: Expr) -> Expr:
        """What comes to a and then to b."""
        return binary(self.how.combiner, a, b)


def lines_of(spec: KernelSpec) -> Lines | str:
    """What a spec scans, or why it is not for blocks."""
    program = spec.program
    if not isinstance(program, Nest) or not isinstance(program.meaning, RunningCombination):
        return "not a scan"
    how, x = program.meaning, spec.operands[0]
    length = x.shape[how.axis]
    lines = Lines(how, x.shape, x.dtype.compute, length)
    if is_static(length) and int(length) < SHORT:  # type: ignore[arg-type]
        return f"lines of {length} elements"
    names = tuple(symbol(f"c{a}.") for a in range(len(x.shape)))
    along = slope(x.addr(names), f"c{how.axis}.") == 1
    count = 1
    for extent in lines.outer:
        count *= extent_or(extent, 1024)
    if not along and count >= MANY:
        return f"{count} lines that lie across"
    return lines


class BlockScanGenerator:
    """Kernels of running combinations."""

    name = "block scan"

    def candidates(self, spec: KernelSpec, target: Target) -> Iterable[Candidate | Reject]:
        """One candidate."""
        lines = lines_of(spec)
        if isinstance(lines, str):
            yield Reject(self.name, lines)
        else:
            how = f"a block of {lines.threads} threads a line, {lines.threads * EACH} elements at a time"
            yield Candidate(self.name, how, cost=1e-6)

    def build(self, spec: KernelSpec, candidate: Candidate, target: Target) -> LoopFn:
        """The loops."""
        lines = lines_of(spec)
        assert isinstance(lines, Lines)
        b = LoopBuilder(kernel_name(spec))
        inputs, outputs = tensors(b, Placement(b, spec))
        with b.units(lines.units, lines.threads) as unit:
            Scan(lines).build(b, inputs, outputs, unit)
        return b.finish(header(spec, candidate))


@dataclass(frozen=True)
class Scan:
    """One stretch of a line by one block; operand 1, if there is one, says what each stretch starts with."""

    lines: Lines

    def build(self, b: Any, inputs: Tensors, outputs: Tensors, unit: DimLike) -> None:
        """Chunk after chunk."""
        lines = self.lines
        extents = {f"line{n}": e for n, e in enumerate(lines.outer)} | {"stretch": lines.stretches}
        *line, stretch = b.split(unit, extents)
        chunk = lines.threads * EACH
        slots = b.share("chunk", lines.dtype, chunk + chunk // BANKS)
        totals = b.share("total", lines.dtype, max(1, lines.threads // WARP))
        start = inputs[1].load((*line, stretch)) if len(inputs) > 1 else lines.start()
        carry = b.reg("carry", VecType(lines.dtype), start)
        first = stretch * lines.stretch
        rest = minimum(index(lines.shape[lines.how.axis] - first), index(lines.stretch))
        end = lines.stretch if lines.stretches == 1 else b.index(rest, None, lines.stretch, "end")
        with b.loop("done", 0, end, step=chunk) as done:

            def each(visit: Any, done: DimLike = done) -> None:
                with b.loop("slot", b.thread, chunk, step=lines.threads, unroll=EACH) as slot:
                    inside = b.let(Condition(done + slot, "<", end).expr())
                    visit(slot, lines.at(tuple(line), first + done + slot), inside)

            def fill(slot: DimLike, at: tuple[DimLike, ...], inside: Expr) -> None:
                with b.when(inside):
                    b.store(slots, slot + slot // BANKS, inputs[0].load(at))
                with b.otherwise():
                    b.store(slots, slot + slot // BANKS, lines.start())

            def keep(slot: DimLike, at: tuple[DimLike, ...], inside: Expr) -> None:
                with b.when(inside):
                    outputs[0].store(at, b.load(slots, slot + slot // BANKS))

            each(fill)
            b.barrier()
            self._scan(b, slots, totals, carry)
            b.barrier()
            each(keep)
            b.barrier()

    def _scan(self, b: Any, slots: str, totals: str, carry: Reg) -> None:
        """The elements of a chunk in shared memory become the results there."""
        lines = self.lines
        mine = [b.dim(b.thread * EACH + n) for n in range(EACH)]
        elements = [b.load(slots, at + at // BANKS) for at in mine]
        total = elements[0]
        for element in elements[1:]:
            total = b.let(lines.combined(total, element))
        before: Expr = lines.start()
        for distance in (1, 2, 4, 8, 16):
            other = exchanged(b, total, distance)
            second = b.let(compare("ne", index(b.thread) & distance, 0))
            before = b.let(select(second, lines.combined(other, before), before))
            ordered = select(second, lines.combined(other, total), lines.combined(total, other))
            total = b.let(ordered)
        warps = lines.threads // WARP
        with b.when(Condition(b.thread % WARP, "<", 1)):
            b.store(totals, b.thread // WARP, total)
        b.barrier()
        come = b.let(carry.read())
        warp = index(b.thread // WARP)
        for number in range(warps):
            part = b.load(totals, number)
            if number + 1 < warps:
                earlier = b.let(compare("gt", warp, number))
                come = b.let(select(earlier, lines.combined(come, part), come))
        whole = b.let(carry.read())
        for number in range(warps):
            whole = b.let(lines.combined(whole, b.load(totals, number)))
        come = b.let(lines.combined(come, before))
        for at, element in zip(mine, elements, strict=True):
            after = b.let(lines.combined(come, element))
            b.store(slots, at + at // BANKS, come if lines.how.exclusive else after)
            come = after
        b.set(carry, whole)


def split_scan(spec: KernelSpec) -> Division | None:
    """Few long lines by many blocks: totals of stretches, what each starts with, and the stretches."""
    lines = lines_of(spec)
    if isinstance(lines, str) or not is_static(product(lines.shape)):
        return None
    length, count = int(lines.stretch), int(product(lines.outer))  # type: ignore[arg-type]
    if length < LONG or not 0 < count <= FEW:
        return None
    parts = min(length // STRETCH, MOST_BLOCKS // count)
    stretch = -(-length // (parts * EACH)) * EACH
    parts = -(-length // stretch)
    lines = replace(lines, stretch=stretch, stretches=parts)
    shape = (*lines.outer, parts)
    sums, starts = (TensorType(lines.dtype, shape) for _ in range(2))
    operands = {name: Operand(name, t.dtype, t.shape) for name, t in (("sums", sums), ("starts", starts))}
    made = tuple(Result(name, o.dtype, o.shape) for name, o in operands.items())
    scan = Scan(lines)
    key = f"stretches {lines.how} {lines.shape} {lines.dtype} {stretch} {parts}"
    third = Nest(scan.build, lines.units, key=key, threads=lines.threads)
    parts_of = (
        Part(_totals(spec, lines, made[0]), (0,), ("sums",)),
        Part(_starts(spec, lines, operands["sums"], made[1]), ("sums",), ("starts",)),
        Part(
            replace(spec, program=third, operands=(spec.operands[0], operands["starts"])), (0, "starts"), (0,)
        ),
    )
    return Division((("sums", sums), ("starts", starts)), parts_of)


def _totals(spec: KernelSpec, lines: Lines, result: Result) -> KernelSpec:
    """What each stretch comes to."""
    outer = axes("o", lines.outer)
    part, within = Axis("part", lines.stretches), Axis("within", lines.stretch)
    step = part.dim * lines.stretch + within.dim
    extent = lines.shape[lines.how.axis]
    body = Read(0, lines.at(coordinates(outer), step), VecType(lines.dtype))
    even = int(lines.stretch) * lines.stretches == extent  # type: ignore[arg-type]
    where = None if even else compare("lt", Index(step), Index(extent))
    program = Compute((*outer, part), body, (within,), lines.how.combiner, where=where)
    made = replace(result, expr=Accumulator(body.type), index=coordinates(program.axes))
    return replace(
        spec, anchor=f"{spec.anchor}_sums", program=program, operands=spec.operands[:1], results=(made,)
    )


def _starts(spec: KernelSpec, lines: Lines, sums: Operand, result: Result) -> KernelSpec:
    """What each stretch starts with: the exclusive scan of the totals."""
    shape = (*lines.outer, lines.stretches)
    how = RunningCombination(len(lines.outer), lines.how.combiner, exclusive=True)
    small = Lines(how, shape, lines.dtype, lines.stretches)
    nest = Nest(
        Scan(small).build,
        small.units,
        key=f"starts {how} {shape} {lines.dtype}",
        threads=small.threads,
    )
    return replace(spec, anchor=f"{spec.anchor}_starts", program=nest, operands=(sums,), results=(result,))
