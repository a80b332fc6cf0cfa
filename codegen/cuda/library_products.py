"""Products as calls of cuBLAS: candidates beside AINO's own kernels, for those who measure.

A candidate has the loops and the packings of an own kernel, which stands beside the call in the artifact and
runs where the library is missing.  Its modelled cost says nothing: whoever asks this generator must know
from a clock that the call is faster.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace

from aino_ir.codegen.cuda.product import Product, analyse
from aino_ir.codegen.cuda.tensor_cores import TensorCoreGenerator
from aino_ir.codegen.cuda.tile import TileGenerator
from aino_ir.codegen.kernels.canonical import slope
from aino_ir.compute import Axis, Compute
from aino_ir.dims import Dim, DimLike, is_static
from aino_ir.dtypes import DType, bf16, f16, f32, f64, i8, i32
from aino_ir.kernels import Candidate, Generator, KernelSpec, Reject
from aino_ir.library_calls import CUBLAS, Matrix, ProductCall
from aino_ir.loops.expr import Accumulator, Binary, Call, Cast, Const, Expr, Read, Round
from aino_ir.loops.stmt import LoopFn
from aino_ir.target import Target

DEARER = 1.01
"""Modelled cost of a call in terms of the own kernel's: it never comes first by that."""

SUMS: dict[tuple[DType, DType], str] = {
    (bf16, bf16): "f32",
    (bf16, f32): "f32",
    (f16, f16): "f32",
    (f16, f32): "f32",
    (f32, f32): "f32",
    (f64, f64): "f64",
    (i8, i32): "i32",
}
"""(Type of both factors, of the result) -> what cuBLAS sums in."""

EPILOGUES = ("f32", "tf32")
"""Sums behind which cuBLAS adds a bias and applies a function."""


class LibraryProductGenerator:
    """Plain products, with a bias, a residual and an activation that cuBLAS knows.

    Args:
        only: keys of the specs to answer to; None: to all.
    """

    name = CUBLAS

    def __init__(self, only: Collection[str] | None = None) -> None:
        self.only = only
        self._own: dict[str, Generator] = {g.name: g for g in (TensorCoreGenerator(), TileGenerator())}

    def candidates(self, spec: KernelSpec, target: Target) -> Iterable[Candidate | Reject]:
        """The call, or why there is none; nothing for what is no product."""
        if (self.only is not None and spec.key not in self.only) or isinstance(analyse(spec), str):
            return
        offered = [a for g in self._own.values() for a in g.candidates(spec, target)]
        own = min((c for c in offered if isinstance(c, Candidate)), key=lambda c: c.cost, default=None)
        call = "no kernel of AINO's own stands beside it" if own is None else product_call(spec, own, target)
        if own is None or isinstance(call, str):
            yield Reject(self.name, str(call))
            return
        yield replace(
            own,
            generator=self.name,
            name=call_name(call),
            params=(("own", own),),
            cost=DEARER * own.cost,
            library=call,
        )

    def build(self, spec: KernelSpec, candidate: Candidate, target: Target) -> LoopFn:
        """The loops of the own kernel."""
        own = beside_library(candidate)
        assert own is not None
        return self._own[own.generator].build(spec, own, target)


def beside_library(candidate: Candidate) -> Candidate | None:
    """The own kernel that stands beside a library's call; None: the candidate is no such call."""
    if candidate.library is None:
        return None
    own = dict(candidate.params)["own"]
    assert isinstance(own, Candidate)
    return own


def call_name(call: ProductCall) -> str:
    """For reports."""
    types = call.first.dtype if call.compute != "tf32" else call.compute
    added = {"bias": call.bias, "residual": call.residual}
    parts = [f"{types} product", *(n for n, what in added.items() if what is not None), call.activation]
    return ", ".join(p for p in parts if p)


@dataclass(frozen=True)
class Steps:
    """How an address depends on the axes of a product: elements from one point to the next along each."""

    rows: DimLike
    columns: DimLike
    terms: DimLike
    stack: DimLike


