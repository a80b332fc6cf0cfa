"""Names and header comments of kernels: from ops and shapes, never from the model's own names."""

from __future__ import annotations

import re

from aino_ir.dims import DimLike, is_static
from aino_ir.kernels import Candidate, KernelSpec


def kernel_name(spec: KernelSpec) -> str:
    """A C identifier from the anchor op and the first result's shape; the builder appends a hash."""
    shape = "x".join(_extent(d) for d in spec.results[0].shape) if spec.results else "none"
    text = f"{spec.anchor}_{shape}" if shape else f"{spec.anchor}_scalar"
    return re.sub(r"[^A-Za-z0-9_]", "_", text)[:48]


def header(spec: KernelSpec, candidate: Candidate) -> tuple[str, ...]:
    """What is fused, on which shapes, and how it is done."""
    operands = ", ".join(f"{o.name} {o.dtype}{_shape(o.shape)}{o.layout}" for o in spec.operands)
    results = ", ".join(f"{r.name} {r.dtype}{_shape(r.shape)}{r.layout}" for r in spec.results)
    return (
        spec.label or spec.anchor,
        f"reads {operands}" if operands else "reads nothing",
        f"writes {results}",
        f"schedule: {candidate.name}",
    )


def _shape(shape: tuple[DimLike, ...]) -> str:
    return "[" + ", ".join(str(d) for d in shape) + "]"


def _extent(d: DimLike) -> str:
    return str(d) if is_static(d) else "n"
