"""What every printed kernel is: a PrimFunc's text, its schedule's, and how it is called."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from aino_ir.codegen.cstyle.lowering import raw_dtype
from aino_ir.codegen.tvm.text import Text, call, type_name
from aino_ir.dims import DimLike, is_static
from aino_ir.dtypes import DType, u8

INDENT = "    "
LINE = 110


@dataclass(frozen=True)
class Argument:
    """A buffer parameter of a PrimFunc.

    Attributes:
        name: its identifier.
        view: which of the kernel's views it is (two may be one: a result in place of an operand).
        dtype: of its elements, as they lie in memory (bits of a storage type).
        shape: as it is declared.
    """

    name: str
    view: int
    dtype: DType
    shape: tuple[DimLike, ...]

    @property
    def declaration(self) -> Text:
        """Its static type: memory that may begin anywhere inside of a tensor's."""
        return call(
            "T.Buffer",
            shape_text([Text(str(d)) for d in self.shape]),
            f'"{self.type}"',
            f"align={self.dtype.bytes}",
            "offset_factor=1",
        )

    @property
    def type(self) -> str:
        """TVM's name of its dtype."""
        return type_name(self.dtype)


@dataclass(frozen=True)
class PrintedKernel:
    """One kernel of an emitted file.

    Attributes:
        name: of the PrimFunc.
        text: of the PrimFunc.
        schedule: text of the function that transforms it, or empty where its loops stand as they run.
        arguments: its buffers, in order.
        symbols: integer symbols that come before them, in order.
        can_fail: whether a status word comes last.
        views: how many views the kernel has without it.
    """

    name: str
    text: str
    schedule: str
    arguments: tuple[Argument, ...]
    symbols: tuple[str, ...]
    can_fail: bool
    views: int


def memory_dtype(dtype: DType) -> DType:
    """The plain dtype of what an array of `dtype` holds."""
    if dtype.is_bool:
        return u8
    return raw_dtype(dtype) if dtype.is_storage else dtype


def shape_text(dims: Sequence[Text]) -> Text:
    """A shape as a Python tuple."""
    return Text(f"({', '.join(map(str, dims))}{',' if len(dims) == 1 else ''})")


def at_least_one(size: DimLike) -> DimLike:
    """A declared size: nothing is declared empty."""
    return max(1, int(size)) if is_static(size) else size  # type: ignore[arg-type]


def signature(name: str, parameters: Sequence[str]) -> list[str]:
    """The lines that open a function."""
    line = f"def {name}({', '.join(parameters)}):"
    if len(line) <= LINE:
        return [line]
    return [f"def {name}(", *(f"{INDENT}{p}," for p in parameters), "):"]
