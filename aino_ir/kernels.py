"""Kernel specifications, candidates, and the catalogue protocol that passes ask.

A `KernelSpec` says what one kernel computes, on which buffers, in index notation: it is the
request.  A generator answers with `Candidate`s (how it could be done, with packings and modelled
cost) or a `Reject` with a reason, and builds the chosen one as a `LoopFn`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from aino_ir.compute import Check, Compute, Nest, RowProgram
from aino_ir.dims import DimLike, product
from aino_ir.dtypes import DType
from aino_ir.library_calls import ProductCall
from aino_ir.loops.canonical import canonical_text
from aino_ir.loops.expr import Expr
from aino_ir.loops.stmt import LoopFn
from aino_ir.op import Op
from aino_ir.short_sums import ShortSums
from aino_ir.sparsity import ZeroPattern
from aino_ir.target import Target
from aino_ir.types import ROW_MAJOR, Layout, TensorType

if TYPE_CHECKING:
    from aino_ir.graph import Value


@dataclass(frozen=True)
class Operand:
    """A tensor that a kernel reads, and where its elements are.

    The element offset of a logical coordinate is ``layout.addr(allocated, coordinate)``; a view of
    a slice of a larger buffer keeps the buffer's shape in `allocated`.

    Attributes:
        name: C-friendly name (the op's operand name).
        shape: logical shape.
        constant: whether its contents are known at compile time (weights: a packing costs nothing).
        zeros: where a constant is zero, when it is in many places.
        short: how many products of an i8 constant with u8 add up in 16 bits.
    """

    name: str
    dtype: DType
    shape: tuple[DimLike, ...]
    layout: Layout = ROW_MAJOR
    allocated: tuple[DimLike, ...] | None = None
    constant: bool = False
    zeros: ZeroPattern | None = None
    short: ShortSums | None = None

    def addr(self, index: tuple[DimLike, ...]) -> DimLike:
        """Element offset of a coordinate from the view's start."""
        return self.layout.addr(self.allocated if self.allocated is not None else self.shape, index)

    @property
    def bound(self) -> DimLike:
        """Elements from the view's start to its end, padding included (an upper bound for slices)."""
        if self.allocated is None:
            return self.layout.bound(self.shape)
        last = self.addr(tuple(d - 1 for d in self.shape))
        return last + 1


@dataclass(frozen=True)
class Result(Operand):
    """A tensor that a kernel writes: `expr` at the iteration point goes to coordinate `index`.

    For a `Compute`, `expr` reads the reduction with Accumulator() and operands at `axes`; for a
    RowProgram it reads stages with Var; for a Nest both are None.  `aliases` names the operand
    whose buffer it shares (in place), or None.
    """

    expr: Expr | None = None
    index: tuple[DimLike, ...] = ()
    per_row: bool = False
    aliases: int | None = None


@dataclass(frozen=True)
class Attention:
    """softmax(scale * Q K^T + bias) V with axes (batch..., head, query) and a score-expression slot.

    Operand 0 is Q [batch, heads, queries, width], 1 is K [batch, kv_heads, keys, width], 2 is V
    [batch, kv_heads, keys, value_width].  `score` is an expression over Arg(0) (the raw dot product,
    f32) and Reads at axes b, h, q, k giving the logit; `causal` keeps keys k <= q + offset.
    """

    batch: DimLike
    heads: DimLike
    kv_heads: DimLike
    queries: DimLike
    keys: DimLike
    width: DimLike
    value_width: DimLike
    score: Expr
    causal: bool = False
    offset: DimLike = 0
    masked_rows_zero: bool = False
    """Whether a row whose every logit is -inf gives zeros instead of NaN."""
    checks: tuple[Check, ...] = ()
    """Run-time conditions of what was composed into the score."""


Program = Compute | RowProgram | Nest | Attention


@dataclass(frozen=True)
class KernelSpec:
    """What one kernel computes.

    Attributes:
        anchor: op that dominates it, for names and reports (``conv``, ``matmul``, ``add``).
        program: the index notation; Reads refer to `operands` by position.
        operands, results: the buffers.
        symbols: (name, lo, hi) of the integer symbols that occur.
        numerics: strict, default or fast.
        label: what the header comment says (fused op names); not part of the identity.
    """

    anchor: str
    program: Program
    operands: tuple[Operand, ...]
    results: tuple[Result, ...]
    symbols: tuple[tuple[str, int, int | None], ...] = ()
    numerics: str = "default"
    label: str = field(default="", compare=False, repr=False)

    @cached_property
    def text(self) -> str:
        """Canonical text: equal texts mean equal kernels."""
        return canonical_text(self)

    @cached_property
    def key(self) -> str:
        """Hash of the canonical text."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    def result_size(self) -> DimLike:
        """Elements written in all."""
        return sum((product(r.shape) for r in self.results), start=0)


@dataclass(frozen=True)
class Candidate:
    """One way to do a spec.

    Attributes:
        generator: who can build it.
        name: for reports: algorithm and tile, such as ``gemm 6x32 kc=384``.
        params: what `build` needs, hashable (tile sizes, algorithm).
        packings: operand index -> how the candidate wants it stored (constants only).
        companions: further things made from constant operands that the kernel reads, such as the
            positions of nonzeros: (operand index, how).  They are its last parameters.
        cost: modelled seconds on one core of the target.
        arrival: how much of it passes while operands arrive from beyond the core's own caches, as in networks
            that do not fit there.
        error_class: exact, reordered or approximate.
        precision: dtype whose precision counts where that is less than the results': the target allows it.
        library: what a library does instead; the kernel stands beside it, for where the library is missing.
    """

    generator: str
    name: str
    params: tuple[tuple[str, Any], ...] = ()
    packings: tuple[tuple[int, Packing], ...] = ()
    companions: tuple[tuple[int, Packing], ...] = ()
    scratch_bytes: int = 0
    cost: float = 0.0
    error_class: str = "reordered"
    arrival: float = 0.0
    precision: DType | None = None
    library: ProductCall | None = None


class Transform(Protocol):
    """What is stored instead of a constant's array; frozen and hashable."""

    def shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of what is stored for a constant of some shape."""

    def dtype(self, dtype: DType) -> DType:
        """Its element type, for a constant of some type."""

    def apply(self, array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """The array that is stored."""


@dataclass(frozen=True)
class Packing:
    """How a constant operand is stored for one kernel: an optional transform, then a layout."""

    layout: Layout
    transform: Transform | None = None

    def stored_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of what is stored, before the layout."""
        return shape if self.transform is None else self.transform.shape(shape)

    def stored_dtype(self, dtype: DType) -> DType:
        """Element type of what is stored."""
        return dtype if self.transform is None else self.transform.dtype(dtype)

    def pack(self, array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """An array of the constant's shape, as a flat array of stored elements."""
        return self.layout.pack(array if self.transform is None else self.transform.apply(array))


@dataclass(frozen=True)
class Reject:
    """Why a generator cannot serve a spec."""

    generator: str
    reason: str


@dataclass(frozen=True)
class Origin:
    """What a kernel stands for: an op (a single one or a `core.fused`) and the values of its operands.

    Its results are those of the op.  The first op that the kernel was built for; others share it.
    """

    op: Op
    operands: tuple[Value, ...]


@dataclass(frozen=True)
class Kernel:
    """A built kernel: the loops, the candidate behind them, and whose meaning it must have."""

    spec: KernelSpec
    candidate: Candidate
    function: LoopFn
    flops: DimLike = 0
    origin: Origin | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Part:
    """One kernel of a `Division`.

    Attributes:
        spec: what it computes.
        reads: what its operands are: operands of the divided spec by position, temporaries by name.
        writes: what its results are: results of the divided spec by position, temporaries by name.
    """

    spec: KernelSpec
    reads: tuple[int | str, ...]
    writes: tuple[int | str, ...]


@dataclass(frozen=True)
class Division:
    """A spec as several kernels, one after the other, that share tensors of their own.

    Attributes:
        temporaries: name and type of each such tensor.
        parts: the kernels in order; each is a spec like any other and may be divided itself.
    """

    temporaries: tuple[tuple[str, TensorType], ...]
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class Link:
    """One kernel of a `Chain`.

    Attributes:
        kernel: what runs.
        reads, writes: its operands and results, as those of a `Part`; temporaries by numbers as text.
    """

    kernel: Kernel
    reads: tuple[int | str, ...]
    writes: tuple[int | str, ...]


@dataclass(frozen=True)
class Chain:
    """The kernels of a division in order, those of divided parts in place of these, and what they do.

    Attributes:
        spec: what was divided.
        origin: the op.
        temporaries: name -> type.
        links: the kernels.
    """

    spec: KernelSpec
    origin: Origin
    temporaries: Mapping[str, TensorType]
    links: tuple[Link, ...]


Divider = Callable[[KernelSpec], Division | None]
"""Says how a spec is done by several kernels where that is better than by one, else None."""


class Generator(Protocol):
    """A kernel generator for one family of specs."""

    name: str

    def candidates(self, spec: KernelSpec, target: Target) -> Iterable[Candidate | Reject]:
        """Ways to do the spec; cheap (no loops are built)."""

    def build(self, spec: KernelSpec, candidate: Candidate, target: Target) -> LoopFn:
        """The loops of a candidate."""


class Catalogue(Protocol):
    """What passes may ask of code generation; injected by the driver."""

    def candidates(self, spec: KernelSpec) -> list[Candidate | Reject]:
        """All answers of all generators, cheapest first, rejects last."""

    def build(self, spec: KernelSpec, candidate: Candidate) -> LoopFn:
        """The loops of a candidate."""

    def divide(self, spec: KernelSpec) -> Division | None:
        """The kernels that should do a spec together, None where one does as well."""

    def accepts(self, kind: str, op_names: tuple[str, ...]) -> bool:
        """Whether a fused group of a kind may hold these ops."""


class GroupPricer(Protocol):
    """What fusion may ask about a group of ops as one kernel; injected by the driver."""

    def price(self, op: Op) -> float | str:
        """Modelled seconds of the op (a single one or a `core.fused`) as one kernel, or why there is none."""
