"""Target ``stablehlo``: a module as text, and run by XLA."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from aino_ir.codegen.lower.legality import obstacles, refuse
from aino_ir.codegen.stablehlo.module import ModuleWriter, StableHloModule
from aino_ir.driver.bundle import model_identifier
from aino_ir.driver.pipeline import Compilation
from aino_ir.driver.xla import XlaExecutable
from aino_ir.errors.usage import ExtentsNotGiven
from aino_ir.graph import Module
from aino_ir.op import Trait
from aino_ir.runtime.fileio import DISK, Disk, disk_errors, new_part
from aino_ir.runtime.report import Report
from aino_ir.target import Target

WEIGHTS_SUFFIX = ".safetensors"


def compile_for_xla(compilation: Compilation, module: Module) -> XlaExecutable:
    """An executable that XLA compiles, for every choice of extents when it is first run with it.

    Raises:
        OperatorsUnsupported: ops have no form in StableHLO; all of them are named.
        JaxMissing: jax is not installed.
    """
    optimized = compilation.optimize(module)
    target = compilation.options.target
    decided = [op for op in optimized.main.walk() if op.has(Trait.DATA_DEPENDENT) and op.name != "core.bind"]
    by_data = [(str(op.loc), f"{op.name}: extents of its results are decided by data") for op in decided]
    refuse([*obstacles(optimized.main), *by_data], target)

    def specialize(symbols: Mapping[str, int]) -> StableHloModule:
        return written(optimized, symbols, target)

    executable = XlaExecutable(optimized.main, specialize, Report.of(compilation.facts()))
    executable.report.weight_bytes = executable.weight_bytes
    return executable


def written(module: Module, symbols: Mapping[str, int], target: Target) -> StableHloModule:
    """A module's main function for values of its symbols.

    Raises:
        OperatorsUnsupported: ops have no form in StableHLO; all of them are named.
    """
    writer = ModuleWriter(module.main, symbols)
    result = writer.run(model_identifier(module.name))
    refuse([(o.where, o.what) for o in writer.obstacles], target)
    return result


def write_stablehlo(module: Module, target: Target, place: Path, disk: Disk = DISK) -> list[Path]:
    """Write a module of static extents as MLIR text, and its weights beside it as safetensors.

    The weights are the last arguments of ``main``, in the order of their names ``0 name``, ``1 name`` ...

    Raises:
        ExtentsNotGiven: extents are symbolic.
        OperatorsUnsupported: ops have no form in StableHLO.
        DiskFull, FileNotWritable: the disk refuses; nothing half-written is left.
    """
    symbols = tuple(module.main.symbols)
    if symbols:
        raise ExtentsNotGiven(kind="stablehlo", symbols=", ".join(symbols), first=symbols[0])
    result = written(module, {}, target)
    files = [place]
    if result.weights:
        beside = place.with_name(place.name + WEIGHTS_SUFFIX)
        _write(beside, _packed(result), disk)
        files.append(beside)
    _write(place, result.text.encode("ascii"), disk)
    return files


def _packed(module: StableHloModule) -> bytes:
    from safetensors.numpy import save

    digits = len(str(len(module.weights)))
    named: dict[str, Any] = {
        f"{number:0{digits}} {name}": np.ascontiguousarray(handle.array())
        for number, (name, handle) in enumerate(module.weights)
    }
    return save(named)


def _write(path: Path, data: bytes, disk: Disk) -> None:
    with disk_errors(path), new_part(path.parent, disk, mode=0o666) as part:
        disk.write(part.fd, data)
        part.publish(path, durable=False)
