"""Handles of mutable registers, as a loop builder gives them out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

from aino_ir.loops.expr import RegRead, VecType

if TYPE_CHECKING:
    from aino_ir.loops.values import ValueBuilder


@dataclass(frozen=True)
class Reg:
    """A mutable register; `LoopBuilder.set` assigns it."""

    name: str
    type: VecType
    _builder: ValueBuilder

    def read(self) -> RegRead:
        """Its present value; pin it with `b.let` if it must outlive the next set."""
        return RegRead(self.name, self.type, self._builder.register_version(self.name))


@dataclass(frozen=True)
class RegTile:
    """A block of registers; `tile[i, j]` is one of them, or `tile[i]` when it has one axis."""

    shape: tuple[int, ...]
    registers: dict[tuple[int, ...], Reg]

    def __getitem__(self, place: int | tuple[int, ...]) -> Reg:
        return self.registers[place if isinstance(place, tuple) else (place,)]

    def __iter__(self) -> Iterator[Reg]:
        return (self.registers[place] for place in product(*map(range, self.shape)))

    def __len__(self) -> int:
        return len(self.registers)
