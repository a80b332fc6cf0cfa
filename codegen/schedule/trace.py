"""The trace of a schedule: what was done to the loops of one `Compute`, step by step.

A schedule never touches loops.  It keeps the list of loop axes as it would be, says where each axis of
the computation is in terms of them, and which of the iterations lie outside (`Bound`); every step is
data, so that a trace can be printed, stored, replayed on an equal computation, or spelled in another
language (TVM's `Schedule` has the same words)::

    s = Schedule(program)
    rows, row = s.split("m", 6)
    panels, lane = s.split("n", 16)
    s.reorder(rows, panels, "k", row, lane)
    s.parallel(rows)
    s.unroll(row)
    s.vectorize(lane)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from enum import Enum

from aino_ir.compute import Axis, Compute, axis_name
from aino_ir.dims import Dim, DimLike, ceildiv, is_static, symbol
from aino_ir.errors.codegen import ScheduleInvalid


class Mark(Enum):
    """What becomes of a loop."""

    SERIAL = "serial"
    PARALLEL = "parallel"
    VECTOR = "vectorize"
    UNROLL = "unroll"


@dataclass(frozen=True)
class LoopAxis:
    """One loop of the nest as it would be.

    Attributes:
        name: unique; ends with a dot like every axis.
        extent: iterations, some of which may lie outside (`Bound`).
        reduces: whether it sums up, or runs over results.
        mark: what becomes of the loop.
        thread: of a GPU, which index it is bound to ("" = none).
    """

    name: str
    extent: DimLike
    reduces: bool = False
    mark: Mark = Mark.SERIAL
    thread: str = ""

    @property
    def dim(self) -> Dim:
        """The axis as a coordinate."""
        return symbol(self.name)


@dataclass(frozen=True)
class Bound:
    """Iterations with ``value >= extent`` do nothing; `value` is an expression over loop axes."""

    value: DimLike
    extent: DimLike
    reduces: bool


@dataclass(frozen=True)
class Split:
    """axis = outer * factor + inner, the outer loop right around the inner one."""

    axis: str
    factor: int
    outer: str
    inner: str

    def __str__(self) -> str:
        return f"{_shown(self.outer)}, {_shown(self.inner)} = split({_shown(self.axis)}, {self.factor})"


@dataclass(frozen=True)
class Fuse:
    """fused = first * extent(second) + second, two neighbours of one kind."""

    first: str
    second: str
    fused: str

    def __str__(self) -> str:
        return f"{_shown(self.fused)} = fuse({_shown(self.first)}, {_shown(self.second)})"


@dataclass(frozen=True)
class Reorder:
    """The named loops in this order, in the places that they have among all."""

    axes: tuple[str, ...]

    def __str__(self) -> str:
        return f"reorder({', '.join(map(_shown, self.axes))})"


@dataclass(frozen=True)
class Annotate:
    """parallel, vectorize or unroll."""

    axis: str
    mark: Mark

    def __str__(self) -> str:
        return f"{self.mark.value}({_shown(self.axis)})"


@dataclass(frozen=True)
class Bind:
    """A loop is an index of a GPU's threads, such as ``blockIdx.x``."""

    axis: str
    thread: str

    def __str__(self) -> str:
        return f"bind({_shown(self.axis)}, {self.thread})"


@dataclass(frozen=True)
class Cache:
    """What the loops inside `at` read of an operand is copied first, neighbours for neighbouring lanes."""

    operand: int
    at: str

    def __str__(self) -> str:
        return f"cache(operand {self.operand}, at {_shown(self.at)})"


Step = Split | Fuse | Reorder | Annotate | Bind | Cache

THREADS = tuple(f"{index}.{axis}" for index in ("blockIdx", "threadIdx") for axis in "xyz")
"""What `bind` may name."""


