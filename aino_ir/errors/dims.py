"""Errors of symbolic dimensions and symbol tables (AINO-E0260 to E0279)."""

from __future__ import annotations

from aino_ir.errors.base import InternalError, UsageError, UserError


class DimError(UserError):
    """Something is wrong with a symbolic dimension."""


class DimComparison(InternalError):
    """A symbolic dimension was ordered or used as a truth value; only a symbol table can decide that."""

    code = "AINO-E0260"
    template = "cannot decide `{what}` of the symbolic dimension {dim}"
    hint = "ask the function's symbol table: prove_eq, prove_ge or assume_ge"
    example = {"what": "s < 4", "dim": "s"}


class DimDivisionByZero(DimError):
    """A dimension expression divides by zero."""

    code = "AINO-E0261"
    template = "dimension {numerator} is divided by {divisor}, which is zero"
    hint = "give the symbols in the divisor a lower bound of 1, or correct the model's shapes"
    example = {"numerator": "12", "divisor": "b"}


class InvalidSymbolName(DimError):
    """A symbol's name is not an ASCII identifier."""

    code = "AINO-E0262"
    template = "symbol name {name!r} is not a letter or `_` followed by letters, digits, `_` and `.`"
    hint = "rename the dimension"
    example = {"name": "batch size"}


class ReservedSymbolName(DimError):
    """A model's symbol has a name that kernels use for their own variables."""

    code = "AINO-E0274"
    template = "symbol name {name!r} is reserved: kernels call a variable of their own like that"
    hint = "rename the dimension; names that end with a dot are reserved too"
    example = {"name": "unit"}


class DimSyntax(DimError):
    """Text does not spell a dimension."""

    code = "AINO-E0263"
    template = (
        "cannot read a dimension from {text!r}: expected {expected} at column {column}, found {found!r}"
    )
    hint = "write integers and symbols with + - * // %, min(a, b), max(a, b) and parentheses"
    example = {"text": "2*(s", "expected": "`)`", "column": 5, "found": ""}


class UnknownSymbol(DimError):
    """A symbol has no value, or is not in the table."""

    code = "AINO-E0264"
    template = "symbol {name} of {dim} has no value; known symbols: {known}"
    hint = "bind the symbol to a size, or declare it"
    example = {"name": "s", "dim": "2*s", "known": "b"}


class SymbolRedefined(InternalError):
    """A symbol was declared twice in one table."""

    code = "AINO-E0265"
    template = "symbol {name} is already declared as {old}; it cannot also be {new}"
    hint = "choose a fresh name"
    example = {"name": "s", "old": "input x axis 0", "new": "local"}


class ContradictoryDims(DimError):
    """Two facts about dimensions exclude each other."""

    code = "AINO-E0266"
    template = "{what}: {left} {relation} {right} can never hold{why}"
    hint = "make the two sizes agree in the model, or widen the bounds given for its symbols"
    example = {"what": "matmul inner extent", "left": "64", "relation": "==", "right": "32", "why": ""}


class EmptyRange(DimError):
    """A symbol's bounds or divisibility leave it no value."""

    code = "AINO-E0267"
    template = "symbol {name} has no value left: {lo}..{hi} holds no multiple of {step}"
    hint = "give a lower bound that is not above the upper bound"
    example = {"name": "s", "lo": 9, "hi": 8, "step": 1}


class NotADimension(UsageError):
    """A value that is neither an integer nor a Dim was used as a dimension."""

    code = "AINO-E0268"
    template = "{value} of type {kind} is neither an integer nor a dimension"
    hint = "pass a Python int or a Dim"
    example = {"value": "2.5", "kind": "float"}


class RankMismatch(DimError):
    """An array has another rank than its declared shape."""

    code = "AINO-E0269"
    template = "{what} has rank {got}, but its type {expected} has rank {rank}"
    hint = "pass an array with the declared number of axes"
    example = {"what": "input x", "got": 3, "expected": "[b, 4]", "rank": 2}


class ExtentMismatch(DimError):
    """A concrete extent does not fit the declared dimension."""

    code = "AINO-E0270"
    template = "{what} axis {axis} has extent {got}, but {expected} is required{where}"
    hint = "pass an array of the declared shape"
    example = {"what": "input x", "axis": 0, "got": 3, "expected": "2*s", "where": " (s = 4)"}


class SymbolOutOfRange(DimError):
    """A symbol was bound to a value outside its declared range or divisibility."""

    code = "AINO-E0271"
    template = "symbol {name} is {got}, but must be {expected}"
    hint = "pass arrays whose extents keep the declared bounds, or compile with wider bounds"
    example = {"name": "s", "got": 600, "expected": "in 1..512"}


class CheckFailed(DimError):
    """An entry check of the function does not hold for the extents that were passed."""

    code = "AINO-E0272"
    template = (
        "{what}: {left} {relation} {right} is required, but {left_value} {relation} {right_value} is false"
    )
    hint = "pass arrays whose extents satisfy the requirement"
    example = {
        "what": "concat axis 1",
        "left": "a",
        "relation": "==",
        "right": "b",
        "left_value": 3,
        "right_value": 4,
    }


class DimTooComplex(DimError):
    """A dimension expression grew past what is worth computing with."""

    code = "AINO-E0273"
    template = "a dimension expression has {size} {what}, more than the limit of {limit}"
    hint = "fix some of the symbolic extents to numbers, or simplify the shape arithmetic of the model"
    example = {"size": 5000, "what": "terms", "limit": 4096}
