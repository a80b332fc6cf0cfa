"""Which names a kernel reads, and how wide the mask of each pinned bool vector should be."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from aino_ir.dims import DimLike, free_symbols
from aino_ir.loops.expr import Cast, Expr, Index, Load, PrefixMask, Ramp, RegRead, Select, Var
from aino_ir.loops.expr_tree import walk
from aino_ir.loops.ranges import dims_of
from aino_ir.loops.stmt import (
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
    SetReg,
    Stmt,
    Store,
    WarpCall,
    While,
)


@dataclass
class Usage:
    """What the statements of a kernel use.

    Attributes:
        read: names (values, registers, symbols, buffers) that something printed reads.
        mask_bits: mask width by name of pinned bool vector, as far as decided.
        wanted_bits: the width at which the first reader of a bool vector wants it.
        fails: whether a `Fail` stands anywhere.
    """

    read: set[str] = field(default_factory=set)
    mask_bits: dict[str, int] = field(default_factory=dict)
    wanted_bits: dict[str, int] = field(default_factory=dict)
    fails: bool = False

    def is_read(self, name: str) -> bool:
        """Whether anything reads the name."""
        return name in self.read


def nested(statement: Stmt) -> tuple[tuple[Stmt, ...], ...]:
    """The blocks inside a statement."""
    match statement:
        case For(body=body) | While(body=body):
            return (body,)
        case If(then=then, otherwise=otherwise):
            return then, otherwise
    return ()


def every(body: Iterable[Stmt]) -> Iterator[Stmt]:
    """All statements, outer ones first."""
    for statement in body:
        yield statement
        for block in nested(statement):
            yield from every(block)


def analyse(fn: LoopFn) -> Usage:
    """What a kernel uses: everything that its effects need, backwards from them."""
    usage = Usage()
    definitions: dict[str, list[Expr]] = {}
    pending: list[str] = []
    reader = _Reader(usage, pending)
    for statement in every((*fn.prologue, *fn.body)):
        match statement:
            case (
                Let(name=name, value=value)
                | BindIndex(name=name, value=value)
                | SetReg(name=name, value=value)
            ):
                definitions.setdefault(name, []).append(value)
            case GroupProduct(names=names, totals=totals):
                offsets = [Index(factor.offset) for _, factor in statement.shared]
                for name in names:
                    definitions.setdefault(name, []).extend((*totals, *statement.fragments, *offsets))
                for _, factor in statement.shared:
                    reader.name(factor.buffer)
            case WarpCall(names=names, operands=operands):
                for name in names:
                    definitions.setdefault(name, []).extend(operands)
            case DeclareReg(name=name, init=init):
                definitions.setdefault(name, []).append(init)
            case _:
                reader.effect(statement)
    while pending:
        for value in definitions.get(pending.pop(), ()):
            reader.expr(value)
    return usage


class _Reader:
    """Marks names as read and queues them, so that what defines them is read too."""

    def __init__(self, usage: Usage, pending: list[str]) -> None:
        self.usage = usage
        self.pending = pending

    def name(self, name: str) -> None:
        if name not in self.usage.read:
            self.usage.read.add(name)
            self.pending.append(name)

    def dim(self, dim: DimLike) -> None:
        for symbol in free_symbols(dim):
            self.name(symbol)

    def effect(self, statement: Stmt) -> None:
        if isinstance(statement, (Arrive, AwaitSignal, CopyTile)):
            self.name(statement.signals)
            for dim in dims_of(statement):
                self.dim(dim)
        match statement:
            case CopyAsync():
                self.name(statement.target)
                self.name(statement.source)
                self.dim(statement.offset)
                self.dim(statement.source_offset)
                if statement.mask is not None:
                    self.expr(statement.mask)
            case CopyTile():
                self.name(statement.target)
                self.name(statement.map)
            case Store(buffer=buffer, value=value):
                self.name(buffer)
                self.dim(statement.offset)
                self.dim(statement.stride)
                for part in (value, statement.mask, statement.scatter):
                    if part is not None:
                        self.expr(part)
                if statement.mask is not None:
                    self.want(statement.mask, _access_bits(value))
            case For(lo=lo, hi=hi):
                self.dim(lo)
                self.dim(hi)
            case If(condition=condition) | While(condition=condition):
                self.expr(condition)
            case Prefetch(buffer=buffer, offset=offset):
                self.name(buffer)
                self.dim(offset)
            case Alloc(offset=offset):
                self.dim(offset)
            case Fail(value=value):
                self.usage.fails = True
                self.expr(value)

    def expr(self, root: Expr) -> None:
        for e in walk(root):
            match e:
                case Var(name=name) | RegRead(name=name):
                    self.name(name)
                case Index(dim=dim) | Ramp(base=dim) | PrefixMask(count=dim):
                    self.dim(dim)
                case Load(buffer=buffer, offset=offset, stride=stride):
                    self.name(buffer)
                    self.dim(offset)
                    self.dim(stride)
                    if e.mask is not None:
                        self.want(e.mask, _access_bits(e))
                case Select(condition=condition) if not e.dtype.is_bool:
                    self.want(condition, e.dtype.bits)
                case Cast(x=x) if x.dtype.is_bool:
                    self.want(x, e.dtype.bits)

    def want(self, mask: Expr, bits: int) -> None:
        """Note the width at which a pinned bool vector is used, the first use deciding."""
        for e in walk(mask):
            if isinstance(e, (Var, RegRead)) and e.dtype.is_bool:
                self.usage.wanted_bits.setdefault(e.name, bits)


def _access_bits(e: Expr) -> int:
    return 8 if e.dtype.is_bool else e.dtype.bits
