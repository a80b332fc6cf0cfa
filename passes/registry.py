"""Which passes exist, by name, and pipelines as text: ``fuse-groups{max_ops=8},eliminate-dead-code``.

Passes are found by importing every module of this package; other packages add theirs with
`register_pass` or the entry-point group ``aino.passes``.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterator, Sequence
from dataclasses import fields
from functools import lru_cache
from typing import Any

from aino_ir.errors.passes import BadPassOption, BadPipelineText, PassNameTaken, UnknownPass
from aino_ir.passes.base import Pass

_REGISTERED: dict[str, type[Pass]] = {}

ENTRY_POINTS = "aino.passes"


def register_pass(cls: type[Pass]) -> type[Pass]:
    """Make a pass known by its name (usable as a decorator).

    Raises:
        PassNameTaken: another class has the name.
    """
    other = _REGISTERED.get(cls.name) or _own().get(cls.name)
    if other is not None and other is not cls:
        raise PassNameTaken(name=cls.name, other=f"{other.__module__}.{other.__qualname__}")
    _REGISTERED[cls.name] = cls
    return cls


@lru_cache(maxsize=1)
def _own() -> dict[str, type[Pass]]:
    """Passes of this package, one module each."""
    import aino_ir.passes as package

    found: dict[str, type[Pass]] = {}
    for info in pkgutil.iter_modules(package.__path__):
        module = importlib.import_module(f"aino_ir.passes.{info.name}")
        for value in vars(module).values():
            if isinstance(value, type) and issubclass(value, Pass) and value.__module__ == module.__name__:
                if value.name:
                    found[value.name] = value
    return found


@lru_cache(maxsize=1)
def _from_entry_points() -> dict[str, type[Pass]]:
    from importlib.metadata import entry_points

    return {point.name: point.load() for point in entry_points(group=ENTRY_POINTS)}


def known_passes() -> dict[str, type[Pass]]:
    """Every pass by name."""
    return dict(sorted({**_from_entry_points(), **_own(), **_REGISTERED}.items()))


def pass_class(name: str) -> type[Pass]:
    """The pass called `name`.

    Raises:
        UnknownPass: there is none.
    """
    known = known_passes()
    if name not in known:
        raise UnknownPass(name=name, known=", ".join(known))
    return known[name]


_ITEM = re.compile(r"\s*([a-z][a-z0-9-]*)\s*(?:\{([^{}]*)\})?\s*(,|$)")


def parse_passes(text: str) -> list[Pass]:
    """Passes from text such as ``canonicalize,fuse-groups{max_ops=8}``.

    Raises:
        BadPipelineText, UnknownPass, BadPassOption: what is wrong with it.
    """
    out: list[Pass] = []
    position = 0
    while position < len(text):
        item = _ITEM.match(text, position)
        if item is None:
            raise BadPipelineText(text=text, reason=f"'{text[position:].strip()}' is no pass")
        name, options, separator = item.groups()
        out.append(make_pass(name, dict(_options(options or "", text))))
        position = item.end()
        if separator == "," and position == len(text):
            raise BadPipelineText(text=text, reason="a pass is missing after the last comma")
    return out


def _options(text: str, whole: str) -> Iterator[tuple[str, str]]:
    for part in filter(None, (p.strip() for p in text.split(","))):
        key, equals, value = part.partition("=")
        if not equals:
            raise BadPipelineText(text=whole, reason=f"option '{part}' has no value")
        yield key.strip(), value.strip()


def make_pass(name: str, options: dict[str, str]) -> Pass:
    """A pass with options given as text.

    Raises:
        UnknownPass, BadPassOption: there is no such pass or option, or the value does not fit.
    """
    cls = pass_class(name)
    known = {f.name: f for f in fields(cls)}
    values: dict[str, Any] = {}
    for key, value in options.items():
        reader = READERS.get(str(known[key].type)) if key in known else None
        converted = reader(value) if reader is not None else None
        if converted is None:
            listed = ", ".join(f"{f.name}: {f.type} = {f.default}" for f in known.values()) or "none"
            raise BadPassOption(name=name, option=key, value=value, known=listed)
        values[key] = converted
    return cls(**values)


def _whole(text: str) -> int | None:
    return int(text) if re.fullmatch(r"-?\d+", text) else None


def _real(text: str) -> float | None:
    return float(text) if re.fullmatch(r"-?\d+(\.\d*)?(e-?\d+)?", text) else None


READERS: dict[str, Any] = {
    "int": _whole,
    "float": _real,
    "bool": {"true": True, "false": False}.get,
    "str": str,
}
"""Type of an option -> how its text is read (None: it does not fit)."""


def print_pass(item: Pass) -> str:
    """A pass as `parse_passes` reads it; options at their default are left out."""
    given = [
        f"{f.name}={_text(getattr(item, f.name))}" for f in fields(item) if getattr(item, f.name) != f.default
    ]
    return item.name + ("{" + ",".join(given) + "}" if given else "")


def print_passes(items: Sequence[Pass]) -> str:
    """A pipeline as text."""
    return ",".join(print_pass(p) for p in items)


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
