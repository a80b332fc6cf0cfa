"""What one run on a GPU needs for itself, and the walk through the plan's steps."""

from __future__ import annotations

import operator
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from aino_ir.dims import DimLike, value_of
from aino_ir.library_calls import ProductCall
from aino_ir.plan import (
    Bind,
    Branch,
    Buffer,
    BufferKind,
    Extend,
    Repeat,
    Require,
    Reserve,
    Run,
    Step,
    Sync,
    View,
)
from aino_ir.runtime.cuda.device import Event, Launch, Memory, Work
from aino_ir.runtime.cuda.graph import Graph, in_order
from aino_ir.runtime.cuda.library_launch import LibraryLaunch

if TYPE_CHECKING:
    from aino_ir.runtime.cuda.model import CudaModel
    from aino_ir.runtime.cuda.plan import KernelFacts

MOST_NODES = 1 << 14
"""Launches that one graph may have; the loops of larger plans turn on the host."""

REMEMBERED_GRAPHS = 32
"""Combinations of extents whose graphs a session keeps."""

OUT_OF_RANGE = 4  # status of extents that cannot be
LIMIT_EXCEEDED = 3
LARGEST_BYTES = 1 << 43
_NO_LIMIT = (1 << 63) - 1
_HOLDS = {"eq": operator.eq, "ge": operator.ge}


@dataclass
class Places:
    """Where a run reads and writes, on the device.

    Attributes:
        inputs, outputs: addresses by slot; an output whose size the run decides gets its own later.
        allocate: makes such an output: (slot, bytes) to a thing with `address`.
    """

    inputs: list[int]
    outputs: list[int]
    allocate: Callable[[int, int], Any]
    made: dict[int, Any] = field(default_factory=dict)


@dataclass
class _Recorded:
    """A straight plan for one combination of extents.

    Attributes:
        graph: all its launches.
        inputs, outputs, memory: addresses that their arguments hold.
    """

    graph: Graph
    inputs: list[int]
    outputs: list[int]
    memory: tuple[int, ...]