def product_call(spec: KernelSpec, own: Candidate, target: Target) -> ProductCall | str:
    """What cuBLAS is to do for a spec whose constants lie as the own kernel wants them; or why it cannot."""
    operands = list(spec.operands)
    for number, packing in own.packings:
        if packing.transform is not None:
            return "a constant that is stored as something else"
        operands[number] = replace(operands[number], layout=packing.layout, allocated=None)
    found = analyse(replace(spec, operands=tuple(operands)))
    if isinstance(found, str):
        return found
    found = replace(found, factors=(_bytes(found.factors[0]), _bytes(found.factors[1])))
    obstacle = _obstacle(found)
    if obstacle:
        return obstacle
    follows = _epilogue(found)
    if isinstance(follows, str):
        return follows
    return _placed(found, follows, target)


def _bytes(factor: Expr) -> Expr:
    """The bytes behind a factor that is widened for a sum of i32."""
    return factor.x if isinstance(factor, Cast) and factor.x.dtype is i8 and factor.dtype is i32 else factor


def _obstacle(of: Product) -> str:
    """Why a product is nothing that a library does, whatever lies where."""
    spec, program = of.spec, of.spec.program
    assert isinstance(program, Compute)
    if program.checks or len(spec.results) != 1 or spec.results[0].aliases is not None:
        return "run-time checks, several results, or one that takes an operand's place"
    plain = all(
        isinstance(f, Read) and f.default is None and not any(isinstance(c, Expr) for c in f.index)
        for f in of.factors
    )
    if not plain:
        return "a factor that is computed in the kernel, or has borders"
    if len(of.rows) != 1 or len(of.columns) != 1 or len(of.terms) != 1 or len(of.stack) > 1:
        return "rows, columns, terms or a stack that are no single axis"
    return ""


@dataclass(frozen=True)
class _Epilogue:
    """What follows a product.

    Attributes:
        added: what is added.
        activation: the function.
        loose: whether roundings between them are left out, or terms added in another order.
    """

    added: tuple[Read, ...] = ()
    activation: str = ""
    loose: bool = False


def _epilogue(of: Product) -> _Epilogue | str:
    """What follows the sum; cuBLAS rounds once, at the end, where AINO's op by op means more roundings."""
    spec, result = of.spec, of.spec.results[0]
    program = of.spec.program
    assert isinstance(program, Compute)
    whole = result.expr if result.expr is not None else program.result_expr
    e, activation = _activation(_rounded(whole, result.dtype))
    terms = list(_terms(e, result.dtype))
    added = tuple(t for t in terms if isinstance(t, Read) and t.default is None)
    if sum(isinstance(t, Accumulator) for t in terms) != 1 or len(added) != len(terms) - 1:
        return "something else follows the product"
    loose = len(added) > 1 or (result.dtype.bits < 32 and (bool(added) or activation != ""))
    if loose and spec.numerics == "strict":
        return "cuBLAS rounds once, behind all that follows the product, and numerics are strict"
    return _Epilogue(added, activation, loose)


def _terms(e: Expr, storage: DType) -> Iterator[Expr]:
    """What is added up, roundings to a type left out."""
    e = _rounded(e, storage)
    if isinstance(e, Binary) and e.op == "add":
        yield from _terms(e.a, storage)
        yield from _terms(e.b, storage)
    else:
        yield e


def _rounded(e: Expr, storage: DType) -> Expr:
    """What is rounded to a type."""
    return e.x if isinstance(e, Round) and e.storage is storage else e


def _activation(e: Expr) -> tuple[Expr, str]:
    """What an activation is applied to, and its name."""
    if isinstance(e, Call) and e.function == "gelu_tanh":
        return e.args[0], "gelu"
    if isinstance(e, Binary) and e.op == "max":
        for x, limit in ((e.a, e.b), (e.b, e.a)):
            if isinstance(limit, Const) and limit.value == 0:
                return x, "relu"
    return e, ""


