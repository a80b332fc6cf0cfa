"""Executables: what `aino.compile` returns and `aino.load_executable` reads."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from aino_ir.errors.run import BadOutputBuffer, WrongInputCount
from aino_ir.runtime.artifact import Artifact, save_artifact
from aino_ir.runtime.library import Library
from aino_ir.runtime.native import NativeModel
from aino_ir.runtime.report import Report
from aino_ir.runtime.symbol_binding import SymbolBinding
from aino_ir.runtime.values import Port, checked, is_torch, to_torch
from aino_ir.target import usable_cpus


class Executable:
    """A compiled model, ready to run.

    Any number of threads may call `run` at a time.

    Attributes:
        inputs, outputs: names and types, in order.
        report: kernels, python nodes, bytes, seconds (see `Report`).
    """

    def __init__(self, artifact: Artifact, threads: int | None = None) -> None:
        manifest = artifact.manifest
        self._artifact = artifact
        self._ports = [Port.of(t.name, t.dtype, t.shape) for t in manifest.inputs]
        self._results = [Port.of(t.name, t.dtype, t.shape) for t in manifest.outputs]
        self.inputs = [(p.name, p.type) for p in self._ports]
        self.outputs = [(p.name, p.type) for p in self._results]
        self.threads = threads if threads is not None else usable_cpus()
        self.report = Report.from_manifest(manifest)
        self._binding = SymbolBinding.from_details(manifest.details, self._ports)
        self._lock = threading.Lock()
        self._native: NativeModel | None = None

    # -- running ------------------------------------------------------------------------------------

    def run(self, *inputs: Any, out: Sequence[np.ndarray] | Mapping[str, np.ndarray] | None = None) -> tuple[Any, ...]:
        """Run the model.

        Args:
            inputs: arrays in order, or one dict by name.  Exact dtypes and shapes; any strides.
            out: arrays to write the outputs to, in order or by name.

        Returns:
            The outputs in order: torch tensors when the inputs were, else numpy arrays.
        """
        given = self._arguments(inputs)
        arrays = [checked(v, p) for v, p in zip(given, self._ports)]
        symbols = self._binding.bind(arrays)
        results = self._output_arrays(out, symbols)
        addresses = [a.ctypes.data for a in arrays]
        values = self._binding.vector(symbols)
        if values is not None:
            addresses.append(values.ctypes.data)
        self.native.run(addresses, [r.ctypes.data for r in results])
        if any(is_torch(v) for v in given):
            return tuple(to_torch(r) for r in results)
        return tuple(results)

    __call__ = run

    @property
    def native(self) -> NativeModel:
        """The loaded library, loaded at the first use."""
        if self._native is None:
            with self._lock:
                if self._native is None:
                    self._native = self._load()
        return self._native

    def _load(self) -> NativeModel:
        variant = self._artifact.choose_variant()
        details: dict[str, Any] = dict(self._artifact.manifest.details["variants"][variant.isa])
        library = Library(self._artifact.library(variant), variant.section)
        weights = self._artifact.weights[details["weights_offset"] :]
        return NativeModel(library, details["symbol_prefix"], weights, self.threads, details["steps"])

    def _arguments(self, inputs: tuple[Any, ...]) -> Sequence[Any]:
        if len(inputs) == 1 and isinstance(inputs[0], Mapping):
            named = inputs[0]
            names = [p.name for p in self._ports]
            if set(named) != set(names):
                raise WrongInputCount(expected=tuple(names), got=tuple(named))
            return [named[n] for n in names]
        if len(inputs) != len(self._ports):
            raise WrongInputCount(expected=tuple(p.name for p in self._ports), got=f"{len(inputs)} positional")
        return inputs

    def _output_arrays(self, out: Any, symbols: dict[str, int]) -> list[np.ndarray]:
        if out is None:
            return [np.empty(p.shape(symbols), p.type.dtype.numpy) for p in self._results]
        given = [out[p.name] for p in self._results] if isinstance(out, Mapping) else list(out)
        if len(given) != len(self._results):
            raise WrongInputCount(expected=tuple(p.name for p in self._results), got=f"{len(given)} in out=")
        for array, port in zip(given, self._results):
            flags = array.flags
            fits = array.dtype == port.type.dtype.numpy and array.shape == port.shape(symbols)
            if not (fits and flags.c_contiguous and flags.writeable):
                raise BadOutputBuffer(name=port.name, expected=port.type, got=f"{array.dtype}{list(array.shape)}")
        return given

    # -- keeping ------------------------------------------------------------------------------------

    def save(self, path: str | Path) -> Path:
        """Write the artifact to a file; afterwards the whole file is there, or what was before."""
        save_artifact(self._artifact, Path(path))
        return Path(path)

    def __repr__(self) -> str:
        ins = ", ".join(f"{n}: {t}" for n, t in self.inputs)
        outs = ", ".join(f"{n}: {t}" for n, t in self.outputs)
        return f"Executable({self._artifact.manifest.name} for {self._artifact.manifest.target}: ({ins}) -> ({outs}))"


def load_executable(path: str | Path, threads: int | None = None) -> Executable:
    """Read an artifact; needs no compiler.  Loading an artifact runs the code in it."""
    return Executable(Artifact.open(path), threads)


