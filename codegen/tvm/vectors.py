"""Vectors from memory and to memory, as TVMScript.

Neighbours are a buffer indexed by a ramp.  TVM's own predicates have no way to LLVM, so neighbours under a
mask go by LLVM's masked loads and stores; elements that lie apart are read from the first place of their
buffer where the mask is false, and written one by one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aino_ir.codegen.tvm.kernel import memory_dtype
from aino_ir.codegen.tvm.text import Text, broadcast, call, element, literal, ramp, type_name
from aino_ir.dims import DimLike
from aino_ir.dtypes import DType, i64
from aino_ir.loops.expr import Const, Expr, Load
from aino_ir.loops.stmt import Store

if TYPE_CHECKING:
    from aino_ir.codegen.tvm.expression import TirPrinter

ZERO_IS_NOT_ZERO = frozenset({"f8e8m0"})
"""Storage types whose all-zero code, which a masked load gives, is not the value 0."""


def vector_load(printer: TirPrinter, e: Load) -> Text:
    """A vector from memory, in its compute dtype; lanes where the mask is false are not touched."""
    storage, buffer, lanes = printer.buffers[e.buffer], printer.identifier(e.buffer), e.lanes
    if e.mask is None:
        if e.gather is None and isinstance(e.stride, int) and e.stride == 0:
            one = printer.decoded(element(buffer, printer.index.text(e.offset)), storage)
            return broadcast(one, lanes)
        return printer.decoded(element(buffer, _places(printer, e)), storage, lanes)
    raw = memory_dtype(storage)
    mask = printer.value(e.mask)
    if _neighbours(e.gather, e.stride):
        first = call("T.address_of", element(buffer, printer.index.text(e.offset)))
        kind = f'"{type_name(raw, lanes)}"'
        found = call("T.call_llvm_intrin", kind, '"llvm.masked.load"', first, mask, literal(0, raw, lanes))
    else:
        places = _wide_places(printer, e.offset, e.stride, e.gather, lanes)
        found = element(buffer, call("T.Select", mask, places, literal(0, i64, lanes)))
        found = call("T.Select", mask, found, literal(0, raw, lanes))
    value = printer.decoded(found, storage, lanes)
    return value if _is_zero(e.other, storage) else call("T.Select", mask, value, _other(printer, e))


def vector_store(printer: TirPrinter, s: Store) -> list[str]:
    """The statements that write a vector."""
    storage, buffer, lanes = printer.buffers[s.buffer], printer.identifier(s.buffer), s.value.lanes
    value = printer.encoded(s.value, storage)
    if s.mask is None:
        places = (
            ramp(printer.index.text(s.offset), printer.index.text(s.stride), lanes)
            if s.scatter is None
            else printer.offset(s.offset, s.scatter)
        )
        return [f"{element(buffer, places)} = {value}"]
    mask = printer.value(s.mask)
    if _neighbours(s.scatter, s.stride):
        first = call("T.address_of", element(buffer, printer.index.text(s.offset)))
        stored = call("T.call_llvm_intrin", '"void"', '"llvm.masked.store"', value, first, mask)
        return [f"T.evaluate({stored})"]
    places = _wide_places(printer, s.offset, s.stride, s.scatter, lanes)
    lines = []
    for lane in range(lanes):
        at, one, here = (call("T.Shuffle", f"[{x}]", f"[{lane}]") for x in (places, value, mask))
        lines += [f"if {here}:", f"    {element(buffer, at)} = {one}"]
    return lines


def _neighbours(spread: Expr | None, stride: DimLike) -> bool:
    return spread is None and isinstance(stride, int) and stride == 1


def _places(printer: TirPrinter, e: Load) -> Text:
    """Indices of lanes, of the width that the kernel's indices have."""
    if e.gather is not None:
        return printer.offset(e.offset, e.gather)
    return ramp(printer.index.text(e.offset), printer.index.text(e.stride), e.lanes)


def _wide_places(
    printer: TirPrinter, offset: DimLike, stride: DimLike, spread: Expr | None, lanes: int
) -> Text:
    """Indices of lanes as i64 values."""
    if spread is not None:
        return printer.offset(offset, spread)
    return ramp(printer.dim_values.text(offset), printer.dim_values.text(stride), lanes)


def _is_zero(other: Expr | None, storage: DType) -> bool:
    """Whether the value of a lane that is not read is that of a code of zeros."""
    if storage.name in ZERO_IS_NOT_ZERO:
        return False
    return (
        other is None
        or (isinstance(other, Const) and not isinstance(other.value, float) and not other.value)
        or (isinstance(other, Const) and other == Const(0.0, other.type))
    )


def _other(printer: TirPrinter, e: Load) -> Text:
    if e.other is None:
        return literal(False if e.dtype.is_bool else 0.0 if e.dtype.is_float else 0, e.dtype, e.lanes)
    return broadcast(printer.value(e.other), e.lanes) if e.other.lanes == 1 else printer.value(e.other)
