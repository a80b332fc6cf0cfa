"""Pictures in files (PNG, JPEG ...) as arrays, by Pillow where it is installed."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from aino_ir.dtypes import u8
from aino_ir.errors.run import PictureUnreadable, PillowMissing
from aino_ir.infer import InferContext
from aino_ir.op import Op, Trait, operand, str_attr
from aino_ir.ops.math import Array
from aino_ir.types import TensorType, Type

FORMATS = {"RGB": "RGB", "BGR": "RGB", "Grayscale": "L"}
"""Order of the colours -> Pillow's name of the picture that is asked for."""

PIXEL_LIMIT = 1 << 28
"""Pictures of more pixels are not decoded."""


class DecodePicture(Op):
    """out[y, x, colour] = the pixels u8 of a picture whose file is the operand, u8 [bytes].

    `colours` is "RGB", "BGR" or "Grayscale" (one colour).  What kinds of files are read is Pillow's
    affair.  A file that is no picture, or one of more than 2^28 pixels, is an error.
    """

    name = "image.decode"
    traits = frozenset({Trait.HOST, Trait.DATA_DEPENDENT})
    file = operand()
    colours = str_attr("RGB")

    def infer(self, ic: InferContext) -> list[Type]:
        ic.rank(self.file, 1, "file")
        if self.file.dtype is not u8:
            ic.bad_dtype("dtype of file", "u8", self.file.dtype)
        if self.colours not in FORMATS:
            ic.bad_attribute("colours", "one of " + ", ".join(FORMATS), self.colours)
        count = 1 if self.colours == "Grayscale" else 3
        height, width = (ic.data_symbol(0, PIXEL_LIMIT, axis) for axis in range(2))
        return [TensorType(u8, (height, width, count))]

    def evaluate(self, ev: Any, file: Array) -> Array:
        pixels = decoded(file.astype(np.uint8).tobytes(), FORMATS[self.colours])
        if self.colours == "BGR":
            return np.ascontiguousarray(pixels[:, :, ::-1])
        return pixels if pixels.ndim == 3 else pixels[:, :, None]


def decoded(data: bytes, mode: str) -> Array:
    """The pixels of a picture.

    Raises:
        PillowMissing: Pillow is not installed.
        PictureUnreadable: the data are no picture that it reads, or one that is too large.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise PillowMissing() from error
    try:
        with Image.open(io.BytesIO(data)) as picture:
            if picture.width * picture.height > PIXEL_LIMIT:
                raise PictureUnreadable(reason=f"it has {picture.width} x {picture.height} pixels")
            return np.asarray(picture.convert(mode))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise PictureUnreadable(reason=f"Pillow says: {type(error).__name__}") from error
