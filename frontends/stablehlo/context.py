"""What the lowering of one StableHLO operation may ask: operands, attributes, the types that MLIR tells."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

import numpy as np

from aino_ir.builder import Builder
from aino_ir.dims import DimLike, is_static
from aino_ir.dtypes import DTYPES, DType
from aino_ir.errors.stablehlo import StableHloTypeUnsupported, StableHloVariant
from aino_ir.frontends.complex_numbers import Complex
from aino_ir.frontends.emitter import Emitter
from aino_ir.graph import Value
from aino_ir.types import TensorType

if TYPE_CHECKING:
    from aino_ir.frontends.stablehlo.lower import FunctionLowering

ELEMENTS = {
    "f64": "f64",
    "f32": "f32",
    "f16": "f16",
    "bf16": "bf16",
    "f8E4M3FN": "f8e4m3fn",
    "f8E4M3FNUZ": "f8e4m3fnuz",
    "f8E5M2": "f8e5m2",
    "f8E5M2FNUZ": "f8e5m2fnuz",
    "i64": "i64",
    "i32": "i32",
    "i16": "i16",
    "i8": "i8",
    "i4": "i4",
    "ui64": "u64",
    "ui32": "u32",
    "ui16": "u16",
    "ui8": "u8",
    "ui4": "u4",
    "i1": "bool",
}
"""Element types of StableHLO -> AINO's dtypes."""

PARTS = {"complex<f32>": "f32", "complex<f64>": "f64"}
"""Complex element types -> those of real and imaginary parts."""

Lowered: TypeAlias = "Value | Complex | Sequence[Value | Complex]"
Lowering: TypeAlias = "Callable[..., Lowered]"
"""Makes the ops of an operation: takes the context and its operands; returns its results."""

Row: TypeAlias = "str | Lowering"
"""A row of a family's table: the name of an IR op that takes the same tensors, or a function."""


def tensor_type(type_: Any, what: str) -> TensorType:
    """AINO's type of an MLIR tensor; of one of complex numbers, that of their parts.

    Raises:
        StableHloTypeUnsupported: its element type or an extent is none that AINO has.
    """
    extents = extents_of(type_)
    if None in extents:
        raise StableHloTypeUnsupported(what=what, got=str(type_))
    return TensorType(element_dtype(type_, what), extents)  # type: ignore[arg-type]


def element_dtype(type_: Any, what: str) -> DType:
    """The dtype of an MLIR tensor's elements, or of their parts.

    Raises:
        StableHloTypeUnsupported: AINO has no such dtype, or it is no tensor.
    """
    element = str(getattr(type_, "element_type", ""))
    element = PARTS.get(element, element)
    if element not in ELEMENTS or not type_.has_rank:
        raise StableHloTypeUnsupported(what=what, got=str(type_))
    return DTYPES[ELEMENTS[element]]


def extents_of(type_: Any) -> tuple[int | None, ...]:
    """The extents of an MLIR tensor, None where the module leaves one to the run."""
    if not getattr(type_, "has_rank", False):
        return ()
    return tuple(None if type_.is_dynamic_dim(a) else int(d) for a, d in enumerate(type_.shape))


def is_complex(type_: Any) -> bool:
    """Whether an MLIR tensor holds complex numbers."""
    return str(getattr(type_, "element_type", "")) in PARTS


