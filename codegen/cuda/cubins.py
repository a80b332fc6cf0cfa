"""Units of CUDA C++ become cubins: in parallel, never the same text twice, with what ptxas says of them.

NVRTC (the wheel nvidia-cuda-nvrtc, or the toolkit's library) compiles inside of this process; nvcc where
there is no NVRTC.  Both make the same kind of file and report in the same words.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass

from aino_ir.codegen.c.compile import SourceUnit
from aino_ir.codegen.c.toolchain import CompilerCalls
from aino_ir.codegen.cuda.toolchain import CudaToolchain
from aino_ir.runtime.cubins import Resources
from aino_ir.runtime.store import Store, digest
from aino_ir.target import usable_cpus


@dataclass(frozen=True)
class Cubin:
    """One compiled unit: the file, and the resources of each entry by name."""

    data: bytes
    resources: Mapping[str, Resources]

    def to_bytes(self) -> bytes:
        """As the store keeps it: a line of JSON, then the file."""
        rows = {name: asdict(r) for name, r in sorted(self.resources.items())}
        return json.dumps(rows, sort_keys=True).encode("ascii") + b"\n" + self.data

    @staticmethod
    def from_bytes(data: bytes) -> Cubin:
        """What `to_bytes` made."""
        head, _, body = data.partition(b"\n")
        return Cubin(body, {name: Resources(**row) for name, row in json.loads(head).items()})


def compile_cubins(
    units: Sequence[SourceUnit],
    headers: Mapping[str, str],
    toolchain: CudaToolchain,
    store: Store,
    calls: CompilerCalls | None = None,
    jobs: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Cubin]:
    """Compile units and return their cubins in order.

    Args:
        units: translation units; ``isa`` is the architecture of each.
        headers: text of the headers that units include, by file name.
        toolchain: the compiler.
        store: where cubins are looked up and kept, by text, headers, flags and compiler.
        calls: counts compilations and hits.
        jobs: compilations at a time; the CPUs this process may use when None.
        progress: called as (done, total) while units are compiled.

    Raises:
        CudaCompilerFailed: the compiler rejects a unit.
        CompilerTimedOut, CompilerUnusable: as they say.
    """
    counted = calls if calls is not None else CompilerCalls()
    parts = [text for item in sorted(headers.items()) for text in item]
    keys = [digest("cubin", toolchain.identity, *toolchain.flags(u.isa), *parts, u.text) for u in units]
    found = {key: store.get("cubin", key) for key in dict.fromkeys(keys)}
    made = {key: Cubin.from_bytes(data) for key, data in found.items() if data is not None}
    counted.object_hits += len(made)
    missing = {key: unit for key, unit in zip(keys, units, strict=True) if key not in made}
    counted.compiles += len(missing)

    def compiled(unit: SourceUnit) -> Cubin:
        data, messages = toolchain.compile(unit.name, unit.text, unit.isa, headers, store)
        return Cubin(data, resources_of(messages))

    with ThreadPoolExecutor(max(1, jobs or usable_cpus())) as pool:
        for done, (key, cubin) in enumerate(
            zip(missing, pool.map(compiled, missing.values()), strict=True), start=1
        ):
            made[key] = cubin
            store.put("cubin", key, cubin.to_bytes())
            if progress is not None:
                progress(done, len(missing))
    return [made[key] for key in keys]


_ENTRY = re.compile(r"Compiling entry function '(\w+)'")
_FACTS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("registers", re.compile(r"Used (\d+) registers")),
    ("shared_bytes", re.compile(r"(\d+) bytes smem")),
    ("stack_bytes", re.compile(r"(\d+) bytes stack frame")),
    ("spill_bytes", re.compile(r"(\d+) bytes spill (?:stores|loads)")),
)


def resources_of(messages: str) -> dict[str, Resources]:
    """The resources of each entry from what ``ptxas -v`` prints."""
    pieces = _ENTRY.split(messages)
    out = {}
    for name, text in zip(pieces[1::2], pieces[2::2], strict=True):
        facts = {what: sum(int(n) for n in pattern.findall(text)) for what, pattern in _FACTS}
        out[name] = Resources(**facts)
    return out
