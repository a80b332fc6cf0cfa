"""The compile cache as the driver and ``ainoc cache`` see it.

What is stored and how it is kept safe is `aino_ir.runtime.store`'s business; here stands what a compiled
model is keyed by, and the functions behind ``ainoc cache path|list|clear``.
"""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aino_ir.errors.artifact import ArtifactUnreadable
from aino_ir.errors.base import AinoError
from aino_ir.runtime.artifact import Artifact, ArtifactWriter
from aino_ir.runtime.store import Store, cache_folder, digest

if TYPE_CHECKING:
    from aino_ir.driver.pipeline import CompileOptions

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


def compilation_key(
    x: Any, options: CompileOptions, dims: Mapping[str, Any] | None, compiler: str
) -> str | None:
    """The store key of a compiled model, or None when the model cannot be told by its bytes.

    Args:
        x: what `load` takes.
        options: all that the artifact depends on; how many compilers run at a time is not among it.
        dims: bounds or values of symbols.
        compiler: identity of the C compiler.
    """
    from aino_ir.driver.extend import extensions_identity

    model, extensions = model_digest(x), extensions_identity()
    if model is None or extensions is None:
        return None
    bounds = {name: value if isinstance(value, int) else tuple(value) for name, value in (dims or {}).items()}
    return artifact_key(
        {
            "model": model,
            "dims": repr(sorted(bounds.items())),
            "options": repr(replace(options, jobs=None)),
            "compiler": compiler,
            "extensions": extensions,
        }
    )


def model_digest(x: Any) -> str | None:
    """A hash of all that a model consists of, or None when it has none."""
    from aino_ir.frontends.onnx.fingerprint import model_fingerprint

    if isinstance(x, (bytes, bytearray, memoryview)):
        return model_fingerprint(bytes(x))
    if type(x).__name__ == "ModelProto":
        return model_fingerprint(x.SerializeToString(deterministic=True))
    if not isinstance(x, (str, os.PathLike)):
        return None
    path = Path(x)
    if path.suffix.lower() == ".air":
        return _file_digest("air", path)
    if path.suffix.lower() == ".pt2":
        return _file_digest(f"pt2 read by torch {version('torch')}", path)
    if path.suffix.lower() == ".mlir":
        return _file_digest("mlir", path)
    return model_fingerprint(path)


def _file_digest(kind: str, path: Path) -> str | None:
    """A hash of a file (large constants of an .air file stand in it by their content's hash)."""
    try:
        return digest(kind, path.read_bytes())
    except OSError:
        return None


def stored_artifact(store: Store, key: str) -> Artifact | None:
    """The compiled model stored under a key; one that cannot be opened is removed and counts as absent."""
    found = store.get_path("artifact", key)
    if found is None:
        return None
    try:
        return Artifact.open(found, verify=False)  # its bytes were hashed just now
    except AinoError:
        store.discard("artifact", key)
        return None


def keep_artifact(store: Store, key: str | None, writer: ArtifactWriter) -> Artifact:
    """The artifact that `writer` writes: into the store when it has a key, into memory when it cannot."""

    def write(fd: int) -> None:
        writer.write_to(fd, store.disk)

    path = store.put_with("artifact", key, write) if key is not None else None
    if path is not None:
        try:
            return Artifact.open(path, verify=False)
        except ArtifactUnreadable:  # another process has emptied the cache meanwhile
            path = None
    return Artifact.from_bytes(writer.to_bytes(), verify=False)


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
