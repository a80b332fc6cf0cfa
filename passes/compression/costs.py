"""What compression may ask about kernels; the driver injects an implementation."""

from __future__ import annotations

from typing import Protocol

from aino_ir.graph import Module


class KernelCosts(Protocol):
    """Time and stored bytes of small modules.

    Attributes:
        kind: how times are found: "modelled" or "measured".
    """

    kind: str

    def times(self, before: Module, after: Module, beside: int = 0) -> tuple[float | None, float | None]:
        """Seconds of one run of each, compared under the same conditions; None when nothing is known.

        `beside`: bytes of constants that the network has besides those of the modules.
        """

    def stored_bytes(self, module: Module) -> int:
        """Bytes that its constants take in an artifact."""
