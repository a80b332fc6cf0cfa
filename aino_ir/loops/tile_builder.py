"""The part of the loop builder that makes signals and copies of tiles (`aino_ir.loops.signals`)."""

from __future__ import annotations

from collections.abc import Sequence

from aino_ir.dims import DimLike
from aino_ir.loops.stmt import (
    Access,
    Arrive,
    AwaitSignal,
    CopyTile,
    Registers,
    Signals,
    StartSignals,
    TileMap,
)
from aino_ir.loops.values import ValueBuilder


class TileBuilder(ValueBuilder):
    """Signals, maps of parameters and copies of tiles; see `LoopBuilder`."""

    def signals(self, name: str, count: int, arrivals: int) -> str:
        """Declare signals of a unit, at which so many threads arrive in each phase; returns a unique name."""
        name = self.unique(name)
        with self.prologue():
            self._emit(Signals(name, count, arrivals))
        return name

    def start_signals(self, signals: str) -> None:
        """Put signals into their first phase; a barrier must follow before any thread uses them."""
        self._emit(StartSignals(signals))

    def arrive(self, signals: str, index: DimLike, bytes: int = 0) -> None:
        """Arrive at a signal, and announce so many bytes of tiles; see `Arrive`."""
        self._emit(Arrive(signals, self.dim(index), bytes))

    def await_signal(self, signals: str, index: DimLike, parity: DimLike) -> None:
        """Wait till a signal's phase of a parity is over; see `AwaitSignal`."""
        self._emit(AwaitSignal(signals, self.dim(index), self.dim(parity)))

    def tile_map(
        self,
        name: str,
        buffer: str,
        extents: Sequence[DimLike],
        strides: Sequence[DimLike],
        lines: int,
        *,
        rounded: bool = False,
    ) -> str:
        """Say where a parameter's elements lie, for copies of tiles (`TileMap`); returns a unique name."""
        name = self.unique(name)
        self._buffer(buffer, "load from", Access.WRITE)
        with self.prologue():
            sizes = [tuple(map(self.dim, dims)) for dims in (extents, strides)]
            for size in (d for dims in sizes for d in dims):
                self._refuse_local(size, f"sizes the map {name}")
            self._emit(TileMap(name, buffer, sizes[0], sizes[1], lines, rounded))
        return name

    def copy_tile(
        self, target: str, offset: DimLike, map: str, at: Sequence[DimLike], signals: str, index: DimLike
    ) -> None:
        """Begin to copy a tile to a shared buffer; see `CopyTile`."""
        self._buffer(target, "store to", Access.READ)
        coordinates = tuple([self.dim(c) for c in at])
        self._emit(CopyTile(target, self.dim(offset), map, coordinates, signals, self.dim(index)))

    def registers(self, count: int, *, more: bool) -> None:
        """The threads of this group have so many registers from here on; see `Registers`."""
        self._emit(Registers(count, more))
