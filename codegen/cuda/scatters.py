"""Updates by many threads, in the order that their meaning demands: the last one stays, sums never differ.

Updates that may meet in one element are done by one thread, in order.  Where the axes alone tell which these
are (elements of rows, lines along the axis of indices), a thread has all updates of its elements.  Where that
would leave threads with many updates and the device with few threads, places are sorted with the numbers of
their updates, and a thread goes through those that have the same place.  No atomic operations: what they add
up depends on who comes first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from aino_ir.compute import BestOfLines, Compute, Nest, OrderedUpdates, TensorRef, axes, coordinates
from aino_ir.dims import DimLike, is_static, product
from aino_ir.dtypes import boolean, i64
from aino_ir.kernels import Division, KernelSpec, Operand, Part, Result
from aino_ir.loops.expr import Expr, Read, VecType, cast, compare, const, index, select
from aino_ir.loops.stmt import Status
from aino_ir.nests import best_of_line, checked_place, loops, update
from aino_ir.types import TensorType

FEW = 64
"""Updates that a thread does one after the other without harm."""

MANY = 1 << 14
"""Threads that occupy a device, whatever each of them has to do."""

Tensors = tuple[TensorRef, ...]


@dataclass(frozen=True)
class Scatter:
    """What goes where.

    Attributes:
        how: the meaning of the nest.
        shape: of the result.
    """

    how: OrderedUpdates
    shape: tuple[DimLike, ...]

    @property
    def place(self) -> tuple[DimLike, ...]:
        """Extents of the axes that a place is in."""
        return self.shape[: self.how.depth]

    @property
    def tail(self) -> tuple[DimLike, ...]:
        """Extents of the axes behind a place."""
        return self.shape[self.how.depth :]

    @property
    def fixed(self) -> tuple[int, ...]:
        """Axes of rows that are axes of the place: rows that differ in them never meet."""
        return tuple(a for a in range(self.how.depth) if a not in self.how.chosen)

    @property
    def threads(self) -> DimLike:
        """Groups of elements whose updates never meet those of others, as far as the axes tell."""
        return product(self.how.rows[a] for a in self.fixed) * product(self.tail)

    @property
    def each(self) -> DimLike:
        """Updates of an element at most."""
        return product(e for a, e in enumerate(self.how.rows) if a not in self.fixed)

    def owner(self, b: Any, inputs: Tensors, outputs: Tensors, unit: DimLike) -> None:
        """All updates of a thread's elements, in order."""
        how = self.how
        extents = {f"r{a}": how.rows[a] for a in self.fixed} | {f"t{n}": e for n, e in enumerate(self.tail)}
        at = list(b.split(unit, extents)) if extents else []
        mine, tail = dict(zip(self.fixed, at, strict=False)), tuple(at[len(self.fixed) :])
        free = [a for a in range(len(how.rows)) if a not in mine]
        with loops(b, "u", [how.rows[a] for a in free]) as found:
            given = mine | dict(zip(free, found, strict=True))
            row = tuple(given[a] for a in range(len(how.rows)))
            place = checked_place(b, how, inputs[0], row, self.shape)
            update(how.reduction, outputs[0], (*place, *tail), inputs[1].load((*row, *tail)))

    def keys(self, b: Any, inputs: Tensors, outputs: Tensors, unit: DimLike) -> None:
        """The number of a row's place, -1 where an index is outside."""
        row = self._row(b, unit)
        number: Expr = const(0, i64)
        legal: Expr = const(True, boolean)
        wrong: Expr = const(0, i64)
        found = dict(zip(self.how.chosen, self.how.indices(inputs[0], row), strict=True))
        for axis, extent in enumerate(self.place):
            if axis in found:
                given = b.let(cast(found[axis], i64))
                at = b.let(select(compare("lt", given, 0), given + index(extent), given))
                inside = b.let(compare("ge", at, 0) & compare("lt", at, index(extent)))
                wrong = b.let(select(inside, wrong, given))
                legal = b.let(legal & inside)
            else:
                at = index(row[axis])
            number = b.let(number * index(extent) + at)
        outputs[0].store((unit,), select(legal, number, const(-1, i64)))
        with b.when(~legal):
            b.fail(Status.INDEX_OUT_OF_RANGE, wrong)

    def apply(self, b: Any, inputs: Tensors, outputs: Tensors, unit: DimLike) -> None:
        """The updates of one place, by the thread whose row stands first (or alone counts) among them."""
        keys, order, updates = inputs
        (out,) = outputs
        count = product(self.how.rows)
        slot, *tail = b.split(unit, {"slot": count} | {f"t{n}": e for n, e in enumerate(self.tail)})
        key = b.let(keys.load((slot,)), "key")
        last = self.how.reduction == "none"
        step = 1 if last else -1
        beside = b.reg("beside", VecType(i64), -1)
        with b.when(compare("ge", index(slot + step), 0) & compare("lt", index(slot + step), index(count))):
            b.set(beside, keys.load((b.index(index(slot + step), 0, count - 1),)))
        with b.when(compare("ge", key, 0) & compare("ne", key, beside.read())):
            flat = b.index(key, 0, product(self.place) - 1, "place")
            extents = {f"p{a}": e for a, e in enumerate(self.place)}
            at = (*(b.split(flat, extents) if extents else ()), *tail)
            if last:
                self._update(b, (order, updates, out), slot, at, tuple(tail))
                return
            here = b.reg("here", VecType(i64), index(slot))
            more = b.reg("more", VecType(boolean), const(True, boolean))
            with b.while_(lambda: more.read()):
                self._update(b, (order, updates, out), b.index(here.read(), 0, count - 1), at, tuple(tail))
                b.set(here, here.read() + 1)
                b.set(more, const(False, boolean))
                with b.when(compare("lt", here.read(), index(count))):
                    b.set(more, compare("eq", keys.load((b.index(here.read(), 0, count - 1),)), key))

    def _update(
        self,
        b: Any,
        tensors: Tensors,
        slot: DimLike,
        at: tuple[DimLike, ...],
        tail: tuple[DimLike, ...],
    ) -> None:
        order, updates, out = tensors
        row = self._row(b, b.index(order.load((slot,)), 0, product(self.how.rows) - 1, "row"))
        update(self.how.reduction, out, at, updates.load((*row, *tail)))

    def _row(self, b: Any, number: DimLike) -> tuple[DimLike, ...]:
        extents = {f"r{a}": e for a, e in enumerate(self.how.rows)}
        return tuple(b.split(number, extents)) if extents else ()


