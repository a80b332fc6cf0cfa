"""Libraries of kernels for GPUs: several cubins in one file, and what each kernel takes.

The file is one line of JSON, ``{"compiler": what made them, "modules": [bytes ...], "entries": {name:
[module, registers, shared, stack, spills]}}``, and behind it the cubins, one after the other.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import astuple, dataclass

from aino_ir.errors.artifact import LibraryNotLoadable


@dataclass(frozen=True)
class Resources:
    """What one kernel takes on a device, as the compiler reports it.

    Attributes:
        registers: of a thread.
        shared_bytes: of a block, known at compile time.
        stack_bytes: of a thread, in local memory.
        spill_bytes: stored to and loaded from local memory because registers were too few.
    """

    registers: int = 0
    shared_bytes: int = 0
    stack_bytes: int = 0
    spill_bytes: int = 0


@dataclass(frozen=True)
class CubinLibrary:
    """The compiled units of a model for one architecture.

    Attributes:
        modules: the cubins.
        entries: name of a kernel -> the number of its module, and what it takes.
        compiler: what made them, such as ``nvrtc 13.0``.
    """

    modules: tuple[bytes, ...]
    entries: Mapping[str, tuple[int, Resources]]
    compiler: str = ""

    def to_bytes(self) -> bytes:
        """As an artifact holds it."""
        rows = {name: [module, *astuple(taken)] for name, (module, taken) in sorted(self.entries.items())}
        head = {"compiler": self.compiler, "modules": [len(m) for m in self.modules], "entries": rows}
        return b"\n".join([json.dumps(head, sort_keys=True).encode("ascii"), b"".join(self.modules)])

    @staticmethod
    def from_bytes(data: bytes, section: str) -> CubinLibrary:
        """What `to_bytes` made.

        Raises:
            LibraryNotLoadable: it is nothing of the kind.
        """
        head, _, body = data.partition(b"\n")
        try:
            facts = json.loads(head)
            sizes, compiler = [int(size) for size in facts["modules"]], str(facts.get("compiler", ""))
            entries = {
                str(name): (int(module), Resources(*(int(n) for n in taken)))
                for name, (module, *taken) in facts["entries"].items()
            }
        except (KeyError, TypeError, ValueError) as problem:
            raise LibraryNotLoadable(section=section, reason="it is no file of cubins") from problem
        whole = sum(sizes) == len(body) and all(size >= 0 for size in sizes)
        if not whole or any(not 0 <= module < len(sizes) for module, _ in entries.values()):
            raise LibraryNotLoadable(section=section, reason="its cubins are not all there")
        starts = [sum(sizes[:n]) for n in range(len(sizes))]
        modules = tuple(body[start : start + size] for start, size in zip(starts, sizes, strict=True))
        return CubinLibrary(modules, entries, compiler)
