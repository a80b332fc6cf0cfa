"""Expressions as C11 with vector extensions.

A bool vector is an integer vector ("mask") whose lanes are all ones where true.  Its width follows
from what was compared, so that a mask selects between the compared values without a conversion;
`mask` prints a bool vector at any wanted width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from aino_ir.codegen.c.byte_moves import byte_move
from aino_ir.codegen.c.types import element_dtype, mask_type, scalar_name, type_name
from aino_ir.codegen.cstyle.expression import (
    BOOL_AS_LOGIC,
    COMPARISONS,
    CStylePrinter,
    HelperSource,
    constant_of,
    is_raw,
)
from aino_ir.codegen.cstyle.index import Ranges
from aino_ir.codegen.cstyle.literals import literal
from aino_ir.codegen.cstyle.names import Names
from aino_ir.codegen.cstyle.text import Code, binary, call, cast, conditional, element, prefix
from aino_ir.dims import DimLike
from aino_ir.dtypes import DType, integer_range
from aino_ir.loops.expr import (
    Binary,
    Bitcast,
    Cast,
    Compare,
    Const,
    Expr,
    Load,
    PrefixMask,
    Ramp,
    Reduce,
    RegRead,
    Select,
    Shuffle,
    Splat,
    Unary,
    Var,
    VecType,
    const,
)

DEFAULT_MASK_BITS = 32

SHUFFLED_STRIDES: dict[object, str] = {2: "_even", -1: "_reversed"}
"""Strides whose loads are whole vectors and a shuffle, with the helper's suffix."""

ZERO_IS_NOT_ZERO = frozenset({"f8e8m0"})
"""Storage types whose all-zero code, which a masked load gives, is not the value 0."""

_ORDERED = {
    ("gt", False): "greater",
    ("lt", False): "lesser",
    ("gt", True): "lesser",
    ("lt", True): "greater",
}
"""(comparison, operands swapped) -> the helper that ``a > b ? a : b`` or ``b > a ? a : b`` is."""


def _ordered(e: Select) -> str | None:
    """The helper for a select between the two operands of its own comparison (floats)."""
    c = e.condition
    if not isinstance(c, Compare) or not e.dtype.is_float or (e.a, e.b) not in ((c.a, c.b), (c.b, c.a)):
        return None
    return _ORDERED.get((c.op, (e.a, e.b) != (c.a, c.b)))


def bounds(x: Expr) -> tuple[Expr, int | float, int | float] | None:
    """(what is cut off, the lower end, the upper end) of a float that constants bound, else None."""
    match x:
        case Binary(op="min", a=Binary(op="max", a=inner, b=bottom), b=top):
            lower, upper = constant_of(bottom), constant_of(top)
            if lower is not None and upper is not None:
                return inner, lower.value, upper.value
    return None


def is_bounded(x: Expr, dtype: DType) -> bool:
    """Whether a float is NaN or within an integer dtype, since it was cut off to constants just before."""
    low, high = integer_range(dtype)
    found = bounds(x)
    return found is not None and low <= found[1] <= found[2] <= high


class VectorHelpers(HelperSource, Protocol):
    """Helpers of conversions between vectors too."""

    def has_row(self, op: str, type_: VecType) -> bool:
        """Whether the instruction set has a spelling of its own for an operation."""

    def conversion(self, source: VecType, target: DType, bounded: bool = False) -> str:
        """The function that converts floats to an integer dtype; `bounded`: NaN or within it."""

    def rounding_conversion(self, source: VecType, target: DType) -> str | None:
        """The function that rounds floats to nearest integers, NaN or within the dtype; None: it has two."""

    def saturating_conversion(self, source: VecType, target: DType, rounded: bool) -> str | None:
        """The function that makes saturated integers of floats, rounded first if asked; None: no row."""

    def integer_conversion(self, source: VecType, target: VecType) -> str | None:
        """The function that widens integers or cuts them off, None where there is no special one."""


