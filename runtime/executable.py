"""Executables: what `aino.compile` returns and `aino.load_executable` reads."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from aino_ir.dtypes import DTYPES
from aino_ir.errors.artifact import ArchitectureMismatch, CpuUnsupported, NotAnArtifact
from aino_ir.errors.run import BadOutputBuffer, OutputDecidedByRun, WrongInputCount, WrongOutputCount
from aino_ir.errors.usage import OptionTooSmall
from aino_ir.isa import GPU
from aino_ir.runtime.artifact import Artifact, save_artifact
from aino_ir.runtime.function import Extents, Model, NativeCode, NativeFunction
from aino_ir.runtime.manifest import Manifest
from aino_ir.runtime.profile import Profile, measure
from aino_ir.runtime.report import Report
from aino_ir.runtime.symbol_binding import SymbolBinding
from aino_ir.runtime.values import Port, checked, is_torch, to_numpy, to_torch
from aino_ir.target import usable_cpus
from aino_ir.types import Type

REMEMBERED_SHAPES = 256
"""Combinations of input shapes whose symbol values an executable remembers."""

Outputs = Sequence[Any] | Mapping[str, Any]


class Executable:
    """A compiled model, ready to run.

    Any number of threads may call `run` at a time, and a process may fork between runs.  The library
    is loaded at the first run.

    Attributes:
        inputs, outputs: names and types, in order.
        symbols: symbolic dimensions -> their least and largest value (None: no bound).
        threads: threads that a run may use.
    """

    def __init__(self, artifact: Artifact, threads: int | None = None) -> None:
        """Open an artifact.

        Raises:
            NotAnArtifact: what it says about itself makes no sense.
            OptionTooSmall: AINO_THREADS is no number of threads.
        """
        self._artifact = artifact
        self.threads = threads if threads is not None else default_threads()
        try:
            self._read(artifact.manifest)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as problem:
            reason = f"its manifest makes no sense ({type(problem).__name__}: {problem})"
            raise NotAnArtifact(path=artifact.path, reason=reason) from problem

    def _read(self, manifest: Manifest) -> None:
        self._ports = tuple(Port.of(t.name, t.dtype, t.shape) for t in manifest.inputs)
        self._results = tuple(Port.of(t.name, t.dtype, t.shape) for t in manifest.outputs)
        self.inputs: list[tuple[str, Type]] = [(p.name, p.type) for p in self._ports]
        self.outputs: list[tuple[str, Type]] = [(p.name, p.type) for p in self._results]
        self._defaults = {
            t.name: int(t.details["default"]) for t in manifest.inputs if "default" in t.details
        }
        self._binding = SymbolBinding.from_details(manifest.details, self._ports)
        self.symbols = {name: (lo, hi) for name, lo, hi, _ in manifest.details["symbols"]}
        variants: Mapping[str, Any] = manifest.details["variants"]
        self._function = NativeFunction(
            self._code(),
            variants,
            self._binding.names,
            self._results,
            self.threads,
            manifest.details["decided"],
        )
        self._extents: dict[tuple[tuple[int, ...], ...], Extents] = {}

    def _code(self) -> NativeCode:
        """Where the library comes from."""
        return NativeCode(self._artifact)

    # -- running ------------------------------------------------------------------------------------

    def run(self, *inputs: Any, out: Outputs | None = None) -> tuple[Any, ...]:
        """Run the model.

        Args:
            inputs: arrays in order, or one dict by name.  Exact dtypes and shapes; any strides.  Inputs
                with a default may be left out.
            out: arrays to write the outputs to, in order or by name; they may overlap the inputs.

        Returns:
            The outputs in order: `out` when it was given, torch tensors when an input was one, else
            numpy arrays of the caller's own.

        Raises:
            WrongInputCount, InputMismatch, UnsupportedInput: the inputs are not those of the model.
            RankMismatch, ExtentMismatch, SymbolOutOfRange ...: their shapes do not fit together.
            WrongOutputCount, BadOutputBuffer: `out` cannot take the results.
            OutputDecidedByRun: `out` was given, but the run decides the size of an output.
            IndexOutOfRange, NativeDivisionByZero ...: what a kernel met, with the node.
        """
        given: Sequence[Any] = inputs
        if len(given) != len(self._ports) or (len(given) == 1 and isinstance(given[0], Mapping)):
            given = self._arguments(inputs)
        arrays = self._arrays(given)
        extents = self.extents_of(tuple([a.shape for a in arrays]))
        results = self._function.empty(extents)
        targets = self._targets(out, results, arrays) if out is not None else results
        made = self._function.run(arrays, extents, targets)
        if out is not None:
            return self._written(out, made)
        for value in given:
            if type(value) is not np.ndarray and is_torch(value):
                return tuple(to_torch(r) for r in made)
        return tuple(made)

    __call__ = run

    def profile(self, *inputs: Any, runs: int = 20) -> Profile:
        """Measure the steps of the model on thread 0.

        Args:
            inputs: as for `run`.
            runs: how often to run; a step's figure is its median.

        Raises:
            NoProfile: the executable has no entry for it.
            OptionTooSmall: `runs` is below 1.
        """
        given = self._arguments(inputs)
        arrays = self._arrays(given)
        extents, function = self.extents_of(tuple([a.shape for a in arrays])), self._function
        results, symbols = function.empty(extents), dict(extents.symbols)

        def run(times: np.ndarray[Any, Any]) -> None:
            function.run(arrays, extents, results, times, symbols)

        return measure(run, function.native, self.report.kernels, symbols, runs)

    def _arrays(self, given: Sequence[Any]) -> list[np.ndarray[Any, Any]]:
        """The inputs as the kernels read them; what fits already is passed on at once."""
        arrays = []
        for value, port in zip(given, self._ports, strict=False):
            if (
                type(value) is np.ndarray
                and value.dtype is port.numpy
                and value.shape == port.static_shape
                and (flags := value.flags).c_contiguous
                and flags.aligned
            ):
                arrays.append(value)
            else:
                arrays.append(checked(value, port))
        return arrays

    def extents_of(self, shapes: tuple[tuple[int, ...], ...]) -> Extents:
        """Symbol values and output shapes for inputs of these shapes; remembered.

        Raises:
            RankMismatch, ExtentMismatch, SymbolOutOfRange ...: they do not fit together.
        """
        known = self._extents.get(shapes)
        if known is not None:
            return known
        extents = self._function.extents(self._binding.bind(shapes))
        if len(self._extents) >= REMEMBERED_SHAPES:
            self._extents = {}
        self._extents[shapes] = extents
        return extents

    def _arguments(self, inputs: tuple[Any, ...]) -> Sequence[Any]:
        """The inputs in order, defaults filled in."""
        names = [name for name, _ in self.inputs]
        if len(inputs) == 1 and isinstance(inputs[0], Mapping):
            named = dict(inputs[0])
            missing = [n for n in names if n not in named and n not in self._defaults]
            if missing or not set(named) <= set(names):
                raise WrongInputCount(expected=tuple(names), got=tuple(named))
        else:
            if len(inputs) > len(names) or any(n not in self._defaults for n in names[len(inputs) :]):
                raise WrongInputCount(expected=tuple(names), got=f"{len(inputs)} positional")
            named = dict(zip(names, inputs, strict=False))
        return [named[n] if n in named else self._default(n) for n in names]

    def _default(self, name: str) -> np.ndarray[Any, Any]:
        """The value of an input that was left out."""
        index = self._defaults[name]
        piece = self._artifact.manifest.weights[index]
        data = self._artifact.weight(index)
        return np.frombuffer(data, DTYPES[piece.dtype].numpy).reshape(piece.shape)

    # -- outputs given by the caller ----------------------------------------------------------------

    def _targets(
        self,
        out: Outputs,
        results: Sequence[np.ndarray[Any, Any] | None],
        arrays: Sequence[np.ndarray[Any, Any]],
    ) -> list[np.ndarray[Any, Any] | None]:
        """Where the model writes: the caller's arrays, or own ones where those overlap something."""
        for slot in self._function.given.slots:
            port = self._results[slot]
            raise OutputDecidedByRun(name=port.name, type=port.type)
        given = zip(self._in_order(out), results, self._results, strict=True)
        wanted = [self._target(o, r, p) for o, r, p in given if r is not None]
        targets = []
        for i, (array, result) in enumerate(zip(wanted, results, strict=False)):
            others = [*arrays, *wanted[:i], *wanted[i + 1 :]]
            apart = not any(np.may_share_memory(array, other) for other in others)
            targets.append(array if apart and array.flags.aligned else result)
        return targets

    def _target(self, value: Any, result: np.ndarray[Any, Any], port: Port) -> np.ndarray[Any, Any]:
        array = to_numpy(value, port) if is_torch(value) else value
        if (
            not isinstance(array, np.ndarray)
            or array.dtype != port.numpy
            or array.shape != result.shape
            or not (array.flags.c_contiguous and array.flags.writeable)
        ):
            got = (
                f"{array.dtype}{list(array.shape)}" if isinstance(array, np.ndarray) else type(array).__name__
            )
            raise BadOutputBuffer(name=port.name, expected=port.type, got=got)
        return array

    def _written(self, out: Outputs, targets: Sequence[np.ndarray[Any, Any]]) -> tuple[Any, ...]:
        """The caller's arrays, filled."""
        given = self._in_order(out)
        for value, target, port in zip(given, targets, self._results, strict=False):
            array = to_numpy(value, port)
            if array is not target and not _same_memory(array, target):
                np.copyto(array, target)
        return tuple(given)

    def _in_order(self, out: Outputs) -> list[Any]:
        names = [name for name, _ in self.outputs]
        if isinstance(out, Mapping):
            if set(out) != set(names):
                raise WrongOutputCount(expected=tuple(names), got=tuple(out))
            return [out[n] for n in names]
        given = list(out)
        if len(given) != len(names):
            raise WrongOutputCount(expected=tuple(names), got=f"{len(given)} arrays")
        return given

    # -- what runs where ----------------------------------------------------------------------------

    @property
    def host_steps(self) -> int:
        """Ops that ran in Python so far, in all runs together; 0 when all is native code."""
        return 0

    # -- the library --------------------------------------------------------------------------------

    @property
    def ports(self) -> tuple[Port, ...]:
        """The inputs as `run` checks them."""
        return self._ports

    @property
    def function(self) -> NativeFunction:
        """What is called."""
        return self._function

    @property
    def native(self) -> Model:
        """The loaded library, loaded at the first use."""
        return self._function.native

    @cached_property
    def report(self) -> Report:
        """Kernels, python nodes, bytes, seconds (see `Report`), of the variant that runs here."""
        manifest = self._artifact.manifest
        if not manifest.variants:  # nothing of it is native
            return Report.from_manifest(manifest, "")
        try:
            isa = self._artifact.choose_variant().isa
        except (ArchitectureMismatch, CpuUnsupported):
            isa = manifest.variants[-1].isa
        return Report.from_manifest(manifest, isa)

    # -- keeping ------------------------------------------------------------------------------------

    @property
    def defaults(self) -> tuple[str, ...]:
        """Inputs that may be left out."""
        return tuple(self._defaults)

    @property
    def artifact(self) -> Artifact:
        """What this was opened from."""
        return self._artifact

    def save(self, path: str | Path) -> Path:
        """Write the artifact to a file; afterwards the whole file is there, or what was before.

        Raises:
            DiskFull, FileNotWritable: the disk refuses; nothing is left behind.
        """
        save_artifact(self._artifact, Path(path))
        return Path(path)

    def __repr__(self) -> str:
        ins = ", ".join(f"{n}: {t}" for n, t in self.inputs)
        outs = ", ".join(f"{n}: {t}" for n, t in self.outputs)
        manifest = self._artifact.manifest
        return f"Executable({manifest.name} for {manifest.target}: ({ins}) -> ({outs}))"


