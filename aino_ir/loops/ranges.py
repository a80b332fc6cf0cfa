"""Where the accesses of a kernel can go: a walk that keeps the ranges and facts of every place.

The verifier proves accesses in bounds with it, footprints take their intervals from it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import gcd

from aino_ir.dims import Dim, DimLike, dmax, dmin
from aino_ir.dtypes import integer_range
from aino_ir.errors.dims import ContradictoryDims, EmptyRange
from aino_ir.loops.conditions import Condition, conditions_of, negations_of
from aino_ir.loops.expr import (
    Binary,
    Cast,
    Const,
    Expr,
    Index,
    Load,
    PrefixMask,
    Ramp,
    Reduce,
    Select,
    Splat,
    Var,
)
from aino_ir.loops.expr_tree import walk
from aino_ir.loops.groups import LINE_BYTES
from aino_ir.loops.stmt import (
    THREAD,
    UNIT,
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
    SetReg,
    Stmt,
    Store,
    TileMap,
    WarpCall,
    While,
)
from aino_ir.symbols import Origin, Symbols

Bounds = tuple[DimLike, DimLike]
"""Inclusive bounds that are Dims themselves."""


@dataclass(frozen=True)
class MemoryAccess:
    """One load or store: element offsets are `offset + lane*stride`, or `offset + vector`."""

    buffer: str
    is_write: bool
    offset: DimLike
    lanes: int
    stride: DimLike
    mask: Expr | None
    vector: Expr | None
    node: Load | Store | CopyAsync | CopyTile


class RangeWalk:
    """Visits every statement of a kernel with a symbol table that knows what holds there.

    Subclasses override `on_statement`, `on_access` and `on_block_end`.

    Attributes:
        relate: whether indices that name a Dim keep their relation to symbolic sizes (slow).
        table: ranges and facts at the present place.
        lets: what pinned names stand for.
        maps: of parameters, for copies of tiles.
    """

    def __init__(
        self, fn: LoopFn, units: tuple[DimLike, DimLike] | None = None, *, relate: bool = False
    ) -> None:
        self.fn = fn
        self.relate = relate
        self.units = (0, fn.units) if units is None else units
        self.table = Symbols()
        self.lets: dict[str, Expr] = {}
        self.maps: dict[str, TileMap] = {}
        for name, lo, hi in fn.facts:
            self.table.new(name, lo, hi, origin=Origin.input(name, 0))
        for name in fn.symbols:
            if name not in self.table:
                self.table.new(name, None, None, origin=Origin.input(name, 0))

    def on_statement(self, statement: Stmt) -> None:
        """Called before a statement's own blocks."""

    def on_access(self, access: MemoryAccess) -> None:
        """Called for every load and store."""

    def on_block_end(self) -> None:
        """Called at the end of every block, while its facts still hold."""

    def run(self) -> None:
        """Walk the prologue, then the body with the unit variable in its range."""
        for statement in self.fn.prologue:
            self._statement(statement)
        self.on_block_end()
        lo, hi = self.units
        if self.fn.threads > 1:
            self._new(THREAD, 0, self.fn.threads - 1)
        self._inside(self.fn.body, lambda: self._new(UNIT, lo, hi - 1))

    def _block(self, body: Iterable[Stmt]) -> None:
        for statement in body:
            self._statement(statement)
        self.on_block_end()

    def _statement(self, s: Stmt) -> None:
        for e in expressions_of(s):
            self._accesses(e)
        self.on_statement(s)
        if isinstance(s, Let):
            self.lets[s.name] = s.value
        elif isinstance(s, BindIndex):
            self._bind(s)
        elif isinstance(s, Store):
            lanes = s.value.lanes
            self.on_access(MemoryAccess(s.buffer, True, s.offset, lanes, s.stride, s.mask, s.scatter, s))
        elif isinstance(s, CopyAsync):
            self.on_access(MemoryAccess(s.source, False, s.source_offset, s.count, 1, s.mask, None, s))
            self.on_access(MemoryAccess(s.target, True, s.offset, s.count, 1, None, None, s))
        elif isinstance(s, TileMap):
            self.maps[s.name] = s
        elif isinstance(s, CopyTile):
            self._copy_tile(s)
        elif isinstance(s, For):
            self._inside(s.body, lambda: self._enter_loop(s))
        elif isinstance(s, While):
            self._inside(s.body, lambda: True)
        elif isinstance(s, If):
            self._if(s)

    def _copy_tile(self, s: CopyTile) -> None:
        """A tile may be anywhere within its map."""
        if s.map not in self.maps:
            return
        found = self.maps[s.map]
        steps = zip(found.extents, (1, *found.strides), strict=True)
        last: DimLike = 0
        for extent, stride in steps:
            last = last + (extent - 1) * stride
        for place in (0, last):
            self.on_access(MemoryAccess(found.buffer, False, place, 1, 1, None, None, s))
        (dtype,) = (p.dtype for p in self.fn.params if p.name == found.buffer)
        count = found.lines * LINE_BYTES // dtype.bytes
        self.on_access(MemoryAccess(s.target, True, s.offset, count, 1, None, None, s))

    def _accesses(self, root: Expr) -> None:
        for e in walk(root):
            if isinstance(e, Load):
                self.on_access(
                    MemoryAccess(e.buffer, False, e.offset, e.lanes, e.stride, e.mask, e.gather, e)
                )

    def _inside(self, body: Iterable[Stmt], enter: Callable[[], bool]) -> None:
        """Walk a block with the facts that `enter` adds; not at all where they contradict each other."""
        self.table.push()
        try:
            if enter():
                self._block(body)
        finally:
            self.table.pop()

    def _new(self, name: str, lo: DimLike | None, hi: DimLike | None) -> bool:
        try:
            self.table.new(name, lo, hi)
        except EmptyRange:
            return False
        return True

    def _enter_loop(self, s: For) -> bool:
        if self.table.prove_ge(s.lo, s.hi):
            return False
        try:
            declare_loop(self.table, s.var, s.lo, s.hi, s.step)
        except EmptyRange:
            return False
        return self.assume(Condition(*fact) for fact in s.where)

    def _if(self, s: If) -> None:
        facts = list(conditions_of(s.condition))
        negated = list(negations_of(s.condition))
        self._inside(s.then, lambda: self.assume(facts))
        self._inside(s.otherwise, lambda: self.assume(negated))
        if s.then and isinstance(s.then[-1], Fail):
            self.assume(negated)

    def assume(self, facts: Iterable[Condition]) -> bool:
        """Add facts; False if they cannot hold, which means that this place is never reached."""
        try:
            for fact in facts:
                fact.assume(self.table)
        except ContradictoryDims:
            return False
        return True

    def _bind(self, s: BindIndex) -> None:
        lo, hi = self._index_range(s)
        try:
            declare_index(self.table, s.name, s.value, lo, hi, self.relate)
        except (EmptyRange, ContradictoryDims):
            self._new(s.name, None, None)  # only in code that never runs

    def _index_range(self, s: BindIndex) -> tuple[DimLike | None, DimLike | None]:
        """Promised bounds, made tighter by what the value itself can be."""
        found = self.value_bounds(s.value)
        if found is None:
            return s.lo, s.hi
        if s.lo is None and s.hi is None:
            return found
        lowest, highest = self.table.interval(found[0])[0], self.table.interval(found[1])[1]
        return _tighter(max, s.lo, lowest), _tighter(min, s.hi, highest)

    # ------------------------------------------------------------------ bounds

    def access_bounds(self, access: MemoryAccess) -> Bounds | None:
        """First and last element offset that an access may touch; None when nothing bounds it.

        Call it inside `with self.table.scope()`: what the mask implies becomes a fact.
        """
        active: DimLike = access.lanes
        if access.mask is not None:
            counts = list(self._prefixes(access.mask))
            if not self.assume(Condition(count, ">=", 1) for count in counts):
                return access.offset, access.offset
            active = dmin(access.lanes, *counts) if counts else access.lanes
        if access.vector is not None:
            found = self.value_bounds(access.vector)
            return None if found is None else (access.offset + found[0], access.offset + found[1])
        reach = access.stride * (active - 1)
        return access.offset + dmin(0, reach), access.offset + dmax(0, reach)

    def _prefixes(self, mask: Expr) -> Iterable[DimLike]:
        if isinstance(mask, Var) and mask.name in self.lets:
            yield from self._prefixes(self.lets[mask.name])
        elif isinstance(mask, PrefixMask):
            yield mask.count
        elif isinstance(mask, Binary) and mask.op == "and":
            yield from self._prefixes(mask.a)
            yield from self._prefixes(mask.b)

    def value_bounds(self, e: Expr) -> Bounds | None:
        """Bounds of an integer expression over all lanes; None where there are none."""
        match e:
            case Const(value=value) if e.dtype.is_integer:
                return int(value), int(value)
            case Index(dim=dim):
                return dim, dim
            case Ramp(base=base, step=step, lanes=lanes):
                reach = step * (lanes - 1)
                return base + min(0, reach), base + max(0, reach)
            case Var(name=name) if name in self.lets:
                return self.value_bounds(self.lets[name])
            case Splat(x=x) | Reduce(op="min" | "max", x=x):
                return self.value_bounds(x)
            case Cast(x=x) if e.dtype.name == "i64":
                return self.value_bounds(x)
            case Select(a=a, b=b):
                return _hull(self.value_bounds(a), self.value_bounds(b))
            case Binary():
                return self._binary_bounds(e)
        return _dtype_bounds(e)

    def _binary_bounds(self, e: Binary) -> Bounds | None:
        a, b = self.value_bounds(e.a), self.value_bounds(e.b)
        if e.op in ("min", "max"):
            return _clamped(e.op, a, b)
        if a is None or b is None:
            return None
        if e.op == "add":
            return a[0] + b[0], a[1] + b[1]
        if e.op == "sub":
            return a[0] - b[1], a[1] - b[0]
        if e.op == "mul" and isinstance(b[0], int) and b[0] == b[1]:
            low, high = (a[0] * b[0], a[1] * b[0]) if b[0] >= 0 else (a[1] * b[0], a[0] * b[0])
            return low, high
        return None


