"""Long reductions of few results by many blocks: partial results first, then a reduction of these.

A reduction by one kernel has a block for each result at most, so the sum of a whole tensor would leave a
device idle but for one block.  Here blocks take a stretch of the terms each; what they find is combined in
the order of the stretches, which depends on extents alone, so that results are the same in every run.  Sums
along an axis that lies across have a thread for each result; there it is threads that take stretches.
"""

from __future__ import annotations

from dataclasses import replace

from aino_ir.codegen.cuda.product import Product, analyse
from aino_ir.codegen.kernels.canonical import drop_unit_axes, merge_axes, slope
from aino_ir.codegen.kernels.map import split_lane_axis
from aino_ir.codegen.kernels.roles import extent_or
from aino_ir.codegen.lower.program_parts import program_expressions, renumbered, renumbered_program
from aino_ir.compute import Axis, Compute, coordinates, reads
from aino_ir.dims import DimLike, ceildiv, is_static, product
from aino_ir.kernels import Division, KernelSpec, Operand, Part, Result
from aino_ir.loops.expr import Accumulator, Expr, Index, Read, binary, compare
from aino_ir.loops.expr_tree import substitute_dims
from aino_ir.symbols import Symbols
from aino_ir.types import TensorType

FEW_RESULTS = 64
"""More of them occupy enough of a device with a block each."""

LONG = 1 << 16
"""Terms of a result below which one block is done before others have started."""

STRETCH = 1 << 13
"""Terms that a block should have at least: 32 of each of its 256 threads."""

MOST_BLOCKS = 1024
"""Of one reduction: eight on each of the 128 or so processors of a device."""

SIDE_BY_SIDE = 32
"""Results that read neighbouring elements, so that a warp's threads do so together."""

MANY_THREADS = 1 << 16
FEW_TERMS = 64
"""Of a thread at least, where terms lie across."""

LONG_ACROSS = 256
"""Terms that a thread does without harm."""

GUESSED_BLOCKS = 256
"""Of a reduction whose terms nobody can count before the run."""

FINEST = 16
"""Stretches are a multiple of so many terms where they can be, for vectors of 16 bytes."""


def split_reduction(spec: KernelSpec) -> Division | None:
    """Partial reductions and the reduction of these, where terms are many and results few."""
    program = spec.program
    if not isinstance(program, Compute) or program.combiner is None or not program.reduce:
        return None
    if isinstance(analyse(spec), Product):
        return None
    spec = merge_axes(drop_unit_axes(spec))
    program = spec.program
    assert isinstance(program, Compute)
    results = product(a.extent for a in program.axes)
    if not program.reduce or not is_static(results):
        return None
    across = _across(spec, program, int(results))  # type: ignore[arg-type]
    if across is not None:
        return division(spec, *across, in_front=True)
    cut = long_cut(spec, program.axes, program.reduce)
    return None if cut is None else division(spec, *cut)


def long_cut(
    spec: KernelSpec, axes: tuple[Axis, ...], terms: tuple[Axis, ...]
) -> tuple[int, int, DimLike] | None:
    """How terms are cut where they are many and results few, else None.

    Returns:
        The axis of the terms to cut, how many stretches there are, and the length of one along it.
    """
    results, count = product(a.extent for a in axes), product(a.extent for a in terms)
    if not is_static(results) or not 0 < int(results) <= FEW_RESULTS:  # type: ignore[arg-type]
        return None
    most = count if is_static(count) else _table(spec).interval(count)[1]
    if isinstance(most, int) and most < LONG:
        return None
    return _cut(terms, int(results))  # type: ignore[arg-type]


