"""The Python API: load a model, compile it."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from aino_ir.codegen.c.toolchain import CompilerCalls
from aino_ir.driver.bundle import program_report
from aino_ir.driver.cache import compilation_key, keep_artifact, stored_artifact
from aino_ir.driver.extend import load_entry_points
from aino_ir.driver.gpu import AnyToolchain, kernels_alone, this_host, toolchain_for
from aino_ir.driver.libraries import LIBRARIES, installed_version
from aino_ir.driver.pipeline import Compilation, CompileOptions, Progress
from aino_ir.driver.xla import XlaExecutable
from aino_ir.dtypes import i32
from aino_ir.errors.toolchain import TvmKernelsAlone
from aino_ir.errors.usage import ArtifactIsNoModel, OptionTooSmall, UnknownModelKind, UnknownOption
from aino_ir.graph import Module
from aino_ir.op import Op
from aino_ir.ops.nn import MatMul
from aino_ir.ops.quant import Dequantize
from aino_ir.passes.base import Pass
from aino_ir.passes.fold_constants import FoldConstants
from aino_ir.passes.integer_contractions import IntegerContractions
from aino_ir.passes.manager import PassManager
from aino_ir.runtime.artifact import Artifact
from aino_ir.runtime.executable import Executable, open_executable
from aino_ir.runtime.null import NullExecutable
from aino_ir.runtime.reference import ReferenceExecutable
from aino_ir.runtime.report import Report
from aino_ir.runtime.store import Store, opened_or_temporary
from aino_ir.target import Target, parse_target

Dims = Mapping[str, int | tuple[int, int]]
AnyExecutable = Executable | ReferenceExecutable | NullExecutable | XlaExecutable

CHOICES = {
    "numerics": ("strict", "default", "fast"),
    "verify": ("auto", "off", "each-pass"),
    "level": (0, 1, 2, 3),
}
"""Options with a fixed set of values."""


def load(x: Any, example_inputs: Any = None, dynamic_shapes: Any = None, dims: Dims | None = None) -> Module:
    """Read a model as a module; quantised contractions (QDQ) become integer ones, exact on every target.

    Args:
        x: a path (.onnx, .air, .pt2, .mlir), an `onnx.ModelProto`, serialized ONNX bytes, a
            `torch.export.ExportedProgram`, an `nn.Module`, a `jax.stages.Lowered`, a
            `jax.export.Exported`, or a Module.
        example_inputs: for an `nn.Module`, the tuple of inputs that it is traced with.
        dynamic_shapes: for an `nn.Module`, as `torch.export.export` takes them.
        dims: bounds or values of symbols, such as ``{"batch": (1, 64), "seq": 128}``.

    Raises:
        UnknownModelKind: nothing here reads such a thing.
        AinoError: what is wrong with the model, with the node's name.
    """
    if isinstance(x, Module):
        return x
    load_entry_points()
    suffix = Path(x).suffix.lower() if isinstance(x, (str, os.PathLike)) else ""
    if suffix == ".air":
        from aino_ir.text.files import load_module

        return load_module(Path(x))
    if suffix == ".aino":
        raise ArtifactIsNoModel(path=os.fspath(x))
    if suffix in ("", ".onnx") and _is_onnx(x):
        from aino_ir.frontends.onnx import load_onnx

        return with_exact_integers(load_onnx(x, dims=dims))
    if suffix == ".mlir" or _is_lowered(x):
        from aino_ir.frontends.stablehlo import load_stablehlo

        return load_stablehlo(x, dims)
    if suffix == ".pt2" or _is_torch(x):
        from aino_ir.frontends.torch import load_torch

        return with_exact_integers(load_torch(x, example_inputs, dynamic_shapes, dims), (FoldConstants(),))
    raise UnknownModelKind(what=suffix or type(x).__name__)


def _is_lowered(x: Any) -> bool:
    """Whether JAX lowered x (`jax.stages.Lowered`, `jax.export.Exported`), without importing jax."""
    return type(x).__name__ in ("Lowered", "Exported") and type(x).__module__.partition(".")[0] == "jax"


def with_exact_integers(module: Module, before: Sequence[Pass] = ()) -> Module:
    """The module, its dequantised contractions as integer ones, so that all targets give the same bits.

    `before` runs first, where numbers are not yet the constants that they will be.
    """
    if any(map(_computes_with_codes, module.main.block)):
        PassManager((*before, IntegerContractions())).run(module)
    return module


def _computes_with_codes(op: Op) -> bool:
    """Whether an op decodes numbers, or multiplies whole ones."""
    return isinstance(op, Dequantize) or (isinstance(op, MatMul) and op.result.dtype is i32)


def _is_torch(x: Any) -> bool:
    """Whether x is a module or an exported program, without importing torch."""
    torch = sys.modules.get("torch")
    if torch is None:
        return False
    return isinstance(x, torch.nn.Module) or type(x).__name__ == "ExportedProgram"


def _is_onnx(x: Any) -> bool:
    return isinstance(x, (str, os.PathLike, bytes, bytearray, memoryview)) or type(x).__name__ == "ModelProto"


def compile(
    x: Any,
    target: str | Target = "c",
    *,
    example_inputs: Any = None,
    dynamic_shapes: Any = None,
    dims: Dims | None = None,
    threads: int | None = None,
    level: int = 2,
    numerics: str = "default",
    verify: str = "auto",
    strict: bool = False,
    tune: float = 0,
    libraries: Sequence[str] = LIBRARIES,
    cache: bool = True,
    calls: CompilerCalls | None = None,
    progress: Progress | None = None,
) -> AnyExecutable:
    """Compile a model for a target.

    Args:
        x: what `load` takes.
        target: ``c`` (this CPU), ``c:avx2``, ``c:avx2+avx512``, ``cuda`` (the first GPU), ``cuda:sm_80``,
            ``stablehlo``, ``reference`` ...
        example_inputs: for PyTorch models.
        dynamic_shapes: for an `nn.Module`, as `torch.export.export` takes them.
        dims: bounds or values of symbols.
        threads: default for runs; None = the CPUs this process may use.
        level: 0 lower only, 1 fold, 2 all passes, 3 and measurement (20 seconds unless `tune` says more).
        numerics: strict (exact rewrites only), default, or fast.
        verify: "auto" validates every rewrite site, the whole module and every new kernel; "each-pass"
            also verifies the module after each pass, and tries kernels for GPUs emulated on this processor;
            "off" does none of this.
        strict: an op without native code is an error.
        tune: seconds that may be spent on measuring candidates of kernels, at any level.
        libraries: NVIDIA's libraries that may take the place of kernels where they are measured to be faster:
            ``cublas`` or none, ``()``.
        cache: whether compiled models are kept and reused.
        calls: counts compiler processes (for tests and reports).
        progress: called as (stage, done, total) while things happen; total is 0 when it is not known.

    Returns:
        An executable; see `Executable.run` and `.report`.
    """
    options = compile_options(
        target,
        level=level,
        numerics=numerics,
        verify=verify,
        strict=strict,
        tune=tune,
        libraries=tuple(libraries),
    )
    if threads is not None and (not isinstance(threads, int) or threads < 1):
        raise OptionTooSmall(option="threads", kind="whole number", least=1, got=threads)
    missing = options.target.name == "tvm" and kernels_alone(options.target, this_host())
    if missing:
        raise TvmKernelsAlone(target=str(options.target), missing=missing)
    compilation = Compilation(options, progress=progress)
    without_artifact = _WITHOUT_ARTIFACT.get(options.target.name)
    if without_artifact is not None:
        return without_artifact(compilation, load(x, example_inputs, dynamic_shapes, dims))
    with opened_or_temporary(cache) as store:
        toolchain = toolchain_for(options.target, store, calls)
        kept = cache and not store.temporary
        tools = f"{toolchain.identity} {measured_library(options)}"
        key = compilation_key(x, options, dims, tools) if kept else None
        artifact = stored_artifact(store, key) if key is not None else None
        if artifact is None:
            with compilation.stage("load"):
                module = load(x, example_inputs, dynamic_shapes, dims)
            artifact = _new_artifact(compilation, module, toolchain, store, key, calls)
    return open_executable(artifact, threads)


def _new_artifact(
    compilation: Compilation,
    module: Module,
    toolchain: AnyToolchain,
    store: Store,
    key: str | None,
    calls: CompilerCalls | None,
) -> Artifact:
    """A compiled module, kept in the store where there is a key for it."""
    with collector_frozen():
        writer = compilation.artifact(module, toolchain, store, calls)
    with compilation.stage("write"):
        return keep_artifact(store, key, writer)


def measured_library(options: CompileOptions) -> str:
    """The version of the library that is measured in a compilation; what it is decides what comes out."""
    measures = options.target.name == "cuda" and (options.tune or options.level >= 3)
    return installed_version()[0] if measures and options.libraries else ""


def compile_options(target: str | Target = "c", **chosen: Any) -> CompileOptions:
    """Checked options of a compilation.

    Raises:
        UnknownOption: an option has none of its values.
        OptionTooSmall: `tune` is no number of seconds.
        UnknownTarget: there is no such target.
    """
    for name, choices in CHOICES.items():
        if name in chosen and chosen[name] not in choices:
            raise UnknownOption(option=name, choices=choices, got=chosen[name])
    for name in chosen.get("libraries", ()):
        if name not in LIBRARIES:
            raise UnknownOption(option="libraries", choices=LIBRARIES, got=name)
    tune = chosen.get("tune", 0)
    if isinstance(tune, bool) or not isinstance(tune, (int, float)) or not tune >= 0:
        raise OptionTooSmall(option="tune", kind="number", least=0, got=tune)
    load_entry_points()
    goal = target if isinstance(target, Target) else parse_target(target, this_host())
    return CompileOptions(goal, **chosen | {"tune": float(tune)})  # 0 and 0.0 are one entry of the cache


def _compiled_to_nothing(compilation: Compilation, module: Module) -> NullExecutable:
    """Everything that the C target does but compiling and running."""
    with collector_frozen():
        program = compilation.program(module)
        emissions = compilation.emissions(program.plans)
    text = sum(len(u.text) for e in emissions.values() for u in e.units)
    facts = {"library_bytes": 0, "source_bytes": text, **compilation.facts()}
    main = program.module.main
    inputs = [(n, v.type) for n, v in zip(main.input_names, main.inputs, strict=True)]
    outputs = [(n, v.type) for n, v in zip(main.output_names, main.outputs, strict=True)]
    return NullExecutable(inputs, outputs, Report.of({**program_report(program), **facts}))


def _compiled_by_xla(compilation: Compilation, module: Module) -> XlaExecutable:
    from aino_ir.driver.stablehlo import compile_for_xla

    with collector_frozen():
        return compile_for_xla(compilation, module)


def _interpreted(compilation: Compilation, module: Module) -> ReferenceExecutable:
    return ReferenceExecutable(module)


_WITHOUT_ARTIFACT: dict[str, Callable[[Compilation, Module], AnyExecutable]] = {
    "null": _compiled_to_nothing,
    "reference": _interpreted,
    "stablehlo": _compiled_by_xla,
}
"""Targets whose executables live in this process only."""


@contextmanager
def collector_frozen() -> Iterator[None]:
    """Compile without garbage collection: graphs are large and hold few cycles (3x on big clones)."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
