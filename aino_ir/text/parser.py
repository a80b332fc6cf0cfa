"""Parses `.air` text with lark; errors show the line with a caret."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from importlib.resources import files
from typing import Any

import numpy as np
from lark import Lark, Token, Tree
from lark.exceptions import UnexpectedEOF, UnexpectedInput, UnexpectedToken

from aino_ir.builder import op_class
from aino_ir.constants import Const
from aino_ir.dims import Dim, DimLike
from aino_ir.errors.base import AinoError
from aino_ir.errors.text import TextMismatch, TextSyntaxError, UnknownWeight
from aino_ir.graph import Block, Function, Module, State, Value, count_uses
from aino_ir.location import Loc
from aino_ir.op import REQUIRED, Attr, Op, coerce
from aino_ir.symbols import Check, Origin, model_symbol_name
from aino_ir.text import leaves
from aino_ir.text.leaves import Misfit
from aino_ir.types import MapType, OptionalType, SequenceType, StringType, TensorType, Type

Weights = Callable[[str, TensorType], Const]
"""Finds a weight by digest."""

SHOWN_COLUMNS = 120
"""Columns of a line that an error shows."""


@functools.cache
def grammar() -> Lark:
    """The parser, built once."""
    text = files("aino_ir.text").joinpath("grammar.lark").read_text("ascii")
    return Lark(text, start="module", parser="lalr", propagate_positions=True, maybe_placeholders=True)


def parse(text: str, weights: Mapping[str, np.ndarray] | Weights | None = None) -> Module:
    """The module that a text stands for; it is not verified (`aino_ir.verify`).

    Args:
        text: `.air` text.
        weights: raw bytes by digest (as safetensors holds them), or a function that finds a constant.

    Raises:
        TextSyntaxError: the text is not in the language.
        TextMismatch: an op, attribute or value that cannot be.
        UnknownWeight: a constant is not among `weights`.
    """
    try:
        tree = grammar().parse(text)
    except UnexpectedInput as error:
        raise _syntax_error(text, error) from None
    reader = _Reader(weights if callable(weights) else _from_bytes(weights or {}))
    try:
        return reader.module(tree)
    except Misfit as misfit:
        raise _mismatch(text, reader.place, str(misfit)) from None
    except RecursionError:
        raise _mismatch(text, reader.place, "it is nested too deeply") from None
    except UnknownWeight:
        raise
    except AinoError as error:  # an extent or a symbol table that cannot be
        raise _mismatch(text, reader.place, error.message) from error


def pointed(text: str, line: int, column: int) -> dict[str, Any]:
    """Fields of an error at a place of the text (both from 1): the line, and a caret below the place."""
    lines = text.split("\n") or [""]
    line = min(max(line, 1), len(lines))
    whole = lines[line - 1]
    column = min(max(column, 1), len(whole) + 1)
    start = max(0, column - SHOWN_COLUMNS * 3 // 4) if len(whole) > SHOWN_COLUMNS else 0
    shown = whole[start : start + SHOWN_COLUMNS].encode("ascii", "replace").decode()
    caret = re.sub(r"[^\t]", " ", shown[: column - 1 - start]) + "^"
    return {"line": line, "column": column, "shown": shown, "caret": caret}


def _mismatch(text: str, place: Token | Tree[Token] | None, problem: str) -> TextMismatch:
    meta: Any = place.meta if isinstance(place, Tree) else place
    line, column = getattr(meta, "line", None) or 1, getattr(meta, "column", None) or 1
    return TextMismatch(problem=problem, **pointed(text, line, column))


def _syntax_error(text: str, error: UnexpectedInput) -> TextSyntaxError:
    line, column = error.line, error.column
    at_end = isinstance(error, UnexpectedEOF) or (
        isinstance(error, UnexpectedToken) and error.token.type == "$END"
    )
    if at_end or line < 1:
        lines = text.rstrip().split("\n")
        line, column = len(lines), len(lines[-1]) + 1
    names: Any = (
        getattr(error, "accepts", None) or getattr(error, "expected", None) or getattr(error, "allowed", None)
    )
    expected = sorted((_terminal_text(name) for name in names or ()), key=lambda t: (t.startswith("'"), t))
    return TextSyntaxError(expected=", ".join(expected[:8]) or "nothing more", **pointed(text, line, column))


FRIENDLY = {
    "VALUE": "a value such as %1",
    "OPID": "an op's id such as #1",
    "LOCID": "a location such as !0",
    "OPNAME": "an op such as math.add",
    "STATIC": "a type such as f32[2, 3]",
    "NAME": "a name",
    "ESCAPED": "a symbol",
    "RELATION": "== or >=",
    "PART": "an axis",
    "PAD": "a pad",
    "FLOAT": "a float",
    "INT": "an integer",
    "ELEMENTS": "elements such as [1, 2]",
    "STRING": 'a string such as "x"',
    "$END": "the end",
}
"""Terminals of the grammar, in words."""


def _terminal_text(name: str) -> str:
    if name in FRIENDLY:
        return FRIENDLY[name]
    found = next((t.pattern.value for t in grammar().terminals if t.name == name), name)
    return f"'{found}'"


def _from_bytes(weights: Mapping[str, np.ndarray]) -> Weights:
    def find(digest: str, type: TensorType) -> Const:
        if digest not in weights:
            raise UnknownWeight(digest=digest, type=type)
        shape = leaves.static_shape(type)
        raw = np.ascontiguousarray(weights[digest]).reshape(-1).view(np.uint8)
        if raw.size != int(np.prod(shape, dtype=np.int64)) * type.dtype.numpy.itemsize:
            raise Misfit(f"weight {digest} has {raw.size} bytes, which do not make {type}")
        return Const.deferred(type.dtype, shape, lambda: raw.view(type.dtype.numpy).reshape(shape))

    return find


def _of(kind: type | tuple[type, ...]) -> Callable[[Any], bool]:
    def one(value: Any) -> bool:
        return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))

    return one


def _each(one: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(one(v) for v in value)


WRITTEN_AS: dict[str, Callable[[Any], bool]] = {
    "int": _of(int),
    "ints": _each(_of(int)),
    "dim": _of((int, Dim)),
    "dims": _each(_of((int, Dim))),
    "float": _of((int, float)),
    "floats": _each(_of((int, float))),
    "bool": _of(bool),
    "str": _of(str),
    "strs": _each(_of(str)),
    "dtype": _of(str),
    "const": _of(Const),
    "type": _of((TensorType, StringType, SequenceType, OptionalType, MapType)),
}
"""Attribute kinds: whether a value read from text can be one."""


class _Reader:
    """Builds a module from a parse tree.

    Attributes:
        place: what is being read; errors point at it.
    """

    def __init__(self, weights: Weights) -> None:
        self.find_weight = weights
        self.place: Token | Tree[Token] | None = None
        self.values: dict[int, Value] = {}
        self.op_ids: set[int] = set()
        self.locs: dict[int, Loc] = {}
        self.pending_locs: list[tuple[Op, Token]] = []
        self.shared: dict[tuple[str, Type], Const] = {}
        self.largest = 0

    def module(self, tree: Tree[Token]) -> Module:
        """The whole module."""
        module = Module(leaves.string(tree.children[0]))
        for child in tree.children[1:]:
            if not isinstance(child, Tree):
                continue
            self.place = child
            if child.data == "metadata":
                module.metadata[leaves.string(child.children[0])] = leaves.string(child.children[1])
            elif child.data == "function":
                self._function(module, child)
            elif child.data == "names":
                for value, name in zip(child.children[::2], child.children[1::2], strict=True):
                    self._value(value).name = leaves.string(name)
            else:
                self._loc_table(child)
        module.reserve_ids(self.largest)
        for op, token in self.pending_locs:
            number = int(token[1:])
            if number not in self.locs:
                self.place = token
                raise Misfit(f"the table of locations has no {token}")
            op.loc = self.locs[number]
        return module

    def _loc_table(self, tree: Tree[Token]) -> None:
        number = -1
        entries: list[str] = []
        for token in [*tree.children, None]:
            if not isinstance(token, Token) or token.type == "LOCID":
                if number >= 0:
                    self.locs[number] = Loc(tuple(entries))
                entries = []
                number = int(token[1:]) if isinstance(token, Token) else -1
            else:
                entries.append(leaves.string(token))

    # -- functions ----------------------------------------------------------------------------------

    def _function(self, module: Module, tree: Tree[Token]) -> None:
        first, *rest = tree.children
        name = leaves.string(first) if isinstance(first, Token) and first.type == "STRING" else str(first)
        if name in module.functions:
            raise Misfit(f"there are two functions called '{name}'")
        function = module.add_function(name)
        parts: dict[str, list[Tree[Token]]] = {}
        for child in rest:
            if isinstance(child, Tree):
                parts.setdefault(str(child.data), []).append(child)
            elif child is not None:
                function.output_names.append(leaves.string(child))
        for table in parts.get("symbols", ()):
            for row in table.children:
                self._symbol(function, row)  # type: ignore[arg-type]
        for argument in parts.get("argument", ()):
            self._argument(function, argument)
        for table in parts.get("checks", ()):
            for row in table.children:
                self._check(function, row)  # type: ignore[arg-type]
        self._block(parts["block"][0], function.block)

    def _check(self, function: Function, tree: Tree[Token]) -> None:
        self.place = tree
        lhs, relation, rhs, what, after = tree.children
        kind = "eq" if relation == "==" else "ge"
        after_op = None if after is None else int(str(after))
        check = Check(kind, self._dim(lhs), self._dim(rhs), leaves.string(what), after_op)
        function.symbols.restore_check(check)

    def _symbol(self, function: Function, tree: Tree[Token]) -> None:
        self.place = tree
        name, lo, hi, step, origin = tree.children
        bounds = self._bound(lo), self._bound(hi)
        if int(str(step)) < 1:
            raise Misfit(f"the step of symbol {name} must be at least 1")
        symbol_name = model_symbol_name(str(name))
        function.symbols.new(symbol_name, *bounds, int(str(step)), origin=self._origin(origin))

    def _bound(self, tree: Any) -> DimLike | None:
        if tree.data == "unbounded":
            return None
        return leaves.dim(tree.children[0] if tree.data == "bound" else tree)

    def _origin(self, tree: Any) -> Origin:
        kind, rest = str(tree.data).removeprefix("origin_"), tree.children
        if kind == "input":
            return Origin.input(leaves.string(rest[0]), int(rest[1]))
        if kind == "value":
            return Origin.value(*(int(number) for number in rest))
        if kind == "data":
            return Origin.data(int(rest[0]), int(rest[1]), self._bound(rest[2]))
        return Origin.given() if kind == "given" else Origin.local()

    def _argument(self, function: Function, tree: Tree[Token]) -> None:
        self.place = tree
        value_token, type_tree, name_token, extra = tree.children
        name, type = leaves.string(name_token), self._type(type_tree)
        self._new_argument(value_token, type, function.block, name)
        if isinstance(extra, Tree) and extra.data == "state":
            init = extra.children[0]
            function.states.append(State(name, type, None if init is None else self._const(init)))
            return
        if function.states:
            raise Misfit(f"input '{name}' stands after a state slot")
        function.input_names.append(name)
        if isinstance(extra, Tree):
            function.defaults[name] = self._const(extra.children[0])

    # -- ops ----------------------------------------------------------------------------------------

    def _block(self, tree: Tree[Token], block: Block) -> None:
        for op_tree in tree.children:
            self._op(op_tree, block)  # type: ignore[arg-type]

    def _op(self, tree: Tree[Token], block: Block) -> None:
        results, name, *rest = tree.children
        assert isinstance(name, Token)
        self.place = name
        try:
            cls = op_class(str(name))
        except AttributeError:
            raise Misfit(f"no op is called '{name}'") from None
        operands: list[Value | None] = []
        attributes: Tree[Token] | None = None
        regions: list[Block] = []
        types: list[Type] = []
        tokens: dict[str, Token] = {}
        given: list[Any] = [child for child in rest if child is not None]
        for child in given:
            if isinstance(child, Token):
                tokens[child.type] = child
            elif child.data == "operand":
                operands.append(self._value(child.children[0]))
            elif child.data == "absent":
                operands.append(None)
            elif child.data == "attributes":
                attributes = child
            elif child.data == "region":
                regions.append(self._region(child, block.function))
            else:
                self.place = child
                types.append(self._type(child))
        self.place = tree
        op_id = self._op_id(tokens["OPID"])
        op = cls(op_id, tuple(operands), self._attributes(cls, attributes), tuple(regions))
        for region in regions:
            region.parent = op
        made = results.children if isinstance(results, Tree) else []
        if len(made) != len(types):
            raise Misfit(f"{len(made)} results but {len(types)} types")
        op.results = tuple(
            self._new_value(t, type, None, "", op, i)
            for i, (t, type) in enumerate(zip(made, types, strict=True))
        )
        count_uses(op, op.operands)
        block.insert(op)
        if "LOCID" in tokens:
            self.pending_locs.append((op, tokens["LOCID"]))

    def _op_id(self, token: Token) -> int:
        number = int(token[1:])
        if number in self.op_ids:
            self.place = token
            raise Misfit(f"two ops have the id {token}")
        self.op_ids.add(number)
        self.largest = max(self.largest, number)
        return number

    def _region(self, tree: Tree[Token], function: Function | None) -> Block:
        block = Block(function)
        *arguments, body = tree.children
        for argument in arguments:
            if isinstance(argument, Tree):
                self._new_argument(argument.children[0], self._type(argument.children[1]), block, "")
        self._block(body, block)  # type: ignore[arg-type]
        return block

    def _attributes(self, cls: type[Op], tree: Tree[Token] | None) -> tuple[Any, ...]:
        given: dict[str, Any] = {}
        for attribute in tree.children if tree is not None else ():
            assert isinstance(attribute, Tree)
            key = str(attribute.children[0])
            if key in given:
                raise Misfit(f"attribute '{key}' is given twice")
            given[key] = attribute.children[1]
        out = tuple(self._attribute(cls, name, attr, given) for name, attr in cls.declaration.attrs)
        if given:
            self.place = next(iter(given.values()))
            known = ", ".join(name for name, _ in cls.declaration.attrs) or "none"
            raise Misfit(f"{cls.name} has no attribute '{next(iter(given))}'; it has: {known}")
        return out

    def _attribute(self, cls: type[Op], name: str, attr: Attr[Any], given: dict[str, Any]) -> Any:
        if name not in given:
            if attr.default is REQUIRED:
                raise Misfit(f"{cls.name} needs attribute '{name}'")
            return attr.default
        self.place = given.pop(name)
        value = self._literal(self.place)
        if value is None and attr.default is None:
            return None
        if not WRITTEN_AS[attr.kind](value):
            raise Misfit(f"attribute '{name}' of {cls.name} must be {attr.kind}")
        try:
            return coerce(attr.kind, value)
        except KeyError:
            raise Misfit(f"no dtype is called '{value}'") from None

    def _literal(self, tree: Any) -> Any:
        kind, children = tree.data, tree.children
        if kind in WORDS:
            return WORDS[kind]
        if kind == "text":
            return leaves.string(children[0])
        if kind == "number":
            return leaves.number(str(children[0]))
        if kind == "list":
            return [self._literal(c) for c in children if c is not None]
        if kind in ("const", "weight", "lazy"):
            return self._const(tree)
        return self._type(children[0]) if kind == "type_value" else leaves.dim(tree)

    def _value(self, token: Any) -> Value:
        found = self.values.get(int(token[1:]))
        if found is None:
            self.place = token
            raise Misfit(f"{token} is used before it is made")
        return found

    def _new_argument(self, token: Any, type: Type, block: Block, name: str) -> None:
        block.args.append(self._new_value(token, type, block, name, None, len(block.args)))

    def _new_value(
        self, token: Any, type: Type, block: Block | None, name: str, op: Op | None, index: int
    ) -> Value:
        id = int(token[1:])
        if id in self.values:
            self.place = token
            raise Misfit(f"{token} is made twice")
        value = Value(id, type, op, index, block, name)
        self.values[id] = value
        self.largest = max(self.largest, id)
        return value

    # -- constants, types, extents --------------------------------------------------------------------

    def _const(self, tree: Any) -> Const:
        type = self._type(tree.children[0])
        shape = leaves.static_shape(type)
        assert isinstance(type, TensorType)
        if tree.data == "weight":
            digest = leaves.string(tree.children[1])
            key = (digest, type)
            if key not in self.shared:
                self.shared[key] = self.find_weight(digest, type)
            return self.shared[key]
        if tree.data == "lazy":
            return self._lazy(tree, TensorType(type.dtype, shape))
        self.place = tree.children[1]
        return Const(TensorType(type.dtype, shape), leaves.elements(str(tree.children[1]), type))

    def _lazy(self, tree: Tree[Token], type: TensorType) -> Const:
        *inputs, region = tree.children[1:]
        handles = tuple(self._const(c) for c in inputs if c is not None)
        outer = self.values, self.op_ids, self.pending_locs
        self.values, self.op_ids, self.pending_locs = {}, set(), []
        block = self._region(region, Module("lazy").add_function())  # type: ignore[arg-type]
        self.values, self.op_ids, self.pending_locs = outer
        if len(block.args) != len(handles):
            raise Misfit(f"{len(handles)} constants for {len(block.args)} arguments")
        return Const.lazy(block, handles, type)

    def _type(self, tree: Any) -> Type:
        return leaves.value_type(tree)

    def _dim(self, tree: Any) -> DimLike:
        return leaves.dim(tree)


WORDS: dict[str, bool | None] = {"nothing": None, "true": True, "false": False}
"""Grammar rules of values that are words."""
