"""The builder of loop functions: what kernel generators and schedules write their kernels with.

Everything emitted goes through it, so it can keep the promises of the loop language: every value is
pinned under a name before it is used twice, equal pure values in one scope have one name, offsets
are simplified with the ranges of the open loops, guards that are proved vanish, and no expression
outlives a set of a register it reads.

Statements written outside `units` go to the prologue, which runs once a call; names made there are
visible in the unit loop.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from itertools import product

from aino_ir.dims import Dim, DimLike, free_symbols, symbol
from aino_ir.dtypes import DType, boolean, i64
from aino_ir.errors.dims import ContradictoryDims
from aino_ir.errors.loops import LoopAccessError, LoopNameError, LoopStructureError, LoopTypeError
from aino_ir.loops.conditions import Condition, as_condition, conditions_of, negations_of
from aino_ir.loops.expr import Const, Expr, Index, Load, Number, RegRead, Var, VecType, const, splat
from aino_ir.loops.finish import assemble
from aino_ir.loops.numbering import LEAVES, Numbering
from aino_ir.loops.ranges import declare_loop
from aino_ir.loops.registers import Reg, RegTile
from aino_ir.loops.scopes import Scope, When
from aino_ir.loops.settle import Settler
from aino_ir.loops.stmt import (
    UNIT,
    Access,
    BindIndex,
    Comment,
    DeclareReg,
    Fail,
    For,
    If,
    Let,
    LoopFn,
    Param,
    Prefetch,
    SetReg,
    Status,
    Stmt,
    Store,
    While,
)
from aino_ir.symbols import Symbols

__all__ = ["Condition", "Fact", "LoopBuilder", "Reg", "RegTile"]

Fact = tuple[DimLike, str, DimLike]
"""(a, ">=" or "==", b)."""

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


class LoopBuilder:
    """Builds one `LoopFn`.

    Args:
        name: C identifier; `finish` appends a hash of the body.
        symbols: the function's table; the builder works on copies.
    """

    def __init__(self, name: str, *, symbols: Symbols | None = None) -> None:
        self.name = name
        if not _IDENTIFIER.match(name):
            raise LoopNameError(kernel=name, name=name, problem="is not an identifier")
        self._root = self._scope = Scope(None, symbols.clone() if symbols is not None else Symbols())
        self._params: dict[str, Param] = {}
        self._constant: set[str] = set()  # parameters that are only read
        self._scratch: dict[str, tuple[DType, DimLike]] = {}
        self._declared_symbols: list[str] = []
        self._local_symbols: set[str] = {UNIT}
        self._used_symbols: set[str] = set()
        self._names: set[str] = {UNIT, *self._root.symbols}
        self._counters: dict[str, int] = {}
        self._versions: dict[str, int] = {}
        self._numbering = Numbering(self._constant)
        self._settler = Settler(self)
        self._units: tuple[DimLike, tuple[Stmt, ...]] | None = None
        self._last_when: When | None = None

    # ------------------------------------------------------------------ declarations

    @property
    def symbols(self) -> Symbols:
        """Ranges and facts that hold where the next statement will stand."""
        return self._scope.symbols

    def param(self, name: str, dtype: DType, size: DimLike, access: Access = Access.READ) -> str:
        """Declare a buffer argument of `size` elements; returns its name."""
        if not _IDENTIFIER.match(name) or name in self._names:
            raise LoopNameError(kernel=self.name, name=name, problem="is taken or is not an identifier")
        self._names.add(name)
        self._params[name] = Param(name, dtype, self.dim(size), access)
        if access is Access.READ:
            self._constant.add(name)
        return name

    def symbol(self, name: str, lo: int | None = None, hi: int | None = None) -> Dim:
        """Declare an integer parameter of the kernel, within lo..hi (inclusive) if it is new."""
        if name not in self._declared_symbols:
            self._declared_symbols.append(name)
            self._names.add(name)
            for table in {id(t): t for t in (self._root.symbols, self._scope.symbols)}.values():
                if name not in table:
                    table.new(name, lo, hi)
        return symbol(name)

    def alloc(self, name: str, dtype: DType, size: DimLike) -> str:
        """Reserve `size` elements of per-thread scratch, 64-byte aligned; returns a unique name.

        `size` may use the kernel's symbols but no loop variables.  Contents are undefined at first.
        """
        name = self.unique(name)
        with self.prologue():
            size = self.dim(size)
        self._refuse_local(size, f"sizes scratch buffer {name}")
        self._scratch[name] = (dtype, size)
        return name

    def unique(self, wish: str) -> str:
        """A name like `wish` that nothing in the kernel has yet; it is taken from here on."""
        if not _IDENTIFIER.match(wish):
            raise LoopNameError(kernel=self.name, name=wish, problem="is not an identifier")
        name, number = wish, self._counters.get(wish, 0)
        while name in self._names:
            number += 1
            name = f"{wish}_{number}"
        self._counters[wish] = number
        self._names.add(name)
        return name

    # ------------------------------------------------------------------ control

    @contextmanager
    def prologue(self) -> Iterator[None]:
        """Statements inside run once a call, before the first unit."""
        outer, self._scope = self._scope, self._root
        try:
            yield
        finally:
            self._scope = outer

    @contextmanager
    def units(self, extent: DimLike) -> Iterator[DimLike]:
        """The parallel loop, of which a kernel has exactly one; yields its variable, in 0..extent-1."""
        if self._units is not None or self._scope is not self._root:
            problem = "units() must be used once, at the outer level"
            raise LoopStructureError(kernel=self.name, problem=problem)
        extent = self.dim(extent)
        self._units = (extent, ())
        table = self._root.symbols.clone()
        if extent == 1:
            with self._block(table) as scope:
                yield 0
        else:
            variable = declare_loop(table, UNIT, 0, extent, 1)
            with self._block(table) as scope:
                yield variable
        self._units = (extent, scope.close())

    @contextmanager
    def loop(
        self,
        name: str,
        lo: DimLike,
        hi: DimLike,
        *,
        step: int = 1,
        unroll: int = 0,
        where: Iterable[Fact] | Callable[[DimLike], Iterable[Fact]] = (),
    ) -> Iterator[DimLike]:
        """for (name = lo; name < hi; name += step); yields the variable under a unique name.

        A loop that provably runs once yields `lo` and leaves no loop; one that never runs is dropped.

        Args:
            name: wish for the variable's name.
            lo: first value.
            hi: end (exclusive).
            step: positive increment.
            unroll: hint for printers.
            where: promised facts about the variable and others, or a function from it to them.
        """
        lo, hi = self.dim(lo), self.dim(hi)
        table = self.symbols
        if table.prove_ge(lo, hi):
            with self._dropped():
                yield lo
            return
        if table.prove_gt(hi, lo) and table.prove_ge(lo + step, hi):
            yield lo
            return
        name = self.unique(name)
        self._local_symbols.add(name)
        self._invalidate_reads()
        with self._facts(table):
            variable = declare_loop(table, name, lo, hi, step)
            facts = tuple(self._promise(fact) for fact in (where(variable) if callable(where) else where))
            with self._block(table) as scope:
                yield variable
        self._emit(For(name, lo, hi, scope.close(), step, unroll, tuple(f for f in facts if f)))

    @contextmanager
    def when(self, condition: Expr | Condition) -> Iterator[None]:
        """Run the block if `condition` holds; proved, it is inlined; refuted, it is dropped."""
        if isinstance(condition, Expr):
            condition = self._settler.settle(condition)
        known = self._decide(condition)
        outer, statement = self._scope, None
        if known is True:
            yield
        elif known is False:
            with self._dropped():
                yield
        else:
            test = condition if isinstance(condition, Expr) else self._settler.settle(condition.expr())
            self._expect("the condition of when()", test, _BOOL)
            table = self.symbols
            with self._facts(table):
                for fact in conditions_of(test):
                    fact.assume(table)
                with self._block(table) as scope:
                    yield
            statement = If(test, scope.close())
            outer.statements.append(statement)
            if statement.then and isinstance(statement.then[-1], Fail):
                for fact in negations_of(test):  # whoever comes past here did not fail
                    fact.assume(table)
        self._last_when = When(outer, len(outer.statements), statement, known)

    @contextmanager
    def otherwise(self) -> Iterator[None]:
        """Run the block if the condition of the `when` right before it did not hold."""
        last, self._last_when = self._last_when, None
        scope, table = self._scope, self.symbols
        if last is None or last.scope is not scope or last.length != len(scope.statements):
            raise LoopStructureError(kernel=self.name, problem="otherwise() must directly follow a when()")
        if last.known is True:
            with self._dropped():
                yield
        elif last.statement is None:
            yield
        else:
            with self._facts(table):
                for fact in negations_of(last.statement.condition):
                    fact.assume(table)
                with self._block(table) as inner:
                    yield
            scope.statements[-1] = replace(last.statement, otherwise=inner.close())

    @contextmanager
    def while_(self, condition: Callable[[], Expr]) -> Iterator[None]:
        """Repeat the block while `condition()`, a pure expression over registers, is true."""
        self._invalidate_reads()
        with self._block(self.symbols) as scope:
            test = self._settler.settle(condition())
            if scope.statements:
                problem = "the condition of while_() may not need statements of its own"
                raise LoopStructureError(kernel=self.name, problem=problem)
            self._expect("the condition of while_()", test, _BOOL)
            yield
        self._emit(While(test, scope.close()))

    # ------------------------------------------------------------------ values

    def let(self, expr: Expr, hint: str = "t") -> Expr:
        """`expr` pinned under a name; variables, constants, Dims and masks come back as they are."""
        settled = self._settler.settle(expr)
        return self.pin(settled, hint)

    def pin(self, settled: Expr, hint: str = "t") -> Expr:
        """`let` for an expression that is settled already."""
        if isinstance(settled, LEAVES) and not isinstance(settled, RegRead):
            return settled
        number = self._numbering.number(settled)
        if number is not None:
            found = self._scope.find(number)
            if found is not None:
                return found
        variable = Var(self._fresh(hint), settled.type)
        self._emit(Let(variable.name, settled))
        if number is not None:
            self._scope.remember(number, variable)
        return variable

    def index(
        self, expr: Expr, lo: DimLike | None = None, hi: DimLike | None = None, hint: str = "i"
    ) -> DimLike:
        """An i64 scalar value as a Dim, promised to lie within lo..hi (inclusive)."""
        settled = self._settler.settle(expr)
        if isinstance(settled, Index):
            return settled.dim
        if isinstance(settled, Const):
            return int(settled.value)
        self._expect("an index", settled, VecType(i64))
        lo, hi = (bound if bound is None else self.dim(bound) for bound in (lo, hi))
        return self._bind(settled, lo, hi, hint)

    def split(self, dim: DimLike, axes: Mapping[str, DimLike]) -> tuple[DimLike, ...]:
        """The coordinates of a linear index, slowest first, each as a variable with a range of its own.

        Proofs and addresses over such variables are far simpler than over ``dim // a % b``, so this
        is how a unit is taken apart.

        Args:
            dim: an index that is promised to lie within 0..product of the extents - 1.
            axes: extent by wished name, slowest first.
        """
        rest, found = self.dim(dim), []
        names, extents = list(axes), list(axes.values())
        for name, extent in zip(reversed(names[1:]), reversed(extents[1:]), strict=True):
            quotient = self.dim(rest // extent)
            found.append((name, extent, self.dim(rest - quotient * extent)))
            rest = quotient
        found.append((names[0], extents[0], rest))
        return tuple(self._coordinate(*item) for item in reversed(found))

    def _coordinate(self, name: str, extent: DimLike, value: DimLike) -> DimLike:
        if isinstance(value, int) or value.as_symbol() is not None or self.symbols.prove_eq(extent, 1):
            return 0 if self.symbols.prove_eq(extent, 1) else value
        return self._bind(Index(value), 0, self.dim(extent - 1), name)

    def _bind(self, settled: Expr, lo: DimLike | None, hi: DimLike | None, hint: str) -> Dim:
        key = ("index", self._numbering.number(settled), lo, hi)
        found = self._scope.find(key) if key[1] is not None else None
        if found is not None:
            return symbol(found.name)
        name = self.unique(hint)
        self._local_symbols.add(name)
        variable = self.symbols.new(name, lo, hi)
        self._emit(BindIndex(name, settled, lo, hi))
        self._scope.remember(key, Var(name, settled.type))
        return variable

    def load(
        self,
        buffer: str,
        offset: DimLike,
        lanes: int = 1,
        *,
        stride: int | DimLike = 1,
        mask: Expr | None = None,
        other: Expr | Number | None = None,
        gather: Expr | None = None,
    ) -> Expr:
        """Elements of a buffer in its compute dtype, pinned; see `Load` for the addresses.

        Loads of buffers that the kernel only reads are shared in a scope.
        """
        dtype = self._buffer(buffer, "load from", Access.WRITE)
        type_ = VecType(dtype.compute, lanes)
        if other is not None:
            what = "the value of masked-off lanes"
            other = self.let(other) if isinstance(other, Expr) else const(other, type_.dtype)
            other = self._spread(what, other, lanes)
            self._expect(what, other, type_)
        mask = self._mask(mask, lanes)
        if isinstance(mask, Const) and not mask.value:
            return other if other is not None else const(0, type_.dtype, lanes)
        node = Load(
            buffer,
            self.dim(offset),
            type_,
            self.dim(stride) if lanes > 1 and gather is None else 1,
            None if isinstance(mask, Const) else mask,
            None if mask is None or isinstance(mask, Const) else other,
            self._addresses(gather, lanes),
        )
        return self.pin(node, buffer)

    # ------------------------------------------------------------------ effects

    def store(
        self,
        buffer: str,
        offset: DimLike,
        value: Expr | Number,
        *,
        stride: int | DimLike = 1,
        mask: Expr | None = None,
        scatter: Expr | None = None,
    ) -> None:
        """Write a value's lanes to a buffer, rounded to its dtype; see `Store`."""
        dtype = self._buffer(buffer, "store to", Access.READ)
        lanes = max(e.lanes for e in (value, mask, scatter, _ONE) if isinstance(e, Expr))
        if isinstance(value, Expr):
            value = self._settler.settle(self._spread(f"a value stored to {buffer}", value, lanes))
        else:
            value = const(value, dtype.compute, lanes)
        self._expect(f"a value stored to {buffer}", value, VecType(dtype.compute, lanes))
        mask = self._mask(mask, lanes)
        if isinstance(mask, Const):
            if not mask.value:
                return
            mask = None
        stride = self.dim(stride) if lanes > 1 and scatter is None else 1
        self._emit(Store(buffer, self.dim(offset), value, stride, mask, self._addresses(scatter, lanes)))

    def reg(self, name: str, type: VecType, init: Expr | Number) -> Reg:
        """A mutable register with its first value, alive to the end of the block."""
        name = self.unique(name)
        what = f"the first value of register {name}"
        if isinstance(init, Expr):
            value = self._settler.settle(self._spread(what, init, type.lanes))
        else:
            value = const(init, type.dtype, type.lanes)
        self._expect(what, value, type)
        self._versions[name] = 0
        self._emit(DeclareReg(name, type, value))
        return Reg(name, type, self)

    def reg_tile(self, name: str, shape: tuple[int, ...], type: VecType, init: Expr | Number) -> RegTile:
        """A block of registers that start with one value."""
        if isinstance(init, Expr):
            init = self.let(init)
        places = product(*map(range, shape))
        return RegTile(shape, {p: self.reg("_".join([name, *map(str, p)]), type, init) for p in places})

    def set(self, reg: Reg, value: Expr) -> None:
        """Assign a register; reads of it that were made before may not be used any more."""
        settled = self._settler.settle(self._spread(f"register {reg.name}", value, reg.type.lanes))
        self._expect(f"register {reg.name}", settled, reg.type)
        self._emit(SetReg(reg.name, settled))
        self._versions[reg.name] += 1

    def register_version(self, name: str) -> int:
        """How often a register has been set, or may have been set by a loop that is open."""
        return self._versions[name]

    def prefetch(self, buffer: str, offset: DimLike, locality: int = 3) -> None:
        """Hint that elements at `offset` will be read soon; 3 keeps them in L1, 0 nowhere."""
        self._buffer(buffer, "prefetch", None)
        self._emit(Prefetch(buffer, self.dim(offset), locality))

    def fail(self, status: Status, value: Expr | int = 0) -> None:
        """Record an error with an i64 value for its message, and leave the kernel."""
        settled = self._settler.settle(value) if isinstance(value, Expr) else const(value, i64)
        self._expect("the value of fail()", settled, VecType(i64))
        self._emit(Fail(status.value, settled))

    def comment(self, text: str) -> None:
        """A line for the reader of the generated code."""
        self._emit(Comment(text))

    def dim(self, dim: DimLike) -> DimLike:
        """`dim` in its simplest form here; its symbols count as used."""
        if isinstance(dim, int):
            return dim
        simple = self._scope.symbols.simplify(dim)
        if not isinstance(simple, int):
            self._used_symbols |= simple.free_symbols()
        return simple

    def finish(self, header: Iterable[str] = ()) -> LoopFn:
        """The kernel, named after its body."""
        if self._units is None or self._scope is not self._root:
            problem = "finish() needs units(), with all blocks closed"
            raise LoopStructureError(kernel=self.name, problem=problem)
        extent, body = self._units
        return assemble(
            name=self.name,
            params=tuple(self._params.values()),
            declared=self._declared_symbols,
            used=self._used_symbols - self._local_symbols,
            symbols=self._root.symbols,
            units=extent,
            body=body,
            prologue=self._root.close(),
            scratch=self._scratch,
            header=tuple(header),
        )

    # ------------------------------------------------------------------ internals

    def _emit(self, statement: Stmt) -> None:
        self._scope.statements.append(statement)

    def _fresh(self, hint: str) -> str:
        number = self._counters.get(hint, 0)
        while (name := f"{hint}{number}") in self._names:
            number += 1
        self._counters[hint] = number + 1
        self._names.add(name)
        return name

    @contextmanager
    def _block(self, table: Symbols) -> Iterator[Scope]:
        outer = self._scope
        self._scope = Scope(outer, table)
        try:
            yield self._scope
        finally:
            self._scope = outer

    @contextmanager
    def _facts(self, table: Symbols) -> Iterator[None]:
        table.push()
        try:
            yield
        finally:
            table.pop()

    @contextmanager
    def _dropped(self) -> Iterator[None]:
        """A block that will not be in the kernel."""
        with self._block(self.symbols):
            yield

    def _refuse_local(self, dim: DimLike, use: str) -> None:
        for name in sorted(free_symbols(dim) & self._local_symbols):
            problem = f"{use}, but is a variable of a loop"
            raise LoopNameError(kernel=self.name, name=name, problem=problem)

    def _spread(self, what: str, value: Expr, lanes: int) -> Expr:
        if value.lanes not in (1, lanes):
            expected = VecType(value.dtype, lanes)
            raise LoopTypeError(kernel=self.name, what=what, expected=expected, got=value.type)
        return splat(value, lanes)

    def _decide(self, condition: Expr | Condition) -> bool | None:
        """Whether a condition always (True) or never (False) holds here; None is undecided."""
        table = self.symbols
        if isinstance(condition, Const):
            return bool(condition.value)
        facts = [condition] if isinstance(condition, Condition) else list(conditions_of(condition))
        answers = [fact.prove(table) for fact in facts]
        if False in answers:
            return False
        if all(answers) and (isinstance(condition, Condition) or as_condition(condition) is not None):
            return True
        try:
            with self._facts(table):
                for fact in facts:
                    fact.assume(table)
        except ContradictoryDims:
            return False
        return None

    def _promise(self, fact: Fact) -> Fact | None:
        """Assume a promised fact; None when it is proved and need not be recorded."""
        a, relation, b = fact
        condition = Condition(self.dim(a), relation, self.dim(b))
        if condition.prove(self.symbols):
            return None
        condition.assume(self.symbols)
        return condition.a, relation, condition.b

    def _invalidate_reads(self) -> None:
        for name in self._versions:
            self._versions[name] += 1

    def _buffer(self, name: str, action: str, forbidden: Access | None) -> DType:
        param = self._params.get(name)
        if param is None:
            if name not in self._scratch:
                raise LoopAccessError(kernel=self.name, action=action, buffer=name, declared="nowhere")
            return self._scratch[name][0]
        if param.access is forbidden:
            raise LoopAccessError(
                kernel=self.name, action=action, buffer=name, declared=param.access.value
            )
        return param.dtype

    def _mask(self, mask: Expr | None, lanes: int) -> Expr | None:
        if mask is None:
            return None
        settled = self.let(self._spread("a mask", mask, lanes), "mask")
        self._expect("a mask", settled, VecType(boolean, lanes))
        return settled

    def _addresses(self, vector: Expr | None, lanes: int) -> Expr | None:
        if vector is None:
            return None
        settled = self.let(self._spread("a vector of addresses", vector, lanes), "at")
        self._expect("a vector of addresses", settled, VecType(i64, lanes))
        return settled

    def _expect(self, what: str, got: Expr, expected: VecType) -> None:
        if got.type != expected:
            raise LoopTypeError(kernel=self.name, what=what, expected=expected, got=got.type)


_BOOL = VecType(boolean)
_ONE = const(0, i64)
