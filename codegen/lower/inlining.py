"""Definitions of ops put into each other: what an op reads becomes what its producers compute."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from aino_ir.codegen.kernels.access import dim_expr
from aino_ir.codegen.lower.group import Group, definition_of, scalar_constant
from aino_ir.compute import Axis, Check, Compute, RowProgram
from aino_ir.dims import Dim, DimLike, symbol
from aino_ir.errors.codegen import NotComposable
from aino_ir.graph import Value
from aino_ir.kernels import Attention, Program
from aino_ir.loops.expr import (
    Expr,
    Index,
    Read,
    Var,
    VecType,
    binary,
    compare,
    const,
    index,
    round_to,
    select,
)
from aino_ir.loops.expr_tree import map_expr, substitute_dims
from aino_ir.op import Op

Coordinates = tuple["DimLike | Expr", ...]


class Composer:
    """Builds the spec of one group."""

    def __init__(self, group: Group) -> None:
        self.group = group
        self.anchor = group.anchor()
        self.checks: list[Check] = []
        self.anchored: dict[Value, Expr] = {}
        self._memo: dict[tuple[int, Coordinates], Expr] = {}
        self._data: dict[str, Expr] = {}

    def value(self, v: Value, at: Coordinates) -> Expr:
        """The value at a coordinate, in the compute dtype, as an expression over group inputs."""
        number = self.group.number.get(v)
        if number is not None:
            literal = scalar_constant(self.group.outer[number])
            if literal is not None:
                return literal
            return Read(number, at, VecType(v.dtype.compute))
        if v in self.anchored:
            return round_to(self.anchored[v], v.dtype)
        key = (v.id, at)
        if key not in self._memo:
            self._memo[key] = self._inlined(v, at)
        return self._memo[key]

    def _inlined(self, v: Value, at: Coordinates) -> Expr:
        op = v.op
        assert op is not None
        definition = definition_of(op)
        if not isinstance(definition, Compute) or definition.reduce:
            raise NotComposable(loc=op.loc, op=op.name, reason="only maps can be inlined into another kernel")
        self._note_checks(op, definition)
        body = place_at(definition.result_expr, definition.axes, tuple(self._opaque(c) for c in at))
        return round_to(self.operands_inlined(op, body), v.dtype)

    def _opaque(self, c: DimLike | Expr) -> DimLike | Expr:
        """A data-dependent coordinate under a name: its Reads are the group's, not the next op's."""
        if not isinstance(c, Expr) or isinstance(c, Var):
            return c
        name = next((n for n, e in self._data.items() if e == c), None)
        if name is None:
            name = f"{DATA}{len(self._data)}"
            self._data[name] = c
        return Var(name, c.type)

    def resolved(self, expr: Expr) -> Expr:
        """An expression with the names of data-dependent coordinates replaced by what they stand for."""
        return _named_replaced(expr, self._data) if self._data else expr

    def operands_inlined(self, op: Op, expr: Expr) -> Expr:
        """Reads of the op's operands replaced by the operands' values."""
        operands = list(op.present_operands())

        def leaf(e: Expr) -> Expr | None:
            if not isinstance(e, Read):
                return None
            index = tuple(map_expr(c, leaf) if isinstance(c, Expr) else c for c in e.index)
            inner = self.value(operands[e.operand], index)
            if e.default is None:
                return inner
            if isinstance(inner, Read) and self._bounded_alike(inner, operands[e.operand], index):
                return replace(inner, default=map_expr(e.default, leaf))
            return self._guarded(e, operands[e.operand], index, inner, map_expr(e.default, leaf))

        return map_expr(expr, leaf)

    def _bounded_alike(self, inner: Read, operand: Value, at: Coordinates) -> bool:
        """Whether a point is outside of `operand` just where it is outside of the input that `inner` reads.

        So it is for the input itself and for its axes in another order; behind a slice, a gather or a
        broadcast the input has other elements there, or none that the coordinates could miss.
        """
        source = self.group.inputs[inner.operand]
        if inner.default is not None or len(inner.index) != len(at):
            return False
        left = list(zip(inner.index, source.shape, strict=True))
        for c, extent in zip(at, operand.shape, strict=True):
            pair = next((p for p in left if type(p[0]) is type(c) and p[0] == c and p[1] == extent), None)
            if pair is None:
                return False
            left.remove(pair)
        return True

    def _guarded(self, e: Read, operand: Value, at: Coordinates, inner: Expr, default: Expr) -> Expr:
        """A padded read of a computed value: its loads are guarded, and the default chosen outside."""
        inside: Expr | None = None
        for c, extent in zip(at, operand.shape, strict=True):
            value = c if isinstance(c, Expr) else index(c)
            term = binary("and", compare("ge", value, 0), compare("lt", value, index(extent)))
            inside = term if inside is None else binary("and", inside, term)
        return select(inside, map_expr(inner, self._safe), default) if inside is not None else inner

    def _safe(self, e: Expr) -> Expr | None:
        """A leaf that may be computed outside of the padded value, looked-up coordinates included."""
        if isinstance(e, Var) and e.name in self._data:
            return self._opaque(map_expr(self._data[e.name], self._safe))  # type: ignore[return-value]
        if isinstance(e, Read):
            index = tuple(map_expr(c, self._safe) if isinstance(c, Expr) else c for c in e.index)
            return replace(e, index=index, default=const(0, e.dtype) if e.default is None else e.default)
        return None

    def _note_checks(self, op: Op, definition: Compute) -> None:
        for check in definition.checks:
            placed = replace(
                check,
                condition=self.operands_inlined(op, check.condition),
                value=self.operands_inlined(op, check.value),
            )
            if placed not in self.checks:
                self.checks.append(placed)

    # -- the anchor ---------------------------------------------------------------------------------

    def program(self) -> Program:
        """The anchor's definition over the group's inputs."""
        definition = definition_of(self.anchor)
        if definition is None:
            raise NotComposable(
                loc=self.anchor.loc, op=self.anchor.name, reason="it has no definition as loops"
            )
        if isinstance(definition, Compute):
            return self._compute(definition)
        if isinstance(definition, RowProgram):
            stages = tuple(
                replace(s, expr=self.operands_inlined(self.anchor, s.expr)) for s in definition.stages
            )
            return replace(definition, stages=stages, out=self.operands_inlined(self.anchor, definition.out))
        if isinstance(definition, Attention):
            return replace(definition, score=self.operands_inlined(self.anchor, definition.score))
        if len(self.group.ops) > 1:
            reason = "loops written by hand take no other ops in"
            raise NotComposable(loc=self.anchor.loc, op=self.anchor.name, reason=reason)
        return definition

    def _compute(self, definition: Compute) -> Compute:
        self._note_checks(self.anchor, definition)
        if not definition.reduce:
            return replace(definition, checks=())
        inline = self.operands_inlined
        return replace(
            definition,
            body=inline(self.anchor, definition.body),
            finish=None if definition.finish is None else inline(self.anchor, definition.finish),
            where=None if definition.where is None else inline(self.anchor, definition.where),
            checks=(),
        )


DATA = "data."
"""How names of data-dependent coordinates begin while a group is composed."""


PLACED = "placed."
"""How names of axes begin that are about to be replaced by data-dependent coordinates."""


def _named_replaced(expr: Expr, named: dict[str, Expr]) -> Expr:
    def leaf(e: Expr) -> Expr | None:
        if isinstance(e, Var) and e.name in named:
            return _named_replaced(named[e.name], named)
        if isinstance(e, Read):
            index = tuple(map_expr(c, leaf) if isinstance(c, Expr) else c for c in e.index)
            default = None if e.default is None else map_expr(e.default, leaf)
            return replace(e, index=index, default=default)
        return None

    return map_expr(expr, leaf)


def place_at(expr: Expr, space: Sequence[Axis], at: Coordinates) -> Expr:
    """A definition's expression at other coordinates (Dims, or i64 expressions where data decides)."""
    dims: dict[str, DimLike] = {}
    data: dict[str, Expr] = {}
    for axis, c in zip(space, at, strict=True):
        if isinstance(c, Expr):  # under a name of its own: the coordinates may mention an axis of this name
            data[PLACED + axis.name] = c
            dims[axis.name] = symbol(PLACED + axis.name)
        else:
            dims[axis.name] = c
    placed = substitute_dims(expr, dims)
    return _substitute_data(placed, data) if data else placed


def _substitute_data(expr: Expr, data: dict[str, Expr]) -> Expr:
    def coordinate(c: DimLike | Expr) -> DimLike | Expr:
        if isinstance(c, Expr):
            return map_expr(c, leaf)
        if isinstance(c, Dim) and c.free_symbols() & data.keys():
            name = c.as_symbol()
            return data[name] if name is not None else dim_expr(c, data)
        return c

    def leaf(e: Expr) -> Expr | None:
        if isinstance(e, Read):
            default = None if e.default is None else map_expr(e.default, leaf)
            return replace(e, index=tuple(coordinate(c) for c in e.index), default=default)
        if isinstance(e, Index):
            c = coordinate(e.dim)
            return c if isinstance(c, Expr) else None
        return None

    return map_expr(expr, leaf)