def _across(spec: KernelSpec, program: Compute, results: int) -> tuple[int, int, DimLike] | None:
    """The cut of terms that lie across: side by side are terms of neighbouring results, a thread each."""
    _, lane = split_lane_axis(spec, program)
    longest = max(range(len(program.reduce)), key=lambda n: extent_or(program.reduce[n].extent, 0))
    extent = extent_or(program.reduce[longest].extent, 0)
    if lane is None or extent_or(lane.extent, 0) < SIDE_BY_SIDE or extent <= LONG_ACROSS or not results:
        return None
    moved = [
        spec.operands[r.operand].addr(r.index)  # type: ignore[arg-type]
        for r in reads(program.body)
        if all(not isinstance(c, Expr) for c in r.index)
    ]
    moved = [address for address in moved if slope(address, lane.name) != 0]
    if not moved or any(slope(address, lane.name) != 1 for address in moved):
        return None
    count = min(MANY_THREADS // results, extent // FEW_TERMS, LONG_ACROSS)
    while longest and count > 1 and extent % count:  # only the first axis may have a shorter stretch
        count -= 1
    if count < 2:
        return None
    length = -(-extent // count)
    return longest, -(-extent // length), length


def _table(spec: KernelSpec) -> Symbols:
    """What is known of a spec's symbols."""
    table = Symbols()
    for name, low, high in spec.symbols:
        table.new(name, lo=low, hi=high)
    return table


def _cut(axes: tuple[Axis, ...], results: int) -> tuple[int, int, DimLike] | None:
    """The axis of the terms to cut, how many stretches there are, and the length of one along it."""
    longest = max(range(len(axes)), key=lambda n: extent_or(axes[n].extent, LONG))
    for number in (longest, 0):
        inner = product(a.extent for n, a in enumerate(axes) if n != number)
        if is_static(inner) and int(inner) > 0:  # type: ignore[arg-type]
            found = _stretches(axes[number].extent, int(inner), results, number == 0)  # type: ignore[arg-type]
            if found is not None:
                return number, *found
    return None


def _stretches(extent: DimLike, inner: int, results: int, ragged: bool) -> tuple[int, DimLike] | None:
    """How many stretches of how many steps, if there are to be several.

    Such that all are equal where some number near the wished one allows it; else the last one is shorter,
    which only the first axis may have (`ragged`).
    """
    if not is_static(extent):
        count = max(2, GUESSED_BLOCKS // results)
        return (count, ceildiv(extent, count * FINEST) * FINEST) if ragged else None
    whole = int(extent)  # type: ignore[arg-type]
    wished = min(whole // max(1, STRETCH // inner), max(2, MOST_BLOCKS // results))
    if wished < 2:
        return None
    for step in (FINEST, 1):
        for count in range(wished, wished // 2, -1):
            if whole % (count * step) == 0:
                return count, whole // count
    if not ragged:
        return None
    length = -(-whole // wished)
    length = -(-length // FINEST) * FINEST if length >= FINEST else length
    return -(-whole // length), length


def division(spec: KernelSpec, cut: int, count: int, length: DimLike, in_front: bool = False) -> Division:
    """A reduction as partial ones over stretches of an axis, and the reduction of these in their order.

    Args:
        spec: the reduction.
        cut: which axis of the terms.
        count, length: of the stretches; the last one may be shorter.
        in_front: whether partial results of one stretch lie together, not those of one result.
    """
    program = spec.program
    assert isinstance(program, Compute) and program.combiner is not None
    axis = program.reduce[cut]
    part, within = Axis("part", count), Axis(axis.name, length)
    place = {axis.name: part.dim * length + within.dim}
    body = substitute_dims(program.body, place)
    where = None if program.where is None else substitute_dims(program.where, place)
    if axis.extent is not count * length and axis.extent != count * length:
        inside: Expr = compare("lt", Index(place[axis.name]), Index(axis.extent))
        where = inside if where is None else binary("and", inside, where)
    reduce = tuple(within if a is axis else a for a in program.reduce)
    axes = (part, *program.axes) if in_front else (*program.axes, part)
    partial = replace(program, axes=axes, body=body, where=where, reduce=reduce, finish=None)
    total = Accumulator(body.type)
    shape = tuple(a.extent for a in partial.axes)
    kept = Result("partial", body.dtype, shape, expr=total, index=coordinates(partial.axes))
    found = replace(spec, program=partial, results=(kept,), anchor=f"{spec.anchor}_parts")
    read = Read(len(spec.operands), coordinates(partial.axes), body.type)
    combined = Compute(program.axes, read, (part,), program.combiner)
    results = tuple(replace(r, expr=program.result_expr if r.expr is None else r.expr) for r in spec.results)
    operands = (*spec.operands, Operand("partial", body.dtype, shape))
    second = replace(spec, program=combined, operands=operands, results=results)
    keys: tuple[int | str, ...] = (*range(len(spec.operands)), "partial")
    return Division(
        (("partial", TensorType(body.dtype, shape)),),
        (
            reading_what_it_uses(found, keys, ("partial",)),
            reading_what_it_uses(second, keys, tuple(range(len(results)))),
        ),
    )


def reading_what_it_uses(
    spec: KernelSpec, keys: tuple[int | str, ...], writes: tuple[int | str, ...]
) -> Part:
    """A part whose operands are those of the spec that its expressions read, or whose places it writes.

    Args:
        spec: its results have expressions.
        keys: what the spec's operands are (see `Part`).
        writes: what its results are.
    """
    program = spec.program
    if isinstance(program, Compute):
        program = replace(program, finish=None)
    exprs = [*program_expressions(program), *(r.expr for r in spec.results if r.expr is not None)]
    in_place = {r.aliases for r in spec.results if r.aliases is not None}
    used = sorted({r.operand for e in exprs for r in reads(e)} | in_place)
    number = {old: new for new, old in enumerate(used)}
    results = tuple(
        replace(
            r,
            expr=None if r.expr is None else renumbered(r.expr, number),
            aliases=None if r.aliases is None else number[r.aliases],
        )
        for r in spec.results
    )
    operands = tuple(spec.operands[n] for n in used)
    made = replace(spec, program=renumbered_program(program, number), operands=operands, results=results)
    return Part(made, tuple(keys[n] for n in used), writes)