def _tighter(
    choose: Callable[[int, int], int], promised: DimLike | None, found: int | None
) -> DimLike | None:
    if promised is None or found is None:
        return found if promised is None else promised
    return choose(promised, found) if isinstance(promised, int) else promised


def _dtype_bounds(e: Expr) -> Bounds | None:
    """Bounds that the narrow dtype of a value gives; none for 64 bits."""
    if e.dtype.is_bool or (e.dtype.is_integer and e.dtype.bits <= 32):
        return integer_range(e.dtype)
    return None


def _hull(a: Bounds | None, b: Bounds | None) -> Bounds | None:
    return None if a is None or b is None else (dmin(a[0], b[0]), dmax(a[1], b[1]))


def _clamped(op: str, a: Bounds | None, b: Bounds | None) -> Bounds | None:
    """Bounds of a minimum or maximum; with one side unbounded the missing end is that of an i64."""
    low, high = -(1 << 63), (1 << 63) - 1
    if a is None and b is None:
        return None
    (a0, a1), (b0, b1) = a or (low, high), b or (low, high)
    combine = dmin if op == "min" else dmax
    return combine(a0, b0), combine(a1, b1)


def expressions_of(s: Stmt) -> tuple[Expr, ...]:
    """The expressions that a statement evaluates itself, in order."""
    match s:
        case Let(value=e) | BindIndex(value=e) | SetReg(value=e) | DeclareReg(init=e) | Fail(value=e):
            return (e,)
        case If(condition=e) | While(condition=e):
            return (e,)
        case WarpCall():
            return s.operands
        case GroupProduct():
            return (*s.totals, *s.fragments)
        case CopyAsync():
            return () if s.mask is None else (s.mask,)
        case Store():
            return tuple(e for e in (s.value, s.mask, s.scatter) if e is not None)
    return ()


