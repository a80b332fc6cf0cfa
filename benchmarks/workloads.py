"""The eight reference networks, built offline with random weights and exported to ONNX.

Every network comes from a `transformers` configuration, so nothing is downloaded.  Weights are drawn
from a fixed seed and then conditioned: batch-norm statistics are taken from data and perturbed, norm
scales and biases leave their trivial values, so that a wrong fold or a dropped bias changes the output.

::

    w = workload("resnet50")                       # exported on first use, cached after that
    exe = aino.compile(w.path)
    ys = exe.run(w.inputs)                         # numpy by input name; w.outputs holds eager PyTorch's

Run ``python -m benchmarks.workloads [NAME ...] [--exporter dynamo|torchscript] [--ops]`` to fill the cache.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.workload_recipes import RECIPES, SMALL_RECIPES, Recipe

EXPORTERS = ("dynamo", "torchscript")
RECIPE = 1
"""Part of every cache key: raise it when building, conditioning or exporting changes."""

TORCHSCRIPT_OPSET = 17
SEED = 1234

Arrays = dict[str, np.ndarray[Any, Any]]


NAMES = tuple(RECIPES)
SMALL_NAMES = tuple(SMALL_RECIPES)


# -- inputs -----------------------------------------------------------------------------------------


def _image_inputs(rng: np.random.Generator, size: int, batch: int = 1) -> Arrays:
    return {"pixel_values": rng.standard_normal((batch, 3, size, size), dtype=np.float32)}


def _text_inputs(rng: np.random.Generator, length: int, vocabulary: int, padding: int) -> Arrays:
    mask = np.ones((1, length), np.int64)
    mask[:, length - padding :] = 0
    types = np.zeros((1, length), np.int64)
    types[:, length // 2 :] = 1
    ids = rng.integers(0, vocabulary, (1, length), dtype=np.int64)
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}


def _token_inputs(rng: np.random.Generator, length: int, vocabulary: int) -> Arrays:
    ids = rng.integers(0, vocabulary, (1, length), dtype=np.int64)
    return {"input_ids": ids, "attention_mask": np.ones((1, length), np.int64)}


def _spectrogram_inputs(rng: np.random.Generator, bins: int, frames: int) -> Arrays:
    return {"input_features": rng.standard_normal((1, bins, frames), dtype=np.float32)}


INPUTS: dict[str, Callable[..., Arrays]] = {
    "image": _image_inputs,
    "text": _text_inputs,
    "tokens": _token_inputs,
    "spectrogram": _spectrogram_inputs,
}
"""Makers of example inputs: ``(rng, **arguments) -> arrays by input name``."""


def example_inputs(name: str, seed: int = SEED) -> Arrays:
    """Return seeded inputs of the network called `name`, by input name."""
    kind, arguments = recipe(name).inputs
    return INPUTS[kind](np.random.default_rng(seed), **arguments)


# -- networks ---------------------------------------------------------------------------------------


def recipe(name: str) -> Recipe:
    """Return the recipe called `name`, of either size."""
    found = RECIPES.get(name) or SMALL_RECIPES.get(name)
    if found is None:
        raise KeyError(f"no workload is called {name!r}; there are {', '.join((*NAMES, *SMALL_NAMES))}")
    return found


def build(name: str, seed: int = SEED) -> Any:
    """Build the network called `name` in PyTorch, in eval mode, with conditioned random weights.

    The result takes the inputs of `example_inputs` in order and returns a tuple of tensors.
    """
    import torch
    import transformers

    what = recipe(name)
    torch.manual_seed(seed)
    config = getattr(transformers, what.config)(**what.options)
    network = getattr(transformers, what.model)(config)
    if what.part:
        network = network.get_submodule(what.part)
    network.eval().requires_grad_(False)
    wrapped = _plain(network, tuple(example_inputs(name)), what.outputs)
    _condition(wrapped, [torch.from_numpy(x) for x in _calibration(name, seed + 1)], seed)
    return wrapped


def _calibration(name: str, seed: int) -> list[np.ndarray[Any, Any]]:
    """Return four images, or one text or spectrogram: what batch-norm statistics are measured on."""
    kind, arguments = recipe(name).inputs
    batch = {"batch": 4} if kind == "image" else {}
    return list(INPUTS[kind](np.random.default_rng(seed), **arguments, **batch).values())


def _plain(network: Any, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> Any:
    """Wrap a transformers network so that it maps tensors by position to a tuple of tensors."""
    import torch

    class Plain(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, *tensors: Any) -> tuple[Any, ...]:
            result = self.network(**dict(zip(inputs, tensors, strict=True)))
            return tuple(getattr(result, key) for key in outputs)

    return Plain().eval()


def _condition(network: Any, inputs: list[Any], seed: int) -> None:
    """Move norm statistics, norm scales and biases away from their trivial initial values, in place.

    Batch-norm statistics are first measured on `inputs`, so activations keep a sane scale at any depth.
    """
    import torch

    rng = torch.Generator().manual_seed(seed)
    norms: list[Any] = [m for m in network.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)]
    biases = [p for name, p in network.named_parameters() if name.endswith("bias")]
    scales = [m.weight for m in network.modules() if isinstance(m, torch.nn.LayerNorm)]
    scales += [m.weight for m in norms]
    scales += [p for name, p in network.named_parameters() if "layer_scale" in name]
    with torch.no_grad():
        for p in biases:
            p.add_(torch.randn(p.shape, generator=rng), alpha=0.05)
        for p in scales:
            p.mul_(0.8 + 0.4 * torch.rand(p.shape, generator=rng))
        momenta = [m.momentum for m in norms]
        for m in norms:
            m.train()
            m.momentum = 1.0
        if norms:
            network(*inputs)
        for m, momentum in zip(norms, momenta, strict=True):
            m.eval()
            m.momentum = momentum
            spread = m.running_var.sqrt()
            m.running_mean.add_(0.1 * spread * torch.randn(spread.shape, generator=rng))
            m.running_var.mul_(0.8 + 0.45 * torch.rand(spread.shape, generator=rng)).clamp_(min=1e-3)


def run_eager(network: Any, inputs: Arrays) -> list[np.ndarray[Any, Any]]:
    """Run a network of `build` on numpy inputs and return its outputs as numpy arrays."""
    import torch

    with torch.no_grad():
        return [y.numpy() for y in network(*(torch.from_numpy(x) for x in inputs.values()))]


# -- export and cache -------------------------------------------------------------------------------


def export(network: Any, inputs: Arrays, outputs: Iterable[str], path: Path, exporter: str) -> None:
    """Write `network` to `path` with one of torch.onnx's two exporters, weights inside the file."""
    import torch

    tensors = tuple(torch.from_numpy(x) for x in inputs.values())
    names: dict[str, Any] = {"input_names": list(inputs), "output_names": list(outputs)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if exporter == "dynamo":
            torch.onnx.export(
                network, tensors, str(path), dynamo=True, external_data=False, verbose=False, **names
            )
        elif exporter == "torchscript":
            torch.onnx.export(
                network, tensors, str(path), dynamo=False, opset_version=TORCHSCRIPT_OPSET, **names
            )
        else:
            raise KeyError(f"no exporter is called {exporter!r}; there are {', '.join(EXPORTERS)}")


def cache_folder() -> Path:
    """Return the folder that holds exported workloads: $AINO_WORKLOADS or build/workloads of the checkout."""
    chosen = os.environ.get("AINO_WORKLOADS")
    return Path(chosen) if chosen else Path(__file__).resolve().parent.parent / "build" / "workloads"


def _key(name: str, exporter: str) -> str:
    what = recipe(name)
    packages = {p: version(p) for p in ("torch", "transformers", "onnx", "onnxscript")}
    text = json.dumps([RECIPE, SEED, repr(what), exporter, TORCHSCRIPT_OPSET, packages], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Workload:
    """One exported network with inputs and the outputs that eager PyTorch gives for them.

    Attributes:
        name: the network's name.
        exporter: ``dynamo`` or ``torchscript``.
        path: the ONNX file.
        inputs: example inputs by input name.
        outputs: eager PyTorch's outputs by output name, in order.
    """

    name: str
    exporter: str
    path: Path
    inputs: Arrays
    outputs: Arrays

    @cached_property
    def model(self) -> Any:
        """The PyTorch network, built again from the seed."""
        return build(self.name)


def workload(name: str, exporter: str = "dynamo") -> Workload:
    """Return the network called `name` as exported by `exporter`, from the cache when it is there."""
    folder = cache_folder() / f"{name}.{exporter}.{_key(name, exporter)}"
    if not (folder / "io.npz").is_file():
        _fill(folder, name, exporter)
    with np.load(folder / "io.npz", allow_pickle=False) as stored:
        arrays = {key: stored[key] for key in stored.files}
    inputs = {k.removeprefix("in:"): v for k, v in arrays.items() if k.startswith("in:")}
    outputs = {k.removeprefix("out:"): v for k, v in arrays.items() if k.startswith("out:")}
    return Workload(name, exporter, folder / "model.onnx", inputs, outputs)


def _fill(folder: Path, name: str, exporter: str) -> None:
    """Export into a private folder and move it into place, so that a reader never sees half of it."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{name}.", dir=folder.parent) as scratch:
        ready = Path(scratch) / "ready"
        ready.mkdir()
        network, inputs = build(name), example_inputs(name)
        results = dict(zip(recipe(name).outputs, run_eager(network, inputs), strict=True))
        export(network, inputs, results, ready / "model.onnx", exporter)
        stored = {f"in:{k}": v for k, v in inputs.items()} | {f"out:{k}": v for k, v in results.items()}
        np.savez(ready / "io.npz", **stored)  # type: ignore[arg-type]
        try:
            ready.rename(folder)
        except OSError:
            if not (folder / "io.npz").is_file():  # another process may have been first
                shutil.rmtree(folder, ignore_errors=True)
                ready.rename(folder)


# -- a look at what the files hold --------------------------------------------------------------------


def operator_counts(path: Path) -> tuple[dict[str, int], Counter[str]]:
    """Return the opset versions by domain and the operator counts of an ONNX file, bodies included."""
    import onnx

    return operator_counts_of(onnx.load(str(path), load_external_data=False))


def operator_counts_of(model: Any) -> tuple[dict[str, int], Counter[str]]:
    """Return what `operator_counts` does, of a model in memory."""
    counts: Counter[str] = Counter()

    def visit(nodes: Iterable[Any]) -> None:
        for node in nodes:
            counts[f"{node.domain}::{node.op_type}" if node.domain else node.op_type] += 1
            for attribute in node.attribute:
                for body in (attribute.g, *attribute.graphs):
                    visit(body.node)

    visit(model.graph.node)
    for function in model.functions:
        visit(function.node)
    return {o.domain or "ai.onnx": o.version for o in model.opset_import}, counts


def light_models() -> dict[str, Path]:
    """Return the "light" models that ship inside the onnx package, by name; outputs lie beside them."""
    import onnx

    folder = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
    return {p.stem: p for p in sorted(folder.glob("light_*.onnx"))}


def main(argv: list[str] | None = None) -> int:
    """Export the chosen workloads and print where they are; with ``--ops`` also what they hold."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.workloads", description=main.__doc__)
    parser.add_argument("names", nargs="*", default=NAMES, metavar="NAME", help="default: all eight")
    parser.add_argument("--exporter", choices=EXPORTERS, action="append", help="default: both")
    parser.add_argument("--ops", action="store_true", help="print operator counts")
    options = parser.parse_args(argv)
    for name in options.names:
        for exporter in options.exporter or EXPORTERS:
            made = workload(name, exporter)
            print(f"{name:28} {exporter:12} {made.path}", flush=True)
            if options.ops:
                opsets, counts = operator_counts(made.path)
                print(f"    opsets {opsets}, {sum(counts.values())} nodes")
                print("    " + ", ".join(f"{op} {n}" for op, n in sorted(counts.items())))
    return 0


if __name__ == "__main__":
    sys.exit(main())
