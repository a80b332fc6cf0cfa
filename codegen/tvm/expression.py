"""Expressions of the loop language as TVMScript: scalars, and vectors lane by lane.

TVM's simplifier and LLVM's instruction selection do not keep all that IEEE arithmetic says: ``x * 0`` and
``x + 0`` are folded, ``(x + c) - c`` is taken for x, ``x - x`` for zero, ``a * b + c`` is contracted to one
rounding, and a negated comparison of floats is replaced by the opposite one, which is another where NaN comes
in.  So zeros in arithmetic, products that a sum could swallow and what a difference could cancel stand behind
`fence`, and negation is an exclusive or.  Nor do TVM's integers wrap around: helpers do (`WRAPPING`).  Its
analysis does not take names for vectors of bools: they are held as numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from aino_ir.codegen.cstyle.expression import BOOL_AS_LOGIC, COMPARISONS, constant_of
from aino_ir.codegen.cstyle.lowering import Raw, raw_dtype
from aino_ir.codegen.tvm.index import IndexText
from aino_ir.codegen.tvm.simplifier import alike, cancels, may_be_swallowed
from aino_ir.codegen.tvm.text import Text, binary, broadcast, call, element, literal, prefix, ramp, type_name
from aino_ir.codegen.tvm.vectors import vector_load
from aino_ir.dims import DimLike
from aino_ir.dtypes import DType, i32, u8
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
    PrefixMask,
    Ramp,
    Read,
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

_INTRINSICS = {
    "abs": "T.fabs",
    "sqrt": "T.sqrt",
    "floor": "T.floor",
    "ceil": "T.ceil",
    "trunc": "T.trunc",
}
"""Operations on floats that LLVM has exactly as the loop language means them, on vectors too."""

_BITWISE = {"and": "&", "or": "|", "xor": "^"}
_ARITHMETIC = {"add": "+", "sub": "-", "mul": "*"}


_BOUNDS = {"max": "at_least", "min": "at_most"}
"""What these are where the second operand is a constant that is not NaN: one comparison."""

LARGE = 60.0
"""Size of an argument that gets a variable of its own."""

WRAPPING = frozenset({"i32", "u32", "u64"})
"""Dtypes whose sums and products wrap around only in a helper: TVM tells LLVM that its own never do.

Those of i64 are positions and extents, which never do; narrower ones TVM leaves alone.
"""


class HelperNames(Protocol):
    """Gives out helper functions, remembering which were asked for."""

    def operation(self, op: str, type_: VecType) -> str:
        """The function of an operation on equal types."""

    def reduction(self, op: str, type_: VecType) -> str:
        """The function that combines all lanes of a vector."""

    def conversion(self, source: VecType, target: DType) -> str:
        """The function that converts floats to an integer dtype, saturating."""

    def decoding(self, storage: DType, lanes: int) -> str:
        """The function from raw storage values to compute values."""

    def encoding(self, storage: DType, lanes: int) -> str:
        """The function from compute values to raw storage values."""

    def math(self, function: str, type_: VecType) -> str:
        """The function of the vector math library on a type."""

    keeping: set[str]

    def every(self, lanes: int) -> str:
        """The places of all elements of a vector in its variable."""

    def fence(self) -> str:
        """The function that keeps a value apart from the arithmetic around it."""

    def fused(self) -> str:
        """The function that multiplies and adds with one rounding."""

    def nearest(self) -> str:
        """The function that rounds to integers."""

    def masks(self, function: str) -> str:
        """The function that makes numbers of bools, or bools of the numbers."""

    def same_bits(self) -> str:
        """The function that takes a value's bits for another type."""

    def choose(self) -> str:
        """The function that takes one of two values, by a condition that TVM concludes nothing from."""

    def growth(self, function: str) -> tuple[float, float]:
        """The size of a helper's result, without and for each node of its arguments."""


