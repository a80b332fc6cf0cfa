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
from aino_ir.driver.pipeline import PLAN_PASSES
from aino_ir.graph import Module
from aino_ir.loops.interp import run_kernel
from aino_ir.passes.insert_barriers import check_barriers
from aino_ir.passes.plan_memory import check_memory, used_constants
from aino_ir.passes.reserve_segments import check_segments
from aino_ir.plan import Branch, Buffer, BufferKind, Plan, Repeat, Run, Step, View, walk
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
    """A target by its text, on a machine that has everything."""
    return parse_target(text, ANY_HOST)


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
    emission = emit(plan, goal)
    calls = CompilerCalls()
    toolchain = find_toolchain(store, calls=calls)
    data = compile_units(emission.units, emission.headers, toolchain, store, calls)[goal.isa]
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
    plan: Plan, inputs: Sequence[Array], symbols: Mapping[str, int] | None = None
) -> list[Array]:
    """Outputs of a finished plan whose kernels run in the loop interpreter (static and symbolic shapes)."""
    values = dict(symbols or {})
    memory = {b.id: _memory(b, inputs, plan, values) for b in plan.buffers if _is_used(b)}
    _interpret_steps(plan.steps, plan, memory, values)
    out = {b.slot: memory[b.id] for b in plan.buffers if b.kind is BufferKind.OUTPUT}
    return [
        out[slot].view(t.dtype.numpy).reshape([extent(d, values) for d in t.shape])  # type: ignore[union-attr]
        for slot, (_, t) in enumerate(plan.outputs)
    ]


def _interpret_steps(
    steps: Sequence[Step], plan: Plan, memory: dict[int, Array], values: dict[str, int]
) -> None:
    def element(view: View) -> Any:
        return _bytes_of(view, plan, memory, values)[: view.dtype.bytes].view(view.dtype.numpy)[0]

    for step in steps:
        if isinstance(step, Run):
            fn = plan.kernels[step.kernel].function
            arrays = [_bytes_of(v, plan, memory, values) for v in step.views]
            views = [
                a[: a.size // p.dtype.bytes * p.dtype.bytes].view(p.dtype.numpy)
                for a, p in zip(arrays, fn.params, strict=True)
            ]
            run_kernel(fn, views, {n: values[n] for n in fn.symbols})
        elif isinstance(step, Branch):
            chosen = step.then if element(step.condition) else step.otherwise
            _interpret_steps(chosen, plan, memory, values)
        elif isinstance(step, Repeat):
            number = plan.turns.index(step.turn)
            limit = element(step.count) if isinstance(step.count, View) else step.count
            limit = float("inf") if limit is None else extent(limit, values)
            going = step.start is None or element(step.start)
            turn = 0
            while going and turn < limit:
                values[step.turn] = turn
                for b in plan.buffers:
                    if b.kind is BufferKind.TURN and b.slot == number:
                        memory[b.id] = np.array([turn], np.int64).view(np.uint8)
                _interpret_steps(step.body, plan, memory, values)
                going = step.again is None or element(step.again)
                turn += 1


def _is_used(b: Buffer) -> bool:
    return b.kind is not BufferKind.ARENA or b.offset is not None


def _memory(b: Buffer, inputs: Sequence[Array], plan: Plan, values: dict[str, int]) -> Array:
    if b.kind is BufferKind.INPUT:
        return np.frombuffer(np.ascontiguousarray(inputs[b.slot]).tobytes(), np.uint8).copy()
    if b.kind is BufferKind.CONST:
        return np.frombuffer(constant_bytes(b), np.uint8).copy()
    return np.full(extent(b.bytes, values), 0xA5, np.uint8)


def _bytes_of(v: View, plan: Plan, memory: dict[int, Array], values: dict[str, int]) -> Array:
    start = extent(v.offset, values)
    return memory[v.buffer][start:]


def extent(d: Any, values: Mapping[str, int]) -> int:
    """The number that a dimension is for given symbols."""
    return int(d) if isinstance(d, int | np.integer) else int(d.evaluate(dict(values)))
