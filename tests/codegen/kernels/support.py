"""Kernel specs with data: built as passes build them, by every generator, run beside the interpreter."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from aino_ir.builder import Builder
from aino_ir.codegen.c.unit import print_unit
from aino_ir.codegen.catalogue import generators_for
from aino_ir.codegen.lower.compose import compose
from aino_ir.codegen.lower.group import Group, Storage
from aino_ir.constants import Const
from aino_ir.dims import DimLike
from aino_ir.dtypes import DType, dtype_of
from aino_ir.graph import Value
from aino_ir.interp import run_module
from aino_ir.kernels import Candidate, KernelSpec, Operand, Reject
from aino_ir.loops.interp import run_kernel
from aino_ir.loops.stmt import LoopFn, Status
from aino_ir.loops.verify import verify_loops
from aino_ir.ops.core import Fused
from aino_ir.short_sums import short_sums
from aino_ir.sparsity import zero_pattern
from aino_ir.tolerance import disagreement
from aino_ir.types import ROW_MAJOR, Layout, TensorType
from tests.codegen.c.support import build as build_c
from tests.codegen.c.support import compile_text, compilers
from tests.codegen.native import extent, target

Array = np.ndarray[Any, Any]
Body = Callable[..., Sequence[Value]]


@dataclass(frozen=True)
class Given:
    """An operand: its values, and how a model would hold it.

    Attributes:
        shape: the type's shape where symbols occur in it.
    """

    array: Array
    layout: Layout = ROW_MAJOR
    constant: bool = False
    shape: tuple[DimLike, ...] | None = None

    @property
    def type(self) -> TensorType:
        """Its type."""
        dtype = dtype_of(self.array.dtype)
        assert dtype is not None
        return TensorType(dtype, self.shape if self.shape is not None else self.array.shape, self.layout)


@dataclass
class Problem:
    """A spec, the arrays behind its operands, and what the interpreter makes of them."""

    spec: KernelSpec
    arrays: list[Array]
    expected: tuple[Array, ...]
    values: dict[str, int] = field(default_factory=dict)
    terms: int = 1
    error_class: str = "reordered"
    precision: DType | None = None

    def memory(self, candidate: Candidate) -> list[Array]:
        """Buffers of a candidate's kernel: operands in the layouts it wants, results as a pattern."""
        packings = dict(candidate.packings)
        views = []
        for i, (operand, array) in enumerate(zip(self.spec.operands, self.arrays, strict=True)):
            views.append(packings[i].pack(array) if i in packings else operand.layout.pack(array))
        for result in self.spec.results:
            if result.aliases is None:
                views.append(self._pattern(result))
        views += [packing.pack(self.arrays[i]) for i, packing in candidate.companions]
        return views

    def _pattern(self, result: Operand) -> Array:
        size = extent(result.bound, self.values) * result.dtype.bytes
        return np.full(size, 0xA5, np.uint8).view(result.dtype.numpy)

    def results(self, views: Sequence[Array]) -> list[Array]:
        """Logical results in the buffers of a kernel that ran."""
        position, out = len(self.spec.operands), []
        for result in self.spec.results:
            if result.aliases is not None:
                flat = views[result.aliases]
            else:
                flat, position = views[position], position + 1
            shape = tuple(extent(d, self.values) for d in result.shape)
            out.append(result.layout.unpack(flat, shape))
        return out

    def complaint(self, views: Sequence[Array]) -> str | None:
        """What is wrong with the results, or None."""
        for got, want in zip(self.results(views), self.expected, strict=True):
            why = disagreement(got, want, self.error_class, dtype=self.precision, terms=self.terms)
            if why is not None:
                return why
        return None


