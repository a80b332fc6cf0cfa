"""Vectors on a GPU: a thread has lanes one after the other, but moves up to 16 bytes at a time.

CUDA C++ has no vector arithmetic, and needs none: a vector is a struct of its lanes, a statement on vectors
a loop over them that is unrolled, and only loads and stores of neighbouring elements stay whole.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from aino_ir.codegen.c.expression import CPrinter
from aino_ir.codegen.c.types import element_dtype
from aino_ir.codegen.cstyle.text import ADDITIVE, Code, element
from aino_ir.dims import DimLike
from aino_ir.dtypes import DType, i64
from aino_ir.loops.expr import (
    Binary,
    Const,
    Expr,
    Index,
    Load,
    PrefixMask,
    Ramp,
    Reduce,
    RegRead,
    Shuffle,
    Splat,
    Var,
    VecType,
    binary,
    compare,
    const,
    index,
)
from aino_ir.loops.expr_tree import rebuild, walk

LANE = Var("lane", VecType(i64))
"""The variable of a loop over lanes."""

WIDE_ELEMENTS = ("bool", "i8", "u8", "i16", "u16", "i32", "u32", "i64", "u64", "f32", "f64")
WIDE_LANES = (2, 4, 8, 16)


def wide_name(type_: VecType) -> str:
    """The struct that holds a vector."""
    return f"wide_{type_}"


def raw_type(storage: DType, lanes: int) -> VecType:
    """What a vector of a buffer's elements is in memory."""
    return VecType(element_dtype(storage), lanes)


def is_wide(e: Load) -> bool:
    """Whether a load takes neighbouring elements, all of them."""
    return e.lanes > 1 and e.mask is None and e.gather is None and isinstance(e.stride, int) and e.stride == 1


def crosses_lanes(e: Expr) -> bool:
    """Whether a lane of a vector may depend on others."""
    return any(isinstance(node, Shuffle) for node in walk(e))


@dataclass(frozen=True)
class LaneOf(Expr):
    """One lane of a vector that has a name; `storage` is how it is kept there."""

    name: str
    lane: Expr
    storage: DType | None
    type: VecType


class LanePrinter(CPrinter):
    """Prints scalar expressions that may read lanes of vectors.

    Attributes:
        kept: vectors that are kept as they were loaded, by name.
        uniform: what vectors are whose lanes are all alike, by name; they have no variables.
    """

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]
        self.kept: dict[str, DType] = {}
        self.uniform: dict[str, Expr] = {}
        self._methods[LaneOf] = self.lane_of

    def name(self, e: Var | RegRead) -> Code:
        """A pinned name, a register, or the number of the lane."""
        return Code(LANE.name) if e is LANE else super().name(e)

    def lane_of(self, e: LaneOf) -> Code:
        """``x.lane[i]``, decoded."""
        code = element(f"{self.names[e.name]}.lane", self.value(e.lane))
        return code if e.storage is None else self.decoded(code, e.storage, 1)

    def reduce(self, e: Reduce) -> Code:
        """Halves of the lanes combined, till one is left."""
        parts = [self.at_lane(e.x, const(lane, i64)) for lane in range(e.x.lanes)]
        while len(parts) > 1:
            half = len(parts) // 2
            parts = [Binary(e.op, a, b, e.type) for a, b in zip(parts[:half], parts[half:], strict=True)]
        return self.value(parts[0])

    def span(self, buffer: str, offset: DimLike, count: int, *, writes: bool = False) -> Code:
        """The address of `count` neighbouring elements."""
        return self.address(buffer, offset)

    def at_lane(self, e: Expr, lane: Expr) -> Expr:
        """One lane of an expression; `lane` must be a constant where lanes are shuffled."""
        scalar = VecType(e.dtype)
        match e:
            case _ if e.lanes == 1:
                return e
            case Const():
                return replace(e, type=scalar)
            case Splat(x=x):
                return x
            case Var(name=name) if name in self.uniform:
                return self.uniform[name]
            case Var(name=name) | RegRead(name=name):
                return LaneOf(name, lane, self.kept.get(name), scalar)
            case Ramp(base=base, step=step):
                return binary("add", index(base), binary("mul", lane, step))
            case PrefixMask(count=count):
                return compare("lt", lane, index(count))
            case Load():
                return self._load_at(e, lane, scalar)
            case Shuffle(a=a, b=b, pattern=pattern):
                assert isinstance(lane, Const)
                source = pattern[int(lane.value)]
                of, at = (a, source) if source < a.lanes else (b, source - a.lanes)
                return self.at_lane(of, const(at, i64))
        return rebuild(e, tuple(self.at_lane(c, lane) for c in e.children()))

    def _load_at(self, e: Load, lane: Expr, scalar: VecType) -> Expr:
        if e.gather is not None:
            places: Expr = self.at_lane(e.gather, lane)
        else:
            places = binary("mul", lane, Index(e.stride)) if e.stride != 1 else lane
        mask = None if e.mask is None else self.at_lane(e.mask, lane)
        other = None if e.other is None else self.at_lane(e.other, lane)
        return Load(e.buffer, e.offset, scalar, 1, mask, other, places)


def added(base: Code | str, offset: Code) -> Code:
    """``base + offset``, a pointer."""
    return Code(f"{base} + {offset.at(ADDITIVE)}", ADDITIVE, "+")
