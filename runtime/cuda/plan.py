"""A plan as an artifact holds it for a GPU: read from JSON once, walked by the host.

Steps, buffers and segments are those of `aino_ir.plan`; what `aino_ir.codegen.cuda.plan_data` writes.  Of
a view only its place and its type are kept: how elements lie is compiled into the kernels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from aino_ir.dims import DimLike, parse_dim, value_of
from aino_ir.dtypes import DTYPES
from aino_ir.library_calls import Matrix, ProductCall
from aino_ir.loops.warp import BLOCK
from aino_ir.plan import (
    Bind,
    Branch,
    Buffer,
    BufferKind,
    Extend,
    Repeat,
    Require,
    Reserve,
    Run,
    Segment,
    Step,
    Sync,
    View,
    size,
    walk,
)
from aino_ir.runtime.cuda.driver import Driver
from aino_ir.runtime.cuda.tiles import TileMapFacts
from aino_ir.symbols import Check

Symbols = Mapping[str, int]


def dim_of(value: int | str) -> DimLike:
    """A number, or an expression over symbols, from JSON."""
    return value if isinstance(value, int) else parse_dim(value)


MOST_BLOCKS = (1 << 31) - 1
SCRATCH_BYTES = 256 << 20
"""Scratch of one launch at most; more units than that serves are launched in several parts."""


@dataclass(frozen=True)
class Parts:
    """How the units of a kernel are spread over launches.

    Attributes:
        units: how many there are.
        threads, each: of a block, and the units that it does.
        blocks: of one launch at most.
        scratch_bytes: of all threads of a launch.
    """

    units: int
    threads: int
    each: int
    blocks: int
    scratch_bytes: int

    def launches(self, kernel: KernelFacts) -> Iterator[tuple[str, int, int, int, int]]:
        """(function, blocks, threads, first unit, end) of each launch: checks, then units."""
        if self.units <= 0:
            return
        if kernel.checks:
            threads = min(kernel.check_threads, BLOCK)
            yield kernel.checks, kernel.check_threads // threads, threads, 0, self.units
        step = self.each * self.blocks
        for lo in range(0, self.units, step):
            hi = min(lo + step, self.units)
            yield kernel.entry, -(-(hi - lo) // self.each), self.threads, lo, hi


@dataclass(frozen=True)
class KernelFacts:
    """How a kernel is launched.

    Attributes:
        entry, checks: names of its functions on the device; no checks: empty.
        check_threads: threads of the checks, one or whole blocks.
        threads: of a block; 1: every thread takes a unit of its own.
        arguments: what they take, as `aino_ir.codegen.cuda.launch.Argument`.
        symbols: those that it reads, in the order of its arguments.
        units, scratch: how many there are, and bytes that each thread needs.
        shared: bytes of a block's memory that its launches ask for.
        can_fail: whether it may report a status.
        maps: of the tiles that it copies.
        library: what a library does in its place.
    """

    entry: str
    checks: str
    check_threads: int
    threads: int
    arguments: tuple[tuple[str, int], ...]
    symbols: tuple[str, ...]
    units: DimLike
    scratch: DimLike
    can_fail: bool
    shared: int = 0
    maps: tuple[TileMapFacts, ...] = ()
    library: ProductCall | None = None

    @staticmethod
    def of(row: Mapping[str, Any]) -> KernelFacts:
        """From JSON."""
        return KernelFacts(
            str(row["entry"]),
            str(row["checks"]),
            int(row["check_threads"]),
            int(row["threads"]),
            tuple((str(kind), int(number)) for kind, number in row["arguments"]),
            tuple(str(s) for s in row["symbols"]),
            dim_of(row["units"]),
            dim_of(row["scratch"]),
            bool(row["can_fail"]),
            int(row.get("shared", 0)),
            tuple(map(TileMapFacts.of, row.get("maps", ()))),
            _product_call(row["library"]) if "library" in row else None,
        )

    def shared_of(self, function: str) -> int:
        """Shared memory that launches of one of its functions ask for: checks need none."""
        return self.shared if function == self.entry else 0

    def parts(self, units: int, scratch: int) -> Parts:
        """Its launches for so many units, each thread of which needs so much scratch."""
        together = self.threads > 1
        threads, each = (self.threads, 1) if together else (BLOCK, BLOCK)
        most = MOST_BLOCKS if scratch <= 0 else max(1, SCRATCH_BYTES // (threads * scratch))
        blocks = min(max(1, -(-units // each)), most, MOST_BLOCKS)
        return Parts(units, threads, each, blocks, blocks * threads * max(0, scratch))

    def values(
        self, driver: Driver, view: Callable[[int], int], symbols: Symbols, given: Mapping[str, int]
    ) -> list[int | bytes]:
        """The arguments of a launch: numbers, and maps of tiles as bytes.

        Args:
            driver: makes the maps.
            view: the address of its n-th view.
            symbols: values of its symbols.
            given: ``status``, ``scratch``, ``lo`` and ``hi``.

        Raises:
            DriverCallFailed: the driver refuses to make a map.
        """
        values: list[int | bytes] = []
        for kind, number in self.arguments:
            if kind == "view":
                values.append(view(number))
            elif kind == "map":
                made = self.maps[number]
                values.append(made.made(driver, view(made.view), symbols))
            elif kind == "shift":
                values.append(self.maps[number].shift(view(self.maps[number].view)))
            else:
                values.append(symbols[self.symbols[number]] if kind == "symbol" else given[kind])
        return values


@dataclass(frozen=True)
class PlanFacts:
    """All of a plan that a run needs.

    Attributes:
        symbols: in order, those that are known at entry first; `entry` is how many these are.
        turns: symbols that loops count with.
        kernels: by name.
        buffers, segments, steps: as in the plan.
        order: for each launch of a plan that is nothing else, the launches that must be over before it,
            by their places among all launches; None: every launch follows the one before it.
        scratch: for each of these launches, which stretch of scratch memory it has; empty: all the first.
        late: symbol -> extents that are known with it and must not be negative.
        states: bytes of each state, and where in the weights its first value lies (None: zeros).
        arena, weights: bytes.
        extents: (dimension that must not be negative, step at which it would be noticed).
        sizes: bytes that must not be beyond all memory.
    """

    symbols: tuple[str, ...]
    entry: int
    turns: tuple[str, ...]
    kernels: Mapping[str, KernelFacts]
    buffers: tuple[Buffer, ...]
    segments: tuple[Segment, ...]
    steps: tuple[Step, ...]
    order: tuple[tuple[int, ...], ...] | None
    scratch: tuple[int, ...]
    late: Mapping[str, tuple[DimLike, ...]]
    states: tuple[tuple[int, int | None], ...]
    arena: DimLike
    weights: int
    extents: tuple[tuple[DimLike, int], ...]
    sizes: tuple[DimLike, ...]

    @staticmethod
    def of(row: Mapping[str, Any]) -> PlanFacts:
        """From JSON."""
        return PlanFacts(
            tuple(row["symbols"]),
            int(row["entry"]),
            tuple(row["turns"]),
            {name: KernelFacts.of(facts) for name, facts in row["kernels"].items()},
            tuple(_buffer(number, *facts) for number, facts in enumerate(row["buffers"])),
            tuple(Segment(dim_of(b), bool(each), int(output)) for b, each, output in row["segments"]),
            _steps(row["steps"]),
            None if row["order"] is None else tuple(tuple(map(int, before)) for before in row["order"]),
            tuple(map(int, row["scratch"])),
            {symbol: tuple(map(dim_of, dims)) for symbol, dims in row["late"].items()},
            tuple((int(size), first) for size, first in row["states"]),
            dim_of(row["arena"]),
            int(row["weights"]),
            tuple((dim_of(d), int(step)) for d, step in row["extents"]),
            tuple(map(dim_of, row["sizes"])),
        )

    @property
    def decided(self) -> tuple[str, ...]:
        """Symbols that a run decides."""
        return self.symbols[self.entry :]

    @cached_property
    def numbers(self) -> Mapping[int, int]:
        """The number of each step, by its identity: its place in the walk over all of them."""
        return {id(step): number for number, step in enumerate(walk(self.steps))}

    @cached_property
    def count(self) -> int:
        """How many steps there are."""
        return size(self.steps)

    @cached_property
    def launches(self) -> tuple[Run, ...]:
        """Every launch, those in branches and loops included."""
        return tuple(step for step in walk(self.steps) if isinstance(step, Run))

    @cached_property
    def stretches(self) -> Mapping[int, int]:
        """The stretch of scratch memory of each launch, by its identity."""
        return {id(step): n for step, n in zip(self.launches, self.scratch, strict=False)}

    @cached_property
    def is_straight(self) -> bool:
        """Whether every step is a launch, or a loop of launches whose turns nothing on the device decides.

        Then all of them are known when a run begins.
        """
        counted = any(self.buffers[v.buffer].kind is BufferKind.TURN for s in self.launches for v in s.views)
        return not counted and all(map(_is_known, self.steps))

    def unrolled(self, steps: Sequence[Step], symbols: dict[str, int]) -> Iterator[Run]:
        """The launches of a straight plan, turn after turn; `symbols` tells the turns of each meanwhile."""
        for step in steps:
            if isinstance(step, Run):
                yield step
            elif isinstance(step, Repeat):
                for turn in range(_turns(step, symbols)):
                    symbols[step.turn] = turn
                    yield from self.unrolled(step.body, symbols)
                symbols.pop(step.turn, None)

    def size_of_graph(self, steps: Sequence[Step], symbols: Mapping[str, int]) -> int:
        """How many launches of steps a straight plan has, turns of loops counted."""
        total = 0
        for step in steps:
            inside = step.body if isinstance(step, Repeat) else ()
            turns = _turns(step, symbols) if isinstance(step, Repeat) else 0
            total += turns * self.size_of_graph(inside, symbols) if inside else isinstance(step, Run)
        return total

    def slots(self, kind: BufferKind) -> list[Buffer | None]:
        """The buffers of inputs or outputs by their slots (None: no step touches it)."""
        found = {b.slot: b for b in self.buffers if b.kind is kind}
        return [found.get(n) for n in range(max(found, default=-1) + 1)]


def _product_call(row: Mapping[str, Any]) -> ProductCall:
    """From JSON."""
    first, second, result = map(_matrix, row["matrices"])
    rows, columns, terms, stack = map(dim_of, row["extents"])
    bias = None if row["bias"] is None else int(row["bias"])
    residual = None if row["residual"] is None else _matrix(row["residual"])
    follows = (bias, residual, str(row["activation"]))
    return ProductCall(rows, columns, terms, stack, first, second, result, str(row["compute"]), *follows)


def _matrix(row: Sequence[Any]) -> Matrix:
    """From JSON."""
    view, dtype, leading, stride, turned = row
    return Matrix(int(view), str(dtype), dim_of(leading), dim_of(stride), bool(turned))


def _is_known(step: Step) -> bool:
    """Whether a step is a launch, or a loop of such whose turns are a number when a run begins."""
    if not isinstance(step, Repeat):
        return isinstance(step, (Run, Sync))
    decided = (step.start, step.again, step.turns)
    counted = step.count is not None and not isinstance(step.count, View)
    return counted and all(v is None for v in decided) and all(map(_is_known, step.body))


def _turns(step: Repeat, symbols: Mapping[str, int]) -> int:
    """How often a loop turns whose count is a number."""
    assert step.count is not None and not isinstance(step.count, View)
    return value_of(step.count, symbols)


def _buffer(number: int, kind: str, bytes: int | str, slot: int, offset: int | str, segment: int) -> Buffer:
    return Buffer(number, BufferKind(kind), dim_of(bytes), slot, dim_of(offset), segment=segment)


def _view(row: Any) -> View:
    buffer, offset, dtype = row
    return View(int(buffer), dim_of(offset), DTYPES[dtype], ())


def _maybe_view(row: Any) -> View | None:
    return None if row is None else _view(row)


def _maybe_dim(value: Any) -> DimLike | None:
    return None if value is None else dim_of(value)


def _steps(rows: Sequence[Any]) -> tuple[Step, ...]:
    return tuple(_READERS[row[0]](*row[1:]) for row in rows)


def _repeat(turn: str, body: Any, count: Any, *flags: Any) -> Repeat:
    most = _view(count) if isinstance(count, list) else _maybe_dim(count)
    start, again, turns = map(_maybe_view, flags)
    return Repeat(turn, _steps(body), most, start, again, turns)


_READERS: dict[str, Any] = {
    "run": lambda kernel, views: Run(kernel, tuple(map(_view, views))),
    "sync": Sync,
    "bind": lambda symbol, source, lo, hi, step: Bind(
        symbol, _view(source), _maybe_dim(lo), _maybe_dim(hi), int(step)
    ),
    "require": lambda kind, lhs, rhs, what: Require(Check(kind, dim_of(lhs), dim_of(rhs), what)),
    "reserve": lambda segment: Reserve(int(segment)),
    "extend": lambda buffer, bytes, keep: Extend(int(buffer), dim_of(bytes), bool(keep)),
    "branch": lambda flag, then, otherwise: Branch(_view(flag), _steps(then), _steps(otherwise)),
    "repeat": _repeat,
}
"""How each kind of step is read."""
