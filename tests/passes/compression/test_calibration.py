"""Calibration data is read with care, and calibrators find sensible ranges."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from aino_ir.errors.compression import CalibrationInputWrong, CalibrationNotFinite, EmptyCalibration
from aino_ir.passes.compression.calibration import Seen, observe, read_samples, run_watched
from aino_ir.passes.compression.calibrators import CALIBRATORS, with_zero
from tests.passes.compression.models import mlp, samples


@pytest.mark.parametrize("data", [None, [], iter(())])
def test_no_data_is_an_error(data: Any) -> None:
    with pytest.raises(EmptyCalibration):
        read_samples(mlp(), data)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_and_infinity_are_refused_by_name(value: float) -> None:
    bad = np.zeros((4, 20), np.float32)
    bad[2, 3] = value
    with pytest.raises(CalibrationNotFinite, match="sample 1 holds NaN or infinity in input 'x'"):
        read_samples(mlp(), [np.zeros((4, 20), np.float32), bad])


def test_samples_come_in_three_forms() -> None:
    x = np.ones((4, 20), np.float32)
    found = read_samples(mlp(), [x, (x,), {"x": x}])
    assert [len(s) for s in found] == [1, 1, 1]


@pytest.mark.parametrize(
    ("sample", "got"),
    [
        ((1, 2), "2 arrays"),
        ({"z": 1}, "got z"),
        (np.zeros((4, 7), np.float32), r"must have the inputs x: f32\[4, 20\], got float32\[4, 7\]"),
        (np.zeros(20, np.float32), r"got float32\[20\]"),
        (np.zeros((4, 20), np.int64), "got int64"),
        ("abc", "got <U3"),
        (None, "got object"),
    ],
)
def test_samples_that_do_not_fit_are_refused(sample: Any, got: str) -> None:
    with pytest.raises(CalibrationInputWrong, match=got):
        read_samples(mlp(), [sample])


def test_watches_see_operands_and_results() -> None:
    module = mlp()
    (x,) = samples(module, 1)[0]
    first = next(op for op in module.main.block if op.name == "nn.matmul")
    seen: list[Any] = []
    run_watched(
        module.main, [x], {first.id: lambda ev, op, operands, results: seen.append((operands, results))}
    )
    ((operands, results),) = seen
    assert np.array_equal(operands[0], x)
    assert np.allclose(results[0], x @ operands[1], atol=1e-5)


def test_observation_keeps_extremes_and_a_share_of_the_values() -> None:
    module = mlp(batch=40, width=2000)
    data = samples(module, 3)
    op = next(op for op in module.main.block if op.name == "nn.matmul")
    seen = observe(module, data, {op.operands[0].id: op.id})[op.operands[0].id]  # type: ignore[union-attr]
    whole = np.concatenate([s[0].reshape(-1) for s in data])
    assert (seen.low, seen.high) == (whole.min(), whole.max())
    assert 30_000 < seen.values.size < whole.size


def seen_of(values: np.ndarray) -> Seen:
    seen = Seen(values.size)
    seen.add(values)
    return seen


@pytest.mark.parametrize("name", sorted(CALIBRATORS))
def test_outliers_do_not_decide_but_for_minmax(name: str) -> None:
    values = np.random.default_rng(0).standard_normal(40_000).astype(np.float32)
    values[7] = 100.0
    low, high = with_zero(CALIBRATORS[name](seen_of(values)))
    assert low <= 0.0 <= high
    assert 2.5 < high <= 100.0
    assert name in ("minmax", "mse") or high < 60.0
    assert name != "minmax" or high == 100.0


def test_mse_cuts_where_cutting_costs_less_than_coarse_steps() -> None:
    values = np.random.default_rng(0).standard_normal(400_000).astype(np.float32)
    values[7] = 30.0
    _, high = CALIBRATORS["mse"](seen_of(values))
    assert 4.0 < high < 20.0


@pytest.mark.parametrize("name", sorted(CALIBRATORS))
def test_zeros_have_an_empty_range(name: str) -> None:
    assert with_zero(CALIBRATORS[name](seen_of(np.zeros(100, np.float32)))) == (0.0, 0.0)


def test_nothing_seen_has_an_empty_range() -> None:
    assert with_zero(CALIBRATORS["minmax"](Seen(4))) == (0.0, 0.0)
