"""Passes by name: discovery, the text of pipelines, options, registration from outside."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import pytest

from aino_ir.errors.passes import (
    BadPassOption,
    BadPipelineText,
    PassNameTaken,
    UnknownLevel,
    UnknownPass,
)
from aino_ir.passes import registry
from aino_ir.passes.base import ERROR_CLASSES, Pass
from aino_ir.passes.fuse_groups import FuseGroups
from aino_ir.passes.pipelines import LEVELS, pipeline
from aino_ir.passes.registry import known_passes, parse_passes, print_passes, register_pass


def test_names_are_file_stems() -> None:
    assert known_passes()
    for name, cls in known_passes().items():
        assert cls.name == name
        if cls.__module__.startswith("aino_ir.passes."):
            assert cls.__module__.rsplit(".", 1)[-1] == name.replace("-", "_")


def test_every_pass_has_a_test_of_its_stem() -> None:
    here = Path(__file__).parent
    missing = [n for n in known_passes() if not (here / f"test_{n.replace('-', '_')}.py").exists()]
    assert not missing


def test_declarations_are_sound() -> None:
    for cls in known_passes().values():
        assert cls.error_class in ERROR_CLASSES
        assert cls.__doc__ and all(f.type in registry.READERS for f in fields(cls))
        cls()


@pytest.mark.parametrize(
    "text",
    ["canonicalize", "fuse-groups{max_ops=8}", "fuse-groups{max_ops=8,max_inputs=3},eliminate-dead-code", ""],
)
def test_text_round_trip(text: str) -> None:
    assert print_passes(parse_passes(text)) == text


def test_spaces_and_defaults() -> None:
    assert parse_passes(" canonicalize , fuse-groups{ max_ops = 48 } ")[1] == FuseGroups()
    assert str(FuseGroups(max_ops=3)) == "fuse-groups{max_ops=3}"


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("fuse", UnknownPass, "no pass is called 'fuse'"),
        ("fuse-groups{max_ops=8", BadPipelineText, "is no pass"),
        ("canonicalize,", BadPipelineText, "missing after the last comma"),
        ("Canonicalize", BadPipelineText, "is no pass"),
        ("fuse-groups{max_ops}", BadPipelineText, "has no value"),
        ("fuse-groups{max_op=8}", BadPassOption, "max_op=8"),
        ("fuse-groups{max_ops=many}", BadPassOption, "max_ops=many"),
    ],
)
def test_bad_text(text: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        parse_passes(text)


def test_registration_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_REGISTERED", {})

    @register_pass
    @dataclass(frozen=True)
    class Mine(Pass):
        """Does nothing."""

        name = "mine"
        gain: float = 1.0
        loud: bool = False
        mode: str = "a"

    assert parse_passes("mine{gain=2.5,loud=true,mode=b}") == [Mine(2.5, True, "b")]
    assert print_passes([Mine(2.5, True, "b")]) == "mine{gain=2.5,loud=true,mode=b}"
    assert register_pass(Mine) is Mine

    @dataclass(frozen=True)
    class Other(Pass):
        """Wants a name that is taken."""

        name = "canonicalize"

    with pytest.raises(PassNameTaken, match="canonicalize"):
        register_pass(Other)


def test_pass_must_say_what_it_does() -> None:
    from aino_ir.builder import Builder
    from aino_ir.passes.base import PassContext

    b = Builder()
    with pytest.raises(TypeError, match="declares neither run nor run_function"):
        Pass().run(b.module, PassContext())


def test_levels() -> None:
    assert [len(pipeline(level)) > 0 for level in LEVELS] == [False, True, True, True]
    assert len(pipeline(2)) > len(pipeline(1))
    with pytest.raises(UnknownLevel, match="no optimization level 7"):
        pipeline(7)
