"""Cases of `benchmarks.gpu`, compiled: by this machine when they are asked for, or as a bundle holds them.

A bundle is a tar of AINO's source and of artifacts, for a machine with numpy, ml_dtypes and a driver.
Weights of networks are not in it: large constants of floats are zero there, and drawn on the device's
machine from a seed, so that all eight networks together take a few megabytes.
"""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from aino_ir.dtypes import DTYPES
from aino_ir.errors.base import AinoError
from aino_ir.runtime.artifact import WEIGHTS, Artifact, ArtifactWriter
from aino_ir.runtime.cuda.device import open_device
from aino_ir.runtime.cuda.executable import CudaExecutable
from aino_ir.runtime.executable import load_executable
from aino_ir.runtime.manifest import WeightSlice
from benchmarks.gpu_draw import drawn, weights

Array = np.ndarray[Any, Any]

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("aino_ir", "frontends", "passes", "codegen", "runtime", "driver", "benchmarks")
ARCHITECTURES = "cuda:sm_80+sm_90a"
FOLDER = "gpu-artifacts"
MOST_BYTES = 60 << 20
"""A bundle may not be larger."""

LARGE = 64 << 10
"""Constants of floats from so many bytes on are drawn where they are needed."""


@dataclass(frozen=True)
class Ready:
    """A case that is compiled.

    Attributes:
        name, section: of the case.
        facts: see `benchmarks.gpu_cases.Case.facts`.
        executable: compiled.
        inputs: its inputs.
        expected: what they should give; nothing where that is not known.
    """

    name: str
    section: str
    facts: dict[str, Any]
    executable: CudaExecutable
    inputs: list[Array]
    expected: Callable[[], Sequence[Array]]


@dataclass(frozen=True)
class Offer:
    """A case that can be had.

    Attributes:
        name, facts: of the case; see `benchmarks.gpu_cases.Case.facts`.
        inputs: makes its inputs.
        make: compiles or loads it.
    """

    name: str
    facts: dict[str, Any]
    inputs: Callable[[], list[Array]]
    make: Callable[[], Ready]


Found = Iterator[Offer]
"""The cases of a section."""


def compiled_here(section: str, dry: bool) -> Found:
    """The cases of a section, compiled by this machine when they are asked for."""
    from benchmarks.gpu_cases import cases

    for case in cases(section, dry):

        def make(case: Any = case) -> Ready:
            return compiled(case, f"cuda:{open_device().isa}", cache=not dry)

        yield Offer(case.name, case.facts(), partial(inputs_of, case), make)


def inputs_of(case: Any) -> list[Array]:
    """The inputs of a case."""
    return list(case.given()) if case.given is not None else drawn(case.name, case.inputs)


def compiled(case: Any, target: str, cache: bool = True) -> Ready:
    """A case compiled for a target."""
    import aino_ir as aino

    module = case.module()
    if case.library:
        from benchmarks.gpu_libraries import compiled_by_library

        executable: Any = compiled_by_library(module, target)
    else:
        executable = aino.compile(module, target, cache=cache, verify="auto" if case.checked else "off")
    assert isinstance(executable, CudaExecutable), f"{case.name} has parts in Python"
    inputs = inputs_of(case)

    def expected() -> Sequence[Array]:
        if case.expected is not None:
            return list(case.expected())
        results: Sequence[Array] = aino.compile(module, "reference").run(*inputs)
        return results

    return Ready(case.name, case.section, case.facts(), executable, inputs, expected)


# -- bundles ------------------------------------------------------------------------------------------


def from_bundle(section: str, folder: Path) -> Found:
    """The cases of a section as a bundle holds them."""
    index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
    for facts in index:
        if facts["section"] == section:
            inputs = partial(_inputs, facts, folder)
            yield Offer(facts["name"], facts, inputs, partial(_loaded, facts, folder))


def _inputs(facts: dict[str, Any], folder: Path) -> list[Array]:
    if facts["given"]:
        return _stored(folder / facts["stored"], "x", facts["given"])
    return drawn(facts["name"], facts["inputs"])


def _loaded(facts: dict[str, Any], folder: Path) -> Ready:
    executable = load_executable(folder / facts["artifact"])
    assert isinstance(executable, CudaExecutable)
    stored = folder / facts["stored"] if facts["stored"] else None
    if facts["drawn"]:
        draw_weights(executable, facts["name"])
    return Ready(
        facts["name"],
        facts["section"],
        facts,
        executable,
        _inputs(facts, folder),
        lambda: _stored(stored, "y", facts["outputs"]),
    )


def _stored(path: Path | None, letter: str, dtypes: Sequence[str]) -> list[Array]:
    """The arrays of a file, of the dtypes that numpy's format lacks too."""
    if path is None:
        return []
    with np.load(path) as arrays:
        return [arrays[f"{letter}{n}"].view(DTYPES[dtype].numpy) for n, dtype in enumerate(dtypes)]


def draw_weights(executable: CudaExecutable, name: str) -> None:
    """Put random numbers where a bundle has zeros, on the first device."""
    device = open_device()
    memory, first = executable.weights_on(device.number)
    with device.current():
        for number, piece in enumerate(executable.artifact.manifest.weights):
            if is_drawn(piece) and first <= piece.offset < first + memory.bytes:
                values = weights(f"{name} {number}", piece.dtype, piece.bytes)
                place = memory.address + piece.offset - first
                device.upload(place, values.ctypes.data, values.nbytes, 0)
        device.synchronize(0)


def is_drawn(piece: WeightSlice) -> bool:
    """Whether a constant is left out of bundles."""
    return piece.bytes >= LARGE and piece.dtype in ("bf16", "f16", "f32")