def open_executable(artifact: Artifact, threads: int | None = None) -> Executable:
    """The executable of an opened artifact.

    Raises:
        NotAnArtifact: what it says about itself makes no sense.
        OptionTooSmall: AINO_THREADS is no number of threads.
    """
    host = "host" in artifact.manifest.details
    if artifact.manifest.arch == GPU:
        from aino_ir.runtime.cuda.executable import CudaExecutable, CudaHostExecutable

        return CudaHostExecutable(artifact, threads) if host else CudaExecutable(artifact, threads)
    if not host:
        return Executable(artifact, threads)
    from aino_ir.runtime.host_executable import HostExecutable  # models that are all native need none of it

    return HostExecutable(artifact, threads)


def _same_memory(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> bool:
    return a.shape == b.shape and a.strides == b.strides and a.ctypes.data == b.ctypes.data


def default_threads() -> int:
    """Threads of a run unless told otherwise: AINO_THREADS, else the CPUs that this process may use.

    Raises:
        OptionTooSmall: AINO_THREADS is no number of threads.
    """
    wanted = os.environ.get("AINO_THREADS", "").strip()
    if not wanted:
        return usable_cpus()
    if not wanted.isdecimal() or int(wanted) < 1:
        raise OptionTooSmall(option="AINO_THREADS", kind="whole number", least=1, got=wanted)
    return int(wanted)


def load_executable(path: str | Path, threads: int | None = None) -> Executable:
    """Read an artifact; needs no compiler.  Loading an artifact runs the code in it.

    Raises:
        ArtifactUnreadable, NotAnArtifact, ArtifactSchema, ArtifactDamaged: as they say.
    """
    return open_executable(Artifact.open(path), threads)
