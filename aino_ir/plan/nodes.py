"""Plan data: buffers, views, steps.

Graph values become views here and nowhere else.  Execution is SPMD: every thread walks the same
steps; `Run` splits its kernel's units over the threads, `Sync` is a barrier.  `Branch` and `Repeat`
hold steps of their own; all threads decide alike, since they read the same elements after a barrier.

Symbols are bound at entry, from the inputs' extents, or by a `Bind` step when a kernel has computed
them.  Memory whose size is known at entry lies in the arena; what `Bind` steps make known lies in further
segments, each of which a `Reserve` step behind them makes large enough.  What grows from turn to turn of a
loop has a segment of its own, which an `Extend` step in the body enlarges.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from aino_ir.constants import Const
from aino_ir.dims import DimLike, free_symbols, product
from aino_ir.dtypes import DType
from aino_ir.kernels import Chain, Kernel, Packing
from aino_ir.location import UNKNOWN, Loc
from aino_ir.symbols import Check
from aino_ir.types import ROW_MAJOR, Layout, Type


class BufferKind(Enum):
    """Who owns a buffer's memory."""

    INPUT = "input"
    OUTPUT = "output"
    ARENA = "arena"
    CONST = "const"
    STATE = "state"
    TURN = "turn"
    """A `Repeat`'s number of the present turn: an i64 that each thread has for itself."""


@dataclass
class Buffer:
    """A stretch of memory.

    Attributes:
        id: position in `Plan.buffers`.
        bytes: its size.
        slot: input/output/state number; for a turn its place in `Plan.turns`.
        offset: offset in the arena, or of a constant or a state's first value in the weights section.
        const, packing: contents of a constant buffer; what a state buffer holds at first (None: zeros).
        segment: the position in `Plan.segments` of what it lies in, plus one; 0 is the arena.
        family, first, end: its place in the segment, in units of the size that its family shares.
        name: for people.
    """

    id: int
    kind: BufferKind
    bytes: DimLike
    slot: int = -1
    offset: DimLike | None = None
    const: Const | None = None
    packing: Packing | None = None
    segment: int = 0
    family: str = ""
    first: int = 0
    end: int = 0
    name: str = ""


@dataclass
class Segment:
    """Memory of a run whose size is known only when some symbols have been bound.

    Attributes:
        bytes: its size, of each thread's part when `per_thread`.
        per_thread: whether every thread has a part of its own (scratch).
        output: the output whose memory it is, which the caller gets; -1: the session keeps it.
    """

    bytes: DimLike
    per_thread: bool = False
    output: int = -1


@dataclass(frozen=True)
class View:
    """A tensor inside a buffer, `offset` bytes from its start."""

    buffer: int
    offset: DimLike
    dtype: DType
    shape: tuple[DimLike, ...]
    layout: Layout = ROW_MAJOR
    allocated: tuple[DimLike, ...] | None = None


@dataclass(frozen=True)
class Run:
    """Call a kernel.  `views` are its operands then its results (an in-place result is not repeated).

    `partition` is "static" (units split evenly over threads) or "one" (thread 0 runs all).
    """

    kernel: str
    views: tuple[View, ...]
    partition: str = "static"
    loc: Loc = UNKNOWN
    nodes: tuple[str, ...] = ()
    flops: DimLike = 0

    @property
    def moved_bytes(self) -> DimLike:
        """Bytes of all tensors that the kernel reads and writes, each once."""
        total: DimLike = 0
        for view in self.views:
            total = total + product(view.shape) * view.dtype.bytes
        return total


@dataclass(frozen=True)
class Sync:
    """All threads wait for all."""


@dataclass(frozen=True)
class Bind:
    """Give a symbol the value of one integer that a kernel wrote; it must be within lo..hi (inclusive).

    `what` says in errors what the integer is.
    """

    symbol: str
    source: View
    lo: DimLike | None = 0
    hi: DimLike | None = None
    step: int = 1
    loc: Loc = UNKNOWN
    what: str = ""


@dataclass(frozen=True)
class Require:
    """A condition on extents that is tested when the last of them has been bound."""

    check: Check
    loc: Loc = UNKNOWN


@dataclass(frozen=True)
class Reserve:
    """Make a segment large enough for the symbols as they are now; nothing in it is kept."""

    segment: int
    loc: Loc = UNKNOWN


@dataclass(frozen=True)
class Extend:
    """Make the segment of one buffer hold `bytes` at least; what is there stays if `keep`.

    All threads wait for all when memory has to be moved, so that no barrier need stand before or after.
    """

    buffer: int
    bytes: DimLike
    keep: bool = True
    loc: Loc = UNKNOWN


@dataclass(frozen=True)
class Branch:
    """Run one of two step lists by a bool element."""

    condition: View
    then: tuple[Step, ...]
    otherwise: tuple[Step, ...]
    loc: Loc = UNKNOWN
    nodes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Repeat:
    """Run steps turn after turn.

    Attributes:
        turn: the symbol that counts finished turns; offsets of views in the body are expressions of it.
        body: the steps of one turn.
        count: at most so many turns: a number, or an i64 element read before the first; None: no limit.
        start: a bool element read before the first turn: none happens if it is false.
        again: a bool element read after every turn: the last one was that if it is false.
        turns: an i64 element that gets the number of turns when the last is over.
    """

    turn: str
    body: tuple[Step, ...]
    count: View | DimLike | None = None
    start: View | None = None
    again: View | None = None
    turns: View | None = None
    loc: Loc = UNKNOWN
    nodes: tuple[str, ...] = ()


Step = Run | Sync | Bind | Require | Reserve | Extend | Branch | Repeat


@dataclass
class Plan:
    """A whole program.

    Attributes:
        inputs, outputs: (name, type) in order.
        symbols: integer symbols in the order of the kernels' `syms` argument, those bound at entry first.
        decided: those of them that `Bind` steps bind, in order.
        segments: memory beside the arena; set by memory planning.
        scratch_segments: kernel -> the segment of its scratch, where steps decide how much it needs.
        turns: symbols that the plan's `Repeat` steps count with.
        checks: what is tested at entry.
        kernels: by name.
        chains: kernels that do an op together, by the key of its spec.
        arena_bytes: set by memory planning.
    """

    name: str
    inputs: list[tuple[str, Type]] = field(default_factory=list)
    outputs: list[tuple[str, Type]] = field(default_factory=list)
    states: list[tuple[str, Type]] = field(default_factory=list)
    symbols: list[str] = field(default_factory=list)
    decided: list[str] = field(default_factory=list)
    segments: list[Segment] = field(default_factory=list)
    scratch_segments: dict[str, int] = field(default_factory=dict)
    symbol_bounds: dict[str, tuple[int, int | None]] = field(default_factory=dict)
    turns: list[str] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    buffers: list[Buffer] = field(default_factory=list)
    kernels: dict[str, Kernel] = field(default_factory=dict)
    chains: dict[str, Chain] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)
    arena_bytes: DimLike = 0
    scratch_bytes: DimLike = 0

    @property
    def entry_symbols(self) -> list[str]:
        """Symbols that have their values when a run begins."""
        return self.symbols[: len(self.symbols) - len(self.decided)]

    def is_decided(self, *dims: DimLike) -> bool:
        """Whether dimensions are known only when some `Bind` step has run."""
        return bool(self.decided) and any(not free_symbols(d).isdisjoint(self.decided) for d in dims)

    def new_buffer(self, kind: BufferKind, bytes: DimLike, **fields: Any) -> Buffer:
        """Append a buffer."""
        buffer = Buffer(len(self.buffers), kind, bytes, **fields)
        self.buffers.append(buffer)
        return buffer
