"""Values at the boundary that are no tensors: strings, sequences, optional values, maps.

Strings are object arrays of `str`, sequences lists, absent values None, maps dicts of Python's scalars.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from aino_ir.dims import is_static
from aino_ir.dtypes import integer_range
from aino_ir.errors.run import BadOutputBuffer, InputMismatch, UnsupportedInput
from aino_ir.runtime.values import Port, checked, is_torch, to_numpy, to_torch
from aino_ir.types import MapType, OptionalType, SequenceType, StringType, TensorType, Type

Array = np.ndarray[Any, Any]


def checked_value(value: Any, name: str, type_: Type) -> Any:
    """An input of any type as the interpreter keeps it: nothing is cast, nothing is copied that fits.

    Raises:
        InputMismatch: dtype, shape, rank or an element is another.
        UnsupportedInput: it is of another kind.
    """
    if isinstance(type_, TensorType):
        return checked(value, tensor_port(name, type_))
    if isinstance(type_, StringType):
        return _strings(value, name, type_)
    if isinstance(type_, OptionalType):
        return None if value is None else checked_value(value, name, type_.element)
    if isinstance(type_, MapType):
        return _map(value, name, type_)
    if not isinstance(value, (list, tuple)):
        raise UnsupportedInput(name=name, expected=f"a list for {type_}", got=type(value).__name__)
    return [_element(v, f"{name}[{i}]", type_.element) for i, v in enumerate(value)]


def _element(value: Any, name: str, type_: Type) -> Any:
    """An element of a list; in a list whose elements' rank is not known (0-d in its type) of any shape."""
    if isinstance(type_, TensorType) and type_.rank == 0:
        shape = np.shape(to_numpy(value, tensor_port(name, type_)))
        type_ = TensorType(type_.dtype, shape)
    return checked_value(value, name, type_)


def tensor_port(name: str, type_: TensorType) -> Port:
    """The port of an input or output that is a tensor."""
    static = tuple(int(d) for d in type_.shape) if type_.is_static else None  # type: ignore[arg-type]
    return Port(name, type_, static)


def _strings(value: Any, name: str, type_: StringType) -> Array:
    if isinstance(value, str):
        value = np.asarray(value, object)
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "OU":
        got = f"an array of {value.dtype}" if isinstance(value, np.ndarray) else type(value).__name__
        raise UnsupportedInput(name=name, expected=f"an array of strings for {type_}", got=got)
    array: Array = value if value.dtype.kind == "O" else value.astype(object)
    if array.ndim != len(type_.shape):
        raise InputMismatch(name=name, what="rank", expected=len(type_.shape), got=array.ndim)
    for axis, (want, got) in enumerate(zip(type_.shape, array.shape, strict=True)):
        if is_static(want) and want != got:
            raise InputMismatch(name=name, what=f"extent of axis {axis}", expected=want, got=got)
    for element in array.reshape(-1):
        if not isinstance(element, str):
            raise InputMismatch(name=name, what="elements", expected="str", got=type(element).__name__)
    return array


def _map(value: Any, name: str, type_: MapType) -> dict[Any, Any]:
    if not isinstance(value, Mapping):
        raise UnsupportedInput(name=name, expected=f"a dict for {type_}", got=type(value).__name__)
    return {
        _scalar(key, f"a key of {name}", type_.key): _scalar(item, f"{name}[{key!r}]", type_.value)
        for key, item in value.items()
    }


def _scalar(value: Any, name: str, type_: TensorType | StringType) -> Any:
    """A text, or a Python number that the dtype holds; numpy's numbers must be of the dtype.

    Python's own floats are taken as what they are rounded to, since Python has no others.
    """
    if isinstance(type_, StringType):
        kinds: tuple[Any, ...] = (str,)
    elif type_.dtype.is_integer:
        kinds = (int, type_.dtype.numpy.type)
    else:
        kinds = (float, int, type_.dtype.numpy.type)
    if not isinstance(value, kinds) or isinstance(value, bool):
        raise InputMismatch(name=name, what="type", expected=kinds[0].__name__, got=type(value).__name__)
    if isinstance(type_, StringType):
        return str(value)
    if type_.dtype.is_integer:
        low, high = integer_range(type_.dtype)
        if not low <= value <= high:
            raise InputMismatch(name=name, what="value", expected=f"within {low}..{high}", got=value)
        return int(value)
    with np.errstate(over="ignore"):
        return type_.dtype.numpy.type(value).item()


def named_types(name: str, value: Any, type_: Type) -> Iterator[tuple[str, Any, Array]]:
    """(name, type, array) of a value if its type has extents; an absent one and lists have none."""
    while isinstance(type_, OptionalType) and value is not None:
        type_ = type_.element
    if isinstance(type_, (TensorType, StringType)) and value is not None:
        yield name, type_, value


def owned(value: Any) -> Any:
    """A copy that shares no memory with anything."""
    if isinstance(value, np.ndarray):
        return np.array(value, copy=True, order="C")
    if isinstance(value, dict):
        return dict(value)
    return [owned(v) for v in value] if isinstance(value, (list, tuple)) else value


def any_torch(value: Any) -> bool:
    """Whether a torch tensor is in a value."""
    return any(map(any_torch, value)) if isinstance(value, (list, tuple)) else is_torch(value)


def all_torch(value: Any) -> Any:
    """A value with torch tensors on the same memory; strings stay arrays."""
    if isinstance(value, np.ndarray):
        return value if value.dtype == object else to_torch(value)
    return [all_torch(v) for v in value] if isinstance(value, list) else value


def target_array(target: Any, value: Any, name: str, type_: Type) -> Array:
    """The array behind what the caller gave for an output, if it can take the output's value.

    Raises:
        BadOutputBuffer: it is no such array, or the output is a list or may be absent.
    """
    array = target
    if isinstance(type_, TensorType) and is_torch(target):
        array = to_numpy(target, tensor_port(name, type_))
    if (
        not isinstance(array, np.ndarray)
        or not isinstance(value, np.ndarray)
        or not isinstance(type_, (TensorType, StringType))
        or (array.dtype, array.shape) != (value.dtype, value.shape)
        or not (array.flags.c_contiguous and array.flags.writeable)
    ):
        raise BadOutputBuffer(name=name, expected=type_, got=_described(array))
    return array


def _described(value: Any) -> str:
    return f"{value.dtype}{list(value.shape)}" if isinstance(value, np.ndarray) else type(value).__name__


def shown_type(type_: Type) -> tuple[str, tuple[int | str, ...]]:
    """(dtype, shape) that a manifest shows of a type that may be no tensor."""
    if isinstance(type_, (SequenceType, OptionalType, MapType)):
        return str(type_), ()
    shape = tuple(int(d) if is_static(d) else str(d) for d in type_.shape)  # type: ignore[arg-type]
    return ("string" if isinstance(type_, StringType) else type_.dtype.name), shape
