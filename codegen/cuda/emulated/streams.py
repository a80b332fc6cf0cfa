"""Streams, events and launches, one by one or as graphs."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from aino_ir.codegen.cuda.emulated.machine import (
    ARGUMENT_BYTES,
    KernelCall,
    KernelFunction,
    Machine,
    WorkStream,
    number_of,
)
from aino_ir.codegen.cuda.emulated.results import INVALID_HANDLE, INVALID_VALUE


@dataclass
class RecordedEvent:
    """A point in a stream, and the milliseconds of all kernels that ran before it."""

    happened: bool = False
    time: float = 0.0
    stream: WorkStream | None = None


@dataclass
class GraphNode:
    """A launch in a graph."""

    call: KernelCall


@dataclass
class RecordedGraph:
    """Handle of each node -> those of the nodes that it follows."""

    nodes: dict[int, list[int]] = field(default_factory=dict)


@dataclass
class ExecutableGraph:
    """An instantiated graph: launches by the handles of their nodes, in the order in which they run."""

    calls: dict[int, KernelCall]


class StreamFunctions(Machine):
    """The driver's functions for streams and events, and those that launch."""

    def _cuStreamCreate(self, stream: Any, flags: int) -> int:
        stream._obj.value = self._new(WorkStream())
        return 0

    def _cuStreamSynchronize(self, stream: Any) -> int:
        found = self._stream(stream)
        if found is None:
            return INVALID_HANDLE
        self._drain(found)
        return self._broken

    def _cuStreamDestroy_v2(self, stream: Any) -> int:
        found = self._get(stream, WorkStream)
        if found is None:
            return INVALID_HANDLE
        self._drain(found)
        del self._handles[number_of(stream)]
        return 0

    def _cuEventCreate(self, event: Any, flags: int) -> int:
        event._obj.value = self._new(RecordedEvent())
        return 0

    def _cuEventRecord(self, event: Any, stream: Any) -> int:
        found = self._get(event, RecordedEvent)
        if found is None:
            return INVALID_HANDLE

        def happen() -> None:
            found.happened, found.time = True, self._clock

        found.happened, found.stream = False, self._stream(stream)
        return self._enqueue(stream, happen)

    def _cuStreamWaitEvent(self, stream: Any, event: Any, flags: int) -> int:
        found = self._get(event, RecordedEvent)
        if found is None:
            return INVALID_HANDLE

        def wait() -> None:
            while found.stream is not None and found.stream.work and not found.happened:
                found.stream.work.pop(0)()

        return self._enqueue(stream, wait)

    def _cuEventSynchronize(self, event: Any) -> int:
        self.finish()
        return self._broken if self._get(event, RecordedEvent) else INVALID_HANDLE

    def _cuEventElapsedTime(self, milliseconds: Any, start: Any, end: Any) -> int:
        """As if every kernel took a millisecond, or as long as `durations` says."""
        events = self._get(start, RecordedEvent), self._get(end, RecordedEvent)
        if not all(e is not None and e.happened for e in events):
            return INVALID_HANDLE
        milliseconds._obj.value = events[1].time - events[0].time
        return 0

    def _cuEventDestroy_v2(self, event: Any) -> int:
        return 0 if self._handles.pop(number_of(event), None) else INVALID_HANDLE

    def _call_of(
        self, function: Any, blocks: Sequence[int], threads: Sequence[int], shared: int, values: Any
    ) -> KernelCall | int:
        found = self._get(function, KernelFunction)
        if found is None:
            return INVALID_HANDLE
        if not all(0 < n < 1 << 31 for n in blocks) or not 0 < threads[0] <= found.threads:
            return INVALID_VALUE
        if shared != found.shared or shared > found.allowed:
            return INVALID_VALUE
        count = len(found.kinds)
        pointers = (ctypes.c_void_p * count).from_address(number_of(values))
        given = [
            ctypes.string_at(pointer or 0, ARGUMENT_BYTES[kind])
            for kind, pointer in zip(found.kinds, pointers, strict=True)
        ]
        return KernelCall(found, blocks[0], threads[0], given)

    def _cuLaunchKernel(self, function: Any, *rest: Any) -> int:
        gx, gy, gz, bx, by, bz, shared, stream, values, _extra = rest
        call = self._call_of(function, (gx, gy, gz), (bx, by, bz), shared, ctypes.addressof(values))
        if isinstance(call, int):
            return call
        return self._enqueue(stream, lambda: self._run(call))

    def _cuGraphCreate(self, graph: Any, flags: int) -> int:
        graph._obj.value = self._new(RecordedGraph())
        return 0

    def _cuGraphDestroy(self, graph: Any) -> int:
        found = self._get(graph, RecordedGraph)
        if found is None:
            return INVALID_HANDLE
        for node in found.nodes:
            self._handles.pop(node, None)
        del self._handles[number_of(graph)]
        return 0

    def _cuGraphAddKernelNode_v2(self, node: Any, graph: Any, before: Any, count: int, params: Any) -> int:
        found = self._get(graph, RecordedGraph)
        edges = [int(handle or 0) for handle in list(before)[:count]]
        if found is None or not set(edges) <= found.nodes.keys():
            return INVALID_HANDLE
        facts = params._obj
        size = tuple(facts.grid), tuple(facts.block), facts.shared_bytes
        call = self._call_of(facts.func, *size, facts.params)
        if isinstance(call, int):
            return call
        node._obj.value = self._new(GraphNode(call))
        found.nodes[node._obj.value] = edges
        return 0

    def _cuGraphInstantiateWithFlags(self, executable: Any, graph: Any, flags: int) -> int:
        found = self._get(graph, RecordedGraph)
        if found is None:
            return INVALID_HANDLE
        calls = {node: self._handles[node].call for node in _latest_first(found.nodes)}
        executable._obj.value = self._new(ExecutableGraph(calls))
        return 0

    def _cuGraphExecKernelNodeSetParams_v2(self, executable: Any, node: Any, params: Any) -> int:
        found, facts = self._get(executable, ExecutableGraph), params._obj
        if found is None or number_of(node) not in found.calls:
            return INVALID_HANDLE
        size = tuple(facts.grid), tuple(facts.block), facts.shared_bytes
        call = self._call_of(facts.func, *size, facts.params)
        if isinstance(call, int):
            return call
        found.calls[number_of(node)] = call
        return 0

    def _cuGraphLaunch(self, executable: Any, stream: Any) -> int:
        found = self._get(executable, ExecutableGraph)
        if found is None:
            return INVALID_HANDLE
        calls = list(found.calls.values())

        def run() -> None:
            for call in calls:
                self._run(call)

        return self._enqueue(stream, run)

    def _cuGraphExecDestroy(self, executable: Any) -> int:
        return 0 if self._handles.pop(number_of(executable), None) else INVALID_HANDLE


def _latest_first(nodes: dict[int, list[int]]) -> list[int]:
    """The nodes in an order that their edges allow, as far from the order of their making as may be.

    Whatever relies on an edge that is not there runs too early.
    """
    waiting = {node: set(before) for node, before in nodes.items()}
    order: list[int] = []
    while waiting:
        node = max(n for n, before in waiting.items() if not before)
        order.append(node)
        del waiting[node]
        for before in waiting.values():
            before.discard(node)
    return order
