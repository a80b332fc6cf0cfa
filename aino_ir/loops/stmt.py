"""Statements and functions of the loop language.

A kernel is a `LoopFn`: parameters (buffers), integer symbols, one parallel loop over `units`, a
scratch area per thread, and a body.  Every printed kernel has the one signature
``void k(void *const *views, const int64_t *syms, void *scratch, int64_t lo, int64_t hi)`` and runs
units lo..hi-1; how units are split over threads is the plan's business.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum

from aino_ir.dims import DimLike
from aino_ir.dtypes import DType
from aino_ir.loops.expr import Expr, VecType

UNIT = "unit"
"""The name of the loop variable over a kernel's units."""

THREAD = "thread"
"""The number of a thread among those that do one unit together."""


@dataclass(frozen=True)
class Let:
    """Pin a pure expression under a name for the rest of the enclosing block."""

    name: str
    value: Expr


@dataclass(frozen=True)
class BindIndex:
    """Give an i64 scalar expression a name that Dims may use from here on (data-dependent indices).

    `lo` and `hi` (inclusive) are promised by whoever built the kernel; the interpreter checks them.
    """

    name: str
    value: Expr
    lo: DimLike | None = None
    hi: DimLike | None = None


@dataclass(frozen=True)
class DeclareReg:
    """A mutable register with its first value."""

    name: str
    type: VecType
    init: Expr


@dataclass(frozen=True)
class SetReg:
    """Assign a register."""

    name: str
    value: Expr


@dataclass(frozen=True)
class Store:
    """Write value's lanes at `offset + lane * stride` (or `offset + scatter`), rounded to the buffer's dtype.

    Lanes where `mask` is false are not touched.
    """

    buffer: str
    offset: DimLike
    value: Expr
    stride: int | DimLike = 1
    mask: Expr | None = None
    scatter: Expr | None = None


@dataclass(frozen=True)
class For:
    """for (var = lo; var < hi; var += step); `unroll` is a hint of how often to repeat the body (0 = none).

    `where` holds facts (a, ">=" or "==", b) that are promised inside; the interpreter checks them.
    """

    var: str
    lo: DimLike
    hi: DimLike
    body: tuple[Stmt, ...]
    step: int = 1
    unroll: int = 0
    where: tuple[tuple[DimLike, str, DimLike], ...] = ()


@dataclass(frozen=True)
class If:
    """Run one of two blocks by a bool scalar."""

    condition: Expr
    then: tuple[Stmt, ...]
    otherwise: tuple[Stmt, ...] = ()


@dataclass(frozen=True)
class While:
    """Repeat the body while a bool scalar over registers holds."""

    condition: Expr
    body: tuple[Stmt, ...]


@dataclass(frozen=True)
class Alloc:
    """A buffer that lives in the thread's scratch area, `offset` bytes from its start (64-byte aligned).

    `size` is in elements.  Contents are undefined at first.
    """

    name: str
    dtype: DType
    size: DimLike
    offset: DimLike


@dataclass(frozen=True)
class Share:
    """A buffer of `size` elements that the threads of a unit have in common; undefined at first."""

    name: str
    dtype: DType
    size: int


@dataclass(frozen=True)
class Barrier:
    """All threads of a unit, or a `warp`, wait for all, and see what each has written to shared buffers."""

    warp: bool = False


@dataclass(frozen=True)
class WarpCall:
    """An operation of the 32 threads of a warp together: each gives operands and gets results of its own.

    `operation` is one of `aino_ir.loops.warp.OPERATIONS`; its results are pinned under `names`, as by `Let`.
    """

    operation: str
    names: tuple[str, ...]
    operands: tuple[Expr, ...]
    parameter: int = 0


