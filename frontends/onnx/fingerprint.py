"""What tells an ONNX model from every other: its bytes, and those of its external data, for cache keys.

The model is not parsed: external data is named by a protobuf map entry with the key ``location``,
which looks the same wherever it stands.  Where such an entry is written in another way than protobuf
writes it, the model has no fingerprint and is compiled anew each time.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import re
from pathlib import Path

_KEY = b"\x0a\x08location"
_ENTRY = re.compile(re.escape(_KEY) + rb"\x12([\x80-\xff]{0,2}[\x00-\x7f])")


def model_fingerprint(source: Path | bytes, folder: Path | None = None) -> str | None:
    """A hash over a model and its external data.

    Args:
        source: path of the file, or the serialized model.
        folder: where external data lies; by default the folder of the path, and nowhere for bytes.

    Returns:
        The hash (hex), or None when a file cannot be read or it is not certain which files belong to it.
    """
    state = hashlib.sha256()
    try:
        if isinstance(source, bytes):
            locations = external_locations(source)
            state.update(source)
        else:
            folder = source.parent if folder is None else folder
            with _mapped(source) as content:
                locations = external_locations(content)
                state.update(content)
        if locations is None or (locations and folder is None):
            return None
        for name in locations:
            state.update(f"\0{len(name)}:{name}".encode())
            with _mapped(Path(os.path.join(folder or "", name))) as data:
                state.update(hashlib.sha256(data).digest())
    except (OSError, ValueError):  # gone, or no file that can be read: reading the model says so
        return None
    return state.hexdigest()


def external_locations(content: bytes | mmap.mmap | memoryview) -> list[str] | None:
    """Names of the external data files of a serialized model, each once; None when one cannot be read."""
    found: dict[str, None] = {}
    matched = 0
    for match in _ENTRY.finditer(content):
        matched += 1
        length = sum((byte & 0x7F) << (7 * i) for i, byte in enumerate(match[1]))
        name = bytes(content[match.end() : match.end() + length])
        try:
            found[name.decode()] = None
        except UnicodeDecodeError:
            return None
    total = sum(1 for _ in re.finditer(re.escape(_KEY), content))
    return sorted(found) if matched == total else None


class _mapped:
    """A regular file's bytes, mapped for the length of a with block."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.view: mmap.mmap | None = None

    def __enter__(self) -> mmap.mmap | bytes:
        descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            if not os.fstat(descriptor).st_size:
                return b""
            self.view = mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)
            return self.view
        finally:
            os.close(descriptor)

    def __exit__(self, *exc: object) -> None:
        if self.view is not None:
            self.view.close()
