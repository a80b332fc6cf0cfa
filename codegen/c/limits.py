"""Checks of a run's extents in the generated main: nothing negative, nothing beyond all memory.

They are computed in double precision, which no product of extents overflows: the 64-bit arithmetic on
sizes and addresses that follows is safe once they have passed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator

from aino_ir.dims import Dim, DimLike, fold
from aino_ir.plan import BufferKind, Plan, Run, walk
from aino_ir.plan import size as step_count
from aino_ir.symbols import Check, Symbols

LARGEST_BYTES = 1 << 43
"""Bytes of one tensor, and of all intermediate ones together: 2^40 elements of eight bytes.

Machines with narrower pointers have a limit of their own (`platforms.Platform.largest_bytes`).
"""

FLOOR = """\
/* The largest whole number up to x. */
static inline double model_floor(double x)
{
    if (!(x > -9e15 && x < 9e15))
        return x;
    double whole = (double)(int64_t)x;
    return whole > x ? whole - 1.0 : whole;
}"""
"""Definition of the function that `as_double` calls."""


def limit_checks(plan: Plan, name: Callable[[str], str], largest_bytes: int = LARGEST_BYTES) -> list[str]:
    """Statements that return a status when the values of the symbols ask for impossible extents.

    Args:
        plan: a finished plan.
        name: the C variable of a symbol.
        largest_bytes: bytes of one tensor, and of all intermediate ones together, at most.
    """
    lines = [
        _unless(f"{as_double(dim, name)} >= 0.0", "AINO_BAD_SHAPE", step) for dim, step in entry_extents(plan)
    ]
    for size in entry_sizes(plan, largest_bytes):
        condition = f"{as_double(size, name)} <= {float(largest_bytes)!r}"
        lines.append(_unless(condition, "AINO_LIMIT_EXCEEDED", step_count(plan.steps)))
    return lines


def entry_extents(plan: Plan) -> Iterator[tuple[Dim, int]]:
    """Extents that a run's shapes decide and that might be negative, each with its first step."""
    table = _table(plan)
    for dim, step in _extents(plan).items():
        if not plan.is_decided(dim) and not table.prove_ge(dim, 0):
            yield dim, step


def entry_sizes(plan: Plan, largest_bytes: int = LARGEST_BYTES) -> Iterator[Dim]:
    """Bytes that a run's shapes decide and that might be more than `largest_bytes`."""
    table = _table(plan)
    for size in _sizes(plan):
        upper = table.interval(size)[1]
        if upper is None or upper > largest_bytes:
            yield size


def late_checks(plan: Plan, bound: str, known: Collection[str], name: Callable[[str], str]) -> Iterator[str]:
    """Conditions on the extents that are known as soon as one symbol is bound.

    Args:
        plan: a finished plan.
        bound: the symbol that has just got its value.
        known: the symbols that have one, that one included.
        name: the C variable of a symbol.
    """
    return (f"{as_double(dim, name)} >= 0.0" for dim in late_extents(plan, bound, known))


def late_extents(plan: Plan, bound: str, known: Collection[str]) -> Iterator[Dim]:
    """Extents that might be negative and are known as soon as one symbol is bound; see `late_checks`."""
    table = _table(plan)
    for dim in _extents(plan):
        symbols = dim.free_symbols()
        if bound in symbols and symbols <= set(known) and not table.prove_ge(dim, 0):
            yield dim


def check_condition(check: Check, name: Callable[[str], str]) -> str:
    """What a check demands, as a C expression."""
    return f"{as_double(check.lhs, name)} {check.relation} {as_double(check.rhs, name)}"


def _table(plan: Plan) -> Symbols:
    table = Symbols()
    for symbol_name, (lo, hi) in plan.symbol_bounds.items():
        table.new(symbol_name, lo, hi)
    return table


def _unless(condition: str, status: str, step: int) -> str:
    return f"    if (!({condition}))\n        return {status} + 256 * {step};"


def _extents(plan: Plan) -> dict[Dim, int]:
    """Every symbolic extent of what kernels read and write, with its first step."""
    found: dict[Dim, int] = {}
    for number, step in enumerate(walk(plan.steps)):
        for view in step.views if isinstance(step, Run) else ():
            for d in view.shape:
                if isinstance(d, Dim):
                    found.setdefault(d, number)
    return found


def _sizes(plan: Plan) -> Iterator[Dim]:
    """Bytes that depend on symbols: the arena's, a thread's scratch, each output's."""
    outputs = [b.bytes for b in plan.buffers if b.kind is BufferKind.OUTPUT]
    for size in dict.fromkeys((plan.arena_bytes, plan.scratch_bytes, *outputs)):
        if isinstance(size, Dim) and not plan.is_decided(size):
            yield size


def as_double(dim: DimLike, name: Callable[[str], str]) -> str:
    """A dimension as a C expression of type double."""
    return fold(
        dim,
        const=lambda value: f"{float(value)!r}",
        symbol=lambda n: f"(double){name(n)}",
        add=lambda a, b: f"({a} + {b})",
        mul=lambda a, b: f"({a} * {b})",
        floordiv=lambda a, b: f"model_floor({a} / {b})",
        minimum=lambda a, b: f"({a} < {b} ? {a} : {b})",
    )
