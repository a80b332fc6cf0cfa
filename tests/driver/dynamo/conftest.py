"""Fixtures of the tests of `torch.compile(backend="aino")`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from aino_ir.driver.dynamo import graph as native
from aino_ir.driver.dynamo import partition


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """Dynamo forgets what it traced; seeds are fixed."""
    torch.manual_seed(0)
    torch._dynamo.reset()
    partition._reported.clear()
    yield
    torch._dynamo.reset()


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The modules that were compiled meanwhile."""
    found: list[Any] = []
    original = native.compile

    def counted(module: Any, **options: Any) -> Any:
        found.append(module)
        return original(module, **options)

    monkeypatch.setattr(native, "compile", counted)
    return found


@pytest.fixture
def scalars() -> Iterator[None]:
    """Dynamo traces `.item()`."""
    torch._dynamo.config.capture_scalar_outputs = True
    yield
    torch._dynamo.config.capture_scalar_outputs = False
