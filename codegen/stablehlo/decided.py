"""Which ops decide extents by data: a module of StableHLO has fixed extents, so these run beside it."""

from __future__ import annotations

from aino_ir.codegen.lower.decided import DecidedSymbols
from aino_ir.codegen.lower.outline import ids_in
from aino_ir.graph import Function, Value
from aino_ir.infer import KNOWN_LIMIT
from aino_ir.op import Op, Trait
from aino_ir.types import TensorType

BY_DATA = "extents of its results are decided by data"


def decided_by_data(function: Function) -> dict[int, str]:
    """Ids of the ops of a function's own block that no module of fixed extents can hold -> why.

    A `core.bind` stays if what it reads is little and follows from little: that is computed on the host
    before the module is chosen.
    """
    decided = DecidedSymbols(function)
    deciders = {decided.origins[n].op for n in decided.names if n not in decided.carried}
    deciders |= {decided.carried[n].id for n in decided.names if n in decided.carried}
    out = {}
    for op in function.block:
        if op.name == "core.bind":
            if not _follows_from_little(op):
                out[op.id] = BY_DATA
        elif op.has(Trait.DATA_DEPENDENT) or ids_in(op) & deciders:
            out[op.id] = BY_DATA
    return out


def _follows_from_little(bind: Op) -> bool:
    """Whether all values that decide what an op of a function's own block gives hold few elements."""
    work: list[Value] = list(bind.present_operands())
    seen: set[Value] = set()
    while work:
        value = work.pop()
        if value in seen:
            continue
        seen.add(value)
        if not isinstance(value.type, TensorType) or not value.type.is_static:
            return False
        if int(value.type.size) > KNOWN_LIMIT:  # type: ignore[arg-type]
            return False
        if value.op is not None:
            if value.op.regions and value.op.name != "core.fused":
                return False
            work += value.op.present_operands()
    return True
