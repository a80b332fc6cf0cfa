"""Decoding of pictures: with a stand-in for Pillow, and with Pillow itself where it is installed."""

from __future__ import annotations

import importlib.util
import sys
import types
from typing import Any

import numpy as np
import pytest

from aino_ir.builder import Builder
from aino_ir.errors.ir import BadAttribute, DTypeMismatch
from aino_ir.errors.run import PictureUnreadable, PillowMissing
from aino_ir.graph import Module
from aino_ir.interp import run_module
from aino_ir.types import tensor

PIXELS = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
BITMAP = bytes.fromhex(
    "424d3e00000000000000360000002800000001000000020000000100180000000000080000000000000000000000000000000000"
    "00000102030004050600"
)
"""A bitmap of one column and two rows: the lower row first, colours blue, green, red."""


def decoding(colours: str = "RGB") -> Module:
    b = Builder()
    b.output("y", b.image_decode(b.input("file", tensor("u8", b.symbol("n"))), colours=colours))
    return b.module


def decode(colours: str, data: bytes = b"file") -> np.ndarray:
    return np.asarray(run_module(decoding(colours), [np.frombuffer(data, np.uint8)])[0])


class Picture:
    """What Pillow's Image.open gives, as far as it is used."""

    width, height = 4, 2

    def __enter__(self) -> Picture:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def convert(self, mode: str) -> np.ndarray:
        return PIXELS if mode == "RGB" else PIXELS[:, :, 0]


def stand_in(monkeypatch: pytest.MonkeyPatch, opened: Any) -> None:
    image = types.SimpleNamespace(open=opened, DecompressionBombError=type("Bomb", (Exception,), {}))
    monkeypatch.setitem(sys.modules, "PIL", types.SimpleNamespace(Image=image))


def test_orders_of_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, lambda stream: Picture())
    assert np.array_equal(decode("RGB"), PIXELS)
    assert np.array_equal(decode("BGR"), PIXELS[:, :, ::-1])
    assert np.array_equal(decode("Grayscale"), PIXELS[:, :, :1])


def test_a_file_that_is_no_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(stream: object) -> Picture:
        raise OSError("cannot identify image file")

    stand_in(monkeypatch, refuse)
    with pytest.raises(PictureUnreadable, match="OSError"):
        decode("RGB")


def test_a_picture_that_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    huge = type("Huge", (Picture,), {"width": 1 << 15, "height": 1 << 15})
    stand_in(monkeypatch, lambda stream: huge())
    with pytest.raises(PictureUnreadable, match="32768 x 32768"):
        decode("RGB")


def test_without_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(PillowMissing, match="Pillow"):
        decode("RGB")


def test_a_bitmap() -> None:
    if importlib.util.find_spec("PIL") is None:
        with pytest.raises(PillowMissing):
            decode("RGB", BITMAP)
        return
    assert decode("RGB", BITMAP).tolist() == [[[6, 5, 4]], [[3, 2, 1]]]


def test_ill_formed_decoders_are_refused() -> None:
    with pytest.raises(BadAttribute, match="colours"):
        decoding("CMYK")
    b = Builder()
    with pytest.raises(DTypeMismatch):
        b.image_decode(b.input("file", tensor("i8", 5)))
