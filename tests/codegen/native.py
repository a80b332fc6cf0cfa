"""A module lowered, planned, printed, compiled and called, with every stage in reach of a test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from aino_ir.codegen.c.backend import emit
from aino_ir.codegen.c.compile import compile_units
from aino_ir.codegen.c.toolchain import CompilerCalls, find_toolchain
from aino_ir.codegen.catalogue import KernelCatalogue
from aino_ir.codegen.lower.constants import constant_bytes
from aino_ir.codegen.lower.lowering import Lowering, LoweringOptions
from aino_ir.codegen.tvm.backend import emit_tvm
from aino_ir.codegen.tvm.build import built_object
from aino_ir.driver.pipeline import PLAN_PASSES
from aino_ir.graph import Module
from aino_ir.loops.interp import run_kernel
from aino_ir.passes.insert_barriers import check_barriers
from aino_ir.passes.plan_memory import check_memory, used_constants
from aino_ir.passes.reserve_segments import check_segments
from aino_ir.plan import (
    Bind,
    Branch,
    Buffer,
    BufferKind,
    Extend,
    Plan,
    Repeat,
    Reserve,
    Run,
    Step,
    View,
    walk,
)
from aino_ir.runtime.library import Library
from aino_ir.runtime.native import NativeModel
from aino_ir.runtime.store import Store
from aino_ir.target import ISAS, Host, Target, detect_host, parse_target

Array = np.ndarray[Any, Any]

ANY_HOST = Host(
    "x86_64", "any", frozenset(f for isa in ISAS.values() for f in isa.features), 2, 32768, 524288, 1 << 23
)
"""A machine with every ISA: its kernels may be built, printed and compiled, but not run."""


def target(text: str = "c:avx2") -> Target:
    """A target by its text, on a machine that has everything; one of TVM's on this."""
    return parse_target(text, detect_host() if text.startswith("tvm") else ANY_HOST)


def runnable(text: str) -> bool:
    """Whether this machine runs code for a target."""
    host, goal = detect_host(), target(text)
    return ISAS[goal.isa].arch in ("", host.arch) and not host.missing(ISAS[goal.isa].features)


def lowered(module: Module, text: str = "c:avx2", name: str = "model") -> Plan:
    """The plan before any plan pass."""
    goal = target(text)
    return Lowering(module.main, KernelCatalogue(goal), goal, LoweringOptions(name=name)).run()


def planned(module: Module, text: str = "c:avx2", name: str = "model") -> Plan:
    """The finished plan, checked."""
    plan = lowered(module, text, name)
    for plan_pass in PLAN_PASSES:
        plan_pass.run(plan)
    check_memory(plan)
    check_segments(plan)
    check_barriers(plan)
    return plan


@dataclass
class Native:
    """A compiled plan.

    Attributes:
        calls: compiler processes that it took.
    """

    plan: Plan
    model: NativeModel
    calls: CompilerCalls = field(default_factory=CompilerCalls)

    def run(
        self, inputs: Sequence[Array], symbols: Mapping[str, int] | None = None, out: Sequence[Array] = ()
    ) -> list[Array]:
        """Outputs, in `out` when given (all of it else starts as a pattern); shapes come from `symbols`."""
        values = dict(symbols or {})
        given = [np.array(a, order="C") for a in inputs]
        results = list(out) or [self._pattern(t, values) for _, t in self.plan.outputs]
        addresses = [a.ctypes.data for a in given]
        vector = np.asarray([values[n] for n in self.plan.symbols], np.int64)
        if self.plan.symbols:
            addresses.append(vector.ctypes.data)
        self.model.run(addresses, [r.ctypes.data for r in results])
        return results

    def _pattern(self, type: Any, values: dict[str, int]) -> Array:
        shape = tuple(extent(d, values) for d in type.shape)
        size = int(np.prod(shape, dtype=np.int64)) * type.dtype.bytes
        return np.full(size, 0xA5, np.uint8).view(type.dtype.numpy).reshape(shape)


def compile_module(module: Module, store: Store, text: str = "c:avx2", threads: int = 1) -> Native:
    """A module as native code of one target."""
    return compile_plan(planned(module, text), store, text, threads)


def compile_plan(plan: Plan, store: Store, text: str = "c:avx2", threads: int = 1) -> Native:
    """A finished plan as native code."""
    goal = target(text)
    emission = emit_tvm([plan], goal) if goal.name == "tvm" else emit(plan, goal)
    objects = {goal.isa: built_object(emission.script, plan.name, store)} if emission.script else {}
    calls = CompilerCalls()
    toolchain = find_toolchain(store, calls=calls)
    data = compile_units(emission.units, emission.headers, toolchain, store, calls, objects=objects)[goal.isa]
    steps = [str(getattr(s, "loc", "")) for s in walk(plan.steps)]
    return Native(plan, NativeModel(Library(data, "test"), plan.name, weights(plan), threads, steps), calls)


def weights(plan: Plan) -> Array:
    """The weights section of a plan, on a 64-byte boundary."""
    constants = used_constants(plan)
    size = max((int(b.offset) + int(b.bytes) for b in constants), default=0)  # type: ignore[arg-type]
    room = np.zeros(size + 64, np.uint8)
    start = -room.ctypes.data % 64
    section = room[start : start + size]
    for b in constants:
        at = int(b.offset)  # type: ignore[arg-type]
        data = np.frombuffer(constant_bytes(b), np.uint8)
        section[at : at + len(data)] = data
    return section