def without_weights(artifact: Artifact) -> bytes:
    """An artifact whose large constants of floats are zero."""
    writer = ArtifactWriter(artifact.manifest)
    for variant in artifact.manifest.variants:
        ending = variant.section[len(f"lib/{variant.isa}") :]
        writer.add_library(variant.isa, artifact.library(variant), variant.flags, ending)
    for number, piece in enumerate(artifact.manifest.weights):
        data = bytes(piece.bytes) if is_drawn(piece) else bytes(artifact.weight(number))
        writer.add_weight(data, piece.bytes, piece.name, piece.dtype, piece.shape)
    libraries = {v.section for v in artifact.manifest.variants}
    for name in sorted(set(artifact.manifest.sections) - libraries - {WEIGHTS}):
        if not name.startswith("src/"):
            writer.add_section(name, artifact.section(name))
    return writer.to_bytes()


def make_bundle(
    path: Path, only: Sequence[str], dry: bool = False, seconds: float = float("inf")
) -> int | None:
    """Compile all cases and pack them with AINO's source; the bytes of the bundle.

    What is compiled is kept beside the bundle, in a folder for this source, and is not compiled again by the
    next call.  Cases that cannot be compiled as a whole are named and left out.

    Args:
        path: of the bundle.
        only: sections.
        dry: small extents, for an emulated GPU.
        seconds: when the time is up, nothing more is begun and there is no bundle yet: None is returned.

    Raises:
        SystemExit: it is larger than MOST_BYTES.
    """
    from aino_ir.driver.cache import source_hash
    from benchmarks.gpu_cases import cases

    end = time.monotonic() + seconds
    parts = path.with_name(f"{path.name}.parts") / f"{source_hash()[:12]}{'-dry' if dry else ''}"
    parts.mkdir(parents=True, exist_ok=True)
    rows: list[tuple[Path, dict[str, Any]]] = []
    for section in only:
        for number, case in enumerate(cases(section, dry)):
            file = parts / f"{section}-{number}.json"
            if not file.exists():
                if time.monotonic() >= end:
                    print(f"{section}: time is up before {case.name}; call again to go on", flush=True)
                    return None
                _make_part(file, section, case, dry)
            row = json.loads(file.read_text(encoding="ascii"))
            if "left out" in row:
                print(f"{section}: {case.name} is left out: {row['left out']}", flush=True)
            else:
                rows.append((file, row))
    with tarfile.open(path, "w:gz") as bundle:
        for room in ROOMS:
            for source in sorted((ROOT / room).rglob("*")):
                if source.suffix in (".py", ".h", ".c", ".json", ".lark") and source.is_file():
                    bundle.add(source, source.relative_to(ROOT).as_posix())
        bundle.add(ROOT / "pyproject.toml", "pyproject.toml")
        for file, row in rows:
            content = gzip.decompress(file.with_name(f"{row['artifact']}.gz").read_bytes())
            _add(bundle, f"{FOLDER}/{row['artifact']}", content)
            if row["stored"]:
                bundle.add(file.with_name(row["stored"]), f"{FOLDER}/{row['stored']}")
        index = json.dumps([row for _, row in rows], indent=1, sort_keys=True).encode("ascii")
        _add(bundle, f"{FOLDER}/index.json", index)
    size = path.stat().st_size
    if size > MOST_BYTES:
        raise SystemExit(f"{path} has {size} bytes, more than {MOST_BYTES}")
    return size


def _make_part(file: Path, section: str, case: Any, dry: bool) -> None:
    """Compile a case; its row in the index is written last, when all that it names is there."""
    try:
        ready = compiled(case, "cuda:sm_80" if dry else ARCHITECTURES)
        expected = ready.expected() if case.checked else []
        row = _packed(file, ready, expected, case.given is not None)
        print(f"{section}: {case.name}", flush=True)
    except (AinoError, AssertionError) as problem:
        row = {"left out": str(problem)}
    _write(file, json.dumps(row, sort_keys=True).encode("ascii"))


def _packed(file: Path, ready: Ready, expected: Sequence[Array], given: bool) -> dict[str, Any]:
    """Write what a bundle holds of a case beside its row; the row."""
    artifact = ready.executable.artifact
    is_stripped = any(map(is_drawn, artifact.manifest.weights)) and not len(expected)
    content = without_weights(artifact) if is_stripped else bytes(artifact.content)
    _write(file.with_suffix(".aino.gz"), gzip.compress(content, mtime=0))  # a gigabyte of zeros
    arrays = {f"y{n}": np.asarray(v) for n, v in enumerate(expected)}
    if given:
        arrays |= {f"x{n}": v for n, v in enumerate(ready.inputs)}
    if arrays:
        held = io.BytesIO()
        np.savez(held, **{k: np.asarray(v, order="C").view(_raw(v)) for k, v in arrays.items()})  # type: ignore[arg-type]
        _write(file.with_suffix(".npz"), held.getvalue())
    return {
        **ready.facts,
        "name": ready.name,
        "artifact": f"{file.stem}.aino",
        "stored": f"{file.stem}.npz" if arrays else "",
        "outputs": [_dtype(v) for v in expected],
        "given": [_dtype(v) for v in ready.inputs] if given else [],
        "drawn": is_stripped,
    }


def _write(path: Path, data: bytes) -> None:
    """Put a file there as a whole: a call that is cut off leaves none."""
    unfinished = path.with_name(f"{path.name}.unfinished")
    unfinished.write_bytes(data)
    unfinished.replace(path)


def _dtype(value: Array) -> str:
    return next(name for name, dtype in DTYPES.items() if dtype.numpy == np.asarray(value).dtype)


def _raw(value: Array) -> np.dtype[Any]:
    return np.dtype(f"u{value.dtype.itemsize}")


def _add(bundle: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    bundle.addfile(member, io.BytesIO(data))