class Session:
    """Memory of runs on one stream, one after the other.

    Args:
        model: whose runs.

    Attributes:
        latest: the graph of the last run; None where its steps were launched one by one.
    """

    def __init__(self, model: CudaModel) -> None:
        self.latest: Graph | None = None
        self.model = model
        self.device, self.plan = model.device, model.plan
        self.values: dict[str, int] = {}
        self._places = Places([], [], lambda slot, size: None)
        self._stream = 0
        self._times: Any = None
        self._marks: list[tuple[int, Event]] = []
        self._memory: dict[Any, Memory] = {}
        self._segments: dict[int, Any] = {}
        self._graphs: dict[tuple[int, ...], _Recorded] = {}
        slots = len(model.status_slots)
        self._statuses = np.zeros((slots, 2), np.int64)
        self._fresh = bool(slots)
        self._each = os.environ.get("AINO_CUDA_SYNC", "").strip() not in ("", "0")

    # -- a run --------------------------------------------------------------------------------------

    def begin(self, places: Places, symbols: dict[str, int], stream: int, times: Any) -> None:
        """Get ready: memory is there, statuses are clear."""
        self._places, self.values, self._stream, self._times = places, dict(symbols), stream, times
        sizes = {
            "arena": value_of(self.plan.arena, symbols),
            "status": self._statuses.nbytes,
            "turns": 8 * len(self.plan.turns),
        }
        for key, size in sizes.items():
            if size:
                self.staged(key, size)
        if self._fresh:
            self._clear_statuses()
            self._fresh = False

    def run(self) -> None:
        """Put all steps on the stream; waits where a step decides how to go on."""
        self.latest = None
        if self._times is None and not self._each and self._is_graph():
            self._run_graph()
            return
        if self._times is not None:
            self._marks = [(-1, Event.now(self.device, self._stream))]
        self._walk(self.plan.steps)
        self._note_times()

    def _is_graph(self) -> bool:
        """Whether all launches of this run are known, and not too many for one graph."""
        plan = self.plan
        return plan.is_straight and plan.size_of_graph(plan.steps, self.values) <= MOST_NODES

    def expect_success(self) -> None:
        """Wait for the kernels if any of them may have failed, and raise what the first one met.

        Raises:
            IndexOutOfRange, NativeDivisionByZero ...: as the kernel says.
        """
        if not len(self._statuses):
            return
        status = self._memory["status"]
        self.device.download(self._statuses.ctypes.data, status.address, self._statuses.nbytes, self._stream)
        self.device.synchronize(self._stream, self.model.suspects())
        self._judge()

    def _judge(self) -> None:
        codes = self._statuses[:, 0]
        if codes.any():
            found = {
                number: int(codes[slot]) for number, slot in self.model.status_slots.items() if codes[slot]
            }
            self._fresh = True
            first = min(found)
            raise self.model.error(found[first], first)

    def _clear_statuses(self) -> None:
        words = self._statuses.nbytes // 4
        self.device.fill_words(self._memory["status"].address, 0, words, self._stream)

    def end(self) -> None:
        """Let go of what belongs to the caller."""
        self._places = Places([], [], lambda slot, size: None)
        for number, segment in enumerate(self.plan.segments):
            if segment.output >= 0:
                self._segments.pop(number, None)
        self._times, self._marks = None, []

    def free(self) -> None:
        """Free everything."""
        for recorded in self._graphs.values():
            recorded.graph.free()
        for memory in (*self._memory.values(), *self._segments.values()):
            memory.free()
        self._graphs, self._memory, self._segments, self.latest = {}, {}, {}, None

    # -- memory -------------------------------------------------------------------------------------

    def staged(self, key: Any, size: int, what: str = "") -> Memory:
        """Memory of the session that holds `size` bytes; nothing in it is kept when it has to grow.

        Errors call it `what`.
        """
        found = self._memory.get(key)
        if found is None or found.bytes < size:
            if found is not None:
                self.device.synchronize(self._stream, self.model.suspects())
                found.free()
                del self._memory[key]
            named = key if isinstance(key, str) else f"{key[0]} {key[1]}"
            found = self._memory[key] = self.device.alloc(size, what or _WHAT.get(named, named))
        return found

    def address(self, view: View) -> int:
        """Where a view lies on the device."""
        return self._base(self.plan.buffers[view.buffer]) + value_of(view.offset, self.values)

    def _base(self, buffer: Buffer) -> int:
        offset = 0 if buffer.offset is None else value_of(buffer.offset, self.values)
        if buffer.segment:
            return int(self._segments[buffer.segment - 1].address) + offset
        base = _BASES[buffer.kind](self, buffer)
        return base + (offset if buffer.kind in (BufferKind.ARENA, BufferKind.CONST) else 0)

    def _input(self, buffer: Buffer) -> int:
        return self._places.inputs[buffer.slot]

    def _output(self, buffer: Buffer) -> int:
        return self._places.outputs[buffer.slot]

    def _arena(self, buffer: Buffer) -> int:
        return self._memory["arena"].address if "arena" in self._memory else 0  # nothing has any bytes

    def _const(self, buffer: Buffer) -> int:
        return self.model.weights.address

    def _state(self, buffer: Buffer) -> int:
        return self.model.states[buffer.slot].address

    def _turn(self, buffer: Buffer) -> int:
        return self._memory["turns"].address + 8 * buffer.slot

    # -- launches -----------------------------------------------------------------------------------

    def _number(self, step: Step) -> int:
        return self.plan.numbers[id(step)]

    def _launches(self, step: Run) -> Sequence[Work]:
        """The launches of a step: checks, then all units, in parts where scratch is short; or a library's."""
        facts = self.plan.kernels[step.kernel]
        by_library = [] if facts.library is None else self._by_library(step, facts.library)
        return by_library or self._by_kernel(step, facts)

    def _by_library(self, step: Run, call: ProductCall) -> list[LibraryLaunch]:
        """The call that stands for a step; none where the library does not do it."""
        loc = self.model.steps[self._number(step)]
        addresses = [self.address(view) for view in step.views]
        product = self.model.code.libraries.product(call, self.values, addresses, step.kernel, loc)
        if product is None:
            return []
        workspace, size = 0, product.workspace_bytes
        if size:
            what = f"a workspace of cuBLAS for kernel '{step.kernel}' ({loc})"
            workspace = self.staged(self._scratch_key(step), size, what).address
        return [LibraryLaunch(product, addresses, workspace, step.kernel, loc)]

    def _scratch_key(self, step: Run) -> tuple[str, int]:
        """Which memory a step works in."""
        return "scratch", self.plan.stretches.get(id(step), 0)

    def _by_kernel(self, step: Run, facts: KernelFacts) -> list[Launch]:
        parts = facts.parts(value_of(facts.units, self.values), value_of(facts.scratch, self.values))
        if parts.units <= 0:
            return []
        number, code = self._number(step), self.model.code
        loc = self.model.steps[number]
        what = f"scratch of kernel '{step.kernel}' ({loc})"
        given = {"scratch": 0}
        if parts.scratch_bytes:
            given["scratch"] = self.staged(self._scratch_key(step), parts.scratch_bytes, what).address
        if number in self.model.status_slots:
            given["status"] = self._memory["status"].address + 16 * self.model.status_slots[number]
        made = []
        for entry, blocks, threads, lo, hi in parts.launches(facts):
            given |= {"lo": lo, "hi": hi}
            values = facts.values(
                self.device.driver, lambda n: self.address(step.views[n]), self.values, given
            )
            shared = facts.shared_of(entry)
            function = code.function(entry, shared)
            made.append(Launch(function, blocks, threads, values, step.kernel, loc, shared))
        return made

    def _run_graph(self) -> None:
        """Launch the graph for these extents, made at the first time, its addresses brought up to date."""
        key = tuple(self.values[s] for s in self.plan.symbols)
        recorded = self._graphs.get(key)
        if recorded is not None and not self._refresh(recorded):
            self._forget(key)
            recorded = None
        if recorded is None:
            recorded = self._record(key)
        if recorded is not None:
            self.latest = recorded.graph
            recorded.graph.enqueue(self._stream)

    def _record(self, key: tuple[int, ...]) -> _Recorded | None:
        """Make the graph for these extents; None where nothing is launched."""
        self._all_launches()  # scratch is as large now as the greatest of them wants it
        launches = self._all_launches()
        if not any(launches):
            return None
        if len(self._graphs) >= REMEMBERED_GRAPHS:
            self._forget(next(iter(self._graphs)))
        graph = Graph(self.device, *in_order(launches, self.plan.order))
        inputs, outputs = list(self._places.inputs), list(self._places.outputs)
        made = self._graphs[key] = _Recorded(graph, inputs, outputs, self._own_addresses())
        return made

    def _forget(self, key: tuple[int, ...]) -> None:
        """Free a graph, which may be running still."""
        self.device.synchronize(self._stream, self.model.suspects())
        self._graphs.pop(key).graph.free()

    def _all_launches(self) -> list[Sequence[Work]]:
        """The launches of every step of a straight plan, those of loops turn after turn."""
        return [self._launches(step) for step in self.plan.unrolled(self.plan.steps, self.values)]

    def _own_addresses(self) -> tuple[int, ...]:
        scratch = [("scratch", number) for number in sorted({0, *self.plan.scratch})]
        keys = ("arena", "status", "turns", *scratch)
        return tuple(self._memory[k].address if k in self._memory else 0 for k in keys)

    def _refresh(self, recorded: _Recorded) -> bool:
        """Bring the arguments of a graph up to date where inputs, outputs or memory lie elsewhere now.

        False where that cannot be: the graph is no good any more.
        """
        here = self._own_addresses()
        if (recorded.inputs, recorded.outputs, recorded.memory) == (
            self._places.inputs,
            self._places.outputs,
            here,
        ):
            return True
        fresh = [launch for launches in self._all_launches() for launch in launches]
        if self._own_addresses() != here:  # a library wants more room for addresses like these
            fresh = [launch for launches in self._all_launches() for launch in launches]
        if [*map(type, fresh)] != [*map(type, recorded.graph.launches)]:
            return False
        for number, (launch, now) in enumerate(zip(recorded.graph.launches, fresh, strict=True)):
            if launch.take(now) and not recorded.graph.update(number):
                return False
        recorded.inputs, recorded.outputs = list(self._places.inputs), list(self._places.outputs)
        recorded.memory = self._own_addresses()
        return True

    # -- steps one by one ---------------------------------------------------------------------------

    def _walk(self, steps: Sequence[Step]) -> None:
        for step in steps:
            _ACTIONS[type(step)](self, step)

    def _launch(self, step: Run) -> None:
        for launch in self._launches(step):
            launch.enqueue(self.device, self._stream)
            if self._each:
                self.device.synchronize(self._stream, launch.kernel, launch.loc)
        self._mark(step)

    def _bind(self, step: Bind) -> None:
        value = self.values[step.symbol] = self._read(step.source)
        lo, hi = (None if d is None else value_of(d, self.values) for d in (step.lo, step.hi))
        fits = (lo is None or value >= lo) and (hi is None or value <= hi) and value % step.step == 0
        extents = self.plan.late[step.symbol]
        self._demand(fits and all(value_of(d, self.values) >= 0 for d in extents), self._number(step))
        self._mark(step)

    def _require(self, step: Require) -> None:
        lhs, rhs = value_of(step.check.lhs, self.values), value_of(step.check.rhs, self.values)
        self._demand(_HOLDS[step.check.kind](lhs, rhs), self._number(step))

    def _reserve(self, step: Reserve) -> None:
        segment = self.plan.segments[step.segment - 1]
        if not segment.per_thread:  # scratch is made large enough where a kernel is launched
            self._make_room(step.segment - 1, segment.bytes, self._number(step), keep=False)

    def _extend(self, step: Extend) -> None:
        number = self.plan.buffers[step.buffer].segment - 1
        self._make_room(number, step.bytes, self._number(step), keep=step.keep, spare=True)

    def _make_room(self, number: int, wanted: DimLike, step: int, keep: bool, spare: bool = False) -> None:
        """Make a segment hold so many bytes, and half as much again as it did where it grows turn by turn."""
        size, before = value_of(wanted, self.values), self._segments.get(number)
        self._demand(size <= LARGEST_BYTES, step, LIMIT_EXCEEDED)
        if before is not None and before.bytes >= size:
            return
        if before is not None and spare:
            size = max(size, before.bytes + before.bytes // 2)
        output = self.plan.segments[number].output
        if output >= 0:
            made = self._places.made[output] = self._places.allocate(output, size)
            self._places.outputs[output] = made.address
        else:
            made = self.device.alloc(size, "what a run has decided")
        if before is not None:
            if keep:
                self.device.copy(made.address, before.address, before.bytes, self._stream)
            self.device.synchronize(self._stream, self.model.suspects())
        self._segments[number] = made

    def _branch(self, step: Branch) -> None:
        self._mark(step)
        self._walk(step.then if self._read(step.condition) else step.otherwise)

    def _repeat(self, step: Repeat) -> None:
        self._mark(step)
        limit, turn = self._limit(step), 0
        cell = self._memory["turns"].address + 8 * self.plan.turns.index(step.turn)
        while turn < limit:
            self.values[step.turn] = turn
            self.device.store_i64(cell, turn, self._stream)
            self._walk(step.body)
            again = step.again is None or bool(self._read(step.again))
            turn += 1
            self._mark(step)
            if not again:
                break
        self.values.pop(step.turn, None)
        if step.turns is not None:
            self.device.store_i64(self.address(step.turns), turn, self._stream)

    def _limit(self, step: Repeat) -> int:
        if step.start is not None and not self._read(step.start):
            return 0
        if step.count is None:
            return _NO_LIMIT
        if isinstance(step.count, View):
            return self._read(step.count)
        return value_of(step.count, self.values)

    def _read(self, view: View) -> int:
        """An element that kernels wrote; whatever they met meanwhile is raised first."""
        cell = np.zeros(1, view.dtype.numpy)
        self.device.download(cell.ctypes.data, self.address(view), cell.nbytes, self._stream)
        if len(self._statuses):
            self.expect_success()
        else:
            self.device.synchronize(self._stream, self.model.suspects())
        return int(cell[0])

    def _demand(self, holds: bool, step: int, code: int = OUT_OF_RANGE) -> None:
        if not holds:
            raise self.model.error(code, step)

    # -- times --------------------------------------------------------------------------------------

    def _mark(self, step: Step) -> None:
        if self._times is not None:
            self._marks.append((self._number(step), Event.now(self.device, self._stream)))

    def _note_times(self) -> None:
        """Add the time between two marks to the step of the later one."""
        if self._times is None:
            return
        self.device.synchronize(self._stream, self.model.suspects())
        for (_, before), (number, event) in zip(self._marks, self._marks[1:], strict=False):
            self._times[number, 0] += event.nanoseconds_since(before)
            self._times[number, 1] += 1


_WHAT = {"arena": "intermediate results", "status": "statuses", "turns": "loop counters"}
"""What errors call memory."""

_BASES: dict[BufferKind, Callable[[Session, Buffer], int]] = {
    BufferKind.INPUT: Session._input,
    BufferKind.OUTPUT: Session._output,
    BufferKind.ARENA: Session._arena,
    BufferKind.CONST: Session._const,
    BufferKind.STATE: Session._state,
    BufferKind.TURN: Session._turn,
}
"""Where the buffers of each kind lie."""

_ACTIONS: dict[type, Callable[[Session, Any], None]] = {
    Run: Session._launch,
    Sync: lambda session, step: None,  # a stream runs its kernels in order
    Bind: Session._bind,
    Require: Session._require,
    Reserve: Session._reserve,
    Extend: Session._extend,
    Branch: Session._branch,
    Repeat: Session._repeat,
}
"""What each kind of step does."""
