"""Products of any number of operands summed over named axes (Einstein's notation)."""

from __future__ import annotations

import string
from collections.abc import Iterator
from typing import Any

import numpy as np

from aino_ir.compute import Axis, Compute, read
from aino_ir.dims import DimLike, is_static, product
from aino_ir.dtypes import f32
from aino_ir.infer import InferContext
from aino_ir.loops.expr import Expr
from aino_ir.op import Op, Sample, str_attr, variadic_operand
from aino_ir.ops.math import Array
from aino_ir.sampling import random_values, seeded
from aino_ir.types import TensorType, Type


class Einsum(Op):
    """out = the product of the operands, summed over the letters that the result does not name.

    `equation` is explicit, such as ``bij,bjk->bik``: one letter an axis; a letter that an operand
    names twice is its diagonal.  An axis of extent 1 stands for every index of its letter.
    """

    name = "nn.einsum"
    inputs = variadic_operand()
    equation = str_attr()

    def terms(self) -> tuple[list[str], str]:
        """The letters of each operand, and of the result."""
        left, _, right = self.equation.partition("->")
        return left.split(","), right

    def infer(self, ic: InferContext) -> list[Type]:
        operands, result = self.terms()
        letters = set("".join(operands))
        plain = "->" in self.equation and letters <= set(string.ascii_letters)
        if not plain or len(operands) != len(self.inputs) or not self.inputs:
            ic.bad_attribute("equation", f"explicit, with {len(self.inputs)} terms", self.equation)
        if len(set(result)) != len(result) or not set(result) <= letters:
            ic.bad_attribute(
                "equation", "such that the result names letters of the operands once", self.equation
            )
        dtype = ic.same_dtype(*self.inputs)
        if not (dtype.is_float or dtype.is_integer):
            ic.bad_dtype("dtype of operand 0", "a number's", dtype)
        extents: dict[str, DimLike] = {}
        for number, (value, names) in enumerate(zip(self.inputs, operands, strict=True)):
            ic.rank(value, len(names), f"operand {number}")
            for name, extent in zip(names, value.shape, strict=True):
                old = extents.get(name, 1)
                if not _is_one(extent):
                    extents[name] = extent if _is_one(old) else ic.same(old, extent, f"extents of {name}")
                extents.setdefault(name, 1)
        return [TensorType(dtype, ic.result_shape(tuple(extents[name] for name in result)))]

    def extents(self) -> dict[str, DimLike]:
        """Extent by letter."""
        found: dict[str, DimLike] = {}
        for value, names in zip(self.inputs, self.terms()[0], strict=True):
            for name, extent in zip(names, value.shape, strict=True):
                if name not in found or _is_one(found[name]):
                    found[name] = extent
        return found

    def evaluate(self, ev: Any, *arrays: Array) -> Array:
        if arrays[0].dtype.kind != "f":
            return np.asarray(np.einsum(self.equation, *arrays))
        wide = [a.astype(np.float64) for a in arrays]
        return np.asarray(np.einsum(self.equation, *wide)).astype(arrays[0].dtype)

    def define(self) -> Compute:
        operands, result = self.terms()
        extents = self.extents()
        axis = {
            name: Axis(f"{'i' if name in result else 'r'}{n}", e)
            for n, (name, e) in enumerate(extents.items())
        }
        body: Expr | None = None
        for number, (value, names) in enumerate(zip(self.inputs, operands, strict=True)):
            at = [0 if _is_one(d) else axis[n].dim for n, d in zip(names, value.shape, strict=True)]
            factor = read(value, number, at)
            body = factor if body is None else body * factor
        assert body is not None
        reduced = tuple(a for name, a in axis.items() if name not in result)
        return Compute(tuple(axis[name] for name in result), body, reduced, "add" if reduced else None)

    def cost(self) -> DimLike:
        return product(self.extents().values()) * max(len(self.inputs), 1)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        rng = seeded(cls.name)
        for equation, shapes in (
            ("ij,jk->ik", ((3, 4), (4, 5))),
            ("bij,bkj->bik", ((2, 3, 4), (2, 5, 4))),
            ("i,i->", ((6,), (6,))),
            ("ij->ji", ((2, 3),)),
            ("ii->i", ((4, 4),)),
            ("ij->j", ((3, 5),)),
            ("bi,ij,bj->b", ((2, 3), (3, 4), (2, 4))),
            ("ij,jk->ik", ((3, 1), (4, 5))),
        ):
            yield Sample(tuple(random_values(f32, s, rng) for s in shapes), {"equation": equation}, equation)


def _is_one(extent: DimLike) -> bool:
    return is_static(extent) and extent == 1
