"""Prints modules as `.air` text."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from aino_ir.constants import Const
from aino_ir.dims import DimLike, free_symbols
from aino_ir.dtypes import Kind
from aino_ir.graph import Block, Function, Module, Value
from aino_ir.location import Loc
from aino_ir.op import Op
from aino_ir.symbols import Origin
from aino_ir.text.leaves import RESERVED
from aino_ir.types import MapType, OptionalType, SequenceType, StringType, TensorType, Type

INLINE_ELEMENTS = 64
"""Constants of at most this many elements stand in the text."""

ELIDED_ELEMENTS = 8
"""Elements of a constant that people are shown."""


def print_module(module: Module, elide: bool = False) -> str:
    """The text of a module; `elide` shortens constants and leaves tables out (not parseable then)."""
    return Printer(elide).module(module)


class Printer:
    """Prints one module.

    Attributes:
        weights: constants that the text refers to by digest.
    """

    def __init__(self, elide: bool = False) -> None:
        self.elide = elide
        self.weights: dict[str, Const] = {}
        self._locs: dict[Loc, int] = {}
        self._names: dict[int, str] = {}
        self._lines: list[str] = []

    def module(self, module: Module) -> str:
        """The whole text."""
        self._line(0, f"module {quote(module.name)} {{")
        for key, value in sorted(module.metadata.items()):
            self._line(1, f"metadata {quote(key)} = {quote(value)}")
        for function in module.functions.values():
            self._function(function)
        if not self.elide:
            self._tables()
        self._line(0, "}")
        return "\n".join(self._lines) + "\n"

    def _line(self, depth: int, text: str) -> None:
        self._lines.append("  " * depth + text)

    def _tables(self) -> None:
        if self._names:
            self._line(1, "names {")
            for id, name in self._names.items():
                self._line(2, f"%{id} {quote(name)}")
            self._line(1, "}")
        if self._locs:
            self._line(1, "locs {")
            for loc, number in self._locs.items():
                self._line(2, " ".join([f"!{number}", *(quote(e) for e in loc.entries)]))
            self._line(1, "}")

    # -- functions ----------------------------------------------------------------------------------

    def _function(self, function: Function) -> None:
        arguments = ", ".join(self._argument(function, i, v) for i, v in enumerate(function.block.args))
        outputs = ", ".join(quote(n) for n in function.output_names)
        self._line(1, f"func {function_name(function.name)}({arguments}) -> ({outputs})")
        names = list(function.symbols)
        if names:
            self._line(1, "symbols {")
            for name in names:
                info = function.symbols.declared(name)
                lo, hi = bound_text(info.lo), bound_text(info.hi)
                self._line(2, f"{name} in {lo} .. {hi} step {info.divisible_by} {origin_text(info.origin)}")
            self._line(1, "}")
        if function.symbols.checks:
            self._line(1, "checks {")
            for c in function.symbols.checks:
                after = "" if c.after_op is None else f" after {c.after_op}"
                self._line(2, f"{dim_text(c.lhs)} {c.relation} {dim_text(c.rhs)} {quote(c.what)}{after}")
            self._line(1, "}")
        self._line(1, "{")
        self._block(function.block, 2)
        self._line(1, "}")

    def _argument(self, function: Function, index: int, value: Value) -> str:
        inputs = len(function.input_names)
        if index < inputs:
            name, tail = function.input_names[index], ""
            if name in function.defaults:
                tail = f" default = {self._const(function.defaults[name], 2)}"
        else:
            state = function.states[index - inputs]
            name, tail = state.name, " state"
            if state.init is not None:
                tail += f" = {self._const(state.init, 2)}"
        return f"%{value.id}: {type_text(value.type)} {quote(name)}{tail}"

    def _block(self, block: Block, depth: int) -> None:
        for op in block:
            self._op(op, depth)

    def _op(self, op: Op, depth: int) -> None:
        for r in op.results:
            if r.name:
                self._names[r.id] = r.name
        text = f"{', '.join(f'%{r.id}' for r in op.results)} = {op.name}" if op.results else op.name
        if op.operands:
            text += " " + ", ".join("_" if v is None else f"%{v.id}" for v in op.operands)
        text += self._attributes(op, depth)
        tail = ""
        if op.results:
            tail = " : " + ", ".join(type_text(r.type) for r in op.results)
        tail += f" #{op.id}" + self._loc(op.loc)
        if not op.regions:
            self._line(depth, text + tail)
            return
        for number, region in enumerate(op.regions):
            self._names.update((a.id, a.name) for a in region.args if a.name)
            arguments = ", ".join(f"%{a.id}: {type_text(a.type)}" for a in region.args)
            self._line(depth, f"{text} ({arguments}) {{" if number == 0 else f"}} ({arguments}) {{")
            self._block(region, depth + 1)
        self._line(depth, "}" + tail)

    def _loc(self, loc: Loc) -> str:
        if not loc:
            return ""
        if self.elide:
            return f"  // {ascii_text(str(loc))}"
        return f" !{self._locs.setdefault(loc, len(self._locs))}"

    def _attributes(self, op: Op, depth: int) -> str:
        parts = []
        for (name, attr), value in zip(op.declaration.attrs, op.attributes, strict=True):
            parts.append(f"{name} = {self._value(attr.kind, value, depth)}")
        return f" <{', '.join(parts)}>" if parts else ""

    def _value(self, kind: str, value: Any, depth: int) -> str:
        if value is None:
            return "none"
        if kind == "const":
            return self._const(value, depth)
        if self.elide and kind in ("float", "floats"):
            return str(value)
        return ATTRIBUTE_TEXT[kind](value)

    # -- constants ----------------------------------------------------------------------------------

    def _const(self, c: Const, depth: int) -> str:
        head = type_text(c.type)
        if c.is_lazy:
            assert c.block is not None
            if self.elide:
                return f"lazy {head}"
            inner = Printer()
            inner._block(c.block, depth + 1)
            self.weights.update(inner.weights)
            inputs = ", ".join(self._const(i, depth) for i in c.inputs)
            arguments = ", ".join(f"%{a.id}: {type_text(a.type)}" for a in c.block.args)
            body = "\n".join(inner._lines)
            body = re.sub(r" ![0-9]+$", "", body, flags=re.MULTILINE)
            return f"lazy {head} ({inputs}) ({arguments}) {{\n{body}\n{'  ' * depth}}}"
        if self.elide and c.size > ELIDED_ELEMENTS:
            return f"weight {head}"
        if c.size <= INLINE_ELEMENTS:
            shown = [_short(v) for v in c.array().reshape(-1).tolist()] if self.elide else element_texts(c)
            return f"const {head} [{', '.join(shown)}]"
        self.weights[c.digest] = c
        return f'weight {head} "{c.digest}"'


def _short(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def element_texts(c: Const) -> list[str]:
    """Elements of a small constant, exactly."""
    array = c.array().reshape(-1)
    if c.dtype.is_bool:
        return ["true" if v else "false" for v in array.tolist()]
    if c.dtype.kind is Kind.COMPLEX:
        return [t for v in array.tolist() for t in (float_text(v.real), float_text(v.imag))]
    if c.dtype.is_integer:
        return [str(int(v)) for v in array]
    if c.dtype.name in ("f32", "f16"):
        return [_narrow_float_text(v) for v in array]
    return [float_text(float(v)) for v in array]


def _narrow_float_text(value: Any) -> str:
    """The shortest decimal that reads back as the same value, by way of double precision."""
    short = str(value)
    wide = float(value)
    return short if np.isfinite(value) and value.dtype.type(float(short)) == value else float_text(wide)


def float_text(value: float) -> str:
    """A float exactly: the shortest decimal that stands for it, inf or nan."""
    return repr(value) if value == value else "nan"


def function_name(name: str) -> str:
    """A function's name, quoted where it is no identifier."""
    return name if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.]*", name) else quote(name)


