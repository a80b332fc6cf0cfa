"""Scalar expressions of the loop language as C text; the base of the C and the CUDA printer.

A printer for one function knows its names, the ranges of its index symbols, and where helpers come
from.  Everything that depends on how the language spells vectors is a method that a subclass
overrides.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from aino_ir.codegen.cstyle.index import IndexPrinter, Ranges
from aino_ir.codegen.cstyle.literals import literal
from aino_ir.codegen.cstyle.lowering import Raw
from aino_ir.codegen.cstyle.names import Names
from aino_ir.codegen.cstyle.text import ADDITIVE, Code, binary, call, cast, conditional, element, prefix
from aino_ir.dims import DimLike
from aino_ir.dtypes import DType, i64
from aino_ir.errors.printing import NoSpelling
from aino_ir.loops.dot_expr import AddPairs, Dot, DotHalves, DotPairs
from aino_ir.loops.expr import (
    Binary,
    Bitcast,
    Call,
    Cast,
    Compare,
    Const,
    Expr,
    Fma,
    Index,
    Load,
    Reduce,
    RegRead,
    Round,
    Select,
    Shuffle,
    Splat,
    Unary,
    Var,
    VecType,
)

OPERATORS = {
    "add": "+",
    "sub": "-",
    "mul": "*",
    "div": "/",
    "rem": "%",
    "and": "&",
    "or": "|",
    "xor": "^",
    "shl": "<<",
    "shr": ">>",
}
COMPARISONS = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
_FLOAT_OPERATORS = frozenset({"add", "sub", "mul", "div"})
_PLAIN_INTEGER_OPERATORS = frozenset({"add", "sub", "mul", "and", "or", "xor"})

BOOL_AS_LOGIC = {"add": "or", "mul": "and", "min": "and", "max": "or", "and": "and", "or": "or", "xor": "xor"}
"""What the arithmetic operations mean on bool."""

_BOOL_COMPARISONS: dict[str, tuple[bool, str, bool]] = {
    "lt": (True, "and", False),
    "le": (True, "or", False),
    "gt": (False, "and", True),
    "ge": (False, "or", True),
}
"""a < b on bool is ``not a and b``, and so on: (negate a, operation, negate b)."""


class HelperSource(Protocol):
    """Gives out helper functions, remembering which were asked for."""

    target: str

    def operation(self, op: str, type_: VecType) -> str:
        """The function of an operation on equal types."""

    def conversion(self, source: VecType, target: DType) -> str:
        """The function that converts floats to an integer dtype, saturating."""

    def decoding(self, storage: DType, lanes: int) -> str:
        """The function from raw storage values to compute values."""

    def encoding(self, storage: DType, lanes: int) -> str:
        """The function from compute values to raw storage values."""

    def reinterpretation(self, source: DType, target: DType) -> str:
        """The function that keeps the bits of a scalar."""

    def math(self, function: str, type_: VecType) -> str:
        """The function of the vector math library on a type."""


def constant_of(e: Expr) -> Const | None:
    """The constant that an expression is, splatted or not."""
    if isinstance(e, Splat):
        e = e.x
    return e if isinstance(e, Const) else None


class CStylePrinter:
    """Prints expressions; one instance a function."""

    def __init__(
        self, helpers: HelperSource, names: Names, ranges: Ranges, buffers: dict[str, DType]
    ) -> None:
        self.helpers = helpers
        self.names = names
        self.ranges = ranges
        self.buffers = buffers
        self._indices = IndexPrinter(names, ranges, lambda op: helpers.operation(op, VecType(i64)))
        self._methods: dict[type[Expr], Callable[..., Code]] = {
            Const: self.constant,
            Index: self.index_value,
            Var: self.name,
            RegRead: self.name,
            Unary: self.unary,
            Binary: self.binary,
            Fma: self.fma,
            Dot: self.dot,
            DotPairs: self.dot_pairs,
            AddPairs: self.add_pairs,
            DotHalves: self.dot_halves,
            Compare: self.compare,
            Select: self.select,
            Cast: self.cast,
            Round: self.round,
            Bitcast: self.bitcast,
            Splat: self.splat,
            Shuffle: self.shuffle,
            Reduce: self.reduce,
            Call: self.call,
            Load: self.load,
            Raw: self.raw,
        }

    # -- entry points

    def value(self, e: Expr) -> Code:
        """The value of an expression."""
        method = self._methods.get(type(e))
        if method is None:
            raise self.missing(type(e).__name__.lower(), e.type)
        return method(e)

    def index(self, dim: DimLike) -> Code:
        """A Dim as an ``int64_t`` expression."""
        return self._indices.code(dim)

    def missing(self, operation: str, type_: object) -> NoSpelling:
        """The error that says what this target cannot print."""
        return NoSpelling(operation=operation, type=str(type_), target=self.helpers.target)

    def scalar_type(self, dtype: DType) -> str:
        """The name of a scalar type."""
        raise NotImplementedError

    # -- leaves

    def constant(self, e: Const) -> Code:
        """A literal."""
        return literal(e.value, e.dtype)

    def index_value(self, e: Index) -> Code:
        """A Dim as a value."""
        return self.index(e.dim)

    def name(self, e: Var | RegRead) -> Code:
        """A pinned name or a register."""
        return Code(self.names[e.name])

    # -- arithmetic

    def operands(self, a: Expr, b: Expr) -> tuple[Code, Code]:
        """Both operands of an operator."""
        return self.value(a), self.value(b)

    def narrowed(self, code: Code, type_: VecType) -> Code:
        """C computes on `int`: cast a scalar of a narrower type back."""
        if type_.lanes == 1 and type_.dtype.is_integer and type_.dtype.bits < 32:
            return cast(self.scalar_type(type_.dtype), code)
        return code

    def operator(self, op: str, a: Expr, b: Expr, type_: VecType) -> Code:
        """``a op b`` as the language's own operator."""
        left, right = self.operands(a, b)
        if op in ("shl", "shr") and isinstance(a, Const) and a.lanes == 1 and type_.dtype.bits == 64:
            left = cast(self.scalar_type(type_.dtype), left)
        return self.narrowed(binary(OPERATORS[op], left, right), type_)

    def helper(self, op: str, type_: VecType, *args: Expr) -> Code:
        """A call of a helper on values."""
        return call(self.helpers.operation(op, type_), *(self.value(a) for a in args))

    def unary(self, e: Unary) -> Code:
        """Negation and bitwise not are operators, the others helpers."""
        if e.op == "neg":
            return self.narrowed(prefix("-", self.value(e.x)), e.type)
        if e.op == "not":
            return (
                self.negation(e.x) if e.dtype.is_bool else self.narrowed(prefix("~", self.value(e.x)), e.type)
            )
        if e.op == "isnan" and isinstance(e.x, (Var, RegRead)):
            return binary("!=", self.value(e.x), self.value(e.x))
        if e.x.dtype.is_integer and e.op in ("floor", "ceil", "round", "trunc"):
            return self.value(e.x)
        return self.helper(e.op, e.x.type, e.x)

    def negation(self, x: Expr) -> Code:
        """Logical not of a bool scalar."""
        return prefix("!", self.value(x))

    def binary(self, e: Binary) -> Code:
        """An operator where its meaning is the language's own, else a helper."""
        if e.dtype.is_bool:
            return self.logic(e)
        if e.op in ("min", "max"):
            return self.extremum(e)
        if self.is_plain(e):
            return self.operator(e.op, e.a, e.b, e.type)
        return self.helper(e.op, e.type, e.a, e.b)

    def is_plain(self, e: Binary) -> bool:
        """Whether the language's operator means exactly what the loop language does."""
        if e.dtype.is_float:
            return e.op in _FLOAT_OPERATORS
        if e.op in _PLAIN_INTEGER_OPERATORS:
            return True
        right = constant_of(e.b)
        if right is None:
            return False
        if e.op in ("shl", "shr"):
            return 0 <= right.value < e.dtype.bits
        return e.op in ("div", "rem") and right.value not in (0, -1)

    def extremum(self, e: Binary) -> Code:
        """min or max; against a constant that is not NaN a plain comparison propagates NaN."""
        if e.dtype.is_float:
            ordered = "greater" if e.op == "max" else "lesser"
            for constant, other in ((e.a, e.b), (e.b, e.a)):
                known = constant_of(constant)
                if known is not None and known.value == known.value:
                    return self.helper(ordered, e.type, constant, other)
        return self.helper(e.op, e.type, e.a, e.b)

    def logic(self, e: Binary) -> Code:
        """and, or, xor of bool scalars."""
        op = BOOL_AS_LOGIC.get(e.op)
        if op is None:
            raise self.missing(e.op, e.type)
        return binary({"and": "&&", "or": "||", "xor": "!="}[op], self.value(e.a), self.value(e.b))

    def fma(self, e: Fma) -> Code:
        """One rounding: always the helper."""
        return self.helper("fma", e.type, e.a, e.b, e.c)

    def dot(self, e: Dot) -> Code:
        """Sums of four products of bytes: always the helper."""
        return self.helper(f"dot_{e.x.dtype}", e.type, e.accumulator, e.x, e.w)

    def dot_pairs(self, e: DotPairs) -> Code:
        """Sums of two products of bytes: always the helper."""
        return self.helper("dot_pairs", e.type, e.x, e.w)

    def add_pairs(self, e: AddPairs) -> Code:
        """Neighbours added to wider lanes: always the helper."""
        return self.helper("add_pairs", e.type, e.accumulator, e.pairs)

    def dot_halves(self, e: DotHalves) -> Code:
        """Sums of two products of bf16: always the helper."""
        return self.helper("dot_bf16", e.type, e.accumulator, e.x, e.w)

    def compare(self, e: Compare) -> Code:
        """A comparison; on bool through logic."""
        if e.a.dtype.is_bool and e.op in _BOOL_COMPARISONS:
            negate_a, op, negate_b = _BOOL_COMPARISONS[e.op]
            a = Unary("not", e.a, e.a.type) if negate_a else e.a
            b = Unary("not", e.b, e.b.type) if negate_b else e.b
            return self.value(Binary(op, a, b, e.type))
        left, right = self.operands(e.a, e.b)
        return binary(COMPARISONS[e.op], left, right)

    def select(self, e: Select) -> Code:
        """``condition ? a : b``."""
        return self.narrowed(conditional(self.value(e.condition), self.value(e.a), self.value(e.b)), e.type)

    # -- conversions

    def cast(self, e: Cast) -> Code:
        """Value conversion of a scalar."""
        if e.dtype.is_bool:
            return binary("!=", self.value(e.x), literal(0, e.x.dtype))
        if e.x.dtype.is_float and e.dtype.is_integer:
            return call(self.helpers.conversion(e.x.type, e.dtype), self.value(e.x))
        return cast(self.scalar_type(e.dtype), self.value(e.x))

    def round(self, e: Round) -> Code:
        """Through the storage type and back."""
        encode = self.helpers.encoding(e.storage, e.lanes)
        return call(self.helpers.decoding(e.storage, e.lanes), call(encode, self.value(e.x)))

    def bitcast(self, e: Bitcast) -> Code:
        """The same bits."""
        if e.x.dtype is e.dtype:
            return self.value(e.x)
        if e.x.dtype.is_integer and e.dtype.is_integer:
            return cast(self.scalar_type(e.dtype), self.value(e.x))
        return call(self.helpers.reinterpretation(e.x.dtype, e.dtype), self.value(e.x))

    # -- vectors

    def splat(self, e: Splat) -> Code:
        """A scalar in every lane."""
        raise self.missing("splat", e.type)

    def shuffle(self, e: Shuffle) -> Code:
        """Lanes picked by a pattern."""
        raise self.missing("shuffle", e.type)

    def reduce(self, e: Reduce) -> Code:
        """All lanes combined."""
        raise self.missing("reduce", e.x.type)

    # -- calls and memory

    def call(self, e: Call) -> Code:
        """A function of the vector math library."""
        return call(self.helpers.math(e.function, e.type), *(self.value(a) for a in e.args))

    def raw(self, e: Raw) -> Code:
        """The language's own operator, conversion, or a helper."""
        if e.op == "convert":
            return self.convert(e.args[0], e.type)
        if e.op in OPERATORS:
            return self.operator(e.op, e.args[0], e.args[1], e.type)
        return self.helper(e.op, e.type, *e.args)

    def convert(self, x: Expr, type_: VecType) -> Code:
        """The unguarded value conversion."""
        return cast(self.scalar_type(type_.dtype), self.value(x))

    def address(self, buffer: str, offset: DimLike) -> Code:
        """Pointer to an element."""
        if isinstance(offset, int) and offset == 0:
            return Code(self.names[buffer])
        return Code(f"{self.names[buffer]} + {self.index(offset).at(ADDITIVE)}", ADDITIVE, "+")

    def element(self, buffer: str, at: Code, *, writes: bool = False) -> Code:
        """One element of a buffer, to be read or (`writes`) assigned."""
        return element(self.names[buffer], at)

    def load(self, e: Load) -> Code:
        """One element, converted to its compute dtype; nothing is read where the mask is false."""
        at = self.index(e.offset) if e.gather is None else self.added(e.offset, e.gather)
        value = self.element(e.buffer, at)
        if not is_raw(e, self.buffers[e.buffer]):
            value = self.decoded(value, self.buffers[e.buffer], 1)
        if e.mask is None:
            return value
        other = self.value(e.other) if e.other is not None else literal(0, e.dtype)
        return self.narrowed(conditional(self.value(e.mask), value, other), e.type)

    def added(self, offset: DimLike, value: Expr) -> Code:
        """A Dim plus a value, as one index."""
        if isinstance(offset, int) and offset == 0:
            return self.value(value)
        return binary("+", self.index(offset), self.value(value))

    def decoded(self, code: Code, storage: DType, lanes: int) -> Code:
        """A loaded raw value as a compute value."""
        if storage.is_bool:
            return binary("!=", code, Code("0"))
        return call(self.helpers.decoding(storage, lanes), code) if storage.is_storage else code

    def encoded(self, e: Expr, storage: DType) -> Code:
        """A compute value as what the buffer holds."""
        value = self.value(e)
        return call(self.helpers.encoding(storage, e.lanes), value) if storage.is_storage else value


def is_raw(e: Load, storage: DType) -> bool:
    """Whether the bits of a storage type are asked for."""
    return storage.is_storage and e.dtype is not storage.compute


__all__ = [
    "BOOL_AS_LOGIC",
    "COMPARISONS",
    "OPERATORS",
    "CStylePrinter",
    "HelperSource",
    "constant_of",
    "is_raw",
]
