"""Making an expression ready to stand in a statement: simplified, folded, nothing computed twice.

Generators and fused scalar expressions hand over trees in which a sub-expression may stand in many
places; printed as a tree each place would compute it again, exponentially often in a chain.  So what
is shared (or very deep) is pinned first, raw loads become pinned loads, Dims are simplified under
the facts of the scope, and constants are folded with the interpreter's own arithmetic.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from aino_ir.errors.loops import LoopTypeError, StaleRegisterRead
from aino_ir.loops.evaluate import evaluate
from aino_ir.loops.expr import (
    Accumulator,
    Arg,
    Binary,
    Bitcast,
    Cast,
    Compare,
    Const,
    Expr,
    Fma,
    Index,
    Load,
    PrefixMask,
    Ramp,
    Read,
    RegRead,
    Round,
    Select,
    Splat,
    Unary,
    Var,
    const,
)
from aino_ir.loops.expr_tree import rebuild
from aino_ir.loops.numbering import LEAVES

if TYPE_CHECKING:
    from aino_ir.loops.values import ValueBuilder

_DEPTH_LIMIT = 24
"""Deeper trees are cut by pinning: printers recurse, and people read."""

_FOLDABLE = (Unary, Binary, Compare, Fma, Cast, Round, Bitcast, Splat)

_NEUTRAL_RIGHT: dict[str, tuple[object, object]] = {
    "add": ("-0x0.0p+0", 0),
    "sub": ("0x0.0p+0", 0),
    "mul": ("0x1.0000000000000p+0", 1),
    "div": ("0x1.0000000000000p+0", 1),
    "and": (None, None),
    "or": (None, 0),
    "xor": (None, 0),
    "shl": (None, 0),
    "shr": (None, 0),
}
"""Per operation: the right operand (float by its hex digits, integer) that gives the left one exactly."""

_NEUTRAL_LEFT = {op: _NEUTRAL_RIGHT[op] for op in ("add", "mul", "and", "or", "xor")}


class Settler:
    """Settles expressions for one builder."""

    def __init__(self, builder: ValueBuilder) -> None:
        self._builder = builder

    def settle(self, root: Expr) -> Expr:
        """`root` ready for a statement at the builder's present place.

        Raises:
            StaleRegisterRead: it reads a register that was set since the read was made.
            LoopTypeError: it holds a node that only a `Compute` may hold.
        """
        children = root.children()
        if isinstance(root, Load) or not all(isinstance(c, LEAVES) for c in children):
            return self._settle_tree(root)
        if not children:
            return self._leaf(root)
        return self._node(root, children, tuple([self._leaf(c) for c in children]))

    def _settle_tree(self, root: Expr) -> Expr:
        order, shared = _operands_first(root)
        done: dict[int, Expr] = {}
        depth: dict[int, int] = {}
        for e in order:
            old = e.children()
            new = tuple([done[id(c)] if id(c) in done else self._leaf(c) for c in old])
            result = self._node(e, old, new)
            level = 1 + max((depth.get(id(c), 0) for c in old), default=0)
            if e is not root and (id(e) in shared or level >= _DEPTH_LIMIT):
                result, level = self._builder.pin(result), 0
            done[id(e)] = result
            depth[id(e)] = level
        return done[id(root)]

    def _leaf(self, e: Expr) -> Expr:
        if isinstance(e, (Var, Const)):
            return e
        if isinstance(e, RegRead):
            if e.version != self._builder.register_version(e.name):
                raise StaleRegisterRead(kernel=self._builder.name, register=e.name)
            return e
        if isinstance(e, Index):
            dim = self._builder.dim(e.dim)
            return const(dim, e.dtype) if isinstance(dim, int) else e if dim is e.dim else Index(dim)
        if isinstance(e, Ramp):
            base = self._builder.dim(e.base)
            return e if base is e.base else replace(e, base=base)
        if isinstance(e, PrefixMask):
            return self._mask(e)
        return self._node(e, (), ())

    def _mask(self, e: PrefixMask) -> Expr:
        count = self._builder.dim(e.count)
        symbols = self._builder.symbols
        if symbols.prove_ge(count, e.lanes):
            return Const(True, e.type)
        if symbols.prove_ge(0, count):
            return Const(False, e.type)
        return e if count is e.count else replace(e, count=count)

    def _node(self, e: Expr, old: tuple[Expr, ...], new: tuple[Expr, ...]) -> Expr:
        if any(a is not b for a, b in zip(old, new, strict=True)):
            e = rebuild(e, new)
        if isinstance(e, Load):
            return self._builder.load(
                e.buffer,
                e.offset,
                e.lanes,
                stride=e.stride,
                mask=e.mask,
                other=e.other,
                gather=e.gather,
            )
        if isinstance(e, (Read, Arg, Accumulator)):
            raise LoopTypeError(
                kernel=self._builder.name,
                what="an expression in a statement",
                expected="free of Read, Arg and Accumulator",
                got=f"holding {e}",
            )
        if any(isinstance(c, Const) for c in new):
            return fold(e)
        return e


def fold(e: Expr) -> Expr:
    """`e`, or what it is by its constant operands; the same bits (NaN payloads apart)."""
    if isinstance(e, _FOLDABLE) and all(isinstance(c, Const) for c in e.children()):
        value = evaluate(e).reshape(-1)
        return Const(value[0].item(), e.type)
    if isinstance(e, Select) and isinstance(e.condition, Const):
        return e.a if e.condition.value else e.b
    if isinstance(e, Binary):
        if isinstance(e.b, Const) and _is_neutral(_NEUTRAL_RIGHT, e.op, e.b):
            return e.a
        if isinstance(e.a, Const) and _is_neutral(_NEUTRAL_LEFT, e.op, e.a):
            return e.b
        if e.op == "and" and e.dtype.is_bool:
            for side in (e.a, e.b):
                if isinstance(side, Const) and not side.value:
                    return side
    return e


def _is_neutral(table: dict[str, tuple[object, object]], op: str, constant: Const) -> bool:
    row = table.get(op)
    if row is None:
        return False
    if isinstance(constant.value, float):
        return constant.value.hex() == row[0]
    if op == "and":
        return bool(constant.value) if constant.dtype.is_bool else constant.value == -1
    return row[1] is not None and int(constant.value) == row[1]


def _operands_first(root: Expr) -> tuple[list[Expr], set[int]]:
    """Distinct nodes of a tree, leaves apart, operands first; and the ids of those used more than once."""
    seen: set[int] = set()
    shared: set[int] = set()
    order: list[Expr] = []
    stack: list[tuple[Expr, bool]] = [(root, False)]
    while stack:
        e, ready = stack.pop()
        if ready:
            order.append(e)
        elif isinstance(e, LEAVES):
            continue
        elif id(e) in seen:
            shared.add(id(e))
        else:
            seen.add(id(e))
            stack.append((e, True))
            stack.extend((c, False) for c in e.children())
    return order, shared
