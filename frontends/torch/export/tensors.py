"""Constants and states of a module as parameters and buffers, under the names that they have."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable
from typing import Any

import numpy as np
import torch
from torch import fx, nn

from aino_ir.constants import Const
from aino_ir.dtypes import DType
from aino_ir.frontends.torch.dtypes import STORED

Trainable = Callable[[str], bool]

_BITS = {1: np.uint8, 2: np.int16}

TRAINED = {"f64", "f32", "f16", "bf16"}
"""Dtypes of parameters."""


class Tensors:
    """The parameters and buffers of a module that is being written.

    Attributes:
        root: holds them, in submodules after the parts of their names.
        handles: path -> the constant.
        states: paths of the buffers that calls change, in the order of the states.
    """

    def __init__(self, trainable: Trainable | None, fixed: Collection[tuple[object, ...]]) -> None:
        self.root = nn.Module()
        self.handles: dict[str, Const] = {}
        self.states: list[str] = []
        self._trainable = trainable
        self._fixed = fixed
        self._paths: dict[tuple[object, ...], str] = {}
        self._taken: set[str] = set()
        self._passing: dict[str, torch.Tensor] = {}

    def of(self, const: Const) -> str:
        """The path of a constant; a handle that is used twice has one."""
        found = self._paths.get(const.identity)
        if found is None:
            found = self._added(const)
            self._paths[const.identity] = found
        return found

    def state(self, name: str, tensor: torch.Tensor) -> str:
        """The path of a buffer that calls change."""
        path = self.unique(name)
        self._register(path, tensor)
        self.states.append(path)
        return path

    def anchor(self) -> str:
        """The path of an empty tensor that moves to other devices with the module."""
        if not self._paths.get(("anchor",)):
            path = self._paths["anchor",] = self.unique("anchor")
            self._register(path, torch.empty(0))
            self._passing[path] = torch.empty(0)
        return self._paths["anchor",]

    def restore_passing(self, module: nn.Module) -> None:
        """Leave out of a module's state what has no name of its own; making an fx module forgets that."""
        for path in self._passing:
            holder, _, leaf = path.rpartition(".")
            owner = module.get_submodule(holder)
            owner.register_buffer(leaf, owner.get_buffer(leaf), persistent=False)

    def _added(self, const: Const) -> str:
        tensor = tensor_of(const.array(), const.dtype)
        path = self.unique(const.name or "constant")
        self.handles[path] = const
        if self._is_trained(const, tensor):
            self._register(path, nn.Parameter(tensor))
        else:
            self._register(path, tensor)
            if not const.name:
                self._passing[path] = tensor
        return path

    def _is_trained(self, const: Const, tensor: torch.Tensor) -> bool:
        if const.dtype.name not in TRAINED:
            return False
        if self._trainable is not None:
            return self._trainable(const.name)
        if tensor.dim() == 0 or const.identity in self._fixed:
            return False
        return bool(torch.isfinite(tensor).all())

    def _register(self, path: str, tensor: torch.Tensor) -> None:
        *parts, leaf = path.split(".")
        owner = self.root
        for part in parts:
            if part not in owner._modules:
                owner.add_module(part, nn.Module())
            owner = owner.get_submodule(part)
        if isinstance(tensor, nn.Parameter):
            owner.register_parameter(leaf, tensor)
        else:
            owner.register_buffer(leaf, tensor)

    def unique(self, name: str) -> str:
        """A path that is free: no other tensor's, and neither inside nor around another's."""
        parts = [_attribute(part) for part in name.split(".")[:16]]
        stem = ".".join(part for part in parts if part) or "constant"
        path, number = stem, 0
        while not self._is_free(path):
            number += 1
            path = f"{stem}_{number}"
        self._taken.update((path, *(f"{holder}." for holder in _holders(path))))
        return path

    def _is_free(self, path: str) -> bool:
        inside = self._taken & set(_holders(path))
        return not inside and path not in self._taken and f"{path}." not in self._taken


def _attribute(text: str) -> str:
    """A text as the name of an attribute that modules do not have."""
    clean = re.sub(r"[^A-Za-z0-9_]+", "_", text, flags=re.ASCII)[:80]
    return f"{clean}_" if hasattr(fx.GraphModule, clean) or clean in RESERVED else clean


RESERVED = {"graph", "meta", "training"}
"""Names that a GraphModule gives its objects, beside those of its class."""


def _holders(path: str) -> Iterable[str]:
    """The paths of the modules around a tensor."""
    parts = path.split(".")
    return [".".join(parts[:i]) for i in range(1, len(parts))]


def tensor_of(array: np.ndarray[Any, Any], dtype: DType) -> torch.Tensor:
    """A copy of an array as a tensor that holds values of a dtype."""
    array = np.array(array, order="C")  # a copy, which training may change
    if dtype.bits < 8 and dtype.is_integer:
        array = array.astype(np.int8 if dtype.is_signed else np.uint8)
    try:
        return torch.from_numpy(array)
    except TypeError:  # torch does not know numpy's name of the dtype: the bits pass through integers
        bits = torch.from_numpy(array.view(_BITS[array.dtype.itemsize]))
        return bits.view(STORED[dtype.name])
