"""A model's outputs beside those of the interpreter or of another engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from aino_ir.driver.api import Dims, load
from aino_ir.driver.inputs import flat_values
from aino_ir.dtypes import DType, dtype_of
from aino_ir.errors.bench import EngineFailed
from aino_ir.errors.usage import UnknownModelKind
from aino_ir.frontends.torch import require_torch
from aino_ir.runtime.reference import ReferenceExecutable
from aino_ir.tolerance import PRODUCT_PRECISION, disagreement

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Judgement:
    """One output.

    Attributes:
        name: of the output.
        type: dtype and shape.
        error: max|actual - expected| / max|expected| over finite elements.
        reason: why they disagree; empty when they agree.
    """

    name: str
    type: str
    error: float
    reason: str


def compare_outputs(
    names: Sequence[str], actual: Sequence[Any], expected: Sequence[Any], target: str = ""
) -> list[Judgement]:
    """Judge every output by the tolerance of whole models (`approximate`; integers must be equal).

    Args:
        names: of the outputs.
        actual, expected: their values.
        target: what `actual` was compiled for, which may ask for products of less precision.
    """
    precision = PRODUCT_PRECISION.get(target.partition(",")[2])
    rows = []
    for name, got, want in zip(names, actual, expected, strict=True):
        mine, theirs = dict(flat_values(name, got)), dict(flat_values(name, want))
        if mine.keys() != theirs.keys():
            reason = f"{len(mine)} values instead of {len(theirs)}"
            rows.append(Judgement(name, type(got).__name__, float("inf"), reason))
            continue
        rows += [_judged(part, a, theirs[part], precision) for part, a in mine.items()]
    return rows


def _judged(name: str, actual: Array, expected: Array, precision: DType | None) -> Judgement:
    if object in (actual.dtype, expected.dtype):  # strings
        same = actual.shape == expected.shape and bool(np.all(actual == expected))
        reason = "" if same else "other strings"
        return Judgement(name, f"string{list(actual.shape)}", 0.0 if same else float("inf"), reason)
    dtype = dtype_of(actual.dtype)
    if dtype is not None and dtype.is_float and precision is not None:
        dtype = min(dtype, precision, key=lambda d: d.bits)
    reason = disagreement(actual, expected, "approximate", dtype=dtype) or ""
    error = relative_error(actual, expected)
    return Judgement(name, f"{actual.dtype}{list(actual.shape)}", error, reason)


def relative_error(actual: Array, expected: Array) -> float:
    """max|actual - expected| / max|expected| where both are finite; inf when the shapes differ."""
    if actual.shape != expected.shape:
        return float("inf")
    a, e = actual.astype(np.float64), expected.astype(np.float64)
    finite = np.isfinite(a) & np.isfinite(e)
    scale = float(np.max(np.abs(e), initial=0.0, where=finite)) or 1.0
    return float(np.max(np.abs(a - e, where=finite, out=np.zeros(a.shape)), initial=0.0)) / scale


def reference_outputs(against: str, x: str, inputs: Mapping[str, Array], dims: Dims | None) -> list[Array]:
    """What `against` gives for a model.

    Raises:
        UnknownModelKind: the engine does not read such files.
        EngineFailed: the engine cannot run it.
    """
    return REFERENCES[against](x, inputs, dims)


def _interpreter(x: str, inputs: Mapping[str, Array], dims: Dims | None) -> list[Array]:
    return list(ReferenceExecutable(load(x, dims=dims)).run(dict(inputs)))


def _onnxruntime(x: str, inputs: Mapping[str, Array], dims: Dims | None) -> list[Array]:
    if Path(x).suffix.lower() not in ("", ".onnx"):
        raise UnknownModelKind(what=f"{Path(x).suffix} for ONNX Runtime")
    try:
        import onnxruntime
    except ImportError as problem:
        raise EngineFailed(name="onnxruntime", reason=str(problem)) from problem
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(x, options, providers=["CPUExecutionProvider"])
        return list(session.run(None, dict(inputs)))
    except Exception as problem:  # whatever the engine raises is its answer
        raise EngineFailed(name="onnxruntime", reason=str(problem).partition("\n")[0]) from problem


def _torch(x: str, inputs: Mapping[str, Array], dims: Dims | None) -> list[Array]:
    """PyTorch's own answer for an exported program, whose archive is read without unpickling anything."""
    if Path(x).suffix.lower() != ".pt2":
        raise UnknownModelKind(what=f"{Path(x).suffix} for PyTorch")
    require_torch(x)
    import torch

    from aino_ir.frontends.torch.archive import read_archive
    from aino_ir.runtime.values import to_torch

    program = read_archive(x)
    try:
        with torch.no_grad():
            made = program.module()(*(to_torch(a) for a in inputs.values()))
    except Exception as problem:  # whatever the engine raises is its answer
        raise EngineFailed(name="torch", reason=str(problem).partition("\n")[0]) from problem
    flat = made if isinstance(made, (tuple, list)) else [made]
    return [t.detach().numpy() for t in flat if isinstance(t, torch.Tensor)]


REFERENCES: dict[str, Callable[[str, Mapping[str, Array], Dims | None], list[Array]]] = {
    "reference": _interpreter,
    "onnxruntime": _onnxruntime,
    "torch": _torch,
}
"""What outputs can be compared with -> how to get its outputs."""
