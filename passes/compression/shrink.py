"""Removes atoms from a function: smaller constants, the same ops on smaller shapes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from aino_ir.builder import Builder
from aino_ir.clone import copy_function, copy_op
from aino_ir.constants import Const
from aino_ir.errors.base import AinoError
from aino_ir.graph import Function, Module, State, Value
from aino_ir.op import Op
from aino_ir.passes.compression.dependencies import Dependencies
from aino_ir.types import TensorType

Array = np.ndarray[Any, Any]
Kept = Mapping[int, Array]
"""Class of axes -> bool mask of the positions that stay; other classes stay whole."""


class CannotShrink(Exception):
    """An op cannot be built on smaller shapes; the reason."""


@dataclass(frozen=True)
class Shrunk:
    """A smaller module.

    Attributes:
        module: the module.
        ops: old op -> new op, for those of main whose shapes changed.
    """

    module: Module
    ops: dict[Op, Op]


def shrink(module: Module, relations: Dependencies, kept: Kept) -> Shrunk:
    """The module with main on the kept positions alone.

    Raises:
        CannotShrink: an op's attributes do not fit smaller shapes.
    """
    out = Module(module.name)
    out.metadata = dict(module.metadata)
    out.reserve_ids(module.last_id)
    changed: dict[Op, Op] = {}
    for function in module.functions.values():
        if function is module.main:
            _shrink_function(function, out, relations, kept, changed)
        else:
            copy_function(function, out)
    return Shrunk(out, changed)


def _shrink_function(
    function: Function, out: Module, relations: Dependencies, kept: Kept, changed: dict[Op, Op]
) -> None:
    copy = out.add_function(function.name)
    copy.symbols = function.symbols.clone()
    copy.input_names, copy.output_names = list(function.input_names), list(function.output_names)
    copy.states = [State(s.name, s.type, s.init) for s in function.states]
    copy.defaults = dict(function.defaults)
    values: dict[Value, Value] = {}
    for arg in function.block.args:
        values[arg] = new = Value(arg.id, arg.type, None, arg.index, copy.block, arg.name)
        new.known, new.known_ready = arg.known, arg.known_ready
        copy.block.args.append(new)
    for op in function.block:
        if not any(_touched(v, relations, kept) for v in (*op.present_operands(), *op.results)):
            copy_op(op, copy.block, values)
            continue
        b = Builder(copy, loc=op.loc, record=False)
        changed[op] = new_op = _smaller(op, b, values, relations, kept)
        values.update(zip(op.results, new_op.results, strict=True))


def _touched(value: Value, relations: Dependencies, kept: Kept) -> bool:
    return isinstance(value.type, TensorType) and any(c in kept for c in relations.classes(value))


def _smaller(op: Op, b: Builder, values: dict[Value, Value], relations: Dependencies, kept: Kept) -> Op:
    names = [r.name for r in op.results]
    if op.name == "core.constant":
        handle = smaller_constant(op.value, relations.classes(op.result), kept)  # type: ignore[attr-defined]
        return b.op(type(op), value=handle, names=names)
    operands = [None if v is None else values[v] for v in op.operands]
    try:
        made = b.op(type(op), *operands, names=names, **_attributes(op, relations, kept))
    except AinoError as problem:
        raise CannotShrink(f"{op.name}: {problem.message}") from problem
    for old, new in zip(op.results, made.results, strict=True):
        wanted = smaller_shape(old, relations, kept)
        if new.shape != wanted:
            raise CannotShrink(f"{op.name}: its result would be {new.shape} instead of {wanted}")
    return made


def smaller_constant(handle: Const, classes: list[int | None], kept: Kept) -> Const:
    """A constant without what is removed."""
    array = handle.array()
    for axis, c in enumerate(classes):
        if c is not None and c in kept:
            array = np.compress(kept[c], array, axis=axis)
    return Const.of(np.ascontiguousarray(array), handle.name)


def smaller_shape(value: Value, relations: Dependencies, kept: Kept) -> tuple[Any, ...]:
    """The shape of a value without what is removed."""
    classes = relations.classes(value)
    return tuple(
        int(np.count_nonzero(kept[c])) if c is not None and c in kept else extent
        for c, extent in zip(classes, value.shape, strict=True)
    )


def _attributes(op: Op, relations: Dependencies, kept: Kept) -> dict[str, Any]:
    """The op's attributes, those that speak of extents adapted (see `ADAPTED`)."""
    out = op.attrs()
    for name, adapt in ADAPTED.items():
        if name in out:
            out[name] = adapt(op, out[name], relations, kept)
    return out


def _result_extents(op: Op, extents: Any, relations: Dependencies, kept: Kept) -> Any:
    if tuple(extents) != op.results[0].shape:
        raise CannotShrink(f"{op.name}: its extents {extents} are not those of its result")
    return smaller_shape(op.results[0], relations, kept)


def _positions(op: Op, starts: Any, relations: Dependencies, kept: Kept) -> Any:
    """Where slices start: behind what is left of what stood before."""
    source = next(op.present_operands())
    out = []
    for start, c in zip(starts, relations.classes(source), strict=True):
        removed = c is not None and c in kept
        out.append(int(np.count_nonzero(kept[c][:start])) if removed else start)  # type: ignore[index]
    return tuple(out)


def _groups(op: Op, groups: int, relations: Dependencies, kept: Kept) -> int:
    """As many groups as whole ones are left."""
    result = op.results[0]
    if groups == 1:
        return 1
    before, after = result.shape[1], smaller_shape(result, relations, kept)[1]
    if not isinstance(before, int) or groups * after % before:
        raise CannotShrink(f"{op.name}: {after} of {before} channels are not whole groups of {groups}")
    return int(groups * after // before)


ADAPTED = {
    "shape": _result_extents,
    "sizes": _result_extents,
    "starts": _positions,
    "groups": _groups,
}
"""Attributes that speak of extents, by name: how they become those of smaller shapes."""
