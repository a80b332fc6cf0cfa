"""Kernels alone on a GPU: whether they are right, and how long they take by events."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from aino_ir.codegen.c.compile import SourceUnit
from aino_ir.codegen.c.unit import print_unit
from aino_ir.codegen.cuda.backend import library_of
from aino_ir.codegen.cuda.cubins import compile_cubins
from aino_ir.codegen.cuda.launch import launch_facts
from aino_ir.codegen.cuda.runtime import device_headers
from aino_ir.codegen.cuda.toolchain import CudaToolchain
from aino_ir.driver.kernel_trials import PATTERN, Trial
from aino_ir.dtypes import DTYPES
from aino_ir.errors.cuda import KernelFailed, LibraryCallFailed
from aino_ir.library_calls import ProductCall
from aino_ir.runtime.cuda.device import Device, Event, Launch, Memory, Stream, Work
from aino_ir.runtime.cuda.library_launch import LibraryLaunch
from aino_ir.runtime.cuda.model import LoadedCode
from aino_ir.runtime.cuda.plan import KernelFacts
from aino_ir.runtime.store import Store
from aino_ir.target import Target

FLUSH_SHARE = 2.0
"""So many times the second cache are written between runs, so that operands come from memory."""

START = 256
"""Where the first trial's data begins; allocations of the driver are aligned to as much."""


@dataclass
class _Placed:
    """A trial on the device.

    Attributes:
        trial: what is tried.
        memory: its operands, results and status.
        host: the same on the host.
        scratch: of its threads, or of the library.
        launches: all its units, or the library's call.
        refusal: why there are no launches.
    """

    trial: Trial
    memory: Memory
    host: np.ndarray[Any, Any]
    scratch: Memory | None = None
    launches: list[Work] = field(default_factory=list)
    refusal: str = ""


