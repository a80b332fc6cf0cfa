"""One native function of an artifact: checked arrays in, arrays out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from aino_ir.errors.ir import NegativeExtent, SizeLimit
from aino_ir.infer import SIZE_LIMIT
from aino_ir.runtime.artifact import Artifact, Variant
from aino_ir.runtime.given import Given
from aino_ir.runtime.library import Library
from aino_ir.runtime.native import NativeModel, array_address
from aino_ir.runtime.values import Port

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Extents:
    """What one combination of input shapes means for a run.

    Attributes:
        symbols: values of the shape symbols.
        vector: these as the native model takes them, or None when there are none.
        address: of `vector`.
        shapes: of the outputs; None where the run decides.
    """

    symbols: dict[str, int]
    vector: Array | None
    address: int
    shapes: tuple[tuple[int, ...] | None, ...]


class Model(Protocol):
    """What runs on raw addresses: a native library, or code on a GPU."""

    steps: Sequence[str]
    threads: int

    @property
    def notes_times(self) -> bool:
        """Whether `run` can note times."""
        raise NotImplementedError

    def run(self, inputs: list[int], outputs: list[int], times: Array | None = None) -> None:
        """Run on raw addresses; see `NativeModel.run`."""
        raise NotImplementedError


class NativeCode:
    """The library of an artifact that this machine can run, loaded at the first use."""

    def __init__(self, artifact: Artifact) -> None:
        self.artifact = artifact

    @cached_property
    def variant(self) -> Variant:
        """Which library that is.

        Raises:
            ArchitectureMismatch, CpuUnsupported: there is none.
        """
        return self.artifact.choose_variant()

    @property
    def library(self) -> Library:
        """The loaded library."""
        found: Library | None = self.__dict__.get("_library")
        if found is None:  # no lock, so that a fork meanwhile is harmless: who comes second drops his own
            made = Library(self.artifact.library(self.variant), self.variant.section)
            found = self.__dict__.setdefault("_library", made)
        return found

    def model(self, variants: Mapping[str, Any], threads: int) -> Model:
        """One function of the library, ready to run.

        Args:
            variants: what the manifest says of it by ISA.
            threads: threads that a run may use.
        """
        details = variants[self.variant.isa]
        weights = self.artifact.weights[details["weights_offset"] :]
        facts = details["steps"], details["demands"]
        return NativeModel(self.library, details["symbol_prefix"], weights, threads, *facts)


class NativeFunction:
    """Runs one function of an artifact's library, which is loaded at the first run.

    Args:
        code: where library and weights lie.
        variants: what the manifest says of the function by ISA: prefix, offset of its weights, steps.
        names: its symbols in the order of their vector.
        results: what it makes.
        threads: threads that a run may use.
        decided: symbols that it decides while it runs, in the order in which it tells them.
    """

    def __init__(
        self,
        code: NativeCode,
        variants: Mapping[str, Any],
        names: Sequence[str],
        results: Sequence[Port],
        threads: int,
        decided: Sequence[str] = (),
    ) -> None:
        self._code = code
        self._variants = variants
        self.names = tuple(names)
        self.results = tuple(results)
        self.threads = threads
        self.given = Given(decided, self.results)

    def extents(self, symbols: dict[str, int]) -> Extents:
        """What values of the symbols mean for a run.

        Raises:
            NegativeExtent, SizeLimit: no array can have such a shape.
        """
        vector = np.asarray([symbols[n] for n in self.names], np.int64) if self.names else None
        address = array_address(vector) if vector is not None else 0
        shapes = [None if i in self.given else _possible(p, symbols) for i, p in enumerate(self.results)]
        return Extents(symbols, vector, address, tuple(shapes))

    def empty(self, extents: Extents) -> list[Array | None]:
        """New arrays for the results; None for those that the run allocates."""
        return [
            None if shape is None else np.empty(shape, p.numpy)
            for shape, p in zip(extents.shapes, self.results, strict=False)
        ]

    def run(
        self,
        arrays: Sequence[Array],
        extents: Extents,
        targets: Sequence[Array | None],
        times: Array | None = None,
        told: dict[str, int] | None = None,
    ) -> Sequence[Array]:
        """Run on arrays as the kernels read them; returns the results: `targets`, and what it allocated.

        Args:
            arrays: C-contiguous and aligned.
            extents: what their shapes mean.
            targets: the same, for the results; None for those that the run allocates.
            times: i64[steps, 2] to which the ns in each step and how often it is reached are added, or None.
            told: gets the values of the symbols that the run decides.

        Raises:
            IndexOutOfRange, NativeDivisionByZero ...: what a kernel met, with the node.
        """
        addresses = [array_address(a) for a in arrays]
        if extents.vector is not None:
            addresses.append(extents.address)
        if self.given.names:
            return self._run_deciding(addresses, extents, targets, times, {} if told is None else told)
        self.native.run(addresses, [array_address(r) for r in targets], times)  # type: ignore[arg-type]
        return targets  # type: ignore[return-value]  # nothing is left to the run

    def _run_deciding(
        self,
        addresses: list[int],
        extents: Extents,
        targets: Sequence[Array | None],
        times: Array | None,
        told: dict[str, int],
    ) -> Sequence[Array]:
        pointers, values = self.given.places()
        self.native.run(addresses, self._places(targets, pointers, values), times)
        told.update(zip(self.given.names, values.tolist(), strict=False))
        made = self.given.arrays(pointers, {**extents.symbols, **told})
        return [made[i] if r is None else r for i, r in enumerate(targets)]

    def _places(self, targets: Sequence[Array | None], pointers: Array, values: Array) -> list[int]:
        """Addresses of the outputs, or of where their addresses will be, and of the decided symbols."""
        first = array_address(pointers)
        width = pointers.itemsize
        own = [first + width * i if r is None else array_address(r) for i, r in enumerate(targets)]
        return [*own, array_address(values)]

    def call(
        self, arrays: Sequence[Array], symbols: dict[str, int], times: Array | None = None
    ) -> Sequence[Array]:
        """New arrays for given values of the symbols, which get those that the run decides; see `run`."""
        extents = self.extents(symbols)
        return self.run(arrays, extents, self.empty(extents), times, symbols)

    @property
    def notes_times(self) -> bool:
        """Whether `run` can note times."""
        return self.native.notes_times

    def no_times(self) -> Array:
        """Zeros to which `run` adds the times of its steps."""
        return np.zeros((len(self.native.steps), 2), np.int64)

    @property
    def native(self) -> Model:
        """The loaded library, loaded at the first use."""
        found: Model | None = self.__dict__.get("_native")
        if found is None:  # no lock, so that a fork meanwhile is harmless: who comes second drops his own
            made = self._code.model(self._variants, self.threads)
            found = self.__dict__.setdefault("_native", made)
        return found


def _possible(port: Port, symbols: dict[str, int]) -> tuple[int, ...]:
    """The shape of an output; refused when it is negative or beyond all memory."""
    shape = port.shape(symbols)
    if any(d < 0 for d in shape):
        raise NegativeExtent(op=f"output '{port.name}'", shape=shape)
    size = math.prod(shape)
    if size > SIZE_LIMIT:
        raise SizeLimit(op=f"output '{port.name}'", size=size, limit=SIZE_LIMIT)
    return shape
