"""Expressions of the loop language: typed, immutable trees over scalars and fixed-length vectors.

One language serves three uses: the scalar expression of an elementwise op, the body of a `Compute`
(where `Read`, `Arg` and `Accumulator` stand for data), and the code inside loops (where `Load`,
`Var` and `RegRead` do).  A type is a compute dtype and a lane count; operands of unequal lane
count are splatted when a node is made, so the same tree is rebuilt for any lane count by
substituting its leaves (`map_expr`).

Meaning (one semantics for the loop interpreter and every printed target):
integers wrap; `div` on integers truncates and `rem` has the sign of the dividend (both need a
nonzero divisor: a kernel checks first); shifts by the width or more give 0 (-1 for `shr` of a
negative signed value); `min`/`max` propagate NaN; `fma` rounds once; `round` is half to even;
`cast` float->int saturates with NaN -> 0; denormals are kept.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from functools import partial
from operator import attrgetter
from typing import Any

from aino_ir.dims import DimLike
from aino_ir.dtypes import DTYPES, DType, boolean, i64, integer_range

Number = int | float | bool


@dataclass(frozen=True)
class VecType:
    """A compute dtype with a lane count; one lane is a scalar."""

    dtype: DType
    lanes: int = 1

    def __hash__(self) -> int:
        return hash(self.dtype) * 67 + self.lanes

    def __str__(self) -> str:
        return self.dtype.name if self.lanes == 1 else f"{self.dtype.name}x{self.lanes}"


UNARY_OPS = frozenset({"neg", "not", "abs", "sqrt", "floor", "ceil", "round", "trunc", "isnan", "isinf"})
BINARY_OPS = frozenset(
    {"add", "sub", "mul", "div", "rem", "min", "max", "and", "or", "xor", "shl", "shr", "copysign"}
)
COMPARE_OPS = frozenset({"eq", "ne", "lt", "le", "gt", "ge"})
COMBINERS = frozenset({"add", "mul", "min", "max", "and", "or"})


_Children = Callable[[Any], "tuple[Expr, ...]"]
_CHILDREN: dict[type, _Children] = {}
"""Per node class: how to get its sub-expressions; filled as classes are met."""


def _children_getter(node: type[Any]) -> _Children:
    """A getter of the fields that are annotated as expressions; most nodes have few or none."""
    found = [f for f in fields(node) if "Expr" in str(f.type)]
    names = [f.name for f in found]
    if not names:
        return lambda e: ()
    if any(f.type != "Expr" for f in found):
        return partial(_mixed_children, names=names)
    if len(names) == 1:
        only = attrgetter(names[0])
        return lambda e: (only(e),)
    return attrgetter(*names)


def _mixed_children(e: Expr, names: list[str]) -> tuple[Expr, ...]:
    """Children of a node some of whose fields may hold None, or several."""
    out: list[Expr] = []
    for name in names:
        value = getattr(e, name)
        if isinstance(value, Expr):
            out.append(value)
        elif isinstance(value, tuple):
            out.extend(v for v in value if isinstance(v, Expr))
    return tuple(out)


class Expr:
    """Base of all expressions; Python operators build nodes, numbers become constants."""

    type: VecType

    @property
    def dtype(self) -> DType:
        """Element dtype."""
        return self.type.dtype

    @property
    def lanes(self) -> int:
        """Lane count."""
        return self.type.lanes

    def children(self) -> tuple[Expr, ...]:
        """Direct sub-expressions, in field order."""
        getter = _CHILDREN.get(type(self))
        if getter is None:
            getter = _CHILDREN[type(self)] = _children_getter(type(self))
        return getter(self)

    def __add__(self, other: Expr | Number) -> Expr:
        return binary("add", self, other)

    def __radd__(self, other: Expr | Number) -> Expr:
        return binary("add", other, self)

    def __sub__(self, other: Expr | Number) -> Expr:
        return binary("sub", self, other)

    def __rsub__(self, other: Expr | Number) -> Expr:
        return binary("sub", other, self)

    def __mul__(self, other: Expr | Number) -> Expr:
        return binary("mul", self, other)

    def __rmul__(self, other: Expr | Number) -> Expr:
        return binary("mul", other, self)

    def __truediv__(self, other: Expr | Number) -> Expr:
        return binary("div", self, other)

    def __rtruediv__(self, other: Expr | Number) -> Expr:
        return binary("div", other, self)

    def __neg__(self) -> Expr:
        return unary("neg", self)

    def __and__(self, other: Expr | Number) -> Expr:
        return binary("and", self, other)

    def __or__(self, other: Expr | Number) -> Expr:
        return binary("or", self, other)

    def __xor__(self, other: Expr | Number) -> Expr:
        return binary("xor", self, other)

    def __lshift__(self, other: Expr | Number) -> Expr:
        return binary("shl", self, other)

    def __rshift__(self, other: Expr | Number) -> Expr:
        return binary("shr", self, other)

    def __invert__(self) -> Expr:
        return unary("not", self)

    def __lt__(self, other: Expr | Number) -> Expr:
        return compare("lt", self, other)

    def __le__(self, other: Expr | Number) -> Expr:
        return compare("le", self, other)

    def __gt__(self, other: Expr | Number) -> Expr:
        return compare("gt", self, other)

    def __ge__(self, other: Expr | Number) -> Expr:
        return compare("ge", self, other)


@dataclass(frozen=True)
class Const(Expr):
    """A literal; with several lanes, the same value in each.  Floats are compared by their bits."""

    value: Number
    type: VecType

    def _key(self) -> tuple[object, VecType]:
        return (self.value.hex() if isinstance(self.value, float) else int(self.value), self.type)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Const) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())


@dataclass(frozen=True)
class Index(Expr):
    """An integer Dim over loop variables, bound indices and symbols, as an i64 scalar value."""

    dim: DimLike
    type: VecType = VecType(i64)


@dataclass(frozen=True)
class Ramp(Expr):
    """The i64 vector (base, base + step, base + 2*step, ...)."""

    base: DimLike
    step: int
    type: VecType


@dataclass(frozen=True)
class PrefixMask(Expr):
    """The bool vector whose first `count` lanes are true (all when count >= lanes)."""

    count: DimLike
    type: VecType


@dataclass(frozen=True)
class Var(Expr):
    """A name pinned by a `Let`."""

    name: str
    type: VecType


@dataclass(frozen=True)
class RegRead(Expr):
    """The present value of a mutable register."""

    name: str
    type: VecType
    version: int = field(default=0, compare=False)
    """How often the register had been set when the read was made; the builder refuses a stale one."""


@dataclass(frozen=True)
class Arg(Expr):
    """The value of operand `index` in a scalar expression that has not been placed in a loop yet."""

    index: int
    type: VecType


@dataclass(frozen=True)
class Accumulator(Expr):
    """The finished reduction value `index` in an epilogue."""

    type: VecType
    index: int = 0


@dataclass(frozen=True)
class Read(Expr):
    """operand[index] in a `Compute`: coordinates are Dims over the axes, or i64 expressions.

    `default` is the value outside the operand's bounds; None promises that no point is outside.
    """

    operand: int
    index: tuple[DimLike | Expr, ...]
    type: VecType
    default: Expr | None = None


@dataclass(frozen=True)
class Unary(Expr):
    """op(x); see UNARY_OPS."""

    op: str
    x: Expr
    type: VecType


@dataclass(frozen=True)
class Binary(Expr):
    """op(a, b) on equal types; see BINARY_OPS."""

    op: str
    a: Expr
    b: Expr
    type: VecType


@dataclass(frozen=True)
class Fma(Expr):
    """a * b + c with one rounding (floats)."""

    a: Expr
    b: Expr
    c: Expr
    type: VecType


@dataclass(frozen=True)
class Compare(Expr):
    """Lane-wise comparison, a bool result; any comparison but `ne` with NaN is false."""

    op: str
    a: Expr
    b: Expr
    type: VecType


@dataclass(frozen=True)
class Select(Expr):
    """condition ? a : b, lane by lane, both sides evaluated."""

    condition: Expr
    a: Expr
    b: Expr
    type: VecType


@dataclass(frozen=True)
class Cast(Expr):
    """Value conversion.  float->int saturates, NaN -> 0; int->int wraps; x->bool is x != 0."""

    x: Expr
    type: VecType


@dataclass(frozen=True)
class Round(Expr):
    """x rounded to what a storage dtype can hold, still in its compute dtype (f32 -> bf16 -> f32)."""

    x: Expr
    storage: DType
    type: VecType


@dataclass(frozen=True)
class Bitcast(Expr):
    """The same bits as another dtype of equal width."""

    x: Expr
    type: VecType


@dataclass(frozen=True)
class Splat(Expr):
    """A scalar in every lane."""

    x: Expr
    type: VecType


@dataclass(frozen=True)
class Shuffle(Expr):
    """Lanes picked from the concatenation of a and b by a constant pattern."""

    a: Expr
    b: Expr
    pattern: tuple[int, ...]
    type: VecType


@dataclass(frozen=True)
class Reduce(Expr):
    """All lanes combined to a scalar: halves are folded, lane i with lane i + lanes/2, till one is left."""

    op: str
    x: Expr
    type: VecType


@dataclass(frozen=True)
class Call(Expr):
    """A function of the vector math library (aino_ir.loops.math) on equal types."""

    function: str
    args: tuple[Expr, ...]
    type: VecType


@dataclass(frozen=True)
class Load(Expr):
    """Elements of a buffer, converted from its storage dtype to the compute dtype.

    Those of a buffer of bf16 may also be loaded as u16, their bits.

    Element offsets are `offset + lane * stride` (stride 0 gives a splat), or `offset + gather`
    with an i64 vector.  Lanes where `mask` is false are not touched and yield `other` (0 if None).
    """

    buffer: str
    offset: DimLike
    type: VecType
    stride: int | DimLike = 1
    mask: Expr | None = None
    other: Expr | None = None
    gather: Expr | None = None


def const(value: Number, dtype: DType | str, lanes: int = 1) -> Const:
    """A literal of the given dtype, splatted over `lanes`."""
    dtype = DTYPES[dtype] if isinstance(dtype, str) else dtype
    if dtype.is_float:
        return Const(float(value), VecType(dtype, lanes))
    return Const(bool(value) if dtype.is_bool else int(value), VecType(dtype, lanes))


def splat(x: Expr, lanes: int) -> Expr:
    """x in `lanes` lanes; x itself when it already has them."""
    if x.lanes == lanes:
        return x
    if x.lanes != 1:
        raise TypeError(f"cannot splat {x.type} to {lanes} lanes")
    if isinstance(x, Const):
        return Const(x.value, VecType(x.dtype, lanes))
    return Splat(x, VecType(x.dtype, lanes))


def unify(*xs: Expr | Number) -> tuple[Expr, ...]:
    """Numbers become constants of the others' dtype, scalars are splatted to the widest lanes."""
    exprs = [x for x in xs if isinstance(x, Expr)]
    if not exprs:
        raise TypeError("at least one operand must be an expression")
    dtype, lanes = exprs[0].dtype, max(x.lanes for x in exprs)
    out = []
    for x in xs:
        e = x if isinstance(x, Expr) else const(x, dtype)
        if e.dtype is not dtype:
            raise TypeError(f"operands of {dtype} and {e.dtype}: cast one of them")
        out.append(splat(e, lanes))
    return tuple(out)


