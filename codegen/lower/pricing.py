"""Prices of groups: what the best kernel for an op or a fused group would cost, by the catalogue's models."""

from __future__ import annotations

from aino_ir.codegen.lower.compose import compose
from aino_ir.codegen.lower.group import Group, Storage
from aino_ir.dims import DimLike
from aino_ir.errors.codegen import NotComposable
from aino_ir.graph import Value
from aino_ir.kernels import Candidate, Catalogue, Reject
from aino_ir.op import Op
from aino_ir.pattern import constant_of
from aino_ir.short_sums import short_sums
from aino_ir.sparsity import zero_pattern
from aino_ir.symbols import Symbols
from aino_ir.types import Layout, TensorType


class CataloguePricer:
    """Asks the catalogue about ops that stand in a graph, as if every value had a buffer of its own."""

    def __init__(self, catalogue: Catalogue, numerics: str = "default") -> None:
        self.catalogue = catalogue
        self.numerics = numerics

    def price(self, op: Op) -> float | str:
        """Modelled seconds of the op as one kernel, or why no generator accepts it."""
        assert op.block is not None
        symbols = op.block.function.symbols if op.block.function is not None else Symbols()
        try:
            spec = compose(Group(op), own_buffer, symbols, self.numerics).spec
        except NotComposable as error:
            return error.message
        answers = self.catalogue.candidates(spec)
        costs = [a.cost for a in answers if isinstance(a, Candidate)]
        if costs:
            return min(costs)
        reasons = [f"{a.generator}: {a.reason}" for a in answers if isinstance(a, Reject)]
        return "; ".join(reasons) or "no generator knows it"


def own_buffer(value: Value) -> Storage:
    """A value's storage when it lies in a buffer of its own."""
    assert isinstance(value.type, TensorType)
    return stored(value, value.type.layout, None)


def stored(value: Value, layout: Layout, allocated: tuple[DimLike, ...] | None) -> Storage:
    """What is known of a value that lies somewhere: of a constant also its zeros and its short sums."""
    handle = constant_of(value)
    if handle is None:
        return Storage(layout, allocated, False)
    return Storage(layout, allocated, True, zero_pattern(handle), short_sums(handle))
