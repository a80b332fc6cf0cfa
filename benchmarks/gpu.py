"""Generated kernels on a real GPU: right first, then how fast, beside PyTorch where that is there.

    python -m benchmarks.gpu --only SECTION             one section, each under eight minutes
    python -m benchmarks.gpu --make-bundle gpu.tar.gz   everything for a machine without network and compiler
    python -m benchmarks.gpu --only SECTION --dry-run   small extents on an emulated GPU: is the script right?

The sections are a ladder, each rung complete alone: correctness, bandwidth, mma, wgmma, attention.  Every
figure is one line of JSON in `--rows`, written as soon as it is there, with the device and versions; a second
call goes on where the first one ended.  In an unpacked bundle numpy, ml_dtypes and a driver are enough:
its artifacts hold cubins, and the results that the interpreter gave stand beside them.

Nothing measured by this script is in the repository: no GPU has been at hand.
"""

from __future__ import annotations

import argparse
import io
import json
import platform
import statistics
import sys
import tarfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from aino_ir import __version__
from aino_ir.dtypes import DTYPES
from aino_ir.errors.base import AinoError
from aino_ir.runtime.cuda.device import Device, Event, Memory, Stream, open_device
from aino_ir.runtime.cuda.executable import CudaExecutable
from aino_ir.runtime.cuda.tensors import DeviceArray
from aino_ir.runtime.executable import load_executable
from aino_ir.tolerance import disagreement
from benchmarks.gpu_draw import drawn

ROOT = Path(__file__).resolve().parent.parent
SECTIONS = ("correctness", "bandwidth", "mma", "wgmma", "attention")
ARCHITECTURES = "cuda:sm_80+sm_90a"
FOLDER = "gpu-artifacts"
SECONDS = 420.0
"""Time that a section may take; what is left is for the next call."""

BATCHES = 7
BATCH_MS = 30.0
COPIED = 256 << 20
ROOMS = ("aino_ir", "frontends", "passes", "codegen", "runtime", "driver", "benchmarks")
MOST_BYTES = 60 << 20
"""A bundle may not be larger."""

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Ready:
    """A case that is compiled.

    Attributes:
        name: of the case.
        facts: see `benchmarks.gpu_cases.Case.facts`.
        executable: compiled.
        expected: gives what the interpreter makes of the inputs.
    """

    name: str
    facts: dict[str, Any]
    executable: CudaExecutable
    expected: Callable[[Sequence[Array]], Sequence[Array]]


class Rows:
    """The figures of this and earlier calls, one line of JSON each.

    Args:
        path: of the file; lines are added to it.
        common: what every row of this call has.
    """

    def __init__(self, path: Path, common: dict[str, Any]) -> None:
        self.path = path
        self.common = common
        self._keys = tuple(sorted(common))
        self._known = {self._key(row) for row in self._read()}

    def _read(self) -> Iterator[dict[str, Any]]:
        if self.path.exists():
            for line in self.path.read_text(encoding="utf-8").splitlines():
                if line.strip():
                    yield json.loads(line)

    def _key(self, row: dict[str, Any]) -> tuple[Any, ...]:
        return (row.get("section"), row.get("case"), *(str(row.get(k)) for k in self._keys))

    def has(self, section: str, case: str) -> bool:
        """Whether a case has been run already, with these versions on this device."""
        return self._key({"section": section, "case": case, **self.common}) in self._known

    def add(self, section: str, case: str, **figures: Any) -> None:
        """Write a row, at once."""
        row = {"section": section, "case": case, **figures, **self.common}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, sort_keys=True) + "\n")
            file.flush()
        self._known.add(self._key(row))
        print(json.dumps({"section": section, "case": case, **figures}, sort_keys=True), flush=True)


# -- cases --------------------------------------------------------------------------------------------


