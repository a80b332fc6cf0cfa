"""The state of one call of a kernel in the loop interpreter: names, buffers, threads that meet."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from aino_ir.dims import value_of
from aino_ir.dtypes import DType
from aino_ir.errors.loops import LoopArgumentError, LoopRunError
from aino_ir.loops.evaluate import round_array
from aino_ir.loops.signals import Signal, Watch
from aino_ir.loops.stmt import (
    THREAD,
    LoopFn,
    Status,
    TileMap,
)

Array = np.ndarray[Any, Any]

Together = Callable[[list[Array]], list[Array]]
"""Operands of all threads of a team, stacked -> their results."""

_GARBAGE_BYTE = 0xA5


class Outcome(NamedTuple):
    """What a kernel call ended with: a status, and the value recorded with it."""

    status: Status
    value: int = 0


class Failed(Exception):
    """A `Fail` was reached."""

    def __init__(self, code: int, value: int) -> None:
        self.outcome = Outcome(Status(code), value)


class Machine:
    """The state of one call: dims, pinned values and registers, buffers."""

    def __init__(self, fn: LoopFn, symbols: dict[str, int]) -> None:
        self.name = fn.name
        self.fn = fn
        self.dims = symbols
        self.values: dict[str, Any] = {}
        self.buffers: dict[str, Array] = {}
        self.meeting: threading.Barrier | None = None
        self.warp: Team | None = None
        self.group: Team | None = None
        self.signals: dict[str, list[Signal]] = {}
        self.maps: dict[str, TileMap] = {}
        self.watch: Watch | None = None
        self.copies: list[list[Callable[[], None]]] = [[]]  # groups that have not arrived, the open one last

    def bind(self, views: Sequence[Array]) -> None:
        """Attach the arguments, cut to their declared sizes."""
        extra = len(views) - len(self.fn.params)
        if extra not in (0, int(self.fn.can_fail)):
            raise LoopArgumentError(
                kernel=self.name, name="views", expected=f"{len(self.fn.params)} arrays", got=f"{len(views)}"
            )
        for param, view in zip(self.fn.params, views, strict=False):
            size = value_of(param.size, self.dims)
            if view.ndim != 1 or view.dtype != param.dtype.numpy or view.size < size:
                raise LoopArgumentError(
                    kernel=self.name,
                    name=param.name,
                    expected=f"{param.dtype}[{size}]",
                    got=f"{view.dtype}{list(view.shape)}",
                )
            self.buffers[param.name] = view[:size]

    def thread(
        self, number: int, meeting: threading.Barrier, warp: Team, group: Team, watch: Watch
    ) -> Machine:
        """The state of one thread of a unit: names of its own, buffers in common."""
        own = Machine(self.fn, {**self.dims, THREAD: number})
        own.values, own.buffers, own.meeting = dict(self.values), self.buffers, meeting
        own.warp, own.group, own.watch = warp, group, watch
        own.signals, own.maps = self.signals, self.maps
        return own

    def fault(self, what: str) -> LoopRunError:
        """An error about this kernel."""
        return LoopRunError(kernel=self.name, what=what)


class Team:
    """Threads that compute together: the last one that comes computes for all."""

    def __init__(self, threads: int) -> None:
        self.given: list[tuple[Array, ...]] = [()] * threads
        self.results: list[Array] = []
        self.apply: Together | None = None
        self.meeting = threading.Barrier(threads, self._compute)

    def _compute(self) -> None:
        assert self.apply is not None
        together = [np.stack(of_all) for of_all in zip(*self.given, strict=True)]
        with np.errstate(all="ignore"):
            self.results = self.apply(together)

    def meet(self, apply: Together, number: int, operands: tuple[Array, ...]) -> list[Array]:
        """The results for one thread of what all operands together give."""
        self.given[number], self.apply = operands, apply
        self.meeting.wait()
        return [r[number] for r in self.results]


def to_storage(value: Array, target: np.dtype[Any]) -> Array:
    """A compute value as elements of a storage dtype: floats rounded half to even, integers wrapped."""
    value = np.asarray(value)
    if value.dtype == target:
        return value
    from aino_ir.dtypes import dtype_of

    storage = dtype_of(target)
    if storage is not None and storage.is_integer and storage.bits < 8:
        value = round_array(value, storage)
    return value.astype(target)


def garbage(dtype: DType, size: int) -> Array:
    """An array as undefined memory may look: NaN where there is one, else an odd pattern."""
    if dtype.is_float and dtype.name != "f4e2m1":
        return np.full(size, np.nan, np.float32).astype(dtype.numpy)
    if dtype.is_bool:
        return np.ones(size, np.bool_)
    filler = np.full(size * dtype.bytes, _GARBAGE_BYTE, np.uint8).view(np.dtype(f"i{dtype.bytes}"))
    return to_storage(filler, dtype.numpy)