@dataclass(frozen=True)
class SharedFactor:
    """A factor of a group's product in a shared buffer, from `offset` on.

    It lies in lines of 128 bytes, whose chunks of 16 bytes are swapped by the line's number: a line for
    each row of a first factor or column of a second one, which holds some of its terms; or, `turned`, a
    line for each term, which holds some rows or columns (of 16-bit floats only).  Where terms, or turned,
    columns, are more than a line holds, the others lie in lines that start `step` elements further on.
    """

    buffer: str
    offset: DimLike
    step: int = 0
    turned: bool = False


@dataclass(frozen=True)
class GroupProduct:
    """A tile of a product by the 128 threads of four neighbouring warps: totals + A B, 64 rows of it.

    The second factor lies in a shared buffer; the first one does too, or the threads give it as fragments
    such as `mma` takes, four for each 32 bytes of terms.  `aino_ir.loops.groups` has the details.  What the
    threads wrote to shared buffers must have been published.  Threads get their shares as `names`, as many
    as they give `totals`.  Terms are as many as `lines` lines of 128 bytes hold.
    """

    operation: str
    names: tuple[str, ...]
    totals: tuple[Expr, ...]
    first: SharedFactor | tuple[Expr, ...]
    second: SharedFactor
    lines: int = 1

    @property
    def shared(self) -> tuple[tuple[int, SharedFactor], ...]:
        """(side, factor) of those in shared buffers."""
        sides = enumerate((self.first, self.second))
        return tuple((side, f) for side, f in sides if isinstance(f, SharedFactor))

    @property
    def fragments(self) -> tuple[Expr, ...]:
        """What threads give as their part of the first factor."""
        return () if isinstance(self.first, SharedFactor) else self.first


@dataclass(frozen=True)
class CopyAsync:
    """Begin to copy `count` elements of a buffer to a shared one; where `mask` is false, zeros are written.

    Elements arrive when the thread waits for the group that the copy belongs to, or before.
    """

    target: str
    offset: DimLike
    source: str
    source_offset: DimLike
    count: int
    mask: Expr | None = None


@dataclass(frozen=True)
class CloseCopies:
    """The copies that the thread has begun since the last one of these are a group."""


@dataclass(frozen=True)
class AwaitCopies:
    """Wait until at most `open` of the thread's groups of copies, the latest ones, have not arrived.

    With `publish`, products of groups may read what the thread has written, from the next barrier on.
    """

    open: int
    publish: bool = False


@dataclass(frozen=True)
class Signals:
    """`count` signals of a unit (NVIDIA's mbarriers); a phase of one has so many arrivals of threads.

    `aino_ir.loops.signals` has the details.
    """

    name: str
    count: int
    arrivals: int


@dataclass(frozen=True)
class StartSignals:
    """Put signals into their first phase; from the next barrier on they may be used."""

    signals: str


@dataclass(frozen=True)
class Arrive:
    """This thread arrives at a signal, and announces that so many `bytes` will come by copies of tiles."""

    signals: str
    index: DimLike
    bytes: int = 0


@dataclass(frozen=True)
class AwaitSignal:
    """Wait until the last phase of a signal that is over, counted from 1, is odd (`parity` 0) or even (1)."""

    signals: str
    index: DimLike
    parity: DimLike


@dataclass(frozen=True)
class TileMap:
    """Where a parameter's elements lie, for copies of tiles.

    Attributes:
        name, buffer: of the map, and of the parameter.
        extents: elements along each axis, the innermost first.
        strides: elements from one to the next along all axes but the innermost, whose stride is 1.
        lines: that a tile has, along the second axis.
        rounded: whether elements, of f32, are rounded as tf32 has them when they are copied.
    """

    name: str
    buffer: str
    extents: tuple[DimLike, ...]
    strides: tuple[DimLike, ...]
    lines: int
    rounded: bool = False


@dataclass(frozen=True)
class CopyTile:
    """Begin to copy a tile of a map to a shared buffer, in lines as products of groups want them.

    Its first element is `at`, a coordinate for each axis of the map, the innermost first; elements outside of
    the extents are zeros.  Its bytes come to a signal.
    """

    target: str
    offset: DimLike
    map: str
    at: tuple[DimLike, ...]
    signals: str
    index: DimLike


