"""What `Op.infer` may ask: facts about dims, contents known at compile time, data symbols."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from aino_ir.dims import Dim, DimLike, is_static, product
from aino_ir.dtypes import DType
from aino_ir.errors.ir import (
    BadAttribute,
    BadOperand,
    DTypeMismatch,
    NegativeExtent,
    RankMismatch,
    ShapeMismatch,
    SizeLimit,
    Undecided,
)
from aino_ir.op import Op, Trait
from aino_ir.symbols import Symbols
from aino_ir.types import TensorType, Type

if TYPE_CHECKING:
    from aino_ir.graph import Function, Module, Value

KNOWN_LIMIT = 64
"""Integer values of at most this many elements are tracked at compile time."""

SIZE_LIMIT = 1 << 40
"""No tensor may have more elements."""

MAX_RANK = 16


class InferContext:
    """Facts for one op's type inference.

    Args:
        symbols: the function's symbol table.
        record: whether an undecided equality may become an entry check; when False it raises
            `Undecided` (rules and shrinking must not add checks).
        op: the op whose types are inferred; errors name it and its location.
        module: where the functions stand that calls name.
    """

    def __init__(
        self, symbols: Symbols, record: bool = True, op: Op | None = None, module: Module | None = None
    ) -> None:
        self.symbols = symbols
        self.record = record
        self.op = op
        self.module = module

    def callee(self, name: str) -> Function | None:
        """The function of the module that a call names, or None."""
        return None if self.module is None else self.module.functions.get(name)

    # -- dims ---------------------------------------------------------------------------------------

    def same(self, a: DimLike, b: DimLike, what: str) -> DimLike:
        """The common value of two extents that must be equal; unknown becomes an entry check."""
        if a is b:
            return a
        proved = self.symbols.prove_eq(a, b)
        if proved is False:
            raise ShapeMismatch(loc=self._loc(), op=self._name(), what=what, left=a, right=b)
        if proved is None:
            if not self.record:
                raise Undecided(loc=self._loc(), op=self._name(), what=f"{what} are equal", left=a, right=b)
            self.symbols.assume_eq(a, b, f"{self._name()}: {what}")
        return a if is_static(a) or not is_static(b) else b

    def at_least(self, a: DimLike, b: DimLike, what: str) -> None:
        """Demand a >= b; unknown becomes an entry check."""
        proved = self.symbols.prove_ge(a, b)
        if proved is False:
            raise BadOperand(loc=self._loc(), op=self._name(), what=what, expected=f"at least {b}", got=a)
        if proved is None:
            if not self.record:
                raise Undecided(loc=self._loc(), op=self._name(), what=what, left=a, right=b)
            self.symbols.assume_ge(a, b, f"{self._name()}: {what}")

    def same_shape(self, a: tuple[DimLike, ...], b: tuple[DimLike, ...], what: str) -> tuple[DimLike, ...]:
        """Two shapes that must be equal."""
        if len(a) != len(b):
            raise RankMismatch(loc=self._loc(), op=self._name(), what=what, expected=len(a), got=len(b))
        return tuple(self.same(x, y, f"{what}, axis {i}") for i, (x, y) in enumerate(zip(a, b, strict=True)))

    def broadcast(self, *shapes: tuple[DimLike, ...]) -> tuple[DimLike, ...]:
        """The numpy broadcast of shapes; symbolic extents against others must be equal unless one is 1."""
        if shapes and all(s == shapes[0] for s in shapes):
            return shapes[0]
        rank = max((len(s) for s in shapes), default=0)
        out: list[DimLike] = []
        for axis in range(rank):
            extent: DimLike = 1
            for shape in shapes:
                position = axis - (rank - len(shape))
                if position < 0 or _is_one(shape[position]):
                    continue
                other = shape[position]
                extent = (
                    other
                    if _is_one(extent)
                    else self.same(extent, other, f"broadcast extents of axis {axis}")
                )
            out.append(extent)
        return tuple(out)

    def data_symbol(self, result: int, upper: DimLike | None, position: int = 0) -> Dim:
        """The symbol of a data-dependent extent of this op, 0..upper; the same one on re-inference."""
        assert self.op is not None
        return self.symbols.data(self.op.id, result, upper, position)

    def result_shape(self, shape: tuple[DimLike, ...]) -> tuple[DimLike, ...]:
        """`shape`, simplified and checked: no negative extents, rank and size within limits."""
        simple = tuple(self.symbols.simplify(d) for d in shape)
        if len(simple) > MAX_RANK:
            raise RankMismatch(
                loc=self._loc(), op=self._name(), what="result", expected=f"<= {MAX_RANK}", got=len(simple)
            )
        if any(is_static(d) and d < 0 for d in simple):
            raise NegativeExtent(loc=self._loc(), op=self._name(), shape=tuple(str(d) for d in simple))
        size = product(simple)
        if is_static(size) and size > SIZE_LIMIT:
            raise SizeLimit(loc=self._loc(), op=self._name(), size=size, limit=SIZE_LIMIT)
        return simple

    # -- types --------------------------------------------------------------------------------------

    def tensor(self, value: Value, what: str) -> TensorType:
        """The type of an operand that must be a tensor."""
        if not isinstance(value.type, TensorType):
            raise DTypeMismatch(
                loc=self._loc(), op=self._name(), what=what, expected="a tensor", got=value.type
            )
        return value.type

    def same_dtype(self, *values: Value) -> DType:
        """The common dtype of operands."""
        first = self.tensor(values[0], "operand 0").dtype
        for i, v in enumerate(values[1:], 1):
            got = self.tensor(v, f"operand {i}").dtype
            if got is not first:
                raise DTypeMismatch(
                    loc=self._loc(), op=self._name(), what=f"dtype of operand {i}", expected=first, got=got
                )
        return first

    def rank(self, value: Value, expected: int, what: str) -> None:
        """Demand a rank."""
        if value.rank != expected:
            raise RankMismatch(loc=self._loc(), op=self._name(), what=what, expected=expected, got=value.rank)

    def axis(self, axis: int, rank: int, attribute: str = "axis") -> int:
        """A possibly negative axis made non-negative and checked."""
        if not -rank <= axis < max(rank, 1):
            self.bad_attribute(attribute, f"within {-rank}..{rank - 1}", axis)
        return axis + rank if axis < 0 else axis

    def bad_attribute(self, attribute: str, expected: str, got: Any) -> NoReturn:
        """Refuse an attribute."""
        raise BadAttribute(loc=self._loc(), op=self._name(), attribute=attribute, expected=expected, got=got)

    def bad_operand(self, what: str, expected: str, got: Any) -> NoReturn:
        """Refuse an operand."""
        raise BadOperand(loc=self._loc(), op=self._name(), what=what, expected=expected, got=got)

    def bad_dtype(self, what: str, expected: str, got: Any) -> NoReturn:
        """Refuse a dtype."""
        raise DTypeMismatch(loc=self._loc(), op=self._name(), what=what, expected=expected, got=got)

    # -- contents -----------------------------------------------------------------------------------

    def known(self, value: Value | None) -> np.ndarray | None:
        """Contents of a small integer value as an object array of ints and Dims, or None."""
        return None if value is None else known_contents(value, self.symbols)

    def known_dims(self, value: Value | None) -> tuple[DimLike, ...] | None:
        """Contents of a 1-d (or 0-d) integer value as a tuple, or None."""
        array = self.known(value)
        return None if array is None else tuple(array.reshape(-1).tolist())

    def _loc(self) -> object:
        return self.op.loc if self.op is not None else None

    def _name(self) -> str:
        return self.op.name if self.op is not None else "infer"


def _is_one(d: DimLike) -> bool:
    return is_static(d) and d == 1


def known_contents(value: Value, symbols: Symbols) -> np.ndarray | None:
    """Contents of a small integer value from types and constants alone; computed once per value."""
    work = [] if value.known_ready else [value]
    while work:  # operands first: chains of shape arithmetic may be longer than the stack is deep
        v = work[-1]
        if v.known_ready:
            work.pop()
            continue
        if v.op is None or not _tracked(v.type) or not _follows(v.op):
            v.known_ready = True
            continue
        waiting = [o for o in v.op.present_operands() if not o.known_ready]
        if waiting:
            work += waiting
            continue
        v.known_ready = True
        v.known = _known_result(v, symbols)
    return value.known


def _follows(op: Op) -> bool:
    """Whether contents of results may follow from contents of operands."""
    return op.has(Trait.SYMBOLIC) or type(op).known is not Op.known


def _tracked(type: Type) -> bool:
    if not isinstance(type, TensorType) or not (type.dtype.is_integer or type.dtype.is_bool):
        return False
    return type.is_static and int(type.size) <= KNOWN_LIMIT  # type: ignore[arg-type]


def _known_result(value: Value, symbols: Symbols) -> np.ndarray | None:
    from aino_ir.interp import SymbolicEvaluation

    op = value.op
    assert op is not None
    own = op.known(InferContext(symbols, record=False, op=op))
    if own is not None:
        return own[value.index]
    if not op.has(Trait.SYMBOLIC):
        return None
    operands: list[np.ndarray | None] = []
    for v in op.operands:
        contents = None if v is None else known_contents(v, symbols)
        if v is not None and contents is None:
            return None
        operands.append(contents)
    return SymbolicEvaluation(symbols, op).run(operands, value)
