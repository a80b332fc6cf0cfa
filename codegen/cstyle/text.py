"""Pieces of C expression text that know how tightly they bind, so that parentheses stay few.

The rule is C's precedence plus what ``-Wall`` asks for: operands of bitwise, shift and mixed logical
operators that are themselves binary expressions get parentheses even where C needs none.
"""

from __future__ import annotations

from dataclasses import dataclass

COMMA, COND, LOGICAL_OR, LOGICAL_AND, BIT_OR, BIT_XOR, BIT_AND = 1, 3, 4, 5, 6, 7, 8
EQUALITY, RELATION, SHIFT, ADDITIVE, MULTIPLICATIVE, PREFIX, POSTFIX = 9, 10, 11, 12, 13, 14, 15

LEVELS: dict[str, int] = {
    "||": LOGICAL_OR,
    "&&": LOGICAL_AND,
    "|": BIT_OR,
    "^": BIT_XOR,
    "&": BIT_AND,
    "==": EQUALITY,
    "!=": EQUALITY,
    "<": RELATION,
    "<=": RELATION,
    ">": RELATION,
    ">=": RELATION,
    "<<": SHIFT,
    ">>": SHIFT,
    "+": ADDITIVE,
    "-": ADDITIVE,
    "*": MULTIPLICATIVE,
    "/": MULTIPLICATIVE,
    "%": MULTIPLICATIVE,
}
"""Precedence of the binary operators."""

_BITWISE = frozenset({"|", "^", "&", "<<", ">>"})
_LOGICAL = frozenset({"||", "&&"})
_ASSOCIATIVE = frozenset({"|", "^", "&", "||", "&&"})


@dataclass(frozen=True)
class Code:
    """Expression text with the precedence of its outermost operator (and which one, if binary)."""

    text: str
    level: int = POSTFIX
    operator: str = ""

    def at(self, level: int) -> str:
        """The text, in parentheses when it binds less tightly than `level`."""
        return self.text if self.level >= level else f"({self.text})"

    def __str__(self) -> str:
        return self.text


def binary(operator: str, left: Code, right: Code) -> Code:
    """``left operator right``."""
    level = LEVELS[operator]
    return Code(
        f"{_operand(operator, left, level)} {operator} {_operand(operator, right, level + 1)}",
        level,
        operator,
    )


def _operand(outer: str, inner: Code, level: int) -> str:
    if outer in _ASSOCIATIVE and inner.operator == outer:
        return inner.text
    is_binary = bool(inner.operator)
    if outer in _BITWISE and is_binary:
        return f"({inner.text})"
    if outer in _LOGICAL and inner.operator in _LOGICAL:
        return f"({inner.text})"
    if LEVELS[outer] in (EQUALITY, RELATION) and is_binary and inner.level <= RELATION:
        return f"({inner.text})"
    return inner.at(level)


def prefix(operator: str, operand: Code) -> Code:
    """``operator operand`` for ``-``, ``~`` and ``!``."""
    text = operand.at(PREFIX)
    return Code(f"{operator}({text})" if text.startswith("-") else operator + text, PREFIX)


def cast(type_name: str, operand: Code) -> Code:
    """``(type)operand``."""
    return Code(f"({type_name}){operand.at(PREFIX)}", PREFIX)


def call(function: str, *arguments: Code | str) -> Code:
    """``function(arguments)``."""
    return Code(f"{function}({', '.join(str(a) for a in arguments)})")


def element(array: Code | str, index: Code | str) -> Code:
    """``array[index]``."""
    base = array.at(POSTFIX) if isinstance(array, Code) else array
    return Code(f"{base}[{index}]")


def conditional(condition: Code, a: Code, b: Code) -> Code:
    """``condition ? a : b``."""
    return Code(f"{condition.at(COND + 1)} ? {a.at(COND + 1)} : {b.at(COND)}", COND)


LINE_LENGTH = 110


def wrap(line: str) -> list[str]:
    """A long line of C broken after commas or before operators, continued eight columns deeper."""
    if len(line) <= LINE_LENGTH or line.lstrip().startswith(("#", "/*", "*")):
        return [line]
    indent = " " * (len(line) - len(line.lstrip()))
    lines = []
    rest, margin = line.strip(), indent
    while len(margin) + len(rest) > LINE_LENGTH:
        cut = _break(rest, LINE_LENGTH - len(margin))
        if cut <= 0:
            break
        lines.append(margin + rest[:cut].rstrip())
        rest, margin = rest[cut:].lstrip(), indent + " " * 8
    return [*lines, margin + rest]


def _break(text: str, room: int) -> int:
    """Where to break: after the last comma that fits, else before the last operator or question mark."""
    comma = text.rfind(", ", 0, room)
    if comma > 0:
        return comma + 2
    return max(
        text.rfind(f" {sign} ", 0, room) + 1 for sign in ("+", "-", "?", ":", "*", "|", "&", "&&", "||")
    )
