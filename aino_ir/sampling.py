"""Conformance samples: operand arrays and attributes that every implementation of an op must get right.

`samples_for` derives them from an op's declaration (edge values of every dtype it accepts, odd, empty
and 0-d shapes, broadcasting) and adds the op's own; `sample_module` makes a module of one sample.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from aino_ir.builder import Builder
from aino_ir.dtypes import DTYPES, DType, integer_range
from aino_ir.elementwise import ACCEPTS, Elementwise
from aino_ir.op import Op, Sample
from aino_ir.types import type_of

if TYPE_CHECKING:
    from aino_ir.graph import Module

Array = np.ndarray[Any, Any]

DTYPE_NAMES = (
    "f32",
    "f64",
    "f16",
    "bf16",
    "i32",
    "i64",
    "i8",
    "i16",
    "u8",
    "u16",
    "u32",
    "u64",
    "i4",
    "bool",
)
"""Dtypes of derived samples, the usual ones first."""

_SHAPES: dict[int, tuple[tuple[tuple[int, ...], ...], ...]] = {
    1: (((7,),), ((),), ((0, 3),), ((2, 3, 5),), ((1, 33),)),
    2: (((5,), (5,)), ((2, 1, 3), (4, 1)), ((), (3,)), ((0, 3), (3,)), ((), ()), ((3, 17), (1, 17))),
    3: (((5,), (5,), (5,)), ((2, 1, 3), (4, 1), ()), ((0, 3), (3,), (1, 1)), ((), (), ())),
}
"""Operand shapes by arity."""


def edge_values(dtype: DType) -> Array:
    """Values where implementations go wrong: zeros, halves, extremes, denormals, infinities, NaN."""
    if dtype.is_bool:
        return np.array([False, True])
    if dtype.is_integer:
        low, high = integer_range(dtype)
        values = {low, low + 1, -2, -1, 0, 1, 2, 3, 7, high // 2, high - 1, high}
        return np.array(sorted(v for v in values if low <= v <= high), _numpy_integer(dtype)).astype(
            dtype.numpy
        )
    special = np.array([0.0, -0.0, np.nan, np.inf, -np.inf, 1.0, -1.0, 0.5, -0.5, 1.5, -1.5, 2.5, -2.5, 3.0])
    usual = np.array(
        [1e-3, -1e-3, 0.1, 0.9, 1.1, -3.3, 5.7, 9.9, -11.0, 33.3, -87.2, 88.5, 100.0, -104.0, 255.5]
    )
    large = np.array([2.0**24 + 2, 2.0**31, -(2.0**31), 3e9, 1e20, -1e20, 1e-20, 3e38, -3e38])
    small = np.array([1.2e-38, 1e-40, -1e-45, 6e-8])
    with np.errstate(all="ignore"):
        return np.concatenate([special, usual, large, small]).astype(dtype.numpy)


def random_values(dtype: DType, shape: Sequence[int], rng: np.random.Generator) -> Array:
    """Plain values: floats around -3..3, integers within -9..9 (0..9 unsigned, -8..7 for 4 bits)."""
    if dtype.is_bool:
        return np.asarray(rng.random(shape) < 0.5)
    if dtype.is_integer:
        low, high = integer_range(dtype)
        return rng.integers(max(low, -9), min(high, 9), shape, endpoint=True).astype(dtype.numpy)
    return np.asarray(rng.normal(size=shape) * 1.5).astype(dtype.numpy)


def seeded(name: str) -> np.random.Generator:
    """A generator that depends on a name alone."""
    return np.random.default_rng(zlib.crc32(name.encode()))


def samples_for(cls: type[Op]) -> Iterator[Sample]:
    """Every conformance sample of an op class: derived ones (elementwise ops), then its own."""
    if issubclass(cls, Elementwise):
        yield from _derived(cls)
    yield from cls.samples()


def sample_module(cls: type[Op], sample: Sample) -> Module:
    """A module whose main applies the op to inputs x0, x1, ...; absent operands stay absent."""
    b = Builder()
    values = [None if a is None else b.input(f"x{i}", _type(a)) for i, a in enumerate(sample.operands)]
    op = b.op(cls, *values, **sample.attrs)
    for i, result in enumerate(op.results):
        b.output(f"y{i}", result)
    return b.module


def inputs_of(sample: Sample) -> list[Array]:
    """The arrays that the module of a sample takes."""
    return [a for a in sample.operands if a is not None]


def accepted_dtypes(accepts: str) -> list[DType]:
    """The dtypes of samples for a family name of `Elementwise.accepts`."""
    return [DTYPES[n] for n in DTYPE_NAMES if ACCEPTS[accepts](DTYPES[n])]


def _type(array: Array) -> Any:
    type = type_of(array)
    assert type is not None, array.dtype
    return type


def _numpy_integer(dtype: DType) -> Any:
    return np.uint64 if dtype.bits == 64 and not dtype.is_signed else np.int64


def _derived(cls: type[Elementwise]) -> Iterator[Sample]:
    kinds = [kind for _, kind in cls.declaration.operands]
    if "variadic" in kinds or not cls.derive_samples:
        return
    rng = seeded(cls.name)
    divides = cls.checks is not Elementwise.checks
    for attrs in cls.sample_attrs:
        for dtype in accepted_dtypes(cls.accepts):
            for operands, note in _operand_sets(dtype, len(kinds), rng):
                if divides and dtype.is_integer:
                    operands = (
                        *operands[:-1],
                        np.where(operands[-1] == 0, 1, operands[-1]).astype(dtype.numpy),
                    )
                yield Sample(operands, dict(attrs), f"{dtype} {note}")


def _operand_sets(
    dtype: DType, arity: int, rng: np.random.Generator
) -> Iterator[tuple[tuple[Array, ...], str]]:
    """Operand tuples of one dtype: the grid of all edge values, then plain values in odd shapes."""
    edges = edge_values(dtype)
    grid = [edges.reshape([-1 if i == j else 1 for j in range(arity)]) for i in range(arity)]
    if arity < 3:
        yield tuple(grid), "edges"
    else:
        yield tuple(rng.permutation(edges) for _ in range(arity)), "edges"
    shapes = _SHAPES[arity] if dtype.name in ("f32", "i64", "bool") else _SHAPES[arity][1:2]
    for shape in shapes:
        text = " x ".join(str(list(s)) for s in shape)
        yield tuple(random_values(dtype, s, rng) for s in shape), text