def problem(
    body: Body,
    *operands: Given,
    layouts: Sequence[Layout] = (),
    symbols: Mapping[str, tuple[int, int | None]] | None = None,
    values: Mapping[str, int] | None = None,
    terms: int = 1,
    error_class: str = "reordered",
) -> Problem:
    """The problem of one fused group.

    Args:
        body: what the group computes: (builder, *operands) -> results.
        layouts: of the results (default row-major).
        symbols: bounds of symbols that operand shapes use; `values`: what they are in `operands`.
        terms: length of the longest sum, for the tolerance.
    """
    b = Builder()
    for name, (lo, hi) in (symbols or {}).items():
        b.symbol(name, lo, hi)
    inputs = [b.input(f"x{i}", g.type) for i, g in enumerate(operands)]
    region = b.region([g.type for g in operands], body)
    count = len(region.terminator.operands)
    op = b.op(Fused, *inputs, regions=[region], layouts=list(layouts) or [ROW_MAJOR] * count)
    for i, result in enumerate(op.results):
        b.output(f"y{i}", result)
    expected = run_module(b.module, [g.array for g in operands])
    constant = {v: g.constant for v, g in zip(inputs, operands, strict=True)}
    layout_of = {**{v: g.layout for v, g in zip(inputs, operands, strict=True)}}
    group = Group(op)
    for inner, result in zip(group.outputs, op.results, strict=True):
        layout_of[inner] = result.type.layout  # type: ignore[union-attr]

    def storage(v: Value) -> Storage:
        array = operands[inputs.index(v)].array if constant.get(v, False) else None
        zeros = None if array is None else zero_pattern(Const.of(array))
        short = None if array is None else short_sums(Const.of(array))
        return Storage(layout_of[v], None, array is not None, zeros, short)

    composed = compose(group, storage, b.function.symbols)
    arrays = [operands[inputs.index(v)].array for v in composed.operands]
    return Problem(composed.spec, arrays, expected, dict(values or {}), terms, error_class)


