"""The compile cache as the driver and ``ainoc cache`` see it.

What is stored and how it is kept safe is `aino_ir.runtime.store`'s business; here stands what a compiled
model is keyed by, and the functions behind ``ainoc cache path|list|clear``.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping
from pathlib import Path

from aino_ir.runtime.store import Store, cache_folder, digest

ROOMS = ("aino_ir", "frontends", "passes", "codegen", "runtime", "driver")
_SOURCE_SUFFIXES = (".py", ".h", ".c", ".lark", ".json")


@functools.cache
def source_hash() -> str:
    """Return the hash of AINO's own source: a changed compiler finds no artifact of the old one."""
    package = Path(__file__).resolve().parent.parent  # the checkout, or the installed aino_ir
    folders = [package] if package.name == "aino_ir" else [package / room for room in ROOMS]
    parts: list[str | bytes] = []
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if path.suffix in _SOURCE_SUFFIXES and path.is_file():
                parts += [path.relative_to(package).as_posix(), path.read_bytes()]
    return digest(*parts)


def artifact_key(parts: Mapping[str, str]) -> str:
    """Return the store key of a compiled model.

    Args:
        parts: everything that the artifact depends on, by name: hashes of model and weights, options,
            target facts, compiler, tuning records.  AINO's own source is added.
    """
    return digest("artifact", source_hash(), *(part for item in sorted(parts.items()) for part in item))


def cache_path() -> Path:
    """Return the cache folder, whether or not it exists yet."""
    return cache_folder()


def describe_cache(store: Store, now: float | None = None) -> list[dict[str, str | int]]:
    """Return one row per entry, the most recently used first: kind, key, bytes, seconds since its use."""
    moment = time.time() if now is None else now
    return [
        {"kind": e.kind, "key": e.key, "bytes": e.bytes, "idle_seconds": max(0, int(moment - e.used))}
        for e in reversed(store.entries())
    ]


def clear_cache(store: Store) -> tuple[int, int]:
    """Remove every entry; return how many there were and their bytes."""
    return store.clear()
