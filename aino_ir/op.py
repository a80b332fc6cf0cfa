"""How ops are declared: one class, one place.

A subclass names its operands, attributes and regions as class fields, states what it means in
`infer` and `evaluate`, and how it becomes loops in `expr`, `define` or `decompose`.  Text syntax,
builder, verifier, reference page and conformance cases are derived from the declaration::

    class LeakyRelu(Elementwise):
        \"\"\"out = x if x >= 0 else slope * x\"\"\"
        name = "math.leaky_relu"
        x = operand()
        slope = float_attr(0.01)
        def expr(self, x): return select(x >= 0, x, x * self.slope)
        def evaluate(self, ev, x): return np.where(x >= 0, x, x * x.dtype.type(self.slope))
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar, overload

import numpy as np

from aino_ir.dims import Dim, DimLike
from aino_ir.dtypes import DTYPES, DType
from aino_ir.location import UNKNOWN, Loc
from aino_ir.types import Type

if TYPE_CHECKING:
    from aino_ir.constants import Const
    from aino_ir.graph import Block, Value
    from aino_ir.infer import InferContext
    from aino_ir.interp import Evaluation

T = TypeVar("T")

OPS: dict[str, type[Op]] = {}
"""Every op class by its name, such as ``math.add``."""


class Trait(Enum):
    """Facts about an op class that passes may rely on."""

    ELEMENTWISE = auto()  # broadcasts like numpy, carries one scalar expression
    COMMUTATIVE = auto()  # swapping the two operands changes nothing
    VIEW = auto()  # moves no data when operand and result are row-major (reshape)
    TERMINATOR = auto()  # ends a block
    SYMBOLIC = auto()  # `evaluate` also works on object arrays of Dims (index arithmetic)
    HOST = auto()  # served by the runtime in Python: strings, sequences, optionals
    DATA_DEPENDENT = auto()  # a result extent depends on operand values
    RANDOM = auto()  # takes a seed and an offset
    DECODES = auto()  # expands few stored bits: with constants it stays, for the kernel that reads it


class Operand:
    """Descriptor of one required operand."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, op: None, owner: type) -> Operand: ...
    @overload
    def __get__(self, op: Op, owner: type) -> Value: ...
    def __get__(self, op: Op | None, owner: type) -> Operand | Value:
        if op is None:
            return self
        return op.operands[op.segments()[self.name][0]]  # type: ignore[return-value]


class OptionalOperand:
    """Descriptor of an operand that may be absent (None)."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, op: None, owner: type) -> OptionalOperand: ...
    @overload
    def __get__(self, op: Op, owner: type) -> Value | None: ...
    def __get__(self, op: Op | None, owner: type) -> OptionalOperand | Value | None:
        if op is None:
            return self
        start, stop = op.segments()[self.name]
        return op.operands[start] if start < stop else None


class VariadicOperand:
    """Descriptor of any number of operands; at most one per class."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, op: None, owner: type) -> VariadicOperand: ...
    @overload
    def __get__(self, op: Op, owner: type) -> tuple[Value, ...]: ...
    def __get__(self, op: Op | None, owner: type) -> VariadicOperand | tuple[Value, ...]:
        if op is None:
            return self
        start, stop = op.segments()[self.name]
        return op.operands[start:stop]  # type: ignore[return-value]


REQUIRED = object()


class Attr(Generic[T]):
    """Descriptor of an attribute: a kind that coerces and prints values, and a default."""

    def __init__(self, kind: str, default: Any = REQUIRED) -> None:
        self.kind = kind
        self.default = default if default is REQUIRED else coerce(kind, default)

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, op: None, owner: type) -> Attr[T]: ...
    @overload
    def __get__(self, op: Op, owner: type) -> T: ...
    def __get__(self, op: Op | None, owner: type) -> Attr[T] | T:
        if op is None:
            return self
        return op.attributes[op.declaration.attr_index[self.name]]  # type: ignore[no-any-return]


def operand() -> Operand:
    """A required operand."""
    return Operand()


def optional_operand() -> OptionalOperand:
    """An operand that may be None."""
    return OptionalOperand()


def variadic_operand() -> VariadicOperand:
    """Zero or more operands."""
    return VariadicOperand()


def int_attr(default: Any = REQUIRED) -> Attr[int]:
    """An integer."""
    return Attr("int", default)


def ints_attr(default: Any = REQUIRED) -> Attr[tuple[int, ...]]:
    """Integers that are not extents (axes, strides, permutations)."""
    return Attr("ints", default)


def dim_attr(default: Any = REQUIRED) -> Attr[DimLike]:
    """One extent or position: an integer or a Dim."""
    return Attr("dim", default)


def dims_attr(default: Any = REQUIRED) -> Attr[tuple[DimLike, ...]]:
    """Extents: integers and Dims."""
    return Attr("dims", default)


def float_attr(default: Any = REQUIRED) -> Attr[float]:
    """A float, kept in double precision."""
    return Attr("float", default)


