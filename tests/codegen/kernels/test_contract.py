"""The contraction generator: matmul and convolution in every shape, layout and epilogue."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aino_ir.codegen.kernels.contract import ContractGenerator
from aino_ir.dims import symbol
from aino_ir.kernels import Candidate
from aino_ir.loops.verify import verify_loops
from aino_ir.types import ROW_MAJOR, Layout, permuted
from tests.codegen.kernels.support import (
    Built,
    Given,
    Problem,
    check,
    check_compiled,
    check_compiles,
    kernels,
    normal,
    problem,
    rejects,
)
from tests.codegen.native import target

CHANNELS_LAST = {1: permuted(0, 2, 1), 2: permuted(0, 2, 3, 1), 3: permuted(0, 2, 3, 4, 1)}


def matmul(
    m: int,
    n: int,
    k: int,
    batch: Sequence[int] = (),
    dtype: Any = np.float32,
    constant: bool = True,
    **attrs: Any,
) -> Problem:
    """A product; a constant right side is shared by the batch."""
    a = (*batch, k, m) if attrs.get("transpose_lhs") else (*batch, m, k)
    b = (n, k) if attrs.get("transpose_rhs") else (k, n)
    if not constant:
        b = (*batch, *b)
    lhs, rhs = Given(normal(*a, dtype=dtype)), Given(normal(*b, seed=1, dtype=dtype), constant=constant)
    return problem(lambda b, x, y: [b.matmul(x, y, **attrs)], lhs, rhs, terms=k)


def conv(
    x: Sequence[int],
    w: Sequence[int],
    *,
    stride: int = 1,
    dilation: int = 1,
    pad: tuple[int, int] = (0, 0),
    groups: int = 1,
    bias: bool = False,
    last: bool = False,
    dtype: Any = np.float32,
    epilogue: Any = None,
    more: Sequence[Given] = (),
) -> Problem:
    """A convolution with constant weights; with `last` data and result have channels last."""
    spatial = len(x) - 2
    layout = CHANNELS_LAST[spatial] if last else ROW_MAJOR
    operands = [Given(normal(*x, dtype=dtype), layout), Given(normal(*w, seed=1, dtype=dtype), constant=True)]
    if bias:
        operands.append(Given(normal(w[0], seed=2, dtype=dtype), constant=True))
    count = len(operands)
    attrs = {
        "strides": (stride,) * spatial,
        "dilations": (dilation,) * spatial,
        "pads_before": (pad[0],) * spatial,
        "pads_after": (pad[1],) * spatial,
        "groups": groups,
    }

    def body(b: Any, *values: Any) -> list[Any]:
        y = b.conv(*values[:count], **attrs)
        return [epilogue(b, y, *values[count:]) if epilogue else y]

    return problem(body, *operands, *more, layouts=[layout], terms=int(np.prod(w[1:])))


extents = st.integers(1, 20)


@settings(max_examples=15)
@given(
    extents,
    extents,
    extents,
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.sampled_from([(), (2,), (2, 3)]),
)
def test_matmul_tails(
    m: int, n: int, k: int, ta: bool, tb: bool, constant: bool, batch: tuple[int, ...]
) -> None:
    p = matmul(m, n, k, batch, constant=constant, transpose_lhs=ta, transpose_rhs=tb)
    check(p, most=2)


@pytest.mark.parametrize("dtype", [np.float64, np.int32, np.int64, np.uint8, np.int8, np.float16])
@pytest.mark.parametrize("shape", [(5, 7, 9), (13, 33, 6), (1, 18, 8)])
def test_matmul_of_other_dtypes(dtype: Any, shape: tuple[int, int, int]) -> None:
    for constant in (True, False):
        check(matmul(*shape, dtype=dtype, constant=constant), most=2)


@pytest.mark.parametrize("text", ["c:avx2", "c:avx512", "c:portable"])
@pytest.mark.parametrize("shape", [(6, 16, 8), (7, 17, 9), (29, 70, 5), (1, 64, 33), (40, 1, 12)])
def test_matmul_on_every_isa(text: str, shape: tuple[int, int, int]) -> None:
    check(matmul(*shape), text)


@settings(max_examples=12)
@given(
    st.sampled_from([1, 2, 3]),
    st.integers(1, 3),
    st.integers(1, 2),
    st.integers(1, 2),
    st.tuples(st.integers(0, 2), st.integers(0, 2)),
    st.sampled_from([(1, 3, 5), (1, 4, 16), (2, 2, 3), (3, 1, 1), (4, 1, 2)]),
    st.booleans(),
    st.integers(5, 9),
)
def test_convolutions(
    spatial: int,
    kernel: int,
    stride: int,
    dilation: int,
    pad: tuple[int, int],
    channels: tuple[int, int, int],
    last: bool,
    size: int,
) -> None:
    groups, inner, outer = channels
    x = (1, groups * inner, *[size, size + 2, 5][:spatial])
    w = (groups * outer, inner, *[kernel] * spatial)
    p = conv(x, w, stride=stride, dilation=dilation, pad=pad, groups=groups, last=last)
    check(p, most=1)


def test_wide_rows_have_border_and_inner_tiles() -> None:
    """Rows long enough for a loop of inner tiles between two borders."""
    for last in (True, False):
        for stride in (1, 2):
            p = conv((1, 3, 3, 61), (17, 3, 1, 5), stride=stride, pad=(2, 2), bias=True, last=last)
            check(p, most=1)


def test_depthwise() -> None:
    for last in (True, False):
        for multiplier in (1, 2):
            p = conv((1, 9, 4, 21), (9 * multiplier, 1, 3, 3), pad=(1, 1), groups=9, last=last, bias=True)
            check(p, most=1)


RESIDUAL = {False: ROW_MAJOR, True: CHANNELS_LAST[2]}


@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("name", ["relu", "gelu", "residual", "mul"])
def test_epilogues(name: str, last: bool) -> None:
    """Bias with a light epilogue in registers, a heavy one parked, a residual, a broadcast factor."""
    shape = (1, 5, 6, 8)
    epilogues = {
        "relu": (lambda b, y: b.relu(y), ()),
        "gelu": (lambda b, y: b.gelu(y), ()),
        "residual": (
            lambda b, y, r: b.relu(b.add(y, r)),
            (Given(normal(1, 18, 6, 8, seed=5), RESIDUAL[last]),),
        ),
        "mul": (lambda b, y, r: b.mul(y, r), (Given(normal(1, 18, 1, 1, seed=5)),)),
    }
    epilogue, more = epilogues[name]
    p = conv(shape, (18, 5, 3, 3), pad=(1, 1), bias=True, last=last, epilogue=epilogue, more=more)
    check(p, most=2)


def test_matmul_epilogues() -> None:
    def body(b: Any, x: Any, w: Any, bias: Any, r: Any) -> list[Any]:
        return [b.add(b.gelu(b.add(b.matmul(x, w), bias)), r)]

    operands = [normal(13, 11), normal(11, 37, seed=1), normal(37, seed=2), normal(13, 37, seed=3)]
    p = problem(body, *[Given(a, constant=i in (1, 2)) for i, a in enumerate(operands)], terms=11)
    check(p)


def test_prologues_are_applied_before_the_product() -> None:
    def body(b: Any, x: Any, s: Any, w: Any) -> list[Any]:
        return [b.matmul(b.relu(b.mul(x, s)), w)]

    operands = [normal(9, 11), normal(11, seed=4), normal(11, 21, seed=1)]
    p = problem(body, *[Given(a, constant=i == 2) for i, a in enumerate(operands)], terms=11)
    check(p)


def test_prologue_under_padding() -> None:
    """What stands outside is the convolution's zero, not the prologue of zero."""

    def body(b: Any, x: Any, one: Any, w: Any) -> list[Any]:
        attrs = {"strides": (1, 1), "dilations": (1, 1), "pads_before": (1, 1), "pads_after": (1, 1)}
        return [b.conv(b.add(x, one), w, **attrs)]

    operands = (
        Given(normal(1, 3, 5, 7)),
        Given(np.float32([1.0])),
        Given(normal(6, 3, 3, 3, seed=1), constant=True),
    )
    check(problem(body, *operands, terms=27), proved=False)


