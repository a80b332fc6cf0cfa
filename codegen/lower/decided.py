"""Symbols that ops of a function decide while it runs, and from which op on they are known."""

from __future__ import annotations

from collections.abc import Iterator

from aino_ir.dims import DimLike, free_symbols
from aino_ir.graph import Block, Function
from aino_ir.op import Op

DECIDED = ("data", "value")
"""Origins of symbols that an op decides: an extent of its result, or an integer that it computes."""


class DecidedSymbols:
    """The symbols that ops decide, in the order in which they do.

    Attributes:
        names: these symbols; left out are those of ops that are no longer there, and of control flow.
    """

    def __init__(self, function: Function) -> None:
        ops = list(_finished(function.block))
        self._place = {op.id: place for place, op in enumerate(ops)}
        table = function.symbols
        origins = {name: table.declared(name).origin for name in table}
        self.origins = {n: o for n, o in origins.items() if o.kind in DECIDED}
        deciding = {op.id for op in ops if not op.regions}
        present = [n for n, o in self.origins.items() if o.op in deciding]
        self.names = sorted(present, key=lambda n: self._place[self.origins[n].op])
        self._since = {n: self._place[self.origins[n].op] for n in self.names}

    def known_to(self, op: Op, *dims: DimLike) -> bool:
        """Whether dimensions are known where an op writes its results."""
        here = self._place[op.id]
        return all(self._since.get(name, -1) <= here for d in dims for name in free_symbols(d))

    def of(self, op: Op) -> list[str]:
        """What an op itself decides."""
        return [n for n in self.names if self.origins[n].op == op.id]


def _finished(block: Block) -> Iterator[Op]:
    """Every op in the order in which they have their results: those in regions before the op around them."""
    for op in block:
        for region in op.regions:
            yield from _finished(region)
        yield op
