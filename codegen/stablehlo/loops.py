"""Hand-written loops (`Nest`) as StableHLO: while loops over scalars, buffers as one-dimensional tensors.

Kernels are taken with one lane.  A loop carries the registers that it sets and the buffers that it writes;
everything else it reads from outside.  A failure is kept in the status, the rest of the kernel runs on:
positions are clamped, so that it harms nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from aino_ir.codegen.stablehlo.elementwise import apply, floor_divide, load, store
from aino_ir.codegen.stablehlo.space import Space, refuse
from aino_ir.codegen.stablehlo.types import Tensor
from aino_ir.codegen.stablehlo.writer import Writer
from aino_ir.dims import DimLike, fold
from aino_ir.dtypes import boolean, i64
from aino_ir.loops.expr import Const, Expr, Index, Load, RegRead, Var
from aino_ir.loops.stmt import (
    UNIT,
    Alloc,
    BindIndex,
    Comment,
    DeclareReg,
    Fail,
    For,
    If,
    Let,
    LoopFn,
    Prefetch,
    SetReg,
    Stmt,
    Store,
    While,
    walk_statements,
)

CODE, SHOWN = "status.", "status value."
"""Names of the two registers that hold the status."""


@dataclass
class State:
    """What names stand for at one point of a kernel.

    Attributes:
        values: pinned values, registers and the status.
        dims: loop variables, bound indices and symbols, as i64 scalars.
        buffers: one-dimensional tensors in storage dtypes.
    """

    values: dict[str, Tensor] = field(default_factory=dict)
    dims: dict[str, Tensor] = field(default_factory=dict)
    buffers: dict[str, Tensor] = field(default_factory=dict)

    def copy(self) -> State:
        """A state of its own for a region."""
        return State(dict(self.values), dict(self.dims), dict(self.buffers))


class LoopWriter:
    """Writes one kernel.

    Args:
        w: where operations are written.
        symbols: values of the function's symbols.
        place: what is added to status codes.
    """

    def __init__(self, w: Writer, symbols: Mapping[str, int], place: int = 0) -> None:
        self.w = w
        self.symbols = symbols
        self.place = place
        self._state = State()

    def run(
        self, kernel: LoopFn, buffers: Sequence[Tensor], status: tuple[Tensor, Tensor]
    ) -> tuple[list[Tensor], tuple[Tensor, Tensor]]:
        """The buffers after all units of a kernel, and the status.

        Args:
            kernel: the loops.
            buffers: one tensor per parameter, with as many elements as it says.
            status: code and value before.
        """
        state = self._state = State()
        state.values = {CODE: status[0], SHOWN: status[1]}
        state.dims = {name: self.w.constant(v, i64) for name, v in self.symbols.items()}
        state.buffers = {p.name: x for p, x in zip(kernel.params, buffers, strict=True)}
        self._block(kernel.prologue)
        self._statement(For(UNIT, 0, kernel.units, kernel.body))
        after = self._state
        return [after.buffers[p.name] for p in kernel.params], (after.values[CODE], after.values[SHOWN])

    # -- statements ---------------------------------------------------------------------------------

    def _block(self, body: Sequence[Stmt]) -> None:
        for statement in body:
            self._statement(statement)

    def _statement(self, s: Stmt) -> None:
        state, w = self._state, self.w
        match s:
            case Let(name=name, value=e) | SetReg(name=name, value=e) | DeclareReg(name=name, init=e):
                state.values[name] = self._value(e)
            case BindIndex(name=name, value=e):
                state.dims[name] = self._value(e)
            case Store():
                self._store(s)
            case For():
                self._for(s)
            case While(condition=condition, body=body):
                self._loop(lambda: self._value(condition), lambda: self._block(body), body)
            case If():
                self._if(s)
            case Alloc(name=name, dtype=dtype, size=size):
                extent = Space(w, (), self.symbols).number(size)
                state.buffers[name] = w.constant(0, dtype, (extent,))
            case Fail(code=code, value=e):
                fresh = w.compare("EQ", state.values[CODE], w.constant(0, i64))
                shown = w.convert(self._value(e), i64)
                state.values[SHOWN] = w.select(fresh, shown, state.values[SHOWN])
                state.values[CODE] = w.select(fresh, w.constant(self.place | code, i64), state.values[CODE])
            case Comment() | Prefetch():
                pass
            case _:
                raise refuse(f"its loops hold {type(s).__name__}")

    def _store(self, s: Store) -> None:
        state, w = self._state, self.w
        if s.value.lanes != 1:
            raise refuse("its loops are written for vectors")
        place = self._place(s.offset, s.scatter)
        buffer = state.buffers[s.buffer]
        if not buffer.size:
            return
        value = store(w, self._value(s.value), buffer.dtype)
        if s.mask is not None:
            old = w.reshape(w.dynamic_slice(buffer, [place], [1]), ())
            value = w.select(self._value(s.mask), value, old)
        state.buffers[s.buffer] = w.dynamic_update_slice(buffer, w.reshape(value, (1,)), [place])

    def _for(self, s: For) -> None:
        w = self.w
        first, last = self._dim(s.lo), self._dim(s.hi)
        self._state.dims[s.var] = first

        def again() -> Tensor:
            return w.compare("LT", self._state.dims[s.var], last)

        def body() -> None:
            here = self._state.dims[s.var]
            self._block(s.body)
            self._state.dims[s.var] = w.same("add", here, w.constant(s.step, i64))

        self._loop(again, body, s.body, (s.var,))
        del self._state.dims[s.var]

    def _loop(
        self,
        again: Callable[[], Tensor],
        body: Callable[[], None],
        inside: Sequence[Stmt],
        dims: Sequence[str] = (),
    ) -> None:
        """A while loop that carries what the statements inside change, and `dims`."""
        before, w = self._state, self.w
        carried = self._changed(inside, dims)
        firsts = [read(before) for read, _ in carried]
        if not firsts:
            raise refuse("one of its loops changes nothing")
        names = [w.fresh(x.dtype, x.shape) for x in firsts]
        results = [w.fresh(x.dtype, x.shape) for x in firsts]
        arguments = ", ".join(f"{n.name} = {x.name}" for n, x in zip(names, firsts, strict=True))
        label = results[0].name if len(results) == 1 else f"%loop{results[0].name[1:]}"
        many = f":{len(results)}" if len(results) > 1 else ""
        types = ", ".join(x.type for x in firsts)
        w.line(f"{label}{many} = stablehlo.while({arguments}) : {types}")
        for opening, compute in (("cond {", again), ("do {", None)):
            w.line(opening if compute is again else f"}} {opening}")
            with w.region():
                self._state = before.copy()
                for (_, write), name in zip(carried, names, strict=True):
                    write(self._state, name)
                if compute is not None:
                    w.give_back([compute()])
                else:
                    body()
                    w.give_back([read(self._state) for read, _ in carried])
        w.line("}")
        self._state = before
        for number, ((_, write), result) in enumerate(zip(carried, results, strict=True)):
            write(before, replace(result, name=f"{label}#{number}" if many else label))

    def _if(self, s: If) -> None:
        before, w = self._state, self.w
        carried = self._changed((*s.then, *s.otherwise))
        condition = self._value(s.condition)
        if not carried:
            return
        shapes = [read(before) for read, _ in carried]
        results = [w.fresh(x.dtype, x.shape) for x in shapes]
        label = results[0].name if len(results) == 1 else f"%choice{results[0].name[1:]}"
        many = f":{len(results)}" if len(results) > 1 else ""
        w.line(f'{label}{many} = "stablehlo.if"({condition.name}) ({{')
        for number, block in enumerate((s.then, s.otherwise)):
            if number:
                w.line("}, {")
            with w.region():
                self._state = before.copy()
                self._block(block)
                w.give_back([read(self._state) for read, _ in carried])
        w.line(f"}}) : ({condition.type}) -> ({', '.join(x.type for x in shapes)})")
        self._state = before
        for number, ((_, write), result) in enumerate(zip(carried, results, strict=True)):
            write(before, replace(result, name=f"{label}#{number}" if many else label))

    def _changed(self, inside: Sequence[Stmt], dims: Sequence[str] = ()) -> list[_Place]:
        """Readers and writers of what statements change and others may see: in a fixed order."""
        values: dict[str, None] = {}
        buffers: dict[str, None] = {}
        for s in walk_statements(inside):
            match s:
                case SetReg(name=name) if name in self._state.values:
                    values[name] = None
                case Store(buffer=name) if name in self._state.buffers:
                    buffers[name] = None
                case Fail():
                    values |= {CODE: None, SHOWN: None}
        return [
            *(_place("dims", n) for n in dims),
            *(_place("values", n) for n in values),
            *(_place("buffers", n) for n in buffers),
        ]

    # -- values -------------------------------------------------------------------------------------

    def _value(self, e: Expr) -> Tensor:
        if e.lanes != 1:
            raise refuse("its loops are written for vectors")
        match e:
            case Const():
                return self.w.constant(e.value, e.dtype)
            case Index(dim=dim):
                return self._dim(dim)
            case Var(name=name) | RegRead(name=name):
                return self._state.values[name]
            case Load():
                return self._load(e)
        return apply(self.w, e, [self._value(c) for c in e.children()])

    def _load(self, e: Load) -> Tensor:
        w, buffer = self.w, self._state.buffers[e.buffer]
        if not buffer.size:
            return w.constant(0, e.dtype)
        place = self._place(e.offset, e.gather)
        found = load(w, w.reshape(w.dynamic_slice(buffer, [place], [1]), ()))
        if e.mask is None:
            return found
        other = w.constant(0, e.dtype) if e.other is None else self._value(e.other)
        mask = self._value(e.mask)
        assert mask.dtype is boolean
        return w.select(mask, found, other)

    def _place(self, offset: DimLike, vector: Expr | None) -> Tensor:
        base = self._dim(offset)
        return base if vector is None else self.w.same("add", base, self._value(vector))

    def _dim(self, dim: DimLike) -> Tensor:
        w = self.w

        return fold(
            dim,
            const=lambda v: w.constant(v, i64),
            symbol=lambda name: self._state.dims[name],
            add=lambda a, b: w.same("add", a, b),
            mul=lambda a, b: w.same("multiply", a, b),
            floordiv=lambda a, b: floor_divide(w, a, b),
            minimum=lambda a, b: w.same("minimum", a, b),
        )


_Place = tuple[Callable[[State], Tensor], Callable[[State, Tensor], None]]


def _place(kind: str, name: str) -> _Place:
    """How one carried name is read from a state and written to it."""

    def read(state: State) -> Tensor:
        return getattr(state, kind)[name]  # type: ignore[no-any-return]

    def write(state: State, value: Tensor) -> None:
        getattr(state, kind)[name] = value

    return read, write
