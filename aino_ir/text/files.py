"""`.air` files: the text, and its large constants in a safetensors file beside it.

The weights of ``m.air`` stand in ``m.air.safetensors``: one array of bytes per content hash.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

from aino_ir.constants import Const
from aino_ir.errors.cache import DiskFull, FileNotWritable
from aino_ir.errors.ir import InvariantBroken
from aino_ir.errors.text import (
    TextFileUnreadable,
    TextNotWellFormed,
    TextSyntaxError,
    UnknownWeight,
    WeightDamaged,
    WeightsFileMissing,
)
from aino_ir.graph import Module
from aino_ir.text.leaves import Misfit, static_shape
from aino_ir.text.parser import parse, pointed
from aino_ir.text.printer import Printer
from aino_ir.types import TensorType
from aino_ir.verify import verify

NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""System errors that mean a full disk."""


def weights_path(path: Path) -> Path:
    """Where the constants of an `.air` file stand."""
    return path.with_name(path.name + ".safetensors")


def _before(weights: Path) -> Path:
    """The weights of the module that is being overwritten, until the new text has its name."""
    return weights.with_name(weights.name + ".before")


# -- writing ------------------------------------------------------------------------------------------


def save(module: Module, path: str | os.PathLike[str]) -> Path:
    """Write a module as text; both files are whole afterwards, or as they were before.

    Raises:
        DiskFull, FileNotWritable: the files cannot be written; nothing half-written is left.
    """
    target = Path(path)
    printer = Printer()
    text = printer.module(module).encode("ascii")
    weights = dict(sorted(printer.weights.items()))
    with _system_errors(target), _part(target) as text_part, _part(target) as weights_part:
        with open(text_part, "wb") as stream:
            _finish(stream, lambda: stream.write(text))
        if weights:
            with open(weights_part, "wb") as stream:
                _finish(stream, lambda: _write_weights(stream, weights))
        with _kept(weights_path(target)):
            if weights:
                os.replace(weights_part, weights_path(target))
            os.replace(text_part, target)
    return target


@contextmanager
def _kept(weights: Path) -> Iterator[None]:
    """Keep the old weights while text and weights do not fit together; put them back on an error."""
    before = _before(weights)
    before.unlink(missing_ok=True)
    if weights.exists():
        os.link(weights, before)
    try:
        yield
    except OSError:
        if before.exists():
            os.replace(before, weights)
            before.unlink(missing_ok=True)  # renaming one of two names of one file does nothing
        else:
            weights.unlink(missing_ok=True)
        raise
    before.unlink(missing_ok=True)


def _finish(stream: IO[bytes], write: Callable[[], object]) -> None:
    write()
    stream.flush()
    os.fsync(stream.fileno())


def _write_weights(stream: IO[bytes], weights: Mapping[str, Const]) -> None:
    """The safetensors format: length of the header, header (JSON), arrays one after the other."""
    header: dict[str, Any] = {}
    end = 0
    for digest, const in weights.items():
        start, end = end, end + const.nbytes
        header[digest] = {"dtype": "U8", "shape": [const.nbytes], "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    stream.write(len(text).to_bytes(8, "little") + text)
    for const in weights.values():
        stream.write(np.ascontiguousarray(const.array()).reshape(-1).view(np.uint8).data)


@contextmanager
def _part(target: Path) -> Iterator[Path]:
    """A new hidden file beside `target`; removed unless it was given another name."""
    fd, name = tempfile.mkstemp(dir=target.parent, prefix=".air-")
    os.close(fd)
    part = Path(name)
    try:
        part.chmod(0o666 & ~_umask())
        yield part
    finally:
        part.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


@contextmanager
def _system_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as problem:
        if problem.errno in NO_SPACE:
            raise DiskFull(path=path) from problem
        raise FileNotWritable(path=path, reason=problem.strerror or str(problem)) from problem


# -- reading ------------------------------------------------------------------------------------------


def load_module(path: str | os.PathLike[str]) -> Module:
    """Read and verify an `.air` file; its large constants are read when first needed.

    Raises:
        TextFileUnreadable: a file cannot be read.
        TextSyntaxError, TextMismatch: the text is not in the language, or names what cannot be.
        TextNotWellFormed: what the text says breaks an invariant of the graph.
        WeightsFileMissing, UnknownWeight: a constant is not at hand.
    """
    source = Path(path)
    text = _read(source)
    beside = weights_path(source)
    try:
        module = parse(text, _weights_beside(beside))
    except UnknownWeight:
        if beside.exists():
            raise
        raise WeightsFileMissing(path=beside) from None
    try:
        verify(module)
    except InvariantBroken as broken:
        raise TextNotWellFormed(path=source, reason=broken.message) from broken
    return module


def _read(path: Path) -> str:
    try:
        raw = path.read_bytes()
    except OSError as problem:
        raise TextFileUnreadable(path=path, reason=problem.strerror or str(problem)) from problem
    try:
        return raw.decode("ascii")
    except UnicodeDecodeError as problem:
        before = raw[: problem.start]
        line, column = before.count(b"\n") + 1, problem.start - before.rfind(b"\n")
        shown = pointed(raw.decode("ascii", "replace"), line, column)
        raise TextSyntaxError(expected="ASCII text", **shown) from None


def _weights_beside(path: Path) -> Callable[[str, TensorType], Const] | None:
    """Finds constants in the file beside a text, or in what a save that was killed left."""
    finders = [_weights_of(p) for p in (path, _before(path)) if p.exists()]
    if len(finders) < 2:
        return finders[0] if finders else None

    def find(digest: str, type: TensorType) -> Const:
        try:
            return finders[0](digest, type)
        except UnknownWeight:
            return finders[1](digest, type)

    return find


def _weights_of(path: Path) -> Callable[[str, TensorType], Const]:
    """Finds constants in a safetensors file, which stays mapped."""
    from safetensors import SafetensorError, safe_open

    try:
        reader: Any = safe_open(path, "np")
        sizes = {key: int(np.prod(reader.get_slice(key).get_shape())) for key in reader.keys()}
    except (OSError, SafetensorError) as problem:
        raise TextFileUnreadable(path=path, reason=str(problem)) from problem

    def find(digest: str, type: TensorType) -> Const:
        if digest not in sizes:
            raise UnknownWeight(digest=digest, type=type)
        shape = static_shape(type)
        if sizes[digest] != int(np.prod(shape, dtype=np.int64)) * type.dtype.numpy.itemsize:
            raise Misfit(f"weight {digest} has {sizes[digest]} bytes, which do not make {type}")

        def load() -> np.ndarray:
            raw: np.ndarray = reader.get_tensor(digest)
            found = hashlib.sha256(raw.view(np.uint8).reshape(-1).data).hexdigest()
            if found != digest:
                raise WeightDamaged(path=path, digest=digest, found=found)
            return raw.view(type.dtype.numpy).reshape(shape)

        return Const.deferred(type.dtype, shape, load)

    return find
