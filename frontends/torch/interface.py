"""Names of a program's dimensions and outputs, read off what the caller passes and gets."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch.utils import _pytree as pytree


def output_names(spec: Any, count: int) -> list[str]:
    """Names of the flattened outputs: ``logits``, ``hidden_states_0`` by where they stand, else ``output``.

    Args:
        spec: torch's tree of the outputs.
        count: leaves of the tree.
    """
    if spec is None or spec.num_leaves != count:
        return [f"output_{i}" for i in range(count)]
    try:
        paths, _ = pytree.tree_flatten_with_path(pytree.tree_unflatten(list(range(count)), spec))
    except (TypeError, ValueError, KeyError, AssertionError):  # an output class that refuses numbers
        return [f"output_{i}" for i in range(count)]
    names = ["_".join(_part(key) for key in path) for path, _ in paths]
    return [name if name and not name[0].isdigit() else f"output_{name}".rstrip("_") for name in names]


def _part(key: Any) -> str:
    for attribute in ("key", "idx", "name"):
        if hasattr(key, attribute):
            return str(getattr(key, attribute))
    return str(key)


def unique(names: Sequence[str]) -> list[str]:
    """The names, numbered where one occurs again."""
    seen: dict[str, int] = {}
    out = []
    for name in names:
        chosen = name
        while chosen in seen:
            seen[name] += 1
            chosen = f"{name}_{seen[name]}"
        seen[chosen] = seen.get(chosen, 0)
        out.append(chosen)
    return out


def dimension_names(
    module: torch.nn.Module, example_inputs: Any, dynamic_shapes: Any
) -> list[dict[int, str]]:
    """Per flattened input, the names of its axes that `dynamic_shapes` gives with `torch.export.Dim`."""
    if dynamic_shapes is None:
        return []
    arguments = _arguments(module, example_inputs)
    if isinstance(dynamic_shapes, (tuple, list)):
        dynamic_shapes = dict(zip(arguments, dynamic_shapes, strict=False))
    return list(_named(arguments, dynamic_shapes))


def _arguments(module: torch.nn.Module, example_inputs: Any) -> dict[str, Any]:
    """Example inputs by parameter name; those behind ``*args`` and ``**kwargs`` stand in them."""
    signature = inspect.signature(module.forward)
    if isinstance(example_inputs, dict):
        return dict(signature.bind(**example_inputs).arguments)
    return dict(signature.bind(*example_inputs).arguments)


def _named(tree: Any, spec: Any) -> Iterator[dict[int, str]]:
    """Names of the axes of each leaf, in the order in which torch flattens."""
    if isinstance(tree, torch.Tensor):
        yield _axes(spec)
    elif isinstance(tree, Mapping):
        for key, part in tree.items():
            yield from _named(part, spec.get(key) if isinstance(spec, Mapping) else None)
    elif isinstance(tree, (tuple, list)):
        parts = spec if isinstance(spec, (tuple, list)) and len(spec) == len(tree) else [None] * len(tree)
        for part, own in zip(tree, parts, strict=True):
            yield from _named(part, own)
    else:
        for _ in pytree.tree_leaves(tree):
            yield {}


def _axes(spec: Any) -> dict[int, str]:
    if isinstance(spec, Mapping):
        pairs = list(spec.items())
    else:
        pairs = list(enumerate(spec)) if isinstance(spec, (tuple, list)) else []
    return {axis: dim.__name__ for axis, dim in pairs if isinstance(getattr(dim, "__name__", None), str)}
