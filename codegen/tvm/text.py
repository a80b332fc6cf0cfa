"""Pieces of TVMScript expression text that know how tightly Python binds them."""

from __future__ import annotations

import keyword
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from aino_ir.dtypes import DType

COMPARISON, BIT_OR, BIT_XOR, BIT_AND, ADDITIVE, MULTIPLICATIVE, PREFIX, POSTFIX = 1, 2, 3, 4, 6, 7, 8, 9

LEVELS = {
    **dict.fromkeys(("==", "!=", "<", "<=", ">", ">="), COMPARISON),
    "|": BIT_OR,
    "^": BIT_XOR,
    "&": BIT_AND,
    **dict.fromkeys(("+", "-"), ADDITIVE),
    **dict.fromkeys(("*", "/", "//", "%"), MULTIPLICATIVE),
}
"""Precedence of Python's binary operators, as far as TVMScript means the same by them."""

DTYPE_NAMES = {
    **{f"f{bits}": f"float{bits}" for bits in (32, 64)},
    **{
        f"{letter}{bits}": f"{word}{bits}"
        for letter, word in (("i", "int"), ("u", "uint"))
        for bits in (8, 16, 32, 64)
    },
    "bool": "bool",
}
"""TVM's names of the compute dtypes."""

LARGEST_FLOAT32 = float(np.finfo(np.float32).max)

_ALWAYS_TAKEN = frozenset(
    {
        "T",
        "tvm",
        "tirx",
        "np",
        "status",
        "main",
        "build",
        "fence",
        "choose",
        "same_bits",
        "masked",
        "unmasked",
        "lanes_of",
        "nearest",
        "fused",
        *keyword.kwlist,
        *keyword.softkwlist,
    }
)
_HELPER_LIKE = re.compile(r".*_(bool|bf16|[iu](2|4|8|16|32|64)|f(4|8|16|32|64)[a-z0-9]*)(x[0-9]+)?\Z")


@dataclass(frozen=True)
class Text:
    """Expression text with the precedence of its outermost operator.

    `size` is how many nodes the expression has with every name in it replaced by what it stands for: TVM's
    simplifier does that.
    """

    text: str
    level: int = POSTFIX
    size: float = 1.0

    def at(self, level: int) -> str:
        """The text, in parentheses when it binds less tightly than `level`."""
        return self.text if self.level >= level else f"({self.text})"

    def __str__(self) -> str:
        return self.text


def binary(operator: str, left: Text, right: Text) -> Text:
    """``left operator right``; comparisons never chain."""
    level = LEVELS[operator]
    first = left.at(level + 1 if level == COMPARISON else level)
    return Text(f"{first} {operator} {right.at(level + 1)}", level, 1 + left.size + right.size)


def prefix(operator: str, x: Text) -> Text:
    """``operator x``."""
    return Text(f"{operator}{x.at(POSTFIX)}", PREFIX, 1 + x.size)


def call(function: str, *args: Text | str) -> Text:
    """``function(args)``."""
    size = sum((a.size for a in args if isinstance(a, Text)), start=1.0)
    return Text(f"{function}({', '.join(map(str, args))})", size=size)


def element(buffer: str, *index: Text) -> Text:
    """``buffer[index]``."""
    return Text(f"{buffer}[{', '.join(map(str, index))}]")


def type_name(dtype: DType, lanes: int = 1) -> str:
    """TVM's name of a compute dtype, or of a vector of it."""
    name = DTYPE_NAMES[dtype.name]
    return name if lanes == 1 else f"{name}x{lanes}"


def broadcast(value: Text, lanes: int) -> Text:
    """A scalar in every lane."""
    return value if lanes == 1 else call("T.Broadcast", value, str(lanes))


def ramp(base: Text, step: Text, lanes: int) -> Text:
    """base, base + step, base + 2 * step ..."""
    return call("T.Ramp", base, step, str(lanes))


def variable_lines(name: str, kind: str, value: Text) -> list[str]:
    """The lines of a variable with its first value, which LLVM holds in a register."""
    return [f'{name} = T.alloc_scalar("{kind}")', f"{name} = {value}"]


def literal(value: float | bool, dtype: DType, lanes: int = 1) -> Text:
    """A constant of a compute dtype, exactly, in every lane."""
    if lanes > 1:
        return broadcast(literal(value, dtype), lanes)
    name = type_name(dtype)
    if dtype.is_bool:
        return Text(f"T.bool({bool(value)})")
    if dtype.is_float and LARGEST_FLOAT32 < abs(float(value)) < math.inf:  # TVM's constructor refuses it
        bits = int(np.float64(value).view(np.int64))
        return Text(f'T.reinterpret("float64", T.int64({bits}))')
    if dtype.is_float:
        return Text(f"T.{name}({_float(float(value), dtype)})")
    number = int(value)
    if dtype.name == "u64" and number >= 1 << 63:  # what TVM's constructor takes is a signed number
        return Text(f'T.reinterpret("uint64", T.int64({number - (1 << 64)}))')
    return Text(f"T.{name}({number})")


def _float(value: float, dtype: DType) -> str:
    """A float as Python reads it back; the shortest that rounds to it in double precision is exact."""
    if dtype.bits == 32:
        with np.errstate(over="ignore"):
            value = float(np.float32(value))
    if math.isnan(value):
        return '"nan"'
    return f'"{value}"' if math.isinf(value) else repr(value)


def comment(text: str) -> str:
    """`text` as one line of printable ASCII."""
    ascii_text = text.encode("ascii", "backslashreplace").decode("ascii")
    return "".join(c if " " <= c <= "~" else " " for c in ascii_text).rstrip()


class PythonNames:
    """The identifiers of one function: each original name gets one, no two the same, none of them special."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._used = set(taken) | _ALWAYS_TAKEN
        self._given: dict[str, str] = {}

    def __getitem__(self, name: str) -> str:
        """The identifier of `name`, given at the first request."""
        found = self._given.get(name)
        if found is None:
            found = self._given[name] = self.fresh(name)
        return found

    def fresh(self, wish: str) -> str:
        """An identifier like `wish` that nothing else has."""
        clean = re.sub(r"[^A-Za-z0-9_]", "_", wish.removesuffix("."))[:60].strip("_")
        if not clean or clean[0].isdigit():
            clean = "v" + clean
        if _HELPER_LIKE.match(clean) or clean[0].isupper():
            clean = f"v_{clean}"
        candidate, count = clean, 1
        while candidate in self._used:
            count += 1
            candidate = f"{clean}_{count}"
        self._used.add(candidate)
        return candidate
