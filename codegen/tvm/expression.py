"""Scalar expressions of the loop language as TVMScript.

TVM's simplifier and LLVM's instruction selection do not keep all that IEEE arithmetic says: ``x * 0`` and
``x + 0`` are folded, ``a * b + c`` is contracted to one rounding, and a negated comparison of floats is
replaced by the opposite one, which is another where NaN comes in.  So zeros in arithmetic and products that
a sum could swallow stand behind `fence`, and negation is an exclusive or.  Nor do TVM's integers wrap around:
helpers do (`WRAPPING`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from aino_ir.codegen.cstyle.expression import BOOL_AS_LOGIC, COMPARISONS, constant_of
from aino_ir.codegen.cstyle.lowering import Raw, raw_dtype
from aino_ir.codegen.tvm.index import IndexText
from aino_ir.codegen.tvm.text import Text, binary, call, element, literal, prefix, type_name
from aino_ir.dims import DimLike
from aino_ir.dtypes import DType
from aino_ir.errors.printing import NoSpelling
from aino_ir.loops.expr import (
    Accumulator,
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
    Read,
    RegRead,
    Round,
    Select,
    Unary,
    Var,
)

_INTRINSICS = {
    "abs": "T.fabs",
    "sqrt": "T.sqrt",
    "floor": "T.floor",
    "ceil": "T.ceil",
    "round": "T.nearbyint",
    "trunc": "T.trunc",
    "isnan": "T.isnan",
}
"""Operations on floats that LLVM has exactly as the loop language means them."""

_BITWISE = {"and": "&", "or": "|", "xor": "^"}
_ARITHMETIC = {"add": "+", "sub": "-", "mul": "*"}


LARGE = 60.0
"""Size of an argument that gets a variable of its own."""

WRAPPING = frozenset({"i32", "u32", "u64"})
"""Dtypes whose sums and products wrap around only in a helper: TVM tells LLVM that its own never do.

Those of i64 are positions and extents, which never do; narrower ones TVM leaves alone.
"""


class HelperNames(Protocol):
    """Gives out helper functions, remembering which were asked for."""

    def operation(self, op: str, dtype: DType) -> str:
        """The function of an operation on equal types."""

    def conversion(self, source: DType, target: DType) -> str:
        """The function that converts floats to an integer dtype, saturating."""

    def decoding(self, storage: DType) -> str:
        """The function from raw storage values to compute values."""

    def encoding(self, storage: DType) -> str:
        """The function from compute values to raw storage values."""

    def math(self, function: str, dtype: DType) -> str:
        """The function of the vector math library on a type."""

    keeping: set[str]

    def fence(self) -> str:
        """The function that keeps a value apart from the arithmetic around it."""

    def growth(self, function: str) -> tuple[float, float]:
        """The size of a helper's result, without and for each node of its arguments."""


