"""What tests of drivers share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from aino_ir.codegen.cuda.emulated.device import EmulatedGpus
from aino_ir.driver.gpu import emulated_gpu


@pytest.fixture
def gpus() -> Iterator[EmulatedGpus]:
    """One emulated GPU."""
    with emulated_gpu() as devices:
        yield devices
