"""Strings, and counts of sequences of strings or numbers."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from aino_ir.dims import DimLike, dmax, dmin, is_static
from aino_ir.dtypes import f32
from aino_ir.frontends.onnx.context import NodeContext, Row
from aino_ir.frontends.onnx.nodes import OnnxNode
from aino_ir.graph import Value
from aino_ir.types import StringType

NGRAM_LIMIT = 1 << 12
"""Combinations of a length and a distance that are counted at most."""


def split(c: NodeContext, node: OnnxNode) -> tuple[Value, ...]:
    """Texts cut at a delimiter."""
    limit = node.int("maxsplit", -1)
    return c.emit_all("text.split", c.require(0), delimiter=node.str("delimiter", ""), limit=limit)


def full_match(c: NodeContext, node: OnnxNode) -> Value:
    """Texts that match a pattern as a whole."""
    return c.emit("text.regex_full_match", c.require(0), pattern=node.str("pattern", ""))


def normalize(c: NodeContext, node: OnnxNode) -> Value:
    """Texts without stop words, in one case."""
    return c.emit(
        "text.normalize",
        c.require(0),
        case=node.str("case_change_action", "NONE").lower(),
        sensitive=bool(node.int("is_case_sensitive", 0)),
        stop=node.strs("stopwords", ()),
    )


@dataclass(frozen=True)
class Grams:
    """The n-grams of one length: their items [grams, length], and their numbers in the pool."""

    items: np.ndarray
    first: int


def pools(c: NodeContext, pool: Sequence[Any]) -> Iterator[Grams]:
    """A pool of n-grams by length: 1, 2, ..."""
    starts, first = [*c.node.ints("ngram_counts"), len(pool)], 0
    for length, (start, end) in enumerate(itertools.pairwise(starts), 1):
        if not 0 <= start <= end <= len(pool) or (end - start) % length:
            c.invalid("ngram_counts", f"starts of whole n-grams among {len(pool)} items", starts[:-1])
        items = np.asarray(pool[start:end]).reshape(-1, length)
        yield Grams(items, first)
        first += len(items)


def tf_idf(c: NodeContext, node: OnnxNode) -> Value:
    """How often each n-gram of a pool occurs in each row, its items up to max_skip_count apart."""
    x, mode = c.require(0), node.str("mode")
    shortest, longest = node.int("min_gram_length"), node.int("max_gram_length")
    skips, targets = node.int("max_skip_count"), node.ints("ngram_indexes")
    if mode not in ("TF", "IDF", "TFIDF"):
        c.invalid("mode", "TF, IDF or TFIDF", mode)
    if not 1 <= shortest <= longest or skips < 0 or (skips + 1) * longest > NGRAM_LIMIT:
        c.invalid("gram lengths and max_skip_count", "at least 1, and few", (shortest, longest, skips))
    pool: Sequence[Any]
    if isinstance(x.type, StringType):
        texts = node.strs("pool_strings")
        keys = list(dict.fromkeys(texts))
        x, pool = c.emit("text.lookup", x, keys=keys), [keys.index(t) for t in texts]
    else:
        pool = node.ints("pool_int64s")
    found = list(pools(c, pool))
    total = sum(len(grams.items) for grams in found)
    if total != len(targets) or not targets or min(targets) < 0:
        c.invalid("ngram_indexes", f"{total} of them, not negative", list(targets))
    flat = c.reshape(x, (1, *x.shape)) if x.rank == 1 else x
    weights = np.asarray(node.floats("weights", (1.0,) * total), np.float32)
    placing = np.zeros((total, max(targets) + 1), np.float32)
    placing[np.arange(total), list(targets)] = 1
    if mode != "TF":
        placing *= weights[:, None]
    counts = [occurrences(c, flat, g.items, skips, shortest <= g.items.shape[1] <= longest) for g in found]
    each = c.emit("concat", *counts, axis=1) if len(counts) > 1 else counts[0]
    if mode == "IDF":
        each = c.cast(c.emit("gt", each, c.scalar(0.0, f32)), f32)
    y = c.emit("matmul", each, c.b.constant(placing))
    return c.reshape(y, (y.shape[1],)) if x.rank == 1 else y


def occurrences(c: NodeContext, x: Value, items: np.ndarray, skips: int, wanted: bool) -> Value:
    """How often n-grams [grams, length] occur in rows, f32 [rows, grams]; zeros when not wanted."""
    count, length = items.shape
    none = c.filled((x.shape[0], count), 0.0, f32)
    if not wanted or not count:
        return none
    out: Value | None = None
    for distance in range(1, 2 if length == 1 else skips + 2):
        size: DimLike = c.symbols.simplify(dmax(x.shape[1] - (length - 1) * distance, 0))
        if is_static(size) and size == 0:
            continue
        matches: Value | None = None
        for k in range(length):
            start = c.symbols.simplify(dmin(k * distance, x.shape[1]))
            part = c.emit("slice", x, starts=(0, start), sizes=(x.shape[0], size), steps=(1, 1))
            column = c.b.constant(items[:, k].astype(x.dtype.numpy))
            same = c.emit("eq", c.reshape(part, (*part.shape, 1)), column)
            matches = same if matches is None else c.emit("logical_and", matches, same)
        assert matches is not None
        summed = c.emit("reduce.sum", c.cast(matches, f32), axes=(1,), keepdims=False)
        out = summed if out is None else c.emit("add", out, summed)
    return none if out is None else out


TABLE: dict[str, Row] = {
    "RegexFullMatch": full_match,
    "StringConcat": "text.concat",
    "StringNormalizer": normalize,
    "StringSplit": split,
    "TfIdfVectorizer": tf_idf,
}
