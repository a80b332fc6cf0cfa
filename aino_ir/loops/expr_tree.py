"""Walking over expressions, and making them anew over other parts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, TypeVar

from aino_ir.dims import DimLike
from aino_ir.loops.dot_expr import AddPairs, Dot, DotHalves, DotPairs, add_pairs, dot, dot_halves, dot_pairs
from aino_ir.loops.expr import (
    Binary,
    Bitcast,
    Call,
    Cast,
    Compare,
    Expr,
    Fma,
    Index,
    PrefixMask,
    Ramp,
    Read,
    Reduce,
    Round,
    Select,
    Splat,
    Unary,
    binary,
    bitcast,
    call,
    cast,
    compare,
    fma,
    reduce_lanes,
    round_to,
    select,
    splat,
    unary,
)

Folded = TypeVar("Folded")


def rebuild(node: Expr, children: tuple[Expr, ...]) -> Expr:
    """The same node over other children; lanes follow the children."""
    match node:
        case Unary(op=op):
            return unary(op, children[0])
        case Binary(op=op):
            return binary(op, *children)
        case Compare(op=op):
            return compare(op, *children)
        case Fma():
            return fma(*children)
        case Dot():
            return dot(*children)
        case DotPairs():
            return dot_pairs(*children)
        case AddPairs():
            return add_pairs(*children)
        case DotHalves():
            return dot_halves(*children)
        case Select():
            return select(*children)
        case Cast():
            return cast(children[0], node.dtype)
        case Round(storage=storage):
            return round_to(children[0], storage)
        case Bitcast():
            return bitcast(children[0], node.dtype)
        case Splat():
            return children[0] if children[0].lanes > 1 else splat(children[0], node.lanes)
        case Call(function=function):
            return call(function, *children)
        case Reduce(op=op):
            return reduce_lanes(op, children[0])
    return _replace_children(node, children)


def _replace_children(node: Expr, children: tuple[Expr, ...]) -> Expr:
    rest = iter(children)
    changes: dict[str, Any] = {}
    for f in fields(node):  # type: ignore[arg-type]
        value = getattr(node, f.name)
        if isinstance(value, Expr):
            changes[f.name] = next(rest)
        elif isinstance(value, tuple) and any(isinstance(v, Expr) for v in value):
            changes[f.name] = tuple(next(rest) if isinstance(v, Expr) else v for v in value)
    return replace(node, **changes) if changes else node  # type: ignore[type-var]


def map_expr(node: Expr, leaf: Callable[[Expr], Expr | None]) -> Expr:
    """Rebuild a tree top down: where `leaf` returns an expression it replaces the node.

    Shared subtrees are rebuilt once.
    """
    memo: dict[int, Expr] = {}

    def visit(e: Expr) -> Expr:
        done = memo.get(id(e))
        if done is None:
            done = leaf(e)
            if done is None:
                old = e.children()
                new = tuple(visit(c) for c in old)
                done = e if all(a is b for a, b in zip(old, new, strict=True)) else rebuild(e, new)
            memo[id(e)] = done
        return done

    return visit(node)


def fold(node: Expr, combine: Callable[[Expr, Sequence[Folded]], Folded]) -> Folded:
    """A value for an expression, made from it and the values of its children; shared ones are asked once."""
    values: dict[int, Folded] = {}
    stack = [node]
    while stack:
        e = stack[-1]
        children = e.children()
        rest = [c for c in children if id(c) not in values]
        if rest:
            stack += rest
            continue
        values[id(e)] = combine(e, [values[id(c)] for c in children])
        stack.pop()
    return values[id(node)]


def walk(node: Expr) -> Iterator[Expr]:
    """Every distinct sub-expression once, parents first."""
    seen: set[int] = set()
    stack = [node]
    while stack:
        e = stack.pop()
        if id(e) in seen:
            continue
        seen.add(id(e))
        yield e
        stack.extend(e.children())


def substitute_dims(node: Expr, mapping: Mapping[str, DimLike]) -> Expr:
    """Replace symbols inside every Dim of a tree (indices, offsets, ramps)."""
    from aino_ir.dims import Dim

    def sub(d: Any) -> Any:
        return d.substitute(mapping) if isinstance(d, Dim) else d

    def visit(e: Expr) -> Expr | None:
        match e:
            case Index(dim=d):
                return Index(sub(d))
            case Ramp(base=d):
                return replace(e, base=sub(d))
            case PrefixMask(count=d):
                return replace(e, count=sub(d))
            case Read():
                parts = tuple(map_expr(p, visit) if isinstance(p, Expr) else sub(p) for p in e.index)
                default = map_expr(e.default, visit) if e.default is not None else None
                return replace(e, index=parts, default=default)
        return None

    return map_expr(node, visit)
