"""What is said of one symbol: where it comes from, what is known about it, what extents must fulfil."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from aino_ir.dims import DimLike
from aino_ir.errors.dims import ReservedSymbolName

RELATIONS = {"eq": "==", "ge": ">="}
"""Kinds of checks -> what stands between their sides."""


@dataclass(frozen=True)
class Origin:
    """Where a symbol's value comes from.

    Attributes:
        kind: "input" (an axis of an argument), "value" (a result of an op), "data" (an extent that
            an op decides at run time) or "local" (a loop variable).
        name: the argument's name (input).
        axis: its axis; -1 when the caller gives the number (input).
        op: id of the op (value, data).
        result: which result of the op (value, data).
        element: which element of that result, in row-major order (value).
        upper: bound of the extent (data).
    """

    kind: str
    name: str = ""
    axis: int = 0
    op: int = -1
    result: int = 0
    upper: DimLike | None = None
    element: int = 0

    @staticmethod
    def input(name: str, axis: int) -> Origin:
        """The extent of an argument's axis."""
        return Origin("input", name=name, axis=axis)

    @staticmethod
    def given() -> Origin:
        """A number that the function's caller gives; no axis of an argument tells it."""
        return Origin("input", axis=-1)

    @staticmethod
    def value(op: int, result: int = 0, element: int = 0) -> Origin:
        """An integer that an op computes."""
        return Origin("value", op=op, result=result, element=element)

    @staticmethod
    def data(op: int, result: int, upper: DimLike | None) -> Origin:
        """An extent that depends on an op's data, at most `upper`."""
        return Origin("data", op=op, result=result, upper=upper)

    @staticmethod
    def local() -> Origin:
        """A loop variable."""
        return LOCAL

    def __str__(self) -> str:
        if self.kind == "input":
            return f"input {self.name} axis {self.axis}" if self.axis >= 0 else "given by the caller"
        if self.kind == "local":
            return "local"
        element = f" element {self.element}" if self.element else ""
        return f"{self.kind} of op {self.op} result {self.result}{element}"


LOCAL = Origin("local")
"""The origin of every loop variable."""


class SymbolInfo(NamedTuple):
    """What a table knows about one symbol: inclusive bounds, a divisor, and where it comes from."""

    lo: DimLike | None
    hi: DimLike | None
    divisible_by: int
    origin: Origin


class Check(NamedTuple):
    """A condition on extents that the compiled program tests.

    Attributes:
        kind: "eq" (lhs == rhs) or "ge" (lhs >= rhs).
        what: why, in words for the user.
        after_op: id of the op that decides the last extent involved; None is at entry.
    """

    kind: str
    lhs: DimLike
    rhs: DimLike
    what: str
    after_op: int | None = None

    @property
    def relation(self) -> str:
        """``==`` or ``>=``."""
        return RELATIONS[self.kind]

    def __str__(self) -> str:
        return f"{self.lhs} {self.relation} {self.rhs}"


RESERVED_NAMES = frozenset({"unit"})
"""Names that no symbol of a model may have (the parallel loop's variable), besides those with a dot."""


def model_symbol_name(name: str) -> str:
    """`name`, which a model's symbol is to have.

    Raises:
        ReservedSymbolName: kernels use it for themselves.
    """
    if name in RESERVED_NAMES or name.endswith("."):
        raise ReservedSymbolName(name=name)
    return name
