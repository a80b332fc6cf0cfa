"""`.air` files: the text, and its large constants in a safetensors file beside it."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numpy as np

from aino_ir.errors.text import WeightsFileMissing
from aino_ir.graph import Module
from aino_ir.text.parser import parse
from aino_ir.text.printer import Printer


def weights_path(path: Path) -> Path:
    """Where the constants of an `.air` file stand."""
    return path.with_suffix(".safetensors")


def save(module: Module, path: str | os.PathLike[str]) -> Path:
    """Write a module as text; both files are whole afterwards, or as they were before."""
    from safetensors.numpy import save_file

    target = Path(path)
    printer = Printer()
    text = printer.module(module)
    if printer.weights:
        tensors = {
            key: np.ascontiguousarray(c.array()).reshape(-1).view(np.uint8) for key, c in printer.weights.items()
        }
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".air-") as folder:
            part = Path(folder) / "weights"
            save_file(tensors, part)
            os.replace(part, weights_path(target))
    with tempfile.NamedTemporaryFile("w", dir=target.parent, prefix=".air-", encoding="ascii", delete=False) as file:
        file.write(text)
    os.replace(file.name, target)
    return target


def load_module(path: str | os.PathLike[str]) -> Module:
    """Read an `.air` file; its constants are read when first needed."""
    from safetensors import safe_open

    source = Path(path)
    text = source.read_text("ascii")
    beside = weights_path(source)
    if not beside.exists():
        if 'weight ' in text and 'weight f' in text:
            raise WeightsFileMissing(path=beside)
        return parse(text)
    with safe_open(beside, "np") as reader:
        weights = {key: reader.get_tensor(key) for key in reader.keys()}  # noqa: SIM118
    return parse(text, weights)
