"""What TVM's simplifier and LLVM would do to floats that IEEE arithmetic does not allow.

TVM takes ``x - x`` for zero, ``(x + y) - y`` for x and ``x == x`` for true, rounded or not, NaN or not, also
where it has put what a name stands for in the name's place.  LLVM contracts a product with the sum around it.
"""

from __future__ import annotations

from collections.abc import Callable

from aino_ir.loops.expr import Binary, Expr, Select, Splat, Var

Hidden = Callable[[Var], bool]
"""Whether TVM does not look behind a name."""


def cancels(a: Expr, b: Expr, hidden: Hidden) -> bool:
    """Whether TVM may find the same on both sides of a difference."""
    return a == b or any(_may_be_sum(x, hidden) for x in (a, b))


def alike(a: Expr, b: Expr, hidden: Hidden) -> bool:
    """Whether TVM may take two values for one, which NaN does not equal."""
    return a == b or all(isinstance(x, Var) and not hidden(x) for x in (a, b))


def may_be_swallowed(e: Expr) -> bool:
    """Whether a float that a function gives may become a part of what its caller does with it."""
    bare = isinstance(e, Var) or (isinstance(e, Binary) and e.op in ("add", "mul"))
    return bare and e.dtype.is_float


def _may_be_sum(e: Expr, hidden: Hidden) -> bool:
    if isinstance(e, Splat):
        return _may_be_sum(e.x, hidden)
    if isinstance(e, Var):
        return not hidden(e)
    return isinstance(e, Select) or (isinstance(e, Binary) and e.op == "add")
