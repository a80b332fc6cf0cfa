"""A slow but exact interpreter of kernels: the oracle that every printer is compared with.

A kernel is turned into closures over numpy values, one per statement and expression node, with the
arithmetic of `aino_ir.loops.evaluate`.  It also keeps watch: every access is checked against the
buffer's declared size, promised facts are tested, integer divisors must not be zero, and scratch
starts out as NaN (integers: an odd pattern), so that reading what was never written shows.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from aino_ir.dims import Dim, DimLike, value_of
from aino_ir.dtypes import DType, u16
from aino_ir.errors.loops import LoopArgumentError, LoopOutOfBounds, LoopRunError
from aino_ir.loops.evaluate import implement, round_array
from aino_ir.loops.expr import (
    Binary,
    Expr,
    Index,
    Load,
    PrefixMask,
    Ramp,
    RegRead,
    Var,
)
from aino_ir.loops.stmt import (
    THREAD,
    UNIT,
    Alloc,
    AwaitCopies,
    Barrier,
    BindIndex,
    CloseCopies,
    Comment,
    CopyAsync,
    DeclareReg,
    Fail,
    For,
    If,
    Let,
    LoopFn,
    Prefetch,
    SetReg,
    Share,
    Status,
    Stmt,
    Store,
    WarpCall,
    While,
)
from aino_ir.loops.warp import OPERATIONS, WARP

Array = np.ndarray[Any, Any]

WHILE_LIMIT = 1_000_000
"""Rounds after which a `While` counts as endless."""

_GARBAGE_BYTE = 0xA5
_COMPILED_LIMIT = 32


class Outcome(NamedTuple):
    """What a kernel call ended with: a status, and the value recorded with it."""

    status: Status
    value: int = 0


def run_kernel(
    fn: LoopFn,
    views: Sequence[Array],
    symbols: Mapping[str, int] | None = None,
    lo: int = 0,
    hi: int | None = None,
) -> Outcome:
    """Run units lo..hi-1 of a kernel on arrays; results are written in place.

    Args:
        fn: the kernel.
        views: 1-D arrays of the storage dtypes, one per parameter and at least as long as it says;
            for a kernel that can fail, an int64[2] status word may follow.
        symbols: values of the kernel's symbols.
        lo: first unit.
        hi: end of the units (exclusive); all when None.

    Returns:
        `Outcome(Status.OK)`, or what the first `Fail` recorded.

    Raises:
        LoopArgumentError: arrays or symbols do not fit the declaration.
        LoopOutOfBounds, LoopRunError: the kernel is wrong.
    """
    machine = _Machine(fn, _check_symbols(fn, symbols or {}))
    machine.bind(views)
    prologue, body = _compile(fn)
    with np.errstate(all="ignore"):
        outcome = _run(machine, prologue, body, lo, hi)
    if outcome.status is not Status.OK and len(views) > len(fn.params):
        word = views[len(fn.params)]
        if word[0] == Status.OK.value:
            word[:] = outcome.status.value, outcome.value
    return outcome


class _Failed(Exception):
    """A `Fail` was reached."""

    def __init__(self, code: int, value: int) -> None:
        self.outcome = Outcome(Status(code), value)


class _Machine:
    """The state of one call: dims, pinned values and registers, buffers."""

    def __init__(self, fn: LoopFn, symbols: dict[str, int]) -> None:
        self.name = fn.name
        self.fn = fn
        self.dims = symbols
        self.values: dict[str, Any] = {}
        self.buffers: dict[str, Array] = {}
        self.meeting: threading.Barrier | None = None
        self.warp: _Warp | None = None
        self.copies: list[list[Callable[[], None]]] = [[]]  # groups that have not arrived, the open one last

    def bind(self, views: Sequence[Array]) -> None:
        """Attach the arguments, cut to their declared sizes."""
        extra = len(views) - len(self.fn.params)
        if extra not in (0, int(self.fn.can_fail)):
            raise LoopArgumentError(
                kernel=self.name, name="views", expected=f"{len(self.fn.params)} arrays", got=f"{len(views)}"
            )
        for param, view in zip(self.fn.params, views, strict=False):
            size = value_of(param.size, self.dims)
            if view.ndim != 1 or view.dtype != param.dtype.numpy or view.size < size:
                raise LoopArgumentError(
                    kernel=self.name,
                    name=param.name,
                    expected=f"{param.dtype}[{size}]",
                    got=f"{view.dtype}{list(view.shape)}",
                )
            self.buffers[param.name] = view[:size]

    def thread(self, number: int, meeting: threading.Barrier, warp: _Warp) -> _Machine:
        """The state of one thread of a unit: names of its own, buffers in common."""
        own = _Machine(self.fn, {**self.dims, THREAD: number})
        own.values, own.buffers, own.meeting, own.warp = dict(self.values), self.buffers, meeting, warp
        return own

    def fault(self, what: str) -> LoopRunError:
        """An error about this kernel."""
        return LoopRunError(kernel=self.name, what=what)


class _Warp:
    """Threads that compute together: the last one that comes computes for all."""

    def __init__(self, threads: int) -> None:
        self.given: list[tuple[Array, ...]] = [()] * threads
        self.results: list[Array] = []
        self.call: WarpCall | None = None
        self.meeting = threading.Barrier(threads, self._compute)

    def _compute(self) -> None:
        assert self.call is not None
        together = [np.stack(of_all) for of_all in zip(*self.given, strict=True)]
        with np.errstate(all="ignore"):
            self.results = OPERATIONS[self.call.operation].apply(together, self.call.parameter)

    def meet(self, call: WarpCall, number: int, operands: tuple[Array, ...]) -> list[Array]:
        """The results for one thread."""
        self.given[number], self.call = operands, call
        self.meeting.wait()
        return [r[number] for r in self.results]


_Value = Callable[[_Machine], Any]
_Action = Callable[[_Machine], None]
_Block = list[_Action]
_compiled: dict[int, tuple[LoopFn, tuple[_Block, _Block]]] = {}


def _compile(fn: LoopFn) -> tuple[_Block, _Block]:
    found = _compiled.get(id(fn))
    if found is not None:
        return found[1]
    blocks = _block(fn.prologue), _block(fn.body)
    if len(_compiled) >= _COMPILED_LIMIT:
        _compiled.clear()
    _compiled[id(fn)] = (fn, blocks)
    return blocks


def _run(machine: _Machine, prologue: _Block, body: _Block, lo: int, hi: int | None) -> Outcome:
    end = value_of(machine.fn.units, machine.dims) if hi is None else hi
    try:
        for action in prologue:
            action(machine)
        for unit in range(lo, end):
            machine.dims[UNIT] = unit
            if machine.fn.threads > 1:
                _run_together(machine, body)
                continue
            for action in body:
                action(machine)
    except _Failed as failed:
        return failed.outcome
    return Outcome(Status.OK)


def _run_together(machine: _Machine, body: _Block) -> None:
    """One unit by all of its threads, which wait for each other at barriers."""
    threads = machine.fn.threads
    meeting = threading.Barrier(threads)
    warps = [_Warp(min(WARP, threads - first)) for first in range(0, threads, WARP)]
    failures: list[Exception] = []

    def run(number: int) -> None:
        own = machine.thread(number, meeting, warps[number // WARP])
        try:
            with np.errstate(all="ignore"):
                for action in body:
                    action(own)
        except threading.BrokenBarrierError:
            pass
        except Exception as failure:
            failures.append(failure)
            for waiting in (meeting, *(warp.meeting for warp in warps)):
                waiting.abort()

    workers = [threading.Thread(target=run, args=(n,)) for n in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if failures:
        raise failures[0]


def _check_symbols(fn: LoopFn, symbols: Mapping[str, int]) -> dict[str, int]:
    for name in fn.symbols:
        if name not in symbols:
            raise LoopArgumentError(kernel=fn.name, name=name, expected="given", got="missing")
    for name, lo, hi in fn.facts:
        value = symbols[name]
        if value < lo or (hi is not None and value > hi):
            raise LoopArgumentError(kernel=fn.name, name=name, expected=f"in {lo}..{hi}", got=value)
    return {name: int(symbols[name]) for name in fn.symbols}


# ---------------------------------------------------------------------- expressions


def _dim(dim: DimLike) -> Callable[[_Machine], int]:
    if not isinstance(dim, Dim):
        return lambda m: dim
    name = dim.as_symbol()
    if name is not None:
        return lambda m: m.dims[name]
    if dim.affine:
        terms = [(k, next(iter(atoms[0].symbols))) for k, atoms in dim.terms()]
        constant = dim.constant
        return lambda m: sum([k * m.dims[n] for k, n in terms], constant)
    return lambda m: dim.evaluate(m.dims)


def _expr(e: Expr) -> _Value:
    match e:
        case Var(name=name) | RegRead(name=name):
            return lambda m: m.values[name]
        case Index(dim=dim):
            value = _dim(dim)
            return lambda m: np.int64(value(m))
        case Ramp(base=base, step=step, lanes=lanes):
            first, steps = _dim(base), step * np.arange(lanes, dtype=np.int64)
            return lambda m: first(m) + steps
        case PrefixMask(count=dim, lanes=lanes):
            count, lane = _dim(dim), np.arange(lanes)
            return lambda m: lane < count(m)
        case Load():
            return _load(e)
    apply = implement(e)
    if apply is None:
        raise LoopRunError(kernel="", what=f"{e} cannot stand in a loop")
    return _apply(apply, [_expr(c) for c in e.children()], _is_integer_division(e))


def _apply(apply: Callable[..., Any], operands: list[_Value], divides: bool) -> _Value:
    if divides:
        a, b = operands

        def divide(m: _Machine) -> Any:
            divisor = b(m)
            if not np.all(divisor):
                raise m.fault("an integer is divided by zero")
            return apply(a(m), divisor)

        return divide
    if len(operands) == 1:
        (x,) = operands
        return lambda m: apply(x(m))
    if len(operands) == 2:
        a, b = operands
        return lambda m: apply(a(m), b(m))
    return lambda m: apply(*[x(m) for x in operands])


def _is_integer_division(e: Expr) -> bool:
    return isinstance(e, Binary) and e.op in ("div", "rem") and e.dtype.is_integer


def _load(e: Load) -> _Value:
    lanes, compute = e.lanes, e.dtype.numpy
    other = _expr(e.other) if e.other is not None else None
    mask = _expr(e.mask) if e.mask is not None else None
    places = _places(e.offset, lanes, e.stride, e.gather)

    def load(m: _Machine) -> Any:
        data = m.buffers[e.buffer]
        if e.dtype is u16 and data.dtype != u16.numpy:
            data = data.view(u16.numpy)
        at = places(m)
        if mask is None:
            _check(m, "load", e.buffer, at, data.size)
            return data[at].astype(compute)
        active = mask(m)
        out = np.zeros(() if lanes == 1 else (lanes,), compute)
        if other is not None:
            out[...] = other(m)
        chosen = at[active] if lanes > 1 else at
        if np.any(active):
            _check(m, "load", e.buffer, chosen, data.size)
            out[active] = data[chosen].astype(compute)
        return out

    return load


def _places(offset: DimLike, lanes: int, stride: DimLike, vector: Expr | None) -> Callable[[_Machine], Any]:
    """Element offsets of all lanes: an int for a scalar, else an i64 vector."""
    base = _dim(offset)
    if vector is not None:
        relative = _expr(vector)
        return lambda m: base(m) + relative(m)
    if lanes == 1:
        return base
    by, lane = _dim(stride), np.arange(lanes, dtype=np.int64)
    return lambda m: base(m) + by(m) * lane


def _check(m: _Machine, action: str, buffer: str, at: Any, size: int) -> None:
    lowest, highest = (at, at) if isinstance(at, int) else (int(np.min(at)), int(np.max(at)))
    if lowest < 0 or highest >= size:
        bad = lowest if lowest < 0 else highest
        raise LoopOutOfBounds(kernel=m.name, action=action, buffer=buffer, offset=bad, size=size)


# ---------------------------------------------------------------------- statements


def _block(body: Sequence[Stmt]) -> _Block:
    return [_action(s) for s in body if not isinstance(s, (Comment, Prefetch))]


def _action(s: Stmt) -> _Action:
    match s:
        case Let(name=name, value=e) | SetReg(name=name, value=e) | DeclareReg(name=name, init=e):
            value = _expr(e)

            def assign(m: _Machine) -> None:
                m.values[name] = value(m)

            return assign
        case BindIndex():
            return _bind(s)
        case Store():
            return _store(s)
        case For():
            return _for(s)
        case If():
            return _if(s)
        case While():
            return _while(s)
        case Alloc() | Share():
            return _alloc(s)
        case Barrier():
            return _meet
        case WarpCall():
            return _warp_call(s)
        case CopyAsync():
            return _copy(s)
        case CloseCopies():
            return lambda m: m.copies.append([])
        case AwaitCopies(open=left):
            return lambda m: _await(m, left)
        case Fail(code=code, value=e):
            value = _expr(e)

            def fail(m: _Machine) -> None:
                raise _Failed(code, int(value(m)))

            return fail
    raise LoopRunError(kernel="", what=f"{s} has no meaning")


def _bind(s: BindIndex) -> _Action:
    value = _expr(s.value)
    bounds = [(sign, _dim(b)) for sign, b in ((1, s.lo), (-1, s.hi)) if b is not None]

    def bind(m: _Machine) -> None:
        found = m.dims[s.name] = int(value(m))
        for sign, bound in bounds:
            if sign * (found - bound(m)) < 0:
                raise m.fault(f"index {s.name} is {found}, promised within {s.lo}..{s.hi}")

    return bind


def _store(s: Store) -> _Action:
    value = _expr(s.value)
    mask = _expr(s.mask) if s.mask is not None else None
    places = _places(s.offset, s.value.lanes, s.stride, s.scatter)
    lanes = s.value.lanes

    def store(m: _Machine) -> None:
        data = m.buffers[s.buffer]
        at, new = places(m), to_storage(value(m), data.dtype)
        if mask is not None:
            active = mask(m)
            if not np.any(active):
                return
            if lanes > 1:
                at, new = at[active], new[active]
        _check(m, "store", s.buffer, at, data.size)
        data[at] = new

    return store


def to_storage(value: Array, target: np.dtype[Any]) -> Array:
    """A compute value as elements of a storage dtype: floats rounded half to even, integers wrapped."""
    value = np.asarray(value)
    if value.dtype == target:
        return value
    from aino_ir.dtypes import dtype_of

    storage = dtype_of(target)
    if storage is not None and storage.is_integer and storage.bits < 8:
        value = round_array(value, storage)
    return value.astype(target)


def _for(s: For) -> _Action:
    lo, hi, body = _dim(s.lo), _dim(s.hi), _block(s.body)
    facts = [(_dim(a), relation, _dim(b), f"{a} {relation} {b}") for a, relation, b in s.where]

    def loop(m: _Machine) -> None:
        for value in range(lo(m), hi(m), s.step):
            m.dims[s.var] = value
            for a, relation, b, text in facts:
                if not (a(m) == b(m) if relation == "==" else a(m) >= b(m)):
                    raise m.fault(f"promised fact {text} does not hold at {s.var} = {value}")
            for action in body:
                action(m)

    return loop


def _if(s: If) -> _Action:
    condition, then, otherwise = _expr(s.condition), _block(s.then), _block(s.otherwise)

    def choose(m: _Machine) -> None:
        for action in then if condition(m) else otherwise:
            action(m)

    return choose


def _while(s: While) -> _Action:
    condition, body = _expr(s.condition), _block(s.body)

    def repeat(m: _Machine) -> None:
        rounds = 0
        while condition(m):
            for action in body:
                action(m)
            rounds += 1
            if rounds > WHILE_LIMIT:
                raise m.fault(f"a while loop did not end in {WHILE_LIMIT} rounds")

    return repeat


def _meet(m: _Machine) -> None:
    assert m.meeting is not None
    m.meeting.wait()


def _warp_call(s: WarpCall) -> _Action:
    operands = [_expr(e) for e in s.operands]

    def meet(m: _Machine) -> None:
        assert m.warp is not None
        number = m.dims[THREAD] % WARP
        m.values.update(zip(s.names, m.warp.meet(s, number, tuple(e(m) for e in operands)), strict=True))

    return meet


def _copy(s: CopyAsync) -> _Action:
    offset, source_offset = _dim(s.offset), _dim(s.source_offset)
    mask = _expr(s.mask) if s.mask is not None else None

    def begin(m: _Machine) -> None:
        source, target, at = m.buffers[s.source], m.buffers[s.target], offset(m)
        _check(m, "store", s.target, np.array([at, at + s.count - 1]), target.size)
        if mask is not None and not mask(m):
            found = np.zeros(s.count, source.dtype)
        else:
            first = source_offset(m)
            _check(m, "load", s.source, np.array([first, first + s.count - 1]), source.size)
            found = source[first : first + s.count].copy()

        def arrive() -> None:
            target[at : at + s.count] = found

        m.copies[-1].append(arrive)

    return begin


def _await(m: _Machine, left: int) -> None:
    """Let all closed groups of copies arrive but the last `left`."""
    while len(m.copies) - 1 > left:
        for arrive in m.copies.pop(0):
            arrive()


def _alloc(s: Alloc | Share) -> _Action:
    size = _dim(s.size)

    def alloc(m: _Machine) -> None:
        m.buffers[s.name] = garbage(s.dtype, size(m))

    return alloc


def garbage(dtype: DType, size: int) -> Array:
    """An array as undefined memory may look: NaN where there is one, else an odd pattern."""
    if dtype.is_float and dtype.name != "f4e2m1":
        return np.full(size, np.nan, np.float32).astype(dtype.numpy)
    if dtype.is_bool:
        return np.ones(size, np.bool_)
    filler = np.full(size * dtype.bytes, _GARBAGE_BYTE, np.uint8).view(np.dtype(f"i{dtype.bytes}"))
    return to_storage(filler, dtype.numpy)
