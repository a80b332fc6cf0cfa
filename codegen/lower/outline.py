"""Splits a function into native functions and a host program that calls them.

What has no native code stays in `main` and runs in Python; everything else is outlined into as few functions
as can be, each a part of the graph between such host ops.  C never calls back into Python: the host program
calls the native functions in order (`core.call`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from aino_ir.builder import Builder
from aino_ir.clone import copy_function, copy_op
from aino_ir.codegen.lower.decided import entry_symbols
from aino_ir.constants import Const
from aino_ir.dims import Dim, free_symbols, symbol
from aino_ir.graph import Function, Module, Value, count_uses
from aino_ir.op import Op, Trait
from aino_ir.ops.call import Call, type_symbols
from aino_ir.ops.core import Constant, Dims, Relayout, is_data
from aino_ir.symbols import Origin, SymbolInfo, Symbols
from aino_ir.types import ROW_MAJOR, TensorType

DECIDING = ("data", "value")
"""Origins of symbols that an op decides at run time."""


@dataclass(frozen=True)
class HostOp:
    """An op that runs in Python.

    Attributes:
        op: its name.
        node: where it stands in the model.
        reason: why it has no native code.
    """

    op: str
    node: str
    reason: str


@dataclass(frozen=True)
class Outlined:
    """A module whose `main` is a host program.

    Attributes:
        module: `main`, the native functions, and functions that host ops call.
        natives: names of the native functions, in the order in which they are called.
        host: the ops that run in Python, in order.
    """

    module: Module
    natives: tuple[str, ...]
    host: tuple[HostOp, ...]


def outline(function: Function, reasons: Mapping[Op, str]) -> Outlined:
    """The module of `function` with all ops but those of `reasons` outlined; `function` is left alone.

    Args:
        function: the entry function.
        reasons: ops of its block that run in Python, and why; constants and the terminator need none.
    """
    phases = op_phases(function, reasons)
    host = tuple(
        HostOp(op.name, str(op.loc) or op.name, reasons[op]) for op in function.block if op in reasons
    )
    outliner = _Outliner(function, phases)
    return Outlined(outliner.run(), tuple(outliner.natives), host)


def op_phases(function: Function, host: Mapping[Op, str]) -> dict[Op, int]:
    """Op -> phase; even phases are native, odd ones run in Python, and what depends on a phase comes later.

    An op stands in the first phase of its kind that its operands allow, which gives as few native phases as
    there are on the longest alternation along any path.  Constants and the terminator have no phase.
    """
    deciders = {op.id: op for op in function.block}
    phases: dict[Op, int] = {}
    for op in function.block:
        if is_neutral(op):
            continue
        odd = op in host
        phase = -1 if odd else 0
        for before in _dependencies(op, function.symbols, deciders):
            other = phases.get(before)
            if other is not None:
                phase = max(phase, other if bool(other % 2) == odd else other + 1)
        phases[op] = phase
    return phases


def is_neutral(op: Op) -> bool:
    """Whether an op has no place of its own: data stands wherever it is read."""
    return is_data(op) or op.has(Trait.TERMINATOR)


def _dependencies(op: Op, symbols: Symbols, ops: Mapping[int, Op]) -> Iterator[Op]:
    """Ops that must come before: those of the operands, and those that decide the symbols it reads."""
    for value in op.present_operands():
        if value.op is not None:
            yield value.op
    for name in op_symbols(op):
        decider = decided_by(symbols.declared(name))
        if decider is not None and decider != op.id and decider in ops:
            yield ops[decider]


def decided_by(info: SymbolInfo) -> int | None:
    """The id of the op that decides a symbol at run time, or None."""
    return info.origin.op if info.origin.kind in DECIDING else None


def ids_in(*ops: Op) -> frozenset[int]:
    """Ids of ops and of what stands in their regions."""
    found = {op.id for op in ops}
    for op in ops:
        for region in op.regions:
            found.update(inner.id for inner in region.walk())
    return frozenset(found)


def op_symbols(op: Op) -> frozenset[str]:
    """Symbols in the types and extents of an op and of what stands in its regions."""
    found: set[str] = set()
    work = [op]
    while work:
        this = work.pop()
        for value in this.results:
            found |= type_symbols(value.type)
        for attribute in this.attributes:
            found |= _attribute_symbols(attribute)
        for region in this.regions:
            for argument in region.args:
                found |= type_symbols(argument.type)
            work.extend(region)
    return frozenset(found)


def _attribute_symbols(attribute: object) -> frozenset[str]:
    if isinstance(attribute, Dim):
        return attribute.free_symbols()
    if isinstance(attribute, tuple):
        return frozenset[str]().union(*(d.free_symbols() for d in attribute if isinstance(d, Dim)))
    return frozenset()


class _Outliner:
    """Builds the module.

    Attributes:
        natives: names of the native functions so far.
    """

    def __init__(self, function: Function, phases: Mapping[Op, int]) -> None:
        self.function = function
        self.phases = phases
        self.natives: list[str] = []
        self.module = Module(function.module.name)
        self.module.metadata = dict(function.module.metadata)
        self.module.reserve_ids(function.module.last_id)
        self.main = self.module.add_function(function.name)
        self.values: dict[Value, Value] = {}
        self._calls: dict[int, int] = {}  # id of an outlined op -> id of its call
        self._phase_of = {id: phase for op, phase in phases.items() for id in ids_in(op)}
        self._read_in = self._symbol_phases()
        self._at_entry = entry_symbols(function)

    def run(self) -> Module:
        """The whole module."""
        source, main = self.function, self.main
        main.input_names, main.output_names = list(source.input_names), list(source.output_names)
        main.states, main.defaults = list(source.states), dict(source.defaults)
        for argument in source.block.args:
            self.values[argument] = _argument_copy(argument, main)
        phases: dict[int, list[Op]] = {}
        for op, phase in self.phases.items():
            phases.setdefault(phase, []).append(op)
        for phase in sorted(phases):
            if phase % 2:
                for op in phases[phase]:
                    self._keep(op)
            else:
                self._native(phases[phase], phase)
        self._keep(source.block.terminator)
        self._keep_callees()
        main.symbols = self._main_symbols()
        return self.module

    def _symbol_phases(self) -> dict[str, set[int]]:
        """Symbol that an op decides -> phases that read it."""
        table = self.function.symbols
        out: dict[str, set[int]] = {n: set() for n in table if decided_by(table.declared(n)) is not None}
        if out:
            for op, phase in self.phases.items():
                for name in op_symbols(op) & out.keys():
                    out[name].add(phase)
        return out

    # -- the host program ---------------------------------------------------------------------------

    def _keep(self, op: Op) -> None:
        """Copy an op to the host program, with the data that it reads."""
        for value in op.present_operands():
            if value not in self.values:
                assert value.op is not None and is_data(value.op), f"{value} is not made yet"
                if isinstance(value.op, Constant):
                    self.values[value] = self._constant(value.op)
                else:
                    copy_op(value.op, self.main.block, self.values)
        copy_op(op, self.main.block, self.values)

    def _constant(self, constant: Constant) -> Value:
        """A constant of the host program: its data, even where it was an expression."""
        handle = constant.value
        if handle.is_lazy:
            handle = Const.deferred(handle.dtype, handle.shape, handle.array, handle.name)
        made = Constant(constant.id, (), (handle,), (), constant.loc)
        made.results = (Value(constant.result.id, constant.result.type, made, 0, name=constant.result.name),)
        _copy_known(constant.result, made.result)
        self.main.block.insert(made)
        return made.result

    def _keep_callees(self) -> None:
        """Copy the functions that host ops call."""
        waiting = [self.main]
        while waiting:
            for op in waiting.pop().walk():
                name = op.callee if isinstance(op, Call) else None
                if name is not None and name not in self.module.functions:
                    waiting.append(copy_function(self.function.module.functions[name], self.module))

    def _main_symbols(self) -> Symbols:
        """The table of the host program: what outlined ops decided is decided by their calls."""
        source = self.function.symbols
        table = Symbols()
        for name in source:
            info = source.declared(name)
            call = self._calls.get(info.origin.op)
            origin = info.origin
            if call is not None and origin.kind in DECIDING:
                origin = replace(origin, op=call)
            table.new(name, info.lo, info.hi, info.divisible_by, origin)
        for check in source.checks:
            after = self._calls.get(check.after_op, check.after_op) if check.after_op is not None else None
            table.restore_check(check._replace(after_op=after))
        return table

    # -- native functions ---------------------------------------------------------------------------

    def _native(self, ops: Sequence[Op], phase: int) -> None:
        """Outline ops into a function, and call it."""
        name = self._fresh_name()
        function = self.module.add_function(name)
        builder = Builder(function)
        inside, values = frozenset(ops), dict[Value, Value]()
        given: list[Value] = []
        for op in ops:
            for value in op.present_operands():
                if value in values:
                    continue
                if isinstance(value.op, Constant):
                    values[value] = builder.constant(value.op.value, value.name)
                else:
                    values[value] = self._parameter(value, builder, len(given))
                    given.append(value)
            copy_op(op, function.block, values)
        made = [r for op in ops for r in op.results if any(u not in inside for u in r.users)]
        decided = self._decided(ops, made, phase)
        for number, value in enumerate(made):
            builder.output(f"out{number}", _row_major(values[value], builder))
        if decided:
            builder.output("decided", builder.op(Dims, dims=tuple(map(symbol, decided))).result)
        builder.finish()
        function.symbols = self._table(ops, phase, given)
        self.natives.append(name)
        self._call(function, ops, given, made, decided)

    def _fresh_name(self) -> str:
        number = len(self.natives)
        while f"native_{number}" in self.function.module.functions:
            number += 1
        return f"native_{number}"

    def _parameter(self, value: Value, builder: Builder, number: int) -> Value:
        """A parameter for a value from outside, in the layout that its readers expect."""
        assert isinstance(value.type, TensorType)
        parameter = builder.input(f"in{number}", value.type.logical())
        _copy_known(value, parameter)
        if value.type.layout.is_row_major:
            return parameter
        return builder.op(Relayout, parameter, layouts=[value.type.layout]).result

    def _decided(self, ops: Sequence[Op], made: Sequence[Value], phase: int) -> list[str]:
        """Symbols decided here and read elsewhere that no result tells."""
        ids = ids_in(*ops)
        table = self.function.symbols
        told = {d.as_symbol() for v in made for d in v.shape if isinstance(d, Dim)}
        return [
            name
            for name, readers in self._read_in.items()
            if decided_by(table.declared(name)) in ids and readers - {phase} and name not in told
        ]

    def _table(self, ops: Sequence[Op], phase: int, given: Sequence[Value]) -> Symbols:
        """The symbols that a native function reads, and all that is known about them by then."""
        source = self.function.symbols
        ids = ids_in(*ops)
        places = {
            d: Origin.input(f"in{n}", axis) for n, v in enumerate(given) for axis, d in enumerate(v.shape)
        }
        wanted: set[str] = set()
        for op in ops:
            wanted |= op_symbols(op)
        for value in given:
            wanted |= type_symbols(value.type)
        table = Symbols()
        names = related_symbols(source, wanted, lambda name: self._is_known(name, phase))
        for name in source:
            if name in names:
                info = source.declared(name)
                origin = info.origin
                if name in self._at_entry or (origin.kind in DECIDING and origin.op not in ids):
                    origin = places.get(symbol(name), Origin.given())
                table.new(name, info.lo, info.hi, info.divisible_by, origin)
        for check in source.checks:
            if free_symbols(check.lhs) | free_symbols(check.rhs) <= names:
                table.restore_check(check if check.after_op in ids else check._replace(after_op=None))
        return table

    def _is_known(self, name: str, phase: int) -> bool:
        """Whether a symbol has its value by the end of a phase."""
        decider = decided_by(self.function.symbols.declared(name))
        return decider is None or self._phase_of.get(decider, phase + 1) <= phase

    def _call(
        self,
        function: Function,
        ops: Sequence[Op],
        given: Sequence[Value],
        made: Sequence[Value],
        decided: Sequence[str],
    ) -> None:
        """Call a native function in the host program."""
        known, table = entry_symbols(function), function.symbols
        entry = tuple(n for n in table if free_symbols(table.canonical(symbol(n))) <= known)
        attributes = (function.name, entry, tuple(map(symbol, entry)), tuple(decided))
        call = Call(self.module.new_id(), tuple(self.values[v] for v in given), attributes)
        results = []
        for index, value in enumerate(made):
            assert isinstance(value.type, TensorType)
            result = Value(self.module.new_id(), value.type.logical(), call, index, name=value.name)
            _copy_known(value, result)
            self.values[value] = result
            results.append(result)
        if decided:
            type_ = function.outputs[-1].type
            results.append(Value(self.module.new_id(), type_, call, len(results)))
        call.results = tuple(results)
        count_uses(call, call.operands)
        self.main.block.insert(call)
        self._calls.update(dict.fromkeys(ids_in(*ops), call.id))


def related_symbols(table: Symbols, wanted: Iterable[str], known: Callable[[str], bool]) -> frozenset[str]:
    """`wanted`, what their bounds name, and what checks relate them to, as far as it is known."""
    found: set[str] = set()
    work = list(wanted)
    checks: dict[str, list[frozenset[str]]] = {}
    for check in table.checks:
        names = free_symbols(check.lhs) | free_symbols(check.rhs)
        for name in names if all(map(known, names)) else ():
            checks.setdefault(name, []).append(names)
    while work:
        name = work.pop()
        if name in found:
            continue
        found.add(name)
        info = table.declared(name)
        for bound in (info.lo, info.hi, info.origin.upper):
            work += free_symbols(bound) if bound is not None else ()
        for names in checks.get(name, ()):
            work += names
    return frozenset(found)


def _argument_copy(argument: Value, function: Function) -> Value:
    """The same argument of another function."""
    made = Value(argument.id, argument.type, None, argument.index, function.block, argument.name)
    _copy_known(argument, made)
    function.block.args.append(made)
    return made


def _copy_known(source: Value, target: Value) -> None:
    target.known, target.known_ready = source.known, source.known_ready


def _row_major(value: Value, builder: Builder) -> Value:
    """A value in row-major order: what functions give each other."""
    assert isinstance(value.type, TensorType)
    if value.type.layout.is_row_major:
        return value
    return builder.op(Relayout, value, layouts=[ROW_MAJOR]).result
