"""Products with a compressed weight: every pattern, layout, tail and epilogue, and what is not finite."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aino_ir.codegen.catalogue import KernelCatalogue
from aino_ir.codegen.kernels.sparse import SparseGenerator
from aino_ir.codegen.kernels.streams import Stream, StreamPositions, StreamValues
from aino_ir.constants import Const
from aino_ir.kernels import Candidate
from aino_ir.loops.verify import verify_loops
from aino_ir.sparsity import ZeroPattern, zero_pattern
from aino_ir.types import ROW_MAJOR, permuted
from tests.codegen.kernels.support import (
    Built,
    Given,
    Problem,
    candidates,
    check,
    check_compiled,
    check_compiles,
    kernels,
    normal,
    problem,
    rejects,
    square_window,
)
from tests.codegen.native import target

Array = np.ndarray[Any, Any]


def sparse(*shape: int, share: float = 0.9, block: int = 1, dtype: Any = np.float32) -> Array:
    """A weight [inputs, outputs] with a share of zeros, in blocks of outputs."""
    rng = np.random.default_rng([7, *shape])
    blocks = rng.random((shape[0], -(-shape[1] // block))) >= share
    mask = np.repeat(blocks, block, axis=1)[:, : shape[1]]
    return np.where(mask, normal(*shape, dtype=dtype), np.zeros((), dtype))


def linear(
    m: int,
    k: int,
    n: int,
    *,
    turned: bool = False,
    epilogue: bool = False,
    x: Array | None = None,
    **kind: Any,
) -> Problem:
    """x [m, k] times a sparse weight, perhaps with bias, relu and a residual."""
    weight = sparse(k, n, **kind)
    given = [
        Given(normal(m, k) if x is None else x),
        Given(weight.T.copy() if turned else weight, constant=True),
    ]
    if epilogue:
        given += [Given(normal(n, seed=3), constant=True), Given(normal(m, n, seed=4))]

    def body(b: Any, *v: Any) -> list[Any]:
        y = b.matmul(v[0], v[1], transpose_rhs=turned)
        return [b.add(b.relu(b.add(y, v[2])), v[3]) if epilogue else y]

    return problem(body, *given, terms=k)


def pointwise(shape: Sequence[int], outputs: int, *, last: bool, stride: int = 1) -> Problem:
    """A 1x1 convolution with a sparse weight."""
    layout = permuted(0, 2, 3, 1) if last else ROW_MAJOR
    weight = sparse(shape[1], outputs).T.copy().reshape(outputs, shape[1], 1, 1)
    attrs = square_window(stride, 0)
    operands = (
        Given(normal(*shape), layout),
        Given(weight, constant=True),
        Given(normal(outputs), constant=True),
    )
    return problem(lambda b, *v: [b.conv(*v, **attrs)], *operands, layouts=[layout], terms=shape[1])


SHAPES = [(32, 16, 24), (37, 19, 21), (8, 40, 11)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("turned", [False, True])
def test_linear_tails(shape: tuple[int, int, int], turned: bool) -> None:
    check(linear(*shape, turned=turned, epilogue=turned), only="sparse", most=3)


@pytest.mark.parametrize("m", [1, 7])
def test_few_rows_run_along_outputs(m: int) -> None:
    made = check(linear(m, 20, 24, block=8), only="sparse", most=2)
    assert any(k.candidate.name.startswith("blocks") for k in made)


@pytest.mark.parametrize("m", [1, 2, 3])
@pytest.mark.parametrize("turned", [False, True])
def test_few_rows_with_single_nonzeros_are_dot_products(m: int, turned: bool) -> None:
    p = linear(m, 37, 21, turned=turned, epilogue=True)
    found = [c for c in candidates(p, only="sparse") if "at once" in c.name]
    assert [dict(c.params)["rows"] for c in found] == [m]
    check(p, only="sparse", most=3)


@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_dot_products_of_what_is_not_finite(value: float) -> None:
    x = normal(2, 24)
    x[1, 5] = value
    p = linear(2, 24, 24, x=x)
    assert np.isnan(p.expected[0]).any() and np.isfinite(p.expected[0][0]).all()
    made = check(p, only="sparse", most=3)
    assert any("at once" in k.candidate.name for k in made)


def test_single_rows_pay_where_weights_come_from_afar() -> None:
    catalogue = KernelCatalogue(replace(target("c:avx2"), l2_bytes=512 << 10))

    def best(size: int) -> str:
        found = catalogue.candidates(linear(1, size, size).spec)[0]
        assert isinstance(found, Candidate)
        return found.generator

    assert best(1024) == "sparse" and best(64) == "contract"


def chunked(p: Problem, most: int = 2) -> list[Built]:
    """Kernels for a first cache so small that inputs come in chunks."""
    small = replace(target("c:avx2"), l1_bytes=1024)
    generator = SparseGenerator(most=40)
    answers = [c for c in generator.candidates(p.spec, small) if isinstance(c, Candidate)]
    found = sorted([c for c in answers if "chunks" in c.name], key=lambda c: c.cost)[:most]
    made = [Built(p, c, fn, []) for c in found for fn in [generator.build(p.spec, c, small)]]
    assert made and not [u for k in made for u in verify_loops(k.fn).unproved if " where " not in u]
    return made


def row_with(value: float) -> Array:
    """Rows of which one holds something, in the second chunk of its inputs."""
    x = normal(37, 43)
    x[3, 25] = value
    return x


@pytest.mark.parametrize(
    "make",
    [
        lambda: linear(37, 43, 21, turned=True, epilogue=True),
        lambda: linear(37, 43, 21, x=row_with(np.inf)),
        lambda: linear(32, 64, 40, x=None),
        lambda: pointwise((1, 36, 8, 8), 19, last=False),
        lambda: pointwise((1, 36, 9, 8), 19, last=True),
    ],
    ids=["tails", "infinite", "whole", "in place", "channels last"],
)
def test_inputs_in_chunks(make: Callable[[], Problem]) -> None:
    for kernel in chunked(make()):
        assert kernel.interpret() is None, kernel.candidate.name


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("stride", [1, 2])
def test_pointwise_convolutions(last: bool, stride: int) -> None:
    check(pointwise((2, 20, 9, 8), 19, last=last, stride=stride), only="sparse", most=2)


def test_rows_in_order_are_read_in_place() -> None:
    found = candidates(pointwise((1, 32, 8, 8), 24, last=False), only="sparse")
    assert any("in place" in c.name for c in found)
    check(pointwise((1, 24, 8, 8), 16, last=False), only="sparse", most=1)


@pytest.mark.parametrize("text", ["c:avx512", "c:portable"])
def test_on_other_isas(text: str) -> None:
    check(linear(37, 19, 21, epilogue=True), text, only="sparse", most=1)


@pytest.mark.parametrize("dtype", [np.float64, np.float16])
def test_other_floats(dtype: Any) -> None:
    check(linear(17, 24, 20, x=normal(17, 24, dtype=dtype), dtype=dtype), only="sparse", most=1)


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("block", [1, 8])
def test_what_is_not_finite_meets_zeros_too(value: float, block: int) -> None:
    x = normal(20, 24)
    x[3, 5] = value
    x[17, :] = value
    p = linear(20, 24, 24, x=x, block=block)
    assert np.isnan(p.expected[0]).any()
    check(p, only="sparse", most=2)


def test_a_weight_of_zeros_alone() -> None:
    check(linear(16, 24, 16, share=1.1), only="sparse", most=2)


@pytest.mark.slow
def test_compiled(tmp_path: Path) -> None:
    problems = [
        linear(70, 37, 45, epilogue=True),
        linear(64, 32, 32, block=8),
        pointwise((1, 32, 8, 8), 24, last=False),
    ]

    def built(text: str) -> list[Built]:
        return [k for p in problems for k in kernels(p, text, only="sparse", most=2, bounds=False)]

    check_compiled(built("c:avx2"), "avx2", tmp_path)
    check_compiled(built("c:portable"), "portable", tmp_path)
    check_compiles(built("c:avx512"), "avx512", tmp_path)


def test_dense_wins_where_it_is_faster() -> None:
    catalogue = KernelCatalogue(target("c:avx2"))

    def best(share: float, rows: int = 256) -> str:
        found = catalogue.candidates(linear(rows, 256, 256, share=share).spec)[0]
        assert isinstance(found, Candidate)
        return found.generator

    assert best(0.95) == best(0.9) == "sparse"
    assert best(0.55) == "contract"


def test_refusals() -> None:
    assert rejects(problem(lambda b, x, y: [b.matmul(x, y)], Given(normal(8, 8)), Given(normal(8, 8))))[
        "sparse"
    ]
    grouped = {
        "strides": (1, 1),
        "dilations": (1, 1),
        "pads_before": (1, 1),
        "pads_after": (1, 1),
        "groups": 2,
    }
    weight = Given(sparse(16, 9 * 4).reshape(16, 4, 3, 3), constant=True)
    p = problem(lambda b, x, w: [b.conv(x, w, **grouped)], Given(normal(1, 8, 6, 6)), weight)
    assert rejects(p)["sparse"] == "a coordinate depends on several axes"


def test_streams_hold_the_blocks_and_their_places() -> None:
    mask = np.zeros((4, 6), bool)
    mask[1, 2] = mask[3, 2] = mask[2, 5] = True
    stream = Stream(ZeroPattern.of(mask), (0, 1), 2)
    weight = np.arange(24, dtype=np.float32).reshape(4, 6) * mask
    assert StreamValues(stream).apply(weight).tolist() == [0, 8, 0, 20, 17, 0]
    assert StreamPositions(stream).apply(weight).tolist() == [0, 1, 3, 2, 2, 5]


def test_streams_may_go_chunk_by_chunk() -> None:
    mask = np.zeros((2, 6), bool)
    mask[0, 1] = mask[0, 5] = mask[1, 2] = mask[1, 4] = True
    stream = Stream(ZeroPattern.of(mask), (0, 1), 1, chunk=4)
    weight = np.arange(12, dtype=np.float32).reshape(2, 6) * mask
    assert stream.chunks == 2 and StreamValues(stream).apply(weight).tolist() == [1, 8, 5, 10]
    assert StreamPositions(stream).apply(weight).tolist() == [0, 1, 2, 3, 4, 1, 2, 5, 4]


def test_only_constants_with_many_zeros_have_a_pattern() -> None:
    weight = sparse(32, 32)
    pattern = zero_pattern(Const.of(weight))
    assert pattern is not None and pattern.nonzeros == np.count_nonzero(weight)
    assert zero_pattern(Const.of(normal(32, 32))) is None
    assert zero_pattern(Const.of(np.zeros((4, 4), np.float32))) is None