class Schedule:
    """A computation's loops under transformation; each method records one step.

    Attributes:
        program: what is computed; it never changes.
        steps: the trace.
        axes: the loops as they would be, outermost first (results' axes, then the reduction's, at first).
        coordinates: axis of the computation -> where it is, over the loops (fused ones by their parts).
        bounds: which iterations lie outside.
        fused: fused loop -> the two that it stands for, and how often the second turns.
    """

    def __init__(self, program: Compute) -> None:
        self.program = program
        self.steps: list[Step] = []
        self.axes: list[LoopAxis] = [
            *(LoopAxis(a.name, a.extent) for a in program.axes),
            *(LoopAxis(a.name, a.extent, reduces=True) for a in program.reduce),
        ]
        self.coordinates: dict[str, DimLike] = {a.name: a.dim for a in (*program.axes, *program.reduce)}
        self.bounds: list[Bound] = []
        self.fused: dict[str, tuple[str, str, DimLike]] = {}

    @staticmethod
    def replay(program: Compute, steps: Iterable[Step]) -> Schedule:
        """A trace on a computation with the same axes.

        Raises:
            ScheduleInvalid: the computation has other axes, or a step does not fit.
        """
        schedule = Schedule(program)
        for step in steps:
            schedule._apply(step)
        return schedule

    # -- primitives -----------------------------------------------------------------------------------

    def split(self, axis: str | Axis, factor: int) -> tuple[str, str]:
        """Two loops for one; returns the names of the outer and of the inner, which has `factor` turns."""
        name = self.find(axis).name
        outer, inner = axis_name(f"{_shown(name)}_o"), axis_name(f"{_shown(name)}_i")
        self._apply(Split(name, factor, outer, inner))
        return outer, inner

    def fuse(self, first: str, second: str) -> str:
        """One loop for two neighbours of one kind; returns its name."""
        names = self.find(first).name, self.find(second).name
        fused = axis_name(f"{_shown(names[0])}_{_shown(names[1])}")
        self._apply(Fuse(*names, fused))
        return fused

    def reorder(self, *axes: str | Axis) -> None:
        """Put the named loops in this order."""
        self._apply(Reorder(tuple(self.find(a).name for a in axes)))

    def parallel(self, axis: str | Axis) -> None:
        """Iterations are split over threads; such loops must be the outermost."""
        self._apply(Annotate(self.find(axis).name, Mark.PARALLEL))

    def vectorize(self, axis: str | Axis) -> None:
        """Iterations are the lanes of vectors; at most one loop."""
        self._apply(Annotate(self.find(axis).name, Mark.VECTOR))

    def unroll(self, axis: str | Axis) -> None:
        """Iterations stand one after the other; of a result's axis, each has registers of its own."""
        self._apply(Annotate(self.find(axis).name, Mark.UNROLL))

    def bind(self, axis: str | Axis, thread: str) -> None:
        """Iterations are threads of a GPU."""
        self._apply(Bind(self.find(axis).name, thread))

    def cache(self, operand: int, at: str | Axis) -> None:
        """Copy what the loops inside `at` read of an operand, once per turn of `at`."""
        self._apply(Cache(operand, self.find(at).name))

    # -- reading ----------------------------------------------------------------------------------------

    def find(self, axis: str | Axis) -> LoopAxis:
        """The loop of a name (the dot at its end may be left out).

        Raises:
            ScheduleInvalid: there is none.
        """
        wanted = axis.name if isinstance(axis, Axis) else axis_name(axis)
        for loop in self.axes:
            if loop.name == wanted:
                return loop
        known = ", ".join(_shown(a.name) for a in self.axes)
        raise ScheduleInvalid(step=f"a loop {_shown(wanted)!r}", reason=f"the loops are {known or 'none'}")

    def values(
        self, loop: str, turn: DimLike, named: Callable[[DimLike, str], DimLike] = lambda d, _: d
    ) -> dict[str, DimLike]:
        """What a loop's turn says about it and about the loops that were fused into it.

        Args:
            named: gives a computed value a name of its own: (value, wish) -> value.
        """
        found = {loop: turn}
        if loop in self.fused:
            first, second, extent = self.fused[loop]
            found |= self.values(second, named(turn % extent, second), named)
            found |= self.values(first, named(turn // extent, first), named)
        return found

    def caches(self) -> list[Cache]:
        """The operands that are copied, in order."""
        return [s for s in self.steps if isinstance(s, Cache)]

    def __str__(self) -> str:
        return "\n".join(map(str, self.steps))

    # -- what each step does ------------------------------------------------------------------------------

    def _apply(self, step: Step) -> None:
        action: Callable[..., None] = _ACTIONS[type(step)]
        action(self, step)
        self.steps.append(step)

    def _split(self, step: Split) -> None:
        loop = self.find(step.axis)
        if step.factor < 1:
            raise ScheduleInvalid(step=step, reason="the factor must be at least 1")
        self._replaceable(loop, step)
        if loop.name in self.fused:
            raise ScheduleInvalid(step=step, reason="split before you fuse")
        outer = LoopAxis(step.outer, ceildiv(loop.extent, step.factor), loop.reduces)
        inner = LoopAxis(step.inner, step.factor, loop.reduces)
        value = outer.dim * step.factor + inner.dim
        self._substitute(loop.name, value)
        if not (is_static(loop.extent) and int(loop.extent) % step.factor == 0):  # type: ignore[arg-type]
            self.bounds.append(Bound(value, loop.extent, loop.reduces))
        self._replace(loop, outer, inner)

    def _fuse(self, step: Fuse) -> None:
        first, second = self.find(step.first), self.find(step.second)
        place = self.axes.index(first)
        if self.axes[place + 1 : place + 2] != [second]:
            raise ScheduleInvalid(step=step, reason="only a loop and the one right inside it can be fused")
        if first.reduces is not second.reduces:
            raise ScheduleInvalid(step=step, reason="one of them reduces, the other does not")
        self._replaceable(first, step)
        self._replaceable(second, step)
        fused = LoopAxis(step.fused, first.extent * second.extent, first.reduces)
        self.fused[step.fused] = (step.first, step.second, second.extent)
        self.axes.remove(second)
        self._replace(first, fused)

    def _reorder(self, step: Reorder) -> None:
        chosen = [self.find(name) for name in step.axes]
        if len(set(step.axes)) != len(step.axes):
            raise ScheduleInvalid(step=step, reason="a loop is named twice")
        following = iter(chosen)
        self.axes = [next(following) if loop in chosen else loop for loop in self.axes]

    def _annotate(self, step: Annotate) -> None:
        loop = self.find(step.axis)
        self._unmarked(loop, step)
        if step.mark is Mark.PARALLEL and loop.reduces:
            raise ScheduleInvalid(step=step, reason="the threads would meet in one sum")
        if step.mark in (Mark.VECTOR, Mark.UNROLL) and not is_static(loop.extent):
            raise ScheduleInvalid(step=step, reason=f"its extent {loop.extent} must be a number: split it")
        if step.mark is Mark.VECTOR and any(a.mark is Mark.VECTOR for a in self.axes):
            raise ScheduleInvalid(step=step, reason="another loop is vectorized")
        self._replace(loop, replace(loop, mark=step.mark))

    def _bind(self, step: Bind) -> None:
        loop = self.find(step.axis)
        self._unmarked(loop, step)
        if step.thread not in THREADS:
            raise ScheduleInvalid(step=step, reason=f"threads are {', '.join(THREADS)}")
        if any(a.thread == step.thread for a in self.axes):
            raise ScheduleInvalid(step=step, reason="another loop is bound to it")
        self._replace(loop, replace(loop, thread=step.thread))

    def _cache(self, step: Cache) -> None:
        self.find(step.at)
        if any(c.operand == step.operand for c in self.caches()):
            raise ScheduleInvalid(step=step, reason="the operand is copied already")

    def _unmarked(self, loop: LoopAxis, step: Step) -> None:
        if loop.mark is not Mark.SERIAL or loop.thread:
            done = loop.thread or loop.mark.value
            raise ScheduleInvalid(step=step, reason=f"loop {_shown(loop.name)} is marked already: {done}")

    def _replaceable(self, loop: LoopAxis, step: Step) -> None:
        self._unmarked(loop, step)
        if any(c.at == loop.name for c in self.caches()):
            reason = f"operands are copied at loop {_shown(loop.name)}: it must stay"
            raise ScheduleInvalid(step=step, reason=reason)

    def _substitute(self, name: str, value: DimLike) -> None:
        """Say where a loop that vanishes is, in terms of those that come for it."""

        def moved(d: DimLike) -> DimLike:
            return d.substitute({name: value}) if isinstance(d, Dim) else d

        self.coordinates = {axis: moved(d) for axis, d in self.coordinates.items()}
        self.bounds = [replace(b, value=moved(b.value)) for b in self.bounds]

    def _replace(self, loop: LoopAxis, *others: LoopAxis) -> None:
        place = self.axes.index(loop)
        self.axes[place : place + 1] = others


_ACTIONS: dict[type, Callable[..., None]] = {
    Split: Schedule._split,
    Fuse: Schedule._fuse,
    Reorder: Schedule._reorder,
    Annotate: Schedule._annotate,
    Bind: Schedule._bind,
    Cache: Schedule._cache,
}


def _shown(name: str) -> str:
    """An axis as people read it: without the dot at its end."""
    return name.removesuffix(".")
