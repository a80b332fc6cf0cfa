"""AINO, a deep-learning compiler: ``import aino_ir as aino``.

This module is the whole public face.  Every name below is imported on first use, so that importing
AINO costs little and drags in neither torch, onnx nor a compiler.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

__version__ = "0.1.0"

_ROOT = Path(__file__).resolve().parent.parent
if (_ROOT / "pyproject.toml").is_file() and (_ROOT / "driver").is_dir():
    # A checkout: the other rooms are folders beside this one instead of subfolders.
    __path__.append(str(_ROOT))

_PUBLIC = {
    "load": "aino_ir.driver.api:load",
    "compile": "aino_ir.driver.api:compile",
    "quantize": "aino_ir.driver.compression:quantize",
    "distill": "aino_ir.driver.distill:distill",
    "prune": "aino_ir.driver.pruning:prune",
    "to_onnx": "aino_ir.frontends.onnx.export:to_onnx",
    "to_torch": "aino_ir.frontends.torch.export:to_torch",
    "to_relax": "aino_ir.driver.tvm:to_relax",
    "load_executable": "aino_ir.runtime.executable:load_executable",
    "Executable": "aino_ir.runtime.executable:Executable",
    "save": "aino_ir.text:save",
    "parse": "aino_ir.text:parse",
    "verify": "aino_ir.verify:verify",
    "Module": "aino_ir.graph:Module",
    "Builder": "aino_ir.builder:Builder",
    "TensorType": "aino_ir.types:TensorType",
    "Target": "aino_ir.target:Target",
    "PassManager": "aino_ir.passes.manager:PassManager",
    "register_op": "aino_ir.driver.extend:register_op",
    "register_pass": "aino_ir.driver.extend:register_pass",
    "register_target": "aino_ir.driver.extend:register_target",
    "AinoError": "aino_ir.errors:AinoError",
    "errors": "aino_ir.errors:",
}
"""Public name -> ``module:attribute``; an empty attribute stands for the module itself."""

__all__ = ["__version__", *sorted(_PUBLIC)]


def __getattr__(name: str) -> Any:
    place = _PUBLIC.get(name)
    if place is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module_name, _, attribute = place.partition(":")
    module = importlib.import_module(module_name)
    value = getattr(module, attribute) if attribute else module
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})


class _Face(ModuleType):
    """This module's class: importing the submodule `verify` must not hide the function `verify`."""

    def __setattr__(self, name: str, value: object) -> None:
        if isinstance(value, ModuleType) and not _PUBLIC.get(name, ":").endswith(":"):
            return
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Face
