"""Integers that decide shapes, axes and positions: known while lowering, or computed at run time.

An `Integer` is a number, an extent (`Dim`) or a 0-d i64 value.  Arithmetic on known ones happens here
and now; as soon as one operand depends on data, ops are emitted that compute the result when the
model runs.  `bound` finally turns integers into extents: those that are known stay as they are, the
others go through one `core.bind`, whose symbols stand for them from there on::

    start, stop = integers(c, 1)                       # elements of an input, each known or not
    size = (stop.clamp(0, extent) - start).max(0)
    (extent,) = bound(c, [size], 0, x.shape[0], "the length of the slice")
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeAlias

from aino_ir.dims import DimLike, ceildiv, dmax, dmin, floordiv, is_static
from aino_ir.dtypes import boolean, i64
from aino_ir.graph import Value
from aino_ir.infer import KNOWN_LIMIT, SIZE_LIMIT, known_contents
from aino_ir.ops.cast import Cast
from aino_ir.ops.core import Bind
from aino_ir.ops.tensor import Concat, Gather, Reshape
from aino_ir.types import TensorType

if TYPE_CHECKING:
    from aino_ir.frontends.onnx.context import NodeContext

ELEMENT_LIMIT = 256
"""Inputs of at most this many integers are taken apart into elements."""

Number: TypeAlias = "Integer | DimLike"


class Integer:
    """One integer; see the module's docstring.

    Attributes:
        c: the node that is being lowered.
        held: a number, a Dim, or a 0-d i64 value.
    """

    __slots__ = ("c", "held")

    def __init__(self, c: NodeContext, held: DimLike | Value) -> None:
        self.c = c
        self.held = held

    @property
    def known(self) -> DimLike | None:
        """The number or extent, or None when only the run will tell."""
        return None if isinstance(self.held, Value) else self.held

    @property
    def static(self) -> int | None:
        """The number, or None when it depends on extents or on data."""
        known = self.known
        return known if isinstance(known, int) else None

    @property
    def value(self) -> Value:
        """The integer as a 0-d i64 value."""
        held = self.held
        if isinstance(held, Value):
            return held
        if isinstance(held, int):
            return remembered(self.c, ("constant", held), lambda: self.c.scalar(held, i64))
        return remembered(self.c, ("extent", held), lambda: self.c.reshape(self.c.b.dims_vector([held]), ()))

    # -- arithmetic ---------------------------------------------------------------------------------

    def __add__(self, other: Number) -> Integer:
        return self._combined("math.add", other, lambda a, b: a + b, neutral=0)

    def __sub__(self, other: Number) -> Integer:
        return self._combined("math.sub", other, lambda a, b: a - b, neutral=0)

    def __mul__(self, other: Number) -> Integer:
        return self._combined("math.mul", other, lambda a, b: a * b, neutral=1)

    def __floordiv__(self, other: Number) -> Integer:
        return self._combined("math.floordiv", other, floordiv, neutral=1)

    def ceildiv(self, other: Number) -> Integer:
        """The quotient, rounded up."""
        other = integer(self.c, other)
        if self.known is not None and other.known is not None:
            return integer(self.c, self.c.symbols.simplify(ceildiv(self.known, other.known)))
        return integer(self.c, 0) - (integer(self.c, 0) - self) // other

    def min(self, other: Number) -> Integer:
        """The smaller one."""
        return self._combined("math.min", other, dmin)

    def max(self, other: Number) -> Integer:
        """The larger one."""
        return self._combined("math.max", other, dmax)

    def clamp(self, low: Number, high: Number) -> Integer:
        """This kept within low..high (low wins)."""
        return self.min(high).max(low)

    def _combined(
        self, op: str, other: Number, known: Callable[[DimLike, DimLike], DimLike], neutral: int | None = None
    ) -> Integer:
        other = integer(self.c, other)
        a, b = self.known, other.known
        if a is not None and b is not None and not (op == "math.floordiv" and other.static == 0):
            return Integer(self.c, self.c.symbols.simplify(known(a, b)))
        if neutral is not None and other.static == neutral:
            return self
        return Integer(self.c, computed(self.c, op, self.value, other.value))

    # -- comparisons --------------------------------------------------------------------------------

    def eq(self, other: Number) -> Truth:
        """Whether both are the same."""
        return self._compared("logic.eq", other, self.c.symbols.prove_eq)

    def lt(self, other: Number) -> Truth:
        """Whether this is smaller."""
        return self._compared("logic.lt", other, lambda a, b: self.c.symbols.prove_gt(b, a))

    def gt(self, other: Number) -> Truth:
        """Whether this is larger."""
        return self._compared("logic.gt", other, self.c.symbols.prove_gt)

    def _compared(self, op: str, other: Number, prove: Callable[[DimLike, DimLike], bool | None]) -> Truth:
        other = integer(self.c, other)
        if self.known is not None and other.known is not None:
            proved = prove(self.known, other.known)
            if proved is not None:
                return Truth(self.c, proved)
        return Truth(self.c, computed(self.c, op, self.value, other.value))


class Truth:
    """Whether something holds: known while lowering, or a 0-d bool value.

    Attributes:
        c: the node that is being lowered.
        held: the answer, or the value that will hold it.
    """

    __slots__ = ("c", "held")

    def __init__(self, c: NodeContext, held: bool | Value) -> None:
        self.c = c
        self.held = held

    @property
    def value(self) -> Value:
        """The answer as a 0-d bool value."""
        held = self.held
        if isinstance(held, Value):
            return held
        return remembered(self.c, ("truth", held), lambda: self.c.scalar(held, boolean))

    def __or__(self, other: Truth) -> Truth:
        for one, another in ((self, other), (other, self)):
            if isinstance(one.held, bool):
                return one if one.held else another
        return Truth(self.c, computed(self.c, "logic.logical_or", self.value, other.value))

    def where(self, yes: Number, no: Number) -> Integer:
        """`yes` where this holds, else `no`."""
        yes, no = integer(self.c, yes), integer(self.c, no)
        if isinstance(self.held, bool):
            return yes if self.held else no
        if yes.held is no.held or (yes.static is not None and yes.static == no.static):
            return yes
        return Integer(self.c, computed(self.c, "math.select", self.value, yes.value, no.value))


def integer(c: NodeContext, number: Number | Value) -> Integer:
    """A number, an extent or a 0-d integer value as an `Integer`."""
    if isinstance(number, Integer):
        return number
    if isinstance(number, Value):
        return _scalar(c, number)
    return Integer(c, number)


def remembered(c: NodeContext, key: object, make: Callable[[], Value]) -> Value:
    """A value of the node's graph that is made once."""
    found = c.graph.numbers.get(key)
    if found is None:
        found = c.graph.numbers[key] = make()
    return found


