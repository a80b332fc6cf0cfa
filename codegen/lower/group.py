"""The ops of one kernel: which there are, what they read and give, which of them reduces."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from aino_ir.compute import Compute
from aino_ir.dims import DimLike
from aino_ir.errors.codegen import NotComposable
from aino_ir.graph import Value
from aino_ir.kernels import Program
from aino_ir.loops.expr import (
    Const,
    const,
)
from aino_ir.op import Op, Trait
from aino_ir.short_sums import ShortSums
from aino_ir.sparsity import ZeroPattern
from aino_ir.types import Layout


@dataclass(frozen=True)
class Storage:
    """Where a value lives: what `Operand` and `Result` need to know."""

    layout: Layout
    allocated: tuple[DimLike, ...] | None
    constant: bool
    zeros: ZeroPattern | None = None
    short: ShortSums | None = None


StorageOf = Callable[[Value], Storage]


class Group:
    """The ops of one kernel: a single op, or the region of a `core.fused`.

    Attributes:
        ops: in order, without the terminator.
        inputs: values outside the group that it reads; position = operand number.
        outputs: values inside that leave it.
    """

    def __init__(self, op: Op) -> None:
        self.op = op
        if op.name == "core.fused":
            block = op.regions[0]
            self.ops = [o for o in block if not o.has(Trait.TERMINATOR)]
            self.inputs: list[Value] = list(block.args)
            self.outer: list[Value] = [v for v in op.operands if v is not None]
            self.outputs = [v for v in block.terminator.operands if v is not None]
        else:
            self.ops = [op]
            self.inputs = list(dict.fromkeys(op.present_operands()))
            self.outer = self.inputs
            self.outputs = list(op.results)
        self.number = {v: i for i, v in enumerate(self.inputs)}

    def anchor(self) -> Op:
        """The op that reduces (or cannot be inlined), else the last op."""
        anchors = [o for o in self.ops if not is_map(o)]
        if len(anchors) > 1:
            names = ", ".join(o.name for o in anchors)
            raise NotComposable(loc=self.op.loc, op=self.op.name, reason=f"it holds several anchors: {names}")
        return anchors[0] if anchors else self.ops[-1]


def is_map(op: Op) -> bool:
    """Whether the op is a Compute without reduction, so that it can be inlined anywhere."""
    definition = definition_of(op)
    return isinstance(definition, Compute) and not definition.reduce


def definition_of(op: Op) -> Program | None:
    """`op.define()`, with operand numbers as positions among all operand slots."""
    return op.define()  # type: ignore[no-any-return]


def scalar_constant(v: Value) -> Const | None:
    """The literal that a one-element constant becomes, or None."""
    if v.op is None or v.op.name != "core.constant":
        return None
    handle = v.op.value  # type: ignore[attr-defined]
    if handle.size != 1 or handle.is_lazy:
        return None
    item = handle.array().astype(v.dtype.compute.numpy).reshape(-1)[0].item()
    return const(item, v.dtype.compute)
