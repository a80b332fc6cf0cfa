"""The files that an ONNX model consists of, for cache keys."""

from __future__ import annotations

import itertools
from pathlib import Path

MOST_FILES = 4096
"""Files beside the model that are considered as external data."""


def model_files(path: Path) -> list[Path]:
    """The model's file, and every file of its folder whose relative path stands in the model's bytes.

    External data is named in the model by that path; naming one file too many only costs a cache miss.
    """
    content = path.read_bytes()
    folder = path.parent
    beside = itertools.islice((p for p in folder.rglob("*") if p.is_file() and p != path), MOST_FILES)
    return [path, *sorted(p for p in beside if p.relative_to(folder).as_posix().encode() in content)]
