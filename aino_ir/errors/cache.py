"""Errors of the on-disk cache and of writing files: E0650 to E0669."""

from __future__ import annotations

from aino_ir.errors.base import EnvironmentFault


class CacheWarning(UserWarning):
    """Something is wrong with the cache that costs time only: compilation goes on without it."""


class CacheUntrusted(EnvironmentFault):
    """The cache folder could be written by someone else, so its content cannot be trusted."""

    code = "AINO-E0650"
    template = "cache folder {path} is not safe to use: {reason}"
    hint = "set AINO_CACHE_DIR to a folder that only you can write"
    example = {"path": "/srv/cache", "reason": "owned by user 0, not by user 1000"}


class DiskFull(EnvironmentFault):
    """There is no space left for a file; nothing half-written is left behind."""

    code = "AINO-E0651"
    template = "no space left while writing {path}"
    hint = "free some space (`ainoc cache clear` empties AINO's own cache) and run again"
    example = {"path": "/home/me/m.aino"}


class FileNotWritable(EnvironmentFault):
    """A file or folder cannot be written."""

    code = "AINO-E0652"
    template = "cannot write {path}: {reason}"
    hint = "check the folder's permissions, or choose another place (AINO_CACHE_DIR for the cache)"
    example = {"path": "/root/m.aino", "reason": "Permission denied"}
