"""Canonical specs: adjacent axes that every access walks contiguously become one axis.

A 1x1 convolution over H x W becomes a GEMM over H*W, an elementwise op on equal shapes one long
row.  The merge is decided on addresses, so it sees through layouts and views.
"""

from __future__ import annotations

from dataclasses import replace
from typing import cast

from aino_ir.compute import Axis, Compute
from aino_ir.dims import Dim, DimLike, is_static, symbol
from aino_ir.kernels import KernelSpec, Operand
from aino_ir.loops.expr import Expr, Index, Read
from aino_ir.loops.expr_tree import substitute_dims, walk


def merge_axes(spec: KernelSpec, protected: frozenset[str] = frozenset()) -> KernelSpec:
    """The spec with every mergeable pair of neighbouring axes merged; names in `protected` stay.

    Two neighbours (outer, inner) of the same kind (spatial or reduction) merge when each operand's
    address depends on them only as ``outer * extent(inner) + inner`` (or on neither).
    The merged coordinate replaces them by operands and results becoming flat views.
    """
    program = spec.program
    assert isinstance(program, Compute)
    current: Compute = program
    changed = True
    while changed:
        changed = False
        for group in ("axes", "reduce"):
            axes = getattr(current, group)
            for i in range(len(axes) - 1):
                merged = _try_merge(spec, current, group, i, protected)
                if merged is not None:
                    spec, changed = merged, True
                    current = cast(Compute, spec.program)
                    break
    return spec


def _try_merge(
    spec: KernelSpec, program: Compute, group: str, i: int, protected: frozenset[str]
) -> KernelSpec | None:
    axes: tuple[Axis, ...] = getattr(program, group)
    outer, inner = axes[i], axes[i + 1]
    if outer.name in protected or inner.name in protected or (is_static(inner.extent) and inner.extent == 0):
        return None
    exprs = [program.body, *(r.expr for r in spec.results if r.expr is not None)]
    if program.finish is not None:
        exprs.append(program.finish)
    if program.where is not None:
        exprs.append(program.where)
    names = {outer.name, inner.name}
    for e in exprs:
        for node in walk(e):
            if isinstance(node, Index) and isinstance(node.dim, Dim) and node.dim.free_symbols() & names:
                return None
            if isinstance(node, Read) and not _read_merges(node, spec.operands[node.operand], outer, inner):
                return None
    for r in spec.results:
        if not _address_merges(r.addr(r.index), outer, inner):
            return None
    return _merge(spec, program, group, i)


def _read_merges(node: Read, operand: Operand, outer: Axis, inner: Axis) -> bool:
    names = {outer.name, inner.name}
    touched = [c for c in node.index if isinstance(c, Dim) and c.free_symbols() & names]
    if any(isinstance(c, Expr) for c in node.index):
        return not touched and not any(isinstance(c, Expr) and _mentions(c, names) for c in node.index)
    if not touched:
        return True
    if node.default is not None:
        return False
    return _address_merges(operand.addr(node.index), outer, inner)  # type: ignore[arg-type]


def _mentions(e: Expr, names: set[str]) -> bool:
    for node in walk(e):
        if isinstance(node, Index) and isinstance(node.dim, Dim) and node.dim.free_symbols() & names:
            return True
        if isinstance(node, Read):
            for c in node.index:
                if isinstance(c, Dim) and c.free_symbols() & names:
                    return True
                if isinstance(c, Expr) and _mentions(c, names):
                    return True
    return False


def _address_merges(address: DimLike, outer: Axis, inner: Axis) -> bool:
    if not isinstance(address, Dim):
        return True
    a = slope(address, outer.name)
    b = slope(address, inner.name)
    return (
        a is not None and b is not None and (a is b or a == b * inner.extent or _equal(a, b * inner.extent))
    )


def _equal(a: DimLike, b: DimLike) -> bool:
    return a is b or (is_static(a) and is_static(b) and a == b)


def slope(address: DimLike, name: str) -> DimLike | None:
    """d(address)/d(name) where the address is linear in it; None where it is not."""
    if not isinstance(address, Dim) or name not in address.free_symbols():
        return 0
    first = address.substitute({name: 0})
    step = address.substitute({name: 1}) - first
    whole = first + symbol(name) * step
    return step if whole is address or whole == address else None


def _merge(spec: KernelSpec, program: Compute, group: str, i: int) -> KernelSpec:
    """Put coordinates (m // inner, m % inner) for the pair: addresses then simplify to m again."""
    axes: tuple[Axis, ...] = getattr(program, group)
    outer, inner = axes[i], axes[i + 1]
    merged = Axis(outer.name, outer.extent * inner.extent)
    at = {outer.name: merged.dim // inner.extent, inner.name: merged.dim % inner.extent}

    def sub(e: Expr | None) -> Expr | None:
        return None if e is None else substitute_dims(e, at)

    program = replace(
        program,
        body=substitute_dims(program.body, at),
        finish=sub(program.finish),
        where=sub(program.where),
    )
    program = replace(program, **{group: (*axes[:i], merged, *axes[i + 2 :])})  # type: ignore[arg-type]
    results = tuple(
        replace(
            r, expr=sub(r.expr), index=tuple(c.substitute(at) if isinstance(c, Dim) else c for c in r.index)
        )
        for r in spec.results
    )
    return replace(spec, program=program, results=results)


def drop_unit_axes(spec: KernelSpec) -> KernelSpec:
    """The spec without axes of extent 1: their coordinate is 0 everywhere."""
    program = spec.program
    assert isinstance(program, Compute)
    unit = {a.name: 0 for a in (*program.axes, *program.reduce) if is_static(a.extent) and a.extent == 1}
    if not unit:
        return spec

    def sub(e: Expr | None) -> Expr | None:
        return None if e is None else substitute_dims(e, unit)

    program = replace(
        program,
        axes=tuple(a for a in program.axes if a.name not in unit),
        reduce=tuple(a for a in program.reduce if a.name not in unit),
        body=substitute_dims(program.body, unit),
        finish=sub(program.finish),
        where=sub(program.where),
    )
    results = tuple(
        replace(
            r, expr=sub(r.expr), index=tuple(c.substitute(unit) if isinstance(c, Dim) else c for c in r.index)
        )
        for r in spec.results
    )
    return replace(spec, program=program, results=results)


def axes_of(e: Expr) -> set[str]:
    """Names of every symbol that an expression's coordinates and indices depend on."""
    names: set[str] = set()
    for node in walk(e):
        parts: tuple[DimLike | Expr, ...] = ()
        if isinstance(node, Index):
            parts = (node.dim,)
        elif isinstance(node, Read):
            parts = node.index
        for part in parts:
            if isinstance(part, Expr):
                names |= axes_of(part)
            elif isinstance(part, Dim):
                names |= part.free_symbols()
    return names
