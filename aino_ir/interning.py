"""Hash-consing: a table that keeps one live object per key."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Hashable
from typing import Generic, TypeVar

Node = TypeVar("Node")


_LOCK = threading.RLock()
"""One lock for all tables: forgetting in one may set off forgetting in another, at any allocation."""


class _Reference(weakref.ref[Node]):
    """A weak reference that knows its key in the intern table."""

    __slots__ = ("key",)
    key: Hashable


class Interned(Generic[Node]):
    """A thread-safe table of weak references: one live object per key, dead ones are forgotten."""

    __slots__ = ("_lock", "_references")

    def __init__(self) -> None:
        self._references: dict[Hashable, _Reference[Node]] = {}
        self._lock = _LOCK  # a global name is gone when the interpreter ends

    def get(self, key: Hashable) -> Node | None:
        """The live object with this key, if there is one."""
        reference = self._references.get(key)
        return None if reference is None else reference()

    def add(self, key: Hashable, value: Node) -> Node:
        """Enter `value`; gives the object that another thread entered first, if one did."""
        with self._lock:
            existing = self.get(key)
            if existing is not None:
                return existing
            reference = _Reference(value, self._forget)
            reference.key = key
            self._references[key] = reference
            return value

    def _forget(self, reference: _Reference[Node]) -> None:
        with self._lock:
            if self._references.get(reference.key) is reference:
                del self._references[reference.key]

    def __len__(self) -> int:
        return len(self._references)