class CPrinter(CStylePrinter):
    """Prints expressions of one C function; `masks` gives the width of each pinned bool vector."""

    helpers: VectorHelpers

    def __init__(
        self,
        helpers: VectorHelpers,
        names: Names,
        ranges: Ranges | None = None,
        buffers: dict[str, DType] | None = None,
        masks: Mapping[str, int] | None = None,
    ) -> None:
        super().__init__(helpers, names, ranges or Ranges(), buffers if buffers is not None else {})
        self.masks: dict[str, int] = dict(masks or {})
        self._methods[Ramp] = self.ramp

    def value(self, e: Expr) -> Code:
        """The value of an expression; a bool vector at the width that comes most naturally."""
        if e.dtype.is_bool and e.lanes > 1:
            return self.mask(e, self.natural_bits(e) or DEFAULT_MASK_BITS)
        return super().value(e)

    def scalar_type(self, dtype: DType) -> str:
        """The C name of a scalar type."""
        return scalar_name(dtype)

    def declared_type(self, e_type: VecType, bits: int | None = None) -> str:
        """The C type of a variable; bool vectors need the mask's width."""
        if e_type.dtype.is_bool and e_type.lanes > 1:
            return type_name(mask_type(bits or DEFAULT_MASK_BITS, e_type.lanes))
        return type_name(e_type)

    # -- vector values

    def constant(self, e: Const) -> Code:
        """A literal, splatted when it has lanes."""
        scalar = super().constant(e)
        return scalar if e.lanes == 1 else call(self.helpers.operation("splat", e.type), scalar)

    def splat(self, e: Splat) -> Code:
        """A scalar in every lane."""
        return call(self.helpers.operation("splat", e.type), self.value(e.x))

    def operands(self, a: Expr, b: Expr) -> tuple[Code, Code]:
        """Both operands; the extensions take a scalar beside a vector and splat it."""
        left, right = self._uniform(a), self._uniform(b)
        if left is not None and right is not None:
            right = None
            left = None if a.lanes > 1 else left
        return left or self.value(a), right or self.value(b)

    def _uniform(self, e: Expr) -> Code | None:
        """The scalar of a uniform vector, where an operator may take it in the vector's place."""
        if e.lanes == 1 or e.dtype.is_bool or e.dtype.bits < 32:
            return None
        if isinstance(e, Const):
            return literal(e.value, e.dtype)
        return self.value(e.x) if isinstance(e, Splat) else None

    def operator(self, op: str, a: Expr, b: Expr, type_: VecType) -> Code:
        """An operator; a constant shift count needs no vector."""
        count = constant_of(b)
        if op in ("shl", "shr") and count is not None and type_.lanes > 1:
            return binary("<<" if op == "shl" else ">>", self.value(a), Code(str(count.value)))
        return super().operator(op, a, b, type_)

    def binary(self, e: Binary) -> Code:
        """A byte that moves within its word may be one instruction."""
        found = byte_move(e)
        if found is not None and self.helpers.has_row(found[0], e.type):
            return call(self.helpers.operation(found[0], e.type), self.value(found[1]))
        return super().binary(e)

    def ramp(self, e: Ramp) -> Code:
        """base, base + step, ..."""
        helper = self.helpers.operation("ramp", e.type)
        return call(helper, self.index(e.base), self.index(e.step))

    def select(self, e: Select) -> Code:
        """A conditional on a scalar condition, else a blend through a mask of the values' width."""
        if e.lanes == 1:
            return super().select(e)
        if isinstance(e.condition, Splat):
            return conditional(self.value(e.condition.x), self.value(e.a), self.value(e.b))
        ordered = _ordered(e)
        if ordered is not None:
            return self.helper(ordered, e.type, e.a, e.b)
        mask = self.mask(e.condition, e.dtype.bits)
        return call(self.helpers.operation("select", e.type), mask, self.value(e.a), self.value(e.b))

    def cast(self, e: Cast) -> Code:
        """Value conversion; from and to bool through masks."""
        if e.lanes == 1:
            return super().cast(e)
        if e.x.dtype.is_bool:
            return self._from_mask(e)
        if e.x.dtype.is_float and e.dtype.is_integer:
            return self.cut_off(e)
        return self.saturated(e) or self.convert(e.x, e.type)

    def saturated(self, e: Cast) -> Code | None:
        """Floats cut off to the ends of a narrow dtype: what narrows integers does that by the way."""
        if not isinstance(e.x, Cast) or not e.x.x.dtype.is_float:
            return None
        x = e.x.x
        rounded = isinstance(x, Unary) and x.op == "round"
        found = bounds(x.x if isinstance(x, Unary) and rounded else x)
        if found is None or found[1:] != integer_range(e.dtype):
            return None
        helper = self.helpers.saturating_conversion(x.type, e.dtype, rounded)
        return None if helper is None else call(helper, self.value(found[0]))

    def cut_off(self, e: Cast) -> Code:
        """Floats as integers; those known to fit, and those that are rounded first, may cost less."""
        x = e.x
        if isinstance(x, Unary) and x.op == "round" and is_bounded(x.x, e.dtype):
            rounded = self.helpers.rounding_conversion(x.type, e.dtype)
            if rounded is not None:
                return call(rounded, self.value(x.x))
        return call(self.helpers.conversion(x.type, e.dtype, is_bounded(x, e.dtype)), self.value(x))

    def _from_mask(self, e: Cast) -> Code:
        if e.dtype.is_float:
            one, zero = const(1, e.dtype, e.lanes), const(0, e.dtype, e.lanes)
            return self.select(Select(e.x, one, zero, e.type))
        value = prefix("-", self.mask(e.x, e.dtype.bits))
        return value if e.dtype.is_signed else cast(type_name(e.type), value)

    def convert(self, x: Expr, type_: VecType) -> Code:
        """The unguarded conversion; a cast where only the sign changes."""
        if type_.lanes == 1:
            return super().convert(x, type_)
        if x.dtype.bits == type_.dtype.bits and x.dtype.is_integer and type_.dtype.is_integer:
            return cast(type_name(type_), self.value(x))
        if x.dtype.is_integer and type_.dtype.is_integer:
            helper = self.helpers.integer_conversion(x.type, type_)
            if helper is not None:
                return call(helper, self.value(x))
        return call("__builtin_convertvector", self.value(x), type_name(type_))

    def bitcast(self, e: Bitcast) -> Code:
        """The same bits: a cast between vectors."""
        if e.lanes == 1 or e.x.dtype is e.dtype:
            return super().bitcast(e)
        return cast(type_name(e.type), self.value(e.x))

    def shuffle(self, e: Shuffle) -> Code:
        """One lane by subscript, several by shufflevector, scalars by an initialiser."""
        first = e.pattern[0] if e.pattern else 0
        if e.lanes == 1:
            source, lane = (e.a, first) if first < e.a.lanes else (e.b, first - e.a.lanes)
            return self.value(source) if source.lanes == 1 else element(self.value(source), str(lane))
        whole = tuple(range(e.a.lanes))
        if e.a.dtype.bytes * e.a.lanes == 4 and e.a.lanes > 1 and e.pattern == whole * (e.lanes // e.a.lanes):
            return call(self.helpers.operation("quartets", e.type), self.value(e.a))
        upper = e.a.lanes == 2 * e.lanes and e.pattern == tuple(range(e.lanes, e.a.lanes))
        if upper and self.helpers.has_row("upper", e.a.type):
            return call(self.helpers.operation("upper", e.a.type), self.value(e.a))
        if e.a.lanes == 1:
            values = (self.value(e.a).text, self.value(e.b).text)
            return Code(f"({type_name(e.type)}){{{', '.join(values[i] for i in e.pattern)}}}")
        return self._shuffled(self.value(e.a), self.value(e.b), e.pattern)

    def _shuffled(self, a: Code, b: Code, pattern: tuple[int, ...]) -> Code:
        return call("__builtin_shufflevector", a, b, *map(str, pattern))

    def reduce(self, e: Reduce) -> Code:
        """The helper that folds halves; a bool vector as an integer."""
        if e.dtype.is_bool:
            bits = self.natural_bits(e.x) or DEFAULT_MASK_BITS
            helper = self.helpers.operation(f"reduce_{BOOL_AS_LOGIC[e.op]}", mask_type(bits, e.x.lanes))
            return binary("!=", call(helper, self.mask(e.x, bits)), Code("0"))
        return call(self.helpers.operation(f"reduce_{e.op}", e.x.type), self.value(e.x))

    # -- masks

    def natural_bits(self, e: Expr) -> int | None:
        """The width that a bool vector has without a conversion; None when any width will do."""
        match e:
            case Var(name=name) | RegRead(name=name):
                return self.masks.get(name, DEFAULT_MASK_BITS)
            case Compare(a=a, b=b) if not a.dtype.is_bool:
                return a.dtype.bits
            case Compare(a=a, b=b) | Binary(a=a, b=b) | Shuffle(a=a, b=b):
                return self.natural_bits(a) or self.natural_bits(b)
            case Unary(op="isnan" | "isinf", x=x):
                return x.dtype.bits
            case Unary(x=x):
                return self.natural_bits(x)
            case Cast(x=x) if not x.dtype.is_bool:
                return x.dtype.bits
            case Select(condition=c, a=a, b=b):
                return self.natural_bits(a) or self.natural_bits(b) or self.natural_bits(c)
            case Load():
                return 8
        return None

    def mask(self, e: Expr, bits: int) -> Code:
        """A bool vector as integers of `bits` bits, all ones where true."""
        natural = self.natural_bits(e)
        code = self._mask(e, natural or bits)
        if natural in (None, bits):
            return code
        return call("__builtin_convertvector", code, type_name(mask_type(bits, e.lanes)))

    def _mask(self, e: Expr, bits: int) -> Code:
        type_ = mask_type(bits, e.lanes)
        match e:
            case Var() | RegRead():
                return self.name(e)
            case Const(value=value):
                return call(self.helpers.operation("splat", type_), "-1" if value else "0")
            case Splat(x=x):
                return call(self.helpers.operation("splat", type_), prefix("-", self.value(x)))
            case PrefixMask(count=count):
                return call(self.helpers.operation("prefix", type_), self.index(count))
            case Compare():
                return self._compared(e, bits)
            case Unary(op="not", x=x):
                return prefix("~", self.mask(x, bits))
            case Unary():
                return super().unary(e)
            case Binary():
                op = BOOL_AS_LOGIC.get(e.op)
                if op is None:
                    raise self.missing(e.op, e.type)
                return binary(
                    {"and": "&", "or": "|", "xor": "^"}[op], self.mask(e.a, bits), self.mask(e.b, bits)
                )
            case Select():
                return self._selected(e, bits)
            case Shuffle() if e.a.lanes > 1:
                return self._shuffled(self.mask(e.a, bits), self.mask(e.b, bits), e.pattern)
            case Cast(x=x):
                return binary("!=", *self.operands(x, const(0, x.dtype, x.lanes)))
            case Load():
                return self.load(e)
        raise self.missing(type(e).__name__.lower(), e.type)

    def _compared(self, e: Compare, bits: int) -> Code:
        if not e.a.dtype.is_bool:
            return binary(COMPARISONS[e.op], *self.operands(e.a, e.b))
        if e.op in ("eq", "ne"):
            differs = binary("^", self.mask(e.a, bits), self.mask(e.b, bits))
            return differs if e.op == "ne" else prefix("~", differs)
        return super().compare(e)

    def _selected(self, e: Select, bits: int) -> Code:
        a, b = self.mask(e.a, bits), self.mask(e.b, bits)
        if isinstance(e.condition, Splat):
            return conditional(self.value(e.condition.x), a, b)
        helper = self.helpers.operation("select", mask_type(bits, e.lanes))
        return call(helper, self.mask(e.condition, bits), a, b)

    # -- memory

    def load(self, e: Load) -> Code:
        """A vector from memory: plain, splatted, strided, gathered; with a mask lane by lane."""
        if e.lanes == 1:
            return super().load(e)
        storage = self.buffers[e.buffer]
        raw_type = VecType(element_dtype(storage), e.lanes)
        if e.stride == 0 and e.gather is None and e.mask is None and not storage.is_bool:
            scalar = self.element(e.buffer, self.index(e.offset))
            scalar = scalar if is_raw(e, storage) else self.decoded(scalar, storage, 1)
            return call(self.helpers.operation("splat", e.type), scalar)
        kind, args = self.access(e.stride, e.gather)
        if e.mask is not None:
            kind, args = kind + "_masked", (*args, self.mask(e.mask, raw_type.dtype.bits))
        elif kind == "_strided" and e.stride in SHUFFLED_STRIDES:
            kind, args = SHUFFLED_STRIDES[e.stride], ()
        verb = kind if kind.startswith("gather") else "load" + kind
        code = call(self.helpers.operation(verb, raw_type), self.address(e.buffer, e.offset), *args)
        value = code if is_raw(e, storage) else self._decoded_vector(code, storage, e.lanes)
        if e.mask is None:
            return value
        other = e.other if e.other is not None else const(0, e.dtype, e.lanes)
        if other == const(0, e.dtype, e.lanes) and storage.name not in ZERO_IS_NOT_ZERO:
            return value
        if e.dtype.is_bool:
            select = self.helpers.operation("select", mask_type(8, e.lanes))
            return call(select, self.mask(e.mask, 8), value, self.mask(other, 8))
        select = self.helpers.operation("select", e.type)
        return call(select, self.mask(e.mask, e.dtype.bits), value, self.value(other))

    def access(self, stride: int | DimLike, gather: Expr | None) -> tuple[str, tuple[Code, ...]]:
        """How lanes are spread over memory: the helper's suffix and its arguments."""
        if gather is not None:
            return "gather", (self.value(gather),)
        if isinstance(stride, int) and stride == 1:
            return "", ()
        return "_strided", (self.index(stride),)

    def _decoded_vector(self, code: Code, storage: DType, lanes: int) -> Code:
        if storage.is_bool:
            return binary(
                "!=", code, call(self.helpers.operation("splat", VecType(element_dtype(storage), lanes)), "0")
            )
        return self.decoded(code, storage, lanes)

    def encoded(self, e: Expr, storage: DType) -> Code:
        """A compute value as what the buffer holds; a mask becomes 0 and 1."""
        if storage.is_bool and e.lanes > 1:
            raw = type_name(VecType(element_dtype(storage), e.lanes))
            return cast(raw, prefix("-", self.mask(e, 8)))
        return super().encoded(e, storage)


__all__ = ["DEFAULT_MASK_BITS", "CPrinter"]
