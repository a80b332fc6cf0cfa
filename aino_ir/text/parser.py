"""Parses `.air` text with lark; errors show the line with a caret."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping
from importlib.resources import files
from typing import Any

import numpy as np
from lark import Lark, Token, Tree
from lark.exceptions import UnexpectedInput

from aino_ir.builder import op_class
from aino_ir.constants import Const
from aino_ir.dims import DimLike, dmax, dmin, symbol
from aino_ir.dtypes import DTYPES
from aino_ir.errors.text import TextMismatch, TextSyntaxError, UnknownWeight
from aino_ir.graph import Block, Function, Module, State, Value, count_uses
from aino_ir.location import Loc
from aino_ir.op import Op, coerce
from aino_ir.symbols import Check, Origin
from aino_ir.types import Layout, OptionalType, SequenceType, StringType, TensorType, Type

Weights = Callable[[str, TensorType], Const]
"""Finds a weight by digest."""


@functools.cache
def grammar() -> Lark:
    """The parser, built once."""
    text = files("aino_ir.text").joinpath("grammar.lark").read_text("ascii")
    return Lark(text, start="module", parser="lalr", propagate_positions=True, maybe_placeholders=True)


def parse(text: str, weights: Mapping[str, np.ndarray] | Weights | None = None) -> Module:
    """The module that a text stands for.

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
    finder = weights if callable(weights) else _from_bytes(weights or {})
    return _Reader(text, finder).module(tree)


def _syntax_error(text: str, error: UnexpectedInput) -> TextSyntaxError:
    line, column = max(error.line, 1), max(error.column, 1)
    lines = text.splitlines() or [""]
    shown = lines[min(line, len(lines)) - 1]
    expected = sorted(getattr(error, "accepts", None) or getattr(error, "expected", None) or getattr(error, "allowed", None) or [])
    return TextSyntaxError(line=line, column=column, shown=shown, caret=" " * (column - 1) + "^", expected=", ".join(expected[:8]))


def _from_bytes(weights: Mapping[str, np.ndarray]) -> Weights:
    def find(digest: str, type: TensorType) -> Const:
        if digest not in weights:
            raise UnknownWeight(digest=digest, type=type)
        shape = tuple(int(d) for d in type.shape)  # type: ignore[arg-type]
        raw = weights[digest]
        return Const.deferred(type.dtype, shape, lambda: np.asarray(raw).view(np.uint8).reshape(-1).view(type.dtype.numpy).reshape(shape))

    return find


