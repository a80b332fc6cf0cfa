"""Random bits: the counters of Philox, as XLA's generator uses them on processors and GPUs.

Source: J. K. Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011 (Philox4x32, ten rounds).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from aino_ir.dtypes import DTYPES
from aino_ir.frontends.stablehlo.context import OpContext, Row, tensor_type
from aino_ir.frontends.stablehlo.ops.bits import Words
from aino_ir.graph import Value

ALGORITHMS = ("DEFAULT", "PHILOX")
"""XLA takes Philox for its own choice, but on TPUs."""

ROUNDS = 10
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
STEPS = (0x9E3779B9, 0xBB67AE85)
"""What is added to the two words of the key from round to round."""


def rng_bit_generator(c: OpContext, state: Value) -> Sequence[Value]:
    """The state behind the draw, and the bits.

    The state holds the key and a counter of 64 or 128 bits; of the short one the key is the upper half.  Each
    counter gives four words of 32 bits, low word first where two make a number of 64 bits; narrower numbers
    are the low bits of a word each.
    """
    algorithm = c.word("rng_algorithm")
    if algorithm not in ALGORITHMS:
        c.unsupported(f"the algorithm {algorithm}")
    type_ = tensor_type(c.op.results[1].type, "random bits")
    if not type_.dtype.is_integer or type_.dtype.bits < 8:
        c.unsupported(f"random bits of dtype {type_.dtype}")
    shape = [int(d) for d in type_.shape]  # type: ignore[arg-type]
    count = int(np.prod(shape, dtype=np.int64))
    words = count * max(type_.dtype.bits, 32) // 32
    draws = -(-words // 4)
    w = Words(c, 64)
    parts = [c.cut(state, 0, place, 1) for place in range(c.extent(state, 0))]
    key, low, high = parts if len(parts) == 3 else (*parts, parts[0])
    numbers = c.emit("range", size=draws, dtype="u64")
    lows = w("add", low, numbers)
    highs = w("add", high, c.cast(c.emit("lt", lows, low), w.dtype))
    bits = philox(c, halves(c, key), [*halves(c, lows), *halves(c, highs)])
    flat = c.reshape(c.emit("concat", *(c.reshape(b, (draws, 1)) for b in bits), axis=1), (4 * draws,))
    flat = c.cut(flat, 0, 0, words)
    if type_.dtype.bits == 64:
        pairs = c.reshape(flat, (count, 2))
        lower, upper = (c.cast(c.cut(pairs, 1, n, 1), w.dtype) for n in (0, 1))
        flat = w("bitwise_or", lower, w("shift_left", upper, 32))
    after = [key, w("add", low, draws)]
    if len(parts) == 3:
        overflow = c.cast(c.emit("lt", after[1], low), w.dtype)
        after.append(w("add", high, overflow))
    return c.emit("concat", *after, axis=0), c.reshape(c.cast(flat, type_.dtype), shape)


def halves(c: OpContext, x: Value) -> list[Value]:
    """The low and the high word of u64 numbers."""
    return [c.cast(part, DTYPES["u32"]) for part in (x, Words(c, 64)("shift_right", x, 32))]


def philox(c: OpContext, key: Sequence[Value], counter: Sequence[Value]) -> Sequence[Value]:
    """Four u32 words for each counter (four words, low first) under a key of two words."""
    word, wide = Words(c, 32), Words(c, 64)
    words, keys = list(counter), list(key)
    for _ in range(ROUNDS):
        products = [
            halves(c, wide("mul", c.cast(x, wide.dtype), m))
            for x, m in zip((words[0], words[2]), MULTIPLIERS, strict=True)
        ]
        (low0, high0), (low1, high1) = products
        words = [
            word("bitwise_xor", word("bitwise_xor", high1, words[1]), keys[0]),
            low1,
            word("bitwise_xor", word("bitwise_xor", high0, words[3]), keys[1]),
            low0,
        ]
        keys = [word("add", k, step) for k, step in zip(keys, STEPS, strict=True)]
    return words


ROWS: dict[str, Row] = {"stablehlo.rng_bit_generator": rng_bit_generator}