def test_transposed_result_and_operand_layouts() -> None:
    def body(b: Any, x: Any, w: Any) -> list[Any]:
        return [b.matmul(x, w)]

    column = permuted(1, 0)
    tiled = Layout(((1, "o"), (0, None), (1, "i")), ((1, 8),))
    x, w = normal(14, 10), normal(10, 21, seed=1)
    for lhs in (ROW_MAJOR, column, tiled):
        for out in (ROW_MAJOR, column, tiled):
            p = problem(body, Given(x, lhs), Given(w, constant=True), layouts=[out], terms=10)
            check(p, most=2)


def for_every_size(
    make: Callable[[int], Problem], sizes: Sequence[int], proved: bool = True, most: int = 2
) -> None:
    """One kernel of each candidate for every value of the symbols."""
    first = make(sizes[0])
    for kernel in check(first, proved=proved, most=most):
        for size in sizes[1:]:
            p = make(size)
            assert p.spec.key == first.spec.key
            why = replace(kernel, problem=p).interpret()
            assert why is None, f"{kernel.candidate.name} at {size}: {why}"


@pytest.mark.parametrize("name", ["relu", "gelu"])
def test_symbolic_rows(name: str) -> None:
    def make(m: int) -> Problem:
        x = Given(normal(m, 10), shape=(symbol("m"), 10))
        w, bias = (Given(a, constant=True) for a in (normal(10, 21, seed=1), normal(21, seed=2)))
        return problem(
            lambda b, x, w, bias: [getattr(b, name)(b.add(b.matmul(x, w), bias))],
            x,
            w,
            bias,
            symbols={"m": (1, 64)},
            values={"m": m},
            terms=10,
        )

    for_every_size(make, (1, 2, 5, 6, 13, 31))