class DeviceTimer:
    """Candidates of one kernel on a device; what it allocates goes with `close`.

    Args:
        device: where; it must be current.
        code: the kernels.
        made: a trial of each.
        flush_bytes: so much memory is written between runs, so that operands come from memory.
    """

    def __init__(self, device: Device, code: LoadedCode, made: Sequence[Trial], flush_bytes: int) -> None:
        self.device = device
        self.code = code
        self._stream = Stream.new(device)
        self._flush = device.alloc(flush_bytes, "what clears the cache")
        self._placed = {id(trial): self._place(trial) for trial in made}

    def _place(self, trial: Trial) -> _Placed:
        host = np.full(trial.place(START), PATTERN, np.uint8)
        trial.fill(host)
        memory = self.device.alloc(host.nbytes, "a kernel that is tried")
        placed = _Placed(trial, memory, host)
        views = [memory.address + buffer.offset for buffer in trial.buffers]
        call = trial.kernel.candidate.library
        if call is None:
            self._place_kernel(placed, views)
        else:
            self._place_call(placed, views, call)
        return placed

    def _place_kernel(self, placed: _Placed, views: Sequence[int]) -> None:
        trial = placed.trial
        facts = KernelFacts.of(launch_facts(trial.kernel.function))
        parts = facts.parts(trial.units, trial.scratch_bytes)
        if parts.scratch_bytes:
            placed.scratch = self.device.alloc(parts.scratch_bytes, "its scratch")
        status = placed.memory.address + trial.status
        given = {"status": status, "scratch": placed.scratch.address if placed.scratch else 0}
        name = trial.kernel.function.name
        for entry, blocks, threads, lo, hi in parts.launches(facts):
            given |= {"lo": lo, "hi": hi}
            values = facts.values(self.device.driver, views.__getitem__, trial.bindings, given)
            shared = facts.shared_of(entry)
            function = self.code.function(entry, shared)
            placed.launches.append(Launch(function, blocks, threads, values, name, "", shared))

    def _place_call(self, placed: _Placed, views: Sequence[int], call: ProductCall) -> None:
        trial, name = placed.trial, placed.trial.kernel.function.name
        try:
            product = self.code.libraries.cublas().product(call, trial.bindings, views, name)
        except LibraryCallFailed as failure:
            placed.refusal = failure.message
            return
        if product.workspace_bytes:
            placed.scratch = self.device.alloc(product.workspace_bytes, "a workspace of cuBLAS")
        workspace = placed.scratch.address if placed.scratch else 0
        placed.launches.append(LibraryLaunch(product, views, workspace, name, ""))

    def verdicts(self) -> list[str]:
        """What is wrong with each candidate, or ""."""
        return [self._verdict(placed) for placed in self._placed.values()]

    def _verdict(self, placed: _Placed) -> str:
        if placed.refusal:
            return placed.refusal
        try:
            got = self._left_behind(placed, placed.host)
            wrong = placed.trial.judge(_with_scratch(placed.trial, got))
            call = placed.trial.kernel.candidate.library
            if not wrong and call is not None and call.activation == "relu":
                wrong = self._loses_nan(placed, call)
        except (KernelFailed, LibraryCallFailed) as failure:
            return failure.message
        return wrong

    def _left_behind(self, placed: _Placed, host: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """What a trial leaves behind of this memory."""
        device, stream = self.device, self._stream.handle
        device.upload(placed.memory.address, host.ctypes.data, host.nbytes, stream)
        for launch in placed.launches:
            launch.enqueue(device, stream)
        got = np.empty_like(host)
        device.download(got.ctypes.data, placed.memory.address, host.nbytes, stream)
        device.synchronize(stream, placed.trial.kernel.function.name)
        return got

    def _loses_nan(self, placed: _Placed, call: ProductCall) -> str:
        """What is wrong where a factor is NaN, which no library promises to keep through its ReLU."""
        host, buffers = placed.host.copy(), placed.trial.buffers
        for matrix in (call.first, call.result):
            buffer, dtype = buffers[matrix.view], DTYPES[matrix.dtype].numpy
            stretch = slice(buffer.offset, buffer.offset + buffer.data.nbytes)
            if matrix is call.first:
                host[stretch] = np.full(buffer.data.nbytes // dtype.itemsize, np.nan, dtype).view(np.uint8)
        before, after = host[stretch].view(dtype), self._left_behind(placed, host)[stretch].view(dtype)
        written = before.view(f"u{dtype.itemsize}") != after.view(f"u{dtype.itemsize}")
        return "" if np.isnan(after[written]).all() else "it does not give NaN where a factor is NaN"

    def nanoseconds(self, trials: Sequence[Trial], rounds: int, repeats: int) -> list[list[int]]:
        """Of each trial in each round, the least of its runs; all trials take turns."""
        times: list[list[int]] = [[] for _ in trials]
        for _ in range(rounds):
            for trial, mine in zip(trials, times, strict=True):
                mine.append(min(self._run(self._placed[id(trial)]) for _ in range(repeats)))
        return times

    def _run(self, placed: _Placed) -> int:
        device, stream = self.device, self._stream.handle
        device.fill_words(self._flush.address, 0, self._flush.bytes // 4, stream)
        start = Event.now(device, stream)
        for launch in placed.launches:
            launch.enqueue(device, stream)
        end = Event.now(device, stream)
        device.synchronize(stream, placed.trial.kernel.function.name)
        return end.nanoseconds_since(start)

    def close(self) -> None:
        """Free what was allocated."""
        for placed in self._placed.values():
            placed.memory.free()
            if placed.scratch is not None:
                placed.scratch.free()
        self._flush.free()
        self._stream.free()


def _with_scratch(trial: Trial, data: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """What came back, where threads had their scratch elsewhere."""
    data[trial.scratch :] = PATTERN
    return data


@dataclass(frozen=True)
class DeviceBench:
    """Compiles candidates for a device and runs them there.

    Attributes:
        device: where.
        target: facts of its architecture.
        toolchain, store: what compiles, and where cubins are kept.
    """

    device: Device
    target: Target
    toolchain: CudaToolchain
    store: Store

    @contextmanager
    def open(self, made: Sequence[Trial]) -> Iterator[DeviceTimer]:
        """The candidates of one kernel, a trial of each, ready to run."""
        isa = self.target.isa
        functions = list({trial.kernel.function.name: trial.kernel.function for trial in made}.values())
        units = [SourceUnit(f"k{n}", print_unit([fn], self.target), isa) for n, fn in enumerate(functions)]
        cubins = compile_cubins(units, dict(device_headers()), self.toolchain, self.store)
        library = library_of(units, cubins, str(self.toolchain))
        code = LoadedCode(self.device, library, isa, "candidates")
        with self.device.current():
            timer = DeviceTimer(self.device, code, made, int(FLUSH_SHARE * self.target.l2_bytes))
            try:
                yield timer
            finally:
                timer.close()
