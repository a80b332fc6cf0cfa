"""Structured pruning of blocks of well-known networks: what shrinks, and that the rest is computed right."""

from __future__ import annotations

import pytest

from aino_ir.graph import Module
from aino_ir.passes.compression.guard import constant_bytes
from aino_ir.passes.compression.structured import Structured
from tests.passes.compression.architectures import ARCHITECTURES, bert
from tests.passes.compression.test_structured import flops, options, shapes, smaller

HALVED: dict[str, dict[str, tuple[int, ...]]] = {
    "resnet": {
        "stem": (4, 3, 3, 3),
        "a.1": (4, 4, 1, 1),
        "a.2": (4, 4, 3, 3),
        "a.3": (8, 4, 1, 1),
        "a.project": (8, 4, 1, 1),
        "b.1": (4, 8, 1, 1),
        "b.3": (8, 4, 1, 1),
        "head": (8, 5),
    },
    "mobilenet_v2": {
        "stem": (4, 3, 3, 3),
        "expand0": (12, 4, 1, 1),
        "depthwise0": (12, 1, 3, 3),
        "project0": (4, 12, 1, 1),
        "depthwise1": (12, 1, 3, 3),
        "head": (4, 5),
    },
    "convnext": {"stem": (8, 3, 3, 3), "up": (8, 16), "down": (16, 8)},
    "bert": {"q": (32, 32), "up": (32, 32), "down": (32, 32)},
    "densenet": {
        "stem": (4, 3, 3, 3),
        "narrow0": (8, 4, 1, 1),
        "grow0": (4, 8, 3, 3),
        "narrow2": (8, 12, 1, 1),
        "transition": (8, 16, 1, 1),
        "head": (8, 5),
    },
    "squeeze_excite": {
        "conv": (8, 3, 3, 3),
        "squeeze": (2, 8, 1, 1),
        "excite": (8, 2, 1, 1),
        "head": (8, 5),
    },
    "shufflenet": {
        "stem": (12, 3, 3, 3),  # the half that is not shuffled
        "first": (6, 4, 1, 1),
        "depthwise": (6, 1, 3, 3),
        "second": (8, 6, 1, 1),
    },
}
"""Network -> shapes of weights when half of every layer's channels went."""

LEFT = {"resnet": 0.35, "mobilenet_v2": 0.45, "densenet": 0.35, "squeeze_excite": 0.55}
"""Share of the multiply-adds that is left at most."""


@pytest.mark.parametrize("name", list(ARCHITECTURES))
def test_half_of_the_channels_go(name: str) -> None:
    module: Module = ARCHITECTURES[name]()
    _, out = smaller(module)
    found = shapes(out)
    assert {n: found[n] for n in HALVED[name]} == HALVED[name]
    assert flops(out) <= LEFT.get(name, 0.9) * flops(module)
    assert constant_bytes(out) < constant_bytes(module)


def test_heads_of_an_encoder_layer() -> None:
    made, out = smaller(bert(), structure="head")
    assert [layer.scores.size for layer in made.layers] == [4]
    found = shapes(out)
    assert found["q"] == found["k"] == found["v"] == (32, 16) and found["proj"] == (16, 32)


def test_the_width_that_a_norm_runs_along_stays() -> None:
    places = {p for layer in Structured(bert(), options()).layers for p in layer.places}
    assert "up" in places and not {"proj", "down"} & places


@pytest.mark.parametrize("share", [0.1, 0.3, 0.7, 0.95])
@pytest.mark.parametrize("name", ["resnet", "mobilenet_v2", "densenet"])
def test_every_share_is_computed_right(name: str, share: float) -> None:
    module = ARCHITECTURES[name]()
    _, out = smaller(module, sparsity=share, scope="global")
    assert flops(out) < flops(module)
