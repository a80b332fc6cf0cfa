"""The host program: ops without native code run in Python, all else is calls of native functions.

It is the `main` of an outlined module.  Values between the steps are held by reference, and let go after
their last use; C never calls back into Python.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from aino_ir.constants import Const
from aino_ir.errors.artifact import NotAnArtifact
from aino_ir.errors.base import AinoError
from aino_ir.errors.run import HostStepFailed
from aino_ir.graph import Module, Value
from aino_ir.interp import Evaluation, bind_shape, initial_states, keep_results, run_op, store_array
from aino_ir.op import Op, Trait
from aino_ir.ops.call import Call
from aino_ir.ops.core import is_data
from aino_ir.runtime.artifact import Artifact
from aino_ir.runtime.function import NativeCode, NativeFunction
from aino_ir.runtime.structures import named_types, owned
from aino_ir.runtime.values import Port

Array = np.ndarray[Any, Any]


PROGRAM = "host.air"
"""The section of an artifact with the host program's text."""


class Callee(Protocol):
    """A native function as a host program calls it."""

    def call(
        self, arrays: Sequence[Array], symbols: dict[str, int], times: Array | None = None
    ) -> Sequence[Array]:
        """New arrays for values of the symbols; see `NativeFunction.call`."""
        raise NotImplementedError

    @property
    def notes_times(self) -> bool:
        """Whether `call` can note times."""
        raise NotImplementedError

    def no_times(self) -> Array:
        """i64[steps, 2] of zeros, to which `call` adds times."""
        raise NotImplementedError


@dataclass(frozen=True)
class Step:
    """One op of the host program.

    Attributes:
        op: the op.
        native: the function that it calls, or None when it runs in Python.
        last: values that nothing reads afterwards.
    """

    op: Op
    native: Callee | None
    last: tuple[Value, ...]


@dataclass
class Lap:
    """How long the steps of one run took.

    Attributes:
        marks: times in ns: of the start, and of the end of each step.
        times: number of a native step -> what its library noted, see `NativeFunction.run`.
        symbols: number of a native step -> values of its symbols.
    """

    marks: list[int] = field(default_factory=list)
    times: dict[int, Array] = field(default_factory=dict)
    symbols: dict[int, dict[str, int]] = field(default_factory=dict)

    def mark(self) -> None:
        """Note the time."""
        self.marks.append(time.perf_counter_ns())


class HostProgram:
    """Runs the `main` of an outlined module.

    Any number of threads may call `run` at a time.

    Args:
        module: its `main`, and functions that ops of it call in Python.
        natives: the native functions by name.
    """

    def __init__(self, module: Module, natives: Mapping[str, Callee]) -> None:
        self.module = module
        self.main = module.main
        self.steps = tuple(_steps(module, natives))
        self._constants: dict[Value, Any] = {}
        for op in filter(is_data, self.main.block):
            run_op(op, self._constants, Evaluation())
        self._fresh = frozenset(_fresh_results(self.steps))
        self._counts: dict[int, int] = {}
        self._states: list[Any] | None = None

    @property
    def executed(self) -> int:
        """Ops that ran in Python so far, in all runs together."""
        return sum(list(self._counts.values()))

    def run(self, values: Sequence[Any], lap: Lap | None = None) -> list[Any]:
        """Outputs for inputs that were checked, in memory of their own; `lap` gets the times.

        Raises:
            RankMismatch, ExtentMismatch, SymbolOutOfRange ...: the shapes do not fit together.
            HostStepFailed: an op that runs in Python failed in a way of its own.
            AinoError: what an op or a kernel met, with the node.
        """
        ev, env = self._begin(values)
        if lap is not None:
            lap.mark()
        ran = 0
        try:
            for step in self.steps:
                if step.native is None:
                    ran += 1
                    _run_host(step.op, env, ev)
                else:
                    _run_native(step, env, ev, lap)
                for value in step.last:
                    env.pop(value, None)
                if lap is not None:
                    lap.mark()
        finally:
            mine = threading.get_ident()  # a count of its own for each thread needs no lock
            self._counts[mine] = self._counts.get(mine, 0) + ran
        results = self.main.results
        outputs = len(self.main.output_names)
        if self.main.states:
            self._states = [owned(env[v]) for v in results[outputs:]]
        return [env[v] if v in self._fresh else owned(env[v]) for v in results[:outputs]]

    def _begin(self, values: Sequence[Any]) -> tuple[Evaluation, dict[Value, Any]]:
        """The state of a run before its first step."""
        main = self.main
        named = [
            row
            for name, value, argument in zip(main.input_names, values, main.inputs, strict=True)
            for row in named_types(name, value, argument.type)
        ]
        names, types, arrays = zip(*named, strict=True) if named else ((), (), ())
        bindings = main.symbols.bind(types, [a.shape for a in arrays], names)
        ev = Evaluation("native", bindings, main.symbols)
        if main.states and self._states is None:
            self._states = initial_states(main, ev)
        env: dict[Value, Any] = dict(self._constants)
        for argument, value in zip(main.block.args, [*values, *(self._states or ())], strict=True):
            env[argument] = store_array(value, argument.type, "native")
            if value is not None:
                bind_shape(argument.type, value, ev, argument.name)
        return ev, env


