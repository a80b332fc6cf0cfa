"""Which weights go: masks by score, over matrices [outputs, other inputs, channels].

True keeps a weight.  Ties go by position, so that equal models give equal masks.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from aino_ir.errors.pruning import BadStructure

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Structure:
    """What is removed together.

    Attributes:
        kind: unstructured, channel, head, n:m or block.
        a, b: N and M, or the inputs and outputs of a block.
    """

    kind: str
    a: int = 0
    b: int = 0

    @staticmethod
    def parse(text: str) -> Structure:
        """``unstructured``, ``channel``, ``head``, ``2:4``, ``block:1x16``.

        Raises:
            BadStructure: it is none of these.
        """
        if text in ("unstructured", "channel", "head"):
            return Structure(text)
        pair = re.fullmatch(r"(\d{1,4}):(\d{1,4})", text) if isinstance(text, str) else None
        if pair is not None and 0 < int(pair[1]) < int(pair[2]):
            return Structure("n:m", int(pair[1]), int(pair[2]))
        size = re.fullmatch(r"block:(\d{1,4})x(\d{1,4})", text) if isinstance(text, str) else None
        if size is not None and int(size[1]) > 0 and int(size[2]) > 0:
            return Structure("block", int(size[1]), int(size[2]))
        raise BadStructure(got=text)

    @property
    def inputs_together(self) -> int:
        """Neighbouring inputs that are looked at together."""
        return {"n:m": self.b, "block": self.a}.get(self.kind, 1)

    def misfit(self, shape: tuple[int, ...]) -> str | None:
        """Why a matrix cannot be cut this way, or None."""
        outputs, _, channels = shape
        if self.kind == "n:m" and channels % self.b:
            return f"its {channels} inputs are no multiple of {self.b}"
        if self.kind == "block" and (channels % self.a or outputs % self.b):
            return f"its {channels} inputs by {outputs} outputs are no multiple of {self.a}x{self.b}"
        return None

    def scores(self, scores: Array) -> Array:
        """One score for each thing that is removed, an array of any shape."""
        if self.kind != "block":
            return scores
        outputs, others, channels = scores.shape
        cut = scores.reshape(outputs // self.b, self.b, others, channels // self.a, self.a)
        return np.asarray(np.sqrt(np.sum(np.square(cut, dtype=np.float64), axis=(1, 4))))

    def spread(self, keep: Array, shape: tuple[int, ...]) -> Array:
        """The mask of weights for a mask of what is removed together."""
        if self.kind != "block":
            return keep
        wide = np.repeat(np.repeat(keep, self.b, axis=0), self.a, axis=2)
        return np.asarray(wide.reshape(shape))

    def best_of_groups(self, scores: Array) -> Array:
        """For N:M: keeps the N best of every M neighbouring channels."""
        groups = scores.reshape(-1, self.b)
        order = np.argsort(-groups, axis=1, kind="stable")
        keep = np.zeros(groups.shape, bool)
        np.put_along_axis(keep, order[:, : self.a], True, axis=1)
        return np.asarray(keep.reshape(scores.shape))


def lowest(scores: Array, count: int) -> Array:
    """A flat bool mask of the `count` lowest scores, the first ones among equals."""
    flat = scores.reshape(-1)
    out = np.zeros(flat.size, bool)
    if count <= 0:
        return out
    cut = np.partition(flat, count - 1)[count - 1]
    out[flat < cut] = True
    ties = np.flatnonzero(flat == cut)[: count - int(np.count_nonzero(out))]
    out[ties] = True
    return out


def keep_by_share(scores: Array, share: float, per_output: bool) -> Array:
    """Keeps all but a share of the scores, counted over the whole array or within each first index."""
    if not per_output:
        return np.asarray(~lowest(scores, int(share * scores.size)).reshape(scores.shape))
    rows = scores.reshape(scores.shape[0], -1)
    kept = [~lowest(r, int(share * r.size)) for r in rows]
    return np.asarray(np.stack(kept).reshape(scores.shape))


def keep_by_pool(all_scores: Sequence[Array], share: float) -> list[Array]:
    """Keeps all but a share of all scores of several arrays taken together."""
    pooled = np.concatenate([s.reshape(-1) for s in all_scores]) if all_scores else np.zeros(0)
    gone = lowest(pooled, int(share * pooled.size))
    out, start = [], 0
    for s in all_scores:
        out.append(~gone[start : start + s.size].reshape(s.shape))
        start += s.size
    return out