def floats_attr(default: Any = REQUIRED) -> Attr[tuple[float, ...]]:
    """Floats, kept in double precision."""
    return Attr("floats", default)


def bool_attr(default: Any = REQUIRED) -> Attr[bool]:
    """True or false."""
    return Attr("bool", default)


def str_attr(default: Any = REQUIRED) -> Attr[str]:
    """A word (an enumeration's value)."""
    return Attr("str", default)


def strs_attr(default: Any = REQUIRED) -> Attr[tuple[str, ...]]:
    """Words or texts."""
    return Attr("strs", default)


def dtype_attr(default: Any = REQUIRED) -> Attr[DType]:
    """An element type."""
    return Attr("dtype", default)


def const_attr() -> Attr[Const]:
    """A constant handle."""
    return Attr("const")


def type_attr() -> Attr[Type]:
    """A value type."""
    return Attr("type")


def _dim(value: Any) -> DimLike:
    return value if isinstance(value, Dim) else int(value)


def _const(value: Any) -> Any:
    from aino_ir.constants import Const

    return value if isinstance(value, Const) else Const.of(value)


COERCE: dict[str, Callable[[Any], Any]] = {
    "int": int,
    "ints": lambda v: tuple(int(x) for x in v),
    "dim": _dim,
    "dims": lambda v: tuple(_dim(x) for x in v),
    "float": float,
    "floats": lambda v: tuple(float(x) for x in v),
    "bool": bool,
    "str": str,
    "strs": lambda v: tuple(str(x) for x in v),
    "dtype": lambda v: DTYPES[v] if isinstance(v, str) else v,
    "const": _const,
    "type": lambda v: v,
}
"""Attribute kinds: how a Python value becomes the stored one."""


def coerce(kind: str, value: Any) -> Any:
    """`value` as an attribute of `kind`; None stays None (an absent optional attribute)."""
    return None if value is None else COERCE[kind](value)


def attribute_key(kind: str, value: Any) -> Any:
    """A hashable key that tells 0.0 from -0.0, finds NaN equal to itself, and never mixes kinds."""
    if value is None:
        return None
    if kind == "float":
        return value.hex()
    if kind == "floats":
        return tuple(v.hex() for v in value)
    if kind == "const":
        return value.key
    return value


@dataclass(frozen=True)
class Declaration:
    """What a class declared, in order of its fields."""

    operands: tuple[tuple[str, str], ...]  # (name, "one" | "optional" | "variadic")
    attrs: tuple[tuple[str, Attr[Any]], ...]
    attr_index: dict[str, int]


@dataclass(frozen=True)
class Sample:
    """One conformance case: operand arrays (None = absent) and attributes."""

    operands: tuple[np.ndarray | None, ...]
    attrs: dict[str, Any]
    note: str = ""