def dim_text(dim: DimLike) -> str:
    """An extent; symbols whose names are words of the language are marked."""
    text = str(dim)
    if RESERVED.isdisjoint(free_symbols(dim)):
        return text
    words = "|".join(sorted(RESERVED & free_symbols(dim)))
    return re.sub(rf"(?<![A-Za-z0-9_.])({words})(?![A-Za-z0-9_.(])", r"$\1", text)


def bound_text(bound: DimLike | None) -> str:
    """A bound of a symbol; a question mark when there is none."""
    return "?" if bound is None else dim_text(bound)


def shape_text(shape: Sequence[DimLike]) -> str:
    """Extents in brackets."""
    return f"[{', '.join(dim_text(d) for d in shape)}]"


def quote(text: str) -> str:
    """A string literal in ASCII."""
    return json.dumps(text, ensure_ascii=True)


def ascii_text(text: str) -> str:
    """Text for a comment."""
    return text.encode("ascii", "backslashreplace").decode().replace("\n", " ")


def type_text(type: Type) -> str:
    """A type as the grammar has it."""
    if isinstance(type, TensorType):
        return f"{type.dtype.name}{shape_text(type.shape)}{type.layout}"
    if isinstance(type, StringType):
        return f"string{shape_text(type.shape)}"
    if isinstance(type, SequenceType):
        return f"seq<{type_text(type.element)}>"
    if isinstance(type, MapType):
        return f"map<{type_text(type.key)}, {type_text(type.value)}>"
    assert isinstance(type, OptionalType)
    return f"optional<{type_text(type.element)}>"


def origin_text(origin: Origin) -> str:
    """Where a symbol comes from."""
    if origin.kind == "input":
        return f"input {quote(origin.name)} {origin.axis}" if origin.axis >= 0 else "given"
    if origin.kind == "value":
        return f"value {origin.op} {origin.result} {origin.element}"
    if origin.kind == "data":
        return f"data {origin.op} {origin.result} {bound_text(origin.upper)}"
    return "local"


def _list(each: Callable[[Any], str]) -> Callable[[Any], str]:
    return lambda values: "[" + ", ".join(each(v) for v in values) + "]"


ATTRIBUTE_TEXT: dict[str, Callable[[Any], str]] = {
    "int": str,
    "ints": _list(str),
    "dim": dim_text,
    "dims": shape_text,
    "float": float_text,
    "floats": _list(float_text),
    "bool": lambda v: "true" if v else "false",
    "str": quote,
    "strs": _list(quote),
    "dtype": lambda d: quote(d.name),
    "type": lambda t: f"type {type_text(t)}",
}
"""How attributes of each kind are printed."""