class TirPrinter:
    """Prints expressions; one instance a function.

    Args:
        helpers: where helper functions come from.
        name: gives the identifier of a pinned name, a register or a buffer.
        index: prints Dims that address memory.
        value: prints Dims as i64 values.
        buffers: what each buffer holds.
    """

    def __init__(
        self,
        helpers: HelperNames,
        name: Callable[[str], str],
        index: IndexText,
        value: IndexText,
        buffers: dict[str, DType],
    ) -> None:
        self.helpers = helpers
        self.identifier = name
        self.index = index
        self.dim_values = value
        self.buffers = buffers
        self.named = 0
        """How many helpers with names of their own have been called."""
        self.sizes: dict[str, float] = {}
        """Name -> the size of what it stands for, where that is not 1."""
        self.keep: Callable[[Text, DType], Text] | None = None
        """Puts a value into a variable, which the simplifier does not look through."""
        self._methods: dict[type[Expr], Callable[..., Text]] = {
            Const: lambda e: literal(e.value, e.dtype),
            Index: lambda e: self.dim_values.text(e.dim),
            Var: lambda e: Text(self.identifier(e.name), size=self.sizes.get(e.name, 1.0)),
            RegRead: lambda e: Text(self.identifier(e.name)),
            Unary: self.unary,
            Binary: self.binary,
            Fma: lambda e: call("T.fma", *map(self.value, (e.a, e.b, e.c))),
            Compare: self.compare,
            Select: lambda e: call("T.Select", *map(self.value, (e.condition, e.a, e.b))),
            Cast: self.cast,
            Round: self.round,
            Bitcast: self.bitcast,
            Call: lambda e: self.helper(self.helpers.math(e.function, e.dtype), *map(self.argument, e.args)),
            Load: self.load,
            Read: self.read,
            Accumulator: self.accumulator,
            Raw: self.raw,
        }

    def value(self, e: Expr) -> Text:
        """The value of a scalar expression.

        Raises:
            NoSpelling: TensorIR has none for it.
        """
        method = self._methods.get(type(e))
        if method is None or e.lanes != 1:
            raise self.missing(type(e).__name__.lower(), e.type)
        return method(e)

    def pinned(self, e: Expr) -> Text:
        """A value that others may build on: no sum is to swallow a product at its root."""
        text = self.value(e)
        if isinstance(e, Binary) and e.op == "mul" and e.dtype.is_float:
            return call(self.helpers.fence(), text)
        return text

    def helper(self, function: str, *args: tuple[Text, DType]) -> Text:
        """A call of a helper function on values of some dtypes; large ones are kept in variables."""
        self.named += 1
        given = [self.keep(a, dtype) if self.keep and a.size > LARGE else a for a, dtype in args]
        base, uses = self.helpers.growth(function)
        return Text(call(function, *given).text, size=base + uses * sum(a.size for a in given))

    def argument(self, e: Expr) -> tuple[Text, DType]:
        """An argument of a helper."""
        return self.pinned(e), e.dtype

    def missing(self, operation: str, type_: object) -> NoSpelling:
        """The error that says what cannot be printed."""
        return NoSpelling(operation=operation, type=str(type_), target="TVM")

    # -- arithmetic

    def unary(self, e: Unary) -> Text:
        """Operators, LLVM's own operations, helpers."""
        if e.op == "neg" and e.dtype.name in WRAPPING:
            return self.value(Binary("sub", Const(0, e.type), e.x, e.type))
        if e.op == "neg":
            return prefix("-", self.value(e.x))
        if e.op == "not":
            if e.dtype.is_bool:
                return call("T.bitwise_xor", self.value(e.x), "T.bool(True)")
            return call("T.bitwise_not", self.value(e.x))
        if e.x.dtype.is_integer and e.op in ("floor", "ceil", "round", "trunc"):
            return self.value(e.x)
        if (
            e.x.dtype.is_float
            and (e.op != "isnan" or isinstance(e.x, (Var, RegRead, Load)))
            and e.op in _INTRINSICS
        ):
            return call(_INTRINSICS[e.op], self.value(e.x))
        return self.helper(self.helpers.operation(e.op, e.x.dtype), self.argument(e.x))

    def binary(self, e: Binary) -> Text:
        """An operator where its meaning is that of the loop language, else a helper."""
        if e.dtype.is_bool:
            return self.logic(e)
        if e.dtype.is_float:
            return self.float_binary(e)
        if e.op in ("min", "max"):
            return call(f"T.{e.op}", self.value(e.a), self.value(e.b))
        if e.op in _ARITHMETIC and e.dtype.name not in WRAPPING:
            return self.plain(e)
        if e.op in _BITWISE:
            return binary(_BITWISE[e.op], self.value(e.a), self.value(e.b))
        right = constant_of(e.b)
        if right is not None and self._is_plain(e.op, int(right.value), e.dtype):
            return self.machine(e.op, e.a, e.b)
        return self.helper(self.helpers.operation(e.op, e.dtype), self.argument(e.a), self.argument(e.b))

    def plain(self, e: Binary) -> Text:
        """An arithmetic operator."""
        return binary(_ARITHMETIC[e.op], self.value(e.a), self.value(e.b))

    def float_binary(self, e: Binary) -> Text:
        """Arithmetic on floats, with what the simplifier must not see fenced."""
        if e.op == "copysign":
            return call("T.copysign", self.value(e.a), self.value(e.b))
        if e.op in ("min", "max"):
            return self.helper(self.helpers.operation(e.op, e.dtype), self.argument(e.a), self.argument(e.b))
        operator = {**_ARITHMETIC, "div": "/"}.get(e.op)
        if operator is None:
            raise self.missing(e.op, e.type)
        return binary(operator, *(self._term(e.op, x) for x in (e.a, e.b)))

    def _term(self, op: str, x: Expr) -> Text:
        constant = constant_of(x)
        if constant is not None and constant.value == 0:
            return call(self.helpers.fence(), self.value(x))
        return self.pinned(x) if op in ("add", "sub") else self.value(x)

    @staticmethod
    def _is_plain(op: str, right: int, dtype: DType) -> bool:
        if op in ("shl", "shr"):
            return 0 <= right < dtype.bits
        return op in ("div", "rem") and right not in (0, -1)

    def machine(self, op: str, a: Expr, b: Expr) -> Text:
        """An unguarded integer operation."""
        names = {"shl": "T.shift_left", "shr": "T.shift_right", "div": "T.truncdiv", "rem": "T.truncmod"}
        return call(names[op], self.value(a), self.value(b))

    def logic(self, e: Binary) -> Text:
        """and, or, xor of bools."""
        op = BOOL_AS_LOGIC.get(e.op)
        if op is None:
            raise self.missing(e.op, e.type)
        return call(
            {"and": "T.And", "or": "T.Or", "xor": "T.bitwise_xor"}[op], self.value(e.a), self.value(e.b)
        )

    def compare(self, e: Compare) -> Text:
        """A comparison; on bools through numbers."""
        if e.a.dtype.is_bool:
            left, right = (call("T.Cast", '"int32"', self.value(x)) for x in (e.a, e.b))
        else:
            left, right = self.value(e.a), self.value(e.b)
        if e.op == "eq":
            return call("T.EQ", left, right)
        if e.op == "ne":
            if e.a.dtype.is_float:  # TVM's own is false where NaN comes in
                return call("T.bitwise_xor", call("T.EQ", left, right), "T.bool(True)")
            return call("T.NE", left, right)
        return binary(COMPARISONS[e.op], left, right)

    # -- conversions

    def cast(self, e: Cast) -> Text:
        """Value conversion."""
        if e.dtype.is_bool:
            return self.value(Compare("ne", e.x, Const(_zero(e.x.dtype), e.x.type), e.type))
        if e.x.dtype.is_float and e.dtype.is_integer:
            return self.helper(self.helpers.conversion(e.x.dtype, e.dtype), self.argument(e.x))
        return call("T.Cast", f'"{type_name(e.dtype)}"', self.value(e.x))

    def round(self, e: Round) -> Text:
        """Through the storage type and back."""
        encoded = self.helper(self.helpers.encoding(e.storage), self.argument(e.x))
        return self.helper(self.helpers.decoding(e.storage), (encoded, raw_dtype(e.storage)))

    def bitcast(self, e: Bitcast) -> Text:
        """The same bits."""
        if e.x.dtype is e.dtype:
            return self.value(e.x)
        return call("T.reinterpret", f'"{type_name(e.dtype)}"', self.value(e.x))

    def raw(self, e: Raw) -> Text:
        """An unguarded operation, or a helper."""
        if e.op == "convert":
            return call("T.Cast", f'"{type_name(e.dtype)}"', self.value(e.args[0]))
        if e.op in ("shl", "shr", "div", "rem") and e.dtype.is_integer:
            return self.machine(e.op, e.args[0], e.args[1])
        return self.helper(self.helpers.operation(e.op, e.dtype), *map(self.argument, e.args))

    # -- memory

    def load(self, e: Load) -> Text:
        """One element in its compute dtype; nothing is read where the mask is false."""
        at = self.index.text(e.offset) if e.gather is None else self.offset(e.offset, e.gather)
        storage = self.buffers[e.buffer]
        value = element(self.identifier(e.buffer), at)
        if e.mask is None:
            return self.decoded(value, storage)
        return self.guarded(self.value(e.mask), value, storage, e.other, e.dtype)

    def guarded(self, mask: Text, raw: Text, storage: DType, other: Expr | None, dtype: DType) -> Text:
        """A raw value that is read only where the mask is true, as a compute value; elsewhere `other` (0)."""
        if not storage.is_storage:
            default = self.value(other) if other is not None else literal(_zero(dtype), dtype)
            return call("T.if_then_else", mask, self.decoded(raw, storage), default)
        value = self.decoded(call("T.if_then_else", mask, raw, literal(0, raw_dtype(storage))), storage)
        return value if other is None else call("T.Select", mask, value, self.value(other))

    def offset(self, offset: DimLike, value: Expr) -> Text:
        """A Dim plus a value, as one index."""
        if isinstance(offset, int) and offset == 0:
            return self.value(value)
        return binary("+", self.dim_values.text(offset), self.value(value))

    def decoded(self, raw: Text, storage: DType) -> Text:
        """A loaded raw value as a compute value."""
        if storage.is_bool:
            return call("T.NE", raw, "T.uint8(0)")
        if not storage.is_storage:
            return raw
        return self.helper(self.helpers.decoding(storage), (raw, raw_dtype(storage)))

    def encoded(self, e: Expr, storage: DType) -> Text:
        """A compute value as what the buffer holds."""
        if storage.is_bool:
            return call("T.Cast", '"uint8"', self.value(e))
        return (
            self.helper(self.helpers.encoding(storage), self.argument(e))
            if storage.is_storage
            else self.value(e)
        )

    # -- index notation: only where the computation is printed as blocks

    def read(self, e: Read) -> Text:
        """An operand at coordinates."""
        raise self.missing("read", e.type)

    def accumulator(self, e: Accumulator) -> Text:
        """The finished sum."""
        raise self.missing("accumulator", e.type)


def _zero(dtype: DType) -> float | int | bool:
    return False if dtype.is_bool else 0.0 if dtype.is_float else 0
