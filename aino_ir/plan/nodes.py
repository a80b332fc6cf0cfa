"""Plan data: buffers, views, steps.

Graph values become views here and nowhere else.  Execution is SPMD: every thread walks the same
steps; `Run` splits its kernel's units over the threads, `Sync` is a barrier.  `Branch` and `Repeat`
hold steps of their own; all threads decide alike, since they read the same elements after a barrier.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from aino_ir.constants import Const
from aino_ir.dims import DimLike, product
from aino_ir.dtypes import DType
from aino_ir.kernels import Kernel, Packing
from aino_ir.location import UNKNOWN, Loc
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
        name: for people.
    """

    id: int
    kind: BufferKind
    bytes: DimLike
    slot: int = -1
    offset: DimLike | None = None
    const: Const | None = None
    packing: Packing | None = None
    name: str = ""


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
    """Give a plan symbol its value: from an input's axis, or an i64 element that a kernel wrote."""

    symbol: str
    source: View | tuple[int, int]  # a one-element i64 view, or (input, axis)
    lo: int = 0
    hi: DimLike | None = None


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
    """

    turn: str
    body: tuple[Step, ...]
    count: View | DimLike | None = None
    start: View | None = None
    again: View | None = None
    loc: Loc = UNKNOWN
    nodes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Host:
    """An op that Python serves between two native segments."""

    op: Any
    operands: tuple[View | str | None, ...]
    results: tuple[View | str, ...]
    loc: Loc = UNKNOWN


Step = Run | Sync | Bind | Branch | Repeat | Host


@dataclass
class Plan:
    """A whole program.

    Attributes:
        inputs, outputs: (name, type) in order.
        symbols: integer symbols in the order of the kernels' `syms` argument.
        turns: symbols that the plan's `Repeat` steps count with.
        checks: entry checks (aino_ir.symbols.Check).
        kernels: by name.
        arena_bytes: set by memory planning.
    """

    name: str
    inputs: list[tuple[str, Type]] = field(default_factory=list)
    outputs: list[tuple[str, Type]] = field(default_factory=list)
    states: list[tuple[str, Type]] = field(default_factory=list)
    symbols: list[str] = field(default_factory=list)
    symbol_bounds: dict[str, tuple[int, int | None]] = field(default_factory=dict)
    turns: list[str] = field(default_factory=list)
    checks: list[Any] = field(default_factory=list)
    buffers: list[Buffer] = field(default_factory=list)
    kernels: dict[str, Kernel] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)
    arena_bytes: DimLike = 0
    scratch_bytes: DimLike = 0

    def new_buffer(self, kind: BufferKind, bytes: DimLike, **fields: Any) -> Buffer:
        """Append a buffer."""
        buffer = Buffer(len(self.buffers), kind, bytes, **fields)
        self.buffers.append(buffer)
        return buffer
