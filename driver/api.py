"""The Python API: load a model, compile it."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Union

from aino_ir.codegen.c.toolchain import CompilerCalls, find_toolchain
from aino_ir.driver.cache import artifact_key
from aino_ir.driver.pipeline import Compilation, CompileOptions
from aino_ir.errors.usage import UnknownModelKind, UnknownOption
from aino_ir.graph import Module
from aino_ir.runtime.artifact import Artifact
from aino_ir.runtime.executable import Executable
from aino_ir.runtime.reference import ReferenceExecutable
from aino_ir.runtime.store import Store, digest, opened_or_temporary
from aino_ir.target import Target, detect_host, parse_target

Dims = Mapping[str, Union[int, tuple[int, int]]]
AnyExecutable = Union[Executable, ReferenceExecutable]

CHOICES = {"numerics": ("strict", "default", "fast"), "verify": ("auto", "off", "each-pass"), "level": (0, 1, 2, 3)}
"""Options with a fixed set of values."""


def load(x: Any, example_inputs: Any = None, dynamic_shapes: Any = None, dims: Dims | None = None) -> Module:
    """Read a model as a module.

    Args:
        x: a path (.onnx, .air), an `onnx.ModelProto`, serialized ONNX bytes, or a Module.
        example_inputs, dynamic_shapes: for PyTorch models.
        dims: bounds or values of symbols, such as ``{"batch": (1, 64), "seq": 128}``.

    Raises:
        UnknownModelKind: nothing here reads such a thing.
        AinoError: what is wrong with the model, with the node's name.
    """
    if isinstance(x, Module):
        return x
    suffix = Path(x).suffix.lower() if isinstance(x, (str, os.PathLike)) else ""
    if suffix == ".air":
        from aino_ir.text import load_module

        return load_module(Path(x))
    if suffix in ("", ".onnx") and _is_onnx(x):
        from aino_ir.frontends.onnx import load_onnx

        return load_onnx(x, dims=dims)
    raise UnknownModelKind(what=suffix or type(x).__name__)


def _is_onnx(x: Any) -> bool:
    return isinstance(x, (str, os.PathLike, bytes, bytearray, memoryview)) or type(x).__name__ == "ModelProto"


def compile(
    x: Any,
    target: str | Target = "c",
    *,
    example_inputs: Any = None,
    dims: Dims | None = None,
    threads: int | None = None,
    level: int = 2,
    numerics: str = "default",
    verify: str = "auto",
    strict: bool = False,
    tune: float = 0,
    cache: bool = True,
    calls: CompilerCalls | None = None,
) -> AnyExecutable:
    """Compile a model for a target.

    Args:
        x: what `load` takes.
        target: ``c`` (this CPU), ``c:avx2``, ``c:avx2+avx512``, ``reference`` ...
        example_inputs: for PyTorch models.
        dims: bounds or values of symbols.
        threads: default for runs; None = the CPUs this process may use.
        level: 0 lower only, 1 fold, 2 all passes, 3 and measurement.
        numerics: strict (exact rewrites only), default, or fast.
        verify: "auto" validates every rewrite site, "off" does not.
        strict: an op without native code is an error.
        tune: seconds that may be spent on measuring candidates.
        cache: whether compiled models are kept and reused.
        calls: counts compiler processes (for tests and reports).

    Returns:
        An executable; see `Executable.run` and `.report`.
    """
    for name, value in (("numerics", numerics), ("verify", verify), ("level", level)):
        if value not in CHOICES[name]:
            raise UnknownOption(option=name, choices=CHOICES[name], got=value)
    goal = target if isinstance(target, Target) else parse_target(target, detect_host())
    if goal.name == "reference":
        return ReferenceExecutable(load(x, example_inputs, dims=dims))
    options = CompileOptions(goal, level, numerics, verify, strict, tune)
    counter = calls if calls is not None else CompilerCalls()
    with opened_or_temporary(cache) as store:
        key = _cache_key(x, options, dims, store, counter)
        if key is not None:
            found = store.get_path("artifact", key)
            if found is not None:
                return Executable(Artifact.open(found, verify=False), threads)
        module = load(x, example_inputs, dims=dims)
        with _collector_frozen():
            toolchain = find_toolchain(store, calls=counter)
            artifact = Compilation(options, toolchain, store, counter).run(module)
        if key is not None:
            store.put("artifact", key, bytes(artifact.content))
    return Executable(artifact, threads)


def _cache_key(x: Any, options: CompileOptions, dims: Dims | None, store: Store, calls: CompilerCalls) -> str | None:
    """The store key of a compiled model, or None when the model cannot be told by its bytes."""
    content = _model_digest(x)
    if content is None:
        return None
    toolchain = find_toolchain(store, calls=calls)
    return artifact_key(
        {
            "model": content,
            "dims": repr(sorted(dims.items())) if dims else "",
            "options": repr(replace(options, jobs=None)),
            "compiler": toolchain.identity,
        }
    )


def _model_digest(x: Any) -> str | None:
    if isinstance(x, (bytes, bytearray, memoryview)):
        return digest(bytes(x))
    if isinstance(x, (str, os.PathLike)) and Path(x).suffix.lower() == ".onnx":
        from aino_ir.frontends.onnx.fingerprint import model_files

        return digest(*(part for path in model_files(Path(x)) for part in (path.name, path.read_bytes())))
    if type(x).__name__ == "ModelProto":
        return digest(x.SerializeToString(deterministic=True))
    return None


@contextmanager
def _collector_frozen() -> Iterator[None]:
    """Compile without garbage collection: graphs are large and hold few cycles (3x on big clones)."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
