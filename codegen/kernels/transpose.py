"""Square blocks turned over in registers."""

from __future__ import annotations

from collections.abc import Sequence

from aino_ir.loops.builder import LoopBuilder
from aino_ir.loops.expr import Expr, Shuffle


def transposed(b: LoopBuilder, rows: Sequence[Expr]) -> list[Expr]:
    """As many vectors as they have lanes (a power of two): vector i becomes lane i of each.

    At each step, for distances 1, 2, 4 ..., pairs of vectors that far apart swap the off-diagonal
    lanes of their blocks, a two-operand shuffle each.  With elements of 4 bytes the first step interleaves
    instead, one instruction of most processors; the second then finds columns 1 and 2 exchanged.
    """
    out = [b.let(r, "r") for r in rows]
    lanes = len(out)
    interleaved = lanes >= 4 and out[0].dtype.bytes == 4
    distance = 1
    while distance < lanes:
        if distance == 1 and interleaved:
            pairs = [(i, lanes + i) for i in range(lanes)]
            low = tuple(j for i in range(0, lanes, 4) for pair in pairs[i : i + 2] for j in pair)
            high = tuple(j for i in range(2, lanes, 4) for pair in pairs[i : i + 2] for j in pair)
        else:
            low = tuple(lanes + i - distance if i & distance else i for i in range(lanes))
            high = tuple(lanes + i if i & distance else i + distance for i in range(lanes))
        for i in range(lanes):
            if i & distance:
                continue
            x, y = out[i], out[i + distance]
            out[i] = b.let(Shuffle(x, y, low, x.type), "r")
            out[i + distance] = b.let(Shuffle(x, y, high, x.type), "r")
        distance *= 2
    if interleaved:
        return [out[i - i % 4 + (0, 2, 1, 3)[i % 4]] for i in range(lanes)]
    return out
