"""What an artifact says about itself: ``manifest.json``, checked when read.

The manifest is data only.  Names in it come from the user's model and are untrusted text: they are
shown and compared, never used as paths or symbols.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from aino_ir.errors.artifact import NotAnArtifact
from aino_ir.runtime.archive import SCHEMA

MAX_BYTES = 256 << 20
"""Largest manifest that is read."""


@dataclass(frozen=True)
class TensorSpec:
    """An input or output.

    Attributes:
        name: as in the model.
        dtype: AINO's name of the element type, such as ``f32``.
        shape: extents; a string is a symbolic dimension.
        details: what else the executable wants to know, such as a default value's weight.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Variant:
    """One library.

    Attributes:
        isa: its instruction-set variant.
        section: where it lies in the artifact.
        features: CPU features that it needs.
        flags: compiler flags that it was made with.
    """

    isa: str
    section: str
    features: tuple[str, ...]
    flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class WeightSlice:
    """One constant in the weights section.

    Attributes:
        offset, bytes: where it lies, from the section's start.
        name: for people.
        dtype, shape: of the array; empty and () for packed bytes.
    """

    offset: int
    bytes: int
    name: str = ""
    dtype: str = ""
    shape: tuple[int, ...] = ()


@dataclass(frozen=True)
class Manifest:
    """Everything but the bytes.

    Attributes:
        name: the model's name.
        target: such as ``c:avx2``.
        arch: processor family of the libraries; empty when there are none.
        producer: AINO's version.
        compiler: such as ``gcc 12.2.0``.
        system: operating system of the libraries.
        inputs, outputs: in order.
        variants: from the least to the most demanding.
        weights: constants in the weights section.
        kernels: the kernel table, one mapping a kernel.
        report: what `exe.report` shows.
        details: what the executable needs besides (symbols, entry points, limits).
        sections: SHA-256 (hex) of every other section by name.
    """

    name: str
    target: str
    arch: str
    producer: str
    compiler: str = ""
    system: str = "linux"
    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()
    variants: tuple[Variant, ...] = ()
    weights: tuple[WeightSlice, ...] = ()
    kernels: tuple[Mapping[str, Any], ...] = ()
    report: Mapping[str, Any] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)
    sections: Mapping[str, str] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """Return canonical JSON (sorted keys, ASCII); equal manifests give equal bytes."""
        data = {"schema": SCHEMA, **asdict(self)}
        text = json.dumps(data, sort_keys=True, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
        return text.encode()


_MEMBERS: dict[str, tuple[type, Any]] = {
    "inputs": (TensorSpec, {"name": str, "dtype": str, "shape": list, "details": dict}),
    "outputs": (TensorSpec, {"name": str, "dtype": str, "shape": list, "details": dict}),
    "variants": (Variant, {"isa": str, "section": str, "features": list, "flags": list}),
    "weights": (WeightSlice, {"offset": int, "bytes": int, "name": str, "dtype": str, "shape": list}),
}
"""Lists of records: the class and its fields' JSON types."""

_PLAIN: dict[str, type] = {
    "name": str,
    "target": str,
    "arch": str,
    "producer": str,
    "compiler": str,
    "system": str,
    "kernels": list,
    "report": dict,
    "details": dict,
    "sections": dict,
}


def parse_manifest(data: bytes, path: str) -> Manifest:
    """Return the manifest in `data`.

    Raises:
        NotAnArtifact: it is no JSON, or a key is missing, superfluous or of the wrong type.
    """
    if len(data) > MAX_BYTES:
        raise NotAnArtifact(
            path=path, reason=f"its manifest has {len(data)} bytes, at most {MAX_BYTES} are read"
        )
    try:
        found = json.loads(data, object_pairs_hook=_no_duplicates, parse_constant=_no_constant)
    except (ValueError, RecursionError) as problem:
        raise NotAnArtifact(path=path, reason=f"its manifest is no JSON: {problem}") from problem
    expected = {"schema", *_PLAIN, *_MEMBERS}
    if not isinstance(found, dict) or set(found) != expected or found["schema"] != SCHEMA:
        raise NotAnArtifact(
            path=path, reason=f"its manifest must have the keys {', '.join(sorted(expected))}"
        )
    for key, kind in _PLAIN.items():
        _check_type(found[key], kind, key, path)
    records = {key: _records(found[key], key, path) for key in _MEMBERS}
    plain = {key: found[key] for key in _PLAIN}
    return Manifest(**{**plain, "kernels": tuple(plain["kernels"]), **records})


def _records(found: object, key: str, path: str) -> tuple[Any, ...]:
    cls, fields = _MEMBERS[key]
    _check_type(found, list, key, path)
    assert isinstance(found, list)
    made = []
    for index, item in enumerate(found):
        where = f"{key}[{index}]"
        _check_type(item, dict, where, path)
        if set(item) != set(fields):
            raise NotAnArtifact(path=path, reason=f"{where} must have the keys {', '.join(sorted(fields))}")
        for name, kind in fields.items():
            _check_type(item[name], kind, f"{where}.{name}", path)
            if kind is list:
                _check_scalars(item[name], f"{where}.{name}", path)
        made.append(cls(**{n: tuple(v) if isinstance(v, list) else v for n, v in item.items()}))
    return tuple(made)


def _check_scalars(values: Sequence[object], where: str, path: str) -> None:
    for value in values:
        _check_type(value, (int, str), where, path)


def _check_type(value: object, kind: type | tuple[type, ...], where: str, path: str) -> None:
    if not isinstance(value, kind) or isinstance(value, bool):
        names = " or ".join(k.__name__ for k in (kind if isinstance(kind, tuple) else (kind,)))
        raise NotAnArtifact(
            path=path, reason=f"its manifest has a {type(value).__name__} as {where}, not a {names}"
        )


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key occurs twice")
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")
