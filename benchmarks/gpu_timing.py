"""Times on a GPU, by events on a stream, and what a copy on the device reaches."""

from __future__ import annotations

import shutil
import statistics
import subprocess
from collections.abc import Callable
from typing import Any

import numpy as np

from aino_ir.dtypes import DTYPES
from aino_ir.runtime.cuda.device import Device, Event, Stream, open_device
from aino_ir.runtime.cuda.tensors import DeviceArray

BATCHES = 7
BATCH_MS = 30.0
COPIED = 256 << 20


def new_stream(device: Device) -> Stream:
    """A stream of its own."""
    with device.current():
        return Stream.new(device)


def placed(device: Device, value: np.ndarray[Any, Any], dtype: str, stream: int) -> DeviceArray:
    """An array on the device."""
    with device.current():
        memory = device.alloc(value.nbytes, "an input")
        device.upload(memory.address, value.ctypes.data, value.nbytes, stream)
        device.synchronize(stream)
    return DeviceArray(memory, value.shape, dtype, device.number)


def milliseconds(device: Device, stream: int, run: Callable[[], None], dry: bool) -> float:
    """The median over batches of the mean time of a run, after one that warms up; in a dry run, of one."""
    with device.current():
        first = _batch(device, stream, run, 1 if dry else 3)
        count = 1 if dry else max(1, min(1000, int(BATCH_MS / max(first, 1e-3))))
        times = [_batch(device, stream, run, count) for _ in range(1 if dry else 1 + BATCHES)]
        return statistics.median(times if dry else times[1:])


def _batch(device: Device, stream: int, run: Callable[[], None], count: int) -> float:
    start = Event.now(device, stream)
    for _ in range(count):
        run()
    end = Event.now(device, stream)
    device.synchronize(stream)
    return end.nanoseconds_since(start) / 1e6 / count


def copy_speed(size: int = COPIED) -> float:
    """GB/s that a copy on the device reads and writes."""
    device = open_device()
    stream = new_stream(device)
    with device.current():
        source, target = (device.alloc(size, "a copy") for _ in range(2))
        device.fill_words(source.address, 0, size // 4, stream.handle)

    def run() -> None:
        device.copy(target.address, source.address, size, stream.handle)

    ms = milliseconds(device, stream.handle, run, size < COPIED)
    source.free()
    target.free()
    return 2 * size / max(ms, 1e-6) / 1e6


def fetched(device: Device, array: DeviceArray, stream: int) -> np.ndarray[Any, Any]:
    """What lies on the device."""
    value = np.empty(array.shape, DTYPES[array.dtype].numpy)
    with device.current():
        device.download(value.ctypes.data, array.memory.address, value.nbytes, stream)
        device.synchronize(stream)
    return value


def clocks() -> dict[str, Any]:
    """Clock, power and temperature of the first device, as nvidia-smi says; nothing where there is none."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return {}
    names = ("clocks.sm", "power.draw", "temperature.gpu")
    command = [program, "--id=0", f"--query-gpu={','.join(names)}", "--format=csv,noheader,nounits"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False).stdout
    except subprocess.TimeoutExpired:
        return {}
    return dict(zip(names, (text.strip() for text in told.split(",")), strict=False))


def speeds(moved: int, flops: int, ms: float) -> dict[str, float]:
    """GB/s and TFLOP/s of a run that moves so many bytes and does so many operations."""
    found = {}
    seconds = max(ms, 1e-6) / 1e3
    if moved:
        found["GB/s"] = round(moved / seconds / 1e9, 1)
    if flops:
        found["TFLOP/s"] = round(flops / seconds / 1e12, 2)
    return found
