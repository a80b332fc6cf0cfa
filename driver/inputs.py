"""Inputs for a model: read from .npy and .npz files, or made up from a seed."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from aino_ir.dims import Dim, free_symbols, symbol
from aino_ir.errors.usage import BadArgument, InputFileUnreadable, NoInputs
from aino_ir.graph import Function
from aino_ir.runtime.fileio import DISK, Disk, disk_errors, new_part
from aino_ir.types import MapType, OptionalType, SequenceType, StringType, TensorType, Type

Array = np.ndarray[Any, Any]
Interface = Sequence[tuple[str, Type]]

MADE_UP_ELEMENTS = 2
"""Elements of made-up lists."""

WORDS = ("", "a", "word", "two words", "\u00fcber")
"""What made-up strings are."""

INTEGERS_BELOW = 2
"""Made-up integers are smaller than this: legal as indices, token numbers and masks alike."""


def read_inputs(items: Iterable[str], option: str = "--input") -> dict[str, Array]:
    """Arrays by input name from ``name=file.npy`` and ``file.npz``, as an option gives them.

    Raises:
        BadArgument: an item is neither.
        InputFileUnreadable: a file is missing or holds no arrays.
    """
    found: dict[str, Array] = {}
    for item in items:
        name, equals, path = item.rpartition("=")
        content = _load(Path(path))
        if isinstance(content, dict):
            found.update(content if not equals else _only(content, name, item, option))
        elif equals:
            found[name] = content
        else:
            reason = "an .npy file has no input name"
            sample = f"{option} x=x.npy or {option} all.npz"
            raise BadArgument(option=option, text=item, reason=reason, sample=sample)
    return found


def _only(content: dict[str, Array], name: str, item: str, option: str) -> dict[str, Array]:
    """The one array that ``name=file.npz`` means."""
    if name in content:
        return {name: content[name]}
    if len(content) == 1:
        return {name: next(iter(content.values()))}
    reason = f"the file holds {', '.join(content)}"
    raise BadArgument(option=option, text=item, reason=reason, sample=f"{option} all.npz")


def _load(path: Path) -> Array | dict[str, Array]:
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded
        with loaded:
            return {name: loaded[name] for name in loaded.files}
    except OSError as problem:
        raise InputFileUnreadable(path=str(path), reason=problem.strerror or str(problem)) from problem
    except (ValueError, EOFError, BadZipFile, KeyError) as problem:
        raise InputFileUnreadable(path=str(path), reason=str(problem).partition("\n")[0]) from problem


def make_inputs(interface: Interface, seed: int, sizes: Mapping[str, int] | None = None) -> dict[str, Any]:
    """Made-up values for inputs: floats from the normal distribution, integers 0 and 1, short words.

    Lists have MADE_UP_ELEMENTS elements, and what may be absent is there.

    Args:
        interface: names and types.
        seed: equal seeds make equal arrays, whatever other inputs there are.
        sizes: values of symbols; 1 where none is given.
    """
    out = {}
    for number, (name, type_) in enumerate(interface):
        out[name] = _made_up(type_, np.random.default_rng([seed, number]), _Sizes(sizes or {}))
    return out


SYMBOLIC_SIZE = 32
"""What symbols of a made-up input are, where their bounds allow it."""


def made_up(function: Function) -> dict[str, Any]:
    """Made-up values for a function's inputs, as `make_inputs`; symbols are about SYMBOLIC_SIZE.

    Args:
        function: whose symbols have bounds.
    """
    sizes = {}
    for name in function.symbols:
        low, high = function.symbols.interval(symbol(name))
        sizes[name] = max(low or 1, SYMBOLIC_SIZE if high is None else min(SYMBOLIC_SIZE, high))
    return make_inputs(
        [(n, v.type) for n, v in zip(function.input_names, function.inputs, strict=True)], 0, sizes
    )


class _Sizes(dict[str, int]):
    """Values of symbols; 1 for those that have none."""

    def __missing__(self, name: str) -> int:
        return 1


def _made_up(type_: Type, rng: np.random.Generator, sizes: _Sizes) -> Any:
    if isinstance(type_, SequenceType):
        return [_made_up(type_.element, rng, sizes) for _ in range(MADE_UP_ELEMENTS)]
    if isinstance(type_, OptionalType):
        return _made_up(type_.element, rng, sizes)
    if isinstance(type_, MapType):
        keys, values = (_made_up(_row(t), rng, sizes).tolist() for t in (type_.key, type_.value))
        return dict(zip(keys, values, strict=True))
    shape = tuple(d.evaluate(_known(d, sizes)) if isinstance(d, Dim) else int(d) for d in type_.shape)
    if isinstance(type_, StringType):
        return np.asarray(WORDS, object)[rng.integers(0, len(WORDS), shape)]
    dtype = type_.dtype
    if dtype.is_float:
        return rng.standard_normal(shape).astype(dtype.numpy)
    if dtype.name.startswith("c"):
        return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)).astype(dtype.numpy)
    return rng.integers(0, INTEGERS_BELOW, shape).astype(dtype.numpy)


def _row(scalar: TensorType | StringType) -> Type:
    """MADE_UP_ELEMENTS of a scalar type."""
    shape = (MADE_UP_ELEMENTS,)
    return StringType(shape) if isinstance(scalar, StringType) else TensorType(scalar.dtype, shape)


def _known(dim: Dim, sizes: _Sizes) -> dict[str, int]:
    return {name: sizes[name] for name in free_symbols(dim)}


def inputs_for(
    interface: Interface,
    files: Iterable[str],
    seed: int | None,
    sizes: Mapping[str, int],
    optional: Iterable[str] = (),
) -> dict[str, Any]:
    """Inputs from files, the others made up when there is a seed.

    Raises:
        NoInputs: an input has no value, and no seed was given.
        BadArgument, InputFileUnreadable: as `read_inputs` says.
    """
    given = read_inputs(files)
    names = {name for name, _ in interface}
    for name in given:
        if name not in names:
            reason = f"the model's inputs are {', '.join(sorted(names))}"
            raise BadArgument(option="--input", text=name, reason=reason, sample="--input NAME=FILE.npy")
    absent = [(n, t) for n, t in interface if n not in given and n not in set(optional)]
    if absent and seed is None:
        raise NoInputs(name=absent[0][0], type=absent[0][1])
    if not absent or seed is None:
        return given
    made = make_inputs(interface, seed, sizes)
    return {**{name: made[name] for name, _ in absent}, **given}


def write_arrays(path: Path, arrays: Mapping[str, Any], disk: Disk = DISK) -> None:
    """Write values by name as .npz: afterwards the whole file is there, or what was before.

    Elements of lists are called ``name[0]``; absent values are left out.

    Raises:
        DiskFull, FileNotWritable: the disk refuses.
    """
    with disk_errors(path), new_part(path.parent, disk, mode=0o666) as part:
        with os.fdopen(os.dup(part.fd), "wb") as file:
            parts = (row for name, value in arrays.items() for row in flat_values(name, value))
            members: dict[str, Any] = {_member(name): _storable(value) for name, value in parts}
            np.savez(file, **members)
        part.publish(path, durable=False)


def flat_values(name: str, value: Any) -> Iterator[tuple[str, Array]]:
    """The arrays that a value consists of: elements of lists as ``name[0]``, nothing for an absent value."""
    if isinstance(value, (list, tuple)):
        for i, element in enumerate(value):
            yield from flat_values(f"{name}[{i}]", element)
    elif value is not None:
        yield name, np.asarray(value)


def _storable(array: Array) -> Array:
    """Strings in numpy's own dtype for them: arrays of objects would be pickled."""
    return array.astype(str) if array.dtype == object else array


def _member(name: str) -> str:
    """A name as an .npz holds it: no path separators, and not numpy's own parameter."""
    plain = name.replace("/", "_").replace("\\", "_")
    return f"{plain}_" if plain in ("file", "") else plain
