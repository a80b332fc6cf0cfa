"""Quantised numbers with a scale and a zero point for each group of neighbours along an axis."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from aino_ir.compute import Compute, axes, coordinates, read
from aino_ir.dims import DimLike, ceildiv, product
from aino_ir.dtypes import DTYPES, DType, f32
from aino_ir.infer import InferContext
from aino_ir.loops.expr import Expr
from aino_ir.op import Op, Sample, Trait, dtype_attr, int_attr, operand, optional_operand
from aino_ir.ops.math import Array
from aino_ir.ops.quant import (
    DEQUANTIZED,
    QUANTIZED,
    check_numbers,
    check_scale,
    dequantized_array,
    dequantized_expr,
    quantized_array,
    quantized_expr,
)
from aino_ir.sampling import random_values, seeded
from aino_ir.types import TensorType, Type


class Grouped(Op):
    """What the ops on groups share: scale and zero have one element for each `group` along `axis`."""

    x = operand()
    scale = operand()
    zero = optional_operand()
    axis = int_attr()
    group = int_attr()

    def check_groups(self, ic: InferContext) -> None:
        """The shapes of scale and zero: x's, but for an extent of ceil(extent / group) along the axis."""
        rank = self.x.rank
        if not 0 <= self.axis < rank:
            ic.bad_attribute("axis", f"within 0..{rank - 1}", self.axis)
        if self.group < 1:
            ic.bad_attribute("group", "at least 1", self.group)
        check_scale(ic, self.scale)
        wanted = tuple(
            ceildiv(d, self.group) if a == self.axis else d
            for a, d in enumerate(ic.tensor(self.x, "x").shape)
        )
        for value, what in ((self.scale, "scale"), (self.zero, "zero")):
            if value is not None:
                ic.same_shape(wanted, value.shape, what)

    def spread(self, x: Array, parameter: Array | None) -> Array | None:
        """A parameter with one element for each of x."""
        if parameter is None:
            return None
        return np.take(parameter, np.arange(x.shape[self.axis]) // self.group, axis=self.axis)

    def group_reads(self, at: tuple[DimLike, ...]) -> list[Expr]:
        """x, scale and zero (where it is there) at an element."""
        there = tuple(c // self.group if a == self.axis else c for a, c in enumerate(at))
        parameters = [self.scale] if self.zero is None else [self.scale, self.zero]
        return [read(self.x, 0, at), *(read(v, i + 1, there) for i, v in enumerate(parameters))]

    def forward(self, source: Any, at: tuple[DimLike, ...]) -> tuple[DimLike, ...]:
        """The same element."""
        if source is not self.x:
            raise TypeError(f"{self.name}: the anchor's value is a parameter here")
        return at

    def cost(self) -> DimLike:
        return product(self.x.shape)

    @classmethod
    def group_samples(cls, dtypes: tuple[str, ...], given: DType | None) -> Iterator[Sample]:
        """Samples with groups that divide the axis and that do not; x is of `given` or of each dtype."""
        rng = seeded(cls.name)
        for name in dtypes:
            dtype = DTYPES[name]
            attrs: dict[str, Any] = {} if given is None else {"to": name}
            for shape, axis, group in (
                ((8, 5), 0, 4),
                ((7, 3), 0, 4),
                ((3, 9), 1, 2),
                ((3, 0), 0, 2),
                ((5,), 0, 8),
            ):
                x = random_values(given or dtype, shape, rng)
                small = tuple(-(-d // group) if a == axis else d for a, d in enumerate(shape))
                scale = np.abs(random_values(f32, small, rng)) + np.float32(0.1)
                zero = random_values(dtype, small, rng) if axis == 0 else None
                note = f"{name}{list(shape)} in groups of {group} along {axis}"
                yield Sample((x, scale, zero), {"axis": axis, "group": group, **attrs}, note)


class QuantizeGroups(Grouped):
    """out = saturate(round(x / scale) + zero) as `to`, with a scale for each group along an axis.

    scale and zero have the shape of x, but for ceil(extent / group) along `axis`.
    """

    name = "quant.quantize_groups"
    to = dtype_attr()

    def infer(self, ic: InferContext) -> list[Type]:
        if not self.x.dtype.is_float or self.x.dtype.compute is not f32:
            ic.bad_dtype("dtype of x", "f32 or a float stored in fewer bits", self.x.dtype)
        if self.to.name not in QUANTIZED:
            ic.bad_attribute("to", f"one of {', '.join(QUANTIZED)}", self.to)
        check_numbers(ic, self.to, self.zero)
        self.check_groups(ic)
        return [TensorType(self.to, self.x.shape)]

    def evaluate(self, ev: Any, x: Array, scale: Array, zero: Array | None = None) -> Array:
        wide = self.spread(x, scale)
        assert wide is not None
        return quantized_array(ev, x, wide, self.spread(x, zero), self.to)

    def define(self) -> Compute:
        space = axes("i", self.result.shape)
        x, scale, *zero = self.group_reads(coordinates(space))
        return Compute(space, quantized_expr(x, scale, zero[0] if zero else None, self.to))

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield from cls.group_samples(("i8", "u8", "i4", "u4"), f32)


class DequantizeGroups(Grouped):
    """out = (x - zero) * scale in the dtype of the scale, with a scale for each group along an axis.

    scale and zero have the shape of x, but for ceil(extent / group) along `axis`.
    """

    name = "quant.dequantize_groups"
    traits = frozenset({Trait.DECODES})

    def infer(self, ic: InferContext) -> list[Type]:
        if self.x.dtype.name not in DEQUANTIZED:
            ic.bad_dtype("dtype of x", f"one of {', '.join(DEQUANTIZED)}", self.x.dtype)
        check_numbers(ic, self.x.dtype, self.zero)
        self.check_groups(ic)
        return [TensorType(self.scale.dtype, self.x.shape)]

    def evaluate(self, ev: Any, x: Array, scale: Array, zero: Array | None = None) -> Array:
        wide = self.spread(x, scale)
        assert wide is not None
        return dequantized_array(x, wide, self.spread(x, zero))

    def define(self) -> Compute:
        space = axes("i", self.result.shape)
        x, scale, *zero = self.group_reads(coordinates(space))
        return Compute(space, dequantized_expr(x, scale, zero[0] if zero else None))

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield from cls.group_samples(("i8", "u8", "i4", "u4"), None)
