"""Readable text of kernels, complete enough to be their identity.

::

    kernel scale(x: f32[n] read, y: f32[n] write) symbols n in 1..512
      units (n + 7)//8
        x0: f32x8 = x[8*unit +: 8] where prefix(n - 8*unit)
        y[8*unit +: 8] = (x0 * 2.0) where prefix(n - 8*unit)

``b[o +: n]`` are n consecutive elements, ``b[o +: n by s]`` strided ones, ``b[o + v]`` a gather or scatter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from aino_ir.dims import DimLike
from aino_ir.loops.dot_expr import AddPairs, Dot, DotHalves, DotPairs
from aino_ir.loops.expr import (
    Accumulator,
    Arg,
    Binary,
    Bitcast,
    Call,
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
    Reduce,
    RegRead,
    Round,
    Select,
    Shuffle,
    Splat,
    Unary,
    Var,
    VecType,
)
from aino_ir.loops.stmt import (
    UNIT,
    Alloc,
    Arrive,
    AwaitCopies,
    AwaitSignal,
    Barrier,
    BindIndex,
    CloseCopies,
    Comment,
    CopyAsync,
    CopyTile,
    DeclareReg,
    Fail,
    For,
    GroupProduct,
    If,
    Let,
    LoopFn,
    Prefetch,
    Registers,
    SetReg,
    Share,
    SharedFactor,
    Signals,
    StartSignals,
    Status,
    Stmt,
    Store,
    TileMap,
    WarpCall,
    While,
)

_INFIX = {
    "add": "+",
    "sub": "-",
    "mul": "*",
    "div": "/",
    "rem": "%",
    "and": "&",
    "or": "|",
    "xor": "^",
    "shl": "<<",
    "shr": ">>",
    "eq": "==",
    "ne": "!=",
    "lt": "<",
    "le": "<=",
    "gt": ">",
    "ge": ">=",
}


def print_loops(fn: LoopFn) -> str:
    """The text of a kernel, without a trailing newline."""
    params = ", ".join(f"{p.name}: {p.dtype}[{p.size}] {p.access.value}" for p in fn.params)
    lines = [f"# {text}" for text in fn.header]
    lines.append(f"kernel {fn.name}({params}){_symbols(fn)}")
    if not isinstance(fn.scratch_bytes, int) or fn.scratch_bytes:
        lines.append(f"  scratch {fn.scratch_bytes} bytes")
    if fn.prologue:
        lines.append("  prologue")
        _block(fn.prologue, 4, lines)
    lines.append(f"  {UNIT}s {fn.units}" + (f" of {fn.threads} threads" if fn.threads > 1 else ""))
    _block(fn.body, 4, lines)
    return "\n".join(lines)


def print_statements(body: Iterable[Stmt]) -> str:
    """The text of a block, one line a statement."""
    lines: list[str] = []
    _block(body, 0, lines)
    return "\n".join(lines)


def print_expr(e: Expr) -> str:
    """The text of an expression."""
    return _EXPR[type(e)](e)


def _symbols(fn: LoopFn) -> str:
    ranges = {name: (lo, hi) for name, lo, hi in fn.facts}
    parts = []
    for name in fn.symbols:
        lo, hi = ranges.get(name, (None, None))
        parts.append(f"{name} in {'' if lo is None else lo}..{'' if hi is None else hi}")
    return " symbols " + ", ".join(parts) if parts else ""


def _block(body: Iterable[Stmt], indent: int, lines: list[str]) -> None:
    for statement in body:
        _STMT[type(statement)](statement, indent, lines)


def _line(text: Callable[[Any], str]) -> Callable[[Any, int, list[str]], None]:
    def write(statement: Any, indent: int, lines: list[str]) -> None:
        lines.append(" " * indent + text(statement))

    return write


def _for(s: For, indent: int, lines: list[str]) -> None:
    step = f" step {s.step}" if s.step != 1 else ""
    unroll = f" unroll {s.unroll}" if s.unroll else ""
    where = " where " + ", ".join(f"{a} {op} {b}" for a, op, b in s.where) if s.where else ""
    lines.append(f"{' ' * indent}for {s.var} in {s.lo}..<{s.hi}{step}{unroll}{where}")
    _block(s.body, indent + 2, lines)


def _if(s: If, indent: int, lines: list[str]) -> None:
    lines.append(f"{' ' * indent}if {print_expr(s.condition)}")
    _block(s.then, indent + 2, lines)
    if s.otherwise:
        lines.append(" " * indent + "else")
        _block(s.otherwise, indent + 2, lines)


def _while(s: While, indent: int, lines: list[str]) -> None:
    lines.append(f"{' ' * indent}while {print_expr(s.condition)}")
    _block(s.body, indent + 2, lines)


def _bind(s: BindIndex) -> str:
    bounds = "" if s.lo is None and s.hi is None else f" in {_or_empty(s.lo)}..{_or_empty(s.hi)}"
    return f"{s.name}: index{bounds} = {print_expr(s.value)}"


def _or_empty(dim: DimLike | None) -> str:
    return "" if dim is None else str(dim)


def _place(buffer: str, offset: DimLike, lanes: int, stride: DimLike, vector: Expr | None) -> str:
    if vector is not None:
        return f"{buffer}[{offset} + {print_expr(vector)}]"
    if lanes == 1:
        return f"{buffer}[{offset}]"
    by = "" if isinstance(stride, int) and stride == 1 else f" by {stride}"
    return f"{buffer}[{offset} +: {lanes}{by}]"


def _warp_call(s: WarpCall) -> str:
    parameter = f" {s.parameter}" if s.parameter else ""
    return f"{', '.join(s.names)} = warp {s.operation}{parameter}({', '.join(map(print_expr, s.operands))})"


def _group_product(s: GroupProduct) -> str:
    factors = [_factor(f) for _, f in s.shared]
    if s.fragments:
        factors.insert(0, f"({', '.join(map(print_expr, s.fragments))})")
    totals = ", ".join(map(print_expr, s.totals))
    lines = f" {s.lines}" if s.lines != 1 else ""
    return f"{', '.join(s.names)} = group {s.operation}{lines}({', '.join(factors)}; {totals})"


def _factor(f: SharedFactor) -> str:
    step = f" by {f.step}" if f.step else ""
    return f"{f.buffer}[{f.offset}{step}]{' turned' if f.turned else ''}"


def _copy(s: CopyAsync) -> str:
    source = _place(s.source, s.source_offset, s.count, 1, None)
    return f"copy {_place(s.target, s.offset, s.count, 1, None)} = {source}{_where(s.mask)}"


def _tile_map(s: TileMap) -> str:
    strides = ", ".join(map(str, (1, *s.strides)))
    kind = " as tf32" if s.rounded else ""
    return f"map {s.name}: {s.lines} lines of {s.buffer}{kind}[{', '.join(map(str, s.extents))}] by {strides}"


def _copy_tile(s: CopyTile) -> str:
    source = f"{s.map}({', '.join(map(str, s.at))})"
    return f"copy tile {s.target}[{s.offset}] = {source} to {s.signals}[{s.index}]"


def _store(s: Store) -> str:
    place = _place(s.buffer, s.offset, s.value.lanes, s.stride, s.scatter)
    return f"{place} = {print_expr(s.value)}{_where(s.mask)}"


def _load(e: Load) -> str:
    other = f" else {print_expr(e.other)}" if e.other is not None else ""
    return _place(e.buffer, e.offset, e.lanes, e.stride, e.gather) + _where(e.mask) + other


def _where(mask: Expr | None) -> str:
    return "" if mask is None else f" where {print_expr(mask)}"


def _type_text(t: VecType) -> str:
    return t.dtype.name if t.lanes == 1 else f"{t.dtype.name}x{t.lanes}"


_STMT: dict[type, Callable[..., None]] = {
    Let: _line(lambda s: f"{s.name}: {_type_text(s.value.type)} = {print_expr(s.value)}"),
    BindIndex: _line(_bind),
    DeclareReg: _line(lambda s: f"reg {s.name}: {_type_text(s.type)} = {print_expr(s.init)}"),
    SetReg: _line(lambda s: f"{s.name} := {print_expr(s.value)}"),
    Store: _line(_store),
    For: _for,
    If: _if,
    While: _while,
    Alloc: _line(lambda s: f"alloc {s.name}: {s.dtype}[{s.size}] at {s.offset}"),
    Share: _line(lambda s: f"share {s.name}: {s.dtype}[{s.size}]"),
    Barrier: _line(lambda s: "barrier of the warp" if s.warp else "barrier"),
    WarpCall: _line(_warp_call),
    GroupProduct: _line(_group_product),
    CopyAsync: _line(_copy),
    CloseCopies: _line(lambda s: "close copies"),
    AwaitCopies: _line(lambda s: f"await copies but {s.open}{', publish' if s.publish else ''}"),
    Signals: _line(lambda s: f"signals {s.name}: {s.count} of {s.arrivals} arrivals"),
    StartSignals: _line(lambda s: f"start {s.signals}"),
    Arrive: _line(lambda s: f"arrive at {s.signals}[{s.index}]{f', {s.bytes} bytes' if s.bytes else ''}"),
    AwaitSignal: _line(lambda s: f"await {s.signals}[{s.index}] parity {s.parity}"),
    TileMap: _line(_tile_map),
    CopyTile: _line(_copy_tile),
    Registers: _line(lambda s: f"{'more' if s.more else 'fewer'} registers: {s.count}"),
    Prefetch: _line(lambda s: f"prefetch {s.buffer}[{s.offset}] locality {s.locality}"),
    Fail: _line(lambda s: f"fail {Status(s.code).name.lower()} {print_expr(s.value)}"),
    Comment: _line(lambda s: "# " + s.text.replace("\n", " ")),
}

_EXPR: dict[type, Callable[..., str]] = {
    Const: lambda e: f"{e.value!r}:{_type_text(e.type)}",
    Index: lambda e: f"index({e.dim})",
    Ramp: lambda e: f"ramp({e.base}, {e.step}, {e.lanes})",
    PrefixMask: lambda e: f"prefix({e.count}, {e.lanes})",
    Var: lambda e: e.name,
    RegRead: lambda e: e.name,
    Arg: lambda e: f"arg{e.index}",
    Accumulator: lambda e: f"acc{e.index}",
    Read: lambda e: _read(e),
    Unary: lambda e: f"{e.op}({print_expr(e.x)})",
    Binary: lambda e: _infix(e),
    Compare: lambda e: _infix(e),
    Fma: lambda e: f"fma({print_expr(e.a)}, {print_expr(e.b)}, {print_expr(e.c)})",
    Dot: lambda e: f"dot({print_expr(e.accumulator)}, {print_expr(e.x)}, {print_expr(e.w)})",
    DotPairs: lambda e: f"dot_pairs({print_expr(e.x)}, {print_expr(e.w)})",
    AddPairs: lambda e: f"add_pairs({print_expr(e.accumulator)}, {print_expr(e.pairs)})",
    DotHalves: lambda e: f"dot_halves({print_expr(e.accumulator)}, {print_expr(e.x)}, {print_expr(e.w)})",
    Select: lambda e: f"select({print_expr(e.condition)}, {print_expr(e.a)}, {print_expr(e.b)})",
    Cast: lambda e: f"{e.dtype}({print_expr(e.x)})",
    Round: lambda e: f"round_to({e.storage}, {print_expr(e.x)})",
    Bitcast: lambda e: f"bitcast({e.dtype}, {print_expr(e.x)})",
    Splat: lambda e: f"splat({print_expr(e.x)}, {e.lanes})",
    Shuffle: lambda e: f"shuffle({print_expr(e.a)}, {print_expr(e.b)}, {list(e.pattern)})",
    Reduce: lambda e: f"reduce_{e.op}({print_expr(e.x)})",
    Call: lambda e: f"{e.function}({', '.join(map(print_expr, e.args))})",
    Load: _load,
}


def _infix(e: Binary | Compare) -> str:
    sign = _INFIX.get(e.op)
    a, b = print_expr(e.a), print_expr(e.b)
    return f"{e.op}({a}, {b})" if sign is None else f"({a} {sign} {b})"


def _read(e: Read) -> str:
    places = ", ".join(print_expr(i) if isinstance(i, Expr) else str(i) for i in e.index)
    default = f" else {print_expr(e.default)}" if e.default is not None else ""
    return f"operand{e.operand}[{places}]{default}"
