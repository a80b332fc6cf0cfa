"""Fixtures that the tests of the ONNX frontend share."""

from __future__ import annotations

import warnings
from typing import Any

import pytest


@pytest.fixture(scope="session")
def node_cases() -> list[Any]:
    """The onnx package's own one-node models, each with its data."""
    from onnx.backend.test.loader import load_node_model_tests

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # building the cases divides by zero on purpose
        return list(load_node_model_tests())
