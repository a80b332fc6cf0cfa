"""What the lowering of one ATen call may ask: its arguments, the result that torch promises, refusals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

import numpy as np
import torch
from torch._prims_common import ELEMENTWISE_TYPE_PROMOTION_KIND, elementwise_dtypes
from torch.fx import Node

from aino_ir.dims import Dim, DimLike, is_static
from aino_ir.dtypes import DType, boolean, f32, f64, i64
from aino_ir.errors.torch import AtenVariant, SymbolUnsupported
from aino_ir.frontends.complex_numbers import Complex
from aino_ir.frontends.emitter import Emitter
from aino_ir.frontends.torch.complex import is_complex, real_dtype
from aino_ir.frontends.torch.dtypes import DTYPE_OF
from aino_ir.frontends.torch.expressions import expression_of
from aino_ir.graph import Value

if TYPE_CHECKING:
    from aino_ir.frontends.torch.lower import GraphLowering

Number: TypeAlias = "int | float | bool | Dim"
"""What ATen calls a Scalar, when it is no value: a number, or an integer over symbols."""

Operand: TypeAlias = "Value | Number"
Lowered: TypeAlias = "Value | Complex | Sequence[Value | Complex | None] | DimLike"
Lowering: TypeAlias = "Callable[..., Lowered]"
"""Makes the ops of a call: takes the context and the call's arguments by their ATen names (`self` and
`input` are called `x`); returns its results."""

Row: TypeAlias = "str | Lowering"
"""A row of a family's table: the name of an IR op that takes the same tensors, or a function."""


class NodeContext(Emitter):
    """One call being lowered.

    Attributes:
        node: the call.
        graph: the graph that it stands in.
    """

    __slots__ = ("graph", "node")

    def __init__(self, graph: GraphLowering, node: Node) -> None:
        super().__init__(graph.b)
        self.graph = graph
        self.node = node

    # -- what torch promises ------------------------------------------------------------------------

    @property
    def operator(self) -> str:
        """The operator as torch spells it, such as ``aten.add.Tensor``."""
        return str(self.node.target)

    def meta(self, index: int = 0) -> Any:
        """torch's fake tensor of a result."""
        found = self.node.meta["val"]
        return found[index] if isinstance(found, (tuple, list)) else found

    @property
    def dtype(self) -> DType:
        """Element type of the (first) result; that of its parts when it is complex."""
        return DTYPE_OF[real_dtype(self.meta().dtype)]

    @property
    def gives_complex(self) -> bool:
        """Whether the (first) result is complex."""
        return is_complex(self.meta())

    def dtype_of(self, index: int) -> DType:
        """Element type of a result."""
        return DTYPE_OF[real_dtype(self.meta(index).dtype)]

    @property
    def shape(self) -> tuple[DimLike, ...]:
        """Shape of the (first) result, as torch derived it."""
        return self.shape_of(0)

    def shape_of(self, index: int) -> tuple[DimLike, ...]:
        """Shape of a result, as torch derived it."""
        return tuple(self.graph.extent(d, f"the result of {self.operator}") for d in self.meta(index).shape)

    def wants(self, index: int) -> bool:
        """Whether somebody reads a result of a call that has several."""
        return any(user.users and user.args[1:] == (index,) for user in self.node.users)

    def computed_in(self) -> DType:
        """The element type in which torch computes an elementwise call (that of comparisons' operands)."""
        found: list[Any] = []
        _collect(self.node.args, found)
        dtype, _ = elementwise_dtypes(*found, type_promotion_kind=ELEMENTWISE_TYPE_PROMOTION_KIND.NO_OPMATH)
        return DTYPE_OF[dtype]

    # -- operands -----------------------------------------------------------------------------------

    def operand(self, x: Operand, dtype: DType) -> Value:
        """A tensor or number as a value of a dtype."""
        if isinstance(x, Value):
            return self.cast(x, dtype)
        if isinstance(x, Dim):
            return self.cast(self.reshape(self.b.dims_vector([x]), ()), dtype)
        return self.b.constant(number_array(x, dtype))

    def elementwise(self, op: str, *operands: Operand, dtype: DType | None = None, **attrs: Any) -> Value:
        """An elementwise op in torch's result dtype; numbers that this does not hold are not rounded.

        torch computes low-precision floats with a number in f32 and rounds once.
        """
        dtype = self.dtype if dtype is None else dtype
        wide = dtype
        if dtype.is_storage and not all(isinstance(x, Value) or _holds(dtype, x) for x in operands):
            wide = dtype.compute
        return self.cast(self.emit(op, *(self.operand(x, wide) for x in operands), **attrs), dtype)

    def number(self, x: Operand, what: str) -> float:
        """A number that must be known now."""
        if isinstance(x, (Value, Dim)):
            self.unsupported(f"{what} that is not a plain number")
        return x

    def truth(self, x: Value) -> Value:
        """Whether each element is not zero."""
        return self.cast(x, boolean)

    def count(self, extents: Sequence[DimLike], dtype: DType) -> Value:
        """The product of extents as a 0-d float."""
        total: DimLike = 1
        for extent in extents:
            total = total * extent
        return self.operand(total, dtype)

    # -- axes ---------------------------------------------------------------------------------------

    def axis(self, axis: int, rank: int) -> int:
        """A possibly negative axis made non-negative (0 for a 0-d tensor)."""
        return axis % max(rank, 1)

    def axes(self, axes: Sequence[int] | int | None, rank: int) -> tuple[int, ...]:
        """Axes made non-negative; None and none are all."""
        if axes is None or axes == [] or axes == ():
            return tuple(range(rank))
        if isinstance(axes, int):
            axes = [axes]
        return tuple(dict.fromkeys(self.axis(a, rank) for a in axes)) if rank else ()

    def line(self, x: Value, extents: Sequence[DimLike] | None = None) -> Value:
        """x with at least one axis."""
        return self.reshape(x, (1,)) if x.rank == 0 else x

    def positions(self, size: DimLike, rank: int, axis: int, dtype: DType = i64) -> Value:
        """0, 1, ... size - 1 along one axis of a tensor of some rank, extent 1 along the others."""
        line = self.emit("index.range", start=0, size=size, step=1, dtype=dtype)
        return self.reshape(line, [size if a == axis else 1 for a in range(rank)])

    def transposed(self, x: Value, perm: Sequence[int]) -> Value:
        """x with permuted axes (itself where they stand as they should)."""
        return x if tuple(perm) == tuple(range(x.rank)) else self.emit("transpose", x, perm=tuple(perm))

    def inverse(self, perm: Sequence[int]) -> tuple[int, ...]:
        """The permutation that undoes one."""
        return tuple(sorted(range(len(perm)), key=lambda a: perm[a]))

    # -- refusals -----------------------------------------------------------------------------------

    def unsupported(self, what: str) -> NoReturn:
        """Refuse a form of the operator that has no lowering."""
        raise AtenVariant(loc=self.b.loc, op=self.operator, types=argument_types(self.node), what=what)

    def refuse_symbol(self, number: Any, what: str) -> NoReturn:
        """Refuse an argument that depends on data."""
        raise SymbolUnsupported(loc=self.b.loc, what=f"{what} of {self.operator}", got=number)


