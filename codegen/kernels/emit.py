"""Small things that all generators emit: named indices, run-time checks, lane counts."""

from __future__ import annotations

from contextlib import ExitStack

from aino_ir.codegen.kernels.access import Placement, Point
from aino_ir.compute import Check, Compute, Nest
from aino_ir.dims import Dim, DimLike
from aino_ir.kernels import KernelSpec
from aino_ir.loops.builder import LoopBuilder
from aino_ir.loops.expr import Call, Expr, index, unary
from aino_ir.loops.expr_tree import walk
from aino_ir.target import Target


def name_index(b: LoopBuilder, dim: DimLike, hint: str) -> DimLike:
    """A Dim under a name of its own (with its range), so that addresses read well; symbols stay."""
    dim = b.symbols.simplify(dim)
    if not isinstance(dim, Dim) or dim.as_symbol() is not None:
        return dim
    lo, hi = b.symbols.interval(dim)
    return b.index(index(dim), lo, hi, hint)


def vector_lanes(spec: KernelSpec, target: Target) -> int:
    """Lanes of one native vector of the widest compute dtype among operands and results."""
    floats = [o.dtype.compute for o in (*spec.operands, *spec.results) if o.dtype.is_float]
    others = [o.dtype.compute for o in (*spec.operands, *spec.results)]
    widest = max((d.bytes for d in floats or others), default=4)
    return max(1, target.vector_bytes // max(4, widest))


def expressions(spec: KernelSpec) -> list[Expr]:
    """Every expression of a Compute spec."""
    out = [r.expr for r in spec.results if r.expr is not None]
    program = spec.program
    if isinstance(program, Compute):
        out += [program.body, *(e for e in (program.finish, program.where) if e is not None)]
    return out


def is_heavy(spec: KernelSpec) -> bool:
    """Whether some expression calls a math function: then one vector a step keeps registers enough."""
    return any(isinstance(node, Call) for e in expressions(spec) for node in walk(e))


FUNCTION_SIZE = 60
"""Operations of a math function, about."""


def result_size(spec: KernelSpec) -> int:
    """How many operations follow a sum, about."""
    program = spec.program
    found = [r.expr for r in spec.results] + [program.finish if isinstance(program, Compute) else None]
    nodes = (node for e in found if e is not None for node in walk(e))
    return sum(FUNCTION_SIZE if isinstance(node, Call) else 1 for node in nodes)


def emit_checks(place: Placement) -> None:
    """Emit a program's run-time conditions once a call, before the first unit."""
    program = place.spec.program
    for check in () if isinstance(program, Nest) else program.checks:
        with place.b.prologue():
            _emit_check(place, check)


def _emit_check(place: Placement, check: Check) -> None:
    b = place.b
    with ExitStack() as stack:
        at: dict[str, DimLike] = {}
        for axis in check.axes:
            at[axis.name] = stack.enter_context(b.loop(axis.name, 0, axis.extent))
        point = Point(at)
        holds = place.expr(check.condition, point)
        with b.when(unary("not", holds)):
            b.fail(check.status, place.expr(check.value, point))
