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
    Task,
    WorkStream,
    number_of,
)
from aino_ir.codegen.cuda.emulated.results import (
    CAPTURE_INVALIDATED,
    CAPTURE_UNSUPPORTED,
    ILLEGAL_STATE,
    INVALID_HANDLE,
    INVALID_VALUE,
    UPDATE_FAILURE,
)


@dataclass
class RecordedEvent:
    """A point in a stream, and the milliseconds of all kernels that ran before it."""

    happened: bool = False
    time: float = 0.0
    stream: WorkStream | None = None


@dataclass
class GraphNode:
    """What a node of a graph does: a kernel, or all of a graph within the graph, in order.

    Attributes:
        tasks: what runs.
        is_kernel: whether it is a single kernel, whose arguments may be exchanged.
    """

    tasks: list[Task]
    is_kernel: bool


@dataclass
class RecordedGraph:
    """Handle of each node -> those of the nodes that it follows."""

    nodes: dict[int, list[int]] = field(default_factory=dict)


@dataclass
class ExecutableGraph:
    """An instantiated graph: nodes by their handles, in the order in which they run."""

    nodes: dict[int, GraphNode]


class StreamFunctions(Machine):
    """The driver's functions for streams and events, and those that launch."""

    def _cuStreamCreate(self, stream: Any, flags: int) -> int:
        stream._obj.value = self._new(WorkStream())
        return 0

    def _cuStreamSynchronize(self, stream: Any) -> int:
        found = self._stream(stream)
        if found is None:
            return INVALID_HANDLE
        if found.captured is not None:
            found.spoilt = True
            return CAPTURE_UNSUPPORTED
        self._drain(found)
        return self._broken

    def _cuStreamBeginCapture_v2(self, stream: Any, mode: int) -> int:
        found = self._get(stream, WorkStream)
        if found is None:
            return INVALID_HANDLE
        if found.captured is not None or not 0 <= mode <= 2:
            return ILLEGAL_STATE
        found.captured, found.spoilt = [], False
        return 0

    def _cuStreamEndCapture(self, stream: Any, graph: Any) -> int:
        found = self._get(stream, WorkStream)
        if found is None:
            return INVALID_HANDLE
        if found.captured is None:
            return ILLEGAL_STATE
        tasks, found.captured = found.captured, None
        if found.spoilt:
            return CAPTURE_INVALIDATED
        made = RecordedGraph()
        for task in tasks:
            before = list(made.nodes)[-1:]
            made.nodes[self._new(GraphNode([task], is_kernel=False))] = before
        graph._obj.value = self._new(made)
        return 0

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
        return self._add_node(node, graph, before, count, self._kernel_node(params._obj))

    def _cuGraphAddChildGraphNode(self, node: Any, graph: Any, before: Any, count: int, inner: Any) -> int:
        return self._add_node(node, graph, before, count, self._graph_node(inner))

    def _add_node(self, node: Any, graph: Any, before: Any, count: int, made: GraphNode | int) -> int:
        found = self._get(graph, RecordedGraph)
        edges = [int(handle or 0) for handle in list(before)[:count]]
        if found is None or not set(edges) <= found.nodes.keys():
            return INVALID_HANDLE
        if isinstance(made, int):
            return made
        node._obj.value = self._new(made)
        found.nodes[node._obj.value] = edges
        return 0

    def _kernel_node(self, facts: Any) -> GraphNode | int:
        size = tuple(facts.grid), tuple(facts.block), facts.shared_bytes
        call = self._call_of(facts.func, *size, facts.params)
        return call if isinstance(call, int) else GraphNode([lambda: self._run(call)], is_kernel=True)

    def _graph_node(self, inner: Any) -> GraphNode | int:
        """A copy of a graph as a node: the graph may go."""
        found = self._get(inner, RecordedGraph)
        if found is None:
            return INVALID_HANDLE
        tasks = [task for node in _latest_first(found.nodes) for task in self._handles[node].tasks]
        return GraphNode(tasks, is_kernel=False)

    def _cuGraphInstantiateWithFlags(self, executable: Any, graph: Any, flags: int) -> int:
        found = self._get(graph, RecordedGraph)
        if found is None:
            return INVALID_HANDLE
        nodes = {node: self._handles[node] for node in _latest_first(found.nodes)}
        executable._obj.value = self._new(ExecutableGraph(nodes))
        return 0

    def _cuGraphExecKernelNodeSetParams_v2(self, executable: Any, node: Any, params: Any) -> int:
        return self._exchange(executable, node, self._kernel_node(params._obj))

    def _cuGraphExecChildGraphNodeSetParams(self, executable: Any, node: Any, inner: Any) -> int:
        return self._exchange(executable, node, self._graph_node(inner))

    def _exchange(self, executable: Any, node: Any, made: GraphNode | int) -> int:
        """Put another node of the same form into an instantiated graph."""
        found, number = self._get(executable, ExecutableGraph), number_of(node)
        if found is None or number not in found.nodes:
            return INVALID_HANDLE
        if isinstance(made, int):
            return made
        before = found.nodes[number]
        if (before.is_kernel, len(before.tasks)) != (made.is_kernel, len(made.tasks)):
            return UPDATE_FAILURE
        found.nodes[number] = made
        return 0

    def _cuGraphLaunch(self, executable: Any, stream: Any) -> int:
        found = self._get(executable, ExecutableGraph)
        if found is None:
            return INVALID_HANDLE
        tasks = [task for node in found.nodes.values() for task in node.tasks]

        def run() -> None:
            for task in tasks:
                task()

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