def unary(op: str, x: Expr) -> Expr:
    """Make a unary node; isnan and isinf give bool."""
    if op not in UNARY_OPS:
        raise TypeError(f"no unary operation '{op}'")
    return Unary(op, x, VecType(boolean, x.lanes) if op in ("isnan", "isinf") else x.type)


def binary(op: str, a: Expr | Number, b: Expr | Number) -> Expr:
    """Make a binary node on unified operands."""
    if op not in BINARY_OPS:
        raise TypeError(f"no binary operation '{op}'")
    x, y = unify(a, b)
    return Binary(op, x, y, x.type)


def compare(op: str, a: Expr | Number, b: Expr | Number) -> Expr:
    """Make a comparison; the result is bool with the operands' lanes."""
    if op not in COMPARE_OPS:
        raise TypeError(f"no comparison '{op}'")
    x, y = unify(a, b)
    return Compare(op, x, y, VecType(boolean, x.lanes))


def fma(a: Expr, b: Expr | Number, c: Expr | Number) -> Expr:
    """a * b + c with one rounding; on integers the plain sum."""
    x, y, z = unify(a, b, c)
    return Fma(x, y, z, x.type) if x.dtype.is_float else x * y + z


def select(condition: Expr, a: Expr | Number, b: Expr | Number) -> Expr:
    """condition ? a : b with lanes unified."""
    x, y = unify(a, b)
    lanes = max(condition.lanes, x.lanes)
    return Select(splat(condition, lanes), splat(x, lanes), splat(y, lanes), VecType(x.dtype, lanes))