def test_all_symbolic_batched() -> None:
    """Batched products of run-time operands, as in attention with a dynamic length."""

    def make(size: int) -> Problem:
        m, n, k = size, 2 * size - 1, size // 2 + 1
        return problem(
            lambda b, x, y: [b.matmul(x, y, transpose_rhs=True)],
            Given(normal(2, m, k), shape=(2, symbol("m"), symbol("k"))),
            Given(normal(2, n, k, seed=1), shape=(2, symbol("n"), symbol("k"))),
            symbols={"m": (1, 64), "n": (1, 64), "k": (1, 64)},
            values={"m": m, "n": n, "k": k},
            terms=k,
        )

    for_every_size(make, (1, 2, 9, 17), proved=False)


@pytest.mark.parametrize("last", [True, False])
def test_symbolic_pictures(last: bool) -> None:
    """Convolutions over pictures of any size."""
    layout = CHANNELS_LAST[2] if last else ROW_MAJOR
    attrs = {"strides": (2, 1), "dilations": (1, 1), "pads_before": (1, 1), "pads_after": (1, 1)}

    def make(size: int) -> Problem:
        return problem(
            lambda b, x, w: [b.conv(x, w, **attrs)],
            Given(normal(1, 3, size, size + 1), layout, shape=(1, 3, symbol("h"), symbol("h") + 1)),
            Given(normal(17, 3, 3, 3, seed=1), constant=True),
            layouts=[layout],
            symbols={"h": (1, 64)},
            values={"h": size},
            terms=27,
        )

    for_every_size(make, (3, 8, 18), proved=False, most=1)


def test_nan_and_infinity_reach_only_their_results() -> None:
    x, w = normal(7, 9), normal(9, 20, seed=1)
    x[1, 2], x[4, 0], w[3, 5] = np.nan, np.inf, -np.inf
    check(problem(lambda b, x, y: [b.matmul(x, y)], Given(x), Given(w, constant=True), terms=9), most=2)


def test_what_is_no_product_is_rejected_with_a_reason() -> None:
    total = problem(lambda b, x: [b.reduce_sum(x, axes=(1,))], Given(normal(3, 5)))
    assert rejects(total)["contract"] == "not a sum of products"
    peak = problem(lambda b, x: [b.reduce_max(x, axes=(1,))], Given(normal(3, 5)))
    assert rejects(peak)["contract"] == "not a sum"
    assert "not a map" in rejects(total)["map"]


