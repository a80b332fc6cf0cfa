"""Composition: one op, or a fused group of ops, as one `KernelSpec`.

Inside a group, maps are inlined by substitution: the value of an inner op at a coordinate is its
definition with operand Reads replaced by the producers' values at the mapped coordinates.  At most
one op of a group may reduce (the anchor); what stands before it becomes its prologue (inside the
body), what stands after it its epilogue (over the Accumulator).  Movements after the anchor
(transpose, reshape) only change the coordinates that results are written to.
Inner values of storage dtypes round as they would outside.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from aino_ir.codegen.kernels.access import dim_expr
from aino_ir.compute import Axis, Check, Compute, Nest, RowProgram, axes, axis_name, coordinates, reads
from aino_ir.dims import Dim, DimLike, free_symbols, symbol
from aino_ir.errors.codegen import NotComposable
from aino_ir.graph import Value
from aino_ir.kernels import Attention, KernelSpec, Operand, Program, Result
from aino_ir.loops.expr import (
    Accumulator,
    Const,
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
from aino_ir.loops.expr_tree import map_expr, substitute_dims, walk
from aino_ir.op import Op, Trait
from aino_ir.short_sums import ShortSums
from aino_ir.sparsity import ZeroPattern
from aino_ir.symbols import Symbols
from aino_ir.types import Layout, TensorType

Coordinates = tuple["DimLike | Expr", ...]

LEAST = -(1 << 62)
"""The least value of an integer symbol, where nothing else is known."""


@dataclass(frozen=True)
class Storage:
    """Where a value lives: what `Operand` and `Result` need to know."""

    layout: Layout
    allocated: tuple[DimLike, ...] | None
    constant: bool
    zeros: ZeroPattern | None = None
    short: ShortSums | None = None


StorageOf = Callable[[Value], Storage]


class Group:
    """The ops of one kernel: a single op, or the region of a `core.fused`.

    Attributes:
        ops: in order, without the terminator.
        inputs: values outside the group that it reads; position = operand number.
        outputs: values inside that leave it.
    """

    def __init__(self, op: Op) -> None:
        self.op = op
        if op.name == "core.fused":
            block = op.regions[0]
            self.ops = [o for o in block if not o.has(Trait.TERMINATOR)]
            self.inputs: list[Value] = list(block.args)
            self.outer: list[Value] = [v for v in op.operands if v is not None]
            self.outputs = [v for v in block.terminator.operands if v is not None]
        else:
            self.ops = [op]
            self.inputs = list(dict.fromkeys(op.present_operands()))
            self.outer = self.inputs
            self.outputs = list(op.results)
        self.number = {v: i for i, v in enumerate(self.inputs)}

    def anchor(self) -> Op:
        """The op that reduces (or cannot be inlined), else the last op."""
        anchors = [o for o in self.ops if not is_map(o)]
        if len(anchors) > 1:
            names = ", ".join(o.name for o in anchors)
            raise NotComposable(loc=self.op.loc, op=self.op.name, reason=f"it holds several anchors: {names}")
        return anchors[0] if anchors else self.ops[-1]


def is_map(op: Op) -> bool:
    """Whether the op is a Compute without reduction, so that it can be inlined anywhere."""
    definition = definition_of(op)
    return isinstance(definition, Compute) and not definition.reduce


def definition_of(op: Op) -> Program | None:
    """`op.define()`, with operand numbers as positions among all operand slots."""
    return op.define()  # type: ignore[no-any-return]


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


def scalar_constant(v: Value) -> Const | None:
    """The literal that a one-element constant becomes, or None."""
    if v.op is None or v.op.name != "core.constant":
        return None
    handle = v.op.value  # type: ignore[attr-defined]
    if handle.size != 1 or handle.is_lazy:
        return None
    item = handle.array().astype(v.dtype.compute.numpy).reshape(-1)[0].item()
    return const(item, v.dtype.compute)


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


def compose(group: Group, storage: StorageOf, symbols: Symbols, numerics: str = "default") -> Composed:
    """The spec of a group, and the graph values behind its operands.

    Args:
        group: the ops of one kernel.
        storage: where a value outside the group lives.
        symbols: the function's table, for the bounds of the symbols that occur.
    """
    composer = Composer(group)
    program = composer.program()
    results = [
        (v, None if e is None else composer.resolved(e), at, scalar)
        for v, e, at, scalar in _results(composer, program)
    ]
    program = _mapped_program(program, composer.resolved)
    composer.checks = [
        replace(c, condition=composer.resolved(c.condition), value=composer.resolved(c.value))
        for c in composer.checks
    ]
    checks = tuple(composer.checks)
    if any(_needs_anchor(e) for c in checks for e in (c.condition, c.value)):
        reason = "a run-time check needs the reduction's result before it is there"
        raise NotComposable(loc=group.op.loc, op=group.op.name, reason=reason)
    if isinstance(program, (RowProgram, Attention)):
        program = replace(program, checks=checks)
    if isinstance(program, Compute):
        program = replace(program, checks=checks, finish=None)
        if not program.reduce:
            body = results[0][1]
            assert body is not None
            program = replace(program, axes=_map_axes(group, program), body=body)
    numbers = _used_operands(program, [e for _, e, _, _ in results], composer)
    renumber: dict[int, int] = {}
    for new, old in enumerate(numbers):
        renumber.setdefault(old, new)
    program = _renumber_program(program, renumber)
    operands = _operands(group, composer, numbers, storage)
    made = tuple(
        _result(v, expr if expr is None else renumbered(expr, renumber), index, per_row, storage, i)
        for i, (v, expr, index, per_row) in enumerate(results)
    )
    spec = KernelSpec(
        composer.anchor.name.rsplit(".", 1)[-1],
        program,
        operands,
        made,
        symbol_bounds(program, operands, made, symbols),
        numerics,
        label=", ".join(o.name for o in group.ops),
    )
    return Composed(spec, tuple(group.outer[n] for n in numbers))


@dataclass(frozen=True)
class Composed:
    """A spec and the values that its operands are."""

    spec: KernelSpec
    operands: tuple[Value, ...]


def _map_axes(group: Group, program: Compute) -> tuple[Axis, ...]:
    return axes("i", group.outputs[0].shape)


def _results(
    composer: Composer, program: Program
) -> list[tuple[Value, Expr | None, tuple[DimLike, ...], bool]]:
    group, anchor = composer.group, composer.anchor
    if isinstance(program, Nest):
        return [(v, None, (), False) for v in group.outputs]
    if isinstance(program, Compute) and not program.reduce:
        at = coordinates(axes("i", group.outputs[0].shape))
        return [(v, composer.value(v, at), at, False) for v in group.outputs]
    start, value, per_row = _anchor_result(program, anchor)
    composer.anchored = {anchor.results[0]: value}
    index = forward_coordinates(group, anchor.results[0], start)
    out: list[tuple[Value, Expr | None, tuple[DimLike, ...], bool]] = []
    for v in group.outputs:
        if v.op is anchor and v.index > 0:
            assert isinstance(program, RowProgram)
            expr, at, scalar = program.extra[v.index - 1]
            out.append((v, composer.operands_inlined(anchor, expr), at, scalar))
        elif v is anchor.results[0]:
            out.append((v, value, index[v], per_row))
        else:
            out.append((v, composer.value(v, index[v]), index[v], per_row))
    return out


def _anchor_result(program: Program, anchor: Op) -> tuple[tuple[DimLike, ...], Expr, bool]:
    """(coordinates of the anchor's result at the iteration point, its value there, once per row)."""
    if isinstance(program, Compute):
        return coordinates(program.axes), program.result_expr, False
    if isinstance(program, RowProgram):
        return program.out_index, program.out, program.per_row
    assert isinstance(program, Attention)
    return (
        tuple(symbol(axis_name(n)) for n in ("b", "h", "q", "d")),
        Accumulator(VecType(anchor.results[0].dtype.compute)),
        False,
    )


def forward_coordinates(
    group: Group, start: Value, at: tuple[DimLike, ...]
) -> dict[Value, tuple[DimLike, ...]]:
    """For each value computed from the anchor's: which of its elements the iteration point makes."""
    known = {start: at}
    for op in group.ops:
        source = next((v for v in op.present_operands() if v in known), None)
        if source is None or any(r in known for r in op.results):
            continue
        known[op.result] = op.forward(source, known[source])
    return known


def _used_operands(program: Program, exprs: list[Expr | None], composer: Composer) -> list[int]:
    """Group inputs that are the kernel's operands: all of a nest's op; q, k and v of an attention first."""
    if isinstance(program, Nest):
        return [composer.group.number[v] for v in composer.anchor.present_operands()]
    used: set[int] = set()
    fixed: list[int] = []
    if isinstance(program, Attention):
        fixed = [composer.group.number[v] for v in list(composer.anchor.present_operands())[:3]]
    for e in (*program_expressions(program), *(e for e in exprs if e is not None)):
        used |= {r.operand for r in reads(e)}
    return [*fixed, *sorted(used - set(fixed))]


def _needs_anchor(expr: Expr) -> bool:
    """Whether an expression reads the anchor's result (an accumulator, a stage of its rows)."""
    for e in walk(expr):
        if isinstance(e, (Accumulator, Var)):
            return True
        if isinstance(e, Read) and any(_needs_anchor(c) for c in e.index if isinstance(c, Expr)):
            return True
    return False


def program_expressions(program: Program) -> list[Expr]:
    """Every expression of a program."""
    if isinstance(program, Nest):
        return []
    checked = [e for c in program.checks for e in (c.condition, c.value)]
    if isinstance(program, Compute):
        return [program.body, *(e for e in (program.finish, program.where) if e is not None), *checked]
    if isinstance(program, RowProgram):
        extra = (e for e, _, _ in program.extra)
        return [*(s.expr for s in program.stages), program.out, *extra, *checked]
    return [program.score, *checked]


def renumbered(expr: Expr, renumber: dict[int, int]) -> Expr:
    """An expression whose Reads are of other operands: new position by old one."""

    def leaf(e: Expr) -> Expr | None:
        if not isinstance(e, Read):
            return None
        index = tuple(map_expr(c, leaf) if isinstance(c, Expr) else c for c in e.index)
        default = None if e.default is None else map_expr(e.default, leaf)
        return replace(e, operand=renumber[e.operand], index=index, default=default)

    return map_expr(expr, leaf)


def _renumber_program(program: Program, renumber: dict[int, int]) -> Program:
    return _mapped_program(program, lambda e: renumbered(e, renumber))


def _mapped_program(program: Program, change: Callable[[Expr], Expr]) -> Program:
    """The program with every expression changed."""

    def sub(e: Expr | None) -> Expr | None:
        return None if e is None else change(e)

    if isinstance(program, Nest):
        return program
    checks = tuple(replace(c, condition=change(c.condition), value=change(c.value)) for c in program.checks)
    if isinstance(program, Compute):
        return replace(
            program,
            body=change(program.body),
            finish=sub(program.finish),
            where=sub(program.where),
            checks=checks,
        )
    if isinstance(program, RowProgram):
        stages = tuple(replace(s, expr=change(s.expr)) for s in program.stages)
        extra = tuple((change(e), at, scalar) for e, at, scalar in program.extra)
        return replace(program, stages=stages, out=change(program.out), extra=extra, checks=checks)
    return replace(program, score=change(program.score), checks=checks)


def _operands(
    group: Group, composer: Composer, numbers: list[int], storage: StorageOf
) -> tuple[Operand, ...]:
    names = _operand_names(group)
    out: list[Operand] = []
    for n in numbers:
        v = group.outer[n]
        if any(o.name == names[n] for o in out):  # the same value twice (q is k): each needs a name
            names[n] = f"{names[n]}_again"
        where = storage(v)
        assert isinstance(v.type, TensorType)
        out.append(
            Operand(
                names[n],
                v.type.dtype,
                v.type.shape,
                where.layout,
                where.allocated,
                where.constant,
                where.zeros,
                where.short,
            )
        )
    return tuple(out)


def _operand_names(group: Group) -> list[str]:
    """A C identifier for each group input: the operand name of its first reader, made unique."""
    wanted: list[str] = []
    for v in group.inputs:
        reader = next((o for o in group.ops if v in o.operands), group.op)
        position = reader.operands.index(v) if v in reader.operands else 0
        name = next((k for k, (a, b) in reader.segments().items() if a <= position < b), "x")
        wanted.append(name)
    out: list[str] = []
    for name in wanted:
        unique, n = name, 2
        while unique in out:
            unique, n = f"{name}{n}", n + 1
        out.append(unique)
    return out


def _result(
    v: Value, expr: Expr | None, index: tuple[DimLike, ...], per_row: bool, storage: StorageOf, number: int
) -> Result:
    where = storage(v)
    assert isinstance(v.type, TensorType)
    name = "out" if number == 0 else f"out{number + 1}"
    return Result(
        name,
        v.type.dtype,
        v.type.shape,
        where.layout,
        where.allocated,
        False,
        expr=expr,
        index=index,
        per_row=per_row,
    )


def symbol_bounds(
    program: Program, operands: tuple[Operand, ...], results: tuple[Result, ...], symbols: Symbols
) -> tuple[tuple[str, int, int | None], ...]:
    """(name, lo, hi) of every symbol that a kernel's extents and expressions mention."""
    names: set[str] = set()
    for o in (*operands, *results):
        for d in (*o.shape, *(o.allocated or ())):
            names |= free_symbols(d)
    for d in program_extents(program):
        names |= free_symbols(d)
    for e in (*program_expressions(program), *(r.expr for r in results if r.expr is not None)):
        names |= {n for n in dim_symbols(e) if n in symbols}
    out = []
    for name in sorted(names):
        lo, hi = symbols.interval(symbol(name))
        out.append((name, LEAST if lo is None else lo, hi))
    return tuple(out)


def program_extents(program: Program) -> list[DimLike]:
    """The extents that a program itself names: of its loops, of its checks, of its scratch."""
    if isinstance(program, Nest):
        return [program.units, *(size for _, _, size in program.scratch)]
    checked = [axis.extent for check in program.checks for axis in check.axes]
    if isinstance(program, Compute):
        return [*(axis.extent for axis in (*program.axes, *program.reduce)), *checked]
    if isinstance(program, RowProgram):
        return [*(axis.extent for axis in (*program.axes, *program.row)), *checked]
    inner = (program.batch, program.heads, program.kv_heads, program.queries, program.keys)
    return [*inner, program.width, program.value_width, program.offset, *checked]


def dim_symbols(expr: Expr) -> set[str]:
    """Symbols of every Dim in a tree."""
    names: set[str] = set()
    for e in walk(expr):
        dims: list[DimLike | Expr] = []
        if isinstance(e, Index):
            dims = [e.dim]
        elif isinstance(e, Read):
            dims = list(e.index)
        for d in dims:
            if isinstance(d, Dim):
                names |= d.free_symbols()
            elif isinstance(d, Expr):
                names |= dim_symbols(d)
    return names
