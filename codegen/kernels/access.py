"""How kernels read operands and write results: index notation placed at a point of a loop nest.

A `Placement` turns the expressions of a `KernelSpec` into loop expressions: each `Read` becomes a
load whose address, lane stride and bounds follow from the operand's layout, the iteration point
and the ranges that the builder knows.  Proved inside: a plain load; proved outside: the default;
unknown: a masked load.  Generators choose tiles so that proofs succeed; they write no addresses
and no masks themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from aino_ir.compute import Compute, Nest
from aino_ir.dims import Dim, DimLike, FloorDiv, Min, fold, symbol
from aino_ir.dtypes import boolean, i32, i64, u16
from aino_ir.kernels import KernelSpec, Operand, Result
from aino_ir.loops.builder import LoopBuilder
from aino_ir.loops.expr import (
    Accumulator,
    Const,
    Expr,
    Index,
    PrefixMask,
    Ramp,
    Read,
    Splat,
    Var,
    VecType,
    binary,
    cast,
    compare,
    const,
    index,
    splat,
)
from aino_ir.loops.expr_tree import map_expr, rebuild, walk
from aino_ir.loops.stmt import Access

LANE = "lane."
"""Symbol that stands for the lane number while addresses are formed."""


@dataclass(frozen=True)
class Point:
    """Where an expression is placed.

    Attributes:
        at: axis name -> coordinate (of the first lane).
        axis, lanes: the axis that the lanes run along, and how many there are (1 = scalar).
        count: how many lanes are valid (a Dim), or None when all are.
    """

    at: Mapping[str, DimLike]
    axis: str | None = None
    lanes: int = 1
    count: DimLike | None = None

    def shifted(self, dim: DimLike) -> DimLike:
        """A Dim over axes at this point, with the lane number as the symbol LANE."""
        return dim.substitute(self._mapping) if isinstance(dim, Dim) else dim

    @cached_property
    def _mapping(self) -> dict[str, DimLike]:
        mapping = dict(self.at)
        if self.axis is not None and self.lanes > 1:
            mapping[self.axis] = mapping[self.axis] + symbol(LANE)
        return mapping


class Placement:
    """Places a spec's expressions into a kernel under construction.

    Args:
        b: the builder; operands and results are declared as its parameters.
        spec: what the kernel computes.
        packed: operand number -> how the kernel's own packing of it is addressed, where that
            differs from the spec's operand.
        nibbles: operand number -> axis along which two of its 4-bit elements share a byte of `packed`.
    """

    def __init__(
        self,
        b: LoopBuilder,
        spec: KernelSpec,
        packed: Mapping[int, Operand] | None = None,
        nibbles: Mapping[int, int] | None = None,
    ) -> None:
        self.b = b
        self.spec = spec
        self.nibbles = dict(nibbles or {})
        self.operands = [(packed or {}).get(i, o) for i, o in enumerate(spec.operands)]
        self._risky: dict[int, tuple[int, ...]] = {}
        self._kept: list[Read] = []  # so that ids stay taken
        program = spec.program
        space = (*program.axes, *program.reduce) if isinstance(program, Compute) else ()
        self._axis_extents = {a.name: a.extent for a in space}
        for name, lo, hi in spec.symbols:
            b.symbol(name, lo, hi)
        shared = {r.aliases for r in spec.results if r.aliases is not None}
        self.buffers = [
            b.param(
                self.free_name(o.name), o.dtype, o.bound, Access.READ_WRITE if i in shared else Access.READ
            )
            for i, o in enumerate(self.operands)
        ]
        written = Access.READ_WRITE if isinstance(program, Nest) else Access.WRITE  # a nest reads its results
        self.result_buffers = [
            self.buffers[r.aliases]
            if r.aliases is not None
            else b.param(self.free_name(r.name), r.dtype, r.bound, written)
            for r in spec.results
        ]

    def free_name(self, name: str) -> str:
        """The name of a buffer, changed when a symbol of the model is called like it."""
        taken = {symbol_name for symbol_name, _, _ in self.spec.symbols}
        while name in taken:
            name += "_data"
        return name

    # -- reading ------------------------------------------------------------------------------------

    def expr(
        self,
        e: Expr,
        point: Point,
        accumulators: Mapping[int, Expr] | None = None,
        values: Mapping[str, Expr] | None = None,
        read: Callable[[Read], Expr | None] | None = None,
    ) -> Expr:
        """`e` at a point, as a pinned value of `point.lanes` lanes (or one, where lanes agree).

        Args:
            accumulators: what Accumulator(i) stands for.
            values: what Var(name) stands for (stages of a RowProgram).
            read: asked first for each Read (operands a generator keeps in registers or scratch).
        """
        shared = _shared_nodes(e)
        pinned: dict[int, Expr] = {}

        def leaf(node: Expr) -> Expr | None:
            if isinstance(node, Read):
                own = read(node) if read is not None else None
                return own if own is not None else self.load(node, point)
            if isinstance(node, Accumulator):
                return (accumulators or {})[node.index]
            if isinstance(node, Var):
                return (values or {}).get(node.name, node)
            if isinstance(node, Index):
                return self.dim_value(point.shifted(node.dim), point)
            if id(node) in shared and not isinstance(node, (Const, Splat)):
                if id(node) not in pinned:
                    children = tuple(map_expr(c, leaf) for c in node.children())
                    pinned[id(node)] = self.b.let(rebuild(node, children) if children else node)
                return pinned[id(node)]
            return None

        return self.b.let(map_expr(e, leaf))

    def load(self, node: Read, point: Point, bits: bool = False) -> Expr:
        """One Read at a point; with `bits` what a buffer of bf16 holds, zeros outside, as u16."""
        operand = self.operands[node.operand]
        coordinates, vectors = self._coordinates(node, operand, point)
        mask, outside = self._bounds(node, operand, coordinates, vectors, point)
        if outside:
            assert node.default is not None
            return const(0, u16) if bits else self.expr(node.default, point)
        given = None if mask is None or bits else node.default
        other = None if given is None else self.expr(given, point)
        if node.operand in self.nibbles:
            return self._load_nibbles(node.operand, coordinates, point)
        address = operand.addr(tuple(coordinates))
        return self._load(node.operand, address, coordinates, vectors, point, mask, other, bits)

    def address(self, node: Read, point: Point) -> tuple[str, DimLike, Expr | None]:
        """Where a Read of one element is: buffer, offset, and when it is inside (None: always)."""
        operand = self.operands[node.operand]
        coordinates, vectors = self._coordinates(node, operand, point)
        mask, outside = self._bounds(node, operand, coordinates, vectors, point)
        if outside:
            mask = const(False, boolean)
        return self.buffers[node.operand], operand.addr(tuple(coordinates)), mask

    def _load_nibbles(self, number: int, coordinates: list[DimLike], point: Point) -> Expr:
        """A 4-bit element out of its byte: the upper half where its coordinate is odd."""
        axis, dtype = self.nibbles[number], self.spec.operands[number].dtype
        operand, place = self.operands[number], coordinates[axis]
        halved = [c // 2 if a == axis else c for a, c in enumerate(coordinates)]
        raw = self._load(number, operand.addr(tuple(halved)), halved, {}, point, None, None)
        upper = self.b.dim(place % 2)
        byte = cast(raw, i32)
        if isinstance(upper, int):
            nibble = (byte >> 4) if upper else (byte & 15)
        else:
            nibble = (byte >> (cast(index(upper), i32) * 4)) & 15
        return self.b.let((nibble ^ 8) - 8 if dtype.is_signed else nibble)

    def _load(
        self,
        number: int,
        address: DimLike,
        coordinates: list[DimLike],
        vectors: Mapping[str, Expr],
        point: Point,
        mask: Expr | None,
        other: Expr | None,
        bits: bool = False,
    ) -> Expr:
        buffer = self.buffers[number]
        inside, mask = mask, self._valid_lanes(mask, self.operands[number], coordinates, point)
        if vectors:
            gather = dim_expr(address, {**vectors, LANE: self._lane_numbers(point)})
            return self.b.load(
                buffer, 0, point.lanes, mask=self._all(mask, point), other=other, gather=gather
            )
        first, stride = lane_stride(address, self.b, point.lanes)
        if stride is None:
            gather = dim_expr(address, {LANE: self._lane_numbers(point)})
            return self.b.load(
                buffer, 0, point.lanes, mask=self._all(mask, point), other=other, gather=gather
            )
        if isinstance(stride, int) and stride == 0:
            lanes = point.lanes if inside is not None and inside.lanes > 1 else 1
            return self.b.load(buffer, first, lanes, stride=0, mask=inside, other=other)
        return self.b.load(
            buffer, first, point.lanes, stride=stride, mask=self._all(mask, point), other=other, bits=bits
        )

    def _coordinates(
        self, node: Read, operand: Operand, point: Point
    ) -> tuple[list[DimLike], dict[str, Expr]]:
        coordinates: list[DimLike] = []
        vectors: dict[str, Expr] = {}
        for axis, part in enumerate(node.index):
            if not isinstance(part, Expr):
                coordinates.append(point.shifted(part))
                continue
            value = self.expr(part, point)
            if value.lanes > 1:
                name = f"gather{axis}."
                vectors[name] = value
                coordinates.append(symbol(name))
            else:
                coordinates.append(self.b.index(value, 0, operand.shape[axis] - 1))
        return coordinates, vectors

    def _bounds(
        self,
        node: Read,
        operand: Operand,
        coordinates: list[DimLike],
        vectors: Mapping[str, Expr],
        point: Point,
    ) -> tuple[Expr | None, bool]:
        """(mask or None, proved outside) of a Read that has a default."""
        risky = self._risky_axes(node, operand) if node.default is not None else ()
        if not risky:
            return None, False
        terms: list[Expr] = []
        unknown: list[tuple[DimLike, DimLike]] = []
        with self.b.symbols.with_range(LANE, 0, point.lanes - 1):
            symbols = self.b.symbols
            for axis in risky:
                c, extent = coordinates[axis], operand.shape[axis]
                if isinstance(c, Dim) and c.as_symbol() in vectors:
                    vector = vectors[c.as_symbol()]  # type: ignore[index]
                    terms += [compare("ge", vector, 0), compare("lt", vector, index(extent))]
                    continue
                for larger, smaller in ((c, 0), (extent - 1, c)):
                    proved = symbols.prove_ge(larger, smaller)
                    if proved is False and self._always_fails(larger, smaller):
                        return None, True
                    if not proved:
                        unknown.append((larger, smaller))
        terms += [self._at_least(larger, smaller, point) for larger, smaller in unknown]
        if not terms:
            return None, False
        mask = terms[0]
        for term in terms[1:]:
            mask = binary("and", mask, term)
        return self.b.let(mask, "inside"), False

    def _risky_axes(self, node: Read, operand: Operand) -> tuple[int, ...]:
        """Tensor axes whose coordinate may be outside: not those that just follow an iteration axis."""
        known = self._risky.get(id(node))
        if known is None:
            known = tuple(
                axis
                for axis, (c, extent) in enumerate(zip(node.index, operand.shape, strict=True))
                if isinstance(c, Expr) or not self._follows_axis(c, extent)
            )
            self._risky[id(node)] = known
            self._kept.append(node)
        return known

    def _follows_axis(self, c: DimLike, extent: DimLike) -> bool:
        if not isinstance(c, Dim):
            return isinstance(c, int) and isinstance(extent, int) and 0 <= c < extent
        name = c.as_symbol()
        return name is not None and self._axis_extents.get(name) is extent

    def _always_fails(self, larger: DimLike, smaller: DimLike) -> bool:
        return self.b.symbols.prove_gt(smaller, larger) is True

    def _at_least(self, larger: DimLike, smaller: DimLike, point: Point) -> Expr:
        return compare("ge", self.dim_value(larger, point), self.dim_value(smaller, point))

    # -- values of dims -------------------------------------------------------------------------------

    def dim_value(self, dim: DimLike, point: Point) -> Expr:
        """A Dim that may hold LANE as an i64 value: a scalar, or a vector when lanes differ."""
        if not isinstance(dim, Dim) or LANE not in dim.free_symbols():
            return index(dim)
        first, stride = lane_stride(dim, self.b, point.lanes)
        if isinstance(stride, int):
            return Ramp(first, stride, VecType(i64, point.lanes))
        return dim_expr(dim, {LANE: self._lane_numbers(point)})

    def _lane_numbers(self, point: Point) -> Expr:
        return Ramp(0, 1, VecType(i64, point.lanes))

    def _valid_lanes(
        self, mask: Expr | None, operand: Operand, coordinates: list[DimLike], point: Point
    ) -> Expr | None:
        """The mask that also keeps out lanes past `point.count`; those that fall on padding may be read."""
        if point.count is None or point.lanes == 1 or self._on_padding(operand, coordinates, point):
            return mask
        prefix = PrefixMask(point.count, VecType(boolean, point.lanes))
        return (
            prefix if mask is None else self.b.let(binary("and", splat(mask, point.lanes), prefix), "inside")
        )

    def _on_padding(self, operand: Operand, coordinates: list[DimLike], point: Point) -> bool:
        """Whether lanes past the end of their axis still lie in the same tile of a padded layout."""
        widths = {**dict(operand.layout.pad), **dict(operand.layout.tiles)}
        moving = [a for a, c in enumerate(coordinates) if isinstance(c, Dim) and LANE in c.free_symbols()]
        if len(moving) != 1 or widths.get(moving[0], 1) % point.lanes:
            return False
        c = coordinates[moving[0]]
        assert isinstance(c, Dim)
        first = c.substitute({LANE: 0})
        return c is first + symbol(LANE) and self.b.symbols.prove_divisible(first, point.lanes) is True

    def _all(self, mask: Expr | None, point: Point) -> Expr | None:
        return None if mask is None else splat(mask, point.lanes)

    # -- writing --------------------------------------------------------------------------------------

    def store(self, number: int, point: Point, value: Expr) -> None:
        """Write `value` as result `number` at a point (invalid lanes are not touched)."""
        result = self.spec.results[number]
        self.store_at(
            result, self.result_buffers[number], tuple(point.shifted(c) for c in result.index), value, point
        )

    def store_at(
        self, result: Result, buffer: str, coordinates: tuple[DimLike, ...], value: Expr, point: Point
    ) -> None:
        """Write at shifted coordinates (they may hold LANE)."""
        address = result.addr(coordinates)
        value = splat(value, point.lanes)
        mask = None
        if point.count is not None and point.lanes > 1:
            mask = PrefixMask(point.count, VecType(boolean, point.lanes))
        first, stride = lane_stride(address, self.b, point.lanes)
        if stride is None:
            scatter = dim_expr(address, {LANE: self._lane_numbers(point)})
            self.b.store(buffer, 0, value, mask=mask, scatter=scatter)
        else:
            self.b.store(buffer, first, value, stride=stride, mask=mask)


def lane_stride(address: DimLike, b: LoopBuilder, lanes: int) -> tuple[DimLike, DimLike | None]:
    """(address of lane 0, elements from lane to lane), the second None when it is not constant."""
    if not isinstance(address, Dim) or LANE not in address.free_symbols():
        return address, 0
    lane = symbol(LANE)
    attempt: DimLike = address
    for simplified in (False, True):
        if simplified:
            with b.symbols.with_range(LANE, 0, lanes - 1):
                attempt = b.symbols.simplify(address)
        if not isinstance(attempt, Dim) or LANE not in attempt.free_symbols():
            return attempt, 0
        first = attempt.substitute({LANE: 0})
        stride = attempt.substitute({LANE: 1}) - first
        if attempt is first + lane * stride or attempt == first + lane * stride:
            return first, stride
    return address, None


def dim_expr(dim: DimLike, vectors: Mapping[str, Expr]) -> Expr:
    """A Dim as an i64 expression, with some of its symbols standing for vectors.

    Machines divide towards zero: a dividend below it is first moved down by its divisor less one.
    """

    def floor_division(a: Expr, b: Expr) -> Expr:
        sign = binary("shr", a, const(63, i64))  # -1 below zero, else 0
        return binary("div", binary("add", a, binary("mul", sign, binary("sub", b, const(1, i64)))), b)

    natural = all(_is_natural(dividend) for dividend in _dividends(dim))
    return fold(
        dim,
        const=lambda v: const(v, i64),
        symbol=lambda name: vectors[name] if name in vectors else Index(symbol(name)),
        add=lambda a, b: binary("add", a, b),
        mul=lambda a, b: binary("mul", a, b),
        floordiv=(lambda a, b: binary("div", a, b)) if natural else floor_division,
        minimum=lambda a, b: binary("min", a, b),
    )


def _dividends(dim: DimLike) -> Iterator[Dim]:
    """What is divided anywhere inside a Dim."""
    atoms = [] if not isinstance(dim, Dim) else [a for _, product in dim.terms() for a in product]
    for atom in atoms:
        if isinstance(atom, FloorDiv):
            if isinstance(atom.a, Dim):
                yield atom.a
            inner: tuple[DimLike, ...] = (atom.a, atom.b)
        else:
            inner = atom.args if isinstance(atom, Min) else ()
        for part in inner:
            yield from _dividends(part)


def _is_natural(dim: Dim) -> bool:
    """Whether a sum has no term that could be below zero: loop variables and lanes count from 0."""
    return dim.constant >= 0 and all(coefficient >= 0 for coefficient, _ in dim.terms())


def _shared_nodes(e: Expr) -> frozenset[int]:
    """Ids of nodes that several parents refer to: worth a name of their own."""
    seen: dict[int, int] = {}
    for node in walk(e):
        for child in node.children():
            seen[id(child)] = seen.get(id(child), 0) + 1
    return frozenset(key for key, count in seen.items() if count > 1)
