"""The reference networks end to end: small ones by both exporters here, all of them in `make zoo`."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from benchmarks import zoo
from benchmarks.workloads import EXPORTERS, SMALL_NAMES


@pytest.mark.slow
@pytest.mark.parametrize("exporter", EXPORTERS)
@pytest.mark.parametrize("name", SMALL_NAMES)
def test_small_network_gives_eager_results(name: str, exporter: str) -> None:
    pytest.importorskip("torch")
    row = zoo.check(f"{name}.{exporter}", threads=1)
    assert row.difference <= zoo.TOLERANCE
    assert row.python_nodes == []
    assert row.undone == []


@pytest.mark.slow
def test_light_model_gives_its_stored_output() -> None:
    """Another one is checked below, where its C also builds alone."""
    row = zoo.check("light_shufflenet", threads=1)
    assert row.good, row


def test_every_name_is_a_subject() -> None:
    names = zoo.every_name()
    assert len(names) == len(set(names)) == 2 * 8 + 9


def test_difference_is_relative_to_the_reference() -> None:
    assert zoo.difference(np.array([1.0, 4.0]), np.array([1.0, 2.0])) == 1.0
    assert zoo.difference(np.array([1.0]), np.array([1.0, 2.0])) == float("inf")
    assert zoo.difference(np.array([np.nan]), np.array([1.0])) == float("inf")
    assert zoo.difference(np.array([0.0]), np.array([0.0])) == 0.0


def test_row_is_good_only_when_clean() -> None:
    assert zoo.Row("x", difference=1e-6).good
    assert not zoo.Row("x", difference=1e-3).good
    assert not zoo.Row("x").good
    assert not zoo.Row("x", difference=0.0, python_nodes=[{"op": "n"}]).good
    assert not zoo.Row("x", difference=0.0, undone=[{"pass": "p"}]).good
    assert not zoo.Row("x", difference=0.0, wrong_kernels=[{"kernel": "k"}]).good
    assert not zoo.Row("x", difference=0.0, error="no").good


def test_a_child_that_fails_says_why() -> None:
    row = zoo.check_in_child("nonsense.dynamo", threads=1, target="c")
    assert "nonsense" in row.error and not row.good


def test_table_has_a_cell_for_every_heading() -> None:
    rows = [zoo.Row("x", 1e-6, 3.0, standalone=0.0), zoo.Row("y", 1e-6, 3.0), zoo.Row("z", error="no")]
    table = zoo.render(rows)
    assert [c.header for c in table.columns] == [
        "model",
        "verdict",
        "difference",
        "compile s",
        "alone",
        "remarks",
    ]


@pytest.mark.slow
def test_written_c_builds_alone_and_agrees() -> None:
    if shutil.which("cmake") is None or shutil.which("cc") is None:
        pytest.skip("cmake or a C compiler is not installed")
    row = zoo.check("light_squeezenet", threads=1, standalone=True)
    assert row.good and row.standalone <= zoo.SAME
