"""Values of the shape symbols of a run, from the shapes of its inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from aino_ir.dims import parse_dim
from aino_ir.runtime.values import Port
from aino_ir.symbols import Check, Symbols


class SymbolBinding:
    """Binds symbols and runs the entry checks.

    Args:
        names: symbols in the order of the native model's vector.
        table: the symbol table with bounds and checks.
        ports: the inputs.
    """

    def __init__(self, names: Sequence[str], table: Symbols, ports: Sequence[Port]) -> None:
        self.names = tuple(names)
        self._table = table
        self._ports = list(ports)

    @staticmethod
    def from_details(details: Mapping[str, Any], ports: Sequence[Port]) -> SymbolBinding:
        """From the manifest: ``symbols`` as [name, lo, hi, step] and ``checks`` as [kind, lhs, rhs, what]."""
        table = Symbols()
        names = []
        for name, lo, hi, step in details.get("symbols", ()):
            table.new(name, lo, hi, step)
            names.append(name)
        for kind, lhs, rhs, what in details.get("checks", ()):
            table.restore_check(Check(kind, parse_dim(lhs), parse_dim(rhs), what))
        return SymbolBinding(names, table, ports)

    def bind(self, shapes: Sequence[Sequence[int]]) -> dict[str, int]:
        """Symbol values for inputs of these shapes.

        Raises:
            The errors of `Symbols.bind`: an extent, a bound or an entry check does not fit.
        """
        if not self.names:
            return {}
        values = self._table.bind([p.type for p in self._ports], list(shapes), [p.name for p in self._ports])
        for name in self.names:
            if name not in values:
                values[name] = self._table.evaluate(_symbol(name), values)
        return values


def _symbol(name: str) -> Any:
    return parse_dim(name)