@dataclass
class Built:
    """A kernel of a problem, with the memory that it runs on."""

    problem: Problem
    candidate: Candidate
    fn: LoopFn
    unproved: list[str]

    @property
    def symbols(self) -> dict[str, int]:
        """Values of the kernel's symbols."""
        return {n: self.problem.values[n] for n in self.fn.symbols}

    def interpret(self) -> str | None:
        """Run in the loop interpreter, the later units first; what is wrong, or None."""
        views = self.problem.memory(self.candidate)
        units = extent(self.fn.units, self.symbols)
        for lo, hi in ((units // 2, units), (0, units // 2)):
            if hi > lo or units == 0:
                outcome = run_kernel(self.fn, views, self.symbols, lo, hi)
                assert outcome.status is Status.OK
        return self.problem.complaint(views)


def candidates(p: Problem, text: str = "c:avx2", only: str = "") -> list[Candidate]:
    """What the generators offer (one of them when `only` is given)."""
    found = []
    for generator in generators_for(target(text)):
        if only in ("", generator.name):
            found += [a for a in generator.candidates(p.spec, target(text)) if isinstance(a, Candidate)]
    return found


def rejects(p: Problem, text: str = "c:avx2") -> dict[str, str]:
    """Why generators turn a problem down."""
    answers = [a for g in generators_for(target(text)) for a in g.candidates(p.spec, target(text))]
    return {a.generator: a.reason for a in answers if isinstance(a, Reject)}


def kernels(
    p: Problem, text: str = "c:avx2", only: str = "", most: int = 8, bounds: bool = True
) -> list[Built]:
    """Every candidate's kernel, verified."""
    by_name = {g.name: g for g in generators_for(target(text))}
    out = []
    for candidate in candidates(p, text, only)[:most]:
        fn = by_name[candidate.generator].build(p.spec, candidate, target(text))
        out.append(Built(p, candidate, fn, verify_loops(fn, bounds=bounds).unproved))
    return out


def check(
    p: Problem, text: str = "c:avx2", only: str = "", proved: bool = True, most: int = 8
) -> list[Built]:
    """Build and run every candidate in the loop interpreter; the kernels, for more tests."""
    made = kernels(p, text, only, most, proved)
    assert made, f"no generator takes it: {rejects(p, text)}"
    for kernel in made:
        where = f"{kernel.candidate.generator} {kernel.candidate.name}"
        if proved:  # masks and gathered indices may hold what the prover cannot see
            loose = [a for a in kernel.unproved if " where " not in a and not re.search(r"\+ at\d*\]", a)]
            assert not loose, f"{where}: {loose[:3]}"
        why = kernel.interpret()
        assert why is None, f"{where}: {why}"
    return made


def check_compiled(made: Sequence[Built], isa: str, folder: Any) -> None:
    """Compile kernels in one unit and run them; twelve guard elements lie behind each buffer."""
    check_text(made, unit_text(made, isa), isa, folder)


def unit_text(made: Sequence[Built], isa: str) -> str:
    """The C of kernels for an ISA, each once."""
    unique = {k.fn.name: k.fn for k in made}
    return print_unit(list(unique.values()), target(f"c:{isa}"))


def check_text(made: Sequence[Built], text: str, isa: str, folder: Any) -> None:
    """Compile a unit that holds kernels, and run them."""
    library = build_c(text, _compiler(), isa_name(isa), folder)
    for kernel in made:
        views = [_fenced(v) for v in kernel.problem.memory(kernel.candidate)]
        _call(library, kernel.fn, [v for v, _ in views], kernel.symbols)
        why = kernel.problem.complaint([v for v, _ in views])
        assert why is None, f"{isa} {kernel.candidate.generator} {kernel.candidate.name}: {why}"
        assert all((whole[:64] == 0xA5).all() and (whole[-64:] == 0xA5).all() for _, whole in views)


def check_compiles(made: Sequence[Built], isa: str, folder: Any) -> None:
    """Compile kernels for an ISA that this machine may lack."""
    unique = {k.fn.name: k.fn for k in made}
    compile_text(print_unit(list(unique.values()), target(f"c:{isa}")), _compiler(), isa_name(isa), folder)


def isa_name(isa: str) -> str:
    """The ISA behind a target's suffix."""
    return "vec128" if isa == "portable" else isa


def _compiler() -> str:
    return next(iter(compilers()))


def _fenced(array: Array) -> tuple[Array, Array]:
    whole = np.full(array.nbytes + 128, 0xA5, np.uint8)
    inner = whole[64 : 64 + array.nbytes].view(array.dtype)
    inner[:] = array
    return inner, whole


def _call(library: ctypes.CDLL, fn: LoopFn, views: Sequence[Array], symbols: Mapping[str, int]) -> None:
    pointers = (ctypes.c_void_p * max(1, len(views)))(*[a.ctypes.data for a in views])
    values = (ctypes.c_int64 * max(1, len(fn.symbols)))(*[symbols[n] for n in fn.symbols])
    scratch = np.zeros(extent(fn.scratch_bytes, symbols) + 128, np.uint8)
    base = scratch.ctypes.data + (-scratch.ctypes.data) % 64
    function = getattr(library, fn.name)
    function.restype = None
    units = extent(fn.units, symbols)
    function(pointers, values, ctypes.c_void_p(base), ctypes.c_int64(0), ctypes.c_int64(units))


def normal(*shape: int, seed: int = 0, dtype: Any = np.float32) -> Array:
    """Normal values, a function of shape and seed alone; small integers for integer dtypes."""
    rng = np.random.default_rng([seed, *shape])
    if np.dtype(dtype).kind in "iu":
        low = 0 if np.dtype(dtype).kind == "u" else -9
        return rng.integers(low, 10, shape).astype(dtype)
    return np.asarray(rng.standard_normal(shape)).astype(dtype)


def square_window(stride: int, pad: int) -> dict[str, tuple[int, int]]:
    """Attributes of a convolution that is alike along both axes."""
    return {
        "strides": (stride,) * 2,
        "dilations": (1, 1),
        "pads_before": (pad,) * 2,
        "pads_after": (pad,) * 2,
    }
