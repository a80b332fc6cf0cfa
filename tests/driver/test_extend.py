"""Ops, passes and targets of other packages: registered, refused, and part of what compiled models are keyed by."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import aino_ir as aino
from aino_ir import op as op_module
from aino_ir import target as target_module
from aino_ir.driver import extend
from aino_ir.errors.passes import PassNameTaken, UnknownPass
from aino_ir.errors.toolchain import UnknownTarget
from aino_ir.errors.usage import BadExtension
from aino_ir.frontends.onnx import ops as onnx_ops
from aino_ir.op import Op, operand
from aino_ir.passes import registry
from aino_ir.passes.base import Pass, PassContext, PassResult
from aino_ir.passes.pipelines import pipeline
from aino_ir.target import Host, parse_target

HOST = Host("x86_64", "any", frozenset(), 2, 32768, 524288, 1 << 23)


@pytest.fixture(autouse=True)
def unregistered() -> Iterator[None]:
    """What a test registers is gone after it."""
    places: list[Any] = [extend._OPS, extend._PASSES, target_module.REGISTERED, registry._REGISTERED]
    places += [onnx_ops.TABLE, onnx_ops.REGISTERED, op_module.OPS]
    saved = [p.copy() for p in places]
    yield
    for place, former in zip(places, saved, strict=True):
        place.clear()
        place.update(former)


@dataclass(frozen=True)
class Nothing(Pass):
    """Does nothing."""

    name = "test-do-nothing"

    def run(self, module: Any, ctx: PassContext) -> PassResult:
        return PassResult(False)


def names(level: int = 2) -> list[str]:
    return [p.name for p in extend.with_extensions(pipeline(level, parse_target("c:portable", HOST)))]


def test_a_pass_joins_before_the_one_it_names() -> None:
    aino.register_pass(before="fuse-groups")(Nothing)
    found = names()
    assert found.index("test-do-nothing") == found.index("fuse-groups") - 1
    assert found.count("test-do-nothing") == 1
    assert "test-do-nothing" not in names(level=0)


def test_a_pass_without_a_place_is_known_by_name_only() -> None:
    assert aino.register_pass(Nothing) is Nothing
    assert "test-do-nothing" not in names()
    assert registry.known_passes()["test-do-nothing"] is Nothing


def test_a_pass_that_cannot_join_is_refused() -> None:
    with pytest.raises(UnknownPass, match="no-such-pass"):
        aino.register_pass(before="no-such-pass")(Nothing)

    class Taken(Pass):
        """Has another's name."""

        name = "canonicalize"

    with pytest.raises(PassNameTaken, match="canonicalize"):
        aino.register_pass(Taken)


def test_a_target_has_the_facts_it_was_given() -> None:
    aino.register_target("test-box", like="c:portable", cores=7, l2_bytes=12345)
    found = parse_target("test-box", HOST)
    assert (found.cores, found.l2_bytes, found.l1_bytes, found.isa) == (7, 12345, HOST.l1_bytes, "vec128")
    aino.register_target("test-box", like="c:portable", cores=7, l2_bytes=12345)  # the same again
    assert target_module.known_targets() == (*target_module.KNOWN_TARGETS, "test-box")
    with pytest.raises(UnknownTarget, match="no target 'test-bax'") as caught:
        parse_target("test-bax", HOST)
    assert "test-box" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "like", "facts", "reason"),
    [
        ("c", "c", {}, "taken"),
        ("Box", "c", {}, "lower-case"),
        ("box", "reference", {}, "like 'reference'"),
        ("box", "c", {"speed": 3}, "speed"),
        ("box", "c", {"cores": 0}, "from 1 on"),
    ],
)
def test_a_target_that_makes_no_sense_is_refused(name: str, like: str, facts: Any, reason: str) -> None:
    with pytest.raises(BadExtension, match=reason):
        aino.register_target(name, like, **facts)


def test_ops_that_cannot_be_registered_are_refused() -> None:
    class Mute(Op):
        """Says not what it computes."""

        name = "test.mute"
        x = operand()

    class Twice(Mute):
        """x twice."""

        name = "test.twice"

        def evaluate(self, ev: Any, x: np.ndarray) -> np.ndarray:
            return x + x

    with pytest.raises(BadExtension, match="neither evaluate nor decompose"):
        aino.register_op(Mute)
    with pytest.raises(BadExtension, match="derived from Op"):
        aino.register_op(Nothing)
    with pytest.raises(BadExtension, match="has a row already"):
        aino.register_op(onnx=("", "Relu"))(Twice)
    assert aino.register_op(onnx=("com.test", "Twice"))(Twice) is Twice
    assert onnx_ops.TABLE["com.test", "Twice"] == "test.twice"


def test_what_is_registered_is_part_of_the_key() -> None:
    plain = extend.extensions_identity()
    aino.register_target("test-box", cores=3)
    with_target = extend.extensions_identity()
    aino.register_pass(before="fuse-groups")(Nothing)
    with_pass = extend.extensions_identity()
    assert len({plain, with_target, with_pass, None}) == 4


def test_nothing_is_stored_for_code_without_a_file() -> None:
    space: dict[str, Any] = {"__name__": "no_file"}
    exec("from aino_ir.passes.base import Pass\nclass Here(Pass):\n    name = 'test-here'\n", space)
    aino.register_pass(space["Here"])
    assert extend.extensions_identity() is None
