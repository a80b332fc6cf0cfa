"""Ops, passes and targets of other packages.

A package registers them when it is imported, or names its modules under the entry-point groups
``aino.ops``, ``aino.passes`` and ``aino.targets``; these are imported before the first model is read.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from aino_ir.codegen.c import dialects
from aino_ir.errors.passes import UnknownPass
from aino_ir.errors.usage import BadExtension
from aino_ir.isa import ISAS
from aino_ir.op import OPS, Op
from aino_ir.passes.base import Pass
from aino_ir.passes.pipelines import STAGES
from aino_ir.passes.registry import register_pass as register_pass_name
from aino_ir.runtime.store import digest
from aino_ir.target import REGISTERED as TARGETS
from aino_ir.target import register_target

ENTRY_POINT_GROUPS = ("aino.ops", "aino.passes", "aino.targets")

O = TypeVar("O", bound=type[Op])
P = TypeVar("P", bound=type[Pass])

_OPS: dict[type[Op], Callable[..., Any] | None] = {}
_PASSES: dict[type[Pass], str | None] = {}


def register_op(
    cls: Any = None, *, onnx: tuple[str, str] | None = None, row: Callable[..., Any] | None = None
) -> Any:
    """Make an op class part of AINO (a decorator): text, builder, kernels and, with `onnx`, the reader.

    Args:
        cls: the op class.
        onnx: (domain, operator) of the ONNX operator that becomes this op.
        row: ``(context, node) -> value``; needed when the operator has attributes.

    Raises:
        BadExtension: it is no op class with a name, says not what it computes, or the operator has a row.
    """
    if cls is None:
        return lambda made: _registered_op(made, onnx, row)
    return _registered_op(cls, onnx, row)


def _registered_op(cls: O, onnx: tuple[str, str] | None, row: Callable[..., Any] | None) -> O:
    name = getattr(cls, "name", None) or getattr(cls, "__name__", str(cls))
    if not (isinstance(cls, type) and issubclass(cls, Op)) or OPS.get(cls.name) is not cls:
        raise BadExtension(
            kind="op", name=name, reason="it is no class derived from Op with a name of its own"
        )
    if cls.evaluate is Op.evaluate and cls.decompose is Op.decompose:
        raise BadExtension(kind="op", name=name, reason="it declares neither evaluate nor decompose")
    if onnx is not None:
        from aino_ir.frontends.onnx.ops import register_row

        register_row(*onnx, row if row is not None else cls.name)
    _OPS[cls] = row
    return cls


def register_pass(cls: Any = None, *, before: str | None = None) -> Any:
    """Make a pass known by its name (a decorator), and part of every compilation that runs `before`.

    Args:
        cls: the pass class.
        before: name of the pass before which it runs in `compile`; None: only where it is asked for by name.

    Raises:
        PassNameTaken: another class has the name.
        UnknownPass: no pass called `before` is part of compilations.
    """
    if cls is None:
        return lambda made: _registered_pass(made, before)
    return _registered_pass(cls, before)


def _registered_pass(cls: P, before: str | None) -> P:
    if before is not None and before not in (known := [p.name for s in STAGES for p in s.passes]):
        raise UnknownPass(name=before, known=", ".join(dict.fromkeys(known)))
    register_pass_name(cls)
    _PASSES[cls] = before
    return cls


def with_extensions(passes: Sequence[Pass]) -> list[Pass]:
    """A pipeline with the passes of other packages in their places (before the first of that name)."""
    out: list[Pass] = []
    waiting = {cls: before for cls, before in _PASSES.items() if before is not None}
    for item in passes:
        for cls in [c for c, before in waiting.items() if before == item.name]:
            out.append(cls())
            del waiting[cls]
        out.append(item)
    return out


@functools.cache
def load_entry_points() -> None:
    """Import what other packages name under the entry-point groups, once in a process."""
    from importlib.metadata import entry_points

    for group in ENTRY_POINT_GROUPS:
        for point in entry_points(group=group):
            point.load()


def extensions_identity() -> str | None:
    """A hash of everything registered, for the keys of compiled models; None when a source is not at hand."""
    parts: list[str | bytes] = [repr(sorted(TARGETS.items()))]
    things: list[Any] = [*_OPS, *(row for row in _OPS.values() if row is not None), *_PASSES]
    for isa, spoken in dialects.registered().items():
        parts += [repr(ISAS[isa]), repr(spoken.table.rows), repr(spoken.definitions)]
        own = (spoken.writer, spoken.interface, spoken.runtime, spoken.folder)
        things += [thing for thing in own if thing is not None]
    for thing in things:
        try:
            source = inspect.getsourcefile(thing)
        except (
            KeyError,
            OSError,
            TypeError,
        ):  # its module has no file (tvm replaces inspect.getfile: KeyError)
            source = None
        if source is None or not Path(source).is_file():
            return None
        parts += [
            f"{thing.__module__}.{thing.__qualname__}",
            repr(_PASSES.get(thing)),
            Path(source).read_bytes(),
        ]
    return digest(*parts)


__all__ = [
    "extensions_identity",
    "load_entry_points",
    "register_op",
    "register_pass",
    "register_target",
    "with_extensions",
]