class _Reader:
    """Builds a module from a parse tree."""

    def __init__(self, text: str, weights: Weights) -> None:
        self.text = text
        self.weights = weights
        self.values: dict[int, Value] = {}
        self.locs: dict[int, Loc] = {}
        self.pending_locs: list[tuple[Op, int]] = []
        self.largest = 0

    def fail(self, where: Tree[Token] | Token, problem: str) -> TextMismatch:
        """An error at a place of the text."""
        meta = where if isinstance(where, Token) else where.meta
        line = getattr(meta, "line", None) or 1
        return TextMismatch(line=line, problem=problem, shown=self.text.splitlines()[line - 1].strip()[:120])

    def module(self, tree: Tree[Token]) -> Module:
        """The whole module."""
        module = Module(_string(tree.children[0]))
        for child in tree.children[1:]:
            if child is None:
                continue
            if child.data == "metadata":
                module.metadata[_string(child.children[0])] = _string(child.children[1])
            elif child.data == "function":
                self._function(module, child)
            elif child.data == "names":
                for value, name in zip(child.children[::2], child.children[1::2]):
                    self._value(value).name = _string(name)
            else:
                self._loc_table(child)
        module.reserve_ids(self.largest)
        for op, number in self.pending_locs:
            op.loc = self.locs.get(number, op.loc)
        return module

    def _loc_table(self, tree: Tree[Token]) -> None:
        number, entries = -1, []
        for token in [*tree.children, None]:
            if token is None or token.type == "LOCID":
                if number >= 0:
                    self.locs[number] = Loc(tuple(entries))
                entries = []
                number = int(token[1:]) if token is not None else -1
            else:
                entries.append(_string(token))

    # -- functions ----------------------------------------------------------------------------------

    def _function(self, module: Module, tree: Tree[Token]) -> None:
        name, *rest = tree.children
        function = module.add_function(str(name))
        parts: dict[str, list[Any]] = {}
        for child in rest:
            if isinstance(child, Tree):
                parts.setdefault(child.data, []).append(child)
            elif child is not None:
                function.output_names.append(_string(child))
        for table in parts.get("symbols", ()):
            for row in table.children:
                self._symbol(function, row)
        for argument in parts.get("argument", ()):
            self._argument(function, argument)
        for table in parts.get("checks", ()):
            for row in table.children:
                lhs, relation, rhs, what, after = row.children
                kind = "eq" if relation == "==" else "ge"
                check = Check(kind, self._dim(lhs), self._dim(rhs), _string(what), None if after is None else int(after))
                function.symbols.restore_check(check)
        self._block(parts["block"][0], function.block, function)

    def _symbol(self, function: Function, tree: Tree[Token]) -> None:
        name, lo, hi, step, origin = tree.children
        function.symbols.new(str(name), self._bound(lo), self._bound(hi), int(step), origin=self._origin(origin))

    def _bound(self, tree: Any) -> Any:
        if isinstance(tree, Tree) and tree.data == "unbounded":
            return None
        if isinstance(tree, Tree) and tree.data == "bound":
            return self._dim(tree.children[0])
        return self._dim(tree)

    def _origin(self, tree: Tree[Token]) -> Origin:
        kind = tree.data.removeprefix("origin_")
        if kind == "input":
            return Origin.input(_string(tree.children[0]), int(tree.children[1]))
        if kind == "value":
            return Origin.value(int(tree.children[0]), int(tree.children[1]))
        if kind == "data":
            return Origin.data(int(tree.children[0]), int(tree.children[1]), self._bound(tree.children[2]))
        return Origin.local()

    def _argument(self, function: Function, tree: Tree[Token]) -> None:
        value_token, type_tree, name_token, extra = tree.children
        name, type = _string(name_token), self._type(type_tree)
        value = self._new_value(value_token, type, function.block, name)
        function.block.args.append(value)
        value.index = len(function.block.args) - 1
        if extra is not None and extra.data == "state":
            init = extra.children[0]
            function.states.append(State(name, type, None if init is None else self._const(init)))
            return
        function.input_names.append(name)
        if extra is not None:
            function.defaults[name] = self._const(extra.children[0])

    # -- ops ----------------------------------------------------------------------------------------

    def _block(self, tree: Tree[Token], block: Block, function: Function) -> None:
        for op_tree in tree.children:
            self._op(op_tree, block, function)

    def _op(self, tree: Tree[Token], block: Block, function: Function) -> None:
        results, name, *rest = tree.children
        try:
            cls = op_class(str(name))
        except AttributeError:
            raise self.fail(name, f"no op is called '{name}'") from None
        operands: list[Value | None] = []
        attributes: Tree[Token] | None = None
        regions: list[Block] = []
        types: list[Type] = []
        op_id, loc_id = 0, -1
        for child in rest:
            if child is None:
                continue
            if isinstance(child, Token):
                if child.type == "OPID":
                    op_id = int(child[1:])
                else:
                    loc_id = int(child[1:])
            elif child.data == "operand":
                operands.append(self._value(child.children[0]))
            elif child.data == "absent":
                operands.append(None)
            elif child.data == "attributes":
                attributes = child
            elif child.data == "region":
                regions.append(self._region(child, function))
            else:
                types.append(self._type(child))
        op = cls(op_id, tuple(operands), self._attributes(cls, attributes, tree), tuple(regions))
        function.module.reserve_ids(op_id)
        for region in regions:
            region.parent = op
        tokens = results.children if results is not None else []
        if len(tokens) != len(types):
            raise self.fail(tree, f"{len(tokens)} results but {len(types)} types")
        op.results = tuple(self._new_value(t, type, None, "", op, i) for i, (t, type) in enumerate(zip(tokens, types)))
        count_uses(op, op.operands)
        block.insert(op)
        if loc_id >= 0:
            self.pending_locs.append((op, loc_id))

    def _region(self, tree: Tree[Token], function: Function | None) -> Block:
        block = Block(function)
        *arguments, body = tree.children
        for argument in arguments:
            if argument is None:
                continue
            value = self._new_value(argument.children[0], self._type(argument.children[1]), block, "")
            block.args.append(value)
            value.index = len(block.args) - 1
        assert function is not None
        self._block(body, block, function)
        return block

    def _attributes(self, cls: type[Op], tree: Tree[Token] | None, where: Tree[Token]) -> tuple[Any, ...]:
        given: dict[str, Any] = {}
        for attribute in tree.children if tree is not None else ():
            given[str(attribute.children[0])] = attribute.children[1]
        out = []
        for name, attr in cls.declaration.attrs:
            if name not in given:
                raise self.fail(where, f"{cls.name} needs attribute '{name}'")
            value = self._attribute(given.pop(name))
            try:
                out.append(coerce(attr.kind, value))
            except (TypeError, ValueError, KeyError):
                raise self.fail(where, f"attribute '{name}' is no {attr.kind}") from None
        if given:
            raise self.fail(where, f"{cls.name} has no attribute '{next(iter(given))}'")
        return tuple(out)

    def _attribute(self, tree: Any) -> Any:
        kind = tree.data
        if kind == "text":
            return _string(tree.children[0])
        if kind in ("true", "false"):
            return kind == "true"
        if kind == "nothing":
            return None
        if kind == "number":
            return _number(tree.children[0])
        if kind == "list":
            return [self._attribute(c) for c in tree.children if c is not None]
        if kind in ("const", "weight", "lazy"):
            return self._const(tree)
        if kind == "type_value":
            return self._type(tree.children[0])
        return self._dim(tree)

    def _value(self, token: Token) -> Value:
        found = self.values.get(int(token[1:]))
        if found is None:
            raise self.fail(token, f"{token} is used before it is made")
        return found

    def _new_value(
        self, token: Token, type: Type, block: Block | None, name: str, op: Op | None = None, index: int = 0
    ) -> Value:
        id = int(token[1:])
        if id in self.values:
            raise self.fail(token, f"{token} is made twice")
        value = Value(id, type, op, index, block, name)
        self.values[id] = value
        self.largest = max(self.largest, id)
        return value

    # -- constants, types, dims -----------------------------------------------------------------------

    def _const(self, tree: Tree[Token]) -> Const:
        type = self._type(tree.children[0])
        assert isinstance(type, TensorType)
        if tree.data == "weight":
            return self.weights(_string(tree.children[1]), type)
        if len(tree.children) > 2 or (len(tree.children) == 2 and tree.children[1].data == "region"):
            *inputs, region = tree.children[1:]
            scratch = Module("lazy").add_function()
            outer, self.values = self.values, {}
            block = self._region(region, scratch)
            self.values = outer
            return Const.lazy(block, tuple(self._const(c) for c in inputs if c is not None), type)
        shape = tuple(int(d) for d in type.shape)  # type: ignore[arg-type]
        items = [_element(e) for e in tree.children[1].children if e is not None]
        if type.dtype.kind.value == "complex":
            items = [complex(r, i) for r, i in zip(items[::2], items[1::2])]
        count = int(np.prod(shape, dtype=np.int64))
        if len(items) != count:
            raise self.fail(tree, f"{len(items)} elements for {type}")
        wide = np.asarray(items, np.float64) if type.dtype.is_float else np.asarray(items)
        return Const.of(wide.astype(type.dtype.numpy).reshape(shape))

    def _type(self, tree: Tree[Token]) -> Type:
        kind = tree.data
        if kind == "string_type":
            return StringType(tuple(self._dim(d) for d in tree.children if d is not None))
        if kind == "sequence_type":
            return SequenceType(self._type(tree.children[0]))
        if kind == "optional_type":
            return OptionalType(self._type(tree.children[0]))
        name, *dims, layout = tree.children
        if str(name) not in DTYPES:
            raise self.fail(name, f"no dtype is called '{name}'")
        shape = tuple(self._dim(d) for d in dims if d is not None)
        return TensorType(DTYPES[str(name)], shape, _layout(layout) if layout is not None else Layout())

    def _dim(self, tree: Any) -> DimLike:
        kind, children = tree.data, tree.children
        if kind == "integer":
            return int(children[0])
        if kind == "symbol_name":
            return symbol(str(children[0]))
        parts = [self._dim(c) for c in children]
        if kind not in DIM_OPERATIONS:
            raise self.fail(tree, f"'{kind}' is no extent")
        return DIM_OPERATIONS[kind](*parts)


