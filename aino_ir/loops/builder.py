"""The builder of loop functions: what kernel generators and schedules write their kernels with.

Everything emitted goes through it, so it can keep the promises of the loop language: every value is
pinned under a name before it is used twice, equal pure values in one scope have one name, offsets
are simplified with the ranges of the open loops, guards that are proved vanish, and no expression
outlives a set of a register it reads.

Statements written outside `units` go to the prologue, which runs once a call; names made there are
visible in the unit loop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import product

from aino_ir.dims import DimLike, symbol
from aino_ir.dtypes import boolean, i64
from aino_ir.errors.dims import ContradictoryDims
from aino_ir.errors.loops import LoopStructureError
from aino_ir.loops.conditions import Condition, as_condition, conditions_of, negations_of
from aino_ir.loops.expr import Const, Expr, Load, Number, Var, VecType, const
from aino_ir.loops.finish import assemble
from aino_ir.loops.groups import GROUP_OPERATIONS
from aino_ir.loops.ranges import declare_loop
from aino_ir.loops.registers import Reg, RegTile
from aino_ir.loops.scopes import Scope, When
from aino_ir.loops.stmt import (
    THREAD,
    UNIT,
    Access,
    AwaitCopies,
    Barrier,
    CloseCopies,
    Comment,
    CopyAsync,
    DeclareReg,
    Fail,
    For,
    GroupProduct,
    If,
    LoopFn,
    Prefetch,
    SetReg,
    SharedFactor,
    Status,
    Store,
    WarpCall,
    While,
)
from aino_ir.loops.tile_builder import TileBuilder
from aino_ir.loops.warp import OPERATIONS
from aino_ir.symbols import Symbols

__all__ = ["Condition", "Fact", "LoopBuilder", "Reg", "RegTile"]

Fact = tuple[DimLike, str, DimLike]
"""(a, ">=" or "==", b)."""


class LoopBuilder(TileBuilder):
    """Builds one `LoopFn`.

    Args:
        name: C identifier; `finish` appends a hash of the body.
        symbols: the function's table; the builder works on copies.
    """

    # ------------------------------------------------------------------ control

    @contextmanager
    def units(self, extent: DimLike, threads: int = 1) -> Iterator[DimLike]:
        """The parallel loop, of which a kernel has exactly one; yields its variable, in 0..extent-1.

        With several threads, each runs the body; `thread` is its number, `barrier` waits for all of them.
        """
        if self._units is not None or self._scope is not self._root:
            problem = "units() must be used once, at the outer level"
            raise LoopStructureError(kernel=self.name, problem=problem)
        extent = self.dim(extent)
        self._units = (extent, ())
        self._threads = threads
        table = self._root.symbols.clone()
        if threads > 1:
            self._names.add(THREAD)
            self._local_symbols.add(THREAD)
            table.new(THREAD, 0, threads - 1)
        if extent == 1 or table.prove_ge(0, extent):
            with self._block(table) as scope:
                yield 0
            if extent != 1:  # no unit ever runs
                return
        else:
            variable = declare_loop(table, UNIT, 0, extent, 1)
            with self._block(table) as scope:
                yield variable
        self._units = (extent, scope.close())

    @property
    def thread(self) -> DimLike:
        """The number of the thread within the unit."""
        return symbol(THREAD) if self._threads > 1 else 0

    def barrier(self, *, warp: bool = False) -> None:
        """Wait for all threads of the unit, or of the warp."""
        self._emit(Barrier(warp))

    def warp(self, operation: str, *operands: Expr, parameter: int = 0, hint: str = "w") -> tuple[Expr, ...]:
        """What an operation of the warp gives this thread; see `aino_ir.loops.warp`."""
        what = OPERATIONS[operation]
        settled = tuple(self.let(e) for e in operands)
        return self._warp_results(operation, settled, parameter, hint, what.results)

    def group_product(
        self,
        operation: str,
        first: SharedFactor | Sequence[Expr],
        second: SharedFactor,
        totals: Sequence[Expr],
        lines: int = 1,
    ) -> tuple[Expr, ...]:
        """What a product of the thread's group adds to its totals; see `GroupProduct`."""
        kind = GROUP_OPERATIONS[operation]
        settled = tuple(self.let(e) for e in totals)
        held = self._factor(first) if isinstance(first, SharedFactor) else tuple(self.let(e) for e in first)
        names = tuple(self._fresh("g") for _ in totals)
        self._emit(GroupProduct(operation, names, settled, held, self._factor(second), lines))
        return tuple(Var(n, VecType(kind.total)) for n in names)

    def _factor(self, factor: SharedFactor) -> SharedFactor:
        self._buffer(factor.buffer, "load from", Access.WRITE)
        return replace(factor, offset=self.dim(factor.offset))

    def load_matrix(self, buffer: str, offset: DimLike, *, turned: bool = False) -> tuple[Expr, ...]:
        """Four fragments out of a shared buffer; this thread gives the row of 16 bytes at `offset`.

        Only blocks of 16-bit elements can be `turned` over.
        """
        dtype = self._buffer(buffer, "load from", Access.WRITE)
        operation = f"load_matrix_{dtype}"
        (type_,), results = OPERATIONS[operation].operands, OPERATIONS[operation].results
        row = Load(buffer, self.dim(offset), type_)
        return self._warp_results(operation, (row,), int(turned), "fragment", results)

    def _warp_results(
        self,
        operation: str,
        operands: tuple[Expr, ...],
        parameter: int,
        hint: str,
        results: tuple[VecType, ...],
    ) -> tuple[Expr, ...]:
        names = tuple(self._fresh(hint) for _ in results)
        self._emit(WarpCall(operation, names, operands, parameter))
        return tuple(Var(n, t) for n, t in zip(names, results, strict=True))

    def copy(
        self,
        target: str,
        offset: DimLike,
        source: str,
        source_offset: DimLike,
        count: int,
        mask: Expr | None = None,
    ) -> None:
        """Begin to copy elements to a shared buffer; see `CopyAsync`."""
        self._buffer(target, "store to", Access.READ)
        self._buffer(source, "load from", Access.WRITE)
        mask = self._mask(mask, 1)
        if isinstance(mask, Const) and mask.value:
            mask = None
        self._emit(CopyAsync(target, self.dim(offset), source, self.dim(source_offset), count, mask))

    def close_copies(self) -> None:
        """The copies since the last call are a group."""
        self._emit(CloseCopies())

    def await_copies(self, open: int, *, publish: bool = False) -> None:
        """Wait until at most so many groups, the latest, have not arrived; see `AwaitCopies`."""
        self._emit(AwaitCopies(open, publish))

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
        with table.scope():
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
            with table.scope():
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
            with table.scope():
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
            shared=self._shared,
            threads=self._threads,
            header=tuple(header),
        )

    # ------------------------------------------------------------------ internals

    @contextmanager
    def _block(self, table: Symbols) -> Iterator[Scope]:
        """A block of statements; what becomes known in it is forgotten at its end."""
        outer = self._scope
        self._scope = Scope(outer, table)
        try:
            with table.scope():
                yield self._scope
        finally:
            self._scope = outer

    @contextmanager
    def _dropped(self) -> Iterator[None]:
        """A block that will not be in the kernel."""
        with self._block(self.symbols):
            yield

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
            with table.scope():
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


_BOOL = VecType(boolean)
_ONE = const(0, i64)