@dataclass(frozen=True)
class Registers:
    """The threads of a group have `count` registers each from here on, `more` or fewer than before."""

    count: int
    more: bool


@dataclass(frozen=True)
class Prefetch:
    """Hint that the cache line at `offset` (elements) will be read soon; locality 3 = L1 ... 0 = none."""

    buffer: str
    offset: DimLike
    locality: int = 3


@dataclass(frozen=True)
class Fail:
    """Record an error code (with a value for its message) in the status word and return from the kernel."""

    code: int
    value: Expr


@dataclass(frozen=True)
class Comment:
    """A line for the reader of the generated code (ASCII; the printer escapes it)."""

    text: str


Stmt = (
    Let
    | BindIndex
    | DeclareReg
    | SetReg
    | Store
    | For
    | If
    | While
    | Alloc
    | Share
    | Barrier
    | WarpCall
    | GroupProduct
    | CopyAsync
    | CloseCopies
    | AwaitCopies
    | Signals
    | StartSignals
    | Arrive
    | AwaitSignal
    | TileMap
    | CopyTile
    | Registers
    | Prefetch
    | Fail
    | Comment
)


def walk_statements(body: Iterable[Stmt]) -> Iterator[Stmt]:
    """Every statement of a block and of the blocks inside it, outer ones first."""
    for statement in body:
        yield statement
        for block in blocks_of(statement):
            yield from walk_statements(block)


def blocks_of(statement: Stmt) -> tuple[tuple[Stmt, ...], ...]:
    """The blocks that a statement holds."""
    if isinstance(statement, (For, While)):
        return (statement.body,)
    return (statement.then, statement.otherwise) if isinstance(statement, If) else ()


class Access(Enum):
    """How a kernel uses a parameter."""

    READ = "read"
    WRITE = "write"
    READ_WRITE = "read_write"


@dataclass(frozen=True)
class Param:
    """A buffer argument: `size` elements of `dtype` (its physical, padded extent)."""

    name: str
    dtype: DType
    size: DimLike
    access: Access = Access.READ


@dataclass(frozen=True)
class LoopFn:
    """One kernel.

    Attributes:
        name: C identifier, from op, shape and a short hash; never from the model's names.
        params: buffers in the order of the `views` argument.
        symbols: names of the integer symbols in the order of the `syms` argument.
        units: extent of the only parallel loop; its variable is `UNIT`.
        scratch_bytes: per-thread scratch.
        body: statements run for each unit.
        prologue: statements run once per call before the first unit (packing, checks, Allocs, Shares).
        threads: how many threads do one unit together (its body runs in each, as `THREAD` 0, 1 ...); more
            than one on GPUs only.
        header: comment lines: which ops are fused, on which shapes, with which tiles.
        can_fail: whether a `Fail` stands anywhere; then `views` ends with the status word
            (int64_t[2]: code, value), written at most once by whoever comes first.
    """

    name: str
    params: tuple[Param, ...]
    symbols: tuple[str, ...]
    units: DimLike
    body: tuple[Stmt, ...]
    prologue: tuple[Stmt, ...] = ()
    scratch_bytes: DimLike = 0
    threads: int = 1
    header: tuple[str, ...] = ()
    can_fail: bool = False
    facts: tuple[tuple[str, int, int | None], ...] = field(default=())
    """(symbol, lo, hi) that hold at entry; the verifier and interval analysis use them."""


class Status(Enum):
    """Codes that a kernel can record; the runtime turns them into errors."""

    OK = 0
    INDEX_OUT_OF_RANGE = 1
    DIVISION_BY_ZERO = 2
    LIMIT_EXCEEDED = 3
    BAD_SHAPE = 4
