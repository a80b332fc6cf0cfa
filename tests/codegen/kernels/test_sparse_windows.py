"""Convolutions with a sparse kernel of several taps: strides, dilations, borders, layouts, what is not finite."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aino_ir.codegen.catalogue import KernelCatalogue
from aino_ir.codegen.kernels.sparse import SparseGenerator
from aino_ir.codegen.kernels.sparse_windows import Picture, Spatial
from aino_ir.compute import Axis
from aino_ir.kernels import Candidate
from aino_ir.loops.verify import verify_loops
from aino_ir.types import ROW_MAJOR, permuted
from tests.codegen.kernels.support import (
    Built,
    Given,
    Problem,
    check,
    check_compiled,
    kernels,
    normal,
    problem,
    rejects,
)
from tests.codegen.kernels.test_sparse import sparse
from tests.codegen.native import target

Array = np.ndarray[Any, Any]
Pair = tuple[int, int]


def conv(
    shape: Sequence[int],
    outputs: int,
    kernel: Pair,
    *,
    last: bool = False,
    stride: Pair = (1, 1),
    dilation: Pair = (1, 1),
    before: Pair = (1, 1),
    after: Pair = (1, 1),
    x: Array | None = None,
    share: float = 0.9,
) -> Problem:
    """A convolution with a sparse kernel and a bias."""
    layout = permuted(0, 2, 3, 1) if last else ROW_MAJOR
    inputs = shape[1] * kernel[0] * kernel[1]
    weight = sparse(inputs, outputs, share=share).T.copy().reshape(outputs, shape[1], *kernel)
    attrs = {"strides": stride, "dilations": dilation, "pads_before": before, "pads_after": after}
    operands = (
        Given(normal(*shape) if x is None else x, layout),
        Given(weight, constant=True),
        Given(normal(outputs), constant=True),
    )
    return problem(lambda b, *v: [b.relu(b.conv(*v, **attrs))], *operands, layouts=[layout], terms=inputs)


NONE = (0, 0)
CASES: dict[str, Callable[[bool], Problem]] = {
    "3x3, odd sizes": lambda last: conv((1, 5, 9, 10), 11, (3, 3), last=last),
    "two pictures": lambda last: conv((2, 9, 5, 8), 9, (3, 3), last=last, after=NONE),
    "stride 2": lambda last: conv((1, 8, 9, 11), 16, (3, 3), last=last, stride=(2, 2)),
    "5x5, strides 3 and 2": lambda last: conv((1, 3, 13, 12), 8, (5, 5), last=last, stride=(3, 2)),
    "gaps": lambda last: conv((1, 8, 7, 9), 9, (3, 3), last=last, dilation=(2, 2), before=(2, 2)),
    "1x3": lambda last: conv((1, 12, 4, 11), 9, (1, 3), last=last, before=(0, 1), after=(0, 1)),
    "3x1": lambda last: conv((1, 12, 6, 8), 9, (3, 1), last=last, before=(1, 0), after=(1, 0)),
    "no border": lambda last: conv((1, 8, 6, 9), 9, (3, 3), last=last, before=NONE, after=NONE),
    "1x1, stride 2": lambda last: conv(
        (1, 40, 9, 9), 9, (1, 1), last=last, stride=(2, 2), before=NONE, after=NONE
    ),
}


@pytest.mark.parametrize("last", [False, True], ids=["row-major", "channels last"])
@pytest.mark.parametrize("name", CASES)
def test_geometry(name: str, last: bool) -> None:
    made = check(CASES[name](last), only="sparse", most=1)
    assert "pixels" in made[0].candidate.name or name == "1x1, stride 2"


@pytest.mark.parametrize("last", [False, True], ids=["row-major", "channels last"])
def test_what_is_not_finite_meets_zeros_too(last: bool) -> None:
    x = normal(1, 5, 6, 9)
    x[0, 2, 3, 4], x[0, 1, 0, 0] = np.inf, np.nan
    p = conv((1, 5, 6, 9), 9, (3, 3), last=last, x=x)
    assert np.isnan(p.expected[0]).any() and np.isfinite(p.expected[0]).any()
    check(p, only="sparse", most=1)


@pytest.mark.parametrize("last", [False, True], ids=["row-major", "channels last"])
def test_channels_in_chunks(last: bool) -> None:
    p = conv((1, 19, 6, 8), 9, (3, 3), last=last)
    small = replace(target("c:avx2"), l1_bytes=4096)
    generator = SparseGenerator(most=1)
    (found,) = [c for c in generator.candidates(p.spec, small) if isinstance(c, Candidate)]
    assert "chunks" in found.name
    kernel = Built(p, found, generator.build(p.spec, found, small), [])
    assert not [u for u in verify_loops(kernel.fn).unproved if " where " not in u]
    assert kernel.interpret() is None


@pytest.mark.parametrize("text", ["c:portable", "c:avx512"])
def test_other_isas(text: str) -> None:
    check(CASES["3x3, odd sizes"](True), text, only="sparse", most=1)


@pytest.mark.slow
def test_compiled(tmp_path: Path) -> None:
    made = [
        k for n in CASES for last in (False, True) for k in kernels(CASES[n](last), only="sparse", most=1)
    ]
    check_compiled(made, "avx2", tmp_path)


def test_dense_wins_where_it_is_faster() -> None:
    catalogue = KernelCatalogue(target("c:avx2"))

    def best(share: float) -> str:
        found = catalogue.candidates(conv((1, 32, 14, 14), 32, (3, 3), last=True, share=share).spec)[0]
        assert isinstance(found, Candidate)
        return found.generator

    assert best(0.9) == "sparse" and best(0.5) == "contract"


def test_taps_are_offsets_into_the_picture() -> None:
    axis = {n: Axis(n, e) for n, e in (("h", 4), ("w", 8), ("a", 3), ("b", 3))}
    twice = Spatial(axis["h"], axis["a"], stride=2), Spatial(axis["w"], axis["b"], stride=2)
    picture = Picture(*twice, rows=2, columns=1, lanes=8, channels=4)
    assert (picture.height, picture.pitch, picture.size) == (3, 16, 4 * 3 * 16)
    # taps 0 and 2 lie in the even rows and columns, tap 1 in the odd ones
    assert [picture.tap(0, t) for t in range(3)] == [0, 48, 1]
    assert picture.of(np.arange(9 * 5))[[0, 8, 9, 36]].tolist() == [0, 17, picture.size, 0]


def test_what_has_no_pixels_is_refused() -> None:
    whole = conv((1, 24, 5, 5), 20, (5, 5), before=NONE, after=NONE)
    assert rejects(whole)["sparse"] == "no plane of pixels"
    many = conv((1, 8, 6, 9), 9, (3, 3), stride=(2, 2), dilation=(2, 2))
    assert rejects(many)["sparse"] == "taps with gaps at every other pixel"
