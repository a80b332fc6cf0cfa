"""Index notation as tensors: `Compute`, `RowProgram` and attention over their whole iteration spaces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from aino_ir.codegen.stablehlo.elementwise import store
from aino_ir.codegen.stablehlo.expression import Expressions, below
from aino_ir.codegen.stablehlo.space import Space, Spread, refuse
from aino_ir.codegen.stablehlo.types import Tensor
from aino_ir.codegen.stablehlo.writer import Writer
from aino_ir.compute import Axis, Check, Compute, RowProgram, axis_name
from aino_ir.dims import Dim, DimLike, is_static, symbol
from aino_ir.dtypes import DType, i64
from aino_ir.kernels import Attention
from aino_ir.loops.expr import Binary, Read, VecType, identity

COMBINERS = {
    "add": "add",
    "mul": "multiply",
    "min": "minimum",
    "max": "maximum",
    "and": "and",
    "or": "or",
}


class Definitions:
    """Writes definitions of one op.

    Args:
        w: where operations are written.
        symbols: values of the function's symbols.
        operands: the op's present operands.
    """

    def __init__(self, w: Writer, symbols: Mapping[str, int], operands: Sequence[Tensor]) -> None:
        self.w = w
        self.symbols = symbols
        self.operands = operands

    # -- Compute ------------------------------------------------------------------------------------

    def compute(self, program: Compute, dtype: DType) -> Tensor:
        """The result of a `Compute`."""
        space = Space(self.w, (*program.axes, *program.reduce), self.symbols)
        expressions = Expressions(space, self.operands)
        outer = [a.name for a in program.axes]
        if program.reduce:
            expressions.leaves["accumulator"] = self._reduced(program, space, expressions)
        value = expressions.value(program.result_expr)
        return store(self.w, space.expand(value, outer), dtype)

    def _reduced(self, program: Compute, space: Space, expressions: Expressions) -> Spread:
        over = [a.name for a in program.reduce]
        assert program.combiner is not None
        if program.combiner == "add" and program.where is None and isinstance(program.body, Binary):
            factors = (program.body.a, program.body.b) if program.body.op == "mul" else None
            if factors is not None:
                a, b = (expressions.value(f) for f in factors)
                if set(over) <= {*a.axes} & {*b.axes} and not _empty(space, a, b):
                    return contract(space, a, b, over)
        body = expressions.value(program.body)
        if program.where is not None:
            neutral = self.w.constant(identity(program.combiner, body.tensor.dtype), body.tensor.dtype)
            (mask, x, y), axes = space.aligned([expressions.value(program.where), body, Spread(neutral)])
            body = Spread(self.w.select(mask, x, y), axes)
        return combined(space, body, program.combiner, over)

    # -- RowProgram ---------------------------------------------------------------------------------

    def rows(self, program: RowProgram, results: Sequence[tuple[DType, tuple[int, ...]]]) -> list[Tensor]:
        """The results of a `RowProgram`."""
        space = Space(self.w, (*program.axes, *program.row), self.symbols)
        expressions = Expressions(space, self.operands)
        over = [a.name for a in program.row]
        for stage in program.stages:
            value = expressions.value(stage.expr)
            if stage.kind == "reduce" and stage.combiner in ("argmax", "argmin"):
                value = self._position(space, value, stage.combiner, over)
            elif stage.kind == "reduce":
                assert stage.combiner is not None
                value = combined(space, value, stage.combiner, over)
                if stage.combiner == "max":
                    expressions.greatest[stage.name] = stage.expr
            expressions.leaves[stage.name] = value
        wanted = [(program.out, program.out_index), *((e, at) for e, at, _ in program.extra)]
        return [
            store(self.w, placed(space, expressions.value(e), at, shape), dtype)
            for (e, at), (dtype, shape) in zip(wanted, results, strict=True)
        ]

    def _position(self, space: Space, value: Spread, combiner: str, over: list[str]) -> Spread:
        """The first position of the extreme of each row, NaN being one."""
        w = self.w
        top = combined(space, value, combiner[3:], over)
        axes = space.ordered((*value.axes, *over))
        x, best = space.expand(value, axes), space.expand(top, axes)
        hit = w.compare("EQ", x, best)
        if x.dtype.is_float:
            hit = w.same("or", hit, w.compare("NE", x, x))
        position: DimLike = 0
        for name in over:
            position = position * space.extents[name] + symbol(name)
        here = space.expand(space.coordinate(position), axes)
        last = w.constant((1 << 63) - 1, i64, here.shape)
        return combined(space, Spread(w.select(hit, here, last), axes), "min", over)

    # -- attention ----------------------------------------------------------------------------------

    def attention(self, program: Attention, dtype: DType) -> Tensor:
        """softmax(score(q k)) v; see `aino_ir.kernels.Attention`."""
        w = self.w
        names = ("b", "h", "q", "k", "d", "e")
        extents = (
            program.batch,
            program.heads,
            program.queries,
            program.keys,
            program.width,
            program.value_width,
        )
        axes = [Axis(n, e) for n, e in zip(names, extents, strict=True)]
        b, h, q, k, d, e = (a.dim for a in axes)
        space = Space(w, axes, self.symbols)
        shared = space.number(program.heads) // max(1, space.number(program.kv_heads))
        head: DimLike = h // shared if shared > 1 else h
        compute = VecType(dtype.compute)
        expressions = Expressions(space, self.operands)
        query, key, value = (
            expressions.value(Read(n, at, compute))
            for n, at in enumerate(((b, h, q, d), (b, head, k, d), (b, head, k, e)))
        )
        keys, width = axis_name("k"), axis_name("d")
        expressions.leaves[0] = contract(space, query, key, [width])
        score = expressions.value(program.score)
        top = combined(space, score, "max", [keys])
        if program.masked_rows_zero:
            top = self._where_equal(space, top, float("-inf"), 0.0)
        weights = below(space, score, top)
        weights = Spread(w.same("exponential", weights.tensor), weights.axes)
        total = combined(space, weights, "add", [keys])
        if program.masked_rows_zero:
            total = self._where_equal(space, total, 0.0, 1.0)
        (x, y), over = space.aligned([weights, total])
        weights = Spread(w.same("divide", x, y), over)
        result = contract(space, weights, value, [keys])
        return store(w, space.expand(result, [axis_name(n) for n in ("b", "h", "q", "e")]), dtype)

    def _where_equal(self, space: Space, x: Spread, found: float, instead: float) -> Spread:
        w, t = self.w, x.tensor
        hit = w.compare("EQ", t, w.constant(found, t.dtype, t.shape))
        return Spread(w.select(hit, w.constant(instead, t.dtype, t.shape), t), x.axes)

    # -- checks -------------------------------------------------------------------------------------

    def violation(self, check: Check) -> tuple[Tensor, Tensor] | None:
        """(whether a check fails anywhere, one value that it fails with); None when it has no point."""
        w = self.w
        space = Space(w, check.axes, self.symbols)
        if 0 in space.extents.values():
            return None
        expressions = Expressions(space, self.operands)
        (legal, value), _ = space.aligned(
            [expressions.value(check.condition), expressions.value(check.value)]
        )
        everything = list(range(legal.rank))
        bad = w.same("not", legal)
        least = w.constant(-(1 << 63), i64, value.shape)
        shown = w.select(bad, w.convert(value, i64), least)
        found = w.reduce(bad, "or", w.constant(False, bad.dtype), everything)
        return found, w.reduce(shown, "maximum", w.constant(-(1 << 63), i64), everything)


def combined(space: Space, value: Spread, combiner: str, over: Sequence[str]) -> Spread:
    """A reduction by one of the language's combiners."""
    dtype = value.tensor.dtype
    if dtype.is_bool:
        combiner = {"add": "or", "max": "or", "min": "and", "mul": "and"}.get(combiner, combiner)
    start = space.w.constant(combiner == "and" if dtype.is_bool else identity(combiner, dtype), dtype)
    return space.reduce(value, COMBINERS[combiner], start, over)


