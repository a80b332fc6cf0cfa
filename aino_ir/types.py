"""Types of values: tensors with logical shapes and physical layouts, sequences, optionals, maps, strings."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from aino_ir.dims import DimLike, align, ceildiv, is_static, product
from aino_ir.dtypes import DTYPES, DType


@dataclass(frozen=True)
class Layout:
    """How logical coordinates become an element offset.

    Attributes:
        order: physical dims outermost first, each (axis, part); part is None for a whole axis,
            "o" for its tile index and "i" for the place inside the tile.  Empty = row-major.
        tiles: (axis, tile size) of each tiled axis.
        pad: (axis, multiple): the axis is allocated up to the next multiple.
    """

    order: tuple[tuple[int, str | None], ...] = ()
    tiles: tuple[tuple[int, int], ...] = ()
    pad: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        """One spelling for one layout: tiles and pads by axis, no order where it is the plain one."""
        if self.tiles or self.pad:
            object.__setattr__(self, "tiles", tuple(sorted(self.tiles)))
            object.__setattr__(self, "pad", tuple(sorted(self.pad)))
        if self.order == tuple((axis, None) for axis in range(len(self.order))):
            object.__setattr__(self, "order", ())

    @property
    def is_row_major(self) -> bool:
        """Whether this is the plain dense layout with the last axis fastest."""
        return not (self.order or self.tiles or self.pad)

    def parts(self, rank: int) -> tuple[tuple[int, str | None], ...]:
        """`order`, spelled out for a rank."""
        return self.order or tuple((axis, None) for axis in range(rank))

    def phys(self, shape: tuple[DimLike, ...]) -> tuple[DimLike, ...]:
        """Extents of the physical dims, outermost first."""
        tiles, pads = dict(self.tiles), dict(self.pad)
        out: list[DimLike] = []
        for axis, part in self.parts(len(shape)):
            extent = align(shape[axis], pads[axis]) if axis in pads else shape[axis]
            if part == "o":
                extent = ceildiv(extent, tiles[axis])
            elif part == "i":
                extent = tiles[axis]
            out.append(extent)
        return tuple(out)

    def addr(self, shape: tuple[DimLike, ...], index: tuple[DimLike, ...]) -> DimLike:
        """Element offset of a logical coordinate."""
        tiles = dict(self.tiles)
        extents = self.phys(shape)
        offset: DimLike = 0
        for (axis, part), extent in zip(self.parts(len(shape)), extents, strict=True):
            coordinate = index[axis]
            if part == "o":
                coordinate = coordinate // tiles[axis]
            elif part == "i":
                coordinate = coordinate % tiles[axis]
            offset = offset * extent + coordinate
        return offset

    def bound(self, shape: tuple[DimLike, ...]) -> DimLike:
        """Elements that a buffer of this layout holds, padding included."""
        return product(self.phys(shape))

    def transposed(self, perm: tuple[int, ...]) -> Layout:
        """The layout with which a transposed tensor (result axis a = axis perm[a]) has the same bytes."""
        place = {axis: a for a, axis in enumerate(perm)}
        order = tuple((place[axis], part) for axis, part in self.parts(len(perm)))
        tiles = tuple((place[axis], size) for axis, size in self.tiles)
        moved = Layout(order, tiles, tuple((place[axis], multiple) for axis, multiple in self.pad))
        return ROW_MAJOR if moved.is_row_major else moved

    def pack(self, array: np.ndarray) -> np.ndarray:
        """A dense 1-D array in this layout; padding is zero."""
        shape = array.shape
        tiles, pads = dict(self.tiles), dict(self.pad)
        widths = []
        for axis, extent in enumerate(shape):
            full = extent
            for multiple in (pads.get(axis, 1), tiles.get(axis, 1)):
                full = -(-full // multiple) * multiple
            widths.append((0, full - extent))
        padded = np.pad(array, widths) if any(w for _, w in widths) else array
        split: list[int] = []
        where: dict[tuple[int, str | None], int] = {}
        for axis, extent in enumerate(padded.shape):
            if axis in tiles:
                where[axis, "o"], where[axis, "i"] = len(split), len(split) + 1
                split += [extent // tiles[axis], tiles[axis]]
            else:
                where[axis, None] = len(split)
                split.append(extent)
        permutation = [where[part] for part in self.parts(len(shape))]
        return np.ascontiguousarray(padded.reshape(split).transpose(permutation)).reshape(-1)

    def unpack(self, flat: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """The row-major array that `pack` was made from."""
        indices = self.pack(np.arange(1, int(np.prod(shape, dtype=np.int64)) + 1).reshape(shape))
        out = np.empty(int(np.prod(shape, dtype=np.int64)), flat.dtype)
        inside = indices > 0
        out[indices[inside] - 1] = flat[inside]
        return out.reshape(shape)

    def __str__(self) -> str:
        if not self.order and not self.pad:
            return ""
        tiles, pads = dict(self.tiles), dict(self.pad)
        names = []
        for axis, part in self.order:
            text = f"{axis}{part or ''}"
            names.append(text + (str(tiles[axis]) if part == "i" else ""))
        names += [f"pad{axis}:{multiple}" for axis, multiple in pads.items()]
        return f"@({' '.join(names)})"


ROW_MAJOR = Layout()


def permuted(*order: int) -> Layout:
    """A dense layout with whole axes in another order, outermost first."""
    return Layout(tuple((axis, None) for axis in order))


@dataclass(frozen=True)
class TensorType:
    """A dense tensor: element dtype, logical shape (ints and Dims), physical layout."""

    dtype: DType
    shape: tuple[DimLike, ...]
    layout: Layout = ROW_MAJOR

    @property
    def rank(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> DimLike:
        """Number of logical elements."""
        return product(self.shape)

    @property
    def is_static(self) -> bool:
        """Whether every extent is a number."""
        return all(is_static(d) for d in self.shape)

    def with_shape(self, shape: tuple[DimLike, ...]) -> TensorType:
        """The same dtype with another shape, row-major."""
        return TensorType(self.dtype, tuple(shape))

    def with_dtype(self, dtype: DType | str) -> TensorType:
        """The same shape and layout with another dtype."""
        return replace(self, dtype=DTYPES[dtype] if isinstance(dtype, str) else dtype)

    def logical(self) -> TensorType:
        """This type in row-major layout."""
        return self if self.layout.is_row_major else TensorType(self.dtype, self.shape)

    def __str__(self) -> str:
        return f"{self.dtype}[{', '.join(str(d) for d in self.shape)}]{self.layout}"


@dataclass(frozen=True)
class StringType:
    """A tensor of strings (numpy object arrays), served by host steps."""

    shape: tuple[DimLike, ...]

    def __str__(self) -> str:
        return f"string[{', '.join(str(d) for d in self.shape)}]"


@dataclass(frozen=True)
class SequenceType:
    """A list of values of one type, served by host steps."""

    element: Type

    def __str__(self) -> str:
        return f"seq<{self.element}>"


@dataclass(frozen=True)
class OptionalType:
    """A value that may be absent, served by host steps."""

    element: Type

    def __str__(self) -> str:
        return f"optional<{self.element}>"


@dataclass(frozen=True)
class MapType:
    """A map from keys (integers or texts) to values (numbers or texts), served by host steps.

    Attributes:
        key, value: scalar types.
    """

    key: TensorType | StringType
    value: TensorType | StringType

    def __str__(self) -> str:
        return f"map<{self.key}, {self.value}>"


Type = TensorType | StringType | SequenceType | OptionalType | MapType


def tensor(dtype: DType | str, *shape: DimLike) -> TensorType:
    """Shorthand: ``tensor("f32", 1, 3, 224, 224)``."""
    return TensorType(DTYPES[dtype] if isinstance(dtype, str) else dtype, tuple(shape))


def type_of(array: Any) -> TensorType | StringType | None:
    """The type of a numpy array, or None when AINO has no dtype for it."""
    from aino_ir.dtypes import dtype_of

    if array.dtype == object or array.dtype.kind in "US":
        return StringType(array.shape)
    dtype = dtype_of(array.dtype)
    return None if dtype is None else TensorType(dtype, tuple(array.shape))