class OpContext(Emitter):
    """One operation being lowered.

    Attributes:
        op: the MLIR operation.
        function: the function that it stands in.
    """

    __slots__ = ("function", "op")

    def __init__(self, b: Builder, function: FunctionLowering, op: Any) -> None:
        super().__init__(b)
        self.function = function
        self.op = op

    # -- what MLIR tells ----------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """Such as ``stablehlo.add``."""
        return str(self.op.name)

    def result_type(self, index: int = 0) -> TensorType:
        """The type of a result."""
        return tensor_type(self.op.results[index].type, f"a result of {self.name}")

    @property
    def dtype(self) -> DType:
        """Element type of the first result."""
        return element_dtype(self.op.results[0].type, f"a result of {self.name}")

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the first result, which is all numbers."""
        extents = extents_of(self.op.results[0].type)
        if None in extents:
            self.unsupported("a result of symbolic extents")
        return extents  # type: ignore[return-value]

    def attribute(self, name: str) -> Any:
        """An attribute, or None."""
        return self.op.attributes[name] if name in self.op.attributes else None

    def integer(self, name: str, default: int = 0) -> int:
        """An integer attribute."""
        found = self.attribute(name)
        return default if found is None else int(found.value)

    def integers(self, name: str, default: Sequence[int] = ()) -> list[int]:
        """An attribute that is a list of integers."""
        found = self.attribute(name)
        return list(default) if found is None else [int(v) for v in found]

    def flag(self, name: str) -> bool:
        """An attribute that is a truth value, false where it is absent."""
        found = self.attribute(name)
        return found is not None and bool(found.value)

    def flags(self, name: str) -> list[bool]:
        """An attribute that is a list of truth values."""
        found = self.attribute(name)
        return [] if found is None else [bool(v) for v in found]

    def word(self, name: str) -> str:
        """The last word of an enumeration's value: ``LT`` of ``#stablehlo<comparison_direction LT>``."""
        found = self.attribute(name)
        return "" if found is None else str(found).rstrip(">").split()[-1]

    def matrix(self, name: str, rows: int) -> list[list[int]]:
        """A dense attribute of two columns (paddings), zeros where it is absent."""
        found = self.attribute(name)
        if found is None:
            return [[0, 0] for _ in range(rows)]
        return np.broadcast_to(dense_array(found, DTYPES["i64"]), (rows, 2)).tolist()  # type: ignore[no-any-return]

    # -- extents ------------------------------------------------------------------------------------

    def extent(self, x: Value, axis: int) -> int:
        """An extent that has to be a number.

        Raises:
            StableHloVariant: it is symbolic.
        """
        found = x.shape[axis]
        if not is_static(found):
            self.unsupported(f"the symbolic extent {found} of axis {axis}")
        return int(found)

    def extents(self, x: Value) -> list[int]:
        """The shape of a value, which has to be numbers."""
        return [self.extent(x, axis) for axis in range(x.rank)]

    def dims(self, value: Value) -> tuple[DimLike, ...]:
        """The elements of an integer value that follow from extents of the inputs.

        Raises:
            StableHloVariant: other data decide them.
        """
        found = self.b.known(value)
        if found is None:
            self.unsupported("an extent that data decide")
        return found

    def whole(self, value: Value) -> list[int]:
        """The elements of an integer value that is known when the module is read."""
        found = self.dims(value)
        if not all(is_static(d) for d in found):
            self.unsupported("a symbolic number where a known one belongs")
        return [int(d) for d in found]  # type: ignore[arg-type]

    def vector(self, dims: Sequence[DimLike]) -> Value:
        """Extents as a 1-d i64 value."""
        if all(is_static(d) for d in dims):
            return self.b.constant(np.asarray(dims, np.int64))
        return self.emit("dims", dims=tuple(dims))

    def number(self, dim: DimLike) -> Value:
        """An extent as a 0-d i64 value."""
        return self.reshape(self.vector([dim]), ())

    def permuted(self, x: Value, order: Sequence[int]) -> Value:
        """x with its axes in another order (itself when it is the same one)."""
        return x if list(order) == list(range(x.rank)) else self.emit("transpose", x, perm=list(order))

    # -- refusals and constants ---------------------------------------------------------------------

    def unsupported(self, what: str) -> NoReturn:
        """Refuse this form of the operation.

        Raises:
            StableHloVariant: always.
        """
        raise StableHloVariant(loc=self.b.loc, op=self.name, what=what)

    def known(self, value: Value) -> np.ndarray | None:
        """The contents of a value that is a constant, or one spread over a shape."""
        op = value.op
        while op is not None and op.name in ("tensor.expand", "tensor.reshape"):
            value = op.operands[0]  # type: ignore[assignment]
            op = value.op
        if op is None or op.name != "core.constant" or value.type.size != 1:  # type: ignore[union-attr]
            return None
        return np.asarray(op.value.array())  # type: ignore[attr-defined]

    def is_number(self, value: Value, number: float) -> bool:
        """Whether a value is known to be one number everywhere."""
        found = self.known(value)
        return found is not None and bool((found.reshape(-1) == number).all())


def dense_array(attribute: Any, dtype: DType) -> np.ndarray:
    """The elements of a dense attribute, or of a list of integers."""
    from jaxlib.mlir import ir

    if isinstance(attribute, ir.DenseElementsAttr):
        shape = tuple(ir.ShapedType(attribute.type).shape)
        if attribute.is_splat:
            value = attribute.get_splat_value().value  # type: ignore[attr-defined]
            return np.broadcast_to(np.asarray(value).astype(dtype.numpy), shape)
        try:
            return np.array(attribute).astype(dtype.numpy, copy=False).reshape(shape)
        except (BufferError, RuntimeError, TypeError, ValueError):
            return np.array(list(attribute)).astype(dtype.numpy).reshape(shape)  # type: ignore[call-overload]
    return np.array([int(v) for v in attribute])
