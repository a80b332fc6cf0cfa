"""The leaves of `.air` text: strings, numbers, extents, types, elements of constants.

What is wrong is raised as `Misfit`, which the parser turns into an error with the place.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable
from typing import Any

import numpy as np
from lark import Token, Tree

from aino_ir.dims import DimLike, dmax, dmin, floordiv, symbol
from aino_ir.dtypes import DTYPES, DType, Kind, integer_range
from aino_ir.types import Layout, MapType, OptionalType, SequenceType, StringType, TensorType, Type

RESERVED = frozenset({"none", "true", "false", "const", "weight", "lazy", "type", "inf", "nan", "min", "max"})
"""Words that a value may begin with: symbols of these names are written with a ``$`` before them."""


class Misfit(Exception):
    """Well-formed text that cannot be; the parser knows where it stands."""


def string(token: Any) -> str:
    """The text that a literal stands for."""
    try:
        return str(json.loads(str(token)))
    except ValueError:
        raise Misfit(f"{str(token)[:60]} is no string literal") from None


def number(text: str) -> float:
    """A float in decimal or hexadecimal notation."""
    try:
        return float.fromhex(text) if "0x" in text else float(text)
    except OverflowError:
        raise Misfit(f"{text} is too large for a float") from None


# -- extents ------------------------------------------------------------------------------------------


def _smallest(*parts: DimLike) -> DimLike:
    return functools.reduce(dmin, parts)


def _largest(*parts: DimLike) -> DimLike:
    return functools.reduce(dmax, parts)


DIM_OPERATIONS: dict[str, Callable[..., DimLike]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "floordiv": floordiv,
    "mod": lambda a, b: a - floordiv(a, b) * b,
    "neg": lambda a: -a,
    "minimum": _smallest,
    "maximum": _largest,
}
"""Grammar rules of extents."""


def dim(tree: Tree[Token]) -> DimLike:
    """An extent."""
    kind, children = tree.data, tree.children
    if kind == "integer":
        return int(str(children[0]))
    if kind == "symbol_name":
        return symbol(str(children[0]).removeprefix("$"))
    if kind not in DIM_OPERATIONS:
        raise Misfit(f"a {kind} is no extent")
    return DIM_OPERATIONS[kind](*[dim(c) for c in children])  # type: ignore[arg-type]


# -- types --------------------------------------------------------------------------------------------


def element_type(name: str) -> DType:
    """The dtype of a name."""
    if name not in DTYPES:
        raise Misfit(f"no dtype is called '{name}'")
    return DTYPES[name]


@functools.lru_cache(4096)
def static_type(text: str) -> Type:
    """A type whose extents are all numbers, row-major."""
    name, _, rest = text.partition("[")
    shape = tuple(int(d) for d in rest[:-1].split(",")) if rest != "]" else ()
    return StringType(shape) if name == "string" else TensorType(element_type(name), shape)


def value_type(tree: Tree[Token]) -> Type:
    """The type of a value."""
    kind, children = tree.data, tree.children
    if kind == "static_type":
        return static_type(str(children[0]))
    if kind == "string_type":
        return StringType(tuple(dim(d) for d in children if isinstance(d, Tree)))
    if kind == "sequence_type":
        return SequenceType(value_type(children[0]))  # type: ignore[arg-type]
    if kind == "optional_type":
        return OptionalType(value_type(children[0]))  # type: ignore[arg-type]
    if kind == "map_type":
        key, value = (value_type(c) for c in children if isinstance(c, Tree))
        if not all(isinstance(t, (TensorType, StringType)) and not t.shape for t in (key, value)):
            raise Misfit(f"a map from {key} to {value}: both must be scalars")
        return MapType(key, value)  # type: ignore[arg-type]
    name, *dims, order = children
    shape = tuple(dim(d) for d in dims if isinstance(d, Tree))
    return TensorType(element_type(str(name)), shape, layout(order) if isinstance(order, Tree) else Layout())


def layout(tree: Tree[Token]) -> Layout:
    """A physical layout, such as ``@(0 1o 2 3 1i16 pad1:16)``."""
    order: list[tuple[int, str | None]] = []
    tiles: list[tuple[int, int]] = []
    pads: list[tuple[int, int]] = []
    for child in tree.children:
        if isinstance(child, Tree):
            axis, multiple = str(child.children[0]).removeprefix("pad").split(":")
            pads.append((int(axis), int(multiple)))
            continue
        text = str(child)
        if "i" in text:
            axis, tile = text.split("i")
            order.append((int(axis), "i"))
            tiles.append((int(axis), int(tile)))
        elif text.endswith("o"):
            order.append((int(text[:-1]), "o"))
        else:
            order.append((int(text), None))
    return Layout(tuple(order), tuple(tiles), tuple(pads))


# -- elements of constants ----------------------------------------------------------------------------

_FLOAT = re.compile(
    r"-?(0x[0-9a-f]+(\.[0-9a-f]*)?p[+-]?[0-9]{1,6}|[0-9]{1,400}(\.[0-9]{1,400})?([eE][+-]?[0-9]{1,6})?|inf|nan)"
)
_INTEGER = re.compile(r"-?[0-9]{1,40}")


def elements(text: str, type: TensorType) -> np.ndarray:
    """The array that the elements ``[1, 2]`` of a small constant stand for."""
    inner = text[1:-1].strip()
    words = [w.strip() for w in inner.split(",")] if inner else []
    dtype = type.dtype
    count = int(np.prod(static_shape(type), dtype=np.int64)) * (2 if dtype.kind is Kind.COMPLEX else 1)
    if len(words) != count:
        raise Misfit(f"{len(words)} elements for {type}")
    if dtype.is_bool:
        flat = np.asarray([_truth(w) for w in words], np.bool_)
    elif dtype.is_integer:
        low, high = integer_range(dtype)
        wide = np.uint64 if high > 2**63 else np.int64
        flat = np.asarray([_integer(w, low, high, dtype) for w in words], wide)
    else:
        flat = np.asarray([_float(w) for w in words], np.float64)
        if dtype.kind is Kind.COMPLEX:
            flat = _pairs(flat)
    with np.errstate(all="ignore"):
        return flat.astype(dtype.numpy).reshape(static_shape(type))


def _pairs(flat: np.ndarray) -> np.ndarray:
    """Complex numbers from their parts (a multiplication by 1j would spoil infinities and zeros)."""
    out = np.empty(len(flat) // 2, np.complex128)
    out.real, out.imag = flat[::2], flat[1::2]
    return out


def static_shape(type: Type) -> tuple[int, ...]:
    """The shape of a constant's type."""
    if not isinstance(type, TensorType) or not type.is_static or any(d < 0 for d in type.shape):
        raise Misfit(f"a constant cannot be of type {type}")
    return tuple(int(d) for d in type.shape)  # type: ignore[arg-type]


def _truth(word: str) -> bool:
    if word not in ("true", "false"):
        raise Misfit(f"'{word}' is neither true nor false")
    return word == "true"


def _integer(word: str, low: int, high: int, dtype: DType) -> int:
    value = int(word) if _INTEGER.fullmatch(word) else None
    if value is None or not low <= value <= high:
        raise Misfit(f"'{word}' is no {dtype}")
    return value


def _float(word: str) -> float:
    if not _FLOAT.fullmatch(word):
        raise Misfit(f"'{word}' is no float")
    return number(word)
