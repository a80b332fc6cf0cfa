"""What every test shares: a hermetic environment, fixtures, time per suite, the list of expected skips."""

from __future__ import annotations

import os
from pathlib import Path

import hypothesis
import pytest

ROOT = Path(__file__).resolve().parent.parent

# Before anything is imported: no test may see or leave anything outside build/, nor use the network.
os.environ.setdefault("AINO_CACHE_DIR", str(ROOT / "build" / "cache"))
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
# What zig makes of its own for every link is made once, not in the cache of each test that has one.
os.environ.setdefault("ZIG_GLOBAL_CACHE_DIR", str(ROOT / "build" / "zig"))

hypothesis.settings.register_profile("aino", derandomize=True, deadline=None, database=None, print_blob=False)
hypothesis.settings.load_profile("aino")

from tests.tools.account import pytest_addoption, pytest_configure  # noqa: E402, F401 - hooks
from tests.tools.golden import golden  # noqa: E402, F401 - a fixture for every test
from tests.tools.hermetic import hermetic_cache, shared_store, store  # noqa: E402, F401 - fixtures for every test
from tests.tools.wheel import wheel  # noqa: E402, F401 - a fixture


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return ROOT