def compiled_here(section: str, dry: bool) -> Iterator[tuple[str, Callable[[], Ready]]]:
    """The cases of a section, compiled by this machine when they are asked for."""
    import aino_ir as aino
    from benchmarks.gpu_cases import cases

    for case in cases(section, dry):

        def make(case: Any = case) -> Ready:
            module = case.module()
            target = f"cuda:{_target_of(open_device())}"
            executable = aino.compile(module, target, cache=not dry)
            assert isinstance(executable, CudaExecutable)
            reference = aino.compile(module, "reference")
            return Ready(case.name, case.facts(), executable, lambda inputs: reference.run(*inputs))

        yield case.name, make


def _target_of(device: Device) -> str:
    """The architecture to compile for: with wgmma where the device has it."""
    return f"{device.architecture}a" if device.capability == (9, 0) else device.architecture


def from_bundle(section: str, folder: Path) -> Iterator[tuple[str, Callable[[], Ready]]]:
    """The cases of a section as a bundle holds them."""
    index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
    for name, facts in index.items():
        if facts["section"] != section:
            continue

        def make(name: str = name, facts: dict[str, Any] = facts) -> Ready:
            executable = load_executable(folder / facts["artifact"])
            assert isinstance(executable, CudaExecutable)

            def expected(inputs: Sequence[Array]) -> Sequence[Array]:
                with np.load(folder / facts["expected"]) as stored:
                    return [
                        stored[f"y{n}"].view(DTYPES[dtype].numpy) for n, dtype in enumerate(facts["outputs"])
                    ]

            return Ready(name.partition(": ")[2], facts, executable, expected)

        yield name.partition(": ")[2], make


# -- running ------------------------------------------------------------------------------------------


def run_section(
    section: str, found: Iterator[tuple[str, Callable[[], Ready]]], rows: Rows, dry: bool
) -> bool:
    """Run the cases of a section that have no row yet; False when time is up before the last."""
    end = time.monotonic() + SECONDS
    if section == "bandwidth" and not rows.has(section, "copy"):
        gigabytes = copy_speed(COPIED if not dry else 1 << 16)
        value = None if dry else round(gigabytes, 1)
        rows.add(section, "copy", what="GB/s of cuMemcpyDtoD", value=value)
    for name, make in found:
        if rows.has(section, name):
            continue
        if time.monotonic() > end:
            print(f"time is up before {name!r}: call again to go on")
            return False
        try:
            ready = make()
            figures = checked(ready) if section == "correctness" else measured(ready, dry)
        except AinoError as error:
            figures = {"what": "error", "value": None, "error": f"{error.code}: {error.message}"[:300]}
        rows.add(section, name, **figures)
    return True


def checked(ready: Ready) -> dict[str, Any]:
    """Whether results are those of the interpreter."""
    inputs = drawn(ready.name, ready.facts["inputs"])
    wanted = ready.expected(inputs)
    made = ready.executable.run(*inputs)
    reasons = []
    for got, want in zip(made, wanted, strict=True):
        kind = "exact" if want.dtype.kind in "biu" else "approximate"
        reason = disagreement(got, want, kind)
        reasons += [] if reason is None else [reason]
    return {"what": "agrees with the interpreter", "value": not reasons, "reasons": reasons}


def measured(ready: Ready, dry: bool) -> dict[str, Any]:
    """How long a run takes on the device, and what that means in GB/s and TFLOP/s."""
    facts = ready.facts
    candidates = [row["candidate"] for row in ready.executable.report.kernels]
    if facts["needs"] and not any(facts["needs"] in c for c in candidates):
        return {"what": "no such kernel", "value": None, "candidates": candidates, "needs": facts["needs"]}
    inputs = drawn(ready.name, facts["inputs"])
    device = open_device()
    stream_holder = _stream(device)
    arrays = [
        placed(device, value, row[0], stream_holder.handle)
        for value, row in zip(inputs, facts["inputs"], strict=True)
    ]
    out = list(ready.executable.run(*arrays, stream=stream_holder.handle))

    def run() -> None:
        ready.executable.run(*arrays, out=out, stream=stream_holder.handle)

    ms = milliseconds(device, stream_holder.handle, run, dry)
    if dry:
        return {"what": "ms a run", "value": None, "candidates": candidates}
    return {
        "what": "ms a run",
        "value": round(ms, 5),
        **speeds(facts, ms),
        "candidates": candidates,
        "peers": peers(facts, inputs),
    }


