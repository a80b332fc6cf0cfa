"""One native function of an artifact: checked arrays in, arrays out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from aino_ir.errors.ir import NegativeExtent, SizeLimit
from aino_ir.infer import SIZE_LIMIT
from aino_ir.runtime.artifact import Artifact
from aino_ir.runtime.library import Library
from aino_ir.runtime.native import NativeModel, array_address
from aino_ir.runtime.profile import Profile, measure
from aino_ir.runtime.values import Port

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Extents:
    """What one combination of input shapes means for a run.

    Attributes:
        symbols: values of the shape symbols.
        vector: these as the native model takes them, or None when there are none.
        address: of `vector`.
        shapes: of the outputs.
    """

    symbols: dict[str, int]
    vector: Array | None
    address: int
    shapes: tuple[tuple[int, ...], ...]


class NativeFunction:
    """Runs one function of an artifact's library, which is loaded at the first run.

    Args:
        artifact: where library and weights lie.
        variants: what the manifest says of the function by ISA: prefix, offset of its weights, steps.
        names: its symbols in the order of their vector.
        results: what it makes.
        threads: threads that a run may use.
    """

    def __init__(
        self,
        artifact: Artifact,
        variants: Mapping[str, Any],
        names: Sequence[str],
        results: Sequence[Port],
        threads: int,
    ) -> None:
        self._artifact = artifact
        self._variants = variants
        self.names = tuple(names)
        self.results = tuple(results)
        self.threads = threads

    def extents(self, symbols: dict[str, int]) -> Extents:
        """What values of the symbols mean for a run.

        Raises:
            NegativeExtent, SizeLimit: no array can have such a shape.
        """
        vector = np.asarray([symbols[n] for n in self.names], np.int64) if self.names else None
        address = array_address(vector) if vector is not None else 0
        return Extents(symbols, vector, address, tuple(_possible(p, symbols) for p in self.results))

    def empty(self, extents: Extents) -> list[Array]:
        """New arrays for the results."""
        return [np.empty(shape, p.numpy) for shape, p in zip(extents.shapes, self.results, strict=False)]

    def run(self, arrays: Sequence[Array], extents: Extents, targets: Sequence[Array]) -> None:
        """Run on arrays as the kernels read them, writing into `targets`.

        Raises:
            IndexOutOfRange, NativeDivisionByZero ...: what a kernel met, with the node.
        """
        addresses = [array_address(a) for a in arrays]
        if extents.vector is not None:
            addresses.append(extents.address)
        self.native.run(addresses, [array_address(r) for r in targets])

    def profile(
        self, arrays: Sequence[Array], extents: Extents, rows: Sequence[Mapping[str, Any]], runs: int
    ) -> Profile:
        """Measure the steps on thread 0; `rows` are the report's rows of its kernel calls.

        Raises:
            NoProfile: the library has no entry for it.
            OptionTooSmall: `runs` is below 1.
        """
        addresses = [array_address(a) for a in arrays]
        if extents.vector is not None:
            addresses.append(extents.address)
        results = self.empty(extents)
        targets = [array_address(r) for r in results]
        return measure(
            lambda times: self.native.run(addresses, targets, times), self.native, rows, extents.symbols, runs
        )

    @property
    def native(self) -> NativeModel:
        """The loaded library, loaded at the first use."""
        found: NativeModel | None = self.__dict__.get("_native")
        if found is None:  # no lock, so that a fork meanwhile is harmless: who comes second drops his own
            found = self.__dict__.setdefault("_native", self._load())
        return found

    def _load(self) -> NativeModel:
        variant = self._artifact.choose_variant()
        details = self._variants[variant.isa]
        library = Library(self._artifact.library(variant), variant.section)
        weights = self._artifact.weights[details["weights_offset"] :]
        return NativeModel(library, details["symbol_prefix"], weights, self.threads, details["steps"])


def _possible(port: Port, symbols: dict[str, int]) -> tuple[int, ...]:
    """The shape of an output; refused when it is negative or beyond all memory."""
    shape = port.shape(symbols)
    if any(d < 0 for d in shape):
        raise NegativeExtent(op=f"output '{port.name}'", shape=shape)
    size = math.prod(shape)
    if size > SIZE_LIMIT:
        raise SizeLimit(op=f"output '{port.name}'", size=size, limit=SIZE_LIMIT)
    return shape