def _collect(arguments: Any, found: list[Any]) -> None:
    """Tensors and numbers among arguments, as torch's type promotion looks at them."""
    for argument in arguments:
        if isinstance(argument, Node):
            found.append(argument.meta["val"])
        elif isinstance(argument, (list, tuple)):
            _collect(argument, found)
        elif isinstance(argument, (bool, int, float)):
            found.append(argument)


def number_array(number: int | float | bool, dtype: DType) -> np.ndarray[Any, Any]:
    """A 0-d array of a number, as torch converts it: integers wrap, floats lose their fraction."""
    if dtype.is_integer:
        whole = int(number)
        bits = max(dtype.bits, 8)
        whole &= (1 << bits) - 1
        if dtype.is_signed and whole >> (bits - 1):
            whole -= 1 << bits
        return np.asarray(whole, dtype.numpy)
    with np.errstate(over="ignore"):
        return np.asarray(number).astype(dtype.numpy)


def _holds(dtype: DType, number: Number) -> bool:
    """Whether a dtype holds a number exactly."""
    if isinstance(number, Dim):
        return False
    with np.errstate(over="ignore"):
        rounded = float(np.asarray(number).astype(dtype.numpy))
    return rounded == float(number) or number != number


def argument_types(node: Node) -> str:
    """The types of a call's tensors for messages: ``f32[2, 8], i64[2]``."""
    found: list[Any] = []
    _collect([*node.args, *node.kwargs.values()], found)
    return ", ".join(type_text(v) for v in found if isinstance(v, torch.Tensor))


def type_text(fake: torch.Tensor) -> str:
    """The type of a tensor of torch's for messages."""
    dtype = DTYPE_OF.get(fake.dtype)
    name = dtype.name if dtype is not None else str(fake.dtype).removeprefix("torch.")
    extents = (str(d) if isinstance(d, int) else str(expression_of(d)) for d in fake.shape)
    kind = "" if fake.layout == torch.strided else f"{str(fake.layout).removeprefix('torch.')} "
    return f"{kind}{name}[{', '.join(extents)}]"


def is_one(extent: DimLike) -> bool:
    """Whether an extent is known to be 1."""
    return is_static(extent) and extent == 1


WIDE = {"f32": f32, "f64": f64}
"""Compute types of floats by name."""
