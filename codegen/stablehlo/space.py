"""Values over an iteration space: a tensor, and which axis of the space each of its axes is.

A value that does not change along an axis does not have it, so that an index or a row's maximum stays
small until it meets a value that has the axis.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from aino_ir.codegen.stablehlo.elementwise import floor_divide
from aino_ir.codegen.stablehlo.types import Tensor
from aino_ir.codegen.stablehlo.writer import Writer
from aino_ir.compute import Axis
from aino_ir.dims import Dim, DimLike, fold, is_static
from aino_ir.dtypes import i64
from aino_ir.errors.codegen import NoLowering


@dataclass(frozen=True)
class Spread:
    """A value over a space: `axes` names the tensor's axes, in any order."""

    tensor: Tensor
    axes: tuple[str, ...] = ()


def refuse(reason: str) -> NoLowering:
    """The error of what has no form here; who calls adds the op."""
    return NoLowering(op="", target="stablehlo", reason=reason)


class Space:
    """The axes of one computation, slowest first, with extents that are numbers.

    Args:
        w: where operations are written.
        axes: the iteration axes.
        symbols: values of the function's symbols.
    """

    def __init__(self, w: Writer, axes: Iterable[Axis], symbols: Mapping[str, int]) -> None:
        self.w = w
        self.symbols = symbols
        self.extents = {a.name: self.number(a.extent) for a in axes}
        self._order = {name: position for position, name in enumerate(self.extents)}

    def number(self, dim: DimLike) -> int:
        """An extent that no axis takes part in, as a number."""
        dim = self.bound(dim)
        if not is_static(dim):
            raise refuse(f"the extent {dim} is decided by data")
        return int(dim)  # type: ignore[arg-type]

    def numbers(self, shape: Iterable[DimLike]) -> tuple[int, ...]:
        """A shape in numbers."""
        return tuple(self.number(d) for d in shape)

    def bound(self, dim: DimLike) -> DimLike:
        """A Dim with the function's symbols replaced by their values."""
        return dim.substitute(self.symbols) if isinstance(dim, Dim) else dim

    def ordered(self, names: Iterable[str]) -> tuple[str, ...]:
        """Axes in the order of the space, each once."""
        return tuple(sorted(set(names), key=self._order.__getitem__))

    def shape(self, axes: Iterable[str]) -> tuple[int, ...]:
        """Their extents."""
        return tuple(self.extents[a] for a in axes)

    def expand(self, value: Spread, axes: Sequence[str]) -> Tensor:
        """The tensor repeated along axes that it lacks; `axes`, in any order, hold all of the value's."""
        places = [axes.index(a) for a in value.axes]
        order = sorted(range(len(places)), key=places.__getitem__)
        moved = self.w.transpose(value.tensor, order)
        return self.w.broadcast(moved, sorted(places), self.shape(axes))

    def aligned(self, values: Sequence[Spread]) -> tuple[list[Tensor], tuple[str, ...]]:
        """Tensors of one shape, and the axes that they all have now."""
        axes = self.ordered(a for v in values for a in v.axes)
        return [self.expand(v, axes) for v in values], axes

    # -- coordinates --------------------------------------------------------------------------------

    def linear(self, dim: DimLike) -> tuple[str | None, int, int] | None:
        """(axis, step, start) of a coordinate start + step * axis; axis None for a number; else None."""
        dim = self.bound(dim)
        if not isinstance(dim, Dim):
            return None, 0, int(dim)
        terms = dim.terms()
        if not dim.affine or len(terms) != 1:
            return None
        step, (atom,) = terms[0]
        (name,) = atom.symbols
        return (name, step, dim.constant) if name in self.extents else None

    def axes_of(self, dim: DimLike) -> tuple[str, ...]:
        """The axes that a coordinate moves with."""
        dim = self.bound(dim)
        return self.ordered(dim.free_symbols()) if isinstance(dim, Dim) else ()

    def coordinate(self, dim: DimLike) -> Spread:
        """A Dim over the axes as i64 numbers; quotients are those of floor division."""
        w = self.w

        def const(value: int) -> Spread:
            return Spread(w.constant(value, i64))

        def symbol(name: str) -> Spread:
            if name not in self.extents:
                raise refuse(f"the number {name} is decided by data")
            return Spread(w.iota(self.extents[name]), (name,))

        def binary(name: str, a: Spread, b: Spread) -> Spread:
            (x, y), axes = self.aligned([a, b])
            return Spread(w.same(name, x, y), axes)

        def floordiv(a: Spread, b: Spread) -> Spread:
            (x, y), axes = self.aligned([a, b])
            return Spread(floor_divide(w, x, y), axes)

        return fold(
            self.bound(dim),
            const=const,
            symbol=symbol,
            add=lambda a, b: binary("add", a, b),
            mul=lambda a, b: binary("multiply", a, b),
            floordiv=floordiv,
            minimum=lambda a, b: binary("minimum", a, b),
        )

    # -- reductions ---------------------------------------------------------------------------------

    def reduce(self, value: Spread, name: str, start: Tensor, over: Sequence[str]) -> Spread:
        """Combined along axes, those included that the value does not change along."""
        axes = self.ordered((*value.axes, *over))
        full = self.expand(value, axes)
        result = self.w.reduce(full, name, start, [i for i, a in enumerate(axes) if a in over])
        return Spread(result, tuple(a for a in axes if a not in over))
