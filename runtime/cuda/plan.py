"""A plan as an artifact holds it for a GPU: steps as data, read from JSON once, walked by the host.

What `aino_ir.codegen.cuda.plan_data` writes.  Numbers that depend on symbols are texts of dimensions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aino_ir.dims import Dim, DimLike, parse_dim
from aino_ir.symbols import Check

Symbols = Mapping[str, int]
View = tuple[int, DimLike]
"""(number of a buffer, bytes from its start)"""


def dim_of(value: int | str) -> DimLike:
    """A number, or an expression over symbols, from JSON."""
    return value if isinstance(value, int) else parse_dim(value)


def valued(dim: DimLike, symbols: Symbols) -> int:
    """The value of a dimension."""
    return dim.evaluate(dict(symbols)) if isinstance(dim, Dim) else int(dim)


@dataclass(frozen=True)
class KernelFacts:
    """How a kernel is launched.

    Attributes:
        entry, checks: names of its functions on the device; no checks: empty.
        threads: of a block; 1: every thread takes a unit of its own.
        arguments: what they take, as `aino_ir.codegen.cuda.launch.Argument`.
        symbols: those that it reads, in the order of its arguments.
        units, scratch: how many there are, and bytes that each thread needs.
        can_fail: whether it may report a status.
    """

    entry: str
    checks: str
    threads: int
    arguments: tuple[tuple[str, int], ...]
    symbols: tuple[str, ...]
    units: DimLike
    scratch: DimLike
    can_fail: bool

    @staticmethod
    def of(row: Mapping[str, Any]) -> KernelFacts:
        """From JSON."""
        return KernelFacts(
            str(row["entry"]),
            str(row["checks"]),
            int(row["threads"]),
            tuple((str(kind), int(number)) for kind, number in row["arguments"]),
            tuple(str(s) for s in row["symbols"]),
            dim_of(row["units"]),
            dim_of(row["scratch"]),
            bool(row["can_fail"]),
        )


@dataclass(frozen=True)
class BufferFacts:
    """A stretch of memory; see `aino_ir.plan.Buffer`."""

    kind: str
    bytes: DimLike
    slot: int
    offset: DimLike
    segment: int


@dataclass(frozen=True)
class RunStep:
    """Launch a kernel."""

    number: int
    kernel: str
    views: tuple[View, ...]


@dataclass(frozen=True)
class BindStep:
    """Read a symbol's value from the device; `extents` follow from it and must not be negative."""

    number: int
    symbol: str
    source: View
    dtype: str
    lo: DimLike | None
    hi: DimLike | None
    multiple: int
    extents: tuple[DimLike, ...]


@dataclass(frozen=True)
class RequireStep:
    """Test a condition on extents."""

    number: int
    check: Check


@dataclass(frozen=True)
class ReserveStep:
    """Make a segment large enough; nothing in it is kept."""

    number: int
    segment: int


@dataclass(frozen=True)
class ExtendStep:
    """Make a buffer's segment large enough; what is there stays if `keep`."""

    number: int
    buffer: int
    bytes: DimLike
    keep: bool


@dataclass(frozen=True)
class BranchStep:
    """One of two step lists, by a bool on the device."""

    number: int
    condition: View
    then: tuple[StepFacts, ...]
    otherwise: tuple[StepFacts, ...]


@dataclass(frozen=True)
class RepeatStep:
    """Steps again and again; `count` is a dimension, or an element and its dtype.

    See `aino_ir.plan.Repeat`.
    """

    number: int
    turn: str
    body: tuple[StepFacts, ...]
    count: DimLike | tuple[View, str] | None
    start: View | None
    again: View | None
    turns: View | None


StepFacts = RunStep | BindStep | RequireStep | ReserveStep | ExtendStep | BranchStep | RepeatStep


@dataclass(frozen=True)
class Segment:
    """Memory whose size is known only when some symbols have been bound; see `aino_ir.plan.Segment`."""

    bytes: DimLike
    per_thread: bool
    output: int


