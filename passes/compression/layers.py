"""What can be compressed: contractions with constant weights, and what the user calls them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from aino_ir.constants import Const
from aino_ir.dims import is_static
from aino_ir.graph import Module
from aino_ir.op import Op
from aino_ir.ops.nn import Conv, MatMul
from aino_ir.passes.canonicalize import Canonicalize
from aino_ir.passes.eliminate_common_subexpressions import EliminateCommonSubexpressions
from aino_ir.passes.eliminate_dead_code import EliminateDeadCode
from aino_ir.passes.fold_batch_norm import FoldBatchNorm
from aino_ir.passes.fold_constants import FoldConstants
from aino_ir.passes.manager import PassManager
from aino_ir.passes.simplify_shapes import SimplifyShapes
from aino_ir.pattern import constant_of

PREPARE = (
    EliminateDeadCode(),
    SimplifyShapes(),
    FoldConstants(),
    Canonicalize(),
    FoldBatchNorm(),
    FoldConstants(),
    Canonicalize(),
    EliminateCommonSubexpressions(),
)
"""Passes before weights are looked at: what is folded into them later would be folded into floats."""

QUOTED = re.compile(r"'([^']+)'")


@dataclass(frozen=True)
class Layer:
    """A contraction with constant weights.

    Attributes:
        name: unique in the module: of the weights where they have one, else of the node.
        op: id of the op.
        kind: name of the op.
        x: id of the value that it reads.
        weight: the constant.
        channel_axis: axis of the weights that is the output channels.
        macs: multiply-adds of one run; 0 where extents are symbolic.
        places: everything that a pattern of ignored names may mean.
    """

    name: str
    op: int
    kind: str
    x: int
    weight: Const
    channel_axis: int
    macs: int
    places: tuple[str, ...]

    def matches(self, patterns: Sequence[str]) -> bool:
        """Whether a pattern (``head*``) means this layer: its name, its weights, its node or its place."""
        return any(fnmatchcase(place, p) for p in patterns for place in self.places)


def as_patterns(given: str | Sequence[str]) -> tuple[str, ...]:
    """Patterns of layers as a user gives them: one, or some."""
    return (given,) if isinstance(given, str) else tuple(given)


def what_was_missed(patterns: Sequence[str], places: Sequence[Sequence[str]]) -> list[str]:
    """Notes on patterns that mean none of some layers, and on there being none.

    Args:
        patterns: of layers that should stay.
        places: of each layer, what a pattern may mean.
    """
    if not places:
        return ["there is no layer that this could be done to"]
    known = [place for each in places for place in each]
    missed = [p for p in patterns if not any(fnmatchcase(place, p) for place in known)]
    return [f"the pattern '{p}' of layers to ignore means none of them" for p in missed]


def prepared(module: Module) -> Module:
    """A copy with constants and batch normalisation folded, so that weights are what kernels will read."""
    copy = module.clone()
    PassManager(PREPARE).run(copy)
    return copy


def find_layers(module: Module) -> list[Layer]:
    """The layers of main, in program order; those inside of control flow are left alone."""
    found: list[Layer] = []
    taken: Counter[str] = Counter()
    for op in module.main.block:
        weights = _weights(op)
        if weights is None:
            continue
        operand, channel_axis = weights
        value = op.operands[operand]
        assert value is not None
        handle = constant_of(value)
        if handle is None:
            continue
        x = op.operands[1 - operand]
        assert x is not None
        if constant_of(x) is not None:
            continue
        given = _name_of(handle) or value.name
        nodes = [n for entry in op.loc.entries for n in QUOTED.findall(entry)]
        base = given.removesuffix(".weight") or next(iter(nodes), "") or op.name
        taken[base] += 1
        name = base if taken[base] == 1 else f"{base}#{taken[base]}"
        places = tuple(dict.fromkeys(p for p in (name, base, given, *nodes, *op.loc.entries) if p))
        cost = op.cost()
        macs = int(cost) // 2 if is_static(cost) else 0  # type: ignore[arg-type]
        found.append(Layer(name, op.id, op.name, x.id, handle, channel_axis, macs, places))
    return found


def _weights(op: Op) -> tuple[int, int] | None:
    """(position of the operand that may be weights, its axis of output channels), or None."""
    if isinstance(op, Conv):
        return 1, 0
    if isinstance(op, MatMul) and op.rhs.rank == 2:
        return 1, 0 if op.transpose_rhs else 1
    return None


def _name_of(handle: Const) -> str:
    """The name of a constant, or of the first named one that it is computed from."""
    if handle.name or not handle.is_lazy:
        return handle.name
    return next((n for n in map(_name_of, handle.inputs) if n), "")


def packed_bytes(count: int, bits: int) -> int:
    """Bytes of so many values, packed."""
    return -(-count * bits // 8)
