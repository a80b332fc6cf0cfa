"""Complex tensors: each is two values, its real and its imaginary parts.

The IR computes with real numbers.  At the border of a module a complex tensor of shape [...] is one real
tensor [..., 2], as `torch.view_as_real` gives it; inside, every operator on complex numbers becomes
operators on their parts.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch.fx import Node

from aino_ir.dims import DimLike
from aino_ir.frontends.emitter import Emitter
from aino_ir.graph import Value

REAL_OF = {torch.complex64: torch.float32, torch.complex128: torch.float64}
"""Complex dtypes and those of their parts; complex32 is refused."""


@dataclass(frozen=True)
class Complex:
    """A complex tensor being lowered.

    Attributes:
        real, imaginary: values of one type.
    """

    real: Value
    imaginary: Value

    @property
    def shape(self) -> tuple[DimLike, ...]:
        """Extents."""
        return self.real.shape

    @property
    def rank(self) -> int:
        """Number of axes."""
        return self.real.rank


def real_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype of a tensor's parts; of a real tensor, its own."""
    return REAL_OF.get(dtype, dtype)


def is_complex(meta: Any) -> bool:
    """Whether one of torch's fake tensors is complex."""
    return isinstance(meta, torch.Tensor) and meta.dtype in REAL_OF


def touches_complex(node: Node) -> bool:
    """Whether a call takes or gives a complex tensor."""
    for found in (node, *node.all_input_nodes):
        values = found.meta.get("val")
        if any(is_complex(v) for v in (values if isinstance(values, (tuple, list)) else (values,))):
            return True
    return False


def split(e: Emitter, pairs: Value) -> Complex:
    """Real [..., 2] as complex numbers."""
    axis = pairs.rank - 1
    parts = [e.reshape(e.cut(pairs, axis, part, 1), pairs.shape[:-1]) for part in (0, 1)]
    return Complex(*parts)


def joined(e: Emitter, x: Complex) -> Value:
    """Complex numbers as real [..., 2]."""
    columns = [e.reshape(part, (*x.shape, 1)) for part in (x.real, x.imaginary)]
    return e.emit("concat", *columns, axis=x.rank)


def by_parts(e: Emitter, call: partial[Any]) -> Any:
    """Complex results of a row that is called for real and for imaginary parts.

    The imaginary part of a real tensor of floats, and of a number to fill up with, is zero.
    """

    def part(name: str, value: Any, imaginary: bool) -> Any:
        if isinstance(value, (Complex, complex)):
            real, other = (
                (value.real, value.imaginary) if isinstance(value, Complex) else (value.real, value.imag)
            )
            return other if imaginary else real
        if isinstance(value, (list, tuple)):
            return [part(name, v, imaginary) for v in value]
        if imaginary and isinstance(value, Value) and value.dtype.is_float:
            return e.filled(value.shape, 0, value.dtype)
        return 0 if imaginary and name == "value" else value

    results = []
    for imaginary in (False, True):
        named = {k: part(k, v, imaginary) for k, v in call.keywords.items()}
        results.append(call.func(*(part("", a, imaginary) for a in call.args), **named))
    real, other = results
    if isinstance(real, Value):
        return Complex(real, other)
    return [Complex(r, i) if isinstance(r, Value) else None for r, i in zip(real, other, strict=True)]
