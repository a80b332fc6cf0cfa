"""Reading dimensions from text: a recursive-descent parser for integer expressions.

Grammar, with Python's precedence::

    sum    = term (("+" | "-") term)*
    term   = factor (("*" | "//" | "%") factor)*
    factor = "-" factor | INTEGER | NAME | "(" sum ")" | ("min" | "max") "(" sum ("," sum)* ")"
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from typing import NoReturn

from aino_ir.dim_form import DimLike, dmax, dmin, floordiv, symbol
from aino_ir.errors.dims import DimSyntax

_TOKEN = re.compile(r"\s*(?:(\d+)|([A-Za-z_][A-Za-z0-9_.]*)|(//|[-+*%(),])|(\S)|$)", re.ASCII)

MAX_DEPTH = 50
"""Deepest nesting of parentheses, signs and calls that the parser follows."""

MAX_DIGITS = 100
"""Longest integer that the parser reads."""

_Binary = Callable[[DimLike, DimLike], DimLike]
_SUMS: dict[str, _Binary] = {"+": operator.add, "-": operator.sub}
_TERMS: dict[str, _Binary] = {"*": operator.mul, "//": floordiv, "%": lambda a, b: a - floordiv(a, b) * b}
_CALLS: dict[str, Callable[..., DimLike]] = {"min": dmin, "max": dmax}


def parse(text: str) -> DimLike:
    """The dimension that `text` spells.

    Raises:
        DimSyntax: with the column (from 1) and what was expected there.
    """
    reader = _Reader(text)
    dim = reader.sum()
    if reader.token:
        reader.fail("an operator or the end")
    return dim


class _Reader:
    """One pass over the tokens of a text."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.depth = 0
        self.end = 0
        self.advance()

    def advance(self) -> str:
        """Step to the next token; gives the one left behind."""
        left = getattr(self, "token", "")
        match = _TOKEN.match(self.text, self.end)
        assert match is not None  # the pattern's last branches take anything
        self.kind = match.lastindex or 0
        self.token: str = match.group(self.kind) if self.kind else ""
        self.start = match.start(self.kind) if self.kind else len(self.text)
        self.end = match.end()
        return left

    def fail(self, expected: str) -> NoReturn:
        raise DimSyntax(text=self.text, expected=expected, column=self.start + 1, found=self.token)

    def take(self, token: str) -> None:
        if self.token != token:
            self.fail(f"`{token}`")
        self.advance()

    def sum(self) -> DimLike:
        return self.chain(_SUMS, self.term)

    def term(self) -> DimLike:
        return self.chain(_TERMS, self.factor)

    def chain(self, operators: dict[str, _Binary], operand: Callable[[], DimLike]) -> DimLike:
        """Operands joined by left-associative `operators`."""
        left = operand()
        while self.token in operators:
            combine = operators[self.advance()]
            left = combine(left, operand())
        return left

    def factor(self) -> DimLike:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            self.fail(f"at most {MAX_DEPTH} nested parentheses")
        value = self.primary()
        self.depth -= 1
        return value

    def primary(self) -> DimLike:
        if self.token == "-":
            self.advance()
            return -self.factor()
        if self.token == "(":
            self.advance()
            value = self.sum()
            self.take(")")
            return value
        if self.kind == 1:
            if len(self.token) > MAX_DIGITS:
                self.fail(f"an integer of at most {MAX_DIGITS} digits")
            return int(self.advance())
        if self.kind == 2:
            name = self.advance()
            return self.call(name) if self.token == "(" and name in _CALLS else symbol(name)
        self.fail("an integer, a symbol or `(`")

    def call(self, name: str) -> DimLike:
        self.take("(")
        args = [self.sum()]
        while self.token == ",":
            self.advance()
            args.append(self.sum())
        self.take(")")
        return _CALLS[name](*args)