class TirPrinter:
    """Prints expressions; one instance a function.

    `holds_masks` says that a name of a vector of bools stands for numbers (`held`), `holds_arrays` that a
    vector's name is that of memory for its elements, `sees_names` that TVM puts in the place of a name what
    it stands for.

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
        self.holds_masks = True
        self.holds_arrays = False
        self.sees_names = True
        self.keep: Callable[[Text, VecType], Text] | None = None
        """Puts a value into a variable, which the simplifier does not look through."""
        self._methods: dict[type[Expr], Callable[..., Text]] = {
            Const: lambda e: literal(e.value, e.dtype, e.lanes),
            Index: lambda e: self.dim_values.text(e.dim),
            Ramp: lambda e: ramp(self.dim_values.text(e.base), Text(f"T.int64({e.step})"), e.lanes),
            PrefixMask: self.prefix_mask,
            Var: lambda e: self.held_name(e, self.sizes.get(e.name, 1.0)),
            RegRead: lambda e: self.held_name(e, 1.0),
            Splat: lambda e: broadcast(self.value(e.x), e.lanes),
            Shuffle: self.shuffle,
            Reduce: self.reduce,
            Unary: self.unary,
            Binary: self.binary,
            Fma: lambda e: call(self.helpers.fused(), *map(self.value, (e.a, e.b, e.c))),
            Compare: self.compare,
            Select: self.select,
            Cast: self.cast,
            Round: self.round,
            Bitcast: self.bitcast,
            Call: lambda e: self.helper(self.helpers.math(e.function, e.type), *map(self.argument, e.args)),
            Load: self.load,
            Read: self.read,
            Accumulator: self.accumulator,
            Raw: self.raw,
        }

    def value(self, e: Expr) -> Text:
        """The value of an expression.

        Raises:
            NoSpelling: TensorIR has none for it.
        """
        method = self._methods.get(type(e))
        if method is None:
            raise self.missing(type(e).__name__.lower(), e.type)
        return method(e)

    def pinned(self, e: Expr) -> Text:
        """A value that others may build on: no sum is to swallow a product at its root."""
        text = self.value(e)
        if isinstance(e, Binary) and e.op == "mul" and e.dtype.is_float:
            return call(self.helpers.fence(), text)
        return text

    def returned(self, e: Expr) -> Text:
        """What a helper gives: no sum of the caller's swallows it, no difference cancels it."""
        text = self.value(e)
        return call(self.helpers.fence(), text) if may_be_swallowed(e) else text

    def helper(self, function: str, *args: tuple[Text, VecType]) -> Text:
        """A call of a helper function on values of some types; large ones are kept in variables."""
        self.named += 1
        given = [self.keep(a, type_) if self.keep and a.size > LARGE else a for a, type_ in args]
        base, uses = self.helpers.growth(function)
        return Text(call(function, *given).text, size=base + uses * sum(a.size for a in given))

    def argument(self, e: Expr) -> tuple[Text, VecType]:
        """An argument of a helper."""
        return self.pinned(e), e.type

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
                return self.negation(self.value(e.x), e.lanes)
            return call("T.bitwise_not", self.value(e.x))
        if e.x.dtype.is_integer and e.op in ("floor", "ceil", "round", "trunc"):
            return self.value(e.x)
        if e.x.dtype.is_float and e.op in _INTRINSICS:
            return call(_INTRINSICS[e.op], self.value(e.x))
        if e.x.dtype.is_float and e.op == "round":
            return call(self.helpers.nearest(), self.value(e.x))
        if e.op == "isnan" and isinstance(e.x, (Var, RegRead, Load)):
            return self.is_nan(self.value(e.x), e.lanes)
        return self.helper(self.helpers.operation(e.op, e.x.type), self.argument(e.x))

    def is_nan(self, x: Text, lanes: int) -> Text:
        """Whether a value is none that equals itself; T.isnan ends the vectors of a block."""
        return self.negation(call("T.EQ", x, call(self.helpers.fence(), x)), lanes)

    def negation(self, x: Text, lanes: int) -> Text:
        """Logical not."""
        return call("T.bitwise_xor", x, broadcast(Text("T.bool(True)"), lanes))

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
        return self.helper(self.helpers.operation(e.op, e.type), self.argument(e.a), self.argument(e.b))

    def plain(self, e: Binary) -> Text:
        """An arithmetic operator."""
        return binary(_ARITHMETIC[e.op], self.value(e.a), self.value(e.b))

    def float_binary(self, e: Binary) -> Text:
        """Arithmetic on floats, with what the simplifier must not see fenced."""
        if e.op in ("min", "max", "copysign"):
            bound = constant_of(e.b)
            known = e.op != "copysign" and bound is not None and bound.value == bound.value
            op = _BOUNDS[e.op] if known else e.op
            return self.helper(self.helpers.operation(op, e.type), self.argument(e.a), self.argument(e.b))
        operator = {**_ARITHMETIC, "div": "/"}.get(e.op)
        if operator is None:
            raise self.missing(e.op, e.type)
        terms = [self._term(e.op, x) for x in (e.a, e.b)]
        if e.op == "sub" and cancels(e.a, e.b, self._hidden):
            side = 1 if constant_of(e.b) is None else 0
            terms[side] = call(self.helpers.fence(), terms[side])
        return binary(operator, *terms)

    def _hidden(self, name: Var) -> bool:
        """Whether TVM does not put what a name stands for in its place."""
        return not self.sees_names or (self.holds_arrays and name.lanes > 1)

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
            left, right = (self.conversion(self.value(x), VecType(i32, x.lanes)) for x in (e.a, e.b))
        else:
            left, right = self.value(e.a), self.value(e.b)
        if e.op in ("eq", "ne") and e.a.dtype.is_float and alike(e.a, e.b, self._hidden):
            right = call(self.helpers.fence(), right)
        if e.op == "eq":
            return call("T.EQ", left, right)
        if e.op == "ne":
            if e.a.dtype.is_float:  # TVM's own is false where NaN comes in
                return self.negation(call("T.EQ", left, right), e.lanes)
            return call("T.NE", left, right)
        return binary(COMPARISONS[e.op], left, right)

    def select(self, e: Select) -> Text:
        """One of two values."""
        values = [self.value(x) for x in (e.condition, e.a, e.b)]
        if compares_integers(e.condition):
            return call("T.Select", *values)
        return Text(call(self.helpers.choose(), *values).text, size=4 + sum(v.size for v in values))

    # -- conversions

    def cast(self, e: Cast) -> Text:
        """Value conversion."""
        if e.dtype.is_bool:
            return self.value(Compare("ne", e.x, Const(zero_of(e.x.dtype), e.x.type), e.type))
        if e.x.dtype.is_float and e.dtype.is_integer:
            return self.helper(self.helpers.conversion(e.x.type, e.dtype), self.argument(e.x))
        return self.conversion(self.value(e.x), e.type)

    def conversion(self, x: Text, type_: VecType) -> Text:
        """The unguarded value conversion."""
        return call("T.Cast", f'"{type_name(type_.dtype, type_.lanes)}"', x)

    def round(self, e: Round) -> Text:
        """Through the storage type and back."""
        encoded = self.helper(self.helpers.encoding(e.storage, e.lanes), self.argument(e.x))
        return self.decoded(encoded, e.storage, e.lanes)

    def bitcast(self, e: Bitcast) -> Text:
        """The same bits."""
        if e.x.dtype is e.dtype:
            return self.value(e.x)
        return call(self.helpers.same_bits(), self.value(e.x), f'"{type_name(e.dtype, e.lanes)}"')

    def raw(self, e: Raw) -> Text:
        """An unguarded operation, or a helper."""
        if e.op == "convert":
            return self.conversion(self.value(e.args[0]), e.type)
        if e.op in ("shl", "shr", "div", "rem") and e.dtype.is_integer:
            return self.machine(e.op, e.args[0], e.args[1])
        return self.helper(self.helpers.operation(e.op, e.type), *map(self.argument, e.args))

    # -- lanes

    def prefix_mask(self, e: PrefixMask) -> Text:
        """Lane numbers below a count."""
        count = self.dim_values.text(e.count)
        lanes = ramp(Text("T.int64(0)"), Text("T.int64(1)"), e.lanes)
        return binary("<", lanes, broadcast(count, e.lanes))

    def held_name(self, e: Var | RegRead, size: float) -> Text:
        """What stands under a name."""
        name = replace(self.variable(self.identifier(e.name), e.lanes), size=size)
        return self.unheld(name) if e.dtype.is_bool and e.lanes > 1 and self.holds_masks else name

    def variable(self, name: str, lanes: int) -> Text:
        """What a variable holds: a vector is all elements of an array."""
        return Text(name) if lanes == 1 or not self.holds_arrays else element(name, self.every(lanes))

    def every(self, lanes: int) -> Text:
        """The places of a vector's elements in its variable."""
        return Text(self.helpers.every(lanes))

    def held(self, x: Text) -> Text:
        """A vector of bools as numbers, which may have a name."""
        return call(self.helpers.masks("masked"), x)

    def unheld(self, x: Text) -> Text:
        """A vector of bools again."""
        return call(self.helpers.masks("unmasked"), x)

    def shuffle(self, e: Shuffle) -> Text:
        """Lanes by their numbers."""
        first = self.value(e.a)
        if all(lane < e.a.lanes for lane in e.pattern):
            return call("T.Shuffle", f"[{first}]", str(list(e.pattern)))
        return call("T.Shuffle", f"[{first}, {self.value(e.b)}]", str(list(e.pattern)))

    def reduce(self, e: Reduce) -> Text:
        """The helper that folds halves; bools as numbers."""
        if not e.dtype.is_bool:
            return self.helper(self.helpers.reduction(e.op, e.x.type), self.argument(e.x))
        numbers = VecType(i32, e.x.lanes)
        function = self.helpers.reduction(BOOL_AS_LOGIC[e.op], numbers)
        total = self.helper(function, (self.held(self.value(e.x)), numbers))
        return call("T.NE", total, literal(0, i32))

    # -- memory

    def load(self, e: Load) -> Text:
        """Elements in their compute dtype; nothing is read where the mask is false."""
        if e.lanes > 1:
            return vector_load(self, e)
        at = self.index.text(e.offset) if e.gather is None else self.offset(e.offset, e.gather)
        storage = self.buffers[e.buffer]
        value = element(self.identifier(e.buffer), at)
        if e.mask is None:
            return self.decoded(value, storage)
        return self.guarded(self.value(e.mask), value, storage, e.other, e.dtype)

    def guarded(self, mask: Text, raw: Text, storage: DType, other: Expr | None, dtype: DType) -> Text:
        """A raw value that is read only where the mask is true, as a compute value; elsewhere `other` (0)."""
        if not storage.is_storage:
            default = self.value(other) if other is not None else literal(zero_of(dtype), dtype)
            return call("T.if_then_else", mask, self.decoded(raw, storage), default)
        value = self.decoded(call("T.if_then_else", mask, raw, literal(0, raw_dtype(storage))), storage)
        return value if other is None else call("T.Select", mask, value, self.value(other))

    def offset(self, offset: DimLike, value: Expr) -> Text:
        """A Dim plus values, as indices."""
        if isinstance(offset, int) and offset == 0:
            return self.value(value)
        return binary("+", broadcast(self.dim_values.text(offset), value.lanes), self.value(value))

    def decoded(self, raw: Text, storage: DType, lanes: int = 1) -> Text:
        """Loaded raw values as compute values."""
        if storage.is_bool:
            return call("T.NE", raw, literal(0, u8, lanes))
        if not storage.is_storage:
            return raw
        return self.helper(self.helpers.decoding(storage, lanes), (raw, VecType(raw_dtype(storage), lanes)))

    def encoded(self, e: Expr, storage: DType) -> Text:
        """Compute values as what the buffer holds."""
        if storage.is_bool:
            return self.conversion(self.value(e), VecType(u8, e.lanes))
        return (
            self.helper(self.helpers.encoding(storage, e.lanes), self.argument(e))
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


def compares_integers(condition: Expr) -> bool:
    """Whether a condition is made of comparisons of integers: no NaN can be in it."""
    match condition:
        case Compare(a=a):
            return a.dtype.is_integer
        case Binary(a=a, b=b):
            return compares_integers(a) and compares_integers(b)
        case Unary(op="not", x=x) | Splat(x=x):
            return compares_integers(x)
    return isinstance(condition, (Const, PrefixMask))


def zero_of(dtype: DType) -> float | int | bool:
    """Zero as a constant of a dtype."""
    return False if dtype.is_bool else 0.0 if dtype.is_float else 0
