"""Where an operation comes from in the user's Python code."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import PurePath

from aino_ir.location import UNKNOWN, Loc, loc

_PLACE = re.compile(r'"(?P<file>[^"]+)":(?P<line>\d+):\d+')
_MACHINERY = re.compile(r"(^|/)(jax|jaxlib|flax|optax|equinox)/")

PARTS = 2
"""Components of a path that a location keeps: enough to find the file, the same on every machine."""


@lru_cache(maxsize=4096)
def location_of(text: str) -> Loc:
    """``folder/model.py:12``: the innermost line of an MLIR location that is the user's own."""
    for place in _PLACE.finditer(text):
        if not _MACHINERY.search(place["file"]):
            return loc(f"{'/'.join(PurePath(place['file']).parts[-PARTS:]).lstrip('/')}:{place['line']}")
    return UNKNOWN
