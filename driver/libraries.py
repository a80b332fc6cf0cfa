"""NVIDIA's libraries in a compilation: whether they are measured beside kernels, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aino_ir.codegen.catalogue import Experience
from aino_ir.codegen.cuda.library_products import LibraryProductGenerator
from aino_ir.errors.base import EnvironmentFault
from aino_ir.kernels import Candidate, Generator, Reject
from aino_ir.library_calls import CUBLAS
from aino_ir.runtime.cuda.cublas import Cublas
from aino_ir.runtime.cuda.device import open_device
from aino_ir.target import Target

LIBRARIES = (CUBLAS,)
"""What may be measured; the option `libraries` takes some of them."""

NOT_MEASURED = "not measured: only `tune=` and level 3 do, on a GPU that runs the architecture"


@dataclass
class VendorLibraries:
    """What a compilation has to do with libraries.

    Attributes:
        allowed: those that may be used.
        obstacle: why none was measured; empty: one was.
        version: of the one that was.
        used, unused: kernel -> how much faster the library was, or why it is not used.
    """

    allowed: Sequence[str]
    obstacle: str = NOT_MEASURED
    version: str = ""
    used: dict[str, str] = field(default_factory=dict)
    unused: dict[str, str] = field(default_factory=dict)

    def offered(self, target: Target) -> list[Generator]:
        """Whose candidates are measured on the first device: nobody's where there is no library."""
        if target.name != "cuda":
            return []
        self.version, self.obstacle = installed_version() if CUBLAS in self.allowed else ("", "forbidden")
        return [] if self.obstacle else [LibraryProductGenerator()]

    def chosen(self, experience: Experience) -> list[Generator]:
        """Who makes the calls that were measured to be fastest."""
        keys = {key for key, (generator, _) in experience.best.items() if generator == CUBLAS}
        return [LibraryProductGenerator(keys)] if keys else []

    def note(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Take over what was measured, rows of `Tuning`."""
        for row in rows:
            if row.get("library"):  # rows of schedules of TVM's have none
                taken = row["candidate"].startswith(f"{CUBLAS}: ")
                (self.used if taken else self.unused)[row["kernel"]] = row["library"]

    def facts(self) -> dict[str, Any]:
        """For reports."""
        unused = {"all": self.obstacle} if self.obstacle else self.unused
        return {CUBLAS: self.version, "used": dict(self.used), "not used": dict(unused)}


def installed_version() -> tuple[str, str]:
    """The version of cuBLAS beside the first device, or "" and why there is none."""
    try:
        device = open_device()
        with device.current():
            return Cublas(device).version, ""
    except EnvironmentFault as problem:
        return "", problem.message


def library_answer(answers: Sequence[Candidate | Reject]) -> Candidate | Reject | None:
    """What a library answers to a spec, among the answers of all."""
    return next((a for a in answers if a.generator == CUBLAS), None)
