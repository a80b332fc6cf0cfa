"""Bytes that move to the top or the bottom of their words: a shift and a mask, or one shuffle of bytes."""

from __future__ import annotations

from aino_ir.codegen.cstyle.expression import constant_of
from aino_ir.loops.expr import Binary, Expr

MOVES = ((1, 3), (2, 3), (1, 0), (2, 0), (3, 0))
"""(byte of the word, where it goes); byte 0 moves to the top by a shift alone."""


def move_name(source: int, target: int) -> str:
    """The operation that moves a byte."""
    return f"byte_{source}_to_{target}"


def mask_of(byte: int) -> int:
    """The mask of a byte, as a signed word."""
    return -(1 << 24) if byte == 3 else 255 << 8 * byte


_OPERATIONS = {
    ("shl" if target > source else "shr", 8 * abs(target - source), mask_of(target)): move_name(
        source, target
    )
    for source, target in MOVES
}
"""(shift, by how much, mask behind it) -> operation."""


def byte_move(e: Binary) -> tuple[str, Expr] | None:
    """The operation that a masked shift of words is, and on what; None where it moves no single byte."""
    shift, mask = e.a, constant_of(e.b)
    if (
        e.op != "and"
        or e.lanes == 1
        or e.dtype.name != "i32"
        or mask is None
        or not isinstance(shift, Binary)
    ):
        return None
    count = constant_of(shift.b)
    if count is None:
        return None
    name = _OPERATIONS.get((shift.op, int(count.value), int(mask.value)))
    return None if name is None else (name, shift.a)


def shuffle_control(source: int, target: int, lanes: int) -> str:
    """What a shuffle of the bytes of a 128-bit block takes, for so many words: 0x80 gives a zero."""
    block = [4 * word + source if byte == target else 0x80 for word in range(4) for byte in range(4)]
    return ", ".join(str(v - 256 if v > 127 else v) for v in block * (lanes // 4))