def split_scatter(spec: KernelSpec) -> Division | None:
    """A copy, where the result does not lie where the operand is, and the updates by many threads."""
    program = spec.program
    if not isinstance(program, Nest) or not isinstance(program.meaning, OrderedUpdates):
        return None
    scatter = Scatter(program.meaning, spec.results[0].shape)
    (result,) = spec.results
    out = replace(result, aliases=None)
    parts = [] if result.aliases is not None else [_copy(spec)]
    temporaries: tuple[tuple[str, TensorType], ...] = ()
    each, count = scatter.each, product(scatter.how.rows)
    short = not is_static(each) or int(each) <= FEW or not is_static(count)  # type: ignore[arg-type]
    wide = is_static(scatter.threads) and int(scatter.threads) >= MANY  # type: ignore[arg-type]
    text = f"{scatter.how} {scatter.shape} {program.key}"

    def part(
        name: str,
        build: Callable[..., None],
        units: DimLike,
        reads: tuple[tuple[int | str, Operand], ...],
        writes: tuple[tuple[int | str, Result], ...],
        meaning: BestOfLines | None = None,
    ) -> Part:
        nest = Nest(build, units, name in ("owner", "keys"), key=f"{name} {text}", meaning=meaning)
        made = replace(
            spec,
            anchor=f"{spec.anchor}_{name}",
            program=nest,
            operands=tuple(o for _, o in reads),
            results=tuple(r for _, r in writes),
        )
        return Part(made, tuple(k for k, _ in reads), tuple(k for k, _ in writes))

    indices, updates = (1, spec.operands[1]), (2, spec.operands[2])
    if short or wide:
        parts.append(part("owner", scatter.owner, scatter.threads, (indices, updates), ((0, out),)))
        return Division((), tuple(parts))
    line = TensorType(i64, (count,))
    temporaries = tuple((name, line) for name in ("keys", "sorted_keys", "order"))
    read = {name: (name, Operand(name, i64, line.shape)) for name, _ in temporaries}
    write = {name: (name, Result(name, i64, line.shape)) for name, _ in temporaries}
    best = BestOfLines(0, count, False)

    def sort(b: Any, inputs: Tensors, outputs: Tensors, unit: DimLike) -> None:
        best_of_line(b, (*inputs, *outputs), lambda at: (at,), count, best)  # type: ignore[arg-type]

    parts += [
        part("keys", scatter.keys, count, (indices,), (write["keys"],)),
        part("sort", sort, 1, (read["keys"],), (write["sorted_keys"], write["order"]), best),
        part(
            "apply",
            scatter.apply,
            count * product(scatter.tail),
            (read["sorted_keys"], read["order"], updates),
            ((0, out),),
        ),
    ]
    return Division(temporaries, tuple(parts))


def _copy(spec: KernelSpec) -> Part:
    """The operand as it is."""
    x, (result,) = spec.operands[0], spec.results
    space = axes("i", x.shape)
    at = coordinates(space)
    element = Read(0, at, VecType(x.dtype.compute))
    made = replace(result, aliases=None, expr=element, index=at)
    program = Compute(space, element)
    return Part(
        replace(spec, anchor=f"{spec.anchor}_copy", program=program, operands=(x,), results=(made,)),
        (0,),
        (0,),
    )