def _placed(of: Product, follows: _Epilogue, target: Target) -> ProductCall | str:
    """The call, from where factors and result lie."""
    spec, (result,) = of.spec, of.spec.results
    factors = [f for f in of.factors if isinstance(f, Read)]
    types = [spec.operands[f.operand].dtype for f in factors]
    sums = SUMS.get((types[0], result.dtype)) if types[0] is types[1] else None
    if sums is None:
        return f"factors of {types[0]} and {types[1]} with a result of {result.dtype}"
    if sums not in EPILOGUES and (follows.added or follows.activation):
        return f"cuBLAS adds nothing to sums of {sums}"
    whole = _steps(of, result.addr(result.index))
    if whole is not None and whole.columns == 1:  # rows are contiguous: the transpose is told
        of = replace(of, rows=of.columns, columns=of.rows)
        factors, whole = factors[::-1], _steps(of, result.addr(result.index))
    first, second = (_steps(of, _address(spec, f)) for f in factors)
    if first is None or second is None or whole is None or whole.rows != 1:
        return "addresses that do not grow evenly"
    down, across, terms = of.rows[0], of.columns[0], of.terms[0]
    left = _matrix(spec, factors[0].operand, (first.rows, first.terms), first.stack, (down, terms))
    right = _matrix(spec, factors[1].operand, (second.terms, second.columns), second.stack, (terms, across))
    if left is None or right is None:
        return "a factor none of whose axes is contiguous, or whose lines overlap"
    added = _added(of, follows)
    if isinstance(added, str):
        return added
    bias, residual = added
    return ProductCall(
        down.extent,
        across.extent,
        terms.extent,
        of.stack[0].extent if of.stack else 1,
        left,
        right,
        Matrix(len(spec.operands), result.dtype.name, whole.columns, whole.stack),
        "tf32" if types[0] is f32 and target.tf32 else sums,
        bias,
        residual,
        follows.activation,
    )


def _address(spec: KernelSpec, read: Read) -> DimLike:
    return spec.operands[read.operand].addr(read.index)  # type: ignore[arg-type]  # no expressions


def _steps(of: Product, address: DimLike) -> Steps | None:
    """The steps of an address along the axes; None where it is no plain sum of them."""
    axes = [*of.rows, *of.columns, *of.terms, *of.stack]
    names = {a.name for a in axes}
    slopes = [slope(address, a.name) for a in axes]
    start = address.substitute(dict.fromkeys(names, 0)) if isinstance(address, Dim) else address
    if not is_static(start) or start != 0:
        return None
    found = [s for s in slopes if s is not None and not (isinstance(s, Dim) and s.free_symbols() & names)]
    if len(found) < len(axes):
        return None
    return Steps(*(found if of.stack else (*found, 0)))


def _matrix(
    spec: KernelSpec, view: int, steps: tuple[DimLike, DimLike], stride: DimLike, axes: tuple[Axis, Axis]
) -> Matrix | None:
    """How a factor lies, from its steps down and across along two axes."""
    turned = steps[0] != 1
    (inner, leading), line = (steps[1], steps[0]) if turned else steps, axes[turned].extent
    short = is_static(leading) and is_static(line) and leading < line
    if inner != 1 or short:
        return None
    return Matrix(view, spec.operands[view].dtype.name, leading, stride, turned)


def _added(of: Product, follows: _Epilogue) -> tuple[int | None, Matrix | None] | str:
    """The bias (a parameter) and the residual among what is added; or what is neither."""
    spec, (result,) = of.spec, of.spec.results
    bias, residual = None, None
    for read in follows.added:
        operand = spec.operands[read.operand]
        plain = operand.dtype is result.dtype and not any(isinstance(c, Expr) for c in read.index)
        steps = _steps(of, _address(spec, read)) if plain else None
        if steps is None or steps.rows != 1:
            return "something is added that does not lie along the contiguous axis, or is of another type"
        if steps.columns != 0 and residual is None:
            residual = Matrix(read.operand, operand.dtype.name, steps.columns, steps.stack)
        elif steps.columns == 0 and steps.stack == 0 and bias is None:
            bias = read.operand
        else:
            return "more is added than a vector and a matrix"
    return bias, residual
