"""Scalar expressions of index notation (`Compute`, `RowProgram`) as tensors over an iteration space."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from aino_ir.codegen.stablehlo.elementwise import apply, load
from aino_ir.codegen.stablehlo.reading import Reader
from aino_ir.codegen.stablehlo.space import Space, Spread, refuse
from aino_ir.codegen.stablehlo.types import Tensor
from aino_ir.loops.expr import Accumulator, Arg, Binary, Const, Expr, Index, Read, Var


class Expressions:
    """Places expressions over a space.

    Args:
        space: the iteration space.
        operands: what `Read`s refer to by number, in their storage dtypes.
        leaves: what Var(name), Arg(number) and Accumulator() stand for.

    Attributes:
        greatest: names of Vars that are the greatest values of an expression along a row.
    """

    def __init__(
        self, space: Space, operands: Sequence[Tensor], leaves: Mapping[str | int, Spread] | None = None
    ) -> None:
        self.space = space
        self.leaves: dict[str | int, Spread] = dict(leaves or {})
        self.greatest: dict[str, Expr] = {}
        self._operands = [load(space.w, x) for x in operands]
        self._reader = Reader(space, self.value)
        self._done: dict[int, tuple[Expr, Spread]] = {}

    def value(self, e: Expr) -> Spread:
        """The value of an expression; equal nodes are written once."""
        known = self._done.get(id(e))
        if known is None:
            known = self._done[id(e)] = (e, self._value(e))
        return known[1]

    def _value(self, e: Expr) -> Spread:
        w = self.space.w
        match e:
            case Const():
                return Spread(w.constant(e.value, e.dtype))
            case Index(dim=dim):
                return self.space.coordinate(dim)
            case Read(operand=number):
                return self._reader.read(self._operands[number], e)
            case Var(name=name):
                return self._leaf(name)
            case Arg(index=number):
                return self._leaf(number)
            case Accumulator():
                return self._leaf("accumulator")
            case Binary(op="sub", a=a, b=Var(name=name)) if self.greatest.get(name) == a:
                return below(self.space, self.value(a), self._leaf(name))
        tensors, axes = self.space.aligned([self.value(c) for c in e.children()])
        return Spread(apply(w, e, tensors), axes)

    def _leaf(self, key: str | int) -> Spread:
        if key not in self.leaves:
            raise refuse(f"{key} stands for nothing")
        return self.leaves[key]


def below(space: Space, value: Spread, greatest: Spread) -> Spread:
    """A value less the greatest value of its row, which is at most 0.

    The minimum with the greatest value changes nothing; it keeps XLA's CPU backend from taking the product
    that a value may be and the difference for one fused operation, which does not round the product: of
    equal values near 1e10 differences of hundreds would be left, whose exponentials are nothing or infinity.
    """
    (a, b), axes = space.aligned([value, greatest])
    return Spread(space.w.same("subtract", space.w.same("minimum", a, b), b), axes)
