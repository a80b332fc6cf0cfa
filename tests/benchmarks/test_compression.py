"""The benchmark of compression on digits, on networks that are hardly trained; whole: its own command."""

from __future__ import annotations

import numpy as np
import pytest

import aino_ir as aino
from benchmarks.compression.digits import BATCH, NETWORKS, batches, digits, module_of, network, trained
from benchmarks.compression.quantization import LIMITS, compressed_row, verdicts


def test_the_split_is_stratified_and_repeatable() -> None:
    data, again = digits(0), digits(0)
    assert data.train.shape[1:] == (1, 28, 28) and data.train.dtype == np.float32
    shares = [np.bincount(labels, minlength=10) for labels in (data.train_labels, data.test_labels)]
    assert np.abs(shares[0] - shares[1]).max() <= 1
    assert np.array_equal(data.test, again.test)
    assert not np.array_equal(data.test, digits(1).test)


def test_batches_are_whole() -> None:
    found = batches(np.ones((BATCH + 3, 1, 2, 2), np.float32))
    assert [b.shape[0] for b in found] == [BATCH, BATCH]
    assert found[1][3:].sum() == 0


@pytest.mark.parametrize("name", NETWORKS)
def test_every_layer_pays_in_int8(name: str) -> None:
    """By the models of the kernels for AVX2, alone and together: what the shares of multiply-adds rest on."""
    module = module_of(network(name, 0).eval(), 16)
    data = [np.random.default_rng(i).random((16, 1, 28, 28)).astype(np.float32) for i in range(2)]
    report = aino.quantize(module, calibration=data, target="c:avx2").compression
    assert report.share_of_macs == 1.0, str(report)
    assert report.whole.timing == "modelled" and report.whole.after < report.whole.before


@pytest.mark.slow
def test_int8_keeps_the_accuracy_of_a_small_network() -> None:
    data = digits(0)
    row = compressed_row("mlp", 0, "int8", trained("mlp", 0, data, epochs=3), data)
    assert row["share_of_macs"] == 1.0
    assert row["accuracy_f32"] - row["accuracy"] <= LIMITS["int8"] / 100 + 0.005
    assert row["quanta_from_onnxruntime"] <= 1.0
    assert row["constant_bytes"] < row["constant_bytes_f32"] / 3


def test_verdicts_are_about_means() -> None:
    row = {
        "network": "mlp",
        "scheme": "int8",
        "accuracy_f32": 0.9,
        "accuracy": 0.9,
        "share_of_macs": 1.0,
        "constant_bytes_f32": 8,
        "constant_bytes": 2,
        "seconds_f32": 2.0,
        "seconds": 1.0,
        "quanta_from_onnxruntime": 0.5,
    }
    (line,) = verdicts([row, {**row, "accuracy": 0.893}])
    assert "loses 0.35 points" in line and line.endswith(": holds")
    (line,) = verdicts([row, {**row, "accuracy": 0.88}])
    assert line.endswith("DOES NOT HOLD")