def computed(c: NodeContext, op: str, *operands: Value) -> Value:
    """The result of an op on scalars; the same one for the same operands."""
    return remembered(c, (op, *operands), lambda: c.emit(op, *operands))


# -- elements of values -----------------------------------------------------------------------------


def integers(c: NodeContext, index: int) -> list[Integer]:
    """Elements of an integer input, in row-major order.

    Raises:
        InputNotConstant: not even their number is known.
    """
    found = elements(c, c.tensor(index))
    if found is None:
        c.refuse_unknown(index)
    return found


def elements(c: NodeContext, value: Value) -> list[Integer] | None:
    """Elements of an integer value, each known or not; None when their number is not known or large."""
    contents = c.contents(value)
    if contents is not None:
        return [Integer(c, n) for n in contents]
    type_ = value.type
    if not isinstance(type_, TensorType) or not type_.is_static or int(type_.size) > ELEMENT_LIMIT:  # type: ignore[arg-type]
        return None
    parts = _parts(c, value)
    if parts is not None:
        return parts
    count = int(type_.size)  # type: ignore[arg-type]
    if count == 1:
        return [Integer(c, remembered(c, ("scalar", value), lambda: c.cast(c.reshape(value, ()), i64)))]
    flat = remembered(c, ("line", value), lambda: c.cast(c.reshape(value, (count,)), i64))
    return [Integer(c, computed(c, "tensor.gather", flat, integer(c, n).value)) for n in range(count)]