def examples() -> list[Problem]:
    """Problems of every kind for the compiled tests."""
    return [
        matmul(13, 37, 11),
        matmul(5, 9, 7, (2,), constant=False, transpose_rhs=True),
        matmul(1, 40, 9),
        matmul(6, 7, 5, dtype=np.float64),
        matmul(6, 19, 5, dtype=np.int32),
        matmul(6, 19, 5, dtype=np.uint8),
        conv((1, 2, 5, 21), (17, 2, 3, 3), pad=(1, 1), bias=True, last=True, epilogue=lambda b, y: b.relu(y)),
        conv((1, 2, 5, 21), (7, 2, 3, 3), pad=(1, 1), bias=True, epilogue=lambda b, y: b.gelu(y)),
        conv((1, 4, 7, 9), (8, 1, 3, 3), stride=2, pad=(1, 0), groups=4),
        conv((2, 4, 31), (6, 2, 4), dilation=2, pad=(3, 1), groups=2),
    ]


@pytest.mark.parametrize("isa", ["avx2", "portable"])
def test_compiled_kernels(isa: str, tmp_path: Path) -> None:
    made = [k for p in examples() for k in kernels(p, f"c:{isa}", most=1, bounds=False)]
    check_compiled(made, isa, tmp_path)


def test_avx512_compiles(tmp_path: Path) -> None:
    check_compiles(
        [k for p in examples() for k in kernels(p, "c:avx512", most=1, bounds=False)], "avx512", tmp_path
    )


def cut(p: Problem, chunk: int, group: int, depth: int) -> Built:
    """The first candidate's kernel, with its reduction cut."""
    generator, goal = ContractGenerator(), target("c:avx2")
    first = next(c for c in generator.candidates(p.spec, goal) if isinstance(c, Candidate))
    params = {**dict(first.params), "chunk": chunk, "group": group, "depth": depth}
    candidate = replace(first, params=tuple(params.items()))
    fn = generator.build(p.spec, candidate, goal)
    kernel = Built(p, candidate, fn, verify_loops(fn).unproved)
    assert not kernel.unproved and kernel.interpret() is None
    return kernel


@pytest.mark.parametrize(("m", "n", "k"), [(52, 40, 64), (67, 21, 51)])
def test_long_reductions_are_cut(m: int, n: int, k: int, tmp_path: Path) -> None:
    made = [cut(matmul(m, n, k), *numbers) for numbers in ((3, 2, 16), (9, 1, 27))]
    check_compiled(made, "avx2", tmp_path)


def test_cut_reductions_keep_epilogues() -> None:
    operands = [
        Given(normal(53, 60)),
        Given(normal(60, 24, seed=1), constant=True),
        Given(normal(53, 24, seed=2)),
    ]
    cut(problem(lambda b, x, y, z: [b.gelu(b.add(b.matmul(x, y), z))], *operands, terms=60), 2, 1, 24)


def test_cut_reductions_over_merged_rows() -> None:
    stack = Given(normal(4, 15, 40)), Given(normal(40, 16), constant=True)
    pictures = conv((1, 40, 7, 9), (16, 40, 1, 1), last=True)
    cut(pictures, 2, 1, 16)
    cut(problem(lambda b, x, y: [b.matmul(x, y)], *stack, terms=40), 2, 1, 16)


# -- staged factors ---------------------------------------------------------------------------------------


def staged(p: Problem, most: int = 1, isa: str = "c:avx2") -> list[Built]:
    """Kernels of the cheapest candidates that copy a factor into panels; what they compute is checked."""
    generator, goal = ContractGenerator(most=1000), target(isa)
    found = [
        c
        for c in generator.candidates(p.spec, goal)
        if isinstance(c, Candidate) and dict(c.params).get("staged")
    ]
    assert found, "no candidate stages a factor"
    made = []
    for candidate in found[:most]:
        fn = generator.build(p.spec, candidate, goal)
        kernel = Built(p, candidate, fn, verify_loops(fn).unproved)
        assert not kernel.unproved and kernel.interpret() is None
        made.append(kernel)
    return made


