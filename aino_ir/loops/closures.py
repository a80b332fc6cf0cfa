"""Statements and expressions of kernels as closures over the state of a call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from aino_ir.dims import Dim, DimLike, value_of
from aino_ir.dtypes import u16
from aino_ir.errors.loops import LoopOutOfBounds, LoopRunError
from aino_ir.loops.evaluate import implement
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
from aino_ir.loops.groups import GROUP, GROUP_OPERATIONS, group_product, held_factor, shared_factor
from aino_ir.loops.machine import Array, Failed, Machine, garbage, to_storage
from aino_ir.loops.signals import Signal, tile_of
from aino_ir.loops.stmt import (
    THREAD,
    Alloc,
    Arrive,
    AwaitCopies,
    AwaitSignal,
    Barrier,
    BindIndex,
    CloseCopies,
    Comment,
    CopyAsync,
    CopyTile,
    DeclareReg,
    Fail,
    For,
    GroupProduct,
    If,
    Let,
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
)
from aino_ir.loops.warp import OPERATIONS, WARP

WHILE_LIMIT = 1_000_000
"""Rounds after which a `While` counts as endless."""

ValueOf = Callable[[Machine], Any]
"""Gives the value of an expression."""

Action = Callable[[Machine], None]
"""Runs a statement."""

Actions = list[Action]


def _dim(dim: DimLike) -> Callable[[Machine], int]:
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


def _expr(e: Expr) -> ValueOf:
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


def _apply(apply: Callable[..., Any], operands: list[ValueOf], divides: bool) -> ValueOf:
    if divides:
        a, b = operands

        def divide(m: Machine) -> Any:
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


def _load(e: Load) -> ValueOf:
    lanes, compute = e.lanes, e.dtype.numpy
    other = _expr(e.other) if e.other is not None else None
    mask = _expr(e.mask) if e.mask is not None else None
    places = _places(e.offset, lanes, e.stride, e.gather)

    def load(m: Machine) -> Any:
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


def _places(offset: DimLike, lanes: int, stride: DimLike, vector: Expr | None) -> Callable[[Machine], Any]:
    """Element offsets of all lanes: an int for a scalar, else an i64 vector."""
    base = _dim(offset)
    if vector is not None:
        relative = _expr(vector)
        return lambda m: base(m) + relative(m)
    if lanes == 1:
        return base
    by, lane = _dim(stride), np.arange(lanes, dtype=np.int64)
    return lambda m: base(m) + by(m) * lane


def _check(m: Machine, action: str, buffer: str, at: Any, size: int) -> None:
    lowest, highest = (at, at) if isinstance(at, int) else (int(np.min(at)), int(np.max(at)))
    if lowest < 0 or highest >= size:
        bad = lowest if lowest < 0 else highest
        raise LoopOutOfBounds(kernel=m.name, action=action, buffer=buffer, offset=bad, size=size)


def actions_of(body: Sequence[Stmt]) -> Actions:
    """What runs statements, in order."""
    return [_action(s) for s in body if not isinstance(s, (Comment, Prefetch))]


def _action(s: Stmt) -> Action:
    match s:
        case Let(name=name, value=e) | SetReg(name=name, value=e) | DeclareReg(name=name, init=e):
            value = _expr(e)

            def assign(m: Machine) -> None:
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
        case Barrier(warp=of_warp):
            return _meet_warp if of_warp else _meet
        case WarpCall():
            return _warp_call(s)
        case GroupProduct():
            return _group_product(s)
        case CopyAsync():
            return _copy(s)
        case CloseCopies():
            return lambda m: m.copies.append([])
        case AwaitCopies(open=left):
            return lambda m: _await(m, left)
        case Signals() | StartSignals() | Arrive() | AwaitSignal() | TileMap() | CopyTile():
            return _signal_action(s)
        case Registers():
            return lambda m: None
        case Fail(code=code, value=e):
            value = _expr(e)

            def fail(m: Machine) -> None:
                raise Failed(code, int(value(m)))

            return fail
    raise LoopRunError(kernel="", what=f"{s} has no meaning")


def _bind(s: BindIndex) -> Action:
    value = _expr(s.value)
    bounds = [(sign, _dim(b)) for sign, b in ((1, s.lo), (-1, s.hi)) if b is not None]

    def bind(m: Machine) -> None:
        found = m.dims[s.name] = int(value(m))
        for sign, bound in bounds:
            if sign * (found - bound(m)) < 0:
                raise m.fault(f"index {s.name} is {found}, promised within {s.lo}..{s.hi}")

    return bind


def _store(s: Store) -> Action:
    value = _expr(s.value)
    mask = _expr(s.mask) if s.mask is not None else None
    places = _places(s.offset, s.value.lanes, s.stride, s.scatter)
    lanes = s.value.lanes

    def store(m: Machine) -> None:
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


def _for(s: For) -> Action:
    lo, hi, body = _dim(s.lo), _dim(s.hi), actions_of(s.body)
    facts = [(_dim(a), relation, _dim(b), f"{a} {relation} {b}") for a, relation, b in s.where]

    def loop(m: Machine) -> None:
        for value in range(lo(m), hi(m), s.step):
            m.dims[s.var] = value
            for a, relation, b, text in facts:
                if not (a(m) == b(m) if relation == "==" else a(m) >= b(m)):
                    raise m.fault(f"promised fact {text} does not hold at {s.var} = {value}")
            for action in body:
                action(m)

    return loop


def _if(s: If) -> Action:
    condition, then, otherwise = _expr(s.condition), actions_of(s.then), actions_of(s.otherwise)

    def choose(m: Machine) -> None:
        for action in then if condition(m) else otherwise:
            action(m)

    return choose


def _while(s: While) -> Action:
    condition, body = _expr(s.condition), actions_of(s.body)

    def repeat(m: Machine) -> None:
        rounds = 0
        while condition(m):
            for action in body:
                action(m)
            rounds += 1
            if rounds > WHILE_LIMIT:
                raise m.fault(f"a while loop did not end in {WHILE_LIMIT} rounds")

    return repeat


def _meet(m: Machine) -> None:
    assert m.meeting is not None
    m.meeting.wait()


def _meet_warp(m: Machine) -> None:
    assert m.warp is not None
    m.warp.meet(lambda together: [], m.dims[THREAD] % WARP, ())


def _warp_call(s: WarpCall) -> Action:
    operands = [_expr(e) for e in s.operands]

    def apply(together: list[Array]) -> list[Array]:
        return OPERATIONS[s.operation].apply(together, s.parameter)

    def meet(m: Machine) -> None:
        assert m.warp is not None
        number = m.dims[THREAD] % WARP
        m.values.update(zip(s.names, m.warp.meet(apply, number, tuple(e(m) for e in operands)), strict=True))

    return meet


def _group_product(s: GroupProduct) -> Action:
    operands = [_expr(e) for e in (*s.totals, *s.fragments)]
    offsets = [_dim(factor.offset) for _, factor in s.shared]
    kind, count = GROUP_OPERATIONS[s.operation], len(s.totals)

    def factor_at(m: Machine, side: int, factor: SharedFactor, place: int) -> Array:
        buffer = m.buffers[factor.buffer]
        end = place + kind.end(side, count, s.lines, factor.step, factor.turned)
        _check(m, "load", factor.buffer, np.array([place, end - 1]), buffer.size)
        return shared_factor(buffer[place:], kind.extents(side, count, s.lines), factor.step, factor.turned)

    def meet(m: Machine) -> None:
        assert m.group is not None
        places = [int(offset(m)) for offset in offsets]

        def apply(together: list[Array]) -> list[Array]:
            if np.any(together[0] != together[0][0]):
                raise m.fault(f"the threads of a group give {s.operation} different places")
            factors = [factor_at(m, *factor, place) for factor, place in zip(s.shared, places, strict=True)]
            if s.fragments:
                factors.insert(0, held_factor(together[1 + count :], kind.storages[0]))
            return group_product(s.operation, factors[0], factors[1], together[1 : 1 + count])

        given = (np.array(places), *(e(m) for e in operands))
        number = m.dims[THREAD] % GROUP
        m.values.update(zip(s.names, m.group.meet(apply, number, given), strict=True))

    return meet


def _copy(s: CopyAsync) -> Action:
    offset, source_offset = _dim(s.offset), _dim(s.source_offset)
    mask = _expr(s.mask) if s.mask is not None else None

    def begin(m: Machine) -> None:
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


def _await(m: Machine, left: int) -> None:
    """Let all closed groups of copies arrive but the last `left`."""
    while len(m.copies) - 1 > left:
        for arrive in m.copies.pop(0):
            arrive()


def _signal_action(s: Signals | StartSignals | Arrive | AwaitSignal | TileMap | CopyTile) -> Action:
    match s:
        case Signals(name=name, count=count, arrivals=arrivals):

            def declare(m: Machine) -> None:
                m.signals[name] = [Signal(arrivals) for _ in range(count)]

            return declare
        case StartSignals(signals=name):

            def start(m: Machine) -> None:
                for signal in m.signals[name] if m.dims[THREAD] == 0 else ():
                    signal.start()

            return start
        case TileMap():

            def keep(m: Machine) -> None:
                m.maps[s.name] = s

            return keep
        case CopyTile():
            return _copy_tile(s)
    place = _dim(s.index)
    if isinstance(s, Arrive):
        return lambda m: _signal(m, s.signals, place(m)).arrive(s.bytes)
    parity = _dim(s.parity)

    def wait(m: Machine) -> None:
        assert m.watch is not None
        _signal(m, s.signals, place(m)).wait(parity(m), m.watch)

    return wait


def _signal(m: Machine, name: str, at: int) -> Signal:
    found = m.signals[name]
    _check(m, "signal", name, at, len(found))
    return found[at]


def _copy_tile(s: CopyTile) -> Action:
    offset, place = _dim(s.offset), _dim(s.index)
    coordinates = [_dim(c) for c in s.at]

    def begin(m: Machine) -> None:
        where = m.maps[s.map]
        source, target, at = m.buffers[where.buffer], m.buffers[s.target], offset(m)
        extents, strides = ([value_of(d, m.dims) for d in dims] for dims in (where.extents, where.strides))
        found = tile_of(source, extents, strides, where.lines, [c(m) for c in coordinates], where.rounded)
        _check(m, "store", s.target, np.array([at, at + found.size - 1]), target.size)

        def land() -> None:
            target[at : at + found.size] = found

        _signal(m, s.signals, place(m)).come(found.nbytes, land)

    return begin


def _alloc(s: Alloc | Share) -> Action:
    size = _dim(s.size)

    def alloc(m: Machine) -> None:
        m.buffers[s.name] = garbage(s.dtype, size(m))

    return alloc
