"""From an emitted file to object code, by TVM."""

from __future__ import annotations

import importlib.util
import inspect
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType
from typing import Any

from aino_ir.errors.toolchain import TvmFailed, TvmMissing, TvmRefused
from aino_ir.runtime.store import Store, digest

KIND = "tvm-object"
_SHOWN = 2000


def tvm_version() -> str:
    """The version of the installed TVM.

    Raises:
        TvmMissing: none is installed.
    """
    try:
        return version("apache-tvm")
    except PackageNotFoundError as problem:
        raise TvmMissing() from problem


def built_object(text: str, name: str, store: Store) -> bytes:
    """The object file of an emitted file's kernels; the same text is built once.

    Args:
        text: of the file.
        name: what it is called in messages and tracebacks.
        store: where objects are kept.

    Raises:
        TvmMissing: TVM is not installed.
        TvmRefused: TVM's scheduler does not take the schedules of some kernels.
        TvmFailed: TVM does not take the file.
    """
    key = digest(KIND, tvm_version(), text)
    found = store.get(KIND, key)
    if found is None:
        with store.work_folder() as folder:
            found = _build(text, name, folder)
        store.put(KIND, key, found)
    return found


def _build(text: str, name: str, folder: Path) -> bytes:
    place = folder / f"{name}.py"
    place.write_text(text, encoding="ascii")
    output = folder / f"{name}.o"
    try:
        script = load_script(place)
        refused = _refused(script)
        if refused:
            raise TvmRefused(kernels=refused)
        library: Any = script.build()
        library.mod.write_to_file(str(output), "o")
    except TvmRefused:
        raise
    except Exception as problem:  # TVM raises whatever its C++ throws
        raise TvmFailed(
            what=name, kind=type(problem).__name__, lines=str(problem).strip()[-_SHOWN:]
        ) from problem
    return output.read_bytes()


def _refused(script: Any) -> dict[str, str]:
    """Kernels whose schedule TVM's scheduler does not take, with its reason."""
    found = {}
    for name, (_, transform) in script.KERNELS.items():
        if transform is None:
            continue
        try:
            script.scheduled(name)
        except Exception as problem:  # TVM raises whatever its C++ throws
            found[name] = f"{type(problem).__name__}: {str(problem).strip()[-_SHOWN:]}"
    return found


def load_script(path: Path) -> ModuleType:
    """An emitted file as a module (TVMScript is read from its source, so the file must be there)."""
    spec = importlib.util.spec_from_file_location(f"aino_tvm_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with _stacks_without_lines():
        spec.loader.exec_module(module)
    return module


_READS_FUNCTIONS = "tvm.tirx.script.parser.entry"
_READING = threading.Lock()


@contextmanager
def _stacks_without_lines() -> Iterator[None]:
    """Spare TVM the source lines of the whole stack, which it looks up for every function that it reads.

    It needs the frames, and lines of classes alone.  Other threads see no difference.
    """
    reader = importlib.import_module(_READS_FUNCTIONS)
    with _READING:
        before, reader.inspect = reader.inspect, _Inspect(threading.get_ident())  # type: ignore[attr-defined]
        try:
            yield
        finally:
            reader.inspect = before  # type: ignore[attr-defined]


class _Inspect:
    """The module `inspect`, whose stacks have no source lines on one thread."""

    def __init__(self, thread: int) -> None:
        self.thread = thread

    def __getattr__(self, name: str) -> Any:
        return getattr(inspect, name)

    def stack(self, context: int = 1) -> list[inspect.FrameInfo]:
        """The caller's stack."""
        return inspect.stack(0 if threading.get_ident() == self.thread else context)[1:]