@settings(max_examples=12)
@given(extents, extents, extents, st.booleans(), st.booleans(), st.sampled_from([(), (2,)]))
def test_staged_matmul_tails(m: int, n: int, k: int, ta: bool, tb: bool, batch: tuple[int, ...]) -> None:
    if m > 1 and n > 1 and k > 1:
        staged(matmul(m, n, k, batch, constant=False, transpose_lhs=ta, transpose_rhs=tb), most=2)


def run_time_conv(x: Sequence[int], w: Sequence[int], last: bool = False, **attrs: Any) -> Problem:
    """A convolution whose weights change from run to run."""
    layout = CHANNELS_LAST[len(x) - 2] if last else ROW_MAJOR
    spatial = len(x) - 2
    full = {"strides": 1, "dilations": 1, "pads_before": 0, "pads_after": 0, **attrs}
    groups = full.pop("groups", 1)
    lists = {name: (value,) * spatial for name, value in full.items()}
    operands = Given(normal(*x), layout), Given(normal(*w, seed=1))
    terms = int(np.prod(w[1:]))
    return problem(
        lambda b, x, w: [b.conv(x, w, groups=groups, **lists)], *operands, layouts=[layout], terms=terms
    )


@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize(
    "attrs", [{}, {"pads_before": 1, "pads_after": 1}, {"strides": 2, "pads_before": 1}, {"dilations": 2}]
)
def test_staged_weights(attrs: dict[str, int], last: bool) -> None:
    staged(run_time_conv((2, 5, 6, 7), (19, 5, 3, 3), last, **attrs))


def test_staged_prologue_and_epilogue() -> None:
    operands = Given(normal(9, 20)), Given(normal(17, 20, seed=1)), Given(normal(9, 17, seed=2))

    def body(b: Any, x: Any, w: Any, z: Any) -> list[Any]:
        return [b.gelu(b.add(b.matmul(x, b.mul(w, w), transpose_rhs=True), z))]

    staged(problem(body, *operands, terms=20))


def test_a_product_with_transposed_run_time_weights_is_staged() -> None:
    """y = x w^T, the linear layer of a training step, takes panels; so do weights of a convolution."""
    for p in (
        matmul(256, 512, 128, constant=False, transpose_rhs=True),
        run_time_conv((8, 64, 8, 8), (64, 64, 3, 3), True, pads_before=1, pads_after=1),
        run_time_conv((8, 256, 2, 2), (256, 256, 3, 3), True, pads_before=1, pads_after=1),
    ):
        best = next(c for c in ContractGenerator().candidates(p.spec, target("c:avx2")))
        assert isinstance(best, Candidate) and dict(best.params).get("staged"), best


@pytest.mark.parametrize(("m", "n", "k"), [(52, 40, 64), (67, 21, 51)])
def test_staged_and_cut(m: int, n: int, k: int, tmp_path: Path) -> None:
    p = matmul(m, n, k, constant=False, transpose_rhs=True)
    (first,) = staged(p)
    generator, goal = ContractGenerator(), target("c:avx2")
    made = []
    for chunk, group, depth in ((3, 2, 16), (9, 1, 27)):
        params = {**dict(first.candidate.params), "chunk": chunk, "group": group, "depth": depth}
        candidate = replace(first.candidate, params=tuple(params.items()))
        fn = generator.build(p.spec, candidate, goal)
        kernel = Built(p, candidate, fn, verify_loops(fn).unproved)
        assert not kernel.unproved and kernel.interpret() is None
        made.append(kernel)
    check_compiled([first, *made], "avx2", tmp_path)


@pytest.mark.parametrize("batch", [(), (17,)])
def test_outer_products_stage_nothing(batch: tuple[int, ...]) -> None:
    """A sum of one term has no reduction axis to copy along."""
    made = check(matmul(28, 12, 1, batch=batch, constant=False))
    assert not any(dict(k.candidate.params).get("staged") for k in made)
