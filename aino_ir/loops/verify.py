"""The verifier of kernels: numbered invariants of the loop language.

What it can decide it enforces; accesses that it can neither prove inside nor outside their buffer
are listed in the report, since their safety rests on a promise of the kernel's generator.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import gcd

from aino_ir.dims import DimLike, align, free_symbols
from aino_ir.dtypes import DType, bf16, f32, u16, u32
from aino_ir.errors.loops import LoopInvariantError
from aino_ir.loops.conditions import Condition
from aino_ir.loops.expr import Expr, Index, Load, PrefixMask, Ramp, RegRead, Var, VecType
from aino_ir.loops.expr_tree import walk
from aino_ir.loops.finish import SCRATCH_ALIGNMENT
from aino_ir.loops.groups import (
    COLUMNS,
    FRAGMENTS,
    GROUP,
    GROUP_OPERATIONS,
    LINE_BYTES,
    GroupOperation,
    columns_of,
)
from aino_ir.loops.meetings import separated
from aino_ir.loops.printer import print_expr, print_statements
from aino_ir.loops.ranges import MemoryAccess, RangeWalk, dims_of, expressions_of
from aino_ir.loops.signals import MOST_ARRIVALS, MOST_AXES, MOST_LINES, REGISTERS, STRIDE_BYTES
from aino_ir.loops.stmt import (
    THREAD,
    UNIT,
    Access,
    Alloc,
    Arrive,
    AwaitSignal,
    BindIndex,
    CopyAsync,
    CopyTile,
    DeclareReg,
    Fail,
    For,
    GroupProduct,
    If,
    Let,
    LoopFn,
    Prefetch,
    Registers,
    SetReg,
    Share,
    SharedFactor,
    Signals,
    StartSignals,
    Stmt,
    Store,
    TileMap,
    WarpCall,
    While,
    blocks_of,
    walk_statements,
)
from aino_ir.loops.typing import BOOL, INDEX, type_problem
from aino_ir.loops.warp import OPERATIONS, WARP
from aino_ir.symbols import Symbols

INVARIANTS = {
    "L1": "names are identifiers and unique in the kernel",
    "L2": "names are defined before they are used, in a block that is still open",
    "L3": "the types of operands and results agree",
    "L4": "only nodes that have a meaning inside loops stand in statements",
    "L5": "buffers exist and are accessed as declared",
    "L6": "a load yields and a store takes the buffer's compute dtype",
    "L7": "masks are bool and addresses i64, with the lanes of their access",
    "L8": "registers are declared in an open block and set to values of their type",
    "L9": "conditions are bool scalars, and indices and failure values i64 scalars",
    "L10": "loops have positive steps",
    "L11": "a kernel says that it can fail exactly when it holds a failure",
    "L12": "scratch buffers are allocated in the prologue, aligned, disjoint and within the scratch area",
    "L13": "no access is provably outside its buffer",
    "L14": "barriers and operations of warps stand where all threads of a unit come; only kernels of several "
    "threads share buffers, only those of whole warps have operations of warps",
    "L15": "signals and maps of tiles are declared in the prologue, for several threads, as devices take "
    "them; tiles fit where they are copied to",
}
"""Number -> rule."""


@dataclass
class LoopReport:
    """What the verifier could not decide.

    Attributes:
        proved: accesses that are inside their buffer for every unit and every value of the symbols.
        unproved: accesses that may go anywhere as far as the verifier can tell, as text.
    """

    proved: int = 0
    unproved: list[str] = field(default_factory=list)


def verify_loops(fn: LoopFn, *, bounds: bool = True) -> LoopReport:
    """Check all invariants of a kernel.

    Args:
        fn: the kernel.
        bounds: also try to prove each access inside its buffer (the slow part).

    Raises:
        LoopInvariantError: an invariant is broken.
    """
    checker = _Checker(fn)
    checker.check()
    if not bounds:
        return LoopReport()
    quick = _BoundsWalk(fn, checker.buffers)
    quick.run()
    if not quick.report.unproved or not fn.symbols:
        return quick.report
    thorough = _BoundsWalk(fn, checker.buffers, proved=quick.proved)
    thorough.run()
    return thorough.report


def broken(fn: LoopFn, invariant: str, what: str) -> LoopInvariantError:
    """The error for a broken invariant."""
    return LoopInvariantError(kernel=fn.name, invariant=invariant, rule=INVARIANTS[invariant], what=what)


class _Checker:
    """Everything but bounds."""

    def __init__(self, fn: LoopFn) -> None:
        self.fn = fn
        self.buffers: dict[str, tuple[DType, DimLike, Access]] = {}
        self._names: set[str] = set()
        self._values: dict[str, VecType] = {}
        self._registers: dict[str, VecType] = {}
        self._dims: set[str] = set()
        self._signals: dict[str, Signals] = {}
        self._maps: dict[str, TileMap] = {}

    def check(self) -> None:
        fn = self.fn
        self._claim(UNIT)
        for name in fn.symbols:
            self._claim_symbol(name)
        for param in fn.params:
            self._claim(param.name)
            self._dims_known(param.size)
            self.buffers[param.name] = param.dtype, param.size, param.access
        self._dims_known(fn.units)
        self._dims_known(fn.scratch_bytes)
        self._scratch()
        for statement in fn.prologue:
            self._statement(statement)
        self._dims.add(UNIT)
        if fn.threads > 1:
            self._claim_symbol(THREAD)
        self._block(fn.body)
        problem = separated(fn)
        if problem is not None:
            raise broken(fn, "L14", problem)
        fails = any(isinstance(s, Fail) for block in (fn.prologue, fn.body) for s in walk_statements(block))
        if fails != fn.can_fail:
            raise broken(fn, "L11", f"can_fail is {fn.can_fail}")

    # ------------------------------------------------------------------ names

    def _claim(self, name: str) -> None:
        if name in self._names or not name.isidentifier() or not name.isascii():
            raise broken(self.fn, "L1", f"`{name}`")
        self._names.add(name)

    def _claim_symbol(self, name: str) -> None:
        if name in self._names:
            raise broken(self.fn, "L1", f"`{name}`")
        self._names.add(name)
        self._dims.add(name)

    def _dims_known(self, *dims: DimLike) -> None:
        for dim in dims:
            for name in free_symbols(dim):
                if name not in self._dims:
                    raise broken(self.fn, "L2", f"`{name}` in {dim}")

    @contextmanager
    def _scope(self) -> Iterator[None]:
        saved = dict(self._values), dict(self._registers), set(self._dims)
        yield
        self._values, self._registers, self._dims = saved

    def _block(self, body: tuple[Stmt, ...]) -> None:
        with self._scope():
            for statement in body:
                self._statement(statement)

    # ------------------------------------------------------------------ statements

    def _statement(self, s: Stmt) -> None:
        self._dims_known(*dims_of(s))
        for e in expressions_of(s):
            self._expression(e)
        match s:
            case Let():
                self._claim(s.name)
                self._values[s.name] = s.value.type
            case BindIndex():
                self._typed("L9", s.value, INDEX)
                self._claim_symbol(s.name)
            case DeclareReg():
                self._typed("L8", s.init, s.type)
                self._claim(s.name)
                self._registers[s.name] = s.type
            case SetReg():
                if s.name not in self._registers:
                    raise broken(self.fn, "L8", f"`{s.name}` is set")
                self._typed("L8", s.value, self._registers[s.name])
            case Store():
                dtype = self._buffer(s.buffer, Access.READ)
                self._typed("L6", s.value, VecType(dtype.compute, s.value.lanes))
                self._access(s.value.lanes, s.mask, s.scatter)
            case Prefetch():
                self._buffer(s.buffer, None)
            case WarpCall():
                self._warp_call(s)
            case GroupProduct():
                self._group_product(s)
            case CopyAsync():
                self._copy(s)
            case Signals() | TileMap():
                self._declared(s)
            case StartSignals(signals=name) | Arrive(signals=name) | AwaitSignal(signals=name):
                self._signal(name, None if isinstance(s, StartSignals) else s.index)
            case CopyTile():
                self._copy_tile(s)
            case Registers():
                if s.count not in REGISTERS or self.fn.threads % GROUP:
                    raise broken(self.fn, "L15", f"{s.count} registers for each of {self.fn.threads} threads")
            case For() | While() | If():
                self._control(s)
            case Fail():
                self._typed("L9", s.value, INDEX)
            case Alloc():
                if s not in self.fn.prologue:
                    raise broken(self.fn, "L12", f"`{s.name}` is allocated inside a block")

    def _warp_call(self, s: WarpCall) -> None:
        operation = OPERATIONS.get(s.operation)
        if operation is None or len(operation.operands) != len(s.operands):
            raise broken(self.fn, "L4", f"{s.operation} of {len(s.operands)} operands")
        if self.fn.threads % WARP:
            raise broken(self.fn, "L14", f"{s.operation} in a unit of {self.fn.threads} threads")
        for e, expected in zip(s.operands, operation.operands, strict=True):
            self._typed("L3", e, expected)
        for name, type_ in zip(s.names, operation.results, strict=True):
            self._claim(name)
            self._values[name] = type_

    def _group_product(self, s: GroupProduct) -> None:
        operation, columns = GROUP_OPERATIONS.get(s.operation), columns_of(len(s.totals))
        if operation is None or len(s.names) != len(s.totals) or columns not in COLUMNS:
            raise broken(self.fn, "L4", f"{s.operation} of {columns} columns")
        if self.fn.threads % GROUP:
            raise broken(self.fn, "L14", f"{s.operation} in a unit of {self.fn.threads} threads")
        if s.fragments and len(s.fragments) != s.lines * FRAGMENTS:
            raise broken(self.fn, "L4", f"{s.operation} of {len(s.fragments)} fragments, {s.lines} lines")
        for fragment in s.fragments:
            self._typed("L3", fragment, VecType(u32))
        for side, factor in s.shared:
            self._shared_factor(s, operation, side, factor)
        for total, name in zip(s.totals, s.names, strict=True):
            self._typed("L3", total, VecType(operation.total))
            self._claim(name)
            self._values[name] = total.type

    def _shared_factor(
        self, s: GroupProduct, operation: GroupOperation, side: int, factor: SharedFactor
    ) -> None:
        name, storage = factor.buffer, operation.storages[side]
        if self._buffer(name, Access.WRITE) is not storage:
            raise broken(self.fn, "L6", f"`{name}` in {s.operation}")
        if factor.turned and storage.bytes != 2:
            raise broken(self.fn, "L4", f"{s.operation} of `{name}` turned")
        size = next((p.size for p in self.fn.prologue if isinstance(p, Share) and p.name == name), None)
        if size is None:
            raise broken(self.fn, "L5", f"`{name}`, which {s.operation} reads, is not shared")
        end = factor.offset + operation.end(side, len(s.totals), s.lines, factor.step, factor.turned)
        if isinstance(end, int) and end > size:
            raise broken(self.fn, "L13", f"{s.operation} reads `{name}` to {end} of {size}")

    def _copy(self, s: CopyAsync) -> None:
        if self._buffer(s.target, Access.READ) is not self._buffer(s.source, Access.WRITE):
            raise broken(self.fn, "L6", f"a copy from `{s.source}` to `{s.target}`")
        if not any(isinstance(p, Share) and p.name == s.target for p in self.fn.prologue):
            raise broken(self.fn, "L5", f"`{s.target}`, which a copy arrives at, is not shared")
        if s.mask is not None:
            self._typed("L7", s.mask, BOOL)

    def _declared(self, s: Signals | TileMap) -> None:
        fn = self.fn
        if s not in fn.prologue or fn.threads == 1:
            raise broken(fn, "L15", f"`{s.name}` is declared inside a block, or for one thread")
        self._claim(s.name)
        if isinstance(s, Signals):
            if s.count < 1 or not 1 <= s.arrivals <= MOST_ARRIVALS:
                raise broken(fn, "L15", f"`{s.name}` are {s.count} signals of {s.arrivals} arrivals")
            self._signals[s.name] = s
            return
        dtype, rank = self._buffer(s.buffer, Access.WRITE), len(s.extents)
        aligned = all(gcd(*_multiples(d)) * dtype.bytes % STRIDE_BYTES == 0 for d in s.strides)
        if not 2 <= rank <= MOST_AXES or len(s.strides) != rank - 1 or not aligned:
            raise broken(
                fn, "L15", f"`{s.name}` has {rank} axes, by {', '.join(map(str, s.strides))} elements"
            )
        unknown = all(p.name != s.buffer for p in fn.params) or (s.rounded and dtype is not f32)
        if not 1 <= s.lines <= MOST_LINES or unknown:
            raise broken(fn, "L15", f"`{s.name}` of {s.lines} lines of `{s.buffer}`")
        self._maps[s.name] = s

    def _signal(self, name: str, at: DimLike | None) -> None:
        found = self._signals.get(name)
        if found is None or (isinstance(at, int) and not 0 <= at < found.count):
            raise broken(self.fn, "L15", f"signal `{name}`{'' if at is None else f'[{at}]'}")

    def _copy_tile(self, s: CopyTile) -> None:
        self._signal(s.signals, s.index)
        found = self._maps.get(s.map)
        if found is None or len(s.at) != len(found.extents):
            raise broken(self.fn, "L15", f"a tile of `{s.map}` at {len(s.at)} coordinates")
        dtype = self._buffer(s.target, Access.READ)
        if dtype is not self._buffer(found.buffer, Access.WRITE):
            raise broken(self.fn, "L6", f"a tile of `{found.buffer}` in `{s.target}`")
        size = next((p.size for p in self.fn.prologue if isinstance(p, Share) and p.name == s.target), None)
        end = s.offset + found.lines * (LINE_BYTES // dtype.bytes)
        if size is None or (isinstance(end, int) and end > size):
            raise broken(
                self.fn, "L15", f"a tile that ends at {end} in `{s.target}`, which has {size} elements"
            )

    def _control(self, s: For | While | If) -> None:
        if isinstance(s, For):
            if s.step < 1:
                raise broken(self.fn, "L10", f"the step of `{s.var}` is {s.step}")
            with self._scope():
                self._claim_symbol(s.var)
                self._dims_known(*(d for a, _, b in s.where for d in (a, b)))
                self._block(s.body)
            return
        self._typed("L9", s.condition, BOOL)
        for block in blocks_of(s):
            self._block(block)

    # ------------------------------------------------------------------ expressions

    def _expression(self, root: Expr) -> None:
        for e in walk(root):
            problem = type_problem(e)
            if problem is not None:
                raise broken(self.fn, "L4" if problem == "" else "L3", f"{print_expr(e)}{problem}")
            match e:
                case Var(name=name) if self._values.get(name) != e.type:
                    raise broken(self.fn, "L2", f"value `{name}` of type {e.type}")
                case RegRead(name=name) if self._registers.get(name) != e.type:
                    raise broken(self.fn, "L2", f"register `{name}` of type {e.type}")
                case Index(dim=dim) | Ramp(base=dim) | PrefixMask(count=dim):
                    self._dims_known(dim)
                case Load():
                    self._dims_known(e.offset, e.stride)
                    dtype = self._buffer(e.buffer, Access.WRITE)
                    loaded = e.dtype if dtype is bf16 and e.dtype is u16 else dtype.compute
                    self._typed("L6", e, VecType(loaded, e.lanes))
                    self._access(e.lanes, e.mask, e.gather)

    def _typed(self, invariant: str, e: Expr, expected: VecType) -> None:
        if e.type != expected:
            raise broken(self.fn, invariant, f"{print_expr(e)} is {e.type}, not {expected}")

    def _access(self, lanes: int, mask: Expr | None, vector: Expr | None) -> None:
        if mask is not None:
            self._typed("L7", mask, VecType(BOOL.dtype, lanes))
        if vector is not None:
            self._typed("L7", vector, VecType(INDEX.dtype, lanes))

    def _buffer(self, name: str, forbidden: Access | None) -> DType:
        found = self.buffers.get(name)
        if found is None or found[2] is forbidden:
            raise broken(self.fn, "L5", f"`{name}`")
        return found[0]

    def _scratch(self) -> None:
        """Alignment and order; with constant sizes also that buffers are disjoint and inside."""
        table = RangeWalk(self.fn).table
        end: DimLike = 0
        for s in self.fn.prologue:
            if isinstance(s, Share):
                if self.fn.threads == 1:
                    raise broken(self.fn, "L14", f"`{s.name}` is shared by one thread")
                self._claim(s.name)
                self.buffers[s.name] = s.dtype, s.size, Access.READ_WRITE
            if not isinstance(s, Alloc):
                continue
            self._claim(s.name)
            self._dims_known(s.size, s.offset)
            if table.prove_divisible(s.offset, SCRATCH_ALIGNMENT) is not True:
                raise broken(self.fn, "L12", f"`{s.name}` starts at {s.offset}")
            if not _reaches(table, s.offset, end):
                raise broken(self.fn, "L12", f"`{s.name}` at {s.offset} overlaps what ends at {end}")
            end = s.offset + s.size * s.dtype.bytes
            self.buffers[s.name] = s.dtype, s.size, Access.READ_WRITE
        if not _reaches(table, self.fn.scratch_bytes, end):
            raise broken(self.fn, "L12", f"{end} bytes are used, {self.fn.scratch_bytes} declared")


def _multiples(dim: DimLike) -> tuple[int, ...]:
    """Numbers of whose common divisors a Dim is a multiple."""
    return (dim,) if isinstance(dim, int) else (dim.constant, *(factor for factor, _ in dim.terms()))


def _reaches(table: Symbols, limit: DimLike, end: DimLike) -> bool:
    """Whether limit >= end: proved, or because it is `end` aligned (quotients of quotients hide that)."""
    return table.prove_ge(limit, end) is True or table.prove_eq(limit, align(end, SCRATCH_ALIGNMENT)) is True


Place = tuple[int, str, bool, DimLike]
"""An access: the identity of its node, which may have several, the buffer, whether it writes, and where."""


class _BoundsWalk(RangeWalk):
    """Proves accesses inside their buffers.

    Args:
        fn: the kernel.
        buffers: dtype, size and access by name.
        proved: accesses that a quick walk has proved; then this one is thorough.
    """

    def __init__(
        self,
        fn: LoopFn,
        buffers: dict[str, tuple[DType, DimLike, Access]],
        proved: set[Place] | None = None,
    ) -> None:
        super().__init__(fn, relate=proved is not None)
        self.report = LoopReport()
        self.proved: set[Place] = set() if proved is None else proved
        self._sizes = {name: size for name, (_, size, _) in buffers.items()}

    def on_access(self, access: MemoryAccess) -> None:
        key = id(access.node), access.buffer, access.is_write, access.offset
        if key in self.proved:
            self.report.proved += 1
            return
        size = self._sizes[access.buffer]
        with self.table.scope():
            found = self.access_bounds(access)
            if found is None:
                self._undecided(access)
                return
            inside = [
                Condition(found[0], ">=", 0).prove(self.table),
                Condition(found[1], "<", size).prove(self.table),
            ]
        if False in inside and access.mask is None and access.vector is None:
            raise broken(self.fn, "L13", f"{self._text(access)} with {size} elements")
        if all(inside):
            self.proved.add(key)
            self.report.proved += 1
        else:
            self._undecided(access)

    def _undecided(self, access: MemoryAccess) -> None:
        self.report.unproved.append(self._text(access))

    @staticmethod
    def _text(access: MemoryAccess) -> str:
        node = access.node
        return print_expr(node) if isinstance(node, Expr) else print_statements([node])
