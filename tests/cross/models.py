"""Whole networks for other processors: a module and its inputs, by name."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from aino_ir.driver.api import load
from aino_ir.graph import Module

Inputs = list[np.ndarray[Any, Any]]


def _workload(name: str) -> tuple[Module, Inputs]:
    """A network of the benchmark, by its name there."""
    import torch

    from benchmarks.workloads import build, example_inputs

    arrays = list(example_inputs(name).values())
    network = build(name)
    module = load(network, tuple(torch.from_numpy(a) for a in arrays))
    return module, arrays


def mobilenet_v2() -> tuple[Module, Inputs]:
    """MobileNetV2 at its published width, for images of 64x64."""
    from benchmarks import workload_recipes

    small = workload_recipes.SMALL_RECIPES["mobilenet_v2_small"]
    options = {**small.options, "depth_multiplier": 1.0, "num_labels": 1001}
    workload_recipes.SMALL_RECIPES["mobilenet_v2_64"] = dataclasses.replace(small, options=options)
    try:
        return _workload("mobilenet_v2_64")
    finally:
        del workload_recipes.SMALL_RECIPES["mobilenet_v2_64"]


def bert() -> tuple[Module, Inputs]:
    """A BERT of two layers."""
    return _workload("bert_base_small")


MODELS: dict[str, Callable[[], tuple[Module, Inputs]]] = {
    "MobileNetV2 64x64": mobilenet_v2,
    "BERT 2 layers": bert,
}
"""Name -> (module, inputs)."""