def _minimum(*parts: DimLike) -> DimLike:
    return functools.reduce(dmin, parts)


def _maximum(*parts: DimLike) -> DimLike:
    return functools.reduce(dmax, parts)


DIM_OPERATIONS: dict[str, Callable[..., DimLike]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "floordiv": lambda a, b: a // b,
    "neg": lambda a: -a,
    "minimum": _minimum,
    "maximum": _maximum,
}
"""Grammar rules of extents."""


def _layout(tree: Tree[Token]) -> Layout:
    order: list[tuple[int, str | None]] = []
    tiles: list[tuple[int, int]] = []
    pads: list[tuple[int, int]] = []
    for child in tree.children:
        text = str(child.children[0])
        if child.data == "pad":
            axis, multiple = text.removeprefix("pad").split(":")
            pads.append((int(axis), int(multiple)))
        elif "i" in text:
            axis, tile = text.split("i")
            order.append((int(axis), "i"))
            tiles.append((int(axis), int(tile)))
        elif text.endswith("o"):
            order.append((int(text[:-1]), "o"))
        else:
            order.append((int(text), None))
    return Layout(tuple(order), tuple(tiles), tuple(pads))


def _string(token: Any) -> str:
    return json.loads(str(token))  # type: ignore[no-any-return]


def _number(token: Any) -> float:
    text = str(token)
    return float.fromhex(text) if "0x" in text else float(text)


def _element(tree: Tree[Token]) -> Any:
    if tree.data in ("true", "false"):
        return tree.data == "true"
    text = str(tree.children[0])
    return _number(text) if ("0x" in text or "inf" in text or "nan" in text) else int(text)