def _run_host(op: Op, env: dict[Value, Any], ev: Evaluation) -> None:
    """Run one op in Python."""
    try:
        run_op(op, env, ev)
    except AinoError:
        raise
    except Exception as problem:
        raise HostStepFailed(
            loc=op.loc, op=op.name, kind=type(problem).__name__, reason=str(problem)
        ) from problem


def _run_native(step: Step, env: dict[Value, Any], ev: Evaluation, lap: Lap | None) -> None:
    """Call one native function."""
    op, function = step.op, step.native
    assert isinstance(op, Call) and function is not None
    ev.op = op
    symbols = op.known_bindings(ev.bindings)
    arrays = [_readable(env[v]) for v in op.inputs]
    times = None
    if lap is not None:
        number = len(lap.marks) - 1
        times = lap.times[number] = function.no_times()
        lap.symbols[number] = symbols
    results = function.call(arrays, symbols, times)
    op.decide(results, ev.bindings)
    keep_results(op, results, env, ev)


def _readable(array: Array) -> Array:
    """An array as kernels read it."""
    flags = array.flags
    return array if flags.c_contiguous and flags.aligned else array.copy(order="C")


def _steps(module: Module, natives: Mapping[str, Callee]) -> Iterator[Step]:
    """The ops of `main` in order, each with the values that it is the last to read."""
    ops = [op for op in module.main.block if not is_data(op) and not op.has(Trait.TERMINATOR)]
    kept = set(module.main.results)
    last: dict[Op, list[Value]] = {}
    seen: set[Value] = set()
    for op in reversed(ops):
        for value in (*op.results, *op.present_operands()):
            if value not in seen and value not in kept:
                last.setdefault(op, []).append(value)
            seen.add(value)
    for op in ops:
        function = natives.get(op.callee) if isinstance(op, Call) else None
        yield Step(op, function, tuple(last.get(op, ())))


def _fresh_results(steps: Sequence[Step]) -> Iterator[Value]:
    """Results of native functions that nothing but the end reads: nobody else has their memory."""
    for step in steps:
        if step.native is not None:
            yield from (v for v in step.op.results if v.use_count == 1)


def open_program(artifact: Artifact, code: NativeCode, threads: int) -> HostProgram:
    """The host program of an artifact.

    Raises:
        NotAnArtifact: it cannot be read, or does not fit the native functions.
    """
    details = artifact.manifest.details["host"]
    natives = {
        name: NativeFunction(
            code,
            found["variants"],
            [row[0] for row in found["symbols"]],
            [Port.of(*row) for row in found["outputs"]],
            threads,
            found["decided"],
        )
        for name, found in details["functions"].items()
    }
    constants = {digest: artifact.weight(int(index)) for digest, index in details["constants"].items()}
    try:
        module = host_module(bytes(artifact.section(PROGRAM)).decode("ascii"), constants)
    except (AinoError, UnicodeDecodeError) as problem:
        reason = f"its host program cannot be read: {str(problem).splitlines()[0]}"
        raise NotAnArtifact(path=artifact.path, reason=reason) from problem
    for op in module.main.block:
        if isinstance(op, Call):
            _check_call(op, module, details["functions"], artifact.path)
    return HostProgram(module, natives)


def _check_call(op: Call, module: Module, functions: Mapping[str, Any], path: str) -> None:
    found = functions.get(op.callee)
    if found is None and op.callee not in module.functions:
        raise NotAnArtifact(path=path, reason=f"it has no function {op.callee}")
    if found is not None and (len(op.inputs), len(op.results)) != (found["inputs"], len(found["outputs"])):
        raise NotAnArtifact(path=path, reason=f"its host program calls {op.callee} wrongly")


def host_module(text: str, constants: Mapping[str, memoryview]) -> Module:
    """The module of a host program.

    Args:
        text: it, in the .air language.
        constants: bytes of its large constants by their hash.

    Raises:
        TextSyntaxError, TextMismatch, UnknownWeight: it is none.
    """
    from aino_ir.text.leaves import Misfit, static_shape
    from aino_ir.text.parser import parse  # lark: needed by host programs alone

    def find(digest: str, type_: Any) -> Const:
        data, shape = constants.get(digest), static_shape(type_)
        size = int(np.prod(shape, dtype=np.int64)) * type_.dtype.numpy.itemsize
        if data is None or len(data) != size:
            raise Misfit(f"there are no {size} bytes for the constant {digest}")
        return Const.deferred(
            type_.dtype, shape, lambda: np.frombuffer(data, type_.dtype.numpy).reshape(shape)
        )

    return parse(text, find)
