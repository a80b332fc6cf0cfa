"""Reproducers: what is needed to see a fault of AINO again, in a folder of its own."""

from __future__ import annotations

import platform
import shlex
import shutil
import tempfile
import traceback
from pathlib import Path

from aino_ir import __version__
from aino_ir.errors.base import AinoError
from aino_ir.runtime.store import Store, digest

KEPT_FAULTS = 8
"""Reproducers that are kept; the oldest go."""

LARGEST_COPY = 64 << 20
"""Models up to this size are copied into the reproducer, larger ones are only named."""


def write_reproducer(words: list[str], problem: BaseException) -> str:
    """Write a folder with the command line, versions, traceback and model; return its path.

    An empty text means that not even a temporary folder could be written.
    """
    text = "".join(traceback.format_exception(problem))
    try:
        folder = _folder(digest(*words, text)[:16])
        models = [path for word in words if (path := Path(word)).is_file()]
        for path in models:
            if path.stat().st_size <= LARGEST_COPY:
                shutil.copyfile(path, folder / path.name)
        lines = [
            f"command: {shlex.join(['ainoc', *words])}",
            f"aino {__version__}, Python {platform.python_version()}, {platform.platform()}",
            *(f"file: {path.absolute()} ({path.stat().st_size} bytes)" for path in models),
            "",
            text,
        ]
        (folder / "fault.txt").write_text("\n".join(lines), encoding="utf-8", errors="backslashreplace")
    except OSError:
        return ""
    return str(folder)


def _folder(name: str) -> Path:
    """A new folder among the cache's faults, or a temporary one when there is no cache."""
    try:
        shelf = Store.open().side_folder("faults")
    except AinoError:
        return Path(tempfile.mkdtemp(prefix="aino-fault-"))
    folder = shelf / name
    folder.mkdir(mode=0o700, exist_ok=True)
    kept = sorted((p for p in shelf.iterdir() if p.is_dir()), key=lambda p: p.stat().st_mtime)
    for old in kept[:-KEPT_FAULTS]:
        shutil.rmtree(old, ignore_errors=True)
    return folder