def _parts(c: NodeContext, value: Value) -> list[Integer] | None:
    """Elements of a value that is put together of others, of which some may be known."""
    op = value.op
    if isinstance(op, Concat) and value.rank == 1:
        parts = [elements(c, v) for v in op.inputs]
        return None if any(p is None for p in parts) else [n for p in parts for n in p or ()]
    if isinstance(op, Reshape):
        return elements(c, op.x)
    if isinstance(op, Cast) and op.to is i64 and op.x.dtype.is_integer:
        return elements(c, op.x)
    if isinstance(op, Gather) and op.x.rank == 1:
        of, at = elements(c, op.x), c.contents(op.indices)
        if of is not None and at is not None and all(is_static(n) and -len(of) <= n < len(of) for n in at):
            return [of[int(n)] for n in at]  # type: ignore[arg-type]
    return None


def _scalar(c: NodeContext, value: Value) -> Integer:
    """The one element of a value."""
    found = elements(c, value)
    assert found is not None and len(found) == 1, value
    return found[0]


def sole(c: NodeContext, index: int) -> Integer:
    """The one element of an integer input.

    Raises:
        NodeInvalid: it has another number of elements.
    """
    found = integers(c, index)
    if len(found) != 1:
        c.invalid(f"number of elements of input {c.formal(index)}", 1, len(found))
    return found[0]


# -- integers as extents ----------------------------------------------------------------------------


def bound(
    c: NodeContext,
    numbers: Sequence[Number],
    lower: DimLike = 0,
    upper: DimLike | Sequence[DimLike] = SIZE_LIMIT,
    what: str = "the shape",
) -> list[DimLike]:
    """Integers as extents or positions: what is not known becomes symbols, checked to be in lower..upper."""
    found = [integer(c, n) for n in numbers]
    uppers = list(upper) if isinstance(upper, Sequence) else [upper] * len(found)
    open_ = [i for i, n in enumerate(found) if n.known is None]
    out = [n.known for n in found]
    for start in range(0, len(open_), KNOWN_LIMIT):
        chosen = open_[start : start + KNOWN_LIMIT]
        symbols = _bind(c, [found[i].value for i in chosen], lower, [uppers[i] for i in chosen], what)
        for i, symbol in zip(chosen, symbols, strict=True):
            out[i] = symbol
    return out  # type: ignore[return-value]


def _bind(
    c: NodeContext, values: list[Value], lower: DimLike, upper: list[DimLike], what: str
) -> list[DimLike]:
    """Symbols of scalars; the same ones for the same scalars and bounds."""

    def make() -> Value:
        rows = [c.reshape(v, (1,)) for v in values]
        line = rows[0] if len(rows) == 1 else c.emit("concat", *rows, axis=0)
        return c.b.op(Bind, line, lower=[lower] * len(values), upper=upper, what=what).result

    value = remembered(c, ("bind", tuple(values), lower, tuple(upper)), make)
    known = known_contents(value, c.symbols)
    assert known is not None
    return known.reshape(-1).tolist()  # type: ignore[no-any-return]


def extents(c: NodeContext, index: int) -> tuple[DimLike, ...]:
    """Elements of an integer input as extents."""
    return tuple(bound(c, integers(c, index), what=c.formal(index)))


def line(c: NodeContext, numbers: Sequence[Number]) -> Value:
    """Integers as a 1-d i64 value."""
    found = [integer(c, n) for n in numbers]
    if all(n.known is not None for n in found):
        return c.b.dims_vector([n.known for n in found])  # type: ignore[misc]
    rows = [c.reshape(n.value, (1,)) for n in found]
    return rows[0] if len(rows) == 1 else c.emit("concat", *rows, axis=0)


def total(c: NodeContext, numbers: Sequence[Number]) -> Integer:
    """The sum."""
    out = integer(c, 0)
    for n in numbers:
        out = integer(c, n) + out if out.static == 0 else out + n
    return out


def times(c: NodeContext, numbers: Sequence[Number]) -> Integer:
    """The product."""
    out = integer(c, 1)
    for n in numbers:
        out = integer(c, n) * out if out.static == 1 else out * n
    return out
