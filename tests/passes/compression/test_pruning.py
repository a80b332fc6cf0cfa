"""Zeros where weights matter least: masks by every criterion, and layers that stay as they are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from aino_ir.builder import Builder
from aino_ir.graph import Module
from aino_ir.passes.compression.input_rows import grams
from aino_ir.passes.compression.masks import Structure, keep_by_pool, keep_by_share, lowest
from aino_ir.passes.compression.pruning import Plan, PruningOptions, propose_zeros
from aino_ir.passes.compression.weights import as_matrix, from_matrix, weights
from aino_ir.types import tensor
from tests.passes.compression.networks import SAME, cnn, mlp

Array = np.ndarray[Any, Any]


def proposed(module: Module, structure: str = "unstructured", samples: Any = (), **given: Any) -> Plan:
    base: dict[str, Any] = {"sparsity": None, "threshold": None, "scope": "local", "criterion": "magnitude"}
    options = PruningOptions(structure=Structure.parse(structure), **{**base, **given})
    return propose_zeros(module, options, samples, None, False)


def pruned(plan: Plan) -> dict[str, Array]:
    """Name -> weight of the module with every layer pruned that can be."""
    module = plan.build(frozenset(p.row.name for p in plan.proposals if not p.row.reason))
    return {w.name: w.handle.array() for w in weights(module)}


def originals(module: Module) -> dict[str, Array]:
    return {w.name: w.handle.array() for w in weights(module)}


def test_a_threshold_is_strict() -> None:
    module = mlp((16, 8, 5))
    old, new = originals(module), pruned(proposed(module, threshold=0.1))
    for name in old:
        np.testing.assert_array_equal(new[name], np.where(np.abs(old[name]) < 0.1, 0, old[name]))


def test_local_takes_the_same_share_of_each_layer() -> None:
    module = mlp((16, 8, 5))
    old, new = originals(module), pruned(proposed(module, sparsity=0.75))
    for name, w in new.items():
        assert np.count_nonzero(w == 0) == int(0.75 * w.size)
        assert np.abs(old[name][w == 0]).max() <= np.abs(w[w != 0]).min()


def test_global_compares_all_layers() -> None:
    module = mlp((16, 8, 5))
    new = pruned(proposed(module, sparsity=0.5, scope="global"))
    total = sum(w.size for w in new.values())
    assert sum(int(np.count_nonzero(w == 0)) for w in new.values()) == total // 2
    left = np.concatenate([np.abs(w[w != 0]) for w in new.values()])
    gone = np.concatenate([np.abs(originals(module)[n][w == 0]) for n, w in new.items()])
    assert gone.max() <= left.min()


def test_n_of_m_along_inputs() -> None:
    module = mlp((16, 8, 5))
    new = pruned(proposed(module, "2:4"))
    kept = np.count_nonzero(new["fc0"].T.reshape(8, 4, 4), axis=2)
    assert (kept == 2).all()
    old = np.abs(originals(module)["fc0"].T.reshape(8, 4, 4))
    best = np.sort(old, axis=2)[..., 2:].sum()
    assert np.isclose(np.abs(new["fc0"]).sum(), best)


def test_blocks_of_neighbouring_outputs() -> None:
    module = mlp((16, 24, 8))
    new = pruned(proposed(module, "block:1x8", sparsity=0.5))["fc0"]
    blocks = np.count_nonzero(new.reshape(16, 3, 8), axis=2)
    assert set(blocks.reshape(-1)) == {0, 8} and np.count_nonzero(blocks) == 24


def test_what_does_not_divide_is_refused_with_the_reason() -> None:
    rows = {p.row.name: p.row for p in proposed(cnn(), "2:4").proposals}
    assert rows["stem"].reason == "its 3 inputs are no multiple of 4"
    assert not rows["mix"].reason
    rows = {p.row.name: p.row for p in proposed(cnn(), "block:1x16", sparsity=0.5).proposals}
    assert "no multiple of 1x16" in rows["mix"].reason


def test_wanda_weighs_by_inputs_within_each_output() -> None:
    b = Builder()
    x = b.input("x", tensor("f32", 6, 4))
    w = np.array([[1, 9], [2, 8], [3, 7], [4, 6]], np.float32)
    b.output("y", b.matmul(x, b.constant(w, "w")))
    data = np.ones((6, 4), np.float32) * np.array([100, 1, 1, 0.1], np.float32)
    new = pruned(proposed(b.module, sparsity=0.5, criterion="wanda", samples=[(data,)]))["w"]
    assert (new != 0).T.tolist() == [[True, False, True, False], [True, True, False, False]]


def test_wanda_of_convolutions() -> None:
    b = Builder()
    x = b.input("x", tensor("f32", 1, 2, 4, 4))
    w = np.ones((3, 2, 3, 3), np.float32)
    b.output("y", b.conv(x, b.constant(w, "w"), **SAME))
    data = np.stack([np.full((4, 4), 1.0), np.full((4, 4), 5.0)])[None].astype(np.float32)
    new = pruned(proposed(b.module, sparsity=0.5, criterion="wanda", samples=[(data,)]))["w"]
    assert (new[:, 0] == 0).all() and (new[:, 1] == 1).all()


def test_wanda_refuses_inputs_that_are_no_plain_axis() -> None:
    sample = np.zeros((2, 3, 8, 8), np.float32)
    rows = {
        p.row.name: p.row
        for p in proposed(cnn(), sparsity=0.5, criterion="wanda", samples=[(sample,)]).proposals
    }
    assert "plain axis" in rows["grouped"].reason and not rows["stem"].reason


def test_ignored_layers_stay() -> None:
    module = mlp((16, 8, 5))
    rows = {p.row.name: p.row.reason for p in proposed(module, sparsity=0.5, ignore=("*1*",)).proposals}
    assert rows == {"fc0": "", "fc1": "ignored"}


def test_nothing_to_remove_and_nothing_left() -> None:
    module = mlp((16, 8, 5))
    assert {p.row.reason for p in proposed(module, sparsity=0.0).proposals} == {
        "nothing in it is to be removed"
    }
    assert {p.row.reason for p in proposed(module, threshold=99.0).proposals} == {
        "nothing would be left of it"
    }


def test_tied_weights_are_one_layer() -> None:
    b = Builder()
    x = b.input("x", tensor("f32", 4, 8))
    w = b.constant(np.random.default_rng(0).standard_normal((8, 8)).astype(np.float32), "w")
    b.output("y", b.matmul(b.relu(b.matmul(x, w)), w))
    plan = proposed(b.module, sparsity=0.5)
    assert [p.row.name for p in plan.proposals] == ["w"]
    made = plan.build(frozenset({"w"}))
    handles = {id(op.value) for op in made.walk() if op.name == "core.constant"}  # type: ignore[attr-defined]
    assert len(handles) == 1


def test_matrices_and_back() -> None:
    for w in weights(cnn()):
        array = w.handle.array()
        back = from_matrix(as_matrix(array, w.uses[0]), array.shape, w.uses[0])
        np.testing.assert_array_equal(back, array)


def test_ties_go_by_position() -> None:
    scores = np.ones((2, 4))
    assert keep_by_share(scores, 0.5, False).tolist() == [[False] * 4, [True] * 4]
    assert keep_by_share(scores, 0.5, True).tolist() == [[False, False, True, True]] * 2
    assert lowest(np.zeros(3), 0).tolist() == [False] * 3
    assert [k.tolist() for k in keep_by_pool([np.array([3.0]), np.array([1.0, 2.0])], 0.5)] == [
        [True],
        [False, True],
    ]


def rows_by_hand(x: Array, kernel: int, stride: int, dilation: int) -> Array:
    """im2col of a picture padded by 1: rows of (tap, channel)."""
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    reach = dilation * (kernel - 1) + 1
    places = [range(0, padded.shape[a] - reach + 1, stride) for a in (2, 3)]
    taps = [(i * dilation, j * dilation) for i in range(kernel) for j in range(kernel)]
    rows = [
        [padded[n, :, h + i, w + j] for i, j in taps]
        for n in range(x.shape[0])
        for h in places[0]
        for w in places[1]
    ]
    return np.asarray(rows, np.float64).reshape(len(rows), -1)


@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (2, 1), (1, 2)])
def test_rows_of_convolutions_are_those_of_im2col(stride: int, dilation: int) -> None:
    b = Builder()
    x = b.input("x", tensor("f32", 2, 3, 7, 6))
    given = {**SAME, "strides": (stride,) * 2, "dilations": (dilation,) * 2}
    b.output("y", b.conv(x, b.constant(np.ones((4, 3, 3, 3), np.float32), "w"), **given))
    (w,) = weights(b.module)
    data = [np.random.default_rng(n).standard_normal((2, 3, 7, 6)).astype(np.float32) for n in range(2)]
    (found,) = grams(b.module, [w], [(d,) for d in data])
    made = [rows_by_hand(d, 3, stride, dilation) for d in data]
    np.testing.assert_allclose(found["w"], sum(m.T @ m for m in made), atol=1e-9)


def test_rows_of_symbolic_batches_and_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aino_ir.passes.compression.input_rows.CHUNK", 16)
    monkeypatch.setattr("aino_ir.passes.compression.input_rows.GRAMS_TOGETHER", 1)
    b = Builder()
    x = b.input("x", tensor("f32", b.symbol("n", 1, 9), 5, 8))
    h = b.matmul(x, b.constant(np.eye(8, dtype=np.float32), "w"))
    b.output("y", b.matmul(h, b.constant(np.ones((4, 8), np.float32), "v"), transpose_rhs=True))
    data = np.random.default_rng(0).standard_normal((3, 5, 8)).astype(np.float32)
    found = {
        name: gram for part in grams(b.module, weights(b.module), [(data,)]) for name, gram in part.items()
    }
    rows = data.reshape(-1, 8).astype(np.float64)
    assert set(found) == {"w", "v"}
    np.testing.assert_allclose(found["w"], rows.T @ rows, atol=1e-9)
    np.testing.assert_allclose(found["v"], rows.T @ rows, atol=1e-9)


def test_sparsegpt_gives_what_went_to_the_inputs_behind() -> None:
    """Two inputs that are always equal: the one that stays does the work of both."""
    b = Builder()
    x = b.input("x", tensor("f32", 32, 2))
    b.output("y", b.matmul(x, b.constant(np.array([[1.0], [2.0]], np.float32), "w")))
    column = np.random.default_rng(0).standard_normal((32, 1)).astype(np.float32)
    plan = proposed(b.module, sparsity=0.5, criterion="sparsegpt", samples=[(np.repeat(column, 2, axis=1),)])
    new = pruned(plan)["w"]
    assert new[0] == 0 and abs(float(new[1, 0]) - 3.0) < 0.05
    assert plan.proposals[0].row.measured_on == "output"
    assert plan.proposals[0].row.sqnr is not None and plan.proposals[0].row.sqnr > 30


def test_sparsegpt_takes_just_the_share_and_refuses_groups() -> None:
    plan = proposed(
        cnn(),
        sparsity=0.6,
        criterion="sparsegpt",
        samples=[(np.random.default_rng(0).standard_normal((2, 3, 8, 8)).astype(np.float32),)],
    )
    rows = {p.row.name: p.row for p in plan.proposals}
    assert "vary with its outputs" in rows["grouped"].reason and not rows["mix"].reason
    new = pruned(plan)
    assert np.count_nonzero(new["mix"] == 0) == int(0.6 * new["mix"].size)


def test_inputs_that_are_always_zero_do_not_matter() -> None:
    b = Builder()
    x = b.input("x", tensor("f32", 8, 4))
    b.output("y", b.matmul(x, b.constant(np.ones((4, 3), np.float32), "w")))
    data = np.zeros((8, 4), np.float32)
    data[:, 2] = 1
    new = pruned(proposed(b.module, sparsity=0.5, criterion="sparsegpt", samples=[(data,)]))["w"]
    assert (new[2] == 1).all() and np.count_nonzero(new) == 3