def interpret_plan(
    plan: Plan,
    inputs: Sequence[Array],
    symbols: Mapping[str, int] | None = None,
    states: Sequence[Array] = (),
) -> list[Array]:
    """Outputs of a finished plan whose kernels run in the loop interpreter, over memory as it was planned.

    Args:
        plan: with every plan pass behind it.
        inputs: in order.
        symbols: values of the symbols.
        states: what the run finds; they are overwritten by what it leaves.
    """
    machine = _Machine(plan, inputs, dict(symbols or {}), states)
    machine.run(plan.steps)
    found = {b.slot: machine.bytes_of(b) for b in plan.buffers if b.kind is BufferKind.OUTPUT}
    results = []
    for slot, (_, type_) in enumerate(plan.outputs):
        shape = [extent(d, machine.values) for d in type_.shape]  # type: ignore[union-attr]
        size = int(np.prod(shape, dtype=np.int64)) * type_.dtype.bytes  # type: ignore[union-attr]
        results.append(found[slot][:size].view(type_.dtype.numpy).reshape(shape))  # type: ignore[union-attr]
    return results


class _Machine:
    """One run of a plan.  Memory holds a pattern at first."""

    def __init__(
        self, plan: Plan, inputs: Sequence[Array], values: dict[str, int], states: Sequence[Array]
    ) -> None:
        self.plan = plan
        self.states = states
        self.values = values
        self.arena = self._fresh(plan.arena_bytes)
        self.segments = [np.zeros(0, np.uint8) for _ in plan.segments]
        self.own = {b.id: m for b in plan.buffers if (m := self._memory(b, inputs)) is not None}

    def _fresh(self, size: Any) -> Array:
        return np.full(extent(size, self.values), 0xA5, np.uint8)

    def _memory(self, b: Buffer, inputs: Sequence[Array]) -> Array | None:
        """Memory of what lies neither in the arena nor in a segment."""
        if b.kind is BufferKind.INPUT:
            return np.frombuffer(np.ascontiguousarray(inputs[b.slot]).tobytes(), np.uint8).copy()
        if b.kind is BufferKind.CONST:
            return np.frombuffer(constant_bytes(b), np.uint8).copy()
        if b.kind is BufferKind.TURN:
            return np.zeros(8, np.uint8)
        if b.kind is BufferKind.STATE:
            return self.states[b.slot].reshape(-1).view(np.uint8)
        return None if b.segment or b.kind is BufferKind.ARENA else self._fresh(b.bytes)

    def bytes_of(self, b: Buffer, offset: Any = 0) -> Array:
        """A buffer's memory from an offset on, and what lies behind it."""
        if b.id in self.own:
            return self.own[b.id][extent(offset, self.values) :]
        start = extent(0 if b.offset is None else b.offset, self.values) + extent(offset, self.values)
        return (self.segments[b.segment - 1] if b.segment else self.arena)[start:]

    def element(self, view: View) -> Any:
        """The first element of a view."""
        found = self.bytes_of(self.plan.buffers[view.buffer], view.offset)
        return found[: view.dtype.bytes].view(view.dtype.numpy)[0]

    def run(self, steps: Sequence[Step]) -> None:
        """Run steps in order."""
        for step in steps:
            if isinstance(step, Run):
                self._call(step)
            elif isinstance(step, Branch):
                self.run(step.then if self.element(step.condition) else step.otherwise)
            elif isinstance(step, Repeat):
                self._repeat(step)
            elif isinstance(step, Bind):
                self.values[step.symbol] = int(self.element(step.source))
            elif isinstance(step, Reserve):
                self.segments[step.segment - 1] = self._fresh(self.plan.segments[step.segment - 1].bytes)
            elif isinstance(step, Extend):
                self._extend(step)

    def _call(self, step: Run) -> None:
        fn = self.plan.kernels[step.kernel].function
        arrays = [self.bytes_of(self.plan.buffers[v.buffer], v.offset) for v in step.views]
        views = [
            a[: a.size // p.dtype.bytes * p.dtype.bytes].view(p.dtype.numpy)
            for a, p in zip(arrays, fn.params, strict=True)
        ]
        run_kernel(fn, views, {n: self.values[n] for n in fn.symbols})

    def _repeat(self, step: Repeat) -> None:
        number = self.plan.turns.index(step.turn)
        counters = [b.id for b in self.plan.buffers if b.kind is BufferKind.TURN and b.slot == number]
        limit: Any = float("inf")
        if step.count is not None:
            limit = (
                self.element(step.count) if isinstance(step.count, View) else extent(step.count, self.values)
            )
        going = step.start is None or self.element(step.start)
        turn = 0
        while going and turn < limit:
            self.values[step.turn] = turn
            for id in counters:
                self.own[id][:] = np.array([turn], np.int64).view(np.uint8)
            self.run(step.body)
            going = step.again is None or self.element(step.again)
            turn += 1
        if step.turns is not None:
            cell = self.bytes_of(self.plan.buffers[step.turns.buffer], step.turns.offset)
            cell[:8] = np.array([turn], np.int64).view(np.uint8)

    def _extend(self, step: Extend) -> None:
        number = self.plan.buffers[step.buffer].segment - 1
        old, size = self.segments[number], extent(step.bytes, self.values)
        if size > old.size or not step.keep:
            self.segments[number] = self._fresh(max(size, old.size))
            if step.keep:
                self.segments[number][: old.size] = old


def extent(d: Any, values: Mapping[str, int]) -> int:
    """The number that a dimension is for given symbols."""
    return int(d) if isinstance(d, int | np.integer) else int(d.evaluate(dict(values)))
