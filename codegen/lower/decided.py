"""Symbols that ops of a function decide while it runs, and from which op on they are known."""

from __future__ import annotations

from collections.abc import Iterator

from aino_ir.dims import DimLike, free_symbols
from aino_ir.graph import Block, Function, Value
from aino_ir.op import Op
from aino_ir.ops.control import CONTROL, Loop
from aino_ir.symbols import Origin
from aino_ir.types import StringType, TensorType

DECIDED = ("data", "value")
"""Origins of symbols that an op decides: an extent of its result, or an integer that it computes."""


class DecidedSymbols:
    """The symbols that ops decide, in the order in which they do.

    Ops count in the order in which they have their results, those in regions before the op around them.
    What control flow decides is known only behind it; the extents of what a loop carries, inside.

    Attributes:
        names: these symbols; left out are those of ops that are no longer there.
        origins: every symbol that is decided, or was before its op went.
        carried: symbols of carried values whose extents turns may change -> their loop.
    """

    def __init__(self, function: Function) -> None:
        ops = list(_finished(function.block))
        self._place = {op.id: 2 * place for place, op in enumerate(ops)}
        table = function.symbols
        declared = {name: table.declared(name).origin for name in table}
        self.origins = {n: o for n, o in declared.items() if o.kind in DECIDED}
        self.carried = dict(_carried(ops, entry_symbols(function), declared))
        since: dict[str, int] = {}
        for op in ops:
            own = own_symbols(op)
            if own:
                found = (n for n in own if n in self.origins and self.origins[n].op == op.id)
                since.update(dict.fromkeys(found, self._place[op.id] + isinstance(op, CONTROL)))
        for name, origin in self.origins.items():
            if origin.kind == "value" and origin.op in self._place:
                since[name] = self._place[origin.op]
        for name, loop in self.carried.items():
            self.origins[name] = declared[name]
            since[name] = self._place[next(_finished(loop.regions[0])).id]
        self.names = sorted(since, key=lambda n: since[n])
        self._since = since

    def known_to(self, op: Op, *dims: DimLike) -> bool:
        """Whether dimensions are known where an op writes its results."""
        return self._known(self._place[op.id], dims)

    def known_behind(self, op: Op, *dims: DimLike) -> bool:
        """Whether dimensions are known when an op is done."""
        return self._known(self._place[op.id] + 1, dims)

    def _known(self, place: int, dims: tuple[DimLike, ...]) -> bool:
        return all(self._since.get(name, -1) <= place for d in dims for name in free_symbols(d))

    def of(self, op: Op) -> list[str]:
        """What an op itself decides."""
        return [n for n in self.names if n not in self.carried and self.origins[n].op == op.id]


def own_symbols(op: Op) -> set[str]:
    """Symbols in the types of an op's results."""
    return {n for r in op.results for d in extents(r) for n in free_symbols(d)}


def extents(value: Value) -> tuple[DimLike, ...]:
    """The extents of a tensor; of other values none."""
    return value.type.shape if isinstance(value.type, TensorType) else ()


def entry_symbols(function: Function) -> frozenset[str]:
    """Symbols that have their values when a function begins: extents of its arguments, and what is given."""
    table = function.symbols
    shapes = [v.type.shape for v in function.block.args if isinstance(v.type, (TensorType, StringType))]
    dims = [d for shape in shapes for d in shape]
    return frozenset(name for name in table if table.declared(name).origin.kind == "input").union(
        *map(free_symbols, dims), *(free_symbols(table.canonical(d)) for d in dims)
    )


def _carried(ops: list[Op], entry: frozenset[str], declared: dict[str, Origin]) -> Iterator[tuple[str, Op]]:
    """Symbols that only the type of a loop's carried argument has, with the loop."""
    for op in ops:
        if not isinstance(op, Loop):
            continue
        for argument in op.regions[0].args[2 : 2 + op.carried]:
            for name in (n for d in extents(argument) for n in free_symbols(d)):
                if name not in entry and declared[name].kind == "local":
                    yield name, op


def _finished(block: Block) -> Iterator[Op]:
    """Every op in the order in which they have their results: those in regions before the op around them."""
    for op in block:
        for region in op.regions:
            yield from _finished(region)
        yield op