def _stream(device: Device) -> Stream:
    with device.current():
        return Stream.new(device)


def speeds(facts: dict[str, Any], ms: float) -> dict[str, float]:
    """GB/s and TFLOP/s of a run."""
    found = {}
    seconds = max(ms, 1e-6) / 1e3
    if facts["moved"]:
        found["GB/s"] = round(facts["moved"] / seconds / 1e9, 1)
    if facts["flops"]:
        found["TFLOP/s"] = round(facts["flops"] / seconds / 1e12, 2)
    return found


def placed(device: Device, value: Array, dtype: str, stream: int) -> DeviceArray:
    """An array on the device."""
    with device.current():
        memory = device.alloc(value.nbytes, "an input")
        device.upload(memory.address, value.ctypes.data, value.nbytes, stream)
        device.synchronize(stream)
    return DeviceArray(memory, value.shape, dtype, device.number)


def milliseconds(device: Device, stream: int, run: Callable[[], None], dry: bool) -> float:
    """The median over batches of the mean time of a run, by events on the stream."""
    with device.current():
        first = _batch(device, stream, run, 1 if dry else 3)
        count = 1 if dry else max(1, min(1000, int(BATCH_MS / max(first, 1e-3))))
        return statistics.median(_batch(device, stream, run, count) for _ in range(1 if dry else BATCHES))


def _batch(device: Device, stream: int, run: Callable[[], None], count: int) -> float:
    start = Event.now(device, stream)
    for _ in range(count):
        run()
    end = Event.now(device, stream)
    device.synchronize(stream)
    return end.nanoseconds_since(start) / 1e6 / count


