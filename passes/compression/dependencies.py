"""Which parts of which axes must be removed together, read off the index maps of the ops' definitions.

An *atom* is one position of a static axis of a value.  An op's definition says at which coordinates it
reads its operands for a point of its iteration axes; those coordinates, evaluated on all points, say which
atoms belong together: equal coordinates (elementwise ops, the channels of a product), coordinates that are
apart (slices, the parts of a concatenation), coarser ones (split and merged axes, groups of a
convolution).  One rule serves every op; what it cannot read, and everything at the interface, is *frozen*.

Summing over an axis binds it to whatever the sum's other factor is; that is harmless only where this is a
weight, which the removal zeroes, so all other reduced axes are frozen.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import networkx as nx
import numpy as np

from aino_ir.compute import Compute, RowProgram, reads
from aino_ir.dim_walk import fold
from aino_ir.dims import Dim
from aino_ir.graph import Function, Value
from aino_ir.kernels import Attention
from aino_ir.loops.expr import Compare, Expr, Index, Read, Select
from aino_ir.loops.expr_tree import walk
from aino_ir.op import Op, Trait
from aino_ir.passes.compression.weights import product_of, symbols_of
from aino_ir.pattern import constant_of
from aino_ir.types import TensorType

Array = np.ndarray[Any, Any]
Place = tuple[int, "int | str"]
"""(id of a value, axis) or (id of an op, name of an iteration axis)."""

GRID_LIMIT = 1 << 22
"""Index maps of more points are not evaluated; what they touch is frozen."""


@dataclass
class Component:
    """Atoms that go together.

    Attributes:
        atoms: class of axes -> positions, ascending.
    """

    atoms: dict[int, Array]


@dataclass
class Family:
    """Components alike: the channels of one layer, the heads of one attention.

    Attributes:
        classes: the classes of axes that each of them has atoms in.
        components: in order of their positions.
        heads: whether they are separate batches of a product of two computed values.
    """

    classes: tuple[int, ...]
    components: list[Component]
    heads: bool


@dataclass
class Dependencies:
    """The relations of one function's axes.

    Attributes:
        class_of: place -> number of its class: places that are the same position by position.
        extents: of each class.
    """

    function: Function
    class_of: dict[Place, int] = field(default_factory=dict)
    extents: dict[int, int] = field(default_factory=dict)
    _same: nx.Graph = field(default_factory=nx.Graph)
    _sizes: dict[Place, int] = field(default_factory=dict)
    _ties: list[tuple[Place, Array, Place, Array]] = field(default_factory=list)
    _frozen: list[tuple[Place, Array | None]] = field(default_factory=list)
    _heads: set[Place] = field(default_factory=set)

    @staticmethod
    def of(function: Function) -> Dependencies:
        """The relations of a function's block; regions are frozen."""
        made = Dependencies(function)
        for v in function.block.args:
            made._freeze_value(v)
        for op in function.block:
            made._relate(op)
        made._number()
        return made

    # -- collecting ---------------------------------------------------------------------------------

    def _place(self, value: Value, axis: int) -> Place | None:
        """The place of a static axis."""
        if not isinstance(value.type, TensorType):
            return None
        extent = value.shape[axis]
        if not isinstance(extent, int):
            return None
        place = (value.id, axis)
        self._add(place, extent)
        return place

    def _add(self, place: Place, extent: int) -> None:
        self._sizes[place] = extent
        self._same.add_node(place)

    def _freeze_value(self, value: Value) -> None:
        if isinstance(value.type, TensorType):
            for axis in range(value.rank):
                self._freeze(self._place(value, axis))

    def _freeze(self, place: Place | None, positions: Array | None = None) -> None:
        if place is not None:
            self._frozen.append((place, positions))

    def _relate(self, op: Op) -> None:
        for r in op.results:
            if isinstance(r.type, TensorType):
                for axis in range(r.rank):
                    self._place(r, axis)
        if op.name == "core.constant":
            return
        definition = None if op.regions or op.has(Trait.TERMINATOR) else op.define()
        if isinstance(definition, Compute):
            self._relate_compute(op, definition)
        elif isinstance(definition, RowProgram):
            self._relate_rows(op, definition)
        elif isinstance(definition, Attention):
            self._relate_attention(op, definition)
        else:
            for v in (*op.present_operands(), *op.results):
                self._freeze_value(v)

    def _axes(self, op: Op, axes: Iterable[Any]) -> dict[str, int]:
        """Extents of static iteration axes by name, each a place of its own."""
        out = {}
        for a in axes:
            if isinstance(a.extent, int):
                self._add((op.id, a.name), a.extent)
                out[a.name] = a.extent
        return out

    def _relate_compute(self, op: Op, definition: Compute) -> None:
        extents = self._axes(op, (*definition.axes, *definition.reduce))
        for axis, a in enumerate(definition.axes):
            self._tie_same((op.id, a.name), self._place(op.result, axis))
        for a in definition.reduce:
            if a.name in extents and not self._weighted(op, a.name):
                self._freeze((op.id, a.name))
        parts = [definition.body, definition.finish, definition.where]
        self._relate_reads(op, [e for e in parts if e is not None], extents)
        self._note_heads(op)

    def _weighted(self, op: Op, axis: str) -> bool:
        """Whether a sum over an axis multiplies by a constant that has it: what is removed is zero there."""
        parts = product_of(op)
        operands = list(op.present_operands())
        return parts is not None and any(
            constant_of(operands[f.operand]) is not None and any(axis in symbols_of(c) for c in f.index)
            for f in parts[1]
        )

    def _note_heads(self, op: Op) -> None:
        """Batches of a product of two computed values are heads."""
        parts = product_of(op)
        operands = list(op.present_operands())
        if parts is None or any(constant_of(operands[f.operand]) is not None for f in parts[1]):
            return
        shared = set.intersection(*({n for c in f.index for n in symbols_of(c)} for f in parts[1]))
        self._heads |= {(op.id, a.name) for a in parts[0].axes if a.name in shared}

    def _relate_rows(self, op: Op, definition: RowProgram) -> None:
        extents = self._axes(op, (*definition.axes, *definition.row))
        for a in definition.row:
            if a.name in extents:
                self._freeze((op.id, a.name))
        self._relate_reads(op, [*(s.expr for s in definition.stages), definition.out], extents)
        self._relate_index(op, op.results[0], definition.out_index, extents, False)
        for r in op.results[1:]:
            self._freeze_value(r)

    def _relate_attention(self, op: Op, definition: Attention) -> None:
        """Query heads are those of the result; several share a head of keys and values."""
        operands = list(op.present_operands())
        q, k, v = operands[:3]
        for value in (q, k, v, op.result):
            for axis in range(4):
                if axis != 1:
                    self._freeze(self._place(value, axis))
        heads = self._place(op.result, 1)
        if heads is None:
            for value in operands:
                self._freeze_value(value)
            return
        self._heads.add(heads)
        count = self._sizes[heads]
        everything = np.arange(count)
        self._tie_same(heads, self._place(q, 1))
        for value in (k, v):
            shared = self._place(value, 1)
            if shared is not None:
                self._tie(shared, everything // (count // self._sizes[shared]), heads, everything)
        for value in operands[3:]:
            for axis in range(value.rank):
                at = axis + 4 - value.rank
                if at == 1 and value.shape[axis] == count:
                    self._tie_same(heads, self._place(value, axis))
                else:
                    self._freeze(self._place(value, axis))

    def _relate_reads(self, op: Op, exprs: Sequence[Expr], extents: dict[str, int]) -> None:
        operands = list(op.present_operands())
        chooses = all(_only_chooses(e) for e in exprs)
        for e in exprs:
            for node in walk(e):
                if isinstance(node, Index) and not chooses:  # the value depends on where it stands
                    for name in symbols_of(node.dim) & extents.keys():
                        self._freeze((op.id, name))
            for read in reads(e):
                padded = read.default is not None and not chooses
                self._relate_index(op, operands[read.operand], read.index, extents, padded)

    def _relate_index(
        self, op: Op, value: Value, index: Sequence[Any], extents: dict[str, int], padded: bool
    ) -> None:
        for axis, c in enumerate(index):
            place = self._place(value, axis)
            if place is None:
                self._relate_symbolic(op, c, extents)
            elif isinstance(c, int):
                if self._sizes[place] != 1:
                    self._freeze(place)
            elif isinstance(c, Dim):
                self._relate_map(op, place, c, extents, padded)
            else:
                self._freeze(place)

    def _relate_symbolic(self, op: Op, c: Any, extents: dict[str, int]) -> None:
        """A coordinate along an axis of symbolic extent: what it moves with beside symbols stays."""
        names = sorted(symbols_of(c))
        static = {n: extents.get(n, 1) for n in names}
        if not names or not any(n in extents for n in names):
            return
        if np.prod([static[n] for n in names], dtype=float) > GRID_LIMIT:
            moving = names
        else:
            _, moving = index_table(c, static)
        for name in moving:
            if name in extents:
                self._freeze((op.id, name))

    def _relate_map(self, op: Op, place: Place, c: Dim, extents: dict[str, int], padded: bool) -> None:
        """One coordinate of an operand over the iteration axes."""
        names = sorted(c.free_symbols())
        if not set(names) <= extents.keys() or np.prod([extents[n] for n in names], dtype=float) > GRID_LIMIT:
            self._freeze_all(op, place, [n for n in names if n in extents])
            return
        table, moving = index_table(c, {n: extents[n] for n in names})
        size = self._sizes[place]
        if len(moving) == 1:
            self._relate_vector(op, place, table, moving[0], size, padded)
        elif len(moving) == 2 and (major := _major(table)) is not None:
            coarse, fine = moving[major], moving[1 - major]
            rows = table if major == 0 else table.T
            self._tie(
                (op.id, coarse), np.repeat(np.arange(rows.shape[0]), rows.shape[1]), place, rows.reshape(-1)
            )
            self._freeze((op.id, fine))
        elif moving or size != 1:
            self._freeze_all(op, place, moving)

    def _relate_vector(self, op: Op, place: Place, table: Array, name: str, size: int, padded: bool) -> None:
        here = (op.id, name)
        inside = (table >= 0) & (table < size)
        if table.size == size and np.array_equal(table, np.arange(size)):
            self._tie_same(here, place)
        elif np.all(np.diff(table) >= 0):
            self._tie(here, np.flatnonzero(inside), place, table[inside])
            if padded and not inside.all():
                self._freeze(here, np.flatnonzero(~inside))
        elif _periodic(table, size):
            self._freeze(place)  # a faster part of a merged axis: whole periods may go
        else:
            self._freeze_all(op, place, [name])

    def _freeze_all(self, op: Op, place: Place, names: Iterable[str]) -> None:
        self._freeze(place)
        for name in names:
            self._freeze((op.id, name))

    def _tie_same(self, a: Place, b: Place | None) -> None:
        if b is not None and a in self._sizes and self._sizes[a] == self._sizes[b]:
            self._same.add_edge(a, b)

    def _tie(self, a: Place, at: Array, b: Place, positions: Array) -> None:
        self._ties.append((a, at, b, positions))

    # -- groups -------------------------------------------------------------------------------------

    def _number(self) -> None:
        for number, places in enumerate(nx.connected_components(self._same)):
            for place in places:
                self.class_of[place] = number
                self.extents[number] = self._sizes[place]

    def classes(self, value: Value) -> list[int | None]:
        """The class of each axis of a value; None for symbolic ones."""
        return [self.class_of.get((value.id, axis)) for axis in range(value.rank)]

    def families(self) -> Iterator[Family]:
        """Everything that may be removed, in order of classes."""
        frozen = self._frozen_atoms()
        tied = nx.Graph()
        for a, at, b, positions in self._ties:
            x, y = self.class_of[a], self.class_of[b]
            tied.add_edges_from(((x, int(i)), (y, int(j))) for i, j in zip(at, positions, strict=True))
        mixed = {c for c, _ in tied.nodes}
        heads = {self.class_of[p] for p in self._heads if p in self.class_of}
        for c in sorted(mixed):
            tied.add_nodes_from((c, i) for i in range(self.extents[c]))
        found: dict[tuple[int, ...], list[Component]] = {}
        for number, extent in sorted(self.extents.items()):
            if number not in mixed and frozen.get(number) is None:
                found[(number,)] = [Component({number: np.array([i])}) for i in range(extent)]
            elif number not in mixed:
                kept = [i for i in range(extent) if not frozen[number][i]]
                found[(number,)] = [Component({number: np.array([i])}) for i in kept]
        for atoms in nx.connected_components(tied):
            if any(c in frozen and frozen[c][i] for c, i in atoms):
                continue
            together: dict[int, list[int]] = {}
            for c, i in sorted(atoms):
                together.setdefault(c, []).append(i)
            component = Component({c: np.array(p) for c, p in together.items()})
            found.setdefault(tuple(together), []).append(component)
        for classes, components in sorted(found.items()):
            if components:
                components.sort(key=lambda x: tuple(int(x.atoms[c][0]) for c in classes))
                yield Family(classes, components, bool(heads & set(classes)))

    def _frozen_atoms(self) -> dict[int, Array]:
        out: dict[int, Array] = {}
        for place, positions in self._frozen:
            number = self.class_of[place]
            mask = out.setdefault(number, np.zeros(self.extents[number], bool))
            mask[slice(None) if positions is None else positions] = True
        return out


def index_table(c: Dim, extents: dict[str, int]) -> tuple[Array, list[str]]:
    """A coordinate on all points, over the axes that it really moves with, and their names."""
    names = list(extents)
    grid = {n: np.arange(extents[n]).reshape([-1 if m == n else 1 for m in names]) for n in names}
    table = fold(
        c,
        const=lambda v: np.asarray(v),
        symbol=lambda n: grid[n],
        add=lambda a, b: a + b,
        mul=lambda a, b: a * b,
        floordiv=lambda a, b: a // b,
        minimum=lambda a, b: np.minimum(a, b),
    )
    table = np.broadcast_to(table, [extents[n] for n in names])
    moving = []
    for axis in range(len(names) - 1, -1, -1):
        if table.shape[axis] > 1 and np.any(table != np.take(table, [0], axis=axis)):
            moving.append(names[axis])
        else:
            table = np.take(table, 0, axis=axis) if table.shape[axis] else table
    return table, moving[::-1]


def _major(table: Array) -> int | None:
    """The axis along which a table of two axes walks in whole blocks, or None."""
    for axis in (0, 1):
        low, high = table.min(axis=1 - axis), table.max(axis=1 - axis)
        same = (low[1:] == low[:-1]) & (high[1:] == high[:-1])
        if np.all(same | (low[1:] > high[:-1])):
            return axis
    return None


def _periodic(table: Array, size: int) -> bool:
    """Whether a table walks 0..size-1 over and over, at any pace."""
    steps = np.flatnonzero(np.diff(table))
    pace = int(steps[0]) + 1 if steps.size else 1
    return np.array_equal(table, np.arange(table.size) // pace % size)


def _only_chooses(e: Expr) -> bool:
    """Whether an expression does nothing but choose among padded reads by position (a concatenation)."""
    if isinstance(e, Read):
        return e.default is not None
    if isinstance(e, Select):
        by_place = isinstance(e.condition, Compare) and all(
            isinstance(n, (Index, Compare)) for n in walk(e.condition)
        )
        return by_place and _only_chooses(e.a) and _only_chooses(e.b)
    return False
