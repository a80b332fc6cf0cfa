"""Signals that threads of a unit wait for, and copies of tiles, which end in signals (mbarriers and TMA).

A signal goes through one phase after the other.  A phase is over when as many threads as the signal has
`arrivals` have arrived at it, and all bytes that these announced have come; then the next one begins.
Whoever waits says the parity of the phase that must be over, 0 for the first: of a signal that has just been
started, the phase before the first (parity 1) counts as over.  What a thread, with its warp, did before it
arrived is done for whoever has waited.

A tile has lines of 128 bytes, which lie in shared memory as products of groups want them
(`aino_ir.loops.groups`).

Here they have their meaning for the loop interpreter; printers map them to instructions.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from aino_ir.loops.groups import LINE_BYTES, swapped
from aino_ir.loops.warp import rounded_tf32

Array = np.ndarray[Any, Any]

MOST_AXES = 5
"""Of a map of tiles."""

MOST_LINES = 256
"""Of a tile."""

MOST_ARRIVALS = (1 << 20) - 1

SIGNAL_BYTES = 8
"""Of shared memory."""

STRIDE_BYTES = 16
"""What strides of a map are multiples of."""

REGISTERS = range(24, 257, 8)
"""Registers that a thread may ask for."""

_PATIENCE = 0.2
"""Seconds after which a thread that waits looks whether anybody is left who could wake it."""


class NeverOver(Exception):
    """A phase that cannot end any more, or that ended wrongly."""


class Watch:
    """Who of a unit's threads may still do something.

    Args:
        threads: how many there are.
        meetings: where they wait apart from signals.
    """

    def __init__(self, threads: int, meetings: Iterable[threading.Barrier]) -> None:
        self.signals: list[Signal] = []
        self._left = threads
        self._meetings = list(meetings)
        self._lock = threading.Lock()

    def leave(self) -> None:
        """A thread has come to its end."""
        with self._lock:
            self._left -= 1

    def nobody_left(self) -> bool:
        """Whether all threads that have not left wait."""
        with self._lock:
            waiting = sum(s.sleepers for s in self.signals) + sum(m.n_waiting for m in self._meetings)
            return waiting >= self._left

    def abort(self) -> None:
        """Wake everybody, for good."""
        for signal in self.signals:
            signal.abort()


class Signal:
    """One signal.

    Args:
        arrivals: threads that arrive in a phase.

    Attributes:
        past: phases that are over.
        sleepers: threads that wait for the present one.
    """

    def __init__(self, arrivals: int) -> None:
        self._arrivals = arrivals
        self._changed = threading.Condition()
        self._broken = False
        self.start()

    def start(self) -> None:
        """Begin with the first phase."""
        self.past = self.sleepers = self._bytes = 0
        self._left = self._arrivals
        self._coming: list[tuple[int, Callable[[], None]]] = []

    def arrive(self, announced: int) -> None:
        """One thread has come.

        Raises:
            NeverOver: more threads come than arrive in a phase, or more bytes than they announced.
        """
        with self._changed:
            if self._left == 0:
                raise NeverOver(f"more than {self._arrivals} threads arrive in a phase")
            self._left -= 1
            self._bytes += announced
            self._settle()

    def come(self, size: int, land: Callable[[], None]) -> None:
        """A copy of so many bytes is on its way.

        Raises:
            NeverOver: the threads have announced fewer.
        """
        with self._changed:
            self._coming.append((size, land))
            self._settle()

    def _settle(self) -> None:
        came = sum(size for size, _ in self._coming)
        if self._left:
            return
        if came > self._bytes:
            raise NeverOver(f"{came} bytes come where {self._bytes} were announced")
        if came == self._bytes:
            for _, land in self._coming:
                land()
            self.past += 1
            self.sleepers = self._bytes = 0
            self._left, self._coming = self._arrivals, []
            self._changed.notify_all()

    def wait(self, parity: int, watch: Watch) -> None:
        """Wait till the phase of a parity is over.

        Raises:
            NeverOver: all other threads wait too, or have left.
            threading.BrokenBarrierError: another thread has failed.
        """
        with self._changed:
            while self.past % 2 == parity and not self._broken:
                self.sleepers += 1
                present, woken = self.past, self._changed.wait(_PATIENCE)
                if self.past == present and not self._broken:
                    if not woken and watch.nobody_left():
                        raise NeverOver("a thread waits for a signal, and no thread is left to give it")
                    self.sleepers -= 1
            if self._broken:
                raise threading.BrokenBarrierError

    def abort(self) -> None:
        """Wake everybody, for good."""
        with self._changed:
            self._broken = True
            self._changed.notify_all()


def tile_of(
    source: Array,
    extents: Sequence[int],
    strides: Sequence[int],
    lines: int,
    at: Sequence[int],
    rounded: bool,
) -> Array:
    """A tile as it comes to lie in shared memory, zeros where it is outside of the extents.

    Args:
        source: the parameter, flat.
        extents, strides, lines, rounded: of the map; the stride of the innermost axis is 1.
        at: coordinates of the first element.
    """
    terms = LINE_BYTES // source.itemsize
    found = np.zeros((lines, terms), source.dtype)
    steps = (1, *strides)
    if all(0 <= c < e for c, e in list(zip(at, extents, strict=True))[2:]):
        base = sum(c * s for c, s in list(zip(at, steps, strict=True))[2:])
        across, down = (at[axis] + np.arange(count) for axis, count in enumerate((terms, lines)))
        present = [(0 <= c) & (c < extents[axis]) for axis, c in enumerate((across, down))]
        places = base + across[present[0]][None, :] + down[present[1]][:, None] * steps[1]
        found[np.ix_(present[1], present[0])] = source[places]
    if rounded:
        found = rounded_tf32(found.view(np.uint32)).view(np.float32)
    return swapped(found).reshape(-1)
