"""AINO's error catalogue, one module an area; see docs/errors.md for every code.

Code ranges: E01xx models and frontends, E02xx IR, text and dims, E03xx passes, E04xx code
generation and toolchains, E05xx running, E06xx artifacts and cache, E07xx usage, E09xx internal.
"""

from aino_ir.errors.base import (
    CATALOGUE,
    AinoError,
    EnvironmentFault,
    InternalError,
    UsageError,
    UserError,
)

__all__ = [
    "CATALOGUE",
    "AinoError",
    "EnvironmentFault",
    "InternalError",
    "UsageError",
    "UserError",
]
