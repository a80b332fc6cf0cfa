"""Where an op comes from in the user's model: ONNX nodes or Python lines."""

from __future__ import annotations

from dataclasses import dataclass

MAX_ENTRIES = 16


@dataclass(frozen=True)
class Loc:
    """An ordered set of places such as ``node 'conv1' (Conv)`` or ``model.py:12``."""

    entries: tuple[str, ...] = ()

    def union(self, *others: Loc) -> Loc:
        """All places once, in order, at most MAX_ENTRIES of them."""
        seen = dict.fromkeys(self.entries)
        for other in others:
            seen.update(dict.fromkeys(other.entries))
        if len(seen) == len(self.entries):
            return self
        return Loc(tuple(seen)[:MAX_ENTRIES])

    def __bool__(self) -> bool:
        return bool(self.entries)

    def __str__(self) -> str:
        return ", ".join(self.entries)


UNKNOWN = Loc()


def loc(*entries: str) -> Loc:
    """A location from texts."""
    return Loc(tuple(entries))