def cast(x: Expr, dtype: DType | str) -> Expr:
    """Convert to a compute dtype; nothing when it has it.  A storage dtype rounds, then computes on."""
    dtype = DTYPES[dtype] if isinstance(dtype, str) else dtype
    if dtype.is_storage:
        return round_to(cast(x, dtype.compute), dtype)
    return x if x.dtype is dtype else Cast(x, VecType(dtype, x.lanes))


def round_to(x: Expr, storage: DType) -> Expr:
    """x as it would read back after a store to `storage`."""
    return Round(x, storage, x.type) if storage.is_storage else x


def bitcast(x: Expr, dtype: DType | str) -> Expr:
    """The same bits as `dtype`."""
    dtype = DTYPES[dtype] if isinstance(dtype, str) else dtype
    return Bitcast(x, VecType(dtype, x.lanes))


def minimum(a: Expr | Number, b: Expr | Number) -> Expr:
    """NaN-propagating minimum."""
    return binary("min", a, b)


def maximum(a: Expr | Number, b: Expr | Number) -> Expr:
    """NaN-propagating maximum."""
    return binary("max", a, b)


def call(function: str, *args: Expr | Number) -> Expr:
    """A vector math call on unified operands."""
    xs = unify(*args)
    return Call(function, xs, xs[0].type)


def index(dim: DimLike) -> Expr:
    """A Dim as an i64 value."""
    return Index(dim)


def reduce_lanes(op: str, x: Expr) -> Expr:
    """All lanes combined to a scalar; x itself when it has one lane."""
    return x if x.lanes == 1 else Reduce(op, x, VecType(x.dtype))


def identity(op: str, dtype: DType) -> Number:
    """The neutral element of a combiner in a dtype."""
    if op in ("add", "or"):
        return 0
    if op in ("mul", "and"):
        return -1 if op == "and" and dtype.is_signed else (integer_range(dtype)[1] if op == "and" else 1)
    infinity = float("inf")
    low, high = (-infinity, infinity) if dtype.is_float else integer_range(dtype)
    return high if op == "min" else low
