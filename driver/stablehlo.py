"""Target ``stablehlo``: a module as text, and run by XLA."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from aino_ir.codegen.lower.legality import refuse
from aino_ir.codegen.lower.outline import outline
from aino_ir.codegen.stablehlo.decided import decided_by_data
from aino_ir.codegen.stablehlo.module import ModuleWriter, StableHloModule
from aino_ir.driver.bundle import model_identifier
from aino_ir.driver.pipeline import Compilation
from aino_ir.driver.xla import PjrtDevice, XlaExecutable, XlaFunction
from aino_ir.errors.usage import ExtentsNotGiven
from aino_ir.graph import Function, Module
from aino_ir.runtime.fileio import DISK, Disk, disk_errors, new_part
from aino_ir.runtime.report import Report
from aino_ir.target import Target

WEIGHTS_SUFFIX = ".safetensors"


def compile_for_xla(compilation: Compilation, module: Module) -> XlaExecutable:
    """An executable whose native functions XLA compiles, for every choice of extents when it is first met.

    What StableHLO has no form for (extents decided by data, strings, sequences) runs in Python between them.

    Raises:
        OperatorsUnsupported: ops would run in Python, and `strict` was asked for, or Python cannot run them.
        JaxMissing: jax is not installed.
    """
    optimized = compilation.optimize(module)
    device = PjrtDevice("cpu")
    compilation.turned_down.update(decided_by_data(optimized.main))
    while True:
        host = compilation.host_program(optimized) or outline(optimized.main, {})
        functions = [host.module.functions[name] for name in host.natives]
        written_at_once, refused = _static_modules(functions)
        if not refused:
            break
        compilation.turned_down.update(refused)

    def native(function: Function) -> XlaFunction:
        def specialize(symbols: Mapping[str, int]) -> StableHloModule:
            at_once = written_at_once.pop(function.name, None)
            return at_once or written(function, symbols, compilation.options.target)

        return XlaFunction(function, specialize, device)

    natives = {function.name: native(function) for function in functions}
    facts = {"python_nodes": [asdict(op) for op in host.host], "weight_bytes": device.weight_bytes}
    return XlaExecutable(host.module, natives, Report.of({**compilation.facts(), **facts}))


def _static_modules(functions: Sequence[Function]) -> tuple[dict[str, StableHloModule], dict[int, str]]:
    """The modules of the functions without symbols by name, and ids of ops that have no form -> why."""
    modules, refused = {}, {}
    for function in functions:
        if not tuple(function.symbols):
            writer = ModuleWriter(function, {})
            modules[function.name] = writer.run(model_identifier(function.name))
            refused.update({o.op: o.what.partition(": ")[2] for o in writer.obstacles if o.op is not None})
    return modules, refused


def written(
    function: Function, symbols: Mapping[str, int], target: Target, name: str = ""
) -> StableHloModule:
    """A function for values of its symbols; `name` is the module's, by default the function's.

    Raises:
        OperatorsUnsupported: ops have no form in StableHLO; all of them are named.
    """
    writer = ModuleWriter(function, symbols)
    result = writer.run(model_identifier(name or function.name))
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
    result = written(module.main, {}, target, module.name)
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
