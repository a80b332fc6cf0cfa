"""Channels and heads that go: what belongs together, shapes that shrink, results of the zeroed model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from aino_ir.builder import Builder
from aino_ir.errors.pruning import ShrunkWrong
from aino_ir.graph import Module
from aino_ir.interp import run_function
from aino_ir.passes.compression.dependencies import Dependencies
from aino_ir.passes.compression.masks import Structure
from aino_ir.passes.compression.pruning import PruningOptions
from aino_ir.passes.compression.structured import Structured, propose_smaller
from aino_ir.types import tensor
from aino_ir.verify import verify
from tests.passes.compression.networks import attention, cnn, mlp

Array = np.ndarray[Any, Any]


def options(structure: str = "channel", sparsity: float | None = 0.5, **more: Any) -> PruningOptions:
    given: dict[str, Any] = {"threshold": None, "scope": "local", "criterion": "magnitude", **more}
    return PruningOptions(sparsity, structure=Structure.parse(structure), **given)


def sample(module: Module, seed: int = 3) -> tuple[Array, ...]:
    rng = np.random.default_rng(seed)
    shapes = [[2 if not isinstance(d, int) else d for d in v.shape] for v in module.main.inputs]
    return tuple(rng.standard_normal(s).astype(np.float32) for s in shapes)


def smaller(module: Module, **given: Any) -> tuple[Structured, Module]:
    """A module with every layer pruned, checked against the zeroed one."""
    plan, made = propose_smaller(module, options(**given), None, False)
    names = frozenset(p.row.name for p in plan.proposals if not p.row.reason)
    assert names
    out = plan.build(names)
    verify(out)
    made.check(names, out, [sample(module)])
    return made, out


def shapes(module: Module, name: str = "") -> dict[str, tuple[int, ...]]:
    ops = [op for op in module.main.block if op.name == "core.constant"]
    return {op.value.name: op.value.shape for op in ops if op.value.name}  # type: ignore[attr-defined]


def flops(module: Module) -> int:
    return sum(int(op.cost()) for op in module.main.block if op.name in ("nn.conv", "nn.matmul"))  # type: ignore[call-overload]


def test_neurons_of_linear_layers() -> None:
    module = mlp((16, 24, 12, 5))
    made, out = smaller(module)
    assert [(layer.name, layer.scores.size) for layer in made.layers] == [("fc0", 24), ("fc1", 12)]
    assert shapes(out) == {"fc0.weight": (16, 12), "fc1.weight": (12, 6), "fc2.weight": (6, 5)}
    assert flops(out) < 0.5 * flops(module)


def test_the_least_channels_go() -> None:
    module = mlp((16, 8, 5))
    layer = Structured(module, options()).layers[0]
    handles = {w.name: w.handle.array().astype(np.float64) for w, _, _ in layer.weights}
    rows = np.square(handles["fc0"]).sum(0), np.square(handles["fc1"]).sum(1)
    scores = rows[0] / rows[0].mean() + rows[1] / rows[1].mean()
    assert set(np.flatnonzero(layer.removed)) == set(np.argsort(scores)[:4])


def test_every_kind_of_convolution_and_movement() -> None:
    module = cnn()
    _, out = smaller(module)
    found = shapes(out)
    assert found["stem"] == (8, 3, 3, 3) and found["depthwise"] == (8, 1, 3, 3)
    assert found["grouped"] == (12, 4, 3, 3) and found["mix"][1] == 20
    assert found["fc"][1] == 16
    groups = [op.groups for op in out.main.block if op.name == "nn.conv"]  # type: ignore[attr-defined]
    assert groups[:3] == [1, 8, 2]
    assert flops(out) < 0.4 * flops(module)


def test_channels_that_are_split_and_added_go_together() -> None:
    families = [f for f in Dependencies.of(cnn().main).families() if len(f.components) > 1]
    sizes = sorted((len(f.components), len(f.classes)) for f in families)
    assert (4, 3) in sizes  # four groups: of the stem, of the grouped convolution, of what is concatenated
    made = Structured(cnn(), options())
    part = next(layer for layer in made.layers if layer.name == "part" or "part" in layer.places)
    positions = [sorted(int(p) for a in c.atoms.values() for p in a) for c in part.family.components]
    assert len(positions) == 4 and all(len(p) > 2 for p in positions)


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("batch", [2, "batch"])
def test_heads(fused: bool, batch: Any) -> None:
    module = attention(fused=fused, batch=batch)
    made, out = smaller(module, structure="head")
    assert [layer.scores.size for layer in made.layers] == [4]
    found = shapes(out)
    assert found["q"] == found["k"] == found["v"] == (32, 16) and found["proj"] == (16, 32)
    assert found["up"] == (32, 64)


def test_query_heads_that_share_keys_go_together() -> None:
    made, out = smaller(attention(4, 2, fused=True), structure="head")
    assert [layer.scores.size for layer in made.layers] == [2]
    assert shapes(out)["q"] == (32, 16) and shapes(out)["k"] == (32, 8)


def test_feed_forward_neurons_and_a_frozen_residual_stream() -> None:
    made, out = smaller(attention())
    assert [layer.name for layer in made.layers] == ["up"]
    assert shapes(out)["up"] == (32, 32) and shapes(out)["down"] == (32, 32)
    assert shapes(out)["proj"] == (32, 32)


def test_outputs_and_reduced_axes_stay() -> None:
    b = Builder()
    x = b.input("x", tensor("f32", 4, 16))
    w = b.constant(np.ones((16, 12), np.float32), "w")
    y = b.matmul(x, w)
    b.output("y", b.softmax(y, axis=-1))
    assert Structured(b.module, options()).layers == []


def test_tied_weights_tie_their_axes() -> None:
    """An embedding that is also the last layer: its rows are the interface, its width is free."""
    b = Builder()
    x = b.input("x", tensor("f32", 4, 10))
    table = b.constant(np.random.default_rng(0).standard_normal((10, 6)).astype(np.float32), "table")
    b.output("y", b.matmul(b.relu(b.matmul(x, table)), table, transpose_rhs=True))
    made, out = smaller(b.module)
    assert [layer.scores.size for layer in made.layers] == [6]
    assert shapes(out)["table"] == (10, 3)


def test_ops_without_index_maps_freeze_their_axes() -> None:
    b = Builder()
    x = b.input("x", tensor("f32", 4, 8))
    y = b.matmul(x, b.constant(np.ones((8, 8), np.float32)))
    y = b.cumsum(y, axis=1)
    b.output("y", b.matmul(y, b.constant(np.ones((8, 3), np.float32))))
    assert Structured(b.module, options()).layers == []


def test_one_component_always_stays() -> None:
    _, out = smaller(mlp((16, 24, 5)), sparsity=0.999)
    assert shapes(out)["fc0.weight"] == (16, 1)


def test_thresholds_are_root_mean_squares() -> None:
    module = mlp((16, 8, 5))
    w = next(op.value for op in module.main.block if op.name == "core.constant").array()  # type: ignore[attr-defined]
    norms = np.sqrt(np.square(w, dtype=np.float64).mean(axis=0))
    limit = float(np.median(norms))
    layer = Structured(module, options(sparsity=None, threshold=limit)).layers[0]
    assert set(np.flatnonzero(layer.removed)) == set(np.flatnonzero(norms < limit))


def test_global_scope_compares_layers() -> None:
    made = Structured(mlp((16, 64, 32, 5)), options(scope="global"))
    gone = sum(int(layer.removed.sum()) for layer in made.layers)
    assert gone == 48


def test_a_wrong_module_is_found_out() -> None:
    module = mlp((16, 8, 5))
    _, made = propose_smaller(module, options(), None, False)
    with pytest.raises(ShrunkWrong):
        made.check(frozenset({"fc0"}), module, [sample(module)])


def test_the_original_is_left_alone() -> None:
    module = mlp((16, 8, 5))
    before = str(module), run_function(module.main, sample(module))[0]
    smaller(module)
    assert str(module) == before[0]
    np.testing.assert_array_equal(run_function(module.main, sample(module))[0], before[1])


def test_wanda_of_channels_looks_at_what_flows_through_them() -> None:
    b = Builder()
    x = b.input("x", tensor("f32", 4, 3))
    first = np.array([[9, 1, 1, 1], [0, 0, 0, 0], [0, 0, 0, 0]], np.float32)
    h = b.matmul(x, b.constant(first, "first"))
    b.output("y", b.matmul(h, b.constant(np.array([[0.2], [3], [4], [5]], np.float32), "second")))
    data = np.ones((4, 3), np.float32)
    given = {"sparsity": 0.25, "criterion": "wanda"}
    plain = Structured(b.module, options(sparsity=0.25)).layers[0]
    weighed = Structured(b.module, options(**given), [(data,)]).layers[0]
    assert plain.removed.tolist() == weighed.removed.tolist() == [False, True, False, False]
    data[:, 0] = 0.0  # nothing flows: only the second layer is left to compare
    assert Structured(b.module, options(**given), [(data,)]).layers[0].scores.max() == 0.0
