"""Runs on bare addresses, for callers that keep arrays of their own kind and check them themselves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aino_ir.runtime.executable import Executable
from aino_ir.runtime.function import Extents
from aino_ir.runtime.values import Port


class RawCall:
    """An executable without arrays: addresses in, addresses out.

    Whoever calls it vouches for dtypes, shapes, row-major order and alignment.

    Attributes:
        ports: the inputs.
        results: the outputs.
        fixed: what the shapes mean where none of them has symbols, else None.
    """

    def __init__(self, executable: Executable) -> None:
        self._executable = executable
        self._function = executable.function
        self.ports: tuple[Port, ...] = executable.ports
        self.results: tuple[Port, ...] = self._function.results
        static = all(p.static_shape is not None for p in self.ports)
        self.fixed: Extents | None = self.extents([p.static_shape for p in self.ports]) if static else None

    @staticmethod
    def of(executable: Any) -> RawCall | None:
        """The raw call of an executable; None where Python takes part in a run or a run decides extents."""
        if type(executable) is not Executable or executable.function.given.names:
            return None
        return RawCall(executable)

    def extents(self, shapes: Sequence[Any]) -> Extents:
        """What the shapes of the inputs mean for a run; remembered.

        Raises:
            RankMismatch, ExtentMismatch, SymbolOutOfRange ...: they do not fit together.
        """
        return self._executable.extents_of(tuple(shapes))

    def run(self, inputs: list[int], extents: Extents, outputs: list[int]) -> None:
        """Run; `inputs` gets the address of the symbols' values.

        Raises:
            IndexOutOfRange, NativeDivisionByZero ...: what a kernel met, with the node.
        """
        if extents.vector is not None:
            inputs.append(extents.address)
        self._function.native.run(inputs, outputs)
