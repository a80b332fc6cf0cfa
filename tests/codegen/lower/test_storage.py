"""Values as views of buffers: what costs no kernel, and what must be copied."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.codegen.lower.support import anchors, arena, check, normal, one_input, runs


def test_a_reshape_costs_nothing() -> None:
    module = one_input(lambda b, x: b.relu(b.reshape(b.exp(x), shape=(3, 8))), 4, 6)
    plan = check(module, normal(4, 6))
    assert anchors(plan) == ["exp", "relu"]


def test_a_reshape_before_an_output_writes_into_it() -> None:
    plan = check(one_input(lambda b, x: b.reshape(b.exp(x), shape=(24,)), 4, 6), normal(4, 6))
    assert anchors(plan) == ["exp"] and arena(plan) == []


def test_a_slice_is_a_window() -> None:
    def build(b: Any, x: Any) -> Any:
        return b.relu(b.slice(b.exp(x), starts=(1, 2), sizes=(2, 3), steps=(1, 1)))

    plan = check(one_input(build, 4, 6), normal(4, 6))
    assert anchors(plan) == ["exp", "relu"]
    window = runs(plan)[1].views[0]
    assert (window.offset, window.allocated) == (4 * (6 + 2), (4, 6))


def test_a_window_of_a_window() -> None:
    def build(b: Any, x: Any) -> Any:
        first = b.slice(x, starts=(1, 2), sizes=(4, 6), steps=(1, 1))
        return b.relu(b.slice(first, starts=(1, 1), sizes=(2, 4), steps=(1, 1)))

    plan = check(one_input(build, 6, 9), normal(6, 9))
    assert anchors(plan) == ["relu"]
    assert runs(plan)[0].views[0].offset == 4 * (2 * 9 + 3)


def test_a_window_reshaped_must_be_copied() -> None:
    def build(b: Any, x: Any) -> Any:
        return b.relu(b.reshape(b.slice(x, starts=(0, 2), sizes=(4, 3), steps=(1, 1)), shape=(12,)))

    assert anchors(check(one_input(build, 4, 6), normal(4, 6))) == ["copy", "relu"]


def test_steps_apart_are_a_kernel() -> None:
    def build(b: Any, x: Any) -> Any:
        return b.slice(x, starts=(3, 0), sizes=(2, 3), steps=(-2, 2))

    assert anchors(check(one_input(build, 4, 6), normal(4, 6))) == ["slice"]


@pytest.mark.parametrize("axis", [0, 1])
def test_concatenated_pieces_are_made_in_place(axis: int) -> None:
    def build(b: Any, x: Any) -> Any:
        return b.concat(b.exp(x), b.relu(x), b.neg(x), axis=axis)

    plan = check(one_input(build, 4, 6), normal(4, 6))
    assert anchors(plan) == ["exp", "relu", "neg"] and arena(plan) == []


def test_what_cannot_be_made_in_place_is_copied_once() -> None:
    def build(b: Any, x: Any) -> Any:
        e = b.exp(x)
        return [b.concat(e, x, e, axis=0), e]

    plan = check(one_input(build, 4, 6), normal(4, 6))
    assert anchors(plan).count("exp") == 1 and anchors(plan).count("copy") == 3


def test_concatenations_of_concatenations() -> None:
    def build(b: Any, x: Any) -> Any:
        inner = b.concat(b.exp(x), b.relu(x), axis=1)
        return b.concat(inner, b.concat(b.neg(x), b.abs(x), axis=1), axis=0)

    plan = check(one_input(build, 4, 6), normal(4, 6))
    assert "copy" not in anchors(plan) and arena(plan) == []


def test_pieces_that_are_windows_or_constants() -> None:
    def build(b: Any, x: Any) -> Any:
        c = b.constant(np.full((2, 6), 7, np.float32))
        return b.concat(b.slice(x, starts=(1, 0), sizes=(2, 6), steps=(1, 1)), c, axis=0)

    assert anchors(check(one_input(build, 4, 6), normal(4, 6))) == ["copy", "copy"]


def test_a_piece_read_again_behind_the_concatenation() -> None:
    def build(b: Any, x: Any) -> Any:
        e = b.exp(x)
        whole = b.concat(e, b.relu(x), axis=1)
        return [b.neg(whole), b.add(e, x)]

    check(one_input(build, 4, 6), normal(4, 6))


def test_a_reshaped_piece_is_copied_from_where_its_operand_was_made() -> None:
    def build(b: Any, x: Any) -> Any:
        e = b.neg(b.exp(x))  # could lie where exp was: but a copy of it was planned already
        column = b.reshape(e, shape=(6, 1))
        return b.concat(column, b.reshape(b.abs(e), shape=(6, 1)), axis=1)

    check(one_input(build, 6), normal(6))
