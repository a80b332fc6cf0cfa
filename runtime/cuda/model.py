"""One native function on one GPU: kernels, weights and states on the device, runs on a stream.

The host walks the plan.  Where every step is a launch, all of them make one CUDA graph for each
combination of extents, which is launched as a whole; where steps decide how to go on, kernels are launched
one by one, and the host waits where it must read an element.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from aino_ir.dims import value_of
from aino_ir.errors.base import AinoError
from aino_ir.errors.cuda import NotEnoughSharedMemory
from aino_ir.plan import BufferKind
from aino_ir.runtime.cubins import CubinLibrary
from aino_ir.runtime.cuda.device import Code, Device, Event, Memory, Stream
from aino_ir.runtime.cuda.driver import MAX_DYNAMIC_SHARED_BYTES
from aino_ir.runtime.cuda.library_launch import Libraries
from aino_ir.runtime.cuda.plan import PlanFacts
from aino_ir.runtime.cuda.session import Places, Session
from aino_ir.runtime.native import address_of, status_error

LARGEST_BYTES = 1 << 43
"""Bytes of one tensor, and of all intermediate ones together."""

BAD_SHAPE, LIMIT_EXCEEDED = 4, 3

Allocate = Callable[[int, int], Any]
"""Makes an output whose size the run decides: (slot, bytes) to a thing with `address` and `bytes`."""


class LoadedCode:
    """The cubins of an artifact on one device.

    Args:
        device: where.
        library: the cubins.
        architecture, path: what they are for and where they come from, for errors.

    Attributes:
        libraries: what NVIDIA's libraries do in the place of kernels.
    """

    def __init__(self, device: Device, library: CubinLibrary, architecture: str, path: str) -> None:
        self.device = device
        self.library = library
        with device.current():
            self._modules: list[Code] = [
                device.load(m, architecture, path, library.compiler) for m in library.modules
            ]
        self._functions: dict[str, int] = {}
        self.libraries = Libraries(device)

    def function(self, entry: str, shared: int = 0) -> int:
        """The handle of a kernel whose launches ask for so much shared memory; the device must be current.

        Raises:
            DriverCallFailed: there is no such kernel, or not so much memory.
        """
        found = self._functions.get(entry)
        if found is None:
            module, _ = self.library.entries[entry]
            found = self._functions[entry] = self._modules[module].entry(entry)
            if shared:
                self.device.driver.call("cuFuncSetAttribute", found, MAX_DYNAMIC_SHARED_BYTES, shared)
        return found


class CudaModel:
    """Runs one compiled function; what `NativeModel` is for a CPU.

    Args:
        code: its kernels.
        plan: its steps.
        weights: the weights section from its first constant on.
        steps: loc text of each plan step, for errors.
        demands: what some steps demand of extents, by their number as text.

    Raises:
        NotEnoughSharedMemory: the device has less than a kernel's launches ask for.
        DeviceOutOfMemory: there is no room for weights and states.
    """

    threads = 1
    notes_times = True

    def __init__(
        self,
        code: LoadedCode,
        plan: PlanFacts,
        weights: Any,
        steps: Sequence[str],
        demands: Mapping[str, str],
    ) -> None:
        self.code = code
        self.device = device = code.device
        self.plan = plan
        self.steps = steps
        self.demands = demands
        failing = [plan.numbers[id(s)] for s in plan.launches if plan.kernels[s.kernel].can_fail]
        self.status_slots = {number: slot for slot, number in enumerate(failing)}
        self._idle: dict[int, list[Session]] = {}
        self._lock = threading.Lock()
        self._latest: tuple[int, Event] | None = None
        """Of a model with states: the stream that the last run is on, and its end."""
        self._expect_room()
        with device.current():
            stream = Stream.new(device)
            self.weights = device.alloc(plan.weights, "the weights")
            device.upload(self.weights.address, address_of(weights), plan.weights, stream.handle)
            self.states = [self._state(size, first, stream.handle) for size, first in plan.states]
            device.synchronize(stream.handle)
            self._own_stream = stream

    def _expect_room(self) -> None:
        device = self.device
        for step in self.plan.launches:
            facts = self.plan.kernels[step.kernel]
            if facts.shared > device.shared_bytes:
                raise NotEnoughSharedMemory(
                    loc=self.steps[self.plan.numbers[id(step)]] or None,
                    kernel=step.kernel,
                    wanted=facts.shared,
                    device=device.number,
                    name=device.name,
                    limit=device.shared_bytes,
                    needed=device.isa,
                )

    def _state(self, size: int, first: int | None, stream: int) -> Memory:
        words = -(-size // 4)
        memory = self.device.alloc(4 * words, "a state")
        if first is None:
            self.device.fill_words(memory.address, 0, words, stream)
        else:
            self.device.copy(memory.address, self.weights.address + first, size, stream)
        return memory

    # -- runs ---------------------------------------------------------------------------------------

    def run(self, inputs: list[int], outputs: list[int], times: np.ndarray[Any, Any] | None = None) -> None:
        """Run on host addresses: copies to the device and back; see `NativeModel.run`."""
        plan, device = self.plan, self.device
        symbols = self._entry_symbols(inputs[-1] if plan.entry else 0)
        own = self._own_stream.handle
        with device.current():
            session = self._take(own)
            try:
                ins = [
                    session.staged(("input", n), value_of(b.bytes, symbols)) if b is not None else None
                    for n, b in enumerate(plan.slots(BufferKind.INPUT))
                ]
                for (n, memory), source in zip(enumerate(ins), inputs, strict=False):
                    if memory is not None:
                        size = value_of(plan.slots(BufferKind.INPUT)[n].bytes, symbols)  # type: ignore[union-attr]
                        device.upload(memory.address, source, size, own)
                given = {s.output for s in plan.segments if s.output >= 0}
                outs: list[Any] = [
                    None
                    if b is None or n in given
                    else session.staged(("output", n), value_of(b.bytes, symbols))
                    for n, b in enumerate(plan.slots(BufferKind.OUTPUT))
                ]
                places = Places(
                    [0 if m is None else m.address for m in ins],
                    [0 if m is None else m.address for m in outs],
                    lambda slot, size: device.alloc(size, f"output {slot}"),
                )
                values = self._enqueue(session, places, symbols, own, times)
                kept = self._returned(places, outs, outputs, values, own)
                device.synchronize(own, self.suspects())
                _hand_over(kept, outputs)
                self._tell(outputs, values)
            finally:
                self._put(own, session)

    def run_on_device(
        self,
        inputs: Sequence[int],
        outputs: Sequence[int],
        symbols: Mapping[str, int],
        stream: int,
        allocate: Allocate,
    ) -> dict[str, int]:
        """Run on addresses of this device, on the caller's stream.

        Args:
            inputs, outputs: addresses in order; an output whose size the run decides is 0 here.
            symbols: values of the symbols that are known at entry.
            stream: where all of it happens; results are there when it has come so far.
            allocate: makes the outputs that were 0.

        Returns:
            The values of all symbols.

        Raises:
            IndexOutOfRange, NativeDivisionByZero ...: what a kernel met.  Only models with kernels that can
                meet something make the caller wait for the stream.
        """
        with self.device.current():
            session = self._take(stream)
            try:
                places = Places(list(inputs), list(outputs), allocate)
                return self._enqueue(session, places, dict(symbols), stream, None)
            finally:
                self._put(stream, session)

    def repeat_on(self, stream: int) -> Callable[[], None] | None:
        """What puts the last run on a stream there once more, on the same addresses.

        None where it was not one graph.  Another run on that stream makes it useless.
        """
        with self._lock:
            idle = self._idle.get(stream, [])
            graph = idle[-1].latest if idle else None

        def repeat() -> None:
            with self.device.current():
                graph.enqueue(stream)  # type: ignore[union-attr]

        return None if graph is None else repeat

    def _enqueue(
        self, session: Session, places: Places, symbols: dict[str, int], stream: int, times: Any
    ) -> dict[str, int]:
        """Put a run on a stream; the values of all symbols.

        Runs of a model with states follow each other whatever streams they are on.
        """
        self._check_extents(symbols)
        if self._latest is not None and self._latest[0] != stream:
            self._latest[1].hold(stream)
        session.begin(places, symbols, stream, times)
        session.run()
        if self.states:
            self._latest = stream, Event.now(self.device, stream, timed=False)
        session.expect_success()
        return session.values

    def _entry_symbols(self, address: int) -> dict[str, int]:
        names = self.plan.symbols[: self.plan.entry]
        if not names:
            return {}
        values = (ctypes.c_int64 * len(names)).from_address(address)
        return dict(zip(names, values, strict=True))

    def _check_extents(self, symbols: Mapping[str, int]) -> None:
        for dim, step in self.plan.extents:
            if value_of(dim, symbols) < 0:
                raise self.error(BAD_SHAPE, step)
        for size in self.plan.sizes:
            if value_of(size, symbols) > LARGEST_BYTES:
                raise self.error(LIMIT_EXCEEDED, self.plan.count)

    # -- results on the host ------------------------------------------------------------------------

    def _returned(
        self, places: Places, outs: Sequence[Any], outputs: list[int], symbols: Mapping[str, int], stream: int
    ) -> dict[int, int]:
        """Copy the results to the host; slot -> host memory of those whose size the run has decided."""
        kept = {}
        for slot, buffer in enumerate(self.plan.slots(BufferKind.OUTPUT)):
            if buffer is None:
                continue
            size = value_of(buffer.bytes, symbols)
            target = outputs[slot]
            if outs[slot] is None:
                target = kept[slot] = _host_memory(size)
            self.device.download(target, places.outputs[slot], size, stream)
        return kept

    def _tell(self, outputs: list[int], symbols: Mapping[str, int]) -> None:
        """Leave the values of decided symbols where the caller wants them."""
        names = self.plan.decided
        if names:
            told = (ctypes.c_int64 * len(names)).from_address(outputs[-1])
            told[:] = [symbols.get(n, 0) for n in names]

    # -- sessions -----------------------------------------------------------------------------------

    def _take(self, stream: int) -> Session:
        """A session whose last run was on this stream, so that this one comes after it."""
        with self._lock:
            idle = self._idle.setdefault(stream, [])
            if idle:
                return idle.pop()
        return Session(self)

    def _put(self, stream: int, session: Session) -> None:
        session.end()
        with self._lock:
            self._idle[stream].append(session)

    # -- errors -------------------------------------------------------------------------------------

    def error(self, code: int, step: int) -> AinoError:
        """The error of a status at a step."""
        return status_error(code, step, self.steps, self.demands)

    def suspects(self) -> str:
        """What is named when something failed and nobody knows which kernel it was."""
        names = sorted(self.plan.kernels)
        return names[0] if len(names) == 1 else f"(one of {len(names)}: {', '.join(names[:3])} ...)"

    def close(self) -> None:
        """Free all that is on the device; no run may be under way or follow."""
        with self._lock:
            sessions = [s for idle in self._idle.values() for s in idle]
            self._idle = {}
        for session in sessions:
            session.free()
        for memory in (self.weights, *self.states):
            memory.free()
        self._own_stream.free()


def _host_memory(size: int) -> int:
    """Memory of C's allocator, which `given.Memory` frees."""
    address = _allocate(max(1, size))
    if not address:
        raise MemoryError
    return int(address)


def _hand_over(kept: Mapping[int, int], outputs: Sequence[int]) -> None:
    """Leave addresses of host memory where the caller wants them."""
    for slot, address in kept.items():
        ctypes.c_void_p.from_address(outputs[slot]).value = address


_allocate = ctypes.CDLL(None).malloc
_allocate.argtypes, _allocate.restype = [ctypes.c_size_t], ctypes.c_void_p
