"""Edges between launches, from the bytes that they touch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from aino_ir.plan.order import levels_of, order_of
from aino_ir.plan.touches import Touch


def reads(lo: int, hi: int, space: int = 0) -> Touch:
    return Touch(("arena", space), lo, hi, False)


def writes(lo: int, hi: int, space: int = 0) -> Touch:
    return Touch(("arena", space), lo, hi, True)


def test_readers_follow_their_writer_and_writers_all_readers() -> None:
    launches = [[writes(0, 8)], [reads(0, 4)], [reads(4, 8)], [writes(2, 6)]]
    assert order_of(launches) == [[], [0], [0], [1, 2]]


def test_what_follows_from_others_is_left_out() -> None:
    launches = [[writes(0, 8)], [reads(0, 8), writes(8, 16)], [reads(0, 8), reads(8, 16)]]
    assert order_of(launches) == [[], [0], [1]]


def test_other_bytes_and_other_spaces_are_free() -> None:
    assert order_of([[writes(0, 8)], [writes(8, 16)], [writes(0, 8, space=1)]]) == [[], [], []]


def test_a_range_without_bytes_touches_nothing() -> None:
    assert order_of([[writes(0, 8)], [writes(4, 4)], [reads(0, 0)]]) == [[], [], []]


def test_random_launches_are_ordered_as_pairs_conflict() -> None:
    random = np.random.default_rng(5)
    for _ in range(40):
        launches: list[Sequence[Touch]] = []
        for _ in range(30):
            ends = np.sort(random.integers(0, 40, (random.integers(1, 4), 2)), axis=1)
            launches.append([Touch(("arena", 0), int(a), int(b), bool(random.integers(2))) for a, b in ends])
        order = order_of(launches)
        reached: list[set[int]] = []
        for late, mine in enumerate(order):
            reached.append(set(mine).union(*(reached[n] for n in mine)))
            needed = {
                early
                for early in range(late)
                if any(a.conflicts(b) for a in launches[late] for b in launches[early])
            }
            assert needed <= reached[late]
            assert all(early in needed for early in mine)
            assert all(a not in reached[b] for a in mine for b in mine)


def test_levels_are_the_longest_paths() -> None:
    assert levels_of([[], [0], [0], [1, 2], []]) == [0, 1, 1, 2, 0]