@dataclass(frozen=True)
class PlanFacts:
    """All of a plan that a run needs.

    Attributes:
        symbols: in order, those that are known at entry first; `entry` is how many these are.
        turns: symbols that loops count with.
        kernels: by name.
        buffers, segments, steps: as in the plan.
        states: bytes of each state, and where in the weights its first value lies (None: zeros).
        arena, weights: bytes.
        extents: (dimension that must not be negative, step at which it would be noticed).
        sizes: bytes that must not be beyond all memory.
        count: steps, nested ones and barriers included.
    """

    symbols: tuple[str, ...]
    entry: int
    turns: tuple[str, ...]
    kernels: Mapping[str, KernelFacts]
    buffers: tuple[BufferFacts, ...]
    segments: tuple[Segment, ...]
    steps: tuple[StepFacts, ...]
    states: tuple[tuple[int, int | None], ...]
    arena: DimLike
    weights: int
    extents: tuple[tuple[DimLike, int], ...]
    sizes: tuple[DimLike, ...]
    count: int

    @staticmethod
    def of(row: Mapping[str, Any]) -> PlanFacts:
        """From JSON."""
        return PlanFacts(
            tuple(row["symbols"]),
            int(row["entry"]),
            tuple(row["turns"]),
            {name: KernelFacts.of(facts) for name, facts in row["kernels"].items()},
            tuple(
                BufferFacts(k, dim_of(b), slot, dim_of(o), segment)
                for k, b, slot, o, segment in row["buffers"]
            ),
            tuple(Segment(dim_of(b), bool(each), int(output)) for b, each, output in row["segments"]),
            _steps(row["steps"]),
            tuple((int(size), first) for size, first in row["states"]),
            dim_of(row["arena"]),
            int(row["weights"]),
            tuple((dim_of(d), int(step)) for d, step in row["extents"]),
            tuple(map(dim_of, row["sizes"])),
            int(row["count"]),
        )

    @property
    def decided(self) -> tuple[str, ...]:
        """Symbols that a run decides."""
        return self.symbols[self.entry :]

    @property
    def is_straight(self) -> bool:
        """Whether every step is a launch, so that all of them are known when a run begins."""
        return all(isinstance(step, RunStep) for step in self.steps)

    def slots(self, kind: str) -> list[BufferFacts | None]:
        """The buffers of inputs or outputs by their slots (None: no step touches it)."""
        found = {b.slot: b for b in self.buffers if b.kind == kind}
        return [found.get(n) for n in range(max(found, default=-1) + 1)]


def walked(steps: Sequence[StepFacts]) -> Iterator[StepFacts]:
    """Every step, those in branches and loops included."""
    for step in steps:
        yield step
        if isinstance(step, BranchStep):
            yield from walked(step.then)
            yield from walked(step.otherwise)
        if isinstance(step, RepeatStep):
            yield from walked(step.body)


def _view(row: Any) -> View:
    buffer, offset = row
    return int(buffer), dim_of(offset)


def _maybe_view(row: Any) -> View | None:
    return None if row is None else _view(row)


def _maybe_dim(value: Any) -> DimLike | None:
    return None if value is None else dim_of(value)


def _steps(rows: Sequence[Any]) -> tuple[StepFacts, ...]:
    return tuple(_READERS[row[0]](*row[1:]) for row in rows)


def _bind(n: int, symbol: str, source: Any, dtype: str, lo: Any, hi: Any, by: int, extents: Any) -> BindStep:
    bounds = _maybe_dim(lo), _maybe_dim(hi)
    return BindStep(n, symbol, _view(source), dtype, *bounds, int(by), tuple(map(dim_of, extents)))


def _repeat(n: int, turn: str, body: Any, count: Any, start: Any, again: Any, turns: Any) -> RepeatStep:
    most: Any = count
    if isinstance(count, list):
        most = (_view(count[:2]), str(count[2]))
    elif count is not None:
        most = dim_of(count)
    flags = _maybe_view(start), _maybe_view(again), _maybe_view(turns)
    return RepeatStep(n, turn, _steps(body), most, *flags)


_READERS: dict[str, Any] = {
    "run": lambda n, kernel, views: RunStep(n, kernel, tuple(map(_view, views))),
    "bind": _bind,
    "require": lambda n, kind, lhs, rhs, what: RequireStep(n, Check(kind, dim_of(lhs), dim_of(rhs), what)),
    "reserve": lambda n, segment: ReserveStep(n, int(segment)),
    "extend": lambda n, buffer, size, keep: ExtendStep(n, int(buffer), dim_of(size), bool(keep)),
    "branch": lambda n, flag, then, other: BranchStep(n, _view(flag), _steps(then), _steps(other)),
    "repeat": _repeat,
}
"""How each kind of step is read."""
