"""Chooses how values lie in memory: channels last around convolutions, transposes as views.

A value may exist in two versions, row-major and another; each reader takes the one that suits it, and
a version without readers goes.  A `core.relayout` between them costs a copy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from aino_ir.dims import is_static
from aino_ir.elementwise import Elementwise
from aino_ir.graph import Block, Function, Value
from aino_ir.op import Op, Trait
from aino_ir.ops.attention import Attention
from aino_ir.ops.core import Relayout
from aino_ir.ops.nn import Conv, Convolution, MatMul, Pool
from aino_ir.ops.quant_products import QuantMatMul
from aino_ir.ops.reduce import Reduction
from aino_ir.ops.tensor import Concat, Pad, Slice, Transpose
from aino_ir.ops.window import ConvTranspose
from aino_ir.passes.base import Pass, PassContext, plain_blocks
from aino_ir.pattern import constant_of
from aino_ir.rewriter import Rewriter
from aino_ir.sparsity import zero_pattern
from aino_ir.types import ROW_MAJOR, Layout, TensorType, permuted

RULE = "AssignLayout"

SPARSE_DENSITY = 0.3
"""Share of nonzeros up to which a convolution is a matter of its nonzeros, not of its channels."""


def channels_last(rank: int) -> Layout:
    """The layout in which axis 1 is innermost."""
    return permuted(0, *range(2, rank), 1)


@dataclass(frozen=True)
class AssignLayouts(Pass):
    """Convolutions and pools write channels last, and what follows them keeps it; transposes cost nothing.

    Lanes run along channels then, so that every vector is contiguous at any stride and kernel size.
    Values whose spatial extents are all 1 stay row-major: their bytes are the same.

    Options:
        min_channels: a convolution with fewer output channels stays row-major.
    """

    name = "assign-layouts"
    min_channels: int = 8

    def run_function(self, function: Function, ctx: PassContext) -> None:
        for block in plain_blocks(function):
            BlockLayouts(block, ctx.rewriter(function), self.min_channels).run()


@dataclass(frozen=True)
class Choice:
    """What an op takes and gives.

    Attributes:
        operands: the version of each operand that it reads.
        layout: of its only result.
    """

    operands: tuple[Value | None, ...]
    layout: Layout


class BlockLayouts:
    """Layouts of the values of one block."""

    def __init__(self, block: Block, rewriter: Rewriter, min_channels: int) -> None:
        self.block = block
        self.rewriter = rewriter
        self.min_channels = min_channels
        self.versions: dict[Value, Value] = {}

    def run(self) -> None:
        """Rebuild ops in order where another layout is better."""
        for op in list(self.block):
            if op.has(Trait.TERMINATOR) or op.regions or len(op.results) != 1:
                continue
            choose = next((c for cls, c in CHOOSERS if isinstance(op, cls)), None)
            if choose is None or not isinstance(op.result.type, TensorType):
                continue
            choice = choose(self, op)
            if choice is not None and (
                choice.operands != op.operands or choice.layout != op.result.type.layout
            ):
                self._rebuild(op, choice)

    def version(self, value: Value | None) -> Value | None:
        """The other version of a value, or None."""
        return None if value is None else self.versions.get(value)

    def _rebuild(self, op: Op, choice: Choice) -> None:
        builder = self.rewriter.builder(op)
        new = builder.op(type(op), *choice.operands, layouts=[choice.layout], **op.attrs()).result
        stands = new
        if choice.layout != ROW_MAJOR:
            stands = builder.op(Relayout, new, layouts=[ROW_MAJOR]).result
            self.versions[stands] = new
        makers = [v.op for v in op.present_operands() if v in self.versions and v.op is not None]
        self.rewriter.replace(op, stands, RULE, makers)

    # -- what each kind of op prefers -----------------------------------------------------------------

    def convolution(self, op: Op) -> Choice | None:
        """Channels last in and out; row-major among sparse convolutions, whose lanes are pixels."""
        if is_sparse(op) and self.version(op.operands[0]) is None and self._stays_in_order(op):
            return None
        channels = op.result.shape[1]
        if is_static(channels) and int(channels) < self.min_channels:
            return None
        return Choice((self._last(op.operands[0]), *op.operands[1:]), self._result(op))

    def _stays_in_order(self, op: Op) -> bool:
        """Whether only sparse convolutions and outputs read a result, elementwise ops between them."""
        waiting, seen = [op.result], {op.result}
        while waiting:
            for user in waiting.pop().users:
                if user.has(Trait.TERMINATOR) or is_sparse(user):
                    continue
                if not isinstance(user, Elementwise) or len(user.results) != 1:
                    return False
                if user.result not in seen:
                    seen.add(user.result)
                    waiting.append(user.result)
        return True

    def pool(self, op: Op) -> Choice | None:
        """Channels last where the operand is."""
        source = self._last(op.operands[0])
        if source is op.operands[0] and not is_channels_last(source):
            return None
        return Choice((source, *op.operands[1:]), self._result(op))

    def follow(self, op: Op) -> Choice | None:
        """The layout that all full operands have a version in."""
        full = [v for v in op.present_operands() if v.shape == op.result.shape and not is_constant(v)]
        if isinstance(op, (Concat, Slice, Pad)):
            full = [v for v in op.present_operands() if v.rank == op.result.rank]
        layouts = {self._other_layout(v) for v in full}
        if len(layouts) != 1:
            return None
        (layout,) = layouts
        if layout == ROW_MAJOR:
            return None
        taken = tuple(self.version(v) or v if v in full else v for v in op.operands)
        return Choice(taken, layout if self._matters(op.result) else ROW_MAJOR)

    def _other_layout(self, value: Value) -> Layout:
        other = self.version(value)
        assert isinstance(value.type, TensorType)
        return other.type.layout if other is not None else value.type.layout  # type: ignore[union-attr]

    def reduction(self, op: Op) -> Choice | None:
        """Any operand; a row-major result."""
        other = self.version(op.operands[0])
        return None if other is None or not is_channels_last(other) else Choice((other,), ROW_MAJOR)

    def transpose(self, op: Op) -> Choice | None:
        """The layout in which the bytes stay where they are."""
        assert isinstance(op, Transpose)
        source = self.version(op.x) or op.x
        assert isinstance(source.type, TensorType)
        return Choice((source,), source.type.layout.transposed(op.perm))

    def rows(self, op: Op) -> Choice | None:
        """Operands in any order of rows, as long as a row is contiguous."""
        taken = []
        for v in op.operands:
            other = self.version(v)
            taken.append(other if other is not None and innermost(other) == other.rank - 1 else v)
        return Choice(tuple(taken), transposed_away(op.result))

    def _last(self, value: Value | None) -> Value:
        """The version of an operand with channels last, if there is one."""
        other = self.version(value)
        assert value is not None
        return other if other is not None and is_channels_last(other) else value

    def _result(self, op: Op) -> Layout:
        return channels_last(op.result.rank) if self._matters(op.result) else ROW_MAJOR

    @staticmethod
    def _matters(value: Value) -> bool:
        """Whether row-major and channels last are different bytes."""
        return any(not is_static(d) or d != 1 for d in value.shape[2:])


def transposed_away(value: Value) -> Layout:
    """The layout of a value whose only reader is a transpose that then gives row-major for nothing."""
    users = list(value.users)
    if len(users) != 1 or not isinstance(users[0], Transpose):
        return ROW_MAJOR
    perm = users[0].perm
    if perm[-1] != len(perm) - 1 or all(isinstance(u, ROW_READERS) for u in users[0].result.users):
        return ROW_MAJOR
    return ROW_MAJOR.transposed(tuple(perm.index(a) for a in range(len(perm))))


def is_sparse(op: Op) -> bool:
    """Whether an op is a convolution of planes whose constant weights are mostly zero."""
    if not isinstance(op, Conv) or op.groups != 1 or op.result.rank != 4:
        return False
    handle = constant_of(op.operands[1]) if op.operands[1] is not None else None
    zeros = zero_pattern(handle) if handle is not None else None
    return zeros is not None and zeros.density <= SPARSE_DENSITY


def is_constant(value: Value) -> bool:
    """Whether a value is a constant."""
    return value.op is not None and value.op.name == "core.constant"


def is_channels_last(value: Value) -> bool:
    """Whether a value has axis 1 innermost."""
    return (
        isinstance(value.type, TensorType)
        and value.rank >= 3
        and value.type.layout == channels_last(value.rank)
    )


def innermost(value: Value) -> int:
    """The axis along which a value is contiguous."""
    assert isinstance(value.type, TensorType)
    return value.type.layout.parts(value.rank)[-1][0]


ROW_READERS = (Attention, MatMul, QuantMatMul)
"""Ops that take their operands' rows in any order."""

Chooser = Callable[[BlockLayouts, Op], "Choice | None"]

CHOOSERS: Sequence[tuple[type[Op] | tuple[type[Op], ...], Chooser]] = (
    ((Convolution, ConvTranspose), BlockLayouts.convolution),
    (Pool, BlockLayouts.pool),
    (Elementwise, BlockLayouts.follow),
    ((Concat, Slice, Pad), BlockLayouts.follow),
    (Reduction, BlockLayouts.reduction),
    (Transpose, BlockLayouts.transpose),
    (ROW_READERS, BlockLayouts.rows),
)
"""Op class -> how its layouts are chosen; other ops read and write row-major."""
