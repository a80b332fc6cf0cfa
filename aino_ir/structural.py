"""Structural identity: hashes of blocks that ignore ids, names and locations."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aino_ir.graph import Block, Value
    from aino_ir.op import Op


def block_hash(block: Block) -> str:
    """SHA-256 of a block's structure: argument types, ops with attributes, wiring, nested regions."""
    h = hashlib.sha256()
    numbers: dict[Value, int] = {}
    for arg in block.args:
        numbers[arg] = len(numbers)
        h.update(f"arg {arg.type}\n".encode())
    for op in block:
        h.update(_op_line(op, numbers).encode())
        for region in op.regions:
            h.update(block_hash(region).encode())
        for result in op.results:
            numbers[result] = len(numbers)
    return h.hexdigest()


def _op_line(op: Op, numbers: dict[Value, int]) -> str:
    operands = ",".join("_" if v is None else str(numbers[v]) for v in op.operands)
    results = ",".join(str(r.type) for r in op.results)
    return f"{op.name}({operands}){op.attributes_key()!r}->{results}\n"


def op_key(op: Op) -> tuple[Any, ...]:
    """What makes two ops compute the same: class, operands, attributes, regions, result types."""
    regions = tuple(block_hash(r) for r in op.regions)
    return (op.name, op.operands, op.attributes_key(), regions, tuple(r.type for r in op.results))
