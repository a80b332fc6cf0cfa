"""Where a node comes from in the user's Python code."""

from __future__ import annotations

import re
import traceback
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path, PurePath

import torch
from torch.fx import Node

import aino_ir
from aino_ir.location import UNKNOWN, Loc, loc

_FRAME = re.compile(r'^\s*File "(?P<file>.*)", line (?P<line>\d+)', re.MULTILINE)

PARTS = 2
"""Components of a path that a location keeps: enough to find the file, the same on every machine."""


def location_of(node: Node) -> Loc:
    """``folder/model.py:12``: the innermost line of the node's stack trace that is the user's own."""
    return _location(node.meta.get("stack_trace") or "")


def location_of_problem(problem: BaseException) -> Loc:
    """The user's innermost line that an exception of torch's came through."""
    seen: list[BaseException] = []
    cause: BaseException | None = problem
    while cause is not None and cause not in seen:
        seen.append(cause)
        cause = cause.__cause__ or cause.__context__
    for error in reversed(seen):
        frames = [(f.filename, str(f.lineno)) for f in traceback.extract_tb(error.__traceback__)]
        found = _innermost(frames) or _location(str(error))
        if found:
            return found
    return UNKNOWN


@lru_cache(maxsize=4096)
def _location(trace: str) -> Loc:
    return _innermost([(m["file"], m["line"]) for m in _FRAME.finditer(trace)])


def _innermost(frames: Sequence[tuple[str, str]]) -> Loc:
    for file, line in reversed(frames):
        if not _is_machinery(file):
            return loc(f"{'/'.join(PurePath(file).parts[-PARTS:]).lstrip('/')}:{line}")
    return UNKNOWN


@lru_cache(maxsize=1)
def _machinery() -> tuple[str, ...]:
    """Folders of PyTorch and of AINO."""
    packages = (torch.__file__, aino_ir.__file__, __file__)
    folders = (Path(packages[0]).parent, Path(packages[1]).parent, Path(packages[2]).parent.parent.parent)
    return tuple(f"{folder.resolve()}/" for folder in folders[:2]) + tuple(
        f"{folders[2].resolve()}/{room}/" for room in ("frontends", "driver")
    )


def _is_machinery(file: str) -> bool:
    if file.startswith(("torch/", "<eval_with_key>")):
        return True
    return not file.startswith("<") and str(Path(file).resolve()).startswith(_machinery())