def copy_speed(size: int) -> float:
    """GB/s that a copy on the device reads and writes."""
    device = open_device()
    stream = _stream(device)
    with device.current():
        source, target = (device.alloc(size, "a copy") for _ in range(2))
        device.fill_words(source.address, 0, size // 4, stream.handle)

    def run() -> None:
        device.copy(target.address, source.address, size, stream.handle)

    ms = milliseconds(device, stream.handle, run, size < COPIED)
    _free(source, target)
    return 2 * size / max(ms, 1e-6) / 1e6


def _free(*memories: Memory) -> None:
    for memory in memories:
        memory.free()


def peers(facts: dict[str, Any], inputs: Sequence[Array]) -> dict[str, Any]:
    """What PyTorch needs for the same, in ms: eager (cuBLAS, flash attention) and `torch.compile`."""
    try:
        import torch
    except ImportError:
        return {"torch": "not installed"}
    if not facts["peer"] or not torch.cuda.is_available():
        return {"torch": "no CUDA"} if facts["peer"] else {}
    from benchmarks.gpu_peers import times

    return times(facts["peer"], inputs, [row[0] for row in facts["inputs"]])


# -- bundles ------------------------------------------------------------------------------------------


def make_bundle(path: Path, only: Sequence[str]) -> int:
    """Compile all cases and pack them with AINO's source; the bytes of the bundle.

    Raises:
        SystemExit: it is larger than MOST_BYTES.
    """
    import aino_ir as aino
    from benchmarks.gpu_cases import cases

    index: dict[str, Any] = {}
    with tarfile.open(path, "w:gz") as bundle:
        for room in ROOMS:
            for file in sorted((ROOT / room).rglob("*")):
                if file.suffix in (".py", ".h", ".c", ".json", ".lark") and file.is_file():
                    bundle.add(file, file.relative_to(ROOT).as_posix())
        bundle.add(ROOT / "pyproject.toml", "pyproject.toml")
        for section in only:
            for number, case in enumerate(cases(section)):
                stem = f"{section}-{number}"
                module = case.module()
                executable = aino.compile(module, ARCHITECTURES)
                assert isinstance(executable, CudaExecutable)
                _add(bundle, f"{FOLDER}/{stem}.aino", bytes(executable.artifact.content))
                facts = {**case.facts(), "artifact": f"{stem}.aino"}
                if section == "correctness":
                    wanted = aino.compile(module, "reference").run(*drawn(case.name, case.inputs))
                    stored = io.BytesIO()
                    raw = {f"y{n}": np.ascontiguousarray(w) for n, w in enumerate(wanted)}
                    np.savez(stored, **{k: v.view(f"u{v.itemsize}") for k, v in raw.items()})  # type: ignore[arg-type]
                    _add(bundle, f"{FOLDER}/{stem}.npz", stored.getvalue())
                    facts["expected"] = f"{stem}.npz"
                    facts["outputs"] = [t.dtype.name for _, t in executable.outputs]  # type: ignore[union-attr]
                index[f"{section}: {case.name}"] = facts
                print(f"{section}: {case.name}", flush=True)
        _add(bundle, f"{FOLDER}/index.json", json.dumps(index, indent=1, sort_keys=True).encode("ascii"))
    size = path.stat().st_size
    if size > MOST_BYTES:
        raise SystemExit(f"{path} has {size} bytes, more than {MOST_BYTES}")
    return size


def _add(bundle: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    bundle.addfile(member, io.BytesIO(data))


# -- the command --------------------------------------------------------------------------------------


def versions(dry: bool) -> dict[str, Any]:
    """What every row says of where it comes from."""
    device = open_device()
    try:
        import torch

        peer = str(torch.__version__)
    except ImportError:
        peer = ""
    return {
        "device": device.name,
        "architecture": device.architecture,
        "driver": device.driver.number("cuDriverGetVersion"),
        "aino": __version__,
        "source": source_identity(),
        "python": platform.python_version(),
        "torch": peer,
        "dry": dry,
    }


def source_identity() -> str:
    """The first digits of the hash of AINO's own source."""
    from aino_ir.driver.cache import source_hash

    return source_hash()[:12]


def main(argv: Sequence[str] | None = None) -> int:
    """Run a section or make a bundle."""
    parser = argparse.ArgumentParser(prog="benchmarks.gpu", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", action="append", choices=SECTIONS, help="a section (all of them in order)")
    parser.add_argument(
        "--rows", type=Path, default=None, help="where rows are added, benchmarks/gpu_rows.jsonl"
    )
    parser.add_argument("--dry-run", action="store_true", help="small extents on an emulated GPU")
    parser.add_argument("--artifacts", type=Path, default=None, help=f"the folder {FOLDER} of a bundle")
    parser.add_argument("--make-bundle", type=Path, default=None, help="write a bundle and run nothing")
    given = parser.parse_args(argv)
    only = given.only or list(SECTIONS)
    if given.make_bundle is not None:
        size = make_bundle(given.make_bundle, only)
        print(f"{given.make_bundle}: {size / 1e6:.1f} MB")
        return 0
    context: Any = nullcontext()
    if given.dry_run:
        from aino_ir.driver.gpu import emulated_gpu

        context = emulated_gpu()
    name = "gpu_dry_rows.jsonl" if given.dry_run else "gpu_rows.jsonl"
    path = given.rows or ROOT / "build" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with context:
        try:
            rows = Rows(path, versions(given.dry_run))
        except AinoError as error:
            print(error, file=sys.stderr)
            return error.exit_status
        artifacts = given.artifacts or (ROOT / FOLDER if (ROOT / FOLDER).is_dir() else None)
        complete = True
        for section in only:
            found = (
                compiled_here(section, given.dry_run)
                if artifacts is None
                else from_bundle(section, artifacts)
            )
            complete &= run_section(section, found, rows, given.dry_run)
    return 0 if complete else 5


if __name__ == "__main__":
    raise SystemExit(main())
