"""CUDA graphs: launches with their edges, and what a stream was given while it was captured."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Sequence

from aino_ir.runtime.cuda.device import Device, Owned, Stream, Work

NODE_BYTES = 1 << 10
"""What a node of a graph takes on a device, about."""

RELAXED = 2
"""CU_STREAM_CAPTURE_MODE_RELAXED: whoever is captured may load code and ask for memory meanwhile."""


class Graph(Owned):
    """Launches as one graph, instantiated; the handle is the executable one."""

    destroyer = "cuGraphExecDestroy"

    def __init__(self, device: Device, launches: Sequence[Work], after: Sequence[Sequence[int]]) -> None:
        """Make the graph; the device must be current.

        Args:
            device: where it runs.
            launches: its nodes.
            after: for each, the places of the earlier ones that it follows.

        Raises:
            KernelFailed, LibraryCallFailed: a launch is refused.
            DeviceOutOfMemory: there is no room for the graph.
            DriverCallFailed: the driver refuses it.
        """
        super().__init__(device, 0)
        driver, self.launches = device.driver, list(launches)
        self._graph = driver.handle("cuGraphCreate", 0)
        self._nodes: list[int] = []
        for launch, places in zip(self.launches, after, strict=True):
            count = len(places)
            before = (ctypes.c_void_p * count)(*(self._nodes[n] for n in places))
            self._nodes.append(launch.add_to(device, self._graph, before, count))
        made = ctypes.c_void_p()
        status = driver.status("cuGraphInstantiateWithFlags", ctypes.byref(made), self._graph, 0)
        if status:
            what = f"a graph of {len(self.launches)} launches"
            raise device.refusal("cuGraphInstantiate", status, what, NODE_BYTES * len(self.launches))
        self.handle = made.value or 0

    def update(self, number: int) -> bool:
        """Take over the arguments of a launch, from the next run on; False: the graph must be made anew.

        Raises:
            KernelFailed, LibraryCallFailed: the launch is refused.
        """
        return self.launches[number].update_in(self.device, self.handle, self._nodes[number])

    def enqueue(self, stream: int) -> None:
        """Run it on a stream.

        Raises:
            DriverCallFailed: the driver refuses.
        """
        self.device.driver.call("cuGraphLaunch", self.handle, stream)

    def free(self) -> None:
        """Let go of the graph and of what was instantiated."""
        super().free()
        graph, self._graph = getattr(self, "_graph", 0), 0
        if graph:
            self.device.driver.status("cuGraphDestroy", graph)

    def __del__(self, finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        if (getattr(self, "handle", 0) or getattr(self, "_graph", 0)) and not finalizing():
            self.free()


def in_order(
    launches: Sequence[Sequence[Work]], order: Sequence[Sequence[int]] | None
) -> tuple[list[Work], list[list[int]]]:
    """All launches of the steps of a plan, and for each the places of those that it follows.

    Args:
        launches: of each step, one after the other.
        order: see `PlanFacts.order`.
    """
    flat: list[Work] = []
    after: list[list[int]] = []
    last: list[list[int]] = []  # of each step: its last launch, or, where it has none, what it follows
    for number, mine in enumerate(launches):
        before = order[number] if order is not None else range(max(0, number - 1), number)
        ends = sorted({end for earlier in before for end in last[earlier]})
        for launch in mine:
            after.append(ends)
            ends = [len(flat)]
            flat.append(launch)
        last.append(ends)
    return flat, after


class Captured(Owned):
    """What was put on a stream, as a graph that others take in; the device must be current.

    Args:
        device: where.
        work: puts it on the stream that it is given.

    Raises:
        DriverCallFailed: the driver refuses.
    """

    destroyer = "cuGraphDestroy"

    def __init__(self, device: Device, work: Callable[[int], None]) -> None:
        super().__init__(device, 0)
        stream, made = Stream.new(device), ctypes.c_void_p()
        device.driver.call("cuStreamBeginCapture_v2", stream.handle, RELAXED)
        try:
            work(stream.handle)
        except BaseException:
            device.driver.status("cuStreamEndCapture", stream.handle, ctypes.byref(made))
            self.handle = made.value or 0
            self.free()
            raise
        device.driver.call("cuStreamEndCapture", stream.handle, ctypes.byref(made))
        self.handle = made.value or 0
