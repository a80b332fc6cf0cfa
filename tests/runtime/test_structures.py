"""Strings, lists and absent values at the boundary."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from aino_ir.dims import symbol
from aino_ir.errors.base import AinoError
from aino_ir.errors.run import BadOutputBuffer, InputMismatch, UnsupportedInput
from aino_ir.runtime.structures import (
    all_torch,
    any_torch,
    checked_value,
    named_types,
    owned,
    shown_type,
    target_array,
)
from aino_ir.types import MapType, OptionalType, SequenceType, StringType, Type, tensor

PAIR = tensor("f32", 2)


def ones(*shape: int) -> Any:
    return np.ones(shape, np.float32)


@pytest.mark.parametrize(
    ("value", "type_"),
    [
        (ones(2), PAIR),
        (np.asarray(["a", "b"], object), StringType((2,))),
        (np.asarray(["a"], object), StringType((symbol("n"),))),
        ([], SequenceType(PAIR)),
        ([ones(2), ones(2)], SequenceType(PAIR)),
        ([ones(3), ones(2, 2)], SequenceType(tensor("f32"))),  # a list whose elements' rank is not known
        ([np.asarray(["a"], object)], SequenceType(StringType((1,)))),
        (None, OptionalType(PAIR)),
        ([ones(2)], OptionalType(SequenceType(PAIR))),
        ([[ones(2)]], SequenceType(SequenceType(PAIR))),
        (ones(2).astype(ml_dtypes.bfloat16), tensor("bf16", 2)),
    ],
)
def test_what_fits_passes_by_reference(value: Any, type_: Type) -> None:
    def arrays(v: Any) -> list[Any]:
        return [a for item in v for a in arrays(item)] if isinstance(v, list) else [v]

    got = checked_value(value, "x", type_)
    assert all(g is w for g, w in zip(arrays(got), arrays(value), strict=True))


def test_texts_of_other_kinds_become_object_arrays() -> None:
    assert checked_value("a", "x", StringType(())).tolist() == "a"
    made = checked_value(np.asarray(["a", "bc"]), "x", StringType((2,)))
    assert made.dtype == object and made.tolist() == ["a", "bc"] and type(made[0]) is str
    assert checked_value((ones(2),), "x", SequenceType(PAIR))[0].shape == (2,)


@pytest.mark.parametrize(
    ("value", "type_", "error", "what"),
    [
        (None, PAIR, UnsupportedInput, "'x'"),
        (ones(3), PAIR, InputMismatch, "shape"),
        (ones(2), StringType((2,)), UnsupportedInput, "array of strings for string"),
        (["a", "b"], StringType((2,)), UnsupportedInput, "got list"),
        (
            np.asarray([b"a", b"b"], object),
            StringType((2,)),
            InputMismatch,
            "elements must be str, got bytes",
        ),
        (np.asarray(["a"], object), StringType((2,)), InputMismatch, "extent of axis 0 must be 2, got 1"),
        (np.asarray("a", object), StringType((1,)), InputMismatch, "rank"),
        (ones(2, 2), SequenceType(PAIR), UnsupportedInput, "a list for seq<f32.2.>, got ndarray"),
        ([ones(2), ones(3)], SequenceType(PAIR), InputMismatch, r"x\[1\].*shape"),
        ([ones(2), np.zeros(2)], SequenceType(tensor("f32")), InputMismatch, r"x\[1\].*dtype must be f32"),
        ([[ones(2)], [None]], SequenceType(SequenceType(PAIR)), UnsupportedInput, r"x\[1\]\[0\]"),
        (ones(3), OptionalType(PAIR), InputMismatch, "shape"),
    ],
)
def test_what_does_not_fit_is_named(value: Any, type_: Type, error: type[AinoError], what: str) -> None:
    with pytest.raises(error, match=what):
        checked_value(value, "x", type_)


NAMES = MapType(StringType(()), tensor("f32"))
NUMBERS = MapType(tensor("i64"), tensor("f64"))


def test_maps_hold_python_numbers() -> None:
    got = checked_value({"a": 0.1, "b": np.float32(2), "c": 3}, "x", NAMES)
    assert got == {"a": float(np.float32(0.1)), "b": 2.0, "c": 3.0}
    assert all(type(v) is float for v in got.values())
    assert checked_value({np.int64(3): 0.1}, "x", NUMBERS) == {3: 0.1}
    assert checked_value({1: "u"}, "x", MapType(tensor("i64"), StringType(()))) == {1: "u"}
    assert checked_value([{1: 2.0}, {}], "x", SequenceType(NUMBERS)) == [{1: 2.0}, {}]
    given = {"a": 1.0}
    copy = owned(given)
    assert copy == given and copy is not given


@pytest.mark.parametrize(
    ("value", "type_", "error", "what"),
    [
        ([1.0], NAMES, UnsupportedInput, "a dict for map<string.., f32..>, got list"),
        ({1: 1.0}, NAMES, InputMismatch, "key of x.*must be str, got int"),
        ({"a": "b"}, NAMES, InputMismatch, "type must be float, got str"),
        ({"a": np.float64(1)}, MapType(StringType(()), tensor("i64")), InputMismatch, "must be int"),
        ({True: 1.0}, NUMBERS, InputMismatch, "must be int, got bool"),
        ({2**63: 1.0}, NUMBERS, InputMismatch, "value must be within"),
    ],
)
def test_maps_that_do_not_fit(value: Any, type_: Type, error: type[AinoError], what: str) -> None:
    with pytest.raises(error, match=what):
        checked_value(value, "x", type_)


def test_extents_are_those_of_arrays() -> None:
    assert [row[0] for row in named_types("x", ones(2), PAIR)] == ["x"]
    assert [row[1] for row in named_types("x", ones(2), OptionalType(PAIR))] == [PAIR]
    assert not list(named_types("x", None, OptionalType(PAIR)))
    assert not list(named_types("x", [ones(2)], SequenceType(PAIR)))
    assert not list(named_types("x", [ones(2)], OptionalType(SequenceType(PAIR))))


def test_copies_share_nothing() -> None:
    given = [ones(2), [np.asarray(["a"], object), None]]
    made = owned(given)
    assert not np.shares_memory(made[0], given[0]) and not np.shares_memory(made[1][0], given[1][0])  # type: ignore[arg-type]
    assert made[1][1] is None and owned("a") == "a"


def test_torch_is_found_and_given_in_lists() -> None:
    torch = pytest.importorskip("torch")
    assert any_torch([[torch.ones(2)]]) and not any_torch([[ones(2)], None, "a"])
    made = all_torch([ones(2), np.asarray(["a"], object), None])
    assert isinstance(made[0], torch.Tensor) and made[1].tolist() == ["a"] and made[2] is None
    target = torch.zeros(2)
    array = target_array(target, ones(2), "y", PAIR)
    array[...] = 5
    assert target.tolist() == [5, 5]


@pytest.mark.parametrize(
    ("target", "value", "type_"),
    [
        (ones(3), ones(2), PAIR),
        (np.zeros(2), ones(2), PAIR),
        (np.zeros(4, np.float32)[::2], ones(2), PAIR),
        (None, ones(2), PAIR),
        ([], [ones(2)], SequenceType(PAIR)),
        (ones(2), None, OptionalType(PAIR)),
        (ones(2), ones(2), OptionalType(PAIR)),
    ],
)
def test_targets_must_fit(target: Any, value: Any, type_: Type) -> None:
    with pytest.raises(BadOutputBuffer, match=r"out\['y'\]"):
        target_array(target, value, "y", type_)


def test_types_as_manifests_show_them() -> None:
    assert shown_type(tensor("f32", 2, symbol("n"))) == ("f32", (2, "n"))
    assert shown_type(StringType((2,))) == ("string", (2,))
    assert shown_type(SequenceType(PAIR)) == ("seq<f32[2]>", ())
    assert shown_type(OptionalType(PAIR)) == ("optional<f32[2]>", ())
    assert shown_type(NAMES) == ("map<string[], f32[]>", ())
