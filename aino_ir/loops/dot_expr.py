"""Sums of products of narrow numbers: expressions that some processors have an instruction for."""

from __future__ import annotations

from dataclasses import dataclass

from aino_ir.dtypes import i16
from aino_ir.loops.expr import Expr, VecType


@dataclass(frozen=True)
class Dot(Expr):
    """accumulator[l] + the sum over j of x[4 l + j] * w[4 l + j], in wrapping i32.

    x is a vector of u8 or i8, w one of i8, both four times as long as the accumulator.
    """

    accumulator: Expr
    x: Expr
    w: Expr
    type: VecType


DOT = 4
"""Products that a `Dot` sums in each lane."""


@dataclass(frozen=True)
class DotPairs(Expr):
    """x[2 l] * w[2 l] + x[2 l + 1] * w[2 l + 1] in i16.

    x is a vector of u8, w one of i8, both twice as long as the result.  Whoever makes it promises that no
    sum leaves 16 bits: printers may use instructions that saturate there, and the loop interpreter raises
    where the promise is broken.
    """

    x: Expr
    w: Expr
    type: VecType


@dataclass(frozen=True)
class AddPairs(Expr):
    """accumulator[l] + pairs[2 l] + pairs[2 l + 1], in wrapping i32; pairs is of i16, twice as long."""

    accumulator: Expr
    pairs: Expr
    type: VecType


@dataclass(frozen=True)
class DotHalves(Expr):
    """accumulator[l] + x[2 l + 1] * w[2 l + 1] + x[2 l] * w[2 l] of bf16, summed in this order in f32.

    x and w are the bits of bf16, vectors of u16 twice as long as the accumulator.  A product of two is exact
    in f32; printers may use instructions that take subnormal numbers for zero.
    """

    accumulator: Expr
    x: Expr
    w: Expr
    type: VecType


def dot(accumulator: Expr, x: Expr, w: Expr) -> Expr:
    """accumulator + sums of four products of 8-bit integers; see `Dot`."""
    return Dot(accumulator, x, w, accumulator.type)


def dot_pairs(x: Expr, w: Expr) -> Expr:
    """Sums of two products of 8-bit integers that are known to fit 16 bits; see `DotPairs`."""
    return DotPairs(x, w, VecType(i16, x.lanes // 2))


def add_pairs(accumulator: Expr, pairs: Expr) -> Expr:
    """accumulator + sums of two neighbours in 16 bits; see `AddPairs`."""
    return AddPairs(accumulator, pairs, accumulator.type)


def dot_halves(accumulator: Expr, x: Expr, w: Expr) -> Expr:
    """accumulator + sums of two products of bf16; see `DotHalves`."""
    return DotHalves(accumulator, x, w, accumulator.type)
