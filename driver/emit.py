"""What a model becomes on its way to an artifact, as files: IR, loops, or C that builds alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from aino_ir.codegen.c.backend import Emission
from aino_ir.codegen.c.compile import compile_units
from aino_ir.codegen.c.footprint import footprint
from aino_ir.codegen.c.standalone import write_standalone
from aino_ir.codegen.c.toolchain import find_toolchain
from aino_ir.codegen.cuda.folder import write_cuda
from aino_ir.codegen.lower.constants import constant_bytes
from aino_ir.codegen.lower.legality import interface_obstacles
from aino_ir.driver.api import Dims, collector_frozen, compile_options, load
from aino_ir.driver.bundle import whole
from aino_ir.driver.gpu import this_host
from aino_ir.driver.pipeline import Compilation, CompileOptions, Progress
from aino_ir.driver.program import Program
from aino_ir.errors.base import EnvironmentFault
from aino_ir.errors.usage import OneVariantWanted, SourcesNeedPython, TargetRunsNothing
from aino_ir.graph import Module
from aino_ir.loops.printer import print_loops
from aino_ir.passes.plan_memory import used_constants
from aino_ir.plan import Plan, runs
from aino_ir.runtime.fileio import DISK, Disk, disk_errors, new_part
from aino_ir.runtime.report import device_line
from aino_ir.runtime.store import opened_or_temporary
from aino_ir.text import save

KINDS = ("c", "cu", "air", "loops", "onnx", "stablehlo", "tvm")
"""What can be written."""

LANGUAGES = {"stablehlo": "stablehlo", "tvm": "tvm", "cu": "cuda"}
"""Kind -> the target that it is for, where that is not C."""

DEFAULT_GPU = "cuda:sm_80"
"""What CUDA C++ is written for where there is no GPU."""

INLINE_LIMIT = 1 << 30
"""Bytes of weights that an ONNX file holds itself; protobuf ends at 2 GiB."""


def emit_files(
    x: Any,
    kind: str,
    place: Path,
    target: str = "c",
    *,
    dims: Dims | None = None,
    progress: Progress | None = None,
    tell: Callable[[str], None] | None = None,
    **options: Any,
) -> list[Path]:
    """Write what a model becomes; no C compiler is needed.

    Args:
        x: what `load` takes.
        kind: ``air`` or ``onnx`` (the module after the passes), ``loops`` (the kernels), ``c`` (a folder
            that builds alone), ``cu`` (the same in CUDA C++), ``stablehlo`` (MLIR text, weights in a file
            beside it), ``tvm`` (a Python file of kernels in TVMScript with their schedules, weights in a
            file beside it).
        place: the file; for ``c`` and ``cu`` the folder.
        target: for which device; ``c`` writes one instruction set.
        dims: bounds or values of symbols.
        progress: as for `compile`.
        tell: gets lines about what was written: the flash and RAM of a device.
        options: level, numerics, verify, strict as for `compile`.

    Returns:
        The files written.

    Raises:
        SourcesNeedPython: C was asked for, and ops have no native code.
        OneVariantWanted: C was asked for several instruction sets.
        TargetRunsNothing: the target is none for C.
        DiskFull, FileNotWritable: the disk refuses; nothing half-written is left.
    """
    language = LANGUAGES.get(kind, "c")
    if target == "c":
        target = language
    remarks = []
    if target == "cuda" and not this_host().gpu:
        target = DEFAULT_GPU
        remarks.append(f"there is no GPU here: the sources are for {target}")
    chosen = compile_options(target, **options)
    if chosen.target.name != language:
        raise TargetRunsNothing(target=target, what=f"--emit {kind}")
    compilation = Compilation(chosen, progress=progress, remarks=remarks)
    with compilation.stage("load"):
        module = load(x, dims=dims)
    with collector_frozen():
        written = _WRITERS[kind](compilation, module, place)
    if tell is not None:
        for line in compilation.remarks:
            tell(line)
    return written


def _write_air(compilation: Compilation, module: Module, place: Path) -> list[Path]:
    module = compilation.optimize(module)
    return [save(module, place)]


def _write_onnx(compilation: Compilation, module: Module, place: Path) -> list[Path]:
    with compilation.stage("passes"):
        module = compilation.optimize(module)
    return write_onnx(module, place)


def write_onnx(module: Module, place: Path, disk: Disk = DISK, limit: int = INLINE_LIMIT) -> list[Path]:
    """Write a module as an ONNX model; weights of more than `limit` bytes go to a file beside it.

    Raises:
        OpNotExportable, ExtentNotExportable: ONNX has nothing for an op or an extent.
        DiskFull, FileNotWritable: the disk refuses; nothing half-written is left.
    """
    from aino_ir.frontends.onnx.export import external_weights, to_onnx

    model = to_onnx(module)
    beside = place.with_name(f"{place.name}.data")
    written = [place]
    if sum(len(t.raw_data) for t in model.graph.initializer) > limit:
        with disk_errors(beside), new_part(beside.parent, disk, mode=0o666) as part:
            for data in external_weights(model, beside.name):
                disk.write(part.fd, data)
            part.publish(beside, durable=False)
        written.append(beside)
    with disk_errors(place), new_part(place.parent, disk, mode=0o666) as part:
        disk.write(part.fd, model.SerializeToString(deterministic=True))
        part.publish(place, durable=False)
    return written


def _write_stablehlo(compilation: Compilation, module: Module, place: Path) -> list[Path]:
    from aino_ir.driver.stablehlo import write_stablehlo

    return write_stablehlo(compilation.optimize(module), compilation.options.target, place)


def _write_loops(compilation: Compilation, module: Module, place: Path) -> list[Path]:
    (functions,) = _one_variant(compilation, module, "loops").plans.values()
    kernels = {r.kernel: p.kernels[r.kernel] for p in functions.values() for r in runs(p)}
    text = "\n\n".join(print_loops(kernel.function) for kernel in kernels.values())
    write_text(place, text + "\n")
    return [place]


def _write_tvm(compilation: Compilation, module: Module, place: Path) -> list[Path]:
    program = native_program(compilation, module, "tvm")
    (plan,) = program.functions.values()
    emission = next(iter(compilation.emissions(program.plans).values()))
    write_text(place, emission.script)
    beside = place.with_suffix(".weights")
    pieces = list(_weights(plan))
    if not pieces:
        return [place]
    with disk_errors(beside), new_part(beside.parent, DISK, mode=0o666) as part:
        for offset, data in pieces:
            DISK.seek(part.fd, offset)
            DISK.write(part.fd, data)
        part.publish(beside, durable=False)
    return [place, beside]


def _write_c(compilation: Compilation, module: Module, place: Path) -> list[Path]:
    program = native_program(compilation, module, "c")
    (plan,) = program.functions.values()
    emission = next(iter(compilation.emissions(program.plans).values()))
    target = _variant(compilation.options)
    if target.system == "none":
        compilation.remarks.append(device_line(_device_facts(compilation, plan, emission)))
    return write_standalone(place, emission, plan, target, _weights(plan))


def _write_cu(compilation: Compilation, module: Module, place: Path) -> list[Path]:
    program = native_program(compilation, module, "cu")
    (plan,) = program.functions.values()
    emission = next(iter(compilation.emissions(program.plans).values()))
    return write_cuda(place, emission, plan, _variant(compilation.options), _weights(plan))


def _device_facts(compilation: Compilation, plan: Plan, emission: Emission) -> dict[str, int]:
    """Flash and RAM; the code counts where a compiler is at hand."""
    constants = sum(whole(b.bytes) for b in used_constants(plan))
    target = compilation.options.target
    try:
        with opened_or_temporary() as store:
            tool = find_toolchain(store, target=target)
            (archive,) = compile_units(emission.units, emission.headers, tool, store).values()
    except EnvironmentFault:
        return footprint(plan, constants).facts()
    return footprint(plan, constants, archive).facts()


def native_program(compilation: Compilation, module: Module, kind: str) -> Program:
    """A module that is all native, lowered."""
    program = _one_variant(compilation, module, kind)
    if program.host is not None:
        found = [f"{op.op}: {op.reason} ({op.node})" for op in program.host.host]
        found += [what for _, what in interface_obstacles(program.module.main)]
        raise SourcesNeedPython(kind=kind, count=len(program.host.host), operators="; ".join(found))
    return program


def _one_variant(compilation: Compilation, module: Module, kind: str) -> Program:
    target = compilation.options.target
    if len(target.variants) > 1:
        raise OneVariantWanted(kind=kind, target=target, count=len(target.variants))
    return compilation.program(module)


def _variant(options: CompileOptions) -> Any:
    return options.target.variant(options.target.isa)


def _weights(plan: Plan) -> Iterator[tuple[int, bytes]]:
    for buffer in used_constants(plan):
        yield int(buffer.offset), constant_bytes(buffer)  # type: ignore[arg-type]


def write_text(path: Path, text: str, disk: Disk = DISK) -> None:
    """Write a text file: afterwards the whole of it is there, or what was before.

    Raises:
        DiskFull, FileNotWritable: the disk refuses.
    """
    with disk_errors(path), new_part(path.parent, disk, mode=0o666) as part:
        disk.write(part.fd, text.encode("utf-8"))
        part.publish(path, durable=False)


_WRITERS = {
    "air": _write_air,
    "onnx": _write_onnx,
    "loops": _write_loops,
    "c": _write_c,
    "cu": _write_cu,
    "stablehlo": _write_stablehlo,
    "tvm": _write_tvm,
}
"""Kind -> how it is written."""
