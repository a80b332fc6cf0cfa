"""How the launches of steps become a graph's nodes and edges."""

from __future__ import annotations

from typing import Any

from aino_ir.runtime.cuda.graph import in_order


def test_launches_of_a_step_follow_each_other() -> None:
    made: Any = [["a"], ["b", "c"], ["d"]]
    assert in_order(made, [[], [0], [1]]) == (["a", "b", "c", "d"], [[], [0], [1], [2]])


def test_branches_meet() -> None:
    made: Any = [["a"], ["b"], ["c"], ["d"]]
    assert in_order(made, [[], [0], [0], [1, 2]])[1] == [[], [0], [0], [1, 2]]


def test_steps_that_launch_nothing_pass_on_what_they_follow() -> None:
    made: Any = [["a"], [], ["b"], ["c"]]
    assert in_order(made, [[], [0], [0], [1, 2]])[1] == [[], [0], [0, 1]]


def test_without_an_order_all_is_a_chain() -> None:
    made: Any = [["a"], [], ["b"], ["c"]]
    assert in_order(made, None) == (["a", "b", "c"], [[], [0], [1]])