class Op:
    """One operation: typed operands, results, attributes and isolated regions.

    Operands change only through the rewriter, attributes never.  See the module's docstring for
    how a subclass is declared.
    """

    name: ClassVar[str] = ""
    traits: ClassVar[frozenset[Trait]] = frozenset()
    region_names: ClassVar[tuple[str, ...]] = ()
    domain: ClassVar[dict[str, Callable[[Any], tuple[DimLike, DimLike]]]] = {}
    """Legal values of index-like operands: operand name -> (op -> (lo, hi inclusive))."""
    declaration: ClassVar[Declaration] = Declaration((), (), {})

    __slots__ = (
        "__weakref__",
        "_next",
        "_position",
        "_prev",
        "_segments",
        "attributes",
        "block",
        "id",
        "loc",
        "operands",
        "regions",
        "results",
    )

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        operands: dict[str, str] = {}
        attrs: dict[str, Attr[Any]] = {}
        for base in reversed(cls.__mro__):
            for key, value in base.__dict__.items():
                if isinstance(value, Operand):
                    operands[key] = "one"
                elif isinstance(value, OptionalOperand):
                    operands[key] = "optional"
                elif isinstance(value, VariadicOperand):
                    operands[key] = "variadic"
                elif isinstance(value, Attr):
                    attrs[key] = value
        index = {key: i for i, key in enumerate(attrs)}
        cls.declaration = Declaration(tuple(operands.items()), tuple(attrs.items()), index)
        if cls.__dict__.get("name"):
            if cls.name in OPS and OPS[cls.name].__qualname__ != cls.__qualname__:
                raise TypeError(f"op name {cls.name} is declared twice")
            OPS[cls.name] = cls

    def __init__(
        self,
        id: int,
        operands: tuple[Value | None, ...],
        attributes: tuple[Any, ...],
        regions: tuple[Block, ...] = (),
        loc: Loc = UNKNOWN,
    ) -> None:
        self.id = id
        self.operands = operands
        self.attributes = attributes
        self.regions = regions
        self.loc = loc
        self.results: tuple[Value, ...] = ()
        self.block: Block | None = None
        self._prev: Op | None = None
        self._next: Op | None = None
        self._position = 0.0
        self._segments: Mapping[str, tuple[int, int]] | None = None

    # -- structure ------------------------------------------------------------------------------

    @property
    def result(self) -> Value:
        """The only result."""
        (value,) = self.results
        return value

    @classmethod
    def has(cls, trait: Trait) -> bool:
        """Whether the class has a trait."""
        return trait in cls.traits

    def segments(self) -> Mapping[str, tuple[int, int]]:
        """Where each declared operand stands in `operands`, as (start, stop)."""
        if self._segments is None:
            self._segments = operand_segments(type(self), len(self.operands))
        return self._segments

    def attrs(self) -> dict[str, Any]:
        """Attributes by name."""
        return {key: self.attributes[i] for key, i in self.declaration.attr_index.items()}

    def attributes_key(self) -> tuple[Any, ...]:
        """A hashable key of all attributes."""
        return tuple(
            attribute_key(a.kind, v)
            for (_, a), v in zip(self.declaration.attrs, self.attributes, strict=True)
        )

    def reads_symbols(self) -> bool:
        """Whether an attribute depends on shape symbols, so that constant operands alone give no value."""
        values = [v for v in self.attributes if isinstance(v, (Dim, tuple))]
        return any(isinstance(d, Dim) for v in values for d in (v if isinstance(v, tuple) else (v,)))

    def present_operands(self) -> Iterator[Value]:
        """Operands that are not absent."""
        return (v for v in self.operands if v is not None)

    # -- meaning: subclasses define these ---------------------------------------------------------

    def infer(self, ic: InferContext) -> list[Type]:
        """Result types (row-major) from operand types and attributes; raises on an illegal op."""
        raise TypeError(f"{self.name} declares no infer")

    def evaluate(self, ev: Evaluation, *operands: Any) -> Any:
        """The op on numpy arrays: one array, or a tuple for several results (the oracle).

        Operands come in their compute dtype (f64 for floats in wide precision); absent ones are
        None.  Written independently of the lowering.
        """
        raise TypeError(f"{self.name} declares no evaluate")

    def known(self, ic: InferContext) -> list[np.ndarray | None] | None:
        """Result contents as object arrays of ints and Dims, where they follow from types alone."""
        return None

    def define(self) -> Any:
        """A `Compute`, `RowProgram` or `Nest` (aino_ir.compute), or None when only decomposed."""
        return None

    def decompose(self, b: Any) -> Any:
        """Values computed by simpler ops through builder `b`, or None when the op is primitive."""
        return None

    def forward(self, source: Value, at: tuple[DimLike, ...]) -> tuple[DimLike, ...]:
        """Which result element is made from element `at` of operand `source` (maps that permute)."""
        raise TypeError(f"{self.name} cannot stand after the anchor of a fused group")

    def capture(self, position: int) -> Value | None:
        """The operand that argument `position` of every region is in each of its runs, or None."""
        return None

    def cost(self) -> DimLike:
        """Floating-point operations, for reports and models."""
        return 0

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        """Conformance cases beyond those derived from the declaration."""
        return ()

    def __repr__(self) -> str:
        results = ", ".join(f"%{r.id}" for r in self.results)
        operands = ", ".join("_" if v is None else f"%{v.id}" for v in self.operands)
        return f"<{results} = {self.name}({operands})>"


Operands = tuple[tuple[str, str], ...]
"""Declared operands: (name, "one" | "optional" | "variadic")."""


def operand_segments(cls: type[Op], count: int) -> Mapping[str, tuple[int, int]]:
    """(start, stop) of each declared operand among `count` given ones.

    Trailing optional operands may be left out; a variadic one takes what the others leave.
    """
    return _segments(cls.declaration.operands, count)


@functools.lru_cache(maxsize=4096)
def _segments(declared: Operands, count: int) -> Mapping[str, tuple[int, int]]:
    fixed = sum(1 for _, kind in declared if kind != "variadic")
    has_variadic = fixed < len(declared)
    spare = max(0, count - fixed) if has_variadic else 0
    out: dict[str, tuple[int, int]] = {}
    position = 0
    for key, kind in declared:
        width = spare if kind == "variadic" else 1
        stop = min(position + width, count)
        out[key] = (position, stop)
        position = stop
    return out


def operand_count_ok(cls: type[Op], count: int) -> bool:
    """Whether an op of this class may have `count` operands (trailing optional ones left out)."""
    return _count_ok(cls.declaration.operands, count)


@functools.lru_cache(maxsize=4096)
def _count_ok(declared: Operands, count: int) -> bool:
    if any(kind == "variadic" for _, kind in declared):
        return count >= sum(1 for _, kind in declared if kind != "variadic")
    needed = max((i + 1 for i, (_, kind) in enumerate(declared) if kind == "one"), default=0)
    return needed <= count <= len(declared)