def declare_loop(table: Symbols, name: str, lo: DimLike, hi: DimLike, step: int) -> Dim:
    """Declare the variable of a loop with the tightest range and divisibility that is known.

    Raises:
        EmptyRange: the loop never runs.
    """
    if step == 1:
        return table.new(name, lo, hi - 1)
    span = hi - lo
    last = hi - 1
    if isinstance(span, int):
        last = lo + (span - 1) // step * step
    elif table.prove_divisible(span, step):
        last = hi - step
    return table.new(name, lo, last, step if table.prove_divisible(lo, step) else 1)


def declare_index(
    table: Symbols,
    name: str,
    value: Expr,
    lo: DimLike | None,
    hi: DimLike | None,
    relate: bool = False,
) -> Dim:
    """Declare a bound index within lo..hi.

    An index that names a Dim does not stand for it in proofs (that would undo what it is for), but
    its divisibility is kept, and with `relate` its relation to symbolic sizes, which is slow.

    Raises:
        EmptyRange, ContradictoryDims: the index can have no value.
    """
    dim = value.dim if isinstance(value, Index) else 0
    if isinstance(dim, int):
        return table.new(name, lo, hi)
    multiple = gcd(dim.constant, *(coefficient for coefficient, _ in dim.terms()))
    if not (relate and _names_a_size(table, dim)):
        return table.new(name, lo, hi, multiple if isinstance(hi, int) else 1)
    variable = table.new(name, lo, dim, multiple)
    table.given_ge(variable, dim)
    return variable


def _names_a_size(table: Symbols, dim: Dim) -> bool:
    """Whether a Dim refers to a kernel's symbols, not to loop variables alone."""
    return any(table.declared(name).origin.kind != "local" for name in dim.free_symbols() if name in table)


def dims_of(s: Stmt) -> tuple[DimLike, ...]:
    """The Dims that a statement holds directly, not those in its expressions."""
    match s:
        case Store():
            return s.offset, s.stride
        case For():
            return s.lo, s.hi, *(d for a, _, b in s.where for d in (a, b))
        case BindIndex():
            return tuple(d for d in (s.lo, s.hi) if d is not None)
        case Prefetch():
            return (s.offset,)
        case CopyAsync():
            return s.offset, s.source_offset
        case Arrive():
            return (s.index,)
        case AwaitSignal():
            return s.index, s.parity
        case TileMap():
            return *s.extents, *s.strides
        case CopyTile():
            return s.offset, *s.at, s.index
        case GroupProduct():
            return tuple(factor.offset for _, factor in s.shared)
    return ()
