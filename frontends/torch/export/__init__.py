"""A module as a PyTorch module: `to_torch`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from aino_ir.graph import Module

__all__ = ["to_torch"]


def to_torch(
    module: Module, *, trainable: Callable[[str], bool] | None = None, keep_zeros: bool = False
) -> torch.fx.GraphModule:
    """The `main` of a module as a `torch.fx.GraphModule` that can be run, trained, exported and loaded again.

    Constants become parameters and buffers under their own names (``layer.0.weight`` stands in a submodule
    ``layer.0``); a handle that is used twice is one parameter.  Parameters are the float constants of rank 1
    or more that are finite, that the model's author did not call a buffer, and that are neither statistics of
    a batch norm nor scales of quantised numbers.  Tensors are copies: training does not change the module.
    States are buffers that each call changes.  Arithmetic on types that are only stored (bf16, fp8, int4 ...)
    is done in the type that AINO computes in, and rounded where AINO rounds.  Quantised numbers are operators
    of AINO's own, ``torch.ops.aino.quantize`` and its kin: they pass gradients straight through rounding, and
    are quantised numbers again when the module is loaded.  Symbols are read off the inputs' shapes; what AINO
    checks beyond PyTorch (checks of extents) is left out.

    Args:
        module: what `load` gave, before or after passes.
        trainable: names of float constants -> whether they are parameters, in place of the rule above.
        keep_zeros: whether zeros in matrices (of rank 2 or more), as pruning leaves them, stay zero under any
            optimizer: they get no gradient.

    Returns:
        A module that takes the inputs by position or by name and gives the only output, or a tuple.

    Raises:
        TorchMissing: torch is not installed.
        OpNotExportable: an op has no counterpart in PyTorch; names op and place.
        ExtentNotExportable: an extent depends on a symbol that no value's shape tells.
    """
    from aino_ir.frontends.torch import require_torch

    require_torch("aino.to_torch")
    from aino_ir.frontends.torch.export.program import module_of

    return module_of(module, trainable, keep_zeros)