def contract(space: Space, a: Spread, b: Spread, over: Sequence[str]) -> Spread:
    """The sum over axes that both have of their product."""
    both = [n for n in a.axes if n in b.axes and n not in over]
    batch = ([a.axes.index(n) for n in both], [b.axes.index(n) for n in both])
    inner = ([a.axes.index(n) for n in over], [b.axes.index(n) for n in over])
    result = space.w.dot(a.tensor, b.tensor, batch, inner)
    taken = {*both, *over}
    labels = [*both, *(n for n in a.axes if n not in taken), *(n for n in b.axes if n not in taken)]
    axes = space.ordered(labels)
    return Spread(space.w.transpose(result, [labels.index(n) for n in axes]), axes)


def placed(space: Space, value: Spread, at: Sequence[DimLike], shape: tuple[int, ...]) -> Tensor:
    """A value as a tensor whose coordinates are axes of the space, axes in row-major order, or 0."""
    names: list[str] = []
    for c, extent in zip(at, shape, strict=True):
        names += _row_major(space, c, extent)
    if len(set(names)) != len(names):
        raise refuse(f"its result is written at ({', '.join(map(str, at))})")
    return space.w.reshape(space.expand(value, names), shape)


def _row_major(space: Space, coordinate: DimLike, extent: int) -> list[str]:
    """The axes of a coordinate such as ``group * width + channel``, slowest first; none of 0."""
    c = space.bound(coordinate)
    terms = c.terms() if isinstance(c, Dim) and c.affine and c.constant == 0 else ()
    steps = sorted(((step, next(iter(atoms[0].symbols))) for step, atoms in terms), reverse=True)
    rest = extent
    for step, name in steps:
        size = space.extents.get(name, 0)
        if size == 0 or rest != step * size:
            raise refuse(f"its result is written at {coordinate}")
        rest = step
    if rest != 1 or not (steps or (is_static(c) and c == 0)):
        raise refuse(f"its result is written at {coordinate}")
    return [name for _, name in steps]


def _empty(space: Space, *values: Spread) -> bool:
    return any(0 in v.tensor.shape for v in values)
