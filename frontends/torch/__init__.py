"""The PyTorch frontend: modules, exported programs and .pt2 archives become graphs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from aino_ir.errors.torch import TorchMissing

if TYPE_CHECKING:
    from aino_ir.frontends.dim_specs import DimSpec
    from aino_ir.graph import Module

__all__ = ["load_torch"]

OLDEST = (2, 8)
"""The first release of torch that this frontend reads."""


def load_torch(
    source: Any,
    example_inputs: Any = None,
    dynamic_shapes: Any = None,
    dims: Mapping[str, DimSpec] | None = None,
) -> Module:
    """The module of a PyTorch model.

    Args:
        source: an `nn.Module`, a `torch.export.ExportedProgram`, or the path of a .pt2 archive.
        example_inputs: for an `nn.Module` the tuple of inputs to trace it with, or a dict by name.
        dynamic_shapes: for an `nn.Module`, as `torch.export.export` takes them.
        dims: dimensions by name -> an extent that fixes one, or its inclusive bounds ``(low, high)``.

    Parameters share their memory with torch: change them in place only after compiling.

    Raises:
        TorchMissing: torch is not installed.
        TorchError: one of E0161 to E0170, with the Python line at fault.
    """
    require_torch(str(source) if isinstance(source, (str, os.PathLike)) else type(source).__name__)
    import torch

    from aino_ir.frontends.torch.capture import export_module
    from aino_ir.frontends.torch.interface import dimension_names
    from aino_ir.frontends.torch.program import lower_program

    if isinstance(source, torch.export.ExportedProgram):
        return lower_program(source, dims)
    if isinstance(source, (str, os.PathLike)):
        from aino_ir.frontends.torch.archive import read_archive

        return lower_program(read_archive(source), dims)
    program = export_module(source, example_inputs, dynamic_shapes)
    return lower_program(program, dims, dimension_names(source, example_inputs, dynamic_shapes))


def require_torch(what: str) -> None:
    """TorchMissing unless a torch that is new enough can be imported."""
    wanted = ".".join(str(n) for n in OLDEST) + " or newer"
    try:
        import torch
    except ImportError as problem:
        raise TorchMissing(what=what, wanted=wanted, found="it is not installed") from problem
    version = tuple(int(n) for n in torch.__version__.split("+")[0].split(".")[:2])
    if version < OLDEST:
        raise TorchMissing(what=what, wanted=wanted, found=f"{torch.__version__} is installed")
