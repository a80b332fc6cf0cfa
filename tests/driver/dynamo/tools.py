"""What the tests of `torch.compile(backend="aino")` share."""

from __future__ import annotations

from typing import Any

import torch

from aino_ir.driver.dynamo import backend

OPTIONS = {"threads": 1}


def by_aino(f: Any, **arguments: Any) -> Any:
    options = {**OPTIONS, **arguments.pop("options", {})}
    return torch.compile(f, backend=backend, options=options, **arguments)


def close(a: torch.Tensor, b: torch.Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
